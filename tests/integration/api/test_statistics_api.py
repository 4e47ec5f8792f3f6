"""`GET /api/stats` and `GET /metrics` over a whole backend, without its web server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.api import build_app
from backend.app import Backend, open_backend
from backend.domain.auth import METRICS
from backend.domain.statistics import MEASURES
from backend.processors import names
from progress_dashboard.protocol import EXTERNAL
from tests.support.databases import settings_of

ORIGIN = "http://127.0.0.1:8000"
VIDEOS = 7
NAMES = {
    "dashboard_jobs",
    "dashboard_videos",
    "dashboard_video_seconds",
    "dashboard_job_wait_seconds",
    "dashboard_oldest_pending_seconds",
    "dashboard_slots",
    "dashboard_stalled_jobs",
    "dashboard_self_pauses",
    "dashboard_notifications",
    "dashboard_watchers",
    "dashboard_disk_free_bytes",
    "dashboard_build_info",
    "dashboard_event_loop_lag_seconds",
    "dashboard_tick_seconds",
}
LABELS = {"status", "processor", "outcome", "state", "dir", "version", "le", "channel", "result"}


@dataclass(frozen=True)
class Site:
    """The backend, and a client of it with no authority of its own."""

    backend: Backend
    client: httpx.AsyncClient

    async def headers(self, name: str, *, purpose: str = "access") -> dict[str, str]:
        """Return the headers of a user, who is added if there is no such user."""
        accounts = self.backend.accounts
        user = await accounts.user(name) if await accounts.exists(name) else await accounts.add_user(name, None)
        token = await accounts.issue_token(user, lifetime_seconds=600, purpose=purpose)
        return {"Authorization": f"Bearer {token}"}

    async def get(self, path: str, user: str = "admin", /, **query: str) -> httpx.Response:
        return await self.client.get(path, params=query, headers=await self.headers(user))

    async def external_job(self, name: str = "ana") -> None:
        """Run an external job of `VIDEOS` videos, of which two fail."""
        headers = await self.headers(name)
        order = {"video_ids": [f"v{number}" for number in range(VIDEOS)], "processor": EXTERNAL}
        job_id = (await self.client.post("/api/jobs", json=order, headers=headers)).json()["job_id"]
        reports: list[dict[str, Any]] = [
            {"n": 0, "video_id": "v0", "error": "It is cut off."},
            {"n": 1, "video_id": "v1", "error": "It is cut off."},
            {"n": 2, "current_video": VIDEOS, "status": "completed_with_errors"},
        ]
        answer = await self.client.post(f"/api/jobs/{job_id}/progress", json=reports, headers=headers)
        assert answer.status_code == 200


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_backend(settings_of(tmp_path, time_zone="UTC")) as backend:
        transport = httpx.ASGITransport(build_app(backend))
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            yield Site(backend, client)


async def test_the_answer_has_the_shape_of_the_contract(site: Site) -> None:
    await site.external_job()
    answer = (await site.get("/api/stats", "ana")).json()
    assert list(answer) == ["from", "to", "bin_seconds", "figures", "bins", "causes"]
    assert list(answer["figures"]) == list(MEASURES)
    assert all(list(figure) == ["value", "n", "before"] for figure in answer["figures"].values())
    assert list(answer["bins"][0]) == ["from", "to", "videos", "failed", "video_p50", "video_p95", "complete"]
    assert answer["causes"] == [
        {"fingerprint": answer["causes"][0]["fingerprint"], "error": "It is cut off.", "videos": 2, "jobs": 1}
    ]
    assert answer["figures"]["videos"] == {"value": VIDEOS, "n": VIDEOS, "before": None}
    assert answer["figures"]["success_rate"]["value"] == pytest.approx(5 / 7)
    assert answer["bin_seconds"] == 3600
    assert (answer["bins"][0]["from"], answer["bins"][-1]["complete"]) == (answer["from"], False)
    assert sum(part["videos"] for part in answer["bins"]) == VIDEOS


async def test_a_user_gets_their_own_and_an_administrator_may_choose(site: Site) -> None:
    await site.external_job("ana")
    await site.external_job("ben")

    async def videos(name: str, **query: str) -> int:
        return int((await site.get("/api/stats", name, **query)).json()["figures"]["videos"]["n"])

    assert await videos("ana") == VIDEOS
    assert await videos("admin") == 2 * VIDEOS
    assert await videos("admin", owner="ben", processor=EXTERNAL) == VIDEOS
    assert await videos("admin", processor="probe") == 0


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"period": "1y"}, 422, "period must be one of"),
        ({"period": "7d", "from": "2026-01-01"}, 422, "either period"),
        ({"from": "yesterday"}, 422, "from must be a time"),
        ({"from": "2026-01-01", "to": "1"}, 422, "before to"),
        ({"from": "99999999999999999999"}, 422, "from must be"),
        ({"to": "2026-01-01"}, 422, "to needs from"),
        ({"from": "1990-01-01"}, 422, "after 1999"),
        ({"name": "a\x00b"}, 422, "name"),
        ({"owner": "nobody"}, 404, "no user"),
    ],
)
async def test_what_cannot_be_asked_is_refused_in_words(
    site: Site, query: dict[str, str], status: int, words: str
) -> None:
    answer = await site.get("/api/stats", **query)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True)


async def test_other_users_are_none_of_a_users_business(site: Site) -> None:
    answer = await site.get("/api/stats", "ana", owner="admin")
    assert answer.status_code == 403
    assert (await site.client.get("/api/stats")).status_code == 401


async def test_empty_values_count_as_not_given(site: Site) -> None:
    empty = dict.fromkeys(("period", "from", "to", "processor", "name", "owner"), "")
    assert (await site.get("/api/stats", **empty)).json()["bin_seconds"] == 3600


async def test_the_schema_names_every_field(site: Site) -> None:
    document = (await site.get("/openapi.json")).json()
    parameters = {parameter["name"] for parameter in document["paths"]["/api/stats"]["get"]["parameters"]}
    assert parameters == {"period", "from", "to", "processor", "name", "owner"}
    assert set(document["components"]["schemas"]["FiguresOut"]["properties"]) == set(MEASURES)
    assert "/metrics" in document["paths"]


async def test_metrics_have_the_names_of_the_contract_and_no_private_labels(site: Site) -> None:
    await site.external_job()
    text = (await site.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    names = {family.name for family in families}
    assert names >= NAMES
    assert {label for family in families for sample in family.samples for label in sample.labels} <= LABELS
    assert not re.search(r"ana|v0|\bcut\b", text)


async def test_metrics_count_what_the_statistics_count(site: Site) -> None:
    await site.external_job()
    figures = (await site.get("/api/stats")).json()["figures"]
    families = text_string_to_metric_families((await site.get("/metrics")).text)
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }
    ok, failed = (samples["dashboard_videos_total", *sorted((EXTERNAL, outcome))] for outcome in ("ok", "failed"))
    assert ok + failed == figures["videos"]["value"]
    assert ok / (ok + failed) == pytest.approx(figures["success_rate"]["value"])
    assert samples["dashboard_jobs", "completed_with_errors"] == 1
    assert samples["dashboard_slots", "free"] == site.backend.slots.number
    assert samples["dashboard_disk_free_bytes", "data"] > 0
    assert samples["dashboard_tick_seconds_count",] > 0


async def test_results_are_counted_from_zero_on(site: Site) -> None:
    """Prometheus takes no increase from a series that begins with its first results."""
    families = text_string_to_metric_families((await site.get("/metrics")).text)
    counted = {
        (sample.labels["processor"], sample.labels["outcome"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "dashboard_videos_total"
    }
    assert counted == {(name, outcome): 0 for name in (*names(), EXTERNAL) for outcome in ("ok", "failed")}


async def test_a_metrics_token_reads_metrics_and_nothing_else(site: Site) -> None:
    headers = await site.headers("ana", purpose=METRICS)
    assert (await site.client.get("/metrics", headers=headers)).status_code == 200
    for path in ("/api/stats", "/api/jobs", "/api/auth/me"):
        assert (await site.client.get(path, headers=headers)).status_code == 401


async def test_metrics_are_not_for_everybody(site: Site) -> None:
    assert (await site.client.get("/metrics")).status_code == 401
    assert (await site.get("/metrics", "ana")).status_code == 403
    assert (await site.client.get("/metrics", headers={"Authorization": "Bearer x"})).status_code == 401


async def test_a_session_does_not_read_metrics(site: Site) -> None:
    cookie = await site.backend.accounts.open_session(await site.backend.accounts.user("admin"))
    headers = {"cookie": f"dash_{site.backend.settings.port}={cookie}"}
    assert (await site.client.get("/api/stats", headers=headers)).status_code == 200
    assert (await site.client.get("/metrics", headers=headers)).status_code == 401


async def test_openmetrics_is_given_to_those_who_ask(site: Site) -> None:
    headers = {**await site.headers("admin"), "Accept": "application/openmetrics-text; version=1.0.0"}
    answer = await site.client.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
