"""The updates that wait for a consumer."""

from __future__ import annotations

from progress_dashboard.outbox import MAX_WAITING_UPDATES, Outbox
from progress_dashboard.protocol import Status
from tests.unit.client.frames import Seqs, seqs, state


def take_all(outbox: Outbox) -> Seqs:
    updates = []
    while update := outbox.take():
        updates.append(update)
    return seqs(updates)


def test_a_consumer_that_keeps_up_gets_every_update() -> None:
    outbox = Outbox()
    updates = [state("a", seq, progress=seq % 100) for seq in range(MAX_WAITING_UPDATES)]
    for update in updates:
        outbox.put(update)
    assert take_all(outbox) == seqs(updates)


def test_a_slow_consumer_misses_percents_only() -> None:
    outbox = Outbox()
    starts = [state("a", 0, Status.PENDING), state("a", 1)]
    percents = [state("a", seq, progress=1) for seq in range(2, 5_000)]
    errors = [state("a", 5_000 + number, failed=number, error=f"e{number}") for number in range(1, 301)]
    last = state("a", 6_000, failed=300, error="e300", progress=9)
    for update in (*starts, *percents, *errors, last):
        outbox.put(update)
    taken = take_all(outbox)
    assert len(taken) <= MAX_WAITING_UPDATES + 302
    assert taken == sorted(taken)
    assert {*seqs(starts), *seqs(percents[-1:]), *seqs(errors), *seqs([last])} <= set(taken)


def test_a_consumer_that_stopped_taking_costs_little_memory() -> None:
    outbox = Outbox()
    for seq in range(20_000):
        outbox.put(state(f"job-{seq % 10}", seq, progress=seq % 90))
    assert len(outbox) <= MAX_WAITING_UPDATES + 20


def test_a_repeated_or_older_update_is_ignored() -> None:
    outbox = Outbox()
    for seq in (2, 2, 1, 3):
        outbox.put(state("a", seq))
    assert take_all(outbox) == [("a", 2), ("a", 3)]
    outbox.put(state("a", 3))
    assert len(outbox) == 0
