"""Settings from environment variables. No other module reads the environment.

Parameters of a single run are in the run's configuration (chesboard/configs/), not here.
"""

from datetime import timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict


def _none_if_empty(value: object) -> object:
    # docker-compose passes an unset variable as an empty string.
    return None if value == "" else value


def _to_upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


MIN_TOKEN_CHARACTERS = 8


def _check_length(token: SecretStr | None) -> SecretStr | None:
    if token is not None and len(token.get_secret_value()) < MIN_TOKEN_CHARACTERS:
        raise ValueError(f"an access token has at least {MIN_TOKEN_CHARACTERS} characters")
    return token


def _check_endpoint(address: SecretStr | None) -> SecretStr | None:
    if address is None:
        return None
    try:
        parts = urlsplit(address.get_secret_value())
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError("the judge's address begins with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("the judge's address holds no user or password: set CHESBOARD_JUDGE_KEY")
    return address


def _split(urls: SecretStr | None) -> list[str]:
    given = "" if urls is None else urls.get_secret_value()
    return [address.strip() for address in given.split(",") if address.strip()]


_SCHEMES = {
    "database_url": ("postgresql", "postgres", "postgresql+psycopg"),
    "redis_url": ("redis", "rediss", "unix"),
}


def _networks(given: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(one.strip()) for one in given.split(",") if one.strip()]


Secret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty), AfterValidator(_check_length)]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="CHESBOARD_", extra="ignore", hide_input_in_errors=True
    )

    MIN_TOKEN_CHARACTERS: ClassVar[int] = MIN_TOKEN_CHARACTERS

    data_dir: Path = Field(
        Path("chesboard-data"),
        description="Folder of the embedded database, models, checkpoints and results.",
    )
    models_dir: Path | None = Field(
        None,
        description="Folder of models that runs may use; default: models/ in the data folder.",
    )
    database_url: str | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URL", "CHESBOARD_DATABASE_URL"),
        description="URL of an external PostgreSQL (postgresql://…); default: an embedded one.",
    )
    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL", "CHESBOARD_REDIS_URL"),
        description="URL of an external Redis or Valkey (redis://…); default: an embedded Valkey.",
    )
    host: str = Field("127.0.0.1", description="Address the web server listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the web server listens on.")
    token: Secret = Field(
        None, description="Access token of the operator; required on any address but loopback."
    )
    reviewer_token: Secret = Field(
        None, description="Access token that reads and reviews pairs, and changes nothing else."
    )
    viewer_token: Secret = Field(None, description="Access token that only reads.")
    recorder_token: Secret = Field(
        None, description="Access token that records external runs, and does nothing else."
    )
    tokens_file: Annotated[Path | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="File with `role name token` on each line, for several people."
    )
    allowed_hosts: str = Field(
        "",
        description="Host names, separated by commas, that a server on every address accepts; "
        "default: any.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks, separated by commas, of reverse proxies whose "
        "X-Forwarded headers count; default: none.",
    )
    max_connections: int = Field(
        1000, ge=10, description="Maximum number of connections to the web server."
    )
    max_connections_per_address: int = Field(
        500, ge=1, description="Maximum number of connections from one address but a proxy's."
    )
    request_timeout: timedelta = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        description="How long the head of a request may take, and the body of a stranger's.",
    )
    client_timeout: timedelta = Field(
        timedelta(seconds=60),
        gt=timedelta(0),
        description="How long a client may take nothing of a response, or send nothing of a "
        "request.",
    )
    max_upload_bytes: int = Field(1 << 30, gt=0, description="Maximum size of an upload, in bytes.")
    max_uploads: int = Field(
        8, ge=1, description="Maximum number of uploads at a time; half of it for one person."
    )
    max_downloads: int = Field(
        16, ge=1, description="Maximum number of downloads at a time; half of it for one person."
    )
    max_streams: int = Field(
        500, ge=1, description="Maximum number of open live pages; half of it for one person."
    )
    max_pairs: int = Field(
        1_000_000,
        ge=1,
        description="Maximum number of pairs of a dataset, and of rows of a file that make none.",
    )
    max_queued_runs: int = Field(200, ge=1, description="Maximum number of queued runs.")
    requests_per_second: float = Field(
        100.0,
        gt=0,
        description="Rate limit per person and address if tokens are set; a tenth of it for "
        "changes.",
    )
    # A lease spans several heartbeats, so that a missed one does not lose a healthy run.
    lease: timedelta = Field(
        timedelta(seconds=30),
        description="How long a worker may miss its heartbeats before its run is given to another.",
    )
    heartbeat: timedelta = Field(
        timedelta(seconds=2), description="How often a worker renews its lease."
    )
    external_lease: timedelta = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="How long nothing may be heard of an external run before it is shown as lost.",
    )
    judge_url: Annotated[
        SecretStr | None, BeforeValidator(_none_if_empty), AfterValidator(_check_endpoint)
    ] = Field(
        None,
        description="Base address of the OpenAI-compatible endpoint that judges answers, such as "
        "http://localhost:8001/v1.",
    )
    judge_key: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="Key of that endpoint, if it asks for one."
    )
    judge_requests_per_minute: Annotated[float | None, BeforeValidator(_none_if_empty)] = Field(
        None, gt=0, description="Rate limit of requests to that endpoint; default: none."
    )
    judge_concurrency: int = Field(
        4, ge=1, le=256, description="Requests to that endpoint at a time."
    )
    judge_timeout: timedelta = Field(
        timedelta(seconds=60), description="How long a request to that endpoint may take."
    )
    webhook_urls: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="Addresses that alarms are sent to, separated by commas (Slack's fit)."
    )
    webhook_secret: Annotated[SecretStr | None, BeforeValidator(_none_if_empty)] = Field(
        None, description="Key by which these messages are signed; default: not signed."
    )
    webhook_private: bool = Field(
        False, description="Whether these addresses may be in a private network."
    )
    gpus: int = Field(
        1,
        ge=1,
        le=64,
        description="How many processes, one for each GPU, a worker trains one model with.",
    )
    seats: int = Field(
        1,
        ge=1,
        le=64,
        description="How many workers, on any machines, train one model together.",
    )
    seat_host: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        description="Address at which the others of these reach this worker; default: that from "
        "which it reaches the database.",
    )
    seat_timeout: timedelta = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="How long a training run waits for workers where too few of them are there.",
    )
    rank_timeout: timedelta = Field(
        timedelta(minutes=10),
        gt=timedelta(seconds=2),  # each gives a sign of life every second
        description="How long processes that train one model may give no sign of life, or make no "
        "progress, before they are ended and the run goes on from its checkpoint.",
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_to_upper)
    ] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: Literal["text", "json"] = Field(
        "text", description="text for people, json for a log collector: one object a line."
    )

    @field_validator("database_url", "redis_url")
    @classmethod
    def _usable_service(cls, url: str | None, info: ValidationInfo) -> str | None:
        if not url:
            return None  # docker-compose passes an unset variable as an empty string
        schemes = _SCHEMES[str(info.field_name)]
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in schemes and "://" in url
            _ = parts.port  # ValueError where it is no number
        except ValueError:
            is_usable = False
        if not is_usable:
            raise ValueError(f"it is no address like {schemes[0]}://user@host:port/name")
        return url

    @field_validator("webhook_urls")
    @classmethod
    def _usable_webhooks(cls, urls: SecretStr | None) -> SecretStr | None:
        for address in _split(urls):
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("a webhook's address begins with http:// or https:// and a host")
        return urls

    @field_validator("trusted_proxies")
    @classmethod
    def _usable_proxies(cls, given: str) -> str:
        try:
            _networks(given)
        except ValueError as error:
            raise ValueError(f"{error}; give addresses or networks, separated by commas") from None
        return given

    @property
    def proxy_networks(self) -> list[IPv4Network | IPv6Network]:
        """The addresses of the reverse proxies whose X-Forwarded headers count."""
        return _networks(self.trusted_proxies)

    @property
    def webhooks(self) -> list[str]:
        """The addresses of the webhooks. They are secrets: who knows one can post there."""
        return _split(self.webhook_urls)

    @property
    def models_path(self) -> Path:
        return self.models_dir if self.models_dir is not None else self.data_dir / "models"

    @property
    def runs_path(self) -> Path:
        """Checkpoints and results, one folder a run."""
        return self.data_dir / "runs"

    def run_path(self, run_id: int) -> Path:
        return self.runs_path / str(run_id)

    def required_database_url(self) -> str:
        """The database URL with SQLAlchemy's driver name.

        Raises:
            RuntimeError: no database is configured; `chesboard up` starts one and sets it.
        """
        if self.database_url is None:
            raise RuntimeError(
                "DATABASE_URL is not set. `chesboard up` starts an embedded PostgreSQL; "
                "the other commands need DATABASE_URL to point at one."
            )
        scheme, rest = self.database_url.split("://", 1)
        return (
            f"postgresql+psycopg://{rest}"
            if scheme in ("postgres", "postgresql")
            else (self.database_url)
        )

    def required_redis_url(self) -> str:
        """The broker's URL.

        Raises:
            RuntimeError: no broker is configured; `chesboard up` starts one and sets it.
        """
        if self.redis_url is None:
            raise RuntimeError(
                "REDIS_URL is not set. `chesboard up` starts an embedded Valkey; "
                "the other commands need REDIS_URL to point at a Redis or Valkey."
            )
        return self.redis_url


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once. Tests call get_settings.cache_clear()."""
    return Settings()
