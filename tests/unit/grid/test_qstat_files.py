# SPDX-License-Identifier: BSD-3-Clause
"""Files that make qstat leave out jobs count as no answer."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from gridhub.grid.engine import GridEngineError
from gridhub.grid.qstat_files import QstatFiles, find_hiding


@pytest.mark.parametrize("text", ["-q x", "-ext\n-l\th=a", "-s a -qs d", "-U bob", "-pe smp"])
def test_an_option_that_hides_jobs_is_named_with_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sge_qstat"
    path.write_text(text, encoding="utf-8")
    option = next(word for word in text.split() if word in ("-q", "-l", "-qs", "-U", "-pe"))
    assert find_hiding([tmp_path / "missing", path]).startswith(f"{path} has {option},")


@pytest.mark.parametrize("text", ["", "-s p", "-g c -ext -pri -r -t", "-u bob", "-xml -F slots"])
def test_options_that_are_overridden_or_noticed_pass(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sge_qstat"
    path.write_text(text, encoding="utf-8")
    assert find_hiding([path, tmp_path]) == ""


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
