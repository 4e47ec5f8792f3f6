"""`submit` reads files, pipes and standard input, and what the file is called decides nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import ROOT
from tests.support.servers import Program, add_user, api, environment, running

pytestmark = pytest.mark.acceptance  # starts the whole program

LIST = "video_id\nabc\ndef\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("submit") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def jwt(program: Program) -> str:
    return add_user(program.data_dir, "ana")


@pytest.fixture
def client(program: Program, jwt: str) -> Iterator[httpx.Client]:
    with api(program, jwt) as opened:
        yield opened


def shell(program: Program, jwt: str, line: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash, in which SUBMIT is the command, in this directory."""
    variables = environment({"url": program.url, "token": jwt}) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    line = line.replace("SUBMIT", f"'{sys.executable}' '{ROOT / 'main.py'}' submit")
    return subprocess.run(
        ["bash", "-c", line], cwd=directory, env=variables, capture_output=True, timeout=60, check=False
    )


def name_of(client: httpx.Client, done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the name of the job of two videos that was created."""
    assert done.returncode == 0, done.stderr
    job = client.get(f"/api/jobs/{done.stdout.decode().strip()}").raise_for_status().json()
    assert job["total_videos"] == 2
    return str(job["name"])


@pytest.mark.parametrize(
    "line",
    [
        "cat ids.csv | SUBMIT /dev/stdin",
        "cat ids.csv | SUBMIT -",
        "SUBMIT - < ids.csv",
        "SUBMIT <(cat ids.csv)",
        "mkfifo pipe; cat ids.csv > pipe & SUBMIT pipe",
        "(printf 'video_id\\nabc\\n'; sleep 0.2; echo def) | SUBMIT /dev/fd/0",
    ],
)
def test_a_pipe_is_read_like_a_file(
    program: Program, jwt: str, client: httpx.Client, tmp_path: Path, line: str
) -> None:
    (tmp_path / "ids.csv").write_text(LIST)
    assert name_of(client, shell(program, jwt, line, tmp_path)) == "Piped list"


def test_a_pipe_may_be_given_a_name(program: Program, jwt: str, client: httpx.Client, tmp_path: Path) -> None:
    line = "printf 'abc\\ndef\\n' | SUBMIT - --name 'My \"best\" list'"
    assert name_of(client, shell(program, jwt, line, tmp_path)) == 'My "best" list'


@pytest.mark.parametrize("name", ['my "best" list.csv', "Übung 🎬.csv", "ids", "ids.mp4", "ids.xlsx", "100%22.csv"])
def test_the_content_decides_and_not_the_name(
    program: Program, jwt: str, client: httpx.Client, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(LIST)
    assert name_of(client, shell(program, jwt, f"SUBMIT {subprocess.list2cmdline([name])}", tmp_path)) == name


def test_a_name_that_is_no_text_is_replaced(program: Program, jwt: str, client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xffids.csv")).write_text(LIST)
    assert name_of(client, shell(program, jwt, "SUBMIT *ids.csv", tmp_path)) == "�ids.csv"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("SUBMIT - < /dev/null", "empty"),
        ("SUBMIT - <&-", "cannot be read"),
        ("SUBMIT .", "cannot be read (Is a directory)"),
        ("SUBMIT nowhere.csv", "cannot be read (No such file or directory)"),
        ("head -c 30000000 /dev/zero | tr '\\0' 'a' | SUBMIT -", "20 MiB"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(
    program: Program, jwt: str, tmp_path: Path, line: str, sentence: str
) -> None:
    done = shell(program, jwt, line, tmp_path)
    shown = done.stderr.decode()
    assert (done.returncode, done.stdout, shown.count("\n")) == (1, b"", 1), shown
    assert sentence in shown


@pytest.mark.parametrize(
    "media_type", ["text/csv", "application/vnd.ms-excel", "video/mp4", "application/octet-stream"]
)
def test_the_media_type_of_an_upload_decides_nothing(client: httpx.Client, media_type: str) -> None:
    answer = client.post("/api/jobs", files={"file": ('my "best" list.csv', LIST.encode(), media_type)})
    assert (answer.status_code, answer.json()["name"]) == (201, 'my "best" list.csv')
    binary = client.post("/api/jobs", files={"file": ("ids.csv", b"\x89PNG\r\n\x1a\n\0\0\0", "text/csv")})
    assert binary.status_code == 415
