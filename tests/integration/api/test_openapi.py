"""The OpenAPI document: complete, consistent, and true of the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from backend import open_backend
from backend.api import ROUTERS, build_app
from tests.support.accounts import PASSWORD
from tests.support.databases import settings_of

Json = Any
REFERENCE = "#/components/schemas/"
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass
class Api:
    """A client of a running API as ana, with its document."""

    client: httpx.AsyncClient
    document: dict[str, Json]
    admin: str  # a token
    path_values: dict[str, object] = field(default_factory=dict)

    async def assert_answer(self, method: str, path: str, status: int, **request: Any) -> Json:
        """Send a request, and return its answer after a check of the status and the schema."""
        answer = await self.client.request(method, path.format_map(self.path_values), **request)
        assert answer.status_code == status, answer.text
        documented = self.document["paths"][path][method.lower()]["responses"][str(status)]
        assert_fits(answer.json(), documented["content"]["application/json"]["schema"], self.document)
        return answer.json()


def assert_fits(value: Json, schema: dict[str, Json], document: dict[str, Json]) -> None:
    """Check the types, the required fields and the allowed words of a value against a schema."""
    if "$ref" in schema:
        return assert_fits(value, schema_of(schema["$ref"], document), document)
    if "anyOf" in schema:
        return assert_fits_one(value, schema["anyOf"], document)
    if "enum" in schema:
        assert value in schema["enum"]
        return None
    if "type" in schema:
        assert isinstance(value, TYPES[schema["type"]]), f"{value!r} is not of type {schema['type']}"
        assert schema["type"] == "boolean" or not isinstance(value, bool)
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
        for name, part in value.items():
            assert_fits(part, schema["properties"][name], document)
    if isinstance(value, list):
        for item in value:
            assert_fits(item, schema.get("items", {}), document)
    return None


def assert_fits_one(value: Json, schemas: list[dict[str, Json]], document: dict[str, Json]) -> None:
    """Check that a value fits one of the schemas."""
    complaints = []
    for schema in schemas:
        try:
            return assert_fits(value, schema, document)
        except AssertionError as error:
            complaints.append(str(error))
    raise AssertionError(f"{value!r} fits no schema: {complaints}")


def schema_of(reference: str, document: dict[str, Json]) -> dict[str, Json]:
    """Return the schema that a reference names."""
    assert reference.startswith(REFERENCE)
    schema: dict[str, Json] = document["components"]["schemas"][reference.removeprefix(REFERENCE)]
    return schema


def references(part: Json) -> Iterator[str]:
    """Yield all references in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references(inner)
    if isinstance(part, list):
        for inner in part:
            yield from references(inner)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with open_backend(settings_of(tmp_path / "data")) as backend:
        ana = await backend.accounts.add_user("ana", PASSWORD)
        headers = {"Authorization": f"Bearer {await backend.accounts.issue_token(ana, lifetime_seconds=600)}"}
        admin = await backend.accounts.issue_token(await backend.accounts.user("admin"), lifetime_seconds=600)
        app = build_app(backend)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", headers=headers
        ) as client:
            yield Api(client, (await client.get("/openapi.json")).json(), admin)


async def test_the_document_lists_exactly_the_routes(api: Api) -> None:
    routes = {
        (method.lower(), route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }
    documented = {(method, path) for path, methods in api.document["paths"].items() for method in methods}
    assert documented == routes
    assert {path.split("/")[1] for _, path in documented} == {"api", "healthz", "metrics"}


async def test_every_reference_resolves(api: Api) -> None:
    found = set(references(api.document))
    assert len(found) > 10
    assert {reference for reference in found if not schema_of(reference, api.document)} == set()


async def test_every_error_is_documented_with_the_same_schema(api: Api) -> None:
    errors = [
        answer["content"]["application/json"]["schema"]
        for methods in api.document["paths"].values()
        for route in methods.values()
        for status, answer in route["responses"].items()
        if int(status) >= 400
    ]
    assert errors
    assert [schema for schema in errors if schema != {"$ref": f"{REFERENCE}ProblemOut"}] == []


async def test_the_comments_above_fields_are_their_descriptions(api: Api) -> None:
    schemas = api.document["components"]["schemas"]
    job, report, problem = (schemas[name]["properties"] for name in ("JobOut", "SenderReport", "ProblemOut"))
    assert job["owner"]["description"] == "Name of the user who owns the job."
    assert job["total_videos"]["description"] == "Number of videos in the job."  # of the base class
    assert schemas["SubmittedOut"]["properties"]["owner"] == job["owner"]
    assert report["video_id"]["description"] == "ID of one of the job's videos."
    assert problem["detail"]["description"].startswith("What went wrong")


async def test_the_answers_of_the_api_fit_their_schemas(api: Api) -> None:
    order = {"video_ids": ["one", "two", "two", "not an id"], "processor": "external"}
    job = await api.assert_answer("POST", "/api/jobs", 201, json=order)
    api.path_values = {"job_id": job["job_id"], "position": 0}
    failure = {"n": 1, "current_video": 1, "video_id": "one", "error": "The file is cut off."}
    end = [{"n": 2, "current_video": 2}, {"n": 3, "status": "completed"}]
    await api.assert_answer("POST", "/api/jobs/{job_id}/progress", 200, json=failure)
    await api.assert_answer("POST", "/api/jobs/{job_id}/progress", 200, json=end)
    assert (await api.assert_answer("GET", "/api/jobs/{job_id}", 200))["error"] == "The file is cut off."
    assert len((await api.assert_answer("GET", "/api/jobs", 200))["items"]) == 1
    assert len((await api.assert_answer("GET", "/api/jobs/{job_id}/videos", 200))["items"]) == 2
    for part in ("videos/{position}/attempts", "causes", "progress-history"):
        assert await api.assert_answer("GET", f"/api/jobs/{{job_id}}/{part}", 200)
    for action in ("cancel", "keep", "dismiss"):
        await api.assert_answer("POST", f"/api/jobs/{{job_id}}/{action}", 200)
    await api.assert_answer("GET", "/api/slots", 200)
    await api.assert_answer("GET", "/api/auth/me", 200)
    await api.assert_answer("GET", "/api/notifications", 200)
    await api.assert_answer("POST", "/api/notifications/read", 200)
    await api.assert_answer("GET", "/api/notifications/settings", 200)
    await api.assert_answer("PUT", "/api/notifications/settings", 200, json={"events": ["failed"], "zone": "UTC"})
    await api.assert_answer("POST", "/api/jobs/{job_id}/notify", 200, json={"events": ["completed"]})
    boss = {"Authorization": f"Bearer {api.admin}"}
    [machine] = await api.assert_answer("GET", "/api/workers", 200, headers=boss)
    api.path_values |= {"name": machine["name"]}
    await api.assert_answer("PUT", "/api/workers/{name}", 200, json={"drain": True, "slots": 3}, headers=boss)
    await api.assert_answer("POST", "/api/auth/token", 200, data={"username": "ana", "password": PASSWORD})


async def test_the_refusals_of_the_api_fit_their_schemas(api: Api) -> None:
    api.path_values = {"job_id": "00000000-0000-4000-8000-000000000000", "name": "never-was"}
    await api.assert_answer("GET", "/api/auth/me", 401, headers={"Authorization": "Bearer nonsense"})
    await api.assert_answer("PUT", "/api/slots", 403, json={"slots": 1})
    await api.assert_answer("GET", "/api/workers", 403)
    await api.assert_answer("PUT", "/api/workers/{name}", 403, json={"drain": True})
    boss = {"Authorization": f"Bearer {api.admin}"}
    await api.assert_answer("PUT", "/api/workers/{name}", 404, json={"drain": True}, headers=boss)
    await api.assert_answer("PUT", "/api/workers/{name}", 422, json={"slots": "many"}, headers=boss)
    await api.assert_answer("GET", "/api/jobs/{job_id}", 404)
    await api.assert_answer("POST", "/api/jobs/{job_id}/cancel", 404)
    await api.assert_answer("POST", "/api/jobs", 400, content=b"{", headers={"Content-Type": "application/json"})
    await api.assert_answer("POST", "/api/jobs", 415, content=b"x", headers={"Content-Type": "text/plain"})
    await api.assert_answer("POST", "/api/jobs", 422, json={"video_ids": []})
    await api.assert_answer("POST", "/api/auth/token", 401, data={"username": "ana", "password": "not the password"})
