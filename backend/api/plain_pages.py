"""Pages without scripts for browsers without a session: sign-in and errors."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.metadata import version

from backend.accounts.passwords import MAX_TYPED_LENGTH
from backend.command import command

FONTS = f"/_nicegui/{version('nicegui')}/static/fonts.css"
THEMES = ("light", "dark")
THEME_COOKIE = "theme"
DARK = """
  color-scheme: dark;
  --bg: #0e1319; --surface: #161d25; --line: #2a3541; --field: #6b7c8d; --text: #e8eef4; --muted: #9dadbc;
  --processing: #7ab5ff; --failed: #ff8a96; --run-fill: #4c9bff; --rest: #2a3541; --tint: 16%; --shadow: none;
"""
STYLE = """
:root {
  color-scheme: light;
  --bg: #f5f6f8; --surface: #fff; --line: #dfe4ea; --field: #7d8996; --text: #17212b; --muted: #55626f;
  --processing: #1565c8; --failed: #c02036; --run-fill: #2f80e4; --rest: #d3dae2; --tint: 9%;
  --shadow: 0 1px 2px rgb(16 24 40 / 5%), 0 12px 32px rgb(16 24 40 / 6%);
}
* { box-sizing: border-box }
body {
  margin: 0; min-height: 100vh; min-height: calc(100dvh / var(--zoom, 1)); padding: 24px 16px 12vh;
  display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 20px;
  background: var(--bg); color: var(--text); font: 14px/1.45 Roboto, system-ui, sans-serif;
  -webkit-font-smoothing: antialiased;
}
.brand { display: flex; gap: 10px; align-items: center; font-size: 16px; font-weight: 600; letter-spacing: -.01em }
.brand b {
  width: 24px; height: 24px; border-radius: 7px; background: conic-gradient(var(--run-fill) 0 62%, var(--rest) 0);
}
main {
  width: 100%; max-width: 376px; padding: 28px;
  background: var(--surface); border: 1px solid var(--line); border-radius: 12px; box-shadow: var(--shadow);
}
h1 { margin: 0 0 20px; font-size: 22px; line-height: 1.2; font-weight: 600; letter-spacing: -.01em }
form { display: grid; gap: 16px; margin: 0 }
label { display: grid; gap: 6px; font-size: 13px; font-weight: 500 }
input {
  width: 100%; height: 44px; padding: 0 12px; font: 16px/1 Roboto, system-ui, sans-serif; color: inherit;
  background: var(--bg); border: 1px solid var(--field); border-radius: 8px;
}
input[aria-invalid=true] { border-color: var(--failed) }
.act {
  display: block; width: 100%; height: 44px; margin-top: 4px; padding: 0 12px; border: 0; border-radius: 8px;
  cursor: pointer; background: var(--text); color: var(--bg); font: 500 14px/44px Roboto, system-ui, sans-serif;
  text-align: center; text-decoration: none;
}
:focus-visible { outline: 2px solid var(--processing); outline-offset: 2px }
[role=alert] {
  margin: 0 0 16px; padding: 10px 12px; border-radius: 8px; font-size: 13px; color: var(--failed);
  background: color-mix(in srgb, var(--failed) var(--tint), transparent);
}
p { margin: 0 0 16px; overflow-wrap: anywhere }
.muted {
  margin: 20px 0 0; padding-top: 16px; border-top: 1px solid var(--line); color: var(--muted); font-size: 12.5px;
}
code { font: 12px/1.4 "Roboto Mono", ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
@media (max-width: 400px) { main { padding: 24px 20px } }
@media (prefers-contrast: more) { :root { --line: var(--field); --muted: var(--text) } }
"""
THEMED = f"""
@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{{DARK}}} }}
:root[data-theme=dark] {{{DARK}}}
@media (min-width: 2560px) {{ :root {{ --zoom: 1.2; zoom: var(--zoom) }} }}
@media (min-width: 3400px) {{ :root {{ --zoom: 1.5; zoom: var(--zoom) }} }}
"""


def chosen_theme(cookies: Mapping[str, str]) -> str:
    """Return the theme that the user chose on the pages after the sign-in; "" for the system's theme."""
    chosen = cookies.get(THEME_COOKIE, "")
    return chosen if chosen in THEMES else ""


def login_page(*, nonce: str, theme: str, next_address: str, name: str = "", problem: str = "") -> str:
    """Return the sign-in form. `name` is the name typed before, `problem` the sentence about its error."""
    wrong = ' aria-invalid="true" aria-describedby="problem"' if problem else ""
    at_name, at_password = ("", " autofocus") if name else (" autofocus", "")
    alert = f'<p role="alert" id="problem">{escape(problem)}</p>' if problem else ""
    order = f'<code translate="no">{escape(command("login-link NAME"))}</code>'
    return _page(
        "Sign in",
        f"""<h1>Sign in</h1>
{alert}
<form method="post" action="/login">
<label>Username<input name="username" value="{escape(name)}" autocomplete="username" autocapitalize="none"
 spellcheck="false" maxlength="64" required{at_name}{wrong}></label>
<label>Password<input name="password" type="password" autocomplete="current-password"
 maxlength="{MAX_TYPED_LENGTH}" required{at_password}{wrong}></label>
<input type="hidden" name="next" value="{escape(next_address)}">
<button class="act">Sign in</button>
</form>
<p class="muted">No password yet? On the server, {order} prints a link that
signs NAME in once.</p>""",
        nonce,
        theme,
    )


def link_page(*, nonce: str, theme: str, name: str, link: str) -> str:
    """Return the page of a sign-in link that is still good: it names the user, and its one button signs in."""
    return _page(
        "Sign in",
        f"""<h1>Sign in</h1>
<p>This link signs you in as <b translate="no">{escape(name)}</b>. It works once.</p>
<form method="post" action="/link">
<input type="hidden" name="token" value="{escape(link)}">
<button class="act" autofocus>Sign in</button>
</form>""",
        nonce,
        theme,
    )


def problem_page(
    *, nonce: str, theme: str, title: str, sentence: str, to: str = "/", act: str = "Open the dashboard"
) -> str:
    """Return a page with an error in one sentence, and one link to continue."""
    return _page(
        title,
        f'<h1>{escape(title)}</h1>\n<p>{escape(sentence)}</p>\n<a class="act" href="{escape(to)}">{escape(act)}</a>',
        nonce,
        theme,
    )


def _page(title: str, body: str, nonce: str, theme: str) -> str:
    chosen = f' data-theme="{escape(theme)}"' if theme else ""
    return f"""<!doctype html>
<html lang="en"{chosen}><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)} · Progress</title>
<link rel="stylesheet" href="{FONTS}"><style nonce="{nonce}">{STYLE}{THEMED}</style></head>
<body><header class="brand"><b></b>Progress</header><main>
{body}
</main></body></html>
"""
