"""The start and the stop of the program, and its refusals to start."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend import VERSION
from tests import ROOT
from tests.support.clips import make_clip
from tests.support.databases import change, rows
from tests.support.servers import Program, add_user, api, environment, free_port, run_command, running, token, use_link
from tests.support.watchers import Watcher

pytestmark = pytest.mark.acceptance  # each test starts the whole program

STOP_SECONDS = 5
SCRIPT = "progress-dashboard"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def refused(data: Path, *arguments: str, **settings: Any) -> str:
    """Return the one sentence of a start that fails with exit code 1."""
    done = run_command("--no-browser", *arguments, data_dir=data, **settings)
    lines = [line for line in done.stderr.splitlines() if line]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    return lines[0]


@pytest.fixture
def script(tmp_path: Path) -> str:
    """Write the script that an installation has, and return its path."""
    path = tmp_path / SCRIPT
    path.write_text("from ui.cli import main\n\nmain()\n")
    return str(path)


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in the checkout until it exits."""
    variables = environment({}) | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def assert_shows_command(program: tuple[str, ...], shown: str) -> None:
    """Check the version, the help and an error of the program, started like this."""
    version, usage, refusal = (
        run_program(*program, *words) for words in (["--version"], ["worker", "--help"], ["pause", "abc"])
    )
    assert (version.returncode, version.stdout) == (0, f"progress-dashboard {VERSION}\n")
    assert f"Usage: {shown} worker" in usage.stdout
    assert f"Example: {shown} worker" in usage.stdout
    assert (refusal.returncode, f"start it with `{shown}`" in refusal.stderr) == (1, True)


def test_python_main_py_shows_itself_in_messages() -> None:
    assert_shows_command(("main.py",), "python main.py")


def test_python_m_ui_shows_itself_in_messages() -> None:
    assert_shows_command(("-m", "ui"), "python -m ui")


def test_the_installed_script_shows_itself_in_messages(script: str) -> None:
    assert_shows_command((script,), SCRIPT)


def test_the_first_start_creates_data_secret_and_admin(data: Path) -> None:
    with running(data):
        pass
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (data, data / "secret.json")}
    assert modes == {"data": 0o700, "secret.json": 0o600}
    assert rows(data, 'SELECT name, is_admin, password_hash FROM "user"') == [("admin", True, None)]


def test_the_printed_link_signs_in_once(data: Path) -> None:
    with running(data) as program:
        link = program.sign_in_link()
        with httpx.Client(headers={"Accept": "text/html"}, follow_redirects=True) as browser:
            assert "No active jobs" in use_link(browser, link).text
        again = httpx.get(link, headers={"Accept": "text/html"})
        assert again.status_code == 410
        assert "login-link" in again.text


def test_login_link_prints_another_link_while_the_server_runs(data: Path) -> None:
    with running(data):
        done = run_command("login-link", data_dir=data)
        link = re.search(r"http\S+", done.stdout)
        assert link is not None
        with httpx.Client() as browser:
            assert use_link(browser, link[0]).status_code == 303


def start_long_job(client: httpx.Client, watcher: Watcher) -> str:
    """Submit a job over the clip `long`, and return its ID after its first progress."""
    order = {"video_ids": ["long"], "options": {"max_speed": 1}}
    job_id = str(client.post("/api/jobs", json=order).json()["job_id"])
    watcher.until(lambda watcher: any(update["progress"] > 0 for update in watcher.updates), "the first progress")
    return job_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_soon_without_a_traceback(tmp_path: Path, data: Path, number: int) -> None:
    make_clip(tmp_path / "media" / "long.mp4", seconds=30)
    with running(data, media_dir=tmp_path / "media") as program:
        jwt = token(data, "admin")
        with api(program, jwt) as client, Watcher(program, jwt) as watcher:
            job_id = start_long_job(client, watcher)
            began = time.monotonic()
            code = program.stop(number)
            took = time.monotonic() - began
        output = program.output
    assert code == 0
    assert took < STOP_SECONDS
    assert "Traceback" not in output
    query = "SELECT job.status, video.status FROM job JOIN video ON video.job_id = job.id WHERE job.id = :job_id"
    assert rows(data, query, job_id=job_id) == [("pending", "pending")]


def test_no_process_of_a_killed_server_keeps_working(tmp_path: Path, data: Path) -> None:
    make_clip(tmp_path / "media" / "long.mp4", seconds=30)
    with running(data, media_dir=tmp_path / "media") as program:
        jwt = token(data, "admin")
        with api(program, jwt) as client, Watcher(program, jwt) as watcher:
            start_long_job(client, watcher)
        program.kill()
        end = time.monotonic() + 10
        while children_of(tmp_path) and time.monotonic() < end:
            time.sleep(0.05)  # only the parent is notified of an exit
        assert children_of(tmp_path) == []


def children_of(media: Path) -> list[str]:
    """Return the processes that have an open file below this directory."""
    return [process.name for process in Path("/proc").glob("[0-9]*") if any(is_below(media, process / "fd"))]


def is_below(directory: Path, descriptors: Path) -> Iterator[bool]:
    """Yield for each open file of a process if it is below the directory. Skips files that are closed meanwhile."""
    with suppress(OSError):
        for link in descriptors.iterdir():
            with suppress(OSError):
                yield link.readlink().is_relative_to(directory)


def test_a_taken_port_is_refused_in_one_sentence(data: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(data, "--port", str(port)) == (
            f"Port {port} on 127.0.0.1 is already taken or not available; choose another with --port."
        )


def test_a_data_directory_in_use_is_refused_in_one_sentence(data: Path) -> None:
    with running(data):
        sentence = refused(data, "--port", str(free_port()))
    assert sentence.startswith("Another server already uses the data directory")


def test_an_unwritable_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be used" in refused(tmp_path / "file", "--port", str(free_port()))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("port", "eighty", "DASHBOARD_PORT 'eighty' is not valid"),
        ("max_running_videos", "0", "MAX_RUNNING_VIDEOS may be 0 only with a database on PostgreSQL"),
        ("jwt_secret", "short", "DASHBOARD_JWT_SECRET is not valid"),
        ("database_url", "mysql://db/x", "must start with postgresql:// or sqlite:///"),
        ("reconnect_delays_seconds", "3,no", "DASHBOARD_RECONNECT_DELAYS_SECONDS"),
        ("allowed_origins", "example", "DASHBOARD_ALLOWED_ORIGINS"),
    ],
)
def test_an_invalid_setting_is_refused_with_what_is_allowed(data: Path, name: str, value: str, words: str) -> None:
    sentence = refused(data, **{name: value})
    assert words in sentence
    assert "short" not in sentence or name != "jwt_secret"


def test_a_server_for_others_needs_a_password_of_admin(data: Path) -> None:
    assert "users passwd admin" in refused(data, "--host", "0.0.0.0", "--port", str(free_port()))


def test_worker_is_refused_in_one_sentence(data: Path) -> None:
    done = run_command("worker", data_dir=data)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_submit_and_export_work_on_a_running_server(tmp_path: Path, data: Path) -> None:
    (tmp_path / "list.csv").write_text("video_id,title\nnowhere,One\nnowhere,Two\n")
    with running(data) as program, Watcher(program, token(data, "admin")) as watcher:
        submitted = run_command("submit", str(tmp_path / "list.csv"), data_dir=data)
        job_id = submitted.stdout.strip()
        watcher.until_status(job_id, "failed")
        exported = run_command("export", job_id, data_dir=data)
        history = run_command("export", "--output", str(tmp_path / "all.csv"), data_dir=data)
    assert "line 3: nowhere: duplicate" in submitted.stderr
    assert "nowhere,One,failed,No file for this ID" in exported.stdout
    assert history.returncode == 0
    assert job_id in (tmp_path / "all.csv").read_text()


@pytest.mark.sqlite_only
def test_a_backup_of_a_running_server_has_everything(tmp_path: Path, data: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    with running(data):
        add_user(data, "ana")
        assert run_command("backup", str(copy), data_dir=data).returncode == 0
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT name FROM user ORDER BY name").fetchall() == [("admin",), ("ana",)]


def test_submit_says_what_it_decided_and_takes_another_column(tmp_path: Path, data: Path) -> None:
    (tmp_path / "list.csv").write_text("id,title,url\n1,Cats,https://youtu.be/dQw4w9WgXcQ\n")
    with running(data) as program:
        found = run_command("submit", str(tmp_path / "list.csv"), data_dir=data)
        chosen = run_command("submit", str(tmp_path / "list.csv"), "--column", "title", data_dir=data)
        with api(program, token(data, "admin")) as client:
            jobs = [done.stdout.strip() for done in (found, chosen)]
            videos = [client.get(f"/api/jobs/{job}/videos").json()["items"][0]["video_id"] for job in jobs]
    assert videos == ["dQw4w9WgXcQ", "Cats"]
    assert "IDs from the column url\nThe IDs come from url, not from id.\n" in found.stderr
    assert "IDs from the column title\n" in chosen.stderr


def test_submit_says_why_it_fails(tmp_path: Path, data: Path) -> None:
    (tmp_path / "list.csv").write_text("title,length\nOne,3\n")
    unreachable = run_command(
        "submit", str(tmp_path / "list.csv"), data_dir=data, url=f"http://127.0.0.1:{free_port()}"
    )
    missing = run_command("submit", str(tmp_path / "none.csv"), data_dir=data)
    with running(data) as program:
        wrong = run_command("submit", str(tmp_path / "list.csv"), data_dir=data, url=program.url)
    assert "No server answers" in unreachable.stderr
    assert "cannot be read" in missing.stderr
    assert "video_id" in wrong.stderr
    assert {done.returncode for done in (unreachable, missing, wrong)} == {1}


def test_a_list_of_100_000_rows_does_not_block_the_server(data: Path) -> None:
    rows = "video_id\n" + "\n".join(f"video-{number}" for number in range(100_000))
    with running(data) as program, api(program, add_user(data, "ana")) as client:
        waits: list[float] = []
        with Watcher(program, token(data, "ana")) as watcher:
            answers: list[httpx.Response] = []
            sending = threading.Thread(
                target=lambda: answers.append(client.post("/api/jobs", files={"file": ("big.csv", rows.encode())}))
            )
            sending.start()
            while sending.is_alive():
                began = time.monotonic()
                assert httpx.get(f"{program.url}/healthz").text == "ok"
                waits.append(time.monotonic() - began)
            sending.join()
            assert answers[0].status_code == 201
            watcher.until(
                lambda watcher: any(update["total_videos"] == 100_000 for update in watcher.updates), "the job"
            )
    assert len(waits) > 5, "the server answered meanwhile"
    assert sorted(waits)[len(waits) // 2] < 1.0


def test_no_log_contains_a_secret(data: Path) -> None:
    with running(data) as program:
        jwt = token(data, "admin")
        with Watcher(program, jwt) as watcher:
            watcher.send("ping")
        httpx.get(f"{program.url}/api/ws/progress", params={"token": jwt})
        program.stop()
        logged = "".join(line for line in program.lines if not line.startswith(("Sign in:", "Dashboard:")))
    assert jwt not in logged
    assert jwt.split(".")[2] not in logged
    assert "link?token" not in logged


def test_docs_load_only_from_the_server(data: Path) -> None:
    with running(data) as program:
        page = httpx.get(f"{program.url}/docs", headers={"Accept": "text/html"}).text
        addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
        assert addresses
        assert all(httpx.get(program.url + address).status_code == 200 for address in addresses)


def test_unexpected_settings_are_reported_at_the_start(tmp_path: Path, data: Path) -> None:
    with running(data, media_dir=tmp_path / "nowhere", max_running_job=3) as program:
        program.until_says("DASHBOARD_MAX_RUNNING_JOB is not a setting")
    assert f"Warning: the media directory {tmp_path / 'nowhere'} does not exist" in program.output


def test_a_server_that_cannot_store_its_data_stops(tmp_path: Path, data: Path) -> None:
    make_clip(tmp_path / "media" / "long.mp4", seconds=3)
    with running(data, media_dir=tmp_path / "media") as program:
        jwt = token(data, "admin")
        with api(program, jwt) as client, Watcher(program, jwt) as watcher:
            job_id = start_long_job(client, watcher)
            columns = "job_id, position, attempt, started_at, duration_seconds"
            change(data, f"INSERT INTO result ({columns}) VALUES (:job_id, 0, 1, 0, 0.1)", job_id=job_id)
            program.until_says("could not store its data")
            assert program.ended() == 1


def half_an_upload(program: Program, jwt: str) -> socket.socket:
    """Open a connection that has announced more than it has sent."""
    sender = socket.create_connection(("127.0.0.1", program.port))
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{program.port}\r\nAuthorization: Bearer {jwt}\r\n"
        "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    )
    sender.sendall(head.encode() + b'{"video_ids": [')
    return sender


def test_a_client_that_disconnects_while_sending_logs_no_error(data: Path) -> None:
    with running(data) as program:
        half_an_upload(program, token(data, "admin")).close()
        with api(program, token(data, "admin")) as client:
            assert client.get("/api/jobs").status_code == 200
        program.stop()
        assert "Traceback" not in program.output
        assert "ERROR" not in program.output


def test_an_upload_in_flight_does_not_delay_the_stop(data: Path) -> None:
    with running(data) as program, half_an_upload(program, token(data, "admin")) as sender:
        began = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        assert b"503" in sender.recv(1000)
        assert "Traceback" not in program.output
