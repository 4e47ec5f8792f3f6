"""Reads and decodes a whole video, collects its facts, and checks that it is neither cut off nor damaged."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from backend.errors import VideoFailed
from backend.processors import Step, VideoFile
from backend.processors.opening import audio_stream, check_readable, check_size, opened, video_stream
from backend.processors.poster import write_poster

MAX_BAD_SHARE = 0.05  # of the packets that are decoded; with more, the file counts as damaged
MAX_MISSING_SECONDS, MAX_MISSING_SHARE = 0.3, 0.05  # with more than both missing at its end, the file is cut off
MAX_READ_FAILURES = 100  # in a row; after them, the rest counts as unreadable
POSTER_AT = 0.2  # share of the duration
POSTER_AT_SECONDS = 1.0  # if the duration is not known
DECODED = 0.97  # share of the work


@dataclass(slots=True)
class ReadingPace:
    """Limits reading to `max_speed` times real time, by comparing media time with a clock."""

    max_speed: float | None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _began: float | None = None

    def hold(self, media_seconds: float) -> None:
        """Wait until this point of the video may be read."""
        if self.max_speed is None:
            return
        if self._began is None:
            self._began = self.monotonic()
        early = self._began + media_seconds / self.max_speed - self.monotonic()
        if early > 0:
            self.sleep(early)


@dataclass(slots=True)
class Tally:
    """The counts and findings of the decoding so far. Times are seconds from the start of the file."""

    start: float
    duration: float | None
    packets: int = 0
    bad: int = 0
    frames: int = 0
    end: float = 0.0
    poster: VideoFrame | None = None
    last_error: av.error.FFmpegError | None = field(default=None, repr=False)

    def reach(self, at: float | None, seconds: float) -> None:
        """Note that the video has content from `at`, for this many seconds."""
        if at is not None:
            self.end = max(self.end, at - self.start + seconds)

    def add_frame(self, frame: VideoFrame) -> None:
        """Count a frame. Keeps it if it is the best poster so far."""
        check_size(frame)
        self.frames += 1
        self.bad += frame.is_corrupt
        wanted = self.duration * POSTER_AT if self.duration else POSTER_AT_SECONDS
        if self.poster is None or (_since(self.poster, self.start) < wanted <= _since(frame, self.start)):
            self.poster = frame

    def fail(self, error: av.error.FFmpegError) -> None:
        """Count a bad packet. Raises an error that is a lack of memory, because it is not the packet's fault."""
        if error.errno == errno.ENOMEM:
            raise error
        self.bad += 1
        self.last_error = error


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of an open file that are decoded."""

    container: InputContainer
    video: VideoStream
    audio: AudioStream | None


def inspect(file: VideoFile, max_speed: float | None) -> Generator[Step, None, dict[str, Any]]:
    """Decode the whole file, write `poster.jpg`, and return its facts. Raises `VideoFailed` if it is damaged."""
    yield Step(0.0, "opening")
    with opened(file) as container:
        streams = Streams(container, video_stream(container), audio_stream(container))
        tally = Tally(
            start=(container.start_time or 0) / av.time_base,
            duration=container.duration / av.time_base if container.duration and container.duration > 0 else None,
        )
        yield from _decode(streams, tally, ReadingPace(max_speed))
        poster = _checked_poster(file, tally)
        yield Step(DECODED, "drawing the poster")
        write_poster(poster, streams.video.sample_aspect_ratio, file.output / "poster.jpg")
        return _facts(file, streams, tally)


def _decode(streams: Streams, tally: Tally, pace: ReadingPace) -> Generator[Step, None, None]:
    size, position, share = max(streams.container.size, 1), 0, 0.0
    for packet in _packets(streams.container, tally):
        at, seconds = _span(packet)
        if at is not None:
            pace.hold(at - tally.start)
        position = max(position, packet.pos or 0)
        if packet.stream is streams.video or packet.stream is streams.audio:
            _decode_packet(packet, tally)
        else:
            tally.reach(at, seconds)
        done = tally.end / tally.duration if tally.duration else position / size
        share = max(share, min(done, 1.0))
        yield Step(share * DECODED, "decoding")


def _packets(container: InputContainer, tally: Tally) -> Iterator[Packet[Any]]:
    """Yield all packets, continuing after unreadable parts."""
    failures = 0
    while failures < MAX_READ_FAILURES:
        try:
            for packet in container.demux():
                failures = 0
                yield packet
            return
        except av.error.FFmpegError as error:
            tally.fail(error)
            failures += 1


def _decode_packet(packet: Packet[Any], tally: Tally) -> None:
    tally.packets += packet.size > 0
    try:
        for frame in packet.decode():
            if isinstance(frame, VideoFrame):
                tally.add_frame(frame)
                seconds = float((frame.duration or 0) * (frame.time_base or 0))
            else:
                seconds = frame.samples / (frame.sample_rate or 1)
            tally.reach(frame.time, seconds)
    except av.error.FFmpegError as error:
        tally.fail(error)


def _span(packet: Packet[Any]) -> tuple[float | None, float]:
    """Return when the packet's content is shown and for how long, in seconds."""
    moment = packet.pts if packet.pts is not None else packet.dts
    if moment is None or packet.time_base is None:
        return None, 0.0
    return float(moment * packet.time_base), float((packet.duration or 0) * packet.time_base)


def _since(frame: VideoFrame, start: float) -> float:
    return (frame.time or 0.0) - start


def _checked_poster(file: VideoFile, tally: Tally) -> VideoFrame:
    """Return the frame of the poster. Raises `VideoFailed` if the file is cut off or damaged."""
    check_readable(file, tally.last_error)
    if tally.poster is None:
        raise VideoFailed("Nothing in this file can be decoded; it is damaged.") from tally.last_error
    missing = (tally.duration or 0.0) - tally.end
    if tally.duration and missing > max(MAX_MISSING_SECONDS, MAX_MISSING_SHARE * tally.duration):
        raise VideoFailed(
            f"File is cut off: it should last {tally.duration:.1f} s but ends after {tally.end:.1f} s; fetch it again."
        ) from tally.last_error
    if tally.bad > MAX_BAD_SHARE * max(tally.packets, 1):
        raise VideoFailed(
            f"File is damaged: {tally.bad:,} of {tally.packets:,} packets cannot be decoded; fetch it again."
        ) from tally.last_error
    return tally.poster


def _facts(file: VideoFile, streams: Streams, tally: Tally) -> dict[str, Any]:
    context = streams.video.codec_context
    seconds = tally.duration or tally.end
    size = file.path.stat().st_size
    return {
        "container": _container_name(file, streams.container),
        "duration_seconds": round(seconds, 3),
        "bit_rate": int(size * 8 / seconds) if seconds > 0 else None,
        "size_bytes": size,
        "video": {
            "codec": context.codec.canonical_name,
            "width": context.width,
            "height": context.height,
            "frame_rate": _frame_rate(streams.video.average_rate, tally),
            "frames": tally.frames,
        },
        "audio": _sound(streams.audio) if streams.audio is not None else None,
        "poster": "poster.jpg",
        "packets": tally.packets,
        "bad_packets": tally.bad,
    }


def _container_name(file: VideoFile, container: InputContainer) -> str:
    """Return one of FFmpeg's names of the format: the file's own extension if it is among them."""
    known = container.format.name.split(",")
    extension = file.path.suffix.lower().lstrip(".")
    return extension if extension in known else known[0]


def _frame_rate(declared: Fraction | None, tally: Tally) -> float | None:
    if declared:
        return round(float(declared), 3)
    return round(tally.frames / tally.end, 3) if tally.end > 0 else None


def _sound(audio: AudioStream) -> dict[str, Any]:
    context = audio.codec_context
    return {
        "codec": context.codec.canonical_name,
        "channels": context.channels,
        "sample_rate": context.sample_rate,
    }
