"""How a request's body is read: its type, and the form or the JSON in it."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from fastapi import Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from backend.errors import Invalid, Unreadable

T = TypeVar("T")
SHOWN = 200  # characters of what does not fit


def media_type(request: Request) -> str:
    """What the body claims to be, in lower case and without parameters; empty when it does not say.

    >>> media_type(Request({"type": "http", "headers": [(b"content-type", b"Text/CSV; charset=utf-8")]}))
    'text/csv'
    """
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def upload_form(request: Request) -> FormData:
    """A multipart form with one file, to be closed by the caller. Raises `Unreadable`."""
    try:
        return await request.form(max_files=1, max_fields=10)
    except HTTPException as error:
        raise Unreadable(f"The upload cannot be read ({error.detail}); send it again.") from None
    except UnicodeError:  # what a charset of the sender's choice makes of the names
        raise Unreadable("The upload holds characters that are no text; send it as UTF-8.") from None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The JSON in a body. Raises `Unreadable` when it is none, and `Invalid` when it is not what belongs there."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid(f"The request does not fit: {str(error)[:SHOWN]}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable("The body is not valid JSON; check it and send it again.") from None
