"""The two distributions, installed where there is no checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any
from zipfile import ZipFile

import httpx
import pytest

from tests import ROOT
from tests.support.examples import example
from tests.support.servers import ServerProcess, add_user, api, environment, free_port, running, use_link

BUILD_SECONDS = 300
NOT_SOURCE = ("__pycache__", "*.egg-info", "build")
SOURCES = {".": ("pyproject.toml", "README.md", "backend", "ui"), "backend/client": ("backend",)}
TYPED_SCRIPT = dedent(
    """\
    from progress_dashboard import ProgressFeed

    async def follow() -> None:
        async with ProgressFeed("http://127.0.0.1:8080", token="secret") as feed:
            async for update in feed:
                reveal_type(update.progress)
    """
)
JOB = {"name": "nightly", "video_ids": ["a"], "processor": "external"}
NEEDED_BY_HTTPX = {"anyio", "certifi", "h11", "httpcore", "idna", "sniffio", "typing-extensions", "typing_extensions"}
NO_INDEX = "needs a package index: run it where `pip install httpx` works"


def build(project: str, home: Path) -> Path:
    """Build the wheel of a project from a copy of its sources, so that nothing is left in the checkout."""
    copy = home / "source"
    for name in SOURCES[project]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*NOT_SOURCE))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, copy)
    wheels = home / "wheels"
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(copy / project))
    (wheel,) = wheels.iterdir()
    return wheel


def pip(*arguments: str, python: str | Path = sys.executable) -> str:
    """Run pip for the environment of `python`, and return its output. Fails with the output if pip does."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_environment(home: Path) -> Path:
    """Create an empty environment, and return the directory of its programs."""
    venv.create(home)
    return home / "bin"


@pytest.fixture(scope="module")
def server_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(".", tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def programs(server_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the server's wheel into a new environment, which borrows the dependencies of this one."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    found = new_environment(home)
    pip("install", "-q", "--no-deps", "--no-index", str(server_wheel), python=found / "python")
    packages = next((home / "lib").glob("python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not followed
    return found


def test_the_wheel_has_every_file_of_the_packages(server_wheel: Path) -> None:
    packed = set(ZipFile(server_wheel).namelist())
    for package in ("backend", "ui"):
        for path in (ROOT / package).rglob("*"):
            if path.suffix not in {".py", ".js", ".vue", ".css"} or "build" in path.parts:
                continue
            name = path.relative_to(ROOT).as_posix().removeprefix("backend/client/")
            assert name in packed
    assert "progress_dashboard/py.typed" in packed


@pytest.mark.parametrize("arguments", [("progress-dashboard",), ("python", "-m", "ui")], ids=" ".join)
def test_the_wheel_starts(programs: Path, arguments: tuple[str, ...], tmp_path: Path) -> None:
    program, *options = arguments
    port = free_port()
    command = (*options, "--no-browser", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    with started(*command, port=port, environment=environment({}), root=tmp_path, program=programs / program) as server:
        link = server.until_says("Sign in:").split()[-1]
        with httpx.Client(follow_redirects=True) as browser:
            page = use_link(browser, link).raise_for_status().text
    assert "job_grid" in page
    assert f"{' '.join(arguments)} login-link" in server.output


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator[ServerProcess]:
    """Run a program in a directory that has nothing of the repository, and kill it at the end."""
    process = ServerProcess(*arguments, **options)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def client_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the client distribution and its dependencies into a new environment, and return its Python."""
    home = tmp_path_factory.mktemp("client")
    python = new_environment(home / "venv") / "python"
    wheel = build("backend/client", home)
    try:
        pip("install", "-q", str(wheel), python=python)
    except AssertionError as error:
        pytest.skip(f"{NO_INDEX} ({str(error).splitlines()[-1]})")
    return python


def test_the_client_brings_three_dependencies_and_what_they_need(client_python: Path) -> None:
    listed = pip("freeze", python=client_python).splitlines()
    names = {re.split("==| @ ", line)[0].lower() for line in listed}
    assert names - NEEDED_BY_HTTPX == {"httpx", "msgspec", "progress-dashboard-client", "websockets"}


def test_its_example_follows_a_server(client_python: Path, tmp_path: Path) -> None:
    script = tmp_path / "feed.py"
    script.write_text(example("# feed.py"))
    with running(tmp_path / "data") as program:
        token = add_user(tmp_path / "data", "ana")
        settings = environment({"url": program.url, "token": token})
        with (
            started(str(script), port=program.port, environment=settings, root=tmp_path, program=client_python) as feed,
            api(program, token) as http,
        ):
            http.post("/api/jobs", json=JOB).raise_for_status()
            assert feed.until_says("nightly").startswith("nightly 0")


def test_mypy_finds_its_types(client_python: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TYPED_SCRIPT)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    command = [*mypy, "--python-executable", str(client_python), str(script)]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.stdout.splitlines()[:-1] == [f'{script.name}:6: note: Revealed type is "int"']
    assert checked.returncode == 0
