"""The only folder that speaks SQL: tables, migrations, and a module a subject."""

from backend.store.database import Database, open_database
from backend.store.jobs import SORTS, JobStore, NewJob, Page, Reset, Selected, Tick, VideoChange

__all__ = [
    "SORTS",
    "Database",
    "JobStore",
    "NewJob",
    "Page",
    "Reset",
    "Selected",
    "Tick",
    "VideoChange",
    "open_database",
]
