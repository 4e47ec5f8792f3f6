"""The charts of the statistics: what is drawn, and that the table has the same numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backend.clock import to_millis
from backend.domain import histogram
from backend.domain.measures import MeasureKind, Tally, quarter_of
from backend.domain.periods import Period, span_of
from backend.domain.statistics import CauseCount, Figure, Mark, Now, SlotTime, Statistics, Tallies, bins_of, figures_of
from ui.components.stats.charts import CHARTS, MAX_MARKS, P95, shown_cells

NOW = datetime(2026, 1, 31, 12, 10, tzinfo=UTC)
OVER_TIME = ("throughput", "durations", "outcomes")
LAST = "2026-01-31T12:00:00.000Z"


@pytest.fixture
def statistics() -> Statistics:
    """Return a day with ten good videos in each hour, two failures in the newest, and many restarts."""
    span = span_of(Period.DAY, now=NOW, zone=UTC)
    tallies = Tallies(span)
    for hours in range(20):
        at = quarter_of(to_millis(NOW - timedelta(hours=hours)))
        tallies.add(at, MeasureKind.OK, Tally(10, 40_000, histogram=10 * histogram.one(4_000)))
    tallies.add(quarter_of(to_millis(NOW)), MeasureKind.FAILED, Tally(2, 2_000, histogram=2 * histogram.one(1_000)))
    causes = [CauseCount("f" * 12, "The file is cut off, at a place that takes very many words to name.", 2, 1)]
    marks = [Mark(span.begin + number, "start", 2) for number in range(40)]
    figures = figures_of(tallies, now=Now(), slots=SlotTime(marks))
    return Statistics(span, figures, bins_of(tallies), causes, marks)


def drawn(name: str, statistics: Statistics) -> dict[str, Any]:
    """Return the options as the browser gets them."""
    options: dict[str, Any] = json.loads(json.dumps(CHARTS[name].options(statistics)))
    return options


def test_throughput_is_videos_an_hour_and_its_newest_bin_so_far(statistics: Statistics) -> None:
    *others, newest = drawn("throughput", statistics)["series"][0]["data"]
    assert {bar["value"][1] for bar in others} == {0, 40}  # ten in a quarter of an hour
    assert newest["value"][1] == 72  # twelve in ten minutes
    assert newest["itemStyle"]["borderType"] == "dashed"
    assert not any("itemStyle" in bar for bar in others)


def test_outcomes_are_stacked_by_word_and_add_up(statistics: Statistics) -> None:
    good, bad, _ = drawn("outcomes", statistics)["series"]
    assert (good["name"], bad["name"], good["stack"] == bad["stack"]) == ("ok", "failed", True)
    assert sum(bar["value"][1] for bar in (*good["data"], *bad["data"])) == 202


def test_durations_say_that_their_axis_is_logarithmic(statistics: Statistics) -> None:
    options = drawn("durations", statistics)
    assert options["yAxis"]["type"] == "log"
    assert "logarithmic" in options["yAxis"]["name"]
    assert "logarithmic" in CHARTS["durations"].summary(statistics)
    assert [name for name, shown in options["legend"]["selected"].items() if shown] == [P95]


def test_the_way_to_the_unfinished_bin_is_dashed(statistics: Statistics) -> None:
    solid, dashed = (line for line in drawn("durations", statistics)["series"] if line["name"] == P95)
    assert "lineStyle" not in solid
    assert dashed["lineStyle"]["type"] == "dashed"
    assert dashed["data"][0] == solid["data"][-1]
    assert len(solid["data"]) == len(statistics.bins) - 1


def test_causes_are_drawn_with_the_commonest_on_top(statistics: Statistics) -> None:
    (name,) = drawn("causes", statistics)["yAxis"]["data"]
    assert name.endswith("…")
    assert shown_cells(CHARTS["causes"], statistics)[0][0] == statistics.causes[0].error


@pytest.mark.parametrize("name", OVER_TIME)
def test_only_the_newest_marks_are_drawn(name: str, statistics: Statistics) -> None:
    *_, marked = drawn(name, statistics)["series"]
    marks = marked["markLine"]["data"]
    assert len(marks) == MAX_MARKS
    assert marks[-1]["xAxis"] == statistics.marks[-1].at


@pytest.mark.parametrize("name", OVER_TIME)
def test_a_chart_shows_the_whole_period(name: str, statistics: Statistics) -> None:
    """Also if all videos were done in one bin: marks outside it are seen."""
    axis = drawn(name, statistics)["xAxis"]
    assert (axis["min"], axis["max"]) == (statistics.span.begin, statistics.span.edges[-1])


@pytest.mark.parametrize("name", OVER_TIME)
def test_marks_cannot_be_switched_off_with_a_line(name: str, statistics: Statistics) -> None:
    options = drawn(name, statistics)
    *others, marked = options["series"]
    assert marked["name"] not in options["legend"]["data"]
    assert {one["name"] for one in others} == set(options["legend"]["data"])


def test_marks_that_lie_close_together_share_a_label(statistics: Statistics) -> None:
    at, minute = to_millis(NOW - timedelta(hours=9)), 60_000
    marks = [
        Mark(at, "start", 2),
        Mark(at + minute, "start", 2),
        Mark(at + 2 * minute, "slots", 4),
        Mark(at + 10**7, "start", 4),
    ]
    *_, marked = drawn("outcomes", replace(statistics, marks=marks))["series"]
    lines = marked["markLine"]["data"]
    assert [line["name"] for line in lines] == ["", "", "started, 4 slots", "started"]
    assert [line["xAxis"] for line in lines] == [mark.at for mark in marks]


@pytest.mark.parametrize("name", OVER_TIME)
def test_the_table_names_the_marks_of_each_bin(name: str, statistics: Statistics) -> None:
    changed = replace(statistics, marks=[statistics.marks[0], Mark(to_millis(NOW), "slots", 1)])
    *_, words = zip(*CHARTS[name].rows(changed), strict=True)
    assert (words[0], words[-1], set(words[1:-1])) == ("started", "1 slot", {""})
    assert CHARTS[name].columns[-1] == "Marks"


@pytest.mark.parametrize("name", OVER_TIME)
def test_the_table_has_a_row_for_each_bin(name: str, statistics: Statistics) -> None:
    rows = CHARTS[name].rows(statistics)
    assert len(rows) == len(statistics.bins)
    assert {len(row) for row in rows} == {len(CHARTS[name].columns)}
    assert (rows[-1][0], rows[-1][2]) == (LAST, 12)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_with_something_to_draw_does_not_say_that_there_is_nothing(name: str, statistics: Statistics) -> None:
    assert CHARTS[name].nothing(statistics) == ""


def test_good_videos_without_a_failure_are_not_said_to_be_none(statistics: Statistics) -> None:
    good = replace(statistics, causes=[])
    assert CHARTS["causes"].nothing(good) == "No video failed in this period."
    assert CHARTS["outcomes"].nothing(good) == ""
    none = replace(good, figures={**good.figures, "videos": Figure(None, 0)})
    assert {chart.nothing(none) for chart in CHARTS.values()} == {"No video has ended in this period."}


@pytest.mark.parametrize("name", CHARTS)
def test_colours_follow_the_theme(name: str, statistics: Statistics) -> None:
    assert "#" not in json.dumps(CHARTS[name].options(statistics))
