"""A mirror against a small model of the server: any changes of jobs, over a connection with any faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.job import Job
from progress_dashboard import Mirror
from progress_dashboard.protocol import NEXT, ProgressUpdate, Status
from tests.support.jobs import ERA, a_job
from tests.unit.client.frames import batch, frame

PART = 2  # updates in a part of a batch, and in a page of history


@dataclass
class Tick:
    """The updates of one tick in order, and the jobs that left."""

    seq: int
    updates: list[ProgressUpdate]
    removed: list[str]


@dataclass
class Server:
    """A model of the server: jobs that change, their history, and what it would send."""

    # Position of the last tick.
    seq: int = 0
    # Every job, also those that left the dashboard.
    jobs: dict[str, Job] = field(default_factory=dict)
    # Newest state of each job on the dashboard.
    dashboard: dict[str, ProgressUpdate] = field(default_factory=dict)
    # Position of each removal.
    removals: dict[str, int] = field(default_factory=dict)
    # Stored updates of each job, without some of its percents.
    history: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    # Updates of each job that brought a new error.
    errors: dict[str, list[ProgressUpdate]] = field(default_factory=dict)

    def change(self, job_id: str, what: str) -> Tick:
        """Change one job, or not if its state does not allow it; return the tick of this change."""
        if what == "remove":
            return self._remove(job_id)
        before = self.jobs.get(job_id)
        if before is None:
            return self._publish(a_job(id=job_id), is_stored=True)
        job = CHANGES[what](before, f"{job_id} {self.seq + 1}")
        if job is None or job_id not in self.dashboard:
            return Tick(self.seq, [], [])
        is_stored = job.status != before.status or job.error != before.error
        return self._publish(job, is_stored=is_stored, is_error=job.error not in (None, before.error))

    def since(self, position: int) -> Tick:
        """Return the newest states and the removals after a position."""
        newest = sorted((update for update in self.dashboard.values() if update.seq > position), key=lambda it: it.seq)
        return Tick(self.seq, newest, [job_id for job_id, seq in self.removals.items() if seq > position])

    def _publish(self, job: Job, *, is_stored: bool, is_error: bool = False) -> Tick:
        self.seq += 1
        job = self.jobs[job.id] = job.evolve(seq=self.seq)
        update = self.dashboard[job.id] = job.update()
        if is_stored or self.seq % 3 == 0:  # percents are thinned
            self.history.setdefault(job.id, []).append(update)
        if is_error:
            self.errors.setdefault(job.id, []).append(update)
        return Tick(self.seq, [update], [])

    def _remove(self, job_id: str) -> Tick:
        if job_id not in self.dashboard or not self.jobs[job_id].is_finished:
            return Tick(self.seq, [], [])
        self.seq += 1
        del self.dashboard[job_id]
        self.removals[job_id] = self.seq
        return Tick(self.seq, [], [job_id])


def with_result(job: Job, error: str | None) -> Job | None:
    if job.status is not Status.PROCESSING:
        return None
    return job.with_result(video_id="v", error=error, fractions=0, running=0, at=ERA)


def progressed(job: Job) -> Job | None:
    return job.progressed(fractions=0.5, running=1, at=ERA) if job.status is Status.PROCESSING else None


def became(job: Job, status: Status) -> Job | None:
    if status not in NEXT[job.status]:
        return None
    if not job.is_finished:
        return job.become(status, at=ERA)
    left = job.total_videos - job.failed
    return job.become(status, at=ERA, attempt=job.attempt + 1, failed=0, current_video=left, error=None)


def with_job_error(job: Job, error: str) -> Job | None:
    return job.with_job_error(error, at=ERA) if Status.FAILED in NEXT[job.status] else None


def with_own_error(job: Job, error: str) -> Job | None:
    """Give the job an error of its own that does not end it, as a sender of an external job may."""
    return job.evolve(error=error) if job.status is Status.PROCESSING else None


CHANGES: dict[str, Callable[[Job, str], Job | None]] = {
    "start": lambda job, _: became(job, Status.PROCESSING),
    "progress": lambda job, _: progressed(job),
    "succeed": lambda job, _: with_result(job, None),
    "fail": with_result,
    "fail the job": with_job_error,
    "own error": with_own_error,
    "wait": lambda job, _: became(job, Status.PENDING),
    "pause": lambda job, _: became(job, Status.PAUSED),
    "cancel": lambda job, _: became(job, Status.CANCELLED),
}


@dataclass
class Client:
    """A mirror on a connection that may be cut, lag and repeat, with requests to history."""

    server: Server
    is_batch: bool
    mirror: Mirror = field(default_factory=Mirror)
    # Frames on the way; None while there is no connection.
    on_the_way: list[bytes] | None = None
    # Frames of this connection that arrived.
    arrived: list[bytes] = field(default_factory=list)
    # Position of the last tick that was sent.
    sent_seq: int = 0
    # True after a lag.
    has_lagged: bool = False
    # Answers of history on the way.
    answers: list[tuple[str, list[ProgressUpdate]]] = field(default_factory=list)
    # Updates that the mirror delivered, by job ID.
    delivered: dict[str, list[ProgressUpdate]] = field(default_factory=dict)
    # Number of gaps that were ever seen.
    gaps: int = 0

    def connect(self, *, is_too_old: bool = False) -> None:
        """Open a connection; `is_too_old`: the server does not know the position, and sends a snapshot."""
        self.cut()
        self.mirror.connected()
        self.on_the_way = []
        position = None if is_too_old or not self.is_batch else self.mirror.position
        self.send(position, self.server.since(position or 0))

    def reject(self) -> None:
        self.connect(is_too_old=True)

    def cut(self) -> None:
        self.on_the_way, self.arrived, self.answers = None, [], []

    def send(self, prev: int | None, tick: Tick) -> None:
        """Send a tick: frame by frame, or as a batch in parts."""
        if self.on_the_way is None:
            return
        if not self.is_batch:
            self.on_the_way += map(frame, tick.updates)
        elif prev is None:
            self._send_parts(prev, Tick(tick.seq, tick.updates, []))
        elif tick.updates or tick.removed:
            self._send_parts(prev, tick)
        self.sent_seq = tick.seq

    def _send_parts(self, prev: int | None, tick: Tick) -> None:
        assert self.on_the_way is not None
        while len(tick.updates) > PART:
            part, tick = tick.updates[:PART], replace(tick, updates=tick.updates[PART:])
            self.on_the_way.append(batch(prev, part[-1].seq, *part, more=True))
            prev = part[-1].seq
        self.on_the_way.append(batch(prev, tick.seq, *tick.updates, removed=tick.removed))

    def lag(self) -> None:
        """Replace the frames on the way by newest states, as the server does for a slow reader."""
        self.has_lagged = True
        if self.on_the_way and self.is_batch and self.mirror.position is not None:
            self.on_the_way.clear()
            self.send(self.mirror.position, self.server.since(self.mirror.position))
        elif self.on_the_way and not self.is_batch:
            first = msgspec.json.decode(self.on_the_way[0], type=ProgressUpdate).seq
            self.on_the_way.clear()
            self.send(None, self.server.since(first - 1))

    def read(self) -> None:
        if self.on_the_way:
            self.arrived.append(self.on_the_way.pop(0))
            self.take(self.mirror.receive(self.arrived[-1], at=ERA))

    def repeat(self) -> None:
        """Receive an earlier frame of this connection again, which happens on the default format only."""
        if self.arrived and not self.is_batch:
            self.take(self.mirror.receive(self.arrived[len(self.arrived) // 2], at=ERA))

    def request(self) -> None:
        for job_id, after in self.mirror.gaps.items():
            if job_id not in {requested for requested, _ in self.answers}:
                rows = self.server.history.get(job_id, [])
                self.answers.append((job_id, [update for update in rows if update.seq > after]))

    def answer(self) -> None:
        if self.answers:
            job_id, rows = self.answers.pop(0)
            if len(rows) > PART:
                self.take(self.mirror.fill_in(job_id, rows[:PART], at=ERA, whole=False))
            self.take(self.mirror.fill_in(job_id, rows[PART:] if len(rows) > PART else rows, at=ERA))

    def take(self, updates: list[ProgressUpdate]) -> None:
        for update in updates:
            delivered = self.delivered.setdefault(update.job_id, [])
            assert not delivered or delivered[-1].seq < update.seq
            delivered.append(update)
        self.gaps += len(self.mirror.gaps)

    def settle(self) -> None:
        """Read all that is on the way, and fill all gaps.

        The default format does not tell a slow reader which jobs ended and left meanwhile; a new connection does.
        """
        if self.on_the_way is None or (self.has_lagged and not self.is_batch):
            self.connect()
        while self.on_the_way:
            self.read()
        for _ in range(3):
            self.request()
            while self.answers:
                self.answer()
        assert dict(self.mirror.gaps) == {}


JOBS = st.sampled_from(["a", "b", "c", "d"])
EVENTS = st.sampled_from(
    ["read", "read", "read", "read", "cut", "connect", "reject", "repeat", "request", "answer", "answer"]
)
FREQUENT = [*CHANGES, "remove", "start", "start", "progress", "fail", "fail", "fail", "fail"]
History = list[tuple[str, str] | str]  # changes of jobs, and events of the client


def histories(events: st.SearchStrategy[str], changes: list[str]) -> st.SearchStrategy[History]:
    return st.lists(st.tuples(JOBS, st.sampled_from(changes)) | events, max_size=60)


def play(client: Client, history: History) -> None:
    """Play the changes and events, then let the client settle; no job may step back meanwhile."""
    client.connect()
    newest: dict[str, int] = {}
    for event in history:
        if isinstance(event, str):
            getattr(client, event)()
        else:
            client.send(client.sent_seq, client.server.change(*event))
        now = {job_id: update.seq for job_id, update in client.mirror.jobs.items()}
        assert all(now[job_id] >= newest.get(job_id, 0) for job_id in now)
        newest |= now
    client.settle()


def assert_it_ends_in_the_servers_state(client: Client) -> None:
    if client.is_batch:
        assert client.mirror.jobs == client.server.dashboard
    assert client.server.dashboard.items() <= client.mirror.jobs.items()
    for job_id, update in client.mirror.jobs.items():
        assert update == client.server.jobs[job_id].update()
        assert client.delivered[job_id][-1] == update


@settings(max_examples=300, deadline=None)
@given(st.booleans(), histories(EVENTS, FREQUENT))
def test_cuts_and_repetitions_lose_no_state_and_no_error(is_batch: bool, history: History) -> None:
    client = Client(Server(), is_batch)
    play(client, history)
    assert_it_ends_in_the_servers_state(client)
    for job_id, delivered in client.delivered.items():
        assert [error for error in client.server.errors.get(job_id, []) if error not in delivered] == []


@settings(max_examples=300, deadline=None)
@given(st.booleans(), histories(EVENTS | st.just("lag"), [what for what in FREQUENT if what != "own error"]))
def test_a_reduced_reader_gets_the_text_of_every_error(is_batch: bool, history: History) -> None:
    client = Client(Server(), is_batch)
    play(client, history)
    assert_it_ends_in_the_servers_state(client)
    for job_id, delivered in client.delivered.items():
        texts = {update.error for update in delivered}
        assert [error for error in client.server.errors.get(job_id, []) if error.error not in texts] == []


@settings(max_examples=100, deadline=None)
@given(st.booleans(), histories(st.just("read"), [what for what in FREQUENT if what != "wait"]))
def test_a_connection_that_stays_open_needs_no_history(is_batch: bool, history: History) -> None:
    client = Client(Server(), is_batch)
    play(client, history)
    assert_it_ends_in_the_servers_state(client)
    assert client.gaps == 0
