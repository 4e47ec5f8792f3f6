"""What the border decides on header values alone."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from backend.api.addresses import Hosts, Origins, Proxies, Sender
from backend.api.progress_socket import RefusalLimiter
from backend.api.security import RouteClass, route_class_of, session_cookie
from backend.api.session import local_address
from backend.errors import CannotStart
from backend.settings import load_settings
from tests.support.clock import VirtualClock

MINE = "http://127.0.0.1:8000"
ASSETS = f"/_nicegui/{version('nicegui')}"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_loopback_names_with_the_servers_port_are_known(host: str) -> None:
    assert Hosts(load_settings()).know(host)


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
def test_any_other_name_is_not(host: str) -> None:
    assert not Hosts(load_settings()).know(host)


def test_an_allowed_host_without_a_port_counts_with_every_port_and_one_with_a_port_only_with_that() -> None:
    hosts = Hosts(load_settings(allowed_hosts="ops.example,lab.example:9000"))
    answers = [hosts.know(host) for host in ("ops.example", "OPS.example:1234", "lab.example:9000", "lab.example")]
    assert answers == [True, True, True, False]


def test_the_public_address_and_the_bound_name_are_known() -> None:
    hosts = Hosts(load_settings(host="192.0.2.7", public_url="https://ops.example:443/"))
    assert hosts.know("ops.example")
    assert hosts.know("192.0.2.7:8000")
    assert not hosts.know("ops.example:8000")


def test_a_server_on_all_addresses_still_knows_no_other_name() -> None:
    assert not Hosts(load_settings(host="0.0.0.0")).know("192.0.2.7:8000")


@pytest.mark.parametrize("value", ["*", "*.example", "ops.example/x", "http://ops.example"])
def test_a_pattern_is_no_host_name(value: str) -> None:
    with pytest.raises(CannotStart, match="DASHBOARD_ALLOWED_HOSTS"):
        load_settings(allowed_hosts=value)


def sender(settings: dict[str, str], **headers: str) -> Sender:
    origins = Origins(load_settings(**settings))
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return origins.sender(sent, origins.own("http", "127.0.0.1:8000"))


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
    assert sender({}, origin=origin) is Sender.FOREIGN


def test_the_servers_own_origin_is_own_unless_the_browser_says_otherwise() -> None:
    assert sender({}, origin=MINE) is Sender.OWN
    assert sender({}, origin=MINE, sec_fetch_site="same-origin") is Sender.OWN
    assert sender({}, origin=MINE, sec_fetch_site="same-site") is Sender.FOREIGN


def test_the_public_addresss_origin_is_own_behind_a_proxy_that_changes_the_host() -> None:
    assert sender({"public_url": "https://ops.example"}, origin="https://ops.example") is Sender.OWN


def test_an_allowed_origin_elsewhere_is_a_friend_and_one_with_our_host_is_own() -> None:
    allowed = {"allowed_origins": "https://tools.example,https://127.0.0.1:8000"}
    assert sender(allowed, origin="https://tools.example") is Sender.FRIEND
    assert sender(allowed, origin="https://tools.example", sec_fetch_site="cross-site") is Sender.FRIEND
    assert sender(allowed, origin="https://127.0.0.1:8000") is Sender.OWN


def test_without_an_origin_only_a_foreign_fetch_is_foreign() -> None:
    assert sender({}) is Sender.SILENT
    assert sender({}, sec_fetch_site="none") is Sender.SILENT
    assert sender({}, sec_fetch_site="cross-site") is Sender.FOREIGN


def test_no_proxy_is_trusted_by_default_and_only_its_own_hops_are_skipped() -> None:
    assert not Proxies(load_settings()).trust("127.0.0.1")
    proxies = Proxies(load_settings(trusted_proxies="10.0.0.0/8"))
    assert proxies.client("6.6.6.6, 192.0.2.9, 10.1.2.3") == "192.0.2.9"
    assert proxies.client("evil, 10.1.2.3") is None
    assert proxies.client("") is None


@pytest.mark.parametrize(
    ("method", "path", "door"),
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
def test_each_path_leads_to_its_door(method: str, path: str, door: RouteClass) -> None:
    assert route_class_of(method, path, is_socket=False) is door


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
def test_a_path_that_only_looks_like_an_open_one_needs_a_session(method: str, path: str) -> None:
    assert route_class_of(method, path, is_socket=False) is RouteClass.PAGE


def test_of_all_sockets_only_the_feed_needs_no_session() -> None:
    paths = ("/api/ws/progress", "/api/ws/progress/", "/api/ws", "/login", "/_nicegui_ws/socket.io/")
    doors = [route_class_of("", path, is_socket=True) for path in paths]
    assert doors == [RouteClass.FEED, RouteClass.PAGE, RouteClass.PAGE, RouteClass.PAGE, RouteClass.SOCKET]


def test_the_cookie_carries_the_port_and_on_https_the_host_prefix() -> None:
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


async def test_an_address_is_blocked_for_the_rest_of_the_minute_after_too_many_refusals() -> None:
    clock = VirtualClock()
    refusals = RefusalLimiter(load_settings(max_refusals_per_minute=3), clock)
    for _ in range(3):
        assert not refusals.blocked("192.0.2.1")
        refusals.note("192.0.2.1")
    assert refusals.blocked("192.0.2.1")
    assert not refusals.blocked("192.0.2.2")
    await clock.advance(60)
    assert not refusals.blocked("192.0.2.1")


def test_refusals_of_a_million_addresses_do_not_fill_the_memory() -> None:
    refusals = RefusalLimiter(load_settings(max_refusals_per_minute=1), VirtualClock())
    for number in range(10_050):
        refusals.note(f"2001:db8:0:{number:x}::1")
    assert not refusals.blocked("2001:db8:0:0::1")
    assert refusals.blocked("2001:db8:0:1000::1")


def test_changing_the_address_within_an_ipv6_network_does_not_help() -> None:
    refusals = RefusalLimiter(load_settings(max_refusals_per_minute=1), VirtualClock())
    refusals.note("2001:db8::1")
    assert refusals.blocked("2001:db8::2")
