"""What has embarrassed others who work on several machines, each with the test that excludes it here."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.database_proxy import Loss, database_proxy
from tests.support.databases import on_server, url_of
from tests.support.gated_jobs import VIDEO_IDS, ClipHome, Scene
from tests.support.networks import HOW_TO_GET_THEM, Network, may_make_networks
from tests.support.postgres import PostgresServer
from tests.support.processes import process_ids
from tests.support.readme_commands import cloned
from tests.support.servers import run_command
from tests.support.worker_programs import LOCAL, WorkerProgram, may_have_mounts

pytestmark = pytest.mark.postgresql_only

LEASE_SECONDS = 3.0
WAIT_SECONDS, POLL_SECONDS = 60.0, 0.02
SETTINGS: dict[str, Any] = {"max_running_videos": 0, "worker_lease_seconds": LEASE_SECONDS}
NO_WORKER = "Waiting for a worker: none is connected"
NAMES_IN_ORDER = ["a-b.csv", "a1.csv", "a_b.csv", "ab.csv"]  # in the locale en_US: a_b, a-b, a1, ab
FEW_CONNECTIONS = 40
HALF = len(VIDEO_IDS) // 2


@dataclass(frozen=True)
class Machines:
    """A server, and two workers on machines of their own, for many tests."""

    scene: Scene
    postgres: PostgresServer
    network: Network | None
    anna: WorkerProgram
    bert: WorkerProgram

    def worker(self, name: str) -> dict[str, Any]:
        """Return what the server knows of this worker."""
        workers: list[dict[str, Any]] = self.scene.client.get("/api/workers").raise_for_status().json()
        return next(worker for worker in workers if worker["name"] == name)


@pytest.fixture(scope="module")
def network() -> Iterator[Network | None]:
    if not may_make_networks():
        yield None
        return
    with Network.made() as made:
        yield made


@pytest.fixture(scope="module")
def postgres(network: Network | None) -> Iterator[PostgresServer]:
    """Start a PostgreSQL of these tests alone, on which they make their databases."""
    with PostgresServer.made(network=network) as server, on_server(server):
        yield server


@pytest.fixture(scope="module")
def machines(
    postgres: PostgresServer, network: Network | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    home = ClipHome.prepare(tmp_path_factory.mktemp("machines"))
    address = network.address if network else LOCAL
    with ExitStack() as stack:
        scene = stack.enter_context(home.served(**SETTINGS))
        anna, bert = (
            stack.enter_context(
                home.working(
                    name,
                    slots=HALF,
                    address=address,
                    machine=network.add() if network else None,
                    worker_lease_seconds=LEASE_SECONDS,
                )
            )
            for name in ("anna", "bert")
        )
        yield Machines(scene, postgres, network, anna, bert)


def until(holds: Callable[[], bool], what: str) -> None:
    """Return when this holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end, f"not in {WAIT_SECONDS:g} s: {what}"
        time.sleep(POLL_SECONDS)  # tables and processes have no event


def test_results_stored_twice_or_never(postgres: PostgresServer, tmp_path: Path) -> None:
    """A server dies before it has stored the results that its worker has reported; the next one stores each once."""
    home = ClipHome.prepare(tmp_path)
    with ExitStack() as stack:
        with home.served(**SETTINGS) as scene:
            stack.enter_context(home.working("anna", worker_lease_seconds=LEASE_SECONDS))
            job = scene.submit("results")
            job.log.until_started(len(VIDEO_IDS))
            with _results_locked(home):
                job.open_gates(*VIDEO_IDS)
                ended = "SELECT count(*) FROM run WHERE state = 'ended'"
                until(lambda: scene.stored(ended) == [(len(VIDEO_IDS),)], "the worker's reports")
                assert job.job["current_video"] == 0
                scene.program.kill()
        with home.served(**SETTINGS) as scene:
            job.of(scene).assert_completed()
            assert sorted(job.log.started()) == sorted(VIDEO_IDS)
            assert scene.stored("SELECT count(*), count(DISTINCT position) FROM result") == [(6, 6)]
            until(lambda: scene.stored("SELECT id FROM run") == [], "no run is left")


@contextmanager
def _results_locked(home: ClipHome) -> Iterator[None]:
    """Keep everybody from storing a result."""
    with psycopg.connect(url_of(home.data / "dashboard.sqlite3")) as connection:
        connection.execute("LOCK TABLE result IN EXCLUSIVE MODE")
        yield
        connection.rollback()


@pytest.mark.skipif(not may_make_networks(), reason=HOW_TO_GET_THEM)
def test_cancelled_while_a_process_runs_on_a_machine_cut_off(machines: Machines) -> None:
    """Such a job is cancelling until the machine has ended its processes, which it does by itself."""
    assert machines.anna.machine is not None
    job = machines.scene.submit("cut-off")
    starts = job.log.until_started(len(VIDEO_IDS))
    there = [start for start in starts if start.starter == machines.anna.starter]
    machines.anna.machine.link_down()
    try:
        assert there, "the machine works on none"
        assert job.request("cancel").status_code == 200
        until(lambda: len(job.log.at_work()) == len(there), "the end of the others")
        assert (job.job["status"], job.job["requested"]) == ("processing", "cancel")
        assert job.log.at_work() == there, "it ended before its lease"
        job.until("cancelled")
        assert job.log.at_work() == []
    finally:
        machines.anna.machine.link_up()
    until(lambda: machines.worker("anna")["state"] == "working", "the machine is back by itself")
    assert machines.anna.is_running


def test_workers_gone_after_a_database_restart(machines: Machines) -> None:
    """Both go on with what they did, and take further videos."""
    scene = machines.scene
    job = scene.submit("restart")
    starts = job.log.until_started(len(VIDEO_IDS))
    machines.postgres.stop()
    machines.postgres.start()
    until(lambda: job.request("keep").status_code == 200, "the server is back")
    job.open_gates(*VIDEO_IDS)
    job.assert_completed()
    assert job.log.starts() == starts
    later = scene.submit("after the restart")
    starts = later.log.until_started(len(VIDEO_IDS))
    later.open_gates(*VIDEO_IDS)
    later.assert_completed()
    assert {start.starter for start in starts} == {machines.anna.starter, machines.bert.starter}


def test_a_long_video_begun_again_because_the_server_was_upgraded(postgres: PostgresServer, tmp_path: Path) -> None:
    """The workers go on while the server is stopped, and the next one takes their results."""
    home = ClipHome.prepare(tmp_path)
    with ExitStack() as stack:
        with home.served(**SETTINGS) as scene:
            stack.enter_context(home.working("anna", worker_lease_seconds=LEASE_SECONDS))
            job = scene.submit("upgrade")
            starts = job.log.until_started(len(VIDEO_IDS))
            assert scene.program.stop(signal.SIGTERM) == 0
        job.open_gates(VIDEO_IDS[0])
        job.log.until_ended(1)
        assert len(job.log.at_work()) >= len(VIDEO_IDS) - 1
        with home.served(**SETTINGS) as scene:
            job.open_gates(*VIDEO_IDS)
            job.of(scene).assert_completed()
            assert job.log.starts() == starts


def test_two_leaders(machines: Machines, tmp_path: Path) -> None:
    database = url_of(machines.scene.home.data / "dashboard.sqlite3")
    second = run_command("--no-browser", data_dir=tmp_path / "second", database_url=database, port=1)
    assert second.returncode == 1
    assert "Another server uses this database: process" in second.stderr
    assert machines.scene.client.get("/healthz").status_code == 200


async def test_a_lost_commit_that_ends_the_server(postgres: PostgresServer, tmp_path: Path) -> None:
    """The answer of a COMMIT is lost, and its connection with it: the tick is stored once, and all goes on."""
    home = await asyncio.to_thread(ClipHome.prepare, tmp_path)
    name = url_of(home.data / "dashboard.sqlite3").rpartition("/")[2]
    loop = asyncio.get_running_loop()
    async with database_proxy(postgres.port) as proxy:
        url = f"{postgres.url_through(proxy.port)}/{name}?sslmode=disable"

        def lose_an_answer() -> None:
            asyncio.run_coroutine_threadsafe(proxy.lose(Loss.ANSWER), loop).result(WAIT_SECONDS)

        assert await asyncio.to_thread(_results_after, home, url, lose_an_answer) == (len(VIDEO_IDS), len(VIDEO_IDS))


def _results_after(home: ClipHome, url: str, lose_an_answer: Callable[[], None]) -> tuple[int, int]:
    """Return the number of stored results and of videos that have one, after a job during which this happened."""
    with home.served(database_url=url, max_running_videos=len(VIDEO_IDS)) as scene:
        job = scene.submit("lost")
        job.log.until_started(len(VIDEO_IDS))
        lose_an_answer()
        job.open_gates(*VIDEO_IDS)
        job.assert_completed()
        assert scene.program.is_running
        [(results, videos)] = scene.stored("SELECT count(*), count(DISTINCT position) FROM result")
        return int(results), int(videos)


def test_silence_when_no_worker_is_there(postgres: PostgresServer, tmp_path: Path) -> None:
    """A job says what it waits for, and begins as soon as there is a worker."""
    home = ClipHome.prepare(tmp_path)
    with home.served(**SETTINGS) as scene:
        job = scene.submit("waiting")
        until(lambda: (job.job["waiting"] or {}).get("reason") == NO_WORKER, "the reason")
        with home.working("anna", worker_lease_seconds=LEASE_SECONDS):
            job.log.until_started(len(VIDEO_IDS))
            until(lambda: job.job["waiting"] is None, "it waits no longer")
            job.open_gates(*VIDEO_IDS)
            job.assert_completed()


def test_wrong_order_under_en_us(tmp_path: Path) -> None:
    """Lists have the same order on every PostgreSQL."""
    with PostgresServer.made(locale="en_US.UTF-8") as postgres, on_server(postgres):
        home = ClipHome.prepare(tmp_path)
        with home.served(**SETTINGS) as scene:
            for name in sorted(NAMES_IN_ORDER, key=len):
                scene.client.post("/api/jobs", json={"video_ids": ["a"], "name": name}).raise_for_status()
            jobs = scene.client.get("/api/jobs", params={"sort": "name"}).json()["items"]
    assert [job["name"] for job in jobs] == NAMES_IN_ORDER


@pytest.mark.parametrize("path", ["/api/jobs/%00", "/api/workers/%00", "/api/jobs?q=%00"])
def test_5xx_for_nul(machines: Machines, path: str) -> None:
    for method in ("GET", "PUT"):
        assert machines.scene.client.request(method, path, json={"drain": True}).status_code < 500


def test_a_worker_of_another_version(machines: Machines, tmp_path: Path) -> None:
    clone = cloned(tmp_path / "clone")
    version = clone / "backend" / "client" / "progress_dashboard" / "version.py"
    version.write_text(version.read_text().replace('VERSION = "', 'VERSION = "9.'))
    home = machines.scene.home
    worker = WorkerProgram(home.data, "--name", "other", media=home.media, root=clone)
    assert worker.ended() == 1
    [sentence] = worker.lines
    assert "9.0.1.0" in sentence
    assert "0.1.0" in sentence.replace("9.0.1.0", "")


def test_connections_used_up(tmp_path: Path) -> None:
    """A worker that finds none left says so in a sentence, and the server goes on."""
    with PostgresServer.made(max_connections=FEW_CONNECTIONS) as postgres, on_server(postgres), ExitStack() as stack:
        home = ClipHome.prepare(tmp_path)
        with home.served(**SETTINGS) as scene:
            url = url_of(home.data / "dashboard.sqlite3")
            with suppress(psycopg.OperationalError):  # too many clients already
                for _ in range(FEW_CONNECTIONS):
                    stack.callback(psycopg.connect(url).close)
            worker = WorkerProgram(home.data, "--name", "late", media=home.media)
            assert worker.ended() == 1
            [sentence] = worker.lines
            assert "no connections left" in sentence
            assert scene.client.get("/healthz").status_code == 200


def test_a_database_url_with_its_password_in_a_log_or_ps(machines: Machines) -> None:
    password = machines.postgres.password
    programs = (machines.scene.program, machines.anna, machines.bert)
    assert not [program.output for program in programs if password in program.output]
    commands = [command for pid in process_ids() if (command := _command_of(pid))]
    assert any("main.py" in command for command in commands)
    assert not [command for command in commands if password in command]


@pytest.mark.skipif(not may_have_mounts(), reason="mounts of its own need root, unshare and nsenter: util-linux")
def test_a_bad_mount_that_fails_a_whole_list(machines: Machines) -> None:
    """The machine without its media rests, and says why; the other one does the list, and nothing has failed."""
    machines.anna.unmount_media()
    try:
        job = machines.scene.submit("bad-mount")
        until(lambda: machines.worker("anna")["resting"] is not None, "it rests")
        assert "is empty on this machine" in machines.worker("anna")["resting"]
        job.open_gates(*VIDEO_IDS)
        job.assert_completed()
        assert {start.starter for start in job.log.starts()} == {machines.bert.starter}
    finally:
        machines.anna.mount_media()


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has exited
        return ""
