"""Which jobs the dashboard shows, in which order and how densely, as its address says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backend.domain.many import JobChoice
from backend.domain.texts import checked_text
from progress_dashboard.protocol import MAX_TEXT_LENGTH, UNFINISHED, Status
from ui.text import FOUND_BY, JOBS_STAY

ALL, ATTENTION, CARDS = "all", "attention", "cards"


@dataclass(frozen=True, slots=True)
class Filter:
    """A chip: its word, and its jobs in words and by status. A rare one is only shown while it has jobs."""

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
class SortOrder:
    """The words of an order, and the facts of a card that it compares, one after the other. `-`: from high to low."""

    words: str
    by: tuple[str, ...]


ORDERS: Mapping[str, SortOrder] = {
    ATTENTION: SortOrder("Attention first", ("rank", "-created", "id")),
    "newest": SortOrder("Newest first", ("-created", "id")),
    "oldest": SortOrder("Oldest first", ("created", "id")),
    "name": SortOrder("By name", ("name", "id")),
}
VIEWS = (CARDS, "table")


@dataclass(frozen=True, slots=True)
class DashboardView:
    """The choice in the dashboard's address, by the names used there. Default values are left out of the address.

    >>> DashboardView.of(show="failed", q="nightly", sort="by colour", view="")
    DashboardView(show='failed', q='nightly', sort='attention', view='cards')
    """

    show: str = ALL
    q: str = ""
    sort: str = ATTENTION
    view: str = CARDS

    @classmethod
    def of(cls, *, show: str, q: str, sort: str, view: str) -> DashboardView:
        """Return the choice in an address. Unknown words count as not given."""
        return cls(
            show if show in FILTERS else ALL,
            q[:MAX_TEXT_LENGTH],
            sort if sort in ORDERS else ATTENTION,
            view if view in VIEWS else CARDS,
        )


def choices() -> dict[str, Any]:
    """Return what can be chosen, and the words for an empty result, for the component that draws it."""
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


def choice_of(sent: object) -> JobChoice:
    """Return which jobs of the dashboard are chosen, from what the browser says of its view."""
    texts = {name: text for name, text in sent.items() if isinstance(text, str)} if isinstance(sent, dict) else {}
    view = DashboardView.of(show=texts.get("show", ""), q=texts.get("q", ""), sort="", view="")
    statuses = frozenset[Status]() if view.show == ALL else FILTERS[view.show].statuses
    return JobChoice(dashboard=True, statuses=statuses, q=checked_text(view.q, "The search"))
