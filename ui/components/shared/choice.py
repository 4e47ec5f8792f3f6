"""A drop-down list, drawn by the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from ui.theme import tag


def choice(
    options: Mapping[str, str], value: str, *, label: str, on_choice: Callable[[str], Awaitable[None]]
) -> Element:
    """Return a list of `options` (value -> words). `on_choice` gets the chosen value, which is always one of these."""

    async def chosen(event: GenericEventArguments) -> None:
        if event.args in options:
            await on_choice(event.args)

    element = tag("select", classes="field")
    element.props["aria-label"] = label
    with element:
        for option, words in options.items():
            entry = tag("option", words)
            entry.props["value"] = option
            entry.props["selected"] = option == value
    return element.on("change", chosen, js_handler="(event) => emit(event.target.value)")
