"""Backups and restores of a hub whose sessions compute."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import faults
from bench import limits
from canary_account import PROGRAM
from cluster import PREFIX, ROOT
from crowd import NAMES, Crowd, look
from faults import run
from gridhub.maintenance import archive
from hub_client import wait_for
from life import BACKUPS, backups, is_unfinished, query, token_of, user_of
from playbooks import output, playbook
from sessions import Person, Session


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    """A backup of now on this machine."""
    done = playbook("backup.yml", "--limit", "hub", backup_fetch_to=str(tmp_path))
    assert done.returncode == 0, output(done)
    [path] = tmp_path.glob("hub-*.tar")
    return path


def restore(path: Path | str, *arguments: str, **variables: object) -> str:
    done = playbook("restore.yml", *arguments, restore_from=str(path), **variables)
    assert done.returncode == 0, output(done)
    return output(done)


def test_a_backup_has_everything_and_only_root_can_read_it(
    alice: Session, fetched: Path, tmp_path: Path
) -> None:
    (folder := tmp_path / "members").mkdir()
    manifest = archive.check(fetched, folder)
    assert manifest["database"]["users"] >= 1 and manifest["versions"]["jupyterhub"]
    names = subprocess.run(
        ["tar", "-tzf", folder / archive.FILES], capture_output=True, text=True, check=True
    ).stdout
    for name in (
        "cookie_secret",
        "secrets/proxy_auth_token",
        "notebooks-ca.key",
        "jupyterhub_config.py",
    ):
        assert name in names
    assert fetched.stat().st_mode & 0o777 == 0o600
    assert run("hub", f"stat -c %a {BACKUPS} {BACKUPS}/{backups()[-1]}").split() == ["700", "600"]


def test_check_mode_makes_no_backup(alice: Session) -> None:
    before = backups()
    done = playbook("backup.yml", "--check", "--diff", backup_fetch_to="/nowhere")
    assert done.returncode == 0 and not re.search(r"changed=[1-9]", output(done)), output(done)
    assert backups() == before


def test_the_timers_unit_makes_the_same_backup_and_keeps_the_wanted_number(alice: Session) -> None:
    assert run("hub", "systemctl is-active jupyterhub-backup.timer") == "active"
    before = backups()
    settings = "/etc/gridhub/maintenance.json"
    run("hub", f"cp -a {settings} {settings}.whole")
    try:
        run("hub", f'sed -i \'s/"backup_keep": [0-9]*/"backup_keep": 2/\' {settings}')
        for _ in range(3):
            run("hub", "systemctl start jupyterhub-backup.service")
    finally:
        run("hub", f"mv {settings}.whole {settings}")
    assert len(backups()) == 2 and not set(before) & set(backups())


def test_on_a_full_disk_a_backup_leaves_nothing_and_the_old_ones_stay(alice: Session) -> None:
    def fill(spare: int) -> None:
        """Fill the disk, then free this many bytes."""
        run("hub", f"cd {BACKUPS}; rm -f ballast; dd if=/dev/zero of=ballast bs=4k 2>/dev/null; :")
        run("hub", f"cd {BACKUPS}; truncate -s -{spare} ballast")

    settings = "/etc/gridhub/maintenance.json"
    with faults.mounted(["hub"], BACKUPS, "-t", "tmpfs", "-o", "size=32m,mode=0700", "small"):
        run("hub", f"cp -a {settings} {settings}.whole")
        try:
            # A success would delete the first backup.
            run("hub", f'sed -i \'s/"backup_keep": [0-9]*/"backup_keep": 1/\' {settings}')
            run("hub", "systemctl start jupyterhub-backup.service")
            [kept] = backups()
            digest = run("hub", f"sha256sum {BACKUPS}/{kept}")
            size = int(run("hub", f"stat -c %s {BACKUPS}/{kept}"))
            database = int(query("SELECT page_count * page_size FROM pragma_page_count, "
                                 "pragma_page_size"))  # fmt: skip
            # There is no room for the database, the files, or both in one file.
            for spare in (0, database + 8192, size + size // 2):
                fill(spare)
                done = playbook("backup.yml", "--limit", "hub")
                assert done.returncode != 0, (spare, output(done))
                for words in ("the earlier ones in", BACKUPS, "No space left on device"):
                    assert words in output(done), output(done)
                assert "Traceback" not in output(done), output(done)
                assert sorted(run("hub", f"ls -A {BACKUPS}").split()) == [kept, "ballast"]
                assert run("hub", f"sha256sum {BACKUPS}/{kept}") == digest
            assert faults.host("hub").run("systemctl start jupyterhub-backup.service").rc != 0
            shown = output(playbook("status.yml"))
            assert "the last backup has failed" in shown, shown
            run("hub", f"rm {BACKUPS}/ballast; systemctl start jupyterhub-backup.service")
            assert len(backups()) == 1 and backups() != [kept]
        finally:
            run("hub", f"mv {settings}.whole {settings}")


def test_a_session_newer_than_the_backup_is_listed_and_taken_over(
    alice: Session, bob: Person, fetched: Path
) -> None:
    old = token_of(alice.person)
    newer = Session(bob).start()
    new = token_of(bob)
    process = run("hub", "systemctl show -P MainPID jupyterhub")

    # Check mode lists what would be, and changes nothing.
    shown = restore(fetched, "--check", "--diff")
    assert "adopted:" in shown and "user: bob" in shown
    assert run("hub", "systemctl show -P MainPID jupyterhub") == process
    assert user_of(new) == "bob"

    shown = restore(fetched)
    assert "user: bob" in shown
    newer.assert_alive()
    # Users and tokens are those of the backup.
    assert user_of(new) == "" and user_of(old) == ""
    assert not is_unfinished() and query("PRAGMA integrity_check") == "ok"
    # The session is the hub's again: its person can stop it.
    bob.stop()
    wait_for("bob's job is gone", lambda: not faults.jobs("bob"), 60)


def test_a_session_that_is_left_goes_on_without_the_hub(
    alice: Session, bob: Person, fetched: Path
) -> None:
    Session(bob).start()
    [job] = faults.jobs("bob")
    restore(fetched, restore_newer_sessions="leave")
    assert bob.has_none()
    # The hub looks for strays when it starts. Let it look again, as after ten minutes.
    with faults.hub_restarted():
        pass
    Session(alice.person)
    alice.assert_alive()
    faults.hold(20)
    assert [each.id for each in faults.jobs("bob")] == [job.id]
    assert "deleting it" not in run("hub", "journalctl -u jupyterhub --since -2min -o cat")
    faults.delete(job)


@pytest.mark.parametrize("fault", ["damaged", "cut off", "no backup", "missing"])
def test_a_backup_that_is_not_whole_is_refused_before_anything_is_changed(
    fault: str, alice: Session, fetched: Path
) -> None:
    content = bytearray(fetched.read_bytes())
    if fault == "damaged":
        content[len(content) // 2] ^= 1
    elif fault == "cut off":
        content = content[: len(content) // 2]
    elif fault == "no backup":
        content = bytearray(b"words")
    wrong = fetched.with_name("2026-01-01T000000.tar")
    wrong.write_bytes(content)
    process = run("hub", "systemctl show -P MainPID jupyterhub")
    name = "2020-01-01T000000.tar" if fault == "missing" else str(wrong)
    done = playbook("restore.yml", restore_from=name)
    assert done.returncode != 0 and "Nothing was changed" in output(done), output(done)
    assert run("hub", "systemctl show -P MainPID jupyterhub") == process
    run("hub", f"rm -f {BACKUPS}/{wrong.name}")


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path_factory.mktemp("crowd"))
    crowd.make()
    yield crowd
    crowd.remove()


def test_backups_while_a_thousand_people_log_in_have_everybody_whole(
    alice: Session, crowd: Crowd
) -> None:
    def back_up() -> set[str]:
        """Make a backup and look into it; return the people in it."""
        before = crowd.logged_in()
        made = json.loads(run("hub", f"{PROGRAM} backup test"))
        found = look(made["path"])
        assert found["check"] == [["ok"]] and found["foreign"] == []
        people = {name for name in found["names"] if name in NAMES}
        assert before <= people and people <= set(found["whole"])
        return people

    counts = []
    # nginx would let in only a class at a time from one address.
    with limits.lifted(), crowd.logging_in():
        while not crowd.are_all_in():
            counts.append(len(back_up()))
    assert crowd.logged_in() == set(NAMES) == back_up()
    # Some backups were made in the middle of it.
    assert len([count for count in counts if 0 < count < len(NAMES)]) > 2, counts


@pytest.fixture
def empty_host(alice: Session) -> None:
    """A new container in place of the hub's, with the same name and address."""
    subprocess.run(["podman", "rm", "-f", f"{PREFIX}-hub"], check=True, capture_output=True)
    subprocess.run(
        ["ansible-playbook", "-i", "inventories/demo", "molecule/shared/create.yml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    # The tests' connections know the old container.
    faults.host.cache_clear()


def test_a_new_host_gets_users_tokens_and_running_sessions_back(
    alice: Session, crowd: Crowd, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    everybody = "SELECT group_concat(name || cookie_id) FROM (SELECT * FROM users ORDER BY id)"
    token = token_of(alice.person)
    users = query(everybody)
    done = playbook("backup.yml", "--limit", "hub", backup_fetch_to=str(tmp_path))
    assert done.returncode == 0, output(done)
    [path] = tmp_path.glob("hub-*.tar")
    request.getfixturevalue("empty_host")
    shown = restore(path)
    assert query("PRAGMA integrity_check") == "ok" and query(everybody) == users
    assert "resumed" in shown
    alice.assert_alive()
    assert user_of(token) == "alice" and not is_unfinished()
    again = playbook("site.yml")
    assert again.returncode == 0 and "changed=0" in output(again), output(again)


@pytest.fixture
def key(alice: Session, tmp_path: Path) -> Iterator[Path]:
    """Let backups be encrypted; return the file with the private key, which is not on the host."""
    run("hub", "apt-get -qq install -y age")
    made = run("hub", "age-keygen 2>/dev/null")
    (path := tmp_path / "key").write_text(made + "\n")
    public = made.partition("public key: ")[2].split()[0]
    only = ("--limit", "hub", "--tags", "maintenance")
    done = playbook("site.yml", *only, maintenance_backup_recipients=[public])
    assert done.returncode == 0, output(done)
    yield path
    done = playbook("site.yml", *only)
    assert done.returncode == 0, output(done)


def test_an_encrypted_backup_is_restored_only_with_the_private_key(
    alice: Session, key: Path, tmp_path: Path
) -> None:
    token = token_of(alice.person)
    done = playbook("backup.yml", "--limit", "hub", backup_fetch_to=str(tmp_path))
    assert done.returncode == 0, output(done)
    [path] = tmp_path.glob("hub-*.tar.age")
    content = path.read_bytes()
    assert content.startswith(b"age-encryption.org/v1") and b"alice" not in content

    done = playbook("restore.yml", restore_from=str(path))
    assert done.returncode != 0 and "restore_identity_file" in output(done), output(done)

    later = token_of(alice.person)
    done = playbook("restore.yml", restore_from=str(path), restore_identity_file=str(key))
    assert done.returncode == 0, output(done)
    secret = key.read_text().split()[-1]
    assert secret not in output(done)
    assert (user_of(token), user_of(later)) == ("alice", "")
    # Neither the key nor what was decrypted is left on the host.
    places = "/etc /var/lib/gridhub-maintenance /var/backups /tmp /var/lib/jupyterhub /var/log"
    assert faults.host("hub").run(f"grep -rl -e {secret[:40]} {places}").stdout == ""
    assert "restore" not in run("hub", "ls /var/lib/gridhub-maintenance").split()
