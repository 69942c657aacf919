"""Meshes that are named and cannot be run any more, or never could be compared: what became of them."""

from __future__ import annotations

from typing import Final

from adapters.kubernetes.mesh import Unavailable

# Source of every statement: reference/adapters.md 0.1 and 10 to 12, looked up in November 2026.
UNAVAILABLE: Final = (
    Unavailable(
        "app-mesh",
        "AWS App Mesh",
        "ended",
        "the service ended on 30 September 2026. Its controller (1.13.3) can still be installed, but its Envoys got "
        "their configuration from AWS, and get none now",
    ),
    Unavailable(
        "network-service-mesh",
        "Network Service Mesh",
        "maintained",
        "it connects pods at layers 2 and 3, by an interface of its own: it has no retries, time-outs, access logs or "
        "request counters, so nothing of it can be set equal to an HTTP mesh, and its mutual TLS is for its control "
        "plane. There is no chart of its version 1 either",
    ),
    Unavailable(
        "citrix",
        "Citrix (NetScaler CPX in Istio)",
        "dormant",
        "its proxy is proprietary: it needs an accepted licence agreement and a licence server, on top of Istio 1.14, "
        "which is out of support; its xDS adaptor was last changed in August 2022",
    ),
    Unavailable(
        "tanzu-service-mesh",
        "VMware Tanzu Service Mesh",
        "ended",
        "its control plane was a hosted service for customers, which clusters had to be registered with: there is "
        "nothing that could be installed",
    ),
    Unavailable(
        "octarine",
        "Octarine",
        "ended",
        "its control plane was hosted by its maker, which VMware bought; nobody runs it any more",
    ),
)
