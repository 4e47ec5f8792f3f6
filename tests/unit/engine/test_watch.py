"""Who is connected, who is lost, who rests, and what counts for a job: by looks at given times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backend.engine.watch import FIRST_REST_SECONDS, FORGOTTEN_SECONDS, MARGIN_SECONDS, MEMORY_SECONDS, Watch
from backend.store.workers import WorkerRow
from tests.support.clock import NOON

LEASE_SECONDS = 60.0
LOST_AFTER = LEASE_SECONDS + MARGIN_SECONDS
FAULT = "The media directory is missing."


class Team:
    """Workers that beat with each look unless they are silent; a look a second."""

    def __init__(self, *names: str, slots: int = 4) -> None:
        self.watch = Watch(LEASE_SECONDS)
        self.rows = {name: row_of(name, slots) for name in names}
        self.silent: set[str] = set()
        self.now = 1000.0
        self.look()
        self.look()

    def look(self, seconds: float = 1.0) -> None:
        """Look once, so many seconds after the last look."""
        self.now += seconds
        for name, row in self.rows.items():
            self.rows[name] = row if name in self.silent else replace(row, beats=row.beats + 1)
        self.watch.look(list(self.rows.values()), set(self.rows), self.now)

    def wait(self, seconds: float) -> None:
        """Look each second for so long."""
        for _ in range(int(seconds)):
            self.look()

    def fault(self, name: str, cause: str = "a cause") -> bool:
        """Return True if a fault of this worker's machine counts for the job."""
        return self.watch.counts_fault(name, cause, FAULT, "probe")

    def may_run(self, name: str) -> int:
        return self.watch.may_run(self.rows[name])

    def lost(self) -> list[str]:
        return self.watch.lost(self.rows)


def row_of(name: str, slots: int = 4) -> WorkerRow:
    return WorkerRow(
        name=name,
        node="node",
        process=1,
        slots=slots,
        cap=None,
        may_run=slots,
        draining=False,
        version="1",
        processors=("probe",),
        beats=0,
        running=0,
        seen_at=NOON,
        since=NOON,
        resting=None,
    )


def test_a_worker_that_beats_is_connected_and_never_lost() -> None:
    team = Team("one")

    team.wait(3 * LOST_AFTER)

    assert team.watch.is_connected("one")
    assert team.lost() == []


def test_a_silent_worker_takes_nothing_after_seconds_and_is_lost_after_its_lease() -> None:
    team = Team("one", "two")
    team.silent = {"one"}

    team.wait(5)
    assert not team.watch.is_connected("one")
    assert team.watch.capacity() == 4
    team.wait(LOST_AFTER - 6)
    assert team.lost() == []
    team.look()

    assert team.lost() == ["one"]


def test_an_absence_of_the_database_loses_nobody() -> None:
    team = Team("one")
    team.silent = {"one"}

    team.wait(30)
    team.watch.look_away()
    team.look(1000)
    assert team.lost() == []
    team.wait(LOST_AFTER - 30)

    assert team.lost() == ["one"]


def test_a_server_that_was_frozen_has_not_looked_meanwhile() -> None:
    team = Team("one")
    team.silent = {"one"}

    team.look(1000)

    assert team.lost() == []


def test_a_worker_that_was_there_before_the_server_is_connected_with_its_next_beat() -> None:
    watch, row = Watch(LEASE_SECONDS), row_of("one")

    watch.look([row], (), 1.0)
    assert not watch.is_connected("one")
    watch.look([replace(row, beats=1)], (), 2.0)

    assert watch.is_connected("one")


def test_a_worker_that_comes_later_is_connected_at_once() -> None:
    watch = Watch(LEASE_SECONDS)
    watch.look([], (), 1.0)

    watch.look([row_of("one")], (), 2.0)

    assert watch.is_connected("one")
    assert watch.capacity("probe") == 4
    assert watch.capacity("another") == 0


def test_a_worker_that_left_with_runs_is_lost_after_its_lease() -> None:
    team = Team("one")
    team.rows.clear()

    for _ in range(int(LOST_AFTER)):
        team.now += 1
        team.watch.look([], {"one"}, team.now)

    assert team.watch.lost(["one"]) == ["one"]
    assert team.watch.rows() == []


def test_a_worker_that_is_silent_for_a_day_is_forgotten() -> None:
    team = Team("one")
    team.silent = {"one"}

    for _ in range(int(FORGOTTEN_SECONDS / 2)):
        team.look(2)

    assert team.watch.forgotten() == [("one", team.rows["one"].beats)]


def test_a_machine_with_a_fault_rests_and_its_video_goes_elsewhere() -> None:
    team = Team("bad", "good")

    assert not team.fault("bad")

    assert team.watch.resting("bad") == FAULT
    assert team.may_run("bad") == 0
    assert team.watch.capacity() == 4


def test_all_that_fails_while_a_machine_rests_goes_elsewhere() -> None:
    team = Team("bad", "good")

    assert [team.fault("bad") for _ in range(8)] == [False] * 8


def test_a_fault_that_two_machines_have_counts_for_the_job() -> None:
    team = Team("one", "two", "three")

    assert not team.fault("one")
    assert team.fault("two")

    assert team.may_run("two") == 4


def test_a_fault_of_the_only_machine_counts_for_the_job() -> None:
    team = Team("one", "silent", "draining")
    team.silent = {"silent"}
    team.rows["draining"] = replace(team.rows["draining"], draining=True)
    team.wait(6)

    assert team.fault("one")
    assert team.watch.resting("one") is None


def test_a_machine_without_the_processor_is_no_other_machine() -> None:
    team = Team("one", "two")
    team.rows["two"] = replace(team.rows["two"], processors=("another",))
    team.look()

    assert team.fault("one")


def test_after_its_rest_a_machine_gets_one_run_and_all_after_a_success() -> None:
    team = Team("bad", "good")
    team.fault("bad")

    team.wait(FIRST_REST_SECONDS)
    assert team.watch.resting("bad") is None
    assert team.may_run("bad") == 1
    team.watch.succeeded("bad")

    assert team.may_run("bad") == 4


def test_each_rest_is_longer() -> None:
    team = Team("bad", "good")
    team.fault("bad")
    team.wait(FIRST_REST_SECONDS)

    team.fault("bad")
    team.wait(FIRST_REST_SECONDS)
    assert team.may_run("bad") == 0
    team.wait(FIRST_REST_SECONDS)

    assert team.may_run("bad") == 1


def test_a_success_that_began_before_the_fault_ends_no_rest() -> None:
    team = Team("bad", "good")
    team.fault("bad")

    team.watch.succeeded("bad")

    assert team.may_run("bad") == 0


def test_a_machine_that_is_started_again_does_not_rest() -> None:
    team = Team("bad", "good")
    team.fault("bad")

    team.rows["bad"] = replace(team.rows["bad"], since=NOON.replace(hour=13))
    team.look()

    assert team.may_run("bad") == 4


def test_a_fault_of_long_ago_does_not_speak_against_another_machine() -> None:
    team = Team("one", "two")
    team.fault("one")
    team.wait(MEMORY_SECONDS + 1)

    assert not team.fault("two")


def test_a_rest_outlasts_the_server() -> None:
    watch, row = Watch(LEASE_SECONDS), replace(row_of("bad"), resting=FAULT)

    watch.look([row], (), 1.0)

    assert watch.may_run(row) == 0
    assert watch.resting("bad") == FAULT


@pytest.mark.parametrize(
    ("cap", "draining", "expected"), [(None, False, 4), (2, False, 2), (9, False, 4), (2, True, 0)]
)
def test_an_administrator_limits_what_a_machine_may_run(cap: int | None, draining: bool, expected: int) -> None:
    team = Team("one")
    team.rows["one"] = replace(team.rows["one"], cap=cap, draining=draining)
    team.look()

    assert team.may_run("one") == expected
    assert team.watch.capacity() == expected
