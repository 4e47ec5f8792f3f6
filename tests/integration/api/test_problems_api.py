"""`/api/problems` and `POST /api/jobs/actions` over a whole backend, without its web server."""

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
from backend.domain.causes import fingerprint
from progress_dashboard.protocol import EXTERNAL
from tests.support.databases import settings_of

ORIGIN = "http://127.0.0.1:8000"
CUT = "It is cut off."
CAUSE = fingerprint(CUT, "v0")
NOWHERE = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Site:
    """The backend, and a client of it with no authority of its own."""

    backend: Backend
    client: httpx.AsyncClient

    async def headers(self, name: str) -> dict[str, str]:
        """Return the headers of a user, who is added if there is no such user."""
        accounts = self.backend.accounts
        user = await accounts.user(name) if await accounts.exists(name) else await accounts.add_user(name, None)
        return {"Authorization": f"Bearer {await accounts.issue_token(user, lifetime_seconds=600)}"}

    async def get(self, path: str, user: str = "ana", /, **query: str) -> httpx.Response:
        return await self.client.get(path, params=query, headers=await self.headers(user))

    async def post(self, path: str, content: Any = None, user: str = "ana", /, **query: str) -> httpx.Response:
        return await self.client.post(path, json=content, params=query, headers=await self.headers(user))

    async def failed_job(self, *video_ids: str, user: str = "ana", name: str = "list.csv") -> str:
        """Run an external job, of which all videos fail."""
        order = {"video_ids": video_ids, "processor": EXTERNAL, "name": name}
        job_id: str = (await self.post("/api/jobs", order, user)).json()["job_id"]
        reports = [{"n": number, "video_id": video_id, "error": CUT} for number, video_id in enumerate(video_ids)]
        end = {"n": len(video_ids), "status": "completed_with_errors"}
        assert (await self.post(f"/api/jobs/{job_id}/progress", [*reports, end], user)).status_code == 200
        return job_id

    async def waiting_job(self, *, user: str = "ana", name: str = "list.csv") -> str:
        """Submit an external job, which waits for its sender."""
        order = {"video_ids": ["w"], "processor": EXTERNAL, "name": name}
        job_id: str = (await self.post("/api/jobs", order, user)).json()["job_id"]
        return job_id

    async def status(self, job_id: str, user: str = "admin") -> str:
        """Return the status of a job, "gone" if there is none."""
        answer = await self.get(f"/api/jobs/{job_id}", user)
        return str(answer.json()["status"]) if answer.status_code == 200 else "gone"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_backend(settings_of(tmp_path, time_zone="UTC")) as backend:
        transport = httpx.ASGITransport(build_app(backend))
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            yield Site(backend, client)


async def test_problems_are_listed_with_all_that_is_known_of_them(site: Site) -> None:
    await site.failed_job("v0", "v1", name="first.csv")
    job_id = await site.failed_job("v2", name="second.csv")
    answer = (await site.get("/api/problems")).json()
    assert (answer["period"], answer["has_more"], len(answer["items"])) == ("7d", False, 1)
    [problem] = answer["items"]
    assert (problem["fingerprint"], problem["error"], problem["videos"], problem["jobs"]) == (CAUSE, CUT, 3, 2)
    assert (problem["job_id"], problem["job_name"], problem["video_id"]) == (job_id, "second.csv", "v2")
    assert (problem["seen_in_jobs"], problem["retried"], problem["said"]["claimed_by"]) == (2, 0, None)
    assert problem["first_seen"] <= problem["last_seen"]


async def test_a_period_is_one_of_three(site: Site) -> None:
    await site.failed_job("v0")
    assert len((await site.get("/api/problems", period="all")).json()["items"]) == 1
    assert (await site.get("/api/problems", period="night")).status_code == 200
    refused = await site.get("/api/problems", period="yesterday")
    assert (refused.status_code, refused.json()["detail"]) == (422, "period must be one of night, 7d, all.")


async def test_users_see_and_change_only_what_their_jobs_met(site: Site) -> None:
    await site.failed_job("v0")
    assert (await site.get("/api/problems", "ben")).json()["items"] == []
    assert len((await site.get("/api/problems", "admin")).json()["items"]) == 1
    for path in (f"/api/problems/{CAUSE}", f"/api/problems/{'0' * 12}", "/api/problems/x'--"):
        refused = await site.post(path, {"note": "hello"}, "ben")
        assert (refused.status_code, refused.json()["detail"]) == (
            404,
            "There is no such cause among the jobs that you see.",
        )
        assert (await site.post(f"{path}/retry", None, "ben")).status_code == 404


async def test_what_is_said_is_shared_by_all_who_met_the_cause(site: Site) -> None:
    await site.failed_job("v0")
    await site.failed_job("v0", user="ben")
    said = await site.post(
        f"/api/problems/{CAUSE}", {"note": "Cable", "known_until": "2099-01-01T00:00:00Z", "claimed": True}
    )
    assert said.status_code == 422, "a year ahead at most"
    said = await site.post(f"/api/problems/{CAUSE}", {"note": "Cable", "claimed": True})
    assert (said.json()["note"], said.json()["noted_by"], said.json()["claimed_by"]) == ("Cable", "ana", "ana")
    [theirs] = (await site.get("/api/problems", "ben")).json()["items"]
    assert theirs["said"] == said.json()
    taken_back = await site.post(f"/api/problems/{CAUSE}", {"note": None}, "ben")
    assert (taken_back.json()["note"], taken_back.json()["claimed_by"]) == (None, "ana")


@pytest.mark.parametrize("body", [{"note": 3}, {"known_until": "soon"}, {"claimed": "yes"}, {"colour": "red"}, [], "x"])
async def test_what_does_not_fit_is_refused_in_words(site: Site, body: object) -> None:
    await site.failed_job("v0")
    refused = await site.post(f"/api/problems/{CAUSE}", body)
    assert refused.status_code == 422
    assert refused.json()["detail"].endswith(".")


async def test_a_retry_over_jobs_is_told_job_by_job(site: Site) -> None:
    job_id = await site.failed_job("v0")
    answer = await site.post(f"/api/problems/{CAUSE}/retry")
    assert answer.status_code == 200
    [refused] = answer.json()["refused"]
    assert (answer.json()["done"], refused["job_id"]) == ([], job_id)
    assert "external job" in refused["detail"]


async def test_an_action_on_many_answers_for_each_job(site: Site) -> None:
    waiting = [await site.waiting_job() for _ in range(3)]
    theirs = await site.waiting_job(user="ben")
    answer = await site.post("/api/jobs/actions", {"action": "cancel", "job_ids": [*waiting, theirs, NOWHERE]})
    assert answer.status_code == 200
    assert answer.json()["done"] == waiting
    details = {one["job_id"]: one["detail"] for one in answer.json()["refused"]}
    assert details.keys() == {theirs, NOWHERE}
    assert len(set(details.values())) == 1, "somebody else's job answers like one that does not exist"
    assert [await site.status(job_id) for job_id in (*waiting, theirs)] == ["cancelled"] * 3 + ["pending"]


async def test_a_filter_with_the_number_that_it_should_name(site: Site) -> None:
    nightly = [await site.failed_job(f"v{number}", name=f"nightly {number}") for number in range(3)]
    other = await site.failed_job("w", name="other")
    for name in ("nightly 8", "nightly 9"):
        await site.failed_job("x", user="ben", name=name)
    order = {"action": "delete", "filter": {"status": "failed", "q": "nightly"}, "expected": 5}
    refused = await site.post("/api/jobs/actions", order)
    assert (refused.status_code, refused.json()["detail"]) == (409, "These are 3 jobs now, not 5; look at them again.")
    answer = await site.post("/api/jobs/actions", {**order, "expected": 3})
    assert sorted(answer.json()["done"]) == sorted(nightly)
    assert [await site.status(job_id) for job_id in (*nightly, other)] == ["gone"] * 3 + ["failed"]


@pytest.mark.parametrize(
    ("order", "word"),
    [
        ({"action": "cancel", "filter": {}, "expected": 0}, "The filter is empty"),
        ({"action": "cancel", "filter": {"status": [], "q": "", "dashboard": None}, "expected": 0}, "is empty"),
        ({"action": "cancel", "job_ids": []}, "No job is selected"),
        ({"action": "cancel"}, "one of both"),
        ({"action": "cancel", "filter": {"dashboard": True}}, "expected"),
        ({"action": "explode", "job_ids": ["x"]}, "action must be one of"),
        ({"action": "run_next", "job_ids": ["x"]}, "action must be one of"),
        ({"action": "cancel", "filter": {"stauts": "failed"}, "expected": 0}, "stauts"),
        ({"action": "cancel", "filter": {"status": "broken"}, "expected": 0}, "status must be one of"),
        ({"action": "cancel", "filter": {"min_seconds": -1}, "expected": 0}, "min_seconds"),
        ({"action": "cancel", "filter": {"from": "soon"}, "expected": 0}, "from"),
        ({"action": "cancel", "filter": {"cause": CAUSE, "period": "ever"}, "expected": 0}, "period"),
        ({"action": "cancel", "job_ids": ["x"], "expected": "all"}, "expected"),
    ],
)
async def test_what_names_no_jobs_or_no_action_is_refused(site: Site, order: dict[str, Any], word: str) -> None:
    refused = await site.post("/api/jobs/actions", order)
    assert (refused.status_code, word in refused.json()["detail"]) == (422, True), refused.text


async def test_jobs_are_named_by_a_cause(site: Site) -> None:
    mine = [await site.failed_job(f"v{number}") for number in range(2)]
    await site.waiting_job()
    order = {"action": "keep", "filter": {"cause": CAUSE}, "expected": 2}
    answer = await site.post("/api/jobs/actions", order)
    assert sorted(answer.json()["done"]) == sorted(mine)


async def test_five_hundred_jobs_at_once_leave_the_loop_free(site: Site) -> None:
    """Others are served meanwhile: questions in between come back before the action has ended."""
    waiting = [await site.waiting_job() for _ in range(20)]
    ids = [*waiting, *(f"{number:036}" for number in range(480))]
    action = asyncio.create_task(site.post("/api/jobs/actions", {"action": "cancel", "job_ids": ids}))
    asked = 0
    while not action.done():
        assert (await site.get("/api/auth/me")).status_code == 200
        asked += 1
    assert asked > 1
    answer = (await action).json()
    assert (answer["done"], len(answer["refused"])) == (waiting, 480)


async def test_strangers_get_nothing(site: Site) -> None:
    for method, path in (("GET", ""), ("POST", f"/{CAUSE}"), ("POST", f"/{CAUSE}/retry")):
        assert (await site.client.request(method, f"/api/problems{path}")).status_code == 401
    assert (await site.client.post("/api/jobs/actions", json={"action": "cancel", "job_ids": ["x"]})).status_code == 401
