# SPDX-License-Identifier: BSD-3-Clause
"""Define the kinds of objects in Grid Engine's configuration, and their attributes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

Attributes = dict[str, str]

# The form of an attribute decides how the attribute's value is checked, written and compared.
WORD = "word"  # one word or number
TEXT = "text"  # a command line or similar, which may contain spaces
BOOLEAN = "boolean"
NAMES = "names"  # a set of names, separated by spaces
HOSTS = "hosts"  # like NAMES, but case does not matter
COMMA_NAMES = "comma_names"  # a set of names, separated by commas
PAIRS = "pairs"  # NAME=VALUE,NAME=VALUE in any order; a VALUE may be a map: 2(gpu0 gpu1)
PARAMS = "params"  # NAME=VALUE NAME=VALUE in any order; commas also separate the pairs
SUBORDINATES = "subordinates"  # a set of names, or slots=N(queue:order:action, ...)

LISTS = (NAMES, HOSTS, COMMA_NAMES, PAIRS, PARAMS, SUBORDINATES)


class Check(NamedTuple):
    """Define which values an attribute may have, because Grid Engine would accept any value."""

    pattern: str
    description: str


NUMBER = Check(r"-?\d+", "a whole number")
TIME = Check(r"(?i)\d+|\d+:\d+:\d+|none|infinity", "seconds or hours:minutes:seconds")


class Kind(NamedTuple):
    """Describe one kind of object: its qconf options and its attributes."""

    key: str  # the attribute that contains the object's name
    show: str
    add: str
    modify: str
    delete: str
    missing: str  # matches qconf's error for an object that does not exist
    forms: dict[str, str]
    default_form: str = WORD
    # The values with which a new object starts, by dialect; "" is for every dialect.
    templates: Mapping[str, Attributes] = MappingProxyType({})
    template_call: tuple[str, ...] = ()
    name_pattern: str = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
    read_only: tuple[str, ...] = ()
    list_call: str = ""  # lists the kind's objects; used if a host's name no longer resolves
    per_host: bool = False  # whether values may contain ,[HOST=VALUE]
    booleans: tuple[str, str] = ("FALSE", "TRUE")
    none: str = "NONE"
    # Whether Grid Engine turns TRUE, true and yes into the same word, so that they count as equal.
    # If not, Grid Engine keeps each word as it was written, and may not recognise every word.
    folds_booleans: bool = True
    checks: Mapping[str, Check] = MappingProxyType({})


# The attributes of a parallel environment in every dialect, and those that Open Cluster Scheduler 9
# (seen with 9.0.13 and 9.1.4) and Altair (from public documentation) have besides.
_PE = {
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
}
_PE_FORKS = {"master_forks_slaves": "FALSE", "daemon_forks_slaves": "FALSE"}

_ACCESS = {"user_lists": NAMES, "xuser_lists": NAMES}
_PROJECTS = {"projects": NAMES, "xprojects": NAMES}

# The names of all attributes in sge_conf(5). The module checks names against these lists, because
# qconf -Mconf accepts even a misspelt name. Valid names cannot be taken from the current
# configuration: a host's configuration has only the entries that differ from the global
# configuration, and even the global configuration may be incomplete.
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
    "RSMAP": NUMBER,
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
        templates={
            "sge": {**_PE, "qsort_args": "NONE"},
            "ocs": {**_PE, "ign_sreq_on_mhost": "FALSE", **_PE_FORKS},
            "age": {**_PE, **_PE_FORKS},
        },
        forms={
            "start_proc_args": TEXT,
            "stop_proc_args": TEXT,
            "control_slaves": BOOLEAN,
            "job_is_first_task": BOOLEAN,
            "accounting_summary": BOOLEAN,
            "qsort_args": TEXT,
            "ign_sreq_on_mhost": BOOLEAN,
            "master_forks_slaves": BOOLEAN,
            "daemon_forks_slaves": BOOLEAN,
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
        booleans=("NO", "YES"),
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
        templates={"": {"hostlist": "NONE"}},
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
        templates={"": {"type": "ACL", "fshare": "0", "oticket": "0", "entries": "NONE"}},
        forms={"type": NAMES, "entries": COMMA_NAMES},
    ),
    "project": Kind(
        key="name",
        show="-sprj",
        add="-Aprj",
        modify="-Mprj",
        delete="-dprj",
        missing=r"is not known as (a )?project",
        templates={"": {"oticket": "0", "fshare": "0", "acl": "NONE", "xacl": "NONE"}},
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
        templates={"": {}},
        list_call="-sconfl",
        default_form=TEXT,
        booleans=("false", "true"),
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

# Names with a special meaning for qconf or its templates.
RESERVED_NAMES = ("none", "all", "template")


class BadRequestError(Exception):
    """The request cannot be written into Grid Engine's configuration."""
