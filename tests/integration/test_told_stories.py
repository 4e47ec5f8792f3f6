"""Users are told of each event once, whatever happens to jobs and servers: random stories of steering and telling.

To the stories of steering (`test_control_stories`) come users who wish to be told, jobs that stall, and a server that
composes what happened and is killed at any moment of that.

`python -m tests.integration.test_told_stories [examples] [--database postgresql]` runs a long round.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from sqlalchemy import Row, text

from backend.domain.auth import User
from backend.domain.job import Action, Job
from backend.domain.notification import END_OF, ENDS, EventKind, Notification, event_id
from backend.errors import JobNotFound, StoreRefused
from backend.jobs.composing import Composer
from backend.jobs.notifications import Notifications
from progress_dashboard.protocol import Status
from tests.integration.test_control_stories import USERS, Control, clock_at, story_settings
from tests.support.clock import QuickClock
from tests.support.databases import chosen
from tests.support.in_memory_transport import prepare
from tests.support.managed_backend import ADMIN, ANA
from tests.support.telling import LINK, add_channel

pytestmark = pytest.mark.acceptance  # long rounds

STORIES_IN_THE_GATE, STORIES_IN_A_ROUND = 12, 2_000
EMPTIED = ("notification", "delivery", "channel", "notification_wish", "notification_settings")
TOLD_OF_STATUS = (*ENDS, EventKind.PAUSED_ITSELF)
CHANNELS = {"of ana": "ana", "of ben": "ben", "for all": None}
MAX_WRITES = 3  # of a server that composes, before it is killed
LOOP_TURNS = 30  # in which it does what it can
RESULTS = st.lists(st.sampled_from(("good", "cut")), min_size=3, max_size=3)


class FewCommits(asyncio.Event):
    """Lets so many transactions through, and holds up all others."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._left = number

    async def wait(self) -> Literal[True]:
        if not self._left:
            return await super().wait()
        self._left -= 1
        return True


class Told(Control):
    """The stories of steering, with users who are told."""

    covered: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        for table in EMPTIED:
            self.execute(f"DELETE FROM {table}")
        for name, owner_id in CHANNELS.items():
            add_channel(self.on.database, name, owner_id, events=tuple(sorted(EventKind)))
        self.shown: Counter[str] = Counter()  # by event ID, over all lives of the server
        self.seen_at_work: dict[str, Job] = {}

    async def start_server(self, clock: QuickClock) -> None:
        await super().start_server(clock)
        store = self.server.store
        self.notifications = Notifications(store.notifications, self.queries, clock)
        self.composer = Composer(store, clock, link=lambda job_id: f"{LINK}{job_id}", zone=UTC, on_told=self.on_told)

    def on_told(self, told: Sequence[Notification]) -> None:
        self.shown.update(one.event_id for one in told)
        self.notifications.take(told)

    # What users and servers do besides.

    @rule(which=st.integers(0, 9), who=st.sampled_from(USERS), events=st.sets(st.sampled_from(sorted(ENDS))))
    def wish(self, which: int, who: User, events: set[EventKind]) -> None:
        if self.is_refusing:
            return
        try:
            self.do(self.notifications.wish(self.job_at(which), events, by=who))
        except JobNotFound:
            return
        self.covered["wishes"] += 1

    @rule(which=st.integers(0, 9), times=st.integers(1, 2))
    def stall(self, which: int, times: int) -> None:
        """Say that a job is stalled that was seen at work: more than once, too late, or when it is deleted already."""
        job = self.seen_at_work.get(self.job_at(which))
        if job is not None:
            for _ in range(times):
                self.server.parts.journal.stage_event(job, EventKind.STALLED)
            self.covered["stalls"] += 1

    @rule(results=RESULTS)
    def end_a_job(self, results: list[str]) -> None:
        """Let a job begin, and work through it."""
        if not self.is_refusing:
            self.submit(ANA, len(results))
            self.run_next_job()
            self.do(self.server.parts.journal.durable())
            self.do(self.note_work())
            self.finish_videos(len(self.server.held) - 1, results)

    @rule(results=RESULTS)
    def delete_ended_jobs(self, results: list[str]) -> None:
        self.end_a_job(results)
        for job_id in self.jobs:
            self.do(self.expect_answer(job_id, Action.DELETE, self.owners[job_id]))

    @rule()
    def compose(self) -> None:
        if not self.is_refusing:
            self.do(self.compose_all())

    @rule(results=RESULTS, writes=st.integers(0, MAX_WRITES), jump=st.sampled_from((0, 3_600)))
    def compose_and_be_killed(self, results: list[str], writes: int, jump: int) -> None:
        """Kill the server while it composes, after so many of its transactions."""
        self.end_a_job(results)

        async def begin() -> None:
            await self.server.parts.journal.durable()
            self.on.database.commits = FewCommits(writes)
            composing = asyncio.ensure_future(self.composer.run_once())
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            self.covered["kills while composing"] += not composing.done()
            composing.cancel()
            await asyncio.gather(composing, return_exceptions=True)

        if not self.is_refusing:
            self.do(begin())
            self.restart_after_kill(jump)

    def restart_after_kill(self, jump: int) -> None:
        self.do(self.server.kill())
        self.on.database.commits = asyncio.Event()
        self.on.database.commits.set()
        self.do(self.start_server(clock_at(self.server.clock.now() + timedelta(seconds=jump))))

    async def note_work(self) -> None:
        """Remember the jobs that are processing, as those do who watch them."""
        self.seen_at_work |= {job.id: job for job in await self.stored_jobs() if job.status is Status.PROCESSING}

    async def compose_all(self) -> None:
        await self.server.parts.journal.durable()
        try:
            while await self.composer.run_once():
                pass
        except StoreRefused:
            assert self.is_refusing

    # What is true after each step.

    @invariant()
    def everything_is_told_once(self) -> None:
        if hasattr(self, "composer") and not self.is_refusing:
            self.do(self.assert_told())

    async def assert_told(self) -> None:
        """Check that the stored events are those of the jobs' history, and that what is told goes to whom it is for."""
        await self.server.parts.journal.durable()
        stored = self.rows("SELECT * FROM notification")
        jobs = {job.id: job for job in await self.stored_jobs()}
        assert {row.job_id for row in stored} <= jobs.keys(), "a deleted job is told of"
        for job in jobs.values():
            await self.assert_history(job)  # which goes on to its newest state
            mine = Counter((row.event, row.attempt) for row in stored if row.job_id == job.id and row.for_all)
            of_status = {key: number for key, number in mine.items() if key[0] in TOLD_OF_STATUS}
            assert of_status == dict.fromkeys(self.events_of(job), 1), "not each event exactly once"
            assert set(mine.values()) <= {1}
        for row in stored:
            self.assert_is_right(row, jobs[row.job_id])
        assert max(self.shown.values(), default=0) <= 1, "told twice"
        self.assert_deliveries(stored, jobs)

    def events_of(self, job: Job) -> set[tuple[str, int]]:
        """Return (event, attempt) of what the job's history says."""
        found = set()
        for update in self.updates[job.id]:
            if (end := END_OF.get(Status(update.status))) is not None:
                found.add((end.value, update.attempt))
            elif update.status == Status.PAUSED and update.message.startswith("Paused by itself"):
                found.add((EventKind.PAUSED_ITSELF.value, update.attempt))
        return found

    def assert_is_right(self, row: Row[Any], job: Job) -> None:
        user_id = "" if row.for_all else row.user_id
        assert row.event_id == event_id(row.job_id, EventKind(row.event), row.attempt, user_id)
        assert (row.user_id == job.owner_id) is bool(row.for_all)
        if row.composed:
            assert row.title.startswith("list: ")
            assert row.text.endswith(f"{LINK}{job.id}")

    def assert_deliveries(self, stored: Sequence[Row[Any]], jobs: dict[str, Job]) -> None:
        """Check that each composed notification has a delivery on each channel that takes it, and no other has one."""
        sent = Counter((row.event_id, row.channel_id) for row in self.rows("SELECT * FROM delivery"))
        wanted = set[tuple[str, str]]()
        for row in stored:
            for name, owner_id in CHANNELS.items():
                if row.composed and (owner_id == row.user_id or (owner_id is None and row.for_all)):
                    wanted.add((row.event_id, name))
        assert sent == dict.fromkeys(wanted, 1), "not exactly one delivery on each channel"

    def rows(self, query: str) -> list[Row[Any]]:
        return self.on.database.read_now(lambda connection: list(connection.execute(text(query))))

    # What is true at the end.

    async def assert_exact(self) -> None:
        await super().assert_exact()
        await self.compose_all()
        await self.assert_told()
        stored = self.rows("SELECT * FROM notification")
        assert [row for row in stored if not row.composed] == []
        for user in USERS:
            listed = [told.event_id for told in (await self.notifications.page(by=user, limit=1_000)).items]
            mine = {row.event_id for row in stored if row.user_id == user.id and row.in_bell}
            assert (set(listed), len(listed)) == (mine, len(mine))
        assert not [row for row in stored if row.user_id == ADMIN.id and not row.wished], "told without a wish"
        self.covered["events"] += len(stored)


@contextmanager
def installed() -> Iterator[None]:
    """Prepare a database for all stories."""
    with tempfile.TemporaryDirectory(prefix="told-stories-") as directory:
        Told.installation = asyncio.run(prepare(Path(directory), QuickClock()))
        yield
        Told.installation.database.close()


@pytest.mark.no_cover  # its lines are covered elsewhere, and tracing takes longer than the stories
def test_everybody_is_told_once_whatever_happens() -> None:
    with installed():
        run_state_machine_as_test(Told, settings=story_settings(STORIES_IN_THE_GATE))
    assert Told.covered["events"] > 0


def test_what_a_killed_server_had_begun_to_compose_is_told_once() -> None:
    """Random stories may kill none that composes: this one does."""
    Told.covered.clear()
    with installed():
        story = Told()
        story.start()
        story.compose_and_be_killed(["good", "cut", "good"], writes=0, jump=0)
        story.teardown()
    assert Told.covered["kills while composing"] == 1
    assert Told.covered["events"] == 1


def main(examples: int = STORIES_IN_A_ROUND) -> None:
    with installed():
        run_state_machine_as_test(Told, settings=story_settings(examples))
    counts = ", ".join(f"{number:,} {what}" for what, number in sorted(Told.covered.items()))
    print(f"{examples:,} stories, each event told once to each user and on each channel; {counts}")


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        main(*map(int, words))
