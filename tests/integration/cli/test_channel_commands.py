"""`channels list|add|test|remove` over a running server."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.support.receivers import Receiver
from tests.support.servers import Program, run_command, running
from tests.support.tcp_proxies import listening
from ui.cli import main

SECRET, TOKEN = "s3cret-of-a-channel", "T0KEN-in-the-address"
pytestmark = pytest.mark.acceptance  # starts the whole program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("channels") / "data", notify_private_addresses="true") as program:
        yield program


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run a receiver in a thread of its own."""
    opened, loop = Receiver(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def apart(work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result()

    running_receiver = listening(opened)
    apart(running_receiver.__aenter__())
    yield opened
    apart(running_receiver.__aexit__(None, None, None))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def channels(server: Program, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `channels …`, and check that it shows no secret."""
    done = run_command("channels", *arguments, data_dir=server.data_dir, stdin=stdin)
    for secret in (SECRET, TOKEN):
        assert secret not in done.stdout + done.stderr
    return done


def said(server: Program, *arguments: str, stdin: str | None = None) -> str:
    """Return what a command prints that succeeds."""
    done = channels(server, *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_a_channel_is_added_listed_tested_and_removed(server: Program, receiver: Receiver) -> None:
    assert said(server, "list") == "There are no channels.\n"
    words = f"{receiver.url}/{TOKEN}\n{SECRET}\n"
    added = said(server, "add", "-", "--name", "ops", "--event", "failed", "--all", "--secret-stdin", stdin=words)
    assert added.startswith("ops: added; to try it: ")
    channel_id = added.split()[-1]
    heading, line = said(server, "list").splitlines()
    assert heading.split() == ["ID", "NAME", "ADDRESS", "FOR", "STATE", "LAST", "SENT"]
    assert line.split() == [channel_id, "ops", f"http://127.0.0.1:{receiver.port}/…", "all", "on", "never"]
    assert said(server, "test", "ops") == "ops: the test was sent\n"
    assert receiver.requests[-1].json["event"] == "test"
    assert "x-dashboard-signature" in receiver.requests[-1].headers
    assert said(server, "remove", channel_id) == "ops: removed\n"
    assert said(server, "list") == "There are no channels.\n"


def test_an_address_of_apprise_is_told_from_a_web_address(server: Program, receiver: Receiver) -> None:
    name = said(server, "add", f"json://127.0.0.1:{receiver.port}/{TOKEN}", "--name", "chat").partition(":")[0]
    assert said(server, "test", name) == "chat: the test was sent\n"
    assert receiver.requests[-1].json["type"] == "info"
    said(server, "remove", name)


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (("add", f"https://{TOKEN} x/"), None, "The address has a space or a control character in it; copy it again."),
        (("add", "-"), "", "There is no address on standard input; send it as a line."),
        (("add", f"nonsense://{TOKEN}"), None, "Apprise does not know this address; https://appriseit.com/services/ "),
        (("add", "https://x.example", "--event", "nothing"), None, "The request does not fit: Invalid enum value"),
        (("test", "no-such-channel"), None, "There is no such channel; `"),
        (("remove", "no-such-channel"), None, "There is no such channel; `"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    server: Program, arguments: tuple[str, ...], stdin: str | None, sentence: str
) -> None:
    done = channels(server, *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_a_test_that_is_not_taken_says_why(server: Program, receiver: Receiver) -> None:
    said(server, "add", f"{receiver.url}/{TOKEN}", "--name", "moody")
    receiver.replies.append(403)
    done = channels(server, "test", "moody")
    assert (done.returncode, done.stderr) == (1, "The receiver answered 403.\n")
    said(server, "remove", "moody")


def test_more_words_are_refused_without_repeating_them(server: Program) -> None:
    done = channels(server, "add", "https://x.example", TOKEN)
    assert done.returncode == 2
    assert "Give only the address" in done.stderr


@pytest.mark.parametrize("command", [(), ("list",), ("add",), ("test",), ("remove",)])
def test_each_command_has_help_with_an_example(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(("channels", *command, "--help"))
    assert exited.value.code == 0
    assert "Example: " in capsys.readouterr().out
