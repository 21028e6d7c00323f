"""Resources mean what they say: threads follow the slots, and GPUs are those of the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cluster import host
from newcomer import Newcomer

Make = Callable[..., Newcomer]


def test_there_are_as_many_threads_as_cores(newcomer: Make) -> None:
    person = newcomer().start(cores=2)
    environment = person.environment()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert environment[name] == "2"
    assert person.terminal("echo $OMP_NUM_THREADS") == "2"


def test_what_the_person_has_set_stays(newcomer: Make) -> None:
    person = newcomer()
    person.write(".sge_request", "-v OMP_NUM_THREADS=7\n")
    person.start(cores=2)
    environment = person.environment()
    # Libraries that follow OpenMP do so; others have the slots.
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    assert [environment[name] for name in names] == ["7", "7", "2"]


def test_without_a_gpu_none_is_visible(newcomer: Make) -> None:
    person = newcomer(groups="gpu").start(gpus=0)
    assert person.environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_with_a_gpu_that_grid_engine_only_counts_all_are_visible(newcomer: Make) -> None:
    person = newcomer(groups="gpu").start(gpus=1)
    assert "CUDA_VISIBLE_DEVICES" not in person.environment()


@pytest.mark.parametrize("gpus", [0, 1])
def test_what_a_prolog_grants_arrives(newcomer: Make, qmaster_host: Any, gpus: int) -> None:
    """The prolog adds a line to the job's environment, as prologs for GPUs do (sge_conf(5))."""
    prolog = "/usr/local/bin/gpu-prolog"
    lines = "#!/bin/sh\\necho CUDA_VISIBLE_DEVICES=3 >>$SGE_JOB_SPOOL_DIR/environment\\n"
    for name in ("exec1", "exec2"):
        host(name).check_output(f"printf '{lines}' >{prolog} && chmod 755 {prolog}")
    qmaster_host.check_output(f"qconf -mattr queue prolog root@{prolog} all.q")
    try:
        person = newcomer(groups="gpu").start(gpus=gpus)
        assert person.environment()["CUDA_VISIBLE_DEVICES"] == "3"
    finally:
        qmaster_host.check_output("qconf -mattr queue prolog NONE all.q")
        qmaster_host.run("qmod -cq all.q")  # a prolog that fails puts the queue into an error state
