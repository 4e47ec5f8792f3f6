"""The record of what a page showed during a test. `recorder.js` makes it inside the page.

Times are seconds since 1970, which page and test share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import BrowserContext, Page

SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Card:
    """The progress of a job, as its card shows it."""

    status: str
    percent: int
    done: int
    total: int

    @classmethod
    def of_api(cls, job: Mapping[str, Any]) -> Self:
        return cls(job["status"], job["progress"], job["current_video"], job["total_videos"])

    def says_less_than(self, other: Card) -> bool:
        return self.percent < other.percent or self.done < other.done


Cards = Mapping[str, Card]
"""By the job's ID."""


@dataclass(frozen=True)
class Run:
    """What the page showed unchanged in a row of samples, from `since` to `until`.

    `silence` is the longest time, at one of the samples, since the page's socket had received anything.
    """

    since: float
    until: float
    samples: int
    silence: float
    address: str
    state: str
    popup: bool
    hidden: bool
    cards: Cards

    @classmethod
    def of_page(cls, run: Mapping[str, Any]) -> Self:
        times = {name: run[name] / 1000 for name in ("since", "until", "silence")}
        cards = {job_id: _card(*facts) for job_id, *facts in run["cards"]}
        facts = {name: run[name] for name in ("samples", "address", "state", "popup", "hidden")}
        return cls(**times, **facts, cards=cards)

    @property
    def is_connected(self) -> bool:
        return self.state == "connected"


@dataclass(frozen=True)
class Record:
    """All runs of a page, in order, across its reloads."""

    runs: Sequence[Run]

    @classmethod
    def of(cls, page: Page) -> Self:
        return cls([Run.of_page(run) for run in page.evaluate("recordedRuns()")])

    @property
    def popup_was_seen(self) -> bool:
        """True if the framework's own message was ever visible."""
        return any(run.popup for run in self.runs)

    @property
    def was_hidden(self) -> bool:
        return any(run.hidden for run in self.runs)

    @property
    def states(self) -> str:
        """The banner's states, in order."""
        return " > ".join(state for state, _ in groupby(run.state for run in self.runs if run.state))

    def disconnected_after(self, moment: float) -> float | None:
        """Return for how many seconds after it the page still showed "connected"; None if it never stopped."""
        return next((max(0.0, run.since - moment) for run in self._after(moment) if not run.is_connected), None)

    def connected_after(self, moment: float) -> float | None:
        """Return after how many seconds the page was first connected; None if it never was."""
        return next((max(0.0, run.since - moment) for run in self._after(moment) if run.is_connected), None)

    def false_green(self, limit_seconds: float) -> float:
        """Return the longest time, in seconds, for which the page showed "connected" after this much silence."""
        runs = [run for run in self.runs if run.is_connected]
        return max((min(run.silence - limit_seconds, run.until - run.since) for run in runs), default=0.0)

    def cards(self, job_id: str) -> list[Card]:
        """Return the states of the job's card, in order; empty if the page never showed it."""
        return _states(self.runs, job_id)

    def setbacks(self, job_id: str) -> list[tuple[Card, Card]]:
        """Return where the progress of the card went back. Within one attempt it must not.

        A page that is connecting shows what was true when it was requested; the page that it replaces may have been
        shown longer, and newer facts.
        """
        states = _states([run for run in self.runs if run.state != "connecting"], job_id)
        return [(before, card) for before, card in pairwise(states) if card.says_less_than(before)]

    def longest_gap(self) -> float:
        """Return the longest time without a sample, in which the page was not loaded or its browser did not run."""
        return max((later.since - run.until for run, later in zip(self.runs, self.runs[1:], strict=False)), default=0.0)

    def _after(self, moment: float) -> Iterator[Run]:
        return (run for run in self.runs if run.until >= moment)


def record_pages(context: BrowserContext) -> None:
    """Record every page of the context, from its first script on."""
    context.add_init_script(SCRIPT)


def _states(runs: Sequence[Run], job_id: str) -> list[Card]:
    return [card for card, _ in groupby(run.cards[job_id] for run in runs if job_id in run.cards)]


def _card(status: str, percent: int, done: str, total: str) -> Card:
    return Card(status, percent, int(done.replace(",", "")), int(total.replace(",", "")))
