"""Commands about a PostgreSQL database, before they reach one."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backend.store.database import NO_DRIVER
from tests import ROOT
from tests.support.servers import environment
from ui.cli import main

PASSWORD = "n0b0dy-may-see-this"
URL = f"postgresql://ana:{PASSWORD}@db.example:5433/dash?sslmode=require"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_backup_prints_the_line_for_pg_dump(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DASHBOARD_DATABASE_URL", URL)
    code, shown, _ = run(capsys, "backup", tmp_path / "monday.dump", "--data-dir", tmp_path)
    place = "'postgresql://ana@db.example:5433/dash?sslmode=require'"
    assert f"pg_dump --format=custom --no-owner --file={tmp_path}/monday.dump --dbname={place}\n" in shown
    assert (code, PASSWORD in shown, list(tmp_path.iterdir())) == (0, False, [])


def test_move_to_takes_no_password_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, refusal = run(capsys, "move-to", URL, "--data-dir", tmp_path)
    assert refusal.startswith("Leave the password out of the command line, where all users of the machine can read it")
    assert (code, PASSWORD in refusal) == (1, False)


@pytest.mark.parametrize("arguments", [(), ("mysql://db/dash",)], ids=str)
def test_move_to_needs_a_postgresql_database(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DASHBOARD_DATABASE_URL", raising=False)
    code, _, refusal = run(capsys, "move-to", *arguments, "--data-dir", tmp_path)
    assert (code, "postgresql://" in refusal or "PostgreSQL database" in refusal) == (1, True)


def test_move_to_needs_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, refusal = run(capsys, "move-to", "postgresql://db/dash", "--data-dir", tmp_path)
    assert (code, refusal.startswith(f"There is no database at {tmp_path / 'dashboard.sqlite3'}")) == (1, True)


def test_an_interrupted_start_of_a_move_leaves_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "dashboard.sqlite3")) as connection:
        connection.execute("CREATE TABLE ours (x)")
    before = (tmp_path / "dashboard.sqlite3").read_bytes()
    code, _, refusal = run(capsys, "move-to", "postgresql://127.0.0.1:1/dash", "--data-dir", tmp_path)
    assert (code, refusal.startswith("The database postgresql://127.0.0.1:1/dash cannot be opened (")) == (1, True)
    assert (tmp_path / "dashboard.sqlite3").read_bytes() == before


@pytest.mark.parametrize("missing", ["psycopg", "psycopg_pool", "procrastinate"])
def test_a_missing_driver_is_one_sentence_with_what_to_install(tmp_path: Path, missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from ui.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, "users", "list", "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env=environment({"database_url": "postgresql://db/dash"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"{NO_DRIVER}\n")
