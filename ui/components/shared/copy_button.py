"""A small button that copies a text, also over plain HTTP."""

from __future__ import annotations

from nicegui.element import Element

from ui.components.shared import BROWSER_JS


class CopyButton(Element, component="copy_button.js", dependencies=[BROWSER_JS]):
    """A button that copies `value`. `label` says what that is, as in "Copy the job ID"."""

    def __init__(self, value: str, *, label: str) -> None:
        super().__init__()
        self._props["value"] = value
        self._props["label"] = label
