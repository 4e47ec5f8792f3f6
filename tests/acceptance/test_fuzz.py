"""Real films whose bytes are flipped, cut, joined, swapped: each ends with facts or with a sentence for people.

In the gate a few files run; `python -m tests.acceptance.test_fuzz [files]` runs 2,000 and prints figures.
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.errors import VideoFailed
from backend.processors import VideoFile
from backend.processors.child import ChildRunner
from tests.support.clips import make_clip

pytestmark = pytest.mark.acceptance

FILES, FILES_IN_THE_GATE = 2000, 20
TIMEOUT_SECONDS, MEMORY_MIB = 20, 1024
AT_ONCE = 2
CLIPS = {
    "a.mp4": "libx264",
    "b.mp4": "mpeg4",
    "a.mkv": "libx264",
    "a.webm": "libvpx",
    "b.webm": "libvpx-vp9",
    "a.avi": "mpeg4",
    "b.avi": "mjpeg",
    "a.flv": "libx264",
    "a.mpegts": "libx264",
    "b.mpegts": "mpeg2video",
    "a.mpeg": "mpeg2video",
    "a.ogg": "libvpx",
}
BUGS = ("broke on this video", "Traceback", "answered with something", "ended without a result")


@dataclass
class Outcome:
    """How the files ended: sentences with their numbers taken out, and those that reveal a bug of the program."""

    completed: int = 0
    crashed: int = 0
    sentences: Counter[str] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0

    def add(self, name: str, sentence: str | None, trace: str, seconds: float) -> None:
        """Count the end of one file. No sentence: it completed."""
        self.longest_seconds = max(self.longest_seconds, seconds)
        if sentence is None:
            self.completed += 1
            return
        self.sentences[re.sub(r"\d[\d,.:]*", "…", sentence)] += 1
        self.crashed += sentence.startswith("The decoder crashed")
        if any(word in sentence for word in BUGS) or not sentence.isprintable() or len(sentence) < 10:
            self.bugs.append(f"{name}: {sentence}\n{trace[-1500:]}")


def mutated(rng: random.Random, films: list[bytes]) -> bytes:
    """Return a film with one to three mutations."""
    content = bytearray(rng.choice(films))
    for _ in range(rng.randint(1, 3)):
        rng.choice((_flip, _cut, _join, _swap, _fill, _remove))(rng, content, films)
    return bytes(content)


def _flip(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    """Change up to 200 bytes, also only in the head."""
    end = len(content) if rng.random() < 0.7 else min(len(content), 2000)
    for _ in range(rng.choice((1, 5, 50, 200)) if end else 0):
        content[rng.randrange(end)] = rng.randrange(256)


def _cut(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    del content[rng.randrange(len(content) + 1) :]


def _join(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    other = rng.choice(films)
    content += other[rng.choice((0, rng.randrange(len(other)))) :]


def _swap(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    size = rng.choice((188, 1024, 8192))
    if len(content) > 2 * size:
        a, b = rng.randrange(len(content) - size), rng.randrange(len(content) - size)
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


def _fill(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    size = int(len(content) * rng.choice((0.01, 0.1, 0.5)))
    begin = rng.randrange(len(content) - size + 1)
    content[begin : begin + size] = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)


def _remove(rng: random.Random, content: bytearray, films: list[bytes]) -> None:
    begin = rng.randrange(len(content) + 1)
    del content[begin : begin + int(len(content) * rng.choice((0.001, 0.05, 0.3)))]


def films_in(home: Path) -> list[bytes]:
    """Return small real films of many formats."""
    return [
        make_clip(home / name, seconds=1.2, size=(96, 64), codec=codec).read_bytes() for name, codec in CLIPS.items()
    ]


async def run(home: Path, files: int, seed: int = 15) -> Outcome:
    """Process this number of mutated films, each in its own process as in the real program."""
    outcome, numbers, rng = Outcome(), iter(range(files)), random.Random(seed)
    films = films_in(home)
    runner = ChildRunner(timeout_seconds=TIMEOUT_SECONDS, memory_mib=MEMORY_MIB, clock=SystemClock())
    await runner.start()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(_work(home, runner, numbers, rng, films, outcome))
    finally:
        await runner.stop()
    return outcome


async def _work(
    home: Path, runner: ChildRunner, numbers: Any, rng: random.Random, films: list[bytes], to: Outcome
) -> None:
    for number in numbers:
        path, output = home / f"{number}.mp4", home / f"{number}.out"
        path.write_bytes(mutated(rng, films))
        began, sentence, trace = time.monotonic(), None, ""
        try:
            await runner.run("probe", VideoFile(path, home, output), {}, on_step=lambda _: None)
        except VideoFailed as failure:
            sentence, trace = failure.sentence, failure.traceback
        to.add(path.name, sentence, trace, time.monotonic() - began)
        path.unlink()


async def test_every_mutated_film_ends_with_facts_or_a_sentence(tmp_path: Path) -> None:
    outcome = await run(tmp_path, FILES_IN_THE_GATE)
    assert outcome.bugs == []
    assert outcome.completed + outcome.sentences.total() == FILES_IN_THE_GATE
    assert len(outcome.sentences) >= 3  # the mutations do damage


def main(files: int = FILES) -> None:
    """Print how many files ended in which way; exit with 1 if one reveals a bug of the program."""
    with tempfile.TemporaryDirectory() as home:
        outcome = asyncio.run(run(Path(home), files))
    for sentence, count in outcome.sentences.most_common():
        print(f"{count:6} {sentence}")
    print(f"{files} files: {outcome.completed} completed, {outcome.sentences.total()} failed with a sentence, of which")
    print(f"{outcome.crashed} crashed the decoder; the longest took {outcome.longest_seconds:.1f} s")
    for bug in outcome.bugs:
        print(f"BUG {bug}")
    print(f"bugs of the program: {len(outcome.bugs)}")
    sys.exit(bool(outcome.bugs))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
