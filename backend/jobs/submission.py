"""New jobs: what a list becomes, and what is checked before it is stored."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from backend.domain import messages
from backend.domain.auth import User
from backend.domain.job import Job, Source
from backend.domain.texts import checked_text
from backend.errors import Invalid
from backend.lists.csv_files import Duplicate, Problem, VideoList
from backend.processors import validated_options
from progress_dashboard.protocol import EXTERNAL

MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that was created, and the rows of its list that it left out."""

    job: Job
    duplicates: tuple[Duplicate, ...]
    invalid: tuple[Problem, ...]

    @property
    def found(self) -> int:
        """Number of videos that have a file."""
        return self.job.found

    @property
    def missing(self) -> int:
        """Number of videos without a file."""
        return self.job.total_videos - self.job.found


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a user asks for with a list. Raises `Invalid` for options that the processor does not take."""

    name: str
    processor: str = "probe"
    options: Mapping[str, Any] | None = None
    source: Source = Source.MEDIA

    @property
    def is_external(self) -> bool:
        """True if another program processes the videos and reports on them."""
        return self.processor == EXTERNAL

    def job(self, videos: VideoList, *, by: User, found: int, at: datetime) -> Job:
        """Return the new job; `found` is the number of its videos that have a file."""
        return Job(
            id=str(uuid.uuid4()),
            owner_id=by.id,
            owner=by.name,
            name=_title(self.name),
            processor=self.processor,
            options=self.checked_options(),
            source=self.source,
            created_at=at,
            updated_at=at,
            total_videos=len(videos.rows),
            skipped_rows=videos.total_rows - len(videos.rows),
            found=found,
            message=messages.WAITING_FOR_REPORT if self.is_external else messages.WAITING_TO_START,
        )

    def checked_options(self) -> dict[str, Any]:
        """Return the options with the processor's defaults filled in. Raises `Invalid`."""
        if not self.is_external:
            return validated_options(self.processor, self.options or {})
        if self.options:
            raise Invalid("An external job takes no options.")
        return {}

    def request_hash(self, videos: VideoList) -> str:
        """Return a hash that is the same for the same order of the same list."""
        rows = [(row.video_id, row.cells) for row in videos.rows]
        request = [rows, _title(self.name), self.processor, self.checked_options()]
        return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()


def checked_key(key: str) -> str:
    """Return the idempotency key. Raises `Invalid` if it is empty or not readable text."""
    checked = checked_text(key, "Idempotency-Key")
    if not checked:
        raise Invalid("Idempotency-Key must not be empty.")
    return checked


def _title(name: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(printable.split())[:MAX_NAME_LENGTH] or "Untitled list"
