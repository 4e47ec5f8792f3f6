"""The command line that messages and examples show."""

from __future__ import annotations

import pytest

from backend.command import command


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("main.py", "python main.py"),
        ("/srv/dashboard/main.py", "python main.py"),
        ("/usr/local/bin/progress-dashboard", "progress-dashboard"),
        ("/srv/venv/Scripts/progress-dashboard.exe", "progress-dashboard"),
        ("/srv/venv/lib/python3.11/site-packages/ui/__main__.py", "python -m ui"),
        ("/srv/venv/lib/python3.11/site-packages/pytest/__main__.py", "python main.py"),
    ],
)
def test_a_message_shows_the_command_that_was_used(started: str, shown: str) -> None:
    assert command(argv=[started, "users"]) == shown
    assert command("users list", argv=[started, "users"]) == f"{shown} users list"
