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

EXAMPLE = f"Example: {command('watch 8f3a21c9')} && {command('export 8f3a21c9 --output results.csv')}"
TOKEN_SECONDS = 30 * 86_400  # a shorter one could expire during a long job
INTERRUPTED, BROKEN_PIPE, TERMINATED = (128 + number for number in (2, 13, 15))  # signals, as shells report them


def watch(
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="ID of a job, or enough of its beginning; default: all jobs.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Follow a job live until it ends, with progress bars; without a terminal, with one line for each change.

    Exit status: 0 if the job completed; 1 if it failed, completed with errors or was cancelled, or cannot be followed.
    Without JOB all jobs are followed until Ctrl-C. Ctrl-C exits with 130; the jobs continue.
    """
    raise typer.Exit(_exit_status(job, data_dir))


def _exit_status(job: str | None, data_dir: Path | None) -> int:
    access, settings = sign_in(data_dir, lifetime_seconds=TOKEN_SECONDS), load_settings(data_dir=data_dir)
    from ui.cli.watch.follower import follow  # slow to load, and `--help` does not need it

    _log_errors_only()
    try:
        return asyncio.run(_until_terminated(follow(access, settings, job)))
    except KeyboardInterrupt:
        return INTERRUPTED
    except asyncio.CancelledError:
        return TERMINATED
    except BrokenPipeError:  # the reader has exited, so the flush at exit would fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


async def _until_terminated(following: Coroutine[Any, Any, int]) -> int:
    """Cancel the coroutine on SIGTERM, so that it restores the terminal."""
    task = asyncio.ensure_future(following)
    with suppress(NotImplementedError):  # on Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _log_errors_only() -> None:
    """Log only the feed's errors: the display shows lost connections."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    logging.getLogger("progress_dashboard").addHandler(handler)
