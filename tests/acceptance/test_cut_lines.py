"""Connections that are cut, silent or slow, and a server that is killed: every client ends in exactly its state.

In the gate five examples; `python -m tests.acceptance.test_cut_lines` runs 50 and prints what happened in each.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec

from backend.delivery.journal import INTERVAL_SECONDS
from progress_dashboard.protocol import ProgressUpdate
from tests.support.chaos_proxy import BAD, SLOW, ChaosProxy, chaos_proxy
from tests.support.homes import Home
from tests.support.mirror_client import HISTORY, MirrorClient
from tests.support.senders import Order, Sender, plan_order
from tests.support.server_runs import Remains, Server

EXAMPLES = 50
IN_THE_GATE = 1
CLIENTS = (("admin", True), ("ana", False), ("ben", False))  # name of the user, and whether behind the slow proxy
FINISHED, UNFINISHED = 6, 2  # external jobs
VIDEO_IDS = ("whole", "whole-too", "truncated")
CATCH_UP_SECONDS = 30.0
COMPARE_AGAIN_SECONDS = 0.1
PAGE_SIZE = 20
FIELDS = ProgressUpdate.__struct_fields__

Fields = dict[str, Any]
Https = dict[str, httpx.AsyncClient]


@dataclass
class Example:
    """The clients, the proxies and the jobs of one example, and what happened in it."""

    seed: int
    clients: Sequence[MirrorClient]
    proxies: Sequence[ChaosProxy]
    # External jobs by owner.
    orders: dict[str, list[Order]]
    # ID of the job that the server itself works on.
    work_id: str = ""
    # Number of reports that the server answered.
    acknowledged: int = 0
    # Number of requests that a sender repeated.
    repeated: int = 0
    # The database after each kill.
    remains: list[Remains] = field(default_factory=list)
    # Number of jobs on the dashboard at the end.
    on_dashboard: int = 0
    # Number of errors that were not sent to a slow reader.
    reduced: int = 0
    seconds: float = 0.0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def all_orders(self) -> list[Order]:
        """The external jobs of all owners."""
        return [order for orders in self.orders.values() for order in orders]

    def acknowledge(self, reports: int) -> None:
        """Count reports that the server answered."""
        self.acknowledged += reports
        self._progress.set()

    async def until_acknowledged(self, share: float) -> None:
        """Return when this share of all reports was answered."""
        reports = sum(len(request) for order in self.all_orders for request in order.requests)
        while self.acknowledged < share * reports:
            self._progress.clear()
            await self._progress.wait()

    def __str__(self) -> str:
        received = sum(len(client.received_updates) for client in self.clients)
        delivered = sum(len(updates) for client in self.clients for updates in client.delivered.values())
        from_history = sum(client.from_history for client in self.clients)
        return (
            f"seed {self.seed:2}, {'direct' if self.seed % 2 == 0 else 'plain '}: {len(self.remains)} kills, "
            f"{sum(proxy.cut for proxy in self.proxies):3} cuts, "
            f"{sum(proxy.silenced for proxy in self.proxies):2} silences, "
            f"{sum(client.connections for client in self.clients):3} connections, {self.acknowledged:3} reports "
            f"({self.repeated:3} requests repeated), {sum(client.frames for client in self.clients):5} frames, "
            f"{received:5} updates received ({self.reduced:2} errors reduced away), "
            f"{delivered:5} delivered ({from_history:4} from history only), "
            f"{self.on_dashboard} jobs on the dashboard at the end, {self.seconds:.1f} s"
        )


async def _prepare(path: Path) -> Home:
    return await Home.prepare(path, clips=VIDEO_IDS, clip_seconds=0.3, users=("ana", "ben"))


async def play(home: Home, seed: int) -> Example:
    """Play one example: a time with faults, then one without, after which all clients must equal the server."""
    rng = Random(seed)
    server = Server(
        home.path / "data",
        media_dir=home.path / "media",
        allowed_hosts="127.0.0.1",
        direct_sending=seed % 2 == 0,
        completed_job_ttl_seconds=0.5,
        failed_job_ttl_seconds=2,
        cleanup_interval_seconds=0.3,
    )
    began = time.perf_counter()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        await server.start()
        https = {name: await stack.enter_async_context(_http(server, jwt)) for name, jwt in home.tokens.items()}
        proxies = [
            await stack.enter_async_context(chaos_proxy(server.port, policy, seed=f"{seed}")) for policy in (BAD, SLOW)
        ]
        example = Example(seed, _clients(home, proxies, rng), proxies, _orders(rng))
        await stack.enter_async_context(_following(example.clients))
        await _work_and_kill(example, server, https, rng)
        for proxy in proxies:
            proxy.calm()
        await Comparison(https).check(example)
    example.seconds = time.perf_counter() - began
    return example


def _clients(home: Home, proxies: Sequence[ChaosProxy], rng: Random) -> list[MirrorClient]:
    return [
        MirrorClient(
            name,
            port=proxies[is_slow].port,
            jwt=home.tokens[name],
            in_batches=in_batches,
            is_slow=is_slow,
            rng=Random(rng.random()),
        )
        for in_batches in (True, False)
        for name, is_slow in CLIENTS
    ]


def _orders(rng: Random) -> dict[str, list[Order]]:
    orders = [plan_order(f"order-{number}", ends=number < FINISHED, rng=rng) for number in range(FINISHED + UNFINISHED)]
    rng.shuffle(orders)
    return {"ana": orders[::2], "ben": orders[1::2]}


@asynccontextmanager
async def _following(clients: Sequence[MirrorClient]) -> AsyncIterator[None]:
    """Run all clients while the block runs; an error of one ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.run()) for client in clients]
        yield
        for task in tasks:
            task.cancel()


async def _work_and_kill(example: Example, server: Server, https: Https, rng: Random) -> None:
    """Run all jobs, and kill and restart the server meanwhile, once or twice."""
    senders = {name: Sender(https[name], example.acknowledge) for name in example.orders}
    async with asyncio.TaskGroup() as group:
        for name, sender in senders.items():
            group.create_task(sender.send_all(example.orders[name]))
        example.work_id = await senders["ana"].submit("work", VIDEO_IDS, processor="probe")
        for share in sorted(rng.uniform(0.1, 0.9) for _ in range(2 if example.seed % 4 == 0 else 1)):
            await example.until_acknowledged(share)
            await asyncio.sleep(rng.uniform(0, INTERVAL_SECONDS))  # anywhere within a tick
            example.remains.append(await server.kill())
            _check_remains(example, example.remains[-1])
            await server.start()
    example.repeated = sum(sender.repeated for sender in senders.values())


def _check_remains(example: Example, remains: Remains) -> None:
    """Check that everything that was sent or answered before the kill is stored."""
    for client in example.clients:
        assert max(client.received_seqs, default=0) <= remains.newest, f"{client} received what was not stored"
        for job_id, seq in client.received_updates:
            assert seq <= remains.jobs[job_id]["seq"], f"{client} received a state of {job_id} that was not stored"
    for order in example.all_orders:
        if order.acknowledged >= 0:
            stored = remains.jobs[order.job_id]
            assert stored["reported"] >= order.acknowledged, "an answered report was lost"
            assert stored["failed"] >= order.failed_by(order.acknowledged)


class Comparison:
    """Compares the clients with the server."""

    def __init__(self, https: Https) -> None:
        self._https = https

    async def check(self, example: Example) -> None:
        """Wait until all clients equal the server, then check what each received on the way."""
        await self._until_ended(example.work_id, example.clients[0])
        for client in example.clients:
            await self._until_caught_up(client)
            example.on_dashboard = max(example.on_dashboard, len(client.mirror.jobs) if client.in_batches else 0)
        history = {job_id: await self._history(job_id) for job_id in await self._jobs("admin")}
        for client in example.clients:
            _check_order(client)
            _check_errors(client, history)
            _check_runs(client, example.remains)
            example.reduced += _reduced(client, history)
        jobs = await self._jobs("admin")
        for order in example.all_orders:
            _check_sent(order, jobs[order.job_id], history[order.job_id])

    async def _until_ended(self, job_id: str, client: MirrorClient) -> None:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            while (await self._jobs("admin"))[job_id]["status"] in ("pending", "processing"):
                await client.changed(COMPARE_AGAIN_SECONDS)

    async def _until_caught_up(self, client: MirrorClient) -> None:
        difference = "nothing was compared"
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while difference := await self._difference(client):
                    await client.changed(COMPARE_AGAIN_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{client} never caught up: {difference}") from None

    async def _difference(self, client: MirrorClient) -> str:
        """Describe the jobs in which client and server differ; "" when there are none.

        The default format sends no removals, so there it compares the jobs on the dashboard and those that the client
        ever received.
        """
        server = await self._jobs(client.name, dashboard=True)
        if client.mirror.gaps:
            return f"waits for history of {sorted(client.mirror.gaps)}"
        if client.in_batches:
            own = {job_id: _fields(update) for job_id, update in client.mirror.jobs.items()}
        else:
            own = {job_id: _fields(updates[-1]) for job_id, updates in client.delivered.items()}
            every = await self._jobs(client.name)
            server = {job_id: every[job_id] for job_id in own.keys() | server.keys()}
        different = [job_id for job_id in own.keys() | server.keys() if own.get(job_id) != server.get(job_id)]
        return "; ".join(f"client {own.get(job_id)}, server {server.get(job_id)}" for job_id in different)

    async def _jobs(self, name: str, **query: bool) -> dict[str, Fields]:
        answer = await self._https[name].get("/api/jobs", params={"limit": 1000, **query})
        items = answer.raise_for_status().json()["items"]
        return {job["job_id"]: {name: job[name] for name in FIELDS if name in job} for job in items}

    async def _history(self, job_id: str) -> list[ProgressUpdate]:
        updates: list[ProgressUpdate] = []
        while True:
            query = {"limit": PAGE_SIZE, "after": updates[-1].seq if updates else 0}
            answer = await self._https["admin"].get(f"/api/jobs/{job_id}/progress-history", params=query)
            page = HISTORY.decode(answer.raise_for_status().content)
            updates += page
            if len(page) < PAGE_SIZE:
                return updates


def _http(server: Server, jwt: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {jwt}"}
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=CATCH_UP_SECONDS, trust_env=False)


def _check_order(client: MirrorClient) -> None:
    """Check that each update was delivered once, in the order of its job, and that no job stepped back."""
    assert client.stepped_back == []
    for updates in client.delivered.values():
        positions = [update.seq for update in updates]
        assert positions == sorted(set(positions)), f"{client} got updates out of order"


def _check_errors(client: MirrorClient, history: dict[str, list[ProgressUpdate]]) -> None:
    """Check that a client has every error of each job that it ever received, exactly as history has it."""
    for job_id, updates in client.delivered.items():
        own = {update.seq: update for update in updates}
        stored = {update.seq: update for update in history[job_id]}
        missing = [error.error for error in _errors(history[job_id]) if error.seq not in own]
        assert missing == [], f"{client} never got these"
        assert {seq: own[seq] for seq in own.keys() & stored.keys()} == {
            seq: stored[seq] for seq in own.keys() & stored.keys()
        }


def _check_runs(client: MirrorClient, runs: Sequence[Remains]) -> None:
    """Check that nothing arrived that the database of a killed server does not have, also what was still on the way."""
    for remains in runs:
        assert not [seq for seq in client.received_seqs if remains.newest < seq <= remains.killed_at]


def _reduced(client: MirrorClient, history: dict[str, list[ProgressUpdate]]) -> int:
    """Count the errors that were not sent on an open connection, because it was read too slowly."""
    errors = {job_id: [error.seq for error in _errors(updates)] for job_id, updates in history.items()}
    return sum(before < seq < after for job_id, before, after in client.steps for seq in errors[job_id])


def _check_sent(order: Order, job: Fields, history: Sequence[ProgressUpdate]) -> None:
    """Check that the server has everything that the sender of a job reported."""
    assert order.acknowledged == order.newest
    assert (job["status"], job["failed"]) == (order.end, len(order.failures))
    assert {error.video_id: error.error for error in _errors(history)} == {
        video_id: error.strip() for video_id, (_, error) in order.failures.items()
    }


def _errors(history: Sequence[ProgressUpdate]) -> Iterator[ProgressUpdate]:
    """Yield the updates with one more failed video than before."""
    failed = 0
    for update in history:
        if update.failed > failed:
            yield update
        failed = update.failed


def _fields(update: ProgressUpdate) -> Fields:
    fields: Fields = msgspec.to_builtins(update)
    return fields


async def test_clients_over_a_bad_network_end_in_the_servers_state(tmp_path: Path) -> None:
    home, cuts = await _prepare(tmp_path / "template"), 0
    for seed in range(1, IN_THE_GATE + 1):
        example = await play(home.copy(tmp_path / f"seed-{seed}"), seed)
        assert len(example.remains) >= 1, seed
        cuts += sum(proxy.cut for proxy in example.proxies)
    assert cuts > 0


async def _play_many(examples: int) -> int:
    """Play these examples and print each; return how many failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        home = await _prepare(Path(directory, "template"))
        for seed in range(1, examples + 1):
            try:
                print(await play(home.copy(Path(directory, str(seed))), seed), flush=True)
            except* AssertionError as errors:
                failed += 1
                print(f"seed {seed:2} FAILED: {_first(errors)}", flush=True)
            shutil.rmtree(Path(directory, str(seed)))
    return failed


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def main(examples: int = EXAMPLES) -> None:
    """Play many examples and print what happened in each; exit with 1 if one failed."""
    if failed := asyncio.run(_play_many(examples)):
        sys.exit(f"{failed} of {examples} examples failed")
    print(f"{examples} examples: all clients ended in the server's state, and received nothing that was not stored")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES)
