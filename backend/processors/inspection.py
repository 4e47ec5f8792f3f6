"""Reads and decodes a whole video, and collects its facts. `verdict` says whether it is sound.

Here packets and pictures of FFmpeg become values: `film_clock` makes times of them, `losses` counts what is missing.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from backend.errors import VideoFailed
from backend.processors import Step, VideoFile
from backend.processors.film_clock import (
    MAX_STREAM_STEP_BACK_SECONDS,
    MAX_STREAM_STEP_SECONDS,
    FilmClock,
    declared_length,
)
from backend.processors.losses import Hole, ReadBytes, TrackLosses
from backend.processors.opening import ENCRYPTED, OpenVideo, check_readable, opened
from backend.processors.poster import PictureSize, PosterChoice, picture_size, write_poster
from backend.processors.structure import declared_size, has_torn_beginning, has_torn_end, is_encrypted, unreadable_bytes
from backend.processors.tracks import (
    Seen,
    Tracks,
    check_size,
    chosen_tracks,
    look,
    needs_a_look,
    stream_seconds,
    stream_start,
)
from backend.processors.verdict import Extent, Verdict, judged

MAX_READ_FAILURES = 100  # in a row; after them, the rest counts as unreadable
MAX_HELD_SECONDS = 10.0  # of the film, between two packets: a longer step is a jump or a hole
DECODED = 0.97  # share of the work
POSTER_AT = 0.2  # share of the film
STREAMS = frozenset({"mpegts", "mpeg"})  # without an index or a declared length; their clock may jump
JUMPING = STREAMS | {"flv"}
# formats whose structure shows whether their end is missing: there a declared length alone proves nothing
WITH_STRUCTURE = frozenset({"matroska", "mov", *JUMPING})
MIN_UNREAD_BYTES = 16_384  # at the end of a file; fewer may be an index
MIN_UNREAD_SHARE = 0.005
MIN_HOLE_BYTES = 2 * 188  # in a transport stream, which has packets that belong to no track
MIN_PICTURE_GAP_SECONDS, MIN_SOUND_GAP_SECONDS = 0.002, 0.1
NOTHING_DECODED = "Nothing in this file can be decoded; it is damaged."


@dataclass(slots=True)
class ReadingPace:
    """Limits reading to `max_speed` times real time, by comparing the film's time with a clock.

    No step of the film counts for more than `MAX_HELD_SECONDS`, so the wait is bounded by what was read.
    """

    max_speed: float | None
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _began: float | None = None
    _at: float = 0.0
    _held: float = 0.0

    def hold(self, media_seconds: float) -> None:
        """Wait until this point of the video may be read."""
        if self.max_speed is None or (self._began is not None and media_seconds <= self._at):
            return
        if self._began is None:
            self._began, self._at = self.monotonic(), media_seconds
        self._held += min(media_seconds - self._at, MAX_HELD_SECONDS)
        self._at = media_seconds
        early = self._began + self._held / self.max_speed - self.monotonic()
        if early > 0:
            self.sleep(early)


@dataclass(slots=True)
class TrackReader:
    """Reads one track that is decoded. `base` is the length of a unit of its time stamps, in seconds."""

    stream: VideoStream | AudioStream
    base: float
    losses: TrackLosses

    @classmethod
    def of(cls, stream: VideoStream | AudioStream) -> TrackReader:
        """Return the reader of this track."""
        losses = TrackLosses(is_predicted=stream.type == "video")
        return cls(stream, float(stream.time_base or 1), losses)


@dataclass(slots=True)
class Reading:
    """The reading of a film so far."""

    film: TrackReader
    sounds: list[TrackReader]
    clock: FilmClock
    length: float | None
    size: int
    is_stream: bool
    is_unreadable: Callable[[Hole], bool]
    counts_in_order: bool = False  # time stamps are only the numbers of pictures, so holes do not show in them
    poster: PosterChoice = field(default_factory=PosterChoice)
    bytes: ReadBytes = field(default_factory=ReadBytes)
    readers: dict[int, TrackReader] = field(default_factory=dict)
    other_end: float = 0.0
    has_late_track: bool = False
    picture_size: PictureSize | None = None  # of the first picture; later ones may be larger or smaller
    last_error: Exception | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.readers = {reader.stream.index: reader for reader in (self.film, *self.sounds)}

    @property
    def streams(self) -> list[VideoStream | AudioStream]:
        """The tracks that are decoded."""
        return [reader.stream for reader in self.readers.values()]

    def is_early(self, at: float) -> bool:
        """Return True if this time is before the place of the poster. Where no length is known, none is early."""
        if self.is_stream:
            return self.bytes.end < POSTER_AT * self.size
        return self.length is not None and at < POSTER_AT * self.length

    @property
    def share(self) -> float:
        """Return how much of the file was read, from 0 to 1: by time if the film's clock is known, or else by bytes."""
        if self.length and not self.clock.jumps:
            return min(1.0, max(0.0, self.clock.reached / self.length))
        return min(1.0, self.bytes.end / self.size)

    def fail(self, error: Exception, reader: TrackReader | None, begin: float, end: float) -> None:
        """Note an error of the demuxer (no reader), or of a decoder. Raises it if it is a lack of memory."""
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise error
        self.last_error = error
        for failed in self.readers.values() if reader is None else (reader,):
            failed.losses.bad_packets += 1
            failed.losses.has_unreadable_bytes = True
            failed.losses.mark(begin, end)


def inspect(
    file: VideoFile, max_speed: float | None, max_lost_share: float = 0.02
) -> Generator[Step, None, dict[str, Any]]:
    """Decode the whole file, write `poster.jpg`, and return its facts.

    Raises `VideoFailed` if it is cut off or damaged: if more than `max_lost_share` of its pictures is lost.
    """
    yield Step(0.0, "opening")
    looked_at: dict[int, Seen] = {}
    with opened(file) as video:
        if not needs_a_look(video.container):
            return (yield from _inspect(file, video, looked_at, ReadingPace(max_speed), max_lost_share))
        looked_at = look(video.container)
    with opened(file) as video:
        return (yield from _inspect(file, video, looked_at, ReadingPace(max_speed), max_lost_share))


def _inspect(
    file: VideoFile, video: OpenVideo, looked_at: dict[int, Seen], pace: ReadingPace, max_lost_share: float
) -> Generator[Step, None, dict[str, Any]]:
    tracks = _tracks(video, looked_at)
    reading = _reading(video, tracks)
    yield from _read(video.container, reading, pace)
    for reader in reading.readers.values():
        reader.losses.finish()
    verdict = _verdict(file, video, reading, max_lost_share)
    yield Step(DECODED, "drawing the poster")
    poster = reading.poster.finish()
    if poster is None:
        raise VideoFailed(NOTHING_DECODED)
    write_poster(poster, tracks.film.sample_aspect_ratio, file.output / "poster.jpg")
    return _facts(file, video.container, tracks, reading, verdict)


def _tracks(video: OpenVideo, looked_at: dict[int, Seen]) -> Tracks:
    try:
        return chosen_tracks(video.container, looked_at)
    except VideoFailed as failure:
        if is_encrypted(video.descriptor):
            raise VideoFailed(ENCRYPTED) from failure
        raise


def _reading(video: OpenVideo, tracks: Tracks) -> Reading:
    container, name = video.container, _format(video.container)
    chosen: list[VideoStream | AudioStream] = [tracks.film, *tracks.sounds]
    begins = [float(s.start_time * s.time_base) for s in chosen if s.start_time is not None and s.time_base]
    start = min(begins, default=None)
    length = None if name in STREAMS else declared_length(_declared(container, chosen), start or 0.0, 0.0)
    return Reading(
        TrackReader.of(tracks.film),
        [TrackReader.of(sound) for sound in tracks.sounds],
        _clock(name, start),
        length,
        max(container.size, 1),
        name in STREAMS,
        lambda hole: name != "mpegts" or unreadable_bytes(video.descriptor, hole.begin, hole.end) > MIN_HOLE_BYTES,
        counts_in_order=name == "avi",
    )


def _clock(name: str, start: float | None) -> FilmClock:
    if name in JUMPING:
        return FilmClock(start, MAX_STREAM_STEP_SECONDS, MAX_STREAM_STEP_BACK_SECONDS)
    return FilmClock(start)


def _format(container: InputContainer) -> str:
    """Return the first of FFmpeg's names of the format."""
    return container.format.name.partition(",")[0]


def _declared(container: InputContainer, tracks: Sequence[VideoStream | AudioStream]) -> float | None:
    """Return the declared length in seconds: of the film's own tracks, or else of the container."""
    ends = [stream_start(track) + seconds for track in tracks if (seconds := stream_seconds(track)) is not None]
    if len(ends) == len(tracks):
        return max(ends) - min(map(stream_start, tracks))
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


def _read(container: InputContainer, reading: Reading, pace: ReadingPace) -> Generator[Step, None, None]:
    share = 0.0
    for packet in _packets(container, reading):
        reader = reading.readers.get(packet.stream.index)  # `stream_index` is 0 in the packets at the end
        if reader is not None:
            _read_packet(packet, reader, reading)
        else:
            _pass_over(packet, reading)
        pace.hold(reading.clock.reached)
        share = max(share, reading.share)
        yield Step(share * DECODED, "decoding")


def _packets(container: InputContainer, reading: Reading) -> Iterator[Packet[Any]]:
    """Yield all packets, continuing after unreadable parts."""
    failures = 0
    while failures < MAX_READ_FAILURES:
        try:
            for packet in container.demux():
                failures = 0
                yield packet
            return
        except av.error.FFmpegError as error:
            now = reading.clock.reached
            reading.fail(error, None, now, now)
            failures += 1
        except IndexError:  # PyAV ends with it if a track appeared after the file was opened
            reading.has_late_track = True
            return


def _pass_over(packet: Packet[Any], reading: Reading) -> None:
    reading.bytes.add(packet.stream_index, packet.pos, packet.size)
    if packet.pts is not None and packet.time_base is not None:
        end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
        reading.other_end = max(reading.other_end, end - (reading.clock.start or 0.0))


def _read_packet(packet: Packet[Any], reader: TrackReader, reading: Reading) -> None:
    size, losses = packet.size, reader.losses
    if not size:  # at the end: the decoder gives out what it still has
        _decode(packet, reader, reading, reading.clock.reached, reading.clock.reached)
        return
    if not losses.packets:
        _check_clear(packet)
    losses.packets += 1
    hole = reading.bytes.add(packet.stream_index, packet.pos, size)
    seconds = losses.lasting((packet.duration or 0) * reader.base)
    at = _film_time(packet, reader, reading, seconds, hole)
    if not packet.is_discard:  # else the file itself says that it is not to be shown
        losses.read(at, seconds, is_key=packet.is_keyframe)
    losses.note_packet(at, seconds, is_corrupt=packet.is_corrupt)
    _decode(packet, reader, reading, at, at + seconds)


def _film_time(packet: Packet[Any], reader: TrackReader, reading: Reading, seconds: float, hole: Hole | None) -> float:
    """Return when the packet's content is shown. Notes bytes that nothing was read from before it."""
    clock, index = reading.clock, packet.stream_index
    track = clock.tracks.get(index)
    before = track.now if track is not None else None
    dts, pts = packet.dts, packet.pts
    if pts is None and dts is None:
        return before or 0.0
    if dts is None and before is not None:  # the order of pictures says nothing about the clock
        return clock.place(index, (pts or 0) * reader.base, seconds, before)
    stamp = (pts or 0) if dts is None else dts
    missing = hole.missing * clock.reached / max(reading.bytes.end, 1) if hole is not None else 0.0
    jumps = track.jumps if track is not None else 0
    now = clock.read(index, stamp * reader.base, seconds, missing)
    if clock.tracks[index].jumps > jumps and not (hole and reading.is_unreadable(hole)):
        reader.losses.begin_recording()
    if hole is not None and before is not None:
        _note_hole(hole, reader, reading, before, now)
    return now if pts is None or dts is None else now + (pts - dts) * reader.base


def _note_hole(hole: Hole, reader: TrackReader, reading: Reading, before: float, now: float) -> None:
    losses = reader.losses
    shortest = MIN_PICTURE_GAP_SECONDS if reader is reading.film else MIN_SOUND_GAP_SECONDS
    if now - before > 1.5 * losses.step.seconds + shortest:
        if reading.is_unreadable(hole):
            losses.has_unreadable_bytes = True
            losses.mark(before, now)
    elif reading.counts_in_order:
        losses.has_unreadable_bytes = True
        losses.note_hole(now)


def _decode(packet: Packet[Any], reader: TrackReader, reading: Reading, begin: float, end: float) -> None:
    try:
        for frame in packet.decode():
            _show(frame, reader, reading)
    except av.error.FFmpegError as error:
        _check_clear(packet)
        reading.fail(error, reader, begin, end)


def _check_clear(packet: Packet[Any]) -> None:
    """Raise `VideoFailed` if the packet is encrypted."""
    if packet.has_sidedata("encryption_info"):
        raise VideoFailed(ENCRYPTED)


def _show(frame: Any, reader: TrackReader, reading: Reading) -> None:
    losses, track = reader.losses, reading.clock.tracks.get(reader.stream.index)
    is_picture = reader is reading.film
    if is_picture:
        check_size(frame)
        seconds = losses.lasting((frame.duration or 0) * reader.base)
    else:
        seconds = _sound_seconds(frame)
    at = losses.end
    if frame.pts is not None and track is not None:
        at = track.place(frame.time, losses.end)
    is_corrupt = frame.is_corrupt
    losses.show(at, seconds, is_key=not is_picture or frame.key_frame, is_corrupt=is_corrupt)
    if is_picture:
        reading.picture_size = reading.picture_size or _size(frame, reading.film.stream)
        if not reading.poster.is_final:
            is_early, is_sound = reading.is_early(at), not losses.is_unsound
            reading.poster.offer(frame, at, is_early=is_early, is_sound=is_sound)


def _size(frame: Any, stream: VideoStream | AudioStream) -> PictureSize:
    return picture_size(frame, stream.sample_aspect_ratio if isinstance(stream, VideoStream) else None)


def _sound_seconds(frame: Any) -> float:
    """Return how long a piece of sound is heard: a container may cut off its end, which its samples do not show."""
    if frame.duration and frame.time_base:
        return float(frame.duration * frame.time_base)
    return float(frame.samples / (frame.sample_rate or 1))


def _verdict(file: VideoFile, video: OpenVideo, reading: Reading, max_lost_share: float) -> Verdict:
    """Return the verdict. Raises `VideoFailed` if the film is encrypted, cut off or damaged, or was never shown."""
    check_readable(file, reading.last_error)
    film = reading.film.losses
    extent = _extent(video, reading)
    reached = max(film.end, film.read_end, *(reader.losses.end for reader in reading.sounds))
    verdict = judged(film, [reader.losses for reader in reading.sounds], extent, reached, max_lost_share)
    if film.shown and not verdict.failure:
        return verdict
    if is_encrypted(video.descriptor):
        raise VideoFailed(ENCRYPTED) from reading.last_error
    raise VideoFailed(verdict.failure if film.shown else NOTHING_DECODED) from reading.last_error


def _extent(video: OpenVideo, reading: Reading) -> Extent:
    container, descriptor, name = video.container, video.descriptor, _format(video.container)
    size, read = os.fstat(descriptor).st_size, reading.bytes
    declared = None if name in STREAMS else _declared(container, reading.streams)
    if declared is not None and abs(reading.other_end - declared) < abs(reading.clock.reached - declared):
        declared = None  # it is the length of another track
    end = min(read.end, size)
    is_stream = name in STREAMS
    unread_begin = _unread(name, descriptor, 0, read.first or 0) if is_stream else 0
    unread_end = _unread(name, descriptor, end, size)
    should_be = declared_size(descriptor)
    return Extent(
        size=size,
        unread_begin=unread_begin,
        unread_end=unread_end,
        is_short=should_be is not None and should_be > size,
        is_torn=has_torn_end(descriptor, size, end) or (name in STREAMS and _is_torn(reading)),
        declared=declared,
        start=reading.clock.start or 0.0,
        is_declared_reliably=name not in WITH_STRUCTURE or _lacks_indexed_pictures(reading),
        is_stream=is_stream,
        is_torn_at_the_beginning=name == "mpegts" and has_torn_beginning(descriptor),
    )


def _lacks_indexed_pictures(reading: Reading) -> bool:
    """Return True if the film's own index lists more pictures than there are."""
    listed, film = reading.film.stream.frames, reading.film.losses
    return film.packets < listed or 2 * film.shown < listed


def _is_torn(reading: Reading) -> bool:
    return any(reader.losses.is_torn for reader in reading.readers.values())


def _unread(name: str, descriptor: int, begin: int, end: int) -> int:
    """Return how many bytes there nothing was read from, although there should have been something."""
    unreadable = unreadable_bytes(descriptor, begin, end) if name == "mpegts" else end - begin
    return unreadable if unreadable > MIN_UNREAD_BYTES and unreadable > MIN_UNREAD_SHARE * end else 0


def _facts(
    file: VideoFile, container: InputContainer, tracks: Tracks, reading: Reading, verdict: Verdict
) -> dict[str, Any]:
    context, film = tracks.film.codec_context, reading.film.losses
    size = file.path.stat().st_size
    readers = reading.readers.values()
    has_late_track = reading.has_late_track and not any(reader.losses.lost for reader in readers)
    late = ["A track that begins later than the others was not decoded."] if has_late_track else []
    return {
        "container": _container_name(file, container),
        "duration_seconds": round(verdict.seconds, 3),
        "bit_rate": int(size * 8 / verdict.seconds) if verdict.seconds > 0 else None,
        "size_bytes": size,
        "video": {
            "codec": context.codec.canonical_name,
            **(reading.picture_size._asdict() if reading.picture_size else {}),
            "frame_rate": _frame_rate(tracks.film, film),
            "frames": film.shown,
        },
        "audio": _sound(tracks),
        "poster": "poster.jpg",
        "packets": sum(reader.losses.packets for reader in readers),
        "bad_packets": sum(reader.losses.bad_packets for reader in readers),
        "verified_share": verdict.verified_share,
        "passed_over": [*verdict.passed_over, *tracks.passed_over, *late],
    }


def _container_name(file: VideoFile, container: InputContainer) -> str:
    """Return one of FFmpeg's names of the format: the file's own extension if it is among them."""
    known = container.format.name.split(",")
    extension = file.path.suffix.lower().lstrip(".")
    return extension if extension in known else known[0]


def _frame_rate(film: VideoStream, losses: TrackLosses) -> float | None:
    """Return the pictures a second: as declared, unless the pictures themselves contradict it."""
    seconds = losses.end - (losses.first or 0.0)
    seen = losses.shown / seconds if seconds > 0 else None
    declared = float(film.average_rate) if film.average_rate else None
    if declared and (seen is None or not losses.step.seconds or abs(declared * losses.step.seconds - 1) < 0.1):
        return round(declared, 3)
    return round(seen, 3) if seen is not None else None


def _sound(tracks: Tracks) -> dict[str, Any] | None:
    """Return the facts of the first track of sound that was decoded, or else of one that was not."""
    for audio in (*tracks.sounds, *tracks.unread_sounds):
        context = audio.codec_context
        if context is not None:
            return {
                "codec": context.codec.canonical_name,
                "channels": context.channels,
                "sample_rate": context.sample_rate,
                "decoded": audio in tracks.sounds,
            }
    return None
