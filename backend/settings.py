"""All settings of the program: typed, with units in their names, checked before anything starts.

A setting is the environment variable `DASHBOARD_<NAME>`, or a line of the file `.env` in the working directory.
`Settings` is a value that is passed in; nothing reads the environment later.
"""

from __future__ import annotations

import ipaddress
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from backend.database_url import DatabaseUrl, is_postgresql, shown_url
from backend.errors import CannotStart, reason

PREFIX = "DASHBOARD_"
SECRET_VARIABLES = frozenset({f"{PREFIX}TOKEN", f"{PREFIX}JWT_SECRET", f"{PREFIX}ADMIN_PASSWORD"})
DATABASE_VARIABLE = f"{PREFIX}DATABASE_URL"  # may have a password in it
ADMIN = "admin"  # the account that always exists
MAX_SLOTS = 1024
VIDEO_RETRIES, PAUSE_AFTER_FAILURES, VIDEO_OUTPUT_MIB = 2, 5, 4096
MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH = 10, 128
HOST_NAME = re.compile(
    r"(?P<name>\[[0-9a-f:.]{2,45}\]|[a-z0-9][a-z0-9._-]{0,253})(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE
)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SQLITE = "sqlite:///"
LEFT_VARIABLE = re.compile(r"\$(?:\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)")
COMMAND_SETTINGS = ("url", "token")  # of the commands that talk to a server
SIMILAR = 0.85  # from this ratio on, a name counts as a misspelling
ENV_FILE, ENV_FILE_ENCODING = ".env", "utf-8-sig"  # Windows writes a byte order mark
LISTS_OF_SECONDS = ("reconnect_delays_seconds", "metrics_buckets_seconds")
S = TypeVar("S", bound=BaseModel)
Names = tuple[str, ...]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]


class Settings(BaseModel):
    """All settings with their defaults; the README's table is checked against this class."""

    model_config = ConfigDict(frozen=True, validate_default=True)

    data_dir: Path = Field(Path("data"), description="where the database, the secret and posters are kept")
    database_url: SecretStr | None = Field(
        None, description="postgresql://… or sqlite:///… ; empty: dashboard.sqlite3 in the data directory"
    )
    media_dir: Path | None = Field(None, description="where the videos are; empty: media/ in the data directory")
    output_dir: Path | None = Field(
        None, description="where processors write; empty: outputs/ in the data directory; all machines must share it"
    )
    host: str = Field("127.0.0.1", description="address to listen on", max_length=255)
    port: int = Field(8000, ge=1, le=65535, description="port to listen on")
    jwt_secret: SecretStr | None = Field(
        None, description="signing key of the tokens, 32 bytes or more; empty: made at first start"
    )
    admin_password: SecretStr | None = Field(
        None,
        description=f"password of the account {ADMIN}, set at each start; "
        f"{MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters",
    )
    allowed_hosts: Names = Field((), description="additional names to accept in the Host header, comma-separated")
    allowed_origins: Names = Field(
        (), description="additional web origins to accept, comma-separated, such as https://ops.example:8443"
    )
    public_url: str = Field("", description="the address that people use, if it differs from host and port")
    trusted_proxies: Names = Field(
        (),
        description="addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted, comma-separated",
    )
    max_running_jobs: int = Field(4, ge=1, le=1000, description="jobs that run at once")
    max_running_jobs_per_user: int = Field(
        3,
        ge=1,
        le=1000,
        description="jobs of one user that run at once, so that other users need not wait for all of them",
    )
    max_running_videos: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=0,
        le=MAX_SLOTS,
        description="videos that run at once on this machine; default: the number of CPUs; "
        "0: only workers run videos (PostgreSQL)",
    )
    worker_lease_seconds: float = Field(
        60,
        ge=2,
        le=3600,
        allow_inf_nan=False,
        description="how long a worker goes on without PostgreSQL before it ends its videos; "
        "5 s later they begin elsewhere",
    )
    video_timeout_seconds: Seconds = Field(3600, description="time limit of one video")
    video_memory_mib: int = Field(
        4096, ge=256, le=1_048_576, description="memory limit of one video's process, MiB (Linux)"
    )
    video_output_mib: int = Field(
        VIDEO_OUTPUT_MIB, ge=1, le=16_777_216, description="size limit of each file that a processor writes, MiB"
    )
    video_retries: int = Field(
        VIDEO_RETRIES,
        ge=0,
        le=100,
        description="additional tries of a video after a failure that may be temporary, such as a time-out",
    )
    pause_after_failures: int = Field(
        PAUSE_AFTER_FAILURES,
        ge=1,
        le=100,
        description="failures in a row for one machine-wide cause (such as a full disk) after which a job pauses",
    )
    completed_job_ttl_seconds: Seconds = Field(
        300, description="how long a completed or cancelled job stays on the dashboard"
    )
    failed_job_ttl_seconds: Seconds = Field(
        86_400, description="how long a failed job, or one with errors, stays on the dashboard"
    )
    cleanup_interval_seconds: Seconds = Field(
        60, description="how often expired jobs leave the dashboard and old data is deleted"
    )
    progress_retention_days: float = Field(
        30,
        gt=0,
        le=36_500,
        allow_inf_nan=False,
        description="how long a job's progress history is kept; the job itself stays",
    )
    night_hours: str = Field(
        "18-9",
        pattern=r"^([01]?[0-9]|2[0-3])-([01]?[0-9]|2[0-3])$",
        description="the hours of a night in the statistics, from-to",
    )
    time_zone: str = Field(
        "",
        description="zone of the statistics' days and of notifications, such as Europe/Berlin; empty: the machine's",
    )
    metrics_buckets_seconds: tuple[float, ...] = Field(
        (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
        description="upper bounds of the histograms in /metrics, comma-separated",
    )
    disk_low_mib: int = Field(
        1024,
        ge=0,
        le=1_048_576,
        description="free room below which administrators are told that a disk is low; 0: never",
    )
    external_timeout_seconds: Seconds = Field(
        3600, description="silence of its sender after which an external job fails"
    )
    notify_private_addresses: bool = Field(
        False, description="let notification channels call this machine and private networks"
    )
    shutdown_grace_seconds: float = Field(
        1, ge=0, le=60, allow_inf_nan=False, description="time for running videos to finish when the server stops"
    )
    reconnect_delays_seconds: tuple[float, ...] = Field(
        (3, 6, 12, 24, 30), description="delays before the attempts to reconnect, comma-separated; the last one repeats"
    )
    reconnect_attempts: int = Field(10, ge=1, le=1000, description="attempts before the page says disconnected")
    page_silence_seconds: float = Field(
        12, ge=1, le=45, allow_inf_nan=False, description="silence after which a page counts the server as lost"
    )
    heartbeat_interval_seconds: Seconds = Field(25, description="how often the server pings an API socket")
    heartbeat_timeout_seconds: Seconds = Field(60, description="silence after which an API socket is closed")
    direct_sending: bool = Field(
        True, description="write progress frames straight to the transport; false: through the framework, slower"
    )
    max_connections_per_user: int = Field(100, ge=1, le=1_000_000, description="API sockets of one user; more: 1013")
    max_connections_per_address: int = Field(
        2000, ge=1, le=1_000_000, description="sockets from one address; more: HTTP 429"
    )
    max_client_frames_per_second: int = Field(
        20, ge=1, le=1_000_000, description="frames a client may send each second; more: 1008"
    )
    max_refusals_per_minute: int = Field(
        30, ge=1, le=1_000_000, description="sockets of one address refused with 1008; more: HTTP 429"
    )
    max_requests_at_once: int = Field(
        4000, ge=10, le=1_000_000, description="connections served at once; more: HTTP 503"
    )

    @field_validator("allowed_hosts", "allowed_origins", "trusted_proxies", *LISTS_OF_SECONDS, mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("reconnect_delays_seconds")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < delay <= 3600 for delay in value):
            raise ValueError("must be one or more numbers above 0 and up to 3600")
        return value

    @field_validator("data_dir", "media_dir", "output_dir", mode="before")
    @classmethod
    def _expanded(cls, value: Any) -> Any:
        return expanded_path(str(value)) if isinstance(value, str | Path) else value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(_encoded(value)) < 32:
            raise ValueError("must have at least 32 bytes")
        return value

    @field_validator("admin_password")
    @classmethod
    def _password_length(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return value
        composed = unicodedata.normalize("NFC", _encoded(value).decode())  # as it is hashed
        if not MIN_PASSWORD_LENGTH <= len(composed) <= MAX_PASSWORD_LENGTH:
            raise ValueError(f"must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _exact_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not HOST_NAME.fullmatch(host) for host in value):
            raise ValueError("must be host names such as ops.example or ops.example:8443, without * or a path")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            [ipaddress.ip_network(proxy, strict=False) for proxy in value]
        except ValueError:
            raise ValueError("must be IP addresses or networks such as 10.0.0.5 or 10.0.0.0/24") from None
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _whole_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not origin.startswith(("http://", "https://")) or origin.count("/") != 2 for origin in value):
            raise ValueError("must be origins such as https://ops.example:8443, without a path")
        return value

    @field_validator("public_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        return checked_base_url(value) if value else value

    @field_validator("metrics_buckets_seconds")
    @classmethod
    def _growing(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or len(value) > 50 or list(value) != sorted(set(value)) or value[0] <= 0:
            raise ValueError("must be 1 to 50 growing numbers above 0")
        return value

    @field_validator("night_hours")
    @classmethod
    def _two_hours(cls, value: str) -> str:
        begin, _, end = value.partition("-")
        if int(begin) == int(end):
            raise ValueError("must be two different hours, such as 18-9")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            return ZoneInfo(value).key if value else value
        except (ValueError, OSError, LookupError):
            raise ValueError("must be the name of a time zone, such as Europe/Berlin or UTC") from None

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        url = value.get_secret_value().strip()
        if is_postgresql(url):
            return SecretStr(url)
        if url and not url.startswith(SQLITE):
            raise ValueError("must start with postgresql:// or sqlite:///")
        path = url.removeprefix(SQLITE)
        return SecretStr(f"{SQLITE}{expanded_path(path)}") if path else None

    @model_validator(mode="after")
    def _silence_outlasts_pings(self) -> Self:
        if self.heartbeat_timeout_seconds <= self.heartbeat_interval_seconds:
            raise ValueError("HEARTBEAT_TIMEOUT_SECONDS must be more than HEARTBEAT_INTERVAL_SECONDS")
        return self

    @model_validator(mode="after")
    def _somebody_runs_videos(self) -> Self:
        if self.max_running_videos == 0 and not is_postgresql(self._database_url):
            raise ValueError("MAX_RUNNING_VIDEOS may be 0 only with a database on PostgreSQL, whose workers run videos")
        return self

    @property
    def media(self) -> Path:
        """The media directory, or its default."""
        return self.media_dir or self.data_dir / "media"

    @property
    def database(self) -> Path | DatabaseUrl:
        """The SQLite file, or the address of the PostgreSQL database."""
        url = self._database_url
        return DatabaseUrl(url) if is_postgresql(url) else self.database_path

    @property
    def database_path(self) -> Path:
        """The SQLite file; that of the data directory also beside PostgreSQL."""
        url = self._database_url
        return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else self.data_dir / "dashboard.sqlite3"

    @property
    def _database_url(self) -> str:
        return self.database_url.get_secret_value() if self.database_url else ""

    @property
    def night(self) -> tuple[int, int]:
        """The hours in which a night begins and ends."""
        begin, _, end = self.night_hours.partition("-")
        return int(begin), int(end)

    @property
    def zone(self) -> tzinfo | None:
        """The zone of days and nights; None for the machine's."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    @property
    def outputs(self) -> Path:
        """The directory for the files of processors: `<job>/<position>/`."""
        return self.output_dir or self.data_dir / "outputs"

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        return self.host in LOOPBACK

    @property
    def base_url(self) -> str:
        """The address that people open."""
        return self.public_url or self.local_url

    @property
    def local_url(self) -> str:
        """The address on this machine."""
        name = self.host if self.host not in ("0.0.0.0", "::") else "localhost"  # noqa: S104  a comparison, not a bind
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"


def load_settings(**given: Any) -> Settings:
    """Return the settings from the environment, `.env` and the command line (`given`; None: not given).

    Raises `CannotStart` with the variable, its value and what is allowed.
    """
    return read_settings(Settings, **{name: value for name, value in given.items() if value is not None})


def read_settings(kind: type[S], **given: Any) -> S:
    """Return settings of this kind: what is `given` goes before the environment, and that before `.env`.

    Raises `CannotStart` for a value that is not allowed, or an unreadable `.env`.
    """
    found = {name.upper(): text for source in (_env_file(), os.environ) for name, text in source.items() if text}
    known = {name: found[PREFIX + name.upper()] for name in kind.model_fields if PREFIX + name.upper() in found}
    try:
        return kind.model_validate(known | given)
    except ValidationError as error:
        raise CannotStart(_sentence(error)) from None


def expanded_path(text: str) -> Path:
    """Return the path with `~` and variables such as `$HOME` replaced. Raises `ValueError` if one has no value."""
    path = os.path.expanduser(os.path.expandvars(text.strip()))
    if found := LEFT_VARIABLE.search(path):
        raise ValueError(f"the variable {found[0]} is not set")
    if path.startswith("~"):
        raise ValueError(f"{path.partition(os.sep)[0]} has no home directory")
    return Path(path)


def checked_base_url(url: str) -> str:
    """Return the address without a slash at its end. Raises `ValueError` if the pages cannot be served there."""
    try:
        parts = urlsplit(url.strip())
        is_address = parts.scheme in ("http", "https") and bool(HOST_NAME.fullmatch(parts.netloc)) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.hostname in ("0.0.0.0", "::"):  # noqa: S104  a comparison, not a bind
        raise ValueError("must start with http:// or https:// and a host name, such as https://ops.example")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(
            f"the dashboard cannot be served below a path; give it a host name or a port of its own, "
            f"such as {parts.scheme}://dash.example"
        )
    return f"{parts.scheme}://{parts.netloc}"


def unknown_settings(environment: Iterable[str]) -> list[str]:
    """Return a sentence for each name that looks like a setting but is none, in the environment and in `.env`.

    Raises `CannotStart` if `.env` cannot be read.
    """
    known = {PREFIX + name.upper(): name for name in (*Settings.model_fields, *COMMAND_SETTINGS)}
    found = {name.upper(): name for name in environment}
    found |= {name.upper(): f"{name} in the file .env" for name in _env_file()}
    return [
        sentence
        for key, name in sorted(found.items())
        if key not in known and (sentence := _about_unknown(key, name, known))
    ]


def _about_unknown(key: str, name: str, known: Iterable[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=SIMILAR)
    if not (key.startswith(PREFIX) or (near and key.startswith(PREFIX[:4]))):
        return ""
    advice = f"did you mean {near[0]}?" if near else "the README lists them all."
    return f"{name} is not a setting of this version and was ignored; {advice}"


def _env_file() -> Mapping[str, str | None]:
    """Return the lines of `.env`; nothing if there is none. Raises `CannotStart` if it cannot be read."""
    if not os.path.exists(ENV_FILE):
        return {}
    from dotenv import dotenv_values  # few have such a file, and each command would wait for it

    try:
        return dotenv_values(ENV_FILE, encoding=ENV_FILE_ENCODING)
    except (UnicodeDecodeError, OSError) as error:
        raise CannotStart(_unreadable_env_file(error)) from None


def _unreadable_env_file(error: UnicodeDecodeError | OSError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "The file .env is not UTF-8 text; save it as UTF-8 and start again."
    return f"The file .env cannot be read ({error.strerror}); check its permissions and start again."


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return f"A setting is not valid: {reason(first['msg'])}."
    name = str(first["loc"][0])
    variable = PREFIX + name.upper()
    if variable in SECRET_VARIABLES:
        return f"{variable} is not valid: {_secret_reason(first['msg'])}; correct it and start again."
    value = first["input"]
    shown = shown_url(str(value)) if variable == DATABASE_VARIABLE else value
    return f"{variable} {shown!r} is not valid: {reason(first['msg'])}; correct it and start again."


def _encoded(secret: SecretStr) -> bytes:
    try:
        return secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("must have only characters, as UTF-8") from None


def _secret_reason(message: str) -> str:
    """Return the reason if it is one of ours; a library's may repeat characters of the value."""
    return reason(message) if message.startswith("Value error, must have") else "it cannot be read as text"
