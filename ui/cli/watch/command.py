"""`watch`: follow jobs live."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.command import command
from backend.settings import load_settings
from ui.cli.client import sign_in
from ui.cli.data import DataDir

EXAMPLE = f"Example: {command('watch 8f3a21c9 && python main.py export 8f3a21c9 --output results.csv')}"
TOKEN_SECONDS = 30 * 86_400  # one that runs out would end the watching of a long job
INTERRUPTED, UNHEARD, TERMINATED = (128 + number for number in (2, 13, 15))  # signals, as shells report them


def watch(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job's ID, or enough of its beginning; else: all jobs.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Follow a job live until it ends, with progress bars; where there is no terminal, a line for each change.

    Exit status: 0 when the job completed; 1 when it failed, completed with errors or was cancelled, and when it cannot
    be followed. Without JOB all jobs are followed until Ctrl-C. Ctrl-C ends with 130; the jobs go on.
    """
    raise typer.Exit(_status(job, data_dir))


def _status(job: str | None, data_dir: Path | None) -> int:
    access, settings = sign_in(data_dir, lifetime_seconds=TOKEN_SECONDS), load_settings(data_dir=data_dir)
    from ui.cli.watch.follower import follow  # slow to load, and `--help` does not need it

    _log_faults_only()
    try:
        return asyncio.run(_until_terminated(follow(access, settings, job)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except asyncio.CancelledError:
        return TERMINATED
    except BrokenPipeError:  # whoever read along has left; nothing can be said at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD


async def _until_terminated(following: Coroutine[Any, Any, int]) -> int:
    """Whatever ends it, the terminal is left whole."""
    task = asyncio.ensure_future(following)
    with suppress(NotImplementedError):  # Windows knows no such signal
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _log_faults_only() -> None:
    """What the feed writes down of lost connections is shown already."""
    faults = logging.StreamHandler()
    faults.setLevel(logging.ERROR)
    logging.getLogger("progress_dashboard").addHandler(faults)
