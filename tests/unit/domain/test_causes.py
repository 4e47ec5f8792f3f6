"""Fingerprints of failures: one per cause, whatever names the sentences have."""

from __future__ import annotations

import re
import string

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from backend.domain.causes import WORD, fingerprint
from backend.domain.video_ids import VIDEO_ID

ids = st.from_regex(VIDEO_ID, fullmatch=True)
names = st.text(st.characters(exclude_characters='"/', exclude_categories=("C", "Z")), min_size=1, max_size=40)
numbers = st.integers(0, 10**12) | st.floats(0, 1e6).map(lambda number: round(number, 1))

SENTENCES = {  # each cause with sentences of different videos; {id} is the video ID
    "not found": ("No file for this ID in the media directory",),
    "two files": (
        '2 files in the media directory have this ID: "{id}.mp4" and "old/Film [{id}].mkv"; keep one of them.',
        '3 files in the media directory have this ID: "{id}.mp4", "b/{id}.mkv" and "c/{id}.avi"; keep one of them.',
        '5 files in the media directory have this ID: "{id}.a", "{id}.b" and "{id}.c" and 2 more; keep one of them.',
    ),
    "a link": (
        '"{id}.mp4" is a link that leads outside the media directory; such links are not followed: put the file there.',
        '"A film: [old] [{id}].webm" is a link that leads outside the media directory; such links are not followed: '
        "put the file there.",
    ),
    "empty": ('The file is empty: "{id}.mp4"', 'The file is empty: "deep/A film, in two parts; [{id}].mkv"'),
    "cut off in time": (
        "File is cut off: it should last 10.0 s but ends after 3.1 s; fetch it again.",
        "File is cut off: it should last 1.5 s but ends after 0.0 s; fetch it again.",
    ),
    "damaged": (
        "File is damaged: 12 of 100 packets cannot be decoded; fetch it again.",
        "File is damaged: 1,204 of 65,002 packets cannot be decoded; fetch it again.",
    ),
    "lost pictures": (
        "File is damaged: 30.0 % of its pictures (150 of 500) cannot be read from 0:08 to 0:14; fetch it again.",
        "File is damaged: 2.1 % of its pictures (315 of 15,000) cannot be read from 2:08 to 1:30:14; fetch it again.",
    ),
    "lost sound": (
        "File is damaged: 40.0 % of its sound (8.00 s) cannot be read from 0:04 to 0:12; fetch it again.",
        "File is damaged: 4.1 % of its sound (312.25 s) cannot be read from 1:00:04 to 2:00:12; fetch it again.",
    ),
    "too large": (
        "The picture is too large: 16000 × 16000; the limit is 8192 × 4320.",
        "The picture is too large: 8200 × 32; the limit is 8192 × 4320.",
    ),
    "timeout": (
        "Took longer than 3600 s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
        "Took longer than 0.5 s, the limit for one video (DASHBOARD_VIDEO_TIMEOUT_SECONDS).",
    ),
    "memory": (
        "The video needs more memory than the limit of 4,096 MiB (DASHBOARD_VIDEO_MEMORY_MIB).",
        "The video needs more memory than the limit of 512 MiB (DASHBOARD_VIDEO_MEMORY_MIB).",
    ),
    "rare codec": ("Its video codec (magicyuv) is not supported.",),
    "another rare codec": ("Its video codec (h264_qsv) is not supported.",),
    "crash": ("The decoder crashed on this video (SIGSEGV); the file is probably damaged.",),
    "another crash": ("The decoder crashed on this video (SIGFPE); the file is probably damaged.",),
    "exit 1": ("The process of this video ended without a result (exit status 1).",),
    "exit -4": ("The process of this video ended without a result (exit status -4).",),
    "plug-in": ("The processor whisper broke on this video (KeyError); the traceback has the details.",),
    # from senders of external jobs
    "HTTP 404": ("HTTP 404 for https://host/{id}", "HTTP 404 for https://other:8443/watch?v={id}&t=20"),
    "HTTP 500": ("HTTP 500 for https://host/{id}",),
    "a missing key": ("KeyError: '{id}'", "KeyError: 'title'"),
    "no such file": (
        "[Errno 2] No such file or directory: '/srv/{id}.mp4'",
        "[Errno 2] No such file or directory: 'C:\\\\Films\\\\a film.mp4'",
    ),
    "gone in a container": (
        "container 4f1c2ab99d01 lost {id}.wav after 12s",
        "container 8c1e5cfe-0b1d-4d5e-9a55-5bd1f5b40f5a lost /tmp/x/{id}.wav after 3.25s",
    ),
}


def cause_of(sentence: str, video_id: str) -> str:
    """Return the fingerprint of the sentence with this video ID in it."""
    return fingerprint(sentence.replace("{id}", video_id), video_id)


@given(ids)
@example("404")
@example("1")
@example("mp4")
@example("-x.y-")
@settings(deadline=None)
def test_a_cause_is_one_group_for_all_video_ids(video_id: str) -> None:
    for sentences in SENTENCES.values():
        assert {cause_of(sentence, video_id) for sentence in sentences} == {cause_of(sentences[0], "dQw4w9WgXcQ")}


def test_different_causes_are_different_groups() -> None:
    assert len({cause_of(sentences[0], "dQw4w9WgXcQ") for sentences in SENTENCES.values()}) == len(SENTENCES)


def test_a_video_id_may_be_a_word_of_the_sentence() -> None:
    for sentences in SENTENCES.values():
        for word in re.findall(r"[A-Z_]+\b|[A-Za-z]?[a-z]+", "".join(sentences)):
            assert cause_of(sentences[0], word) == cause_of(sentences[0], "dQw4w9WgXcQ")


@given(names, ids)
@settings(deadline=None)
def test_quoted_names_do_not_count(name: str, video_id: str) -> None:
    assert cause_of(f'"{name}" is not a regular file.', video_id) == cause_of('"a.mp4" is not a regular file.', "a")


@given(numbers, numbers)
@settings(deadline=None)
def test_quantities_do_not_count(first: float, second: float) -> None:
    sentences = {f"Frame {number} is missing; {number} s, {number} in all" for number in (first, second)}
    assert len({cause_of(sentence, "video-1") for sentence in sentences}) == 1


@given(ids, ids)
@settings(deadline=None)
def test_a_bare_video_id_does_not_count(first: str, second: str) -> None:
    assume(not WORD.fullmatch(first) and not WORD.fullmatch(second))
    assert cause_of("{id}: whisper found nothing", first) == cause_of("{id}: whisper found nothing", second)


@given(st.text(max_size=300), ids)
@example("“" * 2000, "a")
@example("\ud800", "a")
@settings(deadline=None)
def test_any_text_has_a_fingerprint(error: str, video_id: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", fingerprint(error, video_id))


@given(st.lists(st.text(string.ascii_lowercase, min_size=1), min_size=1), st.data())
@settings(deadline=None)
def test_other_words_are_another_cause(words: list[str], data: st.DataObject) -> None:
    changed = data.draw(st.integers(0, len(words) - 1))
    others = [f"not{word}" if index == changed else word for index, word in enumerate(words)]
    assert cause_of(" ".join(words), "X_1") != cause_of(" ".join(others), "X_1")
