"""The only folder that speaks SQL: tables, migrations, and a module a subject."""

from backend.store.database import Database, open_database
from backend.store.jobs import SORTS, Event, JobStore, NewJob, Page, Tick, VideoChange

__all__ = ["SORTS", "Database", "Event", "JobStore", "NewJob", "Page", "Tick", "VideoChange", "open_database"]
