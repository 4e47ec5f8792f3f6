"""Whose channels are whose, what of them is shown, and what may not be one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.domain.auth import User
from backend.domain.notification import ChannelFilter, ChannelKind, EventKind
from backend.errors import Conflict, DashboardError, Invalid, NotAllowed, TooManyAttempts
from backend.notifications.apprise import Apprise
from backend.notifications.channels import MAX_CHANNELS, MAX_TESTS, ChannelNotFound, Channels, Draft, NotSent
from backend.notifications.guard import PRIVATE, Guard
from backend.notifications.outbox import Outbox
from backend.notifications.senders import Senders
from backend.notifications.webhook import Webhooks
from backend.store.channels import ChannelStore
from backend.store.database import Database
from backend.store.deliveries import DeliveryStore
from progress_dashboard.tasks import running
from tests.support.managed_backend import ADMIN, ANA, BEN
from tests.support.receivers import SILENCE, Receiver, receiving
from tests.support.told import states, tell

SECRET = "s3cret-of-a-channel"
HOOK = "https://hooks.example/T0KEN/path?key=T0KEN"
NAMES = {"hooks.example": ["93.184.216.34"], "inside.example": ["93.184.216.34", "10.0.0.1"]}


async def resolve(host: str, port: int) -> Sequence[str]:
    if host not in NAMES:
        raise OSError("no such name")
    return NAMES[host]


class Opened:
    """Channels over a database, with an outbox that runs."""

    def __init__(self, database: Database, guard: Guard) -> None:
        clock = SystemClock()
        self.database = database
        self.store = ChannelStore(database)
        self.senders = Senders(guard, Webhooks(guard, clock), Apprise(guard, clock))
        self.outbox = Outbox(DeliveryStore(database), self.senders, clock, zone=UTC, base_url="http://dash.example")
        self.channels = Channels(self.store, self.senders, self.outbox, clock, base_url="http://dash.example")

    async def add(self, *, by: User = ANA, **given: Any) -> str:
        """Add a webhook with these fields, and return its ID."""
        draft = Draft(**{"kind": ChannelKind.WEBHOOK, "url": HOOK, **given})
        return (await self.channels.add(draft, by=by)).id


@pytest.fixture
async def guarded(database: Database) -> AsyncIterator[Opened]:
    opened = Opened(database, Guard(resolve=resolve))
    async with running(opened.outbox.run(), "outbox"):
        yield opened
    await opened.senders.close()


@pytest.fixture
async def local(database: Database) -> AsyncIterator[Opened]:
    """Return channels that may call this machine."""
    opened = Opened(database, Guard(allows_private=True))
    async with running(opened.outbox.run(), "outbox"):
        yield opened
    await opened.senders.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


async def test_a_channel_is_shown_without_its_address_and_secret(guarded: Opened) -> None:
    await guarded.add(secret=SECRET, events=frozenset({EventKind.FAILED}), only=ChannelFilter(name="nightly.csv"))
    [shown] = await guarded.channels.list(by=ANA)
    assert (shown.name, shown.url, shown.has_secret, shown.daily_cap) == (
        "hooks.example",
        "https://hooks.example/…",
        True,
        10_000,
    )
    assert (shown.events, shown.only) == (frozenset({EventKind.FAILED}), ChannelFilter(name="nightly.csv"))
    stored = await guarded.store.find(shown.id)
    for text in (repr(shown), str(shown), repr(stored), repr(Draft(kind=ChannelKind.WEBHOOK, url=HOOK, secret=SECRET))):
        assert "T0KEN" not in text
        assert SECRET not in text


async def test_everybody_sees_their_own_and_an_administrator_those_for_all(guarded: Opened) -> None:
    mine, shared = await guarded.add(), await guarded.add(by=ADMIN, is_for_all=True)
    assert [channel.id for channel in await guarded.channels.list(by=ANA)] == [mine]
    assert [channel.id for channel in await guarded.channels.list(by=BEN)] == []
    assert [channel.id for channel in await guarded.channels.list(by=ADMIN)] == [shared]


async def test_another_users_channel_is_not_found(guarded: Opened) -> None:
    mine, shared = await guarded.add(), await guarded.add(by=ADMIN, is_for_all=True)
    for channel_id, user in ((mine, BEN), (mine, ADMIN), (shared, ANA), ("no-such-channel", ANA)):
        for attempt in (
            guarded.channels.change(channel_id, {"enabled": False}, by=user),
            guarded.channels.remove(channel_id, by=user),
            guarded.channels.test(channel_id, by=user),
        ):
            with pytest.raises(ChannelNotFound):
                await attempt


async def test_only_administrators_have_channels_for_all(guarded: Opened) -> None:
    with pytest.raises(NotAllowed):
        await guarded.add(is_for_all=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "https://inside.example/"}, PRIVATE),
        ({"url": "nonsense"}, "The address must start with https:// or http:// and a host name."),
        ({"name": "x" * 101}, "The name must be readable text of at most 100 characters."),
        ({"secret": "x" * 501}, "The secret must be readable text of at most 500 characters."),
        ({"daily_cap": 0}, "The limit of messages a day must be from 1 to 100,000."),
    ],
)
async def test_what_cannot_be_a_channel_is_refused_in_words(guarded: Opened, given: dict[str, Any], said: str) -> None:
    with pytest.raises(Invalid) as refused:
        await guarded.add(**given)
    assert refused.value.sentence == said
    assert await guarded.channels.list(by=ANA) == []


async def test_an_address_that_may_not_be_called_is_refused_by_a_change_too(guarded: Opened) -> None:
    channel_id = await guarded.add()
    with pytest.raises(Invalid):
        await guarded.channels.change(channel_id, {"url": "https://inside.example/"}, by=ANA)
    stored = await guarded.store.find(channel_id)
    assert stored is not None
    assert stored.url == HOOK


async def test_a_user_has_a_limited_number_of_channels(guarded: Opened) -> None:
    for _ in range(MAX_CHANNELS):
        await guarded.add()
    with pytest.raises(Conflict, match="20 channels"):
        await guarded.add()


async def test_a_change_leaves_what_is_not_named(guarded: Opened) -> None:
    channel_id = await guarded.add(secret=SECRET)
    changed = await guarded.channels.change(channel_id, {"name": "ops"}, by=ANA)
    stored = await guarded.store.find(channel_id)
    assert stored is not None
    assert (changed.name, stored.url, stored.secret) == ("ops", HOOK, SECRET)


async def test_switching_on_forgets_why_it_was_switched_off(guarded: Opened) -> None:
    channel_id = await guarded.add()
    off = {"enabled": False, "disabled_because": "gone", "refused_in_a_row": 3}
    await guarded.store.change(channel_id, off)
    changed = await guarded.channels.change(channel_id, {"enabled": True}, by=ANA)
    stored = await guarded.store.find(channel_id)
    assert stored is not None
    assert (changed.enabled, changed.disabled_because, stored.refused_in_a_row) == (True, None, 0)


async def test_a_draft_is_tested_before_it_is_saved(local: Opened, receiver: Receiver) -> None:
    await local.channels.test(Draft(kind=ChannelKind.WEBHOOK, url=receiver.url, secret=SECRET), by=ANA)
    [request] = receiver.requests
    assert (request.json["event"], request.json["job"]) == ("test", None)
    assert request.headers["x-dashboard-signature"].startswith("sha256=")
    assert await local.channels.list(by=ANA) == []


async def test_a_test_that_is_not_taken_says_why(local: Opened, receiver: Receiver) -> None:
    channel_id = await local.add(url=receiver.url)
    receiver.replies.append(403)
    with pytest.raises(NotSent) as failed:
        await local.channels.test(channel_id, by=ANA)
    assert failed.value.sentence == "The receiver answered 403."


async def test_tests_are_limited(local: Opened, receiver: Receiver) -> None:
    draft = Draft(kind=ChannelKind.WEBHOOK, url=receiver.url)
    for _ in range(MAX_TESTS):
        await local.channels.test(draft, by=ANA)
    with pytest.raises(TooManyAttempts):
        await local.channels.test(draft, by=ANA)
    await local.channels.test(draft, by=BEN)


async def test_nothing_is_on_the_wire_after_a_channel_was_switched_off(local: Opened, receiver: Receiver) -> None:
    channel_id = await local.add(url=receiver.url)
    for number in range(30):
        await tell(local.database, f"job-{number}", channel_id, seq=number)
    local.outbox.wake()
    await receiver.until(3)
    await local.channels.change(channel_id, {"enabled": False}, by=ANA)
    number = len(receiver.requests)
    await local.channels.change(await local.add(by=BEN), {"name": "something else"}, by=BEN)
    local.outbox.wake()
    receiver.rule = lambda _: SILENCE  # what came now would be seen
    await local.channels.change(channel_id, {"name": "still off"}, by=ANA)
    assert len(receiver.requests) == number
    assert {state for _, state, _, _ in await states(local.database, channel_id)} <= {"sent", "muted", "waiting"}


async def test_removing_a_channel_removes_what_waits_on_it(guarded: Opened) -> None:
    channel_id = await guarded.add()
    await guarded.channels.remove(channel_id, by=ANA)
    assert await guarded.channels.list(by=ANA) == []
    assert await states(guarded.database, channel_id) == []


async def test_errors_repeat_nothing_of_an_address(guarded: Opened) -> None:
    for url in ("https://inside.example/T0KEN", "https://u:T0KEN@hooks.example/", "T0KEN", "slack://T0KEN", "json://"):
        for kind in ChannelKind:
            with pytest.raises(DashboardError) as refused:
                await guarded.channels.test(Draft(kind=kind, url=url), by=ANA)
            assert "T0KEN" not in refused.value.sentence
