"""The upload of a list: dropped, chosen or pasted. All three arrive as a file, over HTTP, not over the socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import BinaryIO

from nicegui.elements.upload import Upload
from nicegui.events import UploadEventArguments

from backend.domain.texts import uploaded_name
from backend.errors import DashboardError, TooLarge
from backend.lists.csv_files import MAX_BYTES, MAX_ROWS
from ui.components.shared import BROWSER_JS

LIMITS = (
    f"Up to {MAX_ROWS:,} rows and {MAX_BYTES // 2**20} MiB · comma, semicolon, tab or vertical bar · "
    "with or without a header"
)
TOO_LARGE = f"The file is larger than {MAX_BYTES // 2**20} MiB: split it into several files."


class ListUpload(Upload, component="list_upload.vue", dependencies=[BROWSER_JS]):
    """`on_list` gets the name and the content of the file. Shows a `DashboardError` that it raises as a sentence."""

    def __init__(self, on_list: Callable[[str, BinaryIO], Awaitable[None]]) -> None:
        super().__init__(on_upload=self._take)
        self._on_list = on_list
        self._props["limits"] = LIMITS
        self._props["max-bytes"] = MAX_BYTES
        self._props["too-large"] = TOO_LARGE
        self._props["answered"] = 0
        self._props["news"] = ""

    def forget_problem(self) -> None:
        """Take the sentence about a refused list off the page."""
        self._props["problem"] = ""

    def say(self, sentence: str) -> None:
        """Announce a sentence to assistive technology, unless it is the same as the last one."""
        self._props["news"] = sentence

    async def _take(self, event: UploadEventArguments) -> None:
        problem = DashboardError().sentence
        try:
            if event.file.size() > MAX_BYTES:
                raise TooLarge(TOO_LARGE)
            await self._on_list(uploaded_name(event.file.name), BytesIO(await event.file.read()))
            problem = ""
        except DashboardError as error:
            problem = error.sentence
        finally:
            self._props["problem"] = problem
            self._props["answered"] += 1
