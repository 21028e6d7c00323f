# SPDX-License-Identifier: BSD-3-Clause
"""Objects of Open Cluster Scheduler, with answers of qconf that were recorded from 9.1.4."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_compare import (
    differing,
    keep_maps,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_kinds import (
    COMPLEX_COLUMNS,
    BadRequestError,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import (
    parse_complexes,
    parse_object,
    render_complexes,
)

from fake_qconf import FakeQconf, present, recorded

PE = "9.1.4/qconf_sp_smp.out"


def test_a_parallel_environment_is_created_with_the_attributes_it_needs() -> None:
    qconf = FakeQconf((1, "9.1.4/qconf_sp_missing.err"), (0, ""), (0, PE))
    outcome = present(qconf, "pe", "smp", dialect="ocs", slots=998)
    assert outcome.changed
    (written,) = map(parse_object, qconf.files)
    assert written == parse_object(recorded(PE))
    assert "qsort_args" not in written


def test_a_parallel_environment_of_another_dialect_cannot_have_its_attributes() -> None:
    for dialect, attribute in (("ocs", "qsort_args"), ("sge", "ign_sreq_on_mhost")):
        qconf = FakeQconf((1, "9.1.4/qconf_sp_missing.err"))
        with pytest.raises(BadRequestError, match=f"unknown attribute '{attribute}'"):
            present(qconf, "pe", "smp", dialect=dialect, **{attribute: "NONE"})


def test_an_existing_parallel_environment_stays_as_it_is() -> None:
    qconf = FakeQconf((0, PE))
    wanted = {"slots": 998, "ign_sreq_on_mhost": False, "daemon_forks_slaves": "no"}
    assert not present(qconf, "pe", "smp", dialect="ocs", **wanted).changed


@pytest.mark.parametrize(
    ("kind", "name", "error"),
    [
        ("pe", "missing", "9.1.4/qconf_sp_missing.err"),
        ("pe", "missing", "9.0.13/qconf_sp_missing.err"),
        ("project", "missing", "9.1.4/qconf_sprj_missing.err"),
        ("project", "missing", "9.0.13/qconf_sprj_missing.err"),
        ("queue", "missing.q", "9.1.4/qconf_sq_missing.err"),
        ("host_group", "@missing", "9.1.4/qconf_shgrp_missing.err"),
        ("user_set", "missing", "9.1.4/qconf_su_missing.err"),
        ("configuration", "ocs1", "9.1.4/qconf_sconf_missing.err"),
    ],
)
def test_an_object_that_does_not_exist_is_absent(kind: str, name: str, error: str) -> None:
    assert Store(FakeQconf((1, error)), kind, name, "ocs").read() is None


HOST = "9.1.4/qconf_se_ocs1.out"
MAP = "accel=2(a0 a1)"


@pytest.mark.parametrize(
    "wanted",
    [
        ["gpu=2", "h_vmem=8G", "slots=4", MAP],
        "accel=2(a1 a0), slots=4, h_vmem=8G, gpu=2",
        # An amount alone says nothing about the names.
        ["gpu=2", "h_vmem=8G", "slots=4", "accel=2"],
    ],
)
def test_a_map_that_is_there_needs_no_change(wanted: Any) -> None:
    qconf = FakeQconf((0, HOST))
    assert not present(qconf, "exec_host", "ocs1", dialect="ocs", complex_values=wanted).changed


@pytest.mark.parametrize("accel", [MAP, "accel=2"])
def test_a_map_survives_a_change_of_other_values(accel: str) -> None:
    after = recorded(HOST).replace("h_vmem=8G", "h_vmem=9G")
    qconf = FakeQconf((0, HOST), (0, ""), (0, HOST))
    store = Store(qconf, "exec_host", "ocs1", "ocs")
    before = store.read()
    assert before is not None
    wanted = {"complex_values": f"gpu=2,h_vmem=9G,slots=4,{accel}"}
    kept = keep_maps("exec_host", before, wanted)
    assert kept == {"complex_values": f"gpu=2,h_vmem=9G,slots=4,{MAP}"}
    assert differing("exec_host", parse_object(after), kept) == []


def test_a_new_amount_needs_the_names_of_the_things() -> None:
    qconf = FakeQconf((0, HOST))
    with pytest.raises(BadRequestError, match=r"accel is 2\(a0 a1\) now. Name each of the 3"):
        present(qconf, "exec_host", "ocs1", dialect="ocs", complex_values=["accel=3", "slots=4"])
    assert not qconf.files
    outcome = present(
        FakeQconf((0, HOST)),
        *("exec_host", "ocs1", True),
        dialect="ocs",
        complex_values="accel=3(a0 a1 a2)",
    )
    assert outcome.changed
    assert outcome.after["complex_values"] == "accel=3(a0 a1 a2)"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("g=3(1-3)", "g=3(1 2 3)", True),
        ("g=2(a b)", "g=2(b  a)", True),
        ("g=2(a a)", "g=2(a b)", False),
        ("g=2(a b)", "g=2", False),
        ("g=1(a[x=1,y=2])", "g=1(a[y=2, x=1])", True),
        ("g=1(a[x=1])", "g=1(a[x=2])", False),
        ("g=1(a[x=1,y=2]),s=2", "s=2,g=1(a[x=1,y=2])", True),
    ],
)
def test_maps_are_compared_by_the_things_they_name(one: str, other: str, same: bool) -> None:
    found = differing("exec_host", {"complex_values": one}, {"complex_values": other})
    assert (found == []) is same


def test_the_table_of_complexes_is_read_and_written() -> None:
    table = parse_complexes(recorded("9.1.4/qconf_sc.out"))
    assert (table["accel"]["type"], table["accel"]["consumable"]) == ("RSMAP", "HOST")
    assert parse_complexes(render_complexes(table)) == table
    qconf = FakeQconf((0, "9.1.4/qconf_sc.out"))
    wanted = {"type": "RSMAP", "consumable": "HOST"}
    assert not present(qconf, "complex", "accel", dialect="ocs", **wanted).changed


#: Columns that only some Grid Engine has; their names are made up.
MORE = "#name shortcut type relop requestable consumable default urgency own other\n"


class WithMoreColumns(FakeQconf):
    def call(self, *args: str) -> Any:
        result = super().call(*args)
        return result._replace(out=MORE + "gpu gpu INT <= YES JOB 0 0 x y\n")


def test_further_columns_of_a_grid_engine_are_kept() -> None:
    qconf = WithMoreColumns((0, ""), (0, ""), (0, ""))
    with pytest.raises(BadRequestError, match="also have own, other"):
        present(qconf, "complex", "accel", type="INT")
    new = {"type": "INT", "own": "1", "other": "2"}
    outcome = present(WithMoreColumns((0, "")), "complex", "accel", True, **new)
    assert list(outcome.after) == [*COMPLEX_COLUMNS, "own", "other"]
    table = parse_complexes(MORE + "gpu gpu INT <= YES JOB 0 0 x y\n")
    assert table["gpu"]["other"] == "y"
    assert parse_complexes(render_complexes(table)) == table


def test_columns_in_another_order_are_refused() -> None:
    with pytest.raises(BadRequestError, match="cannot read the columns"):
        parse_complexes("#name type shortcut relop requestable consumable default urgency\n")
