"""The process in which Apprise runs: tasks come on stdin, a JSON line each, their results go to stdout.

Nothing that a user's address makes a plug-in do leaves this process but connections to addresses that may be called:
an audit hook sees each at the moment it is made, however the name was resolved. Other processes, the system's log and
files beyond those that Python and TLS need are refused, too.
"""

from __future__ import annotations

import json
import logging
import mimetypes
import os
import re
import ssl
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.domain.networks import is_public

SEND, CHECK = "send", "check"
SENT, FAILED, UNKNOWN, KNOWN = "sent", "failed", "unknown", "known"
PRIVATE, LOCAL = "private", "local"  # why something was refused: the address, or what it needs of this machine
LOCAL_SCHEMES = frozenset(
    {"syslog", "dbus", "qt", "kde", "glib", "gio", "gnome", "macosx", "windows", "blink1", "deltachat", "deltachats"}
)
"""They act on the server's machine instead of sending something."""
PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile"}
)
CHANGE_EVENTS = frozenset(
    {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"}
)
SYSTEM_FILES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf", "/etc/localtime"),
    *("/etc/ssl/", "/etc/pki/", "/etc/ca-certificates/", "/usr/share/ca-certificates/", "/usr/lib/ssl/"),
    *("/usr/share/zoneinfo/", "/dev/urandom", "/dev/null", "/proc/cpuinfo", "/proc/sys/"),
)
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
STATUS = re.compile(r"error=(\d{3})\b")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class Refusal(PermissionError):
    """A plug-in tried what no plug-in may do."""


@dataclass
class Seen:
    """What happened during a task."""

    refused: str | None = None
    status: int | None = None


SEEN: ContextVar[Seen] = ContextVar("seen", default=Seen())  # noqa: B039  what belongs to no task is not asked for


class Hook:
    """The audit hook. It cannot be removed, and sees what C code of Python's own modules does, too."""

    def __init__(self, *, allows_private: bool) -> None:
        self._allows_private = allows_private
        self._readable = _readable()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            self._check_address(arguments[1])
        elif event in PROCESS_EVENTS or event in CHANGE_EVENTS or event.startswith("syslog."):
            self._refuse(LOCAL)
        elif event == "open":
            self._check_file(arguments[0], arguments[2])

    def _check_address(self, address: Any) -> None:
        if address is None:  # of a datagram on a connected socket
            return
        if not isinstance(address, tuple) or not (self._allows_private or is_public(str(address[0]))):
            self._refuse(PRIVATE)

    def _check_file(self, path: Any, flags: Any) -> None:
        if isinstance(path, int):
            return
        name = os.path.realpath(os.fsdecode(path))
        is_written = isinstance(flags, int) and flags & WRITING and name != os.devnull
        if is_written or not name.startswith(self._readable):
            self._refuse(LOCAL)

    def _refuse(self, reason: str) -> None:
        SEEN.get().refused = reason
        raise Refusal("not allowed")


class Statuses(logging.Handler):
    """Keeps the HTTP status that a plug-in logs; its text may have a secret in it, and goes nowhere."""

    def emit(self, record: logging.LogRecord) -> None:
        if found := STATUS.search(record.getMessage()):
            SEEN.get().status = int(found[1])


def main(allows_private: bool) -> None:
    """Work on tasks until stdin closes. Each has a thread: what hangs holds up no other."""
    import apprise  # an extra

    if hasattr(os, "nice"):
        os.nice(5)  # videos and the server go first
    sys.dont_write_bytecode = True
    log = logging.getLogger("apprise")
    log.handlers, log.propagate = [Statuses(logging.WARNING)], False
    log.setLevel(logging.WARNING)
    name = "Progress Dashboard"
    asset = apprise.AppriseAsset(app_id=name, app_desc=name, async_mode=False, service_timeout=0)  # no further threads
    apprise.Apprise(asset=asset).add("json://localhost")  # loads all plug-ins
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    sys.addaudithook(Hook(allows_private=allows_private))

    lock = threading.Lock()

    def work(task: Mapping[str, Any]) -> None:
        SEEN.set(seen := Seen())
        try:
            word = _done(task, apprise, asset)
        except Exception:  # a defect of a plug-in; its text may have a secret in it
            word = FAILED
        word = seen.refused or word if word == FAILED else word
        result = json.dumps({"id": task["id"], "word": word, "status": seen.status}).encode() + b"\n"
        with lock:
            outgoing.write(result)

    outgoing.write(b"{}\n")  # it is ready
    for line in incoming:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)


def _done(task: Mapping[str, Any], apprise: Any, asset: Any) -> str:
    url = str(task["url"])
    service = apprise.Apprise(asset=asset)
    if url.partition("://")[0].lower() in LOCAL_SCHEMES:
        return LOCAL
    if not service.add(url):
        return UNKNOWN
    if task["what"] == CHECK:
        return KNOWN
    is_sent = service.notify(body=task["text"], title=task["title"], body_format=apprise.NotifyFormat.TEXT)
    return SENT if is_sent else FAILED


def _readable() -> tuple[str, ...]:
    """Return the beginnings of the names of files that may be read."""
    certificates = ssl.get_default_verify_paths()
    given = [os.environ[name] for name in CERTIFICATE_VARIABLES if name in os.environ]
    found = [path for path in (certificates.cafile, certificates.capath, *given) if path]
    modules = [path for path in (*sys.path, sys.prefix, sys.base_prefix) if path and os.path.isabs(path)]
    names = [*found, *modules, *mimetypes.knownfiles, *SYSTEM_FILES]
    return tuple(dict.fromkeys((*(str(Path(name).resolve()) for name in names), *SYSTEM_FILES)))
