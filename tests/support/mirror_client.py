"""A client of the progress socket over a real line: a mirror, a connection that comes back, and history's answers.

It comes back within a moment, where the product's own client waits for seconds, and writes down what it heard.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime
from random import Random
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from progress_dashboard import Mirror, OutOfStep
from progress_dashboard.protocol import ProgressUpdate

COMES_BACK_SECONDS = (0.02, 0.3)
OPEN_SECONDS = 1.0
PING_SECONDS = 0.25
SILENCE_SECONDS = 1.0
SETTLING_SECONDS = 0.05  # the default format tells nothing of where its snapshot ends
PAGES = (2, 60)
HISTORY = msgspec.json.Decoder(list[ProgressUpdate])


class MirroredClient:
    """Follows a user's jobs through the line at this port, in batches or in the default format, for as long as it runs.

    `handed_on`: the updates of each job as an application gets them. `heard`: the `seq` of all that ever arrived on the
    socket, `heard_updates` with their jobs, `steps` from one update of a job to the next on the same connection.
    `stepped_back`: what must stay empty, the jobs of which an older state was shown after a newer one.
    """

    def __init__(self, name: str, *, port: int, jwt: str, in_batches: bool, is_slow: bool, chance: Random) -> None:
        self.name = name
        self.in_batches = in_batches
        self.is_slow = is_slow
        self.mirror = Mirror()
        self.handed_on: defaultdict[str, list[ProgressUpdate]] = defaultdict(list)
        self.heard: set[int] = set()
        self.heard_updates: set[tuple[str, int]] = set()
        self.stepped_back: list[str] = []
        self.connections = 0
        self.frames = 0
        self.from_history = 0
        self.steps: set[tuple[str, int, int]] = set()
        self._port = port
        self._jwt = jwt
        self._chance = chance
        self._last: dict[str, int] = {}
        self._newest: defaultdict[str, int] = defaultdict(int)
        self._changed = asyncio.Event()

    def __str__(self) -> str:
        form, line = "batch" if self.in_batches else "default", " on the slow line" if self.is_slow else ""
        return f"{self.name}'s {form} client{line} (position {self.mirror.position}, connection {self.connections})"

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._ask_history())

    async def changed(self, within_seconds: float | None = None) -> None:
        """Return after the next word of the server, on the socket or from history, or when this time is over."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _listen(self) -> None:
        while True:
            try:
                async with self._connected() as socket:
                    self.connections += 1
                    self._last.clear()
                    self.mirror.connected()
                    async for frame in socket:
                        self._hear(frame)
            except (OSError, EOFError, WebSocketException, OutOfStep):
                self._tell()
            await asyncio.sleep(self._chance.uniform(*COMES_BACK_SECONDS))

    def _connected(self) -> connect:
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

    def _hear(self, frame: str | bytes) -> None:
        self.frames += 1
        self._write_down(json.loads(frame))
        self._hand_on(self.mirror.receive(frame, at=_now()))

    def _write_down(self, message: dict[str, Any]) -> None:
        self.heard.add(message["seq"])
        for update in message.get("updates", [message] if "job_id" in message else []):
            job_id, seq = update["job_id"], update["seq"]
            self.heard.add(seq)
            self.heard_updates.add((job_id, seq))
            self.steps.add((job_id, self._last.get(job_id, seq), seq))
            self._last[job_id] = seq

    async def _ask_history(self) -> None:
        base = f"http://127.0.0.1:{self._port}"
        headers = {"Authorization": f"Bearer {self._jwt}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=SILENCE_SECONDS, trust_env=False) as http:
            while True:
                while not self.mirror.gaps:
                    await self.changed()
                await asyncio.sleep(SETTLING_SECONDS)
                for job_id in tuple(self.mirror.gaps):
                    await self._ask_about(job_id, http)

    async def _ask_about(self, job_id: str, http: httpx.AsyncClient) -> None:
        """One page of one job's history."""
        after, connection, limit = self.mirror.gaps.get(job_id), self.connections, self._chance.randint(*PAGES)
        if after is None:
            return
        try:
            answer = await http.get(f"/api/jobs/{job_id}/progress-history", params={"after": after, "limit": limit})
        except httpx.TransportError:
            return  # a bad line; it is asked again
        assert answer.status_code == 200, answer.text
        if connection == self.connections:
            updates = HISTORY.decode(answer.content)
            news = self.mirror.fill_in(job_id, updates, at=_now(), whole=len(updates) < limit)
            self.from_history += sum((job_id, update.seq) not in self.heard_updates for update in news)
            self._hand_on(news)

    def _hand_on(self, news: list[ProgressUpdate]) -> None:
        for update in news:
            self.handed_on[update.job_id].append(update)
        for job_id, update in self.mirror.jobs.items():
            if update.seq < self._newest[job_id]:
                self.stepped_back.append(job_id)
            self._newest[job_id] = update.seq
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _now() -> datetime:
    return datetime.now(UTC)
