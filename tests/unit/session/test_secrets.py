# SPDX-License-Identifier: BSD-3-Clause
"""The file with a session's secrets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gridhub.broker.home import write_session_file
from gridhub.broker.protocol import Tls
from gridhub.contract import (
    MAX_MESSAGE,
)
from gridhub.session.rules import read_rules
from gridhub.session.secrets import SessionError, read_session_file
from started import RULES, TOKEN

CONTENT = {
    "environment": {"JUPYTERHUB_API_TOKEN": TOKEN},
    "ports": [40000, 40999],
    "rules": RULES,
}


class TestSessionFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "a1.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(CONTENT), encoding="utf-8")
        return path

    def test_the_brokers_file_is_read_and_deleted(self, tmp_path: Path) -> None:
        environment = {"JUPYTERHUB_API_TOKEN": TOKEN, "JUPYTERHUB_USER": 'é"\n\\'}
        path = tmp_path / "sessions" / "a1.json"
        write_session_file(path, environment, (40000, 40999), RULES)
        assert read_session_file(path) == (
            environment,
            (40000, 40999),
            read_rules(RULES),
            None,
        )
        assert not path.exists()

    def test_key_and_certificates_are_kept_in_memory_and_readable_only_by_the_user(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "sessions" / "a1.json"
        tls = Tls(key="the key", certificate="mine ", authorities="others ")
        write_session_file(path, {}, (40000, 40999), RULES, tls)
        found = read_session_file(path).tls
        assert [Path(each).read_text() for each in found] == ["the key", "mine ", "others mine "]
        for each in found:
            assert str(Path(each).readlink()).startswith("/memfd:")
            assert Path(each).stat().st_mode & 0o777 == 0o600
        assert list(tmp_path.rglob("*")) == [path.parent]

    def test_a_session_starts_only_once(self, path: Path) -> None:
        read_session_file(path)
        with pytest.raises(SessionError, match="given up before this job started"):
            read_session_file(path)

    def test_a_link_is_not_followed(self, path: Path, tmp_path: Path) -> None:
        link = tmp_path / "link.json"
        link.symlink_to(path)
        with pytest.raises(SessionError):
            read_session_file(link)
        assert path.exists()
        assert link.is_symlink()

    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o400, 0o700, 0o4600])
    def test_a_file_with_other_permissions_is_refused(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can change a file's owner")
    def test_a_file_of_another_user_is_refused(self, path: Path) -> None:
        os.chown(path, 4711, 4711)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    def test_a_file_that_is_too_large_is_refused(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(" " * MAX_MESSAGE)
        with pytest.raises(SessionError, match="is not the file of a session"):
            read_session_file(path)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "5",
            "{}",
            json.dumps(CONTENT | {"environment": None}),
            json.dumps(CONTENT | {"environment": []}),
            json.dumps(CONTENT | {"environment": "JUPYTERHUB_API_TOKEN"}),
            json.dumps(CONTENT | {"ports": None}),
            json.dumps(CONTENT | {"ports": [40000]}),
            json.dumps(CONTENT | {"ports": [40000, "x"]}),
            json.dumps(CONTENT | {"ports": 40000}),
            json.dumps(CONTENT | {"rules": None}),
            json.dumps(CONTENT | {"rules": {}}),
            json.dumps({name: CONTENT[name] for name in ("ports", "rules")}),
            json.dumps({name: CONTENT[name] for name in ("environment", "rules")}),
            json.dumps({name: CONTENT[name] for name in ("environment", "ports")}),
        ],
    )
    def test_a_file_without_a_session_is_refused(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SessionError):
            read_session_file(path)

    def test_a_file_that_is_not_text_is_refused(self, path: Path) -> None:
        path.write_bytes(b'{"environment": "\xff"}')
        with pytest.raises(SessionError, match="cannot be read"):
            read_session_file(path)

    def test_the_error_of_a_broken_file_does_not_show_its_secret(self, path: Path) -> None:
        path.write_text(path.read_text(encoding="utf-8")[:-2], encoding="utf-8")
        with pytest.raises(SessionError) as caught:
            read_session_file(path)
        assert TOKEN not in str(caught.value)
