"""A fake Grid Engine and fake connections to workers, for tests of ``patch_workers.yml``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from folders import ROOT

#: Fake commands. FOLDER holds their state: a file for each disabled queue, and a file for each
#: worker's jobs. Each worker HOST has its own administrative host. A file ``broken/HOST`` names a
#: command. Once this command has run, the connection to HOST's administrative host is lost. If the
#: file also says ``once``, only the answer to this command is lost. ``daemon/HOST`` is the state of
#: HOST's execution daemon after the reboot. Whatever this state is, qhost still shows the load from
#: before the reboot.
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
    # As a healthy daemon of Open Cluster Scheduler shows itself after ten minutes.
    "warns) echo 'info:                     sge_execd_process_messages: E (739.58) | ERROR' ;;\n"
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
#: These tasks take the place of the role that the playbook calls.
ROLE_NOW = [
    {"name": "Say what would be done", "debug": {"msg": "the plan of {{ inventory_hostname }}"}},
    {
        "name": "Maintain, as the test says",
        "command": {
            "argv": [
                "sh",
                "-c",
                "cd FOLDER; echo maintain $0 >> log;"
                " case $1 in fails) exit 1 ;;"
                " refuses) cp refused notes/$0/program.py; exit 1 ;;"
                ' "is lost") touch lost/$0 ;;'
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
    """Workers, and a log of what was done to them. Each worker has its own administrative host."""

    def __init__(self, folder: Path, workers: dict[str, dict[str, object]]) -> None:
        self.folder, self.workers = folder, workers
        #: The whole output of the last run, joined into one line.
        self.shown = ""
        for name in ("bin", "disabled", "jobs", "lost", "stuck", "broken", "daemon"):
            (folder / name).mkdir()
        for name in workers:
            (folder / "notes" / name).mkdir(parents=True)
            held = "held until 2126-01-31: exams" if name == "held" else ""
            self.maintenance_status(f"notes/{name}/program.py", held=held)
        # The maintenance has found, before it changed anything, that it cannot begin.
        self.maintenance_status("refused", last={"started": "2026-01-31", "phase": "before"})
        for name, script in COMMANDS.items():
            self.program(f"bin/{name}", COMMAND.replace("NAME", name) + script)
        self.program("ssh", SSH)
        for name, tasks in {"main": [], "now": ROLE_NOW}.items():
            file = folder / f"roles/maintenance/tasks/{name}.yml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(tasks).replace("FOLDER", str(folder)), encoding="utf-8")
        (folder / "roles/patch").symlink_to(ROOT / "roles/patch")
        # Ansible looks for roles beside the playbook first: beside this copy, there are only the
        # fake ones. The real role would change this machine.
        shutil.copy(ROOT / "playbooks/patch_workers.yml", folder)

    def maintenance_status(self, name: str, **shown: object) -> None:
        """Write a fake ``sge_maintenance.py``."""
        text = f"print({json.dumps(shown)!r})\n"
        (self.folder / name).write_text(text, encoding="utf-8")

    def program(self, name: str, text: str) -> None:
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
                *("--inventory", self.folder / "hosts.yml", self.folder / "patch_workers.yml"),
                *("--extra-vars", json.dumps(variables), *arguments),
            ],
            cwd=self.folder,
            env=os.environ
            | {
                "PATH": f"{self.folder}/bin:{os.environ['PATH']}",  # for the fake getent
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_GATHERING": "explicit",  # the tasks in ROLE_NOW need no facts
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
    """Return the failure that the report shows for a worker, or "" if the worker did not fail."""
    flat = " ".join(shown.split())
    found = re.search(
        rf"\[{worker}\]: FAILED! => .*?msg: (.*?)(?= fatal:| ok:| \[ERROR\]:| PLAY RECAP)", flat
    )
    return found[1] if found else ""
