#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ansible module: keep one object of Grid Engine's configuration as described."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sge_object_apply import Outcome, ensure_absent, ensure_present, report
from ansible.module_utils.sge_object_kinds import KINDS, BadRequestError
from ansible.module_utils.sge_object_qconf import (
    Qconf,
    RefusedError,
    UnreachableError,
    one_at_a_time,
)
from ansible.module_utils.sge_object_request import check_description, check_name
from ansible.module_utils.sge_object_store import Store

DOCUMENTATION = r"""
---
module: sge_object
short_description: Manage configuration objects of Grid Engine
version_added: "1.0.0"
author: GridHub contributors
description:
  - Creates, changes or removes one object of Grid Engine's configuration (a queue, a parallel
    environment, a complex, a host, and so on) through C(qconf).
  - With O(objects) it does so for several objects in one go, one after the other in the order
    given. Each is a call of C(qconf) and not of Ansible, which makes a run over a whole cluster
    many times faster than a loop.
  - Only the attributes named in O(attributes) are changed, each as a whole; all others keep
    their values.
  - After each change the object is read again. The module fails when an attribute was not
    taken, because C(qconf) may exit with 0 although it refused or replaced a value.
  - Written for and measured with Grid Engine 8.1.9 as Debian packages it.
options:
  objects:
    description:
      - Several objects, each with O(kind), O(name), O(attributes) and O(state) as below.
      - The first that is refused ends the run; those before it are done, and the message says so.
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
      - Host names are compared as Grid Engine prints them (in any case of letters). Short and
        long names are different names.
    type: str
  attributes:
    description:
      - The attributes to set, named as in C(qconf)'s output.
      - A value is a string, number or boolean; or a list for list-valued attributes. An empty
        list is Grid Engine's V(NONE).
      - Attributes of a queue may be set per host. Give the default first, then one
        V([HOST=VALUE]) or V([@GROUP=VALUE]) each, as a list or as a string separated by commas.
      - "In C(complex_values) and the like use a complex's full name, not its shortcut: Grid
        Engine replaces the shortcut, so that the value would never look as asked for."
      - "The attributes of a V(complex) are C(shortcut), C(type), C(relop), C(requestable),
        C(consumable), C(default) and C(urgency). A new one needs its C(type); the others
        default to: the name, V(<=) for numbers and V(==) for the rest, V(YES), V(NO), nothing
        (V(0), V(0:0:0) or V(NONE)), V(0)."
      - "A new V(queue) starts from C(qconf -sq), but with C(pe_list NONE): the template names
        parallel environments (make, smp, mpi) that do not exist on a new cluster. A new
        V(exec_host) starts from C(qconf -se template). For V(pe), V(host_group), V(user_set)
        and V(project) C(qconf) prints no template; the module holds what C(qconf -ap) and
        its like offer in the editor, and C(type ACL) for a V(user_set)."
      - V(admin_host) and V(submit_host) have no attributes.
      - Ignored with O(state=absent).
    type: dict
    default: {}
  state:
    description:
      - Whether the object should be there. The scheduler and the global configuration cannot
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
  bin_dir:
    description:
      - The directory C(qconf) is in. Without it, it is looked for in E(PATH) and then in
        C(SGE_ROOT/bin/*). Set it where that holds several architectures.
    type: path
  timeout:
    description: Seconds one call of C(qconf) may take. A hung qmaster never answers.
    type: int
    default: 30
attributes:
  check_mode:
    support: full
    description:
      - Says what would change and changes nothing. Where C(qconf) is not installed yet (the
        first run in check mode), the object is taken to be missing.
  diff_mode:
    support: full
    description: Shows the object's file form before and after.
  platform:
    support: full
    platforms: posix
    description: Runs on an administrative host of the cluster, as a manager (root is one).
notes:
  - Changes by this module on one host are done one after the other (a lock under C(/run), if
    that is writable). C(qconf) itself replaces an object, or the whole table of complexes, at
    once, so leave no other tool changing them at the same time.
  - An exec_host's C(load_values) and C(processors) are reported by the host, not configured.
"""

EXAMPLES = r"""
- name: Offer a parallel environment for sessions with more than one core
  sge_object:
    kind: pe
    name: smp
    attributes:
      slots: 9999
      allocation_rule: $pe_slots
      control_slaves: false

- name: Declare GPUs as a consumable that is counted per job
  sge_object:
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
  sge_object:
    kind: host_group
    name: "@workers"
    attributes:
      hostlist: "{{ groups['sge_exec'] }}"

- name: Keep a queue for sessions, with more slots on one host
  sge_object:
    kind: queue
    name: jupyter.q
    attributes:
      hostlist: ["@workers"]
      pe_list: [smp]
      slots: ["4", "[exec2=8]"]
      h_rt: "8:00:00"
      shell: /bin/bash

- name: Say what a worker node offers
  sge_object:
    kind: exec_host
    name: exec2
    attributes:
      complex_values: [gpu=2, h_vmem=64G]

- name: Start jobs at once instead of at the next interval
  sge_object:
    kind: scheduler
    attributes:
      flush_submit_sec: 1

- name: Set parameters of all execution daemons
  sge_object:
    kind: configuration
    name: global
    attributes:
      execd_params: [ENABLE_ADDGRP_KILL=true]

- name: Let two hosts submit jobs
  sge_object:
    objects:
      - {kind: submit_host, name: hub}
      - {kind: submit_host, name: login1}

- name: Take a host off the submit hosts
  sge_object:
    kind: submit_host
    name: old-hub
    state: absent
"""

RETURN = r"""
objects:
  description: For O(objects), what was done with each, in the order given; as the values below.
  type: list
  elements: dict
  returned: when O(objects) is given
msg:
  description: What was done, or would be done in check mode.
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
  description: The attributes that were, or would be, changed; for a new object those it gets.
  type: list
  elements: str
  returned: success
  sample: [slots, h_rt]
attributes:
  description:
    - The object's attributes after the run, as C(qconf) prints them, without the load a host
      reports. Empty for an object that is absent.
  type: dict
  returned: success
  sample: {slots: "4,[exec2=8]", h_rt: "8:00:00"}
rc:
  description: The exit status of C(qconf). It may be 0 although the change was refused.
  type: int
  returned: when qconf refused
  sample: 1
cmd:
  description: The call of C(qconf) that was refused.
  type: list
  elements: str
  returned: when qconf refused
"""


def find_qconf(module: AnsibleModule) -> str | None:
    """Return the path of qconf."""
    bin_dir = module.params["bin_dir"]
    if bin_dir:
        path = os.path.join(bin_dir, "qconf")
        return path if os.access(path, os.X_OK) else None
    found: str | None = module.get_bin_path("qconf")
    if found is None:
        # Asked for last, as get_bin_path would search these before PATH: a root shared by
        # several architectures has a directory for each.
        places = sorted(glob.glob(os.path.join(module.params["sge_root"], "bin", "*")))
        found = module.get_bin_path("qconf", opt_dirs=places)
    return found


def keep_object(
    module: AnsibleModule, path: str | None, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Keep one object as described and report what was done.

    :raises BadRequestError: for a description that cannot be right.
    :raises RefusedError: when qconf refused it.
    :raises UnreachableError: when the qmaster does not answer.
    """
    params = module.params
    name = check_name(wanted["kind"], wanted.get("name"))
    present = wanted.get("state", "present") == "present"
    qconf = Qconf(
        path or "qconf", params["sge_root"], params["sge_cell"], params["timeout"], module.tmpdir
    )
    store = Store(qconf, wanted["kind"], name)
    if path is None:
        # The first run in check mode: what would install Grid Engine has not run either.
        module.warn("qconf is not installed here yet; the object is taken to be missing")
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
        told = str(error)
        done = [each["msg"] for each in reports if each["changed"]]
        after = f" (before that: {'; '.join(done)})" if done else ""
        refusal = (
            {"rc": error.result.rc, "cmd": error.result.argv}
            if isinstance(error, RefusedError)
            else {}
        )
        module.fail_json(
            msg=(told if subject in told else f"{subject}: {told}") + after,
            changed=bool(done) and not module.check_mode,
            **refusal,
        )
    if not several:
        module.exit_json(**reports[0])
    changed = [each for each in reports if each["changed"]]
    module.exit_json(
        msg="; ".join(each["msg"] for each in changed) or "all objects are as asked for",
        changed=bool(changed),
        diff=[each.pop("diff") for each in reports if each["changed"]],
        objects=reports,
    )


if __name__ == "__main__":
    main()
