"""How every page looks: the frame around it, the look of a status, and the few plain elements that pages are made of.

The colours are the tokens of `theme.css`. All data given here ends as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nicegui import context, ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from backend.domain.auth import User
from progress_dashboard.protocol import Status

CSS = (Path(__file__).parent / "theme.css").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class StatusLook:
    """How a status is shown: a Material icon and the word; the colour comes from `theme.css`."""

    icon: str
    word: str


STATUS_LOOK: Mapping[Status, StatusLook] = {
    Status.PENDING: StatusLook("schedule", Status.PENDING.words),
    Status.PROCESSING: StatusLook("autorenew", Status.PROCESSING.words),
    Status.PAUSED: StatusLook("pause_circle", Status.PAUSED.words),
    Status.COMPLETED: StatusLook("check_circle", Status.COMPLETED.words),
    Status.COMPLETED_WITH_ERRORS: StatusLook("warning_amber", Status.COMPLETED_WITH_ERRORS.words),
    Status.FAILED: StatusLook("error_outline", Status.FAILED.words),
    Status.CANCELLED: StatusLook("block", Status.CANCELLED.words),
}
STALLED_LOOK = StatusLook("hourglass_empty", "stalled")
"""Beside the status of a job that stands still."""

PAGES = (
    ("dashboard", "Dashboard", "/", "grid_view"),
    ("lists", "Lists", "/lists", "playlist_add"),
    ("history", "History", "/history", "history"),
)

# Runs before the first paint, so that a dark page never flashes white; Quasar is told once it is there.
THEME_SCRIPT = """
(() => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => { try { return localStorage.getItem("theme") } catch { return null } };
  let chosen = kept();
  const apply = () => {
    const choice = ["light", "dark"].includes(chosen) ? chosen : "auto";
    root.dataset.choice = choice;
    root.dataset.theme = choice === "auto" ? (system.matches ? "dark" : "light") : choice;
    window.Quasar?.Dark?.set(root.dataset.theme === "dark");
    document.querySelectorAll(".theme-button").forEach((button) => {
      button.title = `Theme: ${choice}`;
      button.setAttribute("aria-label", `Theme: ${choice}`);
    });
  };
  window.nextTheme = () => {
    chosen = { auto: "light", light: "dark", dark: "auto" }[root.dataset.choice];
    try { localStorage.setItem("theme", chosen) } catch { /* not remembered then, but applied */ }
    document.cookie = `theme=${chosen}; path=/; max-age=31536000; samesite=lax`; // for the pages without scripts
    apply();
  };
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", () => { chosen = kept(); apply() });
  addEventListener("DOMContentLoaded", apply);
  const closeMenus = (except) => document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(except)) menu.open = false;
  });
  addEventListener("click", (event) => closeMenus(event.target));
  addEventListener("keydown", (event) => { if (event.key === "Escape") closeMenus(null) });
})();
"""


@contextmanager
def frame(title: str, active: str, user: User, *, banner: Callable[[], object]) -> Iterator[Element]:
    """Everything round a page's content, which goes into the yielded element, inside `<main>`.

    `title` names the tab; `active` is the page's name in `PAGES`, or "" for none; `banner` draws the connection banner
    (`lambda: ConnectionBanner(settings)`).
    """
    _head(title)
    client = context.client
    with client.layout:  # beside the page's own <main>, which Quasar makes
        bar, below = tag("header", classes="top"), tag("nav", classes="bottom").props('aria-label="Pages"')
    bar.move(target_index=0)
    with bar:
        with tag("a", classes="brand").props('href="/" aria-label="Progress dashboard"'):
            tag("b")
            tag("span", "Progress")
        with tag("nav").props('aria-label="Pages"'):
            _links(active, with_icons=False)
        with tag("div", classes="tail"):
            banner()
            _theme_button()
            _account_menu(user)
    with below:
        _links(active, with_icons=True)
    ui.skip_link(target=client.content)
    with client.content:
        yield client.content


def tag(name: str, text: str = "", *, classes: str = "") -> TextElement:
    """A plain HTML element; `text` is shown as it is, markup in it as well."""
    return TextElement(tag=name, text=text).classes(classes)


def icon(name: str, *, small: bool = False) -> Element:
    """A Material icon as an ornament: assistive technology skips it, and the page's text does not contain its name."""
    element = tag("span", classes="i s" if small else "i").props("aria-hidden=true")
    element.props["data-icon"] = name
    return element


def button(text: str, on_click: Callable[..., Any] | None = None, *, kind: str = "", icon_name: str = "") -> Element:
    """A button; `kind` is "primary" (one a page), "ghost", "link" or ""."""
    element = tag("button", classes=kind).props("type=button")
    with element:
        if icon_name:
            icon(icon_name, small=True)
        tag("span", text)
    return element.on("click", on_click) if on_click else element


def link(text: str, target: str, *, classes: str = "", icon_name: str = "") -> Element:
    """A link to a path that we made ourselves; with `classes="btn"` it looks like a button."""
    element = tag("a", classes=classes)
    element.props["href"] = target
    with element:
        if icon_name:
            icon(icon_name, small=True)
        tag("span", text)
    return element


def status_badge(status: Status) -> Element:
    """Icon, word and colour of a job's status."""
    look = STATUS_LOOK[status]
    element = tag("span", classes="status")
    element.props["data-status"] = status.value
    with element:
        icon(look.icon, small=True)
        tag("span", look.word)
    return element


def stalled_badge() -> Element:
    """That a job stands still, beside its status, which stays what it was."""
    with tag("span", classes="status stalled") as element:
        icon(STALLED_LOOK.icon, small=True)
        tag("span", STALLED_LOOK.word)
    return element


def looks(statuses: Iterable[Status] = Status) -> dict[str, dict[str, str]]:
    """The icon and the word of each status, by its value, for a component that draws them itself."""
    return {status.value: asdict(STATUS_LOOK[status]) for status in statuses}


def whose_jobs(user: User) -> str:
    """Whose jobs this person sees, in words."""
    return "You see everybody's jobs" if user.is_admin else "You see only your own jobs"


def _head(title: str) -> None:
    nonce = getattr(context.client.request.state, "csp_nonce", "")
    ui.page_title(title)
    ui.add_head_html(f"<style>{CSS}</style>")
    ui.add_head_html(f'<script nonce="{nonce}">{THEME_SCRIPT}</script>')


def _links(active: str, *, with_icons: bool) -> None:
    for name, text, path, icon_name in PAGES:
        element = link(text, path)
        if with_icons:
            with element:
                icon(icon_name).move(target_index=0)
        if name == active:
            element.props('aria-current="page"')


def _theme_button() -> None:
    with tag("button", classes="ghost theme-button").props('type=button aria-label="Theme"') as element:
        icon("contrast")
    element.on("click", js_handler="() => window.nextTheme()")


def _account_menu(user: User) -> None:
    with tag("details", classes="menu"):
        summary = tag("summary")
        summary.props["aria-label"] = f"Account: {user.name}"
        with summary:
            icon("account_circle")
            tag("span", user.name, classes="who")
        with tag("div"):
            role = ", an administrator" if user.is_admin else ""
            tag("div", f"Signed in as {user.name}{role}", classes="strong")
            tag("div", whose_jobs(user), classes="muted small")
            with tag("button", classes="keys").props("type=button data-offline") as keys:
                icon("keyboard", small=True)
                tag("span", "Keyboard shortcuts")
                tag("kbd", "?").props("aria-hidden=true")
            keys.on("click", js_handler='() => dispatchEvent(new Event("shortcuts"))')
            with tag("form").props('method="post" action="/logout"'), tag("button").props("type=submit"):
                icon("logout", small=True)
                tag("span", "Sign out")
