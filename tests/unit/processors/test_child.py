"""The processes of videos: their isolation, their failures, and that none is left running."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from backend.clock import Clock, SystemClock
from backend.errors import Fault, VideoFailed
from backend.processors import Processor, Step, VideoFile, load
from backend.processors.child import ChildRunner
from backend.processors.settling import FileChanged
from tests import ROOT
from tests.support import broken_forkserver
from tests.support.clips import make_clip
from tests.support.clock import VirtualClock
from tests.support.processors import find

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one runner serves most of the tests
TIMEOUT_SECONDS = 60.0
MEMORY_MIB, OUTPUT_MIB = 2048, 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "media" / "clip.mp4")


def video(path: Path) -> VideoFile:
    """Return the video of this file, with an output directory of its own."""
    return VideoFile(path, path.parent, path.parent.parent / "output" / path.name)


@pytest_asyncio.fixture(params=["forked", "spawned"], scope="module", loop_scope="module")
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[ChildRunner]:
    """Run the tests' own processors, both in forked and in spawned processes."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DASHBOARD_JWT_SECRET", "the-secret-of-the-server")
        async with running(forking=request.param == "forked") as started:
            yield started


@asynccontextmanager
async def running(
    *,
    find: Callable[[str], Processor] = find,
    clock: Clock | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    forking: bool = True,
) -> AsyncIterator[ChildRunner]:
    """Start a runner, and stop it at the end."""
    runner = ChildRunner(
        timeout_seconds=timeout_seconds,
        memory_mib=MEMORY_MIB,
        output_mib=OUTPUT_MIB,
        clock=clock or SystemClock(),
        find=find,
        forking=forking,
    )
    await runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def expect_failure(runner: ChildRunner, processor: str, clip: Path) -> VideoFailed:
    """Run the processor on this clip, and return the failure that it has to end with."""
    with pytest.raises(VideoFailed) as raised:
        await runner.run(processor, video(clip), {}, on_step=lambda _: None)
    return raised.value


def pids(steps: list[Step]) -> list[int]:
    """Return the process IDs in the newest step."""
    return [int(number) for number in re.findall(r"\d+", steps[-1].doing)]


def is_running(pid: int) -> bool:
    """Return True unless the process has exited, reaped or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110  the state of another process has no event
            await asyncio.sleep(0.01)


async def test_a_video_is_probed_in_its_own_process(clip: Path) -> None:
    steps: list[Step] = []
    async with running(find=load) as runner:
        result = await runner.run("probe", video(clip), {}, on_step=steps.append)
    assert result["video"]["frames"] == 15
    assert (video(clip).output / "poster.jpg").exists()
    assert steps[0] == Step(0.0, "opening")
    assert steps[-1].doing == "drawing the poster"


async def test_five_videos_run_at_once(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / "media" / f"{number}.mp4", seconds=0.2 * number) for number in range(1, 6)]
    async with running(find=load) as runner:
        results = await asyncio.gather(
            *(runner.run("probe", video(clip), {}, on_step=lambda _: None) for clip in clips)
        )
    assert [result["video"]["frames"] for result in results] == [3, 6, 9, 12, 15]


async def test_the_process_holds_no_secret(runner: ChildRunner, clip: Path) -> None:
    """The process has no environment, now or at its start, and no descriptors but those to null and to the server."""
    held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
    assert held["environment"].keys() <= {"LC_CTYPE"}
    assert "secret" not in held["at_start"]
    assert "DASHBOARD" not in held["at_start"]
    targets = sorted(held["descriptors"].values())
    assert [target for target in targets if not target.startswith(("/dev/null", "socket:", "pipe:"))] == []
    assert len([target for target in targets if target != "/dev/null"]) <= 2


async def test_the_process_has_a_session_of_its_own(runner: ChildRunner, clip: Path) -> None:
    held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
    assert held["group"] != os.getpgrp()


async def test_a_failure_has_its_sentence_and_traceback(runner: ChildRunner, clip: Path) -> None:
    failure = await expect_failure(runner, "failing", clip)
    assert failure.sentence == "The video has no subtitles."
    assert "in failing" in failure.traceback
    assert failure.fault is Fault.PERMANENT


async def test_a_bug_in_a_processor_fails_the_video(runner: ChildRunner, clip: Path) -> None:
    failure = await expect_failure(runner, "buggy", clip)
    assert failure.sentence == "The processor buggy broke on this video (KeyError); the traceback has the details."
    assert "a bug in the processor" in failure.traceback


async def test_a_crash_fails_only_its_own_video(runner: ChildRunner, clip: Path) -> None:
    other_clip = clip.with_name("other.mp4")  # a failed run removes its directory, so two runs must not share one
    other = asyncio.create_task(runner.run("hasty", video(other_clip), {}, on_step=lambda _: None))
    assert "The decoder crashed on this video (SIGSEGV)" in (await expect_failure(runner, "crashing", clip)).sentence
    assert await other == {"steps": 1000}


async def test_a_process_killed_by_the_system_gives_a_reason(runner: ChildRunner, clip: Path) -> None:
    failure = await expect_failure(runner, "killed", clip)
    assert "probably because the machine ran out of memory" in failure.sentence
    assert failure.fault is Fault.TRANSIENT


async def test_a_video_beyond_the_memory_limit_fails(runner: ChildRunner, clip: Path) -> None:
    failure = await expect_failure(runner, "greedy", clip)
    assert failure.sentence == ("The video needs more memory than the limit of 2,048 MiB (DASHBOARD_VIDEO_MEMORY_MIB).")


@pytest.mark.parametrize("processor", ["nonsense", "unknown_fault"])
async def test_an_invalid_report_fails_the_video(clip: Path, processor: str) -> None:
    async with running() as runner:
        failure = await expect_failure(runner, processor, clip)
    assert failure.sentence == "The process of this video answered with something that is not a report."


@pytest.mark.parametrize(
    ("processor", "sentence", "fault"),
    [
        ("busy", "The service is busy.", Fault.TRANSIENT),
        ("unanswered", "The processor unanswered could not go on: Connection timed out; try again.", Fault.TRANSIENT),
        ("on_a_full_disk", "The server's disk is full; make room and try again.", Fault.MACHINE),
        (
            "out_of_descriptors",
            "The processor out_of_descriptors could not go on: Too many open files; try again.",
            Fault.MACHINE,
        ),
        (
            "oversized",
            "The processor oversized wrote a file larger than the limit of 2 MiB (DASHBOARD_VIDEO_OUTPUT_MIB) "
            "for one file.",
            Fault.PERMANENT,
        ),
    ],
)
async def test_a_failure_has_a_fault_and_leaves_no_files(
    runner: ChildRunner, clip: Path, processor: str, sentence: str, fault: Fault
) -> None:
    failure = await expect_failure(runner, processor, clip)
    assert (failure.sentence, failure.fault) == (sentence, fault)
    assert not video(clip).output.exists()


async def test_a_long_failure_is_shortened(runner: ChildRunner, clip: Path) -> None:
    failure = await expect_failure(runner, "wordy", clip)
    assert len(failure.sentence) == 1000
    assert len(failure.traceback) <= 20_000


async def test_an_unusable_output_directory_is_a_fault_of_the_machine(runner: ChildRunner, clip: Path) -> None:
    video(clip).output.parent.write_text("in the way")
    failure = await expect_failure(runner, "hasty", clip)
    assert failure.sentence == (
        "The server cannot write a video's output (Not a directory); its data directory must be writable."
    )
    assert failure.fault is Fault.MACHINE


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Prevent this process from opening any file or socket."""
    limit, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, ceiling))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, ceiling))


@contextmanager
def expect_no_forgotten_channel() -> Iterator[None]:
    """Check that no transport is left for the garbage collector: it could close a later channel of the same number."""
    with warnings.catch_warnings(record=True) as forgotten:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(warning.message) for warning in forgotten] == []


@pytest.mark.parametrize("forking", [True, False])
async def test_a_process_that_cannot_start_is_a_fault_of_the_machine(clip: Path, forking: bool) -> None:
    async with running(forking=forking) as runner:
        await runner.run("hasty", video(clip), {}, on_step=lambda _: None)
        with no_more_descriptors():
            failure = await expect_failure(runner, "hasty", clip)
        assert failure.sentence.startswith("No process can be started for a video (Too many open files)")
        assert failure.fault is Fault.MACHINE
        assert await runner.run("hasty", video(clip), {}, on_step=lambda _: None) == {"steps": 1000}


async def test_a_video_starts_the_fork_server_if_it_failed_at_first(clip: Path) -> None:
    runner = ChildRunner(timeout_seconds=TIMEOUT_SECONDS, memory_mib=MEMORY_MIB, clock=SystemClock(), find=find)
    try:
        with no_more_descriptors():
            await runner.start()
        assert await runner.run("hasty", video(clip), {}, on_step=lambda _: None) == {"steps": 1000}
    finally:
        await runner.stop()


async def test_a_failed_fork_is_a_fault_of_the_machine(clip: Path) -> None:
    async with running(find=broken_forkserver.find) as runner:
        failure = await expect_failure(runner, "hasty", clip)
    assert failure.sentence.startswith("No process can be started for a video (Resource temporarily unavailable)")
    assert failure.fault is Fault.MACHINE


async def test_a_fork_server_that_exits_is_a_fault_of_the_machine(clip: Path) -> None:
    with expect_no_forgotten_channel():
        async with running(find=broken_forkserver.missing) as runner:
            failure = await expect_failure(runner, "hasty", clip)
        sentence, fault = failure.sentence, failure.fault
        del failure  # its traceback refers to the channel
    assert sentence == "The process that starts the video work has ended; try again."
    assert fault is Fault.MACHINE


async def test_a_video_during_shutdown_fails_with_a_transient_fault(clip: Path) -> None:
    async with running() as runner:
        pass
    failure = await expect_failure(runner, "hasty", clip)
    assert failure.sentence == "The server is stopping; this video is done after the next start."
    assert failure.fault is Fault.TRANSIENT


async def test_steps_arrive_about_ten_times_per_second_at_most(runner: ChildRunner, clip: Path) -> None:
    steps: list[Step] = []
    began = time.monotonic()
    await runner.run("hasty", video(clip), {}, on_step=steps.append)
    assert 1 <= len(steps) <= 2 + 10 * (time.monotonic() - began)


async def test_a_video_beyond_the_time_limit_is_ended(clip: Path) -> None:
    clock, steps = VirtualClock(), list[Step]()
    async with running(clock=clock, timeout_seconds=90) as runner:
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps) or work.done())
        assert not work.done(), work.exception()
        await clock.advance(91)
        with pytest.raises(VideoFailed, match=r"Took longer than 90 s, the limit for one video") as raised:
            await work
        assert raised.value.fault is Fault.TRANSIENT
        assert not is_running(*pids(steps))


async def test_cancelling_kills_the_process_and_removes_its_files(runner: ChildRunner, clip: Path) -> None:
    steps: list[Step] = []
    work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
    await until(lambda: bool(steps))
    assert (video(clip).output / "poster.jpg.part").exists()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not is_running(*pids(steps))
    assert not video(clip).output.exists()


async def test_cancelling_kills_a_stubborn_process_and_its_children(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("stubborn", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        began = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        took = time.monotonic() - began
        process, grandchild = pids(steps)
        assert not is_running(process)
        await until(lambda: not is_running(grandchild))
    assert took < 2


async def test_cancelling_twice_still_waits_for_the_exit(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("stubborn", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        work.cancel()
        await asyncio.sleep(0.05)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not is_running(pids(steps)[0])


async def test_a_poster_of_an_earlier_attempt_survives_a_failure(clip: Path) -> None:
    poster = video(clip).output / "poster.jpg"
    poster.parent.mkdir(parents=True)
    poster.write_text("of the first attempt")
    async with running() as runner:
        await expect_failure(runner, "failing", clip)
    assert poster.read_text() == "of the first attempt"


async def test_stopping_ends_all_processes(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        server = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
    assert not is_running(server)
    assert not is_running(*pids(steps))
    with suppress(VideoFailed):
        await work


async def test_videos_restart_when_the_fork_server_was_killed(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        first = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        before = pids(steps)
        os.kill(first, 9)
        await until(lambda: not is_running(*before))
        await until(lambda: pids(steps) != before)
        work.cancel()
        await asyncio.wait({work})
        held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
        second = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
    assert second != first
    assert "DASHBOARD" not in held["at_start"]


@pytest.mark.parametrize("forking", [True, False])
async def test_killing_the_server_ends_all_processes(clip: Path, forking: bool) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_SERVER, str(clip), str(forking), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert server.stdout is not None
    process, parent = map(int, (await server.stdout.readline()).split())
    assert is_running(process)
    server.kill()
    await server.wait()
    await until(lambda: not is_running(process))
    await until(lambda: not is_running(parent))
    assert not is_running(process)


async def test_a_frozen_worker_has_no_processes_after_its_alarm(clip: Path) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_SERVER, str(clip), "True", "1.5", stdout=subprocess.PIPE, cwd=ROOT
    )
    assert worker.stdout is not None
    process, parent = map(int, (await worker.stdout.readline()).split())
    worker.send_signal(signal.SIGSTOP)
    assert is_running(process)
    await until(lambda: not is_running(process))
    assert is_running(parent)
    worker.kill()
    await worker.wait()


async def test_the_kernel_ends_the_processes_if_their_parent_hangs_too(clip: Path) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_SERVER, str(clip), "True", "1.5", "hanging", stdout=subprocess.PIPE, cwd=ROOT
    )
    assert worker.stdout is not None
    process, parent = map(int, (await worker.stdout.readline()).split())
    worker.send_signal(signal.SIGSTOP)
    assert is_running(process)
    await until(lambda: not is_running(process) and not is_running(parent))
    assert worker.returncode is None
    worker.kill()
    await worker.wait()


async def test_a_process_outlives_an_alarm_that_is_set_again(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        runner.set_alarm(0.3)
        runner.set_alarm(TIMEOUT_SECONDS)
        await expect_failure(runner, "failing", clip)
        await asyncio.sleep(0.5)  # past the first alarm
        assert is_running(*pids(steps))
        work.cancel()
        await asyncio.wait({work})


async def test_no_process_begins_between_an_alarm_and_the_next(clip: Path) -> None:
    """What a frozen worker had asked for is too late when it goes on."""
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        runner.set_alarm(0.01)
        with pytest.raises(VideoFailed):
            await work
        failure = await expect_failure(runner, "failing", clip)
        assert failure.fault is Fault.MACHINE
        runner.set_alarm(TIMEOUT_SECONDS)
        assert "no subtitles" in (await expect_failure(runner, "failing", clip)).sentence


A_SERVER = textwrap.dedent("""
    import asyncio, pathlib, sys
    from backend.clock import Clock, SystemClock
    from backend.processors import VideoFile
    from backend.processors.child import ChildRunner
    from tests.support import hanging_forkserver, processors

    async def main(clip, forking, *alarm):
        find = hanging_forkserver.find if "hanging" in alarm else processors.find
        runner = ChildRunner(timeout_seconds=60, memory_mib=2048, clock=SystemClock(), find=find, forking=forking)
        await runner.start()
        if alarm:
            runner.set_alarm(float(alarm[0]))
        file = VideoFile(clip, clip.parent, clip.parent.parent / "output")
        if forking:
            parent = (await runner.run("fork_server", file, {}, on_step=print_nothing))["pid"]
        say = lambda step: print(step.doing.split()[1], parent if forking else step.doing.split()[1], flush=True)
        await runner.run("endless", file, {}, on_step=say)

    def print_nothing(step):
        pass

    asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2] == "True", *sys.argv[3:]))
""")


async def test_a_result_that_is_nested_too_deeply_fails_its_video(clip: Path) -> None:
    async with running() as runner:
        with pytest.raises(VideoFailed, match="not a report"):
            await runner.run("deep", video(clip), {}, on_step=lambda _: None)


@pytest.mark.parametrize("processor", ["overtaken", "replaced"])
async def test_no_result_is_of_a_file_that_changed_meanwhile(runner: ChildRunner, clip: Path, processor: str) -> None:
    """It holds for every processor, whether it succeeded or failed."""
    failure = await expect_failure(runner, processor, clip)
    assert isinstance(failure, FileChanged)
    assert "changed while it was read" in failure.sentence
    assert failure.fault is Fault.TRANSIENT
