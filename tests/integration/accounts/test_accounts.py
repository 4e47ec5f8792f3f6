"""Accounts over a real database, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import statistics
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from backend.accounts.accounts import Accounts
from backend.domain.auth import User
from backend.errors import (
    CannotStart,
    Conflict,
    Invalid,
    NotAllowed,
    NotSignedIn,
    TooManyAttempts,
    UserNotFound,
    WrongPassword,
)
from backend.settings import load_settings
from backend.store.database import Database
from tests.support.accounts import PASSWORD, SECRET, accounts_over
from tests.support.clock import VirtualClock
from tests.support.databases import FILE, change, new_database, rows

HOME = "192.0.2.1"
HOUR = 3600
TABLES = ('"user"', "session", "token", "login_link")
DAY = 24 * HOUR


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = new_database(tmp_path / FILE)
    yield database
    database.close()


@pytest.fixture
def accounts(tmp_path: Path, database: Database, clock: VirtualClock) -> Accounts:
    return accounts_in(tmp_path, database, clock)


@pytest.fixture
async def ana(accounts: Accounts) -> User:
    return await accounts.add_user("ana", PASSWORD)


def accounts_in(data_dir: Path, database: Database, clock: VirtualClock, **given: object) -> Accounts:
    """Return the accounts as a start of the server with these settings makes them."""
    return accounts_over(database, clock, load_settings(data_dir=data_dir, jwt_secret=SECRET, **given))


async def signed_in(accounts: Accounts, cookie: str) -> bool:
    return await accounts.session(cookie) is not None


async def accepted(accounts: Accounts, token: str) -> bool:
    try:
        await accounts.token(token)
    except NotSignedIn:
        return False
    return True


# Users.


async def test_names_in_any_case_are_one_account(accounts: Accounts, ana: User) -> None:
    with pytest.raises(Conflict, match="already a user ana"):
        await accounts.add_user("ANA", PASSWORD)
    assert await accounts.user("Ana") == ana == await accounts.sign_in("aNa", PASSWORD, address=HOME)


@pytest.mark.parametrize("name", ["", "a b", "ana\0", "\ud800", "<script>", "a" * 65])
async def test_a_name_of_other_characters_is_refused_and_unknown(accounts: Accounts, name: str) -> None:
    with pytest.raises(Invalid):
        await accounts.add_user(name, PASSWORD)
    with pytest.raises(UserNotFound):
        await accounts.user(name)
    with pytest.raises(WrongPassword):
        await accounts.sign_in(name, PASSWORD, address=HOME)


async def test_a_name_requested_several_times_at_once_is_given_once(accounts: Accounts) -> None:
    taken = await asyncio.gather(*(accounts.add_user("bob", PASSWORD) for _ in range(4)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in taken) == ["Conflict"] * 3 + ["User"]


async def test_the_database_holds_no_secrets(accounts: Accounts, ana: User, tmp_path: Path) -> None:
    """The database holds neither passwords nor the secrets of sessions, links and tokens."""
    cookie, link = await accounts.open_session(ana), await accounts.make_link(ana, lifetime_seconds=60)
    token = await accounts.issue_token(ana, lifetime_seconds=60)
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    dump = "\n".join(f"{row}" for table in TABLES for row in rows(tmp_path, f"SELECT * FROM {table}"))
    assert "argon2id" in dump
    assert not [secret for secret in (PASSWORD, cookie, link, token, jti, SECRET) if secret in dump]


@pytest.mark.sqlite_only
def test_only_its_owner_can_read_the_database(accounts: Accounts, database: Database, tmp_path: Path) -> None:
    change(tmp_path, "DELETE FROM token")
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{FILE}*")}
    assert modes == {0o600}


# Signing in.


async def test_every_failed_sign_in_gets_the_same_answer(accounts: Accounts, ana: User) -> None:
    """Unknown and disabled users get the same answer as a wrong password."""
    await accounts.add_user("gone", PASSWORD)
    await accounts.disable("gone")
    await accounts.add_user("linked", None)
    answers = set()
    for name, password in [
        ("ana", "wrong password"),
        ("nobody", PASSWORD),
        ("gone", PASSWORD),
        ("linked", ""),
        ("linked", PASSWORD),
        ("", ""),
    ]:
        with pytest.raises(WrongPassword) as refusal:
            await accounts.sign_in(name, password, address=HOME)
        answers.add((refusal.value.sentence, refusal.value.status))
    assert answers == {("The user name or the password is wrong.", 401)}


async def test_an_unknown_user_takes_as_long_as_a_wrong_password(accounts: Accounts, ana: User) -> None:
    """Without a hash for unknown users, one would be about fifty times as fast as the other."""
    seconds: dict[str, list[float]] = {"ana": [], "nobody": [], "not a name": []}
    for turn in range(8):
        for name, measured in seconds.items():
            started = time.perf_counter()
            with pytest.raises(WrongPassword):
                await accounts.sign_in(name, "wrong password", address=f"198.51.{turn}.1")
            measured.append(time.perf_counter() - started)
    medians = [statistics.median(measured) for measured in seconds.values()]
    assert max(medians) < 3 * min(medians)


async def test_the_sixth_sign_in_waits_even_with_the_right_password(
    accounts: Accounts, ana: User, clock: VirtualClock
) -> None:
    for _ in range(5):
        with pytest.raises(WrongPassword):
            await accounts.sign_in("ana", "wrong password", address=HOME)
    with pytest.raises(TooManyAttempts) as refusal:
        await accounts.sign_in("ana", PASSWORD, address=HOME)
    assert (refusal.value.status, refusal.value.retry_after) == (429, 1)
    assert await accounts.sign_in("ana", PASSWORD, address="198.51.100.1") == ana
    await clock.advance(1)
    assert await accounts.sign_in("ANA", PASSWORD, address=HOME) == ana


async def test_attempts_at_the_same_moment_count_too(accounts: Accounts, ana: User) -> None:
    tries = (accounts.sign_in("ana", "wrong password", address=HOME) for _ in range(12))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(answer) for answer in answers] == [WrongPassword] * 5 + [TooManyAttempts] * 7


async def test_other_spellings_of_a_name_give_no_more_attempts(accounts: Accounts, ana: User) -> None:
    for name in ("ana", "Ana", "aNa", "anA", "ANA"):
        with pytest.raises(WrongPassword):
            await accounts.sign_in(name, "wrong password", address=HOME)
    with pytest.raises(TooManyAttempts):
        await accounts.sign_in("AnA", PASSWORD, address=HOME)


async def test_a_success_resets_the_count(accounts: Accounts, ana: User) -> None:
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(WrongPassword):
                await accounts.sign_in("ana", "wrong password", address=HOME)
        assert await accounts.sign_in("ana", PASSWORD, address=HOME) == ana


# Sessions.


async def test_a_session_knows_its_user(accounts: Accounts, ana: User) -> None:
    authority = await accounts.session(await accounts.open_session(ana))
    assert authority is not None
    assert (authority.user, authority.kind) == (ana, "session")


@pytest.mark.parametrize("cookie", ["", "x", "\0", "\ud800", "é" * 5000])
async def test_an_invented_cookie_signs_nobody_in(accounts: Accounts, ana: User, cookie: str) -> None:
    await accounts.open_session(ana)
    assert not await signed_in(accounts, cookie)


async def test_each_sign_in_is_a_session_that_ends_alone(accounts: Accounts, ana: User) -> None:
    one, other = await accounts.open_session(ana), await accounts.open_session(ana)
    await accounts.end_session(one)
    await accounts.end_session(one)
    assert [await signed_in(accounts, one), await signed_in(accounts, other)] == [False, True]


async def test_a_session_ends_after_twelve_hours_without_use(
    accounts: Accounts, ana: User, clock: VirtualClock
) -> None:
    cookie = await accounts.open_session(ana)
    await clock.advance(11.9 * HOUR)
    assert await signed_in(accounts, cookie)
    await clock.advance(11.9 * HOUR)
    assert await signed_in(accounts, cookie)
    await clock.advance(12 * HOUR)
    assert not await signed_in(accounts, cookie)


async def test_a_session_in_use_ends_after_seven_days(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    cookie = await accounts.open_session(ana)
    for _ in range(20):
        await clock.advance(8 * HOUR)
        assert await signed_in(accounts, cookie)
    await clock.advance(8 * HOUR)
    assert not await signed_in(accounts, cookie)


async def test_use_is_stored_at_most_once_a_minute(
    accounts: Accounts, ana: User, clock: VirtualClock, tmp_path: Path
) -> None:
    cookie = await accounts.open_session(ana)
    seen = []
    for _ in range(4):
        await clock.advance(40)
        await accounts.session(cookie)
        seen += rows(tmp_path, "SELECT (last_seen_at - created_at) / 1000 FROM session")
    assert seen == [(0,), (80,), (80,), (160,)]


# Tokens.


async def test_a_token_knows_its_user_and_its_end(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    authority = await accounts.token(await accounts.issue_token(ana, lifetime_seconds=HOUR))
    assert (authority.user, authority.kind) == (ana, "token")
    assert (authority.expires_at - clock.now()).total_seconds() == HOUR


async def test_a_token_ends_with_its_own_time_where_its_row_lives_longer(
    accounts: Accounts, ana: User, clock: VirtualClock
) -> None:
    token = await accounts.issue_token(ana, lifetime_seconds=HOUR)
    claims = jwt.decode(token, options={"verify_signature": False})
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    for seconds, ends_after in ((60, 60), (DAY, HOUR), (10**30, HOUR)):
        other = jwt.encode(claims | {"exp": claims["iat"] + seconds}, SECRET, headers=header)
        authority = await accounts.token(other)
        assert (authority.expires_at - clock.now()).total_seconds() == ends_after


async def test_a_token_has_the_user_id_and_not_the_role(accounts: Accounts) -> None:
    boss = await accounts.add_user("boss", PASSWORD, is_admin=True)
    token = await accounts.issue_token(boss, lifetime_seconds=HOUR)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "exp", "iat", "sub", "jti", "purpose"}
    assert claims["sub"] == boss.id
    assert "kid" in jwt.get_unverified_header(token)


async def test_a_token_ends(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    token = await accounts.issue_token(ana, lifetime_seconds=HOUR)
    await clock.advance(HOUR)
    assert not await accepted(accounts, token)


@pytest.mark.parametrize("lifetime", [0, -1, 366 * DAY, float("nan"), float("inf")])
async def test_a_token_cannot_last_longer_than_a_year(accounts: Accounts, ana: User, lifetime: float) -> None:
    with pytest.raises(Invalid):
        await accounts.issue_token(ana, lifetime_seconds=lifetime)


async def test_a_token_for_another_purpose_is_refused(accounts: Accounts, ana: User) -> None:
    token = await accounts.issue_token(ana, lifetime_seconds=HOUR, purpose="metrics")
    assert not await accepted(accounts, token)
    assert (await accounts.token(token, purpose="metrics")).user == ana


async def test_a_leaked_key_forges_nothing(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    """A forged token has no row in the database."""
    token = await accounts.issue_token(ana, lifetime_seconds=HOUR)
    boss = await accounts.ensure_admin()
    claims = jwt.decode(token, options={"verify_signature": False})
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    for changed in ({"jti": "made up"}, {"sub": boss.id}, {"purpose": "metrics"}):
        assert not await accepted(accounts, jwt.encode(claims | changed, SECRET, headers=header)), changed
    assert await accepted(accounts, jwt.encode(claims, SECRET, headers=header))
    later = jwt.encode(claims | {"exp": claims["exp"] + DAY}, SECRET, headers=header)
    await clock.advance(HOUR)
    assert not await accepted(accounts, later)


async def test_other_spellings_of_a_token_end_with_it(accounts: Accounts, ana: User) -> None:
    """Decoders ignore padding: if tokens were revoked by their text, `token=` would stay valid."""
    token = await accounts.issue_token(ana, lifetime_seconds=HOUR)
    twins = [token + "=", token + "==", token]
    assert [await accepted(accounts, twin) for twin in twins].count(True) >= 2
    await accounts.set_password("ana", "another password")
    assert not any([await accepted(accounts, twin) for twin in twins])


# Sign-in links.


async def test_a_link_works_once(accounts: Accounts, ana: User) -> None:
    link = await accounts.make_link(ana, lifetime_seconds=60)
    answers = await asyncio.gather(*(accounts.use_link(link) for _ in range(5)), return_exceptions=True)
    assert answers.count(ana) == 1
    assert sum(isinstance(answer, NotSignedIn) for answer in answers) == 4


async def test_a_link_ends(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    link = await accounts.make_link(ana, lifetime_seconds=60)
    await clock.advance(60)
    with pytest.raises(NotSignedIn, match="login-link"):
        await accounts.use_link(link)


@pytest.mark.parametrize("link", ["", "\0", "\ud800", "x" * 100_000])
async def test_an_invented_link_signs_nobody_in(accounts: Accounts, ana: User, link: str) -> None:
    await accounts.make_link(ana, lifetime_seconds=60)
    with pytest.raises(NotSignedIn):
        await accounts.use_link(link)


# What ends them all.


@pytest.mark.parametrize("ending", ["disable", "new password"])
async def test_what_signs_a_user_in_ends_with_the_account(accounts: Accounts, ana: User, ending: str) -> None:
    """Disabling a user or setting a password ends their sessions, tokens and links at once, and no others."""
    bob = await accounts.add_user("bob", PASSWORD)
    cookie, token = await accounts.open_session(ana), await accounts.issue_token(ana, lifetime_seconds=HOUR)
    link, others = await accounts.make_link(ana, lifetime_seconds=HOUR), await accounts.open_session(bob)
    await (accounts.disable("ana") if ending == "disable" else accounts.set_password("ana", "another password"))
    assert [await signed_in(accounts, cookie), await accepted(accounts, token)] == [False, False]
    with pytest.raises(NotSignedIn):
        await accounts.use_link(link)
    assert await signed_in(accounts, others)


async def test_a_disabled_user_gets_nothing_new(accounts: Accounts, ana: User) -> None:
    """A `User` that was read before counts for nothing."""
    await accounts.disable("ana")
    for asked in (
        accounts.open_session(ana),
        accounts.issue_token(ana, lifetime_seconds=HOUR),
        accounts.make_link(ana, lifetime_seconds=HOUR),
    ):
        with pytest.raises(NotAllowed, match="ana is disabled"):
            await asked


async def test_a_user_disabled_in_the_database_is_signed_out(accounts: Accounts, ana: User, tmp_path: Path) -> None:
    cookie, token = await accounts.open_session(ana), await accounts.issue_token(ana, lifetime_seconds=HOUR)
    link = await accounts.make_link(ana, lifetime_seconds=HOUR)
    change(tmp_path, "UPDATE \"user\" SET disabled = true WHERE name = 'ana'")
    assert [await signed_in(accounts, cookie), await accepted(accounts, token)] == [False, False]
    with pytest.raises(NotSignedIn):
        await accounts.use_link(link)


async def test_only_the_new_password_counts(accounts: Accounts, ana: User) -> None:
    await accounts.set_password("ana", "another password")
    with pytest.raises(WrongPassword):
        await accounts.sign_in("ana", PASSWORD, address=HOME)
    assert await accounts.sign_in("ana", "another password", address=HOME) == ana


async def test_a_demotion_counts_within_a_second(accounts: Accounts, tmp_path: Path, clock: VirtualClock) -> None:
    boss = await accounts.add_user("boss", PASSWORD, is_admin=True)
    cookie, token = await accounts.open_session(boss), await accounts.issue_token(boss, lifetime_seconds=HOUR)
    before = [await accounts.session(cookie), await accounts.token(token)]
    change(tmp_path, "UPDATE \"user\" SET is_admin = false WHERE name = 'boss'")
    await clock.advance(1)
    after = [await accounts.session(cookie), await accounts.token(token)]
    assert [one and one.user.is_admin for one in (*before, *after)] == [True, True, False, False]
    assert await accounts.still_valid([one for one in before if one]) == set()


async def test_ended_authorities_of_live_sockets_are_found(accounts: Accounts, ana: User, clock: VirtualClock) -> None:
    bob = await accounts.add_user("bob", PASSWORD)
    short, long = [await accounts.issue_token(ana, lifetime_seconds=seconds) for seconds in (60, 3600)]
    cookies = [await accounts.open_session(user) for user in (ana, ana, bob)]
    live = [await accounts.token(short), await accounts.token(long)]
    live += [one for cookie in cookies if (one := await accounts.session(cookie))]
    assert await accounts.still_valid(live) == {one.key for one in live}
    await accounts.end_session(cookies[0])
    await accounts.disable("bob")
    await clock.advance(60)
    assert await accounts.still_valid(live) == {live[1].key, live[3].key}
    assert await accounts.still_valid([]) == set()


async def test_thousands_of_live_sockets_are_checked_at_once(accounts: Accounts, ana: User) -> None:
    authority = await accounts.token(await accounts.issue_token(ana, lifetime_seconds=60))
    gone = [type(authority)(ana, "token", f"{number:064x}", authority.expires_at) for number in range(3500)]
    assert await accounts.still_valid([*gone, authority]) == {authority.key}


async def test_pruning_deletes_only_what_has_ended(
    accounts: Accounts, ana: User, clock: VirtualClock, tmp_path: Path
) -> None:
    async def one_of_each(seconds: float) -> str:
        await accounts.issue_token(ana, lifetime_seconds=seconds)
        await accounts.make_link(ana, lifetime_seconds=seconds)
        return await accounts.open_session(ana)

    await one_of_each(60)
    await clock.advance(13 * HOUR)
    kept = await one_of_each(60)
    await accounts.prune()
    counts = [rows(tmp_path, f"SELECT count(*) FROM {table}") for table in ("session", "token", "login_link")]
    assert counts == [[(1,)]] * 3
    assert await signed_in(accounts, kept)


# The account admin.


async def test_the_first_start_creates_an_admin_without_password(accounts: Accounts) -> None:
    admin = await accounts.ensure_admin()
    assert (admin.name, admin.is_admin, admin.has_password) == ("admin", True, False)
    assert await accounts.ensure_admin() == admin
    assert await accounts.users() == [admin]


async def test_a_password_in_the_settings_is_the_admins(
    tmp_path: Path, database: Database, clock: VirtualClock
) -> None:
    """It is set at each start; if it is new, the sessions of the admin end."""
    first = accounts_in(tmp_path, database, clock, admin_password=PASSWORD)
    admin = await first.ensure_admin()
    cookie = await first.open_session(admin)
    again = accounts_in(tmp_path, database, clock, admin_password=PASSWORD)
    await again.ensure_admin()
    assert await again.sign_in("admin", PASSWORD, address=HOME) == admin
    assert await signed_in(again, cookie)
    changed = accounts_in(tmp_path, database, clock, admin_password="another password")
    await changed.ensure_admin()
    assert await changed.sign_in("admin", "another password", address=HOME) == admin
    assert not await signed_in(changed, cookie)


async def test_the_administrators_password_of_the_settings_is_composed(
    tmp_path: Path, database: Database, clock: VirtualClock
) -> None:
    with pytest.raises(CannotStart, match="ADMIN_PASSWORD is not valid: must have 10 to 128 characters"):
        accounts_in(tmp_path, database, clock, admin_password=unicodedata.normalize("NFD", "ä" * 9))
    accounts = accounts_in(tmp_path, database, clock, admin_password=unicodedata.normalize("NFD", "ä" * 10))
    await accounts.ensure_admin()
    assert (await accounts.sign_in("admin", "ä" * 10, address=HOME)).is_admin


async def test_a_disabled_admin_stays_disabled(accounts: Accounts) -> None:
    await accounts.ensure_admin()
    await accounts.disable("admin")
    assert (await accounts.ensure_admin()).disabled
