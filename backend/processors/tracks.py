"""Decides, once for each file, which track is the film, which sound tracks are read, and what is passed over."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from backend.errors import VideoFailed
from backend.processors.opening import AUDIO_CODECS, CODECS, NO_VIDEO, VIDEO_CODECS

MAX_LONG_SIDE, MAX_SHORT_SIDE = 8192, 4320  # pixels
MAX_SOUND_TRACKS = 8  # that are decoded
MAX_NAMED = 4  # tracks that are named in the result
STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
LOOK_PACKETS = 2000  # that are read at the beginning to tell films from stills, where several tracks have pictures


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the beginning of a track of pictures found: packets, the seconds they cover, and their bytes."""

    packets: int = 0
    seconds: float = 0.0
    size: int = 0


@dataclass(slots=True)
class Tracks:
    """The tracks of an open file that are decoded, and sentences about those that are not."""

    film: VideoStream
    sounds: list[AudioStream]
    unread_sounds: list[AudioStream] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)


def chosen_tracks(container: InputContainer, looked_at: dict[int, Seen]) -> Tracks:
    """Return the tracks to decode, with their decoders open. Raises `VideoFailed` if there is no film to decode."""
    film = film_of(container, looked_at)
    _open_decoder(film, VIDEO_CODECS, "video")
    check_size(film.codec_context)
    tracks = Tracks(film, [])
    others = [stream for stream in _films(container) if stream is not film and not _is_still(stream, looked_at)]
    tracks.passed_over += _named(
        [f"Another track of pictures ({_codec(other)}) was not looked at." for other in others]
    )
    unread: list[str] = []
    for sound in _by_rank(container):
        reason = _why_unread(sound, len(tracks.sounds))
        if reason:
            unread.append(reason)
            tracks.unread_sounds.append(sound)
        else:
            tracks.sounds.append(sound)
    tracks.passed_over += _named(unread)
    return tracks


def film_of(container: InputContainer, looked_at: dict[int, Seen]) -> VideoStream:
    """Return the track that is the film: still pictures lose, then its disposition, length and size decide."""
    films = _films(container)
    if not films:
        raise VideoFailed(NO_VIDEO)
    return max(films, key=lambda stream: _film_rank(stream, looked_at))


def needs_a_look(container: InputContainer) -> bool:
    """Return True if several tracks could be the film."""
    return len(_films(container)) > 1


def look(container: InputContainer) -> dict[int, Seen]:
    """Read the beginning of the file without decoding it, and return what each track of pictures has there."""
    seen: dict[int, Seen] = {}
    first: dict[int, float] = {}
    films = _films(container)
    try:
        for count, packet in enumerate(container.demux(films)):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if packet.size and packet.time_base is not None:
                at = float(stamp * packet.time_base) if stamp is not None else 0.0
                begun = first.setdefault(packet.stream_index, at)
                before = seen.get(packet.stream_index, Seen())
                seen[packet.stream_index] = Seen(before.packets + 1, at - begun, before.size + packet.size)
            if count >= LOOK_PACKETS:
                break
    except (av.error.FFmpegError, IndexError):  # the reading itself finds out what is damaged
        pass
    return seen


def check_size(picture: VideoFrame | av.VideoCodecContext) -> None:
    """Raise `VideoFailed` if the picture is larger than 8192 × 4320, upright or not."""
    long_side, short_side = max(picture.width, picture.height), min(picture.width, picture.height)
    if long_side > MAX_LONG_SIDE or short_side > MAX_SHORT_SIDE:
        raise VideoFailed(
            f"The picture is too large: {picture.width} × {picture.height}; "
            f"the limit is {MAX_LONG_SIDE} × {MAX_SHORT_SIDE}."
        )


def stream_seconds(stream: Stream) -> float | None:
    """Return how long the track says that it is; None if it does not say."""
    if stream.duration is None or stream.time_base is None or stream.duration <= 0:
        return None
    return float(stream.duration * stream.time_base)


def stream_start(stream: Stream) -> float:
    """Return where the track begins on the container's clock; 0 if it does not say."""
    return float(stream.start_time * stream.time_base) if stream.start_time is not None and stream.time_base else 0.0


def _films(container: InputContainer) -> list[VideoStream]:
    return [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]


def _is_still(stream: VideoStream, looked_at: dict[int, Seen]) -> bool:
    if stream.disposition & STILLS:
        return True
    if stream.index in looked_at or stream.frames:
        return looked_at.get(stream.index, Seen()).packets <= 1 and stream.frames <= 1
    return bool(looked_at)  # nothing of it was seen, but others were


def _film_rank(stream: VideoStream, looked_at: dict[int, Seen]) -> tuple[bool, bool, float, int, int]:
    seen = looked_at.get(stream.index, Seen())
    context = stream.codec_context
    pixels = context.width * context.height if context is not None else 0
    length = stream_seconds(stream) or seen.seconds
    is_default = bool(stream.disposition & Disposition.default)
    return not _is_still(stream, looked_at), is_default, round(length, 1), pixels, -stream.index


def _by_rank(container: InputContainer) -> list[AudioStream]:
    def rank(stream: AudioStream) -> tuple[bool, float, int]:
        is_default = bool(stream.disposition & Disposition.default)
        return is_default, round(stream_seconds(stream) or 0.0, 1), -stream.index

    return sorted(container.streams.audio, key=rank, reverse=True)


def _why_unread(sound: AudioStream, opened: int) -> str:
    """Return a sentence why this track of sound is not decoded; "" if it is, with its decoder open."""
    name = _codec(sound)
    if opened >= MAX_SOUND_TRACKS:
        return f"A track of sound ({name}) was not decoded: {MAX_SOUND_TRACKS} others were."
    try:
        _open_decoder(sound, AUDIO_CODECS, "audio")
    except VideoFailed:
        return f"A track of sound ({name}) was not decoded: its codec is not one that is read here, or it is damaged."
    return ""


def _named(sentences: list[str]) -> list[str]:
    more = len(sentences) - MAX_NAMED
    return [*sentences[:MAX_NAMED], *([f"{more} more tracks were not decoded."] if more > 0 else [])]


def _codec(stream: Stream) -> str:
    return stream.codec_context.name if stream.codec_context is not None else "unknown"


def _open_decoder(stream: VideoStream | AudioStream, allowed: str, kind: str) -> None:
    context = stream.codec_context
    if context is None or context.name not in allowed.split(","):
        name = context.name if context is not None else "unknown"
        raise VideoFailed(f"Its {kind} codec ({name}) is not supported.")
    # the whitelist for av.open restricts only FFmpeg's own look at the streams, not this decoder
    context.options = {"codec_whitelist": CODECS, "max_pixels": str(MAX_LONG_SIDE * MAX_SHORT_SIDE)}
    context.thread_count = 1  # videos run side by side, one per CPU
    try:
        context.open()
    except av.error.FFmpegError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise VideoFailed(f"The {kind} cannot be decoded: its header is damaged.") from error
