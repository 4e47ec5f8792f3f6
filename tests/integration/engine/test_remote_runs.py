"""Runs on workers as the server sees them: each worker does, row by row, what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from backend.errors import Fault
from backend.store.database import Database
from backend.store.runs import RunStore
from backend.store.workers import MAX_LOSSES, WorkerSql
from tests.support.scripted_workers import LOST_AFTER, Coordinated, job_of, open_coordinated

pytestmark = pytest.mark.postgresql_only
FAULT = {"error": "The media directory is missing.", "traceback": "…", "fault": "machine"}


@pytest.fixture
async def server(database: Database) -> AsyncIterator[Coordinated]:
    async with open_coordinated(database) as opened:
        yield opened


async def test_a_run_begins_with_the_claim_of_a_worker_and_ends_with_its_result(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of(), 3)
    run_id = await server.waiting_run()
    assert asked.machines == []

    await one.claim(run_id)
    await one.step(run_id, 0.5)
    await one.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert (outcome.machine, outcome.result, outcome.seconds) == ("one", {"frames": 25}, 1.5)
    assert asked.machines == ["one"]
    assert await server.rows("SELECT id, state FROM run") == [(outcome.run_id, "ended")]


async def test_a_step_is_heard(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)

    await one.step(run_id, 0.25, "looking")
    await asked.until(lambda: bool(asked.steps))

    assert [(step.fraction, step.doing) for step in asked.steps] == [(0.25, "looking")]
    asked.task.cancel()
    await one.release(run_id, "stopped")


async def test_an_end_is_heard_after_a_crash_that_took_steps_back(server: Coordinated) -> None:
    """Steps are not durable: PostgreSQL may lose the newest ones, and what comes then has their number."""
    one = await server.worker("one")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await one.step(run_id, 0.25)
    await one.step(run_id, 0.5)
    await asked.until(lambda: bool(asked.steps) and asked.steps[-1].fraction == 0.5)
    await one.execute("UPDATE run SET fraction = 0.25, changes = changes - 1")

    await one.end(run_id)

    outcome = await asked.outcome()
    assert outcome is not None
    assert outcome.result == {"frames": 25}


async def test_a_server_that_is_started_again_gets_the_same_run(database: Database) -> None:
    async with open_coordinated(database) as first:
        one = await first.worker("one")
        killed = first.ask(job_of(), 2, try_number=3)
        run_id = await first.waiting_run()
        await one.claim(run_id)
        async with open_coordinated(database) as second:
            assert await second.runs.in_flight(job_of()) == {2: 3}
            asked = second.ask(job_of(), 2, try_number=3)
            await one.end(run_id)

            outcome = await asked.outcome()

            assert outcome is not None
            assert (outcome.machine, outcome.run_id) == ("one", run_id)
            assert asked.machines == ["one"]
            assert await second.rows("SELECT taken FROM run") == [(1,)]
        await killed.outcome()


async def test_a_result_that_came_while_no_server_was_there_is_taken(database: Database) -> None:
    async with open_coordinated(database) as first:
        one = await first.worker("one")
        killed = first.ask(job_of())
        run_id = await first.waiting_run()
        await one.claim(run_id)
        await one.end(run_id)
        await killed.outcome()
        async with open_coordinated(database) as second:
            outcome = await second.ask(job_of()).outcome()

    assert outcome is not None
    assert outcome.result == {"frames": 25}


async def test_a_cancelled_run_that_waits_never_begins(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()

    asked.task.cancel()
    await asked.cancelled()

    assert not await one.claim(run_id)
    await server.nothing_is_left()


async def test_a_cancelled_run_is_over_when_its_worker_has_ended_it(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)

    asked.task.cancel()
    await server.until("SELECT wanted FROM run", lambda rows: rows == [(False,)])
    assert not await one.is_wanted(run_id)
    assert not asked.task.done()
    await one.release(run_id, "stopped")
    await asked.cancelled()

    assert await server.rows("SELECT id FROM run") == []


async def test_a_cancelled_run_of_a_worker_cut_off_is_over_when_its_lease_is(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    await one.claim(await server.waiting_run())

    asked.task.cancel()
    await server.until("SELECT wanted FROM run", lambda rows: rows == [(False,)])
    await server.look(LOST_AFTER - 2)
    assert not asked.task.done()
    await server.look(3)

    await asked.cancelled()


async def test_a_run_that_has_not_begun_is_withdrawn_when_its_job_drains(server: Coordinated) -> None:
    await server.worker("one")
    asked = server.ask(job_of())
    await server.waiting_run()

    asked.draining.set()

    assert await asked.outcome() is None
    await server.nothing_is_left()


async def test_a_run_that_has_begun_ends_although_its_job_drains(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)

    asked.draining.set()
    await one.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert outcome.error is None


class SlowToDrain(RunStore):
    """Answers that a job drains only when the test says so."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_draining, self.may_answer = asyncio.Event(), asyncio.Event()

    async def withdraw(self, ids: Sequence[int], *, is_running: bool = True) -> None:
        if not is_running:
            self.is_draining.set()
            await self.may_answer.wait()
        await super().withdraw(ids, is_running=is_running)


async def test_a_cancel_is_asked_for_although_the_drain_is_still_being_stored(database: Database) -> None:
    store = SlowToDrain(database)
    async with open_coordinated(database, store=store) as server:
        one = await server.worker("one")
        asked = server.ask(job_of())
        run_id = await server.waiting_run()
        await one.claim(run_id)
        await asked.until(lambda: bool(asked.machines))

        asked.draining.set()
        await store.is_draining.wait()
        asked.task.cancel()
        store.may_answer.set()
        await server.until("SELECT wanted FROM run", lambda rows: rows == [(False,)])
        await one.release(run_id, "stopped")

        await asked.cancelled()

        assert await server.rows("SELECT id FROM run") == []


async def test_a_run_that_is_given_back_while_its_job_drains_begins_nowhere_else(server: Coordinated) -> None:
    one, _ = await server.worker("one"), await server.worker("two")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await asked.until(lambda: bool(asked.machines))

    asked.draining.set()
    await one.release(run_id, "waiting")

    assert await asked.outcome() is None
    await server.nothing_is_left()


async def test_a_fault_of_a_machine_while_its_job_drains_sends_the_video_to_no_other(server: Coordinated) -> None:
    one, _ = await server.worker("one"), await server.worker("two")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await asked.until(lambda: bool(asked.machines))

    asked.draining.set()
    await one.end(run_id, **FAULT)

    assert await asked.outcome() is None
    await server.nothing_is_left()


async def test_a_run_of_a_lost_worker_begins_elsewhere_and_its_late_result_is_ignored(server: Coordinated) -> None:
    one, two = await server.worker("one"), await server.worker("two")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)

    await server.look(LOST_AFTER, beating=(two,))
    assert await server.waiting_run() == run_id
    await two.claim(run_id)
    assert await one.is_gone(run_id)
    await one.end(run_id, error="too late", fault="permanent")
    await two.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert (outcome.machine, outcome.error) == ("two", None)
    assert asked.machines == ["one", "two"]
    assert len(asked.returns) == 1


async def test_all_runs_that_an_earlier_server_left_are_withdrawn_at_once(database: Database) -> None:
    """One of the machines may be cut off, so that its run is over a lease later."""
    async with open_coordinated(database) as first:
        one, two = await first.worker("one"), await first.worker("two")
        for worker, position in ((one, 0), (two, 1)):
            first.ask(job_of(), position)
            await worker.claim(await first.waiting_run())
        await first.runs.leave(0, own=None)
        async with open_coordinated(database) as server:
            withdrawing = asyncio.create_task(server.runs.withdraw(job_of()))
            await server.until("SELECT wanted FROM run", lambda rows: rows == [(False,), (False,)])
            for worker in (two, one):
                assert not withdrawing.done()
                await worker.release(next(iter(worker.taken)), "stopped")
            await withdrawing

            assert await server.rows("SELECT id FROM run") == []


async def test_a_video_that_loses_machine_after_machine_fails(server: Coordinated) -> None:
    asked = server.ask(job_of())
    for number in range(MAX_LOSSES):
        run_id = await server.waiting_run()
        await (await server.worker(f"worker-{number}")).claim(run_id)
        await server.look(LOST_AFTER)

    outcome = await asked.outcome()

    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.startswith(f"{MAX_LOSSES} machines were lost")
    assert outcome.fault is Fault.PERMANENT


async def test_a_run_that_is_given_back_is_offered_again_at_once(server: Coordinated) -> None:
    one, two = await server.worker("one"), await server.worker("two")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await server.execute("DELETE FROM procrastinate_jobs")  # as after the end of the engine's own job

    await one.release(run_id, "waiting")
    assert await server.waiting_run() == run_id
    await two.claim(run_id)
    await two.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert outcome.machine == "two"


async def test_a_bad_mount_of_one_machine_fails_no_video(server: Coordinated) -> None:
    bad, good = await server.worker("bad"), await server.worker("good")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await bad.claim(run_id)

    await bad.end(run_id, **FAULT)
    assert await server.waiting_run() == run_id
    await server.look(beating=(bad, good))
    assert not await bad.claim(run_id)
    await good.claim(run_id)
    await good.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert (outcome.machine, outcome.error) == ("good", None)
    assert {machine.name: machine.resting for machine in server.registry.list()} == {
        "bad": FAULT["error"],
        "good": None,
    }
    assert await server.rows("SELECT name, may_run FROM worker ORDER BY name") == [("bad", 0), ("good", 2)]


async def test_what_two_machines_say_is_the_outcome(server: Coordinated) -> None:
    one, two = await server.worker("one"), await server.worker("two")
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await one.end(run_id, **FAULT)
    await server.waiting_run()

    await two.claim(run_id)
    await two.end(run_id, **FAULT)
    outcome = await asked.outcome()

    assert outcome is not None
    assert (outcome.machine, outcome.error, outcome.fault) == ("two", FAULT["error"], Fault.MACHINE)


async def test_a_run_that_the_engine_has_lost_is_offered_again(server: Coordinated) -> None:
    asked = server.ask(job_of())
    run_id = await server.waiting_run()
    await server.execute("DELETE FROM procrastinate_jobs")

    await server.look(2)

    assert await server.waiting_run() == run_id
    asked.task.cancel()
    await asked.cancelled()


async def test_jobs_of_the_engine_without_a_run_are_deleted(server: Coordinated) -> None:
    await server.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('q', 't', '{\"run\": 7}')"
    )

    await server.look(2)

    assert await server.rows("SELECT id FROM procrastinate_jobs") == []


async def test_a_run_that_vanished_is_handed_over_again(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    first = await server.waiting_run()
    await server.execute("DELETE FROM run")

    await server.look()
    run_id = await server.waiting_run()
    await one.claim(run_id)
    await one.end(run_id)
    outcome = await asked.outcome()

    assert outcome is not None
    assert outcome.run_id == run_id != first


async def test_runs_of_a_job_that_is_gone_are_ended_and_deleted(database: Database) -> None:
    async with open_coordinated(database) as first:
        one = await first.worker("one")
        forgotten = first.ask(job_of("deleted"))
        run_id = await first.waiting_run()
        await one.claim(run_id)
        await first.runs.leave(0, own=None)
        await forgotten.cancelled()
        async with open_coordinated(database) as server:
            await server.look(2)
            assert not await one.is_wanted(run_id)
            await one.release(run_id, "stopped")
            await server.look(2)

            assert await server.rows("SELECT id FROM run") == []


async def test_a_server_that_stops_leaves_its_runs_alone(server: Coordinated) -> None:
    one, two = await server.worker("one"), await server.worker("two")
    elsewhere, here = server.ask(job_of(), 0), server.ask(job_of(), 1)
    for worker, video in ((one, 0), (two, 1)):
        [(run_id,)] = await server.until(
            f"SELECT id FROM run WHERE position = {video}",
            bool,
        )
        await worker.claim(run_id)
    await elsewhere.until(lambda: bool(elsewhere.machines))
    await here.until(lambda: bool(here.machines))

    leaving = asyncio.create_task(server.runs.leave(0.5, own="two"))
    await elsewhere.cancelled()
    assert not here.task.done()
    await two.end(next(iter(two.taken)))
    assert await here.outcome() is not None
    await leaving

    assert await server.rows("SELECT state, wanted FROM run ORDER BY position") == [("running", True), ("ended", True)]


async def test_a_cancel_that_the_end_of_the_server_interrupts_goes_on(server: Coordinated) -> None:
    one = await server.worker("one")
    asked = server.ask(job_of())
    await one.claim(await server.waiting_run())
    asked.task.cancel()
    await server.until("SELECT wanted FROM run", lambda rows: rows == [(False,)])

    await server.runs.leave(0, own=None)
    await asked.cancelled()

    assert server.runs.goes_on(job_of())


async def test_a_change_of_slots_leaves_a_worker_draining_that_ends(server: Coordinated) -> None:
    """It has said so since the server looked last."""
    one = await server.worker("one")
    await one.execute(WorkerSql.DRAIN)

    await server.registry.change("one", slots=1)

    assert await server.rows("SELECT cap, draining FROM worker") == [(1, True)]


async def test_slots_follow_the_machines_and_their_processors(server: Coordinated) -> None:
    assert server.slots.number == 0

    one = await server.worker("one", slots=4, processors=("probe", "another"))
    await server.worker("two", slots=3)
    assert server.slots.number == 7
    await server.registry.change("one", slots=2)
    assert server.slots.number == 5
    await server.registry.change("two", drain=True)
    assert server.slots.number == 2
    await server.look(6)

    assert server.slots.number == 0
    await server.look(beating=(one,))
    assert server.slots.number == 2
