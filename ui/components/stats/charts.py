"""The charts of the statistics as options of ECharts, and the same numbers as rows of a table. All functions are pure.

Colours are the tokens of `theme.css`: a chart is drawn as SVG, so that it follows the theme by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from backend.clock import iso_of_millis
from backend.domain.periods import Span
from backend.domain.statistics import START, Bin, Mark, Statistics
from backend.domain.texts import counted
from ui.figures import UNKNOWN, number
from ui.text import count, duration

OK, BAD, LINE, TEXT, MUTED, SURFACE = (
    f"var(--{name})" for name in ("ok-fill", "bad-fill", "line", "text", "muted", "surface")
)
P50, P95, P99 = "50 % up to", "95 % up to", "99 % up to"
LINES = {"p50": P50, "p95": P95, "p99": P99}  # by their words in the address
USUAL_LINES = frozenset({"p95"})
COLOURS = {P50: "var(--completed)", P95: "var(--processing)", P99: "var(--stalled)"}
FONT = {"fontFamily": "Roboto, system-ui, sans-serif", "color": TEXT}
MAX_MARKS = 12
MAX_LABELS = 25  # of marks, side by side
MANY_POINTS = 120
HOUR_SECONDS = 3600
MAX_CAUSE_LENGTH = 42
TEXTS = frozenset({"Cause", "Fingerprint", "Marks"})  # columns of words
Options = dict[str, Any]
Cell = str | int | float | None


def _without_videos(statistics: Statistics) -> str:
    return "" if statistics.figures["videos"].n else "No video has ended in this period."


def _without_causes(statistics: Statistics) -> str:
    return "" if statistics.causes else _without_videos(statistics) or "No video failed in this period."


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: its name in the address, its title, how it is drawn, and what is in its table and its CSV.

    `nothing` is what is said in its place if there is nothing to draw, "" if there is.
    """

    name: str
    title: str
    options: Callable[[Statistics], Options]
    columns: Sequence[str]
    rows: Callable[[Statistics], list[list[Cell]]]
    summary: Callable[[Statistics], str]
    has_times: bool = True
    nothing: Callable[[Statistics], str] = _without_videos

    @property
    def texts(self) -> list[int]:
        """The places of the columns of words."""
        return [place for place, column in enumerate(self.columns) if column in TEXTS]


def throughput(statistics: Statistics) -> Options:
    """Return bars of videos an hour; the newest, unfinished one is dashed."""
    bars = [_bar(part, _per_hour(part, statistics), OK) for part in statistics.bins]
    series = {"name": "Videos an hour", "type": "bar", "data": bars}
    return _over_time(statistics, series, unit="videos an hour")


def outcomes(statistics: Statistics) -> Options:
    """Return stacked bars of good and failed videos."""
    good = [_bar(part, part.videos - part.failed, OK) for part in statistics.bins]
    bad = [_bar(part, part.failed, BAD) for part in statistics.bins]
    return _over_time(
        statistics,
        {"name": "ok", "type": "bar", "stack": "videos", "data": good, "color": OK},
        {"name": "failed", "type": "bar", "stack": "videos", "data": bad, "color": BAD},
        unit="videos",
    )


def durations(statistics: Statistics) -> Options:
    """Return lines of the percentiles on a logarithmic axis; the way to the unfinished bin is dashed."""
    bins = statistics.bins
    lines = [
        *_lines(P50, [(part, part.video_p50) for part in bins]),
        *_lines(P95, [(part, part.video_p95) for part in bins]),
        *_lines(P99, [(part, part.video_p99) for part in bins]),
    ]
    options = _over_time(statistics, *lines, unit="seconds a video, logarithmic")
    options["yAxis"] |= {"type": "log", "minorTick": {"show": True}}
    options["legend"] |= {"selected": selected(USUAL_LINES)}
    return options


def selected(lines: frozenset[str]) -> dict[str, bool]:
    """Return which lines of the durations are shown, as a legend wants it."""
    return {words: name in lines for name, words in LINES.items()}


def causes(statistics: Statistics) -> Options:
    """Return bars of the commonest causes, the commonest on top."""
    commonest = list(reversed(statistics.causes))
    axis = {**_axis(), "type": "category", "data": [_short(cause.error) for cause in commonest]}
    return {
        "animation": False,
        "textStyle": FONT,
        "grid": {"left": 8, "right": 24, "top": 28, "bottom": 8, "containLabel": True},
        "tooltip": _tooltip("item"),
        "xAxis": {**_axis(), "type": "value", "minInterval": 1},
        "yAxis": axis | {"axisLabel": {"color": TEXT, "width": 150, "overflow": "truncate"}},
        "series": [
            {"name": "videos", "type": "bar", "barMaxWidth": 22, "data": [c.videos for c in commonest], "color": BAD}
        ],
    }


def _throughput_rows(statistics: Statistics) -> list[list[Cell]]:
    return _rows(statistics, lambda part: [part.videos, round(_per_hour(part, statistics), 2)])


def _duration_rows(statistics: Statistics) -> list[list[Cell]]:
    return _rows(statistics, lambda part: [part.videos, part.video_p50, part.video_p95, part.video_p99])


def _outcome_rows(statistics: Statistics) -> list[list[Cell]]:
    return _rows(statistics, lambda part: [part.videos, part.videos - part.failed, part.failed])


def _cause_rows(statistics: Statistics) -> list[list[Cell]]:
    return [[cause.error, cause.videos, cause.jobs, cause.fingerprint] for cause in statistics.causes]


def _throughput_summary(statistics: Statistics) -> str:
    done = statistics.figures["videos_per_hour"]
    rate = "" if done.value is None else f", {number(done.value)} an hour"
    return f"Videos an hour over time: {count(done.n)} in all{rate}."


def _duration_summary(statistics: Statistics) -> str:
    half, most = (statistics.figures[name].value for name in ("video_p50", "video_p95"))
    if half is None or most is None:
        return "Time a video took, on a logarithmic axis: too few videos."
    return f"Time a video took, on a logarithmic axis: half up to {duration(half)}, 95 % up to {duration(most)}."


def _outcome_summary(statistics: Statistics) -> str:
    failed = sum(part.failed for part in statistics.bins)
    return f"Good and failed videos over time: {count(statistics.figures['videos'].n)} videos, {count(failed)} failed."


def _cause_summary(statistics: Statistics) -> str:
    if nothing := _without_causes(statistics):
        return nothing
    commonest = statistics.causes[0]
    return f"The commonest causes of failures: {count(commonest.videos)} videos by the first, {commonest.error}"


CHARTS: Mapping[str, Chart] = {
    chart.name: chart
    for chart in (
        Chart(
            "throughput",
            "Throughput",
            throughput,
            ("From", "To", "Videos", "Videos an hour", "Marks"),
            _throughput_rows,
            _throughput_summary,
        ),
        Chart(
            "durations",
            "Durations",
            durations,
            ("From", "To", "Videos", "50 % up to (s)", "95 % up to (s)", "99 % up to (s)", "Marks"),
            _duration_rows,
            _duration_summary,
        ),
        Chart(
            "outcomes",
            "Outcomes",
            outcomes,
            ("From", "To", "Videos", "Ok", "Failed", "Marks"),
            _outcome_rows,
            _outcome_summary,
        ),
        Chart(
            "causes",
            "Causes",
            causes,
            ("Cause", "Videos", "Jobs", "Fingerprint"),
            _cause_rows,
            _cause_summary,
            has_times=False,
            nothing=_without_causes,
        ),
    )
}


def shown_cells(chart: Chart, statistics: Statistics) -> list[list[str]]:
    """Return the rows of the table as it is read: numbers in groups, what is unknown as a dash; times stay ISO 8601."""
    return [[_cell(cell) for cell in row] for row in chart.rows(statistics)]


def _cell(cell: Cell) -> str:
    if cell is None:
        return UNKNOWN
    return cell if isinstance(cell, str) else f"{cell:,}"


def _per_hour(part: Bin, statistics: Statistics) -> float:
    """Return the videos an hour of a part, of an unfinished one so far."""
    end = min(part.end, statistics.span.end)
    hours = max(1.0, (end - part.begin) / 1000) / HOUR_SECONDS
    return part.videos / hours


def _rows(statistics: Statistics, numbers: Callable[[Bin], list[Cell]]) -> list[list[Cell]]:
    """Return a row for each part: its times, its numbers, and the marks in it."""
    bin_of = statistics.span.bin_of
    words: dict[int, list[str]] = defaultdict(list)
    for mark in statistics.marks:
        words[bin_of(mark.at)].append(_mark_in_words(mark))
    return [
        [iso_of_millis(part.begin), iso_of_millis(part.end), *numbers(part), ", ".join(words[place])]
        for place, part in enumerate(statistics.bins)
    ]


def _bar(part: Bin, value: float, colour: str) -> Options:
    bar: Options = {"value": [part.begin + (part.end - part.begin) // 2, round(value, 3)]}
    if not part.is_complete:
        bar["itemStyle"] = {"color": SURFACE, "borderColor": colour, "borderType": "dashed", "borderWidth": 1.5}
    return bar


def _lines(name: str, points: Sequence[tuple[Bin, float | None]]) -> list[Options]:
    """Return the line through the finished bins, and a dashed one from the last of them to the unfinished bin."""
    placed = [[(part.begin + part.end) // 2, value] for part, value in points]
    finished = sum(part.is_complete for part, _ in points)
    usual = {
        "name": name,
        "type": "line",
        "color": COLOURS[name],
        "symbol": "circle",
        "symbolSize": 5 if len(points) < MANY_POINTS else 3,
        "emphasis": {"disabled": True},
    }
    dashed = {**usual, "lineStyle": {"type": "dashed"}}
    return [{**usual, "data": placed[:finished]}, {**dashed, "data": placed[max(0, finished - 1) :]}]


def _over_time(statistics: Statistics, *series: Options, unit: str) -> Options:
    """Return a chart over time; its marks are a series of their own, since the others may be switched off."""
    names = list(dict.fromkeys(one["name"] for one in series))
    marked = {"name": "marks", "type": "line", "data": [], "markLine": _mark_lines(statistics)}
    return {
        "animation": False,
        "textStyle": FONT,
        "grid": {"left": 8, "right": 16, "top": 56, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "right": 0, "textStyle": {"color": TEXT}, "inactiveColor": MUTED, "data": names},
        "tooltip": _tooltip("axis"),
        "xAxis": {
            **_axis(),
            "type": "time",
            "min": statistics.span.edges[0],
            "max": statistics.span.edges[-1],
            "axisLabel": {"color": MUTED, "hideOverlap": True},
        },
        "yAxis": {
            **_axis(),
            "type": "value",
            "name": unit,
            "nameLocation": "end",
            "nameTextStyle": {"color": MUTED, "align": "left"},
        },
        "series": [
            {"barMaxWidth": 28, "emphasis": {"disabled": True}, "color": OK, **one} for one in (*series, marked)
        ],
    }


def _axis() -> Options:
    return {
        "axisLine": {"lineStyle": {"color": LINE}},
        "axisTick": {"lineStyle": {"color": LINE}},
        "axisLabel": {"color": MUTED},
        "splitLine": {"lineStyle": {"color": LINE}},
        "nameTextStyle": {"color": MUTED},
    }


def _tooltip(trigger: str) -> Options:
    return {
        "trigger": trigger,
        "confine": True,
        "backgroundColor": SURFACE,
        "borderColor": LINE,
        "textStyle": {"color": TEXT},
        "axisPointer": {"type": "line", "lineStyle": {"color": MUTED}, "label": {"show": False}},
    }


def _mark_lines(statistics: Statistics) -> Options:
    """Return lines where the server was started or the slots changed."""
    return {
        "silent": True,
        "symbol": "none",
        "animation": False,
        "lineStyle": {"color": MUTED, "type": "dotted"},
        "label": {
            "formatter": "{b}",
            "color": MUTED,
            "fontSize": 10,
            "position": "insideEndTop",
            "backgroundColor": SURFACE,  # it may lie on a bar
            "padding": [1, 3],
        },
        "data": list(_labelled(statistics.marks[-MAX_MARKS:], statistics.span)),
    }


def _labelled(marks: Sequence[Mark], span: Span) -> Iterator[Options]:
    """Yield the line of each mark; of those too close for a label each, the last one has the words of all."""
    room, words = (span.edges[-1] - span.begin) / MAX_LABELS, list[str]()
    for mark, following in zip_longest(marks, marks[1:]):
        words.append(_mark_in_words(mark))
        is_last = following is None or following.at - mark.at >= room
        yield {"xAxis": mark.at, "name": ", ".join(dict.fromkeys(words)) if is_last else ""}
        if is_last:
            words.clear()


def _mark_in_words(mark: Mark) -> str:
    return "started" if mark.kind == START else counted(mark.slots, "slot")


def _short(words: str) -> str:
    return words if len(words) <= MAX_CAUSE_LENGTH else f"{words[: MAX_CAUSE_LENGTH - 1]}…"
