"""`/healthz` for monitors, which know the server by other names than people do; all else stays closed to these."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.servers import Program, add_user, api, running

pytestmark = pytest.mark.acceptance  # starts the whole program

HOSTS = {
    "a pod": "10.42.0.7:8000",
    "a service": "dashboard.default.svc.cluster.local",
    "an IPv6 address": "[fd00::7]:8000",
    "a foreign name": "evil.example",
    "no name that can be one": "-- ;<x>",
    "an empty one": "",
}
CLOSED = ("/api/jobs", "/api/slots", "/api/auth/me", "/", "/login", "/docs", "/healthz/", "/healthz/x", "//healthz")


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: str


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with running(tmp_path_factory.mktemp("health") / "data") as started:
        yield started


def ask(program: Program, method: str, path: str, *lines: str, version: str = "1.0") -> RawAnswer:
    """Send a request of these header lines and no others, and return the answer."""
    closing = [] if version == "1.0" else ["Connection: close"]
    request = "\r\n".join([f"{method} {path} HTTP/{version}", *lines, *closing, "", ""])
    with socket.create_connection(("127.0.0.1", program.port), timeout=20) as raw:
        raw.sendall(request.encode())
        answer = b"".join(iter(lambda: raw.recv(65_536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    first, *headers = head.split("\r\n")
    pairs = (header.partition(": ") for header in headers)
    return RawAnswer(int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_monitor_gets_one_word_under_any_name(program: Program, method: str, host: str, version: str) -> None:
    answer = ask(program, method, "/healthz", f"Host: {host}", version=version)
    assert (answer.status, answer.body) == (200, "" if method == "HEAD" else "ok")
    assert answer.headers["content-length"] == "2"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_monitor_that_names_no_host_gets_it_too(program: Program, method: str) -> None:
    assert ask(program, method, "/healthz", "User-Agent: probe/1.0").status == 200


def test_options_says_what_is_allowed(program: Program) -> None:
    assert ask(program, "OPTIONS", "/healthz", "Host: pod").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_else_can_be_done_there(program: Program, method: str) -> None:
    assert ask(program, method, "/healthz", "Host: pod").status == 421


@pytest.mark.parametrize("path", CLOSED)
def test_all_else_stays_closed_to_foreign_names(program: Program, path: str) -> None:
    jwt = add_user(program.data_dir, f"user{CLOSED.index(path)}")
    for lines in (["Host: evil.example"], ["Host: evil.example", f"Authorization: Bearer {jwt}"], []):
        assert ask(program, "GET", path, *lines).status == 421


def test_a_foreign_name_learns_no_more_than_the_word(program: Program) -> None:
    """A page that points its own name at this machine may have the visitor's cookie; it proves nothing there."""
    jwt = add_user(program.data_dir, "ana")
    with api(program, jwt) as client:
        assert client.get("/healthz").json()["status"] == "ok"
    for authority in (
        f"Authorization: Bearer {jwt}",
        "Authorization: Bearer nonsense",
        f"Cookie: dash_{program.port}=x",
    ):
        answer = ask(program, "GET", "/healthz", "Host: evil.example", authority)
        assert (answer.status, answer.body) == (200, "ok")
