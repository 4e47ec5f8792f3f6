"""The public package: its names, its dependencies, and the comments on its fields."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

import progress_dashboard

PACKAGE = Path(progress_dashboard.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
PUBLIC = [
    "FeedError",
    "FeedStopped",
    "InvalidArgument",
    "Mirror",
    "OutOfStep",
    "ProgressFeed",
    "ProgressUpdate",
    "ReadyState",
    "SenderReport",
    "Status",
]
DEPENDENCIES = {"httpx", "msgspec", "websockets"}
OPTIONAL_DEPENDENCIES = {"dotenv"}
RECORDS = ["ProgressUpdate", "SenderReport"]  # the structs and dataclasses among the public names
ATTRIBUTES = ["FeedStopped", "Mirror"]  # the classes that set public attributes themselves


def test_the_public_names_are_exactly_these() -> None:
    assert progress_dashboard.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(progress_dashboard, name).__name__ == name


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, Any] = {}
    exec("from progress_dashboard import *", names)
    assert names.keys() - {"__builtins__"} == set(PUBLIC)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NoSuchName'"):
        _ = progress_dashboard.NoSuchName


def test_the_public_names_are_listed() -> None:
    assert set(PUBLIC) <= set(dir(progress_dashboard))


def test_it_carries_its_types() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_protocol_loads_no_network_library() -> None:
    code = "import sys; from progress_dashboard import ProgressUpdate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert DEPENDENCIES & set(done.stdout.split()) == {"msgspec"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_imports_only_the_dependencies(module: Path) -> None:
    imported = {name.partition(".")[0] for name in imports(module)}
    assert imported - sys.stdlib_module_names <= DEPENDENCIES | OPTIONAL_DEPENDENCIES


def test_every_dependency_is_imported() -> None:
    imported = {name.partition(".")[0] for module in MODULES for name in imports(module)}
    assert imported >= DEPENDENCIES | OPTIONAL_DEPENDENCIES


def test_the_optional_dependency_is_not_imported_at_the_top() -> None:
    at_the_top = {name for module in MODULES for node in tree(module).body for name in imported_by(node)}
    assert OPTIONAL_DEPENDENCIES & at_the_top == set()


def test_the_records_are_all_public_structs_and_dataclasses() -> None:
    classes = {name: getattr(progress_dashboard, name) for name in PUBLIC}
    assert [name for name, it in classes.items() if is_dataclass(it) or issubclass(it, msgspec.Struct)] == RECORDS


@pytest.mark.parametrize("name", RECORDS)
def test_each_field_of_a_record_has_a_comment_above_it(name: str) -> None:
    record, lines = class_and_lines(name)
    fields = {ast.unparse(node.target): node.lineno for node in record.body if isinstance(node, ast.AnnAssign)}
    assert list(fields) == list(getattr(progress_dashboard, name).__struct_fields__)
    assert uncommented(fields, lines) == []


def test_each_member_of_ready_state_has_a_comment_above_it() -> None:
    states, lines = class_and_lines("ReadyState")
    members = {ast.unparse(node.targets[0]): node.lineno for node in states.body if isinstance(node, ast.Assign)}
    assert list(members) == list(progress_dashboard.ReadyState.__members__)
    assert uncommented(members, lines) == []


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_each_public_attribute_of_a_class_has_a_comment_above_it(name: str) -> None:
    definition, lines = class_and_lines(name)
    attributes = dict(public_attributes(definition))
    assert attributes
    assert uncommented(attributes, lines) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_class_and_its_public_methods_have_a_docstring(name: str) -> None:
    definition, _ = class_and_lines(name)
    methods = [node for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    public: list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = [definition]
    public += [method for method in methods if not method.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text(encoding="utf-8"))


def imports(module: Path) -> Iterator[str]:
    """Yield the modules of other packages that a module imports anywhere."""
    for node in ast.walk(tree(module)):
        yield from imported_by(node)


def imported_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield node.module or ""


def class_and_lines(name: str) -> tuple[ast.ClassDef, list[str]]:
    """Return the definition of a public class, and the lines of its module."""
    module = importlib.import_module(getattr(progress_dashboard, name).__module__)
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    [definition] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name]
    return definition, source.splitlines()


def public_attributes(definition: ast.ClassDef) -> Iterator[tuple[str, int]]:
    """Yield the public attributes that `__init__` sets, each with its line."""
    [init] = [node for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    for node in ast.walk(init):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and not node.attr.startswith("_"):
            yield node.attr, node.lineno


def uncommented(lines_of: dict[str, int], lines: list[str]) -> list[str]:
    return [name for name, line in lines_of.items() if not lines[line - 2].strip().startswith("# ")]
