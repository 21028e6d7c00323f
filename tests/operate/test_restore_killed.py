"""The hub's host goes down during a restore: afterwards, the old or the new database is whole.

tests/playbooks/test_interrupted_operations.py does it before every change, without a cluster.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import faults
from canary_account import PROGRAM
from cluster import PREFIX
from faults import run
from gridhub.maintenance.operation import Step
from hub_client import wait_for
from life import STATE, is_unfinished, query, token_of, user_of
from playbooks import output, playbook
from sessions import Person, Session

JOURNAL = f"{STATE}/operation.json"


def kill_in_restore(name: str, step: Step) -> None:
    """Begin a restore, and kill the hub's container when the restore is at this step."""
    before = faults.main_process("hub")
    journal = Path(f"/proc/{before}/root{JOURNAL}")

    def is_there() -> bool:
        try:
            return bool(json.loads(journal.read_bytes())["step"] == step)
        except FileNotFoundError:
            return False

    process = subprocess.Popen(
        ["podman", "exec", f"{PREFIX}-hub", *PROGRAM.split(), "restore", name, "adopt"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(f"the restore is {step}", is_there, 90, pause=0.002)
    os.kill(int(before), signal.SIGKILL)
    process.wait(60)
    wait_for("the host boots", lambda: faults.main_process("hub") not in ("0", before), 90)
    wait_for("its units are up", lambda: not faults.down("hub"), 90)
    faults.wait_for_the_hub()


# At the step `undoing`, a restore has failed before.
@pytest.mark.parametrize("step", [step for step in Step if step is not Step.UNDOING])
def test_a_host_that_goes_down_in_a_restore_has_a_whole_service_again(
    step: Step, alice: Session, bob: Person
) -> None:
    old = token_of(alice.person)
    name = Path(json.loads(run("hub", f"{PROGRAM} backup test"))["path"]).name
    newer = token_of(bob)  # it is not in the backup
    kill_in_restore(name, step)

    assert query("PRAGMA integrity_check") == "ok" and user_of(old) == "alice"
    is_restored = user_of(newer) == ""
    # What is not finished is restored, and says how to go on; everything else is as before.
    assert is_restored == is_unfinished() == (step in (Step.CHANGED, Step.ANSWERING))
    problems = json.loads(run("hub", f"{PROGRAM} status"))["problems"]
    named = [each for each in problems if "Run playbooks/restore.yml" in each]
    assert len(named) == is_restored, problems
    alice.assert_alive()

    done = playbook("restore.yml", restore_from=name)
    assert done.returncode == 0, output(done)
    assert (user_of(old), user_of(newer)) == ("alice", "") and not is_unfinished()
