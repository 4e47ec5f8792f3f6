"""What the program costs on top of the video work itself: `python -m tests.bench.throughput [repeats]`.

The same files, processor and options twice in one run: through the real program over HTTP with as many slots as there
are CPUs, and in a plain loop, which is as many processes, FFmpeg loaded, that each call `inspect` on their share of the
files. Both leave posters and return the same facts, which is checked. The two take turns, and which one begins changes;
figures are medians of the repeats. The program's time runs from sending the list to hearing on the progress socket that
its job has ended.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

from backend.processors import VideoFile
from backend.processors.clips import Clip, write_clip
from backend.processors.inspection import inspect
from tests.bench.measure import cpu_seconds, load
from tests.support.processes import fork_server
from tests.support.servers import Program, api, running, token
from tests.support.watchers import Watcher

REPEATS = 5
SLOW_CLIPS, SLOW_SECONDS, SLOW_AIM = 12, 1.0, 0.9
QUICK_CLIPS, QUICK_AIM_MS = 500, 15.0
QUICK = Clip(seconds=1.0, size=(160, 120), fps=15)
FIRST_GUESS = Clip(seconds=10.0, size=(1920, 1080), fps=30)
MARGIN = 1.4  # over `SLOW_SECONDS`, because the machine may be slower at that moment than later
Facts = dict[str, Any]


def inspected(file: VideoFile) -> Facts:
    """The facts of a video, by the calls that the processor `probe` makes."""
    file.output.mkdir(parents=True, exist_ok=True)
    steps = inspect(file, None)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            facts: Facts = end.value
            return facts


def loop(files: list[VideoFile]) -> dict[str, Facts]:
    """One process's share."""
    return {file.path.stem: inspected(file) for file in files}


class PlainLoop:
    """As many processes as the program has slots, with nothing round the work."""

    def __init__(self, processes: int, outputs: Path) -> None:
        self._processes = processes
        self._outputs = outputs
        self._pool = multiprocessing.get_context("spawn").Pool(processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def run(self, media: Path, ids: list[str]) -> tuple[float, dict[str, Facts]]:
        """(Seconds, facts by video ID)."""
        files = [VideoFile(media / f"{video_id}.mp4", media, self._outputs / video_id) for video_id in ids]
        shares = [files[number :: self._processes] for number in range(self._processes)]
        began = time.perf_counter()
        answers = self._pool.map(loop, shares, chunksize=1)
        took = time.perf_counter() - began
        return took, {video_id: facts for answer in answers for video_id, facts in answer.items()}


class ThroughProgram:
    """The program, and the hands of its user."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._jwt = token(program.data_dir, "admin")
        self._client = api(program, self._jwt)

    def run(self, ids: list[str]) -> tuple[float, dict[str, Facts]]:
        """(Seconds, facts by video ID); every video must have gone well."""
        with Watcher(self._program, self._jwt) as watcher:
            began = time.perf_counter()
            job = self._client.post("/api/jobs", json={"video_ids": ids}).json()
            end = watcher.until_ended(job["job_id"])
            took = time.perf_counter() - began
        assert end["status"] == "completed", end
        videos = self._client.get(f"/api/jobs/{job['job_id']}/videos", params={"limit": len(ids)}).json()["items"]
        return took, {video["video_id"]: video["result"] for video in videos}

    def cpu(self) -> Mapping[str, float]:
        """CPU seconds so far of the processes that are there for all videos."""
        server = self._program.pid
        return {"server": cpu_seconds(server), "fork server": cpu_seconds(fork_server(server))}


@dataclass
class Taken:
    """Seconds for all clips, a repeat each; CPU seconds beside the videos' own processes."""

    program: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """The program's throughput, the plain loop's being 1."""
        return median(alone / through for alone, through in zip(self.loop, self.program, strict=True))

    @property
    def overhead(self) -> float:
        """Seconds that the program adds."""
        return median(through - alone for alone, through in zip(self.loop, self.program, strict=True))


def measure(program: ThroughProgram, plain: PlainLoop, media: Path, ids: list[str], repeats: int) -> Taken:
    """Both in turn, as often as said, after one round that does not count."""
    taken = Taken()
    once(program, plain, media, ids, Taken(), program_first=True)
    for number in range(repeats):
        once(program, plain, media, ids, taken, program_first=number % 2 == 0)
    return taken


def once(
    program: ThroughProgram, plain: PlainLoop, media: Path, ids: list[str], taken: Taken, *, program_first: bool
) -> None:
    """One round; raises `AssertionError` when the two do not say the same about every video."""
    found: list[dict[str, Facts]] = []

    def through() -> None:
        before = program.cpu()
        seconds, facts = program.run(ids)
        taken.program.append(seconds)
        for name, used in program.cpu().items():
            taken.cpu.setdefault(name, []).append(used - before[name])
        found.append(facts)

    def alone() -> None:
        seconds, facts = plain.run(media, ids)
        taken.loop.append(seconds)
        found.append(facts)

    order: tuple[Callable[[], None], ...] = (through, alone) if program_first else (alone, through)
    for turn in order:
        turn()
    assert found[0] == found[1], "the program and the plain loop differ"
    assert found[0].keys() == set(ids)


def slow_clip(path: Path, seconds: float = SLOW_SECONDS) -> float:
    """Write a clip that takes at least so many seconds of decoding on this machine; how many it took just now."""
    clip, outputs = FIRST_GUESS, path.with_name(f"{path.stem}-outputs")
    while True:
        write_clip(path, clip)
        began = time.perf_counter()
        inspected(VideoFile(path, path.parent, outputs))
        if (took := time.perf_counter() - began) >= MARGIN * seconds:
            return took
        longer = clip.seconds * (MARGIN + 0.1) * seconds / took
        clip = Clip(seconds=round(longer + 0.5), size=clip.size, fps=clip.fps)


def copies(clip: Path, media: Path, count: int) -> list[str]:
    """So many videos with that content in the media directory; their IDs."""
    media.mkdir(exist_ok=True)
    ids = [f"{clip.stem}-{number:03}" for number in range(count)]
    for video_id in ids:
        os.link(clip, media / f"{video_id}.mp4")
    return ids


def report_slow(taken: Taken, count: int, slots: int) -> None:
    program, plain = median(taken.program), median(taken.loop)
    print(f"{count} clips that take {plain * slots / count:.2f} s each in the plain loop")
    print(
        f"  program {program:6.2f} s   plain loop {plain:6.2f} s   throughput {taken.speed:.3f} x   aim >= {SLOW_AIM}"
    )
    report_rounds(taken)


def report_quick(taken: Taken, count: int, slots: int) -> None:
    program, plain, overhead = (
        1000 * seconds / count for seconds in (median(taken.program), median(taken.loop), taken.overhead)
    )
    print(f"{count} clips that take {plain * slots:.1f} ms each in the plain loop; milliseconds of wall time a video")
    print(
        f"  program {program:6.2f}     plain loop {plain:6.2f}     overhead {overhead:.2f}     aim <= {QUICK_AIM_MS:g}"
    )
    print(f"  a slot's time a video: program {program * slots:.2f}, plain loop {plain * slots:.2f}")
    spent = ", ".join(f"{name} {1000 * median(used) / count:.2f}" for name, used in taken.cpu.items())
    print(f"  CPU milliseconds a video beside its own process: {spent}")
    report_rounds(taken)


def report_rounds(taken: Taken) -> None:
    rounds = (f"{through:.2f}/{alone:.2f}" for through, alone in zip(taken.program, taken.loop, strict=True))
    print(f"  rounds, program/plain loop, seconds: {'  '.join(rounds)}", flush=True)


def main(repeats: int) -> None:
    slots = os.cpu_count() or 1
    print(f"{slots} slots, {repeats} repeats in turn; {load()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as open_:
        home = Path(temporary)
        media = home / "media"
        slow_clip(home / "slow.mp4")
        write_clip(home / "quick.mp4", QUICK)
        slow = copies(home / "slow.mp4", media, max(SLOW_CLIPS, 3 * slots) // slots * slots)
        quick = copies(home / "quick.mp4", media, QUICK_CLIPS)
        plain = open_.enter_context(PlainLoop(slots, home / "outputs"))
        server = open_.enter_context(running(home / "data", media_dir=media, max_running_videos=slots))
        program = ThroughProgram(server)
        report_quick(measure(program, plain, media, quick, repeats), len(quick), slots)
        report_slow(measure(program, plain, media, slow, repeats), len(slow), slots)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS)
