"""Jobs that run elsewhere: what their senders may say, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from backend.clock import to_millis
from backend.domain.job import Job
from backend.errors import Conflict, IllegalMove, Invalid, JobNotFound
from backend.jobs.retention import Cleanup
from backend.lists.csv_files import list_of_ids
from backend.settings import load_settings
from backend.store import Database, JobStore
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.accounts import accounts_over
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, open_managed
from tests.support.servers import Program, add_user, api, running, token
from tests.support.watchers import Watcher
from ui.components.dashboard.job_grid import card

IDS = ("one", "two", "three", "four")
NOBODYS = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def managed(store: JobStore, tmp_path: Path) -> AsyncIterator[Managed]:
    async with open_managed(store, tmp_path) as opened:
        yield opened


async def make(managed: Managed, *video_ids: str) -> Job:
    """A new job of Ana's that runs elsewhere."""
    videos = list_of_ids(video_ids or IDS)
    return (await managed.manager.submit(videos, by=ANA, name="list.csv", processor=EXTERNAL)).job


async def hear(managed: Managed, job: Job, *reports: SenderReport) -> Job:
    """One request of its sender."""
    return await managed.manager.hear(job.id, reports, by=ANA)


async def statuses(managed: Managed, job: Job) -> list[str]:
    return [video.status.value for video in await managed.videos(job)]


# what a new one is


async def test_a_new_one_waits_for_its_sender_and_for_nothing_here(managed: Managed) -> None:
    submission = await managed.manager.submit(list_of_ids(IDS), by=ANA, name="list.csv", processor=EXTERNAL)
    job = submission.job
    assert (job.status, job.message, job.processor) == (Status.PENDING, "Waiting for the first report", "external")
    assert (submission.found, submission.missing) == (4, 0)
    assert managed.executor.submitted == []


async def test_it_takes_no_options(managed: Managed) -> None:
    with pytest.raises(Invalid, match="takes no options"):
        await managed.manager.submit(
            list_of_ids(IDS), by=ANA, name="list.csv", processor=EXTERNAL, options={"max_speed": 1}
        )


# what reports make of it


async def test_the_answer_is_the_newest_state_and_is_stored(managed: Managed) -> None:
    job = await make(managed)
    answer = await hear(managed, job, SenderReport(n=0, current_video=1, video_id="one", message="Working"))
    assert (answer.status, answer.current_video, answer.progress) == (Status.PROCESSING, 1, 25)
    assert (answer.video_id, answer.message, answer.started_at) == ("one", "Working", managed.clock.now())
    assert answer == await managed.store.find(job.id, owner_id="ana")


async def test_reports_count_in_the_order_of_their_numbers_however_they_come(managed: Managed) -> None:
    job = await make(managed)
    reports = [SenderReport(n=n, message=f"Step {n}") for n in (3, 1, 2)]
    assert (await hear(managed, job, *reports)).message == "Step 3"


@pytest.mark.parametrize("n", [0, 4, 5])
async def test_a_repeated_or_older_report_changes_nothing(managed: Managed, n: int) -> None:
    job = await make(managed)
    earlier = await hear(managed, job, SenderReport(n=5, current_video=2))
    assert await hear(managed, job, SenderReport(n=n, current_video=3, error="Too late")) == earlier


async def test_two_requests_at_once_count_each_report_once(managed: Managed) -> None:
    job = await make(managed)
    failure = SenderReport(n=1, video_id="one", error="cut off")
    await asyncio.gather(*(hear(managed, job, failure, SenderReport(n=2, current_video=2)) for _ in range(5)))
    end = await managed.stored(job)
    assert (end.failed, end.current_video) == (1, 2)


async def test_each_failed_video_is_kept_in_history_with_its_own_error(managed: Managed) -> None:
    job = await make(managed)
    await hear(managed, job, *(SenderReport(n=n, video_id=IDS[n], error=f"cut off at {n}") for n in range(3)))
    told = [json.loads(update) for update in await managed.manager.history(job.id, by=ANA)]
    assert [(one.get("error"), one["failed"], one["current_video"]) for one in told[2:]] == [
        ("cut off at 0", 1, 1),
        ("cut off at 1", 2, 2),
        ("cut off at 2", 3, 3),
    ]
    assert [video.error for video in await managed.videos(job)] == [
        "cut off at 0",
        "cut off at 1",
        "cut off at 2",
        None,
    ]


async def test_a_video_that_is_reported_failed_again_counts_once(managed: Managed) -> None:
    job = await make(managed)
    failure = SenderReport(n=1, video_id="two", error="cut off")
    await hear(managed, job, failure, msgspec.structs.replace(failure, n=2))
    end = await hear(managed, job, msgspec.structs.replace(failure, n=3))
    assert (end.failed, end.current_video) == (1, 1)
    assert [video.attempts for video in await managed.videos(job)] == [0, 1, 0, 0]


async def test_a_video_is_completed_by_the_report_that_counts_it(managed: Managed) -> None:
    job = await make(managed)
    await hear(managed, job, SenderReport(n=1, video_id="one"), SenderReport(n=2, video_id="two", current_video=1))
    assert await statuses(managed, job) == ["pending", "completed", "pending", "pending"]


@pytest.mark.parametrize(
    ("said", "rest"), [("completed", "completed"), ("completed_with_errors", "completed"), ("failed", "pending")]
)
async def test_the_end_settles_the_videos_that_nobody_reported(managed: Managed, said: str, rest: str) -> None:
    job = await make(managed)
    await hear(managed, job, SenderReport(n=1, video_id="two", error="cut off"), SenderReport(n=2, status=said))
    assert await statuses(managed, job) == [rest, "failed", rest, rest]


async def test_a_pending_job_that_is_reported_completed_was_processing_in_between(managed: Managed) -> None:
    job = await make(managed)
    await hear(managed, job, SenderReport(n=1, status="completed"))
    told = [json.loads(update)["status"] for update in await managed.manager.history(job.id, by=ANA)]
    assert told == ["pending", "processing", "completed"]


async def test_an_error_of_the_job_is_kept_and_counts_no_video(managed: Managed) -> None:
    job = await make(managed)
    answer = await hear(managed, job, SenderReport(n=1, error="The disk is slow"))
    assert (answer.status, answer.error, answer.failed) == (Status.PROCESSING, "The disk is slow", 0)


async def test_what_follows_the_end_in_one_list_is_ignored_also_when_it_is_sent_again(managed: Managed) -> None:
    job = await make(managed)
    reports = [SenderReport(n=1, status="completed"), SenderReport(n=2, status="processing", message="More")]
    end = await hear(managed, job, *reports)
    assert end.status is Status.COMPLETED
    assert await hear(managed, job, *reports) == end


async def test_news_of_a_job_that_has_ended_is_refused_and_old_news_is_not(managed: Managed) -> None:
    job = await make(managed)
    end = await hear(managed, job, SenderReport(n=7, status="completed"))
    for on_dashboard in (True, False):
        with pytest.raises(Conflict, match="already ended; make a new one"):
            await hear(managed, job, SenderReport(n=8))
        assert (await hear(managed, job, SenderReport(n=7))).status is end.status, on_dashboard
        managed.manager.remove_from_dashboard(lambda *_: True)
        await managed.hub.durable()


# what is refused


REFUSED = {
    "a status that no sender decides": (SenderReport(n=2, status="paused"), "completed_with_errors"),
    "a status that is none": (SenderReport(n=2, status="done"), "processing, completed"),
    "more videos than there are": (SenderReport(n=2, current_video=5), "from 0 to 4"),
    "a video of no list": (SenderReport(n=2, video_id="five"), '"five" is not in this job'),
    "a video that cannot be": (SenderReport(n=2, video_id="\ud800"), "one of this job's videos"),
    "a message that is too long": (SenderReport(n=2, message="x" * 501), "at most 500"),
    "an error that is too long": (SenderReport(n=2, error="x" * 2001), "at most 2,000"),
    "a message that is no text": (SenderReport(n=2, message="a\x00b"), "readable text"),
    "an error that is no text": (SenderReport(n=2, error="\udfff"), "readable text"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_does_not_fit_is_refused_in_words_with_all_that_came_with_it(managed: Managed, what: str) -> None:
    job = await make(managed)
    report, words = REFUSED[what]
    with pytest.raises(Invalid, match=words):
        await hear(managed, job, SenderReport(n=1, current_video=1), report)
    assert (await managed.stored(job)).status is Status.PENDING


async def test_a_thousand_reports_go_into_one_request_and_no_more(managed: Managed) -> None:
    job = await make(managed)
    reports = [SenderReport(n=n) for n in range(1001)]
    assert (await hear(managed, job, *reports[:1000])).reported == 999
    with pytest.raises(Invalid, match="At most 1,000"):
        await hear(managed, job, *reports)


async def test_somebody_elses_job_is_not_there_and_the_admins_word_counts(managed: Managed) -> None:
    job = await make(managed)
    for job_id in (job.id, "never-was"):
        with pytest.raises(JobNotFound):
            await managed.manager.hear(job_id, [SenderReport(n=1)], by=BEN)
    assert (await managed.manager.hear(job.id, [SenderReport(n=1)], by=ADMIN)).status is Status.PROCESSING


async def test_a_job_that_runs_here_takes_no_reports(managed: Managed) -> None:
    job = await managed.submit("one")
    with pytest.raises(Conflict, match="runs here"):
        await hear(managed, job, SenderReport(n=1, status="completed"))


async def test_a_paused_job_takes_no_reports(store: JobStore, managed: Managed) -> None:
    job = await make(managed)
    managed.hub.stage(job.evolve(status=Status.PAUSED), kept=True)
    await managed.hub.durable()
    await managed.manager.recover()
    with pytest.raises(IllegalMove, match="paused takes no reports"):
        await hear(managed, job, SenderReport(n=1))


# a sender that falls silent


async def silent_for(managed: Managed, seconds: float) -> None:
    """Time goes on and the dashboard is tidied."""
    await managed.clock.advance(seconds)
    managed.manager.fail_silent(3600)


async def test_a_silent_senders_job_fails_in_words_and_its_videos_stay_as_they_are(managed: Managed) -> None:
    job = await make(managed)
    await hear(managed, job, SenderReport(n=1, current_video=1, video_id="one"))
    await silent_for(managed, 3599)
    assert (await managed.stored(job)).status is Status.PROCESSING
    await silent_for(managed, 1)
    end = await managed.stored(job)
    assert (end.status, end.current_video, end.finished_at) == (Status.FAILED, 1, managed.clock.now())
    assert end.error is not None
    assert end.error.startswith("No word from the sender for 60 minutes; ")
    assert await statuses(managed, job) == ["completed", "pending", "pending", "pending"]


async def test_a_sender_that_never_said_a_word_is_silent_since_the_job_was_made(managed: Managed) -> None:
    job = await make(managed)
    await silent_for(managed, 3600)
    assert (await managed.stored(job)).status is Status.FAILED


async def test_a_repeated_report_and_an_empty_list_are_words_too_and_a_refused_report_is_none(managed: Managed) -> None:
    jobs = [await make(managed) for _ in range(3)]
    for job in jobs:
        await hear(managed, job, SenderReport(n=1))
    await managed.clock.advance(3000)
    await hear(managed, jobs[0], SenderReport(n=1))
    await hear(managed, jobs[1])
    with pytest.raises(Invalid):
        await hear(managed, jobs[2], SenderReport(n=2, video_id="five"))
    await silent_for(managed, 600)
    statuses = [(await managed.stored(job)).status for job in jobs]
    assert statuses == [Status.PROCESSING, Status.PROCESSING, Status.FAILED]


async def test_jobs_that_run_here_and_those_that_ended_never_fail_by_silence(managed: Managed) -> None:
    here, done = await managed.submit("one"), await make(managed)
    await hear(managed, done, SenderReport(n=1, status="completed"))
    await silent_for(managed, 10_000)
    assert [(await managed.stored(job)).status for job in (here, done)] == [Status.PENDING, Status.COMPLETED]


async def test_cleaning_up_ends_the_jobs_of_silent_senders(
    managed: Managed, database: Database, tmp_path: Path
) -> None:
    settings = load_settings(data_dir=tmp_path, external_timeout_seconds=90)
    cleanup = Cleanup(managed.manager, accounts_over(database, managed.clock, settings), settings, managed.clock)
    job = await make(managed)
    await managed.clock.advance(90)
    await cleanup.run_once()
    assert "for 90 s;" in (await managed.stored(job)).message


# another life of the server


async def test_after_a_restart_it_goes_on_where_its_sender_is(
    store: JobStore, managed: Managed, tmp_path: Path
) -> None:
    job = await make(managed)
    await hear(managed, job, SenderReport(n=5, video_id="one", error="cut off"))
    (tmp_path / "again").mkdir()
    async with open_managed(store, tmp_path / "again") as again:
        await again.manager.recover()
        old = await hear(again, job, SenderReport(n=5, video_id="one", error="cut off"))
        new = await hear(again, job, SenderReport(n=6, video_id="one", error="cut off"))
        assert (old.status, old.failed) == (Status.PROCESSING, 1)
        assert (new.failed, new.current_video, new.reported) == (1, 1, 6)
        assert again.executor.submitted == []


async def test_the_time_without_a_server_is_not_silence(store: JobStore, managed: Managed, tmp_path: Path) -> None:
    job = await make(managed)
    (tmp_path / "again").mkdir()
    async with open_managed(store, tmp_path / "again") as again:
        await again.clock.advance(100_000)
        await again.manager.recover()
        await silent_for(again, 3599)
        assert (await again.stored(job)).status is Status.PENDING
        await silent_for(again, 1)
        assert (await again.stored(job)).status is Status.FAILED


# how it looks


async def test_its_card_says_that_it_runs_elsewhere_and_what_its_sender_said_last(managed: Managed) -> None:
    job = await make(managed)
    waiting = card(job, None)
    assert (waiting["sub"], waiting["now"]["text"]) == ("4 videos · runs elsewhere", "Waiting for the first report")
    assert waiting["fact"] == "0 ok"
    begun = card(await hear(managed, job, SenderReport(n=1, message="Fetching the files")), None)
    assert begun["now"]["text"] == "Fetching the files"
    at_work = card(await hear(managed, job, SenderReport(n=2, current_video=1, video_id="one")), None)
    assert (at_work["now"]["text"], at_work["now"]["more"]) == ("one", "Fetching the files")
    assert at_work["updated"] == to_millis(managed.clock.now())


# over the wire


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("external")
    for name in ("ana", "ben"):
        add_user(home / "data", name)
    with running(home / "data", max_running_jobs=1) as started:
        yield started


@pytest.fixture(scope="module")
def tokens(program: Program) -> dict[str, str]:
    return {name: token(program.data_dir, name) for name in ("ana", "ben")}


@pytest.fixture
def client(program: Program, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with api(program, tokens["ana"]) as opened:
        yield opened


def made(client: httpx.Client, *video_ids: str) -> dict[str, Any]:
    """A new job that runs elsewhere."""
    order = {"video_ids": video_ids or IDS, "processor": "external", "name": "elsewhere"}
    answer = client.post("/api/jobs", json=order)
    assert answer.status_code == 201, answer.text
    new: dict[str, Any] = answer.json()
    return new


def report(client: httpx.Client, job: dict[str, Any], body: Any) -> httpx.Response:
    return client.post(f"/api/jobs/{job['job_id']}/progress", json=body)


def accepted(client: httpx.Client, job: dict[str, Any], body: Any) -> dict[str, Any]:
    answer = report(client, job, body)
    assert answer.status_code == 200, answer.text
    state: dict[str, Any] = answer.json()
    return state


def test_a_whole_life_reported_one_by_one_and_in_a_list(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    job = made(client)
    assert (job["found"], job["missing"], job["files"]) == (4, 0, "no files are needed here")
    with Watcher(program, tokens["ana"]) as watcher:
        watcher.until_status(job["job_id"], "pending")
        first = accepted(client, job, {"n": 1, "status": "processing", "video_id": "one", "message": "Fetching"})
        assert first == client.get(f"/api/jobs/{job['job_id']}").json()
        accepted(client, job, {"n": 2, "current_video": 1, "video_id": "one"})
        accepted(
            client, job, [{"n": 4, "video_id": "three", "error": "gone"}, {"n": 3, "video_id": "two", "error": "cut"}]
        )
        end = accepted(client, job, {"n": 5, "status": "completed"})
        watcher.until_ended(job["job_id"])
        heard = [update for update in watcher.updates if update["job_id"] == job["job_id"]]
    assert (end["status"], end["failed"], end["current_video"], end["progress"]) == ("completed_with_errors", 2, 4, 100)
    assert [update["error"] for update in heard if update["failed"]][:2] == ["cut", "gone"]
    assert {"seq": heard[-1]["seq"], "status": heard[-1]["status"]} == {"seq": end["seq"], "status": end["status"]}
    videos = client.get(f"/api/jobs/{job['job_id']}/videos").json()["items"]
    assert [video["status"] for video in videos] == ["completed", "failed", "failed", "completed"]


def test_it_takes_no_place_among_the_jobs_that_run_here(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    for _ in range(3):
        accepted(client, made(client), {"n": 1})
    with Watcher(program, tokens["ana"]) as watcher:
        here = client.post("/api/jobs", json={"video_ids": ["nowhere"]}).json()["job_id"]
        assert watcher.until_ended(here)["status"] == "failed"


BODIES: dict[str, tuple[bytes, int, str]] = {
    "no JSON": (b"{", 400, "not valid JSON"),
    "nothing": (b"", 400, "not valid JSON"),
    "bytes that are no text": (b'{"n": 1, "message": "\xff"}', 400, "not valid JSON"),
    "half a character": (b'{"n": 1, "message": "\\ud800"}', 400, "not valid JSON"),
    "a number that is none": (b'{"n": NaN}', 400, "not valid JSON"),
    "two things": (b'{"n": 1}{"n": 2}', 400, "not valid JSON"),
    "no report": (b"17", 422, "Expected"),
    "a counter that is too large": (b'{"n": 9007199254740993}', 422, "n"),
    "a counter that is huge": (b'{"n": ' + b"9" * 10_000 + b"}", 422, "$.n"),
    "a counter without end": (b'{"n": 1e999}', 422, "$.n"),
    "a counter below zero": (b'{"n": -1}', 422, "$.n"),
    "a counter with a fraction": (b'{"n": 1.5}', 422, "$.n"),
    "a counter that is a word": (b'{"n": true}', 422, "$.n"),
    "no counter": (b'{"progress": 5}', 422, "n"),
    "more than all": (b'{"n": 1, "progress": 101}', 422, "$.progress"),
    "videos without number": (b'{"n": 1, "current_video": ' + b"9" * 40 + b"}", 422, "current_video"),
    "a field that is a typo": (b'{"n": 1, "progres": 5}', 422, "`progres`"),
    "a field of endless length": (b'{"n": 1, "' + b"x" * 100_000 + b'": 5}', 422, "unknown field"),
    "nested rubbish": (b"[" * 100_000, 422, "Expected"),
    "a list in a list": (b'[[{"n": 1}]]', 422, "$[0]"),
    "one bad report among good ones": (b'[{"n": 1}, {"n": 2, "status": "cancelled"}]', 422, "status must be"),
    "a text that no database takes": (b'{"n": 1, "error": "a\\u0000b"}', 422, "readable text"),
    "1,001 reports": (b"[" + b",".join(b'{"n": %d}' % n for n in range(1001)) + b"]", 422, "At most 1,000"),
    "over 1 MiB": (b'[{"n": 1, "message": "' + b"x" * 2**20 + b'"}]', 413, "1 MiB"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_does_not_fit_is_refused_in_words_and_changes_nothing(client: httpx.Client, what: str) -> None:
    body, status, words = BODIES[what]
    job = made(client)
    answer = client.post(f"/api/jobs/{job['job_id']}/progress", content=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert client.get(f"/api/jobs/{job['job_id']}").json()["status"] == "pending"


def test_a_report_on_a_job_of_somebody_else_is_that_on_one_that_is_not_there(
    program: Program, tokens: dict[str, str], client: httpx.Client
) -> None:
    job = made(client)
    with api(program, tokens["ben"]) as ben:
        answers = [report(ben, one, {"n": 1}) for one in (job, {"job_id": NOBODYS}, {"job_id": "%00"})]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}


def test_news_of_an_ended_job_and_of_one_that_runs_here_is_409(client: httpx.Client) -> None:
    job = made(client)
    accepted(client, job, {"n": 1, "status": "failed"})
    here = client.post("/api/jobs", json={"video_ids": ["nowhere"]}).json()
    for one, words in ((job, "already ended"), (here, "runs here")):
        answer = report(client, one, {"n": 2})
        assert (answer.status_code, words in answer.json()["detail"]) == (409, True)
    assert report(client, job, {"n": 1}).status_code == 200


def test_options_are_refused(client: httpx.Client) -> None:
    order = {"video_ids": ["one"], "processor": "external", "options": {"max_speed": 2}}
    answer = client.post("/api/jobs", json=order)
    assert (answer.status_code, answer.json()["detail"]) == (422, "A job that runs elsewhere takes no options.")


def test_what_was_answered_survives_a_kill_and_the_sender_goes_on(tmp_path: Path) -> None:
    jwt = add_user(tmp_path / "data", "ana")
    with running(tmp_path / "data") as first, api(first, jwt) as client:
        job = made(client)
        told = accepted(client, job, [{"n": 8, "video_id": "one", "error": "cut off"}, {"n": 9, "current_video": 2}])
        first.kill()
    with running(tmp_path / "data") as second, api(second, jwt) as client:
        assert client.get(f"/api/jobs/{job['job_id']}").json() == told
        repeated = accepted(
            client, job, [{"n": 8, "video_id": "one", "error": "cut off"}, {"n": 9, "current_video": 2}]
        )
        assert (repeated["failed"], repeated["current_video"]) == (1, 2)
        assert accepted(client, job, {"n": 10, "status": "completed"})["status"] == "completed_with_errors"


def test_a_silent_sender_is_told_to_who_watches(tmp_path: Path) -> None:
    jwt = add_user(tmp_path / "data", "ana")
    with (
        running(tmp_path / "data", external_timeout_seconds=0.5, cleanup_interval_seconds=0.1) as program,
        api(program, jwt) as client,
        Watcher(program, jwt) as watcher,
    ):
        end = watcher.until_ended(made(client)["job_id"])
    assert "no word from the sender" in end["error"].lower()
    assert end["status"] == "failed"
