"""Decisions of the security middleware on header values and paths."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from backend.api.addresses import Hosts, OriginKind, Origins, Proxies
from backend.api.security import RouteClass, route_class_of, session_cookie
from backend.api.session import local_address
from backend.errors import CannotStart
from backend.settings import load_settings

OWN_ORIGIN = "http://127.0.0.1:8000"
ASSETS = f"/_nicegui/{version('nicegui')}"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_loopback_names_with_the_servers_port_are_known(host: str) -> None:
    assert Hosts(load_settings()).is_known(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1",
        "127.0.0.1:8001",
        "127.0.0.1:8000.evil.example",
        "127.0.0.1.evil.example:8000",
        "evil.example@127.0.0.1:8000",
        "localhost.:8000",
        "localhost:8000:8000",
        "localhost:08000",
        "0.0.0.0:8000",
        " localhost:8000",
        "localhost:8000\x00",
        "",
    ],
)
def test_any_other_host_is_unknown(host: str) -> None:
    assert not Hosts(load_settings()).is_known(host)


def test_an_allowed_host_without_a_port_matches_every_port() -> None:
    hosts = Hosts(load_settings(allowed_hosts="ops.example,lab.example:9000"))
    answers = [hosts.is_known(host) for host in ("ops.example", "OPS.example:1234", "lab.example:9000", "lab.example")]
    assert answers == [True, True, True, False]


def test_the_public_and_the_bound_address_are_known() -> None:
    hosts = Hosts(load_settings(host="192.0.2.7", public_url="https://ops.example:443/"))
    assert hosts.is_known("ops.example")
    assert hosts.is_known("192.0.2.7:8000")
    assert not hosts.is_known("ops.example:8000")


def test_a_server_on_all_addresses_knows_no_other_host() -> None:
    assert not Hosts(load_settings(host="0.0.0.0")).is_known("192.0.2.7:8000")


@pytest.mark.parametrize("value", ["*", "*.example", "ops.example/x", "http://ops.example"])
def test_a_pattern_is_not_a_host_name(value: str) -> None:
    with pytest.raises(CannotStart, match="DASHBOARD_ALLOWED_HOSTS"):
        load_settings(allowed_hosts=value)


def origin_kind(settings: dict[str, str], **headers: str) -> OriginKind:
    origins = Origins(load_settings(**settings))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return origins.kind_of(sent, origins.own("http", "127.0.0.1:8000"))


@pytest.mark.parametrize(
    "origin",
    [
        "http://127.0.0.1:8001",
        "http://127.0.0.1",
        "https://127.0.0.1:8000",
        "http://localhost:8000",
        "http://evil.example",
        "http://127.0.0.1:8000.evil.example",
        "null",
        "",
    ],
)
def test_an_origin_that_differs_in_scheme_host_or_port_is_foreign(origin: str) -> None:
    assert origin_kind({}, origin=origin) is OriginKind.FOREIGN


def test_the_own_origin_is_own_unless_sec_fetch_site_disagrees() -> None:
    assert origin_kind({}, origin=OWN_ORIGIN) is OriginKind.OWN
    assert origin_kind({}, origin=OWN_ORIGIN, sec_fetch_site="same-origin") is OriginKind.OWN
    assert origin_kind({}, origin=OWN_ORIGIN, sec_fetch_site="same-site") is OriginKind.FOREIGN


def test_the_origin_of_the_public_url_is_own() -> None:
    assert origin_kind({"public_url": "https://ops.example"}, origin="https://ops.example") is OriginKind.OWN


def test_an_allowed_origin_with_the_own_host_is_own() -> None:
    allowed = {"allowed_origins": "https://tools.example,https://127.0.0.1:8000"}
    assert origin_kind(allowed, origin="https://tools.example") is OriginKind.ALLOWED
    assert origin_kind(allowed, origin="https://tools.example", sec_fetch_site="cross-site") is OriginKind.ALLOWED
    assert origin_kind(allowed, origin="https://127.0.0.1:8000") is OriginKind.OWN


def test_without_an_origin_only_a_cross_site_fetch_is_foreign() -> None:
    assert origin_kind({}) is OriginKind.ABSENT
    assert origin_kind({}, sec_fetch_site="none") is OriginKind.ABSENT
    assert origin_kind({}, sec_fetch_site="cross-site") is OriginKind.FOREIGN


def test_only_the_trusted_proxies_are_skipped() -> None:
    assert not Proxies(load_settings()).is_trusted("127.0.0.1")
    proxies = Proxies(load_settings(trusted_proxies="10.0.0.0/8"))
    assert proxies.client("6.6.6.6, 192.0.2.9, 10.1.2.3") == "192.0.2.9"
    assert proxies.client("evil, 10.1.2.3") is None
    assert proxies.client("") is None


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/login", RouteClass.OPEN),
        ("POST", "/logout", RouteClass.OPEN),
        ("GET", "/healthz", RouteClass.OPEN),
        ("GET", "/docs", RouteClass.DOCS),
        ("GET", "/static-offline-docs/swagger-ui.css", RouteClass.ASSET),
        ("GET", f"{ASSETS}/static/nicegui.js", RouteClass.ASSET),
        ("POST", "/api/jobs", RouteClass.API),
        ("GET", "/api", RouteClass.API),
        ("POST", "/_nicegui/client/abc/upload/3", RouteClass.CLIENT),
        ("POST", "/_nicegui_ws/socket.io/", RouteClass.SOCKET),
    ],
)
def test_each_path_has_its_route_class(method: str, path: str, expected: RouteClass) -> None:
    assert route_class_of(method, path, is_socket=False) is expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/logout"),
        ("HEAD", "/login"),
        ("GET", "/login/"),
        ("GET", "//login"),
        ("GET", "/apix"),
        ("GET", "/API/jobs"),
        ("GET", f"{ASSETS}/"),
        ("GET", f"{ASSETS}/nope"),
        ("GET", f"{ASSETS}/resources/x"),
        ("GET", f"{ASSETS}/../client/abc"),
        ("GET", "/_nicegui/9.9.9/static/nicegui.js"),
        ("POST", f"{ASSETS}/static/nicegui.js"),
        ("GET", "/static-offline-docs/../secret.json"),
    ],
)
def test_a_path_that_resembles_an_open_one_needs_a_session(method: str, path: str) -> None:
    assert route_class_of(method, path, is_socket=False) is RouteClass.PAGE


def test_only_the_socket_of_the_feed_needs_no_session() -> None:
    paths = ("/api/ws/progress", "/api/ws/progress/", "/api/ws", "/login", "/_nicegui_ws/socket.io/")
    classes = [route_class_of("", path, is_socket=True) for path in paths]
    assert classes == [RouteClass.FEED, RouteClass.PAGE, RouteClass.PAGE, RouteClass.PAGE, RouteClass.SOCKET]


def test_the_cookie_name_has_the_port_and_a_prefix_on_https() -> None:
    settings = load_settings(port=8123)
    assert [session_cookie(settings, scheme) for scheme in ("http", "https")] == ["dash_8123", "__Host-dash_8123"]


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "jobs",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\\/evil.example",
        "/jobs\\..\\..",
        "http://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        "/\r\nLocation: //evil.example",
        "/\x00/evil.example",
        "/\x7f/evil.example",
        " //evil.example",
        "@evil.example",
        "?next=//evil.example",
        "/" + "a" * 3000,
    ],
)
def test_next_never_leads_to_another_site(wanted: str) -> None:
    assert local_address(wanted) == "/"


def test_next_keeps_a_local_address_and_its_query() -> None:
    assert local_address("/jobs/1?tab=errors&q=a%20b") == "/jobs/1?tab=errors&q=a%20b"
    assert local_address("/jobs/é\ud800") == "/jobs/%C3%A9?"
    assert local_address("/@evil.example") == "/@evil.example"
