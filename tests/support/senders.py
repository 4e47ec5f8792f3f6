"""Who makes the jobs that run elsewhere: what is reported of each, and senders that repeat themselves until heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

import httpx

AGAIN_SECONDS = 0.15
JOBS_AT_ONCE = 3
FRAME = "\N{FILM FRAMES}"  # four bytes each: what is said must be more than a slow line and its buffers take

Report = dict[str, Any]


@dataclass(eq=False)
class Order:
    """A job that runs elsewhere: its videos, the requests that its sender makes, and the job's last status.

    `failures`: the failed videos with the `n` that tells of them and their errors. `acknowledged`: the newest `n` that
    was answered.
    """

    key: str
    video_ids: Sequence[str]
    requests: Sequence[Sequence[Report]]
    end: str
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    job_id: str = ""
    acknowledged: int = -1

    @property
    def newest(self) -> int:
        """The last `n` of all."""
        return max(int(report["n"]) for request in self.requests for report in request)

    def failed_by(self, n: int) -> int:
        """How many videos had failed when this was reported."""
        return sum(at <= n for at, _ in self.failures.values())


def planned(key: str, *, ends: bool, chance: Random) -> Order:
    """A job with 6 to 30 videos; without an end its sender falls silent on the way."""
    video_ids = [f"{key}-{number}" for number in range(chance.randint(6, 30))]
    bad = chance.choice((0.0, 0.2, 0.6))
    told = [fields for place in range(len(video_ids)) for fields in _told_of(place, video_ids, bad, chance)]
    told = told if ends else told[: chance.randint(1, len(told))]
    gives_up = ends and chance.random() < 0.2
    if ends:
        told.append({"status": "failed", "message": "Its sender gave up"} if gives_up else {"status": "completed"})
    numbers = accumulate(chance.choices((1, 2, 5), k=len(told)))
    reports = [{"n": n, **fields} for n, fields in zip(numbers, told, strict=True)]
    failures: dict[str, tuple[int, str]] = {}
    for report in reports:
        if "error" in report:
            failures.setdefault(report["video_id"], (report["n"], report["error"]))
    end = "failed" if gives_up else _end(len(failures), len(video_ids)) if ends else "processing"
    return Order(key, video_ids, list(_requests(reports, chance)), end, failures)


class Sender:
    """Reports on its jobs straight to the server, and repeats what was not answered, also to the server's next life."""

    def __init__(self, http: httpx.AsyncClient, on_acknowledged: Callable[[int], None]) -> None:
        self._http = http
        self._on_acknowledged = on_acknowledged
        self.repeated = 0

    async def work_off(self, orders: Sequence[Order]) -> None:
        """All of them, a few at once; returns when each report was answered."""
        places = asyncio.Semaphore(JOBS_AT_ONCE)

        async def work(order: Order) -> None:
            async with places:
                await self._work(order)

        async with asyncio.TaskGroup() as tasks:
            for order in orders:
                tasks.create_task(work(order))

    async def _work(self, order: Order) -> None:
        order.job_id = await self.submit(order.key, order.video_ids, processor="external")
        for reports in order.requests:
            await self._surely(f"/api/jobs/{order.job_id}/progress", reports if len(reports) > 1 else reports[0])
            order.acknowledged = max(order.acknowledged, *(report["n"] for report in reports))
            self._on_acknowledged(len(reports))

    async def submit(self, key: str, video_ids: Sequence[str], *, processor: str) -> str:
        """A job, made once however often it has to be asked for; its ID."""
        order = {"name": key, "video_ids": video_ids, "processor": processor}
        job_id: str = (await self._surely("/api/jobs", order, {"Idempotency-Key": key}))["job_id"]
        return job_id

    async def _surely(self, path: str, body: object, headers: dict[str, str] | None = None) -> dict[str, Any]:
        while True:
            try:
                answer = await self._http.post(path, json=body, headers=headers)
            except httpx.TransportError:
                self.repeated += 1
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            assert answer.is_success, f"{path} {body}: {answer.status_code} {answer.text}"
            said: dict[str, Any] = answer.json()
            return said


def _told_of(place: int, video_ids: Sequence[str], bad: float, chance: Random) -> Iterator[Report]:
    """What is reported of one video: some percents, and how it ended."""
    words = f"Working on {video_ids[place]} " + FRAME * chance.randint(0, 400)
    for _ in range(chance.randint(0, 3)):
        yield {"progress": min(99, int(100 * (place + chance.random()) / len(video_ids))), "message": words}
    if chance.random() < bad:
        error = f"{video_ids[place]} failed: {chance.getrandbits(64):x} " + FRAME * chance.randint(0, 1_800)
        yield from [{"video_id": video_ids[place], "error": error}] * chance.choice((1, 1, 1, 2))
    else:
        yield {"video_id": video_ids[place], "current_video": place + 1}


def _end(failed: int, total: int) -> str:
    return "completed" if failed == 0 else "failed" if failed == total else "completed_with_errors"


def _requests(reports: Sequence[Report], chance: Random) -> Iterator[list[Report]]:
    """One report or a few, now and then with earlier ones among them."""
    place = 0
    while place < len(reports):
        size = chance.choice((1, 1, 2, 4, 12))
        first = max(0, place - (chance.randint(1, 3) if chance.random() < 0.15 else 0))
        request = list(reports[first : place + size])
        chance.shuffle(request)
        yield request
        place += size
