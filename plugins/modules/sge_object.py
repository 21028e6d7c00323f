#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ansible module: bring objects in Grid Engine's configuration into the described state."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_apply import (
    Outcome,
    ensure_absent,
    ensure_present,
    report,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    KINDS,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import (
    Qconf,
    RefusedError,
    UnreachableError,
    one_at_a_time,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    check_description,
    check_name,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store

DOCUMENTATION = r"""
---
module: sge_object
short_description: Manage configuration objects of Grid Engine
version_added: "1.0.0"
author: GridHub contributors
description:
  - Creates, changes or removes one object of Grid Engine's configuration (a queue, a parallel
    environment, a complex, a host, and so on) through C(qconf).
  - With O(objects) it handles several objects in one task, in the order given. Each then costs
    calls of C(qconf) only and no call of Ansible, so a run over a whole cluster is many times
    faster than a loop.
  - Only the attributes named in O(attributes) are changed, each as a whole; all others keep
    their values.
  - After each change the object is read again. The module fails if an attribute does not have
    the requested value, because C(qconf) may exit with 0 although it refused or replaced it.
  - Written for and tested with Grid Engine 8.1.9 as packaged by Debian. With Open Cluster
    Scheduler, only recorded answers of 9.0.13 and 9.1.4 were tried (see O(dialect)).
options:
  objects:
    description:
      - Several objects, each with O(kind), O(name), O(attributes) and O(state) as below.
      - The module stops at the first object that is refused. Earlier changes remain, and the
        message lists them.
    type: list
    elements: dict
  kind:
    description: The kind of object. Required unless O(objects) is given.
    type: str
    choices:
      - queue
      - pe
      - complex
      - exec_host
      - admin_host
      - submit_host
      - host_group
      - user_set
      - project
      - scheduler
      - configuration
  name:
    description:
      - The object's name. Required for every kind but V(scheduler), which has none.
      - The name of a V(host_group) starts with V(@).
      - For V(configuration) it is V(global) or a host's name.
      - Host names are compared as Grid Engine prints them; upper and lower case are equal. A short
        and a long name are different names.
    type: str
  attributes:
    description:
      - The attributes to set, named as in C(qconf)'s output.
      - A value is a string, a number or a boolean, or a list for list-valued attributes. An empty
        list is Grid Engine's V(NONE).
      - Attributes of a queue may differ per host. Give the default first, then one
        V([HOST=VALUE]) or V([@GROUP=VALUE]) each, as a list or as a string separated by commas.
      - "In C(complex_values) and the like use a complex's full name, not its shortcut: Grid
        Engine replaces the shortcut, so the value would always differ from the request."
      - A complex of type V(RSMAP) has a map of the things that it counts, as in
        gpu=2(gpu0 gpu1). A value without a map keeps the present one.
      - "The attributes of a V(complex) are C(shortcut), C(type), C(relop), C(requestable),
        C(consumable), C(default) and C(urgency). A new one needs its C(type). The defaults
        of the others are: for C(shortcut) the complex's name; for C(relop) V(<=) with numbers and
        V(==) with other types; for C(requestable) V(YES); for C(consumable) V(NO); for C(default)
        V(0), V(0:0:0) or V(NONE), depending on the type; for C(urgency) V(0). Further columns of
        another Grid Engine have no default."
      - "A new V(queue) starts from C(qconf -sq), but with C(pe_list NONE): the template names
        parallel environments (make, smp, mpi) that do not exist on a new cluster. A new
        V(exec_host) starts from C(qconf -se template). For V(pe), V(host_group), V(user_set)
        and V(project) C(qconf) prints no template; the module uses the values that C(qconf -ap)
        and similar options offer in the editor, and C(type ACL) for a V(user_set)."
      - V(admin_host) and V(submit_host) have no attributes.
      - Ignored with O(state=absent).
    type: dict
    default: {}
  state:
    description:
      - Whether the object should exist. The scheduler and the global configuration cannot
        be removed.
    type: str
    choices: [present, absent]
    default: present
  sge_root:
    description: Grid Engine's root directory (E(SGE_ROOT)).
    type: path
    default: /var/lib/gridengine
  sge_cell:
    description: The cell's name (E(SGE_CELL)).
    type: str
    default: default
  dialect:
    description:
      - The family of Grid Engines, as C(sge_common_dialect). It decides which attributes a new
        V(pe) has.
    type: str
    choices: [sge, ocs, age]
    default: sge
  bin_dir:
    description:
      - The directory of C(qconf). By default the module looks in E(PATH) and then in
        C(SGE_ROOT/bin/*). Set it if that has directories for several architectures.
    type: path
  timeout:
    description: Time limit for one call of C(qconf), in seconds. A hung qmaster never answers.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description:
      - Reports changes without making them. If C(qconf) is not installed yet (the first run in
        check mode), the object counts as absent.
  diff_mode:
    support: full
    description: Shows the object in C(qconf)'s format, before and after.
  platform:
    support: full
    platforms: posix
    description: Runs on an administrative host of the cluster, as a manager (root is one).
notes:
  - On one host, this module makes one change at a time (with a lock in C(/run), if that is
    writable). C(qconf) replaces a whole object, or the whole table of complexes, so do not let
    another tool change them at the same time.
  - An exec_host's C(load_values) and C(processors) are reported by the host, not configured.
"""

EXAMPLES = r"""
- name: Offer a parallel environment for sessions with more than one core
  gridhub.gridhub.sge_object:
    kind: pe
    name: smp
    attributes:
      slots: 9999
      allocation_rule: $pe_slots
      control_slaves: false

- name: Declare GPUs as a consumable that is counted per job
  gridhub.gridhub.sge_object:
    kind: complex
    name: gpu
    attributes:
      shortcut: gpu
      type: INT
      relop: "<="
      requestable: true
      consumable: JOB
      default: 0

- name: Group the worker nodes
  gridhub.gridhub.sge_object:
    kind: host_group
    name: "@workers"
    attributes:
      hostlist: "{{ groups['sge_exec'] }}"

- name: Keep a queue for sessions, with more slots on one host
  gridhub.gridhub.sge_object:
    kind: queue
    name: jupyter.q
    attributes:
      hostlist: ["@workers"]
      pe_list: [smp]
      slots: ["4", "[exec2=8]"]
      h_rt: "8:00:00"
      shell: /bin/bash

- name: Declare the resources of a worker node
  gridhub.gridhub.sge_object:
    kind: exec_host
    name: exec2
    attributes:
      complex_values: [gpu=2, h_vmem=64G]

- name: Start jobs immediately instead of at the next interval
  gridhub.gridhub.sge_object:
    kind: scheduler
    attributes:
      flush_submit_sec: 1

- name: Set parameters of all execution daemons
  gridhub.gridhub.sge_object:
    kind: configuration
    name: global
    attributes:
      execd_params: [ENABLE_ADDGRP_KILL=true]

- name: Let two hosts submit jobs
  gridhub.gridhub.sge_object:
    objects:
      - {kind: submit_host, name: hub}
      - {kind: submit_host, name: login1}

- name: Take a host off the submit hosts
  gridhub.gridhub.sge_object:
    kind: submit_host
    name: old-hub
    state: absent
"""

RETURN = r"""
objects:
  description: For O(objects), the result for each, in the order given, with the values below.
  type: list
  elements: dict
  returned: when O(objects) is given
msg:
  description: The change that was made, or that would be made in check mode.
  type: str
  returned: always
  sample: changed queue jupyter.q (slots, h_rt)
kind:
  description: The kind of object.
  type: str
  returned: success
  sample: queue
name:
  description: The object's name (V(scheduler) for the scheduler).
  type: str
  returned: success
  sample: jupyter.q
changed_attributes:
  description: The attributes that were, or would be, changed; for a new object the requested ones.
  type: list
  elements: str
  returned: success
  sample: [slots, h_rt]
attributes:
  description:
    - The object's attributes after the run, as C(qconf) prints them, without the load a host
      reports. Empty for an absent object.
  type: dict
  returned: success
  sample: {slots: "4,[exec2=8]", h_rt: "8:00:00"}
rc:
  description: The exit status of C(qconf). It may be 0 although the change was refused.
  type: int
  returned: if qconf refused
  sample: 1
cmd:
  description: The call of C(qconf) that was refused.
  type: list
  elements: str
  returned: if qconf refused
"""


def find_qconf(module: AnsibleModule) -> str | None:
    """Return the path of qconf, or None if it is not installed."""
    bin_dir = module.params["bin_dir"]
    if bin_dir:
        path = os.path.join(bin_dir, "qconf")
        return path if os.access(path, os.X_OK) else None
    found: str | None = module.get_bin_path("qconf")
    if found is None:
        # get_bin_path would search opt_dirs before PATH, but PATH must come first. This is why only
        # the second call has opt_dirs. Several architectures can share one SGE_ROOT, and each has
        # its own folder in bin.
        places = sorted(glob.glob(os.path.join(module.params["sge_root"], "bin", "*")))
        found = module.get_bin_path("qconf", opt_dirs=places)
    return found


def keep_object(
    module: AnsibleModule, path: str | None, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Bring one object into the described state, and return the result for Ansible.

    :raises BadRequestError: for an invalid description.
    :raises RefusedError: if qconf refuses a call, or does not do what was requested.
    :raises UnreachableError: if the qmaster does not answer.
    """
    params = module.params
    name = check_name(wanted["kind"], wanted.get("name"))
    present = wanted.get("state", "present") == "present"
    qconf = Qconf(
        path or "qconf", params["sge_root"], params["sge_cell"], params["timeout"], module.tmpdir
    )
    store = Store(qconf, wanted["kind"], name, params["dialect"])
    if path is None:
        # In check mode before the first run, Grid Engine has not been installed yet.
        module.warn("qconf is not installed here yet; the object counts as absent")
        done = f"would create {store.label}" if present else f"{store.label} is absent"
        return report(store, Outcome(done, present, [], None, None))
    lock = contextlib.nullcontext() if module.check_mode else one_at_a_time(params["timeout"])
    with lock:
        if present:
            outcome = ensure_present(store, wanted.get("attributes") or {}, module.check_mode)
        else:
            outcome = ensure_absent(store, module.check_mode)
    return report(store, outcome)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "objects": {"type": "list", "elements": "dict"},
            "kind": {"type": "str", "choices": list(KINDS)},
            "name": {"type": "str"},
            "attributes": {"type": "dict", "default": {}},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "sge_root": {"type": "path", "default": "/var/lib/gridengine"},
            "sge_cell": {"type": "str", "default": "default"},
            "dialect": {"type": "str", "default": "sge", "choices": ["sge", "ocs", "age"]},
            "bin_dir": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
        },
        required_one_of=[("objects", "kind")],
        mutually_exclusive=[("objects", "kind"), ("objects", "name")],
        supports_check_mode=True,
    )
    params = module.params
    several = params["objects"] is not None
    descriptions = params["objects"] if several else [params]
    reports: list[dict[str, Any]] = []
    subject = "sge_object"
    try:
        if params["timeout"] <= 0:
            raise BadRequestError(f"timeout must be at least 1 second, not {params['timeout']}")
        if several:
            for number, wanted in enumerate(descriptions, start=1):
                check_description(wanted, number)
        subject = f"{descriptions[0]['kind']} {descriptions[0].get('name') or ''}".strip()
        path = find_qconf(module)
        if path is None and not module.check_mode:
            raise BadRequestError(
                f"qconf is not in {params['bin_dir'] or 'PATH or ' + params['sge_root'] + '/bin'}"
                "; install gridengine-client or set bin_dir"
            )
        for wanted in descriptions:
            subject = f"{wanted['kind']} {wanted.get('name') or ''}".strip()
            reports.append(keep_object(module, path, wanted))
    except (BadRequestError, UnreachableError, RefusedError) as error:
        message = str(error)
        done = [each["msg"] for each in reports if each["changed"]]
        after = f" (before that: {'; '.join(done)})" if done else ""
        refusal = (
            {"rc": error.result.rc, "cmd": error.result.argv}
            if isinstance(error, RefusedError)
            else {}
        )
        module.fail_json(
            msg=(message if subject in message else f"{subject}: {message}") + after,
            changed=bool(done) and not module.check_mode,
            **refusal,
        )
    if not several:
        module.exit_json(**reports[0])
    changed = [each for each in reports if each["changed"]]
    module.exit_json(
        msg="; ".join(each["msg"] for each in changed) or "all objects are already as requested",
        changed=bool(changed),
        diff=[each.pop("diff") for each in reports if each["changed"]],
        objects=reports,
    )


if __name__ == "__main__":
    main()
