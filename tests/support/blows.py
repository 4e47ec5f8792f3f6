"""What may hit a team of machines (`tests/support/team.py`). After each blow everything is as before."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from tests.support.databases import rows, until_led_by_none
from tests.support.postgres import FAST, IMMEDIATE
from tests.support.stored_jobs import assert_stored_once
from tests.support.team import Blow, Hit, Team, Worker
from tests.support.worker_programs import may_have_mounts

MAX_AWAY_SECONDS = 1.0  # that a server or PostgreSQL is away longer than its restart takes
UNMOUNTED_SECONDS = 4.0  # a worker has tried several videos by then
NOTHING: Sequence[float] = ()

Strike = Callable[[Team, Random], Awaitable[Sequence[float]]]


async def kill(team: Team, rng: Random) -> Sequence[float]:
    """Kill a worker, and start it only when what it did has begun again elsewhere."""
    worker, lost = await team.busy(rng)
    since = await _kill(team, worker)
    begun_again = await team.until_begun_again(lost, since)
    await team.start(worker)
    return begun_again


async def kill_and_restart(team: Team, rng: Random) -> Sequence[float]:
    """Kill a worker and start it under its name at once, as systemd does."""
    worker, lost = await team.busy(rng)
    since = await _kill(team, worker)
    await team.start(worker)
    return await team.until_begun_again(lost, since)


async def terminate(team: Team, rng: Random) -> Sequence[float]:
    """Let a worker finish what it does and exit; none of that begins again."""
    worker, _ = await team.busy(rng)
    assert await asyncio.to_thread(worker.program.stop, signal.SIGTERM) == 0, worker.program.output
    await team.start(worker)
    return NOTHING


async def freeze(team: Team, rng: Random) -> Sequence[float]:
    """Freeze a worker for longer than its lease; its videos' processes end by themselves."""
    worker, lost = await team.busy(rng)
    since = time.monotonic()
    worker.program.freeze()
    begun_again = await team.until_begun_again(lost, since)
    await team.until_gone(lost)
    await _until_silent_for_the_lease(team, since)
    worker.program.thaw()
    await team.until_seen(worker)
    _note(team, worker, since)
    return begun_again


async def cut_off(team: Team, rng: Random) -> Sequence[float]:
    """Cut a worker's link for longer than its lease; cancel a job meanwhile that it works on."""
    worker, lost = await team.busy(rng)
    assert worker.machine is not None
    since = time.monotonic()
    worker.machine.link_down()
    try:
        order = next(order for order in team.orders if order.job_id == lost[0].job_id)
        team.requests.append(await team.api.request("cancel", order))
        begun_again = await team.until_begun_again(lost, since)
        await team.until(lambda: team.is_over(order), "the end of the job that was cancelled meanwhile")
        await team.until_gone(lost)
        await _until_silent_for_the_lease(team, since)
    finally:
        worker.machine.link_up()
    await team.until_seen(worker)
    _note(team, worker, since)
    return begun_again


async def unmount(team: Team, rng: Random) -> Sequence[float]:
    """Let a worker lose its media for a while: no job fails or pauses for that."""
    worker, _ = await team.busy(rng)
    since = time.monotonic()
    worker.program.unmount_media()
    try:
        await team.until(lambda: _is_at_rest(team, worker), f"{worker.name} rests without its media")
    finally:
        worker.program.mount_media()
    _note(team, worker, since)
    return NOTHING


async def kill_the_server(team: Team, rng: Random) -> Sequence[float]:
    """Kill the server and start it after a moment; the workers go on."""
    await team.server.end()
    await asyncio.to_thread(until_led_by_none, team.server.data_dir)
    await asyncio.to_thread(assert_stored_once, team.server.data_dir, team.clients)
    await _restart(team, rng)
    return NOTHING


async def restart_the_server(team: Team, rng: Random) -> Sequence[float]:
    """Stop and start the server as an upgrade does; the workers go on."""
    await team.server.end(signal.SIGTERM)
    await asyncio.to_thread(assert_stored_once, team.server.data_dir, team.clients)
    await _restart(team, rng)
    return NOTHING


async def restart_postgresql(team: Team, rng: Random) -> Sequence[float]:
    """Stop PostgreSQL as an upgrade does, and start it again."""
    return await _away(team, rng, FAST)


async def crash_postgresql(team: Team, rng: Random) -> Sequence[float]:
    """Crash PostgreSQL, and let it recover."""
    return await _away(team, rng, IMMEDIATE)


async def _kill(team: Team, worker: Worker) -> float:
    since = time.monotonic()
    await asyncio.to_thread(worker.program.kill)
    _note(team, worker, since)
    return since


def _note(team: Team, worker: Worker, since: float) -> None:
    team.hits.append(Hit(worker.program.starter, since, time.monotonic()))


async def _until_silent_for_the_lease(team: Team, since: float) -> None:
    """Wait until the worker was away for longer than its lease, also if it had nothing to lose any more."""
    await asyncio.sleep(max(0.0, since + team.lease_seconds + 1 - time.monotonic()))


def _is_at_rest(team: Team, worker: Worker) -> bool:
    query = "SELECT resting FROM worker WHERE name = :name AND resting IS NOT NULL"
    return bool(rows(team.server.data_dir, query, name=worker.name))


async def _restart(team: Team, rng: Random) -> None:
    await asyncio.sleep(rng.uniform(0, MAX_AWAY_SECONDS))
    await team.server.start()


async def _away(team: Team, rng: Random, number: int) -> Sequence[float]:
    await asyncio.to_thread(team.postgres.stop, number)
    await asyncio.sleep(rng.uniform(0, MAX_AWAY_SECONDS))
    await asyncio.to_thread(team.postgres.start)
    return NOTHING


STRIKES: dict[str, Strike] = {
    "killed": kill,
    "server killed": kill_the_server,
    "PostgreSQL restarted": restart_postgresql,
    "frozen": freeze,
    "killed and started again": kill_and_restart,
    "server restarted": restart_the_server,
    "cut off": cut_off,
    "PostgreSQL crashed": crash_postgresql,
    "terminated": terminate,
    **({"media unmounted": unmount} if may_have_mounts() else {}),
}
BLOWS = {name: Blow(name, strike) for name, strike in STRIKES.items()}
NEEDS_NETWORK = {"cut off"}
