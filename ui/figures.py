"""The words for the figures of the statistics, for the page and the command. All functions are pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from backend.domain.periods import Period
from backend.domain.statistics import MIN_SAMPLE
from backend.domain.texts import counted
from ui.text import count, duration, elapsed

UNKNOWN = "–"
MIN_NUMBER = 0.01
PERIODS: Mapping[str, str] = MappingProxyType(
    {
        Period.NIGHT.value: "Last night",
        Period.DAY.value: "24 hours",
        Period.WEEK.value: "7 days",
        Period.MONTH.value: "30 days",
        Period.QUARTER.value: "90 days",
    }
)


def share(value: float) -> str:
    """Return a share from 0 to 1 in percent.

    >>> share(0.9741), share(1.0), share(0.9996)
    ('97.4 %', '100 %', '99.9 %')
    """
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{min(99.9, max(0.1, percent)):.1f} %"


def number(value: float) -> str:
    """Return a number with a fraction where that says something.

    >>> number(0.127), number(12.34), number(1234.5), number(0.0001), number(0.0)
    ('0.13', '12.3', '1,234', '< 0.01', '0')
    """
    if 0 < value < MIN_NUMBER:
        return f"< {MIN_NUMBER}"
    if value < 1:
        return f"{value:.2g}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def whole(value: float) -> str:
    """Return a count."""
    return count(round(value))


@dataclass(frozen=True, slots=True)
class FigureWords:
    """What a figure is called, how its value is written, what its n counts, and what it means."""

    label: str
    write: Callable[[float], str]
    of: str
    meaning: str


FIGURES: Mapping[str, FigureWords] = MappingProxyType(
    {
        "videos": FigureWords("Videos done", whole, "video", "Each counts once, with its newest result."),
        "success_rate": FigureWords("Success rate", share, "video", "Good ones among the videos that are done."),
        "videos_per_hour": FigureWords("Videos an hour", number, "video", "Over the whole period, nights too."),
        "film_hours_per_hour": FigureWords(
            "Hours of film an hour", number, "good video", "Of good videos, where the length of the film is known."
        ),
        "wait_p50": FigureWords("Wait, half of the jobs up to", elapsed, "job", "From handing in to the start."),
        "wait_p95": FigureWords("Wait, 95 % up to", elapsed, "job", "From handing in to the start."),
        "run_p50": FigureWords("Run, half of the jobs up to", duration, "run", "From the start to the end."),
        "run_p95": FigureWords("Run, 95 % up to", duration, "run", "From the start to the end; every attempt."),
        "video_p50": FigureWords("A video, half up to", duration, "video", "Of the newest results."),
        "video_p95": FigureWords("A video, 95 % up to", duration, "video", "Of the newest results."),
        "video_p99": FigureWords("A video, 99 % up to", duration, "video", "Of the newest results."),
        "work_per_film_minute": FigureWords(
            "Work a minute of film", duration, "good video", "Where the length of the film is known."
        ),
        "slots_busy": FigureWords("Slots busy", share, "video", "The share of their time that led to a result."),
        "oldest_waiting_seconds": FigureWords(
            "Oldest job that waits now", elapsed, "waiting job", "Waits are known only of jobs that have started."
        ),
        "retries": FigureWords("Retries", whole, "video", "Videos that were tried again after a failed result."),
        "retries_helped": FigureWords("Retries that helped", whole, "retried video", "The video was then good."),
        "self_pauses": FigureWords("Self-pauses", whole, "run", "A job pauses when the machine fails it."),
        "forecast_error_p50": FigureWords(
            "Forecasts at a quarter were off by", share, "forecast", "Half of them by no more."
        ),
    }
)


def value_in_words(name: str, value: float | None, n: int) -> str:
    """Return a figure as it is shown.

    >>> value_in_words("success_rate", 0.5, 10), value_in_words("success_rate", None, 4)
    ('50.0 %', 'too few')
    """
    if value is not None:
        return FIGURES[name].write(value)
    if n == 0:
        return "none"
    return "too few" if n < MIN_SAMPLE else UNKNOWN


def sample_in_words(name: str, n: int) -> str:
    """Return what a figure is made of.

    >>> sample_in_words("wait_p50", 1204)
    'n = 1,204 jobs'
    """
    return f"n = {counted(n, FIGURES[name].of)}"


def before_in_words(name: str, before: float | None) -> str:
    """Return the figure of the period before; "" if there is none."""
    return "" if before is None else f"before: {FIGURES[name].write(before)}"
