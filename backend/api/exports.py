"""Lists as CSV, streamed page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Response
from fastapi.responses import StreamingResponse

from backend.lists.exports import csv_rows, csv_start, export_file_name
from backend.store.pages import Page

T = TypeVar("T")
ReadPage = Callable[[str | None], Coroutine[Any, Any, Page[T]]]


def csv_response(
    name: str, header: Sequence[str], first: Page[T], read: ReadPage[T], row: Callable[[T], Sequence[object]]
) -> Response:
    """Return a CSV of the page `first` and of those that `read` gives after it; `name` becomes the file's name."""
    headers = {"Content-Disposition": f'attachment; filename="{export_file_name(name)}"'}
    lines = _lines(header, first, read, row)
    return StreamingResponse(lines, media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(
    header: Sequence[str], page: Page[T], read: ReadPage[T], row: Callable[[T], Sequence[object]]
) -> AsyncIterator[bytes]:
    yield csv_start(header)
    yield csv_rows(map(row, page.items))
    while page.next_cursor is not None:
        page = await read(page.next_cursor)
        yield csv_rows(map(row, page.items))
