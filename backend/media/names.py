"""What the names of files and directories say: which video a file is of, whether it is a film, what no film is in.

A film wins over everything else that has the same ID, so that nobody has to know all the files that cameras, editors
and downloaders lay beside one. Only what is never a film, or not yet a whole one, is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from backend.domain.film_files import FILMS, SOUNDS
from backend.domain.video_ids import VIDEO_ID

UNFINISHED = frozenset(
    (
        *("part", "partial", "filepart", "ytdl", "temp", "tmp", "download", "crdownload", "opdownload", "aria2"),
        *("!qb", "!ut", "!bt", "bc!", "!sync", "dlpart", "fdmdownload", "incomplete", "unfinished"),
    )
)
SIDE_FILES = UNFINISHED | frozenset(
    (
        *("jpg", "jpeg", "png", "webp", "thm", "tbn"),
        *("json", "txt", "nfo", "csv", "xml", "html", "url", "description", "log", "md5", "sha1", "sha256", "sfv"),
        *("vtt", "srt", "ass", "ssa", "lrc", "ttml", "sub", "idx", "sup", "smi", "sbv"),
        *("xmp", "edl", "ifo", "bup", "gpx", "srv3", "bif", "torrent", "nzb", "par2", "bak", "swp", "lnk"),
    )
)
SYSTEM_DIRECTORIES = frozenset(
    (
        *("#recycle", "@recycle", "$recycle.bin", "recycle.bin", "recycler", "recycled", "@sharebin", "files_trashbin"),
        *("network trash folder", "lost+found", "system volume information", "temporary items", "nas_prog"),
        *("@eadir", "@__thumb", "@tmp", "@transcode", "@database", "@synoresource", "@synology", "@appdata"),
        *("#snapshot", "@snapshot", "@snapshots", "@recently-snapshot", "@gmt-snapshot", "files_versions"),
    )
)
"""Bins and metadata of NAS systems, in small letters. Other names with such signs (`#1 hits`, `@home`) are ordinary."""
MATCHES = VIDEO_ID.match


class Kind(IntEnum):
    """What a file is by its extension; of the files of one ID, only those with the lowest number count."""

    FILM = 0
    UNKNOWN = 1
    SOUND = 2
    NOTHING = 3


KINDS = dict.fromkeys(FILMS, Kind.FILM) | dict.fromkeys(SOUNDS, Kind.SOUND)
KINDS |= dict.fromkeys(SIDE_FILES, Kind.NOTHING)


def kind_of(extension: str) -> Kind:
    """Return what a file with this extension is.

    >>> [kind_of(extension).name for extension in ("MKV", "m4a", "lrv", "part", "mp4~", "")]
    ['FILM', 'SOUND', 'UNKNOWN', 'NOTHING', 'NOTHING', 'NOTHING']
    """
    kind = KINDS.get(extension.lower())
    if kind is None:
        return Kind.NOTHING if not extension or extension.endswith("~") else Kind.UNKNOWN
    return kind


def ids_of(stem: str) -> tuple[str, ...]:
    """Return the video IDs in a file name without its extension: the whole name, or each word in brackets at its end.

    >>> [ids_of(stem) for stem in ("a1", "A film [a1]", "A film [a1] (2019) [1080p]", "A film", "A [b] film")]
    [('a1',), ('a1',), ('1080p', 'a1'), (), ()]
    """
    if "[" not in stem:
        return (stem,) if MATCHES(stem) else ()
    if stem[-1] != "]" and stem[-1] != ")":
        return ()
    before, _, word = stem[:-1].rpartition("[")
    if before.find("[") < 0 and stem[-1] == "]":  # the usual name
        return (word,) if MATCHES(word) else ()
    return tuple(_words_at_the_end(stem))


def _words_at_the_end(stem: str) -> Iterator[str]:
    """Yield the words in square brackets at the end, the last one first. Words in round ones may be between them."""
    rest = stem
    while rest.endswith(("]", ")")):
        is_square = rest[-1] == "]"
        rest, opening, word = rest[:-1].rpartition("[" if is_square else "(")
        if is_square and opening and MATCHES(word):
            yield word
        rest = rest.rstrip(" ._-")


def is_system_directory(name: str) -> bool:
    """Return True for the bins and the metadata of NAS systems.

    >>> [is_system_directory(name) for name in ("#recycle", "@eaDir", "$RECYCLE.BIN", "#1 hits", "@home", "Season 1")]
    [True, True, True, False, False, False]
    """
    return name.lower() in SYSTEM_DIRECTORIES
