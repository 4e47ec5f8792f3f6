"""What a program needs to follow a server's progress socket; of the server it knows only the words of a job."""

from backend.client.connection import ReadyState
from backend.client.feed import ProgressFeed
from backend.client.mirror import Mirror, OutOfStep
from backend.client.reconnection import FeedStopped
from backend.jobs import ProgressUpdate

__all__ = ["FeedStopped", "Mirror", "OutOfStep", "ProgressFeed", "ProgressUpdate", "ReadyState"]
