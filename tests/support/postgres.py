"""A PostgreSQL server of the tests' own: its own data directory and port, never the one that the machine runs.

It needs PostgreSQL's programs, as Debian's package `postgresql` installs them. As root they run as another user,
because PostgreSQL refuses root. The server ends with the process that started it, however that ends (Linux).
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psycopg
import psycopg.sql

from tests.support.networks import Network
from tests.support.servers import ServerProcess, free_port

DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres")
USER = "tests"
UNPRIVILEGED = ("postgres", "nobody")  # users as whom PostgreSQL runs when the tests run as root: the first that exists
LOCALES = {
    "C": ("--locale=C",),
    "en_US.UTF-8": ("--locale=C", "--locale-provider=icu", "--icu-locale=en-US"),  # needs no locale of the system
}
HOW_TO_GET_IT = "PostgreSQL 14 or newer is not installed: apt-get install postgresql, or put its initdb on the PATH"
MAX_CONNECTIONS = 300  # many, for many small databases at once
# No listening outside this machine.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "lc_messages": "C",
    "log_checkpoints": "off",
}
# Without waiting for the disk: several times as fast, and a crash of PostgreSQL, not of the machine, loses nothing.
WITHOUT_DISK = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
READY = "database system is ready to accept connections"
FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT


def programs() -> Path | None:
    """Return the directory of the newest PostgreSQL's programs; None if there is none."""
    versions = sorted(DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    for directory in (*versions, *([Path(on_path).resolve().parent] if on_path else [])):
        if all((directory / program).exists() for program in PROGRAMS):
            return directory
    return None


class PostgresServer:
    """A server over a data directory that `made` created, which can be stopped, killed, frozen and started again."""

    def __init__(self, directory: Path, password: str, options: Sequence[str]) -> None:
        self.port = free_port()
        self._directory = directory
        self.password = password
        self._options = options
        self._process: ServerProcess | None = None

    @classmethod
    @contextmanager
    def made(
        cls,
        *,
        locale: str = "C",
        is_durable: bool = False,
        max_connections: int = MAX_CONNECTIONS,
        network: Network | None = None,
    ) -> Iterator[PostgresServer]:
        """Create a data directory and start a server over it; both are gone after the block.

        `is_durable`: each commit is on the disk before it is answered, as PostgreSQL does by default. `network`: its
        machines reach the server, too.
        """
        with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as temporary:
            directory, password = Path(temporary), secrets.token_hex(16)
            _initialize(directory, password, locale)
            options = OPTIONS if is_durable else OPTIONS | WITHOUT_DISK
            options = options | {"max_connections": f"{max_connections}"}
            if network is not None:
                options = options | {"listen_addresses": f"127.0.0.1,{network.address}"}
                with (directory / "data" / "pg_hba.conf").open("a") as clients:
                    clients.write(f"host all all {network.mask} md5\n")
            server = cls(directory / "data", password, [f"--{name}={value}" for name, value in options.items()])
            server.start()
            try:
                yield server
            finally:
                server.stop(IMMEDIATE)

    @property
    def url(self) -> str:
        """The address of the server, without a database."""
        return self.url_through(self.port)

    def url_through(self, port: int, host: str = "127.0.0.1") -> str:
        """Return the address of the server behind a proxy that listens on this port, or as another host reaches it."""
        return f"postgresql://{USER}:{self.password}@{host}:{port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server, on the same port each time, and wait until it accepts connections."""
        apart = (
            ["setsid"] if shutil.which("setsid") else []
        )  # Ctrl-C of the tests is not for it: they need it to clean up
        server = [str(_programs() / "postgres"), "-D", str(self._directory), "-p", str(self.port)]
        command = [*_unprivileged(), *apart, *server]
        environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}
        program, *arguments = [*command, *self._options]
        self._process = ServerProcess(*arguments, port=self.port, environment=environment, program=program)
        self._process.until_says(READY)

    def stop(self, number: int = FAST) -> None:
        """Stop the server: `FAST` ends its sessions, after `IMMEDIATE` the next start recovers as from a crash."""
        if self._process is not None:
            self.thaw()
            self._process.stop(number)

    def freeze(self) -> None:
        """Stop all of its processes, so that its connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)  # first, so that no further ones begin
        for pid in _children(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all of its processes continue."""
        for pid in (*_children(self.pid), self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def create(self, name: str, *, template: str | None = None) -> None:
        """Create a database, if it does not exist: a copy of `template`, which nothing may use meanwhile."""
        create_database(self.url, name, template=template)


def create_database(server: str, name: str, *, template: str | None = None) -> None:
    """Create a database on the server at this address, if it does not exist."""
    copied = psycopg.sql.SQL(" TEMPLATE {}").format(psycopg.sql.Identifier(template)) if template else None
    statement = psycopg.sql.SQL("CREATE DATABASE {}{}").format(
        psycopg.sql.Identifier(name), copied or psycopg.sql.SQL("")
    )
    with _maintaining(server) as connection, suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        connection.execute(statement)  # the second error is that of two processes that create it at once


def drop_databases(server: str, names: Sequence[str]) -> None:
    """Drop databases that exist on the server at this address, and end what uses them."""
    with _maintaining(server) as connection:
        for name in names:
            connection.execute(
                psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(psycopg.sql.Identifier(name))
            )


def _maintaining(server: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(f"{server}/postgres", autocommit=True)


@cache
def _programs() -> Path:
    found = programs()
    assert found is not None, HOW_TO_GET_IT
    return found


def _initialize(directory: Path, password: str, locale: str) -> None:
    """Create a data directory below `directory`."""
    file = directory / "password"
    file.write_text(password)
    if owner := _owner():
        for path in (directory, file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    # md5: a test opens many connections, and the slow check of scram-sha-256 would be half of each.
    options = ("-U", USER, "-A", "md5", "--pwfile", str(file), "-E", "UTF8", "-N", *LOCALES[locale])
    command = [*_unprivileged(), str(_programs() / "initdb"), "-D", str(directory / "data"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    assert done.returncode == 0, done.stdout + done.stderr


def _unprivileged() -> list[str]:
    """Return how to begin a command, so that it does not run as root and ends when this process ends."""
    if shutil.which("setpriv") is None:
        return []
    owner = _owner()
    change = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if owner else []
    return ["setpriv", "--pdeathsig=QUIT", *change]


@cache
def _owner() -> pwd.struct_passwd | None:
    """Return the user as whom PostgreSQL has to run; None for the present one."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(names[name] for name in UNPRIVILEGED if name in names)


def _children(pid: int) -> list[int]:
    """Return the processes of the server at this process ID. Linux only."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            match = re.fullmatch(r"(\d+) \(.*\) \S (\d+) .*", stat.read_text(), re.DOTALL)
            if match and int(match[2]) == pid:
                found.append(int(match[1]))
    return found
