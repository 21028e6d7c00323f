"""``playbooks/patch_workers.yml``, with a fake Grid Engine and connections that break."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from folders import ROOT

#: Fake commands, with their state in FOLDER: a file for each disabled queue and each worker's jobs.
#: ``broken/HOST`` names the command after which HOST's own administrative host is lost: for good,
#: or for this one call if it says ``once``. ``daemon/HOST`` is the state of its execution daemon
#: since the reboot; the qmaster still has the load from before.
COMMANDS = {
    "qselect": '[ "$3" != -qs ] || [ -e disabled/all.q@$host ] || exit 1\necho all.q@$host',
    "qmod": "case $1 in\n"
    "-d) grep -qx $2 notes/$host/disabled-queues || echo $2 >> unnoted\n"
    "touch disabled/$2; ls disabled | wc -l >> most ;;\n"
    "-e) [ ! -e stuck/$host ] || exit 1; rm -f disabled/$2 ;;\n"
    "esac",
    "qstat": "[ ! -e jobs/$host ] || cat jobs/$host",
    "getent": "echo sge-execd 537/tcp sge_execd",
    "qping": '[ "$3" = 537 ] || exit 1\n'
    "case $(cat daemon/$host 2>/dev/null) in\n"
    "gone) echo endpoint $host/execd/1: cannot find connection; exit 1 ;;\n"
    "refused) echo 'info:                     OK' ;;\n"
    "begins) echo 'info:                     OK'; rm daemon/$host ;;\n"
    "*) echo 'info:                     sge_execd_process_messages: R (0.54) | OK' ;;\n"
    "esac",
    "qhost": "echo HOSTNAME ARCH NCPU NSOC NCOR NTHR LOAD; echo $host lx 2 1 2 2 0.1",
}
COMMAND = """#!/bin/sh
cd FOLDER
for last; do :; done
case "$1$3" in *-qs|-info*) last=$2 ;; esac
host=${last##*@}
echo "NAME $*" >> log
if grep -qx "NAME $1" broken/$host 2>/dev/null; then cp broken/$host lost/admin-$host; fi
"""
SSH = """#!/bin/sh
for last; do host=$command; command=$last; done
[ ! -e FOLDER/lost/$host ] || exit 255
sh -c "$command"
status=$?
if grep -qx once FOLDER/lost/$host 2>/dev/null; then rm FOLDER/lost/$host; exit 255; fi
[ ! -e FOLDER/lost/$host ] || exit 255
exit $status
"""
#: A replacement for the tasks of the role that the playbook calls.
ROLE_NOW = [
    {"name": "Say what would be done", "debug": {"msg": "the plan of {{ inventory_hostname }}"}},
    {
        "name": "Maintain, as the test says",
        "command": {
            "argv": [
                "sh",
                "-c",
                "cd FOLDER; echo maintain $0 >> log;"
                ' case $1 in fails) exit 1 ;; "is lost") touch lost/$0 ;;'
                ' "breaks its daemon") echo gone > daemon/$0; exit 1 ;; esac',
                "{{ inventory_hostname }}",
                "{{ becomes | default('well') }}",
            ]
        },
        "register": "done",
        "when": "not ansible_check_mode",
    },
    {
        "name": "Say what became of it",
        "assert": {"that": "done.rc | default(1) == 0"},
        "when": "not ansible_check_mode",
    },
]


class Site:
    """Workers, each with its own administrative host, and a record of what was done with them."""

    def __init__(self, folder: Path, workers: dict[str, dict[str, object]]) -> None:
        self.folder, self.workers = folder, workers
        #: The whole output of the last run.
        self.shown = ""
        for name in ("bin", "disabled", "jobs", "lost", "stuck", "broken", "daemon"):
            (folder / name).mkdir()
        for name in workers:
            (folder / "notes" / name).mkdir(parents=True)
            held = "held until 2126-01-31: exams" if name == "held" else ""
            (folder / "notes" / name / "program.py").write_text(
                f"print({json.dumps({'held': held})!r})\n", encoding="utf-8"
            )
        for name, script in COMMANDS.items():
            self._program(f"bin/{name}", COMMAND.replace("NAME", name) + script)
        self._program("ssh", SSH)
        for name, tasks in {"main": [], "now": ROLE_NOW}.items():
            file = folder / f"roles/maintenance/tasks/{name}.yml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(tasks).replace("FOLDER", str(folder)), encoding="utf-8")
        (folder / "roles/patch").symlink_to(ROOT / "roles/patch")

    def _program(self, name: str, text: str) -> None:
        file = self.folder / name
        file.write_text(text.replace("FOLDER", str(self.folder)), encoding="utf-8")
        file.chmod(0o755)

    def patch(self, *arguments: str, **variables: object) -> str:
        """Run the playbook; return the output of its final report."""
        everybody = {
            "ansible_connection": "ssh",
            "ansible_ssh_executable": str(self.folder / "ssh"),
            "ansible_python_interpreter": sys.executable,
            "sge_common_bin_dir": str(self.folder / "bin"),
            "patch_pause": 0.1,
            "patch_drain_minutes": 0,
            "patch_program": f"{self.folder}/notes/{{{{ inventory_hostname }}}}/program.py",
            "patch_note_folder": f"{self.folder}/notes/{{{{ inventory_hostname }}}}",
        }
        hosts = {
            name: {"patch_admin_host": f"admin-{name}", **values}
            for name, values in self.workers.items()
        }
        admins: dict[str, dict[str, object]] = {f"admin-{name}": {} for name in self.workers}
        groups = {"sge_exec": {"hosts": hosts}, "hub": {"hosts": admins}}
        inventory = {"all": {"vars": everybody, "children": groups}}
        (self.folder / "hosts.yml").write_text(json.dumps(inventory), encoding="utf-8")
        done = subprocess.run(
            [
                Path(sys.executable).with_name("ansible-playbook"),
                *("--inventory", self.folder / "hosts.yml", ROOT / "playbooks/patch_workers.yml"),
                *("--extra-vars", json.dumps(variables), *arguments),
            ],
            cwd=self.folder,
            env=os.environ
            | {
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",  # getent is found in PATH
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(self.folder / "roles"),
                "ANSIBLE_GATHERING": "explicit",  # the role's replacement needs no facts
                "ANSIBLE_NOCOLOR": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr)
        self.shown = " ".join(done.stdout.split())
        return done.stdout.partition("PLAY [Report the workers")[2]

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text(encoding="utf-8").splitlines()

    @property
    def maintained(self) -> set[str]:
        return {line.split()[1] for line in self.log if line.startswith("maintain")}

    @property
    def disabled(self) -> set[str]:
        return {path.name for path in (self.folder / "disabled").iterdir()}

    @property
    def noted(self) -> set[str]:
        return {path.parent.name for path in self.folder.glob("notes/*/disabled-queues")}


def reported(worker: str, shown: str) -> str:
    """Return what the report says about a worker; empty means no trouble."""
    flat = " ".join(shown.split())
    found = re.search(
        rf"\[{worker}\]: FAILED! => .*?msg: (.*?)(?= fatal:| ok:| \[ERROR\]:| PLAY RECAP)", flat
    )
    return found[1] if found else ""


#: The command at which Grid Engine is lost for good, whether the worker is maintained before that,
#: and whether its queue stays disabled.
LOST = {
    "list": ("qselect -q", False, False),
    "disable": ("qmod -d", False, True),
    "wait": ("qstat -g", False, True),
    "back": ("qhost -h", True, True),
    "enable": ("qmod -e", True, False),
}

#: The execution daemon after the reboot: away, not accepted by the qmaster, or not accepted yet.
DAEMONS = ("gone", "refused", "begins")

UNKNOWN = "; whether its queues are enabled is not known, Grid Engine does not answer on admin-"
#: The report on each of these workers.
STATES = {
    "list": "list was not maintained. Check that Grid Engine answers: Grid Engine does not",
    "disable": f"disable was not maintained{UNKNOWN}disable",
    "wait": f"wait was not maintained{UNKNOWN}wait",
    "back": f"back was not maintained{UNKNOWN}back",
    "enable": f"enable{UNKNOWN}enable",
}


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, str]:
    """A dozen workers at once, each with its own trouble."""
    workers: dict[str, dict[str, object]] = {
        "well": {},
        "busy": {},
        "away": {},
        "late": {"patch_window_minutes": 0},
        "stuck": {},
        "fails": {"becomes": "fails"},
        "held": {},
        "kept": {},
        "left": {},
        "flickers": {},
        **{name: {} for name in DAEMONS},
        **{name: {} for name in LOST},
    }
    site = Site(tmp_path_factory.mktemp("site"), workers)
    (site.folder / "jobs/busy").write_text("42 of alice\n", encoding="utf-8")
    (site.folder / "lost/away").touch()
    (site.folder / "stuck/stuck").touch()
    (site.folder / "disabled/all.q@kept").touch()
    (site.folder / "disabled/all.q@left").touch()
    (site.folder / "notes/left/disabled-queues").write_text("all.q@left\n", encoding="utf-8")
    for name in DAEMONS:
        (site.folder / "daemon" / name).write_text(name, encoding="utf-8")
    (site.folder / "broken/flickers").write_text("qmod -d\nonce\n", encoding="utf-8")
    for name, (command, _, _) in LOST.items():
        (site.folder / "broken" / name).write_text(f"{command}\n", encoding="utf-8")
    return site, site.patch(patch_at_once="100%")


def test_a_worker_without_jobs_is_maintained_and_takes_jobs_again(
    trouble: tuple[Site, str],
) -> None:
    site, shown = trouble
    assert {"well", "kept", "begins"} <= site.maintained
    assert not {"all.q@well", "all.q@busy", "all.q@fails", "all.q@flickers"} & site.disabled
    assert reported("well", shown) == reported("kept", shown) == reported("begins", shown) == ""
    assert "all.q@kept" in site.disabled  # by an administrator
    # This one was disabled by a run of the playbook that was interrupted.
    assert "left" in site.maintained and "all.q@left" not in site.disabled
    # Only queues that stay disabled are still noted; each was noted before it was disabled.
    assert site.noted == {"stuck", "disable", "wait", "back", "enable", "gone", "refused"}
    assert not (site.folder / "unnoted").exists()
    # A worker is also kept by tasks of a parallel job that began elsewhere.
    assert all("-g t" in line for line in site.log if line.startswith("qstat"))


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        ("busy", "busy was not maintained; its queues are enabled again. Check that the last job"),
        ("busy", "42 of alice"),
        (
            "away",
            "away was not maintained. Check that the worker can be reached: away cannot be reached",
        ),
        (
            "held",
            "held was not maintained. Check that the maintenance is not held: "
            "held until 2126-01-31: exams",
        ),
        # Its queue was disabled, but the answer was lost.
        ("flickers", "flickers was not maintained; its queues are enabled again. Check that no"),
        ("late", "late was not maintained. Check that there is time left: the 0 minutes"),
    ],
)
def test_a_worker_that_must_not_be_maintained_is_skipped_and_reported_with_the_reason(
    trouble: tuple[Site, str], worker: str, words: str
) -> None:
    site, shown = trouble
    assert worker not in site.maintained
    assert words in reported(worker, shown)


def test_the_trouble_of_each_worker_is_reported(trouble: tuple[Site, str]) -> None:
    site, shown = trouble
    assert "fails was not maintained; its queues are enabled again" in reported("fails", shown)
    assert "stuck; still disabled: all.q@stuck (qmod -e)" in reported("stuck", shown)
    assert "all.q@stuck" in site.disabled


@pytest.mark.parametrize("worker", LOST)
def test_a_lost_grid_engine_is_reported_and_no_worker_goes_down_without_its_answer(
    trouble: tuple[Site, str], worker: str
) -> None:
    site, shown = trouble
    _, maintained, disabled = LOST[worker]
    assert (worker in site.maintained) is maintained
    assert (f"all.q@{worker}" in site.disabled) is disabled
    assert STATES[worker] in reported(worker, shown)


@pytest.mark.parametrize(
    ("worker", "words"), [("gone", "cannot find connection"), ("refused", "info: OK")]
)
def test_a_worker_whose_execution_daemon_is_not_back_is_lost_despite_an_old_load(
    trouble: tuple[Site, str], worker: str, words: str
) -> None:
    site, shown = trouble
    assert worker in site.maintained and worker in site.noted
    assert f"{worker} was not maintained; its queues are enabled again" in reported(worker, shown)
    assert words in reported(worker, shown)


def test_workers_are_patched_in_batches_of_the_requested_size(
    tmp_path: Path,
) -> None:
    workers: dict[str, dict[str, object]] = {f"w{number}": {} for number in range(1, 4)}
    site = Site(tmp_path, workers)
    shown = site.patch(patch_at_once=2)
    assert site.maintained == set(workers) and not site.disabled and not site.noted
    assert [reported(worker, shown) for worker in workers] == [""] * 3
    most = (tmp_path / "most").read_text(encoding="utf-8").split()
    assert sorted(map(int, most)) == [1, 1, 2]
    order = [line.split() for line in site.log if line.startswith(("qmod -e", "qmod -d"))]
    turns = [sorted({line[2] for line in order[begin : begin + 4]}) for begin in (0, 4)]
    assert turns == [["all.q@w1", "all.q@w2"], ["all.q@w3"]]


def test_check_shows_the_plan_for_each_worker_and_changes_nothing(tmp_path: Path) -> None:
    workers: dict[str, dict[str, object]] = {
        name: {} for name in ("free", "busy", "kept", "left", "away", "deaf")
    }
    site = Site(tmp_path, workers)
    (tmp_path / "jobs/busy").write_text("42 of alice\n", encoding="utf-8")
    for name in ("kept", "left"):
        (tmp_path / f"disabled/all.q@{name}").touch()
    (tmp_path / "notes/left/disabled-queues").write_text("all.q@left\n", encoding="utf-8")
    (tmp_path / "lost/away").touch()
    (tmp_path / "lost/admin-deaf").touch()
    shown = site.patch("--check", patch_at_once=2, patch_drain_minutes=30)

    assert {line.split()[0] for line in site.log} == {"qselect", "qstat"}
    assert site.disabled == {"all.q@kept", "all.q@left"} and site.noted == {"left"}
    for words in (
        "free: together with busy (patch_at_once: 2)",
        "kept: together with left (patch_at_once: 2)",
        "takes no new jobs meanwhile: all.q@free",
        "takes no new jobs meanwhile: all.q@left",
        "takes no new jobs meanwhile: no queue' - 'disabled before, and stays so: all.q@kept'",
        "jobs to wait for, up to 30 minutes: none",
        "jobs to wait for, up to 30 minutes: ' - 42 of alice",
        "then: updates, a reboot (always)",
        "the plan of busy",
    ):
        assert words in site.shown, words
    assert "the plan of away" not in site.shown
    assert reported("busy", shown) == reported("left", shown) == ""
    away = (
        "away would not be maintained. Check that the worker can be reached: away cannot be reached"
    )
    assert away in reported("away", shown)
    assert "deaf would not be maintained. Check that Grid Engine answers" in reported("deaf", shown)


@pytest.mark.parametrize("becomes", ["is lost", "breaks its daemon"])
def test_no_more_than_the_share_is_disabled_and_no_worker_after_a_lost_one(
    becomes: str, tmp_path: Path
) -> None:
    workers: dict[str, dict[str, object]] = {f"w{number}": {} for number in range(1, 4)}
    workers["w1"]["becomes"] = becomes
    site = Site(tmp_path, workers)
    shown = site.patch(patch_at_once="67%")
    assert site.maintained == {"w1", "w2"}
    most = (tmp_path / "most").read_text(encoding="utf-8").split()
    assert max(map(int, most)) == 2 and not site.disabled
    assert "w1 was not maintained" in reported("w1", shown)
    assert reported("w2", shown) == ""
    assert "w1 did not come back into service, so it was not begun" in reported("w3", shown)


def test_a_worker_is_drained_until_its_last_job_or_the_window_ends(tmp_path: Path) -> None:
    workers: dict[str, dict[str, object]] = {
        "ends": {"patch_drain_minutes": 5},
        "lasts": {"patch_drain_minutes": 60, "patch_window_minutes": 0.5},
    }
    site = Site(tmp_path, workers)
    for name in workers:
        (tmp_path / "jobs" / name).write_text(f"42 of alice on {name}\n", encoding="utf-8")
    third = "[ $(grep -c '^qstat .*@ends$' log) -lt 3 ] || rm -f jobs/ends\n"
    site._program("bin/qstat", COMMAND.replace("NAME", "qstat") + third + COMMANDS["qstat"])
    began = time.monotonic()
    shown = site.patch(patch_at_once=2)
    # Half a minute, and Ansible's time for the rest: far less than the hour of a drain.
    assert time.monotonic() - began < 900

    looks = [line.split()[-1] for line in site.log if line.startswith(("qstat", "maintain"))]
    assert [each for each in looks if "lasts" not in each] == [*["*@ends"] * 3, "ends"]
    assert site.maintained == {"ends"} and not site.disabled and not site.noted
    assert reported("ends", shown) == ""
    assert looks.count("*@lasts") > 1
    assert "lasts was not maintained; its queues are enabled again" in reported("lasts", shown)
    assert "42 of alice on lasts" in reported("lasts", shown)
