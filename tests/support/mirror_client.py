"""A client of the progress socket over a real connection: a mirror that reconnects and asks history.

It reconnects within a moment, where the product's own client waits for seconds, and records what it received.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from progress_dashboard import Mirror, OutOfStep
from progress_dashboard.protocol import ProgressUpdate

RECONNECT_SECONDS = (0.02, 0.3)
OPEN_SECONDS = 1.0
PING_SECONDS = 0.25
SILENCE_SECONDS = 1.0
SETTLING_SECONDS = 0.05  # the default format does not mark the end of its snapshot
PAGE_SIZES = (2, 60)
HISTORY = msgspec.json.Decoder(list[ProgressUpdate])


class MirrorClient:
    """Follows a user's jobs through the proxy at this port, in batches or in the default format, while it runs."""

    # True if the server may refuse history for a while, because its database is away.
    may_refuse = False
    # Called with each update as it arrives on the socket, before anything else happens with it.
    on_arrival: Callable[[dict[str, Any]], None] | None = None

    def __init__(self, name: str, *, port: int, jwt: str, in_batches: bool, is_slow: bool, rng: Random) -> None:
        self.name = name
        self.in_batches = in_batches
        self.is_slow = is_slow
        self.mirror = Mirror()
        # The updates of each job as an application gets them.
        self.delivered: defaultdict[str, list[ProgressUpdate]] = defaultdict(list)
        # The `seq` of each frame and update that arrived on the socket.
        self.received_seqs: set[int] = set()
        # Job ID and `seq` of each update that arrived on the socket.
        self.received_updates: set[tuple[str, int]] = set()
        # Job ID and `seq` of two updates that followed each other on one connection.
        self.steps: set[tuple[str, int, int]] = set()
        # The jobs of which an older state was shown after a newer one; must stay empty.
        self.stepped_back: list[str] = []
        # Number of connections, of frames, and of updates that only history had.
        self.connections = 0
        self.frames = 0
        self.from_history = 0
        self._port = port
        self._jwt = jwt
        self._rng = rng
        self._last: dict[str, int] = {}
        self._newest: defaultdict[str, int] = defaultdict(int)
        self._changed = asyncio.Event()

    def __str__(self) -> str:
        form, proxy = "batch" if self.in_batches else "default", " behind the slow proxy" if self.is_slow else ""
        return f"{self.name}'s {form} client{proxy} (position {self.mirror.position}, connection {self.connections})"

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive())
            tasks.create_task(self._request_history())

    async def changed(self, within_seconds: float | None = None) -> None:
        """Return after the next frame or answer of history, or when this time is over."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _receive(self) -> None:
        while True:
            try:
                async with self._connect() as socket:
                    self.connections += 1
                    self._last.clear()
                    self.mirror.connected()
                    async for frame in socket:
                        self._take(frame)
            except (OSError, EOFError, WebSocketException, OutOfStep):
                self._notify()
            await asyncio.sleep(self._rng.uniform(*RECONNECT_SECONDS))

    def _connect(self) -> connect:
        position = f"&after={self.mirror.position}" if self.in_batches and self.mirror.position is not None else ""
        query = f"token={self._jwt}{'&format=batch' if self.in_batches else ''}{position}"
        return connect(
            f"ws://127.0.0.1:{self._port}/api/ws/progress?{query}",
            open_timeout=OPEN_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=None if self.is_slow else SILENCE_SECONDS,
            close_timeout=0.1,
            compression=None,
            proxy=None,
            max_size=2**20,
        )

    def _take(self, frame: str | bytes) -> None:
        self.frames += 1
        self._record(json.loads(frame))
        self._deliver(self.mirror.receive(frame, at=_now()))

    def _record(self, message: dict[str, Any]) -> None:
        self.received_seqs.add(message["seq"])
        for update in message.get("updates", [message] if "job_id" in message else []):
            job_id, seq = update["job_id"], update["seq"]
            if self.on_arrival is not None:
                self.on_arrival(update)
            self.received_seqs.add(seq)
            self.received_updates.add((job_id, seq))
            self.steps.add((job_id, self._last.get(job_id, seq), seq))
            self._last[job_id] = seq

    async def _request_history(self) -> None:
        base = f"http://127.0.0.1:{self._port}"
        headers = {"Authorization": f"Bearer {self._jwt}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=SILENCE_SECONDS, trust_env=False) as http:
            while True:
                while not self.mirror.gaps:
                    await self.changed()
                await asyncio.sleep(SETTLING_SECONDS)
                for job_id in tuple(self.mirror.gaps):
                    await self._request_page(job_id, http)

    async def _request_page(self, job_id: str, http: httpx.AsyncClient) -> None:
        """Request one page of one job's history."""
        after, connection, limit = self.mirror.gaps.get(job_id), self.connections, self._rng.randint(*PAGE_SIZES)
        if after is None:
            return
        try:
            answer = await http.get(f"/api/jobs/{job_id}/progress-history", params={"after": after, "limit": limit})
        except httpx.TransportError:
            return  # the connection was cut; the request is repeated
        if self.may_refuse and answer.status_code == 503:
            return  # the request is repeated
        assert answer.status_code == 200, answer.text
        if connection == self.connections:
            updates = HISTORY.decode(answer.content)
            delivered = self.mirror.fill_in(job_id, updates, at=_now(), whole=len(updates) < limit)
            self.from_history += sum((job_id, update.seq) not in self.received_updates for update in delivered)
            self._deliver(delivered)

    def _deliver(self, updates: list[ProgressUpdate]) -> None:
        for update in updates:
            self.delivered[update.job_id].append(update)
        for job_id, update in self.mirror.jobs.items():
            if update.seq < self._newest[job_id]:
                self.stepped_back.append(job_id)
            self._newest[job_id] = update.seq
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _now() -> datetime:
    return datetime.now(UTC)
