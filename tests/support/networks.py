"""Machines of their own as far as the network goes: a namespace each, on a switch of this machine. As root, on Linux.

A machine's link goes down as when its cable is pulled: nothing is refused, nothing is answered, no connection ends.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache

HOW_TO_GET_THEM = "network namespaces need root and iproute2 (apt-get install iproute2)"
FIRST_HOST = 10  # the last number of the first machine's address; the switch itself is 1


@dataclass(frozen=True)
class Machine:
    """A network namespace with one link to the switch; `prefix` begins a command that runs in it."""

    name: str
    link: str

    @property
    def prefix(self) -> Sequence[str]:
        return ("ip", "netns", "exec", self.name)

    def link_down(self) -> None:
        """Pull the cable."""
        _ip("link", "set", self.link, "down")

    def link_up(self) -> None:
        """Put the cable back."""
        _ip("link", "set", self.link, "up")


@dataclass(frozen=True)
class Network:
    """A switch with machines; `address` is that of this machine on it."""

    name: str
    net: str
    _open: ExitStack
    _machines: list[Machine] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"{self.net}.1"

    @property
    def mask(self) -> str:
        """All addresses of the network, as PostgreSQL's list of clients wants them."""
        return f"{self.net}.0/24"

    def add(self) -> Machine:
        """Add a machine with a link that is up."""
        number = len(self._machines)
        machine = Machine(f"{self.name}m{number}", f"{self.name}v{number}")
        _ip("netns", "add", machine.name)
        self._open.callback(_ip, "netns", "del", machine.name)  # its side of the link goes with it
        inside = ("-n", machine.name)
        _ip("link", "add", machine.link, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
        _ip("link", "set", machine.link, "master", self.name, "up")
        _ip(*inside, "addr", "add", f"{self.net}.{FIRST_HOST + number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip(*inside, "link", "set", device, "up")
        self._machines.append(machine)
        return machine

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Network]:
        """Make a network without machines; all of it is gone after the block."""
        name, net = f"t{os.getpid() % 100_000}", f"10.77.{os.getpid() % 250}"
        with ExitStack() as stack:
            _ip("link", "add", name, "type", "bridge")
            stack.callback(_ip, "link", "del", name)
            _ip("addr", "add", f"{net}.1/24", "dev", name)
            _ip("link", "set", name, "up")
            yield cls(name, net, stack)


@cache
def may_make_networks() -> bool:
    """Return True if this process may make a network, also a machine in it."""
    try:
        with Network.made() as network:
            network.add()
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
