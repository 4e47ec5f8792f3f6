"""How a request is read and an answer is written."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from backend.errors import Invalid, Unreadable

T = TypeVar("T")
MAX_SHOWN_LENGTH = 200  # characters of what does not fit


def json_response(answer: Any, status: int = 200) -> Response:
    """Return the answer as JSON."""
    return Response(msgspec.json.encode(answer), status, media_type="application/json")


def media_type(request: Request) -> str:
    """Return the declared type of the body, in lower case and without parameters; "" without one.

    >>> media_type(Request({"type": "http", "headers": [(b"content-type", b"Text/CSV; charset=utf-8")]}))
    'text/csv'
    """
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def upload_form(request: Request) -> FormData:
    """Read a multipart form with one file, to be closed by the caller. Raises `Unreadable`."""
    try:
        return await request.form(max_files=1, max_fields=10)
    except HTTPException as error:
        raise Unreadable(f"The upload cannot be read ({error.detail}); send it again.") from None
    except UnicodeError:  # what a charset of the sender's choice makes of the names
        raise Unreadable("The upload holds characters that are no text; send it as UTF-8.") from None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body. Raises `Unreadable` if it is not JSON, and `Invalid` if it is not what belongs there."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(f"The request does not fit: {str(error)[:MAX_SHOWN_LENGTH]}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("The body is not valid JSON; check it and send it again.") from None
