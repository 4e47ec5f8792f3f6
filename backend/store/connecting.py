"""What all connections to PostgreSQL have in common. A worker needs this, and none of SQLAlchemy."""

from __future__ import annotations

from types import MappingProxyType

NUL, NUL_SHOWN = "\x00", "\ufffd"  # no text of PostgreSQL has the first, so that it stores the second
CONNECTION = MappingProxyType(  # a host that vanished is noticed within 11 s
    {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
        "fallback_application_name": "progress-dashboard",
    }
)
SESSION = (  # the same for the other end, so that it releases the lead of a host that vanished
    "SET synchronous_commit = on; SET lock_timeout = '5s'; "
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 10000"
)
