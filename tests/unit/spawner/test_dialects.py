# SPDX-License-Identifier: BSD-3-Clause
"""A whole hub and the broker's own code on a stand-in of Grid Engine's commands, by dialect.

The stand-in's qstat, qsub and qdel answer as 8.1.9 or Open Cluster Scheduler 9.1.4 did when they
were recorded, or as Altair's Grid Engine is described; the scheduler behind them is the test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from traitlets.config import Config

import altair
from fake_directory import FakeDirectory
from fake_grid import SGE, Like, Qstat, details, listing, until
from folders import OCS, QSTAT
from gridhub.broker import protocol
from gridhub.broker.config import parse_config
from gridhub.broker.protocol import Answer, Start, Stop, job_name
from gridhub.broker.requests import decide
from gridhub.grid.engine import GridEngine
from gridhub.grid.jobs import Job
from hub_menus import HAD
from sge_spawner import SGESpawner
from whole_hub import PORTS, Broker, Cluster, Hub, Lab, record, running, starting

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEW = OCS / "9.1.4"

#: The jobs of the recorded accounting files, by how they ended.
ENDS = ("hrt", "mem", "qdel", "exit3")


def old_record(end: str, session: str) -> str:
    return record(f"t-{end}", session)


def json_record(end: str, session: str) -> str:
    lines = (NEW / "accounting.jsonl").read_text("utf-8").splitlines()
    name = f"pdcjson-{end}"
    return next(line for line in lines if f'"{name}"' in line).replace(name, job_name(session))


def altair_record(end: str, session: str) -> str:
    return altair.record(f"t-{end}").replace(f"t-{end}", job_name(session))


@dataclass(frozen=True)
class StandIn:
    """A Grid Engine's answers."""

    dialect: str
    like: Like
    #: The accounting file's name, and its record for an end in :data:`ENDS`.
    accounting: str
    record: Callable[[str, str], str]
    #: Answers about free places and about all waiting jobs.
    places: Path
    line: Path
    #: Outputs of ``qsub -w p`` if the session has to wait, and of ``qsub -w v`` if it never starts.
    busy: str
    never: str
    qdel: str
    #: What of a job's use is measured, in ``qstat -j``.
    measured: dict[str, float] = field(default_factory=lambda: {"vmem": 150 * 2.0**20})


def from_file(path: Path) -> str:
    return path.read_text(encoding="utf-8")


_BUSY = """Unable to run job: Job 9 cannot run in PE "smp" because it only offers 0 slots
verification: no suitable queues
Exiting.
"""

#: Recorded on the demo's cluster, of 8.1.9.
OLD = StandIn(
    "sge",
    SGE,
    "accounting",
    old_record,
    QSTAT / "places.xml",
    QSTAT / "waiting.xml",
    _BUSY,
    _BUSY,
    from_file(QSTAT / "qdel.txt"),
)

#: Recorded on a host with 9.1.4. Jobs in systemd's scopes have no `vmem`.
OPEN = StandIn(
    "ocs",
    Like(
        NEW / "mixed_f_ne_xml_alice.out",
        NEW / "j_running_xml.out",
        NEW / "j_unknown_xml.out",
    ),
    "accounting.jsonl",
    json_record,
    NEW / "room_places_xml.out",
    NEW / "room_waiting_xml.out",
    from_file(NEW / "room_verify_p_busy_pe.err"),
    from_file(NEW / "verify_v_impossible_pe.err"),
    from_file(NEW / "qdel_running_by_name.out"),
    {"rss": 150 * 2.0**20, "maxrss": 160 * 2.0**20},
)


@pytest.fixture(scope="module")
def altairs(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    """Rebuilt from public descriptions, where they say anything; the rest is as with 8.1.9."""
    jobs = tmp_path_factory.mktemp("altair") / "jobs.xml"
    jobs.write_text(altair.job_list(from_file(SGE.jobs)), encoding="utf-8")
    return StandIn(
        "age",
        SGE._replace(jobs=jobs),
        "accounting",
        altair_record,
        OLD.places,
        OLD.line,
        OLD.busy,
        OLD.never,
        OLD.qdel,
    )


@pytest.fixture(params=["sge", "ocs", "age"])
def standin(request: pytest.FixtureRequest, altairs: StandIn) -> StandIn:
    return {"sge": OLD, "ocs": OPEN, "age": altairs}[request.param]


@pytest.fixture
def qstat(fake: Callable[[str, str], Path], tmp_path: Path, standin: StandIn) -> Qstat:
    qstat = Qstat(fake, tmp_path / "qstat", standin.like)
    qstat.offers(from_file(standin.places), from_file(standin.line))
    return qstat


@pytest.fixture
def settings(settings: Config, standin: StandIn) -> Config:
    settings.sge_dialect = standin.dialect
    return settings


#: A qsub that notes its arguments, and answers dry runs as the test says. MODE is `v` or `p`.
QSUB = r"""
cd FOLDER
case " $* " in
*" -w v "*) mode=v;;
*" -w p "*) mode=p;;
*) mode=; printf '%s\n' "$@" > "arguments.$$"; mv "arguments.$$" arguments;;
esac
if [ -n "$mode" ]; then
  [ -e "refuses.$mode" ] || { echo "verification: found suitable queue(s)"; exit 0; }
  cat "refuses.$mode" >&2; exit 1
fi
n=$(($(cat number 2>/dev/null || echo 0) + 1)); echo $n | tee number
"""


class OwnBroker(Broker):
    """The broker's own code in this process, with a stand-in of qsub and qdel."""

    def __init__(self, cluster: Cluster, folder: Path, config: bytes, qdel: str) -> None:
        super().__init__(cluster)
        self.folder = folder
        self.config = parse_config(config)
        (folder / "qdel.txt").write_text(qdel, encoding="utf-8")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = protocol.REQUEST.validate_json(await reader.read())
        self.requests.append(request)
        answer: Answer = await asyncio.to_thread(decide, self.config, request)
        # What a scheduler would do meanwhile.
        if isinstance(request, Start) and answer.ok:
            self.cluster.put(
                request.session, self.letters, owner=request.user, number=answer.job_id
            )
        if isinstance(request, Stop) and answer.ok:
            self.cluster.remove(request.session)
        writer.write(answer.model_dump_json().encode())
        writer.close()

    def refuses(self, mode: str, words: str) -> None:
        """Let ``qsub -w MODE`` fail with this output."""
        (self.folder / f"refuses.{mode}").write_text(words, encoding="utf-8")

    @property
    def arguments(self) -> list[str]:
        """The arguments of the last submission."""
        return (self.folder / "arguments").read_text(encoding="utf-8").splitlines()


@pytest_asyncio.fixture(loop_scope="module")
async def broker(
    tmp_path: Path,
    cluster: Cluster,
    grid: GridEngine,
    menu_file: Path,
    fake: Callable[[str, str], Path],
    standin: StandIn,
    accounts: FakeDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[OwnBroker]:
    monkeypatch.setattr("gridhub.broker.requests.become", lambda user: None)
    folder, home = tmp_path / "grid", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    accounts.add("alice", home=str(home))
    fake("qsub", QSUB.replace("FOLDER", str(folder)))
    fake("qdel", f'cd {folder}\necho "$@" > deleted\ncat qdel.txt')
    config = {
        "hub_user": "jupyterhub",
        "menu": str(menu_file),
        "job_script": "/etc/jupyterhub/session.sh",
        "minimum_uid": 1000,
        "allowed_users": ["alice"],
        "sge_root": str(grid.root),
        "sge_cell": grid.cell,
        "sge_bin_dir": str(grid.bin_dir),
        "timeout": 10,
        "ports": PORTS,
    }
    broker = OwnBroker(cluster, folder, json.dumps(config).encode(), standin.qdel)
    async with await asyncio.start_unix_server(broker.serve, tmp_path / "broker.sock"):
        yield broker


#: What the session had requested: like ``HAD``, but the run time of the recorded jobs.
ASKED = tuple(
    each.model_copy(update={"total": 15.0}) if each.kind == "run_time" else each for each in HAD
)


async def over(alice: Any) -> None:
    """Wait until the session has ended, then call ``stop`` as JupyterHub does."""
    spawner = alice.spawners[""]
    while await spawner.poll() is None:
        spawner.collector.hurry()
        await spawner.collector.news(0.1)
    await alice.stop()


def write_record(grid: GridEngine, standin: StandIn, end: str, session: str) -> None:
    folder = grid.accounting_file.parent
    folder.mkdir(parents=True, exist_ok=True)
    line = standin.record(end, session)
    (folder / standin.accounting).write_text(f"{line}\n", encoding="latin-1")


async def test_a_session_is_submitted_waits_runs_and_is_deleted(
    alice: Any, broker: OwnBroker, lab: Lab, qstat: Qstat, standin: StandIn
) -> None:
    full = 'queue instance "all.q@exec1" dropped because it is full'
    qstat.explains(details(reasons=[full], like=standin.like))
    spawner = alice.spawners[""]
    start = await starting(alice, broker, cores=2)
    assert spawner.job_id == "1"
    assert ["-terse", "-N", job_name(broker.session)] == broker.arguments[:3]
    assert broker.arguments[-5:-2] == ["-pe", "smp", "2"]
    async with asyncio.timeout(10):
        while not isinstance(spawner._job(), Job):
            await spawner.collector.news(10)
    assert (await spawner.view()).state == "waiting"
    broker.cluster.put(broker.session, owner="alice")
    spawner.announce(lab.port)
    await asyncio.wait_for(start, 10)
    view = await spawner.view()
    assert (view.state, view.job, view.host) == ("running", 1, "127.0.0.1")
    assert view.since is not None
    await alice.stop()
    deleted = (broker.folder / "deleted").read_text(encoding="utf-8").split()
    assert deleted == [job_name(broker.stops[-1].session)]
    assert (await alice.spawners[""].view()).state == "none"


async def test_the_card_shows_what_the_session_uses(
    alice: Any, broker: OwnBroker, lab: Lab, qstat: Qstat, standin: StandIn
) -> None:
    usage = {"cpu": 10.25, **standin.measured}
    qstat.explains(details(usage=usage, like=standin.like))
    spawner = await running(alice, broker, lab)
    spawner.asked = ASKED
    await spawner.status.details.look(10)
    cores, memory, *_ = (await spawner.view()).amounts
    assert memory.words == "150.0 MB of 300 MB"
    assert cores.words.endswith("of 2 in use on average")


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("hrt", "because its run time, 1 hour, was used up"),
        ("mem", "used more than its memory: 4"),
        ("qdel", "was deleted by an administrator or with qdel"),
        ("exit3", "with an error, exit status 3"),
    ],
)
async def test_each_end_has_its_reason(
    end: str,
    words: str,
    hub: Hub,
    alice: Any,
    broker: OwnBroker,
    lab: Lab,
    grid: GridEngine,
    standin: StandIn,
) -> None:
    assert end in ENDS
    spawner = await running(alice, broker, lab)
    spawner.asked = ASKED
    write_record(grid, standin, end, broker.session)
    broker.cluster.remove(broker.session)
    await over(alice)
    assert words in (await hub.spawner().view()).ended


async def test_a_record_of_another_dialect_is_logged_and_not_misread(
    hub: Hub,
    alice: Any,
    broker: OwnBroker,
    lab: Lab,
    grid: GridEngine,
    standin: StandIn,
    altairs: StandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await running(alice, broker, lab)
    other = OLD if standin.dialect == "age" else altairs
    write_record(grid, other, "hrt", broker.session)
    broker.cluster.remove(broker.session)
    await over(alice)
    assert "its run time was over, it used too much memory" in (await hub.spawner().view()).ended
    (warning,) = {each.getMessage() for each in caplog.records if "Cannot find" in each.message}
    assert f"sge_common_dialect is {standin.dialect}" in warning


async def test_the_forecast_gives_the_answer_of_qsub(
    hub: Hub, alice: Any, broker: OwnBroker, standin: StandIn
) -> None:
    async def ask(cores: int) -> Any:
        return await hub.spawner().forecast({"cores": cores})

    now = await ask(1)
    assert (now.verdict, now.message) == ("now", "There is room for it now.")
    labels = {each.label: each.total for each in now.free}
    assert labels["CPU cores"] in ("1", "2", "3"), labels
    broker.refuses("p", standin.busy)
    later = await ask(2)
    assert later.verdict == "later"
    assert later.message.startswith("It would have to wait")
    broker.refuses("v", standin.never)
    never = await ask(4)
    assert never.verdict == "never"
    assert never.message.startswith("It can never start")


async def test_a_qmaster_that_is_down_ends_no_session(
    alice: Any, broker: OwnBroker, lab: Lab, qstat: Qstat, standin: StandIn
) -> None:
    spawner = await running(alice, broker, lab)
    words = NEW / "stopped_qstat_f_ne_xml.err"
    if standin.dialect != "ocs":
        words = QSTAT / "qmaster_down.err.txt"
    qstat.fails(from_file(words))
    broker.cluster.jobs.clear()
    qstat.says(listing(like=standin.like))
    await until(lambda: spawner.collector.hurry() or spawner.collector.failures)
    assert await spawner.poll() is None


class TestNextRelease:
    """Open Cluster Scheduler 9.2, as its public source and manuals show it; it was not seen."""

    @pytest.fixture
    def standin(self) -> StandIn:
        return OPEN

    async def test_a_finished_job_that_is_still_listed_has_ended(
        self,
        hub: Hub,
        alice: Any,
        broker: OwnBroker,
        lab: Lab,
        grid: GridEngine,
        qstat: Qstat,
        standin: StandIn,
    ) -> None:
        spawner = await running(alice, broker, lab)
        spawner.asked = ASKED
        write_record(grid, standin, "hrt", broker.session)
        name = job_name(broker.session)
        # `qstat -s a` lists it with the letter f, and `qstat -j` shows it with the status of a
        # task that has finished.
        broker.cluster.put(broker.session, "f", owner="alice", host="")
        listed = listing(*broker.cluster.jobs.values(), like=standin.like)
        qstat.says(listed.replace('state="pending"', 'state="finished_retained"'))
        shown = details(owner="alice", like=standin.like)
        assert "<JAT_status>128<" in shown
        qstat._put(f"hidden.{name}", shown.replace("<JAT_status>128<", "<JAT_status>65536<"))
        await asyncio.wait_for(over(alice), 20)
        assert "its run time, 1 hour, was used up" in (await hub.spawner().view()).ended

    async def test_a_job_without_an_entry_in_xml_is_gone(
        self,
        hub: Hub,
        alice: Any,
        broker: OwnBroker,
        lab: Lab,
        qstat: Qstat,
        fake: Callable[[str, str], Path],
    ) -> None:
        spawner = await running(alice, broker, lab)
        empty = qstat.folder / "empty"
        empty.write_text(listing(like=OPEN.like), encoding="utf-8")
        fake(
            "qstat",
            'case "$2" in -j) echo "Following jobs do not exist: $3" >&2; exit 1;; esac\n'
            f"cat {empty}",
        )
        assert isinstance(spawner, SGESpawner)
        await asyncio.wait_for(over(alice), 20)
        assert (await hub.spawner().view()).state == "none"

    @pytest.mark.parametrize(
        "words", ['request limit "qstat:get:proc:*:*=1" exceeded', "denied: not allowed to see it"]
    )
    async def test_a_refused_question_ends_no_session(
        self,
        words: str,
        alice: Any,
        broker: OwnBroker,
        lab: Lab,
        qstat: Qstat,
        fake: Callable[[str, str], Path],
    ) -> None:
        spawner = await running(alice, broker, lab)
        empty = qstat.folder / "empty"
        empty.write_text(listing(like=OPEN.like), encoding="utf-8")
        (qstat.folder / "words").write_text(words, encoding="utf-8")
        # The command succeeds, with an answer that leaves out what was refused.
        fake("qstat", f"cat {qstat.folder}/words >&2; cat {empty}")
        spawner.collector.hurry()
        await until(lambda: spawner.collector.failures >= 2)
        assert await spawner.poll() is None
