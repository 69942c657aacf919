"""YAML as Kubernetes reads it: many documents, lists unfolded, nothing but what JSON has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from adapters.kubernetes.api import Manifest

try:
    from yaml import CBaseLoader as TextLoader
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # a PyYAML built without libyaml: the same answers, about ten times slower
    from yaml import BaseLoader as TextLoader  # type: ignore[assignment]
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

__all__ = ["KubernetesLoader", "TextLoader", "documents", "manifests"]


class KubernetesLoader(_SafeLoader):
    """YAML 1.1 without what Kubernetes reads otherwise: dates, 12:30 as a number and ``=`` are plain strings.

    Source: sigs.k8s.io/yaml turns documents into JSON; JSON has neither dates nor sexagesimal numbers.
    """


_RESOLVERS = (
    (
        "tag:yaml.org,2002:bool",
        r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$",
        "yYnNtTfFoO",
    ),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0b[01_]+|0o?[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:[0-9][0-9_]*)?\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*\.?(?:[eE][-+]?[0-9]+)|[-+]?\.inf|\.nan)$",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("tag:yaml.org,2002:merge", r"^(?:<<)$", "<"),
)


def _install_resolvers() -> None:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, firsts in _RESOLVERS:
        for first in firsts:
            table.setdefault("" if first == "\0" else first, []).append((tag, re.compile(pattern)))
    KubernetesLoader.yaml_implicit_resolvers = table


_install_resolvers()


def documents(text: str) -> Iterator[Any]:
    """Yield each document of a YAML stream that is not empty.

    Raises:
        yaml.YAMLError: the text is no YAML; says where.
    """
    for document in yaml.load_all(text, Loader=KubernetesLoader):
        if document is not None:
            yield document


def manifests(text: str) -> list[Manifest]:
    """Return the objects of a YAML stream in its order; ``List`` objects are unfolded, other documents left out."""
    found: list[Manifest] = []
    for document in documents(text):
        if not isinstance(document, dict) or "kind" not in document:
            continue
        if document["kind"] == "List":
            found += [item for item in document.get("items") or () if isinstance(item, dict)]
        else:
            found.append(document)
    return found
