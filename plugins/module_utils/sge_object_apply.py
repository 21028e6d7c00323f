# SPDX-License-Identifier: BSD-3-Clause
"""Bring one object into the requested state, and report what was done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_compare import (
    keep_maps,
    merge,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    Attributes,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    check_complex,
    known_attributes,
    new_complex,
    wire_attributes,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import file_form


class Outcome(NamedTuple):
    """Describe the change that was made or, in check mode, would be made."""

    msg: str
    changed: bool
    changed_attributes: list[str]
    before: Attributes | None
    after: Attributes | None


def ensure_present(store: Store, wanted: Mapping[str, Any], check_mode: bool) -> Outcome:
    """Create the object, or change the attributes that differ.

    :raises BadRequestError: for a request that cannot be written into the configuration.
    :raises RefusedError: if qconf refuses, or does not do what was requested.
    :raises UnreachableError: if the qmaster does not answer.
    """
    before = store.read()
    known_from = before if before is not None else {}
    if before is None and store.kind not in ("complex", "admin_host", "submit_host"):
        known_from = store.template()
    known = known_attributes(store.kind, store.name, known_from, store.columns)
    wire = wire_attributes(store.kind, wanted, known, store.name)

    if before is not None:
        wire = keep_maps(store.kind, before, wire)
        after, changed = merge(store.kind, before, wire)
    elif store.kind == "complex":
        after, changed = new_complex(store.name, wire, store.columns), list(wire)
    else:
        after, changed = {**known_from, **wire}, list(wire)
    if store.kind == "complex":
        check_complex(after)
    if before is None and store.kind == "configuration" and not wire:
        raise BadRequestError(
            f"{store.label} does not exist yet: name at least one attribute. Grid Engine does "
            "not keep an empty configuration"
        )

    if before is not None and not changed:
        return Outcome(f"{store.label} is already as requested", False, [], before, before)
    verb = "change" if before is not None else "create"
    names = f" ({', '.join(changed)})" if changed else ""
    if check_mode:
        msg = f"would {verb} {store.label}{names}"
        return Outcome(msg, True, changed, before, after)
    result = store.write(after, exists=before is not None)
    found = store.confirm(result, wire)
    done = "changed" if before is not None else "created"
    return Outcome(f"{done} {store.label}{names}", True, changed, before, found)


def ensure_absent(store: Store, check_mode: bool) -> Outcome:
    """Remove the object if it exists.

    :raises BadRequestError: for an object that every cluster must have.
    :raises RefusedError: if qconf refuses, or the object still exists afterwards.
    :raises UnreachableError: if the qmaster does not answer.
    """
    if store.kind == "scheduler" or (store.kind, store.name) == ("configuration", "global"):
        raise BadRequestError(
            f"{store.label} cannot be removed: every cluster must have one. Set its attributes "
            "with state: present"
        )
    before = store.read(removing=True)
    if before is None:
        return Outcome(f"{store.label} is absent", False, [], None, None)
    if check_mode:
        return Outcome(f"would remove {store.label}", True, [], before, None)
    result = store.remove()
    store.confirm(result, None)
    return Outcome(f"removed {store.label}", True, [], before, None)


def report(store: Store, outcome: Outcome) -> dict[str, Any]:
    """Return the outcome in the form that the module returns to Ansible."""
    after = outcome.after or {}
    return {
        "msg": outcome.msg,
        "changed": outcome.changed,
        "kind": store.kind,
        "name": store.name,
        "changed_attributes": outcome.changed_attributes,
        "attributes": {k: v for k, v in after.items() if k not in store.spec.read_only},
        "diff": {
            "before": file_form(store.kind, store.name, outcome.before),
            "after": file_form(store.kind, store.name, outcome.after),
            "before_header": store.label,
            "after_header": store.label,
        },
    }
