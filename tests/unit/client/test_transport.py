"""The address of a dashboard."""

from __future__ import annotations

import pytest

from progress_dashboard.address import Address


@pytest.mark.parametrize(
    ("given", "base", "socket"),
    [
        ("http://localhost:8000", "http://localhost:8000", "ws://localhost:8000/api/ws/progress"),
        ("ws://localhost:8000/api/ws/progress", "http://localhost:8000", "ws://localhost:8000/api/ws/progress"),
        ("https://ops.example/", "https://ops.example", "wss://ops.example/api/ws/progress"),
        (
            "wss://ops.example/videos/api/ws/progress/",
            "https://ops.example/videos",
            "wss://ops.example/videos/api/ws/progress",
        ),
        ("ws://[::1]:8000/api/ws/progress?format=batch", "http://[::1]:8000", "ws://[::1]:8000/api/ws/progress"),
    ],
)
def test_an_address_may_be_of_the_dashboard_or_its_socket(given: str, base: str, socket: str) -> None:
    address, token = Address.parse(given)
    assert (address.base, address.socket, token) == (base, socket, "")


@pytest.mark.parametrize(
    ("given", "hostname"),
    [("http://localhost:8000", "localhost"), ("https://ops.example/videos", "ops.example"), ("ws://[::1]:8000", "::1")],
)
def test_the_hostname_has_no_port(given: str, hostname: str) -> None:
    address, _ = Address.parse(given)
    assert address.hostname == hostname
