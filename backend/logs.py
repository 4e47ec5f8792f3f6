"""Logging: one line per record, with `action=… job_id=…` after the message; no secrets, no forged lines.

A traceback follows its record on lines that begin with `  | `. No other line can begin like that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

from backend.clock import iso

HIDDEN = "[hidden]"
QUERY_PAIR = re.compile(r"(?<=[?&])(?P<name>[^=&\s]+)=(?:[^&\s\"]|\"(?!\s|$))+")  # whatever its value is made of
SECRET_NAMES = frozenset({"access_token", "token", "client_id", "sid", "password", "secret"})
SECRETS = (
    re.compile(
        r"(?P<kept>(?:(?<![a-z0-9_])|(?<=%3f)|(?<=%26))(?:access_token|token|client_id|sid|password|secret|dash_[0-9]+)(?:=|%3D|['\"]?\s*:\s*['\"]))[^&\s'\"<>;,]+",
        re.IGNORECASE,
    ),
    re.compile(
        r"(?P<kept>\bauthorization['\"]?\s*[:=,]\s*(?:b?['\"])?)(?:(?:bearer|basic)\s+)?[^\s'\",;]+", re.IGNORECASE
    ),
    re.compile(r"(?P<kept>\bbearer\s+)[^\s'\",;]+", re.IGNORECASE),
    re.compile(r"(?P<kept>)\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"),  # a JWT, anywhere in the text
    re.compile(r"(?P<kept>://)(?:[^\s/?#@:]*:\S*|[^\s/?#@:]+)(?=@)"),  # user and password in an address
)
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
NOT_EXTRAS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
TRACEBACK_MARK = "  | "
MAX_LINE_LENGTH = 8000  # characters


def without_secrets(text: str) -> str:
    """Return `text` with tokens, page IDs, passwords and cookies hidden.

    >>> without_secrets('GET /link?token=abc123 HTTP/1.1')
    'GET /link?token=[hidden] HTTP/1.1'
    """
    text = QUERY_PAIR.sub(_without_value, text)
    for pattern in SECRETS:
        text = pattern.sub(rf"\g<kept>{HIDDEN}", text)
    return text


def _without_value(pair: re.Match[str]) -> str:
    is_secret = unquote_plus(pair["name"]).lower() in SECRET_NAMES
    return f"{pair['name']}={HIDDEN}" if is_secret else pair[0]


def in_one_line(text: str) -> str:
    r"""Return `text` with its control characters escaped.

    >>> print(in_one_line("fine\nERROR forged \x1b[2J"))
    fine\nERROR forged \x1b[2J
    """
    return text.translate(CONTROLS).encode("utf-8", "backslashreplace").decode()


class WithoutSecrets(logging.Filter):
    """Hides secrets in the record itself, so that no handler sees them, not even one that other code has added."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_secrets(record.getMessage()), None
        return True


class LineFormatter(logging.Formatter):
    """Writes `2026-01-31T12:00:00.123Z INFO backend.jobs.manager: job cancelled action=job_cancelled job_id=…`."""

    def format(self, record: logging.LogRecord) -> str:
        when = iso(datetime.fromtimestamp(record.created, UTC))
        words = [f"{when} {record.levelname} {record.name}: {record.getMessage()}", *_extras(record.__dict__)]
        lines = [in_one_line(without_secrets(" ".join(words)))[:MAX_LINE_LENGTH]]
        if record.exc_info:
            trace = without_secrets(self.formatException(record.exc_info))
            lines += [TRACEBACK_MARK + in_one_line(line)[:MAX_LINE_LENGTH] for line in trace.split("\n")]
        return "\n".join(lines)


def configure_logs(level: str = "INFO") -> None:
    """Send all logs to stderr as lines. Call it once, and give uvicorn `log_config=None`."""
    import logging.config  # brings a server along that no command needs

    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "filters": {"without_secrets": {"()": WithoutSecrets}},
            "formatters": {"line": {"()": LineFormatter}},
            "handlers": {
                "stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["without_secrets"]}
            },
            "root": {"level": level, "handlers": ["stderr"]},
            "loggers": {
                # uvicorn logs the addresses of sockets, with their query, on uvicorn.error even without an access log
                "uvicorn.error": {"filters": ["without_secrets"]},
                "uvicorn.access": {"filters": ["without_secrets"]},
                "alembic": {"level": "WARNING"},
                "httpx": {"level": "WARNING"},
            },
        }
    )


def _extras(record: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_shown(value)}" for name, value in record.items() if name not in NOT_EXTRAS]


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or re.search(r"[\s='\"]", text) else text
