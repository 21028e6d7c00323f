# SPDX-License-Identifier: BSD-3-Clause
"""Check a release of the notebook environment before it is used: ``check_release.py RELEASE``.

The exit status is 1 if a session's server cannot be imported, or if a default setting of JupyterLab
would have no effect: JupyterLab itself ignores a setting that it does not know, and all settings of
an extension if one of them is wrong. Standard error names each problem.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator


def schemas(release: Path) -> dict[str, Path]:
    """Return the files with the schemas of all extensions, by the extension's name in settings."""
    share = release / "env/share/jupyter"
    packages = share / "labextensions"
    folders = [share / "lab/schemas", *packages.glob("*/schemas"), *packages.glob("@*/*/schemas")]
    return {
        f"{path.parent.relative_to(folder)}:{path.stem}": path
        for folder in folders
        for path in folder.rglob("*.json")
        if not path.name.startswith("package.json")
    }


def problems(settings: dict[str, Any], known: dict[str, Path]) -> Iterator[str]:
    """Yield a sentence for each setting that would have no effect."""
    for extension, values in settings.items():
        if extension not in known:
            similar = difflib.get_close_matches(extension, known, 3, 0.5)
            hint = f"; similar: {', '.join(similar)}" if similar else ""
            yield f"{extension}: no such extension is installed{hint}"
            continue
        if not isinstance(values, dict):
            yield f"{extension}: {values!r} is not a dictionary of settings"
            continue
        schema = json.loads(known[extension].read_text(encoding="utf-8"))
        properties = schema.get("properties", {})
        general = {key for key in schema if key.startswith("jupyter.lab.")}
        for name, value in values.items():
            if name in properties:
                rules = {"definitions": schema.get("definitions", {}), **properties[name]}
                for error in Draft7Validator(rules).iter_errors(value):
                    yield f"{extension}: {name}: {error.message}"
            elif name not in general:
                others = ", ".join(sorted(properties)) or "none"
                yield f"{extension}: there is no setting {name}; there are: {others}"


def import_problem(release: Path) -> str:
    """Return why the server of a session cannot be imported; empty if it can be imported.

    A session imports less than Jupyter itself would, so other versions of Jupyter may not fit.
    """
    sys.path.insert(0, str(release))
    from gridhub.session.left_out import import_later, import_server

    try:
        import_server()
        import_later()
    except Exception as error:
        cause = error.__cause__ or error  # JupyterHub's own message hides the cause
        return f"{type(cause).__name__}: {cause}"
    return ""


def main() -> int:
    """Check a release; return the exit status."""
    release = Path(sys.argv[1])
    if problem := import_problem(release):
        lines = [
            "With these packages, the server of a session cannot be imported:",
            problem,
            "Change the versions in sge_exec_requirements, or report this as a fault of GridHub.",
        ]
        print(*lines, sep="\n  ", file=sys.stderr)
        return 1
    settings = json.loads((release / "lab/settings/overrides.json").read_text(encoding="utf-8"))
    wrong = list(problems(settings, schemas(release)))
    if wrong:
        change = "Change sge_exec_lab_settings in the inventory (docs/administrators/sessions.md)."
        lines = ["These default settings of JupyterLab would have no effect:", *wrong, change]
        print(*lines, sep="\n  ", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
