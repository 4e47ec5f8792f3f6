"""What was written is copied from SQLite's log into the file beside the writer."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from backend.store.sqlite import CHECKPOINT_BYTES, Checkpoints

pytestmark = pytest.mark.sqlite_only


def test_the_file_has_what_was_written_while_the_writer_goes_on(tmp_path: Path) -> None:
    path, copy = tmp_path / "file.sqlite3", tmp_path / "copy.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("CREATE TABLE number (value, rest)")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO number VALUES (1, zeroblob(?))", (CHECKPOINT_BYTES,))
        writer.execute("COMMIT")
        writer.execute("BEGIN IMMEDIATE")
        checkpoints = Checkpoints(path, every_seconds=0)
        checkpoints.make_soon()
        checkpoints.close()
        writer.execute("ROLLBACK")
        shutil.copy(path, copy)  # without the log
    with closing(sqlite3.connect(copy)) as copied:
        assert copied.execute("SELECT value FROM number").fetchall() == [(1,)]


def test_a_file_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "gone.sqlite3", every_seconds=0)
    checkpoints.make_soon()
    checkpoints.close()
    assert list(tmp_path.iterdir()) == []
