"""Builds the program's parts, starts them in order, and stops them in the reverse order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from backend import VERSION
from backend.accounts.accounts import Accounts
from backend.accounts.keys import Keys
from backend.clock import Clock, SystemClock
from backend.data_directory import prepare_data_directory
from backend.delivery.hub import ProgressHub
from backend.delivery.journal import Journal
from backend.domain.notification import Notification, job_link
from backend.errors import CannotStart, LeadLost, StoreRefused
from backend.executors.inprocess import InProcessExecutor
from backend.executors.machines import LocalMachine, Machines
from backend.executors.runs import LocalRuns, Runs, machine_name
from backend.executors.slots import Slots
from backend.executors.video_work import RetryPolicy, VideoWork
from backend.jobs.active import ActiveJobs
from backend.jobs.composing import Composer, KnownCauses
from backend.jobs.courses import Courses
from backend.jobs.disk import DiskWatch
from backend.jobs.executor import Executor
from backend.jobs.external import ExternalJobs
from backend.jobs.forecasts import Forecasts
from backend.jobs.leases import Leases
from backend.jobs.manager import JobManager
from backend.jobs.many import ManyJobs
from backend.jobs.metrics import Metrics
from backend.jobs.notifications import Notifications
from backend.jobs.outputs import Outputs
from backend.jobs.problem_news import ProblemNews
from backend.jobs.problems import ProblemManager
from backend.jobs.queries import JobQueries
from backend.jobs.rates import Rates
from backend.jobs.retention import Cleanup, Erasure, Pruning
from backend.jobs.stalls import Stalls
from backend.jobs.statistics import Counting, StatisticsQueries
from backend.jobs.usual_runs import UsualRuns
from backend.jobs.waiting_line import WaitingLine
from backend.jobs.waits import Waits
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory
from backend.media.sources import MediaSources
from backend.notifications.apprise import Apprise
from backend.notifications.channels import Channels
from backend.notifications.delivery_log import DeliveryLog
from backend.notifications.guard import Guard
from backend.notifications.outbox import Outbox
from backend.notifications.senders import Senders
from backend.notifications.webhook import Webhooks
from backend.processors import names
from backend.processors.child import ChildRunner
from backend.settings import Settings
from backend.store import Store
from backend.store.changes import Tick
from backend.store.database import Database, open_database
from backend.store.filling import finish_filling
from backend.store.problem_filling import finish_problems
from progress_dashboard.tasks import running as running

if TYPE_CHECKING:
    from backend.engine.coordination import Coordination

log = logging.getLogger(__name__)
KNOWN = "All its causes became known before it was sent."
SETTLING_SECONDS = 10.0  # after a start, in which workers connect again, that of this server too


class ServerFailure:
    """Why the server has to stop: nothing can be stored any more."""

    def __init__(self) -> None:
        self.sentence: str | None = None
        self._happened = asyncio.Event()

    def __bool__(self) -> bool:
        return self._happened.is_set()

    def report(self, sentence: str | None = None) -> None:
        """Let the server stop; the first sentence counts."""
        self.sentence = self.sentence or sentence
        self._happened.set()

    async def wait(self) -> None:
        """Return when the server has to stop."""
        await self._happened.wait()


@dataclass(frozen=True)
class Backend:
    """The running parts, for the routes and pages on top of them."""

    settings: Settings
    clock: Clock
    database: Database
    accounts: Accounts
    store: Store
    hub: ProgressHub
    journal: Journal
    manager: JobManager
    many: ManyJobs
    problems: ProblemManager
    queries: JobQueries
    leases: Leases
    external: ExternalJobs
    work: VideoWork
    slots: Slots
    machines: Machines
    waits: Waits
    outputs: Outputs
    sources: MediaSources
    executor: Executor
    courses: Courses
    forecasts: Forecasts
    line: WaitingLine
    rates: Rates
    stalls: Stalls
    statistics: StatisticsQueries
    metrics: Metrics
    channels: Channels
    delivery_log: DeliveryLog
    outbox: Outbox
    senders: Senders
    notifications: Notifications
    composer: Composer
    usual_runs: UsualRuns
    disks: DiskWatch
    coordination: Coordination | None = None
    failure: ServerFailure = field(default_factory=ServerFailure)

    async def drain(self) -> None:
        """Start no further videos and end running ones. This is the first part of closing and may run beside others.

        Videos on workers go on.
        """
        grace = self.settings.shutdown_grace_seconds
        self.leases.drain()
        if self.coordination is None:
            await self.executor.shutdown(grace)
        else:
            await asyncio.gather(self.executor.shutdown(grace), self.coordination.drain(grace))


@asynccontextmanager
async def open_backend(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Backend]:
    """Run everything but the web server, and leave nothing behind.

    Raises `CannotStart` if the data directory cannot be used or belongs to another server.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        prepare_data_directory(settings)
        stack.enter_context(only_server(settings.data_dir))
        database = open_database(settings.database, backups=settings.data_dir / "backups")
        stack.callback(database.close)
        database.take_lead()
        database.finish_upgrade()
        finish_filling(database)
        finish_problems(database)
        children = ChildRunner(
            timeout_seconds=settings.video_timeout_seconds,
            memory_mib=settings.video_memory_mib,
            output_mib=settings.video_output_mib,
            clock=clock,
        )
        if settings.max_running_videos:
            await children.start()
        stack.push_async_callback(children.stop)
        demo = DemoClips(settings.outputs / "demo")  # where workers see them
        demo.adopt(settings.data_dir / "demo")
        stack.push_async_callback(demo.close)
        sources = MediaSources(MediaDirectory(settings.media, clock), demo)
        backend = _build(settings, clock, database, children, sources)
        try:
            await _start(backend, stack)
        except StoreRefused as error:
            raise CannotStart(error.with_advice("fix that and start again.").sentence) from None
        yield backend


def only_server(data_dir: Path) -> FileLock:
    """Return the lock of the only server of this data directory, taken. Raises `CannotStart` if one is running."""
    lock = FileLock(data_dir / "server.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CannotStart(
            f"Another server already uses the data directory {data_dir.absolute()}; stop it or use another --data-dir."
        ) from None
    return lock


def _build(
    settings: Settings, clock: Clock, database: Database, children: ChildRunner, sources: MediaSources
) -> Backend:
    store, hub, outputs = Store(database), ProgressHub(), Outputs(settings.outputs)

    def make_runs(machine: str) -> LocalRuns:
        return LocalRuns(children, sources, outputs, clock, machine=machine)

    slots = Slots(settings.max_running_videos if isinstance(settings.database, Path) else None)
    coordination = _coordination(settings, database, slots, clock, children, make_runs)
    accounts = Accounts(database, Keys.load(settings, clock), settings, clock)
    executor = _executor(settings)
    queries = JobQueries(store, hub)

    def count(kind: str, result: str, number: int) -> None:
        metrics.count_notifications(kind, result, number)

    telling = _telling(settings, store, queries, clock, on_result=count)
    news = ProblemNews(store.statistics.count, clock)

    def stored(tick: Tick, seconds: float) -> None:
        metrics.take(tick, seconds)
        news.take(tick)
        if tick.notifications:
            telling.composer.wake()

    journal = Journal(store, hub, clock, on_stored=stored)
    stalls = Stalls(lambda: hub.reader(None), store.videos.recent_durations, clock, on_event=journal.stage_event)
    metrics = _metrics(settings, hub, stalls, slots, clock)
    active = ActiveJobs(journal, hub, clock)
    external = ExternalJobs(active, queries, store.videos, clock)
    courses = Courses(store.forecasts, sources, clock, slots=lambda: slots.number)
    leases = Leases(
        active,
        journal,
        store.videos,
        executor,
        clock,
        pause_after_failures=settings.pause_after_failures,
        on_report=courses.report,
    )
    manager = JobManager(
        store=store,
        journal=journal,
        active=active,
        queries=queries,
        external=external,
        executor=executor,
        sources=sources,
        clock=clock,
        jobs_in_flight=coordination.jobs_in_flight if coordination else None,
    )
    problems = ProblemManager(
        store.cause_memory, news, manager, settings, clock, count=store.statistics.count, on_known=telling.mute_known
    )
    policy = RetryPolicy(settings.video_retries, settings.pause_after_failures)
    runs: Runs = coordination.runs if coordination else make_runs(machine_name())
    registry = coordination.registry if coordination else LocalMachine(machine_name(), slots, names(), clock)
    machines = Machines(registry)
    forecasts = Forecasts(lambda: hub.reader(None), clock, courses=courses, say=journal.stage_forecast)
    work = VideoWork(leases, runs, slots, clock, policy)
    return Backend(
        settings=settings,
        clock=clock,
        database=database,
        accounts=accounts,
        store=store,
        hub=hub,
        journal=journal,
        manager=manager,
        many=ManyJobs(manager, queries, problems),
        problems=problems,
        queries=queries,
        leases=leases,
        external=external,
        work=work,
        slots=slots,
        machines=machines,
        waits=Waits(active, machines.waiting_reason, clock, settling_seconds=SETTLING_SECONDS if coordination else 0.0),
        outputs=outputs,
        sources=sources,
        executor=executor,
        courses=courses,
        forecasts=forecasts,
        line=WaitingLine(executor.queue, hub.job, forecasts, courses, clock),
        rates=Rates(lambda: hub.reader(None), store.forecasts, clock),
        stalls=stalls,
        metrics=metrics,
        senders=telling.senders,
        outbox=telling.outbox,
        delivery_log=telling.delivery_log,
        channels=telling.channels,
        notifications=telling.notifications,
        composer=telling.composer,
        usual_runs=UsualRuns(lambda: hub.reader(None), store.composing, clock, on_event=journal.stage_event),
        disks=_disks(settings, store, clock, accounts, journal),
        statistics=StatisticsQueries(store.statistics, hub, accounts, settings, clock, slots=lambda: slots.number),
        coordination=coordination,
    )


def _coordination(
    settings: Settings,
    database: Database,
    slots: Slots,
    clock: Clock,
    children: ChildRunner,
    make_runs: Callable[[str], LocalRuns],
) -> Coordination | None:
    """Return what hands videos to workers; None with an SQLite file, which only one machine can use."""
    if isinstance(settings.database, Path):
        return None
    from backend.engine.coordination import Coordination  # what it needs is an extra, and takes its time to load

    return Coordination(settings, settings.database, database, slots, clock, children=children, make_runs=make_runs)


def _metrics(settings: Settings, hub: ProgressHub, stalls: Stalls, slots: Slots, clock: Clock) -> Metrics:
    return Metrics(
        hub,
        stalls,
        clock,
        version=VERSION,
        buckets=settings.metrics_buckets_seconds,
        slots=lambda: (slots.number, slots.taken),
        directories={"data": settings.data_dir, "media": settings.media},
    )


class _Telling(NamedTuple):
    """What tells users of what happened, and its parts."""

    notifications: Notifications
    composer: Composer
    senders: Senders
    outbox: Outbox
    delivery_log: DeliveryLog
    channels: Channels
    mute_known: Callable[[str], Awaitable[None]]


def _telling(
    settings: Settings, store: Store, queries: JobQueries, clock: Clock, *, on_result: Callable[[str, str, int], None]
) -> _Telling:
    known_causes, guard = _known_causes(store), Guard(allows_private=settings.notify_private_addresses)
    notifications = Notifications(store.notifications, queries, clock, known_causes=known_causes)
    senders = Senders(guard, Webhooks(guard, clock), Apprise(guard, clock))
    delivery_log = DeliveryLog(store.deliveries, queries)
    outbox = Outbox(
        store.deliveries,
        senders,
        clock,
        zone=settings.zone or clock.now().astimezone().tzinfo or UTC,
        base_url=settings.base_url,
        on_result=on_result,
        on_sent=delivery_log.note,
    )

    def told(new: Sequence[Notification]) -> None:
        notifications.take(new)
        outbox.wake()
        delivery_log.note(one.job_id for one in new)

    composer = Composer(
        store,
        clock,
        link=lambda job_id: job_link(settings.base_url, job_id),
        zone=settings.zone,
        on_told=told,
        known_causes=known_causes,
    )
    channels = Channels(store.channels, senders, outbox, clock, base_url=settings.base_url)

    async def mute_known(fingerprint: str) -> None:
        if known := await composer.known_meanwhile(fingerprint):
            await outbox.mute(known, KNOWN)

    return _Telling(notifications, composer, senders, outbox, delivery_log, channels, mute_known)


def _known_causes(store: Store) -> KnownCauses:
    """Return what tells which causes are known: for all who have met them, whoever said so."""

    async def known(owner_id: str, fingerprints: Collection[str], at: datetime) -> Collection[str]:
        return await store.cause_memory.known(fingerprints, at=at)

    return known


def _disks(settings: Settings, store: Store, clock: Clock, accounts: Accounts, journal: Journal) -> DiskWatch:
    return DiskWatch(
        {"data": settings.data_dir, "output": settings.outputs},
        clock,
        low_mib=settings.disk_low_mib,
        tell=journal.stage_notification,
        users=accounts.users,
        told=store.notifications.newest_of_server,
    )


def _executor(settings: Settings) -> InProcessExecutor:
    return InProcessExecutor(
        max_running=settings.max_running_jobs, max_running_per_user=settings.max_running_jobs_per_user
    )


async def _start(backend: Backend, stack: AsyncExitStack) -> None:
    await backend.accounts.ensure_admin()
    await backend.journal.load()
    ticking = asyncio.create_task(_tick(backend), name="tick")
    stack.push_async_callback(_last_tick, backend.journal, ticking)
    if backend.database.may_go_away:
        await stack.enter_async_context(running(_watch(backend), "database"))
    await stack.enter_async_context(running(backend.courses.run(), "courses"))
    await stack.enter_async_context(running(backend.forecasts.run(), "forecasts"))
    backend.stalls.remember(await backend.store.notifications.alarms())
    await stack.enter_async_context(running(backend.stalls.run(), "stalls"))
    backend.usual_runs.remember(await backend.store.notifications.verdicts())
    await stack.enter_async_context(running(backend.usual_runs.run(), "usual runs"))
    await stack.enter_async_context(running(backend.rates.run(), "rates"))
    await backend.manager.recover()
    await backend.journal.durable(patient=False)
    cleanup = Cleanup(backend.manager, backend.external, backend.accounts, backend.settings, backend.clock)
    await stack.enter_async_context(running(cleanup.run(), "cleanup"))
    pruning = Pruning(backend.store.history, backend.settings, backend.clock, notifications=backend.store.notifications)
    await stack.enter_async_context(running(pruning.run(), "pruning"))
    erasure = Erasure(backend.store, backend.outputs, backend.settings, backend.clock)
    await stack.enter_async_context(running(erasure.run(), "erasure"))
    if coordination := backend.coordination:
        await coordination.leave_marker()
        for name, work in coordination.works().items():
            await stack.enter_async_context(running(_coordinate(backend, work), name))
    await stack.enter_async_context(running(backend.statistics.run(), "marking"))
    await stack.enter_async_context(running(backend.metrics.run(), "metrics"))
    counting = Counting(backend.store.statistics, backend.clock)
    await stack.enter_async_context(running(counting.run(), "counting"))
    await stack.enter_async_context(running(backend.problems.news.run(), "problems"))
    await stack.enter_async_context(running(backend.composer.run(), "composing"))
    await stack.enter_async_context(running(backend.disks.run(), "disks"))
    await stack.enter_async_context(running(backend.waits.run(), "waits"))
    await stack.enter_async_context(running(backend.line.run(), "line"))
    stack.push_async_callback(backend.senders.close)
    await stack.enter_async_context(running(backend.outbox.run(), "outbox"))
    await backend.executor.start(backend.work.process_job)
    stack.push_async_callback(backend.drain)


async def _tick(backend: Backend) -> None:
    with _stopping(backend):
        await backend.journal.run()


async def _watch(backend: Backend) -> None:
    with _stopping(backend):
        await backend.journal.watch()


async def _coordinate(backend: Backend, work: Coroutine[Any, Any, None]) -> None:
    with _stopping(backend, "the work on machines ended; no further video begins", "coordination_failed"):
        await work


@contextmanager
def _stopping(
    backend: Backend, failure: str = "a tick cannot be stored; nothing more is shown", action: str = "tick_failed"
) -> Iterator[None]:
    """Let the server stop if the data cannot be stored any more."""
    try:
        yield
    except LeadLost as error:
        log.error("%s", error.sentence, extra={"action": "lead_lost"})
        backend.failure.report(error.sentence)
    except StoreRefused as error:  # of the last tick; what it held is found as it was at the next start
        log.error("the last tick cannot be stored: %s", error.sentence, extra={"action": "last_tick_refused"})
        backend.failure.report()
    except Exception:
        log.exception("%s", failure, extra={"action": action})
        backend.failure.report()


async def _last_tick(journal: Journal, ticking: asyncio.Task[None]) -> None:
    journal.close()
    await ticking
