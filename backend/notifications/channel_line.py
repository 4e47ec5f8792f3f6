"""Sends what waits on one channel, in order for each job, until nothing waits."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any
from uuid import uuid4

from backend.clock import Clock
from backend.domain.notification import Channel, ChannelKind, DeliveryState
from backend.domain.sending import (
    GROUPED,
    MAX_SINGLE,
    Receipt,
    Unit,
    Verdict,
    Waiting,
    gone_after,
    next_try,
    off_because,
    plan,
    quiet_hours,
)
from backend.notifications.messages import message_of
from backend.notifications.recorder import Recorder, patiently
from backend.notifications.senders import Sender
from backend.store.deliveries import ChannelQueue, Content, DeliveryStore, Result
from progress_dashboard.tasks import first_completed

log = logging.getLogger(__name__)
MAX_READ = {ChannelKind.WEBHOOK: 100, ChannelKind.APPRISE: 2_000}  # deliveries that are looked at together
MAX_UNDER_WAY = {ChannelKind.WEBHOOK: 4, ChannelKind.APPRISE: 2}
PACE_SECONDS = 0.25  # between two rounds of a channel: ticks go first
MAX_REST_SECONDS = 60.0  # until it looks again: quiet hours may have been changed
SILENT = "The account that owns the channel is disabled."
SWITCHED_OFF = "The channel is switched off."
RETRIED = "retried"


def _newest() -> deque[datetime]:
    return deque(maxlen=MAX_SINGLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the lines of all channels share. `on_result` counts what has become of messages, by kind and result.

    `recent` are the times of the newest messages of each channel.
    """

    store: DeliveryStore
    sender: Sender
    recorder: Recorder
    clock: Clock
    zone: tzinfo
    base_url: str
    on_result: Callable[[ChannelKind, str, int], None]
    on_sent: Callable[[Sequence[str]], None]
    recent: defaultdict[str, deque[datetime]] = field(default_factory=lambda: defaultdict(_newest))
    new_id: Callable[[], str] = lambda: str(uuid4())


class ChannelLine:
    """The line of one channel."""

    def __init__(self, channel_id: str, around: Surroundings) -> None:
        self._id = channel_id
        self._around = around
        self._clock = around.clock
        self._changed = asyncio.Event()
        self._is_stale, self._is_ending = True, False
        self._line: ChannelQueue | None = None
        self._waiting: dict[str, Waiting] = {}
        self._busy: set[str] = set()
        self._settled: dict[str, Waiting | None] = {}
        self._recent = around.recent[channel_id]
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: int | None = None
        self._day: datetime | None = None
        self._sent_today, self._under_way = 0, 0

    def wake(self) -> None:
        """Look at what waits again."""
        self._is_stale = True
        self._changed.set()

    async def end(self, *, grace: float) -> None:
        """Begin nothing more, and return when nothing is under way or the grace period is over."""
        self._is_ending = True
        if self._tasks:
            await first_completed(_all_of(self._tasks), self._clock.sleep(grace))

    async def run(self) -> None:
        """Send until nothing waits. What is under way when it is cancelled is sent again by the next line."""
        try:
            while await self._look():
                look_at = await self._round()
                await self._clock.sleep(PACE_SECONDS)
                await first_completed(self._changed.wait(), self._until(look_at))
                self._changed.clear()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> bool:
        """Read what waits, if there may be news; return False if nothing does."""
        if self._is_stale or self._has_room():
            self._is_stale = False
            self._settled = {}  # what is decided while it reads, of which it may read the state before
            reading = partial(self._around.store.line, self._id, limits=MAX_READ)
            self._line = await patiently(reading, self._clock)
            if self._line is None:
                return False
            await self._take(self._line)
        return bool(self._waiting or self._tasks or self._is_stale)

    def _has_room(self) -> bool:
        """Return True if the last look did not see all that waits, and most of what it saw is sent."""
        if self._line is None or len(self._line.waiting) < MAX_READ[self._line.channel.kind]:
            return False
        return len(self._waiting) < len(self._line.waiting) // 2

    async def _take(self, line: ChannelQueue) -> None:
        self._gone = line.channel.refused_in_a_row if self._gone is None else self._gone
        under_way = {event_id: waiting for event_id, waiting in self._waiting.items() if waiting.key in self._busy}
        known = {waiting.event_id: waiting for waiting in line.waiting} | self._settled | under_way
        self._waiting = {event_id: waiting for event_id, waiting in known.items() if waiting is not None}
        if line.is_silent or not line.channel.enabled:
            await self._mute(line.channel, SILENT if line.is_silent else SWITCHED_OFF)
            return
        await self._count_day()
        if self._sent_today >= line.channel.daily_cap:
            await self._mute(
                line.channel, f"The channel's limit of {line.channel.daily_cap:,} messages a day was reached."
            )

    async def _mute(self, channel: Channel, reason: str) -> None:
        """Let nothing be sent that is not under way."""
        under_way = [waiting.event_id for waiting in self._waiting.values() if waiting.key in self._busy]
        muting = partial(self._around.store.mute, self._id, reason, but=under_way)
        if number := await patiently(muting, self._clock):
            self._around.on_result(channel.kind, DeliveryState.MUTED, number)
        self._around.on_sent([waiting.job_id for waiting in self._waiting.values() if waiting.job_id])
        self._waiting = {}

    async def _count_day(self) -> None:
        day = self._clock.now().astimezone(self._around.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        if self._day != day:
            self._day = day
            self._sent_today = await patiently(lambda: self._around.store.sent_since(self._id, day), self._clock)

    async def _round(self) -> datetime | None:
        """Begin to send what may be sent now, and return when to look again; None after news."""
        if self._line is None or not self._waiting or self._is_ending:
            return None
        now, kind = self._clock.now(), self._line.channel.kind
        quiet = quiet_hours(self._line.settings, self._around.zone)
        if quiet is not None and (until := quiet.until(now)) is not None:
            return until
        left = self._line.channel.daily_cap - self._sent_today - self._under_way
        room = min(MAX_UNDER_WAY[kind] - self._under_way, left)
        line = sorted(self._waiting.values(), key=lambda waiting: (waiting.seq, waiting.event_id))
        planned = plan(
            line, now=now, busy=self._busy, recent=tuple(self._recent), groups=kind in GROUPED, room=max(0, room)
        )
        units = list(planned.units)
        if planned.group and room > len(units):
            units.append(await self._grouped(planned.group))
        for unit in units:
            if not self._is_ending:
                self._begin(unit, now)
        return planned.look_at

    async def _grouped(self, members: Sequence[Waiting]) -> Unit:
        """Make one message of these, also for the time after a restart."""
        group_id = self._around.new_id()
        ids = [member.event_id for member in members]
        await patiently(lambda: self._around.store.group(self._id, ids, group_id), self._clock)
        return Unit(tuple(member.in_group(group_id) for member in members))

    def _begin(self, unit: Unit, now: datetime) -> None:
        if not unit.members[0].tries:
            self._recent.append(now)
        self._busy |= unit.keys
        self._waiting |= {member.event_id: member for member in unit.members}
        self._under_way += 1
        is_last = self._line is not None and self._sent_today + self._under_way >= self._line.channel.daily_cap
        task = asyncio.create_task(self._send(unit, is_last=is_last))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a message could not be handled", extra={"action": "notification_failed"}, exc_info=error)
            self._is_stale = True
        self._changed.set()

    async def _send(self, unit: Unit, *, is_last: bool) -> None:
        try:
            after = await self._sent(unit, is_last=is_last)
        finally:
            self._under_way -= 1
            self._busy -= unit.keys
            for member in unit.members:
                self._waiting.pop(member.event_id, None)
        again = {} if after is None else {member.event_id: member for member in after.members}
        self._settled |= {member.event_id: again.get(member.event_id) for member in unit.members}
        self._waiting |= again

    async def _sent(self, unit: Unit, *, is_last: bool) -> Unit | None:
        """Send a message once; return it if it is to be sent again."""
        ids = [member.event_id for member in unit.members]
        channel, found = await patiently(lambda: self._around.store.contents(self._id, ids), self._clock)
        contents = [found[event_id] for event_id in ids if event_id in found]
        if channel is None or not channel.enabled or not contents:  # removed, switched off or muted meanwhile
            self._is_stale |= channel is not None and not channel.enabled
            return None
        note, is_group = _note(channel) if is_last else "", len(ids) > 1
        message = message_of(channel, contents, self._around.base_url, is_group=is_group, note=note)
        answer = await self._around.sender.send(channel, message)
        return await self._recorded(unit, channel, contents, answer)

    async def _recorded(
        self, unit: Unit, channel: Channel, contents: Sequence[Content], answer: Receipt
    ) -> Unit | None:
        now, tries = self._clock.now(), unit.members[0].tries + 1
        again = next_try(tries, now) if answer.verdict is Verdict.AGAIN else None
        state = _state(answer, is_group=unit.group_id is not None, is_again=again is not None)
        self._gone = gone_after(self._gone or 0, answer)
        is_sent = answer.verdict is Verdict.TAKEN
        result = Result(
            channel_id=self._id,
            event_ids=tuple(content.event_id for content in contents),
            state=state,
            tries=tries,
            due_at=again,
            sent_at=now if is_sent else None,
            error=answer.error,
            of_channel=_of_channel(answer, now, self._gone),
        )
        await self._around.recorder.record(result)
        if is_sent:
            self._sent_today += 1
            self._is_stale |= self._sent_today >= channel.daily_cap  # what is left is muted
        self._report(channel, result, is_again=again is not None)
        self._around.on_sent([content.job_id for content in contents if content.job_id])
        return None if again is None else unit.tried(due_at=again)

    def _report(self, channel: Channel, result: Result, *, is_again: bool) -> None:
        word = RETRIED if is_again else result.state
        self._around.on_result(channel.kind, word, 1 if is_again else len(result.event_ids))
        extra = {"channel": channel.id, "kind": channel.kind.value, "error": result.error}
        if "disabled_because" in result.of_channel:
            self._is_stale = True
            log.warning("a channel was switched off", extra={"action": "channel_switched_off", **extra})
        elif result.state is DeliveryState.FAILED:
            log.warning("a notification was not taken", extra={"action": "notification_not_taken", **extra})

    async def _until(self, look_at: datetime | None) -> None:
        seconds = MAX_REST_SECONDS if look_at is None else (look_at - self._clock.now()) / timedelta(seconds=1)
        if look_at is None and self._waiting and not self._under_way:
            seconds = 1.0  # there was no room
        await self._clock.sleep(max(0.0, min(seconds, MAX_REST_SECONDS)))
        self._is_stale |= seconds >= MAX_REST_SECONDS


async def _all_of(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(list(tasks))


def _note(channel: Channel) -> str:
    return (
        f"This is the last of {channel.daily_cap:,} messages that this channel sends in a day; "
        "until tomorrow, look at the bell of the dashboard."
    )


def _state(answer: Receipt, *, is_group: bool, is_again: bool) -> DeliveryState:
    if answer.verdict is Verdict.TAKEN:
        return DeliveryState.GROUPED if is_group else DeliveryState.SENT
    return DeliveryState.WAITING if is_again else DeliveryState.FAILED


def _of_channel(answer: Receipt, now: datetime, gone: int) -> dict[str, Any]:
    """Return the columns of the channel that an answer changes."""
    if answer.verdict is Verdict.TAKEN:
        return {"last_sent_at": now, "last_error": None, "refused_in_a_row": 0}
    values: dict[str, Any] = {"last_error": answer.error, "refused_in_a_row": gone}
    if because := off_because(answer.error, gone):
        values |= {"enabled": False, "disabled_because": because, "last_error": because}
    return values
