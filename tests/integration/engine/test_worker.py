"""A worker: claims what it may, reports it, and lets go of it, whatever happens to the database meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from backend.errors import CannotStart, Fault, VideoFailed
from backend.store.database import Database
from backend.store.runs import NewRun, RunStore
from tests.support.workers import RunningWorker, ServerRows, a_worker, identity

pytestmark = pytest.mark.postgresql_only


async def begun(attic: RunningWorker, server: ServerRows, *video_ids: str) -> list[int]:
    """Return the runs of these videos, at which the worker is at work."""
    before = len(attic.processes.started)
    for video_id in video_ids:
        attic.add_file(video_id)
    runs = [await server.hand_over(video_id) for video_id in video_ids]
    await attic.processes.until_started(before + len(video_ids))
    return runs


async def test_a_run_is_claimed_reported_and_ended(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    row = await server.until_run(run, lambda row: row["doing"] == "decoding")
    assert (row["state"], row["worker"], row["taken"], row["fraction"]) == ("running", "attic", 1, 0.5)
    attic.processes.end("clip")
    row = await server.until_state(run, "ended")
    assert (row["outcome"]["result"], row["outcome"]["error"], row["worker"]) == ({"frames": 25}, None, "attic")
    await server.until_no_engine_jobs()


async def test_a_failure_is_reported_with_its_fault(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    attic.processes.end("clip", VideoFailed("The disk is full.", fault=Fault.MACHINE, traceback="a trace"))
    outcome = (await server.until_state(run, "ended"))["outcome"]
    assert (outcome["error"], outcome["fault"], outcome["traceback"]) == ("The disk is full.", "machine", "a trace")


async def test_no_more_runs_are_claimed_than_slots(attic: RunningWorker, server: ServerRows) -> None:
    runs = await begun(attic, server, "one", "two")
    attic.add_file("three")
    waiting = await server.hand_over("three")
    assert (await server.run(waiting))["state"] == "waiting"
    attic.processes.end("one")
    await attic.processes.until_started(3)
    assert [(await server.run(run))["state"] for run in (*runs, waiting)] == ["ended", "running", "running"]


async def test_a_withdrawn_run_is_stopped_after_its_process_exited(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    attic.processes.may_exit.clear()
    await server.withdraw(run)
    await attic.processes.until_stopping(1)
    assert (await server.run(run))["state"] == "running"
    attic.processes.may_exit.set()
    row = await server.until_state(run, "stopped")
    assert (row["outcome"], row["worker"]) == (None, "attic")


async def test_a_run_that_another_worker_has_is_ended_and_not_reported(
    attic: RunningWorker, server: ServerRows
) -> None:
    [run] = await begun(attic, server, "clip")
    await server.execute("UPDATE run SET worker = 'cellar', taken = taken + 1 WHERE id = %s", (run,))
    await attic.processes.until_stopping(1)
    await attic.processes.until_idle()
    row = await server.run(run)
    assert (row["state"], row["worker"], row["outcome"]) == ("running", "cellar", None)


async def test_a_run_of_a_missing_plug_in_is_left_to_others(attic: RunningWorker, server: ServerRows) -> None:
    other = await server.hand_over("clip", processor="subtitles")
    [run] = await begun(attic, server, "clip")
    assert (await server.run(run))["state"] == "running"
    assert (await server.run(other))["taken"] == 0


async def test_a_plug_in_may_have_a_long_name(url: str, database: Database, server: ServerRows, tmp_path: Path) -> None:
    """The engine's notifications have room for 40 characters of it."""
    name = "subtitles-" * 10
    async with a_worker(url, tmp_path, who=identity(processors=[name])) as attic:
        await attic.start()
        attic.add_file("clip")
        spec = {"video_id": "clip", "source": "media", "options": {}}
        [run] = await RunStore(database).hand_over([NewRun(0, "a-job", 0, 1, 1, name, spec)])
        await attic.processes.until_started(1)
        assert (await server.run(run))["processor"] == name


async def test_a_worker_without_permission_claims_nothing(attic: RunningWorker, server: ServerRows) -> None:
    await server.execute("UPDATE worker SET may_run = 0")
    attic.add_file("clip")
    run = await server.hand_over("clip")
    await server.until_beats("attic", 2)
    assert (await server.run(run))["state"] == "waiting"
    await server.execute("UPDATE worker SET may_run = 1")
    await server.tell(run)
    await attic.processes.until_started(1)
    assert (await server.run(run))["state"] == "running"


async def test_characters_that_the_database_refuses_do_not_stop_a_worker(
    attic: RunningWorker, server: ServerRows
) -> None:
    [run, other] = await begun(attic, server, "clip", "next")
    attic.processes.running["clip"].set_result({"title": "a\0b", "path": "\\u0000"})
    outcome = (await server.until_state(run, "ended"))["outcome"]
    assert outcome["result"] == {"title": "a\ufffdb", "path": "\\u0000"}
    attic.processes.end("next", VideoFailed("a\0b\ud800"))
    assert (await server.until_state(other, "ended"))["outcome"]["error"] == "ab?"


async def test_a_nul_in_the_options_reaches_no_database(database: Database, server: ServerRows) -> None:
    spec = {"video_id": "clip", "source": "media", "options": {"title": "a\0b\\u0000"}}
    [run] = await RunStore(database).hand_over([NewRun(0, "a-job", 0, 1, 1, "probe", spec)])
    assert (await server.run(run))["spec"]["options"] == {"title": "a\ufffdb\\u0000"}


async def test_a_drained_worker_ends_what_runs_and_leaves(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    attic.worker.drain()
    attic.add_file("late")
    late = await server.hand_over("late")
    attic.processes.end("clip")
    await attic.ended()
    assert (await server.run(run))["state"] == "ended"
    assert (await server.run(late))["state"] == "waiting"
    assert await server.worker("attic") is None


async def test_what_does_not_end_within_the_grace_is_given_back(url: str, server: ServerRows, tmp_path: Path) -> None:
    async with a_worker(url, tmp_path) as attic:
        await attic.start(grace_seconds=0)
        [run] = await begun(attic, server, "clip")
        attic.worker.drain()
        await attic.ended()
        row = await server.run(run)
        assert (row["state"], row["worker"], row["losses"]) == ("waiting", None, 0)
        assert attic.processes.stopping == ["clip"]


async def test_the_second_request_to_end_waits_for_no_video(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    attic.worker.drain()
    attic.worker.drain()
    await attic.ended()
    assert (await server.run(run))["state"] == "waiting"


async def test_a_worker_beats_until_its_last_process_has_exited(attic: RunningWorker, server: ServerRows) -> None:
    """So nobody else begins a video whose process takes its time to end."""
    [run] = await begun(attic, server, "clip")
    attic.processes.may_exit.clear()
    attic.worker.drain()
    attic.worker.drain()
    await attic.processes.until_stopping(1)
    await server.until_beats("attic", 2)
    assert (await server.run(run))["state"] == "running"
    attic.processes.may_exit.set()
    await attic.ended()
    assert (await server.run(run))["state"] == "waiting"


async def test_each_answer_sets_the_alarm_of_the_processes(attic: RunningWorker, server: ServerRows) -> None:
    [_] = await begun(attic, server, "clip")
    set_before = len(attic.alarms)
    attic.worker._reporter.look()
    await server.until_worker("attic", lambda row: len(attic.alarms) > set_before)
    assert all(30 < seconds <= 31 for seconds in attic.alarms)


async def test_outputs_that_are_not_mounted_are_the_machines_fault(attic: RunningWorker, server: ServerRows) -> None:
    attic.add_file("clip")
    for marker in attic.outputs.glob(".database-*"):
        marker.unlink()
    outcome = (await server.until_state(await server.hand_over("clip"), "ended"))["outcome"]
    assert outcome["error"].startswith("This worker does not see the server's outputs")
    assert (outcome["fault"], attic.processes.started) == ("machine", [])


async def test_an_empty_media_directory_is_the_machines_fault(url: str, server: ServerRows, tmp_path: Path) -> None:
    """A directory that is not mounted has no files: the videos of a whole list would fail for good."""
    async with a_worker(url, tmp_path, may_be_empty=False) as attic:
        await attic.start()
        outcome = (await server.until_state(await server.hand_over("clip"), "ended"))["outcome"]
        assert "is empty on this machine" in outcome["error"]
        assert outcome["fault"] == "machine"


async def test_a_forgotten_worker_joins_again(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    await server.execute("DELETE FROM worker")
    await server.until_worker("attic", lambda row: row is not None)
    attic.processes.end("clip")
    assert (await server.until_state(run, "ended"))["worker"] == "attic"


async def test_a_worker_whose_name_was_taken_ends_its_videos(attic: RunningWorker, server: ServerRows) -> None:
    await begun(attic, server, "clip")
    await server.execute("UPDATE worker SET process = process + 1")
    with pytest.raises(CannotStart, match='Another worker took the name "attic"'):
        await attic.ended()
    assert (attic.processes.stopping, attic.processes.running) == (["clip"], {})
    assert await server.worker("attic") is not None


async def test_two_workers_share_the_runs(url: str, attic: RunningWorker, server: ServerRows, tmp_path: Path) -> None:
    async with a_worker(url, tmp_path, who=identity("cellar")) as cellar:
        await cellar.start()
        for number in range(4):
            attic.add_file(f"clip-{number}")
            await server.hand_over(f"clip-{number}")
        await asyncio.gather(attic.processes.until_started(2), cellar.processes.until_started(2))
        holders: list[Any] = await server.execute("SELECT worker, count(*) AS runs FROM run GROUP BY 1 ORDER BY 1")
        assert holders == [{"worker": "attic", "runs": 2}, {"worker": "cellar", "runs": 2}]


async def test_a_worker_ends_after_its_videos_when_the_server_was_upgraded(
    attic: RunningWorker, server: ServerRows
) -> None:
    [run] = await begun(attic, server, "clip")
    await server.execute("UPDATE life SET version = '99.0'")
    await server.until_worker("attic", lambda row: row is not None and row["draining"])
    attic.add_file("late")
    late = await server.hand_over("late")
    assert (attic.processes.stopping, attic.task and attic.task.done()) == ([], False)
    attic.processes.end("clip")
    with pytest.raises(CannotStart, match=r"The server has version 99\.0, this worker has version "):
        await attic.ended()
    assert [(await server.run(one))["state"] for one in (run, late)] == ["ended", "waiting"]


async def test_an_outdated_worker_can_be_told_to_end_at_once(attic: RunningWorker, server: ServerRows) -> None:
    [run] = await begun(attic, server, "clip")
    await server.execute("UPDATE life SET version = '99.0'")
    await server.until_worker("attic", lambda row: row is not None and row["draining"])
    attic.worker.drain()
    attic.worker.drain()
    with pytest.raises(CannotStart):
        await attic.ended()
    assert (await server.run(run))["state"] == "waiting"
