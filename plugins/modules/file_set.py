#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ansible module: write several files and folders in one call."""

from __future__ import annotations

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: file_set
short_description: Write several files and folders in one call
description:
  - Removes and makes folders, then writes files, in the given order. C(ansible.builtin.copy),
    C(template) and C(file) need one or two calls to the host for each file, even if nothing
    changes.
  - A file is replaced in one step, so readers see either the old or the new content. If its check
    fails, the old file and all later files stay as they are.
  - Without C(owner) or C(group), files and complete folders get those of the user that runs the
    module, and other folders keep theirs.
  - The host's log does not get the contents.
options:
  absent:
    description: Paths of files, links and folders to remove.
    type: list
    elements: path
    default: []
  folders:
    description: Folders to make.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the folder.
        type: path
        required: true
      owner:
        description: Owner.
        type: str
      group:
        description: Group.
        type: str
      mode:
        description: Mode.
        type: str
        default: "0755"
      complete:
        description:
          - Whether to remove everything from the folder that is not in C(files) or C(folders).
            A link is replaced by a folder. Python's caches stay, because Python does not import a
            cache without its source.
        type: bool
        default: false
  files:
    description: Files to write.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file. If it is a link, a file replaces the link.
        type: path
        required: true
      content:
        description: The whole content.
        type: str
        required: true
      owner:
        description: Owner.
        type: str
      group:
        description: Group.
        type: str
      mode:
        description: Mode. By default 0755 for a file that begins with C(#!), and 0644 for others.
        type: str
      validate:
        description: Command that checks new content before it replaces the file, C(%s), by its
          exit status. Not used in check mode.
        type: str
      backup:
        description: Whether to keep a copy of the file that is replaced.
        type: bool
        default: false
      secret:
        description: Whether to leave the content out of differences.
        type: bool
        default: false
author: GridHub contributors
"""

EXAMPLES = r"""
- name: Write the settings of a program
  gridhub.gridhub.file_set:
    folders:
      - {path: /etc/example}
    files:
      - path: /etc/example/settings.conf
        content: "{{ lookup('ansible.builtin.template', 'settings.conf.j2') }}"
        validate: example --check %s
      - {path: /etc/example/password, content: "{{ password }}\n", mode: "0600", secret: true}
"""

RETURN = r"""
paths:
  description: Paths that were missing, different or superfluous.
  type: list
  returned: success
"""

CACHE = "__pycache__"
OWNER = {"owner": {"type": "str"}, "group": {"type": "str"}}
SPEC = {
    "absent": {"type": "list", "elements": "path", "default": []},
    "folders": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "mode": {"type": "str", "default": "0755"},
            "complete": {"type": "bool", "default": False},
            **OWNER,
        },
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "mode": {"type": "str"},
            "validate": {"type": "str"},
            "backup": {"type": "bool", "default": False},
            "secret": {"type": "bool", "default": False},
            **OWNER,
        },
    },
}


def is_real(path, exists):
    """Return whether ``exists`` is true for a path that is no link."""
    return exists(path) and not os.path.islink(path)


def remove(path):
    """Remove a file, link or folder."""
    if is_real(path, os.path.isdir):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def read(path):
    """Return the content of a file; None if there is no file."""
    if not is_real(path, os.path.isfile):
        return None
    with open(path, "rb") as file:
        return file.read()


def superfluous(folders, files):
    """Return what the complete folders have besides these folders and files."""
    wanted = {each["path"] for each in [*folders, *files]}
    found = []
    for folder in folders:
        path = folder["path"]
        if folder["complete"] and is_real(path, os.path.isdir):
            there = {os.path.join(path, name) for name in os.listdir(path) if name != CACHE}
            found += sorted(there - wanted)
    return found


class Writer:
    """Brings files and folders into their state, and notes what was different."""

    def __init__(self, module):
        self.module = module
        self.changes = not module.check_mode
        self.paths = []
        self.differences = []

    def attributes(self, wanted, path):
        """Set owner, group and mode of a path; return whether they were different."""
        given = {name: wanted[name] for name in ("owner", "group", "mode")}
        if wanted.get("complete", True):  # a file, or a complete folder
            given["owner"] = given["owner"] or str(os.geteuid())
            given["group"] = given["group"] or str(os.getegid())
        difference = {"before_header": wanted["path"], "after_header": wanted["path"]}
        arguments = self.module.load_file_common_arguments(given, path=path)
        changed = self.module.set_fs_attributes_if_different(arguments, False, difference)
        if changed and path == wanted["path"]:
            self.differences.append(difference)
        return changed

    def note(self, path, before, after):
        """Note that a path gets another content, or none."""
        self.paths.append(path)
        if self.module._diff:
            texts = {"before": (before or b"").decode(errors="replace"), "after": after.decode()}
            self.differences.append(dict(texts, before_header=path, after_header=path))

    def remove(self, path):
        """Remove a path, if it is there."""
        if os.path.lexists(path):
            self.paths.append(path)
            if self.changes:
                remove(path)

    def folder(self, wanted):
        """Make a folder, with its parents."""
        path = wanted["path"]
        if os.path.isdir(path) and not (wanted["complete"] and os.path.islink(path)):
            if self.attributes(wanted, path):
                self.paths.append(path)
            return
        self.paths.append(path)
        if self.changes:
            if wanted["complete"] and os.path.lexists(path):
                remove(path)
            os.makedirs(path, int(wanted["mode"], 8))
            self.attributes(wanted, path)

    def file(self, wanted):
        """Write a file."""
        path, content = wanted["path"], wanted["content"].encode()
        wanted["mode"] = wanted["mode"] or ("0755" if content[:2] == b"#!" else "0644")
        before = read(path)
        if before == content:
            if self.attributes(wanted, path):
                self.paths.append(path)
            return
        if wanted["secret"]:
            self.paths.append(path)
        else:
            self.note(path, before, content)
        if self.changes:
            self.validate(wanted, content)
            self.replace(wanted, content)

    def validate(self, wanted, content):
        """Check the new content of a file."""
        if not wanted["validate"]:
            return
        descriptor, fresh = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        status, output, errors = self.module.run_command(wanted["validate"].replace("%s", fresh))
        os.unlink(fresh)
        if status:
            self.module.fail_json(
                msg="%s is not valid, and was not replaced: %s"
                % (wanted["path"], (errors or output).strip()),
                exit_status=status,
                stdout=output,
                stderr=errors,
            )

    def replace(self, wanted, content):
        """Write new content beside a file, which then replaces the file."""
        path = wanted["path"]
        if wanted["backup"] and os.path.lexists(path):
            self.module.backup_local(path)
        if is_real(path, os.path.isdir):
            remove(path)
        descriptor, fresh = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".fresh-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            # Before the file has its name, because others may not read it even for a moment.
            self.attributes(wanted, fresh)
            os.rename(fresh, path)
        except BaseException:
            os.unlink(fresh)
            raise
        self.module.set_default_selinux_context(path, False)


def main():
    """Run as Ansible's module."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    absent, folders, files = (module.params[name] for name in ("absent", "folders", "files"))
    writer = Writer(module)
    try:
        for path in absent:
            writer.remove(path)
        for each in folders:
            writer.folder(each)
        for each in files:
            writer.file(each)
        for path in superfluous(folders, files):
            writer.remove(path)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename, error.strerror))
    module.exit_json(changed=bool(writer.paths), paths=writer.paths, diff=writer.differences)


if __name__ == "__main__":
    main()
