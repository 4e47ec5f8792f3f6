"""PostgreSQL: who may write, commits whose answer is lost, and a database that goes away and comes back."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import Connection, text

from backend.database_url import DatabaseUrl
from backend.errors import CannotStart, LeadLost, StoreRefused
from backend.store import Store
from backend.store.changes import NewJob, Tick
from backend.store.commit import commit
from backend.store.database import Database, open_database
from backend.store.job_lists import SORTS, Wanted
from backend.store.postgres import PostgresDatabase
from tests.support.clock import NOON
from tests.support.database_proxy import DatabaseProxy, Loss, database_proxy
from tests.support.databases import FILE, url_of
from tests.support.jobs import a_job
from tests.support.postgres import create_database
from tests.support.query_plans import executed_statements

pytestmark = pytest.mark.postgresql_only
TIMEOUT_SECONDS = 20
ANSWER_SECONDS = 1.0
PAST_JOBS = 5_000
JOBS = text("SELECT count(*) FROM job")


@pytest.fixture
def url(database: Database, tmp_path: Path) -> DatabaseUrl:
    """Return the address of a database with the users of the fixture `database`, that nothing leads."""
    return DatabaseUrl(url_of(tmp_path / FILE))


@pytest.fixture
def leader(url: DatabaseUrl) -> Iterator[PostgresDatabase]:
    """Yield the database as the server has it that leads."""
    with closing(PostgresDatabase(url)) as database:
        database.take_lead()
        yield database


@pytest.fixture
async def proxy(url: DatabaseUrl) -> AsyncIterator[DatabaseProxy]:
    """Yield a link to PostgreSQL that can be made a bad one."""
    async with database_proxy(urlsplit(url.secret).port or 5432) as proxy:
        yield proxy


@pytest.fixture
async def far_leader(url: DatabaseUrl, proxy: DatabaseProxy) -> AsyncIterator[PostgresDatabase]:
    """Yield the database behind the link, as the server has it that leads."""
    port = urlsplit(url.secret).port
    behind = DatabaseUrl(url.secret.replace(f":{port}/", f":{proxy.port}/") + "?sslmode=disable&gssencmode=disable")
    database = PostgresDatabase(behind, answer_seconds=ANSWER_SECONDS)
    await asyncio.to_thread(database.take_lead)
    yield database
    proxy.speak()
    await asyncio.to_thread(database.close)


def execute(url: DatabaseUrl, statement: str) -> list[tuple[object, ...]]:
    """Do something to the database from outside."""
    with psycopg.connect(url.secret, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def a_tick() -> Tick:
    return Tick(new=[NewJob(job=a_job(seq=1), columns=())])


async def commit_patiently(database: Database, tick: Tick) -> None:
    """Store the tick as the journal does: again and again while that is refused."""
    while True:
        try:
            await Store(database).commit(tick)
        except StoreRefused:
            continue
        return


async def stored_jobs(database: Database) -> int:
    return int(await database.read(lambda connection: connection.execute(JOBS).scalar_one()))


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_tick_whose_commit_got_no_answer_is_stored_once(
    far_leader: PostgresDatabase, proxy: DatabaseProxy, loss: Loss
) -> None:
    """Whether it was stored or not, it is when it is committed again, and only once."""
    store, tick = Store(far_leader), a_tick()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        lost = asyncio.create_task(proxy.lose(loss))
        await asyncio.sleep(0)
        with pytest.raises(StoreRefused):
            await store.commit(tick)
        await lost
        stored_at_once = await stored_jobs(far_leader)
        await commit_patiently(far_leader, tick)
    assert (stored_at_once, await stored_jobs(far_leader)) == (1 if loss is Loss.ANSWER else 0, 1)


def test_a_second_server_is_refused_with_the_name_of_the_first(url: DatabaseUrl, leader: PostgresDatabase) -> None:
    (found,) = execute(url, "SELECT process, node FROM life")
    with closing(PostgresDatabase(url)) as second, pytest.raises(CannotStart) as refused:
        second.take_lead()
    assert refused.value.sentence.startswith(
        f"Another server uses this database: process {found[0]} on {found[1]} leads since 20"
    )


def test_the_next_server_leads_as_soon_as_the_last_one_has_stopped(url: DatabaseUrl) -> None:
    for life in (1, 2):
        with closing(PostgresDatabase(url)) as database:
            database.take_lead()
            assert execute(url, "SELECT life FROM life") == [(life,)]


async def test_a_leader_that_lost_the_lead_writes_nothing_more(url: DatabaseUrl, leader: PostgresDatabase) -> None:
    execute(url, "UPDATE life SET life = life + 1, node = 'elsewhere', process = 7, since = now(), seen_at = now()")
    for attempt in (Store(leader).commit(a_tick()), leader.write(lambda connection: connection.execute(JOBS))):
        with pytest.raises(LeadLost, match=r"wrote nothing more, because process 7 on elsewhere leads"):
            await attempt
    with pytest.raises(LeadLost):
        await _until_lost(leader)
    assert await stored_jobs(leader) == 0


async def _until_lost(leader: PostgresDatabase) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            await leader.check()


async def test_commands_write_beside_the_leader(url: DatabaseUrl, leader: PostgresDatabase) -> None:
    with closing(PostgresDatabase(url)) as of_command:
        await Store(of_command).commit(a_tick())
    assert await stored_jobs(leader) == 1


async def test_a_leader_whose_connection_ended_leads_again(url: DatabaseUrl, leader: PostgresDatabase) -> None:
    await leader.write(lambda connection: None)
    execute(url, "SELECT pg_terminate_backend(backend_pid) FROM life")
    with pytest.raises(StoreRefused):
        await leader.write(lambda connection: None)
    await Store(leader).commit(a_tick())
    assert await stored_jobs(leader) == 1
    with closing(PostgresDatabase(url)) as second, pytest.raises(CannotStart):
        second.take_lead()


async def test_a_read_does_not_notice_that_idle_connections_ended(url: DatabaseUrl, leader: PostgresDatabase) -> None:
    await asyncio.gather(*(stored_jobs(leader) for _ in range(8)))
    ended = execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    assert len(ended) > 1
    assert await stored_jobs(leader) == 0
    assert await leader.read_by_cursor(lambda cursor: cursor.execute("SELECT ?::TEXT", ("x",)).fetchone()) == ("x",)


async def test_a_connection_in_use_is_kept_when_idle_ones_have_ended(
    url: DatabaseUrl, leader: PostgresDatabase
) -> None:
    """It is closed with the others, and not just forgotten."""
    begun, may_go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> int:
        found: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        begun.set()
        may_go_on.wait(TIMEOUT_SECONDS)
        return found

    await asyncio.gather(*(stored_jobs(leader) for _ in range(8)))
    held = asyncio.create_task(leader.read(hold))
    await asyncio.to_thread(begun.wait, TIMEOUT_SECONDS)
    idle = "datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'"
    assert execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {idle}")
    assert await stored_jobs(leader) == 0
    may_go_on.set()
    pid = await held
    gc.collect()  # one that is only forgotten is a ResourceWarning, which is an error in tests
    assert execute(url, f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}") == [(pid,)]


async def test_silence_is_refused_at_once_until_it_ends(far_leader: PostgresDatabase, proxy: DatabaseProxy) -> None:
    await far_leader.check()
    proxy.fall_silent()
    for refused in (far_leader.check(), stored_jobs(far_leader)):
        with pytest.raises(StoreRefused, match="does not answer"):
            await asyncio.wait_for(refused, TIMEOUT_SECONDS)
    proxy.speak()
    await far_leader.check()
    assert await stored_jobs(far_leader) == 0


async def test_a_commit_that_hangs_is_given_up_and_stored_once(
    far_leader: PostgresDatabase, proxy: DatabaseProxy
) -> None:
    await far_leader.write(lambda connection: None)
    proxy.fall_silent()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(StoreRefused, match="does not answer"):
            await Store(far_leader).commit(a_tick())
        proxy.speak()
        await commit_patiently(far_leader, a_tick())
    assert await stored_jobs(far_leader) == 1


async def test_a_read_that_hangs_is_given_up(far_leader: PostgresDatabase, proxy: DatabaseProxy) -> None:
    assert await stored_jobs(far_leader) == 0
    proxy.fall_silent()
    with pytest.raises(StoreRefused, match="does not answer"):
        await asyncio.wait_for(stored_jobs(far_leader), TIMEOUT_SECONDS)
    proxy.speak()
    assert await stored_jobs(far_leader) == 0


async def test_a_tick_writes_no_index_of_the_jobs(leader: PostgresDatabase) -> None:
    """The new state of a job goes into the page that has the old one (a heap-only update)."""
    job = a_job(seq=1)
    await Store(leader).commit(Tick(new=[NewJob(job=job, columns=())]))
    updates = text("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'job'")

    def step(connection: Connection) -> tuple[int, ...]:
        commit(connection, Tick(jobs=[job.evolve(seq=2, progress=50, updated_at=NOON)]))
        return tuple(connection.execute(updates).one())

    assert await leader.write(step) == (1, 1)


async def test_nul_in_a_text_is_not_found_and_not_an_error(database: Database, store: Store) -> None:
    assert await store.jobs.find("\x00", owner_id=None) is None
    assert await store.history.page("\x00", since=None, after=None, limit=10) == []


def test_two_programs_make_the_tables_of_an_empty_database_once(url: DatabaseUrl, tmp_path: Path) -> None:
    server = url.secret.rpartition("/")[0]
    name = f"empty_{Path(url.secret).name}"
    create_database(server, name)
    empty = DatabaseUrl(f"{server}/{name}")
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: open_database(empty, backups=tmp_path), range(4)))
    for database in opened:
        database.close()
    assert execute(empty, "SELECT count(*) FROM life") == [(1,)]


def test_a_database_of_a_newer_version_is_refused(url: DatabaseUrl, tmp_path: Path) -> None:
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CannotStart, match="written by a newer version"):
        open_database(url, backups=tmp_path)


@pytest.mark.parametrize("change", [("tests:", "nobody:"), (".1:", ".1:1"), ("/t", "/none")], ids=" ".join)
def test_a_database_that_cannot_be_opened_is_named_without_its_password(
    url: DatabaseUrl, tmp_path: Path, change: tuple[str, str]
) -> None:
    wrong = DatabaseUrl(change[1].join(url.secret.rsplit(change[0], 1)))
    with pytest.raises(CannotStart) as refused:
        open_database(wrong, backups=tmp_path)
    (password,) = url.secrets
    assert refused.value.sentence.startswith(f"The database {wrong.shown} cannot be opened (")
    assert password not in refused.value.sentence
    assert len(refused.value.sentence.splitlines()) == 1


async def test_texts_compare_by_their_code_points(database: Database) -> None:
    """In the order of the language "a" would be before "B"."""
    query = text("SELECT id FROM job ORDER BY id")
    jobs = [a_job(id=name, seq=place) for place, name in enumerate(("a", "B", "ä", "z"), 1)]
    await Store(database).commit(Tick(new=[NewJob(job=job, columns=()) for job in jobs]))
    assert await database.read(lambda connection: connection.execute(query).scalars().all()) == ["B", "a", "z", "ä"]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("owner", [None, "ana"])
async def test_every_list_of_past_jobs_walks_an_index_of_its_order(
    leader: PostgresDatabase, owner: str | None, sort: str
) -> None:
    """Among very many jobs no page sorts them or reads all of them, also not the page behind a cursor."""
    await leader.write(_add_past_jobs)
    jobs, wanted = Store(leader).jobs, Wanted(owner_id=owner, sort=sort, dashboard=False)
    first = await jobs.page(wanted, limit=10, cursor=None)
    with executed_statements() as statements:
        await jobs.page(wanted, limit=10, cursor=first.next_cursor)
    sql, values = next(statement for statement in statements if "UNION ALL" in statement[0])
    plan = await leader.read(lambda connection: connection.exec_driver_sql(f"EXPLAIN {sql}", values).scalars().all())
    index = f"ix_job_past_{'owner_' if owner else ''}{'created' if sort in ('newest', 'oldest') else sort}"
    assert any(index in step for step in plan), plan
    assert not any("Seq Scan on job" in step for step in plan), plan


def _add_past_jobs(connection: Connection) -> None:
    columns = "processor, options, source, columns, total_videos, found, attempt, lease_id, current_video, failed"
    connection.exec_driver_sql(
        "INSERT INTO job (id, owner_id, name, name_folded, name_key, status, message, progress, created_at, "
        f"updated_at, on_dashboard, seq, {columns}) SELECT md5(n::TEXT), 'ana', 'x', 'x', md5((n * 7)::TEXT), "
        "CASE mod(n, 2) WHEN 0 THEN 'failed' ELSE 'completed' END, '', 100, n, n * 3, false, n, 'probe', '{}', "
        f"'media', '[]', 1, 1, 1, 1, 1, 0 FROM generate_series(1, {PAST_JOBS}) AS n"
    )
    connection.exec_driver_sql("ANALYZE job")
