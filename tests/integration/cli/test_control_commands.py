"""The commands that steer jobs, as they are typed against a running server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.support.gated_server import BROKEN, GONE, HERE, LOST, SLOTS, Steered, steering, submit
from ui.cli import main

COMMANDS = ("cancel", "pause", "resume", "retry")


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    out: str
    err: str
    code: int


Run = Callable[..., Answer]


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steered]:
    with steering(tmp_path_factory.mktemp("commands")) as opened:
        yield opened


@pytest.fixture
def ana(steered: Steered) -> Iterator[httpx.Client]:
    with steered.api("ana") as client:
        yield client


@pytest.fixture
def run(steered: Steered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command of ana's, elsewhere than on the server's machine."""
    for name in [name for name in os.environ if name.startswith("DASHBOARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DASHBOARD_URL", steered.program.url)
    monkeypatch.setenv("DASHBOARD_TOKEN", steered.tokens["ana"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        return Answer(said.out, said.err, int(ended.value.code or 0))

    return run


def said(words: str) -> Answer:
    """What a command answers that went well."""
    return Answer(f"nightly.csv: {words}\n", "", 0)


def test_cancel_says_what_it_stops(steered: Steered, ana: httpx.Client, run: Run) -> None:
    held = steered.hold(ana)
    assert run("cancel", held.job_id) in (
        said("cancelling: 2 running videos are stopped, 0 of 2 videos done"),
        said("cancelled, 0 of 2 videos done"),
    )
    steered.until(held.job_id, status="cancelled")
    assert run("cancel", held.job_id) == said("it is cancelled already")


def test_cancel_of_a_waiting_job_is_done_at_once(steered: Steered, ana: httpx.Client, run: Run) -> None:
    steered.hold(ana)
    assert run("cancel", submit(ana, HERE)) == said("cancelled, 0 of 1 video done")


def test_pause_says_how_many_videos_it_waits_for_and_resume_how_many_are_left(
    steered: Steered, ana: httpx.Client, run: Run
) -> None:
    held = steered.hold(ana, videos=SLOTS + 1)
    assert run("pause", held.job_id) == said(f"pausing after {SLOTS} running videos")
    assert run("pause", held.job_id) == said("it is being paused already")
    held.let_go()
    steered.until(held.job_id, status="paused")
    assert run("pause", held.job_id) == said("it is paused already")
    assert run("resume", held.job_id) == said("goes on, 1 of 5 videos to do")
    steered.until(held.job_id, progress=100)
    assert run("resume", held.job_id) == said("it is completed; there is nothing to resume")
    assert run("pause", held.job_id) == said("it is completed already")
    assert run("cancel", held.job_id) == said("it is completed already")


def test_pause_of_a_waiting_job_is_done_at_once(steered: Steered, ana: httpx.Client, run: Run) -> None:
    steered.hold(ana)
    assert run("pause", submit(ana, HERE)) == said("paused at 0/1")


@pytest.mark.parametrize(
    ("options", "taken"), [((), 3), (("--all",), 4), (("--video", GONE), 1), (("--video", GONE, "--video", HERE), 2)]
)
def test_retry_says_how_many_videos_it_takes(
    steered: Steered, ana: httpx.Client, run: Run, options: tuple[str, ...], taken: int
) -> None:
    job_id = steered.ended(ana, HERE, BROKEN, GONE, LOST)
    assert run("retry", job_id, *options) == said(f"retrying {taken} of 4 videos (attempt 2)")
    steered.until(job_id, attempt=2, progress=100)


def test_retry_takes_the_videos_of_one_cause(steered: Steered, ana: httpx.Client, run: Run) -> None:
    job_id = steered.ended(ana, BROKEN, GONE, LOST)
    [most, _] = ana.get(f"/api/jobs/{job_id}/causes").json()
    assert run("retry", job_id, "--group", most["fingerprint"]) == said("retrying 2 of 3 videos (attempt 2)")
    steered.until(job_id, attempt=2, progress=100)


def test_retry_takes_the_videos_of_several_causes(steered: Steered, ana: httpx.Client, run: Run) -> None:
    job_id = steered.ended(ana, HERE, BROKEN, GONE, LOST)
    groups = [("--group", cause["fingerprint"]) for cause in ana.get(f"/api/jobs/{job_id}/causes").json()]
    assert run("retry", job_id, *(word for group in groups for word in group)) == said(
        "retrying 3 of 4 videos (attempt 2)"
    )
    steered.until(job_id, attempt=2, progress=100)


def test_a_retry_that_goes_on_is_not_begun_again(steered: Steered, ana: httpx.Client, run: Run) -> None:
    held = steered.hold(ana)
    run("cancel", held.job_id)
    steered.until(held.job_id, status="cancelled")
    assert run("retry", held.job_id) == said("retrying 2 of 2 videos (attempt 2)")
    assert run("retry", held.job_id) == said("it is being retried already (attempt 2)")


def test_what_the_server_refuses_is_its_sentence_and_exit_code_1(steered: Steered, ana: httpx.Client, run: Run) -> None:
    good, elsewhere = steered.ended(ana, HERE), submit(ana, HERE, processor="external")
    refusals = [run("retry", good), run("pause", elsewhere), run("retry", good, "--video", "never")]
    assert [(answer.code, answer.out) for answer in refusals] == [(1, "")] * 3
    assert [answer.err.strip() for answer in refusals] == [
        "There is nothing to retry: none of these videos failed or was left out.",
        "This job runs elsewhere; it can only be paused where it runs.",
        'The video "never" is not in this job.',
    ]


def test_a_retry_takes_one_selection(run: Run) -> None:
    answer = run("retry", "8f3a21c9", "--all", "--video", GONE)
    assert answer.code == 2
    assert "exclude each other" in answer.err


@pytest.mark.parametrize("command", [*COMMANDS, "export"])
def test_a_job_of_somebody_else_is_not_there(steered: Steered, run: Run, command: str) -> None:
    with steered.api("ben") as ben:
        job_id = submit(ben, HERE, processor="external")
        for given in (job_id, job_id[:8], "no such job", "../../slots"):
            answer = run(command, given)
            assert (answer.code, answer.err) == (1, "There is no such job; it may have been removed.\n")


def test_the_beginning_of_an_id_is_enough_while_no_other_job_has_it(
    steered: Steered, ana: httpx.Client, run: Run, tmp_path: Path
) -> None:
    job_id = submit(ana, HERE, processor="external")
    submit(ana, HERE, processor="external", name=job_id[:8])
    assert run("export", job_id[:8].upper(), "--output", str(tmp_path / "results.csv")).code == 0
    assert (tmp_path / "results.csv").read_text(encoding="utf-8-sig").splitlines()[1].startswith(f"{HERE},")
    assert run("cancel", job_id[:8]) == said("cancelled, 0 of 1 video done")
    several = run("cancel", "")
    assert (several.code, several.err) == (
        1,
        'Several jobs have an ID that begins with ""; write more of it.\n',
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_an_example(run: Run, command: str) -> None:
    answer = run(command, "--help")
    assert answer.code == 0
    assert f"Example: python main.py {command} " in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_server_there_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("DASHBOARD_URL", "http://127.0.0.1:9")
    answer = run(command, "8f3a21c9")
    assert answer.code == 1
    assert (
        answer.err == "No server answers at http://127.0.0.1:9; start it with `python main.py`, or set DASHBOARD_URL.\n"
    )
