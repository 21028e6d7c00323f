"""A site's own Grid Engine, accounts and rules: the hub fits them, and changes none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cluster import LogIn, host
from conftest import Site
from hub_client import HubClient, page_text, wait_for
from playbooks import output, playbook

PROBE = """
import json, os, socket
print(json.dumps({
    "host": socket.gethostname(), "home": os.path.realpath("."), "job": int(os.environ["JOB_ID"]),
    "slots": int(os.environ["NSLOTS"]),
}))
"""


def probe(person: HubClient) -> dict[str, Any]:
    person.open_lab()
    return dict(json.loads(person.run(person.start_kernel(), PROBE)))


def test_a_session_follows_the_sites_rules(login: LogIn, site: Site) -> None:
    alice = login("alice")
    alice.choose(cores=2, memory=4, gpus=1, run_time=2)
    alice.wait_until_ready()
    seen = probe(alice)
    assert seen["host"] == "node2", "the node with GPUs"
    assert seen["slots"] == 2
    assert seen["home"] == "/users/physics/alice"
    details = site.output(f"qstat -j {seen['job']}")
    assert "h_vmem=2097152K" in details, "per slot"
    assert "ngpu=1" in details, "per job"
    assert "project:                    webui" in details
    assert "SITE_POLICY=7" in details, "the site's own program has changed the request"
    assert "priority:                   -100" in details
    free = site.output("qhost -h node2 -F h_vmem,ngpu")
    assert "hc:h_vmem=12.000G" in free
    assert "hc:ngpu=1.000000" in free
    alice.stop()


def test_the_sites_own_words_say_why_a_request_is_refused(login: LogIn) -> None:
    alice = login("alice")
    refusal = alice.choose(cores=4, memory=4, run_time=1)
    wait_for(
        "the site's words",
        lambda: (
            "Site policy 4: at most 3 cores. Write to hpc@cluster.example."
            in page_text(alice.get("/hub/home")) + page_text(refusal)
        ),
        30,
    )


def test_default_options_of_qstat_hide_no_session(login: LogIn, site: Site) -> None:
    assert "-s rs -g c" in site.output("cat /opt/sge/site/common/sge_qstat")
    site.output('qmod -d "web.q"')
    bob = login("bob")
    try:
        bob.choose(cores=1, memory=1, run_time=1)
        # A job that waits is not in the default list, which `-s rs` limits to running jobs.
        words = "the queue takes no jobs at the moment"
        wait_for("the reason", lambda: words in page_text(bob.get("/hub/home")), 30)
    finally:
        site.output('qmod -e "web.q"')
    bob.wait_until_ready()
    first = probe(bob)
    host("jupyter").check_output("systemctl restart jupyterhub")
    wait_for("the hub is back", lambda: bob.get("/hub/health").status_code == 200, 60)
    bob.wait_until_ready()
    assert probe(bob)["job"] == first["job"]
    bob.stop()


def test_a_home_may_be_a_link(login: LogIn) -> None:
    hub = host("jupyter")
    hub.check_output(
        "cd /users && mkdir -p .disk2 && { [ -L chemistry/bob ] ||"
        " { mv chemistry/bob .disk2/bob && ln -s ../.disk2/bob chemistry/bob; }; }"
    )
    bob = login("bob")
    bob.choose(cores=1, memory=1, run_time=1)
    bob.wait_until_ready()
    assert probe(bob)["home"] == "/users/.disk2/bob"
    bob.stop()


def test_a_home_may_be_mounted_after_the_deployment(login: LogIn) -> None:
    hosts = [host(name) for name in ("jupyter", "node1", "node2")]
    hosts[0].check_output(
        "cd /users && { [ -d .late ] || mv chemistry/carol .late; } && mkdir -p chemistry/carol"
    )
    carol = login("carol")
    refusal = page_text(carol.choose(cores=1, memory=1, run_time=1))
    assert "home folder" in refusal
    assert "submission service" not in refusal
    for each in hosts:
        each.check_output("mount --bind /users/.late /users/chemistry/carol")
    try:
        carol.choose(cores=1, memory=1, run_time=1)
        carol.wait_until_ready()
        assert probe(carol)["home"] == "/users/chemistry/carol"
        carol.stop()
    finally:
        for each in hosts:
            each.run("umount --lazy /users/chemistry/carol")


def test_a_session_that_the_sites_work_suspends_says_so_and_goes_on(
    login: LogIn, site: Site, production_job: Callable[[str], str]
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    seen = probe(alice)
    job = production_job(seen["host"])
    words = f"Job {seen['job']} is suspended on"
    wait_for("the card says so", lambda: words in page_text(alice.get("/hub/home")), 90)
    site.output(f"qdel {job}")
    wait_for("it goes on", lambda: words not in page_text(alice.get("/hub/home")), 90)
    wait_for("its page is back", lambda: alice.get("/user/alice/api/status").ok, 60)
    assert probe(alice)["job"] == seen["job"]
    alice.stop()


def test_the_accounting_file_of_the_cell_tells_why_a_session_ended(
    login: LogIn, site: Site
) -> None:
    alice = login("alice")
    alice.choose(cores=1, memory=1, run_time=1)
    alice.wait_until_ready()
    site.output(f"qdel {probe(alice)['job']}")
    wait_for(
        "the page says who ended it",
        lambda: "deleted" in page_text(alice.get("/hub/home")),
        90,
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"sge_common_cell": "default"}, "sge_common_cell"),
        ({"jupyterhub_qsub_arguments": ["-P", "nosuch"]}, "nosuch"),
        ({"jupyterhub_qsub_arguments": ["-P", "webui", "-q", "all.q"]}, "all.q"),
        ({"jupyterhub_home_paths": ["/home"]}, "jupyterhub_home_paths"),
        ({"sge_common_ports": {"SGE_QMASTER_PORT": 6444, "SGE_EXECD_PORT": 6445}}, "6444"),
    ],
)
def test_a_mistake_is_named_before_anything_is_changed(
    variables: dict[str, object], words: str
) -> None:
    run = playbook("validate.yml", **variables)
    assert run.returncode != 0
    assert words in output(run)


def test_the_clusters_configuration_is_as_the_site_left_it(site: Site) -> None:
    state = site.state()
    for known in (
        "-sq web.q",
        "-sprj webui",
        "-sp shm",
        "-shgrp @compute",
        "h_vmem=16G",
        "sge_qstat",
    ):
        assert known in state, "control: the objects of the site are there"
    assert state == site.output("cat /root/state")
