"""The commands by name. Each is loaded when it is used: another one's libraries would only make it slower to start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

MODULES: Mapping[str, str] = MappingProxyType(  # in the order of the help
    {
        "token": "ui.cli.token",
        "login-link": "ui.cli.login_link",
        "submit": "ui.cli.submit",
        "watch": "ui.cli.watch.command",
        "pause": "ui.cli.pause",
        "resume": "ui.cli.resume",
        "cancel": "ui.cli.cancel",
        "retry": "ui.cli.retry",
        "export": "ui.cli.export",
        "stats": "ui.cli.stats",
        "channels": "ui.cli.channels",
        "backup": "ui.cli.backup",
        "move-to": "ui.cli.move_to",
        "worker": "ui.cli.worker",
        "users": "ui.cli.users",
    }
)


class LazyCommands(Mapping[str, Any]):
    """The commands as Typer wants them, by name. A module has one function of its command's name, or an `app`."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _load(name, import_module(MODULES[name]))
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, *, commands: object = None, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()  # type: ignore[assignment]  # they are only read


def _load(name: str, module: Any) -> Any:
    parent = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if hasattr(module, "app"):
        parent.add_typer(module.app, name=name)
    else:
        parent.command(name, epilog=module.EXAMPLE)(getattr(module, name.replace("-", "_")))
    return get_group(parent).commands[name]
