#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ansible module: install a program with its package, and remove obsolete modules."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: python_files
short_description: Install a Python program and its package
description:
  - Writes a program and the modules of its package, each file as a whole.
  - Removes every other file and folder of the package, so that a module of an older release is not
    importable. Python's caches stay, because Python does not import a cache without its source.
  - The user that runs the module owns the files, and only that user can write them.
options:
  path:
    description: Folder of the program and the package.
    type: path
    required: true
  package:
    description: Name of the package, a folder below C(path). Nothing outside it is removed.
    type: str
    required: true
  files:
    description: Content of each file by its name below C(path). With C(#!), the file is executable.
    type: dict
    required: true
author:
  - GridHub
"""

EXAMPLES = r"""
- name: Install a program
  gridhub.gridhub.python_files:
    path: /usr/local/lib/example
    package: example
    files:
      program.py: "from example.main import main\n\nmain()\n"
      example/__init__.py: ""
      example/main.py: "def main():\n    print(42)\n"
"""

RETURN = r"""
written:
  description: Files and folders that were missing or different.
  type: list
  returned: always
removed:
  description: Files and folders that the package no longer has.
  type: list
  returned: always
"""

CACHE = "__pycache__"
#: All users may read the files, because a program may run some of its modules as another user.
FOLDER, MODULE, PROGRAM = 0o755, 0o644, 0o755


def has(path: str, kind: Callable[[int], bool], mode: int) -> bool:
    """Return whether a path has this kind and mode, and belongs to this process's user and group.

    If the path is a link, the link itself is checked.
    """
    try:
        info = os.lstat(path)
    except OSError:
        return False
    ours = (info.st_uid, info.st_gid) == (os.geteuid(), os.getegid())
    return ours and kind(info.st_mode) and stat.S_IMODE(info.st_mode) == mode


def has_content(path: str, content: bytes) -> bool:
    """Return whether a file has exactly this content."""
    with open(path, "rb") as file:
        return file.read() == content


def remove(path: str) -> None:
    """Remove a file, link or folder."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def write(path: str, content: bytes, mode: int) -> None:
    """Write a file in one step, so that readers see either the old or the new content."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    descriptor, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".fresh-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            # In a setgid folder, a new file would otherwise have the folder's group.
            os.fchown(descriptor, os.geteuid(), os.getegid())
            os.fchmod(descriptor, mode)
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def make_folder(path: str) -> None:
    """Make a folder, or correct its owner and mode."""
    if os.path.islink(path) or (os.path.exists(path) and not os.path.isdir(path)):
        os.unlink(path)
    os.makedirs(path, exist_ok=True)
    os.chown(path, os.geteuid(), os.getegid())
    os.chmod(path, FOLDER)


def superfluous(path: str, package: str, names: Collection[str]) -> list[str]:
    """Return the package's files and folders that are not in ``names`` and are not caches."""
    found = []
    for parent, folders, files in os.walk(os.path.join(path, package)):
        below = [os.path.relpath(os.path.join(parent, each), path) for each in folders + files]
        found += [each for each in below if each not in names and os.path.basename(each) != CACHE]
        folders[:] = [
            each
            for each in folders
            if os.path.relpath(os.path.join(parent, each), path) in names and each != CACHE
        ]
    return sorted(found)


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "package": {"type": "str", "required": True},
            "files": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    path, package = module.params["path"], module.params["package"]
    contents = {name: text.encode() for name, text in module.params["files"].items()}
    modes = {name: PROGRAM if text[:2] == b"#!" else MODULE for name, text in contents.items()}
    folders = sorted({os.path.dirname(name) for name in contents} | {"", package})
    # The program is written last, so that it always finds all modules that it imports.
    files = sorted(contents, key=lambda name: (-name.count("/"), name))

    written = []
    for name in folders:
        folder = os.path.join(path, name).rstrip("/")
        if not has(folder, stat.S_ISDIR, FOLDER):
            written.append(folder)
            if not module.check_mode:
                make_folder(folder)
    for name in files:
        file = os.path.join(path, name)
        if not (has(file, stat.S_ISREG, modes[name]) and has_content(file, contents[name])):
            written.append(file)
            if not module.check_mode:
                write(file, contents[name], modes[name])
    removed = [os.path.join(path, name) for name in superfluous(path, package, [*folders, *files])]
    if not module.check_mode:
        for each in removed:
            remove(each)
    module.exit_json(changed=bool(written or removed), written=written, removed=removed)


if __name__ == "__main__":
    main()
