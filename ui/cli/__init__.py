"""The commands of the terminal, one per file. Without a command the server starts."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from backend import VERSION
from backend.command import command
from backend.errors import DashboardError
from progress_dashboard.errors import FeedError
from ui.cli.commands import LazyGroup
from ui.cli.data import DataDir
from ui.cli.loading import leave_out
from ui.cli.terminal import accept_all_characters, without_known_secrets

app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0, 1 with one plain sentence, or 2 if the command line is wrong."""
    accept_all_characters()
    leave_out("httpx._main")  # its own command line takes longer to load than all else of httpx
    try:
        app(args=arguments, prog_name=command())
    except (DashboardError, FeedError) as error:
        print(without_known_secrets(error.sentence), file=sys.stderr)
        raise SystemExit(1) from None
    except Exception:  # a defect: its trace helps, but what it quotes may be a secret
        print(without_known_secrets(traceback.format_exc()), end="", file=sys.stderr)
        raise SystemExit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"progress-dashboard {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=f"Example: {command('--port 9000 --no-browser')}")
def start(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; default: 8000.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    data_dir: DataDir = None,
    reload: Annotated[bool, typer.Option("--reload", help="For developers: restart when the code changes.")] = False,
    native: Annotated[bool, typer.Option("--native", help="Open a native window instead of the browser.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Show the progress of batches of videos in real time.

    Without a command the server starts, and the dashboard opens in a browser, signed in.
    """
    if context.invoked_subcommand is not None:
        _refuse_misplaced_options(context)
        from backend.settings import unknown_settings  # `--help` and `--version` do without the settings

        for sentence in unknown_settings(os.environ):
            print(f"Warning: {sentence}", file=sys.stderr)
        return
    from ui.cli.serve import serve  # the web server's libraries are slow to load, and no other command needs them

    serve(host=host, port=port, no_browser=no_browser, data_dir=data_dir, reload=reload, native=native)


def _refuse_misplaced_options(context: typer.Context) -> None:
    if misplaced := [name for name, value in context.params.items() if value]:
        option = f"--{misplaced[0].replace('_', '-')}"
        raise typer.BadParameter(
            f"{option} comes before the command; write it after the command, if the command has it."
        )
