"""The look of every page: its frame, the look of each status, and the plain elements that pages are made of.

The colours are the tokens of `theme.css`. All data that comes in here is shown as text, never as markup.
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
TRANSLATION_SCRIPT = (Path(__file__).parent / "translated_pages.js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class StatusLook:
    """The icon (of Material) and the word of a status. Its colour comes from `theme.css`."""

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
"""The look of the badge beside the status of a stalled job."""
WAITING_ICON = "cloud_off"
"""The icon before the reason why no machine takes the videos of a job."""

PROBLEMS = "problems"
PAGES = (
    ("dashboard", "Dashboard", "/", "grid_view"),
    ("lists", "Lists", "/lists", "playlist_add"),
    ("history", "History", "/history", "history"),
    (PROBLEMS, "Problems", "/problems", "error_outline"),
    ("stats", "Statistics", "/stats", "query_stats"),
    ("machines", "Machines", "/machines", "dns"),
)
FOR_ADMINISTRATORS = frozenset({"machines"})

# Runs before the first paint, so that a dark page never flashes white. Quasar gets the theme once it is loaded.
THEME_SCRIPT = """
(() => {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("theme") } catch { return null } };
  let chosen = stored();
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
    try { localStorage.setItem("theme", chosen) } catch { /* applied, but not stored */ }
    document.cookie = `theme=${chosen}; path=/; max-age=31536000; samesite=lax`; // for the pages without scripts
    apply();
  };
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", () => { chosen = stored(); apply() });
  addEventListener("DOMContentLoaded", apply);
  const closeMenus = (except) => document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(except)) menu.open = false;
  });
  addEventListener("click", (event) => closeMenus(event.target));
  addEventListener("keydown", (event) => { if (event.key === "Escape") closeMenus(null) });
})();
"""


class Tally(TextElement):
    """A number beside a link. Assistive technology gets its words as the description of the link."""

    def __init__(self, beside: Element) -> None:
        super().__init__(tag="span", text="")
        self.classes("tally").props("aria-hidden=true data-testid=problem-count")
        self._beside = beside

    def show(self, number: str, words: str) -> None:
        """Show the number, "" for none."""
        if self.text != number:
            self.text = number
            self._beside.props["title"] = words if number else None


@contextmanager
def frame(title: str, active: str, user: User, *, banner: Callable[[], object]) -> Iterator[Element]:
    """Draw the frame of a page, and yield the element for its content, inside `<main>`.

    `title` names the tab; `active` is the page's name in `PAGES`, or "" for none; `banner` draws the connection banner
    (`lambda: ConnectionBanner(settings)`).
    """
    _head(title)
    client = context.client
    with client.layout:  # next to the page's own <main>, which Quasar makes
        bar, below = tag("header", classes="top"), tag("nav", classes="bottom").props('aria-label="Pages"')
    bar.move(target_index=0)
    with bar:
        with tag("a", classes="brand").props('href="/" aria-label="Progress dashboard"'):
            tag("b")
            tag("span", "Progress")
        with tag("nav").props('aria-label="Pages"'):
            _links(active, user, with_icons=False)
        with tag("div", classes="tail"):
            banner()
            _theme_button()
            _account_menu(user)
    with below:
        _links(active, user, with_icons=True)
    ui.skip_link(target=client.content)
    with client.content:
        yield client.content


def tag(name: str, text: str = "", *, classes: str = "") -> TextElement:
    """Return a plain HTML element. Markup in `text` is shown as text. IDs and paths ("mono") are never translated."""
    element = TextElement(tag=name, text=text).classes(classes)
    return element.props("translate=no") if "mono" in classes.split() else element


def icon(name: str, *, small: bool = False) -> Element:
    """Return a Material icon as an ornament.

    Assistive technology skips it, and the page's text does not contain its name.
    """
    element = tag("span", classes="i s" if small else "i").props("aria-hidden=true")
    element.props["data-icon"] = name
    return element


def button(text: str, on_click: Callable[..., Any] | None = None, *, kind: str = "", icon_name: str = "") -> Element:
    """Return a button. `kind` is "primary" (one on each page), "ghost", "link" or ""."""
    element = tag("button", classes=kind).props("type=button")
    with element:
        if icon_name:
            icon(icon_name, small=True)
        tag("span", text)
    return element.on("click", on_click) if on_click else element


def link(text: str, target: str, *, classes: str = "", icon_name: str = "") -> Element:
    """Return a link to a path that this program made. `classes="btn"` makes it look like a button."""
    element = tag("a", classes=classes)
    element.props["href"] = target
    with element:
        if icon_name:
            icon(icon_name, small=True)
        tag("span", text)
    return element


def status_badge(status: Status) -> Element:
    """Draw the icon, word and colour of a job's status."""
    look = STATUS_LOOK[status]
    element = tag("span", classes="status")
    element.props["data-status"] = status.value
    with element:
        icon(look.icon, small=True)
        tag("span", look.word)
    return element


def stalled_badge() -> Element:
    """Draw the badge of a stalled job. Its status stays as it was, next to the badge."""
    with tag("span", classes="status stalled") as element:
        icon(STALLED_LOOK.icon, small=True)
        tag("span", STALLED_LOOK.word)
    return element


def looks(statuses: Iterable[Status] = Status) -> dict[str, dict[str, str]]:
    """Return the icon and the word of each status, by its value, for a component that draws them itself."""
    return {status.value: asdict(STATUS_LOOK[status]) for status in statuses}


def whose_jobs(user: User) -> str:
    """Return in words whose jobs this user sees."""
    return "You see everybody's jobs" if user.is_admin else "You see only your own jobs"


def _head(title: str) -> None:
    nonce = getattr(context.client.request.state, "csp_nonce", "")
    ui.page_title(title)
    ui.add_head_html(f"<style>{CSS}</style>")
    for script in (THEME_SCRIPT, TRANSLATION_SCRIPT):
        ui.add_head_html(f'<script nonce="{nonce}">{script}</script>')


def _links(active: str, user: User, *, with_icons: bool) -> None:
    for name, text, path, icon_name in PAGES:
        if name in FOR_ADMINISTRATORS and not user.is_admin:
            continue
        element = link(text, path)
        if name == PROBLEMS:
            with element:
                Tally(element)
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
