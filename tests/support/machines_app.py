"""The program with machines that a test invents: `python -m tests.support.machines_app PORT DATA_DIR`.

The machines are those of the file `machines.json` in the data directory, which is read again and again, and written
when an administrator changes one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn

from backend import open_backend
from backend.app import running
from backend.executors.machines import Machine, Machines
from backend.settings import load_settings
from ui.cli.serve import config_of

FILE = "machines.json"


class PostedMachines:
    """A registry of machines over a file."""

    keeps_changes = True

    def __init__(self, file: Path) -> None:
        self._file = file

    def list(self) -> Sequence[Machine]:
        return [_machine(facts) for facts in self._read()]

    async def change(self, name: str, *, slots: int | None = None, drain: bool | None = None) -> None:
        known = self._read()
        for facts in known:
            if facts["name"] == name:
                facts |= {} if slots is None else {"cap": slots}
                facts |= {} if drain is None else {"is_draining": drain}
        post_machines(self._file.parent, known)

    def _read(self) -> Sequence[dict[str, Any]]:
        known: Sequence[dict[str, Any]] = json.loads(self._file.read_text(encoding="utf-8"))
        return known


def post_machines(data_dir: Path, machines: Sequence[dict[str, Any]]) -> None:
    """Let the program of this data directory have these machines from now on."""
    part = data_dir / f"{FILE}.part"
    part.write_text(json.dumps(machines), encoding="utf-8")
    part.replace(data_dir / FILE)


def _machine(facts: dict[str, Any]) -> Machine:
    defaults: dict[str, Any] = {"node": facts["name"], "slots": 8, "version": "0.1.0", "processors": ["probe"]}
    given = {**defaults, **facts}
    seen = given.pop("last_seen", None)
    processors = tuple(given.pop("processors"))
    return Machine(**given, processors=processors, last_seen=seen and datetime.fromisoformat(seen))


async def _serve(port: int, data_dir: Path) -> None:
    async with open_backend(load_settings(data_dir=data_dir, port=port)) as opened:
        posted = Machines(PostedMachines(data_dir / FILE))
        config = config_of(replace(opened, machines=posted))
        config.port, config.log_config = port, uvicorn.config.LOGGING_CONFIG
        config.configure_logging()
        from ui.nicegui_internals import SessionWatch  # NiceGUI is set up only now

        async with running(SessionWatch(opened.accounts, opened.clock).run(), "sessions"):
            await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
