"""Whether what a page shows is as fresh as the API: asked all the time beside it, and compared afterwards."""

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

ASK_SECONDS = 0.2
BEHIND_SECONDS = 1.0  # a card may be as old as this


@dataclass(frozen=True)
class Answer:
    """What the API said, asked at `began` and there at `ended` (seconds since 1970)."""

    began: float
    ended: float
    cards: Cards


class Answers:
    """Asks the API again and again, in a thread, from entry to exit; a server that is gone has no answers."""

    def __init__(self, ask: Callable[[], Cards]) -> None:
        self._ask = ask
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking, daemon=True)
        self.all: list[Answer] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _keep_asking(self) -> None:
        while not self._is_over.wait(ASK_SECONDS):
            began = time.time()
            try:
                cards = self._ask()
            except httpx.TransportError:
                continue
            self.all.append(Answer(began, time.time(), cards))


@dataclass(frozen=True)
class Change:
    """From this moment (seconds since 1970) on a job had this status."""

    at: float
    status: str


@dataclass
class Judgement:
    """How many looks at cards were compared, how many different values they showed, and what was wrong."""

    looks: int = 0
    values: int = 0
    wrong: Sequence[str] = ()


def judge(record: Record, answers: Sequence[Answer], changes: dict[str, list[Change]]) -> Judgement:
    """Compare what every look at a connected page found on the cards of these jobs with two answers of the API.

    It may be no older than the answer of one second before and no newer than the one just after. `changes`: of each
    job's status.
    """
    judgement = Judgement()
    wrong: list[str] = []
    for run in record.runs:
        older, newer = _before(answers, run.until - BEHIND_SECONDS), _after(answers, run.since)
        if not run.is_connected or older is None or newer is None:
            continue
        judged = changes.keys() & older.cards.keys() & newer.cards.keys()
        shown = {job_id: card for job_id, card in run.cards.items() if job_id in judged}
        judgement.looks += run.looks * len(shown)
        judgement.values += len(shown)
        for job_id, card in shown.items():
            told = _told(answers, changes[job_id], job_id, older, newer)
            wrong += _complaints(run, card, older.cards[job_id], newer.cards[job_id], told)
    judgement.wrong = wrong
    return judgement


def _before(answers: Sequence[Answer], moment: float) -> Answer | None:
    """The newest one that was there at this moment."""
    place = bisect_right(answers, moment, key=lambda answer: answer.ended)
    return answers[place - 1] if place else None


def _after(answers: Sequence[Answer], moment: float) -> Answer | None:
    """The first one that was asked for at this moment or later."""
    place = bisect_left(answers, moment, key=lambda answer: answer.began)
    return answers[place] if place < len(answers) else None


def _told(answers: Sequence[Answer], changes: list[Change], job_id: str, older: Answer, newer: Answer) -> set[str]:
    """The statuses that the job had between two answers, those that no answer hit included.

    Of a card that stayed the same for longer than a second, `newer` is the earlier one.
    """
    first, last = sorted((older, newer), key=lambda answer: answer.ended)
    span = [answer for answer in answers if first.ended <= answer.ended <= last.ended]
    passed = {change.status for change in changes if first.began <= change.at <= last.ended}
    return passed | {answer.cards[job_id].status for answer in span if job_id in answer.cards}


def _complaints(run: Run, shown: Card, older: Card, newer: Card, told: set[str]) -> Iterator[str]:
    when = f"from {run.since:.3f} to {run.until:.3f} ({shown}; before {older}, after {newer})"
    if not older.done <= shown.done <= newer.done:
        yield f"{shown.done} videos {when}"
    if not older.percent <= shown.percent <= newer.percent:
        yield f"{shown.percent} % {when}"
    if shown.status not in told:
        yield f"{shown.status} {when}"
