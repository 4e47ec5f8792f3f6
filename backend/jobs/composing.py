"""Says what happened: makes titles, texts and deliveries of the events that ticks have stored.

It rests while there are many events, so that ticks and readers never wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

import msgspec

from backend.clock import Clock
from backend.domain.job import Job
from backend.domain.notification import (
    ENDS,
    WITH_CAUSES,
    DeliveryState,
    EventKind,
    Notification,
    NotificationSettings,
    event_id,
)
from backend.domain.telling import Story, Told, ToldCause, short_name, tell
from backend.domain.usual import seconds_in, verdict
from backend.domain.video import MAX_CAUSES
from backend.errors import LeadLost, StoreRefused
from backend.store import Store
from backend.store.composing import Background, Composed, NewDelivery, NextNotification, Raw
from progress_dashboard.protocol import ProgressUpdate, Status

log = logging.getLogger(__name__)
AT_ONCE = 25  # stored in one transaction
RETRY_SECONDS, LONG_RETRY_SECONDS = 1.0, 60.0
GATHER_SECONDS = 0.25  # between two transactions, so that many events share one, and ticks seldom wait for it
REST_RATIO = 2.0  # of the time of work, after each notification while more of them wait than `AT_ONCE`
KnownCauses = Callable[[str, Collection[str], datetime], Awaitable[Collection[str]]]
"""Returns those of the causes of an owner's jobs, by fingerprint, that are known until after that moment."""


async def no_known_causes(owner_id: str, fingerprints: Collection[str], at: datetime) -> Collection[str]:
    """Return nothing."""
    return ()


class Composer:
    """Composes each stored event once; after a restart it finds what is left.

    `link` makes the address of a job's page. `on_told` gets what is new, in the order of the events of each job.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        link: Callable[[str], str],
        zone: tzinfo | None,
        on_told: Callable[[Sequence[Notification]], None] = lambda told: None,
        known_causes: KnownCauses = no_known_causes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._zone = zone
        self._on_told = on_told
        self._known_causes = known_causes
        self._work = asyncio.Event()
        self._work.set()  # what is left of an earlier run

    def wake(self) -> None:
        """Compose what a tick has stored."""
        self._work.set()

    async def run(self) -> None:
        """Compose what comes, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while await self.run_once():
                    pass
                await self._clock.sleep(GATHER_SECONDS)
            except StoreRefused as error:
                extra = {"action": "composing_refused"}
                log.warning("notifications are composed later: %s", error.sentence, extra=extra)
                await self._clock.sleep(RETRY_SECONDS)
                self._work.set()
            except LeadLost:
                return  # another server composes now
            except Exception:
                log.exception("composing failed, and begins again", extra={"action": "composing_failed"})
                await self._clock.sleep(LONG_RETRY_SECONDS)
                self._work.set()

    async def run_once(self) -> int:
        """Compose some events, and return their number."""
        raw = await self._store.composing.raw(AT_ONCE)
        composed = list[Composed]()
        for told in raw.notifications:
            began = self._clock.monotonic()
            composed.append(await self._composed(told, raw))
            if len(raw.notifications) == AT_ONCE:
                await self._clock.sleep(REST_RATIO * (self._clock.monotonic() - began))
        if composed:
            self._on_told(await self._store.composing.store(composed))
        return len(composed)

    async def known_meanwhile(self, fingerprint: str) -> list[Notification]:
        """Return what waits to be sent about this cause and others, all of which are known by now."""
        known = list[Notification]()
        for told, job in await self._store.composing.waiting_about(fingerprint):
            background = await self._store.composing.background(job, with_causes=True)
            if await self._are_known(job, background.causes, told.at):
                known.append(told)
        return known

    async def _composed(self, told: Notification, raw: Raw) -> Composed:
        job = raw.jobs.get(told.job_id or "")
        settings = raw.settings.get(told.user_id, NotificationSettings())
        if job is None or told.job is None:
            return _out(told, None, settings, raw, self._clock.now())
        try:
            background = await self._store.composing.background(job, with_causes=told.event in WITH_CAUSES)
            story = self._story(told, told.job, background, zone_of(settings.zone) or self._zone)
            muted, said = await self._are_known(job, background.causes, told.at), tell(story)
        except StoreRefused:
            raise
        except Exception:  # it is told nevertheless, and holds up no other
            extra = {"action": "composing_failed", "job_id": job.id}
            log.exception("what happened to a job cannot be told in full", extra=extra)
            story, muted, said = None, False, _plainly(told, told.job, self._link(job.id))
        wished = told.wished or told.event in raw.wishes.get(job.id, {}).get(told.user_id, ())
        said_so = msgspec.structs.replace(
            told, title=said.title, text=said.text, details=said.details, muted=muted, wished=wished
        )
        composed = _out(said_so, job, settings, raw, self._clock.now())
        return replace(
            composed,
            followers=[*_followers(told, job, raw, story.verdict if story else None)],
            ends_wishes=told.event in ENDS,
        )

    async def _are_known(self, job: Job, causes: Sequence[ToldCause], at: datetime) -> bool:
        """Return True if there are causes, and all of them are known until later."""
        fingerprints = {cause.fingerprint for cause in causes if cause.fingerprint is not None}
        if not 0 < len(causes) < MAX_CAUSES or len(fingerprints) < len(causes):
            return False
        return fingerprints <= set(await self._known_causes(job.owner_id, fingerprints, at))

    def _story(
        self,
        told: Notification,
        update: ProgressUpdate,
        background: Background,
        zone: tzinfo | None,
    ) -> Story:
        mine = [step for step in background.steps if step.attempt == told.attempt and step.at <= told.at]
        worked = seconds_in(Status.PROCESSING, mine, told.attempt, until=told.at)
        is_whole = told.event is EventKind.FAILED and (not update.failed or update.current_video < update.total_videos)
        return Story(
            event=told.event,
            update=update,
            at=told.at,
            zone=zone,
            link=self._link(update.job_id),
            worked=worked,
            paused=seconds_in(Status.PAUSED, mine, told.attempt, until=told.at),
            error=update.error if is_whole and isinstance(update.error, str) else None,
            reason=mine[-1].pause_reason if mine and told.event is EventKind.PAUSED_ITSELF else None,
            usual=background.usual,
            verdict=verdict(background.usual, worked, update),
            causes=background.causes,
            previous=background.previous,
        )


def zone_of(name: str | None) -> tzinfo | None:
    """Return the zone of this name; None without one, and for one that this machine does not know."""
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):
        return None


def _plainly(told: Notification, update: ProgressUpdate, link: str) -> Told:
    return Told(f"{short_name(update.name)}: {told.event.words}", link)


def _out(told: Notification, job: Job | None, settings: NotificationSettings, raw: Raw, now: datetime) -> Composed:
    """Return the notification as the user's settings have it, with its deliveries."""
    may_know = raw.may_tell(told.user_id, job)
    in_bell = may_know and (told.wished or told.event in settings.wanted)
    ready = msgspec.structs.replace(told, composed=True, in_bell=in_bell, read_at=told.at if told.muted else None)
    state = DeliveryState.MUTED if told.muted else DeliveryState.WAITING
    takers = [
        channel
        for channel in raw.channels
        if channel.takes(ready, job, settings) and (channel.owner_id is None or may_know)
    ]
    return Composed(
        ready, (), [NewDelivery(told.event_id, one.id, told.job_id, told.seq, state, now) for one in takers]
    )


def _followers(told: Notification, job: Job, raw: Raw, said: EventKind | None) -> Iterator[NextNotification]:
    """Yield what else is to be told: a run that was slower or faster, and others who wished to be told of this."""
    if not told.for_all:
        return
    wishes = raw.wishes.get(job.id, {})
    if said is not None and told.event in ENDS:
        is_wished = said in wishes.get(told.user_id, ())
        yield NextNotification(event_id(job.id, said, told.attempt), said, told.user_id, True, is_wished)
    for user_id, events in wishes.items():
        if user_id != told.user_id and told.event in events and raw.may_tell(user_id, job):
            yield NextNotification(
                event_id(job.id, told.event, told.attempt, user_id), told.event, user_id, False, True
            )
