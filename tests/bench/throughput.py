"""The program's cost in addition to the video work itself: `python -m tests.bench.throughput [repeats]`.

The same files, processor and options are processed twice in one run: by the real program over HTTP with as many slots
as CPUs, and by a plain loop, which is as many processes, with FFmpeg loaded, that each call `inspect` for their share
of the files. Both write posters and return the same facts, which is checked. The two run in turn, in alternating order;
figures are medians of the repeats. The program's time is from the request with the list to the update on the progress
socket that its job has finished. On a machine with other load, the CPU times are more reliable than the wall times:
they add up the server, the fork server, and the videos' own processes from fork to exit.
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
from tests.support.processes import fork_server, reaped_cpu_seconds
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
    """Return the facts of a video, by the same calls as the processor `probe`."""
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
    """Inspect the share of one process; return (CPU seconds, facts by video ID)."""
    began = time.process_time()
    facts = {file.path.stem: inspected(file) for file in files}
    return time.process_time() - began, facts


class PlainLoop:
    """As many processes as the program has slots, which do only the video work."""

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
        """Process these videos, a share in each process."""
        files = [VideoFile(self._media / f"{name}.mp4", self._media, self._outputs / name) for name in ids]
        shares = [files[number :: self._processes] for number in range(self._processes)]
        began = time.perf_counter()
        results = self._pool.map(loop, shares, chunksize=1)
        seconds = time.perf_counter() - began
        facts = {video_id: found for _, share in results for video_id, found in share.items()}
        return Run(seconds, {"plain loop": sum(cpu for cpu, _ in results)}, facts)


class ThroughProgram:
    """The real program with a client."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._jwt = token(program.data_dir, "admin")
        self._client = api(program, self._jwt)

    def run(self, ids: list[str]) -> Run:
        """Run a job over these videos, all of which must complete."""
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
        forks = fork_server(server)
        return {
            "server": cpu_seconds(server),
            "fork server": cpu_seconds(forks),
            "the videos' processes": reaped_cpu_seconds(forks),
        }


@dataclass(frozen=True)
class Measured:
    """The runs of both, in the same order."""

    program: list[Run]
    loop: list[Run]

    @property
    def speed(self) -> float:
        """The program's throughput, as a multiple of the plain loop's."""
        return median(loop.seconds / program.seconds for program, loop in self.rounds)

    @property
    def overhead(self) -> float:
        """The seconds that the program takes longer."""
        return median(program.seconds - loop.seconds for program, loop in self.rounds)

    @property
    def rounds(self) -> list[tuple[Run, Run]]:
        """The pairs of (program, plain loop)."""
        return list(zip(self.program, self.loop, strict=True))


def measure(program: ThroughProgram, plain: PlainLoop, ids: list[str], repeats: int) -> Measured:
    """Run both in turn this often, after one round that does not count."""
    run_round(program, plain, ids, program_first=True)
    rounds = [run_round(program, plain, ids, program_first=number % 2 == 0) for number in range(repeats)]
    return Measured([by_program for by_program, _ in rounds], [by_loop for _, by_loop in rounds])


def run_round(program: ThroughProgram, plain: PlainLoop, ids: list[str], *, program_first: bool) -> tuple[Run, Run]:
    """Run one round. Raises `AssertionError` if the two return different facts of a video."""
    if program_first:
        by_program, by_loop = program.run(ids), plain.run(ids)
    else:
        by_loop, by_program = plain.run(ids), program.run(ids)
    assert by_program.facts == by_loop.facts, "the program and the plain loop differ"
    assert by_program.facts.keys() == set(ids)
    return by_program, by_loop


def slow_clip(path: Path, seconds: float = SLOW_SECONDS) -> float:
    """Write a clip that needs at least this time for decoding on this machine; return the seconds of the last try."""
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
    """Put this number of videos with the same content into the media directory; return their IDs."""
    media.mkdir(exist_ok=True)
    ids = [f"{clip.stem}-{number:03}" for number in range(count)]
    for video_id in ids:
        os.link(clip, media / f"{video_id}.mp4")
    return ids


def report_slow(measured: Measured, count: int, slots: int) -> None:
    """Print the throughput with clips of over a second each."""
    program, plain = median_seconds(measured.program), median_seconds(measured.loop)
    print(f"{count} clips that take {plain * slots / count:.2f} s each in the plain loop")
    throughput = f"throughput {measured.speed:.3f} x   aim >= {SLOW_AIM}"
    print(f"  program {program:6.2f} s   plain loop {plain:6.2f} s   {throughput}")
    report_rounds(measured, count)


def report_quick(measured: Measured, count: int, slots: int) -> None:
    """Print the overhead per video with many short clips."""
    times = median_seconds(measured.program), median_seconds(measured.loop), measured.overhead
    program, plain, overhead = (1000 * seconds / count for seconds in times)
    print(f"{count} clips that take {plain * slots:.1f} ms each in the plain loop; milliseconds of wall time per video")
    print(
        f"  program {program:6.2f}     plain loop {plain:6.2f}     overhead {overhead:.2f}     aim <= {QUICK_AIM_MS:g}"
    )
    print(f"  time of a slot per video: program {program * slots:.2f}, plain loop {plain * slots:.2f}")
    report_rounds(measured, count)


def report_rounds(measured: Measured, count: int) -> None:
    """Print the CPU times and the single rounds."""
    spent = (
        f"{kind} {1000 * median(run.cpu[kind] for run in runs) / count:.2f}"
        for runs in (measured.program, measured.loop)
        for kind in runs[0].cpu
    )
    print(f"  CPU milliseconds per video: {', '.join(spent)}")
    rounds = (f"{program.seconds:.2f}/{loop.seconds:.2f}" for program, loop in measured.rounds)
    print(f"  rounds, program/plain loop, seconds: {'  '.join(rounds)}", flush=True)


def median_seconds(runs: Sequence[Run]) -> float:
    """Return the median of the wall times."""
    return median(run.seconds for run in runs)


def main(repeats: int) -> None:
    """Measure with quick and with slow clips."""
    slots = os.cpu_count() or 1
    print(f"{slots} slots, {repeats} repeats in turn; {load()}", flush=True)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        home = Path(temporary)
        media = home / "media"
        slow_clip(home / "slow.mp4")
        write_clip(home / "quick.mp4", QUICK)
        slow = copies(home / "slow.mp4", media, max(SLOW_CLIPS, 3 * slots) // slots * slots)
        quick = copies(home / "quick.mp4", media, QUICK_CLIPS)
        plain = stack.enter_context(PlainLoop(slots, media, home / "outputs"))
        server = stack.enter_context(running(home / "data", media_dir=media, max_running_videos=slots))
        program = ThroughProgram(server)
        report_quick(measure(program, plain, quick, repeats), len(quick), slots)
        report_slow(measure(program, plain, slow, repeats), len(slow), slots)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS)
