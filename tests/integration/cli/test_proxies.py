"""The commands where the environment names a company's proxy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.forward_proxy import forward_proxy
from tests.support.servers import Program, ServerProcess, add_user, environment, free_port, running

pytestmark = pytest.mark.acceptance  # starts the whole program

FAR = "http://dash.example"
PASSWORD = "n0b0dy-may-see-this"
REFUSALS = {
    "bad gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "sign in first": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


@dataclass(frozen=True)
class Commands:
    """A server that also has a far name, and its user's token."""

    program: Program
    jwt: str
    ids: Path

    def start(self, *arguments: str, url: str, **variables: str) -> ServerProcess:
        access = {"url": url, "token": self.jwt, "reconnect_delays_seconds": "0.1", "reconnect_attempts": 1}
        inherited = {name: value for name, value in environment(access).items() if not name.lower().endswith("_proxy")}
        return ServerProcess("main.py", *arguments, port=0, environment=inherited | variables)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    home = tmp_path_factory.mktemp("proxies")
    (home / "ids.csv").write_text("video_id\nabc\n")
    with running(home / "data", allowed_hosts="dash.example") as program:
        yield Commands(program, add_user(home / "data", "ana"), home / "ids.csv")


@pytest.mark.parametrize(
    "proxies",
    [
        {"HTTP_PROXY": "http://127.0.0.1:9"},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "all_proxy": "nonsense://"},
    ],
    ids=", ".join,
)
def test_a_near_server_is_reached_directly(commands: Commands, proxies: dict[str, str]) -> None:
    submitted = commands.start("submit", str(commands.ids), url=commands.program.url, **proxies)
    assert submitted.ended() == 0, submitted.output
    watching = commands.start("watch", submitted.lines[0].strip(), url=commands.program.url, **proxies)
    watching.until_says("failed")
    assert watching.ended() == 1


def test_a_far_server_is_reached_through_the_proxy(commands: Commands) -> None:
    with forward_proxy(commands.program.port) as proxy:
        submitted = commands.start(
            "submit", str(commands.ids), url=FAR, HTTP_PROXY=f"http://ana:{PASSWORD}@{proxy.url}"
        )
        submitted.until_says("Watch it at http://dash.example/jobs/")
        assert submitted.ended() == 0
        watching = commands.start("watch", submitted.lines[0].strip(), url=FAR, HTTP_PROXY=proxy.url)
        watching.until_says("failed")
        assert watching.ended() == 1
    assert {line.split()[1] for line in proxy.asked} >= {"http://dash.example/api/jobs", "dash.example:80"}


@pytest.mark.parametrize("arguments", [("submit", "IDS"), ("watch",), ("cancel", "8f3a21c9")], ids=" ".join)
def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    commands: Commands, arguments: tuple[str, ...]
) -> None:
    port, words = free_port(), [str(commands.ids) if word == "IDS" else word for word in arguments]
    failed = commands.start(*words, url=FAR, HTTP_PROXY=f"http://ana:{PASSWORD}@127.0.0.1:{port}")
    failed.until_says(f"The proxy http://127.0.0.1:{port} of HTTP_PROXY does not lead to {FAR}; correct it, or name")
    assert failed.ended() == 1
    assert PASSWORD not in failed.output
    assert "Traceback" not in failed.output


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
@pytest.mark.parametrize("arguments", [("submit", "IDS"), ("watch",)], ids=" ".join)
def test_a_refusal_of_the_proxy_is_said_to_be_its_own(
    commands: Commands, arguments: tuple[str, ...], refusal: bytes
) -> None:
    words = [str(commands.ids) if word == "IDS" else word for word in arguments]
    with forward_proxy(commands.program.port, refusal=refusal) as proxy:
        failed = commands.start(*words, url=FAR, HTTP_PROXY=proxy.url)
        line = failed.until_says(f"The proxy http://{proxy.url} of HTTP_PROXY does not lead to {FAR}")
        assert failed.ended() == 1
    assert refusal.split()[1].decode() in line


@pytest.mark.parametrize("arguments", [("submit", "IDS"), ("watch",)], ids=" ".join)
def test_a_socks_proxy_without_its_packages_is_one_sentence(commands: Commands, arguments: tuple[str, ...]) -> None:
    words = [str(commands.ids) if word == "IDS" else word for word in arguments]
    failed = commands.start(*words, url=FAR, ALL_PROXY="socks5://127.0.0.1:9")
    assert failed.ended() == 1
    assert failed.output.startswith("The proxy socks5://127.0.0.1:9 of ALL_PROXY needs two more packages; run `pip ")
    assert failed.output.count("\n") == 1
