"""What users are told: which events, once each, to whom, and what they say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from backend.app import running
from backend.domain.causes import fingerprint
from backend.domain.job import Action, Selection
from backend.domain.notification import DEFAULTS, ENDS, EventKind, NotificationSettings
from backend.errors import Fault, Invalid, JobNotFound, StoreRefused
from backend.jobs.composing import Composer
from backend.jobs.leases import TryFailed
from backend.store import Store
from backend.store.composing import ComposingStore, Raw
from backend.store.database import Database
from backend.store.tables import DELIVERIES, USERS
from progress_dashboard.protocol import EXTERNAL, SenderReport
from tests.support.job_states import CUT
from tests.support.managed_backend import ADMIN, ANA, BEN, PAUSE_AFTER_FAILURES, TIMEOUT_SECONDS, Managed
from tests.support.telling import LINK, Telling, add_administrators, add_channel, deliveries, stored_events

COMPLETED, WITH_ERRORS, FAILED = EventKind.COMPLETED, EventKind.WITH_ERRORS, EventKind.FAILED
FULL = "No space left on the device"


@pytest.fixture
def telling(managed: Managed, database: Database) -> Telling:
    add_administrators(database, ADMIN)
    return Telling(managed)


async def paused_itself(managed: Managed) -> str:
    """Let a job pause itself, and return its ID."""
    lease = await managed.claim(await managed.new_job("list.csv", 4))
    video = (await managed.videos(lease.job))[0]
    failures = [TryFailed(video, FULL, Fault.MACHINE, 1.0) for _ in range(PAUSE_AFTER_FAILURES)]
    await managed.report(lease, *failures)
    await managed.leases.release(lease)
    await managed.journal.durable()
    return lease.job.id


async def test_each_end_of_an_attempt_is_stored_once(telling: Telling, database: Database) -> None:
    managed = telling.managed
    job = await telling.ran("list.csv", 10, [None, CUT])
    await managed.manager.act(job.id, Action.RETRY, by=ANA)
    await managed.run(job, [None])
    await managed.manager.act(job.id, Action.RETRY, by=ANA, selection=Selection(everything=True))
    await managed.run(job, [CUT, CUT])
    assert stored_events(database) == [(job.id, WITH_ERRORS, 1), (job.id, COMPLETED, 2), (job.id, FAILED, 3)]


async def test_cancelling_and_pausing_are_no_events(telling: Telling, database: Database) -> None:
    managed = telling.managed
    job = await managed.new_job("list.csv", 2)
    await managed.manager.act(job.id, Action.PAUSE, by=ANA)
    await managed.manager.act(job.id, Action.CANCEL, by=ANA)
    assert stored_events(database) == []


async def test_a_job_that_pauses_itself_says_why_without_its_path(telling: Telling) -> None:
    await paused_itself(telling.managed)
    [told] = await telling.bell()
    assert told.event is EventKind.PAUSED_ITSELF
    assert told.title == "list.csv: paused itself at 0 of 4"
    assert f"Because of {PAUSE_AFTER_FAILURES} failures in a row: {FULL}" in (told.text or "")


async def test_an_external_job_is_told_like_any_other(telling: Telling) -> None:
    managed = telling.managed
    job = await managed.submit("one", "two", processor=EXTERNAL)
    reports = [SenderReport(n=1, video_id="one", error="HTTP 404"), SenderReport(n=2, status="completed_with_errors")]
    await managed.external.apply_reports(job.id, reports, by=ANA)
    [told] = await telling.bell()
    assert (told.event, told.title) == (WITH_ERRORS, "list.csv: 1 of 2 failed")


async def test_a_list_with_failures_is_told_with_its_causes_and_what_is_new(telling: Telling) -> None:
    await telling.ran("nightly.csv", 60, [None, None, CUT])
    told = (await telling.bell())[0]
    assert told.title == "nightly.csv: 1 of 3 failed"
    job = await telling.ran("nightly.csv", 120, [CUT, 'Cannot open "/srv/films/two.mp4": HTTP 404', CUT])
    told = (await telling.bell())[0]
    assert told.title == "nightly.csv: 3 of 3 failed"
    lines = (told.text or "").splitlines()
    assert lines[:4] == ["0 ok, 3 failed of 3 videos", "Took 2 min", f"2 × {CUT}", "1 × Cannot open …: HTTP 404"]
    assert lines[4].startswith("New since the last run (")
    assert lines[4].endswith("): 1 × Cannot open …: HTTP 404")
    assert lines[5].startswith("Ended at ")
    assert lines[5].endswith("(UTC)")
    assert lines[6:] == [f"{LINK}{job.id}"]
    assert "/srv" in (told.details or "")


async def test_good_jobs_are_told_only_to_those_who_wish_it(telling: Telling) -> None:
    managed = telling.managed
    await telling.ran("quiet.csv", 10)
    assert await telling.bell() == []
    job = await managed.new_job("wanted.csv", 1)
    await telling.notifications.wish(job.id, ENDS, by=ANA)
    assert await telling.notifications.wishes(by=ANA) == {job.id: ENDS}
    await managed.run(job, [None])
    [told] = await telling.bell()
    assert (told.job_id, told.event, told.title) == (job.id, COMPLETED, "wanted.csv: 1 video done")
    assert await telling.notifications.wishes(by=ANA) == {}


async def test_a_wish_can_be_taken_back(telling: Telling) -> None:
    job = await telling.managed.new_job("list.csv", 1)
    await telling.notifications.wish(job.id, ENDS, by=ANA)
    await telling.notifications.wish(job.id, (), by=ANA)
    await telling.managed.run(job, [None])
    assert await telling.bell() == []


async def test_another_users_job_cannot_be_wished_for(telling: Telling) -> None:
    job = await telling.managed.new_job("list.csv", 1)
    with pytest.raises(JobNotFound):
        await telling.notifications.wish(job.id, ENDS, by=BEN)


async def test_the_submitter_is_told_and_the_administrator_only_by_a_wish(telling: Telling) -> None:
    managed = telling.managed
    await telling.ran("first.csv", 10, [CUT])
    assert await telling.bell(ADMIN) == []
    job = await managed.new_job("second.csv", 1)
    await telling.notifications.wish(job.id, ENDS, by=ADMIN)
    await managed.run(job, [CUT])
    [of_admin], of_ana = await telling.bell(ADMIN), await telling.bell()
    assert (of_admin.job_id, of_admin.title) == (job.id, "second.csv: 1 of 1 failed")
    assert of_admin.event_id not in {told.event_id for told in of_ana}
    assert len(of_ana) == 2


async def test_who_is_no_administrator_any_longer_is_told_nothing_of_others_jobs(
    telling: Telling, database: Database
) -> None:
    managed = telling.managed
    first, second = await managed.new_job("first.csv", 1), await managed.new_job("second.csv", 1)
    for job in (first, second):
        await telling.notifications.wish(job.id, ENDS, by=ADMIN)
    await managed.run(first, [CUT])
    assert len(await telling.bell(ADMIN)) == 1
    database.write_now(lambda connection: connection.execute(update(USERS).values(is_admin=False)))
    await managed.run(second, [CUT])
    assert await telling.bell(replace(ADMIN, is_admin=False)) == []
    assert await telling.notifications.unread(by=replace(ADMIN, is_admin=False)) == 0
    assert [told.job_id for told in await telling.bell(ADMIN)] == [first.id]


async def test_users_choose_what_they_are_told(telling: Telling) -> None:
    await telling.notifications.change_settings(NotificationSettings(events=frozenset({COMPLETED})), by=ANA)
    await telling.ran("good.csv", 10)
    await telling.ran("bad.csv", 10, [CUT])
    assert [told.event for told in await telling.bell()] == [COMPLETED]


async def test_settings_are_kept_by_user_and_checked(telling: Telling) -> None:
    doors = telling.notifications
    mine = NotificationSettings(events=ENDS, quiet_from=22 * 60, quiet_to=7 * 60, zone="Europe/Berlin")
    await doors.change_settings(mine, by=ANA)
    assert (await doors.settings(by=ANA), await doors.settings(by=BEN)) == (mine, NotificationSettings())
    assert (await doors.settings(by=BEN)).wanted == DEFAULTS
    for wrong in (
        NotificationSettings(zone="Europe/Atlantis"),
        NotificationSettings(quiet_from=60),
        NotificationSettings(quiet_from=60, quiet_to=60),
        NotificationSettings(quiet_from=0, quiet_to=24 * 60),
    ):
        with pytest.raises(Invalid):
            await doors.change_settings(wrong, by=ANA)


async def test_times_are_told_in_the_users_zone(telling: Telling) -> None:
    await telling.notifications.change_settings(NotificationSettings(zone="Asia/Tokyo"), by=ANA)
    await telling.ran("list.csv", 10, [CUT])
    [told] = await telling.bell()
    local = told.at + timedelta(hours=9)
    assert f"Ended at {local:%H:%M} on {local.day} {local:%b %Y} (Asia/Tokyo)" in (told.text or "")


async def test_what_is_known_is_shown_as_muted_and_not_sent(telling: Telling, database: Database) -> None:
    add_channel(database, "mine", "ana")
    job = await telling.ran("list.csv", 10, [None, CUT])
    [cause] = await telling.managed.queries.causes(job.id, by=ANA)
    telling.known.add(cause.fingerprint)
    [told] = await telling.bell()
    assert (told.muted, told.in_bell) == (True, True)
    assert await telling.notifications.unread(by=ANA) == 0
    assert deliveries(database) == [("mine", WITH_ERRORS, "muted")]
    await telling.ran("list.csv", 10, [CUT, "The disk is full"])
    assert [told.muted for told in await telling.bell()] == [False, True]


async def test_what_becomes_known_while_it_waits_is_found_when_all_its_causes_are(
    telling: Telling, database: Database
) -> None:
    add_channel(database, "mine", "ana")
    await telling.ran("one.csv", 10, [CUT])
    await telling.ran("both.csv", 10, [CUT, "The disk is full"])
    await telling.ran("good.csv", 10, [None])
    one, both = reversed(await telling.bell())
    await telling.managed.store.statistics.count()
    cut, full = fingerprint(CUT, "x"), fingerprint("The disk is full", "x")
    assert await telling.composer.known_meanwhile(cut) == []
    telling.known.add(cut)
    assert [told.event_id for told in await telling.composer.known_meanwhile(cut)] == [one.event_id]
    telling.known.add(full)
    assert [told.event_id for told in await telling.composer.known_meanwhile(full)] == [both.event_id]
    database.write_now(lambda connection: connection.execute(update(DELIVERIES).values(state="sent")))
    assert await telling.composer.known_meanwhile(cut) == []


async def test_channels_get_what_is_for_them(telling: Telling, database: Database) -> None:
    for name, owner, given in (
        ("defaults", "ana", {}),
        ("all ends", "ana", {"events": tuple(sorted(ENDS))}),
        ("off", "ana", {"enabled": False}),
        ("ben's", "ben", {"events": tuple(sorted(ENDS))}),
        ("for all", None, {}),
        ("only other lists", None, {"only": {"name": "other.csv"}}),
    ):
        add_channel(database, name, owner, **given)
    good = await telling.managed.new_job("good.csv", 1)
    await telling.notifications.wish(good.id, ENDS, by=ADMIN)  # a second notification of the same event
    await telling.managed.run(good, [None])
    await telling.ran("bad.csv", 10, [CUT])
    await telling.compose()
    assert deliveries(database) == [
        ("all ends", COMPLETED, "waiting"),
        ("all ends", FAILED, "waiting"),
        ("defaults", FAILED, "waiting"),
        ("for all", FAILED, "waiting"),
    ]


async def test_a_wish_reaches_ones_own_channels(telling: Telling, database: Database) -> None:
    add_channel(database, "mine", "ana", events=("failed",))
    job = await telling.managed.new_job("list.csv", 1)
    await telling.notifications.wish(job.id, ENDS, by=ANA)
    await telling.managed.run(job, [None])
    await telling.compose()
    assert deliveries(database) == [("mine", COMPLETED, "waiting")]


async def test_channels_of_a_disabled_user_stay_silent(telling: Telling, database: Database) -> None:
    add_channel(database, "mine", "ana")
    database.write_now(lambda connection: connection.execute(update(USERS).values(disabled=True)))
    await telling.ran("list.csv", 10, [CUT])
    await telling.compose()
    assert deliveries(database) == []


async def test_what_was_told_of_a_deleted_job_goes_with_it(telling: Telling, database: Database) -> None:
    add_channel(database, "mine", "ana")
    job, other = await telling.ran("list.csv", 10, [CUT]), await telling.ran("other.csv", 10, [CUT])
    await telling.compose()
    await telling.managed.manager.act(job.id, Action.DELETE, by=ANA)
    assert [told.job_id for told in await telling.bell()] == [other.id]
    assert len(deliveries(database)) == 1


async def test_a_job_deleted_before_it_is_told_is_not_told(telling: Telling, database: Database) -> None:
    job = await telling.ran("list.csv", 10, [CUT])
    raw = await telling.managed.store.composing.raw(10)
    assert [told.job_id for told in raw.notifications] == [job.id]
    await telling.managed.manager.act(job.id, Action.DELETE, by=ANA)
    assert await telling.bell() == []
    assert stored_events(database) == []


async def test_what_is_noticed_too_late_of_a_deleted_job_is_not_stored(telling: Telling, database: Database) -> None:
    managed = telling.managed
    job = await managed.new_job("list.csv", 1)
    at_work = (await managed.claim(job)).job
    await managed.run_under(managed.held[job.id], [None])
    await managed.manager.act(job.id, Action.DELETE, by=ANA)
    managed.journal.stage_event(at_work, EventKind.STALLED)
    await managed.journal.durable()
    assert stored_events(database) == []


async def test_what_cannot_be_told_in_full_is_told_plainly(telling: Telling, caplog: pytest.LogCaptureFixture) -> None:
    """A cause memory that fails does not hold up what happened."""

    async def fails(*_: object) -> set[str]:
        raise RuntimeError("it is broken")

    telling.composer._known_causes = fails
    job = await telling.ran("list.csv", 10, [CUT])
    [told] = await telling.bell()
    assert (told.title, told.text) == ("list.csv: failed", f"{LINK}{job.id}")
    assert "cannot be told in full" in caplog.text


async def test_bells_of_all_tabs_agree(telling: Telling) -> None:
    doors = telling.notifications
    async with asyncio.timeout(TIMEOUT_SECONDS):
        tabs, of_ben = [doors.watch(by=ANA), doors.watch(by=ANA)], doors.watch(by=BEN)
        assert [(await tab.next()).unread for tab in (*tabs, of_ben)] == [0, 0, 0]
        await telling.ran("first.csv", 10, [CUT])
        await telling.ran("second.csv", 10, [CUT])
        await telling.compose()
        bells = [await tab.next() for tab in tabs]
        assert [bell.unread for bell in bells] == [2, 2]
        assert [told.title for told in bells[0].new] == ["first.csv: 1 of 1 failed", "second.csv: 1 of 1 failed"]
        assert await doors.mark_read([bells[0].new[0].event_id, "unknown"], by=ANA) == 1
        assert [(await tab.next()) for tab in tabs] == [type(bells[0])(1)] * 2
        assert await doors.mark_read(by=BEN) == 0
        assert await doors.mark_read(by=ANA) == 0
        assert [(await tab.next()).unread for tab in tabs] == [0, 0]
        waiting = asyncio.ensure_future(of_ben.next())
        await telling.compose()
        assert not waiting.done()
        waiting.cancel()


async def test_the_list_has_pages(telling: Telling) -> None:
    for number in range(5):
        await telling.ran(f"{number}.csv", 10, [CUT])
    await telling.compose()
    doors = telling.notifications
    page = await doors.page(by=ANA, limit=3)
    rest = await doors.page(by=ANA, limit=3, cursor=page.next_cursor)
    assert [told.title for told in (*page.items, *rest.items)] == [f"{n}.csv: 1 of 1 failed" for n in (4, 3, 2, 1, 0)]
    assert rest.next_cursor is None
    with pytest.raises(Invalid):
        await doors.page(by=ANA, cursor="zz")


async def test_the_list_goes_back_30_days(telling: Telling, database: Database) -> None:
    add_channel(database, "mine", "ana")
    await telling.ran("old.csv", 10, [CUT])
    await telling.compose()
    now = telling.managed.clock.now()
    store = telling.managed.store.notifications
    assert await store.prune(before=now - timedelta(days=30)) == 0
    assert await store.prune(before=now + timedelta(seconds=1)) == 1
    assert (await telling.bell(), deliveries(database)) == ([], [])


async def test_after_an_hour_away_what_ended_is_summed_up_until_it_is_read(telling: Telling) -> None:
    doors, clock = telling.notifications, telling.managed.clock
    assert await doors.away(by=ANA) is None
    await doors.seen(by=ANA)
    left = clock.now()
    await clock.advance(120)
    await telling.ran("good.csv", 60, [None] * 3)
    await telling.ran("bad.csv", 60, [None, CUT, "The disk is full"])
    assert await doors.away(by=ANA) is None  # it was not yet an hour
    await clock.advance(3600)
    away = await doors.away(by=ANA)
    assert away is not None
    assert (away.since, away.jobs, away.videos, away.succeeded, away.causes) == (left, 2, 6, 4, 2)
    await doors.seen(by=ANA)
    assert await doors.away(by=ANA) == away
    assert await doors.away(by=BEN) is None
    await doors.away_read(by=ANA)
    assert await doors.away(by=ANA) is None


async def test_known_causes_need_nobody(telling: Telling) -> None:
    doors, clock = telling.notifications, telling.managed.clock
    await doors.seen(by=ANA)
    job = await telling.ran("bad.csv", 60, [CUT, "The disk is full"])
    telling.known.add((await telling.managed.queries.causes(job.id, by=ANA))[0].fingerprint)
    await clock.advance(3600)
    away = await doors.away(by=ANA)
    assert away is not None
    assert away.causes == 1


class RefusesOnce(ComposingStore):
    """A database that cannot be read the first time, and breaks in an unknown way the second time."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._errors = [StoreRefused(), RuntimeError("it is broken")]

    async def raw(self, limit: int) -> Raw:
        if self._errors:
            raise self._errors.pop(0)
        return await super().raw(limit)


async def test_composing_goes_on_after_every_kind_of_trouble(
    managed: Managed, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """What an earlier run of the server left is told, though nothing wakes the composer."""
    store, telling = Store(database), Telling(managed)
    await telling.ran("list.csv", 10, [CUT])
    store.composing = RefusesOnce(database)
    composer = Composer(store, managed.clock, link=str, zone=None, on_told=telling.notifications.take)
    reader = telling.notifications.watch(by=ANA)
    async with asyncio.timeout(TIMEOUT_SECONDS), running(composer.run(), "composing"):
        while not (bell := await reader.next()).new:
            pass
        assert (bell.unread, bell.new[0].title) == (1, "list.csv: 1 of 1 failed")
        await telling.ran("other.csv", 10, [CUT])
        composer.wake()
        assert (await reader.next()).unread == 2
    assert [vars(record)["action"] for record in caplog.records] == ["composing_refused", "composing_failed"]
