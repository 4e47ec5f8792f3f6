"""Three machines work on 50 watched jobs, while blows hit them, the server, PostgreSQL and the network.

A round is one blow, at a random moment; meanwhile owners cancel, pause, resume and retry some jobs. Ten rounds share a
database, and each continues the unfinished jobs of the one before. Each machine has a network namespace and mounts of
its own. A video may begin again only where its machine was hit; never do two processes work on one.

In the gate a round of each kind, with a short lease; `python -m tests.acceptance.test_workers [rounds]` plays 100 and
prints what happened. What each blow does is in `tests/support/blows.py`.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest

from tests.support.blows import BLOWS, NEEDS_NETWORK
from tests.support.databases import on_server
from tests.support.homes import Home
from tests.support.logging_processor import LogEntry, StartLog
from tests.support.networks import HOW_TO_GET_THEM, Network, may_make_networks
from tests.support.postgres import PostgresServer
from tests.support.team import Blow, Hit, Round, Team, Worker, begun_without_reason
from tests.support.watched_jobs import Api, clients_of, following, prepare_home, server_of, until_caught_up

pytestmark = pytest.mark.postgresql_only

ROUNDS, ROUNDS_OF_A_TEAM = 100, 10
SEED_IN_THE_GATE = 1
LEASE_SECONDS, LEASE_SECONDS_IN_THE_GATE = 5.0, 3.0
WORKERS, SLOTS = ("anna", "bert", "cleo"), 2
VIDEO_SECONDS = 1.5
LATE_SECONDS = {"killed": 6.0, "killed and started again": 5.0}  # promised; the first beyond the lease
SLACK_SECONDS = 10.0  # on any machine, in the gate
BUGS = ("number=", "never retrieved", "coordination_failed")  # in a log: what nothing expects


async def play(
    home: Home, postgres: PostgresServer, network: Network | None, blows: Sequence[Blow], *, seed: int, lease: float
) -> list[Round]:
    """Play a round of each of these blows over this home, then let all jobs finish and check them."""
    rng, log = Random(seed), StartLog(home.path / "starts.log")
    async with AsyncExitStack() as stack:
        server = server_of(home, max_running_videos=0, worker_lease_seconds=lease)
        stack.push_async_callback(server.close)
        await server.start()
        api = Api(server.url, home.tokens, log, may_refuse=True, seconds=VIDEO_SECONDS)
        stack.push_async_callback(api.close)
        clients = clients_of(server.port, home, rng)
        for client in clients:
            client.may_refuse = True
        team = Team(home, postgres, network, server, api, clients, log, lease)
        for name in WORKERS:
            worker = Worker(name, SLOTS, network.add() if network else None)
            team.workers.append(worker)
            stack.callback(worker.end)
        await asyncio.gather(*map(team.start, team.workers))
        team.watch()
        await stack.enter_async_context(following(clients))
        played = [await team.round(blow, rng) for blow in blows]
        await team.until_all_finished()
        await until_caught_up(clients, await api.jobs())
        await team.assert_nothing_left()
        for output in (server.output, *(worker.program.output for worker in team.workers)):
            _assert_no_bug(output)
    team.assert_end()
    return played


def test_a_video_may_begin_again_only_where_its_machine_was_hit() -> None:
    """The check of the long rounds notices what it is for."""
    first, again, third = _started(1, 1.0), _started(2, 3.0), _started(1, 5.0)
    hit = Hit(starter=1, since=1.5, until=2.0)
    assert begun_without_reason([first], []) == []
    assert begun_without_reason([first, again], []) == [again]
    assert begun_without_reason([first, again], [hit]) == []
    assert begun_without_reason([first, again], [Hit(starter=2, since=1.5, until=2.0)]) == [again]
    assert begun_without_reason([first, again], [Hit(starter=1, since=0.0, until=0.5)]) == [again]
    assert begun_without_reason([first, again, third], [hit]) == [third]


@pytest.mark.skipif(not may_make_networks(), reason=HOW_TO_GET_THEM)
def test_machines_are_cut_off_in_namespaces_of_their_own() -> None:
    assert {"cut off"} == NEEDS_NETWORK < BLOWS.keys()


async def test_whatever_hits_the_machines_every_video_is_done_once(tmp_path: Path) -> None:
    """Every job ends, no process works beside another one, and nothing that was seen is lost."""
    with ExitStack() as stack:
        network, postgres = _machines(stack)
        home = await prepare_home(tmp_path / "home")
        blows = _possible(network)
        played = await play(home, postgres, network, blows, seed=SEED_IN_THE_GATE, lease=LEASE_SECONDS_IN_THE_GATE)
    print(*played, sep="\n")
    assert [one.blow for one in played] == [blow.name for blow in blows]
    assert _late(played, LEASE_SECONDS_IN_THE_GATE, slack=SLACK_SECONDS) == []


def _assert_no_bug(output: str) -> None:
    """Check that a program met nothing that it did not expect."""
    for bug in BUGS:
        before, found, after = output.partition(bug)
        assert not found, f"{before[-500:]}{found}{after[:3000]}"


def _started(starter: int, at: float) -> LogEntry:
    return LogEntry("start", "one", "job", 0, pid=1, starter=starter, since=0, at=at)


def _machines(stack: ExitStack) -> tuple[Network | None, PostgresServer]:
    """Open a network, where this process may, and a PostgreSQL that its machines reach."""
    network = stack.enter_context(Network.made()) if may_make_networks() else None
    postgres = stack.enter_context(PostgresServer.made(network=network))
    stack.enter_context(on_server(postgres))
    return network, postgres


def _possible(network: Network | None) -> list[Blow]:
    return [blow for name, blow in BLOWS.items() if network is not None or name not in NEEDS_NETWORK]


def _late(played: Sequence[Round], lease: float, *, slack: float = 0.0) -> list[Round]:
    """Return the rounds in which a video began again later than promised, and than a slot for it became free."""
    limits = {**LATE_SECONDS, "killed": lease + LATE_SECONDS["killed"]}
    return [
        one
        for one in played
        if one.blow in limits and max(one.begun_again, default=0.0) > limits[one.blow] + VIDEO_SECONDS + slack
    ]


async def _play_many(rounds: int, network: Network | None, postgres: PostgresServer) -> tuple[list[Round], int]:
    """Play these rounds and print each; return them, and how many series failed."""
    played, failed, blows = list[Round](), 0, cycle(_possible(network))
    with tempfile.TemporaryDirectory() as directory:
        home = await prepare_home(Path(directory, "template"))
        for seed in range(1, -(-rounds // ROUNDS_OF_A_TEAM) + 1):
            chosen = list(islice(blows, min(ROUNDS_OF_A_TEAM, rounds - len(played))))
            copy = home.copy(Path(directory, str(seed)))
            try:
                series = await play(copy, postgres, network, chosen, seed=seed, lease=LEASE_SECONDS)
                print(*(f"seed {seed:2}: {one}" for one in series), sep="\n", flush=True)
                played += series
            except* AssertionError as errors:
                failed += 1
                print(f"seed {seed:2} FAILED: {errors.exceptions}", flush=True)
            shutil.rmtree(copy.path)
    return played, failed


def main(rounds: int = ROUNDS) -> None:
    """Play many rounds and print what happened; exit with 1 if one failed, or if it was late."""
    with ExitStack() as stack:
        network, postgres = _machines(stack)
        if network is None:
            print(f"left out: {', '.join(NEEDS_NETWORK)} ({HOW_TO_GET_THEM})")
        played, failed = asyncio.run(_play_many(rounds, network, postgres))
    for name in BLOWS:
        times = [seconds for one in played if one.blow == name for seconds in one.begun_again]
        begun = f", begun again after p50 {statistics.median(times):.1f}, worst {max(times):.1f} s" if times else ""
        print(f"{name}: {sum(one.blow == name for one in played)} times{begun}")
    late = _late(played, LEASE_SECONDS)
    print(f"{len(played)} rounds, lease {LEASE_SECONDS:g} s: every job ended, each video once, none beside another one")
    if failed or late:
        sys.exit(f"{failed} series failed, {len(late)} rounds were late")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
