"""The processes of videos: what they hold, how they fail, and that none stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
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
from tests import ROOT
from tests.support import broken_forkserver as unforkable
from tests.support.clips import make_clip
from tests.support.clock import VirtualClock
from tests.support.processors import find

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one runner serves most of the tests
LONG = 60.0
MEMORY_MIB, OUTPUT_MIB = 2048, 2


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "media" / "clip.mp4")


def video(path: Path) -> VideoFile:
    return VideoFile(path, path.parent, path.parent.parent / "output" / path.name)


@pytest_asyncio.fixture(params=["forked", "spawned"], scope="module", loop_scope="module")
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[ChildRunner]:
    """A runner of the tests' own processors, in both ways of getting a process."""
    with pytest.MonkeyPatch.context() as surroundings:
        surroundings.setenv("DASHBOARD_JWT_SECRET", "the-secret-that-nobody-may-see")
        async with running(forking=request.param == "forked") as started:
            yield started


@asynccontextmanager
async def running(
    *,
    find: Callable[[str], Processor] = find,
    clock: Clock | None = None,
    timeout_seconds: float = LONG,
    forking: bool = True,
) -> AsyncIterator[ChildRunner]:
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


async def fails(runner: ChildRunner, processor: str, clip: Path) -> VideoFailed:
    with pytest.raises(VideoFailed) as refusal:
        await runner.run(processor, video(clip), {}, on_step=lambda _: None)
    return refusal.value


def pids(steps: list[Step]) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", steps[-1].doing)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110  another process's state has no event
            await asyncio.sleep(0.01)


async def test_a_video_is_probed_in_its_own_process(clip: Path) -> None:
    steps: list[Step] = []
    async with running(find=load) as runner:
        result = await runner.run("probe", video(clip), {}, on_step=steps.append)
    assert result["video"]["frames"] == 15
    assert (video(clip).output / "poster.jpg").exists()
    assert steps[0] == Step(0.0, "opening")
    assert steps[-1].doing == "drawing the poster"


async def test_five_videos_at_once(tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / "media" / f"{number}.mp4", seconds=0.2 * number) for number in range(1, 6)]
    async with running(find=load) as runner:
        results = await asyncio.gather(
            *(runner.run("probe", video(clip), {}, on_step=lambda _: None) for clip in clips)
        )
    assert [result["video"]["frames"] for result in results] == [3, 6, 9, 12, 15]


async def test_the_process_holds_no_secret(runner: ChildRunner, clip: Path) -> None:
    """Nothing of the environment, now or at its start, and no descriptors but standard ones to nowhere and its own."""
    held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
    assert held["environment"].keys() <= {"LC_CTYPE"}
    assert "secret" not in held["at_start"]
    assert "DASHBOARD" not in held["at_start"]
    leads_to = sorted(held["descriptors"].values())
    assert [target for target in leads_to if not target.startswith(("/dev/null", "socket:", "pipe:"))] == []
    assert len([target for target in leads_to if target != "/dev/null"]) <= 2


async def test_the_process_is_in_a_session_of_its_own(runner: ChildRunner, clip: Path) -> None:
    held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
    assert held["group"] != os.getpgrp()


async def test_a_processors_sentence_and_traceback_arrive(runner: ChildRunner, clip: Path) -> None:
    failure = await fails(runner, "failing", clip)
    assert failure.sentence == "This one is not to my taste."
    assert "in failing" in failure.traceback
    assert failure.fault is Fault.PERMANENT


async def test_a_mistake_in_a_processor_fails_the_video_with_its_traceback(runner: ChildRunner, clip: Path) -> None:
    failure = await fails(runner, "broken", clip)
    assert failure.sentence == "The processor broken broke on this video (KeyError); the traceback has the details."
    assert "a mistake in the processor" in failure.traceback


async def test_a_crash_fails_only_its_own_video(runner: ChildRunner, clip: Path) -> None:
    other = asyncio.create_task(runner.run("hasty", video(clip), {}, on_step=lambda _: None))
    assert "The decoder crashed on this video (SIGSEGV)" in (await fails(runner, "crashing", clip)).sentence
    assert await other == {"steps": 1000}


async def test_a_process_that_the_system_kills_says_why(runner: ChildRunner, clip: Path) -> None:
    failure = await fails(runner, "killed", clip)
    assert "probably because the machine ran out of memory" in failure.sentence
    assert failure.fault is Fault.TRANSIENT


async def test_the_memory_limit_is_named(runner: ChildRunner, clip: Path) -> None:
    failure = await fails(runner, "greedy", clip)
    assert failure.sentence == ("The video needs more memory than the limit of 2,048 MiB (DASHBOARD_VIDEO_MEMORY_MIB).")


@pytest.mark.parametrize("words", ["nonsense", "unheard_of_fault"])
async def test_what_is_no_report_is_not_believed(clip: Path, words: str) -> None:
    async with running() as runner:
        failure = await fails(runner, words, clip)
    assert failure.sentence == "The process of this video answered with something that is not a report."


@pytest.mark.parametrize(
    ("processor", "sentence", "fault"),
    [
        ("unlucky", "The service is busy.", Fault.TRANSIENT),
        ("unheard", "The processor unheard could not go on: Connection timed out; try again.", Fault.TRANSIENT),
        ("on_a_full_disk", "The server's disk is full; make room and try again.", Fault.MACHINE),
        (
            "out_of_descriptors",
            "The processor out_of_descriptors could not go on: Too many open files; try again.",
            Fault.MACHINE,
        ),
        (
            "without_end",
            "The processor without_end wrote a file larger than the limit of 2 MiB (DASHBOARD_VIDEO_OUTPUT_MIB) "
            "for one file.",
            Fault.PERMANENT,
        ),
    ],
)
async def test_a_failure_says_where_it_lies(
    runner: ChildRunner, clip: Path, processor: str, sentence: str, fault: Fault
) -> None:
    failure = await fails(runner, processor, clip)
    assert (failure.sentence, failure.fault) == (sentence, fault)
    assert not video(clip).output.exists()


async def test_a_failure_is_cut_to_a_length_that_can_be_stored(runner: ChildRunner, clip: Path) -> None:
    failure = await fails(runner, "wordy", clip)
    assert len(failure.sentence) == 1000
    assert len(failure.traceback) <= 20_000


async def test_an_output_directory_that_cannot_be_made_is_the_machines_trouble(runner: ChildRunner, clip: Path) -> None:
    video(clip).output.parent.write_text("in the way")
    failure = await fails(runner, "hasty", clip)
    assert failure.sentence == (
        "The server cannot write what its work makes (Not a directory); its data directory must be writable."
    )
    assert failure.fault is Fault.MACHINE


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open nothing more meanwhile."""
    most, ceiling = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, ceiling))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, ceiling))


@contextmanager
def no_channel_forgotten() -> Iterator[None]:
    """No transport is left for the garbage collector: it would close whichever channel has that number by then."""
    with warnings.catch_warnings(record=True) as forgotten:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(warning.message) for warning in forgotten] == []


@pytest.mark.parametrize("forking", [True, False])
async def test_a_process_that_cannot_be_started_is_the_machines_trouble(clip: Path, forking: bool) -> None:
    async with running(forking=forking) as runner:
        await runner.run("hasty", video(clip), {}, on_step=lambda _: None)
        with no_more_descriptors(), pytest.raises(VideoFailed) as refusal:
            await runner.run("hasty", video(clip), {}, on_step=lambda _: None)
        assert refusal.value.sentence.startswith("No process can be started for a video (Too many open files)")
        assert refusal.value.fault is Fault.MACHINE
        assert await runner.run("hasty", video(clip), {}, on_step=lambda _: None) == {"steps": 1000}


async def test_when_no_process_can_be_started_at_first_the_videos_try_again(clip: Path) -> None:
    runner = ChildRunner(timeout_seconds=LONG, memory_mib=MEMORY_MIB, clock=SystemClock(), find=find)
    try:
        with no_more_descriptors():
            await runner.start()
        assert await runner.run("hasty", video(clip), {}, on_step=lambda _: None) == {"steps": 1000}
    finally:
        await runner.stop()


async def test_when_the_machine_has_no_room_for_a_process_that_is_its_trouble(clip: Path) -> None:
    async with running(find=unforkable.find) as runner:
        failure = await fails(runner, "hasty", clip)
    assert failure.sentence.startswith("No process can be started for a video (Resource temporarily unavailable)")
    assert failure.fault is Fault.MACHINE


async def test_a_fork_server_that_dies_each_time_is_the_machines_trouble(clip: Path) -> None:
    with no_channel_forgotten():
        async with running(find=unforkable.missing) as runner:
            failure = await fails(runner, "hasty", clip)
        sentence, fault = failure.sentence, failure.fault
        del failure  # it holds what is to be forgotten
    assert sentence == "The process that starts the video work has ended; try again."
    assert fault is Fault.MACHINE


async def test_a_video_that_comes_while_the_server_stops_may_go_well_another_time(clip: Path) -> None:
    async with running() as runner:
        pass
    failure = await fails(runner, "hasty", clip)
    assert failure.sentence == "The server is stopping; this video is done after the next start."
    assert failure.fault is Fault.TRANSIENT


async def test_steps_arrive_at_most_some_ten_times_a_second(runner: ChildRunner, clip: Path) -> None:
    steps: list[Step] = []
    began = time.monotonic()
    await runner.run("hasty", video(clip), {}, on_step=steps.append)
    assert 1 <= len(steps) <= 2 + 10 * (time.monotonic() - began)


async def test_taking_too_long_ends_the_process(clip: Path) -> None:
    clock, steps = VirtualClock(), list[Step]()
    async with running(clock=clock, timeout_seconds=90) as runner:
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps) or work.done())
        assert not work.done(), work.exception()
        await clock.advance(91)
        with pytest.raises(VideoFailed, match=r"Took longer than 90 s, the limit for one video") as refusal:
            await work
        assert refusal.value.fault is Fault.TRANSIENT
        assert not is_alive(*pids(steps))


async def test_cancelling_kills_the_process_and_removes_what_is_unfinished(runner: ChildRunner, clip: Path) -> None:
    steps: list[Step] = []
    work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
    await until(lambda: bool(steps))
    assert (video(clip).output / "poster.jpg.part").exists()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not is_alive(*pids(steps))
    assert not video(clip).output.exists()


async def test_cancelling_kills_a_stubborn_process_and_its_own_children(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("stubborn", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        began = time.monotonic()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        took = time.monotonic() - began
        process, its_child = pids(steps)
        assert not is_alive(process)
        await until(lambda: not is_alive(its_child))
    assert took < 2


async def test_cancelling_twice_still_waits_for_the_death(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        work = asyncio.create_task(runner.run("stubborn", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        work.cancel()
        await asyncio.sleep(0.05)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not is_alive(pids(steps)[0])


async def test_a_finished_poster_of_an_earlier_attempt_survives_a_failure(clip: Path) -> None:
    poster = video(clip).output / "poster.jpg"
    poster.parent.mkdir(parents=True)
    poster.write_text("of the first attempt")
    async with running() as runner:
        await fails(runner, "failing", clip)
    assert poster.read_text() == "of the first attempt"


async def test_stopping_leaves_no_process_behind(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        server = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
    assert not is_alive(server)
    assert not is_alive(*pids(steps))
    with suppress(VideoFailed):
        await work


async def test_when_the_fork_server_dies_its_videos_start_again_under_a_new_one(clip: Path) -> None:
    steps: list[Step] = []
    async with running() as runner:
        first = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
        work = asyncio.create_task(runner.run("endless", video(clip), {}, on_step=steps.append))
        await until(lambda: bool(steps))
        before = pids(steps)
        os.kill(first, 9)
        await until(lambda: not is_alive(*before))
        await until(lambda: pids(steps) != before)
        work.cancel()
        await asyncio.wait({work})
        held = await runner.run("surroundings", video(clip), {}, on_step=lambda _: None)
        second = (await runner.run("fork_server", video(clip), {}, on_step=lambda _: None))["pid"]
    assert second != first
    assert "DASHBOARD" not in held["at_start"]


@pytest.mark.parametrize("forking", [True, False])
async def test_killing_the_server_leaves_no_process_behind(clip: Path, forking: bool) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_SERVER, str(clip), str(forking), stdout=subprocess.PIPE, cwd=ROOT
    )
    assert server.stdout is not None
    process, parent = map(int, (await server.stdout.readline()).split())
    assert is_alive(process)
    server.kill()
    await server.wait()
    await until(lambda: not is_alive(process) and not is_alive(parent))


A_SERVER = textwrap.dedent("""
    import asyncio, pathlib, sys
    from backend.clock import Clock, SystemClock
    from backend.processors import VideoFile
    from backend.processors.child import ChildRunner
    from tests.support.processors import find

    async def main(clip, forking):
        runner = ChildRunner(timeout_seconds=60, memory_mib=2048, clock=SystemClock(), find=find, forking=forking)
        await runner.start()
        file = VideoFile(clip, clip.parent, clip.parent.parent / "output")
        if forking:
            parent = (await runner.run("fork_server", file, {}, on_step=print_nothing))["pid"]
        say = lambda step: print(step.doing.split()[1], parent if forking else step.doing.split()[1], flush=True)
        await runner.run("endless", file, {}, on_step=say)

    def print_nothing(step):
        pass

    asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2] == "True"))
""")


async def test_a_result_that_is_nested_too_deeply_fails_its_video(clip: Path) -> None:
    async with running() as runner:
        with pytest.raises(VideoFailed, match="not a report"):
            await runner.run("deep", video(clip), {}, on_step=lambda _: None)
