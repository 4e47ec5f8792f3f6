"""What probing costs, beside another checkout: `python -m tests.bench.probe [--root OTHER_CHECKOUT] [--repeats N]`.

Each repeat probes the demo's sound clips once in a new process of each checkout, in alternating order, and takes that
process's CPU seconds without its start. The figures are the least of the repeats, which other load disturbs least.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from backend.media.demo import CLIPS, CUT_OFF, DAMAGED
from backend.processors.clips import Clip, write_clip
from tests import ROOT

REPEATS = 7
AIM = 1.1
CHILD = """
import sys, time
from pathlib import Path
from backend.processors import VideoFile, load
probe = load("probe")
options = probe.options()
files = [VideoFile(path, path.parent, Path(sys.argv[2])) for path in sorted(Path(sys.argv[1]).iterdir())]
def run(file):
    for _ in probe.run(file, options):
        pass
run(files[0])
began = time.process_time()
for file in files:
    run(file)
print(time.process_time() - began)
"""


def write_sound_clips(directory: Path) -> int:
    """Write the demo's clips without the damaged ones, and return how many."""
    sound = [clip for clip in CLIPS if clip[0] not in (CUT_OFF, DAMAGED)]
    for number, (name, extension, seconds, width, height, fps, codec, audio) in enumerate(sound):
        write_clip(directory / f"{name}.{extension}", Clip(seconds, (width, height), fps, codec, audio, number * 16))
    return len(sound)


def cpu_seconds(root: Path, clips: Path, output: Path) -> float:
    """Return the CPU seconds that the checkout at `root` needs for probing the clips."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(root / "backend" / "client")))}
    command = [sys.executable, "-c", CHILD, str(clips), str(output)]
    run = subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True)
    return float(run.stdout)


def main() -> None:
    """Print the least CPU seconds of each checkout, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="another checkout of this repository, to compare with")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    roots = [ROOT, *([given.root.resolve()] if given.root else [])]
    seconds: dict[Path, list[float]] = {root: [] for root in roots}
    with tempfile.TemporaryDirectory() as clips, tempfile.TemporaryDirectory() as output:
        count = write_sound_clips(Path(clips))
        for repeat in range(given.repeats):
            for root in roots if repeat % 2 else roots[::-1]:
                seconds[root].append(cpu_seconds(root, Path(clips), Path(output)))
    here = min(seconds[ROOT])
    print(f"{count} clips, {given.repeats} repeats: {here:.3f} CPU s, {here / count * 1000:.1f} ms a clip")
    if given.root:
        there = min(seconds[roots[1]])
        print(f"the other checkout: {there:.3f} CPU s; ratio {here / there:.3f} (aim: at most {AIM})")


if __name__ == "__main__":
    main()
