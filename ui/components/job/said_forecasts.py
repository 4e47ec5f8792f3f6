"""What was said about the end of a job on the way, and how true it was."""

from __future__ import annotations

from collections.abc import Sequence

from backend.domain.judgement import JUDGED_STAGE, SaidForecast
from ui.components.shared.moment import Moment
from ui.text import took
from ui.theme import tag

STAGES = {0: "At the start", 10: "At 10 %", 25: "At a quarter", 50: "Half-way"}


def draw_forecasts(said: Sequence[SaidForecast]) -> None:
    """Draw what was said at a quarter, or at the stage next to it; behind it, the other stages.

    While the job runs, nobody knows how true it is: it only says what was said.
    """
    if not said:
        return
    chosen = min(said, key=lambda one: abs(one.stage - JUDGED_STAGE))
    _draw_sentence(chosen)
    others = [one for one in said if one is not chosen and one.error is not None]
    if others:
        errors = ", ".join(f"{STAGES[one.stage].lower()} {_percent(one)}" for one in others)
        tag("span", f" The others were off by: {errors}.")


def _draw_sentence(said: SaidForecast) -> None:
    tag("span", f"{STAGES[said.stage]} we said ")
    Moment(said.said_end)
    if said.ended_at is None:
        tag("span", ".")
        return
    tag("span", "; it was ")
    Moment(said.ended_at)
    rested = f", not running for {took(said.paused_seconds)}" if said.paused_seconds >= 1 else ""
    tag("span", f" (off by {_percent(said)}{rested}).")


def _percent(said: SaidForecast) -> str:
    return f"{100 * (said.error or 0):,.0f} %"
