"""The media directory: from a video ID to its file, never outside.

A file belongs to an ID when it is called `<id>.<extension>` or, as yt-dlp names it, `… [<id>].<extension>`, anywhere
below the directory. Hidden files and directories and the side files of downloaders (`SIDE_FILES`) are passed over.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backend.clock import Clock
from backend.domain.os_errors import fault_of, quoted, reason_of, unreadable
from backend.domain.video_ids import VIDEO_ID
from backend.errors import Fault, VideoFailed

SIDE_FILES = frozenset(
    (
        *("part", "ytdl", "temp", "tmp", "crdownload", "aria2"),
        *("jpg", "jpeg", "png", "webp"),
        *("json", "txt", "nfo", "csv", "xml", "html", "url", "description", "md5", "sha256"),
        *("vtt", "srt", "ass", "ssa", "lrc", "ttml", "sub", "idx"),
    )
)
ID = VIDEO_ID.pattern.removesuffix(r"\Z")
NAMED = re.compile(rf"(?:.*\[)?({ID})\]?\Z", re.DOTALL)
SCAN_SHARE = 20  # a scan is good for this many times its own duration, so that scanning takes some 5 % of one thread,
STALE_SECONDS = 30.0  # but not for longer than this: a file that was just copied must be found
FRESH_SECONDS = 0.1
SHOWN = 3  # matches, or directories that were passed over, that an error names


class MediaSource(Protocol):
    """Where the files of a job's videos are: nowhere but below `root`."""

    @property
    def root(self) -> Path: ...

    async def locate(self, video_id: str) -> Path:
        """The file of this video; raises `VideoFailed` with a plain sentence."""

    async def count_found(self, video_ids: Collection[str]) -> int:
        """How many of these IDs have a file, and only one."""

    async def check(self) -> None:
        """Raise `VideoFailed`, the machine's fault, when there is no searching at all."""


@dataclass(frozen=True)
class _Index:
    """What one scan saw: relative paths by ID (a link inside counts as its target), links that lead outside.

    `trouble` is a sentence when there was nothing to scan.
    """

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[_PassedOver, ...] = ()
    trouble: str = ""


@dataclass(frozen=True)
class _PassedOver:
    """A directory that was not searched, why, and whether it may be another time."""

    path: str
    why: str
    fault: Fault = Fault.PERMANENT


@dataclass(frozen=True)
class _Scan:
    index: _Index
    began: float
    seconds: float

    def is_fresh(self, now: float) -> bool:
        if self.index.trouble:
            return False  # it may have been mended this moment, and looking again costs nothing
        return now - self.began <= max(FRESH_SECONDS, min(STALE_SECONDS, SCAN_SHARE * self.seconds))


class MediaDirectory:
    """The files below `root`, found by an index that is renewed when it is asked and no longer fresh.

    One scan at a time, in a thread; while it is fresh (20 times its own duration, from 0.1 to 30 s) a file that just
    came is not seen yet.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self.root = root.absolute()
        self._clock = clock
        self._scan: _Scan | None = None
        self._scanning: asyncio.Task[_Scan] | None = None

    async def locate(self, video_id: str) -> Path:
        index = await self._index()
        if index.trouble:
            raise VideoFailed(index.trouble, fault=Fault.MACHINE)
        return await asyncio.to_thread(_checked, self.root, _only_match(video_id, index))

    async def count_found(self, video_ids: Collection[str]) -> int:
        index = await self._index()
        return sum(len(index.files.get(video_id, ())) == 1 for video_id in video_ids)

    async def check(self) -> None:
        if trouble := await asyncio.to_thread(_trouble_of, self.root):
            raise VideoFailed(trouble, fault=Fault.MACHINE)

    async def _index(self) -> _Index:
        if self._scan is None or not self._scan.is_fresh(self._clock.monotonic()):
            if self._scanning is None or self._scanning.done():
                self._scanning = asyncio.create_task(self._scan_once(), name="media scan")
            # shielded: whoever is cancelled must not take the scan away from the others that wait for it
            self._scan = await asyncio.shield(self._scanning)
        return self._scan.index

    async def _scan_once(self) -> _Scan:
        began = self._clock.monotonic()
        index = await asyncio.to_thread(_scanned, self.root)
        return _Scan(index, began, self._clock.monotonic() - began)


def _scanned(root: Path) -> _Index:
    if trouble := _trouble_of(root):
        return _Index(trouble=trouble)
    top = os.path.realpath(root)
    files: dict[str, set[str]] = {}
    outside: dict[str, str] = {}
    passed_over: list[_PassedOver] = []
    for entry, relative in _walked(top, passed_over):
        video_id = _id_of(entry.name)
        if video_id is None:
            continue
        target = _inside(top, entry.path) if entry.is_symlink() else relative
        if target is not None:
            files.setdefault(video_id, set()).add(target)
        else:
            outside[video_id] = relative
    return _Index({key: tuple(sorted(paths)) for key, paths in files.items()}, outside, tuple(passed_over))


def _trouble_of(root: Path) -> str:
    """Why the directory cannot be searched at all; "" when it can."""
    try:
        os.scandir(os.path.realpath(root)).close()
    except OSError as error:
        return _no_directory(root, error)
    return ""


def _no_directory(root: Path, error: OSError) -> str:
    where = "set DASHBOARD_MEDIA_DIR to where the videos are"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"The media directory {quoted(root)} does not exist; create it, or {where}."
    return f"The media directory {quoted(root)} cannot be read ({reason_of(error)}); mend that, or {where}."


def _inside(top: str, link: str) -> str | None:
    """Where the link leads, relative to `top`; None: outside."""
    target = Path(os.path.realpath(link))
    return str(target.relative_to(top)) if target.is_relative_to(top) else None


def _walked(top: str, passed_over: list[_PassedOver]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Everything below `top` that is not a directory, with its relative path; linked directories are not entered."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(f"{top}/{below}") as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:  # its owner's choice, or it went away meanwhile; a miss names it
            passed_over.append(_PassedOver(below or ".", reason_of(error), fault_of(error)))
            continue
        for entry in found:
            relative = f"{below}{entry.name}"
            if _is_directory(entry, follow_symlinks=False):
                waiting.append(f"{relative}/")
            elif _is_directory(entry, follow_symlinks=True):
                passed_over.append(_PassedOver(relative, "a link to a directory"))
            else:
                yield entry, relative


def _is_directory(entry: os.DirEntry[str], *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link in a circle, or through what is no directory: its own video says so, no other suffers
        return False


def _id_of(name: str) -> str | None:
    """The video ID that a file name stands for.

    >>> _id_of("a1.mp4"), _id_of("A film [dQw4w9WgXcQ].webm"), _id_of("a1.jpg"), _id_of("A film.mp4")
    ('a1', 'dQw4w9WgXcQ', None, None)
    """
    stem, dot, extension = name.rpartition(".")
    if not dot or not extension or extension.lower() in SIDE_FILES:
        return None
    match = NAMED.match(stem)
    return match[1] if match and stem.endswith("]") == ("[" in stem) else None


def _only_match(video_id: str, index: _Index) -> str:
    matches = index.files.get(video_id, ())
    if len(matches) == 1:
        return matches[0]
    if matches:
        named = " and ".join(quoted(path) for path in matches[:SHOWN])
        more = f" and {len(matches) - SHOWN} more" if len(matches) > SHOWN else ""
        raise VideoFailed(f"{len(matches)} files in the media directory have this ID: {named}{more}; keep one of them.")
    if video_id in index.outside:
        raise VideoFailed(
            f"{quoted(index.outside[video_id])} is a link that leads outside the media directory; "
            "such links are not followed: put the file itself there."
        )
    raise _not_found(index.passed_over)


def _not_found(passed_over: tuple[_PassedOver, ...]) -> VideoFailed:
    """It may be where could not be searched: then it is worth another try if that is."""
    fault = next((one.fault for one in passed_over if one.fault.is_transient), Fault.PERMANENT)
    named = ", ".join(f"{quoted(one.path)} ({one.why})" for one in passed_over[:SHOWN])
    not_searched = f" (not searched: {named})" if passed_over else ""
    return VideoFailed(f"No file for this ID in the media directory{not_searched}", fault=fault)


def _checked(root: Path, relative: str) -> Path:
    """The file's absolute path, if it is still there, a regular file with content, and inside; raises `VideoFailed`."""
    top = os.path.realpath(root)
    path = Path(top, relative)
    try:
        seen = path.lstat()
    except OSError as error:
        raise unreadable(error, relative) from error
    if stat.S_ISLNK(seen.st_mode) or os.path.realpath(path) != str(path):
        raise VideoFailed(f"{quoted(relative)} is reached through a link; such links are not followed.")
    if not stat.S_ISREG(seen.st_mode):
        raise VideoFailed(f"{quoted(relative)} is not a regular file.")
    if seen.st_size == 0:
        raise VideoFailed(f"The file is empty: {quoted(relative)}")
    return path
