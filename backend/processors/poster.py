"""Draws the poster of a video: a still picture, upright and with square pixels."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path
from typing import cast

from av import CodecContext, VideoFrame
from av.filter import Graph

from backend.domain.os_errors import unwritable

MAX_WIDTH = 640  # pixels
ROTATION_FILTERS = {90: ("transpose=cclock",), -90: ("transpose=clock",), 180: ("hflip", "vflip")}


def write_poster(frame: VideoFrame, aspect: Fraction | None, path: Path) -> None:
    """Write the frame as a JPEG at most 640 pixels wide, with even sides. `aspect` is the aspect ratio of one pixel."""
    still = _upright(frame, *_drawn_size(frame, aspect))
    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
        still.width,
        still.height,
        "yuvj420p",
        Fraction(1),
    )
    encoder.options = {"qmin": "3", "qmax": "3"}
    still.pts = 0
    _write(path, b"".join(bytes(packet) for packet in (*encoder.encode(still), *encoder.encode(None))))


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        if error.errno == errno.EFBIG:  # the size limit of this process, not a fault of the disk
            raise
        raise unwritable(error) from error


def _drawn_size(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Return the width and height before the rotation, so that the rotated picture is at most `MAX_WIDTH` wide."""
    width, height = frame.width * float(aspect or 1), float(frame.height)
    is_sideways = abs(frame.rotation) == 90
    scale = min(1.0, MAX_WIDTH / (height if is_sideways else width))
    return _even(width * scale), _even(height * scale)


def _even(pixels: float) -> int:
    return max(2, min(int(pixels), 8192) // 2 * 2)


def _upright(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    still = frame.reformat(width=width, height=height, format="yuvj420p")
    if frame.rotation not in ROTATION_FILTERS:
        return still
    graph = Graph()
    steps = [graph.add_buffer(width=width, height=height, format=still.format, time_base=Fraction(1))]
    for description in ROTATION_FILTERS[frame.rotation]:
        name, _, arguments = description.partition("=")
        steps.append(graph.add(name, arguments))
    graph.link_nodes(*steps, graph.add("buffersink")).configure()
    graph.push(still)
    return cast(VideoFrame, graph.pull())
