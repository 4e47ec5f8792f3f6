"""What a message to a channel says: one event, or many that became one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from backend.clock import iso
from backend.domain.causes import general_words
from backend.domain.notification import Channel, job_link
from backend.domain.sending import MAX_TEXT_LENGTH, group_text, group_title
from backend.store.deliveries import Content

TEST_EVENT = "test"
TEST_TITLE = "A test of the progress dashboard"
TEST_TEXT = "This channel works: what you chose to be told of will come here."
CUT = "…"
PATH = re.compile(r"[/\\](?=\S*[^\W\d_])")  # with a name behind it, unlike "9 / 20"


@dataclass(frozen=True, slots=True)
class Message:
    """A message in words; `body` is its JSON for a webhook, empty for many events at once, which no webhook is sent."""

    event_id: str
    title: str
    text: str
    body: bytes = b""


def message_of(
    channel: Channel, contents: Sequence[Content], base_url: str, *, is_group: bool = False, note: str = ""
) -> Message:
    """Return the message to this channel; `note` is a sentence to end with."""
    if is_group:
        return _group(contents, base_url, note)
    content = contents[0]
    link = job_link(base_url, content.job_id)
    told = content.details if channel.tells_details and content.details is not None else content.text
    text = _with_note(told, note)
    job = _update(content.job, tells_details=channel.tells_details)
    body = {
        "event_id": content.event_id,
        "event": str(content.event),
        "title": content.title,
        "text": text,
        "timestamp": iso(content.at),
        "job": job,
        "link": link,
    }
    return Message(content.event_id, content.title, text, msgspec.json.encode(body))


def a_test(event_id: str, base_url: str, at: datetime) -> Message:
    """Return the message that shows if a channel works."""
    body = {
        "event_id": event_id,
        "event": TEST_EVENT,
        "title": TEST_TITLE,
        "text": TEST_TEXT,
        "timestamp": iso(at),
        "job": None,
        "link": job_link(base_url, None),
    }
    return Message(event_id, TEST_TITLE, f"{TEST_TEXT}\n{job_link(base_url, None)}", msgspec.json.encode(body))


def _group(contents: Sequence[Content], base_url: str, note: str) -> Message:
    ending = "\n".join(filter(None, (note, job_link(base_url, None))))
    lines = group_text([content.title for content in contents], max_length=MAX_TEXT_LENGTH - len(ending) - 1)
    title = group_title([content.event for content in contents])
    return Message(contents[0].event_id, title, f"{lines}\n{ending}")


def _with_note(text: str, note: str) -> str:
    if not note:
        return text
    room = MAX_TEXT_LENGTH - len(note) - 1
    return f"{text if len(text) <= room else text[: room - 1] + CUT}\n{note}"


def _update(job: bytes | None, *, tells_details: bool) -> Any:
    """Return the update for a webhook. What may name files is told in general words unless the channel allows more."""
    if job is None or tells_details:
        return None if job is None else msgspec.Raw(job)
    update: Mapping[str, Any] = msgspec.json.decode(job)
    video_id = update.get("video_id") or ""
    told = {name: general_words(update[name], video_id) for name in ("error", "message") if name in update}
    if not PATH.search(update["message"]):
        told["message"] = update["message"]
    return {**update, **told}
