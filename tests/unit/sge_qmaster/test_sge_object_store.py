# SPDX-License-Identifier: BSD-3-Clause
"""How an object is written, and how the change is confirmed."""

from __future__ import annotations

import pytest
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_apply import ensure_absent
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_qconf import (
    RefusedError,
    Result,
)
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_store import Store
from ansible_collections.gridhub.gridhub.plugins.module_utils.sge_object_text import (
    parse_complexes,
    parse_object,
)

from fake_qconf import FakeQconf, present, recorded, recorded_object


def test_a_host_is_written_without_its_reported_values() -> None:
    qconf = FakeQconf((0, "exec_host"), (0, ""), (0, "exec_host"))
    with pytest.raises(RefusedError):
        present(qconf, "exec_host", "qmaster", user_lists=[])
    written = parse_object(qconf.files[0])
    assert written["user_lists"] == "NONE"
    assert written["report_variables"] == "cpu,np_load_avg"
    assert not {"load_values", "processors"} & set(written)


def test_changing_one_complex_keeps_all_others() -> None:
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(RefusedError):
        present(qconf, "complex", "gpu", urgency=3)
    before = parse_complexes(recorded("complexes"))
    written = parse_complexes(qconf.files[0])
    assert written.pop("gpu") == {**before.pop("gpu"), "urgency": "3"}
    assert written == before


def test_adding_and_removing_a_complex_keeps_all_others() -> None:
    before = parse_complexes(recorded("complexes"))
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(RefusedError, match="it does not exist"):
        present(qconf, "complex", "fpga", type="INT")
    written = parse_complexes(qconf.files[0])
    assert written.pop("fpga")["type"] == "INT"
    assert written == before
    qconf = FakeQconf((0, "complexes"), (0, ""), (0, "complexes"))
    with pytest.raises(RefusedError, match="still exists"):
        ensure_absent(Store(qconf, "complex", "gpu"), False)
    del before["gpu"]
    assert parse_complexes(qconf.files[0]) == before


def test_losing_another_complex_is_noticed() -> None:
    qconf = FakeQconf()
    store = Store(qconf, "complex", "gpu")
    store.table = parse_complexes(recorded("complexes"))
    store.table["fpga"] = store.table["gpu"]
    qconf.answers = [(0, "complexes")]
    with pytest.raises(RefusedError, match="these complexes are gone: fpga"):
        store.confirm(Result([], 0, "", ""), {"type": "INT"})


def test_a_replaced_value_is_reported_although_qconf_exits_with_0() -> None:
    qconf = FakeQconf(
        (0, "scheduler"), (0, "replaced_scheduler_rc0.err"), (0, "scheduler_replaced")
    )
    with pytest.raises(RefusedError) as caught:
        present(qconf, "scheduler", "scheduler", queue_sort_method="wibble")
    assert "exited with 0" in str(caught.value)
    assert "attribute queue_sort_method was not accepted: requested 'wibble', found 'load'" in str(
        caught.value
    )


def test_a_refusal_with_exit_status_0_is_reported_with_qconfs_message() -> None:
    qconf = FakeQconf(
        (1, "empty_submit_hosts.err"), (0, "refused_not_manager_rc0.err"),
        (1, "empty_submit_hosts.err"),
    )  # fmt: skip
    with pytest.raises(RefusedError, match='"alice" must be manager'):
        present(qconf, "submit_host", "exec1")


def test_a_refusal_names_the_object_the_status_and_qconfs_message() -> None:
    qconf = FakeQconf((0, "queue"), (1, "refused_queue_pe.err"))
    with pytest.raises(RefusedError) as caught:
        present(qconf, "queue", "jupyter.q", pe_list="nosuch")
    assert str(caught.value) == (
        "qconf refused to change queue jupyter.q (exit status 1): "
        'Parallel environment "nosuch" does not exist'
    )
    assert caught.value.result.rc == 1
    assert not qconf.path_of_file.parent.exists()


def test_a_configuration_is_written_to_a_file_with_its_name() -> None:
    qconf = FakeQconf((0, "configuration_global"), (0, ""), (0, "configuration_global"))
    with pytest.raises(RefusedError):
        present(qconf, "configuration", "global", max_jobs=3)
    assert qconf.calls[1] == ["-Mconf", str(qconf.path_of_file)]
    assert qconf.path_of_file.name == "global"
    written = parse_object(qconf.files[0])
    assert written == {**recorded_object("configuration_global"), "max_jobs": "3"}
