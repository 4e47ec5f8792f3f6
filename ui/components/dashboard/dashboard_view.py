"""Which jobs the dashboard shows, in which order and how densely: what its address says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from progress_dashboard.protocol import MAX_TEXT_LENGTH, UNFINISHED, Status
from ui.text import FOUND_BY, JOBS_STAY

ALL, ATTENTION, CARDS = "all", "attention", "cards"


@dataclass(frozen=True, slots=True)
class Filter:
    """A chip: its word, what it leaves in words and by status; a rare one is only there while there are some."""

    word: str
    jobs: str
    statuses: frozenset[Status]
    is_rare: bool = False


FILTERS: Mapping[str, Filter] = {
    "active": Filter("Active", "active jobs", UNFINISHED),
    "completed": Filter("Completed", "completed jobs", frozenset({Status.COMPLETED})),
    "with-errors": Filter("With errors", "jobs with errors", frozenset({Status.COMPLETED_WITH_ERRORS})),
    "failed": Filter("Failed", "failed jobs", frozenset({Status.FAILED})),
    "cancelled": Filter("Cancelled", "cancelled jobs", frozenset({Status.CANCELLED}), is_rare=True),
    ALL: Filter("All", "jobs", frozenset(Status)),
}


@dataclass(frozen=True, slots=True)
class Order:
    """Its words, and what of a card it goes by: facts, the first one that differs decides; `-` is from high to low."""

    words: str
    by: tuple[str, ...]


ORDERS: Mapping[str, Order] = {
    ATTENTION: Order("Attention first", ("rank", "-created", "id")),
    "newest": Order("Newest first", ("-created", "id")),
    "oldest": Order("Oldest first", ("created", "id")),
    "name": Order("By name", ("name", "-created", "id")),
}
VIEWS = (CARDS, "table")


@dataclass(frozen=True, slots=True)
class DashboardView:
    """The address's own names; a value that is the usual one stands in no address.

    >>> DashboardView.of(show="failed", q="nightly", sort="by colour", view="")
    DashboardView(show='failed', q='nightly', sort='attention', view='cards')
    """

    show: str = ALL
    q: str = ""
    sort: str = ATTENTION
    view: str = CARDS

    @classmethod
    def of(cls, *, show: str, q: str, sort: str, view: str) -> DashboardView:
        """What an address asks for; words that it does not know count as not given."""
        return cls(
            show if show in FILTERS else ALL,
            q[:MAX_TEXT_LENGTH],
            sort if sort in ORDERS else ATTENTION,
            view if view in VIEWS else CARDS,
        )


def choices() -> dict[str, Any]:
    """What can be chosen, and what to say where nothing is left, for the component that draws it."""
    filters = [
        {**asdict(one), "name": name, "statuses": [status.value for status in Status if status in one.statuses]}
        for name, one in FILTERS.items()
    ]
    return {
        "filters": filters,
        "orders": {name: asdict(order) for name, order in ORDERS.items()},
        "views": VIEWS,
        "usual": asdict(DashboardView()),
        "found_by": FOUND_BY.format(error="an error"),
        "stay": JOBS_STAY,
    }
