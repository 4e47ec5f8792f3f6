"""The errors of a feed: one plain sentence each, with what to do."""

from __future__ import annotations


class FeedError(Exception):
    """Base class of what a feed raises."""

    @property
    def sentence(self) -> str:
        """The message, fit to be shown to a person."""
        return str(self)


class InvalidArgument(FeedError, ValueError):
    """An address, a token or a message that cannot be used."""


class FeedStopped(FeedError):
    """The feed has stopped, because the token was refused or too many attempts failed."""

    def __init__(self, sentence: str, *, code: int | None = None) -> None:
        super().__init__(sentence)
        # WebSocket close code of the last connection, 1008 for a refused token; None without a connection.
        self.code = code
