"""Whatever Grid Engine's own files of a person hold, a session starts as requested or is refused.

A refusal is one sentence that names the file, the line and the option, and says what to do.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from broker_calls import ask
from cluster import BASE_URL, host
from hub_client import HubClient, page_text, wait_for

#: The account of these tests, and its request file.
NAME, UID, PASSWORD = "rita", 2900, "rita-people"
OWN = f"/home/{NAME}/.sge_request"
CELL = "/var/lib/gridengine/default/common"
SESSION = "fedcba9876543210" * 2

#: Options that a session cannot have.
REFUSED = [
    "-sync y",
    "-t 1-3",
    "-tc 2",
    "-verify",
    "-h",
    "-hold_jid 12312359",
    "-hold_jid_ad 5",
    "-ckpt any",
    "-o exec1:/nonexistent/log",
    "-i exec1:/nonexistent/input",
    "-S exec1:/bin/true",
]

#: Options and values with which qsub fails by itself.
IMPOSSIBLE = [
    "-q none.q",
    "-l h=nowhere",
    "-l nosuch=1",
    "-P nosuch",
    "-p 10",
    "-ar 5",
    "-masterq none.q",
    "-foo bar",
    "garbage",
    "-jsv /nonexistent",
]

#: Options that the session's own arguments or our further arguments override, and harmless ones.
#: They all stand in one file.
OVERRIDDEN = [
    "# defaults of rita",
    "-b y -h -t 1-3 -clear",
    "-b y -now y -shell n",
    "-pty y",
    "-a 12312359",
    "-i /nonexistent/input -o /nonexistent/log -e /nonexistent/log -j n",
    "-N other -wd /nonexistent -r y -w n -S /bin/false",
    "-v LD_PRELOAD=/nonexistent.so,HOME=/nonexistent,PATH=/nonexistent,MINE=1",
    "-V",
    "-l h_vmem=100M",
    "-pe smp 2",
    "-notify -R y -p -5 -js 1 -m n -M rita@example.org -terse",
    "-ac mine=1 -dc jupyterhub_user",
    "-A 'account' # a comment",
]


def start() -> dict[str, Any]:
    return ask(
        action="start",
        user=NAME,
        session=SESSION,
        choice={},
        environment={"JUPYTERHUB_API_TOKEN": "none"},
    )


def check() -> dict[str, Any]:
    return ask(action="check", user=NAME, choice={})


@pytest.fixture(scope="module", autouse=True)
def account() -> Iterator[None]:
    """Make the account on every host that needs it, and its home in the shared /home."""
    names = ("qmaster", "hub", "exec1", "exec2")
    for name in names:
        host(name).check_output(
            f"getent passwd {NAME} || useradd --uid {UID} --groups jupyter --no-create-home"
            f" --shell /bin/bash {NAME}; echo {NAME}:{PASSWORD} | chpasswd"
        )
    hub = host("hub")
    hub.check_output(f"install -d -m 700 -o {NAME} -g {NAME} /home/{NAME}")
    yield
    hub.run(f"cd / && runuser -u {NAME} -- qdel -u {NAME}")
    for name in names:
        host(name).run(f"pkill -KILL -u {UID}; userdel {NAME}")
    hub.check_output(f"rm -rf /home/{NAME}")


@pytest.fixture
def jobs(hub_host: Any) -> Callable[[], list[str]]:
    """Return the ids of the account's jobs."""

    def ids() -> list[str]:
        lines = hub_host.check_output(f"qstat -u {NAME}").splitlines()[2:]
        return [line.split()[0] for line in lines]

    return ids


@contextmanager
def file(path: str, text: str, owner: str = NAME) -> Iterator[None]:
    """Write a file on the hub's host, and remove it again."""
    hub = host("hub")
    hub.check_output(f"printf %s {shlex.quote(text)} > {path} && chown {owner} {path}")
    try:
        yield
    finally:
        hub.check_output(f"rm -rf {path}")


def assert_refused(answer: dict[str, Any], path: str, line: int, option: str) -> None:
    assert not answer["ok"], answer
    assert f"“{option}”" in answer["error"], answer
    assert path in answer["error"], answer
    assert f"ine {line} of" in answer["error"], answer
    assert "job number" not in answer["error"], answer


class TestRequestFile:
    @pytest.mark.parametrize("option", REFUSED)
    def test_an_option_that_breaks_sessions_is_refused_with_its_line(
        self, option: str, jobs: Callable[[], list[str]]
    ) -> None:
        with file(OWN, f"# mine\n\n-A mine {option}\n"):
            for answer in (start(), check()):
                assert_refused(answer, OWN, 3, option)
                assert "put a # at the start of this line" in answer["error"]
        assert jobs() == []

    @pytest.mark.parametrize("option", IMPOSSIBLE)
    def test_an_option_with_which_qsub_fails_is_named_with_its_line(
        self, option: str, jobs: Callable[[], list[str]]
    ) -> None:
        with file(OWN, f"-R y\n{option}\n"):
            assert_refused(start(), OWN, 2, option)
            dry = check()
            # The dry run does not look at the priority.
            if option != "-p 10":
                assert f"“{option}” in line 2 of {OWN}" in dry["note"] + dry["error"], dry
        assert jobs() == []

    def test_the_lines_on_which_qsub_crashes_are_named(self, jobs: Callable[[], list[str]]) -> None:
        with file(OWN, "-R y\n   # indented\n"):
            answer = start()
            assert f"line 2 of {OWN}, which has only blanks" in answer["error"], answer
            answer = check()
            assert f"line 2 of {OWN}, which has only blanks" in answer["error"], answer
        with file(OWN, f"-@ {OWN}\n"):
            assert_refused(start(), OWN, 1, f"-@ {OWN}")
        assert jobs() == []

    def test_an_option_of_an_included_file_is_named(self, jobs: Callable[[], list[str]]) -> None:
        more = f"/home/{NAME}/more"
        with file(OWN, f"-@ {more}\n"), file(more, "\n-t 1-3\n"):
            assert_refused(start(), more, 2, "-t 1-3")
        assert jobs() == []

    def test_an_option_of_the_cell_is_for_the_administrators(
        self, jobs: Callable[[], list[str]]
    ) -> None:
        path = f"{CELL}/sge_request"
        with file(path, "-sync y\n", "root"):
            for answer in (start(), check()):
                assert_refused(answer, path, 1, "-sync y")
                assert "tell the administrators" in answer["error"]
        assert jobs() == []

    @pytest.mark.parametrize(
        "make",
        ["mkdir {0}", "mkfifo -m 666 {0}", "truncate -s 1M {0}"],
        ids=["folder", "pipe", "big"],
    )
    def test_what_qsub_cannot_read_is_refused(
        self, hub_host: Any, jobs: Callable[[], list[str]], make: str
    ) -> None:
        hub_host.check_output(make.format(OWN))
        try:
            for answer in (start(), check()):
                assert not answer["ok"]
                assert f"{OWN} is not a file with options for your jobs" in answer["error"]
        finally:
            hub_host.check_output(f"rm -rf {OWN}")
        assert jobs() == []

    @pytest.mark.parametrize(
        "make",
        [
            "ln -s /dev/null {0}",
            "ln -s /nowhere {0}",
            "ln -s {0} {0}",
            "echo -h > {0}; chmod 0 {0}",
        ],
        ids=["null", "nowhere", "itself", "unreadable"],
    )
    def test_what_qsub_ignores_is_ignored(self, hub_host: Any, make: str) -> None:
        hub_host.check_output(make.format(OWN))
        try:
            assert check()["verdict"] in ("now", "later")
            assert start()["ok"]
        finally:
            hub_host.check_output(f"rm -rf {OWN}")
            ask(action="stop", user=NAME, session=SESSION)


@pytest.fixture
def rita() -> Iterator[HubClient]:
    client = HubClient(BASE_URL, NAME)
    client.log_in(PASSWORD)
    client.stop()
    yield client
    client.stop()


def test_a_session_comes_up_with_everything_that_can_be_overridden(
    rita: HubClient, hub_host: Any
) -> None:
    with file(OWN, "\n".join((*OVERRIDDEN, ""))):
        rita.choose(cores=1, memory=1, run_time=1)
        rita.wait_until_ready()
        (job,) = hub_host.check_output(f"qstat -u {NAME}").splitlines()[2:]
        rita.open_lab()
        kernel = rita.start_kernel()
        code = "import os; print(os.environ['HOME'], os.environ['NSLOTS'], os.environ.get('MINE'))"
        assert rita.run(kernel, code).split() == [f"/home/{NAME}", "1", "1"]
        shown = hub_host.check_output(f"qstat -j {job.split()[0]}")
        assert "h_vmem=1048576K" in shown, shown
        assert "job-array" not in shown, shown


def test_the_form_and_the_page_show_the_line(rita: HubClient) -> None:
    with file(OWN, "-t 1-3\n"):
        page = page_text(rita.choose(cores=1, memory=1, run_time=1))
        wait_for("the session is refused", lambda: rita.server() is None)
        page += page_text(rita.get("/hub/home"))
    assert f"Line 1 of {OWN} has “-t 1-3”" in page


def test_no_file_of_qstat_hides_a_running_session(rita: HubClient, hub_host: Any) -> None:
    def complaints() -> int:
        lines = hub_host.run("journalctl -u jupyterhub --no-pager | grep -c 'hides jobs'").stdout
        return int(lines)

    rita.choose(cores=1, memory=1, run_time=1)
    rita.wait_until_ready()
    path, before = f"{CELL}/sge_qstat", complaints()
    with file(path, "-s p -l h=nowhere -g d\n", "root"):
        # Two answers without its job would end the session.
        wait_for("the hub has noticed the file", lambda: complaints() >= before + 3, 150)
        server = rita.server()
        assert server
        assert server["ready"]
    with file(path, "-s p -ext -u root\n", "root"):
        rita.open_lab()
        kernel = rita.start_kernel()
        assert rita.run(kernel, "print(6 * 7)").strip() == "42"
