"""Extensions of files with films and of files with sound alone, for lists and for the media directory."""

from __future__ import annotations

FILMS = frozenset(
    (
        *("mp4", "m4v", "mov", "qt", "mkv", "mk3d", "webm", "avi", "divx", "mpg", "mpeg", "mpe", "mpv", "m1v", "m2v"),
        *("ts", "m2ts", "m2t", "mts", "tp", "trp", "tod", "mod", "vob", "evo", "flv", "f4v", "wmv", "asf", "wtv"),
        *("ogv", "ogm", "3gp", "3g2", "mj2", "mxf", "ivf", "dv", "rm", "rmvb"),
        *("h264", "h265", "hevc", "vp8", "vp9", "av1"),
    )
)
SOUNDS = frozenset(
    (
        *("m4a", "m4b", "mp3", "mp2", "aac", "ac3", "eac3", "dts", "opus", "ogg", "oga", "flac", "wav", "wma", "mka"),
        *("weba", "aiff", "aif", "alac", "amr", "ape", "mid", "tta", "wv"),
    )
)
