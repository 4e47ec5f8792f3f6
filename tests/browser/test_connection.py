"""The dashboard comes back by itself, is as fresh as the API, and never calls itself connected when it is not.

The stories are those of `tests.acceptance.connection`, here with short times.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.acceptance.connection import SHORT, Stage, all_stories, open_stage

STORIES = all_stories(SHORT)


@pytest.fixture(scope="module")
def stage(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server and one browser for all stories."""
    with open_stage(browser, tmp_path_factory.mktemp("connection"), SHORT) as stage:
        yield stage


@pytest.mark.parametrize("name", STORIES)
def test_the_dashboard_comes_back_by_itself_when(stage: Stage, name: str) -> None:
    assert STORIES[name](stage)  # what it saw, in words
