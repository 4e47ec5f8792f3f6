"""Access to an app inside the security middleware, with real accounts. Each test fails without its defence."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from backend.accounts.accounts import Accounts
from backend.domain.auth import Authority, User
from backend.errors import StoreRefused
from tests.support.accounts import PASSWORD
from tests.support.clock import VirtualClock
from tests.support.secured_app import OWN_ORIGIN, SECRET_OF_A_FAULT, SecuredSite, open_site, scope_of

OTHER_PORT = "http://127.0.0.1:8001"
HTML = "text/html,application/xhtml+xml"
MIB = 1024 * 1024


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def site(tmp_path: Path, clock: VirtualClock) -> Iterator[SecuredSite]:
    with open_site(tmp_path, clock) as site:
        yield site


@pytest.fixture
async def ana(site: SecuredSite) -> User:
    return await site.accounts.add_user("ana", PASSWORD)


@pytest.fixture
async def ben(site: SecuredSite) -> User:
    return await site.accounts.add_user("ben", PASSWORD)


def form(name: str = "ana", password: str = PASSWORD, **more: str) -> dict[str, str]:
    return {"username": name, "password": password, **more}


def cookie_of(answer: httpx.Response) -> str:
    found = re.match(r"dash_8000=([^;]+);", answer.headers["set-cookie"])
    assert found
    return found[1]


async def handshake(site: SecuredSite, path: str, **headers: str) -> str:
    """Return the answer to a WebSocket handshake: `websocket.accept` or `websocket.close`."""
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    given = {"host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    await site.app(scope_of("websocket", path, given), receive, send)
    return sent[0]


# --- the Host header -------------------------------------------------------------------------------------------------


async def test_an_unknown_host_gets_421_and_one_sentence(site: SecuredSite) -> None:
    async with site.client(host="evil.example") as client:
        page, api = await client.get("/login"), await client.get("/api/mine")
    assert (page.status_code, page.headers["content-type"]) == (421, "text/plain; charset=utf-8")
    assert (api.status_code, list(api.json())) == (421, ["detail"])


@pytest.mark.parametrize("path", ["/api/ws/progress", "/_nicegui_ws/socket.io/"])
async def test_a_socket_to_an_unknown_host_is_closed(site: SecuredSite, ana: User, path: str) -> None:
    cookie = f"dash_8000={await site.session(ana)}"
    answer = await handshake(site, path, host="evil.example:8000", origin="http://evil.example:8000", cookie=cookie)
    assert answer == "websocket.close"


# --- the Origin of requests that change something --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/logout", "/api/mine", "/api/jobs", "/_nicegui/client/page/upload/1"])
async def test_a_page_on_another_port_cannot_post_with_the_cookie(site: SecuredSite, ana: User, path: str) -> None:
    cookie = await site.session(ana)
    site.page_owners["page"] = ana.id
    async with site.client(cookie, origin=OTHER_PORT, sec_fetch_site="same-site") as foreign:
        assert (await foreign.post(path)).status_code == 403
    assert await site.accounts.session(cookie) is not None


@pytest.mark.parametrize("path", ["/logout", "/api/mine", "/api/jobs", "/_nicegui/client/page/upload/1"])
async def test_a_page_of_the_server_can_post_with_the_cookie(site: SecuredSite, ana: User, path: str) -> None:
    site.page_owners["page"] = ana.id
    async with site.client(await site.session(ana), origin=OWN_ORIGIN, sec_fetch_site="same-origin") as own:
        assert (await own.post(path)).status_code in (200, 303)


async def test_a_post_with_a_cookie_and_without_an_origin_is_refused(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana)) as silent:
        assert (await silent.post("/api/mine")).status_code == 403


async def test_an_own_origin_does_not_help_a_cross_site_request(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana), origin=OWN_ORIGIN, sec_fetch_site="cross-site") as client:
        assert (await client.post("/api/mine")).status_code == 403


async def test_a_script_gets_and_uses_a_token_without_an_origin(site: SecuredSite, ana: User) -> None:
    async with site.client() as script:
        answer = await script.post("/api/auth/token", data=form())
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await script.post("/api/mine", headers=bearer)).json() == "ana"
        assert (await script.post("/api/mine", headers=bearer | {"Origin": "app://x"})).json() == "ana"


async def test_a_foreign_page_cannot_guess_passwords(site: SecuredSite, ana: User) -> None:
    async with site.client(origin="http://evil.example") as foreign:
        for path in ("/api/auth/token", "/login"):
            assert (await foreign.post(path, data=form())).status_code == 403


async def test_a_token_opens_only_the_api(site: SecuredSite, ana: User) -> None:
    token = await site.accounts.issue_token(ana, lifetime_seconds=60)
    async with site.client(await site.session(ana), authorization=f"Bearer {token}", origin=OTHER_PORT) as foreign:
        assert (await foreign.post("/logout")).status_code == 403
    async with site.client(authorization=f"Bearer {token}") as script:
        assert (await script.get("/")).status_code == 401


async def test_a_bad_token_is_refused_despite_a_good_session(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana), authorization="Bearer nonsense") as client:
        assert (await client.get("/api/mine")).status_code == 401


@pytest.mark.parametrize(
    "headers", [{"origin": OTHER_PORT}, {"sec_fetch_site": "same-site", "sec_fetch_dest": "image"}]
)
async def test_a_foreign_page_reads_nothing_with_the_cookie(
    site: SecuredSite, ana: User, headers: dict[str, str]
) -> None:
    async with site.client(await site.session(ana), **headers) as foreign:
        assert (await foreign.get("/api/mine")).status_code == 401
        assert (await foreign.get("/")).status_code == 401
    assert site.built_pages == []


async def test_a_link_on_another_site_opens_a_page(site: SecuredSite, ana: User) -> None:
    cookie = await site.session(ana)
    async with site.client(cookie, sec_fetch_site="cross-site", sec_fetch_dest="document", accept=HTML) as client:
        assert (await client.get("/jobs/1")).status_code == 200


@pytest.mark.parametrize("path", ["/_nicegui_ws/socket.io/?client_id=page", "/_nicegui_ws/socket.io/"])
@pytest.mark.parametrize("origin", [OTHER_PORT, "http://evil.example", "null", ""])
async def test_a_foreign_page_cannot_open_the_socket_of_a_page(
    site: SecuredSite, ana: User, path: str, origin: str
) -> None:
    site.page_owners["page"] = ana.id
    cookie = f"dash_8000={await site.session(ana)}"
    assert await handshake(site, path, origin=origin, cookie=cookie) == "websocket.close"


async def test_a_foreign_page_cannot_poll_instead_of_the_socket(site: SecuredSite, ana: User) -> None:
    site.page_owners["page"] = ana.id
    async with site.client(await site.session(ana), origin=OTHER_PORT) as foreign:
        polling = "/_nicegui_ws/socket.io/?client_id=page&transport=polling"
        assert [(await foreign.get(polling)).status_code, (await foreign.post(polling)).status_code] == [401, 403]


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"}])
async def test_the_feed_accepts_any_origin(site: SecuredSite, headers: dict[str, str]) -> None:
    assert await handshake(site, "/api/ws/progress?token=x", **headers) == "websocket.accept"


# --- other origins that may use the API ------------------------------------------------------------------------------


@pytest.fixture
def site_with_tools(tmp_path: Path, clock: VirtualClock) -> Iterator[SecuredSite]:
    with open_site(tmp_path, clock, allowed_origins="https://tools.example") as site:
        yield site


async def test_an_allowed_origin_needs_a_token_for_the_api(site_with_tools: SecuredSite) -> None:
    ana = await site_with_tools.accounts.add_user("ana", PASSWORD)
    preflight_headers = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    async with site_with_tools.client(await site_with_tools.session(ana), origin="https://tools.example") as page:
        preflight = await page.options("/api/mine", headers=preflight_headers)
        with_cookie = await page.post("/api/mine")
        token = (await page.post("/api/auth/token", data=form())).json()["access_token"]
        with_token = await page.post("/api/mine", headers={"Authorization": f"Bearer {token}"})
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert [with_cookie.status_code, with_token.json()] == [401, "ana"]
    assert with_token.headers["access-control-allow-origin"] == "https://tools.example"
    assert not any("access-control-allow-credentials" in answer.headers for answer in (preflight, with_token))


async def test_only_allowed_origins_of_the_api_get_cors_headers(site_with_tools: SecuredSite) -> None:
    preflight_headers = {"access-control-request-method": "POST"}
    async with site_with_tools.client(origin="https://evil.example") as page:
        foreign = [await page.options("/api/mine", headers=preflight_headers), await page.get("/api/mine")]
    async with site_with_tools.client(origin="https://tools.example") as page:
        outside = [await page.options("/logout", headers=preflight_headers), await page.get("/login")]
        assert (await page.post("/logout")).status_code == 403
    assert not any("access-control-allow-origin" in answer.headers for answer in foreign + outside)


# --- access without a session ----------------------------------------------------------------------------------------


async def test_a_browser_without_a_session_is_sent_to_the_sign_in(site: SecuredSite) -> None:
    async with site.client(accept=HTML) as client:
        answers = [await client.get(path) for path in ("/", "/jobs/1?tab=errors", "/no/such/page")]
    assert [answer.status_code for answer in answers] == [303, 303, 303]
    assert [answer.headers["location"] for answer in answers] == [
        "/login",
        "/login?next=/jobs/1%3Ftab%3Derrors",
        "/login?next=/no/such/page",
    ]


async def test_a_program_without_a_session_gets_401(site: SecuredSite) -> None:
    async with site.client() as client:
        assert (await client.get("/jobs/1")).status_code == 401
    async with site.client(accept=HTML, origin=OWN_ORIGIN) as client:
        assert (await client.post("/jobs/1")).status_code == 401


async def test_no_request_without_a_session_builds_a_page(site: SecuredSite) -> None:
    paths = ["/", "/jobs/1", "/login/", "/logout", "/nope", "/_nicegui/client/x/y", "/_nicegui/3.18.0/nope", "/docs/x"]
    async with site.client(accept=HTML) as client:
        for path in paths:
            for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
                await client.request(method, path)
    assert site.built_pages == []


async def test_the_public_paths_need_no_session(site: SecuredSite) -> None:
    async with site.client() as client:
        paths = ("/login", "/healthz", "/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css")
        assert [(await client.get(path)).status_code for path in paths] == [200] * 5


async def test_a_page_and_its_socket_belong_to_one_user(site: SecuredSite, ana: User, ben: User) -> None:
    site.page_owners["page"] = ana.id
    answers: dict[str, list[Any]] = {}
    for user in (ana, ben):
        cookie = await site.session(user)
        async with site.client(cookie, origin=OWN_ORIGIN) as client:
            upload = await client.post("/_nicegui/client/page/upload/1")
            poll = await client.get("/_nicegui_ws/socket.io/?client_id=page")
        path = "/_nicegui_ws/socket.io/?client_id=page"
        socket = await handshake(site, path, origin=OWN_ORIGIN, cookie=f"dash_8000={cookie}")
        answers[user.name] = [upload.status_code, poll.status_code, socket]
    assert answers == {"ana": [200, 200, "websocket.accept"], "ben": [403, 403, "websocket.close"]}


@pytest.mark.parametrize("query", ["", "?client_id=", "?client_id=gone&client_id=page"])
async def test_a_socket_must_name_one_page(site: SecuredSite, ben: User, query: str) -> None:
    site.page_owners["page"] = "ana"
    cookie = f"dash_8000={await site.session(ben)}"
    assert (
        await handshake(site, f"/_nicegui_ws/socket.io/{query}", origin=OWN_ORIGIN, cookie=cookie) == "websocket.close"
    )


async def test_a_socket_without_a_session_is_closed(site: SecuredSite) -> None:
    assert await handshake(site, "/_nicegui_ws/socket.io/?client_id=gone", origin=OWN_ORIGIN) == "websocket.close"


# --- forwarded headers -----------------------------------------------------------------------------------------------


async def test_forwarded_headers_are_ignored_by_default(site: SecuredSite, ana: User) -> None:
    forged = {"x_forwarded_for": "6.6.6.6", "x_forwarded_prefix": "//evil", "forwarded": "for=6.6.6.6"}
    async with site.client(await site.session(ana), address="127.0.0.1", **forged) as client:
        seen = (await client.get("/")).json()
    assert seen["client"] == "127.0.0.1"
    assert not [name for name in seen["headers"] if "forwarded" in name]


async def test_a_trusted_proxy_sets_the_client_and_the_scheme(tmp_path: Path, clock: VirtualClock) -> None:
    with open_site(tmp_path, clock, trusted_proxies="127.0.0.1", allowed_hosts="ops.example") as site:
        await site.accounts.add_user("ana", PASSWORD)
        forwarded = {"x_forwarded_for": "6.6.6.6, 192.0.2.9", "x_forwarded_proto": "https", "host": "ops.example"}
        async with site.client(address="127.0.0.1", origin="https://ops.example", **forwarded) as client:
            answer = await client.post("/login", data=form())
            cookie = answer.headers["set-cookie"]
            seen = await client.get("/", headers={"cookie": cookie.partition(";")[0]})
    assert cookie.startswith("__Host-dash_8000=")
    assert "secure" in cookie.lower()
    assert seen.json()["client"] == "192.0.2.9"
    assert seen.headers["strict-transport-security"]


async def test_forged_addresses_do_not_evade_the_throttle(site: SecuredSite, ana: User) -> None:
    statuses = []
    for number in range(6):
        async with site.client(origin=OWN_ORIGIN, x_forwarded_for=f"6.6.{number}.6") as client:
            statuses.append((await client.post("/login", data=form(password="wrong password"))).status_code)
    assert statuses == [401] * 5 + [429]


# --- headers ---------------------------------------------------------------------------------------------------------


async def test_every_answer_has_the_security_headers(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana), accept=HTML) as client:
        for path in ("/", "/login", "/link", "/api/mine", "/api/nope", "/api/fault", "/healthz", "/docs"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "strict-transport-security" not in headers


async def test_each_answer_has_its_own_nonce(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana)) as client:
        policies = [(await client.get("/")).headers["content-security-policy"] for _ in range(2)]
    nonces = {re.findall(r"script-src 'nonce-([^']{20,})'", policy)[0] for policy in policies}
    assert len(nonces) == 2


async def test_the_sign_in_page_has_no_script_and_a_style_with_nonce(site: SecuredSite) -> None:
    async with site.client() as client:
        page = await client.get("/login")
    assert "<script" not in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    nonce = re.findall(r"'nonce-([^']+)'", page.headers["content-security-policy"])[0]
    assert f'<style nonce="{nonce}">' in page.text


async def test_the_command_on_the_sign_in_page_is_not_translated(site: SecuredSite) -> None:
    async with site.client() as client:
        page = await client.get("/login")
    assert re.search(r'<code translate="no">\S.*login-link NAME</code>', page.text)


# --- bodies ----------------------------------------------------------------------------------------------------------


class QuietServer(uvicorn.Server):
    """Sets an event when it listens, and leaves the signals of the test process alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@asynccontextmanager
async def served(site: SecuredSite) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the app with Uvicorn, and yield a client with a real connection."""
    config = uvicorn.Config(site.app, port=0, log_config=None, proxy_headers=False, lifespan="off")
    server = QuietServer(config)
    serving = asyncio.create_task(server.serve())
    await server.listening.wait()
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"host": "127.0.0.1:8000", "origin": OWN_ORIGIN}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
        yield client
    server.should_exit = True
    await serving


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 64 * 1024):
        yield bytes(64 * 1024)


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/jobs", 21 * MIB),
        ("/_nicegui/client/page/upload/1", 21 * MIB),
        ("/api/notes", MIB),
        ("/api/auth/token", 64 * 1024),
        ("/login", 64 * 1024),
    ],
)
async def test_a_body_above_the_limit_of_its_path_is_413(site: SecuredSite, ana: User, path: str, limit: int) -> None:
    site.page_owners["page"] = ana.id
    kind = {"cookie": f"dash_8000={await site.session(ana)}", "content-type": "application/x-www-form-urlencoded"}
    async with served(site) as client:
        declared = await client.post(path, content=bytes(limit + 64 * 1024), headers=kind)
        chunked = await client.post(path, content=chunks(limit + 64 * 1024), headers=kind)
        allowed = await client.post(path, content=chunks(limit - 64 * 1024), headers=kind)
    assert [declared.status_code, chunked.status_code] == [413, 413]
    assert allowed.status_code != 413
    assert max(site.body_sizes, default=0) <= limit
    if path.startswith("/api"):
        assert list(chunked.json()) == list(declared.json()) == ["detail"]


async def test_a_body_with_a_too_large_length_is_refused_unread(site: SecuredSite) -> None:
    async with site.client() as client:
        answer = await client.post("/api/jobs", content=b"x", headers={"content-length": str(22 * MIB)})
    assert answer.status_code == 413
    assert site.body_sizes == []


# --- errors ----------------------------------------------------------------------------------------------------------


async def test_every_error_under_api_is_one_sentence_of_json(site: SecuredSite, ana: User) -> None:
    requests = [
        ("GET", "/api", 404),
        ("GET", "/api/", 404),
        ("GET", "/api/nope", 404),
        ("PUT", "/api/nope/nope", 404),
        ("DELETE", "/api/mine", 405),
        ("PATCH", "/api/jobs/7", 405),
        ("GET", "/api/jobs/7", 404),
        ("GET", "/api/jobs/7?limit=0", 422),
        ("GET", "/api/jobs/7?limit=x", 422),
        ("POST", "/api/note", 422),
    ]
    async with site.client(await site.session(ana), origin=OWN_ORIGIN, accept=HTML) as client:
        for method, path, status in requests:
            answer = await client.request(method, path)
            assert (answer.status_code, list(answer.json())) == (status, ["detail"]), path
            assert isinstance(answer.json()["detail"], str)
            assert answer.json()["detail"].endswith(".")
    assert site.built_pages == []


async def test_405_lists_the_allowed_methods(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana), origin=OWN_ORIGIN) as client:
        assert (await client.delete("/api/mine")).headers["allow"] == "GET, POST"


async def test_an_unexpected_error_shows_only_a_number(
    site: SecuredSite, ana: User, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.client() as client:
        answer = await client.get("/api/fault")
    number = re.findall(r"\b[0-9a-f]{8}\b", answer.json()["detail"])
    assert answer.status_code == 500
    assert SECRET_OF_A_FAULT not in answer.text
    reports = [record for record in caplog.records if record.exc_info]
    assert [vars(record)["number"] for record in reports] == number


HOSTILE = ["\x00", "\ud800", "9" * 40, str(2**63), "NaN", "-1e999", "[" * 60_000, "%", "'; --", "<script>", "\u202e"]
HOSTILE_BODIES = [
    *[b'{"text": ' + value + b"}" for value in (b'"\\u0000"', b'"\\ud800"', b"NaN", b"[" * 60_000, b"1e999", b"null")],
    *[b'{"number": ' + value + b"}" for value in (b"9223372036854775808", b"1" * 5000, b"NaN", b"Infinity", b"-0.5")],
    b"\xff\xfe",
    b"[" * 100_000,
    b"",
    b"{" * 1000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=[ascii(value[:8]) for value in HOSTILE])
async def test_no_text_in_a_form_or_an_address_causes_a_5xx(site: SecuredSite, ana: User, value: str) -> None:
    sent = value.encode("utf-8", "surrogatepass")
    quoted = "".join(f"%{byte:02x}" for byte in sent)[:6000]
    plain = {"content-type": "application/x-www-form-urlencoded"}
    async with site.client(origin=OWN_ORIGIN) as client:
        answers = [
            await client.post("/login", content=b"username=" + sent + b"&password=" + sent, headers=plain),
            await client.post("/login", content=f"username={quoted}&next=/{quoted}", headers=plain),
            await client.post("/api/auth/token", content=f"username={quoted}&password={quoted}", headers=plain),
            await client.get(f"/login?next={quoted}"),
            await client.get(f"/link?token={quoted}"),
            await client.get(f"/api/{quoted}"),
            await client.get(f"/api/jobs/{quoted}?limit={quoted}"),
            await client.get("/api/mine", headers={b"authorization": b"Bearer " + sent[:4000].strip(b"\0")}),
            await client.get("/", headers={b"cookie": b"dash_8000=" + sent[:4000].strip(b"\0")}),
        ]
    assert [answer.status_code for answer in answers if answer.status_code >= 500] == []


@pytest.mark.parametrize("body", HOSTILE_BODIES, ids=[ascii(body[:24]) for body in HOSTILE_BODIES])
async def test_no_json_body_causes_a_5xx(site: SecuredSite, ana: User, body: bytes) -> None:
    async with site.client(await site.session(ana), origin=OWN_ORIGIN) as client:
        answer = await client.post("/api/note", content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500
    assert answer.status_code == 200 or list(answer.json()) == ["detail"]


@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=x", "application/json", "text/plain; charset=utf-7", ""]
)
async def test_a_sign_in_without_a_plain_form_is_415(site: SecuredSite, kind: str) -> None:
    async with site.client() as script:
        answer = await script.post("/api/auth/token", content=b"x", headers={"content-type": kind})
    assert (answer.status_code, list(answer.json())) == (415, ["detail"])


@pytest.mark.parametrize("charset", ["undefined", "unicode_escape", "idna", "base64", "nonsense"])
async def test_no_charset_of_a_form_causes_a_5xx(site: SecuredSite, charset: str) -> None:
    kind = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    body = b'--x\r\nContent-Disposition: form-data; name="\xff\\ud800"\r\n\r\n\xff\\ud800\r\n--x--\r\n'
    async with site.client() as client:
        assert (await client.post("/api/form", content=body, headers=kind)).status_code in (200, 400)


class AwayAccounts(Accounts):
    """Accounts in a database that cannot be read now."""

    def __init__(self) -> None:
        """Take no database."""

    async def session(self, cookie: str, *, from_memory: bool = True) -> Authority | None:
        raise StoreRefused


async def test_a_page_that_cannot_be_shown_for_now_says_so_and_loads_itself_again(site: SecuredSite) -> None:
    away = SecuredSite(site.settings, AwayAccounts(), site.clock)
    async with away.client("of a session", accept=HTML) as client:
        page, api = await client.get("/history?q=a&sort=name"), await client.get("/api/mine")
    assert (page.status_code, page.headers["refresh"]) == (503, "2")
    assert StoreRefused().sentence in page.text
    assert 'href="/history?q=a&amp;sort=name"' in page.text
    assert (api.status_code, api.headers["retry-after"]) == (503, "2")
    assert api.json() == {"detail": StoreRefused().sentence}


async def test_a_monitor_gets_its_answer_although_no_session_can_be_looked_up(site: SecuredSite) -> None:
    away = SecuredSite(site.settings, AwayAccounts(), site.clock)
    async with away.client("of a session", accept=HTML) as client:
        answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, "ok")


# --- signing in and out ----------------------------------------------------------------------------------------------


async def test_the_form_signs_in_and_redirects_to_next(site: SecuredSite, ana: User) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        answer = await browser.post("/login", data=form(name="Ana", next="/jobs/1?tab=errors"))
        page = await browser.get("/jobs/1", headers={"cookie": f"dash_8000={cookie_of(answer)}"})
    assert (answer.status_code, answer.headers["location"], page.status_code) == (303, "/jobs/1?tab=errors", 200)
    flags = answer.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("httponly", "samesite=lax", "path=/"))
    assert "domain" not in flags


async def test_a_sign_in_never_redirects_to_another_site(site: SecuredSite, ana: User) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        answer = await browser.post("/login", data=form(next="//evil.example"))
    assert answer.headers["location"] == "/"


async def test_a_signed_in_user_skips_the_form(site: SecuredSite, ana: User) -> None:
    async with site.client(await site.session(ana)) as browser:
        answer = await browser.get("/login?next=/history")
    assert (answer.status_code, answer.headers["location"]) == (303, "/history")


async def test_a_planted_cookie_is_never_adopted(site: SecuredSite, ana: User) -> None:
    planted = "planted-by-another-site"
    async with site.client(planted, origin=OWN_ORIGIN) as browser:
        assert (await browser.get("/")).status_code == 401
        answer = await browser.post("/login", data=form())
    assert cookie_of(answer) != planted
    assert await site.accounts.session(planted) is None


async def test_a_new_sign_in_ends_the_previous_session(site: SecuredSite, ana: User) -> None:
    before = await site.session(ana)
    async with site.client(before, origin=OWN_ORIGIN) as browser:
        assert (await browser.post("/login", data=form())).status_code == 303
    assert await site.accounts.session(before) is None


async def test_a_wrong_password_and_an_unknown_user_get_the_same_page(site: SecuredSite, ana: User) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        wrong, unknown = [
            await browser.post("/login", data=form(name=name, password="not the password")) for name in ("ana", "eve")
        ]
    without_nonce = [re.sub(r'nonce="[^"]+"', "", page.text).replace("eve", "ana") for page in (wrong, unknown)]
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    assert without_nonce[0] == without_nonce[1]
    assert 'role="alert"' in wrong.text
    assert "not the password" not in wrong.text


async def test_typed_text_is_escaped(site: SecuredSite) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        page = await browser.post("/login", data=form(name='"><img src=x onerror=alert(1)>', next='/"><i>'))
    assert "<img" not in page.text
    assert "<i>" not in page.text


async def test_too_many_attempts_answer_with_the_time_to_wait(site: SecuredSite, ana: User) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        for _ in range(5):
            await browser.post("/api/auth/token", data=form(password="not the password"))
        page, api = await browser.post("/login", data=form()), await browser.post("/api/auth/token", data=form())
    assert (page.status_code, api.status_code) == (429, 429)
    assert int(page.headers["retry-after"]) >= 1
    assert int(api.headers["retry-after"]) >= 1


async def test_signing_out_ends_the_session(site: SecuredSite, ana: User) -> None:
    cookie = await site.session(ana)
    async with site.client(cookie, origin=OWN_ORIGIN) as browser:
        answer = await browser.post("/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert (await browser.get("/")).status_code == 401
    assert 'dash_8000=""' in answer.headers["set-cookie"]


async def test_a_sign_in_link_works_once(site: SecuredSite, ana: User) -> None:
    link = await site.accounts.make_link(ana, lifetime_seconds=60)
    async with site.client(accept=HTML, origin=OWN_ORIGIN) as browser:
        first, second = [await browser.post("/link", data={"token": link}) for _ in range(2)]
        page = await browser.get("/", headers={"cookie": f"dash_8000={cookie_of(first)}"})
        shown = await browser.get(f"/link?token={link}")
    assert (first.status_code, first.headers["location"], page.status_code) == (303, "/", 200)
    for ended in (second, shown):
        assert ended.status_code == 410
        assert "python main.py login-link" in ended.text
        assert "set-cookie" not in ended.headers


async def test_a_sign_in_link_shows_one_button_and_whom_it_signs_in(site: SecuredSite, ana: User) -> None:
    link = await site.accounts.make_link(ana, lifetime_seconds=60)
    async with site.client(accept=HTML) as browser:
        page = await browser.get(f"/link?token={link}")
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert "set-cookie" not in page.headers
    assert re.findall(r'<form[^>]*>|<button[^>]*>[^<]*|<b translate="no">[^<]+', page.text) == [
        '<b translate="no">ana',
        '<form method="post" action="/link">',
        '<button class="act" autofocus>Sign in',
    ]
    assert f'name="token" value="{link}"' in page.text
    assert "<script" not in page.text


async def test_a_sign_in_link_expires(site: SecuredSite, ana: User, clock: VirtualClock) -> None:
    link = await site.accounts.make_link(ana, lifetime_seconds=60)
    await clock.advance(61)
    async with site.client(accept=HTML, origin=OWN_ORIGIN) as browser:
        assert (await browser.get(f"/link?token={link}")).status_code == 410
        assert (await browser.post("/link", data={"token": link})).status_code == 410


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "TelegramBot (like TwitterBot)"},
        {"user-agent": "Slackbot-LinkExpanding 1.0", "accept": "*/*", "range": "bytes=0-32768"},
        {"sec-purpose": "prefetch;prerender"},
        {"user-agent": "Mozilla/5.0", "accept": "text/html", "sec-fetch-dest": "document", "sec-fetch-site": "none"},
    ],
    ids=["a messenger", "a chat", "a browser that looks ahead", "a mail scanner that looks like a browser"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_a_preview_does_not_use_up_the_link(
    site: SecuredSite, ana: User, headers: dict[str, str], method: str
) -> None:
    link = await site.accounts.make_link(ana, lifetime_seconds=60)
    async with site.client() as program, site.client(origin=OWN_ORIGIN) as person:
        for _ in range(3):
            seen = await program.request(method, f"/link?token={link}", headers=headers)
        assert "set-cookie" not in seen.headers
        assert method == "GET" or not seen.text or seen.status_code == 401
        assert (await person.post("/link", data={"token": link})).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": OWN_ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:8001", "sec-fetch-site": "same-site"},
    ],
    ids=str,
)
async def test_another_site_cannot_use_a_link(site: SecuredSite, ana: User, headers: dict[str, str]) -> None:
    """Otherwise it could sign a visitor in as somebody else, or use the link up."""
    link = await site.accounts.make_link(ana, lifetime_seconds=60)
    async with site.client() as other, site.client(origin=OWN_ORIGIN) as person:
        refused = await other.post("/link", data={"token": link}, headers=headers)
        assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
        assert (await person.post("/link", data={"token": link})).status_code == 303


async def test_only_the_link_that_the_program_opens_itself_signs_in_at_once(site: SecuredSite, ana: User) -> None:
    shared = await site.accounts.make_link(ana, lifetime_seconds=60)
    opened = await site.accounts.make_link(ana, lifetime_seconds=60, at_once=True)
    prefix = opened.partition(".")[0]
    async with site.client(accept=HTML) as browser:
        assert (await browser.get(f"/link?token={prefix}.{shared}")).status_code == 410
        await browser.head(f"/link?token={opened}")
        await browser.get(f"/link?token={opened}", headers={"sec-purpose": "prefetch"})
        signed_in, again = [await browser.get(f"/link?token={opened}") for _ in range(2)]
    assert (signed_in.status_code, signed_in.headers["location"], again.status_code) == (303, "/", 410)


async def test_a_session_is_not_a_token_nor_the_reverse(site: SecuredSite, ana: User) -> None:
    session, token = await site.session(ana), await site.accounts.issue_token(ana, lifetime_seconds=60)
    async with site.client(authorization=f"Bearer {session}") as client:
        assert (await client.get("/api/auth/me")).status_code == 401
    async with site.client(token) as client:
        assert (await client.get("/api/auth/me")).status_code == 401


async def test_me_returns_the_caller_of_a_session_or_a_token(site: SecuredSite, ana: User) -> None:
    token = await site.accounts.issue_token(ana, lifetime_seconds=60)
    async with site.client(await site.session(ana)) as browser, site.client() as script:
        answers = [
            await browser.get("/api/auth/me"),
            await script.get("/api/auth/me", headers={"authorization": f"Bearer {token}"}),
            await script.get("/api/auth/me"),
        ]
    me = {"id": ana.id, "name": "ana", "is_admin": False}
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    assert [answer.json() for answer in answers[:2]] == [me, me]
    assert answers[2].headers["www-authenticate"] == "Bearer"


async def test_a_token_is_valid_for_the_stated_time(site: SecuredSite, ana: User, clock: VirtualClock) -> None:
    async with site.client() as script:
        made = (await script.post("/api/auth/token", data=form(grant_type="password"))).json()
        assert made["token_type"] == "bearer"
        await clock.advance(made["expires_in"] - 1)
        bearer = {"authorization": f"Bearer {made['access_token']}"}
        assert (await script.get("/api/auth/me", headers=bearer)).status_code == 200
        await clock.advance(1)
        assert (await script.get("/api/auth/me", headers=bearer)).status_code == 401


async def test_the_token_route_documents_its_form_and_errors(site: SecuredSite) -> None:
    async with site.client() as script:
        paths = (await script.get("/openapi.json")).json()["paths"]
    assert "application/x-www-form-urlencoded" in paths["/api/auth/token"]["post"]["requestBody"]["content"]
    assert sorted(paths["/api/auth/token"]["post"]["responses"]) == ["200", "401", "415", "422", "429"]
    assert not {"/login", "/logout", "/link", "/docs", "/api/{path}"} & set(paths)


async def test_a_password_typed_as_the_name_is_not_logged(
    site: SecuredSite, ana: User, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.client(origin=OWN_ORIGIN) as browser:
        for name in ("n0b0dy-may-see-this", ana.name):
            await browser.post("/login", data={"username": name, "password": "not the password"})
    assert [vars(record)["user"] for record in caplog.records] == ["(unknown)", ana.name]
