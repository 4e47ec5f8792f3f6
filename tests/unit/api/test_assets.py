"""The code and style of the pages are made once, and then answered from memory."""

from __future__ import annotations

import asyncio

import pytest
from httpx import ASGITransport, AsyncClient, Response
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from backend.api.assets import AssetCache


class CountingApp:
    """An app that answers with the number of its requests."""

    def __init__(self) -> None:
        self.requests = self.ranges = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        status = 404 if scope["path"].endswith("missing.js") else 200
        self.ranges += "range" in Request(scope).headers
        encoding = Request(scope).headers.get("accept-encoding", "")
        await PlainTextResponse(f"{self.requests} {encoding}", status, {"etag": "x", "Accept-Ranges": "bytes"})(
            scope, receive, send
        )


def is_asset(path: str) -> bool:
    return path.startswith("/static/")


@pytest.fixture
def app() -> CountingApp:
    return CountingApp()


@pytest.fixture
def client(app: CountingApp) -> AsyncClient:
    return client_of(AssetCache(app, is_asset))


def client_of(cache: AssetCache) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(cache), base_url="http://dashboard", headers={"Accept-Encoding": ""})


def same(first: Response, second: Response) -> bool:
    return (first.status_code, first.headers, first.content) == (second.status_code, second.headers, second.content)


async def test_an_asset_is_made_once(app: CountingApp, client: AsyncClient) -> None:
    first, second = [await client.get("/static/a.js") for _ in range(2)]
    assert same(first, second)
    assert app.requests == 1


async def test_other_paths_are_not_kept(app: CountingApp, client: AsyncClient) -> None:
    first, second = [await client.get("/api/jobs") for _ in range(2)]
    assert (first.text, second.text) == ("1 ", "2 ")


async def test_a_compressed_answer_goes_only_to_those_who_take_it(app: CountingApp, client: AsyncClient) -> None:
    for encoding in ("gzip, br", "", "gzip", ""):
        answer = await client.get("/static/a.js", headers={"Accept-Encoding": encoding})
        assert ("gzip" in answer.text) is ("gzip" in encoding)
    assert app.requests == 2


async def test_an_asset_is_always_sent_whole(app: CountingApp, client: AsyncClient) -> None:
    """The rest of a plain file behind the beginning of a compressed one is no file."""
    first = await client.get("/static/a.js", headers={"Range": "bytes=1-", "If-Range": "x"})
    second = await client.get("/static/a.js", headers={"Range": "bytes=1-"})
    assert same(first, second)
    assert (first.status_code, first.headers["accept-ranges"], app.ranges) == (200, "none", 0)


async def test_an_answer_is_made_to_the_end_although_its_client_goes() -> None:
    """NiceGUI's middleware ends an answer early when the client has gone, and says that it is whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_first = (await receive())["type"] == "http.request"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        body = b"half" if gone.done() else b"half and half"
        gone.cancel()
        await send({"type": "http.response.body", "body": body if is_first else b""})

    async def gone() -> Message:
        return {"type": "http.disconnect"}

    async def nowhere(_: Message) -> None: ...

    cache = AssetCache(app, is_asset)
    scope = {"type": "http", "method": "GET", "path": "/static/a.js", "query_string": b"", "headers": []}
    await cache(scope, gone, nowhere)
    answer = await client_of(cache).get("/static/a.js")
    assert (answer.text, answer.headers["content-length"]) == ("half and half", "13")


async def test_conditions_are_the_app_s(app: CountingApp, client: AsyncClient) -> None:
    await client.get("/static/a.js")
    await client.get("/static/a.js", headers={"If-None-Match": "x"})
    await client.get("/static/a.js?v=2")
    await client.head("/static/a.js")
    assert app.requests == 4


async def test_what_is_missing_is_asked_for_again(app: CountingApp, client: AsyncClient) -> None:
    assert [(await client.get("/static/missing.js")).status_code for _ in range(2)] == [404, 404]
    assert app.requests == 2


async def test_memory_is_limited(app: CountingApp) -> None:
    client = client_of(AssetCache(app, is_asset, max_cached_bytes=3))
    texts = [(await client.get(f"/static/{name}.js")).text for name in ("a", "b", "a", "b")]
    assert texts == ["1 ", "2 ", "1 ", "3 "]


async def test_what_a_caller_does_to_the_headers_stays_with_that_answer(app: CountingApp) -> None:
    cache, sent = AssetCache(app, is_asset), list[list[tuple[bytes, bytes]]]()

    async def add_a_nonce(message: dict[str, list[tuple[bytes, bytes]]]) -> None:
        if "headers" in message:
            message["headers"].append((b"x-nonce", b"secret"))
            sent.append(message["headers"])

    async def receive() -> dict[str, str]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/static/a.js", "query_string": b"", "headers": []}
    for _ in range(3):
        await cache(scope, receive, add_a_nonce)  # type: ignore[arg-type]
    assert [headers.count((b"x-nonce", b"secret")) for headers in sent] == [1, 1, 1]
