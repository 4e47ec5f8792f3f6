"""The unit and the Compose file that the README of the engine shows are right, as far as can be told without them."""

from __future__ import annotations

import configparser
import getpass
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from backend.settings import PREFIX, Settings
from tests import ROOT

README = (ROOT / "backend" / "engine" / "README.md").read_text(encoding="utf-8")
SETTING = re.compile(rf"\b{PREFIX}([A-Z_]+)")
NEEDED = {"DATABASE_URL", "MEDIA_DIR", "OUTPUT_DIR"}
LONGEST_VIDEO_SECONDS = Settings.model_fields["video_timeout_seconds"].default


def has_compose() -> bool:
    """Return True if `docker compose` can be run here."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def block(language: str) -> str:
    """Return the README's block in this language."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(found)


def compose() -> dict[str, Any]:
    """Return the Compose file."""
    content: dict[str, Any] = yaml.safe_load(block("yaml"))
    return content


def test_the_unit_lets_a_worker_finish_and_starts_it_again(tmp_path: Path) -> None:
    """Where systemd is there, it has nothing to say about the unit either."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[method-assign, assignment]
    unit.read_string(block("ini"))
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    assert service["ExecStart"] == f"{service['WorkingDirectory']}/.venv/bin/python main.py worker"
    assert (service["KillMode"], service["Restart"], service["RestartSec"]) == ("mixed", "always", "1")
    assert int(service["TimeoutStopSec"]) > LONGEST_VIDEO_SECONDS
    assert service["User"] != "root"
    assert set(SETTING.findall(block("ini"))) == NEEDED
    if tool := shutil.which("systemd-analyze"):
        file = tmp_path / "dashboard-worker.service"
        here = block("ini").replace(service["WorkingDirectory"] + "/.venv/bin/python", sys.executable)
        here = here.replace(service["WorkingDirectory"], str(ROOT)).replace("=dashboard\n", f"={getpass.getuser()}\n")
        file.write_text(here, encoding="utf-8")
        said = subprocess.run([tool, "verify", file], capture_output=True, text=True, check=False)
        assert (said.returncode, [line for line in said.stderr.splitlines() if file.name in line]) == (0, [])


def test_the_compose_file_gives_all_machines_the_same(tmp_path: Path) -> None:
    """Where Docker Compose is there, it has nothing to say about the file either."""
    services = compose()["services"]
    assert services.keys() == {"database", "server", "worker"}
    server, worker = services["server"], services["worker"]
    for program in (server, worker):
        assert program["restart"] == "unless-stopped"
        assert program["init"], "a container needs a first process that reaps"
        assert program["depends_on"]["database"]["condition"] == "service_healthy"
        assert {f"{PREFIX}{name}" for name in NEEDED} <= program["environment"].keys()
    assert (server["environment"], server["volumes"]) == (worker["environment"], worker["volumes"])
    assert worker["command"] == ["python", "main.py", "worker"]
    assert 3600 * int(worker["stop_grace_period"].removesuffix("h")) >= LONGEST_VIDEO_SECONDS
    assert {name.lower() for name in SETTING.findall(block("yaml"))} <= Settings.model_fields.keys()
    named = {volume.partition(":")[0] for service in services.values() for volume in service["volumes"]}
    assert named == compose()["volumes"].keys()
    assert "${POSTGRES_PASSWORD:?}" in block("yaml"), "a password must be given, not be there by default"
    if has_compose():
        file = tmp_path / "compose.yaml"
        file.write_text(block("yaml"), encoding="utf-8")
        given = os.environ | {"POSTGRES_PASSWORD": "for this test", "ADMIN_PASSWORD": "for this test"}
        command = ["docker", "compose", "--file", str(file), "config", "--quiet"]
        said = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr) == (0, "")
