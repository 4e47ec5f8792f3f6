"""The routes of what users are told: their list, what was read, their wishes and settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.control import BODY_ERRORS
from backend.api.deps import Caller, TheBackend
from backend.api.notification_types import (
    NotificationOut,
    NotificationPage,
    NotificationSettingsBody,
    NotificationSettingsOut,
    ReadBody,
    UnreadOut,
    WishBody,
)
from backend.api.openapi import answers, body

router = APIRouter(prefix="/api", tags=["notifications"])
READ_ERRORS = {401: "not signed in", 422: "a value is not valid"}
WRITE_ERRORS = {code: when for code, when in BODY_ERRORS.items() if code != 404}
READ = msgspec.json.Decoder(ReadBody)
WISH = msgspec.json.Decoder(WishBody)
SETTINGS = msgspec.json.Decoder(NotificationSettingsBody)


@router.get(
    "/notifications", responses=answers(NotificationPage, READ_ERRORS), summary="List what happened to your jobs"
)
async def notifications(
    backend: TheBackend,
    caller: Caller,
    limit: Annotated[int, Query(description="1 to 1,000.")] = 50,
    cursor: str | None = None,
) -> Response:
    """List the last 30 days, newest first."""
    page = await backend.notifications.page(by=caller, limit=limit, cursor=cursor)
    items = [NotificationOut.of(told, backend) for told in page.items]
    return json_response(NotificationPage(items, await backend.notifications.unread(by=caller), page.next_cursor))


@router.post(
    "/notifications/read",
    responses=answers(UnreadOut, WRITE_ERRORS),
    openapi_extra=body(ReadBody, required=False),
    summary="Mark notifications as read",
)
async def read(request: Request, backend: TheBackend, caller: Caller) -> Response:
    content = await request.body()
    ids = decoded(READ, content).event_ids if content.strip() else None
    return json_response(UnreadOut(await backend.notifications.mark_read(ids, by=caller)))


@router.get(
    "/notifications/settings",
    responses=answers(NotificationSettingsOut, {401: "not signed in"}),
    summary="Get what you are told of",
)
async def settings(backend: TheBackend, caller: Caller) -> Response:
    return json_response(NotificationSettingsOut.of(await backend.notifications.settings(by=caller)))


@router.put(
    "/notifications/settings",
    responses=answers(NotificationSettingsOut, WRITE_ERRORS),
    openapi_extra=body(NotificationSettingsBody),
    summary="Change what you are told of",
)
async def change_settings(request: Request, backend: TheBackend, caller: Caller) -> Response:
    wanted = decoded(SETTINGS, await request.body()).settings()
    return json_response(NotificationSettingsOut.of(await backend.notifications.change_settings(wanted, by=caller)))


@router.post(
    "/jobs/{job_id}/notify",
    responses=answers(WishBody, BODY_ERRORS),
    openapi_extra=body(WishBody),
    summary="Be told when a job ends",
)
async def notify(request: Request, backend: TheBackend, caller: Caller, job_id: str) -> Response:
    """Tell the caller of these events of the job, whatever their settings say; until its next end."""
    events = decoded(WISH, await request.body()).events
    return json_response(WishBody(sorted(await backend.notifications.wish(job_id, events, by=caller))))
