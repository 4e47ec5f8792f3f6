"""Whose page it is, and what a user does on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request
from nicegui import context, ui

from backend.domain.auth import Authority, User
from backend.errors import DashboardError, NotSignedIn
from ui.nicegui_internals import user_of

T = TypeVar("T")
RECONNECT_SECONDS = 300
RESPONSE_SECONDS = 30.0  # a page that comes late on a busy machine is better than an error


def require_user(request: Request) -> User:
    """Return the user a page is built for; redirect to the sign-in without one."""
    authority: Authority | None = getattr(request.state, "authority", None)
    if authority is None:
        wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
        raise HTTPException(303, headers={"Location": f"/login?next={quote(wanted, safe='/')}"})
    return authority.user


page = partial(
    ui.page,
    dependencies=[Depends(require_user)],
    reconnect_timeout=RECONNECT_SECONDS,
    response_timeout=RESPONSE_SECONDS,
)
"""`nicegui.ui.page` for signed-in users; a tab that lost its page finds it again for so long."""


def current_user() -> User:
    """Return the user of the page that is being built or acted on, with the role that the store gave last.

    Raises `NotSignedIn` on a page that was built for nobody.
    """
    user = user_of(context.client)
    if user is None:
        raise NotSignedIn
    return user


async def act(doing: Awaitable[T], said: str | Callable[[T], str] | None = None) -> T | None:
    """Await what the user asked for and say so, or say why not; returns its result, None if it was refused.

    `said` may be made from the result.
    """
    page = context.client  # the element that was clicked may be gone by then
    try:
        result = await doing
    except DashboardError as error:
        with page:
            ui.notify(error.sentence, type="negative", multi_line=True)
        return None
    if said:
        with page:
            ui.notify(said(result) if callable(said) else said)
    return result
