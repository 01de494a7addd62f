"""Everything that can be set from outside. Nothing else reads the environment.

What belongs to one run stands in the run's configuration (app/runs/configs.py), not here.
"""

from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""Where templates/, static/ and migrations/ lie."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CHESBOARD_", extra="ignore")

    data_dir: Path = Field(
        Path("chesboard-data"),
        description="Folder for the embedded database, models, checkpoints and results.",
    )
    models_dir: Path | None = Field(
        None,
        description="Folder with models that runs may name; default: models/ in the data folder.",
    )
    database_url: str | None = Field(
        None,
        validation_alias=AliasChoices("DATABASE_URL", "CHESBOARD_DATABASE_URL"),
        description="A PostgreSQL of your own (postgresql://…); default: an embedded one.",
    )
    redis_url: str | None = Field(
        None,
        validation_alias=AliasChoices("REDIS_URL", "CHESBOARD_REDIS_URL"),
        description="A Redis or Valkey of your own (redis://…); default: an embedded Valkey.",
    )
    host: str = Field("127.0.0.1", description="Address the web server listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the web server listens on.")
    token: SecretStr | None = Field(
        None, description="Access token; required on any address but loopback."
    )
    max_upload_bytes: int = Field(
        1 << 30, gt=0, description="Largest upload that is accepted, in bytes."
    )
    # A missed renewal or two must not lose a healthy run: a lease outlasts several heartbeats.
    lease: timedelta = Field(
        timedelta(seconds=30),
        description="How long a worker may be silent before its run is given to another.",
    )
    heartbeat: timedelta = Field(
        timedelta(seconds=2), description="How often a worker renews its lease."
    )
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")

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
        """The database address in the form SQLAlchemy takes.

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
        """The broker's address.

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
