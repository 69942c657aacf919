"""The applications a plan puts under load: our own, programs of a host, deployments to a cluster."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meshgauge.fields import Name, Strict

Protocol = Literal["http/1.1"]
_HEADER_TEXT = re.compile(r"^[\x20-\x7e\t]*$")


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not _HEADER_TEXT.match(value):
            raise ValueError(f"header {name!r} is not a valid HTTP header")
        if name.lower() in {"host", "content-length", "connection", "transfer-encoding"}:
            raise ValueError(f"header {name!r} is set by the load engine; leave it out")
    return headers


Headers = Annotated[dict[str, str], AfterValidator(_checked_headers)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CommandVersion(Strict):
    """One version of a user's own program."""

    version: Name
    command: tuple[str, ...] = Field(
        min_length=1, description="argv; {port} and {reply_bytes} are filled in; no shell is involved"
    )
    env: dict[str, str] = Field(default_factory=dict)
    working_directory: str | None = None


class ChartChoice(Strict):
    """A Helm chart of a user's application."""

    chart: str = Field(
        min_length=1, description="name within the repository, oci:// reference, or a path on the worker"
    )
    repository: str | None = Field(default=None, description="address of the chart repository")
    version: str | None = Field(default=None, description="of the chart; needed with a repository or oci://")
    values: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        if (self.repository or self.chart.startswith("oci://")) and self.version is None:
            raise ValueError("give the chart's version: an unpinned chart is another application tomorrow")
        return self


class DeploymentVersion(Strict):
    """One version of an application that runs in a cluster: an image, manifests, or a chart."""

    version: Name
    image: str | None = Field(default=None, description="container image; {version} is filled in")
    args: tuple[str, ...] = Field(
        default=(), description="image: its arguments; {port} and {reply_bytes} are filled in"
    )
    env: dict[str, str] = Field(default_factory=dict, description="image: its variables")
    manifests: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = Field(
        default=None, min_length=1, description="paths on the worker, or https:// addresses, of YAML documents"
    )
    replace: dict[str, str] = Field(
        default_factory=dict,
        description="manifests: texts in them and what stands there instead; {namespace} is filled in",
    )
    chart: ChartChoice | None = None
    leave_out: tuple[str, ...] = Field(
        default=(), description="manifests or chart: objects not applied, as Kind/name; * and ? are patterns"
    )
    service: Name | None = Field(default=None, description="manifests or chart: the Service load is sent to")
    port: int = Field(default=8080, ge=1, le=65_535, description="of the container, or of the Service")

    @model_validator(mode="after")
    def _is_one_of_three(self) -> Self:
        given = [name for name in ("image", "manifests", "chart") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of image, manifests, chart")
        if (self.service is None) != (self.image is not None):
            raise ValueError("name the service load is sent to (with image, Meshgauge makes it: leave service out)")
        if self.image is None and (self.args or self.env):
            raise ValueError("args and env belong to image")
        if self.manifests is None and self.replace:
            raise ValueError("replace belongs to manifests")
        if self.image is not None and self.leave_out:
            raise ValueError("leave_out belongs to manifests or chart")
        return self


class Workload(Strict):
    """The application under load and the request sent to it.

    ``fixed-reply`` is our own: constant replies of ``reply_bytes``, echoing nothing. With ``commands`` (local)
    or ``deployments`` (kubernetes) the application is a user's own, one arm for each version.
    """

    name: Name
    app: Literal["fixed-reply"] | None = None
    commands: tuple[CommandVersion, ...] = ()
    deployments: tuple[DeploymentVersion, ...] = ()
    protocol: Protocol = "http/1.1"
    method: Literal["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"] = "GET"
    path: str = Field(default="/", pattern=r"^/[!-~]*$")
    headers: Headers = Field(default_factory=dict)
    body_bytes: int = Field(default=0, ge=0, le=1 << 20)
    reply_bytes: int | None = Field(
        default=None, ge=0, le=16 << 20, description="expected size of the reply's body; None: not checked"
    )
    expected_status: int = Field(default=200, ge=200, le=599)
    health_path: str = Field(default="/", pattern=r"^/[!-~]*$")
    health_timeout_s: float = Field(default=30.0, gt=0, le=600)
    locust_file: str | None = Field(default=None, description="an own Locust scenario; never compared with the engine")

    @model_validator(mode="after")
    def _is_ours_or_a_users(self) -> Self:
        if sum(map(bool, (self.app, self.commands, self.deployments))) != 1:
            raise ValueError("give exactly one of app (fixed-reply), commands (local), deployments (kubernetes)")
        if self.app and self.reply_bytes is None:
            raise ValueError("give reply_bytes with app: fixed-reply")
        for field, own in (("commands", self.commands), ("deployments", self.deployments)):
            versions = [one.version for one in own]
            if len(set(versions)) != len(versions):
                raise ValueError(f"{field}: each version may appear once")
        return self
