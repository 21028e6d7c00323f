# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of all jobs, as the maintenance program reads them."""

from __future__ import annotations

import pytest

from folders import QSTAT
from gridhub.grid.engine import AnswerError
from gridhub.grid.job_numbers import parse_job_numbers
from gridhub.grid.jobs import parse_qstat


def test_they_are_those_of_the_full_list() -> None:
    xml = (QSTAT / "mixed.xml").read_bytes()
    numbers = parse_job_numbers(xml.decode())
    assert numbers == {str(job.id) for job in parse_qstat(xml)}
    assert len(numbers) > 2


def test_a_list_without_jobs_is_an_answer() -> None:
    assert parse_job_numbers("<job_info><queue_info></queue_info></job_info>") == set()


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_list_that_is_cut_off_is_refused(share: float) -> None:
    xml = (QSTAT / "mixed.xml").read_text(encoding="utf-8").rstrip()
    with pytest.raises(AnswerError):
        parse_job_numbers(xml[: int(len(xml) * share)])
