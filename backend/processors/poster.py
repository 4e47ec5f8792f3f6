"""Chooses and draws the poster of a video: a still picture, upright and with square pixels."""

from __future__ import annotations

import errno
import math
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, cast

from av import CodecContext, VideoFrame
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer, Type

from backend.domain.os_errors import unwritable

MAX_WIDTH = 640  # pixels
LOOK_SECONDS = 0.25  # between two pictures of the film that are looked at
LOOK_SIZE = (32, 18)  # pixels, to which a picture is drawn to look at it
DARK, FLAT = 32, 24  # of 255: the brightness of a dark picture; the range of brightness of a flat one


class Rank(IntEnum):
    """How well a picture shows what a film is about."""

    NOTHING = 0
    DARK = 1
    FLAT = 2
    GOOD = 3


@dataclass(slots=True)
class PosterChoice:
    """Chooses the first picture that is neither early, dark nor flat, or else the best one.

    Pictures that are not sound are not taken, unless there is no other.
    """

    best: VideoFrame | None = None
    _rank: Rank = Rank.NOTHING
    _before: VideoFrame | None = None
    _damaged: VideoFrame | None = None
    _look_at: float = -math.inf

    @property
    def is_final(self) -> bool:
        """True if no other picture can be better."""
        return self._rank is Rank.GOOD

    def offer(self, frame: VideoFrame, at: float, *, is_early: bool, is_sound: bool) -> None:
        """Take the picture that is shown at this time, if it is better than those before."""
        if self.is_final or at < self._look_at:
            return
        if not is_sound:
            self._damaged = self._damaged or frame
        elif is_early:
            self._before = frame
        else:
            self._look_at = at + LOOK_SECONDS
            rank = rank_of(frame)
            if rank > self._rank:
                self.best, self._rank = frame, rank

    def finish(self) -> VideoFrame | None:
        """Return the chosen picture; None if none was offered."""
        if self._before is not None and self._rank is not Rank.GOOD and rank_of(self._before) > self._rank:
            return self._before
        return self.best or self._damaged


def rank_of(frame: VideoFrame) -> Rank:
    """Return how well the picture shows what a film is about."""
    width, height = LOOK_SIZE
    plane = frame.reformat(width=width, height=height, format="gray").planes[0]
    rows, line = bytes(plane), plane.line_size
    pixels = sorted(pixel for row in range(height) for pixel in rows[row * line : row * line + width])
    darkest, brightest = pixels[len(pixels) // 50], pixels[-1 - len(pixels) // 50]
    if brightest <= DARK:
        return Rank.DARK
    return Rank.FLAT if brightest - darkest < FLAT else Rank.GOOD


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
    """Return the width and height before it is turned, so that the turned picture is at most `MAX_WIDTH` wide."""
    width, height = frame.width * float(aspect or 1), float(frame.height)
    is_sideways = "transpose" in turns_of(frame)[:1]
    scale = min(1.0, MAX_WIDTH / (height if is_sideways else width))
    return _even(width * scale), _even(height * scale)


class PictureSize(NamedTuple):
    """The pixels of a stored picture, and the size at which it is seen: with square pixels, and upright."""

    width: int
    height: int
    display_width: int
    display_height: int


def picture_size(frame: VideoFrame, aspect: Fraction | None) -> PictureSize:
    """Return the sizes of the picture. `aspect` is the aspect ratio of one pixel."""
    seen = max(1, round(frame.width * (aspect or 1))), frame.height
    if "transpose" in turns_of(frame):
        seen = seen[1], seen[0]
    return PictureSize(frame.width, frame.height, *seen)


def _even(pixels: float) -> int:
    return max(2, min(int(pixels), 8192) // 2 * 2)


def turns_of(frame: VideoFrame) -> tuple[str, ...]:
    """Return the steps that bring the picture into the position that its matrix says.

    The matrix sends the point (x, y) of the stored picture to (a·x + c·y, b·x + d·y), with y pointing down. Of the
    eight positions that pictures are in, half of them mirrored, the nearest one is taken.
    """
    a, b, c, d = _matrix(frame)
    is_sideways = abs(b) + abs(c) > abs(a) + abs(d)
    x, y = (c, b) if is_sideways else (a, d)
    steps = (("transpose", is_sideways), ("hflip", x < 0), ("vflip", y < 0))
    return tuple(step for step, is_needed in steps if is_needed)


def _matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    try:
        side_data = cast(SideDataContainer, frame.side_data)  # PyAV's stubs name another type
        if Type.DISPLAYMATRIX not in side_data:
            return 1, 0, 0, 1
        a, b, _, c, d = struct.unpack_from("=5i", bytes(side_data[Type.DISPLAYMATRIX]))
    except ValueError:  # the picture has a kind of side data that PyAV does not know
        turn = math.radians(frame.rotation)
        return math.cos(turn), -math.sin(turn), math.sin(turn), math.cos(turn)
    return a, b, c, d


def _upright(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    still = frame.reformat(width=width, height=height, format="yuvj420p")
    turns = turns_of(frame)
    if not turns:
        return still
    graph = Graph()
    steps = [graph.add_buffer(width=width, height=height, format=still.format, time_base=Fraction(1))]
    for name in turns:
        steps.append(graph.add(name, "cclock_flip" if name == "transpose" else None))
    graph.link_nodes(*steps, graph.add("buffersink")).configure()
    graph.push(still)
    return cast(VideoFrame, graph.pull())
