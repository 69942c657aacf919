"""Settings of one installation, read from ``MESHGAUGE_*`` variables by entry points and passed down."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def default_data_dir() -> Path:
    """Return the user's data directory for Meshgauge (XDG base directory specification)."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "meshgauge"


class Settings(BaseSettings):
    """All settings. Each is an environment variable: ``MESHGAUGE_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="MESHGAUGE_", frozen=True, extra="ignore")

    database_url: SecretStr | None = Field(
        default=None, description="Postgres to use (postgresql+psycopg2://...); none: an embedded one is started"
    )
    broker_url: SecretStr | None = Field(
        default=None, description="Redis-protocol server to use (redis://...); none: an embedded one is started"
    )
    postgres_bin_dir: Path | None = Field(
        default=None, description="folder of the embedded Postgres' programs; none: the wheel's, then the system's"
    )
    redis_server: Path | None = Field(
        default=None, description="program of the embedded Redis-protocol server; none: the wheel's, then the system's"
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="databases, caches, logs, state; private")
    listen_host: str = Field(
        default="127.0.0.1", description="address of the coordinator; beyond loopback needs tokens"
    )
    listen_port: int = Field(default=0, ge=0, le=65_535, description="port of the coordinator; 0: a free one is chosen")
    coordinator_url: str | None = Field(default=None, description="coordinator the command line talks to")
    api_token: SecretStr | None = Field(default=None, description="bearer token the command line sends")
    site: str = Field(default="local", description="name of the place where this host's workers run environments")
    lease_s: float = Field(default=60.0, gt=0, description="life of a lease that is not renewed")
    heartbeat_s: float = Field(default=10.0, gt=0, description="time between renewals of a lease")
    tick_s: float = Field(default=5.0, gt=0, description="time between rounds of the reconciler")
    redispatch_s: float = Field(default=60.0, gt=0, description="due work nobody claimed is announced again after this")
    max_attempts: int = Field(default=3, ge=1, description="attempts at an environment before it counts as failed")
    max_cells: int = Field(default=5000, ge=1, description="largest matrix a submitted plan may have")
    max_plan_bytes: int = Field(default=262_144, ge=1024, description="largest plan accepted, in bytes")
    load_engine: Literal["auto", "native", "python"] = Field(default="auto", description="engine of the load workers")
    allow_commands: bool = Field(
        default=True, description="plans may name programs and Locust files to run (off for remote submitters)"
    )
    allowed_targets: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="networks external load may be sent to, and Prometheus asked in, CIDR, comma separated"
    )
    allowed_clusters: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="kubeconfig contexts open to role run, comma separated; `default`: where none is named, `*`: all",
    )
    public_url: str | None = Field(
        default=None, description="address readers reach the coordinator at; none: notices carry no links"
    )
    notify_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="networks notices may be sent to beside the public internet, CIDR, comma separated"
    )
    smtp_url: SecretStr | None = Field(
        default=None, description="mail server: smtp://user:password@host:587 (STARTTLS), smtps://, smtp+plain://"
    )
    mail_from: str | None = Field(default=None, description="sender address of e-mails")
    advertise_host: str = Field(
        default="127.0.0.1", description="address of this host at which load workers reach it, those in clusters too"
    )
    image: str | None = Field(
        default=None,
        description="container image of Meshgauge itself, run as load workers, probes and trace collectors in clusters",
    )
    quiet_host: Literal["auto", "off"] = Field(
        default="auto", description="make the host quiet while measuring (idle-class spinners, real-time engine thread)"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe line logged"
    )

    @field_validator("public_url")
    @classmethod
    def _see_that_it_is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[!#-;=?-~]+", value):
            raise ValueError("it reads https://HOST, without spaces, quotes or angle brackets")
        return value

    @field_validator("allowed_targets", "allowed_clusters", "notify_networks", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        """Read a variable's comma separated text; a tuple given in code stays as it is."""
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
