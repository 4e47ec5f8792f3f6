"""Log lines: their format, and the secrets that they hide."""

from __future__ import annotations

import logging
import sys

import pytest

from backend.logs import LineFormatter, WithoutSecrets, without_secrets

SECRET = "s3cr3t-Value_9"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def line(message: str, *args: object, **extra: object) -> str:
    record = logging.getLogger("backend.test").makeRecord(
        "backend.test", logging.INFO, "file", 1, message, args, None, extra=extra
    )
    return LineFormatter().format(record)


@pytest.mark.parametrize(
    "text",
    [
        f'192.0.2.1 - "GET /link?token={SECRET} HTTP/1.1" 303',
        f'("192.0.2.1", 5) - "WebSocket /_nicegui_ws/socket.io/?client_id={SECRET}&EIO=4" [accepted]',
        f"/api/ws/progress?after=1&token={SECRET}&format=batch",
        f"/login?next=/link%3Ftoken%3D{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"(b'authorization', b'Bearer {SECRET}')",
        f"authorization=Basic {SECRET}",
        f"cookie: a=1; dash_8000={SECRET}; b=2",
        f"__Host-dash_8000={SECRET}",
        f'{{"password": "{SECRET}"}}',
        f"password={SECRET}&username=ana",
        f"polling?sid={SECRET}",
        f'("192.0.2.1", 5) - "WebSocket /api/ws/progress?token=\'x,;<{SECRET}" [accepted]',
        f'"WebSocket /api/ws/progress?after=1&%74oken="{SECRET}" 403',
        f"/api/ws/progress?TOKEN=Bearer+{SECRET}",
        f"https://ana:pass/{SECRET}@ops.example/",
        f"socks5://{SECRET}@proxy.example:1080",
        f"postgresql://ana:p@ss:{SECRET}@db/dash",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    assert SECRET not in without_secrets(text)


def test_a_jwt_is_hidden_anywhere() -> None:
    assert JWT not in line("bad token %s", JWT)
    assert JWT not in line("bad", detail=JWT)


def test_other_text_is_unchanged() -> None:
    for text in (
        'GET /api/jobs?q=token&limit=5 HTTP/1.1" 200 job_id=7 inside=1',
        "http://localhost:8000/jobs/7 from ana@example.org",
    ):
        assert without_secrets(text) == text


def test_extras_follow_the_message_as_keys_and_values() -> None:
    assert line("job cancelled", action="job_cancelled", job_id="7", user="two words").endswith(
        " INFO backend.test: job cancelled action=job_cancelled job_id=7 user='two words'"
    )


@pytest.mark.parametrize("forged", ["\n", "\r", "\x1b[2K\x1b[1A", "\x00", "\x85", "\u2028", "\x9b2J", "\ud800"])
def test_a_forged_line_is_escaped(forged: str) -> None:
    for shown in (line(f"x{forged}ERROR forged"), line("x", user=f"x{forged}ERROR forged")):
        assert forged not in shown
        assert len(shown.splitlines()) == 1
        shown.encode()


def test_a_line_has_a_maximum_length() -> None:
    assert len(line("x" * 1_000_000)) <= 8000


def test_a_traceback_is_marked_and_hides_secrets() -> None:
    try:
        raise ValueError(f"first\n2026-01-31T12:00:00.123Z ERROR forged\ntoken={SECRET}\x1b")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    first, *trace = LineFormatter().format(record).splitlines()
    assert trace
    assert all(row.startswith("  | ") for row in trace)
    assert SECRET not in "".join([first, *trace])
    assert "\x1b" not in "".join(trace)


def test_the_filter_hides_secrets_from_all_handlers() -> None:
    record = logging.makeLogRecord({"msg": '%s - "WebSocket %s" [accepted]', "args": ("1.2.3.4", f"/x?token={SECRET}")})
    WithoutSecrets().filter(record)
    assert record.getMessage() == '1.2.3.4 - "WebSocket /x?token=[hidden]" [accepted]'
