"""The commands for accounts, run as on a command line."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
import unicodedata
from asyncio import to_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner

from backend.accounts.accounts import Accounts
from backend.clock import SystemClock
from backend.errors import NotSignedIn
from tests import ROOT
from tests.support.accounts import PASSWORD, open_account_store
from tests.support.databases import database_settings
from ui.cli import main


@dataclass(frozen=True)
class Answer:
    """The output of a command, and its exit code."""

    out: str
    err: str
    code: int


Run = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _no_outside_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DASHBOARD_")]:
        monkeypatch.delenv(name)
    for name, value in database_settings(tmp_path / "data").items():
        monkeypatch.setenv(f"DASHBOARD_{name.upper()}", value)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str, typed: str = "") -> Answer:
        with CliRunner().isolation(input=typed) as (out, err, _):
            with pytest.raises(SystemExit) as exited:
                main([*arguments, "--data-dir", str(tmp_path / "data")])
            sys.stdout.flush()
            sys.stderr.flush()
            return Answer(out.getvalue().decode(), err.getvalue().decode(), int(exited.value.code or 0))

    return run


@pytest.fixture
def ana(run: Run) -> None:
    assert run("users", "add", "ana", "--password-stdin", typed=f"{PASSWORD}\n").code == 0


@contextmanager
def running(data_dir: Path) -> Iterator[Accounts]:
    """Open the accounts like a running server."""
    with open_account_store(data_dir, SystemClock()) as account_store:
        yield account_store.accounts


def test_the_first_command_creates_data_secret_and_admin(run: Run, tmp_path: Path) -> None:
    listed = run("users", "list")
    assert listed.code == 0
    assert re.search(r"^admin +admin +no password +\d{4}-", listed.out, re.MULTILINE)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "secret.json").stat().st_mode & 0o777 == 0o600


def test_users_list_is_aligned_and_shows_role_and_state(run: Run, ana: None) -> None:
    run("users", "add", "Long.Name@example.org", "--admin", "--password-stdin", typed=PASSWORD)
    run("users", "disable", "ana")
    lines = run("users", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "admin", "ana", "long.name@example.org"]
    assert [line[lines[0].index("ROLE") :].split()[0] for line in lines[1:]] == ["admin", "user", "admin"]
    assert [line[lines[0].index("STATE") :][:9].strip() for line in lines[1:]] == ["no passwo", "disabled", "active"]
    assert all(line == line.rstrip() for line in lines)


async def test_an_added_user_can_sign_in_on_the_running_server(run: Run, ana: None, tmp_path: Path) -> None:
    with running(tmp_path / "data") as accounts:
        added = await to_thread(run, "users", "add", "bob", "--password-stdin", typed="pass word with spaces \r\n")
        assert added.out == "Added bob.\n"
        bob = await accounts.sign_in("bob", "pass word with spaces ", address="192.0.2.1")
    assert not bob.is_admin


@pytest.mark.parametrize("first", ["", "\ufeff"], ids=["plain", "after a byte order mark"])
async def test_a_decomposed_password_from_a_pipe_is_signed_in_with_composed(
    run: Run, ana: None, tmp_path: Path, first: str
) -> None:
    password = "Übergrößenträger"
    with running(tmp_path / "data") as accounts:
        typed = first + unicodedata.normalize("NFD", password)
        assert (await to_thread(run, "users", "passwd", "ana", "--password-stdin", typed=typed)).code == 0
        assert (await accounts.sign_in("ana", password, address="192.0.2.1")).name == "ana"


async def test_a_new_password_and_disabling_end_sessions_and_tokens(run: Run, ana: None, tmp_path: Path) -> None:
    with running(tmp_path / "data") as accounts:
        user = await accounts.user("ana")
        cookie, token = await accounts.open_session(user), await accounts.issue_token(user, lifetime_seconds=60)
        await to_thread(run, "users", "passwd", "ANA", "--password-stdin", typed="another password")
        assert await accounts.session(cookie) is None
        with pytest.raises(NotSignedIn):
            await accounts.token(token)
        cookie = await accounts.open_session(await accounts.sign_in("ana", "another password", address="192.0.2.1"))
        await to_thread(run, "users", "disable", "ana")
        assert await accounts.session(cookie) is None


async def test_token_prints_only_the_token_on_standard_output(run: Run, ana: None, tmp_path: Path) -> None:
    answer = await to_thread(run, "token", "ana")
    with running(tmp_path / "data") as accounts:
        authority = await accounts.token(answer.out.removesuffix("\n"))
    assert authority.user.name == "ana"
    assert "90 days" in answer.err


@pytest.mark.parametrize(("given", "days"), [([], 90), (["--days", "1"], 1), (["--days", "365"], 365)])
def test_a_token_expires_after_the_requested_days(run: Run, ana: None, given: list[str], days: int) -> None:
    claims = jwt.decode(run("token", "ana", *given).out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] in range(days * 86_400 - 1, days * 86_400 + 1)


def test_a_token_may_be_for_the_metrics_alone(run: Run, ana: None) -> None:
    answer = run("token", "ana", "--scope", "metrics")
    claims = jwt.decode(answer.out.strip(), options={"verify_signature": False})
    assert claims["purpose"] == "metrics"
    assert "reads /metrics and nothing else" in answer.err
    assert run("token", "ana", "--scope", "everything").code == 2


@pytest.mark.parametrize("days", ["0", "366", "-1", "many", "1e3"])
def test_invalid_numbers_of_days_are_refused(run: Run, ana: None, days: str) -> None:
    answer = run("token", "ana", "--days", days)
    assert (answer.out, answer.code) == ("", 2)


async def test_a_login_link_signs_in_once(run: Run, ana: None, tmp_path: Path) -> None:
    answer = await to_thread(run, "login-link", "ana")
    address, token = answer.out.strip().split("?token=")
    assert address == "http://127.0.0.1:8000/link"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    with running(tmp_path / "data") as accounts:
        assert (await accounts.use_link(token)).name == "ana"
        with pytest.raises(NotSignedIn):
            await accounts.use_link(token)


def test_a_login_link_without_a_name_is_for_admin(run: Run, tmp_path: Path) -> None:
    assert run("login-link", "--url", "https://ops.example:8443/").out.startswith(
        "https://ops.example:8443/link?token="
    )


@pytest.mark.parametrize(
    ("arguments", "typed", "sentence"),
    [
        (["users", "add", "ana", "--password-stdin"], PASSWORD, "There is already a user ana."),
        (["users", "add", "a b", "--password-stdin"], PASSWORD, "A user name must be 1 to 64 letters"),
        (["users", "add", "bob", "--password-stdin"], "short", "A password must have 10 to 128 characters."),
        (["users", "add", "bob", "--password-stdin"], "", "A password must have 10 to 128 characters."),
        (["users", "add", "bob"], PASSWORD, "add --password-stdin"),
        (["users", "passwd", "ana"], PASSWORD, "add --password-stdin"),
        (["users", "passwd", "bob", "--password-stdin"], PASSWORD, "There is no user 'bob'"),
        (["users", "disable", "bob"], "", "There is no user 'bob'"),
        (["token", "bob"], "", "There is no user 'bob'"),
        (["login-link", "bob"], "", "There is no user 'bob'"),
    ],
)
def test_a_refused_command_prints_one_sentence(
    run: Run, ana: None, arguments: list[str], typed: str, sentence: str
) -> None:
    answer = run(*arguments, typed=typed)
    assert (answer.out, answer.code) == ("", 1)
    assert sentence in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("command", [["token", "ana"], ["login-link", "ana"]])
def test_a_disabled_user_gets_neither_token_nor_link(run: Run, ana: None, command: list[str]) -> None:
    run("users", "disable", "ana")
    answer = run(*command)
    assert (answer.out, answer.err, answer.code) == ("", "The account ana is disabled.\n", 1)


def test_a_file_as_data_directory_is_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    answer = run("users", "list")
    assert answer.code == 1
    assert re.fullmatch(r"The data directory \S+ cannot be used .*\n", answer.err)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["users"],
        ["users", "add"],
        ["users", "list"],
        ["users", "passwd"],
        ["users", "disable"],
        ["token"],
        ["login-link"],
    ],
    ids=" ".join,
)
def test_every_account_command_has_help_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main([*command, "--help"])
    assert exited.value.code == 0
    example = capsys.readouterr().out.partition("Example: ")[2]
    assert " ".join(["python main.py", *command]) in example


def test_the_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--version"])
    assert exited.value.code == 0
    assert re.fullmatch(r"progress-dashboard .+\n", capsys.readouterr().out)


def test_a_server_option_before_a_command_is_refused(run: Run) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--data-dir", "other", "users", "list"])
    assert exited.value.code == 2
    assert not Path("other").exists()


def test_an_invalid_setting_is_refused_in_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_PORT", "http")
    answer = run("users", "list")
    assert answer.code == 1
    assert re.fullmatch(r"DASHBOARD_PORT 'http' is not valid: .*\n", answer.err)


def test_a_terminal_asks_twice_for_the_password_and_hides_it(tmp_path: Path) -> None:
    shown, code = run_in_terminal(["users", "add", "ana", "--data-dir", str(tmp_path / "data")], [PASSWORD, PASSWORD])
    assert code == 0
    assert "Added ana." in shown
    assert PASSWORD not in shown


def test_different_passwords_are_asked_for_again(tmp_path: Path) -> None:
    typed = [PASSWORD, "something else", PASSWORD, PASSWORD]
    shown, code = run_in_terminal(["users", "add", "ana", "--data-dir", str(tmp_path / "data")], typed)
    assert code == 0
    assert shown.count("Password") == 2


def run_in_terminal(arguments: list[str], answers: list[str]) -> tuple[str, int]:
    """Run the program in a terminal and answer each question. Returns the shown text and the exit code."""
    terminal, program_end = pty.openpty()
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    program = subprocess.Popen(
        command, stdin=program_end, stdout=program_end, stderr=program_end, start_new_session=True
    )
    os.close(program_end)
    shown, asked = "", 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (read := _read(terminal)) is not None:
        shown += read
        if shown.count(": ") > asked and shown.endswith(": ") and asked < len(answers):
            os.write(terminal, answers[asked].encode() + b"\n")
            asked += 1
    os.close(terminal)
    return shown, program.wait(timeout=10)


def _read(terminal: int) -> str | None:
    """Return the text that the terminal shows next; None after the program has closed it."""
    if not select.select([terminal], [], [], 0.2)[0]:
        return ""
    try:
        return os.read(terminal, 4096).decode() or None
    except OSError:  # on Linux: the other end is closed
        return None
