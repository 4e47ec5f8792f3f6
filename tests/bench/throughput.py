"""What the program costs on top of the video work itself: `python -m tests.bench.throughput [repeats]`.

The same files, processor and options twice in one run: through the real program over HTTP with as many slots as there
are CPUs, and in a plain loop, which is as many processes, FFmpeg loaded, that each call `inspect` on their share of the
files. Both leave posters and return the same facts, which is checked. The two take turns, and which one begins changes;
figures are medians of the repeats. The program's time runs from sending the list to hearing on the progress socket that
its job has ended. On a machine that does other work at the same time, the CPU times say more than the wall times: they
add up the server, the fork server, and the videos' own processes from fork to burial.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from backend.processors import VideoFile
from backend.processors.clips import Clip, write_clip
from backend.processors.inspection import inspect
from tests.bench.measure import cpu_seconds, load
from tests.support.processes import buried_cpu_seconds, fork_server
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


@dataclass(frozen=True)
class Run:
    """One pass over all clips: wall time, CPU seconds by kind of process, facts by video ID."""

    seconds: float
    cpu: Mapping[str, float]
    facts: Mapping[str, Facts]


def loop(files: list[VideoFile]) -> tuple[float, dict[str, Facts]]:
    """One process's share: (CPU seconds, facts by video ID)."""
    began = time.process_time()
    facts = {file.path.stem: inspected(file) for file in files}
    return time.process_time() - began, facts


class PlainLoop:
    """As many processes as the program has slots, with nothing round the work."""

    def __init__(self, processes: int, media: Path, outputs: Path) -> None:
        self._processes = processes
        self._media = media
        self._outputs = outputs
        self._pool = multiprocessing.get_context("spawn").Pool(processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def run(self, ids: list[str]) -> Run:
        """Each process over its share of the videos."""
        files = [VideoFile(self._media / f"{name}.mp4", self._media, self._outputs / name) for name in ids]
        shares = [files[number :: self._processes] for number in range(self._processes)]
        began = time.perf_counter()
        answers = self._pool.map(loop, shares, chunksize=1)
        seconds = time.perf_counter() - began
        facts = {video_id: found for _, share in answers for video_id, found in share.items()}
        return Run(seconds, {"plain loop": sum(cpu for cpu, _ in answers)}, facts)


class ThroughProgram:
    """The program, and the hands of its user."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._jwt = token(program.data_dir, "admin")
        self._client = api(program, self._jwt)

    def run(self, ids: list[str]) -> Run:
        """A job of these videos, each of which must go well."""
        before = self._cpu()
        with Watcher(self._program, self._jwt) as watcher:
            began = time.perf_counter()
            job = self._client.post("/api/jobs", json={"video_ids": ids}).json()
            end = watcher.until_ended(job["job_id"])
            seconds = time.perf_counter() - began
        assert end["status"] == "completed", end
        cpu = {name: used - before[name] for name, used in self._cpu().items()}
        videos = self._client.get(f"/api/jobs/{job['job_id']}/videos", params={"limit": len(ids)}).json()["items"]
        return Run(seconds, cpu, {video["video_id"]: video["result"] for video in videos})

    def _cpu(self) -> Mapping[str, float]:
        server = self._program.pid
        starter = fork_server(server)
        return {
            "server": cpu_seconds(server),
            "fork server": cpu_seconds(starter),
            "the videos' processes": buried_cpu_seconds(starter),
        }


@dataclass(frozen=True)
class Taken:
    """The passes of both, a repeat each."""

    program: list[Run]
    loop: list[Run]

    @property
    def speed(self) -> float:
        """The program's throughput, the plain loop's being 1."""
        return median(alone.seconds / through.seconds for alone, through in zip(self.loop, self.program, strict=True))

    @property
    def overhead(self) -> float:
        """Seconds that the program adds."""
        return median(through.seconds - alone.seconds for alone, through in zip(self.loop, self.program, strict=True))


def measure(program: ThroughProgram, plain: PlainLoop, ids: list[str], repeats: int) -> Taken:
    """Both in turn, as often as said, after one round that does not count."""
    once(program, plain, ids, program_first=True)
    rounds = [once(program, plain, ids, program_first=number % 2 == 0) for number in range(repeats)]
    return Taken([through for through, _ in rounds], [alone for _, alone in rounds])


def once(program: ThroughProgram, plain: PlainLoop, ids: list[str], *, program_first: bool) -> tuple[Run, Run]:
    """One round; raises `AssertionError` when the two do not say the same about every video."""
    if program_first:
        through, alone = program.run(ids), plain.run(ids)
    else:
        alone, through = plain.run(ids), program.run(ids)
    assert through.facts == alone.facts, "the program and the plain loop differ"
    assert through.facts.keys() == set(ids)
    return through, alone


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
    program, plain = typical(taken.program), typical(taken.loop)
    print(f"{count} clips that take {plain * slots / count:.2f} s each in the plain loop")
    print(
        f"  program {program:6.2f} s   plain loop {plain:6.2f} s   throughput {taken.speed:.3f} x   aim >= {SLOW_AIM}"
    )
    report_rounds(taken, count)


def report_quick(taken: Taken, count: int, slots: int) -> None:
    program, plain, overhead = (
        1000 * seconds / count for seconds in (typical(taken.program), typical(taken.loop), taken.overhead)
    )
    print(f"{count} clips that take {plain * slots:.1f} ms each in the plain loop; milliseconds of wall time a video")
    print(
        f"  program {program:6.2f}     plain loop {plain:6.2f}     overhead {overhead:.2f}     aim <= {QUICK_AIM_MS:g}"
    )
    print(f"  a slot's time a video: program {program * slots:.2f}, plain loop {plain * slots:.2f}")
    report_rounds(taken, count)


def report_rounds(taken: Taken, count: int) -> None:
    """What lies behind the medians."""
    spent = (
        f"{kind} {1000 * median(run.cpu[kind] for run in runs) / count:.2f}"
        for runs in (taken.program, taken.loop)
        for kind in runs[0].cpu
    )
    print(f"  CPU milliseconds a video: {', '.join(spent)}")
    rounds = (
        f"{through.seconds:.2f}/{alone.seconds:.2f}" for through, alone in zip(taken.program, taken.loop, strict=True)
    )
    print(f"  rounds, program/plain loop, seconds: {'  '.join(rounds)}", flush=True)


def typical(runs: Sequence[Run]) -> float:
    """The median of their seconds."""
    return median(run.seconds for run in runs)


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
        plain = open_.enter_context(PlainLoop(slots, media, home / "outputs"))
        server = open_.enter_context(running(home / "data", media_dir=media, max_running_videos=slots))
        program = ThroughProgram(server)
        report_quick(measure(program, plain, quick, repeats), len(quick), slots)
        report_slow(measure(program, plain, slow, repeats), len(slow), slots)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS)
