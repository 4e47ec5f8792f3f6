"""Bugs planted on purpose, which the tests of delivery have to catch.

`python -m tests.planted [name part] [--database postgresql]`.

Each one is a single change of the program's text in a copy of the repository. The random stories of
`tests.integration.test_never_wrong` run in the copy and have to fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT
from tests.support.databases import OPTION, chosen, chosen_kind

STORIES, SOUND_STORIES = 2_000, 50
STORIES_SECONDS = 1200
COMPLAINTS = ("AssertionError", "progress_dashboard.mirror.OutOfStep")
STORIES_MODULE = "tests.integration.test_never_wrong"
NOT_COPIED = shutil.ignore_patterns(".*", "data", "__pycache__", "*.png")


@dataclass(frozen=True)
class Planted:
    """A bug: the text `right` occurs exactly once in the file and becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str


JOURNAL, HUB = "backend/delivery/journal.py", "backend/delivery/hub.py"
HISTORY, SENDING = "backend/store/history.py", "backend/api/sending.py"
PLANTED = (
    Planted(
        "sent before commit",
        JOURNAL,
        "            await self._commit(tick, staged)\n",
        "            self._hub.take(lossless, percents)\n"
        "            self._hub.publish()\n"
        "            lossless, percents = [], []\n"
        "            await self._commit(tick, staged)\n",
    ),
    Planted(
        "snapshot before subscribe: what is published between the two is not sent",
        HUB,
        "        self._parts.clear()\n        self._published.set()\n",
        "        self._published.set()\n",
    ),
    Planted(
        "a removal dropped",
        HUB,
        "        removed = _newer(self._tombstones, cursor.removals)\n",
        "        removed: list[Removal] = []\n",
    ),
    Planted(
        "a status change conflated away",
        JOURNAL,
        "        self._staged.lossless.append(job)\n",
        "        new = [new.job for new in self._staged.new]\n"
        "        self._staged.lossless = [*(one for one in self._staged.lossless if one in new), job]\n",
    ),
    Planted(
        "older after newer: a percent staged before a status change is sent after it",
        JOURNAL,
        "        self._staged.percents.pop(job.id, None)\n        self._staged.lossless.append(job)\n",
        "        self._staged.lossless.append(job)\n",
    ),
    Planted("since exclusive", HISTORY, "seq >= ? AND at >= ?", "seq >= ? AND at > ?"),
    Planted(
        "a resume that repeats",
        HUB,
        "        cursor = CatchUpCursor(after, after) if after",
        "        cursor = CatchUpCursor(after - 1, after) if after",
    ),
    Planted(
        "a slow reader's queue that drops",
        SENDING,
        "        while self.transport.is_writable and (view := self.reader.take()) is not None:\n",
        "        while (view := self.reader.take()) is not None:\n",
    ),
)


def plant(bug: Planted, copy: Path) -> None:
    """Put the bug into the copy."""
    path = copy / bug.file
    text = path.read_text(encoding="utf-8")
    assert text.count(bug.right) == 1, f"{bug.name}: its place in {bug.file} has changed; plant it in the new text"
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")


def complaint(bug: Planted | None, stories: int) -> str:
    """Return the first complaint of the stories, "" if all of them end well. Raises if they do not run at all."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "copy"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        if bug is not None:
            plant(bug, copy)
        command = [sys.executable, "-m", STORIES_MODULE, str(stories), "--unexplained", OPTION, chosen_kind()]
        client = str(copy / "backend" / "client")  # must come before the installed client
        try:
            done = subprocess.run(
                command,
                cwd=copy,
                env={**os.environ, "PYTHONPATH": client},
                capture_output=True,
                text=True,
                check=False,
                timeout=STORIES_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"the stories did not end within {STORIES_SECONDS} s"
    if done.returncode == 0:
        return ""
    found = [line for line in done.stderr.splitlines() if line.startswith(COMPLAINTS)]
    assert found, f"the stories did not run:\n{done.stderr[-2000:]}"
    return found[0]


def main(part: str = "") -> int:
    """Plant the bugs whose names contain `part`, and print which are caught. Returns 1 if one is missed."""
    chosen = [bug for bug in PLANTED if part in bug.name]
    assert not complaint(None, SOUND_STORIES), "the program fails without any planted bug"
    missed = 0
    for bug in chosen:
        began = time.monotonic()
        found = complaint(bug, STORIES)
        missed += not found
        seconds = time.monotonic() - began
        print(f"{'caught' if found else 'MISSED'} in {seconds:3.0f} s: {bug.name}: {found}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs caught")
    return 1 if missed else 0


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        sys.exit(main(*words))
