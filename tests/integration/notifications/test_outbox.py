"""What waits on channels is sent in order, once taken, and by no channel at the cost of another."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta

import msgspec
import pytest
from sqlalchemy import insert, select, update

from backend.domain.notification import ChannelKind, EventKind
from backend.domain.sending import TIMED_OUT, Receipt, Verdict, answer_of_status
from backend.notifications.outbox import Outbox
from backend.store.channels import ChannelStore
from backend.store.database import Database
from backend.store.deliveries import DeliveryStore
from backend.store.notifications import notification
from backend.store.tables import DELIVERIES, NOTIFICATION_SETTINGS, NOTIFICATIONS, USERS
from progress_dashboard.tasks import running
from tests.support.clock import QuickClock
from tests.support.receivers import WAIT_SECONDS, ScriptedSender
from tests.support.told import a_channel, add_channels, states, tell

BASE_URL = "http://dash.example"
LATE = Receipt(Verdict.AGAIN, TIMED_OUT)
MAIL = {"kind": ChannelKind.APPRISE, "url": "mailto://mail.example", "daily_cap": 200}


@dataclass
class Sending:
    """A database with a channel `hook`, an outbox over it, and a sender that only notes."""

    database: Database
    sender: ScriptedSender
    clock: QuickClock
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    outbox: Outbox = field(init=False)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run an outbox while the block runs; its end is that of its server."""
        self.outbox = Outbox(
            DeliveryStore(self.database),
            self.sender,
            self.clock,
            zone=UTC,
            base_url=BASE_URL,
            on_result=self._count,
            on_sent=lambda _: self.stored.set(),
        )
        async with running(self.outbox.run(), "outbox"):
            yield

    def _count(self, kind: ChannelKind, result: str, number: int) -> None:
        self.counts[kind.value, result] += number

    async def until(self, happened: Callable[[], Awaitable[bool]]) -> None:
        """Return once this is so; only what is stored changes it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                self.stored.clear()
                if await happened():
                    return
                await self.stored.wait()

    async def until_another_channel_has_sent(self) -> None:
        """Return after what could be sent by now has been begun."""
        name = f"fence-{len(self.sender.sent)}"
        await add_channels(self.database, a_channel(name, owner_id=None))  # nobody's quiet hours
        await tell(self.database, name, name, seq=1_000 + len(self.sender.sent))
        self.outbox.wake()
        await self.until_states("sent", channel=name)

    async def until_states(self, *wanted: str, channel: str = "hook") -> None:
        """Return once the deliveries of a channel have these states, in order."""

        async def is_so() -> bool:
            return tuple(state for _, state, _, _ in await states(self.database, channel)) == wanted

        await self.until(is_so)

    async def until_counted(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Return once these messages are counted, which is just after they are stored."""

        async def is_so() -> bool:
            return self.counts == counts

        await self.until(is_so)

    async def until_tried(self, tries: int) -> None:
        """Return once the first delivery has been tried so often."""

        async def is_so() -> bool:
            return (await states(self.database))[0][2] == tries

        await self.until(is_so)


@pytest.fixture
async def sending(database: Database) -> Sending:
    await add_channels(database, a_channel())
    return Sending(database, ScriptedSender(), QuickClock())


async def test_what_waits_is_sent(sending: Sending) -> None:
    event_id = await tell(sending.database, "a", "hook", seq=1)
    async with sending.running():
        await sending.until_states("sent")
        await sending.until_counted({("webhook", "sent"): 1})
    [(_, message)] = sending.sender.sent
    body = msgspec.json.decode(message.body)
    job = body.pop("job")
    assert body == {
        "event_id": event_id,
        "event": "failed",
        "title": "a: failed",
        "text": "a in words",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "link": f"{BASE_URL}/jobs/a",
    }
    assert (job["job_id"], job["name"], job["seq"]) == ("a", "a", 1)
    assert sending.counts == {("webhook", "sent"): 1}


async def test_news_are_sent_after_a_wake(sending: Sending) -> None:
    async with sending.running():
        await tell(sending.database, "a", "hook", seq=1)
        sending.outbox.wake()
        await sending.until_states("sent")
    assert sending.sender.titles("hook") == ["a: failed"]


async def test_a_sent_message_is_not_sent_again_after_a_restart(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    async with sending.running():
        await sending.until_states("sent")
    async with sending.running():
        await tell(sending.database, "b", "hook", seq=2)
        sending.outbox.wake()
        await sending.until_states("sent", "sent")
    assert sending.sender.titles("hook") == ["a: failed", "b: failed"]


async def test_what_was_on_the_wire_when_the_server_ended_is_sent_again_with_the_same_id(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.held.add("hook")
    async with sending.running():
        await sending.sender.until(1)
    sending.sender.release("hook")
    async with sending.running():
        await sending.until_states("sent")
    assert len({message.event_id for _, message in sending.sender.sent}) == 1
    assert len(sending.sender.sent) == 2


async def test_tries_follow_after_1_10_and_60_seconds_and_then_it_has_failed(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.answers_of["hook"].extend([answer_of_status(500), LATE, LATE, LATE])
    async with sending.running():
        for tries, seconds in enumerate((1, 10, 60), 1):
            await sending.until_tried(tries)
            await sending.clock.advance(seconds - 0.01)
            await sending.until_another_channel_has_sent()
            assert len(sending.sender.titles("hook")) == tries, "it was tried too early"
            await sending.clock.advance(0.02)
        await sending.until_states("failed")
        await sending.until_counted({("webhook", "retried"): 3, ("webhook", "failed"): 1, ("webhook", "sent"): 3})
    assert await states(sending.database) == [("a", "failed", 4, TIMED_OUT)]
    assert sending.counts == {("webhook", "retried"): 3, ("webhook", "failed"): 1, ("webhook", "sent"): 3}
    channel = await ChannelStore(sending.database).find("hook")
    assert channel is not None
    assert (channel.enabled, channel.last_error) == (True, TIMED_OUT)


async def test_a_permanent_refusal_ends_it_at_once(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.answers_of["hook"].append(answer_of_status(400))
    async with sending.running():
        await sending.until_states("failed")
    assert await states(sending.database) == [("a", "failed", 1, "The receiver answered 400.")]


async def test_tries_go_on_where_they_were_after_a_restart(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.answers_of["hook"].extend([LATE, LATE, LATE, LATE])
    async with sending.running():
        await sending.until_tried(1)
    await sending.clock.advance(1)
    async with sending.running():
        await sending.until_tried(2)
        await sending.clock.advance(9)
        assert len(sending.sender.sent) == 2


async def test_events_of_a_job_keep_their_order_over_tries(sending: Sending) -> None:
    for seq, event in enumerate((EventKind.STALLED, EventKind.RECOVERED, EventKind.FAILED), 1):
        await tell(sending.database, "a", "hook", seq=seq, event=event)
    sending.sender.answers_of["hook"].append(LATE)
    async with sending.running():
        await sending.until_tried(1)
        await tell(sending.database, "b", "hook", seq=4)
        sending.outbox.wake()
        await sending.until_states("waiting", "waiting", "waiting", "sent")
        await sending.clock.advance(1)
        await sending.until_states("sent", "sent", "sent", "sent")
    assert sending.sender.titles("hook") == ["a: stalled", "b: failed", "a: stalled", "a: goes on again", "a: failed"]


async def test_a_channel_that_hangs_holds_up_no_other(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("other"))
    for seq in range(40):
        await tell(sending.database, f"job-{seq}", "hook", "other", seq=seq)
    sending.sender.held.add("hook")
    async with sending.running():
        await sending.until_states(*["sent"] * 40, channel="other")
        assert {state for _, state, _, _ in await states(sending.database)} == {"waiting"}


async def test_a_long_line_is_worked_through(sending: Sending) -> None:
    for seq in range(250):
        await tell(sending.database, f"job-{seq:03}", "hook", seq=seq)
    async with sending.running():
        await sending.until_states(*["sent"] * 250)
    assert sorted(sending.sender.titles("hook")) == [f"job-{seq:03}: failed" for seq in range(250)]


async def test_a_receiver_that_is_gone_three_times_is_switched_off_and_says_so(sending: Sending) -> None:
    for seq in range(5):
        await tell(sending.database, "a", "hook", seq=seq, event=list(EventKind)[seq])
    sending.sender.answers_of["hook"].extend([answer_of_status(404), answer_of_status(410), answer_of_status(404)])
    async with sending.running():
        await sending.until_states("failed", "failed", "failed", "muted", "muted")
    channel = await ChannelStore(sending.database).find("hook")
    assert channel is not None
    assert (channel.enabled, channel.disabled_because) == (
        False,
        "The receiver answered 404, 3 times in a row; correct the address, then switch the channel on again.",
    )
    assert len(sending.sender.sent) == 3


async def test_one_that_takes_something_in_between_stays_on(sending: Sending) -> None:
    for seq in range(5):
        await tell(sending.database, "a", "hook", seq=seq, event=list(EventKind)[seq])
    sending.sender.answers_of["hook"] = deque(map(answer_of_status, (404, 410, 200, 404, 410)))
    async with sending.running():
        await sending.until_states("failed", "failed", "sent", "failed", "failed")
    channel = await ChannelStore(sending.database).find("hook")
    assert channel is not None
    assert channel.enabled


async def test_what_is_muted_before_it_is_sent_stays_off_the_wire(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.answers_of["hook"].append(LATE)
    async with sending.running():
        await sending.until_tried(1)
        muted = update(DELIVERIES).values(state="muted")
        await sending.database.write(lambda connection: connection.execute(muted))
        await sending.clock.advance(100)
        await tell(sending.database, "b", "hook", seq=2)
        sending.outbox.wake()
        await sending.until_states("muted", "sent")
    assert sending.sender.titles("hook") == ["a: failed", "b: failed"]


async def test_events_that_become_known_are_not_sent_any_more(sending: Sending) -> None:
    known = [await tell(sending.database, "a", "hook", seq=seq, event=list(EventKind)[seq]) for seq in (0, 1)]
    sending.sender.answers_of["hook"].append(LATE)
    async with sending.running():
        await sending.until_tried(1)
        found = select(NOTIFICATIONS).where(NOTIFICATIONS.c.event_id.in_(known))
        told = await sending.database.read(lambda connection: [*map(notification, connection.execute(found))])
        await sending.outbox.mute(told, "All its causes are known.")
        await sending.clock.advance(100)
        await tell(sending.database, "b", "hook", seq=2)
        sending.outbox.wake()
        await sending.until_states("muted", "muted", "sent")
    assert sending.sender.titles("hook") == ["a: completed", "b: failed"]


async def test_a_channel_that_is_switched_off_sends_nothing_more(sending: Sending) -> None:
    for seq in range(3):
        await tell(sending.database, "a", "hook", seq=seq, event=list(EventKind)[seq])
    sending.sender.held.add("hook")
    async with sending.running():
        await sending.sender.until(1)
        await ChannelStore(sending.database).change("hook", {"enabled": False})
        sending.sender.release("hook")
        await sending.outbox.stop_line("hook")
        number = len(sending.sender.sent)
        sending.outbox.wake()
        await sending.until_states("sent", "muted", "muted")
        assert len(sending.sender.sent) == number == 1


async def test_the_channels_of_a_disabled_user_are_silent(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    disabled = update(USERS).where(USERS.c.id == "ana").values(disabled=True)
    await sending.database.write(lambda connection: connection.execute(disabled))
    async with sending.running():
        await sending.until_states("muted")
    assert sending.sender.sent == []
    assert await states(sending.database) == [("a", "muted", 0, "The account that owns the channel is disabled.")]


async def test_more_than_three_mails_become_one(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("mail", **MAIL))
    for seq in range(12):
        await tell(sending.database, f"job-{seq:02}", "mail", seq=seq)
    async with sending.running():
        await sending.until_states(*["grouped"] * 12, channel="mail")
        await sending.until_counted({("apprise", "grouped"): 12})
    [(_, message)] = sending.sender.sent
    assert message.title == "12 notifications: 12 failed"
    assert message.text.splitlines() == [*(f"job-{seq:02}: failed" for seq in range(12)), f"{BASE_URL}/"]
    assert sending.counts == {("apprise", "grouped"): 12}


async def test_however_many_events_become_one_mail(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("mail", **MAIL))
    for seq in range(300):
        await tell(sending.database, f"job-{seq:03}", "mail", seq=seq)
    async with sending.running():
        await sending.until_states(*["grouped"] * 300, channel="mail")
    [(_, message)] = sending.sender.sent
    assert message.title == "300 notifications: 300 failed"
    assert len(message.text) <= 1_000


async def test_after_three_mails_the_others_wait_for_half_a_minute(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("mail", **MAIL))
    async with sending.running():
        for seq in range(3):
            await tell(sending.database, f"job-{seq}", "mail", seq=seq)
            sending.outbox.wake()
            await sending.until_states(*["sent"] * (seq + 1), channel="mail")
            await sending.clock.advance(1)
        for seq in range(3, 10):
            await tell(sending.database, f"job-{seq}", "mail", seq=seq)
        sending.outbox.wake()
        await sending.until_another_channel_has_sent()
        assert len(sending.sender.titles("mail")) == 3
        await sending.clock.advance(28)
        await sending.until_states(*["sent"] * 3, *["grouped"] * 7, channel="mail")
    assert sending.sender.titles("mail")[3:] == ["7 notifications: 7 failed"]


async def test_a_group_is_sent_again_as_it_was_after_a_restart(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("mail", **MAIL))
    for seq in range(5):
        await tell(sending.database, f"job-{seq}", "mail", seq=seq)
    sending.sender.held.add("mail")
    async with sending.running():
        await sending.sender.until(1)
    sending.sender.release("mail")
    for seq in range(5, 7):
        await tell(sending.database, f"job-{seq}", "mail", seq=seq)
    async with sending.running():
        await sending.until_states(*["grouped"] * 5, *["sent"] * 2, channel="mail")
    titles = sending.sender.titles("mail")
    assert sorted(titles) == [*["5 notifications: 5 failed"] * 2, "job-5: failed", "job-6: failed"]


async def test_quiet_hours_end_with_one_message(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("mail", **MAIL))
    quiet = {"user_id": "ana", "quiet_from": 11 * 60, "quiet_to": 13 * 60, "zone": "UTC"}
    await sending.database.write(lambda connection: connection.execute(insert(NOTIFICATION_SETTINGS), quiet))
    for seq in range(6):
        await tell(sending.database, f"job-{seq}", "mail", seq=seq)
    async with sending.running():
        await sending.clock.advance(3_500)
        await sending.until_another_channel_has_sent()
        assert sending.sender.titles("mail") == []
        await sending.clock.advance(100)
        await sending.until_states(*["grouped"] * 6, channel="mail")
    assert sending.sender.titles("mail") == ["6 notifications: 6 failed"]


async def test_the_last_message_of_a_day_says_so_and_the_rest_is_muted(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("few", daily_cap=3))
    for seq in range(5):
        await tell(sending.database, "a", "few", seq=seq, event=list(EventKind)[seq])
    async with sending.running():
        await sending.until_states("sent", "sent", "sent", "muted", "muted", channel="few")
        notes = ["last of 3 messages" in message.text for _, message in sending.sender.sent]
        assert notes == [False, False, True]
        await sending.clock.advance(timedelta(hours=12).total_seconds())
        await tell(sending.database, "b", "few", seq=9)
        sending.outbox.wake()
        await sending.until_states("sent", "sent", "sent", "muted", "muted", "sent", channel="few")
    reasons = {error for _, state, _, error in await states(sending.database, "few") if state == "muted"}
    assert reasons == {"The channel's limit of 3 messages a day was reached."}


async def test_the_limit_of_a_day_outlasts_a_restart(sending: Sending) -> None:
    await add_channels(sending.database, a_channel("few", daily_cap=1))
    await tell(sending.database, "a", "few", seq=1)
    async with sending.running():
        await sending.until_states("sent", channel="few")
    await tell(sending.database, "b", "few", seq=2)
    async with sending.running():
        await sending.until_states("sent", "muted", channel="few")
    assert len(sending.sender.sent) == 1


@pytest.mark.parametrize(("tells_details", "error"), [(False, "… cannot be read"), (True, "/srv/a.mp4 cannot be read")])
async def test_paths_are_told_only_where_the_channel_allows_it(
    sending: Sending, tells_details: bool, error: str
) -> None:
    await add_channels(sending.database, a_channel("own", tells_details=tells_details))
    await tell(
        sending.database, "a", "own", seq=1, error="/srv/a.mp4 cannot be read", details="/srv/a.mp4 cannot be read"
    )
    async with sending.running():
        await sending.until_states("sent", channel="own")
    body = msgspec.json.decode(sending.sender.sent[0][1].body)
    assert body["job"]["error"] == error
    assert ("/srv" in body["text"]) is tells_details


async def test_a_channel_that_is_removed_is_forgotten(sending: Sending) -> None:
    await tell(sending.database, "a", "hook", seq=1)
    sending.sender.held.add("hook")
    async with sending.running():
        await sending.sender.until(1)
        await ChannelStore(sending.database).remove("hook")
        sending.sender.release("hook")
        await sending.outbox.stop_line("hook")
        assert await states(sending.database) == []
        assert len(sending.sender.sent) == 1
