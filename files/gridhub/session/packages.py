# SPDX-License-Identifier: BSD-3-Clause
"""A place in the home for the packages that a person installs with pip for the site's kernel.

The place is a virtual environment (venv of the standard library) whose Python also finds the
packages of the notebook environment. The site's kernel runs with this Python: what pip installs is
importable at once, and a package there comes before the notebook environment's package of the same
name. The session's server never uses this environment, so nothing in it can break the server.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import venv
from pathlib import Path

#: The environment's folder in the home, with the version of Python: packages of one version do not
#: work with another.
PLACE = Path(".local/share/jupyterhub") / f"python{sys.version_info[0]}.{sys.version_info[1]}"

#: The variable by which the environment's Python finds the packages of the session's release.
SITE_PACKAGES = "GRIDHUB_SITE_PACKAGES"

#: The lines that Python runs when it starts (site.addsitedir). The first makes it find these
#: packages; outside a session, the variable is not set. The second lets pip ignore ``--user`` and
#: the setting ``user = true``: in a virtual environment, pip would fail.
_PTH = (
    f"import os, site; p = os.environ.get({SITE_PACKAGES!r}); p and site.addsitedir(p)\n"
    "import os, sys; 'install' in sys.argv and (sys.orig_argv[1:3] == ['-m', 'pip'] or"
    " os.path.basename(''.join(sys.orig_argv[1:2])).rstrip('0123456789.') == 'pip') and"
    " (os.environ.update(PIP_USER='0'),"
    " sys.argv.__setitem__(slice(None), filter('--user'.__ne__, sys.argv)))\n"
)

#: The program for terminals, under its usual names. In packages for another Python, pip might find
#: what it should install, or fail.
_PIP = '#!/bin/sh\nunset PYTHONPATH PYTHONHOME\nexec "$(dirname "$0")/python" -m pip "$@"\n'


def _write(path: Path, content: str, mode: int) -> None:
    """Write a file; a reader never sees a part of the content."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(content, encoding="utf-8")
        new.chmod(mode)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def person_packages(home: Path) -> Path:
    """Make the environment if it does not exist; return its folder.

    :raises OSError: if the home does not allow it, for example because it is full.
    """
    place = home / PLACE
    programs = place / "bin"
    base = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", base)) / "gridhub.pth"
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    python = programs / "python"
    parts = (packages, place / "pyvenv.cfg")
    if not all(part.exists() for part in parts) or python.resolve() != interpreter:
        for link in programs.glob("python*"):
            link.unlink()
        venv.EnvBuilder(symlinks=True, with_pip=False).create(place)
    for name in ("pip", "pip3"):
        if not (programs / name).exists():  # pip may have replaced it with its own
            _write(programs / name, _PIP, 0o755)
    if not packages.exists():
        _write(packages, _PTH, 0o644)
    elif packages.read_text(encoding="utf-8") != _PTH:
        # In a full home, the lines of an earlier release must do.
        with contextlib.suppress(OSError):
            _write(packages, _PTH, 0o644)
    return place


def site_packages() -> str:
    """Return the folder with the packages of the notebook environment."""
    return sysconfig.get_path("purelib")
