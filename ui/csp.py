"""Lets NiceGUI's own scripts run under a content policy that stops all others."""

from __future__ import annotations

from collections.abc import Callable

from jinja2 import BaseLoader, Environment
from nicegui.client import templates

SIGNED = 'nonce="{{ request.state.csp_nonce }}"'


class SigningLoader(BaseLoader):
    """A template loader that gives the template's own scripts the response's nonce.

    In the template, not in the response: a script that came in with data must not get it.
    """

    def __init__(self, loader: BaseLoader) -> None:
        self._loader = loader

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        source, name, is_fresh = self._loader.get_source(environment, template)
        signed = source.replace("<script", f"<script {SIGNED}")
        return signed.replace('<link rel="modulepreload"', f'<link rel="modulepreload" {SIGNED}'), name, is_fresh


def sign_scripts() -> None:
    """Make NiceGUI's page template carry `request.state.csp_nonce`; doing it twice changes nothing."""
    loader = templates.env.loader
    if isinstance(loader, BaseLoader) and not isinstance(loader, SigningLoader):
        templates.env.loader = SigningLoader(loader)
        if templates.env.cache is not None:
            templates.env.cache.clear()
