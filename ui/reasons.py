"""Why videos failed, in a few words, and what a retry of some causes touches. All functions are pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from backend.domain.job import Job
from backend.errors import reason
from ui.text import count

CLAUSE = re.compile(r"[,.:;!?](?=\s|$)| \(")
SUBJECT = re.compile(r"\A(?:the )?(?:file|video) (?:is|was) ", re.IGNORECASE)
USUAL_REASONS = (
    (re.compile(r"\btimed?[ -]?out\b|\btook (?:too long|longer)", re.IGNORECASE), "timed out"),
    (re.compile(r"\bnot found\b|\bno such file\b|\bno file for\b", re.IGNORECASE), "not found"),
)
MAX_REASON_LENGTH = 40  # characters
MAX_NAMED_REASONS = 4


def short_reason(error: str) -> str:
    """Return an error in a few words, taken from its first clause.

    >>> short_reason("Took longer than 600 s, the limit for one video."), short_reason("No file for this ID in x")
    ('timed out', 'not found')
    >>> short_reason("The file is cut off: it ends after 2.5 s"), short_reason("HTTP 503 (later)"), short_reason(": ")
    ('cut off', 'HTTP 503', 'no details')
    >>> short_reason("The process of this video answered with something that is not a report.")
    'the process of this video answered with…'
    """
    clause = SUBJECT.sub("", next(filter(None, (part.strip() for part in CLAUSE.split(error))), "no details"))
    for pattern, usual in USUAL_REASONS:
        if pattern.search(clause):
            return usual
    words = reason(clause)
    if len(words) <= MAX_REASON_LENGTH:
        return words
    return f"{words[:MAX_REASON_LENGTH].rpartition(' ')[0] or words[:MAX_REASON_LENGTH]}…"


def retry_words(chosen: Iterable[tuple[int, str]], job: Job) -> str:
    """Return exactly what a retry of some causes touches, in numbers.

    `chosen` has the number of videos and the reason of each cause.
    """
    videos = Counter[str]()
    for number, why in chosen:
        videos[why] += number
    if not videos:
        return "Select what to retry"
    parts = [f"{count(number)} {why}" for why, number in videos.most_common(MAX_NAMED_REASONS)]
    others = videos.total() - sum(number for _, number in videos.most_common(MAX_NAMED_REASONS))
    parts += [f"{count(others)} for other causes"] if others else []
    parts += [f"{count(job.undone)} not done so far"] if job.undone else []
    return f"Retry {count(videos.total() + job.undone)} of {count(job.total_videos)}: {', '.join(parts)}"


def and_undone(job: Job) -> str:
    """Return what every retry also takes: the videos that are not done; "" if there are none."""
    return f" and {count(job.undone)} not done so far" if job.undone else ""
