"""What a processor found out about a video, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ui.text import bit_rate, count, duration, size

Result = Mapping[str, Any]


def summary(result: Result) -> str:
    """The most telling facts in a line; "" when there are none.

    >>> summary({"video": {"codec": "h264", "width": 1280, "height": 720}, "audio": None, "duration_seconds": 62.4})
    '1280 × 720 · h264 · 1 min 2 s'
    """
    codecs = " + ".join(part["codec"] for part in (result.get("video"), result.get("audio")) if part)
    seconds = result.get("duration_seconds")
    return " · ".join(part for part in (_resolution(result), codecs, duration(seconds) if seconds else "") if part)


def facts(result: Result) -> list[tuple[str, str]]:
    """All facts that are known, each with its label.

    >>> facts({"size_bytes": 1500, "bit_rate": None, "poster": "poster.jpg"})
    [('Size', '1.5 kB')]
    """
    told = [(label, words(result)) for label, words in FACTS.items()]
    return [(label, words) for label, words in told if words]


def _resolution(result: Result) -> str:
    video = result.get("video")
    return f"{video['width']} × {video['height']}" if video else ""


def _video(result: Result) -> str:
    video = result.get("video") or {}
    rate = video.get("frame_rate")
    parts = (video.get("codec"), f"{rate:g} frames/s" if rate else "", _frames(video.get("frames")))
    return ", ".join(part for part in parts if part)


def _frames(number: int | None) -> str:
    return f"{count(number)} frames" if number else ""


def _audio(result: Result) -> str:
    if "audio" not in result:
        return ""
    audio = result["audio"]
    if audio is None:
        return "none"
    return f"{audio['codec']}, {audio['channels']} channel{'s' * (audio['channels'] != 1)}, {audio['sample_rate']:,} Hz"


def _told(name: str, words: Callable[[Any], str]) -> Callable[[Result], str]:
    return lambda result: words(result[name]) if result.get(name) else ""


def _damage(result: Result) -> str:
    bad = result.get("bad_packets")
    return f"{count(bad)} of {count(result['packets'])} packets could not be decoded" if bad else ""


FACTS: Mapping[str, Callable[[Result], str]] = {
    "Resolution": _resolution,
    "Duration": _told("duration_seconds", duration),
    "Video": _video,
    "Audio": _audio,
    "Container": _told("container", str),
    "Bit rate": _told("bit_rate", bit_rate),
    "Size": _told("size_bytes", size),
    "Damage": _damage,
}
