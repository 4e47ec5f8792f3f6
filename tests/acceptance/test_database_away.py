"""PostgreSQL restarts, crashes, freezes, or its link breaks, under 50 watched jobs: all goes on, nothing is lost.

A round is one fault, at a random moment. Ten rounds share a server and its database, and each continues the unfinished
jobs of the one before. The server never ends; each tick is stored once, also if the answer of its COMMIT is lost.

In the gate a round of each kind; `python -m tests.acceptance.test_database_away` runs 50 and prints what happened.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest

from backend.delivery.journal import INTERVAL_SECONDS
from progress_dashboard.protocol import UNFINISHED
from tests.support.database_proxy import DatabaseProxy, Loss, database_proxy
from tests.support.databases import on_server, rows, url_of
from tests.support.homes import Home
from tests.support.logging_processor import StartLog
from tests.support.mirror_client import MirrorClient
from tests.support.postgres import FAST, IMMEDIATE, PostgresServer
from tests.support.server_runs import Server
from tests.support.stored_jobs import assert_never_back, assert_stored_once
from tests.support.watched_jobs import (
    JOBS,
    MAX_UPDATES,
    POLL_SECONDS,
    Api,
    Order,
    clients_of,
    following,
    new_order,
    prepare_home,
    server_of,
    until_caught_up,
    until_received,
)

pytestmark = pytest.mark.postgresql_only

ROUNDS, ROUNDS_OF_A_SERVER = 50, 10
SEED_IN_THE_GATE = 1
FROZEN_SECONDS, FROZEN_SECONDS_IN_THE_GATE = 20.0, 4.0
MAX_AWAY_SECONDS = 1.0  # that a restart or crash takes longer than PostgreSQL itself
BACK_SECONDS = 2.0  # what is promised, on a machine that is not busy …
MAX_BACK_SECONDS = 10.0  # … and what is asserted on any
END_SECONDS = 90.0
BUGS = ("number=", "never retrieved")  # in the log: a request or a task that failed for a cause that nothing expects


@dataclass
class Scene:
    """The server with its database behind a proxy, its clients, and everything that was observed of them."""

    data_dir: Path
    postgres: PostgresServer
    proxy: DatabaseProxy
    server: Server
    api: Api
    clients: Sequence[MirrorClient]
    log: StartLog
    frozen_seconds: float
    orders: list[Order] = field(default_factory=list)

    @property
    def unanswered(self) -> list[Order]:
        """The orders without a job ID yet."""
        return [order for order in self.orders if order.job_id is None]

    @property
    def newest_received(self) -> int:
        """The newest position that any client has received."""
        return max((max(client.received_seqs, default=0) for client in self.clients), default=0)

    async def until_newer(self, position: int) -> None:
        """Return when a client has received something newer than this."""
        async with asyncio.timeout(END_SECONDS):
            while self.newest_received <= position:
                await self.clients[0].changed(POLL_SECONDS / 10)


@dataclass(frozen=True)
class Round:
    """What one fault did."""

    fault: str
    # From the moment at which the database could be used again until a client received something new.
    back_seconds: float
    # While the database was away.
    refusals: Sequence[str]
    finished_videos: int

    def __str__(self) -> str:
        said = f', "{self.refusals[0]}"' if self.refusals else ""
        return f"{self.fault}: back after {self.back_seconds:.2f} s ({self.finished_videos} videos finished{said})"


async def restart(scene: Scene, rng: Random) -> None:
    """Stop PostgreSQL as an upgrade does, and start it again."""
    await _away(scene, rng, FAST)


async def crash(scene: Scene, rng: Random) -> None:
    """Crash PostgreSQL, and let it recover."""
    await _away(scene, rng, IMMEDIATE)


async def _away(scene: Scene, rng: Random, number: int) -> None:
    await asyncio.to_thread(scene.postgres.stop, number)
    await _expect_words(scene)
    await asyncio.sleep(rng.uniform(0, MAX_AWAY_SECONDS))
    await asyncio.to_thread(scene.postgres.start)


async def freeze(scene: Scene, rng: Random) -> None:
    """Stop PostgreSQL's processes, whose connections stay open, and let them continue."""
    end = asyncio.get_running_loop().time() + scene.frozen_seconds
    scene.postgres.freeze()
    try:
        await _expect_words(scene)
        await asyncio.sleep(max(0.0, end - asyncio.get_running_loop().time()))
    finally:
        scene.postgres.thaw()


async def lose_an_answer(scene: Scene, rng: Random) -> None:
    """Lose the answer of a COMMIT with its connection: it is stored."""
    await scene.proxy.lose(Loss.ANSWER)


async def lose_a_request(scene: Scene, rng: Random) -> None:
    """Lose a COMMIT with its connection: it is not stored."""
    await scene.proxy.lose(Loss.REQUEST)


async def cut(scene: Scene, rng: Random) -> None:
    """Cut all connections."""
    scene.proxy.cut()


Fault = Callable[[Scene, Random], Awaitable[None]]
FAULTS: dict[str, Fault] = {
    "restart": restart,
    "crash": crash,
    "freeze": freeze,
    "lost answer": lose_an_answer,
    "lost request": lose_a_request,
    "cut link": cut,
}
FAULTS_IN_THE_GATE = ("lost answer", "restart", "freeze", "crash")


async def _expect_words(scene: Scene) -> None:
    """Check that a request is refused in words while the database is away, and that the server says so."""
    order = new_order(len(scene.orders), Random(len(scene.orders)))
    refused = len(scene.api.refusals)
    scene.orders.append(order)
    await scene.api.submit_all([order])
    assert order.job_id is None, "a job was accepted without a database"
    assert "right now" in scene.api.refusals[refused], scene.api.refusals[refused]
    for health in await scene.api.health():
        assert (health.status_code, "failing" in health.text) == (503, True), health.text


async def play(
    home: Home, postgres: PostgresServer, faults: Sequence[str], *, seed: int, frozen_seconds: float
) -> list[Round]:
    """Play a round of each of these faults over this home, then let all jobs finish and check them."""
    rng, log = Random(seed), StartLog(home.path / "starts.log")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(database_proxy(postgres.port))
        name = url_of(home.path / "data" / "dashboard.sqlite3").rpartition("/")[2]
        server = server_of(home, database_url=f"{postgres.url_through(proxy.port)}/{name}?sslmode=disable")
        stack.push_async_callback(server.close)
        await server.start()
        api = Api(server.url, home.tokens, log, may_refuse=True)
        stack.push_async_callback(api.close)
        clients = clients_of(server.port, home, rng)
        for client in clients:
            client.may_refuse = True
        scene = Scene(home.path / "data", postgres, proxy, server, api, clients, log, frozen_seconds)
        await stack.enter_async_context(following(clients))
        played = [await _round(scene, fault, rng) for fault in faults]
        await _submit_all(scene)
        await _until_all_finished(scene)
        await until_caught_up(clients, await api.jobs())
        assert server.is_running, f"the server ended:\n{server.output}"
        assert not [bug for bug in BUGS if bug in server.output], server.output
    _check_end(scene)
    return played


async def _round(scene: Scene, fault: str, rng: Random) -> Round:
    """Submit jobs until 50 are unfinished, cause the fault at a random moment, and check everything after it."""
    jobs = await scene.api.jobs()
    unfinished = sum(job["status"] in UNFINISHED for job in jobs.values()) + len(scene.unanswered)
    scene.orders += [new_order(number, rng) for number in range(JOBS - unfinished)]
    submitting = asyncio.create_task(_submit_all(scene))
    received, refused = len(scene.clients[0].received_updates), len(scene.api.refusals)
    await until_received(scene.clients[0], received + rng.randint(1, MAX_UPDATES))
    await asyncio.sleep(rng.uniform(0, INTERVAL_SECONDS))  # anywhere within a tick
    await FAULTS[fault](scene, rng)
    began, position = time.perf_counter(), scene.newest_received
    await scene.until_newer(position)
    back_seconds = time.perf_counter() - began
    await submitting
    assert scene.server.is_running, f"the server ended:\n{scene.server.output}"
    assert back_seconds < MAX_BACK_SECONDS, f"{fault}: nothing new for {back_seconds:.1f} s"
    finished = await asyncio.to_thread(assert_stored_once, scene.data_dir, scene.clients)
    return Round(fault, back_seconds, scene.api.refusals[refused:], finished)


async def _submit_all(scene: Scene) -> None:
    """Submit all orders until the server has accepted each of them."""
    async with asyncio.timeout(END_SECONDS):
        while orders := scene.unanswered:
            await scene.api.submit_all(orders)
            await asyncio.sleep(POLL_SECONDS if scene.unanswered else 0)


async def _until_all_finished(scene: Scene) -> None:
    async with asyncio.timeout(END_SECONDS):
        while any(job["status"] in UNFINISHED for job in (await scene.api.jobs()).values()):
            await scene.clients[0].changed(POLL_SECONDS)


def _check_end(scene: Scene) -> None:
    """Check the final state of each job, that each video was started once, and that no client went back."""
    assert_stored_once(scene.data_dir, scene.clients)
    columns = "id, status, current_video, failed, progress"
    stored = {row.id: tuple(row)[1:] for row in rows(scene.data_dir, f"SELECT {columns} FROM job")}
    assert stored == {order.job_id: (order.end, len(order.video_ids), 1, 100) for order in scene.orders}
    again = [video for video, number in Counter(start.video for start in scene.log.starts()).items() if number > 1]
    assert again == [], "a video was started again, although the server never ended"
    assert_never_back(scene.clients)


async def test_all_goes_on_after_the_database_was_away(tmp_path: Path) -> None:
    """The server never ends, no update that was sent is lost, and no tick is stored twice."""
    with PostgresServer.made(is_durable=True) as postgres, on_server(postgres):
        played = await play(
            await prepare_home(tmp_path / "home"),
            postgres,
            FAULTS_IN_THE_GATE,
            seed=SEED_IN_THE_GATE,
            frozen_seconds=FROZEN_SECONDS_IN_THE_GATE,
        )
    print(*played, sep="\n")
    assert {one.fault for one in played if one.refusals} >= {"restart", "freeze", "crash"}


async def _play_many(rounds: int, postgres: PostgresServer) -> tuple[list[Round], int]:
    """Play these rounds and print each; return them, and how many series failed."""
    played, failed, faults = list[Round](), 0, cycle(FAULTS)
    with tempfile.TemporaryDirectory() as directory:
        home = await prepare_home(Path(directory, "template"))
        for seed in range(1, -(-rounds // ROUNDS_OF_A_SERVER) + 1):
            chosen = list(islice(faults, min(ROUNDS_OF_A_SERVER, rounds - len(played))))
            try:
                series = await play(
                    home.copy(Path(directory, str(seed))), postgres, chosen, seed=seed, frozen_seconds=FROZEN_SECONDS
                )
                print(*(f"seed {seed:2}: {one}" for one in series), sep="\n", flush=True)
                played += series
            except* AssertionError as errors:
                failed += 1
                print(f"seed {seed:2} FAILED: {errors.exceptions}", flush=True)
            shutil.rmtree(Path(directory, str(seed)))
    return played, failed


def main(rounds: int = ROUNDS) -> None:
    """Play many rounds and print what happened; exit with 1 if one failed, or if it was late."""
    with PostgresServer.made(is_durable=True) as postgres, on_server(postgres):
        played, failed = asyncio.run(_play_many(rounds, postgres))
    seconds = {fault: [one.back_seconds for one in played if one.fault == fault] for fault in FAULTS}
    for fault, times in seconds.items():
        if times:
            print(
                f"{fault}: {len(times)} times, back after p50 {statistics.median(times):.2f}, worst {max(times):.2f} s"
            )
    late = sum(one.back_seconds > BACK_SECONDS for one in played)
    print(f"{len(played)} rounds, {late} later than {BACK_SECONDS} s: each tick once, nothing that was sent was lost")
    if failed or late:
        sys.exit(f"{failed} series failed, {late} rounds were late")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
