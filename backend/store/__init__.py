"""The only package that speaks SQL: tables, migrations, a module a subject, and `Store` in front of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.store.changes import Tick
    from backend.store.database import Database


class Store:
    """All that is stored about jobs: reads by subject, and one way to write."""

    def __init__(self, database: Database) -> None:
        from backend.store.cause_memory import CauseMemoryStore
        from backend.store.channels import ChannelStore
        from backend.store.composing import ComposingStore
        from backend.store.deliveries import DeliveryStore  # commands use other modules here, without SQLAlchemy
        from backend.store.forecasts import ForecastStore
        from backend.store.history import HistoryStore
        from backend.store.jobs import JobStore
        from backend.store.notifications import NotificationStore
        from backend.store.statistics import StatisticsStore
        from backend.store.videos import VideoStore

        self._database = database
        self.jobs = JobStore(database)
        self.videos = VideoStore(database)
        self.history = HistoryStore(database)
        self.forecasts = ForecastStore(database)
        self.channels = ChannelStore(database)
        self.deliveries = DeliveryStore(database)
        self.statistics = StatisticsStore(database)
        self.cause_memory = CauseMemoryStore(database)
        self.notifications = NotificationStore(database)
        self.composing = ComposingStore(database)

    async def commit(self, tick: Tick) -> None:
        """Write the whole tick or nothing. Raises `StoreRefused` if the database refuses it now."""
        from backend.store.commit import commit

        await self._database.commit(lambda connection: commit(connection, tick), seq=tick.last_seq)

    async def check(self) -> None:
        """Ask if the database is there. Raises `StoreRefused` if not, `LeadLost` if another server leads on it."""
        await self._database.check()
