"""What notifications say: the most important first, within their limits, without paths and traces."""

from __future__ import annotations

from datetime import timedelta
from itertools import cycle
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.domain.messages import failures_in_a_row
from backend.domain.notification import EventKind
from backend.domain.telling import MAX_TEXT, MAX_TITLE, PreviousRun, Story, ToldCause, tell
from backend.domain.usual import Usual
from progress_dashboard.protocol import Status
from tests.support.clock import NOON
from tests.support.jobs import a_job

BERLIN = ZoneInfo("Europe/Berlin")
LINK = "https://ops.example/jobs/0b5d3c1e"
TRACE = 'Traceback (most recent call last): File "/srv/code.py", line 3'
words = st.text(st.characters(codec="utf-8", exclude_characters="/\\"), max_size=60)
parts = st.lists(st.text("abcz09_-.", min_size=1, max_size=8), min_size=2, max_size=5)
paths = parts.map(lambda names: "/" + "/".join(names)) | parts.map(lambda names: "C:\\" + "\\".join(names))


def a_cause(error: str, count: int = 1, fingerprint: str = "") -> ToldCause:
    """Return a cause with this error."""
    return ToldCause(fingerprint or f"of {error}", count, error, "dQw4w9WgXcQ")


def a_story(event: EventKind = EventKind.WITH_ERRORS, **given: Any) -> Story:
    """Return the story of a job with 37 failures of 500, with the parts that are `given`; the job's fields too."""
    job = {"name": "nightly.csv", "total_videos": 500, "current_video": 500, "failed": 37}
    fields = set(Story.__dataclass_fields__)
    job |= {name: value for name, value in given.items() if name not in fields}
    job.setdefault("status", Status.COMPLETED_WITH_ERRORS)
    usual: dict[str, Any] = {"event": event, "at": NOON, "zone": BERLIN, "link": LINK, "update": a_job(**job).update()}
    return Story(**usual | {name: value for name, value in given.items() if name in fields})


def test_a_story_is_told_in_full() -> None:
    causes = [a_cause("The file is cut off", 21), a_cause("HTTP 404", 10), a_cause("HTTP 500", 4), a_cause("Else", 2)]
    previous = PreviousRun(NOON - timedelta(days=1), {"of The file is cut off": 3, "of HTTP 500": 1, "of Else": 1})
    story = a_story(worked=7800.0, usual=Usual(4800, 6000, 12), causes=causes, previous=previous)
    told = tell(story)
    assert told.title == "nightly.csv: 37 of 500 failed"
    assert told.text.splitlines() == [
        "463 ok, 37 failed of 500 videos",
        "Took 2 h 10 min (usually 1 h 20 min to 1 h 40 min)",
        "21 × The file is cut off",
        "10 × HTTP 404",
        "4 × HTTP 500",
        "and 1 more cause",
        "New since the last run (13:00 on 30 Jan): 10 × HTTP 404",
        "Ended at 13:00 on 31 Jan 2026 (Europe/Berlin)",
        LINK,
    ]
    assert told.details is None


@pytest.mark.parametrize(
    ("event", "given", "title"),
    [
        (EventKind.COMPLETED, {"failed": 0}, "nightly.csv: all 500 videos done"),
        (
            EventKind.COMPLETED,
            {"failed": 0, "verdict": EventKind.FASTER},
            "nightly.csv: all 500 videos done, faster than usual",
        ),
        (EventKind.FAILED, {"failed": 0, "current_video": 0}, "nightly.csv: failed"),
        (EventKind.FAILED, {"failed": 500, "attempt": 2}, "nightly.csv: 500 of 500 failed (attempt 2)"),
        (EventKind.STALLED, {"current_video": 214}, "nightly.csv: stalled at 214 of 500"),
        (EventKind.PAUSED_ITSELF, {"current_video": 214}, "nightly.csv: paused itself at 214 of 500"),
        (EventKind.RECOVERED, {"current_video": 214}, "nightly.csv: goes on again at 214 of 500"),
        (EventKind.SLOWER, {"worked": 7800.0}, "nightly.csv: slower than usual: 2 h 10 min"),
        (EventKind.FASTER, {"worked": 900.0}, "nightly.csv: faster than usual: 15 min"),
    ],
)
def test_a_title_says_what_happened(event: EventKind, given: dict[str, Any], title: str) -> None:
    assert tell(a_story(event, **given)).title == title


def test_a_run_that_goes_on_is_not_said_to_have_ended() -> None:
    story = a_story(EventKind.SLOWER, status=Status.PROCESSING, current_video=214, failed=0, worked=7800.0)
    lines = tell(story).text.splitlines()
    assert lines[:2] == ["214 ok, 286 not done of 500 videos", "Has run for 2 h 10 min"]
    assert lines[2].startswith("Seen at ")


def test_pauses_are_not_part_of_the_time_it_took() -> None:
    assert "Took 1 h, and was paused for 8 h" in tell(a_story(worked=3600.0, paused=28800.0)).text


def test_the_jobs_own_error_is_told_without_its_path() -> None:
    told = tell(a_story(EventKind.FAILED, error="The media directory /srv/films is gone; mount it."))
    assert "The media directory … is gone; mount it." in told.text
    assert "The media directory /srv/films is gone; mount it." in (told.details or "")


def test_the_same_causes_as_last_time_are_no_news() -> None:
    previous = PreviousRun(NOON, {"same": 5})
    assert (
        "No new cause since the last run" in tell(a_story(causes=[a_cause("Else", 2, "same")], previous=previous)).text
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(EventKind), st.lists(paths, min_size=2, max_size=12), words, words)
def test_nothing_is_too_long_and_no_path_or_trace_is_told(
    event: EventKind, found: list[str], name: str, more: str
) -> None:
    said = [f"{verb} {path}: {more}" for verb, path in zip(cycle(["Cannot open", "Lost", "Full is"]), found)]
    causes = [a_cause(f"{text}\n{TRACE}", number + 1) for number, text in enumerate(said)]
    reason = failures_in_a_row(3, said[1])
    previous = PreviousRun(NOON, {"other": 1})
    told = tell(a_story(event, name=name, causes=causes, previous=previous, error=said[0], reason=reason))
    assert (len(told.title) <= MAX_TITLE, told.title.isprintable()) == (True, True)
    for text in (told.text, told.details or told.text):
        assert len(text) <= MAX_TEXT
        assert text.endswith(LINK)
        assert "code.py" not in text
    shown = told.text.removesuffix(LINK)
    assert [path for path in found if path in shown] == []


def test_long_names_and_errors_keep_the_link() -> None:
    causes = [a_cause("word " * 400 + str(number), 1) for number in range(3)]
    told = tell(a_story(name="n" * 200, causes=causes, error="error " * 300, previous=PreviousRun(NOON, {"x": 1})))
    assert len(told.title) <= MAX_TITLE
    assert len(told.text) <= MAX_TEXT
    assert told.text.endswith(LINK)
