"""What a browser says of channels, and what it is told of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from backend.domain.notification import ChannelFilter, ChannelKind, EventKind
from backend.domain.sending import MAX_A_DAY
from backend.notifications.channels import ShownChannel
from ui.components.notifications.channel_list import row, typed_in

SENT: dict[str, Any] = {
    "id": None,
    "kind": "webhook",
    "url": "https://hooks.example.org/x",
    "name": "Hook",
    "secret": "key",
    "cap": 50,
    "details": True,
    "events": ["failed", "no such event"],
    "only": {"name": "", "owner": "ana"},
}
STORED = ShownChannel(
    id="one",
    is_for_all=True,
    kind=ChannelKind.WEBHOOK,
    name="Hook",
    url="https://hooks.example.org/…",
    events=frozenset({EventKind.STALLED, EventKind.FAILED}),
    has_secret=True,
    only=ChannelFilter(owner="ana"),
    tells_details=True,
    enabled=True,
    daily_cap=1_500,
    created_at=datetime(2026, 1, 31, tzinfo=UTC),
    last_sent_at=None,
    last_error="The receiver answered 500.",
    disabled_because=None,
)


def test_a_typed_channel_is_read_without_what_is_unknown() -> None:
    typed = typed_in(SENT, is_for_all=True)
    assert typed is not None
    assert (typed.id, typed.draft.name, typed.draft.daily_cap, typed.draft.is_for_all) == ("", "Hook", 50, True)
    assert typed.draft.events == frozenset({EventKind.FAILED})
    assert typed.draft.only == ChannelFilter(owner="ana")


def test_a_changed_channel_keeps_an_address_and_a_secret_that_are_not_typed() -> None:
    typed = typed_in({**SENT, "id": "one", "url": "", "secret": "", "events": None}, is_for_all=False)
    assert typed is not None
    changes = typed.changes()
    assert changes["events"] is None
    assert not {"url", "secret"} & changes.keys()


@pytest.mark.parametrize("wrong", [None, [], "x", {}, {**SENT, "kind": "pigeon"}, {**SENT, "name": 1}])
def test_what_is_no_channel_is_passed_over(wrong: object) -> None:
    assert typed_in(wrong, is_for_all=False) is None


def test_nothing_of_an_address_is_in_the_words_for_logs() -> None:
    assert "hooks.example.org" not in repr(typed_in(SENT, is_for_all=False))


def test_a_row_says_in_words_what_goes_to_its_channel() -> None:
    shown = row(STORED)
    assert shown["tells"] == "Failed, stalled · only jobs of ana · errors as they are · at most 1,500 a day"
    assert (shown["problem"], shown["lastSent"], shown["cap"]) == ("The receiver answered 500.", None, 1_500)


def test_the_usual_limit_of_a_day_is_not_said() -> None:
    usual = row(replace(STORED, daily_cap=MAX_A_DAY[ChannelKind.WEBHOOK], events=None, only=None))
    assert (usual["tells"], usual["cap"]) == ("The usual events · errors as they are", None)
