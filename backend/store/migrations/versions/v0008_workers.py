"""Which machine worked on a video; on PostgreSQL also the workers and their runs, and the tables of Procrastinate.

An SQLite file has no workers, so that these tables are PostgreSQL's alone.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

TABLES = """
ALTER TABLE life ADD COLUMN database_id UUID NOT NULL DEFAULT gen_random_uuid();
ALTER TABLE life ADD COLUMN version TEXT COLLATE "C";

CREATE TABLE run (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job_id TEXT COLLATE "C" NOT NULL, position INTEGER NOT NULL,
    attempt INTEGER NOT NULL, try INTEGER NOT NULL, processor TEXT COLLATE "C" NOT NULL, spec JSON NOT NULL,
    state TEXT COLLATE "C" NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'running', 'ended', 'stopped')),
    wanted BOOLEAN NOT NULL DEFAULT true, taken INTEGER NOT NULL DEFAULT 0, worker TEXT COLLATE "C",
    losses INTEGER NOT NULL DEFAULT 0, changes INTEGER NOT NULL DEFAULT 0, fraction REAL NOT NULL DEFAULT 0,
    doing TEXT COLLATE "C" NOT NULL DEFAULT '', outcome JSON, made_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (job_id, position, attempt, try)
) WITH (fillfactor = 50);

CREATE TABLE worker (
    name TEXT COLLATE "C" PRIMARY KEY, node TEXT COLLATE "C" NOT NULL, process INTEGER NOT NULL,
    slots INTEGER NOT NULL, cap INTEGER, may_run INTEGER NOT NULL DEFAULT 0, draining BOOLEAN NOT NULL DEFAULT false,
    version TEXT COLLATE "C" NOT NULL, revision TEXT COLLATE "C" NOT NULL, processors JSON NOT NULL,
    engine_id BIGINT, beats BIGINT NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0,
    seen_at TIMESTAMPTZ NOT NULL, since TIMESTAMPTZ NOT NULL, resting TEXT COLLATE "C"
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    machine: sa.types.TypeEngine[Any] = sa.String()
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        machine = sa.String(collation="C")
        driver: Any = connection.connection.dbapi_connection
        driver.execute(TABLES)
        driver.execute(files("procrastinate").joinpath("sql", "schema.sql").read_text(encoding="utf-8"))
    op.add_column("result", sa.Column("machine", machine))
