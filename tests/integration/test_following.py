"""What an open page follows: each job's states in order, whatever comes at once."""

from __future__ import annotations

from pathlib import Path

from backend.store import JobStore
from tests.support.managed import ANA, open_managed
from ui.following import states


async def test_a_job_that_ended_and_left_between_two_looks_has_left_at_last(store: JobStore, tmp_path: Path) -> None:
    async with open_managed(store, tmp_path) as managed:
        job = await managed.claim(await managed.submit("one"))
        await managed.hub.durable()
        followed = states(managed.manager, job.id, by=ANA, clock=managed.clock, every_seconds=1)
        await anext(followed)
        managed.manager.break_off(job.id, job.epoch, "The job broke.")
        managed.manager.remove_from_dashboard(lambda *_: True)
        await managed.hub.durable()
        seen = [await anext(followed), await anext(followed)]
    assert [state.is_finished for state in seen] == [True, True]
    assert [state.on_dashboard for state in seen] == [True, False]
