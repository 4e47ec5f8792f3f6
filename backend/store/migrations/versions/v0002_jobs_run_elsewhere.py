"""The newest counter in the reports of an external job; -1: nothing was reported."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("job", sa.Column("reported", sa.BigInteger(), nullable=False, server_default="-1"))
