"""No command shows a secret, whatever it is given instead of one."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from pathlib import Path

import jwt
import pytest

from progress_dashboard import InvalidArgument, ProgressFeed
from tests.support.servers import free_port, run_command
from ui.cli import main
from ui.cli.terminal import without_known_secrets

SECRET = "n0b0dy-may-see-this-9f31"
TOKEN = jwt.encode({"sub": SECRET}, SECRET * 2, algorithm="HS256")
HEAD, BODY, SIGNATURE = TOKEN.split(".")
NOT_TOKENS = {
    "a line end in the middle": f"{HEAD}.{BODY}\n.{SIGNATURE}",
    "a carriage return in the middle": f"{HEAD}.{BODY}\r{SIGNATURE}",
    "typographic quotes": f"“{TOKEN}”",
    "quotes": f'"{TOKEN}"',
    "Bearer before it": f"Bearer {TOKEN}",
    "a blank in the middle": f"{HEAD}. {BODY}.{SIGNATURE}",
    "a letter that is not ASCII": f"{HEAD}.{BODY}ü.{SIGNATURE}",
    "bytes that are no text": f"{TOKEN}\udcff",
    "a control character": f"{TOKEN[:40]}\x1b[2J{TOKEN[40:]}",
    "a JWT with a bad part": f"{HEAD}.{BODY}.<{SIGNATURE}>",
    "its variable before it": f"DASHBOARD_TOKEN={TOKEN}: {SECRET}",
}
COMMANDS = {
    "submit": ("submit", "ids.csv"),
    "watch": ("watch",),
    "watch a job": ("watch", "8f3a21c9"),
    "pause": ("pause", "8f3a21c9"),
    "resume": ("resume", "8f3a21c9"),
    "cancel": ("cancel", "8f3a21c9"),
    "retry": ("retry", "8f3a21c9"),
    "export": ("export",),
}


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DASHBOARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.csv").write_text("video_id\nabc\n")


def assert_no_secret(text: str) -> None:
    """Check that no part of the token is in the text, nor the secret."""
    assert text
    for piece in (SECRET, HEAD, BODY, SIGNATURE):
        assert piece not in text
    assert "Traceback" not in text


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    """Return what a command prints that fails with this code."""
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    output = capfd.readouterr()
    assert (output.out, exited.value.code) == ("", code)
    return output.err


@pytest.mark.parametrize("given", NOT_TOKENS.values(), ids=list(NOT_TOKENS))
@pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))
def test_what_is_not_a_token_is_refused_without_repeating_it(
    command: tuple[str, ...], given: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", given)
    shown = refusal(capfd, *command)
    assert_no_secret(shown)
    assert shown == "DASHBOARD_TOKEN is not a token; use one that the dashboard's `token` command prints.\n"


@pytest.mark.parametrize("around", ["{}\r", "{}\n", " {}\t", "\ufeff{}\r\n", "\xa0{}\u200b"])
def test_blanks_and_line_ends_around_a_token_are_taken_off(
    around: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", around.format(TOKEN))
    monkeypatch.setenv("DASHBOARD_URL", f"http://127.0.0.1:{free_port()}")
    shown = refusal(capfd, "submit", "ids.csv")
    assert shown.startswith("No server answers at ")
    assert_no_secret(shown)


@pytest.mark.parametrize("given", NOT_TOKENS.values(), ids=list(NOT_TOKENS))
def test_a_feed_refuses_what_is_not_a_token_without_repeating_it(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", given)
    for token in (None, given):
        with pytest.raises(InvalidArgument, match="is not a token; use one that") as refused:
            ProgressFeed("http://localhost:8000", token=token)
        assert_no_secret("".join(traceback.format_exception_only(refused.value)) + repr(refused.value))


@pytest.mark.parametrize(
    "url",
    [
        f"http://ana:{SECRET}@ops.example",
        f"http://{SECRET}@ops.example",
        f"http://ops.example:port{SECRET}",
        f"ops.example/?token={TOKEN}",
        f"http://ops.example/?token={TOKEN}%20{SECRET}",
        f"http://ops.example/?token=%E2%80%9C{TOKEN}",
    ],
)
def test_an_address_with_a_secret_is_refused_without_repeating_it(
    url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_URL", url)
    for command in COMMANDS.values():
        shown = refusal(capfd, *command)
        assert_no_secret(shown)
        assert shown.startswith("DASHBOARD_URL is not ")


@pytest.mark.parametrize(
    "settings",
    [
        {"DASHBOARD_JWT_SECRET": SECRET},
        {"DASHBOARD_JWT_SECRET": f"{SECRET * 2}\udcff"},
        {"DASHBOARD_ADMIN_PASSWORD": SECRET * 10},
        {"DASHBOARD_ADMIN_PASSWORD": f"{SECRET}\udcff"},
        {"DASHBOARD_DATABASE_URL": f"postgresql+driver://ana:{SECRET}@db/dash"},
        {"DASHBOARD_DATABASE_URL": f"mysql://{SECRET}@db/dash?password={SECRET}"},
        {"DASHBOARD_PUBLIC_URL": f"ftp://ana:{SECRET}@ops.example"},
        {"DASHBOARD_ALLOWED_ORIGINS": f"https://ana:{SECRET}@ops.example/"},
        {"DASHBOARD_PORT": TOKEN},
    ],
    ids=" ".join,
)
def test_a_setting_that_is_not_valid_is_named_without_its_secret(
    settings: Mapping[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for command in ((), ("users", "list"), ("backup", "copy.sqlite3")):
        shown = refusal(capfd, *command)
        assert_no_secret(shown)
        assert shown.startswith(next(iter(settings)))


@pytest.mark.parametrize("command", [("users", "passwd", "ana", SECRET), ("users", "add", "ana", SECRET)])
def test_a_password_on_the_command_line_is_not_repeated(
    command: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    shown = refusal(capfd, *command, code=2)
    assert_no_secret(shown)
    assert "--password-stdin" in shown


def test_a_token_in_the_place_of_a_user_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    assert_no_secret(refusal(capfd, "token", TOKEN))


def test_the_trace_of_a_defect_has_no_secret() -> None:
    variables = {"DASHBOARD_TOKEN": f"{SECRET}\r", "dashboard_admin_password": "pass wörd of ana-long"}
    trace = f"ValueError: b'Bearer {SECRET}\\r' and 'ana-long' and {TOKEN}"
    shown = without_known_secrets(trace, variables)
    assert_no_secret(shown)
    assert "ana-long" not in shown
    assert shown.startswith("ValueError: ")


def test_the_address_of_a_database_is_shown_but_not_its_password() -> None:
    safe, secret = "postgresql://localhost/dashboard", f"postgresql://localhost/dashboard?password={SECRET}"
    sentence = "The database {} is too old."
    assert without_known_secrets(sentence.format(safe), {"DASHBOARD_DATABASE_URL": safe}) == sentence.format(safe)
    assert_no_secret(without_known_secrets(sentence.format(secret), {"DASHBOARD_DATABASE_URL": secret}))


@pytest.mark.acceptance
def test_a_token_with_a_carriage_return_is_refused_in_one_line_by_the_program(tmp_path: Path) -> None:
    """The example of the field: `DASHBOARD_TOKEN="$(printf '%s\\r' "$T")" python main.py submit ids.csv`."""
    ids, data_dir, url = str(tmp_path / "ids.csv"), tmp_path / "data", f"http://127.0.0.1:{free_port()}"
    stripped = run_command("submit", ids, data_dir=data_dir, url=url, token=f"{TOKEN}\r")
    refused = run_command("submit", ids, data_dir=data_dir, url=url, token=f"{HEAD}\r{BODY}")
    assert stripped.stderr.startswith("No server answers")
    assert refused.stderr.startswith("DASHBOARD_TOKEN is not a token; ")
    for done in (stripped, refused):
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert_no_secret(done.stderr)
