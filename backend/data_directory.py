"""The data directory, as every start of the program and most commands need it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from backend.errors import CannotStart

if TYPE_CHECKING:
    from backend.settings import Settings


def prepare_data_directory(settings: Settings) -> None:
    """Make the data directory, for nobody else to read, and at the first start the default media directory.

    Raises `CannotStart`. Later a missing media directory is a fault, which an empty one in its place would hide.
    """
    try:
        is_new = not (settings.database_path if isinstance(settings.database, Path) else settings.data_dir).exists()
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.data_dir.chmod(0o700)  # a checkout brings its data directory along, readable for all
        if settings.media_dir is None and is_new:
            settings.media.mkdir(mode=0o700, exist_ok=True)
        probe = settings.data_dir / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        where = settings.data_dir.absolute()
        raise CannotStart(
            f"The data directory {where} cannot be used ({reason}); choose another with --data-dir."
        ) from None
