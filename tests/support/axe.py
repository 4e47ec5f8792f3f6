"""The rules of axe-core, applied to an open page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

GRAVE = ("serious", "critical")
ALL_RULES: Mapping[str, Any] = {"resultTypes": ["violations"]}
RULES_OF_A_THEME: Mapping[str, Mapping[str, Any]] = {"light": ALL_RULES, "dark": {"runOnly": ["color-contrast"]}}
IS_SHOWN = """theme => (document.documentElement.dataset.theme ?? theme) === theme
    && !document.getAnimations().some((animation) => animation instanceof CSSTransition)"""


def grave_findings(page: Page) -> list[str]:
    """Return the serious and critical findings, one line each: the rule, its demand, and the elements that break it.

    Applies all rules in the light theme, and those of colours in the dark theme too. The page stays dark.
    """
    page.evaluate(Axe().axe_script)
    return [f"{theme}, {finding}" for theme in RULES_OF_A_THEME for finding in _findings(page, theme)]


def _findings(page: Page, theme: str) -> list[str]:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.wait_for_function(IS_SHOWN, arg=theme)
    found = page.evaluate("rules => axe.run(rules).then(({ violations }) => violations)", RULES_OF_A_THEME[theme])
    return [_in_words(rule) for rule in found if rule["impact"] in GRAVE]


def _in_words(rule: dict[str, Any]) -> str:
    where = "; ".join(f"{' '.join(map(str, node['target']))}: {node['failureSummary']}" for node in rule["nodes"])
    return f"{rule['impact']}, {rule['id']}: {rule['help']}: {where}"
