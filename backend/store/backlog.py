"""The jobs that an older database has, and that a new table does not know yet: worked through before the server serves.

It goes job by job, in short transactions, and how far it got is stored with what was found: after Ctrl-C, or a kill at
any moment, the next start continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, inspect, text

from backend.store.transactions import Database
from backend.store.upkeep import Countdown, Interrupted, stop_requests


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to do; `table` exists until nothing is, and has the number of the last job that is done."""

    table: str

    def is_left(self, connection: Connection) -> bool:
        """Return True if some jobs are left."""
        return inspect(connection).has_table(self.table)

    def how_far(self, connection: Connection) -> tuple[int, int]:
        """Return the number of the last job that is done, and that of the last job."""
        done = connection.execute(text(f"SELECT number FROM {self.table}")).scalar_one()  # noqa: S608  our own name
        return done, connection.execute(text("SELECT coalesce(max(number), 0) FROM job")).scalar_one()

    def note(self, connection: Connection, done: int) -> None:
        """Store how far it got."""
        connection.execute(text(f"UPDATE {self.table} SET number = :number"), {"number": done})  # noqa: S608

    def fill(self, database: Database, fill_some: Callable[[Connection], int], what: str) -> None:
        """Do all that is left; `fill_some` does some jobs and returns how far it got, `what` is said in the log.

        Raises `Interrupted` after Ctrl-C or SIGTERM.
        """
        if not database.read_now(self.is_left):
            return
        done, last = database.read_now(self.how_far)
        countdown = Countdown(what, last - done)
        with stop_requests() as stopped:
            while done < last:
                if stopped.is_set():
                    raise Interrupted
                before, done = done, database.write_now(fill_some)
                countdown.add(done - before)
        database.write_now(lambda connection: connection.execute(text(f"DROP TABLE {self.table}")))
