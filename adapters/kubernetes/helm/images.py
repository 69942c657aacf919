"""Names of container images: the same image from another registry."""

from __future__ import annotations


def with_registry(image: str, registry: str) -> str:
    """Return ``image`` with ``registry`` in place of its own; unchanged when ``registry`` is empty.

    Args:
        image: as a pod names it; without a registry it is Docker Hub's, without an owner its ``library``.
        registry: host, perhaps with port and path: ``harbor.example:5000/proxy``.
    """
    if not registry:
        return image
    return f"{registry.rstrip('/')}/{_path(image)}"


def _path(image: str) -> str:
    """Return the image without its registry. Source: github.com/distribution/reference (what is a host)."""
    first, slash, rest = image.partition("/")
    if not slash:
        return f"library/{image}"
    is_host = "." in first or ":" in first or first == "localhost"
    if not is_host:
        return image
    return rest if "/" in rest or first not in {"docker.io", "index.docker.io"} else f"library/{rest}"
