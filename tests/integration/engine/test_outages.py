"""A worker without PostgreSQL: it goes on for its lease, ends its processes then, and comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.database_proxy import DatabaseProxy, Loss, database_proxy
from tests.support.workers import RunningWorker, ServerRows, a_worker, until

pytestmark = pytest.mark.postgresql_only
SHORT_LEASE_SECONDS = 3.0


@pytest.fixture
async def link(url: str) -> AsyncIterator[DatabaseProxy]:
    """Yield a link to PostgreSQL that can be made a bad one."""
    async with database_proxy(urlsplit(url).port or 5432) as proxy:
        yield proxy


def through(url: str, link: DatabaseProxy) -> str:
    """Return the address of the database behind the link."""
    return url.replace(f":{urlsplit(url).port}/", f":{link.port}/") + "?sslmode=disable&gssencmode=disable"


@pytest.fixture
async def far(url: str, link: DatabaseProxy, tmp_path: Path) -> AsyncIterator[RunningWorker]:
    """Yield a worker behind the link, with a usual lease."""
    async with a_worker(url, tmp_path, through=through(url, link)) as running:
        await running.start()
        yield running
        link.speak()


@pytest.fixture
async def hasty(url: str, link: DatabaseProxy, tmp_path: Path) -> AsyncIterator[RunningWorker]:
    """Yield a worker behind the link, with a short lease."""
    async with a_worker(url, tmp_path, through=through(url, link), lease_seconds=SHORT_LEASE_SECONDS) as running:
        await running.start()
        yield running
        link.speak()


async def begun(running: RunningWorker, server: ServerRows, video_id: str) -> int:
    """Return the run of this video, at which the worker is at work."""
    before = len(running.processes.started)
    running.add_file(video_id)
    run = await server.hand_over(video_id)
    await running.processes.until_started(before + 1)
    return run


async def test_an_outage_shorter_than_the_lease_costs_nothing(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    run = await begun(far, server, "clip")
    link.fall_silent()
    link.cut()
    far.processes.end("clip")
    await far.processes.until_idle()
    assert (await server.run(run))["state"] == "running"
    link.speak()
    row = await server.until_state(run, "ended")
    assert (row["outcome"]["result"], row["taken"], far.processes.stopping) == ({"frames": 25}, 1, [])


@pytest.mark.parametrize("how", ["silent", "cut"])
async def test_a_worker_that_is_cut_off_ends_its_processes_and_comes_back(
    hasty: RunningWorker, link: DatabaseProxy, server: ServerRows, how: str
) -> None:
    run = await begun(hasty, server, "clip")
    link.fall_silent()
    if how == "cut":
        link.cut()
    await hasty.processes.until_stopping(1)
    assert (await server.run(run))["state"] == "running"
    link.speak()
    row = await server.until_state(run, "waiting")
    assert (row["worker"], row["outcome"]) == (None, None)
    await server.tell(run)
    await hasty.processes.until_started(2)
    hasty.processes.end("clip")
    assert (await server.until_state(run, "ended"))["taken"] == 2


async def test_a_result_that_comes_too_late_is_not_stored(
    hasty: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    """Meanwhile the server has given the run to another worker."""
    run = await begun(hasty, server, "clip")
    link.fall_silent()
    hasty.processes.end("clip")
    await hasty.processes.until_idle()
    await server.execute("UPDATE run SET worker = 'cellar', taken = taken + 1 WHERE id = %s", (run,))
    link.speak()
    await server.until_no_engine_jobs()
    row = await server.run(run)
    assert (row["state"], row["worker"], row["outcome"]) == ("running", "cellar", None)


async def test_a_claim_whose_answer_is_lost_is_not_lost(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    far.add_file("clip")
    lost = asyncio.create_task(link.lose(Loss.ANSWER, tag="UPDATE 1"))
    await asyncio.sleep(0)
    run = await server.hand_over("clip")
    await lost
    assert (await server.run(run))["taken"] == 1
    await far.processes.until_started(1)
    far.processes.end("clip")
    row = await server.until_state(run, "ended")
    assert (row["taken"], far.processes.started) == (2, ["clip"])


async def test_a_run_that_is_delivered_twice_is_begun_once(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    run = await begun(far, server, "clip")
    await server.tell(run)
    await server.until_no_engine_jobs(but=1)
    far.processes.end("clip")
    assert (await server.until_state(run, "ended"))["taken"] == 1
    assert far.processes.started == ["clip"]


async def test_an_end_whose_answer_is_lost_is_not_said_again(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    """The second report finds that the run is not the worker's any more, and the worker goes on."""
    run = await begun(far, server, "clip")
    link.fall_silent()
    far.processes.end("clip")
    await far.processes.until_idle()
    lost = asyncio.create_task(link.lose(Loss.ANSWER, tag="SELECT 1"))
    link.speak()
    await lost
    await server.until_state(run, "ended")
    await server.until_no_engine_jobs()
    await begun(far, server, "next")
    assert far.processes.started == ["clip", "next"]


async def test_a_worker_ends_although_postgresql_is_away(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    await begun(far, server, "clip")
    link.fall_silent()
    link.cut()
    far.worker.drain()
    far.worker.drain()
    await far.ended()
    assert (far.processes.stopping, far.processes.running) == (["clip"], {})


async def test_a_worker_that_loses_postgresql_as_it_begins_waits_for_it(
    url: str, link: DatabaseProxy, server: ServerRows, tmp_path: Path
) -> None:
    async with a_worker(url, tmp_path, through=through(url, link)) as worker:
        assert await worker.worker.join()
        link.fall_silent()
        link.cut()
        worker.task = asyncio.create_task(worker.worker.run(grace_seconds=0))
        await asyncio.sleep(0)
        link.speak()
        await begun(worker, server, "clip")


async def test_all_waits_for_postgresql_after_many_cuts(
    far: RunningWorker, link: DatabaseProxy, server: ServerRows
) -> None:
    runs = []
    for number in range(8):
        runs.append(await begun(far, server, f"clip-{number}"))
        link.cut()
        far.processes.end(f"clip-{number}")
        await server.until_state(runs[-1], "ended")
    rows = await until(lambda: server.execute("SELECT state FROM run"), lambda rows: len(rows) == 8)
    assert {row["state"] for row in rows} == {"ended"}
    assert far.processes.started == [f"clip-{number}" for number in range(8)]
