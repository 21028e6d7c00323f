# SPDX-License-Identifier: BSD-3-Clause
"""Running qconf."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import (
    Qconf,
    RefusedError,
    Result,
    UnreachableError,
    one_at_a_time,
    run_limited,
)

from fake_qconf import DATA, recorded


def test_the_list_of_options_is_not_repeated_in_an_error() -> None:
    message = Result([], 1, "", recorded("refused_usage.err")).message
    assert message.startswith('error: no option argument provided to "-sp"')
    assert "-aattr" not in message


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that writes a fake qconf and returns a ``Qconf`` for this program."""

    def make(body: str, timeout: int = 20) -> Any:
        path = tmp_path / "qconf"
        path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        common = tmp_path / "root" / "cell" / "common"
        common.mkdir(parents=True, exist_ok=True)
        (common / "act_qmaster").write_text("head1\n", encoding="utf-8")
        return Qconf(str(path), str(tmp_path / "root"), "cell", timeout, str(tmp_path))

    return make


def test_qconf_runs_in_its_cell_and_in_english(
    script: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("SGE_CELL", "other")
    out = script('echo "$LC_ALL|$SGE_ROOT|$SGE_CELL|$SGE_SINGLE_LINE|$*"').call("-sq", "a b").out
    assert out == f"C|{tmp_path}/root|cell|1|-sq a b\n"


def test_a_hung_qmaster_is_reported_by_name_even_behind_a_wrapper(
    script: Callable[..., Any],
) -> None:
    qconf = script("sleep 60 & wait", timeout=1)
    started = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        qconf.call("-sq", "x")
    assert time.monotonic() - started < 30
    assert "cannot reach the qmaster head1: no answer to 'qconf -sq' within 1 seconds" in str(
        caught.value
    )
    assert "systemctl status gridengine-master" in str(caught.value)
    assert "may or may not" not in str(caught.value)


def test_a_change_without_an_answer_is_reported_as_unknown(
    script: Callable[..., Any],
) -> None:
    qconf = script("sleep 60", timeout=1)
    with pytest.raises(UnreachableError, match="may or may not have been made"):
        qconf.change("remove it", "-dq", "x")


def test_no_process_is_left_after_a_timeout(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    body = f"sleep 60 & echo $! > {pid_file}; wait"
    with pytest.raises(subprocess.TimeoutExpired):
        run_limited(["/bin/sh", "-c", body], os.environ, 1)
    pid = int(pid_file.read_text(encoding="utf-8"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            )
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still running")


@pytest.mark.parametrize(
    "name",
    ["unreachable", "unreachable_no_act_qmaster", "unreachable_no_cell", "unreachable_no_root"],
)
def test_an_unreachable_qmaster_is_reported(script: Callable[..., Any], name: str) -> None:
    qconf = script(f"cat {DATA / name}.err.txt >&2; exit 1")
    with pytest.raises(UnreachableError) as caught:
        qconf.call("-ssconf")
    assert "cannot reach the qmaster head1: " in str(caught.value)
    assert recorded(f"{name}.err").splitlines()[-1].strip() in str(caught.value)


@pytest.mark.parametrize("name", ["missing_queue", "unresolved_exec_host", "refused_queue_pe"])
def test_an_ordinary_refusal_does_not_count_as_an_unreachable_qmaster(
    script: Callable[..., Any], name: str
) -> None:
    assert script(f"cat {DATA / name}.err.txt >&2; exit 1").call("-sq").rc == 1


def test_the_temporary_file_is_private_and_removed(
    script: Callable[..., Any], tmp_path: Path
) -> None:
    qconf = script('stat -c %a "$(dirname "$2")"; cat "$2"; ls "$(dirname "$2")"')
    result = qconf.change_from_file("change it", "-Mconf", "global", "a 1\n")
    assert result.out == "700\na 1\nglobal\n"
    assert not Path(result.argv[2]).parent.exists()
    qconf = script("exit 1")
    with pytest.raises(RefusedError, match="refused to change it"):
        qconf.change_from_file("change it", "-Mconf", "global", "a 1\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qconf", "root"]


def test_a_second_run_waits_for_the_first_and_then_gives_up_with_a_message(tmp_path: Path) -> None:
    first = one_at_a_time(1, str(tmp_path))
    second = one_at_a_time(0, str(tmp_path))
    with first, pytest.raises(BadRequestError, match="another run"), second:
        pass
    with one_at_a_time(0, str(tmp_path)):
        pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "sge_object.lock").symlink_to(target)
    with one_at_a_time(1, str(tmp_path)):
        assert not target.exists()
