"""The names of users, and whose jobs they see."""

from __future__ import annotations

import pytest

from backend.domain.auth import User, user_name


@pytest.mark.parametrize(
    "name", ["", "a b", "ana\n", "ana\0", "<b>", "a" * 65, "änna", "\u212a", "\ud800"]
)  # \u212a is the Kelvin sign, which is k in lower case
def test_a_name_of_other_characters_is_no_user_name(name: str) -> None:
    assert user_name(name) is None


def test_upper_and_lower_case_are_one_name() -> None:
    assert user_name("Ana.B@Example-1.org") == user_name("ana.b@example-1.org") == "ana.b@example-1.org"


def test_users_see_their_own_jobs_and_administrators_all() -> None:
    ana, admin = User("1", "ana", is_admin=False), User("2", "admin", is_admin=True)
    assert (ana.sees_jobs_of, admin.sees_jobs_of) == ("1", None)
    assert [user.may_see(owner) for user in (ana, admin) for owner in ("1", "2")] == [True, False, True, True]
