"""External jobs: what their senders may report, and what follows from it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from backend.clock import to_millis
from backend.domain.job import Job
from backend.errors import Conflict, IllegalMove, Invalid, JobNotFound
from backend.jobs.retention import Cleanup
from backend.jobs.submission import Order
from backend.lists.csv_files import list_of_ids
from backend.settings import load_settings
from backend.store import Store
from backend.store.database import Database
from progress_dashboard.protocol import EXTERNAL, SenderReport, Status
from tests.support.accounts import accounts_over
from tests.support.managed_backend import ADMIN, ANA, BEN, Managed, open_managed
from ui.components.dashboard.job_grid import card

IDS = ("one", "two", "three", "four")
ORDER = Order(name="list.csv", processor=EXTERNAL)


async def new_job(managed: Managed) -> Job:
    """Return a new external job of Ana's with four videos."""
    return await managed.submit(*IDS, processor=EXTERNAL)


async def report(managed: Managed, job: Job, *reports: SenderReport) -> Job:
    """Return the job after one request of its sender."""
    return await managed.external.apply_reports(job.id, reports, by=ANA)


async def statuses(managed: Managed, job: Job) -> list[str]:
    return [video.status.value for video in await managed.videos(job)]


# A new external job.


async def test_a_new_external_job_waits_for_its_sender_only(managed: Managed) -> None:
    """It needs no files here, and no executor."""
    submission = await managed.manager.submit(list_of_ids(IDS), ORDER, by=ANA)
    job = submission.job
    assert (job.status, job.message, job.processor) == (Status.PENDING, "Waiting for the first report", "external")
    assert (submission.found, submission.missing) == (4, 0)
    assert managed.executor.submitted == []


async def test_an_external_job_takes_no_options(managed: Managed) -> None:
    order = Order(name="list.csv", processor=EXTERNAL, options={"max_speed": 1})
    with pytest.raises(Invalid, match="takes no options"):
        await managed.manager.submit(list_of_ids(IDS), order, by=ANA)


# Reports.


async def test_the_answer_is_the_newest_state_and_stored(managed: Managed) -> None:
    job = await new_job(managed)
    answer = await report(managed, job, SenderReport(n=0, current_video=1, video_id="one", message="Working"))
    assert (answer.status, answer.current_video, answer.progress) == (Status.PROCESSING, 1, 25)
    assert (answer.video_id, answer.message, answer.started_at) == ("one", "Working", managed.clock.now())
    assert answer == await managed.queries.find(job.id, by=ANA)


async def test_reports_count_in_the_order_of_their_numbers(managed: Managed) -> None:
    job = await new_job(managed)
    reports = [SenderReport(n=n, message=f"Step {n}") for n in (3, 1, 2)]
    assert (await report(managed, job, *reports)).message == "Step 3"


@pytest.mark.parametrize("n", [0, 4, 5])
async def test_a_repeated_or_older_report_changes_nothing(managed: Managed, n: int) -> None:
    job = await new_job(managed)
    earlier = await report(managed, job, SenderReport(n=5, current_video=2))
    assert await report(managed, job, SenderReport(n=n, current_video=3, error="Too late")) == earlier


async def test_requests_at_once_count_each_report_once(managed: Managed) -> None:
    job = await new_job(managed)
    failure = SenderReport(n=1, video_id="one", error="cut off")
    await asyncio.gather(*(report(managed, job, failure, SenderReport(n=2, current_video=2)) for _ in range(5)))
    end = await managed.stored(job)
    assert (end.failed, end.current_video) == (1, 2)


async def test_each_failed_video_is_in_history_with_its_error(managed: Managed) -> None:
    job = await new_job(managed)
    await report(managed, job, *(SenderReport(n=n, video_id=IDS[n], error=f"cut off at {n}") for n in range(3)))
    updates = [json.loads(update) for update in await managed.queries.history(job.id, by=ANA)]
    assert [(one.get("error"), one["failed"], one["current_video"]) for one in updates[2:]] == [
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
    job = await new_job(managed)
    failure = SenderReport(n=1, video_id="two", error="cut off")
    await report(managed, job, failure, msgspec.structs.replace(failure, n=2))
    end = await report(managed, job, msgspec.structs.replace(failure, n=3))
    assert (end.failed, end.current_video) == (1, 1)
    assert [video.attempts for video in await managed.videos(job)] == [0, 1, 0, 0]


async def test_a_video_is_completed_by_the_report_that_counts_it(managed: Managed) -> None:
    job = await new_job(managed)
    await report(managed, job, SenderReport(n=1, video_id="one"), SenderReport(n=2, video_id="two", current_video=1))
    assert await statuses(managed, job) == ["pending", "completed", "pending", "pending"]


@pytest.mark.parametrize(
    ("end", "rest"), [("completed", "completed"), ("completed_with_errors", "completed"), ("failed", "pending")]
)
async def test_the_end_settles_the_videos_without_a_report(managed: Managed, end: str, rest: str) -> None:
    job = await new_job(managed)
    await report(managed, job, SenderReport(n=1, video_id="two", error="cut off"), SenderReport(n=2, status=end))
    assert await statuses(managed, job) == [rest, "failed", rest, rest]


async def test_a_pending_job_is_processing_before_it_completes(managed: Managed) -> None:
    job = await new_job(managed)
    await report(managed, job, SenderReport(n=1, status="completed"))
    updates = [json.loads(update)["status"] for update in await managed.queries.history(job.id, by=ANA)]
    assert updates == ["pending", "processing", "completed"]


async def test_an_error_of_the_job_counts_no_video(managed: Managed) -> None:
    job = await new_job(managed)
    answer = await report(managed, job, SenderReport(n=1, error="The disk is slow"))
    assert (answer.status, answer.error, answer.failed) == (Status.PROCESSING, "The disk is slow", 0)


async def test_reports_after_the_end_in_one_list_are_ignored(managed: Managed) -> None:
    """They are also ignored if the list is sent again."""
    job = await new_job(managed)
    reports = [SenderReport(n=1, status="completed"), SenderReport(n=2, status="processing", message="More")]
    end = await report(managed, job, *reports)
    assert end.status is Status.COMPLETED
    assert await report(managed, job, *reports) == end


async def test_an_ended_job_takes_no_new_reports(managed: Managed) -> None:
    """A new report on a job that has ended is refused; a repeated one is not, also off the dashboard."""
    job = await new_job(managed)
    end = await report(managed, job, SenderReport(n=7, status="completed"))
    for on_dashboard in (True, False):
        with pytest.raises(Conflict, match="already ended; create a new one"):
            await report(managed, job, SenderReport(n=8))
        assert (await report(managed, job, SenderReport(n=7))).status is end.status, on_dashboard
        managed.manager.remove_from_dashboard(lambda *_: True)
        await managed.journal.durable()


# Refused reports.

REFUSED = {
    "a status that no sender decides": (SenderReport(n=2, status="paused"), "completed_with_errors"),
    "an unknown status": (SenderReport(n=2, status="done"), "processing, completed"),
    "more videos than there are": (SenderReport(n=2, current_video=5), "from 0 to 4"),
    "a video that is not in the list": (SenderReport(n=2, video_id="five"), '"five" is not in this job'),
    "an impossible video ID": (SenderReport(n=2, video_id="\ud800"), "one of this job's videos"),
    "a message that is too long": (SenderReport(n=2, message="x" * 501), "at most 500"),
    "an error that is too long": (SenderReport(n=2, error="x" * 2001), "at most 2,000"),
    "a message that is no text": (SenderReport(n=2, message="a\x00b"), "readable text"),
    "an error that is no text": (SenderReport(n=2, error="\udfff"), "readable text"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_bad_report_is_refused_with_its_whole_request(managed: Managed, what: str) -> None:
    job = await new_job(managed)
    bad, reason = REFUSED[what]
    with pytest.raises(Invalid, match=reason):
        await report(managed, job, SenderReport(n=1, current_video=1), bad)
    assert (await managed.stored(job)).status is Status.PENDING


async def test_one_request_takes_at_most_a_thousand_reports(managed: Managed) -> None:
    job = await new_job(managed)
    reports = [SenderReport(n=n) for n in range(1001)]
    assert (await report(managed, job, *reports[:1000])).reported == 999
    with pytest.raises(Invalid, match="At most 1,000"):
        await report(managed, job, *reports)


async def test_only_the_owner_and_the_admin_can_report(managed: Managed) -> None:
    """To other users, the job does not exist."""
    job = await new_job(managed)
    for job_id in (job.id, "unknown"):
        with pytest.raises(JobNotFound):
            await managed.external.apply_reports(job_id, [SenderReport(n=1)], by=BEN)
    by_admin = await managed.external.apply_reports(job.id, [SenderReport(n=1)], by=ADMIN)
    assert by_admin.status is Status.PROCESSING


async def test_a_job_that_is_not_external_takes_no_reports(managed: Managed) -> None:
    job = await managed.submit("one")
    with pytest.raises(Conflict, match="is not an external job"):
        await report(managed, job, SenderReport(n=1, status="completed"))


async def test_a_paused_job_takes_no_reports(managed: Managed) -> None:
    job = await new_job(managed)
    managed.journal.stage(job.evolve(status=Status.PAUSED))
    await managed.journal.durable()
    await managed.manager.recover()
    with pytest.raises(IllegalMove, match="paused takes no reports"):
        await report(managed, job, SenderReport(n=1))


# Silent senders.


async def be_silent(managed: Managed, seconds: float) -> None:
    """Let time pass, and end the jobs of senders that are silent for an hour."""
    await managed.clock.advance(seconds)
    managed.external.fail_silent(3600)


async def test_the_job_of_a_silent_sender_fails(managed: Managed) -> None:
    """It says why, and its videos stay as they are."""
    job = await new_job(managed)
    await report(managed, job, SenderReport(n=1, current_video=1, video_id="one"))
    await be_silent(managed, 3599)
    assert (await managed.stored(job)).status is Status.PROCESSING
    await be_silent(managed, 1)
    end = await managed.stored(job)
    assert (end.status, end.current_video, end.finished_at) == (Status.FAILED, 1, managed.clock.now())
    assert end.error is not None
    assert end.error.startswith("No word from the sender for 60 minutes; ")
    assert await statuses(managed, job) == ["completed", "pending", "pending", "pending"]


async def test_without_a_report_the_silence_begins_with_the_job(managed: Managed) -> None:
    job = await new_job(managed)
    await be_silent(managed, 3600)
    assert (await managed.stored(job)).status is Status.FAILED


async def test_only_an_accepted_request_ends_the_silence(managed: Managed) -> None:
    """A repeated report and an empty list end the silence of a sender; a refused report does not."""
    jobs = [await new_job(managed) for _ in range(3)]
    for job in jobs:
        await report(managed, job, SenderReport(n=1))
    await managed.clock.advance(3000)
    await report(managed, jobs[0], SenderReport(n=1))
    await report(managed, jobs[1])
    with pytest.raises(Invalid):
        await report(managed, jobs[2], SenderReport(n=2, video_id="five"))
    await be_silent(managed, 600)
    statuses = [(await managed.stored(job)).status for job in jobs]
    assert statuses == [Status.PROCESSING, Status.PROCESSING, Status.FAILED]


async def test_other_jobs_never_fail_by_silence(managed: Managed) -> None:
    """Neither jobs that run here nor external jobs that have ended fail by silence."""
    internal, done = await managed.submit("one"), await new_job(managed)
    await report(managed, done, SenderReport(n=1, status="completed"))
    await be_silent(managed, 10_000)
    assert [(await managed.stored(job)).status for job in (internal, done)] == [Status.PENDING, Status.COMPLETED]


async def test_cleanup_ends_the_jobs_of_silent_senders(managed: Managed, database: Database, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, external_timeout_seconds=90)
    accounts = accounts_over(database, managed.clock, settings)
    cleanup = Cleanup(managed.manager, managed.external, accounts, settings, managed.clock)
    job = await new_job(managed)
    await managed.clock.advance(90)
    await cleanup.run_once()
    assert "for 90 s;" in (await managed.stored(job)).message


# After a restart.


async def test_a_job_continues_after_a_restart(store: Store, managed: Managed, tmp_path: Path) -> None:
    """After a restart, reports continue where they were, and a failed video still counts once."""
    job = await new_job(managed)
    await report(managed, job, SenderReport(n=5, video_id="one", error="cut off"))
    (tmp_path / "again").mkdir()
    async with open_managed(store, tmp_path / "again") as again:
        await again.manager.recover()
        old = await report(again, job, SenderReport(n=5, video_id="one", error="cut off"))
        new = await report(again, job, SenderReport(n=6, video_id="one", error="cut off"))
        assert (old.status, old.failed) == (Status.PROCESSING, 1)
        assert (new.failed, new.current_video, new.reported) == (1, 1, 6)
        assert again.executor.submitted == []


async def test_the_time_without_a_server_is_no_silence(store: Store, managed: Managed, tmp_path: Path) -> None:
    job = await new_job(managed)
    (tmp_path / "again").mkdir()
    async with open_managed(store, tmp_path / "again") as again:
        await again.clock.advance(100_000)
        await again.manager.recover()
        await be_silent(again, 3599)
        assert (await again.stored(job)).status is Status.PENDING
        await be_silent(again, 1)
        assert (await again.stored(job)).status is Status.FAILED


# The card.


async def test_a_card_shows_the_newest_message_of_the_sender(managed: Managed) -> None:
    """The card of an external job says so, and shows the newest video and message."""
    job = await new_job(managed)
    waiting = card(job, None)
    assert (waiting["sub"], waiting["now"]["text"]) == ("4 videos · external job", "Waiting for the first report")
    assert waiting["fact"] == "0 ok"
    started = card(await report(managed, job, SenderReport(n=1, message="Fetching the files")), None)
    assert started["now"]["text"] == "Fetching the files"
    running = card(await report(managed, job, SenderReport(n=2, current_video=1, video_id="one")), None)
    assert (running["now"]["text"], running["now"]["more"]) == ("one", "Fetching the files")
    assert running["updated"] == to_millis(managed.clock.now())
