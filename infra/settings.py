"""Settings: where things are kept and how work is run. None of them ever enters the identity of an artifact."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from infra.errors import UserError


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


class Settings(BaseSettings):
    """Read from `MILLRACE_*` environment variables, then `millrace.toml` in the working directory."""

    model_config = SettingsConfigDict(
        env_prefix="MILLRACE_",
        toml_file="millrace.toml",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    storage: str = "./.millrace"
    """Root of the artifact store: a local path or any fsspec URL (`file://`, `s3://bucket/prefix`, `gs://`)."""
    workspace: Path = Path(".millrace")
    """Local folder for scratch files, the cache of fetched files and Prefect's own database."""
    cache_bytes: int | None = Field(default=None, ge=0)
    """Most bytes of token shards that training keeps of remote storage in `workspace`, on each machine; half of the
    disk's free room by default. Of shards that do not fit, training fetches the sequences that it is about to read."""
    shared: Path | None = None
    """Folder that all machines of a cluster see at the same path. Training on other machines needs `workspace`, and
    storage that is a local path, within it."""
    runner: Literal["processes"] = "processes"
    """How groups of shards are run: in processes of this machine."""
    workers: int = Field(default_factory=usable_cores, ge=1)
    """Worker processes at once; the number of usable cores by default."""
    group_tasks: int = Field(default=200, ge=1)
    """Most Prefect task runs that one sharded step is cut into."""
    lease_seconds: float = Field(default=30.0, gt=0)
    """A worker whose heartbeat has stood still for so long has lost its work to the next one, in seconds."""
    retries: int = Field(default=4, ge=0)
    """How often a task is tried again after a transient error."""
    retry_seconds: float = Field(default=2.0, gt=0)
    """Delay before the first retry in seconds; doubled each time, with jitter."""
    preemption_seconds: float = Field(default=120.0, gt=0)
    """How long a run that is told to stop (SIGTERM, SIGUSR1, SIGUSR2) may take to save its training, in seconds."""
    core_hour_price: float | None = Field(default=None, ge=0)
    """Price of one core for one hour, in any currency; manifests then record what their CPU time cost."""
    port: int = Field(default=4200, ge=1, le=65535)
    """Port of the Prefect server that `millrace up` starts."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then millrace.toml."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process; raises UserError that names the variable or key that is wrong."""
    try:
        return Settings()
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in exc.errors()
        )
        raise UserError(f"settings (MILLRACE_* variables or millrace.toml): {problems}") from exc
    except ValueError as exc:  # a millrace.toml that is not TOML
        raise UserError(f"millrace.toml: {exc}") from exc
