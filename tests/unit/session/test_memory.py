"""How much memory a session has left, and large requests."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gridhub.session.memory import LARGE, free_large_bodies, memory_left


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Pretend that the job may use this many bytes."""
    most = 10 * 2**30
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (most, most))
    return most


def test_without_a_limit_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: unlimited)
    assert memory_left() is None


def test_descendants_count(limit: int) -> None:
    alone = memory_left()
    assert alone is not None
    assert 0 < alone < limit
    program = "import sys; kept = bytearray(2**28); print('up', flush=True); sys.stdin.read()"
    shell = f'{sys.executable} -c "{program}"; true'  # a child of a child
    with subprocess.Popen(
        ["/bin/sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        left = memory_left()
        assert left is not None
        assert left < alone - 2**28
        child.communicate()


def test_a_process_that_has_ended_uses_nothing(limit: int, tmp_path: Path) -> None:
    assert memory_left(7, tmp_path) == limit


def test_more_than_the_limit_leaves_nothing(limit: int, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/statm").write_text(f"{limit} 1 1 1 0 1 0\n", encoding="ascii")
    assert memory_left(7, tmp_path) == 0


@pytest.mark.parametrize(("size", "kept"), [(LARGE - 1, LARGE - 1), (LARGE, 0)])
def test_only_a_large_body_is_freed(size: int, kept: int) -> None:
    class Request:
        body = bytes(size)

    class Handler:
        request = Request()

        def get_json_body(self) -> str:
            return "model"

    free_large_bodies(Handler)
    handler = Handler()
    assert handler.get_json_body() == "model"
    assert len(handler.request.body) == kept
