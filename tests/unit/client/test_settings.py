"""`settings_from_environment`: each case in a Python of its own, with its own environment and directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests import ROOT

CLIENT = ROOT / "backend" / "client"
PRINT_SETTINGS = """
import json
from progress_dashboard.settings import settings_from_environment

settings = settings_from_environment()
print(json.dumps([settings.url, settings.token, repr(settings)]))
"""
WITHOUT_DOTENV = "import sys; sys.modules['dotenv'] = None\n"
DEFAULT_URL = "http://localhost:8000"


def run_python(code: str, directory: Path, **variables: str) -> list[str]:
    """Run code in this directory with these settings only; return the URL, the token and the `repr`."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("DASHBOARD_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(CLIENT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    settings: list[str] = json.loads(done.stdout)
    return settings


def settings(directory: Path, code: str = PRINT_SETTINGS, **variables: str) -> tuple[str, str]:
    url, token, _ = run_python(code, directory, **variables)
    return url, token


def write_dotenv(directory: Path, *lines: str) -> None:
    (directory / ".env").write_text("\n".join(lines), encoding="utf-8")


def test_without_settings_it_is_the_local_server_without_a_token(tmp_path: Path) -> None:
    assert settings(tmp_path) == (DEFAULT_URL, "")


def test_the_environment_gives_the_address_and_the_token(tmp_path: Path) -> None:
    given = settings(tmp_path, DASHBOARD_URL="https://ops.example", DASHBOARD_TOKEN="from-the-environment")
    assert given == ("https://ops.example", "from-the-environment")


def test_an_empty_variable_counts_as_none(tmp_path: Path) -> None:
    assert settings(tmp_path, DASHBOARD_URL="", DASHBOARD_TOKEN="") == (DEFAULT_URL, "")


def test_dotenv_gives_them_too(tmp_path: Path) -> None:
    write_dotenv(tmp_path, "DASHBOARD_URL=https://ops.example", "DASHBOARD_TOKEN='from dotenv'", "OTHER=1")
    assert settings(tmp_path) == ("https://ops.example", "from dotenv")


def test_the_environment_goes_before_dotenv(tmp_path: Path) -> None:
    write_dotenv(tmp_path, "DASHBOARD_URL=https://ops.example", "DASHBOARD_TOKEN=from-dotenv")
    given = settings(tmp_path, DASHBOARD_URL="", DASHBOARD_TOKEN="from-the-environment")
    assert given == ("https://ops.example", "from-the-environment")


def test_names_are_read_in_either_case(tmp_path: Path) -> None:
    write_dotenv(tmp_path, "dashboard_url=https://ops.example")
    assert settings(tmp_path, dashboard_token="lower-case") == ("https://ops.example", "lower-case")


def test_without_python_dotenv_only_the_environment_counts(tmp_path: Path) -> None:
    write_dotenv(tmp_path, "DASHBOARD_URL=https://ops.example", "DASHBOARD_TOKEN=from-dotenv")
    given = settings(tmp_path, WITHOUT_DOTENV + PRINT_SETTINGS, DASHBOARD_TOKEN="from-the-environment")
    assert given == (DEFAULT_URL, "from-the-environment")


def test_the_token_is_not_in_the_repr(tmp_path: Path) -> None:
    _, _, shown = run_python(PRINT_SETTINGS, tmp_path, DASHBOARD_TOKEN="a-secret-token")
    assert shown == f"FeedSettings(url={DEFAULT_URL!r})"
