"""The places where the files of jobs are found."""

from __future__ import annotations

from dataclasses import dataclass

from backend.domain.job import Source
from backend.media.demo import DemoClips
from backend.media.directory import MediaDirectory, MediaSource


@dataclass(frozen=True, slots=True)
class MediaSources:
    """The media directory and the demo's clips."""

    media: MediaDirectory
    demo: DemoClips

    def of(self, source: Source) -> MediaSource:
        """Return the place of a job's files."""
        return self.demo if source is Source.DEMO else self.media
