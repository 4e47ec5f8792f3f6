"""What holds of stored jobs at any moment, whatever happened to the server, its database or its workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.support.databases import rows
from tests.support.mirror_client import MirrorClient

WHAT_HAPPENED = (
    "status",
    "attempt",
    "current_video",
    "failed",
    "progress",
    "video_id",
    "message",
    "error",
    "timestamp",
)
# Each of these queries finds what must not be, all in one view of the database.
WRONG = {
    "the count of a job differs from its finished videos": (
        "SELECT id FROM job WHERE current_video <> (SELECT count(*) FROM video"
        " WHERE job_id = job.id AND video.status IN ('completed', 'failed'))"
    ),
    "a finished video has no result": (
        "SELECT job_id, position FROM video WHERE status IN ('completed', 'failed') AND attempts = 0"
    ),
    "the results of a video are not those that it counts": (
        "SELECT job_id, position FROM video LEFT JOIN result USING (job_id, position)"
        " GROUP BY job_id, position, video.attempts"
        " HAVING count(result.attempt) <> video.attempts OR coalesce(max(result.attempt), 0) <> video.attempts"
    ),
    "a video has two results of one attempt": (
        "SELECT job_id, position FROM result GROUP BY job_id, position, job_attempt HAVING count(*) > 1"
    ),
}

# The same of what users are told.
WRONGLY_TOLD = {
    "an end is stored without the event that tells it": (
        "SELECT milestone.job_id, status FROM milestone LEFT JOIN notification"
        " ON notification.job_id = milestone.job_id AND notification.attempt = milestone.attempt"
        " AND event = replace(status, 'completed_with_errors', 'with_errors')"
        " WHERE status IN ('completed', 'completed_with_errors', 'failed') AND event IS NULL"
    ),
    "an event is told of a job that did not end so": (
        "SELECT notification.job_id, event FROM notification LEFT JOIN milestone"
        " ON notification.job_id = milestone.job_id AND notification.attempt = milestone.attempt"
        " AND event = replace(status, 'completed_with_errors', 'with_errors')"
        " WHERE event IN ('completed', 'with_errors', 'failed') AND status IS NULL"
    ),
    "a user is told twice of one event": (
        "SELECT job_id, event, attempt, user_id FROM notification"
        " GROUP BY job_id, event, attempt, user_id HAVING count(*) > 1"
    ),
    "something goes out that is not composed": (
        "SELECT delivery.event_id FROM delivery LEFT JOIN notification USING (event_id)"
        " WHERE notification.event_id IS NULL OR NOT composed OR title IS NULL OR text IS NULL"
    ),
}


def assert_stored_once(data_dir: Path, clients: Sequence[MirrorClient]) -> int:
    """Check that everything that was received is stored, and each thing once. Returns the number of finished videos."""
    received = [(client, update) for client in clients for update in tuple(client.received_updates)]
    stored = {row.id: row.seq for row in rows(data_dir, "SELECT id, seq FROM job")}
    for client, (job_id, seq) in received:
        assert seq <= stored[job_id], f"{client} received a state of {job_id} that was not stored"
    for what, query in WRONG.items():
        assert rows(data_dir, query) == [], what
    assert_told_once(data_dir)
    assert_history_once(data_dir)
    return int(rows(data_dir, "SELECT count(*) FROM video WHERE status IN ('completed', 'failed')")[0][0])


def assert_told_once(data_dir: Path) -> int:
    """Check that each end of a job is stored with its one event. Returns the number of events that are composed."""
    for what, query in WRONGLY_TOLD.items():
        assert rows(data_dir, query) == [], what
    return int(rows(data_dir, "SELECT count(*) FROM notification WHERE composed")[0][0])


def assert_history_once(data_dir: Path) -> None:
    """Check that no update is in a job's history twice, as a tick that was stored again would be."""
    events = Counter[tuple[Any, ...]]()
    for row in rows(data_dir, "SELECT job_id, body FROM progress_event"):
        update = msgspec.json.decode(row.body)
        events[row.job_id, *(str(update.get(name)) for name in WHAT_HAPPENED)] += 1
    assert [event for event, number in events.items() if number > 1] == [], "a tick was stored twice"


def assert_never_back(clients: Sequence[MirrorClient]) -> None:
    """Check that no client showed an older state after a newer one."""
    for client in clients:
        assert client.stepped_back == [], f"{client} showed an older state after a newer one"
        for updates in client.delivered.values():
            counts = [(update.attempt, update.current_video, update.failed) for update in updates]
            assert counts == sorted(counts), f"{client} received a smaller number of finished videos"
