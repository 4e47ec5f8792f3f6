"""Receivers behind bad networks, and a server that is killed again and again: each event is told, once by its ID.

The tests' own receivers over HTTP (webhook and Apprise's `json://`) and SMTP (`aiosmtpd`) have proxies before them that
cut, delay, answer 500, 410 and nothing. In each round ten jobs fail, earlier ones are retried, one channel is switched
off and on again, and the server is killed with SIGKILL.

In the gate 2 rounds; `python -m tests.acceptance.test_notifications [rounds] [--database postgresql]` runs 20 and
prints what happened.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from tests.support.databases import chosen, rows
from tests.support.examples import example
from tests.support.faulty_proxy import GONE_PATH, FaultyMailProxy, FaultyWebProxy
from tests.support.homes import Home
from tests.support.receivers import MailBox, Receiver, Request, mail_server, receiving
from tests.support.server_runs import Server
from tests.support.servers import TLS, sign_in_link, use_link
from tests.support.tcp_proxies import listening

ROUNDS, ROUNDS_IN_THE_GATE = 20, 2
JOBS, VIDEOS, RETRIED = 10, 2, 5  # in a round
MAX_ATTEMPTS = 3
SECRET, TOKEN = "s3cret-of-the-channel", "T0KEN-in-the-address"
MAX_LATE_SECONDS = 60  # from the signing to the arrival
END_SECONDS, POLL_SECONDS = 150, 0.1
HOOK, SWITCHED, JSON, MAIL, GONE = "hook", "switched", "json", "mail", "gone"
pytestmark = pytest.mark.acceptance  # starts the whole program
GROUP = re.compile(r"(\d+) notifications: ")

Signed = Callable[[Mapping[str, str], bytes, str, float], bool]


def signature_check() -> Signed:
    """Return the function of the README that checks a signature, as it is there."""
    names: dict[str, Any] = {}
    exec(example("# receiver.py"), names)
    check: Signed = names["is_genuine"]
    return check


@dataclass(frozen=True)
class Muting:
    """A time in which the channel that is switched off and on was off."""

    began: float
    ended: float


@dataclass
class Story:
    """The program with its receivers, and what was seen."""

    server: Server
    tokens: Mapping[str, str]
    receiver: Receiver
    web: FaultyWebProxy
    mail: FaultyMailProxy
    box: MailBox
    rng: Random
    channels: dict[str, str] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)
    mutings: list[Muting] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    killed_after: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def api(self, user: str = "ana") -> AsyncIterator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        async with httpx.AsyncClient(base_url=self.server.url, headers=headers, timeout=60, verify=TLS) as client:
            yield client

    async def asked(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
        """Return the answer, which is kept to be looked through for secrets."""
        answer = await client.request(method, path, **request)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        self.shown.append(answer.text)
        return answer.json() if answer.headers.get("content-type") == "application/json" else answer.text

    async def add_channels(self) -> None:
        web, mail = f"127.0.0.1:{self.web.port}", f"127.0.0.1:{self.mail.port}"
        urls = {
            HOOK: f"http://{web}/{HOOK}/{TOKEN}",
            SWITCHED: f"http://{web}/{SWITCHED}/{TOKEN}",
            GONE: f"http://{web}{GONE_PATH}/{TOKEN}",
            JSON: f"json://{web}/{JSON}/{TOKEN}",
            MAIL: f"mailto://{mail}/?from=dash@example.org&to=ana@example.org&mode=insecure&format=text&name={TOKEN}",
        }
        async with self.api() as client:
            for name, url in urls.items():
                kind = "webhook" if url.startswith("http") else "apprise"
                draft = {"kind": kind, "url": url, "name": name, "daily_cap": 10_000}
                draft |= {"secret": SECRET} if kind == "webhook" else {}
                self.channels[name] = (await self.asked(client, "POST", "/api/channels", json=draft))["id"]

    async def play_round(self) -> None:
        """Let jobs fail and others be retried, switch a channel off and on, and kill the server."""
        await self.server.start()
        began = time.monotonic()
        if not self.channels:
            await self.add_channels()
        async with self.api() as client:
            await self._retry_some(client)
            for number in range(JOBS):
                name = f"list-{len(self.jobs):03}.csv"
                order = {"name": name, "video_ids": [f"missing-{len(self.jobs)}-{n}" for n in range(VIDEOS)]}
                self.jobs.append((await self.asked(client, "POST", "/api/jobs", json=order))["job_id"])
                if number == JOBS // 2:
                    await self._switch_off_and_on(client)
        await asyncio.sleep(self.rng.uniform(0, 2.5))
        self.shown.append(self.server.output)
        await self.server.end()
        self.killed_after.append(time.monotonic() - began)

    async def _retry_some(self, client: httpx.AsyncClient) -> None:
        ended = await self.asked(client, "GET", "/api/jobs", params={"limit": 1000, "status": "failed"})
        again = [job["job_id"] for job in ended["items"] if job["attempt"] < MAX_ATTEMPTS]
        for job_id in self.rng.sample(again, min(RETRIED, len(again))):
            await self.asked(client, "POST", f"/api/jobs/{job_id}/retry", json={})

    async def _switch_off_and_on(self, client: httpx.AsyncClient) -> None:
        path = f"/api/channels/{self.channels[SWITCHED]}"
        await self.asked(client, "PUT", path, json={"enabled": False})
        began = time.time()
        await asyncio.sleep(self.rng.uniform(0.2, 1))
        ended = time.time()
        await self.asked(client, "PUT", path, json={"enabled": True})
        self.mutings.append(Muting(began, ended))

    async def settle(self) -> None:
        """Let all jobs end and everything be sent that waits; look at every place where a secret might be shown."""
        self.web.calm()
        await self.server.start()
        async with self.api() as client, asyncio.timeout(END_SECONDS):
            while not await self._is_settled(client):  # noqa: ASYNC110  of another process
                await asyncio.sleep(POLL_SECONDS)
        await self._look_around()
        self.shown.append(self.server.output)
        await self.server.end()

    async def _is_settled(self, client: httpx.AsyncClient) -> bool:
        for status in ("pending", "processing"):
            if (await client.get("/api/jobs", params={"status": status})).json()["items"]:
                return False
        raw = "SELECT (SELECT count(*) FROM delivery WHERE state = 'waiting')"
        composed = "(SELECT count(*) FROM notification WHERE NOT composed)"
        return int(rows(self.server.data_dir, f"{raw} + {composed}")[0][0]) == 0

    async def _look_around(self) -> None:
        async with self.api("admin") as client:
            for path in (
                *("/api/channels", "/api/notifications", "/metrics", "/api/jobs/export.csv", "/healthz", "/api/stats"),
                *("/openapi.json", f"/api/jobs/{self.jobs[0]}/export.csv", f"/api/jobs/{self.jobs[0]}"),
            ):
                await self.asked(client, "GET", path)
        await asyncio.to_thread(self._look_at_pages)
        async with self.api() as client:
            await self.asked(client, "GET", "/api/channels")
            for bad in ({"url": f"http://127.0.0.1:1/{TOKEN} x"}, {"url": f"nonsense://{TOKEN}", "kind": "apprise"}):
                answer = await client.post("/api/channels", json={"kind": "webhook", "secret": "", **bad})
                assert answer.status_code == 422, answer.text
                self.shown.append(answer.text)

    def _look_at_pages(self) -> None:
        link = sign_in_link(self.server, "ana")
        with httpx.Client(follow_redirects=True, timeout=60, verify=TLS) as browser:
            use_link(browser, link)
            for path in ("/", f"/jobs/{self.jobs[0]}?tab=timeline", "/history", "/problems", "/notifications"):
                page = browser.get(f"{self.server.url}{path}")
                assert page.status_code == 200, path
                self.shown.append(page.text)

    def requests(self, name: str) -> list[Request]:
        """Return what came to the receiver on this channel, in order."""
        return [request for request in self.receiver.requests if request.path.startswith(f"/{name}/")]


@asynccontextmanager
async def told_story(home: Home, seed: int) -> AsyncIterator[Story]:
    """Run receivers and proxies around a server over this home."""
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        web = await stack.enter_async_context(listening(FaultyWebProxy(receiver.port, share=0.4, seed=seed)))
        box, mail_port = await stack.enter_async_context(mail_server())
        mail = await stack.enter_async_context(listening(FaultyMailProxy(mail_port, seed=seed)))
        server = Server(
            home.path / "data",
            media_dir=home.path / "media",
            notify_private_addresses="true",
            max_running_jobs=50,
            max_running_jobs_per_user=50,
        )
        stack.push_async_callback(server.close)
        yield Story(server, home.tokens, receiver, web, mail, box, Random(seed))


def check(story: Story) -> str:
    """Check what came, and return it in words."""
    stored = rows(
        story.server.data_dir,
        "SELECT event_id, job_id, attempt, event, seq FROM notification ORDER BY seq, event_id",
    )
    deliveries: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    names = {channel_id: name for name, channel_id in story.channels.items()}
    for row in rows(story.server.data_dir, "SELECT * FROM delivery"):
        deliveries[names[row.channel_id]][row.event_id] = row
    assert len({row.job_id for row in stored}) == len(story.jobs), "a job was not told of"
    _check_webhook(story, stored, deliveries[HOOK])
    _check_muted(story, deliveries[SWITCHED])
    _check_gone(story, deliveries[GONE])
    told_in = {
        JSON: Counter(str(request.json["title"]) for request in story.requests(JSON)),
        MAIL: Counter(title for title, _ in story.box.mails),
    }
    titles = {
        row.event_id: row.title for row in rows(story.server.data_dir, "SELECT event_id, title FROM notification")
    }
    for name, told in told_in.items():
        _check_people(name, deliveries[name].values(), titles, told)
    _check_secrets(story)
    return _in_words(story, stored, deliveries, told_in)


def _check_webhook(story: Story, stored: Sequence[Any], deliveries: Mapping[str, Any]) -> None:
    """Check that each event came at least once, under one ID, signed, and those of a job in order."""
    is_genuine, first = signature_check(), dict[str, Request]()
    ids_of: defaultdict[tuple[str, int, str], set[str]] = defaultdict(set)
    for request in story.requests(HOOK):
        body = request.json
        signed, age = _Headers(request.headers), time.time() - request.at + MAX_LATE_SECONDS
        assert is_genuine(signed, request.body, SECRET, age), "the signature is wrong"
        assert not is_genuine(signed, request.body + b" ", SECRET, age), "every signature would do"
        assert request.headers["x-dashboard-event-id"] == body["event_id"]
        ids_of[body["job"]["job_id"], body["job"]["attempt"], body["event"]].add(body["event_id"])
        first.setdefault(body["event_id"], request)
    wanted = {row.event_id for row in stored}
    assert set(first) == wanted, f"{len(wanted - set(first))} never came, {len(set(first) - wanted)} were unknown"
    assert all(len(ids) == 1 for ids in ids_of.values()), "an event came under two IDs"
    assert len(ids_of) == len(wanted), "an ID stood for two events"
    assert {row.state for row in deliveries.values()} == {"sent"}
    came: defaultdict[str, list[int]] = defaultdict(list)
    place = {row.event_id: row.seq for row in stored}
    for event_id, request in first.items():
        came[request.json["job"]["job_id"]].append(place[event_id])
    assert all(seqs == sorted(seqs) for seqs in came.values()), "the events of a job came out of order"


class _Headers(dict[str, str]):
    """Headers as a web framework has them: their names in any case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


def _check_muted(story: Story, deliveries: Mapping[str, Any]) -> None:
    """Check that nothing came while the channel was off, and nothing that was muted after that."""
    for request in story.requests(SWITCHED):
        assert not any(muting.began < request.at < muting.ended for muting in story.mutings), "it was switched off"
        if deliveries[request.json["event_id"]].state == "muted":
            assert any(request.at < muting.began for muting in story.mutings), "it came after it was muted"
    came = {request.json["event_id"] for request in story.requests(SWITCHED)}
    assert {event_id for event_id, row in deliveries.items() if row.state == "sent"} <= came
    assert {row.state for row in deliveries.values()} <= {"sent", "muted"}


def _check_gone(story: Story, deliveries: Mapping[str, Any]) -> None:
    """Check that the channel whose receiver is gone was switched off."""
    [channel] = rows(story.server.data_dir, "SELECT * FROM channel WHERE name = :name", name=GONE)
    assert not channel.enabled
    assert channel.disabled_because.startswith("The receiver answered 410, 3 times in a row")
    assert story.requests("gone") == []
    states = Counter(row.state for row in deliveries.values())
    assert set(states) <= {"failed", "muted"}
    assert states["failed"] >= 3


def _check_people(name: str, deliveries: Any, titles: Mapping[str, str], told: Counter[str]) -> None:
    """Check that each message of one event came, and of each group one with its number of events."""
    groups: Counter[str] = Counter()
    for row in deliveries:
        if row.state == "grouped":
            groups[row.group_id] += 1
        elif row.state == "sent":
            assert told[titles[row.event_id]] >= 1, f"{name}: {titles[row.event_id]} never came"
        else:
            assert (row.state, row.tries) == ("failed", 4), f"{name}: {row}"
    sizes = Counter(groups.values())
    came = Counter(int(found[1]) for title in told.elements() if (found := GROUP.match(title)))
    assert all(came[size] >= number for size, number in sizes.items()), f"{name}: a group never came: {sizes} {came}"


def _check_secrets(story: Story) -> None:
    for text in story.shown:
        for secret in (SECRET, TOKEN):
            assert secret not in text, f"a secret was shown: {text[:500]}"
    assert "dashboard_notifications_total" in "".join(story.shown)


def _in_words(
    story: Story,
    stored: Sequence[Any],
    deliveries: Mapping[str, Mapping[str, Any]],
    told_in: Mapping[str, Counter[str]],
) -> str:
    hook = story.requests(HOOK)
    states = {name: Counter(row.state for row in found.values()) for name, found in deliveries.items()}
    shown = "; ".join(f"{name} {dict(found)}" for name, found in sorted(states.items()))
    messages = ", ".join(f"{name} {told.total()} messages" for name, told in told_in.items())
    return (
        f"{len(story.jobs)} jobs, {len(stored)} events, {len(story.killed_after)} kills; the webhook got {len(hook)} "
        f"posts of {len({request.json['event_id'] for request in hook})} IDs, {messages}; {shown}; "
        f"web proxy {dict(story.web.did)}, mail proxy {dict(story.mail.did)}"
    )


async def play(path: Path, *, rounds: int, seed: int) -> str:
    """Play so many rounds, check everything, and return what happened."""
    home = await Home.prepare(path / "home", clips=["here"], clip_seconds=0.2, users=["ana"])
    async with told_story(home, seed) as story:
        for _ in range(rounds):
            await story.play_round()
        await story.settle()
        return check(story)


async def test_each_event_is_told_once_by_its_id_however_often_the_server_is_killed(tmp_path: Path) -> None:
    said = await play(tmp_path, rounds=ROUNDS_IN_THE_GATE, seed=1)
    assert f"{ROUNDS_IN_THE_GATE} kills" in said


def main(rounds: int = ROUNDS, seed: int = 1) -> None:
    """Play many rounds and print what happened."""
    with tempfile.TemporaryDirectory() as directory:
        print(asyncio.run(play(Path(directory), rounds=rounds, seed=seed)))


if __name__ == "__main__":
    with chosen(sys.argv[1:]) as words:
        main(*map(int, words))
