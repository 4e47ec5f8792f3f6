"""Senders of external jobs: the reports on each job, and a sender that repeats each until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Any

import httpx

RETRY_SECONDS = 0.15
MAX_JOBS_AT_ONCE = 3
FRAME = "\N{FILM FRAMES}"  # four bytes each: a report must be larger than the buffers of a slow connection

Report = dict[str, Any]


@dataclass(eq=False)
class Order:
    """An external job that a sender makes."""

    # Name of the job, and its idempotency key.
    key: str
    # IDs of its videos.
    video_ids: Sequence[str]
    # Reports, by request.
    requests: Sequence[Sequence[Report]]
    # Status after the last report.
    end: str
    # Failed videos, with the `n` of the first report of it and its error.
    failures: dict[str, tuple[int, str]] = field(default_factory=dict)
    # ID of the job; "" before it is made.
    job_id: str = ""
    # Newest `n` that the server answered; -1 before the first one.
    acknowledged: int = -1

    @property
    def newest(self) -> int:
        """The largest `n` of all reports."""
        return max(int(report["n"]) for request in self.requests for report in request)

    def failed_by(self, n: int) -> int:
        """Return how many videos had failed when this was reported."""
        return sum(at <= n for at, _ in self.failures.values())


def plan_order(key: str, *, ends: bool, rng: Random) -> Order:
    """Return a job with 6 to 30 videos; if it does not end, its sender falls silent on the way."""
    video_ids = [f"{key}-{number}" for number in range(rng.randint(6, 30))]
    failing = rng.choice((0.0, 0.2, 0.6))
    facts = [fields for place in range(len(video_ids)) for fields in _facts(place, video_ids, failing, rng)]
    facts = facts if ends else facts[: rng.randint(1, len(facts))]
    gives_up = ends and rng.random() < 0.2
    if ends:
        facts.append({"status": "failed", "message": "Its sender gave up"} if gives_up else {"status": "completed"})
    numbers = accumulate(rng.choices((1, 2, 5), k=len(facts)))
    reports = [{"n": n, **fields} for n, fields in zip(numbers, facts, strict=True)]
    failures: dict[str, tuple[int, str]] = {}
    for report in reports:
        if "error" in report:
            failures.setdefault(report["video_id"], (report["n"], report["error"]))
    end = "failed" if gives_up else _end(len(failures), len(video_ids)) if ends else "processing"
    return Order(key, video_ids, list(_requests(reports, rng)), end, failures)


class Sender:
    """Sends reports straight to the server, and repeats each request until it is answered, also over a restart."""

    def __init__(self, http: httpx.AsyncClient, on_acknowledged: Callable[[int], None]) -> None:
        self._http = http
        self._on_acknowledged = on_acknowledged
        self.repeated = 0

    async def send_all(self, orders: Sequence[Order]) -> None:
        """Make the jobs and report on them, a few at once; return when each report was answered."""
        places = asyncio.Semaphore(MAX_JOBS_AT_ONCE)

        async def send(order: Order) -> None:
            async with places:
                await self._send(order)

        async with asyncio.TaskGroup() as tasks:
            for order in orders:
                tasks.create_task(send(order))

    async def submit(self, key: str, video_ids: Sequence[str], *, processor: str) -> str:
        """Make a job, once however often the request is repeated; return its ID."""
        order = {"name": key, "video_ids": video_ids, "processor": processor}
        job_id: str = (await self._post("/api/jobs", order, {"Idempotency-Key": key}))["job_id"]
        return job_id

    async def _send(self, order: Order) -> None:
        order.job_id = await self.submit(order.key, order.video_ids, processor="external")
        for reports in order.requests:
            await self._post(f"/api/jobs/{order.job_id}/progress", reports if len(reports) > 1 else reports[0])
            order.acknowledged = max(order.acknowledged, *(report["n"] for report in reports))
            self._on_acknowledged(len(reports))

    async def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> dict[str, Any]:
        while True:
            try:
                answer = await self._http.post(path, json=body, headers=headers)
            except httpx.TransportError:
                self.repeated += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            assert answer.is_success, f"{path} {body}: {answer.status_code} {answer.text}"
            content: dict[str, Any] = answer.json()
            return content


def _facts(place: int, video_ids: Sequence[str], failing: float, rng: Random) -> Iterator[Report]:
    """Yield what is reported of one video: some percents, and its result."""
    message = f"Working on {video_ids[place]} " + FRAME * rng.randint(0, 400)
    for _ in range(rng.randint(0, 3)):
        yield {"progress": min(99, int(100 * (place + rng.random()) / len(video_ids))), "message": message}
    if rng.random() < failing:
        error = f"{video_ids[place]} failed: {rng.getrandbits(64):x} " + FRAME * rng.randint(0, 1_800)
        yield from [{"video_id": video_ids[place], "error": error}] * rng.choice((1, 1, 1, 2))
    else:
        yield {"video_id": video_ids[place], "current_video": place + 1}


def _end(failed: int, total: int) -> str:
    return "completed" if failed == 0 else "failed" if failed == total else "completed_with_errors"


def _requests(reports: Sequence[Report], rng: Random) -> Iterator[list[Report]]:
    """Yield the reports in requests of one or a few, sometimes with earlier ones among them."""
    place = 0
    while place < len(reports):
        size = rng.choice((1, 1, 2, 4, 12))
        first = max(0, place - (rng.randint(1, 3) if rng.random() < 0.15 else 0))
        request = list(reports[first : place + size])
        rng.shuffle(request)
        yield request
        place += size
