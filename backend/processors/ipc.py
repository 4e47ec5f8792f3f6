"""The messages between the server and the process of one video: one JSON object per line, with its types checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from backend.errors import Fault
from backend.processors import VideoFile

MAX_LINE_BYTES = 4 * 1024 * 1024  # a result is far shorter


class Limits(msgspec.Struct, frozen=True):
    """The limits of the process, enforced where the system can do it."""

    cpu_seconds: int
    memory_mib: int
    output_mib: int  # of each file that it writes


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The work on one video. Paths are bytes, because file names need not be text."""

    processor: str
    options: dict[str, Any]
    path: bytes
    root: bytes
    output: bytes
    limits: Limits

    @property
    def file(self) -> VideoFile:
        path, root, output = (
            Path(raw.decode("utf-8", "surrogateescape")) for raw in (self.path, self.root, self.output)
        )
        return VideoFile(path, root, output)


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """A step of the processor."""

    fraction: float
    doing: str


class Result(msgspec.Struct, frozen=True, tag="result"):
    """The end of the work, with its result."""

    value: dict[str, Any]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The end of work that failed, with a sentence for users. `is_changing` is True if the file is still changing."""

    sentence: str
    traceback: str
    fault: Fault
    is_changing: bool = False


Message = Progress | Result | Failure
# created once, before the fork, so that no child has to create them
_MESSAGE_DECODER: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_TASK_DECODER: msgspec.json.Decoder[Task] = msgspec.json.Decoder(Task)


def encode_line(message: Message | Task) -> bytes:
    """Return the message as bytes that end with a newline."""
    return msgspec.json.encode(message) + b"\n"


def parse_message(raw: bytes) -> Message:
    """Return the message in a line. Raises `msgspec.DecodeError` for anything else."""
    return _MESSAGE_DECODER.decode(raw)


def parse_task(raw: bytes) -> Task:
    """Return the task in a line. Raises `msgspec.DecodeError` for anything else."""
    return _TASK_DECODER.decode(raw)
