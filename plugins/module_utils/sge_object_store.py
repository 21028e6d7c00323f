# SPDX-License-Identifier: BSD-3-Clause
"""Read, write, remove and confirm one object in Grid Engine's configuration."""

from __future__ import annotations

import re

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_compare import differing
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    COMPLEX_COLUMNS,
    KINDS,
    Attributes,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import (
    UNRESOLVED_HOST,
    Qconf,
    RefusedError,
    Result,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import (
    complex_columns,
    file_form,
    parse_complexes,
    parse_object,
    render_complexes,
)


class Store:
    """Read, write, remove and confirm one object with qconf."""

    def __init__(self, qconf: Qconf, kind: str, name: str, dialect: str = "sge") -> None:
        self.qconf = qconf
        self.kind = kind
        self.name = name
        self.dialect = dialect
        self.spec = KINDS[kind]
        self.label = kind if kind == "scheduler" else f"{kind} {name}"
        self.table: dict[str, Attributes] = {}  # all complexes, as they were last read
        self.columns = COMPLEX_COLUMNS  # the columns of that table

    def read(self, removing: bool = False) -> Attributes | None:
        """Return the object's attributes, or None if it does not exist.

        :raises RefusedError: if qconf refuses to show the object.
        """
        if self.kind in ("admin_host", "submit_host"):
            hosts = [host.lower() for host in self.qconf.names(self.spec.show)]
            return {} if self.name.lower() in hosts else None
        named = () if self.kind in ("complex", "scheduler") else (self.name,)
        result = self.qconf.call(self.spec.show, *named)
        if result.rc == 0 and self.kind == "complex":
            self.table = parse_complexes(result.out)
            self.columns = complex_columns(result.out)
            return self.table.get(self.name)
        if result.rc == 0:
            return parse_object(result.out)
        if self.spec.missing and re.search(self.spec.missing, result.err, re.MULTILINE):
            return None
        if removing and self.spec.list_call and UNRESOLVED_HOST.search(result.err):
            # A host that is no longer in the name service must still be removable.
            hosts = [host.lower() for host in self.qconf.names(self.spec.list_call)]
            return {} if self.name.lower() in hosts else None
        raise RefusedError(
            f"qconf refused to show {self.label} (exit status {result.rc}): {result.message}",
            result,
        )

    def template(self) -> Attributes:
        """Return the attributes that a new object starts with.

        :raises RefusedError: if qconf refuses to show the kind's template.
        """
        if not self.spec.template_call:
            templates = self.spec.templates
            base = dict(templates.get(self.dialect) or templates.get("") or {})
        else:
            result = self.qconf.call(*self.spec.template_call)
            if result.rc != 0:
                raise RefusedError(
                    f"qconf refused to show the template of a {self.kind} "
                    f"(exit status {result.rc}): {result.message}",
                    result,
                )
            base = parse_object(result.out)
        if self.kind == "queue":
            # The template's pe_list contains three parallel environments (make, smp, mpi). A new
            # cluster does not have them, so qconf would refuse the queue.
            base["pe_list"] = "NONE"
        base.pop(self.spec.key, None)
        return {**({self.spec.key: self.name} if self.spec.key else {}), **base}

    def write(self, attributes: Attributes, exists: bool) -> Result:
        """Create the object or, if it ``exists``, replace it.

        :raises RefusedError: if qconf refuses.
        """
        action = f"{'change' if exists else 'create'} {self.label}"
        option = self.spec.modify if exists else self.spec.add
        if self.kind in ("admin_host", "submit_host"):
            return self.qconf.change(action, option, self.name)
        if self.kind == "complex":
            text = render_complexes({**self.table, self.name: attributes})
        else:
            text = file_form(self.kind, self.name, attributes)
        return self.qconf.change_from_file(action, option, self.name, text)

    def remove(self) -> Result:
        """Remove the object.

        :raises RefusedError: if qconf refuses.
        """
        action = f"remove {self.label}"
        if self.kind == "complex":
            rest = {name: row for name, row in self.table.items() if name != self.name}
            text = render_complexes(rest)
            return self.qconf.change_from_file(action, self.spec.delete, self.name, text)
        return self.qconf.change(action, self.spec.delete, self.name)

    def confirm(self, result: Result, wanted: Attributes | None) -> Attributes | None:
        """Read the object again, compare it with ``wanted``, and return it.

        ``wanted`` is None after a removal. The check is needed because qconf may exit with 0
        without having made the requested change. For example, ``qconf -ah`` exits with 0 even if
        the caller is not a manager, and ``qconf -Msconf`` replaces an unknown queue_sort_method
        with "load".

        :raises RefusedError: if the object is not as wanted, or if another complex is gone.
        """
        others = {name: row for name, row in self.table.items() if name != self.name}
        found = self.read(removing=wanted is None)
        lost = [name for name in others if name not in self.table]
        problem = ""
        if lost:
            problem = f"these complexes are gone: {', '.join(lost)}"
        elif wanted is None and found is not None:
            problem = "it still exists"
        elif wanted is not None and found is None:
            problem = "it does not exist"
        elif wanted is not None and found is not None:
            unaccepted = differing(self.kind, found, wanted)
            problem = "; ".join(
                f"attribute {name} was not accepted: requested {wanted[name]!r}, "
                f"found {found.get(name, 'nothing')!r}"
                for name in unaccepted
            )
        if problem:
            raise RefusedError(
                f"qconf exited with {result.rc}, but {self.label} is not as requested: {problem} "
                f"(qconf's message: {result.message})",
                result,
            )
        return found
