"""What a server on an SQLite file does without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.support.servers import environment

SERVE = """
import asyncio, sys
from pathlib import Path
from backend.app import open_backend
from backend.settings import load_settings

async def main():
    async with open_backend(load_settings(data_dir=Path(sys.argv[1]))) as backend:
        assert backend.coordination is None

asyncio.run(main())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"psycopg", "psycopg_pool", "procrastinate"}))
print(sorted(name for name in sys.modules if name.startswith("backend.engine")))
"""


def test_a_server_on_a_file_loads_nothing_of_the_engine(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path / "data")],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n[]\n", "")
