# SPDX-License-Identifier: BSD-3-Clause
"""The site's start-up lines: whatever they do, the session learns the environment or the line."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridhub.session import start_up
from gridhub.session.start_up import StartUp, run_start_up
from job_script import job_script

Run = Callable[..., StartUp]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the job script with a profile and a prologue."""

    def run(
        profile: str = "",
        prologue: str = "",
        software: str = "",
        timeout: float = 20.0,
        **job: str,
    ) -> StartUp:
        file = tmp_path / "profile"
        file.write_text(profile + "\n", encoding="utf-8")
        script = tmp_path / "session.sh"
        script.write_text(
            job_script(prologue, {"new": "export NEW=1"}).replace("/etc/profile", str(file)),
            encoding="utf-8",
        )
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **job}
        return run_start_up(str(script), environment, software, timeout)

    return run


def test_all_parts_run_and_their_variables_are_reported(run: Run, tmp_path: Path) -> None:
    result = run("export A=profile B='1\n2'", "export A=$A-prologue; unset HOME", "new", JOB="5")
    assert result.stopped is None
    assert result.environment == {
        "A": "profile-prologue",
        "B": "1\n2",
        "JOB": "5",
        "NEW": "1",
        "PATH": "/usr/bin:/bin",
    }


def test_functions_for_the_users_shells_are_reported(run: Run) -> None:
    result = run("module() { echo $1; }; export -f module")
    assert result.environment["BASH_FUNC_module%%"].startswith("()")


def test_the_lines_do_not_see_the_arguments_of_the_job_script(run: Run) -> None:
    assert run('export SEEN="$#:$*"').environment["SEEN"] == "0:"


def test_the_mask_for_new_files_is_reported(run: Run) -> None:
    assert run("umask 002").umask == 0o002


@pytest.mark.parametrize(
    "lines",
    [
        "exit 0",
        "exit 3",
        "set -e\nfalse",
        "set -u\necho $UNDEFINED_VARIABLE",
        "set -eu\ntrap 'echo bye' EXIT\nfalse",
        "exec sh -c true",
        "exec sleep 0",
        "exec bash --norc",
        "kill -9 $$",
        "kill 0",
        "exec >/dev/null 2>&1\nexit 1",
        "exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&-\nexit 1",
        "set -n",
        "f() { exit 4; }\nf",
        "set +T\nexit 5",
        "PATH=/nonexistent\nexit",
        "IFS=0123456789\nexit 7",
        "set -a\nexit",
        "set -o posix\nset -e\n. /nonexistent/file",
    ],
)
def test_lines_that_stop_give_the_line_and_leave_the_jobs_environment(
    run: Run, lines: str, tmp_path: Path
) -> None:
    result = run(lines, JOB="5")
    assert result.stopped
    assert result.environment["JOB"] == "5"
    assert result.stopped.file in (str(tmp_path / "profile"), str(tmp_path / "session.sh"))
    if "-n" not in lines:
        assert result.stopped.file == str(tmp_path / "profile")
        assert result.stopped.line > 0
        assert str(result.stopped).startswith(f"{tmp_path}/profile, line ")


@pytest.mark.parametrize(
    ("lines", "line", "end"),
    [
        ("\nexit 3", 2, "exit 3 (exit status 3)"),
        ("trap 'echo bye' EXIT\n\nexit 3", 3, "exit 3 (exit status 3)"),
        ("set -e\ntrap 'echo bye; rm -f x' EXIT\nfalse", 3, "false (exit status 1)"),
        ("bye() {\n  true\n}\ntrap bye EXIT\nexit 3", 5, "exit 3 (exit status 3)"),
        ("trap 'echo oh; exit 4' ERR\n\nfalse", 3, "false (exit status 4)"),
        ("f() {\n  exit 3\n}\ntrap 'echo bye' EXIT\nf", 2, "exit 3 (exit status 3)"),
        ("trap 'exit 5' TERM\nkill $$\ntrue", 2, "kill $$ (exit status 5)"),
        ("for i in 1 2 3; do\n  true\n  [ $i != 3 ] || exit\ndone", 3, "exit (exit status 1)"),
    ],
)
def test_the_line_that_stopped_is_named_even_if_a_trap_runs_after_it(
    run: Run, lines: str, line: int, end: str, tmp_path: Path
) -> None:
    assert str(run(lines).stopped) == f"{tmp_path}/profile, line {line}: {end}"
    inner = tmp_path / "profile.d.sh"
    inner.write_text(lines, encoding="utf-8")
    through = run(f"for i in {inner}; do\n  true\n  . $i\ndone")
    assert str(through.stopped) == f"{inner}, line {line}: {end}"
    script = tmp_path / "session.sh"
    stopped = str(run(prologue=lines).stopped)
    text = script.read_text(encoding="utf-8")
    first = text[: text.index(lines)].count("\n")
    assert stopped == f"{script}, line {first + line}: {end}"


def test_the_line_that_stopped_is_named_even_if_a_trap_calls_a_function_of_another_file(
    run: Run, tmp_path: Path
) -> None:
    library = tmp_path / "library.sh"
    library.write_text("\n" * 20 + "on_exit() {\n  true\n  helper\n}\nhelper() { :; }\n", "utf-8")
    stop = tmp_path / "stop.sh"
    stop.write_text("true\nexit 7\n", encoding="utf-8")
    lines = f". {library}\ntrap on_exit EXIT"
    assert (
        str(run(f"{lines}\nexit 7").stopped)
        == f"{tmp_path}/profile, line 3: exit 7 (exit status 7)"
    )
    assert str(run(f"{lines}\n. {stop}").stopped) == f"{stop}, line 2: exit 7 (exit status 7)"
    assert str(run(lines, f"true\n. {stop}").stopped) == f"{stop}, line 2: exit 7 (exit status 7)"


@pytest.mark.parametrize(
    "lines",
    [
        "read answer",
        "cat",
        "read answer </dev/tty",
        "false\nnonexistent-command",
        "syntax error (",
        "exec >/dev/null 2>&1",
        "exec 0<&- 1>&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-",
        "cd /",
        "shift 2>/dev/null; set -- a b c",
        "head -c 3000000 /dev/zero",
        "env() { exit 1; }; printf() { exit 1; }; trap() { exit 1; }; umask() { exit 1; }",
        "trap 'true' DEBUG; trap - DEBUG",
        "exec 200>/dev/null 201>/dev/null 255>/dev/null; flock -w 5 200",
        "unset PATH HOME",
        "IFS=01",
        "set -o noglob; set -f; shopt -s nullglob extglob",
        "export LC_ALL=xx_YY LANG=nonsense",
        "sleep 1000 &",
        "(while true; do sleep 1; done) & disown",
        "setsid sleep 1000 >/dev/null 2>&1 &",
        "set -v",
        "timeout 30 yes &",
        "timeout 30 yes >&2 & (end=$((SECONDS + 30)); while [ $SECONDS -lt $end ]; do :; done) &",
    ],
)
def test_lines_that_do_not_stop_do_no_harm(run: Run, lines: str) -> None:
    begun = time.monotonic()
    result = run(lines, "export DONE=1")
    assert result.stopped is None
    assert result.environment["DONE"] == "1"
    assert time.monotonic() - begun < 15


def test_an_environment_that_is_too_large_is_reported_with_the_sites_line(
    run: Run, tmp_path: Path
) -> None:
    result = run('true\nexport FILES="$(seq 1 300000)"', JOB="5")
    assert str(result.stopped).startswith(f"{tmp_path}/profile, line 2: ")
    assert result.environment["JOB"] == "5"


def test_lines_that_remove_our_functions_are_named(run: Run, tmp_path: Path) -> None:
    result = run("true\nunset -f $(compgen -A function)", JOB="5")
    assert str(result.stopped).startswith(f"{tmp_path}/profile, line 2: ")
    assert result.environment["JOB"] == "5"


def test_a_low_limit_for_open_files_does_no_harm(run: Run) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        assert run("export A=1").environment["A"] == "1"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_an_environment_that_cannot_be_reported_is_no_environment(run: Run) -> None:
    result = run("", "export A=1\nulimit -v 1000", A="0")
    assert result.stopped
    assert result.environment["A"] == "0"


def test_set_e_in_the_profile_does_not_stop_the_prologue(run: Run) -> None:
    result = run("set -eu", "false\necho $UNDEFINED_VARIABLE\nexport DONE=1")
    assert result.environment["DONE"] == "1"


@pytest.mark.parametrize("line", ["sleep 1000", "while :; do :; done", "exec bash -c 'sleep 1000'"])
def test_lines_that_hang_are_ended_at_the_time_limit(run: Run, line: str) -> None:
    result = run(f"true\n{line}", timeout=0.5)
    assert result.stopped
    assert result.stopped.status is None
    assert result.stopped.line == 2
    assert "time limit" in str(result.stopped)


def test_a_prologue_that_stops_leaves_the_environment_of_the_profile(run: Run) -> None:
    result = run("export A=1", "export B=2\nexit 0")
    assert result.environment["A"] == "1"
    assert "B" not in result.environment
    assert result.stopped
    assert result.stopped.command == "exit 0"


def test_an_unknown_software_environment_stops_the_lines(run: Run) -> None:
    assert run("", "", "other").stopped


def test_the_beginning_of_the_output_goes_to_the_log(
    run: Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_up, "MAX_OUTPUT", 10)
    run("echo 0123456789abcdef; echo more >&2")
    assert capfd.readouterr().err == (
        "0123456789\n(The rest of the output of the start-up lines is left out.)\n"
    )


def test_a_program_in_the_background_keeps_running_and_may_print(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    result = run(
        f"(while ! [ -e {flag} ]; do sleep 0.05; done; head -c 1000000 /dev/zero; "
        f"echo done >{flag}) &"
    )
    assert result.stopped is None
    flag.touch()
    deadline = time.monotonic() + 20
    while not flag.read_text(encoding="utf-8") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert flag.read_text(encoding="utf-8") == "done\n"


def test_a_command_with_a_secret_shows_only_its_own_words(run: Run) -> None:
    """The reported command is the line as it is written, without the values of variables."""
    result = run("PASSWORD=5ec4e7\nexit $(test $PASSWORD)")
    assert "5ec4e7" not in str(result.stopped)
