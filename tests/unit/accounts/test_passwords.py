"""Password hashes."""

from __future__ import annotations

import asyncio
import threading
import unicodedata

import pytest
from argon2 import PasswordHasher

from backend.accounts.passwords import MAX_RUNNING_HASHES, MAX_WAITING_HASHES, UNKNOWN_USER_HASH, Passwords
from backend.errors import Invalid, TooManyAttempts


async def test_a_password_matches_only_its_own_hash() -> None:
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    assert await passwords.match(stored, "correct horse")
    assert not await passwords.match(stored, "correct hors")
    assert not await passwords.match(None, "correct horse")


async def test_a_hash_is_argon2id_with_19_mib_and_two_passes() -> None:
    assert (await Passwords().hash("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_hash_for_unknown_users_costs_the_same() -> None:
    hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    assert not hasher.check_needs_rehash(UNKNOWN_USER_HASH)


@pytest.mark.parametrize("password", ["123456789", "1" * 129, "\ud800" * 12])
async def test_a_password_of_wrong_length_or_no_text_is_refused(password: str) -> None:
    with pytest.raises(Invalid, match="10 to 128 characters"):
        await Passwords().hash(password)


@pytest.mark.parametrize("password", ["", "\0" * 20, "\ud800" * 20, "x" * 1_000_000, "𝔓" * 128])
async def test_an_odd_password_only_fails_to_match(password: str) -> None:
    passwords = Passwords()
    assert not await passwords.match(await passwords.hash("correct horse"), password)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


SPELLINGS = {
    "umlauts": ("Übergrößenträger", decomposed("Übergrößenträger")),
    "Vietnamese": ("mật khẩu của tôi", decomposed("mật khẩu của tôi")),
    "Korean": ("비밀번호비밀번호비밀", decomposed("비밀번호비밀번호비밀")),
    "a sign with two codes": ("10 kΩ and 5 Å more", "10 k\u2126 and 5 \u212b more"),
    "a blank that does not break": ("correct horse", "correct\u00a0horse"),
    "an ideographic blank": ("correct horse", "correct\u3000horse"),
}


@pytest.mark.parametrize(("one", "other"), SPELLINGS.values(), ids=list(SPELLINGS))
async def test_a_password_is_the_same_however_its_letters_are_written(one: str, other: str) -> None:
    passwords = Passwords()
    assert one != other
    for given, typed in ((one, other), (other, one), (one, one), (other, other)):
        assert await passwords.match(await passwords.hash(given), typed)


@pytest.mark.parametrize(("one", "other"), SPELLINGS.values(), ids=list(SPELLINGS))
async def test_an_old_hash_matches_what_was_typed_then(one: str, other: str) -> None:
    """It was made of the password as it was typed."""
    old = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
    for typed in (one, other):
        assert await Passwords().match(old.hash(typed), typed)


@pytest.mark.parametrize(
    "other", ["ÜBERGRÖßENTRÄGER", "Ubergroßentrager", "Übergrössenträger", "Übergrößenträger ", "Ｕbergrößenträger"]
)
async def test_another_case_letter_or_width_is_another_password(other: str) -> None:
    passwords = Passwords()
    assert not await passwords.match(await passwords.hash("Übergrößenträger"), other)


async def test_the_length_of_a_password_counts_composed_letters() -> None:
    passwords = Passwords()
    assert await passwords.match(await passwords.hash(decomposed("ä" * 128)), "ä" * 128)
    for wrong in ("ä" * 9, "ä" * 129, "a" + "\u0308\u0323" * 20_000):
        with pytest.raises(Invalid, match="10 to 128 characters"):
            await passwords.hash(decomposed(wrong))
        assert not await passwords.match(None, decomposed(wrong))


async def test_a_flood_of_passwords_is_limited() -> None:
    """Calls beyond the capacity of the queue are refused at once, and the others are answered."""
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    flood = [passwords.match(stored, "correct horse") for _ in range(60)]
    answers = await asyncio.gather(*flood, return_exceptions=True)
    accepted = MAX_RUNNING_HASHES + MAX_WAITING_HASHES
    assert answers.count(True) == accepted
    assert sum(isinstance(answer, TooManyAttempts) for answer in answers) == 60 - accepted
    assert await passwords.match(stored, "correct horse")


async def test_at_most_two_passwords_are_hashed_at_once() -> None:
    passwords, before = Passwords(), set(threading.enumerate())
    await asyncio.gather(*(passwords.hash("correct horse") for _ in range(10)))
    assert len(set(threading.enumerate()) - before) == MAX_RUNNING_HASHES
