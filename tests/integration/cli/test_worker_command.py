"""The command `worker`, as a process of its own: it works, ends, freezes and is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.domain.job import Source
from backend.engine.marker import leave_marker
from backend.media.demo import CLIPS
from tests import ROOT
from tests.support.clips import make_clip
from tests.support.databases import FILE, url_of
from tests.support.processes import fork_server, process_ids, process_info
from tests.support.servers import ServerProcess, api, environment, run_command, running, token
from tests.support.workers import ServerRows, database_id, until
from ui.cli import main

SLOW = {"max_speed": 0.01}  # a clip takes minutes
SHORT_LEASE_SECONDS = 4
LONG_GRACE_SECONDS = 60


@contextmanager
def started(url: str, directory: Path, *, grace: float | None = 0, **settings: object) -> Iterator[ServerProcess]:
    """Start `python main.py worker --name attic`, and wait until it has joined. Ends it afterwards.

    `grace` is how long it may finish its videos, None: until they have ended.
    """
    limit = {} if grace is None else {"shutdown_grace_seconds": grace}
    leave_marker(directory / "outputs", database_id(url))
    worker = ServerProcess(
        *("main.py", "worker", "--name", "attic", "--slots", "2"),
        port=0,
        environment=environment(
            {
                "database_url": url,
                "data_dir": directory / "of-the-worker",
                "media_dir": directory / "media",
                "output_dir": directory / "outputs",
                **limit,
                **settings,
            }
        ),
    )
    try:
        worker.until_says("Worker attic: ")
        yield worker
    finally:
        if worker.is_running:
            os.kill(worker.pid, signal.SIGCONT)
        worker.end()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a database, with two videos in the media directory."""
    for name in ("one", "two"):
        make_clip(tmp_path / "media" / f"{name}.mp4")
    return url_of(tmp_path / FILE)


@pytest.fixture
def server(url: str) -> ServerRows:
    return ServerRows(url)


async def begun(server: ServerRows, video_id: str = "one") -> int:
    """Return a run that takes minutes, once a process works on it."""
    run = await server.hand_over(video_id, options=SLOW)
    await server.until_run(run, lambda row: row["doing"] == "decoding")
    return run


def video_processes(worker: ServerProcess) -> set[int]:
    """Return the processes in which the worker's videos run."""
    parent = fork_server(worker.pid)
    found = filter(None, map(process_info, process_ids()))
    return {process.pid for process in found if process.parent == parent}


async def until_gone(*pids: int) -> None:
    """Return when these processes have exited."""

    async def left() -> list[int]:
        return [pid for pid in pids if pid in process_ids() and "Z" not in state_of(pid)]

    await until(left, lambda pids: not pids)


def state_of(pid: int) -> str:
    """Return the letter of the state of the process; Z if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


@pytest.mark.postgresql_only
async def test_a_worker_runs_videos_until_it_is_told_to_end(url: str, server: ServerRows, tmp_path: Path) -> None:
    with started(url, tmp_path) as worker:
        run = await server.hand_over("one")
        outcome = (await server.until_state(run, "ended"))["outcome"]
        assert outcome["result"]["video"]["frames"] == 15
        assert (tmp_path / "outputs" / "a-job" / "0" / "poster.jpg").is_file()
        assert worker.stop() == 0
    assert await server.worker("attic") is None
    assert not (tmp_path / "of-the-worker").exists()


@pytest.mark.postgresql_only
async def test_a_worker_that_is_told_to_end_finishes_its_videos(url: str, server: ServerRows, tmp_path: Path) -> None:
    with started(url, tmp_path, grace=None) as worker:
        run = await server.hand_over("one", options={"max_speed": 0.3})  # some 3 s
        await server.until_run(run, lambda row: row["doing"] == "decoding")
        assert worker.stop() == 0
    row = await server.run(run)
    assert (row["state"], row["outcome"]["error"], row["taken"]) == ("ended", None, 1)


@pytest.mark.postgresql_only
async def test_what_a_worker_cannot_finish_in_time_is_given_back(url: str, server: ServerRows, tmp_path: Path) -> None:
    with started(url, tmp_path, grace=0.2) as worker:
        run = await begun(server)
        assert worker.stop() == 0
    assert (await server.run(run))["state"] == "waiting"


@pytest.mark.postgresql_only
async def test_a_worker_runs_the_clips_of_the_demo(url: str, server: ServerRows, tmp_path: Path) -> None:
    """They lie with the outputs, where all machines see them; whoever needs one first writes it."""
    name, extension, *_ = CLIPS[0]
    with started(url, tmp_path):
        run = await server.hand_over(name, source=Source.DEMO)
        assert (await server.until_state(run, "ended"))["outcome"]["error"] is None
    assert (tmp_path / "outputs" / "demo" / f"{name}.{extension}").is_file()


@pytest.mark.postgresql_only
@pytest.mark.parametrize(("number", "grace"), [(signal.SIGTERM, None), (signal.SIGINT, LONG_GRACE_SECONDS)])
async def test_the_second_signal_ends_the_videos_at_once(
    url: str, server: ServerRows, tmp_path: Path, number: signal.Signals, grace: float | None
) -> None:
    with started(url, tmp_path, grace=grace) as worker:
        run = await begun(server)
        processes = video_processes(worker)
        os.kill(worker.pid, number)
        worker.until_says("action=worker_draining")
        assert (await server.run(run))["state"] == "running"
        assert worker.stop(number) == 0
        await until_gone(*processes)
    row = await server.run(run)
    assert (row["state"], row["worker"], row["losses"]) == ("waiting", None, 0)


@pytest.mark.postgresql_only
async def test_the_processes_of_a_frozen_worker_end_and_it_gives_back_their_runs(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    """Nobody says that these videos failed, and the worker goes on when it is thawed."""
    with started(url, tmp_path, worker_lease_seconds=SHORT_LEASE_SECONDS) as worker:
        runs = [await begun(server, "one"), await begun(server, "two")]
        processes = video_processes(worker)
        assert len(processes) == 2
        os.kill(worker.pid, signal.SIGSTOP)
        await until_gone(*processes)
        assert [(await server.run(run))["state"] for run in runs] == ["running", "running"]
        os.kill(worker.pid, signal.SIGCONT)
        for run in runs:
            assert (await server.until_state(run, "waiting"))["outcome"] is None
        quick = await server.hand_over("one")
        assert (await server.until_state(quick, "ended"))["outcome"]["error"] is None


@pytest.mark.postgresql_only
async def test_the_processes_of_a_frozen_server_end_and_its_videos_begin_again(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    """The server's own process is a worker, too."""
    with (
        running(tmp_path, worker_lease_seconds=SHORT_LEASE_SECONDS, media_dir=tmp_path / "media") as program,
        api(program, token(tmp_path, "admin")) as client,
    ):
        client.post("/api/jobs", json={"video_ids": ["one"], "options": SLOW}).raise_for_status()
        [run] = await until(lambda: server.execute("SELECT id FROM run"), lambda rows: len(rows) == 1)
        await server.until_run(run["id"], lambda row: row["doing"] == "decoding")
        processes = video_processes(program)
        os.kill(program.pid, signal.SIGSTOP)
        try:
            await until_gone(*processes)
            assert (await server.run(run["id"]))["state"] == "running"
        finally:
            os.kill(program.pid, signal.SIGCONT)
        row = await server.until_run(run["id"], lambda row: row["taken"] == 2 and row["doing"] == "decoding")
        assert (row["state"], row["losses"]) == ("running", 0)
        [job] = client.get("/api/jobs").json()["items"]
        assert (job["status"], job["failed"]) == ("processing", 0)


@pytest.mark.postgresql_only
async def test_a_killed_worker_that_is_started_again_gives_back_its_runs_at_once(
    url: str, server: ServerRows, tmp_path: Path
) -> None:
    with started(url, tmp_path) as worker:
        run = await begun(server)
        processes = video_processes(worker)
        worker.kill()
    with started(url, tmp_path):
        row = await server.run(run)
        assert (row["state"], row["worker"], row["losses"]) == ("waiting", None, 1)
        await until_gone(*processes)


@pytest.mark.postgresql_only
async def test_no_secret_of_a_worker_is_in_a_log_or_in_ps(url: str, server: ServerRows, tmp_path: Path) -> None:
    password = url.split(":")[2].split("@")[0]
    with started(url, tmp_path) as worker:
        await begun(server)
        processes = {worker.pid, fork_server(worker.pid), *video_processes(worker)}
        shown = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes]
        inherited = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes - {worker.pid}]
        assert (await server.until_state(await server.hand_over("nothing"), "ended"))["outcome"]["error"]
        worker.stop()
    assert password not in worker.output
    assert "action=worker_joined" in worker.output
    assert all(password.encode() not in text for text in (*shown, *inherited))


@pytest.mark.postgresql_only
def test_a_refusal_is_one_sentence(url: str, tmp_path: Path) -> None:
    done = run_command("worker", data_dir=tmp_path / "of-the-worker", database_url=url)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 2)
    warning, sentence = done.stderr.splitlines()
    assert warning.startswith("Warning: the media directory ")
    assert sentence.startswith("This worker does not see the server's outputs in ")


@pytest.mark.sqlite_only
def test_a_worker_needs_postgresql(tmp_path: Path) -> None:
    done = run_command("worker", data_dir=tmp_path)
    said = "A worker needs PostgreSQL, since an SQLite file belongs to one machine; "
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{said}set DASHBOARD_DATABASE_URL to the postgresql:// address of the server's database.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_role_is_printed_without_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["worker", "--print-role", "--data-dir", str(tmp_path)])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert "CREATE ROLE dashboard_worker LOGIN;" in shown
    assert "GRANT SELECT, UPDATE ON run TO dashboard_worker;" in shown
    assert not any(word in shown for word in ('"user"', "ON token", "ON session", "PASSWORD '"))


@pytest.mark.parametrize("slots", ["0", "1025", "many"])
def test_wrong_slots_are_a_wrong_command_line(slots: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["worker", "--slots", slots])
    assert (ended.value.code, "--slots" in capsys.readouterr().err) == (2, True)


def test_missing_packages_are_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['procrastinate'] = None; from ui.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "worker", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment({"database_url": "postgresql://db/dash"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.startswith("A worker needs packages that are not installed")) == (1, True)


def test_a_worker_starts_without_what_only_a_server_needs() -> None:
    """One that was killed is to be back soon."""
    unneeded = {"sqlalchemy", "alembic", "fastapi", "nicegui"}
    code = f"import sys, backend.engine.program; print(*{unneeded} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
