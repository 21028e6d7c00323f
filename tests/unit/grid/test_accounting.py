# SPDX-License-Identifier: BSD-3-Clause
"""How a session ended, read from real accounting lines of Grid Engine 8.1.9.

The jobs in ``data/accounting``: ``t-hrt`` requested a run time of 20 s; ``t-mem`` requested
``h_vmem=300M`` and ran two programs that took 200 MB each; ``t-qdel`` was deleted; ``t-exit3``
ended with exit status 3.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from folders import DATA
from gridhub.grid.accounting import BY_SIGNAL, Ending, find_record, signal_name, why
from gridhub.grid.accounting_records import Record, UnreadableRecordError
from gridhub.grid.accounting_records import parse_record as parse_dialects_record
from gridhub.grid.dialect import Dialect
from gridhub.spawner.ended import SessionEnd

ACCOUNTING = DATA / "accounting"
MEMORY, RUN_TIME = 300 * 2.0**20, 100.0


def parse_record(line: str) -> Record | None:
    return parse_dialects_record(line, Dialect.SGE)


def found(name: str) -> Record:
    record = find_record(ACCOUNTING, name, "alice")
    assert record is not None
    return record


def test_a_record_says_where_and_how_a_job_ended() -> None:
    assert found("t-mem") == Record(
        job=2,
        host="exec2",
        start=1795538879,
        end=1795538880,
        failed=37,
        status=137,
        maxvmem=438829056,
    )


@pytest.mark.parametrize(
    ("name", "memory", "run_time", "reason"),
    [
        ("t-hrt", 2.0**30, 20.0, Ending.RUN_TIME),
        ("t-mem", MEMORY, RUN_TIME, Ending.MEMORY),
        ("t-mem", MEMORY, None, Ending.MEMORY),
        ("t-qdel", MEMORY, RUN_TIME, Ending.DELETED),
        ("t-exit0", MEMORY, RUN_TIME, Ending.ITSELF),
        ("t-exit3", MEMORY, RUN_TIME, Ending.FAILED),
        # The reason names a limit only if the record proves that this limit ended the job.
        # Otherwise, a limit of the queue may have ended the job.
        ("t-hrt", None, None, Ending.LIMIT),
        ("t-hrt", MEMORY, RUN_TIME, Ending.LIMIT),
        ("t-mem", None, RUN_TIME, Ending.LIMIT),
    ],
)
def test_the_reason_is_read_from_the_record(
    name: str, memory: float | None, run_time: float | None, reason: Ending
) -> None:
    assert why(found(name), memory, run_time) is reason


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        # sge_status(5): what failed while the job was set up ...
        ((1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 27, 36, 38), Ending.SETUP),
        ((26, 28), Ending.HOME),
        # ... while it ran, ...
        ((17, 18, 19, 20, 21, 23), Ending.WORKER),
        ((22,), Ending.REMOVED),
        ((24, 25, 30), Ending.RESCHEDULED),
        # ... and after it had ended by its own exit status.
        ((12, 13, 14, 15, 16), Ending.ITSELF),
        # A code of a later release.
        ((39, 101), Ending.WORKER),
    ],
)
def test_each_code_of_a_failure_is_named_as_what_it_is(
    codes: tuple[int, ...], reason: Ending
) -> None:
    for code in codes:
        record = Record(job=1, host="exec1", start=0, end=0, failed=code, status=0, maxvmem=0)
        assert record.ran == 0
        assert why(record, MEMORY, RUN_TIME) is reason
        status = replace(record, status=3)
        assert why(status, MEMORY, RUN_TIME) is (
            Ending.FAILED if reason is Ending.ITSELF else reason
        )


def test_every_code_and_exit_status_has_a_sentence() -> None:
    for failed in range(102):
        for status in range(256):
            record = Record(1, "exec1", start=1, end=5, failed=failed, status=status, maxvmem=1)
            reason = why(record, MEMORY, RUN_TIME)
            assert text_of(reason)
            if failed or status:
                assert reason is not Ending.ITSELF or (failed in range(12, 17) and not status)
            if status > BY_SIGNAL and not failed:
                assert reason in (Ending.SIGNAL, Ending.DELETED, Ending.LIMIT, Ending.FAILED)


def text_of(reason: Ending) -> str:
    return SessionEnd(job="1", why=reason).words


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"failed": 37, "status": 1}, Ending.LIMIT),
        ({"failed": 37, "status": 1, "end": 101}, Ending.RUN_TIME),
        ({"failed": 37, "status": 1, "maxvmem": MEMORY + 1}, Ending.MEMORY),
        ({"failed": 100, "status": 137, "maxvmem": MEMORY + 1}, Ending.MEMORY),
        ({"failed": 100, "status": 143, "end": 101}, Ending.RUN_TIME),
        ({"failed": 100, "status": 137}, Ending.DELETED),
        ({"failed": 0, "status": 143}, Ending.DELETED),
        ({"failed": 0, "status": 75}, Ending.MAINTENANCE),
        ({"failed": 0, "status": 69}, Ending.ENVIRONMENT),
        # A notified job (qsub -notify) ends before Grid Engine kills it.
        ({"failed": 0, "status": 140}, Ending.DELETED),
        ({"failed": 0, "status": 140, "end": 101}, Ending.RUN_TIME),
        ({"failed": 100, "status": 152}, Ending.LIMIT),
        ({"failed": 100, "status": 153}, Ending.LIMIT),
        ({"failed": 100, "status": 139}, Ending.SIGNAL),
        ({"failed": 0, "status": 138}, Ending.SIGNAL),
        ({"failed": 0, "status": 126}, Ending.ENVIRONMENT),
        ({"failed": 0, "status": 127}, Ending.ENVIRONMENT),
        ({"failed": 100, "status": 170}, Ending.SIGNAL),
        ({"failed": 0, "status": 128}, Ending.FAILED),
        ({"failed": 0, "status": 255}, Ending.FAILED),
        # Reaching a limit does not prove that the limit ended the job.
        ({"failed": 0, "status": 0, "end": 101, "maxvmem": MEMORY + 1}, Ending.ITSELF),
        ({"failed": 100, "status": 137, "maxvmem": MEMORY}, Ending.DELETED),
    ],
)
def test_only_a_killed_job_counts_as_ended_by_a_limit(
    changes: dict[str, float], reason: Ending
) -> None:
    record = Record(job=1, host="exec1", start=1, end=5, failed=0, status=0, maxvmem=1)
    assert why(replace(record, **changes), MEMORY, RUN_TIME) is reason


@pytest.mark.parametrize(("start", "end"), [(0, 1_795_538_880), (10, 5), (5, 5)])
def test_a_job_that_never_started_ran_for_no_time(start: float, end: float) -> None:
    record = Record(job=1, host="exec1", start=start, end=end, failed=0, status=0, maxvmem=0)
    assert record.ran == 0


def test_a_crash_does_not_count_as_a_deletion() -> None:
    crashed = Record(job=1, host="exec1", start=1, end=5, failed=100, status=139, maxvmem=1)
    assert why(crashed, MEMORY, RUN_TIME) is Ending.SIGNAL
    assert signal_name(crashed.status) == "SIGSEGV"
    assert signal_name(128 + 42) == "42"  # a real-time signal
    assert signal_name(128 + 65) == signal_name(128) == ""


def test_an_unknown_job_has_no_record() -> None:
    assert find_record(ACCOUNTING, "t-none", "alice") is None
    assert find_record(ACCOUNTING, "t-mem", "bob") is None
    assert find_record(ACCOUNTING, "mem", "alice") is None


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        find_record(ACCOUNTING.parent / "nowhere", "t-mem", "alice")


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_a_record_is_found_wherever_the_blocks_are_cut(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridhub.grid.accounting.BLOCK", block)
    assert [found(name).job for name in ("t-hrt", "t-mem", "w6")] == [1, 2, 11]


@pytest.mark.parametrize("before", [True, False])
def test_a_job_with_two_different_records_is_not_known(before: bool, tmp_path: Path) -> None:
    line = next(line for line in ACCOUNTING.read_text("utf-8").splitlines() if ":t-exit0:" in line)
    # bob forges a record: Grid Engine 8.1.9 copies the line breaks in his `-l hostname=...` as they
    # are.
    forged = line.replace(":exec", ":words-of-bob").replace(":0:0:0:", ":0:9:0:", 1)
    head, _, tail = line.replace(":alice:t-exit0:", ":bob:t-bob:").partition(":-l ")
    written = f"{head}:-l hostname=exec1|x\n{forged}\nq{tail}"
    path = tmp_path / "accounting"
    path.write_text("\n".join([written, line] if before else [line, written]) + "\n", "utf-8")
    assert ":words-of-bob" in path.read_text("utf-8")
    assert find_record(path, "t-exit0", "alice") is None
    # Two equal records count as one.
    path.write_text(f"{line}\n{line}\n", encoding="utf-8")
    assert find_record(path, "t-exit0", "alice") == parse_record(line)


def test_a_task_of_a_parallel_job_is_not_taken_for_the_job(tmp_path: Path) -> None:
    line = next(line for line in ACCOUNTING.read_text("utf-8").splitlines() if ":t-exit0:" in line)
    fields = line.split(":")
    assert fields[-4] == "NONE"
    fields[-4], fields[12] = "1.exec2", "9"
    path = tmp_path / "accounting"
    path.write_text(":".join(fields) + f"\n{line}\n", encoding="utf-8")
    assert find_record(path, "t-exit0", "alice") == parse_record(line)


def test_the_first_line_of_the_file_is_read_too(tmp_path: Path) -> None:
    line = next(line for line in ACCOUNTING.read_text("utf-8").splitlines() if ":t-exit0:" in line)
    path = tmp_path / "accounting"
    for end in ("", "\n"):
        path.write_text(line + end, encoding="utf-8")
        assert find_record(path, "t-exit0", "alice") is not None


def test_a_job_that_only_names_another_is_not_taken_for_it(tmp_path: Path) -> None:
    line = next(line for line in ACCOUNTING.read_text("utf-8").splitlines() if ":t-exit0:" in line)
    fields = line.split(":")
    fields[3:5] = ["bob", "other"]
    fields[-5:-3] = ["alice", "t-exit0"]  # bob can write this text into the record's category
    path = tmp_path / "accounting"
    path.write_text(":".join(fields) + "\n", encoding="utf-8")
    assert ":alice:t-exit0:" in path.read_text("utf-8")
    assert find_record(path, "t-exit0", "alice") is None


@pytest.mark.parametrize("jobs", [0, 1, 2, 3, 500])
def test_a_record_is_found_among_those_of_other_jobs(jobs: int, tmp_path: Path) -> None:
    lines = ACCOUNTING.read_text("utf-8").splitlines()
    line, other = (next(each for each in lines if name in each) for name in (":t-mem:", ":w6:"))
    path = tmp_path / "accounting"
    path.write_text("\n".join([other, line, *[other] * jobs, ""]), encoding="utf-8")
    assert find_record(path, "t-mem", "alice") == parse_record(line)


def test_only_the_end_of_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "accounting"
    path.write_bytes(ACCOUNTING.read_bytes() + b"#\n" * 5000)
    assert find_record(path, "w6", "alice") is not None
    assert find_record(path, "w6", "alice", limit=5000) is None


@given(st.text(max_size=400) | st.binary(max_size=400).map(lambda b: b.decode("latin-1")))
def test_arbitrary_lines_do_not_break_the_parser(line: str) -> None:
    for text in (line, "a:" * 50 + line):
        for dialect in Dialect:
            with contextlib.suppress(UnreadableRecordError):
                parse_dialects_record(text, dialect)
        with contextlib.suppress(UnreadableRecordError):
            parse_dialects_record(text, Dialect.OCS, is_json=True)


@given(st.lists(st.integers(0, 45), max_size=3), st.text(max_size=8))
def test_a_damaged_line_is_read_or_ignored(places: list[int], text: str) -> None:
    line = next(line for line in ACCOUNTING.read_text("utf-8").splitlines() if ":t-mem:" in line)
    fields = line.split(":")
    for place in places:
        fields[place % len(fields)] = text
    with contextlib.suppress(UnreadableRecordError):
        record = parse_record(":".join(fields))
        assert record is None or isinstance(record, Record)
