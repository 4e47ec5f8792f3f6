"""`/api/notifications` and `/api/jobs/{id}/notify` over a whole backend, without its web server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.api import build_app
from backend.app import Backend, open_backend
from backend.domain.auth import User
from progress_dashboard.protocol import EXTERNAL
from tests.support.databases import settings_of
from tests.support.managed_backend import TIMEOUT_SECONDS

ORIGIN = "http://127.0.0.1:8000"
ERROR = "The file is cut off."


@dataclass(frozen=True)
class Site:
    """The backend, with ana and ben, and a client."""

    backend: Backend
    client: httpx.AsyncClient
    users: dict[str, User]

    async def ask(self, method: str, path: str, user: str = "ana", /, **request: Any) -> httpx.Response:
        token = await self.backend.accounts.issue_token(self.users[user], lifetime_seconds=600)
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **request)

    async def job(self, name: str = "list.csv") -> str:
        """Return the ID of a new external job of ana's with two videos."""
        order = {"video_ids": ["one", "two"], "processor": EXTERNAL, "name": name}
        return str((await self.ask("POST", "/api/jobs", json=order)).json()["job_id"])

    async def end(self, job_id: str, *, failed: int) -> None:
        """End the job with so many failed videos."""
        reports = [{"n": n, "video_id": video, "error": ERROR} for n, video in enumerate(("one", "two")[:failed])]
        end = {"n": 9, "status": "completed_with_errors" if failed == 1 else "failed" if failed else "completed"}
        assert (await self.ask("POST", f"/api/jobs/{job_id}/progress", json=[*reports, end])).status_code == 200

    async def told(self, number: int, user: str = "ana") -> dict[str, Any]:
        """Return the user's list once it has so many."""
        reader = self.backend.notifications.watch(by=self.users[user])
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                await reader.next()
                answer: dict[str, Any] = (await self.ask("GET", "/api/notifications", user)).json()
                if len(answer["items"]) >= number:
                    return answer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = settings_of(tmp_path / "data", public_url="https://ops.example")
    async with open_backend(settings) as backend:
        users = {name: await backend.accounts.add_user(name, None) for name in ("ana", "ben")}
        users["admin"] = await backend.accounts.user("admin")
        transport = httpx.ASGITransport(build_app(backend))
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            yield Site(backend, client, users)


async def test_the_list_says_what_happened_and_what_was_read(site: Site) -> None:
    job_id = await site.job("nightly.csv")
    await site.end(job_id, failed=1)
    answer = await site.told(1)
    [item] = answer["items"]
    assert (answer["unread"], answer["next_cursor"], item["event"]) == (1, None, "with_errors")
    assert (item["title"], item["read"], item["muted"]) == ("nightly.csv: 1 of 2 failed", False, False)
    assert item["link"] == f"https://ops.example/jobs/{job_id}"
    assert item["text"].endswith(item["link"])
    assert (item["job"]["job_id"], item["job"]["failed"], item["job"]["status"]) == (
        job_id,
        1,
        "completed_with_errors",
    )
    read = await site.ask("POST", "/api/notifications/read", json={"event_ids": [item["event_id"]]})
    assert read.json() == {"unread": 0}
    [item] = (await site.ask("GET", "/api/notifications")).json()["items"]
    assert item["read"] is True


async def test_everybody_has_a_list_of_their_own(site: Site) -> None:
    await site.end(await site.job(), failed=1)
    [item] = (await site.told(1))["items"]
    for user in ("ben", "admin"):
        assert (await site.ask("GET", "/api/notifications", user)).json() == {
            "items": [],
            "unread": 0,
            "next_cursor": None,
        }
        await site.ask("POST", "/api/notifications/read", user, json={"event_ids": [item["event_id"]]})
    assert (await site.ask("GET", "/api/notifications")).json()["unread"] == 1


async def test_tell_me_when_it_ends(site: Site) -> None:
    wanted, other = await site.job("wanted.csv"), await site.job("other.csv")
    answer = await site.ask("POST", f"/api/jobs/{wanted}/notify", json={"events": ["completed"]})
    assert (answer.status_code, answer.json()) == (200, {"events": ["completed"]})
    for job_id in (other, wanted):
        await site.end(job_id, failed=0)
    assert [item["title"] for item in (await site.told(1))["items"]] == ["wanted.csv: all 2 videos done"]


async def test_a_wish_for_anothers_job_answers_like_one_for_no_job(site: Site) -> None:
    job_id = await site.job()
    answers = [
        await site.ask("POST", f"/api/jobs/{asked}/notify", "ben", json={"events": ["completed"]})
        for asked in (job_id, "never-was")
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
    assert (await site.ask("POST", f"/api/jobs/{job_id}/notify", "admin", json={"events": []})).status_code == 200


async def test_settings_say_what_one_is_told_of(site: Site) -> None:
    usual = (await site.ask("GET", "/api/notifications/settings")).json()
    assert usual["events"] is None
    assert {"failed", "with_errors", "stalled", "paused_itself"} <= set(usual["defaults"])
    assert "completed" not in usual["defaults"]
    mine = {"events": ["completed"], "quiet_from": "22:00", "quiet_to": "07:30", "zone": "Europe/Berlin"}
    assert (await site.ask("PUT", "/api/notifications/settings", json=mine)).status_code == 200
    assert (await site.ask("GET", "/api/notifications/settings")).json() == {**usual, **mine}
    assert (await site.ask("GET", "/api/notifications/settings", "ben")).json() == usual


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/notifications/settings", {"events": ["never"]}),
        ("/api/notifications/settings", {"quiet_from": "25:00", "quiet_to": "07:00"}),
        ("/api/notifications/settings", {"quiet_from": "22:00"}),
        ("/api/notifications/settings", {"zone": "../../etc/passwd"}),
        ("/api/notifications/settings", {"zone": "a\x00b"}),
        ("/api/notifications/settings", {"colour": "red"}),
    ],
)
async def test_settings_that_mean_nothing_are_422(site: Site, path: str, body: dict[str, Any]) -> None:
    answer = await site.ask("PUT", path, json=body)
    assert (answer.status_code, bool(answer.json()["detail"])) == (422, True)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=zz", "cursor=5b5d"])
async def test_a_list_that_cannot_be_is_422(site: Site, query: str) -> None:
    assert (await site.ask("GET", f"/api/notifications?{query}")).status_code == 422
