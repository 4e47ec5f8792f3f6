"""What commands hand out without the server's libraries: it is the same as what the accounts hand out."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backend.accounts.quick import open_quickly
from backend.errors import NotAllowed, NotSignedIn, UserNotFound
from tests.support.accounts import PASSWORD, AccountStore, open_account_store
from tests.support.clock import VirtualClock
from tests.support.databases import is_postgresql
from ui.cli.data import Issuer

HOUR = 3600


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def opened(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[AccountStore]:
    """Return the accounts of a server, with `admin`, `ana` and `bob`, who is disabled."""
    with open_account_store(tmp_path, clock) as opened:
        await opened.accounts.add_admin()
        await opened.accounts.add_user("ana", PASSWORD)
        await opened.accounts.add_user("bob", PASSWORD, is_admin=True)
        await opened.accounts.disable("bob")
        yield opened


@pytest.fixture
def quick(opened: AccountStore, tmp_path: Path, clock: VirtualClock) -> Iterator[Issuer]:
    """Yield what commands use: on PostgreSQL, which is not opened quickly, the accounts themselves."""
    if is_postgresql():
        with open_account_store(tmp_path, clock) as other:
            yield other.accounts
        return
    with open_quickly(opened.settings, clock) as quick:
        assert quick is not None
        yield quick


async def test_users_are_the_same(opened: AccountStore, quick: Issuer) -> None:
    assert await quick.users() == await opened.accounts.users()
    assert await quick.user("ANA") == await opened.accounts.user("ana")


async def test_a_token_has_the_same_rights_and_end(opened: AccountStore, quick: Issuer, clock: VirtualClock) -> None:
    accounts, ana = opened.accounts, await quick.user("ana")
    tokens = [await of.issue_token(ana, lifetime_seconds=HOUR) for of in (accounts, quick)]
    usual, other = [await accounts.token(token) for token in tokens]
    assert (other.user, other.kind, other.expires_at) == (usual.user, usual.kind, usual.expires_at)
    assert len(await accounts.still_valid([usual, other])) == 2
    await clock.advance(HOUR)
    with pytest.raises(NotSignedIn):
        await accounts.token(tokens[1])


async def test_a_link_signs_in_once_after_a_question(opened: AccountStore, quick: Issuer) -> None:
    link = await quick.make_link(await quick.user("ana"), lifetime_seconds=HOUR)
    assert (await opened.accounts.use_link(link)).name == "ana"
    with pytest.raises(NotSignedIn):
        await opened.accounts.use_link(link)


async def test_the_same_is_refused_with_the_same_sentence(opened: AccountStore, quick: Issuer) -> None:
    bob, sentences = await quick.user("bob"), []
    for accounts in (opened.accounts, quick):
        with pytest.raises(NotAllowed) as no_token:
            await accounts.issue_token(bob, lifetime_seconds=HOUR)
        with pytest.raises(NotAllowed) as no_link:
            await accounts.make_link(bob, lifetime_seconds=HOUR)
        with pytest.raises(UserNotFound) as nobody:
            await accounts.user("nobody")
        sentences.append([str(refused.value) for refused in (no_token, no_link, nobody)])
    assert sentences[0] == sentences[1]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_a_database_of_another_version_is_not_touched(opened: AccountStore, clock: VirtualClock, revision: str) -> None:
    with closing(sqlite3.connect(opened.settings.database_path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with open_quickly(opened.settings, clock) as quick:
        assert quick is None


@pytest.mark.sqlite_only
@pytest.mark.parametrize("content", [None, b"", b"not a database" * 1000])
def test_what_is_no_database_is_not_opened_and_not_made(
    tmp_path: Path, clock: VirtualClock, content: bytes | None
) -> None:
    with open_account_store(tmp_path / "other", clock) as other:
        settings = other.settings.model_copy(update={"data_dir": tmp_path})
    path = settings.database_path
    if content is not None:
        path.write_bytes(content)
    with open_quickly(settings, clock) as quick:
        assert quick is None
    assert (path.read_bytes() if path.exists() else None) == content
