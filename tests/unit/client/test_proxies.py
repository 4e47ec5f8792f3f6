"""Which proxy leads to a server: none to a near one, and no password is shown."""

from __future__ import annotations

import os

import pytest

from progress_dashboard import InvalidArgument, ProgressFeed
from progress_dashboard.proxies import is_near, proxy_for

PASSWORD = "n0b0dy-may-see-this"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.10", "::1", "0.0.0.0", "app.localhost"),
        *("10.1.2.3", "172.31.0.1", "192.168.178.20", "169.254.1.1", "fd12::1", "fe80::1%eth0", "::ffff:10.0.0.1"),
        *("dash", "nas.local", "dash.internal", "box.lan", "box.home.arpa"),
    ],
)
def test_a_server_of_this_machine_or_network_is_near(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert is_near(host)
    assert proxy_for(f"http://[{host}]:8000" if ":" in host else f"http://{host}:8000") is None


@pytest.mark.parametrize("host", ["ops.example", "8.8.8.8", "172.32.0.1", "192.0.2.7", "203.0.113.7", "2001:db8::1"])
def test_any_other_server_is_far(host: str) -> None:
    assert not is_near(host)


@pytest.mark.parametrize(
    ("variables", "url", "shown"),
    [
        ({"HTTP_PROXY": "http://p:3128"}, "http://ops.example", "http://p:3128 of HTTP_PROXY"),
        ({"http_proxy": "p:3128"}, "http://ops.example", "http://p:3128 of http_proxy"),
        ({"HTTPS_PROXY": "https://p"}, "https://ops.example", "https://p of HTTPS_PROXY"),
        ({"ALL_PROXY": f"http://ana:{PASSWORD}@p:1"}, "https://ops.example", "http://p:1 of ALL_PROXY"),
        ({"HTTP_PROXY": "http://one", "ALL_PROXY": "http://all"}, "http://ops.example", "http://one of HTTP_PROXY"),
    ],
)
def test_a_far_server_is_reached_through_the_proxy_of_the_environment(
    variables: dict[str, str], url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert proxy is not None
    assert proxy.shown == shown
    assert PASSWORD not in repr(proxy)


@pytest.mark.parametrize("no_proxy", ["ops.example", ".example", "*", "other,ops.example:8000"])
def test_a_server_in_no_proxy_is_reached_directly(no_proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_for("http://ops.example:8000") is None


@pytest.mark.parametrize(
    "value",
    [
        *(f"ftp://ana:{PASSWORD}@p", f"http://{PASSWORD}@p", f"http://p:{PASSWORD}", f"http://p/{PASSWORD}"),
        *(f"socks4://ana:{PASSWORD}@p", f"http://ana:%ff{PASSWORD}@p", f"http://?{PASSWORD}"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(InvalidArgument, match=r"^The proxy of ALL_PROXY cannot be used; .* NO_PROXY\.$") as refused:
        async with ProgressFeed("http://ops.example"):
            pass
    assert PASSWORD not in str(refused.value)


async def test_a_socks_proxy_without_its_packages_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5h://ana:{PASSWORD}@p:1080")
    with pytest.raises(InvalidArgument) as refused:
        async with ProgressFeed("http://ops.example"):
            pass
    assert str(refused.value).startswith("The proxy socks5h://p:1080 of ALL_PROXY needs two more packages; run `pip ")
