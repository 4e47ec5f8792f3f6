"""A prepared data directory that each round of a story copies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.clock import SystemClock
from tests.support.accounts import PASSWORD, open_account_store
from tests.support.clips import make_clip, truncated
from tests.support.databases import copy_database


@dataclass(frozen=True)
class Home:
    """A data directory with accounts, and a few clips beside it."""

    path: Path
    # Token of each user, by name.
    tokens: dict[str, str]

    @classmethod
    async def prepare(cls, path: Path, *, clips: Sequence[str], clip_seconds: float, users: Sequence[str]) -> Home:
        """Make the clips, the last one cut off, and the accounts of the administrator and these users."""
        made = [make_clip(path / "media" / f"{name}.mp4", seconds=clip_seconds) for name in clips]
        truncated(made[-1])
        (path / "data").mkdir()
        with open_account_store(path / "data", SystemClock()) as opened:
            known = [await opened.accounts.ensure_admin()]
            known += [await opened.accounts.add_user(name, PASSWORD) for name in users]
            tokens = {user.name: await opened.accounts.issue_token(user, lifetime_seconds=86_400) for user in known}
        return cls(path, tokens)

    def copy(self, path: Path) -> Home:
        """Copy it to another directory."""
        shutil.copytree(self.path, path)
        copy_database(self.path / "data", path / "data")
        return Home(path, self.tokens)
