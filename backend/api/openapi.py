"""The OpenAPI document: made from the types that check requests and make answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI

from backend.api import channel_types, notification_types, problem_types, statistics_types, types
from progress_dashboard import protocol

REFERENCE = "#/components/schemas/{name}"
MODULES = (types, statistics_types, notification_types, channel_types, problem_types)
PUBLIC_MODULES = (*(module.__name__ for module in MODULES), protocol.__name__)
COMMENTED_FIELD = re.compile(r"((?:^    # .*\n)+)^    (\w+):", re.MULTILINE)


def answers(answer: Any, errors: Mapping[int, str], *, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: what it answers with, and when each error comes."""
    return {
        status: {"description": "Successful response", "content": _json(answer)},
        **{code: {"description": when, "content": _json(types.ProblemOut)} for code, when in errors.items()},
    }


def files(media_type: str, errors: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with a file."""
    return {**answers(None, errors), 200: {"description": "Successful response", "content": {media_type: {}}}}


def nothing(errors: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers with 204."""
    documented = answers(None, errors, status=204)
    del documented[204]["content"]
    return documented


def body(content: Any, *, required: bool = True, **others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads JSON; `others` are further media types by their schemas."""
    media = {name.replace("_", "/", 1).replace("_", "-"): {"schema": schema} for name, schema in others.items()}
    return {"requestBody": {"required": required, "content": {**media, **_json(content)}}}


def add_schemas(app: FastAPI) -> None:
    """Let the document of `app` define every type that its routes refer to."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            document.setdefault("components", {}).setdefault("schemas", {}).update(_components())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _json(content: Any) -> dict[str, Any]:
    return {"application/json": {"schema": msgspec.json.schema_components([content], ref_template=REFERENCE)[0][0]}}


def _components() -> dict[str, Any]:
    structs = [
        struct
        for module in MODULES
        for _, struct in inspect.getmembers(module, inspect.isclass)
        if issubclass(struct, msgspec.Struct) and struct.__module__ in PUBLIC_MODULES
    ]
    _, components = msgspec.json.schema_components(structs, ref_template=REFERENCE)
    for struct in structs:
        properties = components[struct.__name__]["properties"]
        for owner in reversed(struct.__mro__):
            for name, description in _comments(owner).items():
                if name in properties:
                    properties[name] = {**properties[name], "description": description}
    return components


def _comments(struct: type) -> dict[str, str]:
    """Return the comments above the fields of a class, by field; none where its source is not there."""
    if not issubclass(struct, msgspec.Struct) or struct is msgspec.Struct:
        return {}
    try:
        source = inspect.getsource(struct)
    except OSError:
        return {}
    return {
        name: " ".join(line.strip().removeprefix("# ") for line in comment.splitlines()).replace("None", "null")
        for comment, name in COMMENTED_FIELD.findall(source)
    }
