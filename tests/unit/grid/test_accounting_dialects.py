# SPDX-License-Identifier: BSD-3-Clause
"""How a session ended, from the accounting files of Open Cluster Scheduler and of Altair.

Those of Open Cluster Scheduler 9.1.4 and 9.0.13 were recorded (``data/ocs``): ``hrt`` requested a
run time of 15 s; ``mem`` requested ``h_vmem=300M`` and ran two programs that took 200 MB each;
``qdel`` was deleted by alice, who owns it, and ``qdelother`` by root; ``killed`` got SIGKILL from
outside of Grid Engine. Those of Altair and Univa were made from public descriptions of the format:
none was seen.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import altair
from folders import OCS
from gridhub.contract import Ending
from gridhub.grid import accounting
from gridhub.grid.accounting import find_record, why
from gridhub.grid.accounting_records import Record, UnreadableRecordError
from gridhub.grid.dialect import Dialect

MEMORY = 300 * 2.0**20

#: Each recorded file, with the beginning of its jobs' names.
FILES = {
    "9.1.4/accounting.jsonl": "pdcjson",
    "9.1.4/accounting_systemd.jsonl": "systemd",
    "9.1.4/accounting": "pdc",
    "9.0.13/accounting.jsonl": "default",
    "9.0.13/accounting": "old",
}


def found(file: str, job: str) -> Record:
    name = f"{FILES[file]}-{job}"
    record = find_record(OCS / file, name, "alice", dialect=Dialect.OCS)
    assert record is not None, name
    return record


ENDINGS = {
    "exit0": Ending.ITSELF,
    "exit3": Ending.FAILED,
    "hrt": Ending.RUN_TIME,
    "mem": Ending.MEMORY,
    "qdel": Ending.DELETED,
    "qdelother": Ending.DELETED,
    "killed": Ending.DELETED,
    "cut75": Ending.MAINTENANCE,
    "pe": Ending.ITSELF,
}
#: The jobs that were recorded with 9.1.4 only.
NEWER = {"killed", "cut75"}


@pytest.mark.parametrize(
    ("file", "job"),
    [(file, job) for file in FILES for job in ENDINGS if file > "9.1" or job not in NEWER],
)
def test_each_ending_has_its_reason_in_each_recorded_file(file: str, job: str) -> None:
    ending = ENDINGS[job]
    if job == "mem" and "systemd" in file:
        ending = Ending.ITSELF  # on cgroup v1, systemd enforces no limit: the job ran to its end
    assert why(found(file, job), MEMORY, 15.0) is ending


@pytest.mark.parametrize("job", ["hrt", "mem"])
@pytest.mark.parametrize("file", ["9.1.4/accounting.jsonl", "9.0.13/accounting.jsonl"])
def test_a_limit_outside_of_the_request_is_a_limit_if_the_record_names_who_enforced_it(
    file: str, job: str
) -> None:
    # A limit of the queue, which the session did not request.
    ending = why(found(file, job), None, None)
    # 9.0.13 does not write who deleted the job: its record is that of a job that root deleted.
    assert ending is (Ending.LIMIT if "9.1" in file else Ending.DELETED)


def test_a_job_that_a_person_deletes_is_deleted_whatever_it_has_used() -> None:
    deleted = replace(found("9.1.4/accounting.jsonl", "qdel"), maxvmem=2 * MEMORY)
    assert deleted.deleted_by == "alice@ocs1"
    assert why(deleted, MEMORY, 1.0) is Ending.DELETED
    assert why(replace(deleted, status=0), MEMORY, 1.0) is Ending.DELETED


@pytest.mark.parametrize("by", ["execd@ocs1", "qmaster@ocs1"])
def test_the_daemons_enforce_limits(by: str) -> None:
    record = replace(found("9.1.4/accounting.jsonl", "qdel"), deleted_by=by)
    assert why(record, MEMORY, 1000.0) is Ending.LIMIT
    assert why(record, MEMORY, record.ran) is Ending.RUN_TIME
    assert why(replace(record, maxvmem=2 * MEMORY), MEMORY, None) is Ending.MEMORY


@pytest.mark.parametrize("by", ["root@ocs1", "qmaster@ocs1"])
def test_a_job_that_somebody_puts_back_into_the_queue_was_not_deleted(by: str) -> None:
    for failed in (24, 25):
        record = replace(found("9.1.4/accounting.jsonl", "qdel"), failed=failed, deleted_by=by)
        assert why(record, MEMORY, 1000.0) is Ending.RESCHEDULED


def test_resident_memory_counts_where_systemd_measures_no_other() -> None:
    killed = found("9.1.4/accounting_systemd.jsonl", "killed")
    assert killed.maxvmem == killed.maxrss == 0, "on cgroup v1, systemd measures nothing"
    for maxrss, ending in (
        # The kernel kills a job that needs more than systemd's MemoryMax. That was not seen.
        (MEMORY, Ending.MEMORY),
        (0.96 * MEMORY, Ending.MEMORY),
        (0.9 * MEMORY, Ending.DELETED),
        (0.0, Ending.DELETED),
    ):
        record = replace(killed, maxrss=maxrss)
        assert record.memory == maxrss
        assert why(record, MEMORY, 1000.0) is ending
        assert why(replace(record, status=139), MEMORY, 1000.0) is Ending.SIGNAL
        assert why(replace(record, deleted_by="root@ocs1"), MEMORY, None) is Ending.DELETED
        # Where the address space was measured, it is what Grid Engine limits.
        assert why(replace(record, maxvmem=0.9 * MEMORY), MEMORY, None) is Ending.DELETED


def test_a_record_has_seconds_bytes_and_the_host() -> None:
    assert found("9.1.4/accounting.jsonl", "mem") == Record(
        job=80,
        host="ocs1",
        start=1795896210.397307,
        end=1795896213.506221,
        failed=100,
        status=137,
        maxvmem=450256896.0,
        maxrss=205234176.0,
        deleted_by="execd@ocs1",
    )
    # In the old format, times are whole seconds, and nobody is named.
    old = found("9.1.4/accounting", "hrt")
    assert (old.start, old.end, old.deleted_by) == (1795896137, 1795896153, "")


def test_the_json_file_is_read_first_and_the_old_one_if_it_has_no_record(tmp_path: Path) -> None:
    ours = (OCS / "9.1.4/accounting").read_text("utf-8")
    (tmp_path / "accounting").write_text(ours.replace("pdc-exit3", "pdcjson-hrt"), encoding="utf-8")

    def look(name: str, file: str = "accounting") -> Record | None:
        return find_record(tmp_path / file, name, "alice", dialect=Dialect.OCS)

    assert look("pdcjson-hrt") != found("9.1.4/accounting.jsonl", "hrt")
    (tmp_path / "accounting.jsonl").write_bytes((OCS / "9.1.4/accounting.jsonl").read_bytes())
    for file in ("accounting", "accounting.jsonl"):
        assert look("pdcjson-hrt", file) == found("9.1.4/accounting.jsonl", "hrt")
        assert look("pdc-qdel", file) == found("9.1.4/accounting", "qdel")
        assert look("nobody's", file) is None
    (tmp_path / "accounting").unlink()
    assert look("pdc-qdel") is None
    (tmp_path / "accounting.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="accounting.jsonl"):
        look("pdc-qdel")


def test_text_of_users_is_not_mistaken_for_a_record() -> None:
    file = OCS / "9.1.4/accounting_hostile_names.jsonl"
    text = file.read_text("utf-8")
    # alice's job 205 has the name of another job in its command line.
    assert r"\"job_name\":\"jupyterhub-f00\"" in text
    for owner in ("alice", "bob"):
        assert find_record(file, "jupyterhub-f00", owner, dialect=Dialect.OCS) is None
    name = "jupyterhub-" + "0" * 31 + "2"
    assert find_record(file, name, "alice", dialect=Dialect.OCS) is None
    # Two jobs of bob had this name: nobody knows which one is meant.
    assert text.count(f'"job_name":"{name}"') == 2
    assert find_record(file, name, "bob", dialect=Dialect.OCS) is None


def lines(file: str) -> list[str]:
    return (OCS / file).read_text("utf-8").splitlines()


def test_a_record_that_is_still_being_written_is_not_there_yet(tmp_path: Path) -> None:
    *others, last = lines("9.1.4/accounting.jsonl")
    assert '"pdcjson-burn"' in last
    path = tmp_path / "accounting.jsonl"
    before = "".join(f"{line}\n" for line in others)
    for cut in (200, 500, len(last) - 1):
        path.write_text(before + last[:cut], encoding="utf-8")
        assert find_record(path, "pdcjson-burn", "alice", dialect=Dialect.OCS) is None
        path.write_text(f"{before}{last[:cut]}\n{others[0]}\n", encoding="utf-8")
        if '"pdcjson-burn"' in last[:cut]:
            with pytest.raises(UnreadableRecordError):
                find_record(path, "pdcjson-burn", "alice", dialect=Dialect.OCS)


def test_a_task_of_a_parallel_job_is_not_taken_for_the_job(tmp_path: Path) -> None:
    job = next(line for line in lines("9.1.4/accounting.jsonl") if '"pdcjson-pe"' in line)
    task = job.replace('"pe_taskid":"NONE"', '"pe_taskid":"1.ocs1"').replace(
        '"exit_status":0', '"exit_status":9'
    )
    assert task != job
    path = tmp_path / "accounting.jsonl"
    path.write_text(f"{task}\n{job}\n{task}\n", encoding="utf-8")
    record = find_record(path, "pdcjson-pe", "alice", dialect=Dialect.OCS)
    assert record is not None
    assert record.status == 0


@pytest.mark.parametrize("block", [1, 64, 4096])
@pytest.mark.parametrize("jobs", [0, 1, 40])
def test_a_json_record_is_found_from_behind_and_only_the_end_is_read(
    block: int, jobs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "BLOCK", block)
    every = lines("9.1.4/accounting.jsonl")
    ours = next(line for line in every if '"pdcjson-mem"' in line)
    other = next(line for line in every if '"pdcjson-qdel"' in line)
    path = tmp_path / "accounting.jsonl"
    path.write_text("\n".join([other, ours, *[other] * jobs, ""]), encoding="utf-8")
    behind = (len(other) + 1) * jobs
    # Without its first characters, the line still names the job, but is no record.
    cuts = (len(ours) + 2, True), (len(ours) // 2, False), (len(ours) - 3, False)
    for limit, is_found in ((behind + length, is_found) for length, is_found in cuts):
        record = find_record(path, "pdcjson-mem", "alice", limit, Dialect.OCS)
        assert (record is not None) == is_found


@given(st.data())
def test_a_damaged_json_record_is_read_or_reported(data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(lines("9.1.4/accounting.jsonl")))
    values = json.loads(line)
    anything = st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.just({})
    for name in data.draw(st.lists(st.sampled_from(sorted(values)), max_size=3)):
        values[name] = data.draw(anything)
    text = json.dumps(values)
    cut = text[: data.draw(st.integers(0, len(text)))]
    for each in (text, cut):
        try:
            record = accounting.parse_record(each, Dialect.OCS, is_json=True)
        except UnreadableRecordError:
            continue
        assert record is None or isinstance(record, Record)


# -- Altair and Univa ------------------------------------------------------------------------------


def read(tmp_path: Path, line: str, name: str, dialect: Dialect = Dialect.AGE) -> Record | None:
    path = tmp_path / "accounting"
    path.write_text(f"{line}\n", encoding="latin-1")
    return find_record(path, name, "alice", dialect=dialect)


@pytest.mark.parametrize("fields", [52, 54, 55])
def test_records_of_altair_are_read_with_each_number_of_fields(fields: int, tmp_path: Path) -> None:
    assert read(tmp_path, altair.record("t-mem", fields), "t-mem") == Record(
        job=2,
        host="exec2",
        start=1795538879.123,
        end=1795538880.123,
        failed=37,
        status=137,
        maxvmem=438829056.0,
        maxrss=31457280.0,
    )


@pytest.mark.parametrize("fields", [52, 54, 55])
@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("t-hrt", Ending.RUN_TIME),
        ("t-mem", Ending.MEMORY),
        ("t-qdel", Ending.DELETED),
        ("t-exit0", Ending.ITSELF),
        ("t-exit3", Ending.FAILED),
    ],
)
def test_the_reason_is_read_from_records_of_altair(
    fields: int, name: str, ending: Ending, tmp_path: Path
) -> None:
    record = read(tmp_path, altair.record(name, fields), name)
    assert record is not None
    assert why(record, MEMORY, 20.0) is ending


@pytest.mark.parametrize("fields", [52, 54, 55])
@pytest.mark.parametrize("colons", [1, 2, 3, 10])
def test_colons_in_the_category_shift_no_field(fields: int, colons: int, tmp_path: Path) -> None:
    category = "-l hostname=" + ":" * colons
    record = read(tmp_path, altair.record("t-mem", fields, f39=category), "t-mem")
    assert record is not None
    assert (record.maxvmem, record.maxrss) == (438829056.0, 31457280.0)


@pytest.mark.parametrize(
    ("line", "dialect"),
    [
        *((altair.record("t-mem", fields), Dialect.SGE) for fields in (52, 54, 55)),
        *((altair.record("t-mem", fields), Dialect.OCS) for fields in (52, 54, 55)),
        *((altair.record("t-mem", fields), Dialect.AGE) for fields in (44, 45, 46, 51, 53)),
        (altair.record("t-mem", 55) + ":more", Dialect.AGE),
        # Times in seconds, and in milliseconds.
        (altair.record("t-mem", 55, f9=1795538879), Dialect.AGE),
        (altair.record("t-mem", 45), Dialect.SGE),
        (altair.record("t-mem", 55, f42="N/A"), Dialect.AGE),
        (altair.record("t-mem", 55, f5="two"), Dialect.AGE),
        (altair.record("t-mem", 55, f46="somebody"), Dialect.AGE),
    ],
)
def test_a_record_of_another_dialect_is_reported_and_not_misread(
    line: str, dialect: Dialect, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableRecordError) as error:
        read(tmp_path, line, "t-mem", dialect)
    assert f"sge_common_dialect is {dialect} ({dialect.products})" in str(error.value)
    assert str(tmp_path / "accounting") in str(error.value)


def test_one_good_record_is_enough(tmp_path: Path) -> None:
    # Anyone may write lines that look like a broken record of another user's job.
    good, broken = altair.record("t-mem"), altair.record("t-mem", 50)
    for text in (f"{good}\n{broken}", f"{broken}\n{good}"):
        record = read(tmp_path, text, "t-mem")
        assert record is not None
        assert record.job == 2
