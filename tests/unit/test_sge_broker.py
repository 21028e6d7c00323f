# SPDX-License-Identifier: BSD-3-Clause
"""The submission broker: what it lets through, what it refuses, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gridhub.accounts import group_names
from gridhub.broker.client import ask
from gridhub.broker.config import Config, ConfigError, parse_config
from gridhub.broker.connection import check_caller, receive
from gridhub.broker.home import session_rules, within, write_session_file
from gridhub.broker.person import Refused, become, check_account, check_person
from gridhub.broker.protocol import SESSION_VARIABLES, Answer, Check, Request, Start, Stop
from gridhub.broker.requests import check, decide, start, stop
from gridhub.contract import MAX_MESSAGE, SESSION_FOLDER
from gridhub.grid.engine import AnswerError
from gridhub.log import one_line
from gridhub.session.rules import read_rules

Recorded = Callable[[str], str]
Fake = Callable[[str, str], Path]
FILES = Path(__file__).resolve().parents[2] / "files"
DATA = Path(__file__).resolve().parent / "data" / "qstat"

TOKEN = "5ec4e7" * 8
PORTS = (40000, 40999)
RULES = {"run_time": 3600, "warnings": [600]}
ENVIRONMENT = {"JUPYTERHUB_API_TOKEN": TOKEN, "JUPYTERHUB_USER": "alice"}
#: The name of the session in the recorded answers.
SESSION = "00112233445566778899aabbccddeeff"
START = {
    "action": "start",
    "user": "alice",
    "session": SESSION,
    "server": "",
    "choice": {"cores": 2},
    "environment": ENVIRONMENT,
}
STOP = {"action": "stop", "user": "alice", "session": SESSION}
MENU = [
    {
        "name": "cores",
        "label": "CPU cores",
        "choices": [1, 2, 4],
        "default": 1,
        "request": {"kind": "slots", "parallel_environment": "smp"},
    },
    {
        "name": "memory",
        "label": "Memory",
        "unit": "GB",
        "choices": [2, 4],
        "default": 2,
        "request": {"kind": "memory", "complex": "h_vmem", "per": "slot"},
    },
    {
        "name": "gpus",
        "label": "GPUs",
        "choices": [0, 1, 2],
        "default": 0,
        "groups": ["no-such-group"],
        "request": {"kind": "count", "complex": "gpu", "per": "job"},
    },
    {
        "name": "mail",
        "label": "Mail to",
        # The broker does not rely on what a site's pattern leaves out.
        "text": {"pattern": "(?s).*", "example": "alice@example.org"},
        "default": "",
        "request": {"kind": "mail"},
    },
    {
        "name": "queue",
        "label": "Queue",
        "options": [
            {"value": "", "label": "Any"},
            {"value": "short.q", "label": "Short"},
            {"value": "gpu.q", "label": "GPU", "groups": ["no-such-group"]},
        ],
        "default": "",
        "request": {"kind": "queue"},
    },
    {
        "name": "software",
        "label": "Software",
        "options": [
            {"value": "", "label": "None"},
            {"value": "conda", "label": "Anaconda", "prologue": "module load anaconda"},
        ],
        "default": "",
        "request": {"kind": "environment"},
    },
]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def config(tmp_path: Path, bin_dir: Path) -> Config:
    menu = tmp_path / "menu.json"
    menu.write_text(json.dumps({"items": MENU}), encoding="utf-8")
    return Config(
        hub_user=pwd.getpwuid(os.getuid()).pw_name,
        menu=menu,
        job_script=Path("/usr/local/lib/gridhub/session.sh"),
        minimum_uid=1000,
        allowed_users=frozenset({"alice"}),
        qsub_arguments=("-q", "all.q"),
        sge_root=tmp_path / "root",
        sge_cell="default",
        sge_bin_dir=bin_dir,
        timeout=10.0,
        ports=PORTS,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def alice(home: Path, monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    """An account of the name; what runs as her runs as the tester."""
    user = pwd.struct_passwd(("alice", "x", 4711, os.getgid() or 4711, "", str(home), "/bin/sh"))
    real = pwd.getpwnam
    monkeypatch.setattr(pwd, "getpwnam", lambda name: user if name == "alice" else real(name))
    monkeypatch.setattr("gridhub.broker.requests.become", lambda user: None)
    return user


def request(**changes: Any) -> Start:
    return Start.model_validate(START | changes)


def secrets_in(home: Path) -> list[Path]:
    return sorted((home / SESSION_FOLDER).glob("*.json"))


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(pair: tuple[socket.socket, socket.socket], data: bytes) -> Request:
    ours, theirs = pair
    sender = threading.Thread(target=send, args=(theirs, data))
    sender.start()
    try:
        return receive(ours)
    finally:
        ours.close()
        sender.join(10)
        assert not sender.is_alive()


def send(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a request that is too long is not read to its end
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


class TestRequests:
    def test_a_start_is_understood(self, pair: tuple[socket.socket, socket.socket]) -> None:
        assert received(pair, json.dumps(START).encode()) == Start(
            user="alice", session=SESSION, choice={"cores": 2}, environment=ENVIRONMENT
        )

    def test_a_stop_is_understood(self, pair: tuple[socket.socket, socket.socket]) -> None:
        assert received(pair, json.dumps(STOP).encode()) == Stop(user="alice", session=SESSION)

    def test_what_the_hub_sends_is_what_the_broker_reads(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        whole = Start(
            user="alice",
            session=SESSION,
            server="a.b-c_d~E" * 28,
            choice={f"item{n}": n if n % 2 else "é\n\"\\'x" * 33 for n in range(50)},
            environment=dict.fromkeys(sorted(SESSION_VARIABLES), "é\n\"\\'x" * 100)
            | {"JUPYTERHUB_DEFAULT_URL": "/tree"},
        )
        assert received(pair, whole.model_dump_json().encode()) == whole

    BAD: dict[str, Any] = {
        "unknown field": START | {"queue": "root.q"},
        "unknown field of a stop": STOP | {"force": True},
        "no user": {k: v for k, v in START.items() if k != "user"},
        "no environment": {k: v for k, v in START.items() if k != "environment"},
        "no action": {k: v for k, v in START.items() if k != "action"},
        "unknown action": START | {"action": "run"},
        "fields of the other action": STOP | {"environment": {}},
        "user that is an option": START | {"user": "-alice"},
        "user with a slash": START | {"user": "../alice"},
        "user with a newline": START | {"user": "alice\n"},
        "user with a space": START | {"user": "alice bob"},
        "user that is empty": START | {"user": ""},
        "user that is long": START | {"user": "a" * 65},
        "user with accents": START | {"user": "élise"},
        "user that is a number": START | {"user": 0},
        "user that is a list": START | {"user": ["alice"]},
        "values that are long": START | {"choice": {"cores": "2" * 201}},
        "values as nothing": START | {"choice": {"cores": None}},
        "values as booleans": START | {"choice": {"cores": True}},
        "values with fractions": START | {"choice": {"cores": 2.0}},
        "values as a list": START | {"choice": [["cores", 2]]},
        "too many values": START | {"choice": {f"item{n}": 1 for n in range(51)}},
        "a way to run code: LD_PRELOAD": START | {"environment": {"LD_PRELOAD": "/tmp/x.so"}},
        "another site to open": START
        | {"environment": {"JUPYTERHUB_DEFAULT_URL": "//example.org/lab"}},
        "a way to run code: BASH_ENV": START | {"environment": {"BASH_ENV": "/tmp/x"}},
        "a way to run code: PATH": START | {"environment": {"PATH": "/tmp"}},
        "a name that resembles a known one": START
        | {"environment": {"JUPYTERHUB_API_TOKEN ": "x"}},
        "a name in small letters": START | {"environment": {"jupyterhub_api_token": "x"}},
        "a name with the value in it": START | {"environment": {"JUPYTERHUB_USER=x": "x"}},
        "a value with NUL": START | {"environment": {"JUPYTERHUB_USER": "alice\0"}},
        "a value that is long": START | {"environment": {"JUPYTERHUB_USER": "x" * 8193}},
        "a value that is a number": START | {"environment": {"JUPYTERHUB_USER": 5}},
        "a value that is null": START | {"environment": {"JUPYTERHUB_USER": None}},
        "no session": {k: v for k, v in START.items() if k != "session"},
        "no session of a stop": {k: v for k, v in STOP.items() if k != "session"},
        "session that is a path": STOP | {"session": "../" + SESSION[3:]},
        "session that is a pattern": STOP | {"session": "*"},
        "session that is a number": STOP | {"session": int("1" * 32)},
        "session in capitals": STOP | {"session": SESSION.upper()},
        "session that is short": STOP | {"session": SESSION[1:]},
        "session that is long": STOP | {"session": SESSION + "0"},
        "session with a newline": START | {"session": SESSION + "\n"},
        "session that is empty": START | {"session": ""},
        "session that is null": START | {"session": None},
        "job number in place of a session": {"action": "stop", "user": "alice", "job_id": 1},
        "server with a comma": START | {"server": "a,jupyterhub_user=bob"},
        "server with an equals sign": START | {"server": "a=b"},
        "server with a space": START | {"server": "a b"},
        "server with a newline": START | {"server": "a\n"},
        "server that is long": START | {"server": "a" * 256},
        "server that is null": START | {"server": None},
        "null": None,
        "list": [START],
        "text": "start",
        "number": 1,
    }  # fmt: skip

    @pytest.mark.parametrize("wrong", BAD.values(), ids=BAD)
    def test_a_request_that_is_not_exactly_right_is_refused(
        self, pair: tuple[socket.socket, socket.socket], wrong: Any
    ) -> None:
        with pytest.raises(Refused, match="not a request") as caught:
            received(pair, json.dumps(wrong).encode())
        assert caught.value.kind == "request"
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\0",
            b"\xff\xfe",
            b"start alice",
            json.dumps(START).encode()[:-1],
            json.dumps(START).encode() * 2,
            json.dumps(START).encode() + b"\0",
            json.dumps(START).encode("utf-16"),
            b"[" * 60_000,
            json.dumps(START).replace("alice", "\\ud800").encode(),
        ],
    )  # fmt: skip
    def test_what_is_not_one_json_object_is_refused(
        self, pair: tuple[socket.socket, socket.socket], data: bytes
    ) -> None:
        with pytest.raises(Refused, match="not a request"):
            received(pair, data)

    def test_lone_surrogates_in_a_value_are_refused(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        # They could be neither written to the session's file nor logged.
        data = json.dumps(START | {"environment": {"JUPYTERHUB_USER": "\ud800"}}).encode()
        with pytest.raises(Refused, match="not a request"):
            received(pair, data)

    def test_a_request_that_is_too_long_is_refused(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused, match=f"longer than {MAX_MESSAGE} bytes"):
            received(pair, json.dumps(START).encode() + b" " * MAX_MESSAGE)

    def test_a_request_of_the_greatest_length_is_read(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        assert received(pair, json.dumps(START).encode().ljust(MAX_MESSAGE)) == request()

    def test_a_caller_that_never_ends_is_not_waited_for(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.broker.connection.RECEIVE_TIMEOUT", 0.05)
        pair[1].sendall(json.dumps(START).encode())
        with pytest.raises(Refused, match="no whole request within 0.05 s"):
            receive(pair[0])

    def test_a_caller_that_drips_is_not_waited_for_either(
        self, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gridhub.broker.connection.RECEIVE_TIMEOUT", 0.3)
        ours, theirs = pair
        ended = threading.Event()

        def drip() -> None:
            deadline = time.monotonic() + 5
            with contextlib.suppress(OSError):
                while not ended.wait(0.02) and time.monotonic() < deadline:
                    theirs.sendall(b" ")
                theirs.shutdown(socket.SHUT_WR)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with pytest.raises(Refused, match="no whole request within 0.3 s"):
                receive(ours)
        finally:
            ended.set()
            dripping.join()

    @given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_no_bytes_raise_anything_but_a_refusal(self, data: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(Refused):
            send(theirs, data)
            receive(ours)

    @given(
        user=st.text(max_size=80) | st.from_regex(r"\A-?[a-z./ \n$;`]{1,20}\Z"),
        session=st.text(max_size=40) | st.from_regex(r"\A[0-9a-f]{32}.?\Z"),
        server=st.text(max_size=40),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_names_that_get_through_can_be_nothing_but_names(
        self, user: str, session: str, server: str
    ) -> None:
        """No option, path, shell word, job directive or second line can be made of them."""
        ours, theirs = socket.socketpair()
        with ours, theirs, contextlib.suppress(Refused):
            send(
                theirs,
                json.dumps(START | {"user": user, "session": session, "server": server}).encode(),
            )
            taken = receive(ours)
            assert isinstance(taken, Start)
            assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.@-]*", taken.user)
            assert re.fullmatch(r"[0-9a-f]{32}", taken.session)
            assert re.fullmatch(r"[A-Za-z0-9_.~-]*", taken.server)

    @pytest.mark.parametrize(
        "wrong",
        [
            START | {"environment": {"JUPYTERHUB_API_TOKEN": f"{TOKEN}\0"}},
            START | {"environment": {"JUPYTERHUB_API_TOKEN": [TOKEN]}},
            START | {"environment": {"JUPYTERHUB_API_TOKEN": TOKEN * 1000}},
            START | {"environment": {"API_TOKEN": TOKEN}},
            START | {"environment": TOKEN},
            START | {"user": TOKEN * 8},
            START | {"extra": TOKEN},
        ],
    )
    def test_a_refusal_never_repeats_a_value(
        self, pair: tuple[socket.socket, socket.socket], wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(Refused) as caught:
            received(pair, json.dumps(wrong).encode())
        assert TOKEN not in str(caught.value)

    def test_a_refusal_never_repeats_a_piece_of_broken_json(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused) as caught:
            received(pair, json.dumps(START).encode()[:-5])
        assert TOKEN not in str(caught.value)


class TestConfig:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("minimum_uid", 0),
            ("timeout", 0),
            ("timeout", -1),
            ("ports", (80, 40999)),
            ("ports", (40000, 65536)),
            ("ports", (40000,)),
            ("no_such_setting", 1),
        ],
    )
    def test_a_configuration_that_would_open_a_door_is_refused(
        self, config: Config, name: str, value: object
    ) -> None:
        with pytest.raises(ValidationError):
            Config.model_validate(config.model_dump() | {name: value})

    def test_nobody_is_allowed_unless_named(self, config: Config) -> None:
        fields = config.model_dump(exclude={"allowed_users", "allowed_groups"})
        bare = Config.model_validate(fields)
        assert not bare.allowed_users
        assert not bare.allowed_groups


class TestAccounts:
    def account(self, name: str = "alice", uid: int = 4711) -> pwd.struct_passwd:
        return pwd.struct_passwd((name, "x", uid, uid, "", "/home/alice", "/bin/sh"))

    def test_groups_are_those_the_system_knows(self) -> None:
        user = pwd.getpwuid(os.getuid())
        found = subprocess.run(
            ["id", "-Gn", "--", user.pw_name], capture_output=True, text=True, check=True
        )
        assert group_names(user) == set(found.stdout.split())
        assert grp.getgrgid(user.pw_gid).gr_name in group_names(user)

    def test_a_group_without_a_name_is_passed_over(self) -> None:
        used = {entry.gr_gid for entry in grp.getgrall()}
        nameless = next(gid for gid in range(4_000_000, 4_000_500) if gid not in used)
        user = pwd.getpwuid(os.getuid())
        odd = pwd.struct_passwd((user.pw_name, "x", user.pw_uid, nameless, "", "/", "/bin/sh"))
        assert group_names(odd) <= group_names(user)

    def test_a_named_account_may(self, config: Config) -> None:
        check_account(config, self.account(), frozenset())

    def test_a_member_of_a_named_group_may(self, config: Config) -> None:
        config = config.model_copy(update={"allowed_groups": frozenset({"hpc", "lab"})})
        check_account(config, self.account("bob"), frozenset({"users", "lab"}))

    def test_an_account_that_is_not_named_may_not(self, config: Config) -> None:
        with pytest.raises(Refused, match="bob may not have sessions here") as caught:
            check_account(config, self.account("bob"), frozenset({"users"}))
        assert caught.value.kind == "refused"

    @pytest.mark.parametrize("uid", [1, 33, 999])
    def test_a_system_account_may_not_even_when_named(self, config: Config, uid: int) -> None:
        with pytest.raises(Refused, match="alice is a system account"):
            check_person(config, self.account(uid=uid))

    def test_the_least_uid_of_a_person_may(self, config: Config) -> None:
        check_person(config, self.account(uid=1000))


class TestBecome:
    def test_staying_root_is_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("initgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, lambda *arguments: None)
        user = pwd.struct_passwd(("alice", "x", os.getuid() + 1, os.getgid(), "", "/", "/bin/sh"))
        with pytest.raises(RuntimeError, match="could not give up root"):
            become(user)

    @as_root
    def test_there_is_no_way_back(self) -> None:
        script = (
            "import os, pwd, sys\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from gridhub.broker import person\n"
            "user = pwd.getpwnam('nobody')\n"
            "person.become(user)\n"
            "assert os.getresuid() == (user.pw_uid,) * 3\n"
            "assert os.getresgid() == (user.pw_gid,) * 3\n"
            "assert set(os.getgroups()) <= set(os.getgrouplist(user.pw_name, user.pw_gid))\n"
            "assert os.getcwd() == '/'\n"
            "assert os.umask(0) == 0o077\n"
            "for back in (os.setuid, os.seteuid, os.setgid, os.setegid):\n"
            "    try:\n"
            "        back(0)\n"
            "    except PermissionError:\n"
            "        continue\n"
            "    sys.exit(f'{back} worked')\n"
            "print('for good')\n"
        )
        found = subprocess.run(
            [sys.executable, "-c", script, str(FILES)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.stdout == "for good\n", found.stderr


class TestSessionFile:
    @pytest.fixture
    def path(self, home: Path) -> Path:
        return home / SESSION_FOLDER / "a1.json"

    def test_only_its_owner_can_read_it(self, path: Path, home: Path) -> None:
        umask = os.umask(0)
        try:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        finally:
            os.umask(umask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert json.loads(path.read_text(encoding="utf-8")) == {
            "environment": ENVIRONMENT,
            "ports": list(PORTS),
            "rules": RULES,
        }

    def test_files_that_no_job_has_read_for_a_week_are_removed(
        self, path: Path, home: Path
    ) -> None:
        write_session_file(path, ENVIRONMENT, PORTS, RULES)
        day = 24 * 3600
        ages = {"old.json": 8 * day, "waits.json": 6 * day, "7.log": 300 * day}
        for name, age in ages.items():
            (path.parent / name).touch()
            os.utime(path.parent / name, (time.time() - age,) * 2)
        write_session_file(path.with_name("a2.json"), ENVIRONMENT, PORTS, RULES)
        left = {found.name for found in path.parent.iterdir()}
        assert left == {"a1.json", "a2.json", "waits.json", "7.log"}

    def test_a_folder_that_is_open_to_others_is_closed(self, path: Path, home: Path) -> None:
        folder = home / SESSION_FOLDER
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_link_in_place_of_the_folder_is_refused(
        self, path: Path, home: Path, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o755)
        before = elsewhere.stat().st_mode
        (home / SESSION_FOLDER).symlink_to(elsewhere)
        with pytest.raises(Refused, match="must be a folder of your own") as caught:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert caught.value.kind == "home"
        assert not list(elsewhere.iterdir())
        assert elsewhere.stat().st_mode == before

    def test_a_link_to_nowhere_in_place_of_the_folder_is_refused(
        self, path: Path, home: Path, tmp_path: Path
    ) -> None:
        (home / SESSION_FOLDER).symlink_to(tmp_path / "nowhere")
        with pytest.raises(Refused):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert not (tmp_path / "nowhere").exists()

    @as_root
    def test_a_folder_of_somebody_else_is_refused(self, path: Path, home: Path) -> None:
        folder = home / SESSION_FOLDER
        folder.mkdir()
        os.chown(folder, 4711, 4711)
        with pytest.raises(Refused, match="must be a folder of your own"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert not list(folder.iterdir())

    def test_a_file_in_place_of_the_folder_is_refused(self, path: Path, home: Path) -> None:
        (home / SESSION_FOLDER).write_text("mine", encoding="utf-8")
        with pytest.raises(Refused, match="cannot be used .*File exists"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert (home / SESSION_FOLDER).read_text(encoding="utf-8") == "mine"

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_link_in_place_of_the_file_is_not_followed(
        self, path: Path, home: Path, tmp_path: Path, exists: bool
    ) -> None:
        target = tmp_path / "target"
        if exists:
            target.write_text("untouched", encoding="utf-8")
        (home / SESSION_FOLDER).mkdir(mode=0o700)
        (home / SESSION_FOLDER / "a1.json").symlink_to(target)
        with pytest.raises(Refused, match="File exists"):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert target.exists() is exists
        if exists:
            assert target.read_text(encoding="utf-8") == "untouched"

    def test_a_file_that_is_there_is_neither_overwritten_nor_removed(
        self, path: Path, home: Path
    ) -> None:
        write_session_file(path, {"JUPYTERHUB_USER": "first"}, PORTS, RULES)
        with pytest.raises(Refused):
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert "first" in path.read_text(encoding="utf-8")

    def test_a_home_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=f"No such file or directory: {tmp_path}/gone"):
            write_session_file(
                tmp_path / "gone" / SESSION_FOLDER / "a1.json", ENVIRONMENT, PORTS, RULES
            )

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
    def test_a_full_home_is_named_and_nothing_is_left(
        self, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Refused, match=os.strerror(number)) as caught:
            write_session_file(path, ENVIRONMENT, PORTS, RULES)
        assert caught.value.kind == "home"
        assert TOKEN not in str(caught.value)
        assert not secrets_in(home)

    @as_root
    def test_a_disk_that_is_really_full_is_named_and_nothing_is_left(
        self, path: Path, home: Path
    ) -> None:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8k", "none", str(home)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            with contextlib.suppress(OSError), (home / "filling").open("wb", 0) as file:
                while True:
                    file.write(b"x" * 1024)
            with pytest.raises(Refused, match="No space left"):
                write_session_file(path, ENVIRONMENT, PORTS, RULES)
            assert not secrets_in(home)
        finally:
            subprocess.run(["umount", str(home)], check=True)


class TestWithin:
    """What touches the person's home runs beside the broker, which can wait no longer than told."""

    def test_what_the_task_does_is_done(self, tmp_path: Path) -> None:
        within(10, (tmp_path / "done").touch)
        assert (tmp_path / "done").exists()

    def test_a_refusal_arrives_as_it_is(self) -> None:
        def refuse() -> None:
            raise Refused("home", "Your home folder is \u00e9 <full>.")

        with pytest.raises(Refused, match="^Your home folder is \u00e9 <full>.$") as caught:
            within(10, refuse)
        assert caught.value.kind == "home"

    @pytest.mark.parametrize("fault", [OSError("no"), RuntimeError("no"), SystemExit("no")])
    def test_a_fault_of_ours_is_one(self, fault: BaseException) -> None:
        def fail() -> None:
            raise fault

        with pytest.raises(Refused, match="no") as caught:
            within(10, fail)
        assert caught.value.kind == "broker"

    def test_a_task_that_dies_is_a_fault_of_ours(self) -> None:
        with pytest.raises(Refused, match="died") as caught:
            within(10, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert caught.value.kind == "broker"

    def test_a_home_that_hangs_is_not_waited_for(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        began = time.monotonic()
        with pytest.raises(Refused, match=r"does not answer \(no reply within 0\.2 s\)") as caught:
            within(0.2, pipe.read_text)
        assert time.monotonic() - began < 5
        assert caught.value.kind == "home"
        with pipe.open("w"):
            pass  # the child ends

    def test_no_descriptor_is_left(self) -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(5):
            within(10, lambda: None)
        assert len(list(Path("/proc/self/fd").iterdir())) == before


NOTE = r"""
cd "{folder}"
printf '%s\0' "$@" > arguments
env -0 > environment
for file in "$HOME/.jupyterhub-sessions/"*.json; do stat -c '%a %n' "$file" >> secrets; done
"""


class TestStart:
    @pytest.fixture
    def noting(self, fake: Fake, tmp_path: Path) -> Callable[[str], Path]:
        """A qsub that notes what it is given and then does as the script says."""
        folder = tmp_path / "noted"
        folder.mkdir()

        def make(script: str) -> Path:
            fake("qsub", NOTE.format(folder=folder) + script)
            return folder

        return make

    def test_qsub_gets_exactly_these_arguments(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
    ) -> None:
        folder = noting("echo 4711")
        assert start(config, alice, request()) == Answer(ok=True, job_id=4711)
        (path,) = secrets_in(home)
        assert path.stem == SESSION
        assert (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1] == [
            "-terse",
            "-N", f"jupyterhub-{SESSION}",
            "-S", "/usr/bin/env",
            "-wd", str(home),
            "-j", "y",
            "-o", f"{home}/.jupyterhub-sessions/$JOB_ID.log",
            "-r", "n",
            "-w", "e",
            "-ac",
            f"jupyterhub_hub={socket.gethostname()},jupyterhub_user=alice,jupyterhub_server=",
            "-q", "all.q",
            "-pe", "smp", "2", "-l", "h_vmem=1048576K",
            "/usr/local/lib/gridhub/session.sh",
            SESSION,
        ]  # fmt: skip

    def test_qsub_sees_no_secret_and_a_clean_environment(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("SGE_ROOT", "/elsewhere")
        folder = noting("echo 4711")
        start(config, alice, request())
        text = (folder / "environment").read_text(encoding="utf-8")
        found = dict(line.split("=", 1) for line in text.split("\0")[:-1])
        for shells_own in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(shells_own, None)
        assert found == config.grid.environment() | {
            "HOME": str(home),
            "USER": "alice",
            "LOGNAME": "alice",
        }
        assert TOKEN not in text + (folder / "arguments").read_text(encoding="utf-8")

    def test_the_secrets_are_there_before_the_job(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
    ) -> None:
        folder = noting("echo 4711")
        start(config, alice, request())
        (path,) = secrets_in(home)
        assert (folder / "secrets").read_text(encoding="utf-8") == f"600 {path}\n"
        assert json.loads(path.read_text(encoding="utf-8")) == {
            "environment": ENVIRONMENT,
            "ports": list(PORTS),
            "rules": session_rules(config, None),
        }

    def test_the_session_is_told_its_run_time_and_the_sites_rules(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        item = {
            "name": "run_time",
            "label": "Run time",
            "unit": "minutes",
            "choices": [90],
            "default": 90,
            "request": {"kind": "run_time", "complex": "h_rt"},
        }
        config.menu.write_text(json.dumps({"items": [*MENU, item]}), encoding="utf-8")
        config = config.model_copy(
            update={
                "run_time_warnings": (30, 2),
                "idle_timeout": 60,
                "idle_notice": 10,
                "idle_report": 300,
            }
        )
        noting("echo 4711")
        start(config, alice, request())
        (path,) = secrets_in(home)
        rules = read_rules(json.loads(path.read_text(encoding="utf-8"))["rules"])
        assert rules[:5] == (5400, (1800, 120), 3600, 600, 300)
        for name, told in (("run_time", "end"), ("idle", "minutes"), ("left", "left")):
            assert f"{{{told}}}" in rules.words[name]

    def test_a_name_is_used_once(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        noting("echo 4711")
        start(config, alice, request())
        with pytest.raises(Refused, match="File exists"):
            start(config, alice, request())
        assert [path.stem for path in secrets_in(home)] == [SESSION]

    def test_the_server_of_the_person_is_named_to_administrators(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 4711")
        start(config, alice, request(server="my.lab"))
        assert ",jupyterhub_server=my.lab\0" in (folder / "arguments").read_text(encoding="utf-8")

    def test_a_home_that_hangs_gets_no_job(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        folder = noting("echo 4711")
        go_on, gone_on = home / "go on", home / "gone on"
        write = write_session_file

        def hang(*arguments: Any) -> None:
            while not go_on.exists():
                time.sleep(0.01)
            write(*arguments)
            # Only now: what follows is the broker's own.
            gone_on.touch()

        monkeypatch.setattr("gridhub.broker.requests.write_session_file", hang)
        monkeypatch.setattr("gridhub.broker.requests.HOME_TIMEOUT", 0.2)
        with pytest.raises(Refused, match="does not answer") as caught:
            start(config, alice, request())
        assert caught.value.kind == "home"
        assert not list(folder.iterdir())
        # A home that comes back too late keeps no secret.
        go_on.touch()
        deadline = time.monotonic() + 10
        while not gone_on.exists() or secrets_in(home):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_chatter_before_the_number_does_no_harm(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        noting(f"cat {DATA / 'qsub_now.err.txt'} >&2; cat {DATA / 'qsub_jsv.txt'}")
        assert start(config, alice, request()).job_id == 23

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (f"cat {DATA / 'qsub_no_queue.err.txt'} >&2; exit 1", "no suitable queues"),
            (f"cat {DATA / 'qmaster_down.err.txt'} >&2; exit 1", "unable to send message"),
            (f"cat {DATA / 'qsub_now_refused.txt'}; exit 1", "refused the session: 9"),
            ("exit 1", "no reason given"),
            ("echo 12; exit 1", "refused the session"),
            (f"cat {DATA / 'qsub_not_terse.txt'}", "did not print a job number"),
            (f"cat {DATA / 'qsub_array.txt'}", "did not print a job number"),
            ("", "did not print a job number"),
            (r"printf '\377\0'", "did not print a job number"),
            ("kill -9 $$", "no reason given"),
        ],
    )
    def test_no_secret_is_left_when_qsub_fails(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        script: str,
        words: str,
    ) -> None:
        folder = noting(script)
        with pytest.raises(Refused, match=words) as caught:
            start(config, alice, request())
        assert caught.value.kind == "grid"
        assert (folder / "secrets").exists()  # there was one
        assert not secrets_in(home)

    def test_no_secret_is_left_when_qsub_hangs(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("exec sleep 1000")
        config = config.model_copy(update={"timeout": 0.5})
        with pytest.raises(Refused, match="no answer within 0.5 s") as caught:
            start(config, alice, request())
        assert caught.value.kind == "grid"
        assert (folder / "secrets").exists()
        assert not secrets_in(home)

    @pytest.mark.parametrize(
        ("sites", "expected"),
        [
            ((), "h=!(exec1|exec-2.example.org)"),
            (("-l", "gpu=1,h=exec*"), "h=(exec*)&!(exec1|exec-2.example.org)"),
            (("-l", "hostname=a|b", "-l", "h_rt=60"), "h=(a|b)&!(exec1|exec-2.example.org)"),
        ],
    )
    def test_workers_without_a_port_are_left_out_besides_what_the_site_asks_for(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        noting: Callable[[str], Path],
        sites: tuple[str, ...],
        expected: str,
    ) -> None:
        folder = noting("echo 4711")
        config = config.model_copy(update={"qsub_arguments": sites})
        start(config, alice, request(avoid=("exec1", "exec-2.example.org")))
        arguments = (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]
        # Of several requests for a host the last one counts.
        assert arguments[-4:-2] == ["-l", expected]

    @pytest.mark.parametrize(
        "host",
        ["", "*", "exec1|exec2", "exec1)", "!exec1", "-q", "exec1,gpu=4", "a b", "exec1\n", "é"]
        + ["x" * 300, 7, None],
    )
    def test_a_worker_to_leave_out_is_a_plain_name(self, host: object) -> None:
        with pytest.raises(ValidationError):
            request(avoid=(host,))

    def test_not_every_worker_can_be_left_out(self) -> None:
        with pytest.raises(ValidationError):
            request(avoid=tuple(f"exec{each}" for each in range(5)))

    def test_words_become_arguments_of_qsub_and_of_the_job_script(
        self, config: Config, alice: pwd.struct_passwd, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 4711")
        choice = {"queue": "short.q", "mail": "alice@example.org", "software": "conda"}
        assert start(config, alice, request(choice=choice)) == Answer(ok=True, job_id=4711)
        arguments = (folder / "arguments").read_text(encoding="utf-8").split("\0")[:-1]
        assert arguments[arguments.index("all.q") + 1 :] == [
            "-pe", "smp", "1",
            "-m", "ea", "-M", "alice@example.org",
            "-q", "short.q",
            "-l", "h_vmem=2097152K",
            "/usr/local/lib/gridhub/session.sh",
            SESSION,
            "conda",
        ]  # fmt: skip

    def test_no_secret_is_left_when_there_is_no_qsub(
        self, config: Config, alice: pwd.struct_passwd, home: Path
    ) -> None:
        with pytest.raises(Refused, match="qsub cannot be started"):
            start(config, alice, request())
        assert not secrets_in(home)

    @pytest.mark.parametrize(
        ("choice", "words"),
        [
            ({"cores": 3}, "choose 1, 2 or 4"),
            ({"cores": 0}, "choose 1, 2 or 4"),
            ({"gpus": 1}, "members of no-such-group"),
            ({"cores": 10**30}, "choose 1, 2 or 4"),
            ({"project": "root"}, "not on the menu"),
            ({"preset": "small"}, "leave it empty"),
            ({"queue": "gpu.q"}, "members of no-such-group"),
            ({"queue": "root.q"}, "choose “” .Any. or “short.q”"),
            ({"queue": "short.q,gpu.q"}, "choose “” .Any. or “short.q”"),
            ({"queue": 1}, "choose “” .Any. or “short.q”"),
            ({"software": "conda; id"}, "choose “” .None. or “conda”"),
            ({"software": "module load anaconda"}, "choose “” .None. or “conda”"),
            ({"mail": "alice@example.org,bob@example.org"}, "like “alice@example.org”"),
            ({"mail": "a@b -l h_rt=1"}, "like “alice@example.org”"),
            ({"mail": "-help"}, "like “alice@example.org”"),
            ({"mail": "a@b\n"}, "like “alice@example.org”"),
        ],
    )
    def test_the_menu_is_checked_again_before_anything_is_done(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        home: Path,
        noting: Callable[[str], Path],
        choice: dict[str, int | str],
        words: str,
    ) -> None:
        folder = noting("echo 1")
        with pytest.raises(Refused, match=words) as caught:
            start(config, alice, request(choice=choice))
        assert caught.value.kind == "choice"
        assert not list(folder.iterdir())
        assert not list(home.iterdir())

    def test_an_account_that_may_not_gets_nothing_done(
        self, config: Config, alice: pwd.struct_passwd, home: Path, noting: Callable[[str], Path]
    ) -> None:
        folder = noting("echo 1")
        config = config.model_copy(update={"allowed_users": frozenset({"bob"})})
        with pytest.raises(Refused, match="may not have sessions"):
            start(config, alice, request())
        assert not list(folder.iterdir())
        assert not list(home.iterdir())

    def test_a_broken_menu_is_a_fault_of_ours(
        self, config: Config, alice: pwd.struct_passwd, home: Path
    ) -> None:
        config.menu.write_text("{}", encoding="utf-8")
        with pytest.raises(Refused, match="is wrong") as caught:
            start(config, alice, request())
        assert caught.value.kind == "broker"
        assert not list(home.iterdir())

    def test_the_person_is_become_before_their_home_is_touched(
        self, config: Config, alice: pwd.struct_passwd, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(user: pwd.struct_passwd) -> None:
            assert user == alice
            raise RuntimeError("could not give up root")

        monkeypatch.setattr("gridhub.broker.requests.become", refuse)
        with pytest.raises(RuntimeError):
            start(config, alice, request())
        with pytest.raises(RuntimeError):
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert not list(home.iterdir())

    @as_root
    def test_a_session_is_submitted_as_the_person_and_never_as_root(self, config: Config) -> None:
        nobody = pwd.getpwnam("nobody")
        folder = Path(tempfile.mkdtemp())
        try:
            folder.chmod(0o755)
            home, bin_dir, menu = folder / "home", folder / "bin", folder / "menu.json"
            home.mkdir()
            bin_dir.mkdir()
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            menu.write_text(json.dumps({"items": MENU}), encoding="utf-8")
            qsub = bin_dir / "qsub"
            qsub.write_text(
                '#!/bin/sh\nid -u >&2; id -G >&2; pwd >&2; stat -c "%u %a" ~/.jupy*/* >&2; exit 1',
                encoding="utf-8",
            )
            qsub.chmod(0o755)
            config = config.model_copy(
                update={
                    "menu": menu,
                    "sge_bin_dir": bin_dir,
                    "minimum_uid": 1,
                    "allowed_users": frozenset({"nobody"}),
                }
            )
            path = folder / "broker.json"
            path.write_text(config.model_dump_json(), encoding="utf-8")
            script = (
                "import pwd, sys\n"
                "from pathlib import Path\n"
                "sys.path.insert(0, sys.argv[1])\n"
                "from gridhub.broker import config, protocol, requests\n"
                "config = config.Config.model_validate_json(Path(sys.argv[2]).read_bytes())\n"
                "nobody = list(pwd.getpwnam('nobody'))\n"
                "nobody[5] = sys.argv[3]\n"
                "pwd.getpwnam = lambda name: pwd.struct_passwd(nobody)\n"
                "request = protocol.Start(\n"
                "    user='nobody', session='a' * 32, choice={}, environment={})\n"
                "print(requests.decide(config, request).error)\n"
            )
            files = FILES
            found = subprocess.run(
                [sys.executable, "-c", script, str(files), str(path), str(home)],
                capture_output=True,
                text=True,
                check=False,
            )
            uid, groups = str(nobody.pw_uid), os.getgrouplist("nobody", nobody.pw_gid)
            shown = found.stdout.removeprefix("Grid Engine refused the session: ").splitlines()
            assert shown == [uid, " ".join(map(str, groups)), "/", f"{uid} 600"], found
            assert not secrets_in(home)
        finally:
            shutil.rmtree(folder)


class TestCheck:
    @pytest.fixture
    def verify(
        self, fake: Callable[[str, str], Path], tmp_path: Path
    ) -> Callable[[str, str], Path]:
        """Let ``qsub -w v`` and ``-w p`` do as the test says; returns where the arguments are."""

        def make(on_empty: str, now: str) -> Path:
            script = (
                'while [ "$1" != -w ]; do shift; done\n'
                f'if [ "$2" = v ]; then {on_empty}; else {now}; fi'
            )
            fake("qsub", f'echo "$@" >> {tmp_path}/calls\n{script}')
            return tmp_path / "calls"

        return make

    FITS = "echo 'verification: found suitable queue(s)'"
    NOT = "echo 'Unable to run job: only offers 0 slots' >&2; exit 1"

    @pytest.mark.parametrize(
        ("on_empty", "now", "answer"),
        [
            (FITS, FITS, Answer(ok=True, verdict="now")),
            (
                FITS,
                NOT,
                Answer(ok=True, verdict="later", words="Unable to run job: only offers 0 slots"),
            ),
        ],
    )
    def test_grid_engine_is_asked_for_an_empty_cluster_and_for_now(
        self,
        on_empty: str,
        now: str,
        answer: Answer,
        config: Config,
        alice: pwd.struct_passwd,
        verify: Callable[[str, str], Path],
        home: Path,
    ) -> None:
        calls = verify(on_empty, now)
        assert check(config, alice, Check(user="alice", choice={"cores": 2})) == answer
        lines = calls.read_text("utf-8").splitlines()
        assert [line.split("-w ")[1][0] for line in lines] == ["v", "p"]
        assert all("-pe smp 2" in line and "-terse" not in line for line in lines)
        assert secrets_in(home) == []

    @pytest.mark.parametrize(("gpus", "told"), [(True, "offers only hc:gpu=2"), (False, "0 slots")])
    def test_what_no_worker_has_is_asked_for_without_the_parallel_environment(
        self,
        gpus: bool,
        told: str,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Callable[[str, str], Path],
        tmp_path: Path,
    ) -> None:
        in_the_end = "echo 'it offers only hc:gpu=2' >&2; exit 1" if gpus else self.FITS
        fake(
            "qsub",
            f'echo "$@" >> {tmp_path}/calls; case "$*" in *"-pe smp 2"*) {self.NOT};; esac\n'
            + in_the_end,
        )
        answer = check(config, alice, Check(user="alice", choice={"cores": 2}))
        assert answer.verdict == "never"
        assert told in answer.words
        lines = (tmp_path / "calls").read_text("utf-8").splitlines()
        assert lines[1] == lines[0].replace(" -pe smp 2", "")
        assert len(lines) == 2

    def test_a_choice_that_is_not_on_the_menu_is_not_asked_for(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        calls = verify(self.FITS, self.FITS)
        with pytest.raises(Refused) as refused:
            check(config, alice, Check(user="alice", choice={"cores": 64}))
        assert refused.value.kind == "choice"
        assert not calls.exists()

    def test_who_may_not_have_sessions_may_not_ask(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        calls = verify(self.FITS, self.FITS)
        nobody = config.model_copy(
            update={"allowed_users": frozenset(), "allowed_groups": frozenset()}
        )
        with pytest.raises(Refused, match="may not have sessions"):
            check(nobody, alice, Check(user="alice", choice={}))
        assert not calls.exists()

    def test_a_qmaster_that_is_away_gives_no_verdict(
        self, config: Config, alice: pwd.struct_passwd, verify: Callable[[str, str], Path]
    ) -> None:
        verify("echo 'error: unable to send message to qmaster' >&2; exit 1", self.FITS)
        with pytest.raises(Refused, match="Grid Engine does not answer"):
            check(config, alice, Check(user="alice", choice={}))

    def test_a_check_is_logged_with_its_verdict(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        verify: Callable[[str, str], Path],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        verify(self.FITS, self.FITS)
        assert decide(config, Check(user="alice", choice={})).verdict == "now"
        assert capsys.readouterr().err == "check for alice: now\n"


class TestStop:
    @pytest.fixture
    def commands(self, fake: Fake, tmp_path: Path) -> Callable[..., Path]:
        """A qdel that notes what it is to delete, and a qstat that must not be needed."""
        deleted = tmp_path / "deleted"

        def make(qdel: str = "") -> Path:
            fake("qstat", f"touch {tmp_path}/asked; exit 1")
            fake("qdel", f'echo "$@" > {deleted}\n{qdel}')
            return deleted

        return make

    def test_a_session_is_deleted_by_its_name(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        tmp_path: Path,
    ) -> None:
        deleted = commands(f"cat {DATA / 'qdel.txt'}")
        assert stop(config, alice, Stop(user="alice", session=SESSION)) == Answer(ok=True)
        assert deleted.read_text(encoding="utf-8") == f"jupyterhub-{SESSION}\n"
        assert not (tmp_path / "asked").exists()

    def test_the_file_of_a_session_that_never_started_goes_before_its_job(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        # A job that is on its way to Grid Engine yet then ends itself.
        folder = Path(alice.pw_dir) / SESSION_FOLDER
        folder.mkdir()
        for name in (f"{SESSION}.json", "7.log", f"{'a' * 32}.json"):
            (folder / name).touch()
        deleted = commands(f"ls {folder} >> {alice.pw_dir}/left; exit 1")
        with pytest.raises(Refused):
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert deleted.exists()
        left = (Path(alice.pw_dir) / "left").read_text(encoding="utf-8").split()
        assert left == ["7.log", f"{'a' * 32}.json"]

    def test_a_home_that_hangs_does_not_keep_the_job(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def hang(seconds: float, task: Callable[[], object]) -> None:
            raise Refused("home", "Your home folder does not answer.")

        monkeypatch.setattr("gridhub.broker.requests.within", hang)
        deleted = commands(f"cat {DATA / 'qdel.txt'}")
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok
        assert deleted.exists()

    @pytest.mark.parametrize(
        "qdel",
        [
            f"cat {DATA / 'qdel_unknown.txt'}; exit 1",
            f"cat {DATA / 'qdel_of_other.txt'}; exit 1",
            f"cat {DATA / 'qdel_unknown.txt'} >&2; exit 1",
            f"echo warning >&2; cat {DATA / 'qdel_unknown.txt'}; exit 1",
            f"cat {DATA / 'qdel_again.txt'}",
        ],
        ids=["gone", "somebody else's", "on the other stream", "with a warning", "in deletion"],
    )
    def test_a_job_that_is_gone_already_is_a_success(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        commands: Callable[..., Path],
        qdel: str,
    ) -> None:
        commands(qdel)
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok

    def test_a_qmaster_that_is_down_is_no_success(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands(f"cat {DATA / 'qdel_down.txt'}; cat {DATA / 'qdel_down.err.txt'} >&2; exit 1")
        with pytest.raises(Refused, match="did not delete the job: .*commlib error") as caught:
            stop(config, alice, Stop(user="alice", session=SESSION))
        assert caught.value.kind == "grid"

    def test_a_qdel_that_hangs_is_no_success(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands("exec sleep 1000")
        config = config.model_copy(update={"timeout": 0.3})
        with pytest.raises(Refused, match=r"no answer within 0\.3 s"):
            stop(config, alice, Stop(user="alice", session=SESSION))

    def test_a_person_who_may_have_no_sessions_any_more_can_still_end_theirs(
        self, config: Config, alice: pwd.struct_passwd, commands: Callable[..., Path]
    ) -> None:
        commands()
        config = config.model_copy(update={"allowed_users": frozenset()})
        assert stop(config, alice, Stop(user="alice", session=SESSION)).ok


class TestDecide:
    def test_an_account_that_does_not_exist_is_refused(self, config: Config) -> None:
        answer = decide(config, request(user="no-such-account"))
        assert (answer.ok, answer.kind) == (False, "refused")
        assert "no account no-such-account" in answer.error

    def test_root_is_refused_even_when_named(self, config: Config) -> None:
        config = config.model_copy(update={"allowed_users": frozenset({"root"})})
        for wanted in (request(user="root"), Stop(user="root", session=SESSION)):
            answer = decide(config, wanted)
            assert (answer.ok, answer.kind) == (False, "refused")

    def test_an_account_with_another_spelling_is_refused(
        self, config: Config, alice: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pwd, "getpwnam", lambda name: alice)
        answer = decide(config, request(user="ALICE"))
        assert (answer.ok, answer.kind) == (False, "refused")

    def test_an_account_in_roots_group_is_refused(
        self, config: Config, alice: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rooted = pwd.struct_passwd(("alice", "x", 4711, 0, "", alice.pw_dir, "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwnam", lambda name: rooted)
        assert not decide(config, request()).ok

    @pytest.mark.parametrize(
        "wanted",
        [
            request(),
            Stop(user="alice", session=SESSION),
            Check(user="alice", choice={}),
        ],
    )
    def test_the_broker_becomes_no_system_account_for_anything(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        monkeypatch: pytest.MonkeyPatch,
        wanted: Start | Stop | Check,
    ) -> None:
        system = pwd.struct_passwd(("alice", "x", 999, 999, "", alice.pw_dir, "/bin/sh"))
        monkeypatch.setattr(pwd, "getpwnam", lambda name: system)
        become: list[object] = []
        monkeypatch.setattr("gridhub.broker.requests.become", become.append)
        answer = decide(config, wanted)
        assert (answer.kind, become) == ("refused", [])
        assert "alice is a system account" in answer.error

    def test_a_start_is_logged_in_one_line_without_the_secret(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake("qsub", "echo 4711")
        assert decide(config, request()) == Answer(ok=True, job_id=4711)
        assert capsys.readouterr().err == f"start for alice, session {SESSION}: job 4711\n"

    def test_words_of_others_cannot_forge_a_line_of_the_log(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake(
            "qsub",
            r"printf 'no\nstart for bob: job 1\r\033[31m\177\302\205\302\233x\0y\t' >&2; exit 1",
        )
        answer = decide(config, request())
        assert not answer.ok
        logged = capsys.readouterr()
        assert logged.out == ""
        assert logged.err.startswith(f"start for alice, session {SESSION}: refused (grid): ")
        assert logged.err.count("\n") == 1
        assert logged.err.endswith("\n")
        assert logged.err[:-1].isprintable()
        assert TOKEN not in logged.err

    def test_words_of_grid_engine_do_not_flood_the_log(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        fake("qsub", "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
        assert len(decide(config, request()).error) < 3000
        assert len(capsys.readouterr().err) < 3000


@given(st.text(max_size=200))
def test_a_line_of_the_log_is_one_line_for_everybody(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert [a for a, b in zip(text, line, strict=True) if a != b and a.isprintable()] == []


def test_a_line_of_the_log_has_a_length() -> None:
    assert len(one_line("x" * 60_000)) == 4_000


class TestCaller:
    def test_the_hub_may_call(
        self, config: Config, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        check_caller(pair[0], config.hub_user)

    def test_nobody_else_may_call(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.getuid())
        with pytest.raises(Refused, match=f"only {other} may use the broker") as caught:
            check_caller(pair[0], other)
        assert caught.value.kind == "refused"

    @as_root
    def test_not_even_root_may_call_in_place_of_the_hub(
        self, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(Refused):
            check_caller(pair[0], "nobody")

    def broker(self, config: Config, tmp_path: Path, data: bytes) -> tuple[str, str]:
        """Run the broker as systemd does: the connection is its standard input."""
        path = tmp_path / "broker.json"
        path.write_text(config.model_dump_json(), encoding="utf-8")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, str(FILES / "sge_broker.py"), str(path)],
                    stdin=theirs,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            ours.settimeout(20)
            send(ours, data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := ours.recv(8192):
                    answer += chunk
        _, logged = process.communicate(timeout=20)
        assert process.returncode == 0
        return answer.decode(), logged

    def test_the_broker_answers_on_its_connection(self, config: Config, tmp_path: Path) -> None:
        data = json.dumps(START | {"user": "no-such-account"}).encode()
        answer, logged = self.broker(config, tmp_path, data)
        assert Answer.model_validate_json(answer).kind == "refused"
        assert logged == (
            f"start for no-such-account, session {SESSION}: refused (refused): "
            "there is no account no-such-account\n"
        )

    def test_the_broker_answers_a_bad_request_too(self, config: Config, tmp_path: Path) -> None:
        answer, logged = self.broker(config, tmp_path, b"{\n")
        assert Answer.model_validate_json(answer).kind == "request"
        assert logged.startswith("refused (request): not a request")
        assert logged.count("\n") == 1

    def test_the_broker_refuses_another_caller_before_it_reads(
        self, config: Config, tmp_path: Path
    ) -> None:
        other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid != os.getuid())
        config = config.model_copy(update={"hub_user": other})
        answer, logged = self.broker(config, tmp_path, json.dumps(START).encode())
        assert Answer.model_validate_json(answer).kind == "refused"
        assert "may use the broker" in logged


class TestAsking:
    """The hub's end of the conversation."""

    async def talk(
        self,
        path: Path,
        broker: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
        timeout: float = 10.0,
    ) -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await broker(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_unix_server(serve, path)
        async with server:
            return await ask(path, request(), timeout)

    async def test_the_request_is_ended_and_the_answer_read(self, tmp_path: Path) -> None:
        seen = b""

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal seen
            seen = await reader.read()
            writer.write(Answer(ok=True, job_id=7).model_dump_json().encode())

        assert await self.talk(tmp_path / "s", broker) == Answer(ok=True, job_id=7)
        assert Start.model_validate_json(seen) == request()

    async def test_an_answer_in_pieces_is_read_whole(self, tmp_path: Path) -> None:
        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            for byte in Answer(ok=False, error="é" * 50, kind="grid").model_dump_json().encode():
                writer.write(bytes([byte]))
                await writer.drain()
                for _ in range(3):
                    await asyncio.sleep(0)  # let the other end read so far

        assert (await self.talk(tmp_path / "s", broker)).error == "é" * 50

    @pytest.mark.parametrize("answer", [b"", b"{", b"null", b'{"ok": true, "more": 1}', b"\xff"])
    async def test_a_broker_that_died_gave_no_answer(self, tmp_path: Path, answer: bytes) -> None:
        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.write(answer)

        with pytest.raises(AnswerError, match="ended without an answer"):
            await self.talk(tmp_path / "s", broker)

    async def test_a_broker_that_hangs_is_not_waited_for(self, tmp_path: Path) -> None:
        over = asyncio.Event()

        async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await over.wait()

        with pytest.raises(TimeoutError):
            await self.talk(tmp_path / "s", broker, timeout=0.1)
        over.set()

    async def test_a_broker_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            await ask(tmp_path / "s", request(), 10)

    async def test_both_ends_understand_each_other(
        self,
        config: Config,
        alice: pwd.struct_passwd,
        fake: Fake,
        home: Path,
        tmp_path: Path,
    ) -> None:
        fake("qsub", "echo 4711")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def broker() -> None:
            connection, _ = listener.accept()
            with connection:
                check_caller(connection, config.hub_user)
                answer = decide(config, receive(connection))
                connection.sendall(answer.model_dump_json().encode())

        with listener:
            answer, _ = await asyncio.gather(
                ask(tmp_path / "s", request(), 10), asyncio.to_thread(broker)
            )
        assert answer == Answer(ok=True, job_id=4711)
        assert len(secrets_in(home)) == 1


class TestCheckedConfig:
    def test_a_right_one_is_accepted(self, config: Config) -> None:
        assert parse_config(config.model_dump_json().encode()) == config

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"ports": [41000, 40000]}, "the first port, 41000, is above the last, 40000"),
            ({"ports": [40000]}, "ports.1: "),
            ({"ports": [80, 90]}, "ports.0: "),
            ({"minimum_uid": 0}, "minimum_uid: "),
            ({"run_time_warnings": [10, -1]}, "run_time_warnings.1: "),
            ({"run_time_warnings": ["10"]}, "run_time_warnings.0: "),
            ({"idle_timeout": -1}, "idle_timeout: "),
            ({"idle_timeout": True}, "idle_timeout: "),
            (
                {"idle_timeout": 10, "idle_notice": 10},
                "jupyterhub_idle_notice is 10 minutes; it must be less than jupyterhub_idle_t",
            ),
            ({"colour": "red"}, "colour: "),
        ],
    )
    def test_a_wrong_value_is_named(
        self,
        config: Config,
        wrong: dict[str, object],
        words: str,
    ) -> None:
        content = json.dumps(config.model_dump(mode="json") | wrong).encode()
        with pytest.raises(ConfigError, match=re.escape(words)):
            parse_config(content)
