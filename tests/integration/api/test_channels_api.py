"""The routes of channels, the commands over them, and what no answer shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend import open_backend
from backend.api import build_app
from tests.support.accounts import PASSWORD
from tests.support.databases import settings_of
from tests.support.receivers import Receiver, receiving

SECRET, TOKEN = "s3cret-of-a-channel", "T0KEN-in-the-address"


@dataclass
class Api:
    """The routes, for ana, ben and an administrator, and a receiver on this machine."""

    ana: httpx.AsyncClient
    ben: httpx.AsyncClient
    admin: httpx.AsyncClient
    receiver: Receiver

    def draft(self, **given: Any) -> dict[str, Any]:
        """Return a webhook to the receiver with these fields."""
        return {"kind": "webhook", "url": f"{self.receiver.url}/{TOKEN}", "secret": SECRET, **given}

    async def add(self, client: httpx.AsyncClient, **given: Any) -> dict[str, Any]:
        answer = await client.post("/api/channels", json=self.draft(**given))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Api]:
    settings = settings_of(tmp_path / "data", notify_private_addresses=True)
    async with open_backend(settings) as backend, receiving() as receiver:
        app, clients = build_app(backend), []
        users = [await backend.accounts.add_user(name, PASSWORD) for name in ("ana", "ben")]
        for user in (*users, await backend.accounts.user("admin")):
            token = await backend.accounts.issue_token(user, lifetime_seconds=60)
            clients.append(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=app),
                    base_url=settings.local_url,
                    headers={"Authorization": f"Bearer {token}"},
                )
            )
        ana, ben, admin = clients
        yield Api(ana, ben, admin, receiver)
        for client in clients:
            await client.aclose()


async def test_an_added_channel_is_answered_as_it_is_listed(opened: Api) -> None:
    added = await opened.add(opened.ana, name="ops", events=["failed", "stalled"], only={"name": "nightly.csv"})
    assert added.pop("id")
    assert added == {
        "kind": "webhook",
        "name": "ops",
        "url": f"http://127.0.0.1:{opened.receiver.port}/…",
        "events": ["failed", "stalled"],
        "enabled": True,
        "last_sent_at": None,
        "last_error": None,
        "disabled_because": None,
        "has_secret": True,
        "only": {"name": "nightly.csv", "owner": None, "processor": None},
        "tells_details": False,
        "daily_cap": 10_000,
        "for_all": False,
    }
    [listed] = (await opened.ana.get("/api/channels")).json()
    assert added.items() <= listed.items()
    assert (await opened.ben.get("/api/channels")).json() == []


async def test_a_channel_is_changed_field_by_field(opened: Api) -> None:
    path = f"/api/channels/{(await opened.add(opened.ana))['id']}"
    changed = (await opened.ana.put(path, json={"enabled": False, "events": ["completed"]})).json()
    assert (changed["enabled"], changed["events"], changed["has_secret"]) == (False, ["completed"], True)
    changed = (await opened.ana.put(path, json={"events": None, "secret": None, "name": None})).json()
    assert (changed["enabled"], changed["events"], changed["has_secret"]) == (False, None, False)


async def test_a_removed_channel_is_gone(opened: Api) -> None:
    path = f"/api/channels/{(await opened.add(opened.ana))['id']}"
    assert (await opened.ana.delete(path)).status_code == 204
    assert (await opened.ana.delete(path)).status_code == 404


async def test_another_users_channel_is_not_found(opened: Api) -> None:
    path = f"/api/channels/{(await opened.add(opened.ana))['id']}"
    missing = "/api/channels/no-such-channel"
    for client in (opened.ben, opened.admin):
        for method, end, body in (("PUT", "", {"enabled": False}), ("DELETE", "", None), ("POST", "/test", None)):
            one = await client.request(method, f"{path}{end}", json=body)
            other = await client.request(method, f"{missing}{end}", json=body)
            assert (one.status_code, one.json()) == (other.status_code, other.json())
            assert one.status_code == 404


async def test_channels_for_all_are_the_administrators(opened: Api) -> None:
    refused = await opened.ana.post("/api/channels", json=opened.draft(for_all=True))
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "Only an administrator can have channels for all."},
    )
    added = await opened.add(opened.admin, for_all=True)
    assert [channel["id"] for channel in (await opened.admin.get("/api/channels")).json()] == [added["id"]]
    assert (await opened.ana.get("/api/channels")).json() == []


async def test_a_test_is_sent_before_and_after_a_channel_is_saved(opened: Api) -> None:
    answer = await opened.ana.post("/api/channels/test", json=opened.draft())
    assert (answer.status_code, answer.json()) == (200, {"sent": True, "detail": "The test was sent."})
    path = f"/api/channels/{(await opened.add(opened.ana))['id']}/test"
    opened.receiver.replies.append(500)
    answer = await opened.ana.post(path)
    assert (answer.status_code, answer.json()) == (409, {"detail": "The receiver answered 500."})
    assert [request.json["event"] for request in opened.receiver.requests] == ["test", "test"]


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"kind": "webhook"}, {"kind": "pigeon", "url": "https://x.example"}, {"kind": "webhook", "url": 5}),
        *({"kind": "webhook", "url": TOKEN}, {"kind": "webhook", "url": f"ftp://{TOKEN}"}),
        *({"kind": "apprise", "url": f"nonsense://{TOKEN}"}, {"kind": "apprise", "url": "syslog://"}),
        {"kind": "webhook", "url": "https://x.example", "events": ["nothing"]},
        {"kind": "webhook", "url": "https://x.example", "more": 1},
        {"kind": "webhook", "url": f"https://x.example/\x00{TOKEN}"},
        {"kind": "webhook", "url": "https://x.example", "daily_cap": 10**30},
        {"kind": "apprise", "url": "json://x.example", "secret": SECRET},
    ],
)
async def test_what_is_not_a_channel_is_refused_without_repeating_its_address(opened: Api, body: Any) -> None:
    for path in ("/api/channels", "/api/channels/test"):
        answer = await opened.ana.post(path, json=body)
        assert answer.status_code == 422, answer.text
        assert TOKEN not in answer.text
        assert SECRET not in answer.text


async def test_private_addresses_are_refused_unless_allowed(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data")
    async with open_backend(settings) as backend:
        token = await backend.accounts.issue_token(await backend.accounts.user("admin"), lifetime_seconds=60)
        transport, headers = httpx.ASGITransport(app=build_app(backend)), {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url=settings.local_url, headers=headers) as client:
            for kind, url in (("webhook", "http://127.0.0.1:9/"), ("apprise", "json://127.0.0.1:9/")):
                for path in ("/api/channels", "/api/channels/test"):
                    answer = await client.post(path, json={"kind": kind, "url": url})
                    assert (answer.status_code, "private network" in answer.text) == (422, True)


async def test_metrics_count_by_kind_and_name_no_channel(opened: Api) -> None:
    added = await opened.add(opened.ana, name="a-name-of-mine")
    await opened.ana.post("/api/jobs", json={"video_ids": ["missing"], "name": "nightly.csv"})
    await opened.receiver.until(1)
    metrics = ""
    while 'dashboard_notifications_total{channel="webhook",result="sent"} 1.0' not in metrics:
        metrics = (await opened.admin.get("/metrics")).text
    for shown in (added["id"], "a-name-of-mine", TOKEN, SECRET):
        assert shown not in metrics
    [request] = opened.receiver.requests
    assert (request.json["event"], request.json["job"]["name"]) == ("failed", "nightly.csv")
