"""Lock a site's own notebook packages, and check such a lock file.

``notebook_lock.py lock INVENTORY UV`` adds the packages that ``INVENTORY/notebook.in`` names to
GridHub's own notebook environment and writes ``INVENTORY/notebook.txt``, with hashes. GridHub's own
packages keep their versions. UV is the program uv; ``make lock INVENTORY=...`` installs and passes
it.

``notebook_lock.py check FILE`` checks a lock file before it is deployed: it must be up to date, and
have GridHub's own packages in GridHub's versions, and a hash for each package. The exit status is 1
for a mistake, which standard error then explains.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: GridHub's own notebook environment.
OWN_IN = ROOT / "roles/sge_exec/files/requirements.in"
OWN_LOCK = ROOT / "roles/sge_exec/files/requirements.txt"

NAMES, LOCK = "notebook.in", "notebook.txt"
#: The lines of a lock file with the hashes of the files from which it was made.
STAMP = "# Made by `make lock` from {name} {names}, and GridHub's {own}."
STAMPED = re.compile(STAMP.format(name=NAMES, names="([0-9a-f]{16})", own="([0-9a-f]{16})"))
REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?(?:==([^ ;\\]+))?", re.M)


class LockError(ValueError):
    """A list of packages or a lock file that cannot be used; the message says what to change."""


def normal(name: str) -> str:
    """Return a package's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: str) -> dict[str, set[str]]:
    """Return the versions of each package in a lock file; there may be one for each Python."""
    found: dict[str, set[str]] = {}
    for name, version in REQUIREMENT.findall(lock):
        if version:
            found.setdefault(normal(name), set()).add(version)
    return found


def own_names() -> set[str]:
    """Return the packages that GridHub's sessions need."""
    lines = OWN_IN.read_text(encoding="utf-8").splitlines()
    return {normal(match[1]) for line in lines if (match := REQUIREMENT.match(line))}


def stamp(names: Path) -> str:
    """Return the line that states from which files a lock file is made."""

    def short(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    return STAMP.format(name=NAMES, names=short(names), own=short(OWN_LOCK))


def command(folder: Path) -> str:
    """Return the command that writes the lock file of an inventory."""
    return f"make lock INVENTORY={folder}"


def read_names(path: Path) -> None:
    """Check a site's list of packages.

    :raises LockError: naming the line that is wrong.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise LockError(
            f"There is no {path}: write the names of your packages to it, one a line, such as "
            "bqplot or jupyterlab-git."
        ) from error
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text and (not REQUIREMENT.match(text) or "://" in text or " @ " in text):
            raise LockError(
                f"{path}, line {number}: '{text}' is not a package of the index. Write a name, and "
                "a version where you need one, such as bqplot or bqplot==0.12.45. For another "
                "index, set UV_DEFAULT_INDEX while you lock and PIP_INDEX_URL in "
                "sge_exec_environment."
            )


def lock(folder: Path, uv: str) -> Path:
    """Write the lock file of an inventory; return its path.

    :raises LockError: when the list is wrong, or a package cannot be resolved.
    """
    if not folder.is_dir():
        raise LockError(
            f"INVENTORY is '{folder}'; it must be the folder of your inventory, such as "
            "inventories/demo."
        )
    names = folder / NAMES
    read_names(names)
    with tempfile.TemporaryDirectory() as work:
        made = Path(work) / LOCK
        python = ("--quiet", "--universal", "--python-version", "3.11")
        output = ("--generate-hashes", "--no-header", "--no-annotate", "--output-file", str(made))
        limits = ("--only-binary", ":all:", "--constraint", str(OWN_LOCK))
        run = subprocess.run(
            [uv, "pip", "compile", *python, *output, *limits, str(OWN_IN), str(names)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            # Its hints are about the project of a programmer.
            reason = run.stderr.partition("\nhint:")[0].strip()
            raise LockError(
                f"The packages in {names} cannot be locked:\n\n{reason}\n\n"
                f"Correct the name or the version in {names}. GridHub's own packages keep their "
                f"versions ({OWN_LOCK.relative_to(ROOT)}), so a package that needs other ones "
                "cannot be added; neither can a package without wheels."
            )
        text = made.read_text(encoding="utf-8")
    path = folder / LOCK
    path.write_text(f"{stamp(names)}\n{text}", encoding="utf-8")
    return path


def check(path: Path) -> None:
    """Check a lock file of a notebook environment.

    :raises LockError: when it is missing or out of date, or lacks a package or a hash.
    """
    again = command(path.parent)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LockError(
            f"sge_exec_requirements: {error.strerror}: {path}. `{again}` writes it."
        ) from error
    made = STAMPED.match(text)
    if made:
        names = path.parent / NAMES
        read_names(names)
        now = STAMPED.match(stamp(names))
        assert now
        changed = ""
        if made[1] != now[1]:
            changed = str(names)
        elif made[2] != now[2]:
            changed = f"GridHub's own {OWN_LOCK.relative_to(ROOT)}"
        if changed:
            raise LockError(
                f"{path} is out of date: {changed} has changed since it was made. Run `{again}`."
            )
    found, own = pins(text), pins(OWN_LOCK.read_text(encoding="utf-8"))
    for name in sorted(own_names()):
        if name not in found:
            raise LockError(
                f"{path} lacks {name}, without which sessions do not work. Write the names of your "
                f"packages to {path.parent / NAMES} and run `{again}`, which adds GridHub's own."
            )
        if found[name] != own[name]:
            raise LockError(
                f"{path} has {name} {' and '.join(sorted(found[name]))}; GridHub is tested with "
                f"{' and '.join(sorted(own[name]))}. Run `{again}`."
            )
    for requirement in re.split(r"\n(?=[A-Za-z0-9])", text):
        if REQUIREMENT.match(requirement) and "--hash=" not in requirement:
            raise LockError(f"{path}: {requirement.split()[0]} has no hash. Run `{again}`.")


def main(arguments: list[str]) -> int:
    """Run one of the two commands; return the exit status."""
    try:
        match arguments:
            case ["lock", folder, uv]:
                path = lock(Path(folder), uv)
                variable = f'sge_exec_requirements: "{{{{ inventory_dir }}}}/{LOCK}"'
                print(f"{path} is up to date. Set {variable} for the workers.")
            case ["check", path_name]:
                check(Path(path_name))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except LockError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
