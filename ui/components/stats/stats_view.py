"""The statistics of a period as a page shows them: figures, then one chart at a time with its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments

from backend.clock import from_millis
from backend.domain.moments import parse_moment
from backend.domain.periods import Period, Span
from backend.domain.statistics import Figure, Statistics
from backend.errors import Invalid
from backend.jobs.statistics import Question
from backend.lists.exports import csv_rows, csv_start, export_file_name
from ui.components.shared.date_range import DateRange
from ui.components.shared.moment import Moment
from ui.components.shared.tabs import Tabs
from ui.components.stats.charts import CHARTS, LINES, USUAL_LINES, Chart, selected, shown_cells
from ui.components.stats.data_table import DataTable
from ui.figures import FIGURES, PERIODS, before_in_words, sample_in_words, value_in_words
from ui.theme import button, icon, link, tag

FIRST_TAB = "throughput"
NO_LINES = "none"
EVERYBODY, ALL = "Everybody", "All processors"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address of the page asks for."""

    period: str = ""
    begin: str = ""
    end: str = ""
    processor: str = ""
    name: str = ""
    owner: str = ""
    tab: str = FIRST_TAB
    lines: frozenset[str] = USUAL_LINES

    def question(self, usual: Period) -> Question:
        """Return what is asked of the statistics; without a period the `usual` one. Raises `Invalid`."""
        has_dates = bool(self.begin or self.end)
        if self.end and not self.begin:
            raise Invalid("Choose the first day, too.")
        return Question(
            period=None if has_dates else self.period or usual,
            begin=parse_moment(self.begin, "from") if self.begin else None,
            end=parse_moment(self.end, "to") if self.end else None,
            processor=self.processor or None,
            name=self.name or None,
            owner=self.owner or None,
        )

    def query(self) -> dict[str, str]:
        """Return what the address has behind its question mark, by name."""
        given = {
            "period": self.period,
            "from": self.begin,
            "to": self.end,
            "processor": self.processor,
            "name": self.name,
            "owner": self.owner,
            "tab": "" if self.tab == FIRST_TAB else self.tab,
            "lines": "" if self.lines == USUAL_LINES else " ".join(sorted(self.lines)) or NO_LINES,
        }
        return {name: value for name, value in given.items() if value}

    def address(self) -> str:
        return f"/stats?{urlencode(query)}" if (query := self.query()) else "/stats"

    def of_period(self, period: str) -> Choice:
        """Return the same of another period."""
        return replace(self, period=period, begin="", end="")


def lines_in(text: str) -> frozenset[str]:
    """Return the lines that an address names; without any the usual ones."""
    return frozenset(text.split()) & LINES.keys() if text else USUAL_LINES


class StatsView:
    """The content of the page. `show` draws the statistics, again and again."""

    def __init__(
        self, choice: Choice, usual: Period, *, processors: Sequence[str], owners: Sequence[str] | None
    ) -> None:
        self._choice = choice
        self._periods: dict[str, Element] = {}
        self._hidden: dict[str, Element] = {}
        self._figures: dict[str, _FigureCard] = {}
        self._charts: dict[str, _ChartPanel] = {}
        self._draw_periods(usual)
        self._draw_form(processors, owners)
        self._refusal = tag("p", classes="badc said").props("role=alert data-testid=stats-refused")
        self._refusal.set_visibility(False)
        with tag("div") as self._content:
            self._span = tag("p", classes="muted small span")
            with tag("section", classes="stats").props('aria-label="Figures"'):
                for name in FIGURES:
                    self._figures[name] = _FigureCard(name)
            self._draw_charts()

    def show(self, statistics: Statistics) -> None:
        """Show these statistics."""
        self._refusal.set_visibility(False)
        self._content.set_visibility(True)
        self._draw_span(statistics.span)
        for name, card in self._figures.items():
            card.show(statistics.figures[name])
        for panel in self._charts.values():
            panel.show(statistics)

    def refuse(self, sentence: str) -> None:
        """Show why there are no statistics."""
        self._refusal.text = sentence
        self._refusal.set_visibility(True)
        self._content.set_visibility(False)

    def _draw_periods(self, usual: Period) -> None:
        chosen = "" if self._choice.begin else self._choice.period or usual.value
        with tag("nav", classes="tools periods").props('aria-label="Period"'):
            for period, words in PERIODS.items():
                chip = link(words, "", classes="btn chip").props(f"data-testid=period-{period}")
                self._periods[period] = chip
                if period == chosen:
                    chip.props("aria-current=true")

    def _draw_form(self, processors: Sequence[str], owners: Sequence[str] | None) -> None:
        """Draw the filters as a plain form: what is chosen is in the address."""
        choice = self._choice
        with tag("form", classes="tools filters stats-filters").props('method="get" action="/stats"'):
            self._hidden = {name: _input("hidden", name, "") for name in ("period", "tab", "lines")}
            _select("processor", "Processor", ALL, processors, choice.processor)
            if owners is not None:
                _select("owner", "Owner", EVERYBODY, owners, choice.owner)
            field = _input("search", "name", choice.name, label="Name of a list")
            field.props["placeholder"] = "Name of a list"
            DateRange(choice.begin, choice.end)
            with tag("button").props("type=submit"):
                icon("filter_alt", small=True)
                tag("span", "Show")
            if choice != Choice(tab=choice.tab):
                link("Reset", "/stats", classes="btn ghost")
        self._remember()

    def _remember(self, **changes: Any) -> None:
        """Let the links to the periods and the form lead to the chosen tab and lines, too."""
        self._choice = replace(self._choice, **changes)
        for period, chip in self._periods.items():
            chip.props["href"] = self._choice.of_period(period).address()
        query = self._choice.query()
        for name, field in self._hidden.items():
            field.props["value"] = query.get(name, "")
            field.props["disabled"] = name not in query  # what is not given is not in the address

    def _draw_span(self, span: Span) -> None:
        self._span.clear()
        with self._span:
            tag("span", "From ")
            Moment(from_millis(span.begin))
            tag("span", " to now, " if span.end < span.edges[-1] else " to ")
            Moment(from_millis(span.end), zoned=True)
            tag(
                "span",
                ". A video counts once, with its newest result, when that came. Before: the period before, as long.",
            )

    def _draw_charts(self) -> None:
        titles = {chart.name: chart.title for chart in CHARTS.values()}
        tab = self._choice.tab if self._choice.tab in titles else FIRST_TAB
        tabs = Tabs(titles, chosen=tab, label="Charts")
        tabs.on("choose", lambda: self._remember(tab=tabs.chosen))
        for chart in CHARTS.values():
            with tabs.part(chart.name):
                self._charts[chart.name] = _ChartPanel(
                    chart, self._choice.lines, on_lines=lambda lines: self._remember(lines=lines)
                )


class _FigureCard:
    """One figure with what it is made of, and the period before."""

    def __init__(self, name: str) -> None:
        self._name = name
        words = FIGURES[name]
        with tag("div", classes="stat").props(f"data-testid=stat-{name}") as self._card:
            self._card.props["title"] = words.meaning
            tag("div", words.label, classes="label")
            tag("span", words.meaning, classes="sr")  # the title is for the pointer only
            self._value = tag("b")
            self._sample = tag("div", classes="small muted")
            self._before = tag("div", classes="small muted")

    def show(self, figure: Figure) -> None:
        value = "" if figure.value is None else repr(figure.value)
        if (self._card.props.get("data-value"), self._card.props.get("data-n")) != (value, str(figure.n)):
            self._card.props["data-value"] = value
            self._card.props["data-n"] = str(figure.n)
        self._value.text = value_in_words(self._name, figure.value, figure.n)
        is_known = figure.value is not None
        self._value.classes(add="" if is_known else "muted", remove="muted" if is_known else "")
        self._sample.text = sample_in_words(self._name, figure.n)
        self._before.text = before_in_words(self._name, figure.before)


class _ChartPanel:
    """A chart with its summary, its table and its CSV."""

    def __init__(self, chart: Chart, lines: frozenset[str], *, on_lines: Callable[[frozenset[str]], None]) -> None:
        self._chart = chart
        self._lines = lines
        self._on_lines = on_lines
        self._statistics: Statistics | None = None
        self._plot: ui.echart | None = None
        with tag("figure", classes="chart"):
            self._holder: Element = tag("div", classes="plot").props("role=img")
            self._nothing: TextElement = tag("p", classes="muted nothing")
            self._summary = tag("figcaption", classes="small muted")
        with tag("div", classes="acts"):
            button("CSV", self._download, icon_name="download").props(f"data-testid=csv-{chart.name}")
        self._table = DataTable(
            chart.title,
            chart.columns,
            times=2 if chart.has_times else 0,
            texts=chart.texts,
            hook=f"table-{chart.name}",
        )

    def show(self, statistics: Statistics) -> None:
        self._statistics = statistics
        summary, nothing = self._chart.summary(statistics), self._chart.nothing(statistics)
        self._nothing.text = nothing
        self._nothing.set_visibility(bool(nothing))
        self._holder.set_visibility(not nothing)
        self._holder.props["aria-label"] = summary
        self._holder.update()
        self._summary.text = "" if nothing else summary
        self._table.show(shown_cells(self._chart, statistics))
        if not nothing:
            self._draw(self._chart.options(statistics))

    def _draw(self, options: dict[str, Any]) -> None:
        if self._chart.name == "durations":
            options["legend"]["selected"] = selected(self._lines)
        if self._plot is None:
            with self._holder:
                self._plot = ui.echart(options, renderer="svg").props("aria-hidden=true")
            self._plot.on("chart:legendselectchanged", self._choose_lines, ["selected"])
        elif self._plot.options != options:
            self._plot.options.clear()
            self._plot.options.update(options)
            self._plot.update()

    def _choose_lines(self, event: GenericEventArguments) -> None:
        """Put into the address which lines are shown, so that the next look shows them again."""
        chosen = event.args.get("selected", {})
        self._lines = frozenset(name for name, words in LINES.items() if chosen.get(words))
        self._on_lines(self._lines)
        words = " ".join(sorted(self._lines)) or NO_LINES
        ui.run_javascript(
            "const address = new URL(location);"
            f"address.searchParams.set('lines', '{words}');"
            "history.replaceState(history.state, '', address)"
        )

    def _download(self) -> None:
        if self._statistics is None:
            return
        content = csv_start(self._chart.columns) + csv_rows(self._chart.rows(self._statistics))
        ui.download.content(content, export_file_name(f"statistics-{self._chart.name}"), "text/csv")


def _input(kind: str, name: str, value: str, *, label: str = "") -> Element:
    element = tag("input", classes="field")
    element.props["type"] = kind
    element.props["name"] = name
    element.props["value"] = value
    if label:
        element.props["aria-label"] = label
    return element


def _select(name: str, label: str, everything: str, options: Sequence[str], chosen: str) -> None:
    element = tag("select", classes="field")
    element.props["name"] = name
    element.props["aria-label"] = label
    known = options if not chosen or chosen in options else (*options, chosen)
    with element:
        for value, words in (("", everything), *((option, option) for option in known)):
            entry = tag("option", words)
            entry.props["value"] = value
            entry.props["selected"] = value == chosen
