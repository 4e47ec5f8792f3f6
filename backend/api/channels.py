"""The routes of the channels on which users are told."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from backend.api.bodies import decoded, json_response
from backend.api.channel_types import ChannelBody, ChannelChangeBody, ChannelOut, TestOut
from backend.api.deps import Caller, TheBackend
from backend.api.openapi import answers, body, nothing

router = APIRouter(prefix="/api/channels", tags=["notifications"])
CHANNEL, CHANGE = msgspec.json.Decoder(ChannelBody), msgspec.json.Decoder(ChannelChangeBody)
TESTED = TestOut(sent=True, detail="The test was sent.")
ERRORS = {401: "not signed in"}
NO_CHANNEL = ERRORS | {404: "there is no such channel, or it is another user's", 422: "a value is not valid"}
BODY_ERRORS = ERRORS | {
    400: "the body is not valid JSON",
    403: "only administrators have channels for all",
    413: "the body is over 1 MiB",
    422: "an address that cannot be used or may not be called, or another value that is not valid",
}
TEST_ERRORS = {409: "the receiver did not take it; why is said", 429: "too many tests within a minute"}


@router.get("", responses=answers(list[ChannelOut], ERRORS), summary="List one's channels")
async def list_channels(backend: TheBackend, caller: Caller) -> Response:
    """Return the caller's channels and, for an administrator, those for all. Addresses are masked."""
    return json_response([ChannelOut.of(channel) for channel in await backend.channels.list(by=caller)])


@router.post(
    "",
    status_code=201,
    responses=answers(ChannelOut, BODY_ERRORS | {409: "there are too many channels already"}, status=201),
    openapi_extra=body(ChannelBody),
    summary="Add a channel",
)
async def add_channel(request: Request, backend: TheBackend, caller: Caller) -> Response:
    draft = decoded(CHANNEL, await request.body()).draft()
    return json_response(ChannelOut.of(await backend.channels.add(draft, by=caller)), 201)


@router.put(
    "/{channel_id}",
    responses=answers(ChannelOut, NO_CHANNEL | BODY_ERRORS),
    openapi_extra=body(ChannelChangeBody),
    summary="Change a channel, or switch it off or on",
)
async def change_channel(request: Request, backend: TheBackend, caller: Caller, channel_id: str) -> Response:
    values = decoded(CHANGE, await request.body()).values()
    return json_response(ChannelOut.of(await backend.channels.change(channel_id, values, by=caller)))


@router.delete(
    "/{channel_id}", status_code=204, responses=nothing(NO_CHANNEL), summary="Remove a channel, and what waits on it"
)
async def remove_channel(backend: TheBackend, caller: Caller, channel_id: str) -> Response:
    await backend.channels.remove(channel_id, by=caller)
    return Response(status_code=204)


@router.post(
    "/test",
    responses=answers(TestOut, BODY_ERRORS | TEST_ERRORS),
    openapi_extra=body(ChannelBody),
    summary="Send a test to a channel before it is added",
)
async def send_test_of_draft(request: Request, backend: TheBackend, caller: Caller) -> Response:
    await backend.channels.test(decoded(CHANNEL, await request.body()).draft(), by=caller)
    return json_response(TESTED)


@router.post(
    "/{channel_id}/test", responses=answers(TestOut, NO_CHANNEL | TEST_ERRORS), summary="Send a test to a channel"
)
async def send_test(backend: TheBackend, caller: Caller, channel_id: str) -> Response:
    await backend.channels.test(channel_id, by=caller)
    return json_response(TESTED)
