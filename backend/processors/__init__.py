"""Processors by name: the kinds of work on videos, and the check of their options.

Other packages add processors with an entry point of the group `dashboard.processors` that names a `Processor`. Only
registered names are accepted from outside; nothing here imports a module that a request names.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError

from backend.errors import Invalid, reason
from progress_dashboard.protocol import EXTERNAL

GROUP = "dashboard.processors"
BUILT_IN: Mapping[str, str] = MappingProxyType({"probe": "backend.processors.probe"})
MAX_SHOWN_LENGTH = 40  # characters of an unknown name in an error


@dataclass(frozen=True, slots=True)
class Step:
    """The progress of the work on one video: a share from 0 to 1, and the activity in a word such as "decoding"."""

    fraction: float
    doing: str


@dataclass(frozen=True, slots=True)
class VideoFile:
    """One video: its file, the directory that the file must be in, and a directory of its own for output files."""

    path: Path
    root: Path
    output: Path


@dataclass(frozen=True, slots=True)
class Processor:
    """A kind of work on one video.

    `run` yields steps and returns a result that JSON can hold. It raises `VideoFailed` with a sentence for users.
    It runs in its own process, which may be killed at any moment: it has to write each file in `output` as
    `<name>.part` and to rename it when it is complete.
    """

    name: str
    summary: str
    options: type[BaseModel]
    run: Callable[[VideoFile, Any], Generator[Step, None, dict[str, Any]]]


def names() -> tuple[str, ...]:
    """Return the names of all registered processors, in alphabetical order."""
    return tuple(sorted({*BUILT_IN, *(found.name for found in entry_points(group=GROUP))}))


class NoProcessor(Invalid):
    """There is no processor of this name."""


class BrokenProcessor(Invalid):
    """The processor of this name cannot be used; repair its package."""


def load(name: str) -> Processor:
    """Return the processor that is registered under this name.

    Raises `NoProcessor` if there is none, and `BrokenProcessor` if its package cannot be imported.
    """
    if name in BUILT_IN:
        built_in: Processor = import_module(BUILT_IN[name]).PROCESSOR
        return built_in
    for found in entry_points(group=GROUP, name=name):
        plug_in = _imported(name, found)
        if isinstance(plug_in, Processor):
            return plug_in
        raise BrokenProcessor(f'The entry point "{name}" is not a Processor; ask the maintainer of that package.')
    raise NoProcessor(f'There is no processor "{_shown(name)}"; there are: {", ".join(names())}, {EXTERNAL}.')


def _imported(name: str, found: EntryPoint) -> object:
    try:
        return found.load()
    except Exception as error:  # a package of somebody else's may raise anything when it is imported
        sentence = f"The processor {name} cannot be loaded ({type(error).__name__}); repair or update its package."
        raise BrokenProcessor(sentence) from error


def validated_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options as the processor gets them, with defaults filled in. Raises `Invalid`, naming the option."""
    return options_of(load(name), options).model_dump(mode="json")


def options_of(processor: Processor, options: Mapping[str, Any]) -> BaseModel:
    """Return the options as a value of the processor's model. Raises `Invalid`, naming the option."""
    try:
        return processor.options.model_validate(options)
    except ValidationError as error:
        raise Invalid(_sentence(processor.name, processor.options, error)) from None


def _sentence(name: str, model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_input=False, include_context=False)[0]
    option = _shown(".".join(str(part) for part in first["loc"]))
    if first["type"] == "extra_forbidden":
        return f'The processor {name} has no option "{option}"; it has: {", ".join(model.model_fields) or "none"}.'
    subject = f'The option "{option}"' if option else "The options"
    return f"{subject} of the processor {name}: {reason(first['msg'])}."


def _shown(text: str) -> str:
    return text[:MAX_SHOWN_LENGTH].encode("utf-8", "replace").decode()
