"""Reads kubeconfig files as kubectl does, and cuts them down to one context."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meshgauge.errors import ConfigurationError

# Fields of a kubeconfig that name files; relative ones count from the file that names them.
# Source: k8s.io/client-go tools/clientcmd/loader.go, GetClusterFileReferences and GetAuthInfoFileReferences.
_FILE_FIELDS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")

# Where a pod finds its service account. Source: kubernetes.io/docs/tasks/run-application/access-api-from-pod.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def files(variables: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the kubeconfig files there are: those of KUBECONFIG, else ``~/.kube/config``."""
    named = [Path(part) for part in variables.get("KUBECONFIG", "").split(os.pathsep) if part]
    return [path for path in named or [Path.home() / ".kube" / "config"] if path.is_file()]


def read(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the files merged: of two entries of a name, the first counts.

    Raises:
        ConfigurationError: a file cannot be read, or is no kubeconfig.
    """
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for path in paths:
        document = _parsed(path)
        if document.get("current-context"):
            merged.setdefault("current-context", document["current-context"])
        for what in ("clusters", "users", "contexts"):
            known = {entry["name"] for entry in merged[what]}
            entries = [_anchored(entry, path.parent) for entry in document.get(what) or []]
            merged[what] += [entry for entry in entries if entry["name"] not in known]
    return merged


def contexts(config: Mapping[str, Any]) -> list[str]:
    """Return the names of all contexts, in order."""
    return sorted(entry["name"] for entry in config["contexts"])


def only(config: Mapping[str, Any], context: str) -> dict[str, Any]:
    """Return ``config`` with this context, its cluster and its user, and nothing else.

    Raises:
        ConfigurationError: there is no such context, or it names a cluster or user there is none of.
    """
    chosen = _named(config, "contexts", context, f"known contexts: {', '.join(contexts(config)) or 'none'}")
    where = chosen.get("context") or {}
    named_by = f"named by context {context!r}"
    clusters = [_named(config, "clusters", str(where.get("cluster")), named_by)]
    users = [_named(config, "users", where["user"], named_by)] if where.get("user") else []
    head = {"apiVersion": "v1", "kind": "Config", "current-context": context}
    return head | {"contexts": [chosen], "clusters": clusters, "users": users}


def with_files(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return ``config`` with embedded certificates and keys written to files in ``folder``.

    The client library needs files, and shares those it writes between connections, whichever is closed first.
    """
    written = dict(config)
    for what in ("cluster", "user"):
        written[f"{what}s"] = []
        for entry in config[f"{what}s"]:
            inner = dict(entry[what] or {})
            for field in _FILE_FIELDS:
                if data := inner.pop(f"{field}-data", None):
                    path = folder / f"{what}-{field}.pem"
                    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                        file.write(base64.b64decode(data))
                    inner[field] = str(path)
            written[f"{what}s"].append({**entry, what: inner})
    return written


def in_cluster(variables: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT) -> dict[str, Any] | None:
    """Return a kubeconfig of the pod's own service account, or None outside a cluster.

    It names the token's file rather than the token, which the kubelet renews.
    """
    host, port = variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT")
    if not host or not port or not (account / "token").is_file():
        return None
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    name = "in-cluster"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority": str(account / "ca.crt")}}],
        "users": [{"name": name, "user": {"tokenFile": str(account / "token")}}],
    }


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"the kubeconfig {path} cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:  # its words quote the text, which may be a token
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"the kubeconfig {path} is no YAML{where}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise ConfigurationError(f"the kubeconfig {path} is no text") from None
    if document is None:
        return {}
    lists = ("clusters", "users", "contexts")
    is_one = isinstance(document, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str)
        for what in lists
        for entry in document.get(what) or []
    )
    if not is_one:
        raise ConfigurationError(f"{path} is no kubeconfig: it has to list clusters, users and contexts, each by name")
    return dict(document)


def _anchored(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the entry with its file names made absolute."""

    def value(key: str, given: Any) -> Any:
        if isinstance(given, dict):
            inner = {name: value(name, inside) for name, inside in given.items()}
            if key == "exec" and "/" in str(inner.get("command", "")):  # a bare name is looked up on PATH
                inner["command"] = str(folder / inner["command"])
            return inner
        return str((folder / given).absolute()) if key in _FILE_FIELDS and given else given

    return {key: value(key, given) for key, given in entry.items()}


def _named(config: Mapping[str, Any], what: str, name: str, hint: str) -> dict[str, Any]:
    for entry in config[what]:
        if entry["name"] == name and isinstance(entry.get(what[:-1]) or {}, dict):
            return {**entry, what[:-1]: entry.get(what[:-1]) or {}}
    raise ConfigurationError(f"the kubeconfig has no {what[:-1]} {name!r} ({hint})")
