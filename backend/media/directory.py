"""The media directory: finds the file of a video ID, never outside the directory.

The file of an ID is called `<id>.<extension>` or, as yt-dlp names it, `… [<id>].<extension>`, anywhere below the
directory; further words in brackets may follow the ID. Hidden files and directories, the bins and metadata of NAS
systems, and side files are skipped; of other files, a film wins over what is none (`names`).
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backend.clock import Clock
from backend.domain.os_errors import fault_of, quoted, reason_of, unreadable
from backend.errors import Fault, VideoFailed
from backend.media.names import Kind, ids_of, is_system_directory, kind_of
from backend.processors.settling import FileState, check_settled

FRESH_FACTOR = 20  # a scan is used for this many times its own duration, so that scans take some 5 % of one thread,
MAX_FRESH_SECONDS = 30.0  # but not for longer than this: a file that was just copied must be found
MIN_FRESH_SECONDS = 0.1
FOUND = (Kind.FILM, Kind.UNKNOWN, Kind.SOUND)  # of the files of one ID, only the first kind counts
MAX_NAMED = 3  # matches, or skipped directories, that an error names


class MediaSource(Protocol):
    """The files of a job's videos, all of them below `root`."""

    @property
    def root(self) -> Path: ...

    async def locate(self, video_id: str) -> Path:
        """Return the file of this video. Raises `VideoFailed` with a plain sentence."""

    async def count_found(self, video_ids: Collection[str]) -> int:
        """Return how many of these IDs have exactly one file."""

    async def check(self) -> None:
        """Raise `VideoFailed` with `Fault.MACHINE` if the files cannot be searched at all."""


@dataclass(frozen=True)
class _Index:
    """The result of one scan: relative paths by ID (of a link inside, its target), and links that lead outside.

    `error` is a sentence if the directory could not be scanned.
    """

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outside: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[_SkippedDirectory, ...] = ()
    error: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.files or self.outside or self.skipped)


@dataclass(frozen=True)
class _SkippedDirectory:
    """A directory that was not searched, the reason, and whether a later scan may search it."""

    path: str
    reason: str
    fault: Fault = Fault.PERMANENT


@dataclass(frozen=True)
class _Scan:
    index: _Index
    began: float
    seconds: float

    def is_fresh(self, now: float) -> bool:
        if self.index.error:
            return False  # it may have been repaired just now, and another look costs nothing
        return now - self.began <= max(MIN_FRESH_SECONDS, min(MAX_FRESH_SECONDS, FRESH_FACTOR * self.seconds))


class MediaDirectory:
    """The files below `root`, found by an index that is renewed on a request when it is no longer fresh.

    One scan runs at a time, in a thread. While its result is fresh (20 times its own duration, from 0.1 to 30 s), newer
    files are not found. `may_be_empty=False`: without any file it counts as not mounted.
    """

    def __init__(self, root: Path, clock: Clock, *, may_be_empty: bool = True) -> None:
        self.root = root.absolute()
        self._clock = clock
        self._may_be_empty = may_be_empty
        self._scan: _Scan | None = None
        self._scanning: asyncio.Task[_Scan] | None = None

    async def locate(self, video_id: str) -> Path:
        index = await self._index()
        if index.error:
            raise VideoFailed(index.error, fault=Fault.MACHINE)
        return await asyncio.to_thread(_checked, self.root, _only_match(video_id, index))

    async def count_found(self, video_ids: Collection[str]) -> int:
        index = await self._index()
        return sum(len(index.files.get(video_id, ())) == 1 for video_id in video_ids)

    async def check(self) -> None:
        if sentence := await asyncio.to_thread(_scan_error, self.root):
            raise VideoFailed(sentence, fault=Fault.MACHINE)
        if not self._may_be_empty and (await asyncio.to_thread(_is_bare, self.root) or (await self._index()).is_empty):
            sentence = f"The media directory {quoted(self.root)} is empty on this machine; mount the videos there."
            raise VideoFailed(sentence, fault=Fault.MACHINE)

    async def _index(self) -> _Index:
        if self._scan is None or not self._scan.is_fresh(self._clock.monotonic()):
            if self._scanning is None or self._scanning.done():
                self._scanning = asyncio.create_task(self._scan_once(), name="media scan")
            # shielded: a cancelled caller must not cancel the scan for the others that wait for it
            self._scan = await asyncio.shield(self._scanning)
        return self._scan.index

    async def _scan_once(self) -> _Scan:
        began = self._clock.monotonic()
        index = await asyncio.to_thread(_scan_directory, self.root)
        return _Scan(index, began, self._clock.monotonic() - began)


def _scan_directory(root: Path) -> _Index:
    if sentence := _scan_error(root):
        return _Index(error=sentence)
    top = os.path.realpath(root)
    files: dict[Kind, dict[str, tuple[str, ...]]] = {kind: {} for kind in FOUND}
    outside: dict[str, str] = {}
    skipped: list[_SkippedDirectory] = []
    for entry, relative in _walk(top, skipped):
        stem, dot, extension = entry.name.rpartition(".")
        kind = kind_of(extension) if dot else Kind.NOTHING
        video_ids = () if kind is Kind.NOTHING else ids_of(stem)
        if not video_ids:
            continue
        target = _target_inside(top, entry.path) if entry.is_symlink() else relative
        for video_id in video_ids:
            if target is None:
                outside[video_id] = relative
            else:
                _add(files[kind], video_id, target)
    films, *others = (files[kind] for kind in FOUND)
    for less in others:
        for video_id, paths in less.items():
            films.setdefault(video_id, paths)
    return _Index(films, outside, tuple(skipped))


def _add(files: dict[str, tuple[str, ...]], video_id: str, path: str) -> None:
    paths = files.setdefault(video_id, (path,))
    if path not in paths:
        files[video_id] = tuple(sorted((*paths, path)))


def _scan_error(root: Path) -> str:
    """Return the reason why the directory cannot be searched at all; "" if it can."""
    try:
        os.scandir(os.path.realpath(root)).close()
    except OSError as error:
        return _unusable(root, error)
    return ""


def _is_bare(root: Path) -> bool:
    """Return True if there is nothing to be seen now, whatever an earlier scan has found."""
    with os.scandir(os.path.realpath(root)) as entries:
        return all(entry.name.startswith(".") for entry in entries)


def _unusable(root: Path, error: OSError) -> str:
    advice = "set DASHBOARD_MEDIA_DIR to where the videos are"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"The media directory {quoted(root)} does not exist; create it, or {advice}."
    return f"The media directory {quoted(root)} cannot be read ({reason_of(error)}); fix that, or {advice}."


def _target_inside(top: str, link: str) -> str | None:
    """Return the target of the link, relative to `top`; None if it is outside."""
    target = Path(os.path.realpath(link))
    return str(target.relative_to(top)) if target.is_relative_to(top) else None


def _walk(top: str, skipped: list[_SkippedDirectory]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield every entry below `top` that is not a directory, with its relative path. Linked directories are skipped."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(f"{top}/{below}") as entries:
                found = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:  # it is private, or was removed during the scan; a missing file's error names it
            skipped.append(_SkippedDirectory(below or ".", reason_of(error), fault_of(error)))
            continue
        for entry in found:
            relative = f"{below}{entry.name}"
            if _is_directory(entry, follow_symlinks=False):
                if not is_system_directory(entry.name):
                    waiting.append(f"{relative}/")
            elif _is_directory(entry, follow_symlinks=True):
                skipped.append(_SkippedDirectory(relative, "a link to a directory"))
            else:
                yield entry, relative


def _is_directory(entry: os.DirEntry[str], *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link in a circle, or through a file: only the video of that name fails
        return False


def _only_match(video_id: str, index: _Index) -> str:
    matches = index.files.get(video_id, ())
    if len(matches) == 1:
        return matches[0]
    if matches:
        named = " and ".join(quoted(path) for path in matches[:MAX_NAMED])
        more = f" and {len(matches) - MAX_NAMED} more" if len(matches) > MAX_NAMED else ""
        raise VideoFailed(f"{len(matches)} files in the media directory have this ID: {named}{more}; keep one of them.")
    if video_id in index.outside:
        raise VideoFailed(
            f"{quoted(index.outside[video_id])} is a link that leads outside the media directory; "
            "such links are not followed: put the file itself there."
        )
    raise _not_found(index.skipped)


def _not_found(skipped: tuple[_SkippedDirectory, ...]) -> VideoFailed:
    """Return the failure of a missing file: transient if it may be in a directory that a later scan may search."""
    fault = next((one.fault for one in skipped if one.fault.is_transient), Fault.PERMANENT)
    named = ", ".join(f"{quoted(one.path)} ({one.reason})" for one in skipped[:MAX_NAMED])
    not_searched = f" (not searched: {named})" if skipped else ""
    return VideoFailed(f"No file for this ID in the media directory{not_searched}", fault=fault)


def _checked(root: Path, relative: str) -> Path:
    """Return the file's path. Raises `VideoFailed` unless it is still a regular file, not empty, and inside."""
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
        check_settled(path, FileState.of(path))  # a copy of it may just have begun
        raise VideoFailed(f"The file is empty: {quoted(relative)}")
    return path
