"""What Prometheus reads: counters fed by stored ticks, and gauges that are looked up when it asks.

No label has a user, a job or a video. What counts, and how, is that of the statistics (`domain.measures`).
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from backend.clock import Clock
from backend.delivery.hub import ProgressHub
from backend.domain.measures import MeasureKind
from backend.jobs.stalls import Stalls
from backend.jobs.statistics import waiting
from backend.store.changes import Tick
from progress_dashboard.protocol import Status

BEAT_SECONDS = 0.25
LAG_WINDOW_SECONDS = 15.0  # a usual interval of Prometheus: a short stop shows in the next reading
TICK_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
OK, FAILED = "ok", "failed"


class Metrics:
    """The metrics of one run of the server. `take` gets each stored tick; `read` makes the text for Prometheus."""

    def __init__(
        self,
        hub: ProgressHub,
        stalls: Stalls,
        clock: Clock,
        *,
        version: str,
        buckets: Sequence[float],
        slots: Callable[[], tuple[int, int]],
        directories: Mapping[str, Path],
    ) -> None:
        self._hub = hub
        self._stalls = stalls
        self._clock = clock
        self._slots = slots
        self._directories = directories
        self._free: dict[str, int] = {}
        self._lags: list[tuple[float, float]] = []
        self._watchers: list[Callable[[], int]] = []
        self.registry = CollectorRegistry()
        self._make(version, buckets)
        self.registry.register(_Present(self._present))

    def take(self, tick: Tick, seconds: float) -> None:
        """Count a tick that was stored in so many seconds."""
        self._ticks.observe(seconds)
        processors = {job.id: job.processor for job in tick.jobs}
        outcomes: Counts[tuple[str, str]] = Counts()
        for change in tick.videos:
            if change.duration_seconds is not None:
                processor = processors.get(change.job_id, "")
                outcomes[processor, OK if change.error is None else FAILED] += 1
                if change.duration_seconds:  # 0 is unknown
                    self._video_seconds.labels(processor).observe(change.duration_seconds)
        for measure in tick.measures:
            if measure.kind is MeasureKind.OK:
                outcomes[measure.processor, OK] += measure.number
            elif measure.kind is MeasureKind.WAIT:
                self._wait_seconds.observe((measure.millis or 0) / 1000)
            elif measure.kind is MeasureKind.SELF_PAUSE:
                self._self_pauses.inc()
        for (processor, outcome), number in outcomes.items():
            self._videos.labels(processor, outcome).inc(number)

    def watched_by(self, watchers: Callable[[], int]) -> None:
        """Count these watchers, too."""
        self._watchers.append(watchers)

    def count_notifications(self, channel: str, result: str, number: int) -> None:
        """Count what has become of notifications, by the kind of their channel."""
        self._notifications.labels(channel, result).inc(number)

    async def run(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(BEAT_SECONDS)
            now = self._clock.monotonic()
            recent = [(at, lag) for at, lag in self._lags if now - at < LAG_WINDOW_SECONDS]
            self._lags = [*recent, (now, max(0.0, now - began - BEAT_SECONDS))]

    async def read(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that `accept` asks for, and its content type."""
        self._free = await asyncio.to_thread(_free_bytes, self._directories)  # one may be a network disk
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def _make(self, version: str, buckets: Sequence[float]) -> None:
        registry = self.registry
        self._videos = Counter("dashboard_videos", "Results of videos.", ["processor", "outcome"], registry=registry)
        self._video_seconds = Histogram(
            "dashboard_video_seconds", "Time of the work on a video.", ["processor"], buckets=buckets, registry=registry
        )
        self._wait_seconds = Histogram(
            "dashboard_job_wait_seconds", "Time from handing in a job to its start.", buckets=buckets, registry=registry
        )
        self._self_pauses = Counter("dashboard_self_pauses", "Times that a job paused itself.", registry=registry)
        self._notifications = Counter(
            "dashboard_notifications",
            "Notifications by kind of channel and result.",
            ["channel", "result"],
            registry=registry,
        )
        self._ticks = Histogram(
            "dashboard_tick_seconds", "Time to store a tick.", buckets=TICK_BUCKETS, registry=registry
        )
        Gauge("dashboard_build_info", "1, with the version.", ["version"], registry=registry).labels(version).set(1)

    def _present(self) -> Iterator[GaugeMetricFamily]:
        jobs, now = self._hub.jobs(), self._clock.now()
        statuses = Counts(job.status for job in jobs)
        yield _family("dashboard_jobs", "Jobs on the dashboard.", "status", {s.value: statuses[s] for s in Status})
        oldest = waiting(jobs, now).oldest_waiting_seconds
        yield _family(
            "dashboard_oldest_pending_seconds", "How long the oldest waiting job has waited.", value=oldest or 0
        )
        number, taken = self._slots()
        states = {"busy": min(taken, number), "free": max(0, number - taken)}
        yield _family("dashboard_slots", "Slots of running videos.", "state", states)
        stalled = sum(self._stalls.of(job) is not None for job in jobs)
        yield _family("dashboard_stalled_jobs", "Running jobs without progress.", value=stalled)
        watchers = sum(count() for count in self._watchers)
        yield _family("dashboard_watchers", "Open progress sockets and pages.", value=watchers)
        yield _family("dashboard_disk_free_bytes", "Free room on the disk of a directory.", "dir", self._free)
        lag = max((lag for _, lag in self._lags), default=0.0)
        yield _family("dashboard_event_loop_lag_seconds", "The longest delay of the last 15 s.", value=lag)


class _Present(Collector):
    """Gives the registry what is looked up when it is read."""

    def __init__(self, families: Callable[[], Iterator[GaugeMetricFamily]]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._families()

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # nothing is looked up while it is registered


def _family(
    name: str, meaning: str, label: str = "", values: Mapping[str, float] | None = None, *, value: float = 0.0
) -> GaugeMetricFamily:
    if not label:
        return GaugeMetricFamily(name, meaning, value=value)
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for key, number in (values or {}).items():
        family.add_metric([key], number)
    return family


def _free_bytes(directories: Mapping[str, Path]) -> dict[str, int]:
    free = {}
    for name, path in directories.items():
        try:
            free[name] = shutil.disk_usage(path).free
        except OSError:
            continue  # it is not there now: without a number, and an alert says so
    return free
