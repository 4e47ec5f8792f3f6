"""The error tree: each error is one plain sentence with the HTTP status of its answer.

The sentence is the docstring of the class, unless a more exact one is given. `backend.api` renders `DashboardError` in
one place; the command line prints the same sentence.
"""

from __future__ import annotations

from enum import StrEnum


def reason(message: str) -> str:
    """Return a validator's message for use inside a sentence. Names in capitals keep their case.

    >>> reason("Value error, must be short"), reason("Input should be a number."), reason("HOST must be set")
    ('must be short', 'input should be a number', 'HOST must be set')
    """
    words = message.removeprefix("Value error, ").rstrip(".")
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


class DashboardError(Exception):
    """Something went wrong; try again."""

    status = 500

    def __init__(self, sentence: str | None = None) -> None:
        super().__init__(sentence or " ".join((self.__doc__ or "").split()))

    @property
    def sentence(self) -> str:
        return str(self)


class Unreadable(DashboardError):
    """The request cannot be read; check how it is made and send it again."""

    status = 400


class NotSignedIn(DashboardError):
    """You are not signed in, or your session or token has ended; sign in again."""

    status = 401


class WrongPassword(NotSignedIn):
    """The user name or the password is wrong."""


class NotAllowed(DashboardError):
    """Your account may not do this; ask an administrator."""

    status = 403


class NotFound(DashboardError):
    """There is nothing here."""

    status = 404


class JobNotFound(NotFound):
    """There is no such job; it may have been removed."""


class UserNotFound(NotFound):
    """There is no such user."""


class Conflict(DashboardError):
    """That cannot be done in the present state."""

    status = 409


class TooLarge(DashboardError):
    """That is larger than the limit."""

    status = 413


class WrongType(DashboardError):
    """That is not a CSV file; upload a text file with one video ID a row."""

    status = 415


class Invalid(DashboardError):
    """That value is not valid."""

    status = 422


class InvalidVideoId(Invalid):
    """Not a video ID: use 1 to 128 letters, digits, dots, underscores and hyphens, not starting with a dot."""


class TooManyAttempts(DashboardError):
    """Too many attempts; wait a little and try again."""

    status = 429

    def __init__(self, sentence: str | None = None, *, retry_after: float = 1.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class Unavailable(DashboardError):
    """The server cannot do that right now; try again in a moment."""

    status = 503


class StoreRefused(Unavailable):
    """The data cannot be written right now (the disk may be full); try again in a moment."""

    def with_advice(self, advice: str) -> StoreRefused:
        """Return an error with the same reason and other advice."""
        return StoreRefused(f"{self.sentence.partition(';')[0]}; {advice}")


class LeadLost(Unavailable):
    """This server has stopped, because another one leads on its database."""


class Fault(StrEnum):
    """The origin of a video's failure. It decides whether another try may help."""

    PERMANENT = "permanent"  # the file or the request; another try fails too
    TRANSIENT = "transient"  # another try may succeed
    MACHINE = "machine"  # transient, and every other video would fail for it too

    @property
    def is_transient(self) -> bool:
        return self is not Fault.PERMANENT


class VideoFailed(DashboardError):
    """The video could not be processed."""

    status = 422

    def __init__(self, sentence: str | None = None, *, traceback: str = "", fault: Fault = Fault.PERMANENT) -> None:
        super().__init__(sentence)
        self.traceback = traceback
        self.fault = fault


class CannotStart(DashboardError):
    """The program cannot start."""


class IllegalMove(DashboardError):
    """The job is not in a state that allows this."""

    status = 409
