"""Times as users and programs write them."""

from __future__ import annotations

from datetime import UTC, datetime

from backend.errors import Invalid


def parse_moment(text: str, name: str) -> datetime:
    """Parse a time: ISO 8601 (UTC where it names no zone), or seconds or milliseconds since 1970.

    Raises `Invalid` with the `name` of what was given.

    >>> parse_moment("2026-01-31T12:00:00Z", "since") == parse_moment("1769860800", "since")
    True
    """
    try:
        if text.replace(".", "", 1).lstrip("-").isdecimal():
            number = float(text)
            return datetime.fromtimestamp(number / 1000 if abs(number) >= 1e11 else number, UTC)
        moment = datetime.fromisoformat(_with_plus(text))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid(f"{name} must be a time such as 2026-01-31T12:00:00Z, or seconds since 1970.") from None


def _with_plus(text: str) -> str:
    # In a query an unescaped "+" arrives as a blank: "…T12:00:00 01:00" meant "+01:00".
    return text.replace(" ", "+") if "T" in text else text
