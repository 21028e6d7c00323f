# SPDX-License-Identifier: BSD-3-Clause
"""Menus for tests of the whole hub, and resources that jobs have requested."""

from __future__ import annotations

from hypothesis import strategies as st

from gridhub.menu.job import Requested

MENU = [
    {
        "name": "cores",
        "label": "CPU cores",
        "choices": [1, 2, 4],
        "default": 1,
        "request": {"kind": "slots", "parallel_environment": "smp"},
    },
    {
        "name": "gpus",
        "label": "GPUs",
        "choices": [0, 1, 2],
        "default": 0,
        "groups": ["no-such-group"],
        "request": {"kind": "count", "complex": "gpu", "per": "job"},
    },
]

MEMORY = {
    "name": "memory",
    "label": "Memory",
    "unit": "GB",
    "choices": [1, 2, 4, 8],
    "default": 1,
    "request": {"kind": "memory", "complex": "h_vmem", "per": "job"},
}

HOURS = {
    "name": "hours",
    "label": "Run time",
    "unit": "hours",
    "choices": [1, 2],
    "default": 2,
    "request": {"kind": "run_time", "complex": "h_rt"},
}

INTERFACE = {
    "name": "interface",
    "label": "Opens in",
    "options": [
        {"value": "lab", "label": "JupyterLab"},
        {"value": "notebook", "label": "Jupyter Notebook"},
    ],
    "default": "lab",
    "request": {"kind": "interface"},
}

MAIL = {
    "name": "mail",
    "label": "Mail to",
    "text": {"pattern": "[a-z.]+@example[.]org", "example": "j@example.org"},
    "default": "",
    "request": {"kind": "mail"},
}

QUEUE = {
    "name": "queue",
    "label": "Queue",
    "options": [{"value": "", "label": "Any"}, {"value": "big.q", "label": "Big"}],
    "default": "",
    "request": {"kind": "queue"},
}

FUZZED = [*MENU, INTERFACE, MAIL]

PRESETS = [{"name": "large", "label": "Large", "choice": {"cores": 4}}]

HOSTILE = "<script>alert(1)</script>"

#: Form data: names and values from the menu, similar names and values, and arbitrary data.
SENT = st.dictionaries(
    st.sampled_from(["cores", "gpus", "interface", "mail", "preset", "queue", "_more"])
    | st.text(max_size=8),
    st.lists(
        st.sampled_from(
            ["1", "2", "3", "4", "0", "04", "٤", "", "lab", "large", "a@example.org"]
        ).map(str.encode)
        | st.sampled_from([HOSTILE.encode(), b"a@example.org\n", b"\xff", b"\x00", b"-l h_rt=1"])
        | st.binary(max_size=12)
        | st.text(max_size=300).map(str.encode),
        min_size=1,
        max_size=2,
    ),
    max_size=4,
)

HAD = tuple(
    Requested(
        item=item, label=label, value=value, words=words, kind=kind, complex=resource, total=total
    )
    for item, label, value, words, kind, resource, total in (
        ("cores", "CPU cores", 2, "2", "slots", "", 2),
        ("memory", "Memory", 300, "300 MB", "memory", "h_vmem", 3e8),
        ("gpus", "GPUs", 1, "1", "count", "gpu", 1),
        ("queue", "Queue", "all.q", "any", "queue", "", 0),
        ("project", "Project", "", "none", "project", "", 0),
        ("run_time", "Run time", 1, "1 hour", "run_time", "h_rt", 20),
    )
)

#: Like ``HAD``, but memory is requested with a complex that does not limit the address space.
WITH_RMEM = tuple(
    each.model_copy(update={"complex": "rmem"}) if each.kind == "memory" else each for each in HAD
)

PARALLEL = Requested(
    item="where", label="Cores are", value="mpi", words="anywhere", kind="parallel_environment"
)
