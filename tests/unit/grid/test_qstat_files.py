# SPDX-License-Identifier: BSD-3-Clause
"""Files that make qstat leave out jobs count as no answer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gridhub.grid.engine import GridEngineError
from gridhub.grid.qstat_files import QstatFiles, overriding_arguments


@pytest.mark.parametrize("text", ["-q x", "-ext\n-l\th=a", "-s a -qs d", "-U bob", "-pe smp"])
def test_an_option_that_hides_jobs_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sge_qstat"
    path.write_text(text, encoding="utf-8")
    option = next(word for word in text.split() if word in ("-q", "-l", "-qs", "-U", "-pe"))
    with pytest.raises(GridEngineError, match=f"^{path} has {option},"):
        overriding_arguments([tmp_path / "missing", path])


@pytest.mark.parametrize("text", ["", "-s p", "-ext -pri -r -t", "-u bob", "-xml -F slots"])
def test_options_that_hide_no_jobs_pass(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sge_qstat"
    path.write_text(text, encoding="utf-8")
    assert overriding_arguments([path, tmp_path]) == ()


def test_a_summary_of_the_queues_is_overridden(tmp_path: Path) -> None:
    path = tmp_path / "sge_qstat"
    path.write_text("-s rs -g c", encoding="utf-8")
    assert overriding_arguments([tmp_path / "missing", path]) == ("-g", "t")


async def test_a_file_that_hangs_blocks_one_thread_only(tmp_path: Path) -> None:
    pipe = tmp_path / "sge_qstat"
    os.mkfifo(pipe)
    files = QstatFiles([pipe])
    for _ in range(3):
        with pytest.raises(GridEngineError, match="cannot be read within"):
            await files.check(0.05)
    await asyncio.to_thread(pipe.write_text, "-q x", encoding="utf-8")
    with pytest.raises(GridEngineError, match="has -q"):
        await files.check(10)
