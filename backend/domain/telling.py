"""What a notification says: a title, and a text of a few lines.

Neither has a path, a name of a file or a trace: errors come in general words (`domain.causes`). `details` has them as
they are, for channels that allow it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

from backend.domain.causes import general_words
from backend.domain.durations import elapsed
from backend.domain.notification import ENDS, EventKind
from backend.domain.texts import counted, printable
from backend.domain.usual import Usual
from progress_dashboard.protocol import UNFINISHED, ProgressUpdate

MAX_TEXT, MAX_TITLE = 1_000, 200  # characters
MAX_NAME, MAX_WORDS = 80, 140  # of a list's name, of an error in a text
MAX_CAUSES = 3
MIN_PAUSE_SECONDS = 60.0  # a shorter one is not worth a word
CUT = "…"
VERDICTS = frozenset({EventKind.SLOWER, EventKind.FASTER})
FAILURES_IN_A_ROW = re.compile(r"([\d,]+ failures? in a row): (.*)")  # as `domain.messages` says it
Words = Callable[[str, str], str]
"""Returns an error in the words that may be told, from the error and the video ID."""


@dataclass(frozen=True, slots=True)
class ToldCause:
    """Why so many videos failed, with the error of one of them. `fingerprint` is None for very old failures."""

    fingerprint: str | None
    count: int
    error: str
    video_id: str


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """The last run of the same list: when it ended, and how many videos failed for each cause, by fingerprint."""

    ended_at: datetime
    causes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of an event when it is told.

    `update` is the job at that moment, `error` its own error if it has failed as a whole, `reason` why it paused
    itself, `worked` and `paused` the seconds of its attempt. `verdict` says if the run was slower or faster than usual.
    Times are told in the zone, which is named.
    """

    event: EventKind
    update: ProgressUpdate
    at: datetime
    zone: tzinfo | None
    link: str
    worked: float = 0.0
    paused: float = 0.0
    error: str | None = None
    reason: str | None = None
    usual: Usual | None = None
    verdict: EventKind | None = None
    causes: Sequence[ToldCause] = field(default=())
    previous: PreviousRun | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a notification says. `details` is None if it would be the same as `text`."""

    title: str
    text: str
    details: str | None = None


def tell(story: Story) -> Told:
    """Return what is said of an event of a job."""
    text = _fitted(_lines(story, _in_general), story.link)
    details = _fitted(_lines(story, _as_it_is), story.link)
    return Told(_title(story), text, None if details == text else details)


def moment(at: datetime, zone: tzinfo | None) -> str:
    """Return a moment with its zone; None stands for that of the machine.

    >>> from zoneinfo import ZoneInfo
    >>> moment(datetime.fromisoformat("2026-01-31T04:41:10Z"), ZoneInfo("Europe/Berlin"))
    '05:41 on 31 Jan 2026 (Europe/Berlin)'
    """
    local = at.astimezone(zone)
    name = getattr(zone, "key", None) or local.tzname()
    return f"{local:%H:%M} on {local.day} {local:%b %Y} ({name})"


def short_name(name: str) -> str:
    """Return the name of a list for a title, in one line."""
    return cut(" ".join(printable(name).split()), MAX_NAME)


def cut(text: str, length: int) -> str:
    """Return the text, or its beginning and `…`.

    >>> cut("abc", 3), cut("abcd", 3)
    ('abc', 'ab…')
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + CUT


def _title(story: Story) -> str:
    update = story.update
    attempt = f" (attempt {update.attempt})" if update.attempt > 1 else ""
    return cut(f"{short_name(update.name)}: {_happened(story)}{attempt}", MAX_TITLE)


def _happened(story: Story) -> str:
    update, event = story.update, story.event
    place = f"{update.current_video:,} of {update.total_videos:,}"
    if event is EventKind.COMPLETED:
        said = f"{'all ' if update.total_videos > 1 else ''}{counted(update.total_videos, 'video')} done"
        return f"{said}, {story.verdict.words}" if story.verdict else said
    if event in VERDICTS:
        return f"{event.words}: {elapsed(story.worked)}"
    if event in ENDS:
        return f"{update.failed:,} of {update.total_videos:,} failed" if update.failed else "failed"
    return f"{event.words} at {place}"


def _lines(story: Story, words: Words) -> list[str]:
    """Return what there is to say, the most important first."""
    update = story.update
    lines = [_split(update)]
    if story.event in ENDS | VERDICTS:
        lines.append(_took(story))
    if story.error is not None:
        lines.append(words(story.error, update.video_id or ""))
    if story.reason is not None:
        lines.append(_why_it_paused(story.reason, update.video_id or "", words))
    if story.event is EventKind.STALLED:
        lines.append("None of its videos has made progress for a while.")
    lines += _causes(story, words)
    lines += _news(story, words)
    lines.append(f"{_verb(story.event)} {moment(story.at, story.zone)}")
    return lines


def _why_it_paused(reason: str, video_id: str, words: Words) -> str:
    """Return the reason, whose number of failures is not general."""
    found = FAILURES_IN_A_ROW.fullmatch(_in_one_line(reason))
    return f"Because of {found[1]}: {words(found[2], video_id)}" if found else words(reason, video_id)


def _split(update: ProgressUpdate) -> str:
    ok, undone = update.current_video - update.failed, update.total_videos - update.current_video
    parts = [f"{ok:,} ok"]
    if update.failed:
        parts.append(f"{update.failed:,} failed")
    if undone:
        parts.append(f"{undone:,} not done")
    return f"{', '.join(parts)} of {counted(update.total_videos, 'video')}"


def _took(story: Story) -> str:
    is_over = story.update.status not in UNFINISHED
    said = f"{'Took' if is_over else 'Has run for'} {elapsed(story.worked)}"
    if story.usual is not None:
        said += f" (usually {story.usual.words})"
    if story.paused >= MIN_PAUSE_SECONDS:
        said += f", and was paused for {elapsed(story.paused)}"
    return said


def _causes(story: Story, words: Words) -> Iterable[str]:
    for cause in story.causes[:MAX_CAUSES]:
        yield f"{cause.count:,} × {words(cause.error, cause.video_id)}"
    if len(story.causes) > MAX_CAUSES:
        yield f"and {counted(len(story.causes) - MAX_CAUSES, 'more cause')}"


def _news(story: Story, words: Words) -> Iterable[str]:
    """Say which causes the last run of the list did not have."""
    if story.previous is None or not story.causes:
        return
    since = f"{story.previous.ended_at.astimezone(story.zone):%H:%M on %d %b}"
    new = [cause for cause in story.causes if cause.fingerprint not in story.previous.causes]
    if not new:
        yield f"No new cause since the last run ({since})"
        return
    said = "; ".join(f"{cause.count:,} × {cut(words(cause.error, cause.video_id), 60)}" for cause in new[:MAX_CAUSES])
    more = f", and {len(new) - MAX_CAUSES:,} more" if len(new) > MAX_CAUSES else ""
    yield f"New since the last run ({since}): {said}{more}"


def _verb(event: EventKind) -> str:
    return "Ended at" if event in ENDS else "Seen at"


def _fitted(lines: Iterable[str], link: str) -> str:
    """Return the lines and the link in `MAX_TEXT` characters; what does not fit is left out from the end."""
    left, taken = MAX_TEXT - len(link) - 1, list[str]()
    for line in lines:
        said = cut(line, max(0, left))
        if len(said) < min(len(line), 20):
            break
        taken.append(said)
        left -= len(said) + 1
    return "\n".join([*taken, link])


def _in_general(error: str, video_id: str) -> str:
    return cut(general_words(_in_one_line(error), video_id), MAX_WORDS)


def _as_it_is(error: str, video_id: str) -> str:
    return cut(_in_one_line(error), MAX_WORDS)


def _in_one_line(error: str) -> str:
    return " ".join(printable(error.partition("\n")[0]).split())
