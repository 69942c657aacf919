from __future__ import annotations

import pytest
import yaml

from adapters.kubernetes.helm.manifests import documents, manifests


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    text = "{day: 2026-08-01, time: 12:30, operator: =, off: off, mode: 0644, size: 1e3, big: 1.5, none: ~, text: '1'}"
    (read,) = documents(text)
    assert read == {
        "day": "2026-08-01",
        "time": "12:30",
        "operator": "=",
        False: False,
        "mode": 0o644,
        "size": 1000.0,
        "big": 1.5,
        "none": None,
        "text": "1",
    }


def test_lists_are_unfolded_and_what_is_no_object_is_left_out() -> None:
    text = """
# a comment alone is an empty document
---
{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret}, {apiVersion: v1, kind: ConfigMap}]}
---
just a sentence
---
{apiVersion: v1, kind: Service}
"""
    assert [one["kind"] for one in manifests(text)] == ["Secret", "ConfigMap", "Service"]


def test_what_is_no_yaml_says_where() -> None:
    with pytest.raises(yaml.YAMLError, match=r"line \d+, column 1"):
        manifests("a:\n  - [")
