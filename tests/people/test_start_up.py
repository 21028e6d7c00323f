"""Start-up lines of the site: whatever they do, the session comes up, and the person is told."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from browsing import changed
from hub_client import page_text, wait_for
from newcomer import Newcomer

Make = Callable[..., Newcomer]


@pytest.fixture
def profile(workers: list[Any]) -> Iterator[Callable[[str], None]]:
    """Write a file that /etc/profile reads on each worker."""
    path = "/etc/profile.d/zz-test.sh"

    def write(lines: str) -> None:
        for worker in workers:
            worker.check_output(f"printf %s {shlex.quote(lines)} >{path}")

    yield write
    for worker in workers:
        worker.check_output(f"rm -f {path}")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ("true\nexit 0\n", "line 2: exit 0"),
        ("set -eu\nfalse\n", "line 2: false"),
        ("exec sh\n", "line 1: exec sh"),
        ("exec >/dev/null 2>&1\nexit 1\n", "line 2: exit 1"),
    ],
    ids=["exit", "set -e", "exec", "redirect"],
)
def test_lines_that_stop_are_named_and_the_session_comes_up(
    newcomer: Make, profile: Callable[[str], None], lines: str, line: str
) -> None:
    profile(f"export FROM_PROFILE=1\n{lines}")
    file, command = "/etc/profile.d/zz-test.sh", line.partition(": ")[2]
    person = newcomer().start()
    number = int(line.split()[1].rstrip(":")) + 1
    notice = person.wait_for_notice(f"{file}, line {number}: {command}")
    assert "Tell the administrators" in notice
    assert "FROM_PROFILE" not in person.environment()
    assert f"{file}, line {number}" in person.log()


def test_lines_that_hang_are_ended(
    newcomer: Make, profile: Callable[[str], None], hub_host: Any
) -> None:
    profile("sleep 600\n")
    with changed(hub_host, "broker.json", lambda rules: rules.update(prologue_timeout=2)):
        person = newcomer().start()
    assert "sleep 600 (time limit)" in person.wait_for_notice("zz-test.sh, line 1")


def test_a_site_may_refuse_sessions_without_the_start_up_lines(
    newcomer: Make, profile: Callable[[str], None], hub_host: Any
) -> None:
    profile("exit 3\n")
    person = newcomer()
    with changed(hub_host, "broker.json", lambda rules: rules.update(prologue_required=True)):
        person.request()
        wait_for("the session is given up", lambda: person.server() is None)
    page = page_text(person.get("/hub/home"))
    assert "/etc/profile.d/zz-test.sh, line 1: exit 3 (exit status 3)" in page


def test_settings_reach_kernels_and_terminals_but_not_the_server(
    newcomer: Make, profile: Callable[[str], None]
) -> None:
    profile(
        "export PYTHONPATH=/old/python2 LD_LIBRARY_PATH=/old/lib JUPYTER_CONFIG_DIR=/old "
        "MODULES=loaded PATH=/apps/bin:$PATH\n"
        "module() { echo module $*; }; export -f module\numask 027\n"
    )
    person = newcomer().start()
    environment = person.environment()
    assert environment["MODULES"] == "loaded"
    assert environment["PATH"].startswith("/apps/bin:")
    # The site's own kernel starts without them; the programs that it starts get those of libraries.
    assert "PYTHONPATH" not in environment
    assert environment["LD_LIBRARY_PATH"] == "/old/lib"
    assert person.cell("import os, sys; print(os.umask(0)); print('/old/python2' in sys.path)") == (
        f"{0o027}\nFalse"
    )
    shown = person.terminal("echo $PYTHONPATH $MODULES; module load x; echo $PATH; umask")
    first, loaded, path, mask = shown.splitlines()
    assert (first, loaded, mask) == ("/old/python2 loaded", "module load x", "0027")
    assert "/apps/bin" in path
    server = person.worker().check_output(
        f"cat /proc/$(pgrep -u {person.name} -f sge_session.py | head -1)/environ | tr '\\0' '\\n'"
    )
    for name in ("PYTHONPATH=", "LD_LIBRARY_PATH=", "JUPYTER_CONFIG_DIR=/old"):
        assert not [line for line in server.splitlines() if line.startswith(name)]


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/opt/no/such/zsh"])
def test_an_account_without_a_shell_gets_bash_and_a_sentence(newcomer: Make, shell: str) -> None:
    person = newcomer(shell=shell).start()
    assert shell in person.wait_for_notice("no login shell")
    assert person.environment()["SHELL"] == "/bin/bash"
    assert person.terminal("echo $0") in ("-bash", "/bin/bash", "bash")
