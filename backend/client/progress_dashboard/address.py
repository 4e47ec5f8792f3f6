"""The address of a server, in each of the forms that people have it in."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlsplit, urlunsplit

from .errors import InvalidArgument

SOCKET_PATH = "/api/ws/progress"
IS_SECURE = {"ws": False, "http": False, "wss": True, "https": True}  # by scheme


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a dashboard."""

    # Host name or IP address, with ":port" unless the port is the usual one.
    host: str
    # Path before `/api`, without a slash at its end; "" for none.
    path: str = ""
    # True for https and wss.
    is_secure: bool = False

    @classmethod
    def parse(cls, text: str, name: str = "That") -> tuple[Address, str]:
        """Return the address in an http, https, ws or wss URL, and the token in its query ("" for none).

        Raises `InvalidArgument` if the text is not such a URL. `name` is where the text comes from.
        """
        try:
            parts = urlsplit(text.strip())
            is_valid = parts.scheme in IS_SECURE and parts.hostname and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise InvalidArgument(f"{name} is not the address of a dashboard; write one such as http://localhost:8000.")
        path = parts.path.rstrip("/").removesuffix(SOCKET_PATH)
        return cls(parts.netloc, path, IS_SECURE[parts.scheme]), _token_in(parts)

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return urlsplit(f"//{self.host}").hostname or ""

    @property
    def base(self) -> str:
        """The URL that a browser opens."""
        return urlunsplit(("https" if self.is_secure else "http", self.host, self.path, "", ""))

    @property
    def socket(self) -> str:
        """The URL of the progress socket."""
        return urlunsplit(("wss" if self.is_secure else "ws", self.host, self.path + SOCKET_PATH, "", ""))


def _token_in(parts: SplitResult) -> str:
    return parse_qs(parts.query).get("token", [""])[0]
