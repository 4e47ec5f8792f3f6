"""Lists as CSV, streamed part by part: a part is read and encoded by a thread of the store, beside the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import Response
from fastapi.responses import StreamingResponse

from backend.lists.exports import csv_start, export_file_name
from backend.store.pages import Part

ReadPart = Callable[[str | None], Coroutine[Any, Any, Part]]


async def csv_response(name: str, header: Sequence[str], read: ReadPart) -> Response:
    """Return a CSV of the parts that `read` gives after a cursor; `name` becomes the file's name."""
    headers = {"Content-Disposition": f'attachment; filename="{export_file_name(name)}"'}
    first = await read(None)  # if it cannot be read, the answer still says so
    return StreamingResponse(_parts(header, first, read), media_type="text/csv; charset=utf-8", headers=headers)


async def _parts(header: Sequence[str], part: Part, read: ReadPart) -> AsyncIterator[bytes]:
    yield csv_start(header) + part.content
    while part.next_cursor is not None:
        part = await read(part.next_cursor)
        yield part.content
