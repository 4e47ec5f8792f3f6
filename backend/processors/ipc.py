"""What goes between the server and the process of one video: one JSON object a line, both ways checked by type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from backend.errors import Fault
from backend.processors import VideoFile

LONGEST_LINE = 4 * 1024 * 1024  # bytes; a result is far shorter


class Limits(msgspec.Struct, frozen=True):
    """What the process may use; enforced where the system can."""

    cpu_seconds: int
    memory_mib: int
    output_mib: int  # of one file that it writes


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One video's work; paths are bytes, because file names need not be text."""

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
    """The end of good work."""

    value: dict[str, Any]


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The end of work that failed, in a sentence for people."""

    sentence: str
    traceback: str
    fault: Fault


Message = Progress | Result | Failure
_MESSAGES: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_TASKS: msgspec.json.Decoder[Task] = msgspec.json.Decoder(Task)  # made once, before there are children to make it anew


def line(message: Message | Task) -> bytes:
    """The message as bytes that end with a newline."""
    return msgspec.json.encode(message) + b"\n"


def parse_message(raw: bytes) -> Message:
    """Raises `msgspec.DecodeError` for anything else."""
    return _MESSAGES.decode(raw)


def parse_task(raw: bytes) -> Task:
    """Raises `msgspec.DecodeError` for anything else."""
    return _TASKS.decode(raw)
