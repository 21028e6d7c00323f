# SPDX-License-Identifier: BSD-3-Clause
"""The environments of the server and of the kernels and terminals."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from folders import OCS
from gridhub.session.environment import (
    DEVICES,
    THREADS,
    granted_devices,
    job_environment,
    login_shell,
    person_environment,
    server_environment,
    site_kernel_environment,
    slots_here,
    with_programs,
    with_programs_last,
)
from gridhub.session.rules import read_rules
from started import RULES, TOKEN


def account(shell: str = "/bin/sh") -> pwd.struct_passwd:
    return pwd.struct_passwd(("alice", "x", 2001, 2001, "", "/home/alice", shell))


def person(
    start_up: dict[str, str] | None = None,
    job: dict[str, str] | None = None,
    gpus: dict[str, int] | None = None,
    **server: str,
) -> dict[str, str]:
    rules = read_rules(RULES | {"gpus": gpus or {}})
    return person_environment(start_up or {}, job or {}, {"SHELL": "/bin/sh"} | server, rules)


class TestServer:
    @pytest.mark.parametrize(
        "name",
        [
            "PYTHONPATH",
            "LD_PRELOAD",
            "JUPYTER_PATH",
            "JUPYTER_CONFIG_DIR",
            "IPYTHONDIR",
            "BASH_ENV",
            "SSL_CERT_FILE",
            "OPENSSL_CONF",
            "XDG_CONFIG_HOME",
            "JUPYTERHUB_SINGLEUSER_APP",
            "http_proxy",
            "BASH_FUNC_module%%",
        ],
    )
    def test_it_sees_no_variable_that_changes_what_it_loads(self, name: str) -> None:
        assert name not in server_environment({name: "x"}, account())

    def test_it_knows_its_job_and_its_user(self) -> None:
        job = {"JOB_ID": "5", "SGE_ROOT": "/sge", "NSLOTS": "2", "TMPDIR": "/tmp/5", "LANG": "C"}
        moved = {"HOME": "/tmp", "PATH": "/evil", "USER": "root"}
        assert server_environment(job | moved, account()) == job | {
            "HOME": "/home/alice",
            "USER": "alice",
            "LOGNAME": "alice",
            "SHELL": "/bin/sh",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def test_hidden_variables_of_the_job_are_the_jobs_again(self) -> None:
        assert job_environment({"GRIDHUB_JOB_LD_PRELOAD": "x", "A": "1"}) == {
            "LD_PRELOAD": "x",
            "A": "1",
        }


@pytest.mark.parametrize(
    "shell",
    [
        *("", "/usr/sbin/nologin", "/bin/false", "/nonexistent/zsh", "/", "/etc/passwd"),
        *("/bin/cat", "/usr/bin/passwd", "/usr/bin/git-shell", "/usr/bin/sleep"),
    ],
)
def test_an_account_without_a_shell_gets_bash(shell: str) -> None:
    assert login_shell(account(shell)) == "/bin/bash"
    assert login_shell(account("/bin/sh")) == "/bin/sh"


class TestSecrets:
    def test_kernels_get_what_links_need_and_no_secret(self) -> None:
        environment = person(
            {"A": "1", "JUPYTERHUB_API_TOKEN": "left over", "JPY_API_TOKEN": TOKEN},
            JUPYTERHUB_API_TOKEN=TOKEN,
            JUPYTERHUB_SSL_KEYFILE="/proc/5/fd/7",
            JUPYTERHUB_SERVICE_PREFIX="/user/alice/",
            JUPYTERHUB_USER="alice",
            JUPYTER_RUNTIME_DIR="/tmp/jhub-1",
            IPYTHONDIR="/tmp/jhub-1/ipythondir",
            GIT_TOKEN="of the server",
        )
        assert {name: value for name, value in environment.items() if name not in THREADS} == {
            "A": "1",
            "JUPYTERHUB_SERVICE_PREFIX": "/user/alice/",
            "JUPYTERHUB_USER": "alice",
            "JUPYTER_RUNTIME_DIR": "/tmp/jhub-1",
            "IPYTHONDIR": "/tmp/jhub-1/ipythondir",
            "SHELL": "/bin/sh",
        }


class TestThreads:
    def test_there_are_as_many_threads_as_slots(self) -> None:
        environment = person(job={"NSLOTS": "4"})
        assert {environment[name] for name in THREADS} == {"4"}

    def test_a_number_that_the_site_or_the_person_has_set_stays(self) -> None:
        environment = person({"OMP_NUM_THREADS": "7"}, job={"NSLOTS": "4"})
        assert environment["OMP_NUM_THREADS"] == "7"
        assert environment["NUMBA_NUM_THREADS"] == "4"

    def test_libraries_that_use_openmps_number_without_their_own_follow_it(self) -> None:
        environment = person({"OMP_NUM_THREADS": "3,2", "MKL_NUM_THREADS": "5"})
        assert environment["OPENBLAS_NUM_THREADS"] == "3"
        assert environment["MKL_NUM_THREADS"] == "5"
        assert person({"OMP_NUM_THREADS": "many"}, job={"NSLOTS": "2"})["MKL_NUM_THREADS"] == "2"

    @pytest.mark.parametrize(
        ("lines", "slots"),
        [
            ("exec1 3 all.q@exec1 UNDEFINED\nexec2 5 all.q@exec2 UNDEFINED\n", 3),
            ("exec1 1 all.q@exec1 0\nexec1 2 long.q@exec1 0\n", 3),
            ("exec9 3 all.q@exec9 UNDEFINED\n", 8),  # another name of this host
            ("\n\n", 8),
            ("exec1 many", 8),
        ],
    )
    def test_of_a_job_on_several_workers_only_the_slots_here_count(
        self, tmp_path: Path, lines: str, slots: int
    ) -> None:
        (tmp_path / "hosts").write_text(lines, encoding="utf-8")
        job = {"PE_HOSTFILE": f"{tmp_path}/hosts", "HOSTNAME": "exec1", "NSLOTS": "8"}
        assert slots_here(job) == slots

    @pytest.mark.parametrize("slots", ["", "0", "many"])
    def test_without_a_number_of_slots_there_is_one(self, slots: str) -> None:
        assert slots_here({"NSLOTS": slots}) == 1


class TestDevices:
    def test_gpus_that_were_granted_without_the_menu_are_visible(self) -> None:
        job = {"SGE_HGR_gpu": "gpu2"}
        assert person(job=job, gpus={"gpu": 0})["CUDA_VISIBLE_DEVICES"] == "2"
        assert person(job=job)["CUDA_VISIBLE_DEVICES"] == "2"
        assert "CUDA_VISIBLE_DEVICES" not in person(job={"SGE_HGR_licence": "a"})

    def test_without_a_gpu_none_is_visible(self) -> None:
        environment = person(gpus={"gpu": 0})
        assert [environment[name] for name in DEVICES] == ["", "", ""]

    def test_where_the_menu_has_no_gpus_nothing_is_hidden(self) -> None:
        assert not person().keys() & set(DEVICES)

    def test_what_the_prolog_has_granted_stays(self) -> None:
        for number in (0, 1):
            environment = person({"CUDA_VISIBLE_DEVICES": "3"}, gpus={"gpu": number})
            assert environment["CUDA_VISIBLE_DEVICES"] == "3"

    def test_what_grid_engine_has_granted_is_visible(self) -> None:
        environment = person(job={"SGE_HGR_gpu": "0 2"}, gpus={"gpu": 2, "gpu_big": 0})
        assert environment["CUDA_VISIBLE_DEVICES"] == "0,2"

    def test_where_grid_engine_only_counts_all_are_visible(self) -> None:
        assert not person(gpus={"gpu": 1}).keys() & set(DEVICES)

    @pytest.mark.parametrize(
        ("granted", "devices"),
        [
            *(("", ""), ("1", "1"), ("gpu0 gpu3", "0,3"), ("0,1", "0,1"), ("GPU-5e a", "GPU-5e,a")),
            ("gpu1 gpu1", "1"),
        ],
    )
    def test_the_identifiers_of_grid_engine_become_those_of_the_driver(
        self, granted: str, devices: str
    ) -> None:
        assert granted_devices({"SGE_HGR_gpu": granted}, "gpu") == devices

    def test_an_amount_of_open_cluster_scheduler_names_no_device(self) -> None:
        lines = (OCS / "9.1.4/env_pe_rsmap.out").read_text("utf-8").splitlines()
        job = dict(line.split("=", 1) for line in lines)
        # The job had requested one of each; `accel` has identifiers, `gpu` has only an amount.
        assert (job["SGE_HGR_accel"], job["SGE_HGR_gpu"]) == ("a0", "1.000000")
        assert granted_devices(job, "accel") == "0"
        assert granted_devices(job, "gpu") == ""
        granted = {name: job[name] for name in job if name.startswith("SGE_HGR_")}
        assert not person(job=granted, gpus={"gpu": 1}).keys() & set(DEVICES)
        assert person(job=granted, gpus={"accel": 1})["CUDA_VISIBLE_DEVICES"] == "0"
        assert slots_here({"NSLOTS": job["NSLOTS"]}) == 2


class TestSiteKernel:
    def test_it_starts_without_variables_that_load_code_and_shows_them_to_its_children(
        self,
    ) -> None:
        environment = site_kernel_environment(
            {"PYTHONPATH": "/old", "PYTHONHOME": "/old", "LD_LIBRARY_PATH": "/cuda", "A": "1"}
        )
        assert environment == {
            "GRIDHUB_JOB_LD_LIBRARY_PATH": "/cuda",
            "A": "1",
        }


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("", "/own"),
        ("/usr/bin:/bin", "/own:/usr/bin:/bin"),
        ("/conda/bin:/usr/local/bin:/usr/bin", "/conda/bin:/own:/usr/local/bin:/usr/bin"),
        ("/conda/bin", "/conda/bin:/own"),
        ("/own:/usr/bin", "/own:/usr/bin"),
    ],
)
def test_own_programs_come_before_those_of_the_system(path: str, result: str) -> None:
    assert with_programs(path, "/own") == result


@pytest.mark.parametrize(
    ("path", "result"),
    [("/usr/bin", "/usr/bin:/own"), ("", "/own"), ("/own:/usr/bin", "/own:/usr/bin")],
)
def test_the_commands_of_sessions_come_last(path: str, result: str) -> None:
    assert with_programs_last(path, "/own") == result
