"""The facts that a processor found out about a video, in words.

Processors are plug-ins: values of another type are skipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backend.domain.texts import counted
from ui.text import bit_rate, count, duration, size

Result = Mapping[str, Any]
SAME_SHARE = 0.01  # sizes that differ by less look the same


def summary(result: Result) -> str:
    """Return the most important facts in one line, and whether not all of the video could be verified; "" if none.

    >>> summary({"video": {"codec": "h264", "width": 1280, "height": 720}, "audio": None, "duration_seconds": 62.4})
    '1280 × 720 · h264 · 1 min 2 s'
    """
    codecs = " + ".join(filter(None, (_word(_part(result, name), "codec") for name in ("video", "audio"))))
    verified = f"{_verified(result)} verified" if _number(result, "verified_share") not in (None, 1) else ""
    return " · ".join(filter(None, (_resolution(result), codecs, _duration(result), verified)))


def facts(result: Result) -> list[tuple[str, str]]:
    """Return all known facts, each with its label.

    >>> facts({"size_bytes": 1500, "bit_rate": None, "poster": "poster.jpg"})
    [('Size', '1.5 kB')]
    """
    rate, bytes_ = _number(result, "bit_rate"), _number(result, "size_bytes")
    labelled = {
        "Resolution": _resolution(result),
        "Duration": _duration(result),
        "Video": _video(_part(result, "video")),
        "Audio": _audio(result),
        "Container": _word(result, "container"),
        "Bit rate": bit_rate(rate) if rate else "",
        "Size": size(bytes_) if bytes_ else "",
        "Damage": _damage(result) if "verified_share" not in result else "",
        "Verified": _verified(result),
        "Passed over": _passed_over(result),
    }
    return [(label, words) for label, words in labelled.items() if words]


def _resolution(result: Result) -> str:
    video = _part(result, "video")
    width, height = _number(video, "width"), _number(video, "height")
    if not width or not height:
        return ""
    seen_width, seen_height = _number(video, "display_width") or width, _number(video, "display_height") or height
    stored, seen = f"{width:.0f} × {height:.0f}", f"{seen_width:.0f} × {seen_height:.0f}"
    if _is_same(width, seen_width) and _is_same(height, seen_height):
        return stored
    is_turned = _is_same(width, seen_height) and _is_same(height, seen_width)
    return seen if is_turned else f"{stored}, shown as {seen}"


def _is_same(pixels: float, others: float) -> bool:
    return abs(pixels - others) <= SAME_SHARE * pixels


def _duration(result: Result) -> str:
    seconds = _number(result, "duration_seconds")
    return duration(seconds) if seconds else ""


def _video(video: Result) -> str:
    rate, frames = _number(video, "frame_rate"), _number(video, "frames")
    parts = (
        _word(video, "codec"),
        f"{rate:g} frame{'' if rate == 1 else 's'}/s" if rate else "",
        counted(int(frames), "frame") if frames else "",
    )
    return ", ".join(filter(None, parts))


def _audio(result: Result) -> str:
    if "audio" in result and result["audio"] is None:
        return "none"
    audio = _part(result, "audio")
    if audio.get("decoded") is False:
        return f"not read ({_word(audio, 'codec') or 'unknown'})"
    channels, hertz = _number(audio, "channels"), _number(audio, "sample_rate")
    parts = (
        _word(audio, "codec"),
        f"{channels:g} channel{'' if channels == 1 else 's'}" if channels else "",
        f"{count(int(hertz))} Hz" if hertz else "",
    )
    return ", ".join(filter(None, parts))


def _damage(result: Result) -> str:
    bad, packets = _number(result, "bad_packets"), _number(result, "packets")
    return f"{count(int(bad))} of {counted(int(packets), 'packet')} could not be decoded" if bad and packets else ""


def _verified(result: Result) -> str:
    """Return how much of the video was verified, never more than is true.

    >>> _verified({"verified_share": 1.0}), _verified({"verified_share": 0.9}), _verified({"verified_share": 0.9999})
    ('100 %', '90 %', '99.9 %')
    """
    share = _number(result, "verified_share")
    return "" if share is None else f"{math.floor(share * 1000) / 10:g} %"


def _passed_over(result: Result) -> str:
    sentences = result.get("passed_over")
    return " ".join(str(sentence) for sentence in sentences) if isinstance(sentences, list) else ""


def _part(result: Result, name: str) -> Result:
    part = result.get(name)
    return part if isinstance(part, Mapping) else {}


def _number(part: Result, name: str) -> float | None:
    value = part.get(name)
    return value if isinstance(value, int | float) else None


def _word(part: Result, name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""
