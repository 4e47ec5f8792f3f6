"""`channels`: the channels on which you are told about jobs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import httpx
import typer

from backend.command import command
from backend.errors import Invalid, NotFound
from ui.cli.client import checked, connected
from ui.cli.data import DataDir

app = typer.Typer(
    no_args_is_help=True,
    help="List, add, test and remove the channels on which you are told about jobs: webhooks, or services of Apprise.",
    epilog=f"Example: {command('channels list')}",
)
EVENTS = "completed, with_errors, failed, stalled, paused_itself, slower, faster, recovered, disk_low"
STDIN = "-"
WEB_SCHEMES = ("http://", "https://")
ChannelArgument = Annotated[
    str, typer.Argument(metavar="CHANNEL", help="ID of a channel or enough of its beginning, or its name.")
]
MORE_WORDS = {"allow_extra_args": True}  # so that `_refuse_more` answers, and not the library, which repeats them


@app.command("list", epilog=f"Example: {command('channels list')}")
def list_(data_dir: DataDir = None) -> None:
    """List your channels, and those for all if you are an administrator. Addresses are masked."""
    with connected(data_dir) as client:
        channels = _channels(client)
    print(table(channels) if channels else "There are no channels.")


@app.command(
    "add", context_settings=MORE_WORDS, epilog=f"Example: {command('channels add - --event failed < address')}"
)
def add(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="An https address, or one of Apprise; - reads it from the first line of standard input."
        ),
    ],
    name: Annotated[str | None, typer.Option(help="A name for it; default: what may be shown of the address.")] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help=f"What it tells, one of {EVENTS}; may be repeated. Default: what you chose to be told of."),
    ] = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="Read the webhook's secret from the next line of standard input.")
    ] = False,
    for_all: Annotated[bool, typer.Option("--all", help="For the jobs of all users; for administrators.")] = False,
    apprise: Annotated[bool, typer.Option("--apprise", help="Give an http address to Apprise.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Add a channel. Other users of this machine can see an address on the command line, so rather send it with -."""
    _refuse_more(context)
    address = _line("address") if url == STDIN else url
    is_webhook = address.lower().startswith(WEB_SCHEMES) and not apprise
    request: dict[str, Any] = {"kind": "webhook" if is_webhook else "apprise", "url": address, "for_all": for_all}
    request |= {"name": name} if name else {}
    request |= {"events": event} if event else {}
    request |= {"secret": _line("secret")} if secret_stdin else {}
    with connected(data_dir) as client:
        added = checked(client.post("/api/channels", json=request)).json()
    print(f"{added['name']}: added; to try it: {command('channels test ' + added['id'][:8])}")


@app.command("test", epilog=f"Example: {command('channels test 3f2a91c0')}")
def send_test(channel: ChannelArgument, data_dir: DataDir = None) -> None:
    """Send a test to a channel."""
    with connected(data_dir) as client:
        found = _find(client, channel)
        checked(client.post(f"/api/channels/{found['id']}/test"))
    print(f"{found['name']}: the test was sent")


@app.command("remove", epilog=f"Example: {command('channels remove 3f2a91c0')}")
def remove(channel: ChannelArgument, data_dir: DataDir = None) -> None:
    """Remove a channel, and what waits on it."""
    with connected(data_dir) as client:
        found = _find(client, channel)
        checked(client.delete(f"/api/channels/{found['id']}"))
    print(f"{found['name']}: removed")


def table(channels: Sequence[Mapping[str, Any]]) -> str:
    """Return the channels as aligned columns."""
    rows = [("ID", "NAME", "ADDRESS", "FOR", "STATE", "LAST SENT"), *map(_row, channels)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(channel: Mapping[str, Any]) -> tuple[str, ...]:
    state = channel["last_error"] or "on" if channel["enabled"] else channel["disabled_because"] or "off"
    sent = f"{channel['last_sent_at'][:16].replace('T', ' ')} UTC" if channel["last_sent_at"] else "never"
    whom = "all" if channel["for_all"] else "you"
    return channel["id"][:8], channel["name"], channel["url"], whom, state, sent


def _channels(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = checked(client.get("/api/channels")).json()
    return found


def _find(client: httpx.Client, given: str) -> dict[str, Any]:
    wanted = given.strip()
    found = [
        channel
        for channel in _channels(client)
        if wanted and (channel["id"].startswith(wanted.lower()) or channel["name"] == wanted)
    ]
    if not found:
        raise NotFound(f"There is no such channel; `{command('channels list')}` lists yours.")
    if len(found) > 1:
        raise Invalid("Several channels have that name or an ID that begins so; write more of the ID.")
    return found[0]


def _line(what: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(what.capitalize(), hide_input=True))
    try:
        line = sys.stdin.buffer.readline().decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Invalid(f"The {what} on standard input is not UTF-8 text; send it as UTF-8.") from None
    if not line:
        raise Invalid(f"There is no {what} on standard input; send it as a line.")
    return line


def _refuse_more(context: typer.Context) -> None:
    if context.args:
        raise typer.BadParameter("Give only the address; other values belong behind their options.")
