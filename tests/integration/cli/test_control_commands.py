"""The commands that control jobs, run against a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.gated_server import BROKEN, HERE, LOST, MISSING, SLOTS, GatedServer, gated_server, submit
from ui.cli import main

pytestmark = pytest.mark.acceptance  # starts the whole program

COMMANDS = ("cancel", "pause", "resume", "retry")


@dataclass(frozen=True)
class Answer:
    """The output of a command, and its exit code."""

    out: str
    err: str
    code: int


Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedServer]:
    with gated_server(tmp_path_factory.mktemp("commands")) as opened:
        yield opened


@pytest.fixture
def ana(server: GatedServer) -> Iterator[httpx.Client]:
    with server.api("ana") as client:
        yield client


@pytest.fixture
def run(
    server: GatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command as ana, from another machine than the server's."""
    for name in [name for name in os.environ if name.startswith("DASHBOARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DASHBOARD_URL", server.program.url)
    monkeypatch.setenv("DASHBOARD_TOKEN", server.tokens["ana"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        output = capsys.readouterr()
        return Answer(output.out, output.err, int(exited.value.code or 0))

    return run


def printed(text: str) -> Answer:
    """Return the answer of a successful command."""
    return Answer(f"nightly.csv: {text}\n", "", 0)


def test_cancel_reports_the_videos_that_it_stops(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    held = server.hold(ana)
    assert run("cancel", held.job_id) in (
        printed("cancelling: 2 running videos are stopped, 0 of 2 videos done"),
        printed("cancelled, 0 of 2 videos done"),
    )
    server.until(held.job_id, status="cancelled")
    assert run("cancel", held.job_id) == printed("already cancelled")


def test_cancel_of_a_waiting_job_happens_at_once(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    server.hold(ana)
    assert run("cancel", submit(ana, HERE)) == printed("cancelled, 0 of 1 video done")


def test_pause_and_resume_report_the_numbers_of_videos(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    held = server.hold(ana, videos=SLOTS + 1)
    assert run("pause", held.job_id) == printed(f"pausing after {SLOTS} running videos")
    assert run("pause", held.job_id) == printed("already being paused")
    held.release()
    server.until(held.job_id, status="paused")
    assert run("pause", held.job_id) == printed("already paused")
    assert run("resume", held.job_id) == printed("continues, 1 of 5 videos to do")
    server.until(held.job_id, progress=100)
    assert run("resume", held.job_id) == printed("the job is completed; there is nothing to resume")
    assert run("pause", held.job_id) == printed("already completed")
    assert run("cancel", held.job_id) == printed("already completed")


def test_pause_of_a_waiting_job_happens_at_once(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    server.hold(ana)
    assert run("pause", submit(ana, HERE)) == printed("paused at 0/1")


@pytest.mark.parametrize(
    ("options", "retried"),
    [((), 3), (("--all",), 4), (("--video", MISSING), 1), (("--video", MISSING, "--video", HERE), 2)],
)
def test_retry_reports_the_number_of_retried_videos(
    server: GatedServer, ana: httpx.Client, run: Run, options: tuple[str, ...], retried: int
) -> None:
    job_id = server.ended(ana, HERE, BROKEN, MISSING, LOST)
    assert run("retry", job_id, *options) == printed(f"retrying {retried} of 4 videos (attempt 2)")
    server.until(job_id, attempt=2, progress=100)


def test_retry_can_take_the_videos_of_one_cause(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    job_id = server.ended(ana, BROKEN, MISSING, LOST)
    [commonest, _] = ana.get(f"/api/jobs/{job_id}/causes").json()
    assert run("retry", job_id, "--group", commonest["fingerprint"]) == printed("retrying 2 of 3 videos (attempt 2)")
    server.until(job_id, attempt=2, progress=100)


def test_retry_can_take_the_videos_of_several_causes(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    job_id = server.ended(ana, HERE, BROKEN, MISSING, LOST)
    groups = [("--group", cause["fingerprint"]) for cause in ana.get(f"/api/jobs/{job_id}/causes").json()]
    assert run("retry", job_id, *(word for group in groups for word in group)) == printed(
        "retrying 3 of 4 videos (attempt 2)"
    )
    server.until(job_id, attempt=2, progress=100)


def test_a_second_retry_does_not_restart_a_running_one(server: GatedServer, ana: httpx.Client, run: Run) -> None:
    held = server.hold(ana)
    run("cancel", held.job_id)
    server.until(held.job_id, status="cancelled")
    assert run("retry", held.job_id) == printed("retrying 2 of 2 videos (attempt 2)")
    assert run("retry", held.job_id) == printed("already being retried (attempt 2)")


def test_a_refusal_of_the_server_is_its_sentence_and_exit_code_1(
    server: GatedServer, ana: httpx.Client, run: Run
) -> None:
    good, external = server.ended(ana, HERE), submit(ana, HERE, processor="external")
    refusals = [run("retry", good), run("pause", external), run("retry", good, "--video", "never")]
    assert [(answer.code, answer.out) for answer in refusals] == [(1, "")] * 3
    assert [answer.err.strip() for answer in refusals] == [
        "There is nothing to retry: none of these videos failed or was left out.",
        "This is an external job; it can only be paused by the program that runs it.",
        'The video "never" is not in this job.',
    ]


def test_retry_accepts_only_one_selection(run: Run) -> None:
    answer = run("retry", "8f3a21c9", "--all", "--video", MISSING)
    assert answer.code == 2
    assert "Give only one of --all, --group and --video." in answer.err


@pytest.mark.parametrize("command", [*COMMANDS, "export"])
def test_a_job_of_another_user_is_not_found(server: GatedServer, run: Run, command: str) -> None:
    with server.api("ben") as ben:
        job_id = submit(ben, HERE, processor="external")
        for given in (job_id, job_id[:8], "no such job", "../../slots"):
            answer = run(command, given)
            assert (answer.code, answer.err) == (1, "There is no such job; it may have been removed.\n")


def test_a_unique_beginning_of_an_id_is_enough(
    server: GatedServer, ana: httpx.Client, run: Run, tmp_path: Path
) -> None:
    job_id = submit(ana, HERE, processor="external")
    submit(ana, HERE, processor="external", name=job_id[:8])
    assert run("export", job_id[:8].upper(), "--output", str(tmp_path / "results.csv")).code == 0
    assert (tmp_path / "results.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith(f"{HERE},")
    assert run("cancel", job_id[:8]) == printed("cancelled, 0 of 1 video done")
    several = run("cancel", "")
    assert (several.code, several.err) == (
        1,
        'Several jobs have an ID that begins with ""; write more of it.\n',
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_control_command_has_help_with_an_example(run: Run, command: str) -> None:
    answer = run(command, "--help")
    assert answer.code == 0
    assert f"Example: python main.py {command} " in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_server_a_command_prints_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DASHBOARD_URL", "http://127.0.0.1:9")
    answer = run(command, "8f3a21c9")
    assert answer.code == 1
    assert (
        answer.err == "No server answers at http://127.0.0.1:9; start it with `python main.py`, or set DASHBOARD_URL.\n"
    )
