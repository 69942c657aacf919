"""Where a plan's environments run, and how big that is."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from meshgauge.fields import Name, Strict

Provider = Literal["local", "kubernetes", "external"]


class Size(Strict):
    """How big the infrastructure is."""

    replicas: int = Field(default=1, ge=1, le=1000, description="copies of the application")
    app_threads: int = Field(default=1, ge=1, le=256, description="worker threads of the built-in application")
    app_cpu_cores: float | None = Field(
        default=None, gt=0, le=256, description="kubernetes: CPU request and limit of each copy; None: no limit"
    )
    app_memory_bytes: int | None = Field(
        default=None, ge=16 << 20, description="kubernetes: memory request and limit of each copy; None: no limit"
    )


NodeSelector = dict[str, str]

CLUSTER_DOMAIN = "cluster.local"  # Source: kubernetes.io, DNS for Services and Pods: what kubeadm and most others set
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


class Cluster(Strict):
    """Which cluster a ``kubernetes`` infrastructure means, and how it is used."""

    context: str | None = Field(
        default=None,
        min_length=1,
        description="of the worker's kubeconfig; None: the cluster it runs in, or the current one",
    )
    charts: str | None = Field(
        default=None,
        description="mirror to take charts from: a folder on the worker, or an address (air-gapped clusters)",
    )
    images: str | None = Field(default=None, description="registry to take all images from, in place of their own")
    load_from: Literal["jobs", "workers"] = Field(
        default="jobs",
        description="jobs: made in the cluster for each trial, in the mesh; workers: the Celery load workers",
    )
    app_nodes: NodeSelector = Field(default_factory=dict, description="labels of the nodes the application runs on")
    load_nodes: NodeSelector = Field(default_factory=dict, description="labels of the nodes that generate load")
    load_cpu_cores: float = Field(default=1.0, gt=0, le=256, description="CPU request of each load worker")
    domain: str | None = Field(
        default=None,
        max_length=150,  # names of Services, 253 at most, go before it
        pattern=rf"^{_LABEL}(\.{_LABEL})*$",
        description="what names of Services end in; None: what a kubelet tells, else cluster.local",
    )
    install_gateway_api: bool = Field(
        default=True, description="install the Gateway API's CRDs for meshes that need them, where the cluster has none"
    )
    prometheus_url: str | None = Field(
        default=None,
        pattern=r"^https?://[!-~]+$",
        description="where the proxies' own metrics are kept, for the record; an operator must allow it",
    )


class Infrastructure(Strict):
    """Where an environment runs."""

    name: Name = "local"
    provider: Provider = "local"
    size: Size = Size()
    cluster: Cluster | None = Field(default=None, description="kubernetes: which cluster; the current one by default")
    target_url: str | None = Field(default=None, description="external: the endpoint; an operator must allow it")

    @model_validator(mode="before")
    @classmethod
    def _accept_a_bare_name(cls, data: Any) -> Any:
        return {"name": data, "provider": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _has_what_its_provider_needs(self) -> Self:
        if (self.provider == "external") != (self.target_url is not None):
            raise ValueError("target_url belongs to provider: external, and is needed there")
        if self.provider != "kubernetes" and self.cluster is not None:
            raise ValueError("cluster belongs to provider: kubernetes")
        if self.provider == "local" and self.size.replicas != 1:
            raise ValueError("the local provider runs one copy of the application: size.replicas must be 1")
        if self.provider != "kubernetes" and (self.size.app_cpu_cores or self.size.app_memory_bytes):
            raise ValueError(
                "size.app_cpu_cores and size.app_memory_bytes are limits of containers: provider: kubernetes"
            )
        return self

    @property
    def in_cluster(self) -> Cluster:
        """The cluster of a ``kubernetes`` infrastructure, with its defaults."""
        return self.cluster or Cluster()

    @property
    def brings_load_workers(self) -> bool:
        """Whether the environment starts load workers of its own, beside the application it measures."""
        return self.provider == "kubernetes" and self.in_cluster.load_from == "jobs"


_CLUSTER_SITE = "kubernetes"


def cluster_site(context: str | None) -> str:
    """Return the site of a kubeconfig context; None: the cluster Meshgauge runs in, or the current one."""
    return _CLUSTER_SITE if context is None else f"{_CLUSTER_SITE}:{context}"


def context_of(site: str) -> str | None:
    """Return the kubeconfig context of a cluster's site: the way back from ``cluster_site``."""
    _, colon, context = site.partition(":")
    return context if colon else None
