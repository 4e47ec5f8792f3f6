"""Posts to a webhook: what is sent, which answers count, and which addresses are never called."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from backend.clock import SystemClock
from backend.domain.sending import TIMED_OUT, UNREACHABLE, Verdict
from backend.errors import Invalid
from backend.notifications.guard import PRIVATE, Guard, SystemNames, web_address
from backend.notifications.webhook import NO_TLS, NOT_HTTP, Webhooks
from tests.support.receivers import CUT, SILENCE, Receiver, receiving

SECRET = "s3cret-of-a-channel"
BODY = b'{"event_id": "e-1"}'
PUBLIC = "93.184.216.34"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


class Names:
    """A DNS whose answers the test chooses; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def posted(url: str, guard: Guard | None = None, *, secret: str | None = None, seconds: float = 10) -> object:
    """Post once, and return the answer."""
    webhooks = Webhooks(guard or Guard(allows_private=True), SystemClock(), max_seconds=seconds)
    try:
        return await webhooks.post(url, secret, "e-1", BODY)
    finally:
        await webhooks.close()


async def answer(url: str, guard: Guard | None = None, *, seconds: float = 10) -> tuple[str, str | None]:
    """Return what came of a post, and the reason."""
    found = await posted(url, guard, seconds=seconds)
    return found.verdict.value, found.error  # type: ignore[attr-defined]


async def test_a_receiver_gets_the_body_with_its_id_and_a_time(receiver: Receiver) -> None:
    assert await answer(f"{receiver.url}/hook?key=1") == ("taken", None)
    [request] = receiver.requests
    assert (request.path, request.body) == ("/hook?key=1", BODY)
    assert request.headers["x-dashboard-event-id"] == "e-1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["x-dashboard-timestamp"].isdigit()
    assert "x-dashboard-signature" not in request.headers


async def test_the_signature_is_that_of_time_and_body(receiver: Receiver) -> None:
    await posted(receiver.url, secret=SECRET)
    [request] = receiver.requests
    signed = request.headers["x-dashboard-timestamp"].encode() + b"." + request.body
    expected = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert request.headers["x-dashboard-signature"] == f"sha256={expected}"


@pytest.mark.parametrize(
    ("reply", "verdict", "error"),
    [
        (204, "taken", None),
        (500, "again", "The receiver answered 500."),
        (410, "ended", "The receiver answered 410."),
        (302, "ended", "The receiver answered 302, a redirect; enter the address it leads to."),
        (CUT, "again", UNREACHABLE),
    ],
)
async def test_only_the_status_of_an_answer_counts(
    receiver: Receiver, reply: int | str, verdict: str, error: str | None
) -> None:
    receiver.replies.append(reply)
    found, why = await answer(receiver.url)
    assert found == verdict
    assert why in (error, NOT_HTTP.error if reply == CUT else error)
    assert len(receiver.requests) == 1, "a redirect was followed, or a post was repeated"


async def test_a_receiver_that_never_answers_is_given_up_after_the_limit(receiver: Receiver) -> None:
    receiver.replies.append(SILENCE)
    assert await answer(receiver.url, seconds=0.3) == ("again", TIMED_OUT)


async def test_one_that_hangs_holds_up_no_other(receiver: Receiver) -> None:
    receiver.rule = lambda request: SILENCE if request.path == "/hangs" else 200
    webhooks = Webhooks(Guard(allows_private=True), SystemClock())
    hanging = [asyncio.create_task(webhooks.post(f"{receiver.url}/hangs", None, "e", BODY)) for _ in range(50)]
    await receiver.until(50)
    assert (await webhooks.post(receiver.url, None, "e", BODY)).verdict is Verdict.TAKEN
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    await webhooks.close()


async def test_a_post_that_is_cancelled_leaves_the_wire(receiver: Receiver) -> None:
    receiver.rule = lambda _: SILENCE
    webhooks = Webhooks(Guard(allows_private=True), SystemClock())
    task = asyncio.create_task(webhooks.post(receiver.url, None, "e", BODY))
    await receiver.until(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await webhooks.close()


async def test_nothing_listens_there() -> None:
    assert await answer("http://127.0.0.1:1/") == ("again", UNREACHABLE)


@pytest.mark.parametrize(("scheme", "error"), [("http", NOT_HTTP.error), ("https", NO_TLS)])
async def test_what_is_no_web_server_is_said(scheme: str, error: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await answer(f"{scheme}://127.0.0.1:{port}/") == ("again", error)
    server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_not_called_unless_allowed(receiver: Receiver, host: str) -> None:
    url = f"http://{host}:{receiver.port}/"
    assert await answer(url, Guard()) == ("ended", PRIVATE)
    assert receiver.requests == []


async def test_every_address_of_a_name_must_be_public(receiver: Receiver) -> None:
    names = Names([PUBLIC, "127.0.0.1"])
    assert await answer(f"http://hooks.example:{receiver.port}/", Guard(resolve=names)) == ("ended", PRIVATE)
    assert receiver.requests == []


async def test_a_name_that_leads_to_a_private_address_after_the_check_is_not_called(receiver: Receiver) -> None:
    names = Names([PUBLIC], ["127.0.0.1"])
    guard = Guard(resolve=names)
    await guard.check("hooks.example", receiver.port)  # as when the channel was saved
    assert await answer(f"http://hooks.example:{receiver.port}/", guard) == ("ended", PRIVATE)
    assert receiver.requests == []


async def test_the_checked_address_is_called_and_the_name_is_not_asked_again(receiver: Receiver) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    guard = Guard(allows_private=True, resolve=names)
    assert await answer(f"http://hooks.example:{receiver.port}/", guard) == ("taken", None)
    assert names.asked == [("hooks.example", receiver.port)]
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_an_address_that_is_dead_leads_to_the_next_one(receiver: Receiver) -> None:
    guard = Guard(allows_private=True, resolve=Names(["127.0.0.77", "127.0.0.1"]))
    assert await answer(f"http://hooks.example:{receiver.port}/", guard) == ("taken", None)


async def test_a_proxy_of_the_environment_is_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    monkeypatch.setenv("ALL_PROXY", receiver.url)
    found = await answer("http://hooks.example:1/", Guard(allows_private=True, resolve=Names(["127.0.0.1"])))
    assert (found[0], receiver.requests) == ("again", [])


async def test_a_name_is_asked_for_once_at_a_time_and_again_later() -> None:
    names = SystemNames()
    both = await asyncio.gather(names("localhost", 80), names("localhost", 80))
    assert both[0] is both[1]
    again = await names("localhost", 80)
    assert again is not both[0]
    assert set(again) <= {"127.0.0.1", "::1"}


async def test_a_name_that_is_not_known_is_said() -> None:
    found = await answer("http://no-such-host.invalid/", Guard())
    assert found == ("again", "The receiver's host name is not known; check the address.")


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example", "ftp://hooks.example/", "https://", "https:///path", "https://hooks.example:0/"),
        *("https://hooks.example:99999/", "https://ana:word@hooks.example/", "https://hooks.example/a b"),
        *("https://hooks.example/\r\nX: y", "https://hooks.example/#part", "https://[::1", "javascript:alert(1)"),
        *("https://hooks.example/" + "x" * 2_000, "https://" + "ü" * 80 + ".example/"),
    ],
)
def test_what_is_no_web_address_is_refused_in_words_that_do_not_repeat_it(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        web_address(url)
    assert refused.value.sentence.endswith(".")
    assert url in ("", "https://") or url not in refused.value.sentence


async def test_nothing_of_a_post_is_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    receiver.replies.extend([500, CUT])
    for _ in range(3):
        await posted(f"{receiver.url}/T0KEN-IN-PATH?key=T0KEN", secret=SECRET)
    assert len(receiver.requests) == 3
    assert not [record for record in caplog.records if "T0KEN" in record.getMessage() or SECRET in record.getMessage()]
