"""The rights of workers in the database: to claim runs and to report on them. They see nothing of users and jobs."""

from __future__ import annotations

NAME = "dashboard_worker"
GRANTS = (
    "GRANT USAGE ON SCHEMA public TO {role};",
    "GRANT SELECT ON alembic_version, life TO {role};",
    "GRANT SELECT, UPDATE ON run TO {role};",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON worker TO {role};",
    "GRANT SELECT, UPDATE, DELETE ON procrastinate_jobs TO {role};",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_workers TO {role};",
    "GRANT SELECT, INSERT ON procrastinate_events TO {role};",
    "GRANT SELECT, UPDATE ON procrastinate_periodic_defers TO {role};",
    "GRANT USAGE ON SEQUENCE procrastinate_events_id_seq TO {role};",
)
SCRIPT = """\
-- The role of workers, without a password; psql's \\password sets one. It may be run again after an upgrade.
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} LOGIN; END IF;
END $$;
{grants}
"""


def role_script(role: str = NAME) -> str:
    """Return the SQL that makes the role of workers and gives it its rights."""
    return SCRIPT.format(role=role, grants="\n".join(GRANTS).format(role=role))
