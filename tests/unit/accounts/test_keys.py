"""JSON Web Tokens, and the file of the keys that sign them."""

from __future__ import annotations

import base64
import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from backend.accounts.keys import AUDIENCE, ISSUER, Claims, Key, Keys
from backend.errors import CannotStart, NotSignedIn
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
SIGNED = Claims(sub="7", jti="one", purpose="access", iat=NOW, exp=NOW + 60)


def key(kid: str, secret: bytes = SECRET, **given: Any) -> Key:
    return Key(kid=kid, key=base64.b64encode(secret).decode(), **given)


def forge(claims: dict[str, Any], *, secret: bytes = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    """Return a token that is signed without `Keys`."""
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": "now", **header})


def part(value: object) -> str:
    """Return a part of a token: text, or something else as JSON, in base64."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def keys(clock: VirtualClock) -> Keys:
    return Keys([key("now")], clock)


# Tokens.


def test_a_signed_token_has_its_claims(keys: Keys) -> None:
    assert keys.verify(keys.sign(SIGNED)) == SIGNED


def test_a_token_signed_with_our_key_is_accepted(keys: Keys) -> None:
    """Each of the tests below changes one thing in this token."""
    assert keys.verify(forge(CLAIMS)).jti == "one"


def test_a_token_may_be_a_minute_ahead_of_a_clock_that_was_set_back(keys: Keys) -> None:
    assert keys.verify(forge(CLAIMS | {"iat": NOW + 60, "exp": NOW + 120})).iat == NOW + 60


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_a_token_without_one_of_its_claims_is_refused(keys: Keys, claim: str) -> None:
    with pytest.raises(NotSignedIn):
        keys.verify(forge({name: value for name, value in CLAIMS.items() if name != claim}))


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "other"},
        {"aud": "other"},
        {"aud": [AUDIENCE]},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": str(NOW + 60)},
        {"exp": None},
        {"exp": 1e400},
        {"exp": True},
        {"iat": "soon"},
        {"iat": NOW + 61, "exp": NOW + 120},
        {"iat": 10**30, "exp": 10**31},
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
def test_a_forged_or_damaged_token_is_refused(keys: Keys, token: tuple[str, str]) -> None:
    with pytest.raises(NotSignedIn) as refusal:
        keys.verify(token[1])
    assert refusal.value.sentence == NotSignedIn().sentence


async def test_a_token_ends_at_its_second(keys: Keys, clock: VirtualClock) -> None:
    await clock.advance(59.9)
    assert keys.verify(GOOD) == SIGNED
    await clock.advance(0.1)
    with pytest.raises(NotSignedIn):
        keys.verify(GOOD)


async def test_the_newest_key_signs_and_older_ones_verify(clock: VirtualClock) -> None:
    """An older key verifies tokens until its time ends."""
    both = Keys([key("now", until=NOON + timedelta(seconds=30)), key("next", b"2" * 32)], clock)
    assert jwt.get_unverified_header(both.sign(SIGNED))["kid"] == "next"
    assert both.verify(GOOD) == SIGNED
    await clock.advance(30)
    with pytest.raises(NotSignedIn):
        both.verify(GOOD)


# The file of the keys.


def test_the_first_start_makes_a_key_only_its_owner_can_read(tmp_path: Path, clock: VirtualClock) -> None:
    first = Keys.load(load_settings(data_dir=tmp_path), clock)
    token = first.sign(SIGNED)
    assert (tmp_path / "secret.json").stat().st_mode & 0o777 == 0o600
    assert Keys.load(load_settings(data_dir=tmp_path), clock).verify(token).sub == "7"


def test_programs_that_start_at_once_agree_on_the_key(tmp_path: Path, clock: VirtualClock) -> None:
    loaded: list[Keys] = []
    threads = [
        threading.Thread(target=lambda: loaded.append(Keys.load(load_settings(data_dir=tmp_path), clock)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({keys.sign(SIGNED) for keys in loaded}) == 1
    assert len(loaded) == 8


def test_a_secret_in_the_settings_leaves_no_file(tmp_path: Path, clock: VirtualClock) -> None:
    settings = load_settings(data_dir=tmp_path, jwt_secret="s" * 32)
    token = Keys.load(settings, clock).sign(SIGNED)
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
def test_damaged_keys_prevent_the_start(tmp_path: Path, clock: VirtualClock, content: bytes) -> None:
    path = tmp_path / "secret.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(CannotStart, match="damaged"):
        Keys.load(load_settings(data_dir=tmp_path), clock)


def test_keys_that_others_can_read_prevent_the_start(tmp_path: Path, clock: VirtualClock) -> None:
    Keys.load(load_settings(data_dir=tmp_path), clock)
    (tmp_path / "secret.json").chmod(0o644)
    with pytest.raises(CannotStart, match="chmod 600"):
        Keys.load(load_settings(data_dir=tmp_path), clock)


def test_a_missing_directory_prevents_the_start(tmp_path: Path, clock: VirtualClock) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="cannot be read or written"):
        Keys.load(load_settings(data_dir=tmp_path / "file"), clock)
