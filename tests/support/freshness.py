"""Compares what a page shows with the API, which is polled meanwhile."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from tests.support.recorder import Card, Cards, Record, Run

POLL_SECONDS = 0.2
MAX_AGE_SECONDS = 1.0  # of a card


@dataclass(frozen=True)
class Answer:
    """An answer of the API, requested at `began` and received at `ended` (seconds since 1970)."""

    began: float
    ended: float
    cards: Cards


class Answers:
    """Polls the API in a thread, from entry to exit. A server that cannot be reached adds no answers."""

    def __init__(self, request: Callable[[], Cards]) -> None:
        self._request = request
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.all: list[Answer] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._is_over.wait(POLL_SECONDS):
            began = time.time()
            try:
                cards = self._request()
            except httpx.TransportError:
                continue
            self.all.append(Answer(began, time.time(), cards))


@dataclass(frozen=True)
class Change:
    """A change of a job's status, at a time in seconds since 1970."""

    at: float
    status: str


@dataclass
class Judgement:
    """The number of compared samples of cards, of different values among them, and the complaints."""

    samples: int = 0
    values: int = 0
    wrong: Sequence[str] = ()


def judge(record: Record, answers: Sequence[Answer], changes: dict[str, list[Change]]) -> Judgement:
    """Compare the cards of these jobs, in every sample of a connected page, with two answers of the API.

    A card may be no older than the answer of one second before, and no newer than the next answer. `changes` are those
    of each job's status.
    """
    judgement = Judgement()
    wrong: list[str] = []
    for run in record.runs:
        older, newer = _before(answers, run.until - MAX_AGE_SECONDS), _after(answers, run.since)
        if not run.is_connected or older is None or newer is None:
            continue
        judged = changes.keys() & older.cards.keys() & newer.cards.keys()
        shown = {job_id: card for job_id, card in run.cards.items() if job_id in judged}
        judgement.samples += run.samples * len(shown)
        judgement.values += len(shown)
        for job_id, card in shown.items():
            statuses = _statuses(answers, changes[job_id], job_id, older, newer)
            wrong += _complaints(run, card, older.cards[job_id], newer.cards[job_id], statuses)
    judgement.wrong = wrong
    return judgement


def _before(answers: Sequence[Answer], moment: float) -> Answer | None:
    """Return the newest answer that had been received at this time."""
    place = bisect_right(answers, moment, key=lambda answer: answer.ended)
    return answers[place - 1] if place else None


def _after(answers: Sequence[Answer], moment: float) -> Answer | None:
    """Return the first answer that was requested at this time or later."""
    place = bisect_left(answers, moment, key=lambda answer: answer.began)
    return answers[place] if place < len(answers) else None


def _statuses(answers: Sequence[Answer], changes: list[Change], job_id: str, older: Answer, newer: Answer) -> set[str]:
    """Return the statuses of the job between two answers, with those that no answer contains.

    If a card was unchanged for longer than a second, `newer` is the earlier answer.
    """
    first, last = sorted((older, newer), key=lambda answer: answer.ended)
    span = [answer for answer in answers if first.ended <= answer.ended <= last.ended]
    passed = {change.status for change in changes if first.began <= change.at <= last.ended}
    return passed | {answer.cards[job_id].status for answer in span if job_id in answer.cards}


def _complaints(run: Run, shown: Card, older: Card, newer: Card, statuses: set[str]) -> Iterator[str]:
    when = f"from {run.since:.3f} to {run.until:.3f} ({shown}; before {older}, after {newer})"
    if not older.done <= shown.done <= newer.done:
        yield f"{shown.done} videos {when}"
    if not older.percent <= shown.percent <= newer.percent:
        yield f"{shown.percent} % {when}"
    if shown.status not in statuses:
        yield f"{shown.status} {when}"
