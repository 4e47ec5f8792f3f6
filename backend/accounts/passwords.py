"""Password hashes."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from backend.errors import Invalid, TooManyAttempts
from backend.settings import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH

MAX_TYPED_LENGTH = 4 * MAX_PASSWORD_LENGTH  # letters whose accents are not composed
MAX_RUNNING_HASHES = 2
MAX_WAITING_HASHES = 16
UNKNOWN_USER_HASH = (  # of a password that nobody knows, with the parameters of `Passwords`
    "$argon2id$v=19$m=19456,t=2,p=1$/bxLOwtoe3XI+QAm3Cv1CQ$F6HdaEJcwMwLFCOj+GlV9rw1o2zt0Q1uFGWnvAJLfIg"
)


class Passwords:
    """Hashes passwords with argon2id (19 MiB, 2 passes, 1 lane: OWASP) in two threads.

    A short queue waits for them; beyond it every call raises `TooManyAttempts`.
    """

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(MAX_RUNNING_HASHES, "password")  # ends with its owner
        self._running = 0

    async def hash(self, password: str) -> str:
        """Return the hash to store. Raises `Invalid` for a password that is too short or too long."""
        composed = as_hashed(password[: MAX_TYPED_LENGTH + 1])
        if not (MIN_PASSWORD_LENGTH <= len(composed) <= MAX_PASSWORD_LENGTH and _is_text(password)):
            raise Invalid(f"A password must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters.")
        return await self._run(composed, None)

    async def match(self, password_hash: str | None, password: str) -> bool:
        """Return True if the password belongs to the hash. Takes the same time without a hash.

        A hash that was made before passwords were composed is compared with the password as it is typed.
        """
        composed = as_hashed(password[: MAX_TYPED_LENGTH + 1])  # composing a very long text takes long
        usable = len(composed) <= MAX_PASSWORD_LENGTH and _is_text(password)
        for candidate in dict.fromkeys([composed, password] if usable else [""]):
            answer = await self._run(candidate, password_hash or UNKNOWN_USER_HASH)
            if answer and usable and password_hash is not None:
                return True
        return False

    async def _run(self, password: str, password_hash: str | None) -> str:
        if self._running >= MAX_RUNNING_HASHES + MAX_WAITING_HASHES:
            raise TooManyAttempts("Too many people are signing in right now; try again in a moment.")
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._hash_or_verify, password, password_hash)
        finally:
            self._running -= 1

    def _hash_or_verify(self, password: str, password_hash: str | None) -> str:
        """Return the new hash, or the given one if the password matches it, or an empty string."""
        if password_hash is None:
            return self._hasher.hash(password)
        try:
            self._hasher.verify(password_hash, password)
        except VerifyMismatchError:
            return ""
        return password_hash


def as_hashed(password: str) -> str:
    """Return the one spelling of a password: keyboards and systems write the same letters in different ways.

    As OpaqueString of RFC 8265: each blank is the ASCII one, and letters are composed. Case and width are kept.

    >>> as_hashed("u\u0308ber\u00a0alles") == "\u00fcber alles"
    True
    """
    blanks = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    return unicodedata.normalize("NFC", blanks)


def _is_text(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
