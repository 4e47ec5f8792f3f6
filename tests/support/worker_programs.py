"""Workers as child processes, `python main.py worker`, each on a machine of its own where that is possible."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests import ROOT
from tests.support.databases import database_settings
from tests.support.networks import Machine
from tests.support.processes import fork_server
from tests.support.servers import ServerProcess, can_fork, environment, python_paths

READY = "videos at once for"  # in the line that a worker prints when it takes videos
BACK = "reached again"  # in the line when it has been cut off and is not any more
LOCAL = "127.0.0.1"


class WorkerProgram(ServerProcess):
    """The command `worker` beside the server of this data directory; `machine` and `address` place it in a network.

    With mounts of its own, its media directory can be unmounted without the others noticing.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        media: Path,
        python_path: Path | None = None,
        machine: Machine | None = None,
        address: str = LOCAL,
        root: Path = ROOT,
        **settings: object,
    ) -> None:
        given: dict[str, object] = {
            **database_settings(data_dir),
            "media_dir": media,
            "output_dir": data_dir / "outputs",
            **settings,
        }
        given["database_url"] = str(given.get("database_url", "")).replace(f"@{LOCAL}:", f"@{address}:")
        variables = environment(given) | python_paths(python_path or (root if root != ROOT else None))
        if root != ROOT:  # what is installed is that of this checkout
            variables["PYTHONPATH"] = os.pathsep.join((str(root / "backend" / "client"), variables["PYTHONPATH"]))
        super().__init__(
            *("main.py", "worker", *arguments),
            port=0,
            environment=variables,
            root=root,
            prefix=machine.prefix if machine else (),
            may_fork=machine is None and can_fork(root, python_path),
            own_mounts=may_have_mounts(),
        )
        self.machine = machine
        self._media = media
        self._fork_server: int | None = None

    def until_ready(self) -> None:
        """Return when it takes videos."""
        self.until_says(READY)
        self._fork_server = fork_server(self.pid)

    @property
    def starter(self) -> int:
        """The process that starts its videos, as the log of their starts names it."""
        assert self._fork_server is not None, "it is not ready yet"
        return self._fork_server

    def freeze(self) -> None:
        """Stop the worker itself, not its videos' processes, as a hang of it would."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        os.kill(self.pid, signal.SIGCONT)

    def unmount_media(self) -> None:
        """Let it see an empty directory where its media were, as after an unmount."""
        self._mount("mount", "-t", "tmpfs", "-o", "ro,size=4k", "tmpfs", str(self._media))

    def mount_media(self) -> None:
        """Let it see its media again."""
        self._mount("umount", "--lazy", str(self._media))

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.thaw()
        super().end()

    def _mount(self, *command: str) -> None:
        subprocess.run(["nsenter", "--target", str(self.pid), "--mount", *command], check=True, capture_output=True)


@contextmanager
def working(data_dir: Path, name: str, *, slots: int, media: Path, **more: Any) -> Iterator[WorkerProgram]:
    """Run a worker beside the server of this data directory. Ends it afterwards."""
    worker = WorkerProgram(data_dir, "--name", name, "--slots", f"{slots}", media=media, **more)
    try:
        worker.until_ready()
        yield worker
    finally:
        worker.end()


@cache
def may_have_mounts() -> bool:
    """Return True if a process may have mounts of its own here, and change them."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return False
    with tempfile.TemporaryDirectory() as directory:
        mount: Sequence[str] = ("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", directory)
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
