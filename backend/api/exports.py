"""Lists as CSV, streamed page by page, beside the event loop: while one is encoded and sent, the next one is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse

from backend.lists.exports import csv_start, export_file_name
from backend.store.pages import Page

T = TypeVar("T")
Encode = Callable[[Iterable[T]], bytes]
ReadPage = Callable[[str | None], Coroutine[Any, Any, Page[T]]]


async def csv_response(name: str, header: Sequence[str], read: ReadPage[T], encode: Encode[T]) -> Response:
    """Return a CSV of all pages, as `encode` writes their items; `name` becomes the file's name."""
    headers = {"Content-Disposition": f'attachment; filename="{export_file_name(name)}"'}
    first = await read(None)  # if it cannot be read, the answer still says so
    return StreamingResponse(_parts(header, first, read, encode), media_type="text/csv; charset=utf-8", headers=headers)


async def _parts(header: Sequence[str], page: Page[T], read: ReadPage[T], encode: Encode[T]) -> AsyncIterator[bytes]:
    yield csv_start(header)
    while page.next_cursor is not None:
        coming = asyncio.create_task(read(page.next_cursor))
        try:
            yield await asyncio.to_thread(encode, page.items)
            page = await coming
        finally:
            coming.cancel()  # if the client has gone
    yield await asyncio.to_thread(encode, page.items)
