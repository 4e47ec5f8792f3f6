"""What a program needs to follow a server's progress socket; of the server it knows only the words of a job."""

from backend.client.mirror import Mirror, OutOfStep

__all__ = ["Mirror", "OutOfStep"]
