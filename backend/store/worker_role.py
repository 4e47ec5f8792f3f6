"""The rights of workers in the database: to claim runs and to report on them. They see nothing of users and jobs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

NAME = "dashboard_worker"
RIGHTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alembic_version": ("SELECT",),
        "life": ("SELECT",),
        "run": ("SELECT", "UPDATE"),
        "worker": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "procrastinate_jobs": ("SELECT", "UPDATE", "DELETE"),
        "procrastinate_workers": ("SELECT", "INSERT", "UPDATE", "DELETE"),
        "procrastinate_events": ("SELECT", "INSERT"),
        "procrastinate_periodic_defers": ("SELECT", "UPDATE"),
    }
)
SEQUENCE = "procrastinate_events_id_seq"
SCRIPT = """\
-- The role of workers, without a password; psql's \\password sets one. It may be run again after an upgrade.
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} LOGIN; END IF;
END $$;
GRANT USAGE ON SCHEMA public TO {role};
{tables}
GRANT USAGE ON SEQUENCE {sequence} TO {role};
"""
_NEEDED = ", ".join(f"('{table}', '{right}')" for table, rights in RIGHTS.items() for right in rights)
MISSING = (
    f"SELECT lower(right_name) || ' on ' || table_name FROM (VALUES {_NEEDED}) AS needed (table_name, right_name) "  # noqa: S608  our own names
    "WHERE NOT has_table_privilege(table_name, right_name) "
    f"UNION ALL SELECT 'usage on {SEQUENCE}' WHERE NOT has_sequence_privilege('{SEQUENCE}', 'USAGE')"
)
"""The rights that the database's user lacks, a row each."""


def role_script(role: str = NAME) -> str:
    """Return the SQL that makes the role of workers and gives it its rights."""
    tables = (f"GRANT {', '.join(rights)} ON {table} TO {role};" for table, rights in RIGHTS.items())
    return SCRIPT.format(role=role, tables="\n".join(tables), sequence=SEQUENCE)
