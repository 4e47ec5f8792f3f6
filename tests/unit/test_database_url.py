"""Addresses of PostgreSQL databases: used with their passwords, shown without."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.database_url import DatabaseUrl, shown_url
from backend.errors import CannotStart
from backend.settings import load_settings

SECRET = "s3cr%40t:w0rd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://ana:{SECRET}@db/dash", "postgresql://ana@db/dash"),
        (f"postgres://ana:{SECRET}@db:5433,other:5434/dash?sslmode=require", "postgres://ana@db:5433,other:5434/dash"),
        (f"postgresql://db/dash?user=ana&password={SECRET}", "postgresql://db/dash"),
        (f"postgresql://:{SECRET}@/dash?host=/run/postgresql", "postgresql://@/dash"),
        (f"postgresql://ana:{SECRET}@[::1]/dash?sslpassword={SECRET}", "postgresql://ana@[::1]/dash"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    address = DatabaseUrl(url)
    assert (address.shown, str(address), address.secret) == (shown, shown, url)
    assert all(SECRET not in text and "s3cr@t:w0rd" not in text for text in (repr(address), address.libpq))
    assert {SECRET, "s3cr@t:w0rd"} <= address.secrets


def test_the_programs_of_postgresql_get_all_but_the_password() -> None:
    address = DatabaseUrl(f"postgresql://ana:{SECRET}@db/dash?sslmode=require&password={SECRET}&connect_timeout=3")
    assert address.libpq == "postgresql://ana@db/dash?sslmode=require&connect_timeout=3"


def test_of_an_unknown_address_only_its_beginning_is_shown() -> None:
    assert shown_url(f"mysql://{SECRET}@db") == "mysql://…"


def test_the_settings_keep_the_address_secret(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, database_url=f"postgresql://ana:{SECRET}@db/dash")
    assert settings.database == DatabaseUrl(f"postgresql://ana:{SECRET}@db/dash")
    assert SECRET not in repr(settings) + settings.model_dump_json()


def test_without_an_address_the_database_is_a_file_in_the_data_directory(tmp_path: Path) -> None:
    assert load_settings(data_dir=tmp_path).database == tmp_path / "dashboard.sqlite3"
    assert load_settings(data_dir=tmp_path, database_url="sqlite:////srv/dash.db").database == Path("/srv/dash.db")


def test_another_database_is_refused_without_its_secrets(tmp_path: Path) -> None:
    with pytest.raises(CannotStart) as refused:
        load_settings(data_dir=tmp_path, database_url=f"postgresql+asyncpg://ana:{SECRET}@db/dash")
    assert refused.value.sentence == (
        "DASHBOARD_DATABASE_URL 'postgresql+asyncpg://…' is not valid: must start with postgresql:// or sqlite:///; "
        "correct it and start again."
    )
