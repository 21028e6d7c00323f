"""Cause a hundred random faults in a row while two sessions compute: both must survive.

The run ends after ``GRIDHUB_SOAK_MINUTES`` minutes (by default 60) or after ``GRIDHUB_SOAK_FAULTS``
faults (by default 100). Each run prints a seed. With this seed in ``GRIDHUB_SOAK_SEED``, a later
run causes the faults in the same order. Faults that end sessions are left out.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter

import faults
from hub_client import wait_for
from sessions import Person, Session


def check(sessions: list[Session]) -> None:
    """Check that all sessions live and that Grid Engine has no other job.

    :raises AssertionError: if a check fails; the message says which check.
    """
    faults.wait_for_the_hub()
    for session in sessions:
        session.assert_alive(90)
    mine = {session.job for session in sessions}
    wait_for(
        "there is no other job",
        lambda: {job.id for job in faults.jobs()} == mine,
        60,
    )
    assert faults.session_files() == "", "a session's file is left"


def main() -> int:
    """Cause the faults and print the result; return the exit status."""
    minutes = float(os.environ.get("GRIDHUB_SOAK_MINUTES", "60"))
    number = int(os.environ.get("GRIDHUB_SOAK_FAULTS", "100"))
    seed = int(os.environ.get("GRIDHUB_SOAK_SEED", "0")) or random.SystemRandom().randrange(
        1, 10**6
    )
    dice = random.Random(seed)
    print(f"seed {seed}", flush=True)
    sessions = [Session(Person(name)) for name in ("alice", "carol")]
    for session in sessions:
        session.person.stop()
        session.start(not_on="exec1")
    started = time.monotonic()
    done: Counter[str] = Counter()
    failed = ""
    while done.total() < number and time.monotonic() - started < minutes * 60:
        name = dice.choice(sorted(faults.HARMLESS))
        begun = time.monotonic()
        try:
            with faults.HARMLESS[name]():
                pass
            check(sessions)
        except AssertionError as error:
            failed = f"{name}: {error}"
            break
        done[name] += 1
        print(f"{done.total():4}  {name}  {time.monotonic() - begun:.0f} s", flush=True)
    lost = sum(not session.is_alive() for session in sessions)
    orphans = {job.id for job in faults.jobs()} - {session.job for session in sessions}
    if not failed:
        for session in sessions:
            session.person.stop()
        wait_for("no job is left", lambda: not faults.jobs(), 150)
    else:
        print(f"seed {seed}: {failed}", file=sys.stderr)
    print(
        f"{done.total()} faults of {len(done)} kinds"
        f" in {(time.monotonic() - started) / 60:.0f} min,"
        f" {lost} sessions lost, {len(orphans)} orphan jobs (seed {seed})"
    )
    return int(bool(failed or lost or orphans))


if __name__ == "__main__":
    sys.exit(main())
