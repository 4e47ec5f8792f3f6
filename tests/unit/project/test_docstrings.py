"""The examples in the docstrings of the program."""

from __future__ import annotations

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import backend
import progress_dashboard
import ui

ONLY_FOR_ALEMBIC = "backend.store.migrations.env"  # importing it migrates
MODULES = [
    module.name
    for package in (backend, progress_dashboard, ui)
    for module in walk_packages(package.__path__, f"{package.__name__}.")
    if module.name != ONLY_FOR_ALEMBIC
]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_are_true(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [
        example for module in MODULES for test in finder.find(import_module(module)) for example in test.examples
    ]
    assert len(examples) > 20
