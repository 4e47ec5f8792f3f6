"""Passwords, tokens and the brake on guessing, without a database."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from argon2 import PasswordHasher

from backend.accounts.keys import AUDIENCE, ISSUER, Claims, Key, Keys
from backend.accounts.passwords import MAX_RUNNING_HASHES, MAX_WAITING_HASHES, UNKNOWN_USER_HASH, Passwords
from backend.accounts.throttle import Throttle
from backend.domain.auth import user_name
from backend.domain.networks import network_of
from backend.errors import CannotStart, Invalid, NotSignedIn, TooManyAttempts
from backend.settings import load_settings
from tests.support.clock import NOON, VirtualClock

SECRET = b"0" * 64
NOW = int(NOON.timestamp())
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "7",
    "jti": "one",
    "purpose": "access",
    "iat": NOW,
    "exp": NOW + 60,
}


def key(kid: str, secret: bytes = SECRET, **given: Any) -> Key:
    return Key(kid=kid, key=base64.b64encode(secret).decode(), **given)


def forge(claims: dict[str, Any], *, secret: bytes = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": "now", **header})


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def keys(clock: VirtualClock) -> Keys:
    return Keys([key("now")], clock)


# Names


@pytest.mark.parametrize(
    "name", ["", "a b", "ana\n", "ana\0", "<b>", "a" * 65, "änna", "\u212a", "\ud800"]
)  # the Kelvin sign
def test_a_name_of_other_characters_is_nobodys(name: str) -> None:
    assert user_name(name) is None


def test_upper_and_lower_case_are_one_name() -> None:
    assert user_name("Ana.B@Example-1.org") == user_name("ana.b@example-1.org") == "ana.b@example-1.org"


# Passwords


async def test_a_password_matches_its_own_hash_only() -> None:
    passwords = Passwords()
    kept = await passwords.hash("correct horse")
    assert await passwords.match(kept, "correct horse")
    assert not await passwords.match(kept, "correct hors")
    assert not await passwords.match(None, "correct horse")


async def test_a_hash_is_argon2id_with_19_mib_and_two_passes() -> None:
    assert (await Passwords().hash("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_hash_for_unknown_users_costs_the_same() -> None:
    hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    assert not hasher.check_needs_rehash(UNKNOWN_USER_HASH)


@pytest.mark.parametrize("password", ["123456789", "1" * 129, "\ud800" * 12])
async def test_a_password_too_short_too_long_or_no_text_is_refused(password: str) -> None:
    with pytest.raises(Invalid, match="10 to 128 characters"):
        await Passwords().hash(password)


@pytest.mark.parametrize("password", ["", "\0" * 20, "\ud800" * 20, "x" * 1_000_000, "𝔓" * 128])
async def test_no_odd_password_breaks_the_check(password: str) -> None:
    passwords = Passwords()
    assert not await passwords.match(await passwords.hash("correct horse"), password)


async def test_a_flood_of_passwords_is_turned_away_and_the_rest_is_answered() -> None:
    passwords = Passwords()
    kept = await passwords.hash("correct horse")
    flood = [passwords.match(kept, "correct horse") for _ in range(60)]
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert answers.count(True) == MAX_RUNNING_HASHES + MAX_WAITING_HASHES
    assert (
        sum(isinstance(answer, TooManyAttempts) for answer in answers) == 60 - MAX_RUNNING_HASHES - MAX_WAITING_HASHES
    )
    assert await passwords.match(kept, "correct horse")


async def test_two_passwords_are_hashed_at_once_and_no_more() -> None:
    passwords, before = Passwords(), set(threading.enumerate())
    await asyncio.gather(*(passwords.hash("correct horse") for _ in range(10)))
    assert len(set(threading.enumerate()) - before) == MAX_RUNNING_HASHES


# Tokens


def test_what_was_signed_is_what_is_read(keys: Keys) -> None:
    claims = Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60)
    assert keys.verify(keys.sign(claims)) == claims


def test_a_token_written_by_hand_with_our_key_is_read(keys: Keys) -> None:
    """The suite below changes one thing each in this one."""
    assert keys.verify(forge(CLAIMS)).jti == "one"


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_a_token_without_one_of_its_claims_is_refused(keys: Keys, claim: str) -> None:
    with pytest.raises(NotSignedIn):
        keys.verify(forge({name: value for name, value in CLAIMS.items() if name != claim}))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "somebody"},
        {"aud": "somebody"},
        {"aud": [AUDIENCE]},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": str(NOW + 60)},
        {"exp": None},
        {"exp": 1e400},
        {"exp": True},
        {"iat": "soon"},
        {"sub": 7},
        {"sub": None},
        {"jti": ["one"]},
        {"purpose": 1},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_claim_is_refused(keys: Keys, changed: dict[str, Any]) -> None:
    with pytest.raises(NotSignedIn):
        keys.verify(forge(CLAIMS | changed))


GOOD = forge(CLAIMS)
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
NONE = part({"alg": "none", "kid": "now"})


@pytest.mark.parametrize(
    "token",
    {
        "no algorithm": f"{NONE}.{PAYLOAD}.",
        "no algorithm, our signature": f"{NONE}.{PAYLOAD}.{SIGNATURE}",
        "NONE in capitals": f"{part({'alg': 'NoNe', 'kid': 'now'})}.{PAYLOAD}.",
        "another algorithm": forge(CLAIMS, algorithm="HS512"),
        "another key": forge(CLAIMS, secret=b"1" * 32),
        "an unknown kid": forge(CLAIMS, kid="other"),
        "a kid that is a path": forge(CLAIMS, kid="../../dev/null"),
        "a kid that is a list": f"{part({'alg': 'HS256', 'kid': ['now']})}.{PAYLOAD}.{SIGNATURE}",
        "no kid": jwt.encode(CLAIMS, SECRET),
        "its own key in the header": forge(CLAIMS, secret=b"1" * 32, jwk={"kty": "oct", "k": part("1" * 32)}),
        "other claims, old signature": f"{HEADER}.{part(CLAIMS | {'sub': '1'})}.{SIGNATURE}",
        "a changed signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-2]}AA",
        "no signature": f"{HEADER}.{PAYLOAD}.",
        "two parts": f"{HEADER}.{PAYLOAD}",
        "five parts": f"{GOOD}.a.b",
        "empty": "",
        "dots": "..",
        "NUL": GOOD[:20] + "\0" + GOOD[21:],
        "a lone surrogate": GOOD + "\ud800",
        "other letters": GOOD + "é",
        "huge": GOOD + "A" * 1_000_000,
        "huge inside": forge(CLAIMS | {"pad": "x" * 3000}),
        "deep header": f"{part('[' * 1200)}.{PAYLOAD}.{SIGNATURE}",
        "deep payload": f"{HEADER}.{part('[' * 1000)}.{SIGNATURE}",
        "a number too long": f"{part('{' + chr(34) + 'kid' + chr(34) + ':' + '9' * 1100 + '}')}.{PAYLOAD}.{SIGNATURE}",
        "not JSON": f"{part('{')}.{PAYLOAD}.{SIGNATURE}",
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_forged_or_broken_token_is_refused(keys: Keys, token: tuple[str, str]) -> None:
    with pytest.raises(NotSignedIn) as refused:
        keys.verify(token[1])
    assert refused.value.sentence == NotSignedIn().sentence


async def test_a_token_ends_at_its_second(keys: Keys, clock: VirtualClock) -> None:
    await clock.advance(59.9)
    keys.verify(GOOD)
    await clock.advance(0.1)
    with pytest.raises(NotSignedIn):
        keys.verify(GOOD)


async def test_the_newest_key_signs_and_an_older_one_verifies_until_its_end(clock: VirtualClock) -> None:
    both = Keys([key("now", until=NOON + timedelta(seconds=30)), key("next", b"2" * 32)], clock)
    claims = Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60)
    assert jwt.get_unverified_header(both.sign(claims))["kid"] == "next"
    assert both.verify(GOOD) == claims
    await clock.advance(30)
    with pytest.raises(NotSignedIn):
        both.verify(GOOD)


# The file of the keys


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path, clock: VirtualClock) -> None:
    first = Keys.load(load_settings(data_dir=tmp_path), clock)
    token = first.sign(Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60))
    assert (tmp_path / "secret.json").stat().st_mode & 0o777 == 0o600
    assert Keys.load(load_settings(data_dir=tmp_path), clock).verify(token).sub == "7"


def test_two_programs_that_start_at_once_agree_on_the_key(tmp_path: Path, clock: VirtualClock) -> None:
    loaded: list[Keys] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(Keys.load(load_settings(data_dir=tmp_path), clock)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    claims = Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60)
    assert len({keys.sign(claims) for keys in loaded}) == 1
    assert len(loaded) == 8


def test_a_given_secret_signs_and_leaves_no_file(tmp_path: Path, clock: VirtualClock) -> None:
    settings = load_settings(data_dir=tmp_path, jwt_secret="s" * 32)
    token = Keys.load(settings, clock).sign(Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60))
    assert jwt.decode(token, b"s" * 32, algorithms=["HS256"], audience=AUDIENCE, options={"verify_exp": False})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'[{"kid": "a", "key": "c2hvcnQ="}]',
        b'[{"kid": "a", "key": "?"}]',
        b'[{"kid": "a"}]',
        b'[{"kid": "a", "key": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=", "until": "2026-01-01T00:00:00Z"}]',
    ],
)
def test_damaged_keys_stop_the_start_with_a_sentence(tmp_path: Path, clock: VirtualClock, content: bytes) -> None:
    path = tmp_path / "secret.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CannotStart, match="damaged"):
        Keys.load(load_settings(data_dir=tmp_path), clock)


def test_keys_that_others_can_read_stop_the_start(tmp_path: Path, clock: VirtualClock) -> None:
    Keys.load(load_settings(data_dir=tmp_path), clock)
    (tmp_path / "secret.json").chmod(0o644)
    with pytest.raises(CannotStart, match="chmod 600"):
        Keys.load(load_settings(data_dir=tmp_path), clock)


def test_a_missing_directory_stops_the_start_with_a_sentence(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="cannot be read or written"):
        Keys.load(load_settings(data_dir=tmp_path / "file"), clock)


# The brake on guessing


def fail(throttle: Throttle, times: int, name: str = "ana", address: str = "192.0.2.1") -> None:
    for _ in range(times):
        throttle.admit(name, address)


def refused_for(throttle: Throttle, name: str = "ana", address: str = "192.0.2.1") -> float:
    with pytest.raises(TooManyAttempts) as refused:
        throttle.admit(name, address)
    return refused.value.retry_after


def test_the_sixth_failure_has_to_wait(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5)
    assert refused_for(throttle) == 1


async def test_the_waits_double_up_to_a_minute(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5)
    waits = []
    for _ in range(9):
        waits.append(refused_for(throttle))
        await clock.advance(waits[-1])
        throttle.admit("ana", "192.0.2.1")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_asking_while_waiting_does_not_make_it_longer(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5)
    assert [refused_for(throttle) for _ in range(50)] == [1] * 50


def test_a_success_forgets_the_failures(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    for _ in range(3):
        fail(throttle, 5)
        throttle.succeeded("ana", "192.0.2.1")
    fail(throttle, 5)


async def test_an_hour_forgets_the_failures(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5)
    await clock.advance(3601)
    fail(throttle, 5)
    assert refused_for(throttle) == 1


def test_a_guesser_does_not_shut_out_the_same_account_elsewhere(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5, address="192.0.2.1")
    throttle.admit("ana", "198.51.100.1")


@pytest.mark.parametrize(
    ("one", "other"),
    [("192.0.2.1", "192.0.2.200"), ("2001:db8::1", "2001:db8::ffff:1"), ("192.0.2.1", "::ffff:192.0.2.9")],
)
def test_another_address_of_the_same_network_does_not_help(clock: VirtualClock, one: str, other: str) -> None:
    throttle = Throttle(clock)
    fail(throttle, 5, address=one)
    assert refused_for(throttle, address=other) == 1


async def test_one_address_cannot_try_one_password_on_everybody(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    for number in range(30):
        throttle.admit(f"user{number}", "192.0.2.1")
    assert refused_for(throttle, "user30") == 10
    throttle.admit("user30", "198.51.100.1")
    await clock.advance(10)
    throttle.admit("user30", "192.0.2.1")
    assert refused_for(throttle, "user31") == 10


def test_who_has_signed_in_from_an_address_is_not_shut_out_by_others_there(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    throttle.admit("ana", "192.0.2.1")
    throttle.succeeded("ana", "192.0.2.1")
    for number in range(30):
        throttle.admit(f"user{number}", "192.0.2.1")
    throttle.admit("ana", "192.0.2.1")


def test_a_busy_office_that_types_its_passwords_well_never_waits(clock: VirtualClock) -> None:
    throttle = Throttle(clock)
    for number in range(500):
        throttle.admit(f"user{number}", "192.0.2.1")
        throttle.succeeded(f"user{number}", "192.0.2.1")


def test_what_the_brake_remembers_is_bounded(clock: VirtualClock) -> None:
    """The oldest is forgotten for the newest, which is still held."""
    throttle = Throttle(clock, remembered=3)
    for number in range(4):
        fail(throttle, 5, address=f"192.0.{number}.1")
    assert refused_for(throttle, address="192.0.3.1") == 1
    throttle.admit("ana", "192.0.0.1")


@pytest.mark.parametrize("address", ["", "testclient", "not an address"])
def test_an_address_that_is_none_is_an_address_of_its_own(address: str) -> None:
    assert network_of(address, ipv4_bits=24) == address


def test_an_address_on_a_link_is_one_of_its_network() -> None:
    assert network_of("fe80::1%eth0", ipv4_bits=24) == "fe80::/64"
