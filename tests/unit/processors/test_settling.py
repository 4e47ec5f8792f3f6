"""Whether a video's file stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import Fault
from backend.processors.settling import QUIET_SECONDS, FileChanged, FileState, check_settled

WRITTEN_AT = 1_000_000.0


class Waits:
    """A clock that a wait moves. Before the `turn`-th wait ends, something happens to the file."""

    def __init__(self, age: float, turn: int = 0, happens: Callable[[], object] = lambda: None) -> None:
        self.at = WRITTEN_AT + age
        self._turn = turn
        self._happens = happens
        self.waited = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.waited += seconds
        self._turn -= 1
        if self._turn == 0:
            self._happens()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "abc.mp4"
    path.write_bytes(b"half")
    os.utime(path, (WRITTEN_AT, WRITTEN_AT))
    return path


def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")
    os.utime(path, (WRITTEN_AT, WRITTEN_AT))  # the drive's times are coarse


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(b"good")
    os.utime(other, (WRITTEN_AT, WRITTEN_AT))
    os.replace(other, path)


def touch(path: Path) -> None:
    os.utime(path, (WRITTEN_AT + 1, WRITTEN_AT + 1))


CHANGES = pytest.mark.parametrize(
    "change", [append, replace, touch], ids=["it grows", "it is replaced", "it is written"]
)


@CHANGES
def test_a_file_that_changed_while_it_was_read_is_reported(file: Path, change: Callable[[Path], None]) -> None:
    before, waits = FileState.of(file), Waits(age=1000)
    change(file)
    with pytest.raises(FileChanged, match="changed while it was read") as raised:
        check_settled(file, before, now=waits.now, sleep=waits.sleep)
    assert raised.value.fault is Fault.TRANSIENT


@CHANGES
def test_a_file_that_was_written_to_just_now_is_watched(file: Path, change: Callable[[Path], None]) -> None:
    """Between two writes of a copy, nothing changes for a moment."""
    waits = Waits(age=0.2, turn=8, happens=lambda: change(file))
    with pytest.raises(FileChanged):
        check_settled(file, FileState.of(file), now=waits.now, sleep=waits.sleep)
    assert waits.waited == pytest.approx(0.8)


@pytest.mark.parametrize(("age", "seconds"), [(0.0, QUIET_SECONDS), (1.5, 0.5), (2.5, 0.0), (-3600.0, QUIET_SECONDS)])
def test_only_a_new_file_is_waited_for_and_not_for_long(file: Path, age: float, seconds: float) -> None:
    """The clock of a network drive may be ahead by an hour."""
    waits = Waits(age)
    check_settled(file, FileState.of(file), now=waits.now, sleep=waits.sleep)
    assert waits.waited == pytest.approx(seconds)


def test_a_file_that_has_gone_has_not_changed(file: Path) -> None:
    before, waits = FileState.of(file), Waits(age=0.0)
    file.unlink()
    check_settled(file, before, now=waits.now, sleep=waits.sleep)
    assert (waits.waited, FileState.of(file)) == (0.0, None)
