"""The settings: what is refused, what is replaced, and what is warned of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.errors import CannotStart
from backend.settings import Settings, load_settings, unknown_settings
from ui.cli import main

Load = Callable[..., Settings]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home directory of a user without settings, whose working directory is another one."""
    for name in [name for name in os.environ if name.upper().startswith("DASH")]:
        monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("VIDEOS", "/srv/videos")
    monkeypatch.delenv("NOPE", raising=False)
    monkeypatch.chdir(work)
    return home


@pytest.fixture(params=["the environment", "the file .env", "the command line"])
def given(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that gives settings in one of the ways that there are."""

    def load(**settings: str) -> Settings:
        if request.param == "the command line":
            return load_settings(**settings)
        if request.param == "the environment":
            for name, value in settings.items():
                monkeypatch.setenv(f"DASHBOARD_{name.upper()}", value)
        else:
            Path(".env").write_text(
                "".join(f"DASHBOARD_{name.upper()}='{value}'\n" for name, value in settings.items())
            )
        return load_settings()

    return load


@pytest.mark.parametrize(
    ("text", "below_home"), [("~/dash", "dash"), ("$HOME/dash", "dash"), ("${HOME}/a b/dash", "a b/dash"), ("~", ".")]
)
def test_the_home_directory_is_meant_by_its_short_names(given: Load, home: Path, text: str, below_home: str) -> None:
    settings = given(data_dir=text, media_dir=text, database_url=f"sqlite:///{text}/dash.sqlite3")
    assert {settings.data_dir, settings.media} == {home / below_home}
    assert settings.database_path == home / below_home / "dash.sqlite3"


def test_other_variables_are_replaced_in_paths(given: Load) -> None:
    assert given(media_dir="$VIDEOS/new").media == Path("/srv/videos/new")


@pytest.mark.parametrize("text", ["/srv/~backup", "/srv/5$", "/srv/a$-b", "data", "./~"])
def test_other_names_are_taken_as_they_are(given: Load, text: str) -> None:
    assert given(data_dir=text).data_dir == Path(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [("$NOPE/dash", "the variable $NOPE is not set"), ("~nobody-here/dash", "~nobody-here has no home directory")],
)
@pytest.mark.parametrize("name", ["data_dir", "media_dir", "database_url"])
def test_a_path_that_leads_nowhere_is_refused(given: Load, name: str, text: str, why: str) -> None:
    value = f"sqlite:///{text}" if name == "database_url" else text
    with pytest.raises(CannotStart) as refused:
        given(**{name: value})
    assert str(refused.value) == f"DASHBOARD_{name.upper()} {value!r} is not valid: {why}; correct it and start again."


@pytest.mark.parametrize(
    "url", ["http://host/dash", "https://ops.example/a/b/", "http://host/?x=1", "http://host/#/dash", "http://host//x"]
)
def test_a_public_address_below_a_path_is_refused_with_the_reason(given: Load, url: str) -> None:
    with pytest.raises(
        CannotStart, match=r"DASHBOARD_PUBLIC_URL .* cannot be served below a path; give it a host name"
    ):
        given(public_url=url)


@pytest.mark.parametrize(
    "url", ["ops.example", "ftp://host", "http://", "http://:80", "http://host:port", "http://a b", "http://0.0.0.0:80"]
)
def test_a_public_address_that_is_none_is_refused(given: Load, url: str) -> None:
    with pytest.raises(CannotStart, match=r"PUBLIC_URL .* must start with http:// or https:// and a host name"):
        given(public_url=url)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://ops.example/", "https://ops.example"),
        (" http://host:8443 ", "http://host:8443"),
        ("http://[::1]:8000//", "http://[::1]:8000"),
    ],
)
def test_a_public_address_is_kept_without_its_last_slash(url: str, base: str) -> None:
    assert load_settings(public_url=url).base_url == base


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("DASHBOARD_MAX_RUNING_JOBS", "DASHBOARD_MAX_RUNNING_JOBS"),
        ("dashboard_media_directory", "DASHBOARD_MEDIA_DIR"),
        ("DASHBOARD_DATADIR", "DASHBOARD_DATA_DIR"),
        ("DASHBOARD_TOKENS", "DASHBOARD_TOKEN"),
        ("DASHBORD_PORT", "DASHBOARD_PORT"),
    ],
)
def test_a_misspelt_name_is_warned_of_wherever_it_is(name: str, meant: str) -> None:
    advice = f"is not a setting of this version and was ignored; did you mean {meant}?"
    assert unknown_settings([name, "PATH"]) == [f"{name} {advice}"]
    Path(".env").write_text(f"\ufeffexport {name}=9\nDASHBOARD_PORT=8001\nOTHER=1\n", encoding="utf-8")
    assert unknown_settings([]) == [f"{name} in the file .env {advice}"]


def test_an_unknown_name_is_warned_of_without_a_guess() -> None:
    assert unknown_settings(["DASHBOARD_COLOUR_OF_THE_SKY", "DASH", "DASHLANE_TOKEN", "dashboard_port"]) == [
        "DASHBOARD_COLOUR_OF_THE_SKY is not a setting of this version and was ignored; the README lists them all."
    ]


@pytest.mark.parametrize("arguments", [("users", "list"), ("watch",), ("backup", "copy")], ids=" ".join)
def test_each_command_warns_of_unknown_names(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("DASHBOARD_TOKN=secret-value\nDASHBOARD_TOKEN=no token\n")
    with pytest.raises(SystemExit):
        main(arguments)
    shown = capsys.readouterr().err
    assert shown.count("Warning: DASHBOARD_TOKN in the file .env is not a setting") == 1
    assert "secret-value" not in shown


def test_an_env_file_that_is_not_utf_8_is_refused_in_one_sentence() -> None:
    Path(".env").write_bytes("DASHBOARD_ADMIN_PASSWORD=Übergrößen\n".encode("latin-1"))
    for reading in (load_settings, lambda: unknown_settings([])):
        with pytest.raises(
            CannotStart, match=r"^The file \.env is not UTF-8 text; save it as UTF-8 and start again\.$"
        ):
            reading()


@pytest.mark.parametrize("url", ["http://host/dash", "https://ops.example:8443/x/y"])
def test_a_sign_in_link_below_a_path_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["login-link", "--url", url])
    assert exited.value.code == 1
    assert "cannot be served below a path" in capsys.readouterr().err
