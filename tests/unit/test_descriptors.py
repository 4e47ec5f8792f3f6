"""The limit of files and sockets: what connections leave of it, and how it is raised."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backend.descriptors import UNLIMITED, Descriptors
from tests import ROOT

SHOW_LIMIT = """
import resource
from backend.descriptors import raise_limit
raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


@pytest.mark.parametrize(
    ("limit", "slots", "last"),
    [(100, 2, 74), (100, 1024, 74), (1024, 2, 987), (1024, 64, 863), (20_000, 4, 19_959), (20, 4, 14)],
)
def test_connections_leave_a_reserve_but_never_more_than_a_quarter(limit: int, slots: int, last: int) -> None:
    descriptors = Descriptors(limit, Descriptors.of_process(slots).reserved)
    assert descriptors.is_free(last)
    assert not descriptors.is_free(last + 1)


def test_without_a_limit_there_is_always_room() -> None:
    assert UNLIMITED.is_free(10**9)
    assert UNLIMITED.has_room(0)


def test_room_is_found_where_a_descriptor_is_free() -> None:
    with open(os.devnull) as file:
        free = file.fileno() + 1
        assert Descriptors(4 * free + 100, 0).has_room(file.fileno())
        assert not Descriptors(free - 1, 0).has_room(file.fileno())


@pytest.mark.parametrize(("soft", "hard"), [(64, 100), (100, 100), (256, 4096)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    command = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    shown = subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, "-c", SHOW_LIMIT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == [str(hard), str(hard)]
