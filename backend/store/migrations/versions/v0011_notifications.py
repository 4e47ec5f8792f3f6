"""What users are told: notifications, channels, deliveries, wishes and settings; runs of a list on the dashboard."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    _create_notifications()
    _create_channels()
    op.create_table(
        "notification_wish",
        *(sa.Column(name, _text(), nullable=False) for name in ("job_id", "user_id")),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "user_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_notification_wish_user_id", "notification_wish", ["user_id"])
    op.create_table(
        "notification_settings",
        sa.Column("user_id", _text(), primary_key=True),
        sa.Column("events", sa.JSON()),
        *(sa.Column(name, sa.Integer()) for name in ("quiet_from", "quiet_to")),
        sa.Column("zone", _text()),
        *(sa.Column(name, sa.BigInteger()) for name in ("last_seen_at", "away_since")),
        sqlite_with_rowid=False,
    )
    op.drop_index("ix_job_present", "job")
    where: dict[str, Any] = {"sqlite_where": sa.text("on_dashboard = 1"), "postgresql_where": sa.text("on_dashboard")}
    op.create_index("ix_job_present", "job", ["owner_id", "name_key"], **where)


def _create_notifications() -> None:
    op.create_table(
        "notification",
        sa.Column("event_id", _text(), primary_key=True),
        sa.Column("user_id", _text(), nullable=False),
        sa.Column("job_id", _text()),
        sa.Column("event", _text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("seq", "at")),
        *(sa.Column(name, _long_text()) for name in ("job", "title", "text", "details")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("for_all", "composed", "in_bell")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("wished", "muted")),
        sa.Column("read_at", sa.BigInteger()),
    )
    _create_index("bell", ["user_id", "at", "event_id"], "in_bell = 1", "in_bell")
    _create_index("unread", ["user_id"], "in_bell = 1 AND read_at IS NULL", "in_bell AND read_at IS NULL")
    _create_index("raw", ["seq"], "composed = 0", "NOT composed")
    op.create_index("ix_notification_job", "notification", ["job_id"])
    op.create_index("ix_notification_at", "notification", ["at"])


def _create_channels() -> None:
    op.create_table(
        "channel",
        sa.Column("id", _text(), primary_key=True),
        sa.Column("owner_id", _text()),
        sa.Column("kind", _text(), nullable=False),
        *(sa.Column(name, _long_text(), nullable=False) for name in ("name", "url")),
        sa.Column("secret", _long_text()),
        *(sa.Column(name, sa.JSON()) for name in ("events", "only")),
        *(sa.Column(name, sa.Boolean(), nullable=False) for name in ("tells_details", "enabled")),
        sa.Column("daily_cap", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_sent_at", sa.BigInteger()),
        sa.Column("last_error", _long_text()),
        sa.Column("refused_in_a_row", sa.Integer(), nullable=False),
        sa.Column("disabled_because", _long_text()),
    )
    op.create_index("ix_channel_owner_id", "channel", ["owner_id"])
    op.create_table(
        "delivery",
        *(sa.Column(name, _text(), nullable=False) for name in ("event_id", "channel_id")),
        sa.Column("job_id", _text()),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("state", _text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger()),
        sa.Column("error", _long_text()),
        sa.Column("group_id", _text()),
        sa.PrimaryKeyConstraint("event_id", "channel_id"),
        sqlite_with_rowid=False,
    )
    for name, columns, condition in (
        ("line", ["channel_id", "seq"], "state = 'waiting'"),
        ("sent", ["channel_id", "sent_at"], "sent_at IS NOT NULL"),
        ("group", ["group_id"], "group_id IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(f"ix_delivery_{name}", "delivery", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("ix_delivery_job", "delivery", ["job_id", "channel_id", "seq"])


def _create_index(name: str, columns: list[str], sqlite: str, postgresql: str) -> None:
    where: dict[str, Any] = {"sqlite_where": sa.text(sqlite), "postgresql_where": sa.text(postgresql)}
    op.create_index(f"ix_notification_{name}", "notification", columns, **where)


def _text() -> sa.types.TypeEngine[str]:
    """Return a text that compares by code points on each database."""
    return sa.String().with_variant(sa.Text(collation="C"), "postgresql")


def _long_text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
