"""Pages of jobs: every filter, order and search, at the same cost among a million jobs.

Jobs on the dashboard are few and change all the time: they are looked through. Those that left it, the past ones, are
many and stay as they are: each filter and order has an index to walk. A list is walked status by status, and merged.

A search takes the past jobs that its indexes name: job IDs, video IDs, and three letters or more of names and errors.
Where they name more than `MAX_CANDIDATES`, or there are fewer letters, the list itself is walked, by `CHUNKS` of jobs:
a page for which that is not enough has fewer jobs than were asked for, or none, and its cursor leads on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Row,
    Select,
    and_,
    asc,
    desc,
    exists,
    func,
    or_,
    select,
    text,
    true,
    type_coerce,
    union,
    union_all,
)

from backend.domain.job_filter import ANY_JOB, JobFilter
from backend.domain.words import folded
from backend.store.pages import after_position, cursor_of, position_in
from backend.store.rows import past
from backend.store.tables import JOBS, USERS, VIDEOS
from backend.store.videos import LAST_CHARACTER, contains, id_begins_with
from progress_dashboard.protocol import Status

SORTS = ("newest", "oldest", "name", "updated")
MAX_CANDIDATES = 10_000
MAX_COUNTED = 100_000
CHUNKS = (1_000, 2_000)
LETTERS = 3  # of the search index's terms
PRESENT, PAST = JOBS.c.on_dashboard, ~JOBS.c.on_dashboard
Place = tuple[Any, str]  # of a job in its list: the value that it is sorted by, and its ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A list of jobs: whose (None: everybody's), which of them, and in which order."""

    owner_id: str | None = None
    dashboard: bool | None = None
    status: Status | None = None
    q: str = ""
    sort: str = "newest"
    only: JobFilter = ANY_JOB

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """What the filter asks of each job."""
        only, conditions = self.only, list[ColumnElement[bool]]()
        moment = func.coalesce(JOBS.c.finished_at, JOBS.c.created_at, type_=JOBS.c.created_at.type)
        took = type_coerce(JOBS.c.finished_at, BigInteger) - type_coerce(JOBS.c.started_at, BigInteger)
        if only.begin is not None:
            conditions.append(moment >= only.begin)
        if only.end is not None:
            conditions.append(moment < only.end)
        if only.min_seconds is not None:
            conditions.append(took >= only.min_seconds * 1000)
        if only.max_seconds is not None:
            conditions.append(took < only.max_seconds * 1000)
        if only.owner is not None:
            conditions.append(JOBS.c.owner_id == select(USERS.c.id).where(USERS.c.name == only.owner).scalar_subquery())
        if only.processor is not None:
            conditions.append(JOBS.c.processor == only.processor)
        return conditions

    @property
    def key(self) -> ColumnElement[Any]:
        """The column that the list is sorted by; the ID decides among equals."""
        keys: dict[str, ColumnElement[Any]] = {"name": JOBS.c.name_key, "updated": JOBS.c.updated_at}
        return keys.get(self.sort, JOBS.c.created_at)

    @property
    def is_descending(self) -> bool:
        return self.sort in ("newest", "updated")

    @property
    def past_key(self) -> ColumnElement[Any]:
        """The same of jobs that left the dashboard, as their indexes have it."""
        return past(JOBS.c.updated_at) if self.sort == "updated" else self.key

    def order(self, key: ColumnElement[Any], job_id: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Return the order of rows by these columns."""
        return [column.desc() if self.is_descending else column.asc() for column in (key, job_id)]


@dataclass(frozen=True, slots=True)
class Found:
    """The numbers of some jobs in the order of their list, and the cursor behind them; None at the end."""

    numbers: list[int]
    next_cursor: str | None


def find_page(
    connection: Connection,
    wanted: Wanted,
    *,
    limit: int,
    cursor: str | None,
    max_candidates: int = MAX_CANDIDATES,
) -> Found:
    """Return which jobs are on the page after `cursor`. Raises `Invalid` for a cursor of another list."""
    after = None if cursor is None else position_in(wanted.key, cursor)
    if not wanted.q and not wanted.only:
        return _page(connection.execute(walk(connection, wanted, after, limit + 1)).all(), limit)
    search = JobSearch(connection, wanted, max_candidates)
    if search.is_narrow:
        return _page(connection.execute(search.pick(wanted, after, limit + 1)).all(), limit)
    return _search_on_the_way(connection, wanted, search, after, limit)


def count_jobs(connection: Connection, wanted: Wanted, max_counted: int = MAX_COUNTED) -> int | None:
    """Return how many jobs a list has; None for more than so many, or if a search would have to look at all."""
    search = JobSearch(connection, wanted, MAX_CANDIDATES)
    if search.is_narrow:
        found: Any = search.pick(wanted, None, max_counted + 1)
    elif wanted.q:
        return None
    else:
        of_status = () if wanted.status is None else (JOBS.c.status == wanted.status,)
        own = () if wanted.owner_id is None else (JOBS.c.owner_id == wanted.owner_id,)
        parts = [select(JOBS.c.number).where(part, *of_status, *own, *wanted.conditions) for part in (PRESENT, PAST)]
        found = union_all(*parts).limit(max_counted + 1)
    number = connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()
    return None if number > max_counted else number


def walk(connection: Connection, wanted: Wanted, after: Place | None, limit: int, *more: str) -> CompoundSelect[Any]:
    """Return the query for (number, key, id, `more` columns) of the next jobs of a list, whatever its search is."""
    parts = []
    if wanted.dashboard is not False:
        of_status = () if wanted.status is None else (JOBS.c.status == wanted.status,)
        parts.append(_part(wanted, after, PRESENT, *of_status))
    if wanted.dashboard is not True:
        statuses = Status if wanted.status is None else (wanted.status,)
        parts += [_part(wanted, after, PAST, JOBS.c.status == status) for status in statuses]
    return _merged(connection, wanted, [part.add_columns(*(JOBS.c[name] for name in more)) for part in parts], limit)


class JobSearch:
    """What a search or a filter looks for, and the past jobs that the indexes name."""

    def __init__(self, connection: Connection, wanted: Wanted, max_candidates: int) -> None:
        self._connection = connection
        self._q = q = wanted.q
        self._conditions = wanted.conditions
        self._named: list[Select[Any]] = []
        self.is_narrow = False
        if q:
            self._jobs = select(_begun_video_ids(q).subquery().c.job_id).distinct()
            self._videos_are_few = _fits(connection, _begun_video_ids(q), max_candidates)
            words = _named_by_words(q, connection.dialect.name)
            self._named = [query for query in (words, _begun_ids(q)) if query is not None]
            has_letters = len(folded(q)) >= LETTERS
            self.is_narrow = (
                has_letters
                and self._videos_are_few
                and all(_fits(connection, query, max_candidates) for query in self._named)
            )
        self._is_by_time = (
            not self.is_narrow and wanted.only.has_range and _fits(connection, _ended_within(wanted), max_candidates)
        )
        if self._is_by_time:
            self._named, self.is_narrow = [_ended_within(wanted)], True

    def pick(self, wanted: Wanted, after: Place | None, limit: int) -> CompoundSelect[Any]:
        """Return the query for (number, key, id) of the next matching jobs, if `is_narrow`."""
        parts = []
        if wanted.dashboard is not False:
            of_status = () if wanted.status is None else (JOBS.c.status == wanted.status,)
            parts.append(_part(wanted, after, PRESENT, *of_status, self.matches))
        if wanted.dashboard is not True:
            queries = list(self._named)
            if not self._is_by_time:
                queries.append(select(JOBS.c.number).where(JOBS.c.id.in_(self._jobs)))
            named = union(*(select(query.subquery().c.number) for query in queries))
            candidates = named.subquery("candidate")
            source = candidates.join(JOBS, JOBS.c.number == candidates.c.number)
            # An index for these conditions would name far more jobs than the candidates are.
            given = ((JOBS.c.status, wanted.status), (JOBS.c.owner_id, wanted.owner_id))
            conditions = [func.substr(column, 1) == value for column, value in given if value is not None]
            everybody = replace(wanted, owner_id=None)
            parts.append(_part(everybody, after, PAST, *conditions, self.matches, source=source))
        return _merged(self._connection, wanted, parts, limit)

    @property
    def matches(self) -> ColumnElement[bool]:
        """The condition of a job that is found."""
        return and_(true(), *self._conditions, *([self._has_words] if self._q else []))

    @property
    def _has_words(self) -> ColumnElement[bool]:
        if self._videos_are_few:
            has_video: ColumnElement[bool] = JOBS.c.id.in_(self._jobs)
        else:  # the range of the job's own videos, and not that of all IDs that begin so
            begins = func.substr(VIDEOS.c.video_id, 1, len(self._q)) == self._q
            has_video = exists().where(VIDEOS.c.job_id == JOBS.c.id, begins)
        return or_(
            JOBS.c.id.startswith(self._q.lower(), autoescape=True),
            JOBS.c.name_folded.contains(folded(self._q), autoescape=True),
            contains(JOBS.c, self._q),
            has_video,
        )


def _search_on_the_way(
    connection: Connection, wanted: Wanted, search: JobSearch, after: Place | None, limit: int
) -> Found:
    """Walk the list in growing chunks until the page is full."""
    found: list[Row[Any]] = []
    next_cursor = None
    for chunk in CHUNKS:
        walked = walk(connection, wanted, after, chunk).subquery("walked")
        rows = select(walked).join(JOBS, JOBS.c.number == walked.c.number).where(search.matches)
        found += connection.execute(rows.order_by(*wanted.order(walked.c.key, walked.c.id))).all()
        last = connection.execute(walk(connection, wanted, after, chunk).offset(chunk - 1).limit(1)).first()
        if len(found) > limit or last is None:
            return _page(found, limit)
        after = last.key, last.id
        next_cursor = cursor_of(*after)
    return Found([row.number for row in found], next_cursor)


def _page(rows: Sequence[Row[Any]], limit: int) -> Found:
    numbers = [row.number for row in rows[:limit]]
    return Found(numbers, cursor_of(rows[limit - 1].key, rows[limit - 1].id) if len(rows) > limit else None)


def _part(
    wanted: Wanted, after: Place | None, part: ColumnElement[bool], *conditions: ColumnElement[bool], source: Any = JOBS
) -> Select[Any]:
    key = wanted.past_key if part is PAST else wanted.key
    query = select(JOBS.c.number, key.label("key"), JOBS.c.id).select_from(source).where(part, *conditions)
    if wanted.owner_id is not None:
        query = query.where(JOBS.c.owner_id == wanted.owner_id)
    if after is not None:
        query = query.where(after_position(key, JOBS.c.id, wanted.is_descending, after))
    return query


def _merged(connection: Connection, wanted: Wanted, parts: Iterable[Select[Any]], limit: int) -> CompoundSelect[Any]:
    """Return the first rows of all these lists in the order of one: the database takes them as it needs them."""
    direction = desc if wanted.is_descending else asc
    if connection.dialect.name != "sqlite":  # PostgreSQL does not see the order that an index has within one status
        parts = [select(_first(wanted, part, limit).subquery()) for part in parts]
    return union_all(*parts).order_by(direction("key"), direction("id")).limit(limit)


def _first(wanted: Wanted, part: Select[Any], limit: int) -> Select[Any]:
    return part.order_by(*wanted.order(part.selected_columns["key"], part.selected_columns["id"])).limit(limit)


def _named_by_words(q: str, dialect: str) -> Select[Any] | None:
    """Return the query for the numbers of jobs whose name or error may contain `q`; None if it is too short.

    The index has every three letters in a row, without their places: `JobSearch.matches` looks at the job itself.
    """
    letters = folded(q)
    if len(letters) < LETTERS:
        return None
    starts = {*range(0, len(letters) - LETTERS, LETTERS), len(letters) - LETTERS}
    terms = sorted({letters[start : start + LETTERS] for start in starts})
    if dialect != "sqlite":
        has_terms = text("job_terms(name_folded, error, error_folded) @> CAST(:terms AS TEXT[])").bindparams(
            terms=terms
        )
        return select(JOBS.c.number).where(PAST, has_terms).limit(MAX_CANDIDATES + 1)
    match = " AND ".join('"{}"'.format(term.replace('"', '""')) for term in terms)
    some = text("SELECT rowid AS number FROM job_words WHERE job_words MATCH :match LIMIT :most")
    named = some.bindparams(match=match, most=MAX_CANDIDATES + 1).columns(number=Integer).subquery()
    return select(named.c.number)


def _ended_within(wanted: Wanted) -> Select[Any]:
    """Return the query for the numbers of the past jobs, all of which have ended, that ended in the wanted time."""
    only, conditions = wanted.only, [PAST]
    if wanted.owner_id is not None:
        conditions.append(JOBS.c.owner_id == wanted.owner_id)
    if only.begin is not None:
        conditions.append(JOBS.c.finished_at >= only.begin)
    if only.end is not None:
        conditions.append(JOBS.c.finished_at < only.end)
    return select(JOBS.c.number).where(*conditions).limit(MAX_CANDIDATES + 1)


def _begun_ids(q: str) -> Select[Any]:
    begins = and_(JOBS.c.id >= q.lower(), JOBS.c.id < q.lower() + LAST_CHARACTER)
    return select(JOBS.c.number).where(begins).limit(MAX_CANDIDATES + 1)


def _begun_video_ids(q: str) -> Select[Any]:
    return select(VIDEOS.c.job_id).where(id_begins_with(q)).limit(MAX_CANDIDATES + 1)


def _fits(connection: Connection, query: Select[Any], most: int) -> bool:
    counted = select(func.count()).select_from(query.subquery())
    return connection.execute(counted).scalar_one() <= most
