"""The main story: 60 videos in three jobs of two users at once, and everything about them exact."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clips import foreign_clips, make_clip, truncated
from tests.support.databases import rows
from tests.support.servers import Program, add_user, api, running, token
from tests.support.watchers import Watcher

COMPLETED_TTL, FAILED_TTL = 4, 12


@dataclass
class Story:
    """Three jobs that have finished, with everything that their watchers received."""

    program: Program
    # Token of each user, by name.
    tokens: dict[str, str]
    # Answers to the uploads, by name of the list.
    jobs: dict[str, dict[str, Any]]
    # Updates that each user received in the default format.
    received: dict[str, list[dict[str, Any]]]
    # Batches that the administrator received.
    frames: list[dict[str, Any]]
    # IDs of the jobs that left the dashboard.
    removed: set[str]

    def api(self, user: str) -> httpx.Client:
        return api(self.program, self.tokens[user])

    def job(self, name: str) -> dict[str, Any]:
        """Return the present state of a job."""
        with self.api("admin") as client:
            job: dict[str, Any] = client.get(f"/api/jobs/{self.jobs[name]['job_id']}").json()
            return job

    def videos(self, name: str) -> list[dict[str, Any]]:
        """Return all videos of a job."""
        with self.api("admin") as client:
            answer = client.get(f"/api/jobs/{self.jobs[name]['job_id']}/videos", params={"limit": 1000}).json()
            items: list[dict[str, Any]] = answer["items"]
            return items

    def history(self, name: str, **query: object) -> list[dict[str, Any]]:
        """Return the history of a job, limited by this query."""
        with self.api("admin") as client:
            path = f"/api/jobs/{self.jobs[name]['job_id']}/progress-history"
            updates: list[dict[str, Any]] = client.get(path, params=query).json()  # type: ignore[arg-type]
            return updates


def lists(media: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the owner and the video IDs of each list, by its name, and write the files to `media`."""
    foreign = []
    for clip in foreign_clips():
        shutil.copy(clip, media)
        foreign.append(clip.stem)
    made = [f"clip-{number:02}" for number in range(58 - len(foreign))]
    for number, video_id in enumerate(made):
        make_clip(media / f"{video_id}.mp4", seconds=0.4 + 0.1 * (number % 7), audio=number % 3 == 0)
    truncated(make_clip(media / "cut-off.mp4", seconds=2))
    good = foreign + made
    return {
        "ana-good.csv": ("ana", good[:25]),
        "ana-mixed.csv": ("ana", [*good[25:35], "cut-off", *good[35:43], "missing"]),
        "ben.csv": ("ben", good[43:]),
    }


def upload(client: httpx.Client, name: str, video_ids: list[str]) -> dict[str, Any]:
    """Upload a list and return the answer."""
    text = "video_id;title\r\n" + "".join(f"{video_id};Title of {video_id}\r\n" for video_id in video_ids)
    answer = client.post("/api/jobs", files={"file": (name, text.encode(), "text/csv")})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Finished jobs, with a server that still runs."""
    home = tmp_path_factory.mktemp("main-job")
    media = home / "media"
    media.mkdir()
    planned = lists(media)
    assert sum(len(ids) for _, ids in planned.values()) == 60
    data = home / "data"
    tokens = {name: add_user(data, name) for name in ("ana", "ben")} | {"admin": token(data, "admin")}
    settings: dict[str, Any] = {
        "media_dir": media,
        "completed_job_ttl_seconds": COMPLETED_TTL,
        "failed_job_ttl_seconds": FAILED_TTL,
        "cleanup_interval_seconds": 0.3,
    }
    with running(data, **settings) as program, ExitStack() as stack:
        watchers = {user: stack.enter_context(Watcher(program, jwt)) for user, jwt in tokens.items()}
        batches = stack.enter_context(Watcher(program, tokens["admin"], batch=True))
        jobs = {}
        for name, (owner, ids) in planned.items():
            with api(program, tokens[owner]) as client:
                jobs[name] = upload(client, name, ids)
        for job in jobs.values():
            watchers["admin"].until_ended(job["job_id"])
        completed = {jobs[name]["job_id"] for name in ("ana-good.csv", "ben.csv")}
        batches.until(lambda watcher: completed <= watcher.removed, "the completed jobs leave the dashboard")
        removed = set(batches.removed)
        received = {user: watcher.updates for user, watcher in watchers.items()}
        yield Story(program, tokens, jobs, received, list(batches.frames), removed)


def test_the_final_state_of_each_job_follows_from_its_videos(story: Story) -> None:
    jobs = {name: story.job(name) for name in story.jobs}
    facts = {name: (job["status"], job["progress"], job["current_video"], job["failed"]) for name, job in jobs.items()}
    assert facts == {
        "ana-good.csv": ("completed", 100, 25, 0),
        "ana-mixed.csv": ("completed_with_errors", 100, 20, 2),
        "ben.csv": ("completed", 100, 15, 0),
    }
    assert all(job["total_videos"] == job["current_video"] for job in jobs.values())


def test_the_answer_to_an_upload_has_the_numbers_of_files(story: Story) -> None:
    mixed = story.jobs["ana-mixed.csv"]
    assert (mixed["found"], mixed["missing"]) == (19, 1)
    assert mixed["files"].startswith("19 of 20 found in ")


def test_a_truncated_and_a_missing_video_have_their_own_errors(story: Story) -> None:
    videos = {video["video_id"]: video for video in story.videos("ana-mixed.csv")}
    failed = {video_id: video["error"] for video_id, video in videos.items() if video["status"] == "failed"}
    assert set(failed) == {"cut-off", "missing"}
    assert failed["missing"] == "No file for this ID in the media directory"
    assert "cut off" in failed["cut-off"].lower()
    assert "Traceback" in videos["cut-off"]["traceback"]
    assert {video["status"] for video_id, video in videos.items() if video_id not in failed} == {"completed"}


def test_every_good_video_has_facts_and_a_poster(story: Story) -> None:
    for name in story.jobs:
        for video in story.videos(name):
            if video["status"] == "failed":
                continue
            facts = video["result"]
            assert facts["video"]["width"] > 0
            assert facts["duration_seconds"] > 0
            assert video["attempts"] == 1
            assert video["duration"] > 0
    with story.api("ana") as client:
        picture = client.get(f"/api/jobs/{story.jobs['ana-good.csv']['job_id']}/videos/0/poster")
    assert picture.headers["content-type"] == "image/jpeg"
    assert picture.content.startswith(b"\xff\xd8")


def test_the_jobs_ran_at_the_same_time(story: Story) -> None:
    jobs = [story.job(name) for name in story.jobs]
    assert max(job["started_at"] for job in jobs) < min(job["finished_at"] for job in jobs)


def test_history_is_complete_ordered_and_never_goes_back(story: Story) -> None:
    for name in story.jobs:
        updates = story.history(name)
        assert updates[0]["status"] == "pending"
        assert updates[-1]["status"] == story.job(name)["status"]
        assert updates[-1]["seq"] == story.job(name)["seq"]
        for key in ("seq", "progress", "current_video", "failed"):
            values = [update[key] for update in updates]
            assert values == sorted(values), (name, key)
        assert len({update["seq"] for update in updates}) == len(updates)


def test_history_has_every_failed_video(story: Story) -> None:
    errors = {update["video_id"]: update["error"] for update in story.history("ana-mixed.csv") if "error" in update}
    assert {"cut-off", "missing"} <= set(errors)


def test_since_is_inclusive_and_after_exclusive(story: Story) -> None:
    updates = story.history("ana-mixed.csv")
    middle = updates[len(updates) // 2]
    assert middle in story.history("ana-mixed.csv", since=middle["timestamp"])
    assert story.history("ana-mixed.csv", after=middle["seq"]) == updates[updates.index(middle) + 1 :]


def test_users_receive_only_their_own_jobs_and_the_admin_all(story: Story) -> None:
    received = {user: {update["name"] for update in updates} for user, updates in story.received.items()}
    assert received == {
        "ana": {"ana-good.csv", "ana-mixed.csv"},
        "ben": {"ben.csv"},
        "admin": {"ana-good.csv", "ana-mixed.csv", "ben.csv"},
    }


def test_received_updates_are_ordered_and_end_in_the_servers_state(story: Story) -> None:
    for updates in story.received.values():
        for job_id in {update["job_id"] for update in updates}:
            seqs = [update["seq"] for update in updates if update["job_id"] == job_id]
            assert seqs == sorted(set(seqs))
    newest = {update["name"]: update for update in story.received["admin"]}
    assert {name: update["seq"] for name, update in newest.items()} == {
        name: story.job(name)["seq"] for name in story.jobs
    }


def test_batches_follow_each_other_without_a_gap(story: Story) -> None:
    assert story.frames[0]["snapshot"]
    for before, after in zip(story.frames, story.frames[1:], strict=False):
        assert after["prev"] == before["seq"]


def test_the_job_of_another_user_is_not_found(story: Story) -> None:
    """The answers equal those for an ID that does not exist."""
    existing, unknown = story.jobs["ana-good.csv"]["job_id"], "00000000-0000-4000-8000-000000000000"
    with story.api("ben") as client:
        for path in ("", "/videos", "/progress-history", "/export.csv", "/videos/0/poster"):
            forbidden, missing = (client.get(f"/api/jobs/{job_id}{path}") for job_id in (existing, unknown))
            assert (forbidden.status_code, forbidden.content) == (404, missing.content)
        assert {job["name"] for job in client.get("/api/jobs").json()["items"]} == {"ben.csv"}


def test_completed_jobs_leave_the_dashboard_and_stay_in_history(story: Story) -> None:
    completed = {story.jobs[name]["job_id"] for name in ("ana-good.csv", "ben.csv")}
    assert completed <= story.removed
    with story.api("admin") as client:
        shown = client.get("/api/jobs", params={"dashboard": "true"}).json()["items"]
        stored = client.get("/api/jobs").json()["items"]
    assert completed.isdisjoint({job["job_id"] for job in shown})
    assert {job["job_id"] for job in stored} == {job["job_id"] for job in story.jobs.values()}


def test_a_job_with_errors_stays_longer(story: Story) -> None:
    assert story.jobs["ana-mixed.csv"]["job_id"] not in story.removed


def test_the_database_has_the_same_counts(story: Story) -> None:
    counts = (
        "SELECT job.name, job.status, job.current_video, job.failed, count(result.position), count(result.error)"
        " FROM job LEFT JOIN result ON result.job_id = job.id GROUP BY job.id ORDER BY job.name"
    )
    assert rows(story.program.data_dir, counts) == [
        ("ana-good.csv", "completed", 25, 0, 25, 0),
        ("ana-mixed.csv", "completed_with_errors", 20, 2, 20, 2),
        ("ben.csv", "completed", 15, 0, 15, 0),
    ]


def test_the_export_has_the_uploaded_rows_with_their_results(story: Story) -> None:
    with story.api("ana") as client:
        text = client.get(f"/api/jobs/{story.jobs['ana-mixed.csv']['job_id']}/export.csv").content.decode("utf-8-sig")
    lines = text.splitlines()
    assert lines[0] == "video_id,title,status,error,attempts,duration_seconds,machine"
    assert len(lines) == 21
    assert any(line.startswith("missing,Title of missing,failed,No file for this ID") for line in lines)
