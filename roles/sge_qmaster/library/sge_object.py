#!/usr/bin/python
# SPDX-License-Identifier: BSD-3-Clause
"""Ansible module: keep one object of Grid Engine's configuration as described."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

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

Attributes = dict[str, str]

# How an attribute's value is built, and therefore how it is checked, rendered and compared.
WORD = "word"  # one word or number
TEXT = "text"  # a command line or the like; blanks belong to it
BOOLEAN = "boolean"
NAMES = "names"  # a set of names, rendered with blanks
HOSTS = "hosts"  # the same, in any case of letters
COMMA_NAMES = "comma_names"  # a set of names, rendered with commas
PAIRS = "pairs"  # NAME=VALUE,NAME=VALUE in any order
PARAMS = "params"  # NAME=VALUE NAME=VALUE in any order; commas separate too
SUBORDINATES = "subordinates"  # a set of names, or slots=N(queue:order:action, ...)

LISTS = (NAMES, HOSTS, COMMA_NAMES, PAIRS, PARAMS, SUBORDINATES)


class Check(NamedTuple):
    """What a value must look like, where Grid Engine itself takes anything."""

    pattern: str
    wording: str


NUMBER = Check(r"-?\d+", "a whole number")
TIME = Check(r"(?i)\d+|\d+:\d+:\d+|none|infinity", "seconds or hours:minutes:seconds")


class Kind(NamedTuple):
    """What qconf calls a kind of object, and what its attributes are."""

    key: str  # the attribute that holds the name
    show: str
    add: str
    modify: str
    delete: str
    missing: str  # qconf's words for an object that is not there
    forms: dict[str, str]
    default_form: str = WORD
    template: Attributes | None = None
    template_call: tuple[str, ...] = ()
    name_pattern: str = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
    read_only: tuple[str, ...] = ()
    list_call: str = ""  # lists all of the kind, where a name that cannot be resolved hides it
    per_host: bool = False  # values may hold ,[HOST=VALUE]
    words: tuple[str, str] = ("FALSE", "TRUE")
    none: str = "NONE"
    # Grid Engine rewrites TRUE, true, yes here, so that they are the same. Elsewhere it keeps
    # the word and may not understand it.
    folds_booleans: bool = True
    checks: Mapping[str, Check] = MappingProxyType({})


_ACCESS = {"user_lists": NAMES, "xuser_lists": NAMES}
_PROJECTS = {"projects": NAMES, "xprojects": NAMES}

# A host's configuration holds only what differs from the global one, and even the global one
# may lack entries. What sge_conf(5) lists is therefore written down here: qconf -Mconf accepts
# and keeps any misspelt name.
LOCAL_CONFIGURATION = (
    "execd_spool_dir", "mailer", "xterm", "load_sensor", "prolog", "epilog", "load_report_time",
    "reschedule_unknown", "set_token_cmd", "pag_cmd", "token_extend_time", "shepherd_cmd",
    "gid_range", "execd_params", "qlogin_command", "qlogin_daemon", "rlogin_command",
    "rlogin_daemon", "rsh_command", "rsh_daemon", "libjvm_path", "additional_jvm_args",
)  # fmt: skip
GLOBAL_CONFIGURATION = (
    *LOCAL_CONFIGURATION,
    "shell_start_mode", "login_shells", "min_uid", "min_gid", "user_lists", "xuser_lists",
    "administrator_mail", "projects", "xprojects", "max_unheard", "loglevel",
    "max_aj_instances", "max_aj_tasks", "max_u_jobs", "max_jobs", "max_advance_reservations",
    "enforce_project", "enforce_user", "auto_user_oticket", "auto_user_fshare",
    "auto_user_default_project", "auto_user_delete_time", "qmaster_params", "reporting_params",
    "finished_jobs", "delegated_file_staging", "reprioritize", "jsv_url", "jsv_allowed_mod",
)  # fmt: skip

COMPLEX_COLUMNS = (
    "shortcut", "type", "relop", "requestable", "consumable", "default", "urgency",
)  # fmt: skip
COMPLEX_TEXT_TYPES = ("STRING", "CSTRING", "RESTRING", "HOST")
COMPLEX_DEFAULTS = {
    "INT": NUMBER,
    "DOUBLE": Check(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", "a number"),
    "MEMORY": Check(
        r"(?i)[-+]?(\d+\.?\d*|\.\d+)[kmg]?|infinity", "a size like 512M (suffixes k K m M g G)"
    ),
    "TIME": TIME,
}

KINDS: dict[str, Kind] = {
    "queue": Kind(
        key="qname",
        show="-sq",
        add="-Aq",
        modify="-Mq",
        delete="-dq",
        missing=r"No cluster queue or queue instance matches the phrase",
        template_call=("-sq",),
        per_host=True,
        forms={
            "hostlist": HOSTS,
            "load_thresholds": PAIRS,
            "suspend_thresholds": PAIRS,
            "processors": TEXT,
            "qtype": NAMES,
            "ckpt_list": NAMES,
            "pe_list": NAMES,
            "rerun": BOOLEAN,
            "tmpdir": TEXT,
            "shell": TEXT,
            "prolog": TEXT,
            "epilog": TEXT,
            "starter_method": TEXT,
            "suspend_method": TEXT,
            "resume_method": TEXT,
            "terminate_method": TEXT,
            "owner_list": NAMES,
            "subordinate_list": SUBORDINATES,
            "complex_values": PAIRS,
            **_ACCESS,
            **_PROJECTS,
        },
    ),
    "pe": Kind(
        key="pe_name",
        show="-sp",
        add="-Ap",
        modify="-Mp",
        delete="-dp",
        missing=r"is not a parallel environment",
        template={
            "slots": "0",
            "user_lists": "NONE",
            "xuser_lists": "NONE",
            "start_proc_args": "NONE",
            "stop_proc_args": "NONE",
            "allocation_rule": "$pe_slots",
            "control_slaves": "FALSE",
            "job_is_first_task": "TRUE",
            "urgency_slots": "min",
            "accounting_summary": "FALSE",
            "qsort_args": "NONE",
        },
        forms={
            "start_proc_args": TEXT,
            "stop_proc_args": TEXT,
            "control_slaves": BOOLEAN,
            "job_is_first_task": BOOLEAN,
            "accounting_summary": BOOLEAN,
            "qsort_args": TEXT,
            **_ACCESS,
        },
        checks={
            "allocation_rule": Check(
                r"\$pe_slots|\$fill_up|\$round_robin|[1-9]\d*",
                "$pe_slots, $fill_up, $round_robin or a number of slots per host",
            )
        },
    ),
    "complex": Kind(
        key="name",
        show="-sc",
        add="-Mc",
        modify="-Mc",
        delete="-Mc",
        missing="",
        words=("NO", "YES"),
        forms={"requestable": BOOLEAN, "consumable": BOOLEAN},
    ),
    "exec_host": Kind(
        key="hostname",
        show="-se",
        add="-Ae",
        modify="-Me",
        delete="-de",
        missing=r"is not an execution host",
        template_call=("-se", "template"),
        list_call="-sel",
        read_only=("load_values", "processors"),
        forms={
            "load_scaling": PAIRS,
            "complex_values": PAIRS,
            "usage_scaling": PAIRS,
            "report_variables": COMMA_NAMES,
            **_ACCESS,
            **_PROJECTS,
        },
    ),
    "admin_host": Kind(
        key="", show="-sh", add="-ah", modify="", delete="-dh", missing="", forms={}
    ),
    "submit_host": Kind(
        key="", show="-ss", add="-as", modify="", delete="-ds", missing="", forms={}
    ),
    "host_group": Kind(
        key="group_name",
        show="-shgrp",
        add="-Ahgrp",
        modify="-Mhgrp",
        delete="-dhgrp",
        missing=r"Host group \S+ does not exist",
        template={"hostlist": "NONE"},
        name_pattern=r"@[A-Za-z0-9_.+-]+",
        forms={"hostlist": HOSTS},
    ),
    "user_set": Kind(
        key="name",
        show="-su",
        add="-Au",
        modify="-Mu",
        delete="-dul",
        missing=r"access list \S+ does not exist",
        template={"type": "ACL", "fshare": "0", "oticket": "0", "entries": "NONE"},
        forms={"type": NAMES, "entries": COMMA_NAMES},
    ),
    "project": Kind(
        key="name",
        show="-sprj",
        add="-Aprj",
        modify="-Mprj",
        delete="-dprj",
        missing=r"is not known as a project",
        template={"oticket": "0", "fshare": "0", "acl": "NONE", "xacl": "NONE"},
        forms={"acl": NAMES, "xacl": NAMES},
    ),
    "scheduler": Kind(
        key="",
        show="-ssconf",
        add="",
        modify="-Msconf",
        delete="",
        missing="",
        none="none",
        forms={
            "job_load_adjustments": PAIRS,
            "usage_weight_list": PAIRS,
            "halflife_decay_list": PAIRS,
            "params": PARAMS,
            "load_formula": TEXT,
            "schedd_job_info": TEXT,
            "share_override_tickets": BOOLEAN,
            "share_functional_shares": BOOLEAN,
            "report_pjob_tickets": BOOLEAN,
        },
    ),
    "configuration": Kind(
        key="",
        show="-sconf",
        add="-Aconf",
        modify="-Mconf",
        delete="-dconf",
        missing=r"^configuration \S+ not defined",
        template={},
        list_call="-sconfl",
        default_form=TEXT,
        words=("false", "true"),
        none="none",
        folds_booleans=False,
        forms={
            "login_shells": COMMA_NAMES,
            "user_lists": COMMA_NAMES,
            "xuser_lists": COMMA_NAMES,
            "projects": COMMA_NAMES,
            "xprojects": COMMA_NAMES,
            "administrator_mail": COMMA_NAMES,
            "jsv_allowed_mod": COMMA_NAMES,
            "qmaster_params": PARAMS,
            "execd_params": PARAMS,
            "reporting_params": PARAMS,
            "enforce_project": BOOLEAN,
            "enforce_user": BOOLEAN,
            "delegated_file_staging": BOOLEAN,
        },
        checks={
            **dict.fromkeys(
                (
                    "min_uid", "min_gid", "max_aj_instances", "max_aj_tasks", "max_u_jobs",
                    "max_jobs", "max_advance_reservations", "auto_user_oticket",
                    "auto_user_fshare", "auto_user_delete_time", "finished_jobs",
                ),
                Check(r"\d+", "a whole number"),
            ),
            **dict.fromkeys(
                ("load_report_time", "max_unheard", "reschedule_unknown", "token_extend_time"),
                TIME,
            ),
            "enforce_project": Check("true|false", "true or false"),
            "enforce_user": Check("true|false|auto", "true, false or auto"),
            "delegated_file_staging": Check("true|false|ftrue", "true or false"),
        },
    ),
}  # fmt: skip

# Names that qconf or its templates mean something else by.
RESERVED_NAMES = ("none", "all", "template")

_NUMERIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIME = re.compile(r"(\d+):(\d+):(\d+)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS = re.compile(r"[\s,]+")
_CONTINUATION = re.compile(r"(,?)[ \t]*\\\r?\n[ \t]*")
_PER_HOST = re.compile(r"\[([^\[\]=]+)=([^\[\]]+)\]")
_DEFAULT_AND_PER_HOST = re.compile(r"([^\[\]]+?)\s*((?:,\s*\[[^\[\]=]+=[^\[\]]+\]\s*)*)")
_CONSTANTS = ("NONE", "INFINITY", "UNDEFINED", "TRUE", "FALSE")
_TRUE_WORDS = ("TRUE", "YES", "Y")
_FALSE_WORDS = ("FALSE", "NO", "N")


class BadRequestError(Exception):
    """What was asked for cannot be written into Grid Engine's configuration."""


# --- Reading and writing qconf's file form --------------------------------------------------


def join_continuations(text: str) -> str:
    """Put values that qconf broke into several lines back on one."""
    # qconf breaks "a,b" as "a, \<newline>  b": the blank after the comma is not in the value.
    return _CONTINUATION.sub(lambda found: found.group(1) or " ", text)


def parse_object(text: str) -> Attributes:
    """Read "attribute value" lines, in their order."""
    attributes: Attributes = {}
    for line in join_continuations(text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _blank, value = line.strip().partition(" ")
        attributes[name] = value.strip()
    return attributes


def render_object(attributes: Mapping[str, str]) -> str:
    """Write "attribute value" lines as qconf reads them."""
    width = max(map(len, attributes), default=0)
    return "".join(f"{name:<{width}} {value}\n" for name, value in attributes.items())


def parse_complexes(text: str) -> dict[str, Attributes]:
    """Read the table of complexes."""
    table: dict[str, Attributes] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != len(COMPLEX_COLUMNS) + 1:
            raise BadRequestError(f"cannot read this line of 'qconf -sc': {line!r}")
        table[fields[0]] = dict(zip(COMPLEX_COLUMNS, fields[1:]))
    return table


def render_complexes(table: Mapping[str, Mapping[str, str]]) -> str:
    """Write the table of complexes, or the part of it that is given."""
    rows: list[tuple[str, ...]] = [("#name", *COMPLEX_COLUMNS)]
    rows += [(name, *(row[column] for column in COMPLEX_COLUMNS)) for name, row in table.items()]
    return "".join(
        "{:<19} {:<10} {:<9} {:<5} {:<11} {:<10} {:<8} {}\n".format(*row) for row in rows
    )


def parse_names(text: str) -> list[str]:
    """Read a list of names, one to a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def file_form(kind: str, name: str, attributes: Mapping[str, str] | None) -> str:
    """Write one object as people know it from qconf, without the load a host reports."""
    if attributes is None:
        return ""
    spec = KINDS[kind]
    if kind == "complex":
        return render_complexes({name: attributes})
    if kind in ("admin_host", "submit_host"):
        return f"{name}\n"
    shown = {key: value for key, value in attributes.items() if key not in spec.read_only}
    return render_object(shown)


# --- Checking and rendering what was asked for -----------------------------------------------


def check_name(kind: str, name: str | None) -> str:
    """Return the object's name; refuse what qconf would take for something else."""
    if kind == "scheduler":
        if name:
            raise BadRequestError(f"kind scheduler has no name; leave out name: {name}")
        return kind
    spec = KINDS[kind]
    if not name:
        raise BadRequestError(f"kind {kind} needs a name")
    if not re.fullmatch(spec.name_pattern, name) or name.lower() in RESERVED_NAMES:
        # "*" and the like are patterns to "qconf -dq": they would remove other queues.
        extra = " starting with @" if kind == "host_group" else ""
        raise BadRequestError(
            f"{name!r} cannot be the name of a {kind}: use letters, digits and _ . + -{extra}, "
            f"and none of {', '.join(RESERVED_NAMES)}"
        )
    return name


def _text(spec: Kind, attribute: str, value: Any) -> str:
    """Return one value as text that fits on one line."""
    if isinstance(value, bool):
        return spec.words[value]
    if not isinstance(value, (str, int, float)):
        what = "no value" if value is None else f"a {type(value).__name__}"
        raise BadRequestError(
            f"attribute {attribute} was given {what}; give a string, a number, a boolean or a "
            f"list of strings ({spec.none} or [] for nothing)"
        )
    text = str(value).strip()
    if not text:
        raise BadRequestError(f"attribute {attribute} is empty; write {spec.none} for nothing")
    if _CONTROL.search(text):
        raise BadRequestError(
            f"attribute {attribute} holds a newline or another control character, which would "
            f"break Grid Engine's file format: {text!r}"
        )
    if text.endswith("\\"):
        raise BadRequestError(
            f"attribute {attribute} ends with a backslash, which would join the next line to "
            f"it: {text!r}"
        )
    return text


def _item(attribute: str, item: str) -> str:
    if _SEPARATORS.search(item):
        raise BadRequestError(
            f"attribute {attribute}: {item!r} holds a blank or a comma, which separate the "
            "elements of this list; make each one an element of its own"
        )
    return item


def _wire_list(spec: Kind, attribute: str, form: str, texts: list[str], split: bool) -> str:
    """Render a list-valued attribute; ``split`` when it came as one string."""
    if form == SUBORDINATES and "(" in texts[0]:
        # slots=N(queue:order:action, ...) is one expression with commas of its own.
        if len(texts) > 1:
            raise BadRequestError(f"attribute {attribute}: slots=N(...) must stand alone")
        return texts[0]
    if split:
        pattern = r"\s*,\s*" if form == PAIRS else r"[\s,]+"
        texts = [item for item in re.split(pattern, texts[0]) if item]
    items = [_item(attribute, text) for text in texts]
    if not items:
        raise BadRequestError(f"attribute {attribute} holds only separators")
    nothing = [item for item in items if item.upper() == "NONE"]
    if nothing and len(items) > 1:
        raise BadRequestError(f"attribute {attribute}: {nothing[0]} must stand alone")
    if form == PAIRS and not nothing:
        for item in items:
            name, equals, value = item.partition("=")
            if not (name and equals and value):
                raise BadRequestError(f"attribute {attribute}: {item!r} must be NAME=VALUE")
    return (" " if form in (NAMES, HOSTS, PARAMS, SUBORDINATES) else ",").join(items)


def _wire_piece(spec: Kind, attribute: str, texts: list[str], split: bool) -> str:
    """Render a value, or one of the values of an attribute that has them per host."""
    form = spec.forms.get(attribute, spec.default_form)
    if form in LISTS:
        return _wire_list(spec, attribute, form, texts, split)
    if len(texts) != 1:
        raise BadRequestError(f"attribute {attribute} takes one value, not a list: {texts}")
    text = texts[0]
    if form == BOOLEAN and text.upper() in _TRUE_WORDS + _FALSE_WORDS:
        text = spec.words[text.upper() in _TRUE_WORDS]
    elif form == TEXT:
        text = " ".join(text.split())
    elif _SEPARATORS.search(text):
        raise BadRequestError(
            f"attribute {attribute} takes one word, without blanks or commas: {text!r}"
        )
    check = spec.checks.get(attribute)
    if check and not re.fullmatch(check.pattern, text):
        raise BadRequestError(f"attribute {attribute} must be {check.wording}, not {text!r}")
    return text


def wire_value(kind: str, attribute: str, value: Any) -> str:
    """Render what was asked for as Grid Engine's file form; refuse what would break it."""
    spec = KINDS[kind]
    per_host = spec.per_host and attribute != "hostlist"
    if isinstance(value, (list, tuple)):
        texts = []
        for element in value:
            if isinstance(element, bool):
                raise BadRequestError(
                    f"attribute {attribute}: quote the list's elements, {element} is a boolean"
                )
            texts.append(_text(spec, attribute, element))
        if not texts:
            return spec.none
        split = False
    else:
        texts = [_text(spec, attribute, value)]
        split = True
    if not per_host or not any("[" in text or "]" in text for text in texts):
        return _wire_piece(spec, attribute, texts, split)

    wrong = BadRequestError(
        f"attribute {attribute}: {', '.join(texts)!r} must be the default value, and then "
        "[HOST=VALUE] for each host or host group that differs, separated by commas"
    )
    if split:
        found = _DEFAULT_AND_PER_HOST.fullmatch(texts[0])
        if not found:
            raise wrong
        defaults, overrides = [found.group(1)], _PER_HOST.findall(found.group(2))
    else:
        defaults, overrides = [], []
        for text in texts:
            match = _PER_HOST.fullmatch(text)
            if match:
                overrides.append(match.groups())
            elif "[" in text or "]" in text:
                raise wrong
            else:
                defaults.append(text)
        if not defaults:
            raise wrong
    hosts = [host.strip().lower() for host, _value in overrides]
    if len(set(hosts)) != len(hosts):
        raise BadRequestError(f"attribute {attribute} names a host twice: {', '.join(hosts)}")
    pieces = [_wire_piece(spec, attribute, defaults, split)]
    for host, host_value in overrides:
        piece = _wire_piece(spec, attribute, [host_value.strip()], True)
        pieces.append(f"[{_item(attribute, host.strip())}={piece}]")
    return ",".join(pieces)


def _known_words(kind: str, known: list[str]) -> str:
    return f"kind {kind} has: {', '.join(known)}" if known else f"kind {kind} has no attributes"


def wire_attributes(
    kind: str, wanted: Mapping[str, Any], known: list[str], name: str = ""
) -> Attributes:
    """Render all attributes that were asked for; refuse those the kind does not have."""
    spec = KINDS[kind]
    allowed = sorted(key for key in known if key != spec.key and key not in spec.read_only)
    for attribute in wanted:
        if attribute in spec.read_only:
            raise BadRequestError(
                f"attribute {attribute} is reported by the host and cannot be set; "
                f"{_known_words(kind, allowed)}"
            )
        if spec.key and attribute == spec.key:
            raise BadRequestError(f"attribute {attribute} is the object's name; use name instead")
        if attribute not in allowed:
            which = f" of {name}" if kind == "configuration" else ""
            raise BadRequestError(
                f"unknown attribute {attribute!r}; {_known_words(kind + which, allowed)}"
            )
    return {key: wire_value(kind, key, value) for key, value in wanted.items()}


def known_attributes(kind: str, name: str, base: Mapping[str, str]) -> list[str]:
    """List the attributes an object can have, given it or its template."""
    if kind == "complex":
        return list(COMPLEX_COLUMNS)
    if kind == "configuration":
        documented = GLOBAL_CONFIGURATION if name == "global" else LOCAL_CONFIGURATION
        return list(dict.fromkeys([*base, *documented]))
    return list(base)


def new_complex(name: str, wanted: Mapping[str, str]) -> Attributes:
    """Return a new entry of the table of complexes."""
    if "type" not in wanted:
        raise BadRequestError(
            f"complex {name} does not exist yet: attribute type is needed to create it"
        )
    type_ = wanted["type"].upper()
    textual = type_ in COMPLEX_TEXT_TYPES
    entry = {
        "shortcut": name,
        "type": type_,
        "relop": "==" if textual or type_ == "BOOL" else "<=",
        "requestable": "YES",
        "consumable": "NO",
        "default": "NONE" if textual else "0:0:0" if type_ == "TIME" else "0",
        "urgency": "0",
    }
    return {**entry, **wanted}


def check_complex(entry: Mapping[str, str]) -> None:
    """Refuse a default that does not fit the type: Grid Engine takes and keeps any word."""
    check = COMPLEX_DEFAULTS.get(entry["type"].upper())
    default = entry["default"]
    if check and default.upper() != "NONE" and not re.fullmatch(check.pattern, default):
        raise BadRequestError(
            f"attribute default of a complex of type {entry['type']} must be {check.wording}, "
            f"not {default!r}"
        )


# --- Comparing ------------------------------------------------------------------------------


def _normal_word(word: str) -> str:
    """Spell numbers, times and constants in one way only."""
    found = _TIME.fullmatch(word)
    if found:
        hours, minutes, seconds = (int(part) for part in found.groups())
        return repr(float(hours * 3600 + minutes * 60 + seconds))
    if _NUMERIC.fullmatch(word):
        return repr(float(word))
    # 1g is 1000^3 and 1G is 1024^3: case matters for everything else.
    return word.upper() if word.upper() in _CONSTANTS else word


def _normal_piece(spec: Kind, attribute: str, text: str) -> Any:
    form = spec.forms.get(attribute, spec.default_form)
    if text.strip().upper() == "NONE":
        return "NONE"
    if form == SUBORDINATES and "(" in text:
        return "".join(text.split())
    if form in (PAIRS, PARAMS):
        pattern = "," if form == PAIRS else r"[\s,]+"
        pairs = (item.partition("=") for item in re.split(pattern, text) if item.strip())
        return frozenset((key.strip(), _normal_word(value.strip())) for key, _, value in pairs)
    if form in LISTS:
        names = [name for name in _SEPARATORS.split(text) if name]
        return frozenset(name.lower() if form == HOSTS else name for name in names)
    if form == BOOLEAN and spec.folds_booleans:
        word = text.upper()
        return "TRUE" if word in _TRUE_WORDS else "FALSE" if word in _FALSE_WORDS else word
    return _normal_word(" ".join(text.split()))


def normal_value(kind: str, attribute: str, text: str) -> Any:
    """Return a value such that spellings Grid Engine takes for the same are equal."""
    spec = KINDS[kind]
    if kind == "complex" and attribute in ("type", "relop"):
        return text.upper()
    if not spec.per_host or attribute == "hostlist":
        return _normal_piece(spec, attribute, text)
    per_host = frozenset(
        (host.strip().lower(), _normal_piece(spec, attribute, value.strip()))
        for host, value in _PER_HOST.findall(text)
    )
    default = _PER_HOST.sub("", text).strip().strip(", ")
    return (_normal_piece(spec, attribute, default), per_host)


def differing(kind: str, current: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """List the wanted attributes that the object does not hold."""
    literal = {"default"} if current.get("type", "").upper() in COMPLEX_TEXT_TYPES else set()
    names = []
    for name, value in wanted.items():
        held = current.get(name)
        if held is None:
            names.append(name)
        elif kind == "complex" and name in literal:
            # "01" and "1" are different texts.
            if held != value and {held.upper(), value.upper()} != {"NONE"}:
                names.append(name)
        elif normal_value(kind, name, held) != normal_value(kind, name, value):
            names.append(name)
    return names


def merge(
    kind: str, current: Mapping[str, str], wanted: Mapping[str, str]
) -> tuple[Attributes, list[str]]:
    """Return the object with what differs replaced, and the names of what differs."""
    changed = differing(kind, current, wanted)
    return {**current, **{name: wanted[name] for name in changed}}, changed


# --- Running qconf --------------------------------------------------------------------------


class Result(NamedTuple):
    """What one call of qconf gave."""

    argv: list[str]
    rc: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What qconf said, without the list of its options."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        said = [line.strip() for line in lines if not line.startswith("   [-")]
        return "; ".join(line for line in said if line)[:2000] or "no message"


class RefusedError(Exception):
    """qconf did not do as asked."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class UnreachableError(Exception):
    """The qmaster does not answer."""


def run_limited(argv: list[str], env: Mapping[str, str], timeout: float) -> Result:
    """Run a command for at most ``timeout`` seconds; raises subprocess.TimeoutExpired."""
    with subprocess.Popen(
        argv,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Where qconf is a wrapper script, its child would keep the pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        return Result(argv, process.returncode, out, err)


_UNREACHABLE = re.compile(
    r"unable to (send message to|contact) qmaster|commlib error|unable to read qmaster name"
    r"|(SGE_ROOT|cell) directory .* doesn't exist",
)
_UNRESOLVED = re.compile(r"can't resolve host ?name")
_EMPTY_LIST = re.compile(r"^no .*(host|config|list).* defined", re.MULTILINE)


class Qconf:
    """Grid Engine's objects, through qconf."""

    def __init__(self, path: str, root: str, cell: str, timeout: int, scratch: str | None) -> None:
        self.path = path
        self.common = os.path.join(root, cell, "common")
        self.timeout = timeout
        self.scratch = scratch
        self.env = {
            **os.environ,
            "LC_ALL": "C",  # messages are recognised by their words
            "SGE_ROOT": root,
            "SGE_CELL": cell,
            "SGE_SINGLE_LINE": "1",
        }

    def qmaster_host(self) -> str:
        """Return the qmaster's host as the cell names it."""
        try:
            with open(os.path.join(self.common, "act_qmaster"), encoding="utf-8") as file:
                return file.read().strip() or "(act_qmaster is empty)"
        except OSError as error:
            return f"(cannot read {error.filename}: {error.strerror})"

    def call(self, *args: str) -> Result:
        """Run qconf once."""
        try:
            result = run_limited([self.path, *args], self.env, self.timeout)
        except subprocess.TimeoutExpired:
            problem = f"no answer to 'qconf {args[0]}' within {self.timeout} seconds"
            if not args[0].startswith("-s"):
                problem += " (the change may or may not have been made)"
            hint = ""
        except OSError as error:
            raise BadRequestError(f"cannot run {self.path}: {error.strerror}") from error
        else:
            if result.rc == 0 or not _UNREACHABLE.search(result.err):
                return result
            problem = result.words
            hint = "the host names of both sides, " if "access denied" in problem else ""
        raise UnreachableError(
            f"cannot reach the qmaster {self.qmaster_host()}: {problem}; check {hint}"
            f"`systemctl status gridengine-master` there, and sge_root, sge_cell ({self.common})"
        )

    def names(self, option: str) -> list[str]:
        """List names, one to a line; an empty list is an error to qconf."""
        result = self.call(option)
        if result.rc != 0 and not _EMPTY_LIST.search(result.err):
            raise RefusedError(f"cannot list with 'qconf {option}': {result.words}", result)
        return parse_names(result.out) if result.rc == 0 else []

    def change(self, what: str, *args: str) -> Result:
        """Run a call that changes something."""
        result = self.call(*args)
        if result.rc != 0:
            raise RefusedError(
                f"qconf refused to {what} (exit status {result.rc}): {result.words}", result
            )
        return result

    def change_from_file(self, what: str, option: str, basename: str, text: str) -> Result:
        """Run a call that reads an object from a file.

        The file's name matters: ``qconf -Mconf`` takes it for the configuration's name.
        """
        # Not a shared directory: who may write there could swap the file before it is read.
        with tempfile.TemporaryDirectory(prefix="sge_object-", dir=self.scratch) as directory:
            path = os.path.join(directory, basename)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            return self.change(what, option, path)


class Store:
    """One object: read it, write it, remove it."""

    def __init__(self, qconf: Qconf, kind: str, name: str) -> None:
        self.qconf = qconf
        self.kind = kind
        self.name = name
        self.spec = KINDS[kind]
        self.label = kind if kind == "scheduler" else f"{kind} {name}"
        self.table: dict[str, Attributes] = {}  # all complexes, as last read

    def read(self, removing: bool = False) -> Attributes | None:
        """Return the object's attributes, or None where it is missing."""
        if self.kind in ("admin_host", "submit_host"):
            hosts = [host.lower() for host in self.qconf.names(self.spec.show)]
            return {} if self.name.lower() in hosts else None
        named = () if self.kind in ("complex", "scheduler") else (self.name,)
        result = self.qconf.call(self.spec.show, *named)
        if result.rc == 0 and self.kind == "complex":
            self.table = parse_complexes(result.out)
            return self.table.get(self.name)
        if result.rc == 0:
            return parse_object(result.out)
        if self.spec.missing and re.search(self.spec.missing, result.err, re.MULTILINE):
            return None
        if removing and self.spec.list_call and _UNRESOLVED.search(result.err):
            # A host that left the name service is the very one to be removed.
            hosts = [host.lower() for host in self.qconf.names(self.spec.list_call)]
            return {} if self.name.lower() in hosts else None
        raise RefusedError(
            f"qconf refused to show {self.label} (exit status {result.rc}): {result.words}", result
        )

    def template(self) -> Attributes:
        """Return the attributes a new object starts from."""
        if not self.spec.template_call:
            base = dict(self.spec.template or {})
        else:
            result = self.qconf.call(*self.spec.template_call)
            if result.rc != 0:
                raise RefusedError(
                    f"qconf refused to show the template of a {self.kind} "
                    f"(exit status {result.rc}): {result.words}",
                    result,
                )
            base = parse_object(result.out)
        if self.kind == "queue":
            # The template names make, smp and mpi, which a new cluster does not have: qconf
            # would refuse the queue for them.
            base["pe_list"] = "NONE"
        base.pop(self.spec.key, None)
        return {**({self.spec.key: self.name} if self.spec.key else {}), **base}

    def write(self, attributes: Attributes, exists: bool) -> Result:
        """Create or replace the object."""
        what = f"{'change' if exists else 'create'} {self.label}"
        option = self.spec.modify if exists else self.spec.add
        if self.kind in ("admin_host", "submit_host"):
            return self.qconf.change(what, option, self.name)
        if self.kind == "complex":
            text = render_complexes({**self.table, self.name: attributes})
        else:
            text = file_form(self.kind, self.name, attributes)
        return self.qconf.change_from_file(what, option, self.name, text)

    def remove(self) -> Result:
        """Remove the object."""
        what = f"remove {self.label}"
        if self.kind == "complex":
            rest = {name: row for name, row in self.table.items() if name != self.name}
            text = render_complexes(rest)
            return self.qconf.change_from_file(what, self.spec.delete, self.name, text)
        return self.qconf.change(what, self.spec.delete, self.name)

    def confirm(self, result: Result, wanted: Attributes | None) -> Attributes | None:
        """Read the object again and fail unless it is as wanted: qconf's exit status lies.

        For instance ``qconf -ah`` exits with 0 when the caller is no manager, and
        ``qconf -Msconf`` replaces an unknown queue_sort_method by "load".
        """
        others = {name: row for name, row in self.table.items() if name != self.name}
        found = self.read(removing=wanted is None)
        lost = [name for name in others if name not in self.table]
        problem = ""
        if lost:
            problem = f"these complexes are gone: {', '.join(lost)}"
        elif wanted is None and found is not None:
            problem = "it is still there"
        elif wanted is not None and found is None:
            problem = "it is not there"
        elif wanted is not None and found is not None:
            not_taken = differing(self.kind, found, wanted)
            problem = "; ".join(
                f"attribute {name} was not taken: asked for {wanted[name]!r}, "
                f"it holds {found.get(name, 'nothing')!r}"
                for name in not_taken
            )
        if problem:
            raise RefusedError(
                f"qconf exited with {result.rc}, but {self.label} is not as asked for: {problem} "
                f"(qconf said: {result.words})",
                result,
            )
        return found


@contextlib.contextmanager
def one_at_a_time(timeout: int, directory: str = "/run") -> Iterator[None]:
    """Keep two runs on this host from undoing each other's change.

    qconf replaces whole objects, and the table of complexes as one: of two tasks delegated here
    at the same time the second would write back what it read before the first one's change.
    """
    path = os.path.join(directory, "sge_object.lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        # Not root: nothing else here could stand in for /run without trusting other users.
        yield
        return
    try:
        deadline = time.monotonic() + 4 * timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise BadRequestError(
                        f"another run of sge_object has held {path} for {4 * timeout} seconds"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


# --- The module -----------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What was, or would be, done."""

    msg: str
    changed: bool
    changed_attributes: list[str]
    before: Attributes | None
    after: Attributes | None


def ensure_present(store: Store, wanted: Mapping[str, Any], check_mode: bool) -> Outcome:
    """Create the object or change what differs."""
    before = store.read()
    known_from = before if before is not None else {}
    if before is None and store.kind not in ("complex", "admin_host", "submit_host"):
        known_from = store.template()
    known = known_attributes(store.kind, store.name, known_from)
    wire = wire_attributes(store.kind, wanted, known, store.name)

    if before is not None:
        after, changed = merge(store.kind, before, wire)
    elif store.kind == "complex":
        after, changed = new_complex(store.name, wire), list(wire)
    else:
        after, changed = {**known_from, **wire}, list(wire)
    if store.kind == "complex":
        check_complex(after)
    if before is None and store.kind == "configuration" and not wire:
        raise BadRequestError(
            f"{store.label} does not exist yet: name at least one attribute, Grid Engine keeps "
            "no empty configuration"
        )

    if before is not None and not changed:
        return Outcome(f"{store.label} is as asked for", False, [], before, before)
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
    """Remove the object if it is there."""
    if store.kind == "scheduler" or (store.kind, store.name) == ("configuration", "global"):
        raise BadRequestError(
            f"{store.label} cannot be removed: a cluster always has one. Set its attributes with "
            "state: present"
        )
    before = store.read(removing=True)
    if before is None:
        return Outcome(f"{store.label} is absent", False, [], None, None)
    if check_mode:
        return Outcome(f"would remove {store.label}", True, [], before, None)
    result = store.remove()
    store.confirm(result, None)
    return Outcome(f"removed {store.label}", True, [], before, None)


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


def report(store: Store, outcome: Outcome) -> dict[str, Any]:
    """Return what was done, in the form Ansible takes."""
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


def check_description(wanted: Mapping[str, Any], number: int) -> None:
    """Check one entry of C(objects), as Ansible checks the single object's options.

    :raises BadRequestError: naming the entry and what is wrong with it.
    """
    place = f"objects, entry {number}"
    unknown = sorted(set(wanted) - {"kind", "name", "attributes", "state"})
    if unknown:
        raise BadRequestError(f"{place}: unknown key {unknown[0]!r}")
    if wanted.get("kind") not in KINDS:
        raise BadRequestError(
            f"{place}: kind is {wanted.get('kind')!r}; it is one of {', '.join(KINDS)}"
        )
    if wanted.get("state", "present") not in ("present", "absent"):
        raise BadRequestError(f"{place}: state is {wanted['state']!r}; it is present or absent")
    if not isinstance(wanted.get("attributes") or {}, Mapping):
        raise BadRequestError(f"{place}: attributes must be a dictionary")


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
