"""The demo's videos: small real clips. Another process writes them on first use, while the first ones are processed.

Two of them are damaged in different ways and one never exists, so that the demo shows failures too. Several machines
may write into the same directory at once: a clip appears when it is complete.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from backend.errors import Fault, VideoFailed
from backend.processors.launchers import bare_environment, python_command

if TYPE_CHECKING:
    from backend.processors.clips import Clip

log = logging.getLogger(__name__)

MISSING = "lost-tape"
CUT_OFF = "broken-download"
DAMAGED = "scratched-disc"
MAX_SPEED = 1.0  # times real time: 89 s of clips on two slots make a demo of 45 s
NICENESS = 10  # the writer yields to everything else

# name, extension, seconds, width, height, frames per second, video codec, audio codec
CLIPS = (
    ("harbour-at-dawn", "mp4", 2.0, 160, 120, 12, "libx264", None),
    ("night-train", "mp4", 3.0, 320, 180, 15, "libx264", "aac"),
    ("market-square", "avi", 4.0, 320, 240, 25, "mpeg4", "mp2"),
    ("first-snow", "webm", 3.5, 320, 180, 20, "libvpx", "libopus"),
    ("river-crossing", "mkv", 5.0, 640, 360, 25, "libx264", "libmp3lame"),
    ("window-seat", "mp4", 2.5, 426, 240, 30, "libx264", None),
    ("old-lighthouse", "mp4", 6.0, 480, 270, 24, "mpeg4", "aac"),
    (CUT_OFF, "mp4", 4.0, 320, 180, 15, "libx264", None),
    ("paper-boats", "webm", 4.0, 426, 240, 24, "libvpx-vp9", "libopus"),
    ("rooftop-garden", "avi", 3.0, 352, 288, 25, "mjpeg", None),
    ("long-way-home", "mkv", 7.0, 640, 360, 25, "libx264", "libmp3lame"),
    ("summer-rain", "mp4", 3.5, 240, 426, 30, "libx264", "aac"),
    ("clockmaker", "mp4", 4.5, 854, 480, 24, "libx264", "aac"),
    (DAMAGED, "mp4", 4.0, 426, 240, 25, "libx264", None),
    ("ferris-wheel", "avi", 5.0, 480, 360, 30, "mpeg4", "mp2"),
    ("empty-stage", "mp4", 2.0, 160, 120, 10, "libx264", None),
    ("wind-turbines", "webm", 4.5, 480, 270, 25, "libvpx", "libopus"),
    ("mountain-pass", "mp4", 6.0, 854, 480, 25, "libx264", "aac"),
    ("bakery-at-five", "mkv", 3.5, 320, 240, 24, "libx264", "libmp3lame"),
    ("shooting-star", "mp4", 2.5, 426, 240, 50, "libx264", None),
    ("tidal-pool", "mp4", 4.0, 480, 270, 30, "mpeg4", "aac"),
    ("last-tram", "mp4", 3.5, 320, 180, 15, "libx264", "aac"),
    ("closing-credits", "webm", 4.0, 320, 180, 24, "libvpx-vp9", "libopus"),
)
MISSING_AT = 10  # index in the list
CUT_OFF_AFTER = 0.6  # share of the file
ZEROED = (0.4, 0.7)  # start and end, as shares of the file


class DemoClips:
    """A `MediaSource` of clips in `directory`; `locate` waits for a clip that is still being written."""

    def __init__(self, directory: Path) -> None:
        self.root = directory
        self._files = {name: directory / f"{name}.{extension}" for name, extension, *_ in CLIPS}
        names = tuple(self._files)
        self.video_ids: tuple[str, ...] = (*names[:MISSING_AT], MISSING, *names[MISSING_AT:])
        self.options: Mapping[str, Any] = MappingProxyType({"max_speed": MAX_SPEED})
        self._written: dict[str, asyncio.Future[None]] = {}
        self._writing: asyncio.Task[None] | None = None

    def adopt(self, earlier: Path) -> None:
        """Take over the directory where an earlier version kept the clips, if there is one."""
        if earlier.is_dir() and not self.root.exists():
            self.root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(OSError):  # on another file system; the clips are written again
                earlier.rename(self.root)

    async def prepare(self) -> None:
        """Start to write the missing clips, in the order of `video_ids`. Returns at once and may be called again."""
        for name in self._files.keys() - self._written.keys():
            self._written[name] = asyncio.get_running_loop().create_future()
        complete = all(written.done() for written in self._written.values())
        if not complete and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write(), name="demo clips")

    async def locate(self, video_id: str) -> Path:
        file = self._files.get(video_id)
        if file is None:
            raise VideoFailed("No file for this ID in the media directory")
        if await asyncio.to_thread(file.exists):  # written here, or by another machine
            return file
        await self.prepare()
        if self._written[video_id].done() and not await asyncio.to_thread(file.exists):  # it was removed
            self._written.clear()
            await self.prepare()
        written = self._written[video_id]
        if self._writing is not None:
            await asyncio.wait({written, self._writing}, return_when=asyncio.FIRST_COMPLETED)
        if not written.done():
            sentence = "The demo's clips could not be written; the server's log has the reason."
            raise VideoFailed(sentence, fault=Fault.MACHINE)
        return file

    async def check(self) -> None:
        """Do nothing: clips that are missing are written again."""

    async def count_found(self, video_ids: Collection[str]) -> int:
        return sum(video_id in self._files for video_id in video_ids)

    async def close(self) -> None:
        """Stop writing. The next `prepare` continues with the clips that are missing."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def _write(self) -> None:
        writer = await asyncio.create_subprocess_exec(
            *python_command("backend.media.demo", "write_clips", str(self.root.absolute())),
            stdin=subprocess.PIPE,  # its end tells the writer that the server has exited
            stdout=subprocess.PIPE,
            env=bare_environment(),
            start_new_session=sys.platform != "win32",
        )
        try:
            async for name in cast(asyncio.StreamReader, writer.stdout):
                written = self._written[name.decode().strip()]
                if not written.done():
                    written.set_result(None)
            if status := await writer.wait():
                log.error("the demo's clips were not written", extra={"action": "demo_not_written", "status": status})
        finally:
            if writer.returncode is None:
                writer.kill()
                await writer.wait()


def write_clips(directory: str) -> None:
    """Write the clips; the main function of the writer's process. Prints each clip's name when its file is complete."""
    from backend.processors.clips import Clip
    from backend.processors.spawned_child import exit_when_closed  # here, because the server itself never loads FFmpeg

    exit_when_closed(sys.stdin.fileno())
    if sys.platform != "win32":
        os.umask(0o077)
    Path(directory).mkdir(parents=True, exist_ok=True)
    for number, (name, extension, seconds, width, height, fps, codec, audio_codec) in enumerate(CLIPS):
        file = Path(directory, f"{name}.{extension}")
        if not file.exists():
            hue, tone = number * 360 // len(CLIPS), 220 + 20 * number
            _write_one(file, Clip(seconds, (width, height), fps, codec, audio_codec, hue, tone))
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
        if number == 0 and sys.platform != "win32":
            os.nice(NICENESS)  # the first clip is waited for; the others are early enough


def _write_one(file: Path, clip: Clip) -> None:
    """Write a clip, and damage it if it is one of the two that have to fail."""
    from backend.processors.clips import write_clip

    draft = file.with_name(f".{socket.gethostname()}-{os.getpid()}.{file.name}")
    write_clip(draft, clip)
    content = bytearray(draft.read_bytes())
    if file.stem == CUT_OFF:
        del content[int(len(content) * CUT_OFF_AFTER) :]
    if file.stem == DAMAGED:
        first, last = (int(len(content) * share) for share in ZEROED)
        content[first:last] = bytes(last - first)
    draft.write_bytes(content)
    os.replace(draft, file)
