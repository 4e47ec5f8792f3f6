"""Upgrades of the database file: what they lead to, and what is kept of an older one."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import String, inspect

from backend.clock import to_millis
from backend.errors import CannotStart
from backend.store import Store
from backend.store.database import Database, open_database
from backend.store.revisions import MIGRATIONS
from backend.store.tables import METADATA
from backend.store.upkeep import finish_upgrade
from progress_dashboard.protocol import Status
from tests.support.clock import NOON
from tests.support.jobs import ERA, a_job

NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{newest}"


def upgrade():
    op.add_column("job", sa.Column("colour", sa.String()))
"""
RENAMED_IN_0005 = {
    "job": {"epoch": "lease_id", "kept": "pinned", "left_out": "skipped_rows", "trouble": "pause_reason"},
    "milestone": {"trouble": "pause_reason", "heard_at": "previous_at"},
}
USER_OF_0004 = {"id": "ana", "name": "ana", "is_admin": False, "disabled": False, "created_at": to_millis(ERA)}
JOB_OF_0004 = {
    "id": "job-1",
    "owner_id": "ana",
    "name": "nightly.csv",
    "processor": "probe",
    "options": "{}",
    "source": "media",
    "columns": '["video_id"]',
    "total_videos": 500,
    "found": 490,
    "left_out": 3,
    "status": "paused",
    "attempt": 2,
    "epoch": 7,
    "current_video": 214,
    "failed": 1,
    "progress": 42,
    "message": "Paused by itself: The disk is full.",
    "error": "cut off",
    "created_at": to_millis(ERA),
    "updated_at": to_millis(NOON),
    "on_dashboard": True,
    "kept": True,
    "priority": 5,
    "trouble": "The disk is full.",
    "reported": -1,
    "seq": 12,
}
MILESTONE_OF_0004 = {
    "job_id": "job-1",
    "seq": 12,
    "at": to_millis(NOON),
    "status": "paused",
    "attempt": 2,
    "current_video": 214,
    "trouble": "The disk is full.",
    "message": "Paused by itself: The disk is full.",
    "heard_at": to_millis(ERA),
}
SEARCH_INDEX = {"job_words", *(f"job_words_{part}" for part in ("data", "idx", "content", "config"))}
PAST = {f"past_{name}" for name in ("updated_at", "seq")}  # and what has them
PAST |= {f"ix_job_past_{name}" for name in ("updated", "owner_updated", "seq")}
ENGINE = {f"procrastinate_{name}" for name in ("events", "jobs", "periodic_defers", "workers")}
BESIDE_THE_MODELS = {
    "sqlite": SEARCH_INDEX,
    "postgresql": {"life", "ix_job_past_terms", "run", "worker", *ENGINE, *PAST},
}
TABLES_OF_0004 = (("user", USER_OF_0004), ("job", JOB_OF_0004), ("milestone", MILESTONE_OF_0004))


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def columns(path: Path, table: str = "job") -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}


def rows(path: Path, table: str) -> list[dict[str, object]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def newest_revision() -> str | None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head()


def migrations_before(name: str, directory: Path) -> Path:
    """Copy the migrations in front of the one of this name."""
    older = shutil.copytree(MIGRATIONS, directory / f"before-{name}", ignore=shutil.ignore_patterns("__pycache__"))
    for migration in (older / "versions").glob("v*.py"):
        if migration.name > name:
            migration.unlink()
    return older


def make_database_of_0004(path: Path, directory: Path) -> None:
    """Create a database as the version before migration 0005 left it, with a user, a job and a milestone."""
    open_database(path, backups=directory / "backups", migrations=migrations_before("v0005", directory)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for table, row in TABLES_OF_0004:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def test_a_new_database_has_exactly_the_tables_of_the_models(database: Database) -> None:
    present = set(database.read_now(lambda connection: inspect(connection).get_table_names()))
    assert present - {"alembic_version"} - BESIDE_THE_MODELS[database.dialect] == set(METADATA.tables)


def _is_another_type(context: object, _: object, __: object, found: Any, wanted: Any) -> bool | None:
    """Return False for texts by code points, whatever they are called; None: compare as always."""
    both_are_texts = isinstance(found, String) and isinstance(getattr(wanted, "impl_instance", wanted), String)
    return False if both_are_texts and found.collation == "C" else None


def _table_of(item: Any) -> str:
    """Return the name of the table that a table, column or index belongs to."""
    return str(getattr(item, "table", item).name)


def test_the_migrations_lead_to_the_models(database: Database) -> None:
    beside = BESIDE_THE_MODELS[database.dialect]
    ours = {
        "include_object": lambda item, name, *_: not {name, _table_of(item)} & beside,
        "compare_type": _is_another_type,
    }
    changes = database.read_now(
        lambda connection: compare_metadata(MigrationContext.configure(connection, opts=ours), METADATA)
    )
    assert changes == []


@pytest.mark.sqlite_only
def test_an_older_database_is_copied_and_then_upgraded(tmp_path: Path) -> None:
    path, backups, newest = tmp_path / "dashboard.sqlite3", tmp_path / "backups", newest_revision()
    open_database(path, backups=backups).close()
    newer = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (newer / "versions" / "v9999_colour.py").write_text(NEXT_MIGRATION.format(newest=newest))
    open_database(path, backups=backups, migrations=newer).close()
    copy = backups / f"before-upgrade-from-{newest}.sqlite3"
    assert columns(path) - columns(copy) == {"colour"}


@pytest.mark.sqlite_only
def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    open_database(path, backups=tmp_path / "backups").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CannotStart, match="newer version"):
        open_database(path, backups=tmp_path / "backups")


@pytest.mark.sqlite_only
def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(CannotStart, match="cannot be opened"):
        open_database(path, backups=tmp_path / "backups")


@pytest.mark.sqlite_only
def test_0005_renames_columns_and_keeps_every_value(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    make_database_of_0004(path, tmp_path)
    before = {table: (columns(path, table), rows(path, table)) for table in RENAMED_IN_0005}
    open_database(path, backups=tmp_path / "backups", migrations=migrations_before("v0006", tmp_path)).close()
    for table, renamed in RENAMED_IN_0005.items():
        old_columns, old_rows = before[table]
        assert columns(path, table) == {renamed.get(column, column) for column in old_columns}
        assert rows(path, table) == [{renamed.get(name, name): row[name] for name in row} for row in old_rows]
    copy = tmp_path / "backups" / "before-upgrade-from-0004.sqlite3"
    assert {table: (columns(copy, table), rows(copy, table)) for table in RENAMED_IN_0005} == before


@pytest.mark.sqlite_only
def test_0006_folds_the_names_and_errors_of_older_jobs(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    make_database_of_0004(path, tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE job SET name = 'U\u0308BUNG 2', error = 'Größe'")
        for attempt, error in ((1, "Größe"), (2, "size"), (3, None)):
            columns = "job_id, position, attempt, error, started_at, duration_seconds"
            connection.execute(f"INSERT INTO result ({columns}) VALUES ('job-1', 0, ?, ?, 0, 1)", (attempt, error))
    open_database(path, backups=tmp_path / "backups").close()
    finish_upgrade(path)
    [job] = rows(path, "job")
    assert (job["name_folded"], job["error_folded"]) == ("übung 2", "grösse")
    assert str(job["name_key"]).startswith("ubung 000000000002")
    assert [row["error_folded"] for row in rows(path, "result")] == ["grösse", None, None]


@pytest.mark.sqlite_only
async def test_a_job_of_0004_is_read_after_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "dashboard.sqlite3"
    make_database_of_0004(path, tmp_path)
    database = open_database(path, backups=tmp_path / "backups")
    store = Store(database)
    job = await store.jobs.find("job-1", owner_id="ana")
    milestones = (await store.history.timeline("job-1")).milestones
    database.close()
    assert job == a_job(
        id="job-1",
        name="nightly.csv",
        total_videos=500,
        found=490,
        skipped_rows=3,
        status=Status.PAUSED,
        attempt=2,
        lease_id=7,
        current_video=214,
        failed=1,
        progress=42,
        message="Paused by itself: The disk is full.",
        error="cut off",
        updated_at=NOON,
        pinned=True,
        priority=5,
        pause_reason="The disk is full.",
        seq=12,
    )
    assert [(one.pause_reason, one.previous_at) for one in milestones] == [("The disk is full.", ERA)]
