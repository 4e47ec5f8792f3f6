"""The processor `probe`: it collects the facts of a video, and proves that it can be decoded to its end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from backend.processors import Processor, Step, VideoFile


class ProbeOptions(BaseModel):
    """The options.

    `max_speed` limits reading to that multiple of real time, to spare a shared disk; None: no limit.
    `max_lost_share`: a video that lost more of its pictures than this share fails as damaged; one that lost less
    completes and says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_speed: Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)] | None = None
    max_lost_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.02


def run(file: VideoFile, options: ProbeOptions) -> Generator[Step, None, dict[str, Any]]:
    """Return container, codecs, size, duration and audio. Writes `poster.jpg`. `inspection` decides what is damaged."""
    from backend.processors.inspection import inspect  # here, so that the server checks options without loading FFmpeg

    return inspect(file, options.max_speed, options.max_lost_share)


PROCESSOR = Processor(
    name="probe",
    summary="Reads and decodes the whole video, records what it is, and draws a poster",
    options=ProbeOptions,
    run=run,
)
