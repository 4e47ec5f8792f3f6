"""Bugs planted on purpose, each of which the tests of delivery have to catch: `python -m tests.planted [name part]`.

Each is one change of the program's text in a copy of the repository; the random stories of
`tests.integration.test_never_wrong` are run there and have to fail.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

STORIES = 2_000
STORIES_MODULE = "tests.integration.test_never_wrong"


@dataclass(frozen=True)
class Planted:
    """`right` stands exactly once in the file and becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str


HUB, STORE, DELIVERY = "backend/hub.py", "backend/store/jobs.py", "backend/api/delivery.py"
PLANTED = (
    Planted(
        "sent before commit",
        HUB,
        "            await self._store_surely(self._transaction(staged, batch))\n",
        "            transaction = self._transaction(staged, batch)\n"
        "            self._publish(batch)\n"
        "            await self._store_surely(transaction)\n",
    ),
    Planted(
        "snapshot before subscribe: what is published between the two is not told",
        HUB,
        "        self._parts.clear()\n        self._published.set()\n",
        "        self._published.set()\n",
    ),
    Planted(
        "a removal dropped",
        HUB,
        "        gone = _newer(self._gone, behind.removals)\n",
        "        gone: list[Removal] = []\n",
    ),
    Planted(
        "a status change conflated away",
        HUB,
        "            self._staged.kept.append(job)\n",
        "            self._staged.kept = [*(one for one in self._staged.kept if one.owner_id != job.owner_id), job]\n",
    ),
    Planted(
        "older after newer: a percent staged before a status change is sent behind it",
        HUB,
        "        if kept:\n            self._staged.percents.pop(job.id, None)\n",
        "        if kept:\n",
    ),
    Planted("since exclusive", STORE, "AND at >= ?", "AND at > ?"),
    Planted(
        "a resume that repeats",
        HUB,
        "takewhile(lambda entry: entry.seq > position,",
        "takewhile(lambda entry: entry.seq >= position,",
    ),
    Planted(
        "a slow reader's queue that drops",
        DELIVERY,
        "        while self.outlet.is_writable and (view := self.reader.take()) is not None:\n",
        "        while (view := self.reader.take()) is not None:\n",
    ),
)


def plant(bug: Planted, copy: Path) -> None:
    """Put the bug into the copy."""
    path = copy / bug.file
    text = path.read_text(encoding="utf-8")
    assert text.count(bug.right) == 1, f"{bug.name}: its place in {bug.file} has changed; plant it anew"
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")


def caught(bug: Planted) -> str:
    """The assertion that fails with the bug; empty when none does."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "data", "__pycache__", "*.png"))
        plant(bug, copy)
        command = [sys.executable, "-m", STORIES_MODULE, str(STORIES), "--unexplained"]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    complaints = [
        line.strip() for line in done.stderr.splitlines() if line.strip().startswith(("Assertion", "backend."))
    ]
    return (complaints[-1] if complaints else "an error") if done.returncode else ""


def main(part: str = "") -> int:
    chosen = [bug for bug in PLANTED if part in bug.name]
    missed = 0
    for bug in chosen:
        began = time.monotonic()
        complaint = caught(bug)
        missed += not complaint
        print(
            f"{'caught' if complaint else 'MISSED'} in {time.monotonic() - began:3.0f} s: {bug.name}: {complaint}",
            flush=True,
        )
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
