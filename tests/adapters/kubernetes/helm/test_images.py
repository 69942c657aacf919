from __future__ import annotations

import pytest

from adapters.kubernetes.helm.images import with_registry


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("docker.io/istio/pilot:1.30.3", "istio/pilot:1.30.3"),
        ("istio/pilot:1.30.3-distroless", "istio/pilot:1.30.3-distroless"),
        ("nginx", "library/nginx"),
        ("docker.io/nginx:1", "library/nginx:1"),
        ("cr.l5d.io/linkerd/proxy@sha256:abc", "linkerd/proxy@sha256:abc"),
        ("localhost/app", "app"),
        ("registry:5000/a/b/c:1", "a/b/c:1"),
        ("quay.io/pause:3", "pause:3"),
    ],
)
def test_an_image_keeps_all_but_its_registry(image: str, path: str) -> None:
    assert with_registry(image, "harbor.example:5000/proxy/") == f"harbor.example:5000/proxy/{path}"
    assert with_registry(image, "") == image
