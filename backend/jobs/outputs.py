"""What the work on videos leaves behind: a directory for each video, `<job>/<position>/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from backend.domain.video import Video


class Outputs:
    """The files that processors wrote, below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def directory(self, job_id: str, position: int) -> Path:
        """Return where the work on this video puts its files."""
        return self._root / job_id / str(position)

    def poster(self, video: Video) -> Path | None:
        """Return the picture of this video; None if its work left none."""
        name = str((video.result or {}).get("poster", ""))
        if (
            not name.endswith(".jpg") or Path(name).name != name
        ):  # a processor's word must not lead out of its directory
            return None
        return self.directory(video.job_id, video.position) / name

    def remove(self, job_id: str) -> None:
        """Remove all files of a job. Blocking: call it in a thread."""
        directory = self._root / job_id
        if directory.exists():
            shutil.rmtree(directory)
