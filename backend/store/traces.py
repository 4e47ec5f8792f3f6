"""Stack traces, each stored once: those of one cause differ in their errors only, which are taken out."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

ERROR_HERE = "\x1a"  # the control character "substitute"
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace as it is stored, and how many more results use it; they refer to its digest."""

    digest: bytes
    body: str
    uses: int = 1


def shared_trace(traceback: str | None, error: str | None) -> Trace | None:
    """Return what videos of the same cause have in common of this stack trace.

    >>> shared_trace("Failed: cut off at 3 %", "cut off at 3 %") == shared_trace("Failed: no sound", "no sound")
    True
    """
    if traceback is None:
        return None
    body = traceback.replace(ERROR_HERE, "\ufffd")
    if error:
        body = body.replace(error, ERROR_HERE)
    return Trace(blake2b(body.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest(), body)


def whole_trace(body: str | None, error: str | None) -> str | None:
    """Return the stack trace of a result with this error."""
    return None if body is None else body.replace(ERROR_HERE, error or "")
