# SPDX-License-Identifier: BSD-3-Clause
"""The Ansible module: its documentation, and its delivery by Ansible."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import KINDS
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_request import (
    check_description,
    check_name,
    known_attributes,
    wire_attributes,
)

from fake_qconf import recorded_object

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "plugins/modules/sge_object.py"


def documentation_block(block: str) -> Any:
    yaml = pytest.importorskip("yaml")
    for node in ast.parse(MODULE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == block:
            return yaml.safe_load(ast.literal_eval(node.value))
    pytest.fail(f"{block} is missing")


def test_every_kind_and_option_is_documented() -> None:
    documentation = documentation_block("DOCUMENTATION")
    options = documentation["options"]
    assert options["kind"]["choices"] == list(KINDS)
    assert set(options) == {
        "objects", "kind", "name", "attributes", "state",
        "sge_root", "sge_cell", "dialect", "bin_dir", "timeout",
    }  # fmt: skip
    assert documentation["attributes"]["check_mode"]["support"] == "full"
    assert documentation["attributes"]["diff_mode"]["support"] == "full"


def test_the_examples_are_accepted() -> None:
    recorded_kinds = ("queue", "pe", "exec_host", "host_group", "scheduler")
    templates = {kind: recorded_object(kind) for kind in recorded_kinds}
    examples = documentation_block("EXAMPLES")
    assert len(examples) >= 5
    for task in examples:
        given = task["gridhub.gridhub.sge_object"]
        for args in given.get("objects", [given]):
            check_description(dict(args), 1)
            kind = args["kind"]
            assert check_name(kind, args.get("name"))
            known = known_attributes(kind, "global", templates.get(kind, {}))
            wanted = {k: v for k, v in args.get("attributes", {}).items() if "{{" not in str(v)}
            wire_attributes(kind, wanted, known)
