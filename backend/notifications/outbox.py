"""The outbox: a line for each channel on which something waits. No channel waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import tzinfo

from backend.clock import Clock
from backend.domain.notification import ChannelKind, DeliveryState, Notification
from backend.errors import StoreRefused
from backend.notifications.channel_line import ChannelLine, Surroundings
from backend.notifications.recorder import Recorder, patiently
from backend.notifications.senders import Sender
from backend.store.deliveries import DeliveryStore
from progress_dashboard.tasks import running

log = logging.getLogger(__name__)
STOP_SECONDS, CLOSE_SECONDS = 5.0, 0.5  # for what is under way when a channel is changed, and when the server stops
REST_SECONDS = 1.0  # between two looks: while much happens, one look is for all of it


class Outbox:
    """Sends what waits, also what was left by a server that was killed."""

    def __init__(
        self,
        store: DeliveryStore,
        sender: Sender,
        clock: Clock,
        *,
        zone: tzinfo,
        base_url: str,
        on_result: Callable[[ChannelKind, str, int], None] = lambda kind, result, number: None,
        on_sent: Callable[[Sequence[str]], None] = lambda job_ids: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._recorder = Recorder(store.record, clock)
        self._around = Surroundings(
            store=store,
            sender=sender,
            recorder=self._recorder,
            clock=clock,
            zone=zone,
            base_url=base_url,
            on_result=on_result,
            on_sent=on_sent,
        )
        self._news = asyncio.Event()
        self._lines: dict[str, tuple[ChannelLine, asyncio.Task[None]]] = {}

    def wake(self) -> None:
        """Look for deliveries that were stored since the last look."""
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with running(self._recorder.run(), "notification results"):
            try:
                while True:
                    self._news.clear()
                    await self._look()
                    await self._clock.sleep(REST_SECONDS)
                    await self._news.wait()
            finally:
                await asyncio.gather(*(self.stop_line(line, grace=CLOSE_SECONDS) for line in list(self._lines)))
                with suppress(StoreRefused):  # those messages are then sent again
                    await self._recorder.close()

    async def mute(self, events: Sequence[Notification], reason: str) -> None:
        """Let nothing more be sent about these events but what is on its way."""
        for kind, number in (await self._store.mute_events([told.event_id for told in events], reason)).items():
            self._around.on_result(kind, DeliveryState.MUTED, number)
        self._around.on_sent([told.job_id for told in events if told.job_id])

    async def stop_line(self, channel_id: str, *, grace: float = STOP_SECONDS) -> None:
        """Let the channel begin nothing more, and return when nothing of it is on the wire, broken off if need be.

        What waits is sent by a new line, after `wake`.
        """
        if (found := self._lines.get(channel_id)) is None:
            return
        line, task = found
        await line.end(grace=grace)
        self._lines.pop(channel_id, None)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _look(self) -> None:
        for channel_id in await patiently(self._store.channels_with_waiting, self._clock):
            if channel_id in self._lines:
                self._lines[channel_id][0].wake()
                continue
            line = ChannelLine(channel_id, self._around)
            task = asyncio.create_task(line.run(), name="channel line")
            self._lines[channel_id] = (line, task)
            task.add_done_callback(lambda done, channel_id=channel_id: self._ended(channel_id, done))  # type: ignore[misc]

    def _ended(self, channel_id: str, task: asyncio.Task[None]) -> None:
        if channel_id in self._lines and self._lines[channel_id][1] is task:
            del self._lines[channel_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            extra = {"action": "channel_line_failed", "channel": channel_id}
            log.error("a channel stopped sending; it goes on after the next news", extra=extra, exc_info=error)
