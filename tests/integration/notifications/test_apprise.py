"""Messages through Apprise: by web and mail, and what its plug-ins are not let do."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from apprise.manager_plugins import NotificationManager

from backend.clock import SystemClock
from backend.domain.sending import TIMED_OUT, UNREACHABLE
from backend.errors import Invalid
from backend.notifications.apprise import HOST_SCHEMES, LOCAL, UNKNOWN, Apprise
from backend.notifications.apprise_child import LOCAL_SCHEMES
from backend.notifications.guard import PRIVATE, Guard
from tests.support.receivers import SILENCE, Receiver, mail_server, receiving

FIRST_PART = re.compile(r"\{schema\}://([^/@]*@)?\{host\}")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


@pytest.fixture
async def apprise() -> AsyncIterator[Apprise]:
    """Return an Apprise that may call this machine."""
    opened = Apprise(Guard(allows_private=True), SystemClock(), max_seconds=5)
    yield opened
    await opened.close()


@pytest.fixture
async def guarded() -> AsyncIterator[Apprise]:
    opened = Apprise(Guard(), SystemClock(), max_seconds=5)
    yield opened
    await opened.close()


async def outcome(apprise: Apprise, url: str) -> tuple[str, str | None]:
    """Return what came of a message, and the reason."""
    found = await apprise.send(url, "nightly.csv: failed", "37 of 500 failed")
    return found.verdict.value, found.error


async def test_a_web_service_gets_title_and_text(apprise: Apprise, receiver: Receiver) -> None:
    assert await outcome(apprise, f"json://127.0.0.1:{receiver.port}/told") == ("taken", None)
    [request] = receiver.requests
    assert (request.json["title"], request.json["message"]) == ("nightly.csv: failed", "37 of 500 failed")


async def test_mail_gets_title_and_text(apprise: Apprise) -> None:
    async with mail_server() as (box, port):
        url = f"mailto://127.0.0.1:{port}/?from=dash@example.org&to=ana@example.org&mode=insecure&format=text"
        assert await outcome(apprise, url) == ("taken", None)
    [(title, text)] = box.mails
    assert (title, text.strip()) == ("nightly.csv: failed", "37 of 500 failed")


@pytest.mark.parametrize(
    ("reply", "verdict", "error"),
    [(500, "again", "The receiver answered 500."), (410, "ended", "The receiver answered 410.")],
)
async def test_the_status_of_a_web_service_counts(
    apprise: Apprise, receiver: Receiver, reply: int, verdict: str, error: str
) -> None:
    receiver.replies.append(reply)
    assert await outcome(apprise, f"json://127.0.0.1:{receiver.port}/") == (verdict, error)


async def test_nothing_listens_there(apprise: Apprise) -> None:
    assert await outcome(apprise, "json://127.0.0.1:1/") == ("again", UNREACHABLE)


async def test_a_service_that_hangs_is_given_up_and_holds_up_no_other(receiver: Receiver) -> None:
    receiver.rule = lambda request: SILENCE if request.path == "/hangs" else 200
    apprise = Apprise(Guard(allows_private=True), SystemClock(), max_seconds=2)
    hanging = [
        asyncio.create_task(outcome(apprise, f"json://127.0.0.1:{receiver.port}/hangs?rto=60")) for _ in range(10)
    ]
    await receiver.until(10)
    assert await outcome(apprise, f"json://127.0.0.1:{receiver.port}/") == ("taken", None)
    assert await asyncio.gather(*hanging) == [("again", TIMED_OUT)] * 10
    assert await outcome(apprise, f"json://127.0.0.1:{receiver.port}/") == ("taken", None)  # in another process
    await apprise.close()


async def test_closing_leaves_no_process_behind(receiver: Receiver) -> None:
    receiver.rule = lambda _: SILENCE
    apprise = Apprise(Guard(allows_private=True), SystemClock())
    hanging = asyncio.create_task(outcome(apprise, f"json://127.0.0.1:{receiver.port}/?rto=60"))
    await receiver.until(1)
    began = time.monotonic()
    await apprise.close()
    assert await hanging == ("again", UNREACHABLE)
    assert time.monotonic() - began < 20, "it waited for the service"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433"])
async def test_private_addresses_are_not_called_unless_allowed(guarded: Apprise, receiver: Receiver, host: str) -> None:
    assert await outcome(guarded, f"json://{host}:{receiver.port}/") == ("ended", PRIVATE)
    assert receiver.requests == []


async def test_mail_to_a_private_address_is_not_sent(guarded: Apprise) -> None:
    async with mail_server() as (box, port):
        url = f"mailto://localhost:{port}/?from=dash@example.org&to=ana@example.org&mode=insecure"
        assert await outcome(guarded, url) == ("ended", PRIVATE)
    assert box.mails == []


async def test_a_name_that_leads_to_a_private_address_after_the_check_is_not_called(receiver: Receiver) -> None:
    async def public(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34"]

    apprise = Apprise(Guard(resolve=public), SystemClock(), max_seconds=5)
    url = f"json://localhost:{receiver.port}/"
    await apprise.check(url)  # as when the channel was saved
    assert await outcome(apprise, url) == ("ended", PRIVATE)
    assert receiver.requests == []
    await apprise.close()


async def test_a_redirect_to_a_private_address_is_not_followed_there(apprise: Apprise, receiver: Receiver) -> None:
    receiver.replies.append(302)
    verdict, _ = await outcome(apprise, f"json://127.0.0.1:{receiver.port}/")
    assert (verdict, len(receiver.requests)) != ("taken", 0)


@pytest.mark.parametrize("url", ["syslog://", "dbus://", "gnome://", "windows://", "macosx://", "blink1://"])
async def test_what_acts_on_the_servers_machine_is_refused(guarded: Apprise, url: str) -> None:
    with pytest.raises(Invalid, match=r"^This address needs a file or a program") as refused:
        await guarded.check(url)
    assert refused.value.sentence == LOCAL
    assert await outcome(guarded, url) == ("ended", LOCAL)


async def test_a_file_of_the_server_is_not_read(apprise: Apprise) -> None:
    """Some addresses name key files."""
    url = "vapid://ana@example.org/ben@example.org?keyfile=/etc/passwd&subfile=/etc/passwd"
    verdict, error = await outcome(apprise, url)
    assert verdict == "ended"
    assert error in (LOCAL, UNKNOWN)


@pytest.mark.parametrize("url", ["", "nonsense", "nonsense://x", "json://", "slack://short", "x" * 3_000])
async def test_an_address_that_apprise_does_not_know_is_refused_without_repeating_it(
    guarded: Apprise, url: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await guarded.check(url)
    assert refused.value.sentence == UNKNOWN


async def test_a_private_address_is_refused_when_it_is_saved(guarded: Apprise) -> None:
    with pytest.raises(Invalid) as refused:
        await guarded.check("json://192.168.1.5/path")
    assert refused.value.sentence == PRIVATE


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # one of its plug-ins has it
def test_only_addresses_with_a_host_show_it() -> None:
    """Schemes whose addresses have a token behind `://` must not be among those whose host is shown."""
    known = templates()
    assert set(known) >= HOST_SCHEMES
    assert {scheme for scheme in HOST_SCHEMES if not all(map(FIRST_PART.match, known[scheme]))} == set()


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_every_scheme_without_a_receiver_is_known_as_local() -> None:
    local = {scheme for scheme, known in templates().items() if set(known) & {"{schema}://"}}
    assert local
    assert local <= LOCAL_SCHEMES


def templates() -> dict[str, Sequence[str]]:
    """Return the forms of all addresses that Apprise knows, by scheme."""
    manager: Any = NotificationManager  # it has no types
    plug_ins = manager().plugins()
    return {scheme: plug_in.templates for plug_in in plug_ins for scheme in schemes(plug_in)}


def schemes(plug_in: object) -> Sequence[str]:
    """Return the schemes of a plug-in."""
    found: list[str] = []
    for name in ("protocol", "secure_protocol"):
        given = getattr(plug_in, name) or ()
        found += [given] if isinstance(given, str) else given
    return found
