"""History by time, duration, owner and processor: what is found, counted and exported, and by which index."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection

from backend.domain.job import Job
from backend.domain.job_filter import JobFilter, job_filter
from backend.errors import Invalid
from backend.store import Store
from backend.store.changes import NewJob, RemovedJob, Tick
from backend.store.database import Database
from backend.store.job_lists import Wanted, count_jobs, find_page
from progress_dashboard.protocol import Status
from tests.integration.store.test_lists import explained, read_all, stored
from tests.support.clock import NOON
from tests.support.jobs import a_job

ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
HOUR = timedelta(hours=1)
FILTERS = (
    JobFilter(begin=NOON + 10 * HOUR),
    JobFilter(end=NOON + 10 * HOUR),
    JobFilter(begin=NOON + 5 * HOUR, end=NOON + 20 * HOUR),
    JobFilter(min_seconds=1800),
    JobFilter(max_seconds=1800),
    JobFilter(owner="ben"),
    JobFilter(owner="nobody"),
    JobFilter(processor="poster"),
    JobFilter(begin=NOON + 3 * HOUR, min_seconds=600, owner="ana", processor="probe"),
)


def some_jobs(count: int) -> list[Job]:
    """Return jobs of two owners and two processors; some have not ended, and those are on the dashboard."""
    rng = random.Random(3)
    jobs = []
    for number in range(count):
        created = NOON + timedelta(minutes=rng.randrange(60 * 24))
        started = created + timedelta(minutes=rng.randrange(30))
        owner, has_ended = rng.choice(("ana", "ben")), rng.random() < 0.8
        job = a_job(
            id=f"{rng.randrange(16**8):08x}-{number:03}",
            owner_id=owner,
            owner=owner,
            name=f"{rng.choice(('nightly', 'weekly'))} {number}",
            processor=rng.choice(("probe", "poster")),
            status=rng.choice(ENDED) if has_ended else Status.PROCESSING,
            created_at=created,
            updated_at=started,
            started_at=started,
            finished_at=started + timedelta(seconds=rng.randrange(7200)) if has_ended else None,
            on_dashboard=not has_ended or number % 5 == 0,
            seq=number + 1,
        )
        jobs.append(job)
    return jobs


@pytest.fixture
async def jobs(store: Store) -> list[Job]:
    made = some_jobs(150)
    await store.commit(Tick(new=[NewJob(job=job.evolve(on_dashboard=True), columns=()) for job in made]))
    left = [RemovedJob(job.id, job.owner_id, 1_000 + job.seq) for job in made if not job.on_dashboard]
    await store.commit(Tick(removed=left))
    return made


def expected(jobs: list[Job], wanted: Wanted) -> list[str]:
    """Return the IDs of the list, without a database."""
    only, found = wanted.only, []
    for job in jobs:
        moment = job.finished_at or job.created_at
        took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
        is_wanted = (
            wanted.owner_id in (None, job.owner_id)
            and wanted.status in (None, job.status)
            and (only.begin is None or moment >= only.begin)
            and (only.end is None or moment < only.end)
            and (only.min_seconds is None or (took is not None and took >= only.min_seconds))
            and (only.max_seconds is None or (took is not None and took < only.max_seconds))
            and only.owner in (None, job.owner)
            and only.processor in (None, job.processor)
            and wanted.q in job.name
        )
        if is_wanted:
            found.append(job)
    return [job.id for job in sorted(found, key=lambda job: (job.created_at, job.id), reverse=True)]


@pytest.mark.parametrize("only", FILTERS, ids=str)
async def test_a_filter_finds_what_a_look_at_every_job_finds(store: Store, jobs: list[Job], only: JobFilter) -> None:
    for owner_id in (None, "ana"):
        for status in (None, Status.FAILED):
            for q in ("", "nightly"):
                wanted = Wanted(owner_id=owner_id, status=status, q=q, only=only)
                assert await read_all(store, wanted) == expected(jobs, wanted), wanted


@pytest.mark.parametrize("only", FILTERS, ids=str)
async def test_where_an_index_names_too_many_the_list_is_looked_through(
    database: Database, jobs: list[Job], only: JobFilter
) -> None:
    wanted = Wanted(only=only)
    found = await database.read(partial(find_page, wanted=wanted, limit=200, cursor=None, max_candidates=0))
    all_jobs = await database.read(partial(find_page, wanted=Wanted(only=only), limit=200, cursor=None))
    assert found == all_jobs
    assert len(found.numbers) == len(expected(jobs, wanted))


@pytest.mark.parametrize("only", FILTERS, ids=str)
async def test_what_a_filter_leaves_is_counted_and_exported(store: Store, jobs: list[Job], only: JobFilter) -> None:
    for q in ("", "nightly"):
        wanted = Wanted(only=only, q=q)
        page = await store.jobs.lines(wanted, cursor=None)
        assert [line.job_id for line in page.items] == expected(jobs, wanted)
        assert await store.jobs.count_wanted(wanted) == len(expected(jobs, wanted))


async def test_everything_is_counted_without_a_filter(store: Store, jobs: list[Job]) -> None:
    assert await store.jobs.count_wanted(Wanted()) == len(jobs)
    assert await store.jobs.count_wanted(Wanted(owner_id="ana", status=Status.FAILED)) == len(
        expected(jobs, Wanted(owner_id="ana", status=Status.FAILED))
    )


async def test_very_many_are_not_counted(database: Database, jobs: list[Job]) -> None:
    wanted = Wanted(only=JobFilter(processor="probe"))
    assert await database.read(partial(count_jobs, wanted=wanted, max_counted=20)) is None


@pytest.mark.sqlite_only
@pytest.mark.parametrize("owner", [None, "ana"])
async def test_a_time_is_found_by_the_index_of_ends(database: Database, store: Store, owner: str | None) -> None:
    await stored(store, 20)
    wanted = Wanted(owner_id=owner, only=JobFilter(begin=NOON, end=NOON + HOUR), dashboard=False)
    found = await explained(database, partial(store.jobs.page, wanted, limit=10, cursor=None))
    index = f"ix_job_past_{'owner_' if owner else ''}finished"
    assert any(index in step for step in found), found
    assert not any(step == "SCAN job" for step in found), found


def _names_of_indexes(connection: Connection) -> set[str]:
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'")
    else:
        rows = connection.exec_driver_sql("SELECT indexname FROM pg_indexes")
    return {row[0] for row in rows}


async def test_the_index_of_ends_is_there(database: Database) -> None:
    assert await database.read(_names_of_indexes) >= {"ix_job_past_finished", "ix_job_past_owner_finished"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"begin": "yesterday"}, "from must be a time"),
        ({"end": "31.1.2026"}, "to must be a time"),
        ({"min_seconds": "long"}, "min_seconds must be a number of seconds"),
        ({"max_seconds": "-1"}, "max_seconds must be a number of seconds"),
        ({"max_seconds": "nan"}, "max_seconds must be a number of seconds"),
        ({"owner": "\x00"}, "owner"),
    ],
)
def test_values_that_mean_nothing_are_refused_by_name(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        job_filter(**given)
