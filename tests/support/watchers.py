"""A client of the progress socket that records every frame, in a thread of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.servers import Program

WAIT_SECONDS = 90
ENDS = ("completed", "completed_with_errors", "failed")


class Watcher:
    """Receives a user's jobs, in the default format or in batches, until it or the server closes the socket."""

    def __init__(self, program: Program, jwt: str, *, batch: bool = False, after: int | None = None) -> None:
        query = f"token={jwt}{'&format=batch' if batch else ''}{f'&after={after}' if after is not None else ''}"
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(f"ws://127.0.0.1:{program.port}/api/ws/progress?{query}", open_timeout=30)
        )
        self._changed = threading.Condition()
        self.frames: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._thread.join(WAIT_SECONDS)

    @property
    def updates(self) -> list[dict[str, Any]]:
        """Every update so far, in the order of arrival."""
        with self._changed:
            return [update for frame in self.frames for update in frame.get("updates", [frame])]

    @property
    def removed(self) -> set[str]:
        """The IDs of the jobs that were removed (batches only)."""
        with self._changed:
            return {job_id for frame in self.frames for job_id in frame.get("removed", [])}

    def until(self, holds: Callable[[Watcher], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        """Return when `holds(self)` after a frame; fail with `what` after this time, or when the socket ends."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(self) or self.close_code is not None, seconds):
                raise AssertionError(f"not received in {seconds} s: {what}; last: {self.frames[-1:]}")
        assert holds(self), f"the socket ended ({self.close_code}) before: {what}"

    def until_status(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Return the first update of this job in one of the statuses, when it has come."""

        def found() -> list[dict[str, Any]]:
            return [seen for seen in self.updates if seen["job_id"] == job_id and seen["status"] in statuses]

        self.until(lambda _: bool(found()), f"{job_id} {statuses}")
        return found()[0]

    def until_ended(self, job_id: str) -> dict[str, Any]:
        """Return the first update of this job in a final status, when it has come."""
        return self.until_status(job_id, *ENDS)

    def send(self, text: str) -> None:
        """Send a frame."""
        self._socket.send(text)

    def _receive(self) -> None:
        try:
            for text in self._socket:
                if text == "pong":
                    continue
                with self._changed:
                    self.frames.append(json.loads(text))
                    self._changed.notify_all()
        except ConnectionClosed:
            pass  # the code below says how
        with self._changed:
            self.close_code = self._socket.protocol.close_code or 1006
            self._changed.notify_all()
