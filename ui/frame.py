"""The frame of a page, as this program's parts fill it while the page is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import Client, context
from nicegui.element import Element

from backend import Backend
from backend.domain.auth import User
from backend.domain.problem import ProblemPeriod
from backend.domain.texts import counted
from ui.bells import Actions
from ui.components.shared.page_frame import page_frame
from ui.following import patiently, while_connected
from ui.session import current_user
from ui.storage_notice import storage_notice
from ui.text import count
from ui.theme import Tally

RETRY_SECONDS = 1.0


@contextmanager
def frame_of(backend: Backend, title: str, active: str, user: User) -> Iterator[Element]:
    """Draw the frame of a page of this user. `active` is the page's name in `ui.theme.PAGES`, or "" for none."""
    actions, notice = Actions(backend.notifications), storage_notice(backend.journal)
    with page_frame(title, active, user, backend.settings, actions, notice) as content:
        _follow_problems(backend, context.client)
        yield content


def _follow_problems(backend: Backend, client: Client) -> None:
    """Keep the number of causes beside the link to Problems up to date, while the page is open."""
    tallies = [element for element in client.elements.values() if isinstance(element, Tally)]

    async def show() -> None:
        problems = await backend.problems.shown(ProblemPeriod.WEEK, by=current_user())
        number = problems.unknown(backend.clock.now())
        more = "+" if problems.has_more else ""
        for tally in tallies:
            tally.show(f"{count(number)}{more}" if number else "", f"{counted(number, 'cause')} in the last 7 days")

    async def follow() -> None:
        seen: int | None = None
        while True:
            version = backend.problems.news.version(current_user())
            if version != seen:
                seen = version
                await patiently(show, clock=backend.clock, every_seconds=RETRY_SECONDS)
            await backend.problems.news.changed(by=current_user(), after=seen)

    while_connected(client, follow, name="number of problems")
