"""Racing coroutines with `first_completed`."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from progress_dashboard.tasks import first_completed


class Worker:
    """A coroutine that waits for ever, and records that it began and how it ended."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.was_cancelled = False
        self.has_cleaned_up = False

    async def work(self) -> NoReturn:
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        finally:
            await asyncio.sleep(0)
            self.has_cleaned_up = True
        raise AssertionError("the event is never set")


async def give(result: str, *, after_turns: int = 0) -> str:
    for _ in range(after_turns):
        await asyncio.sleep(0)
    return result


async def fail(message: str, *, after_turns: int = 0) -> str:
    for _ in range(after_turns):
        await asyncio.sleep(0)
    raise ValueError(message)


async def test_it_returns_the_result_of_the_first_that_completes() -> None:
    assert await first_completed(give("late", after_turns=9), give("early", after_turns=2)) == "early"


async def test_it_raises_the_error_of_the_first_that_completes() -> None:
    with pytest.raises(ValueError, match="early"):
        await first_completed(give("late", after_turns=9), fail("early", after_turns=2))


async def test_an_error_goes_before_a_result_of_the_same_moment() -> None:
    with pytest.raises(ValueError, match="both"):
        await first_completed(give("both"), fail("both"))


async def test_of_several_results_it_returns_that_of_the_first_argument() -> None:
    assert await first_completed(give("first"), give("second")) == "first"


async def test_of_several_errors_it_raises_that_of_the_first_argument() -> None:
    with pytest.raises(ValueError, match="first"):
        await first_completed(fail("first"), fail("second"))


async def test_it_cancels_the_others_and_waits_for_their_end() -> None:
    workers = [Worker(), Worker()]
    assert await first_completed(workers[0].work(), give("done", after_turns=2), workers[1].work()) == "done"
    assert [worker.was_cancelled for worker in workers] == [True, True]
    assert [worker.has_cleaned_up for worker in workers] == [True, True]


async def test_an_error_of_a_cancelled_one_does_not_replace_the_result() -> None:
    async def fail_when_cancelled() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("while it was cancelled")

    assert await first_completed(fail_when_cancelled(), give("done", after_turns=2)) == "done"


async def test_when_it_is_cancelled_it_cancels_and_awaits_all() -> None:
    workers = [Worker(), Worker()]
    race = asyncio.create_task(first_completed(*(worker.work() for worker in workers)))
    for worker in workers:
        await worker.has_begun.wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert [worker.was_cancelled for worker in workers] == [True, True]
    assert [worker.has_cleaned_up for worker in workers] == [True, True]


async def test_one_that_cancels_itself_raises_its_cancellation() -> None:
    async def cancel_itself() -> NoReturn:
        raise asyncio.CancelledError

    worker = Worker()
    with pytest.raises(asyncio.CancelledError):
        await first_completed(worker.work(), cancel_itself())
    assert worker.has_cleaned_up
