"""Kubeconfig files are read as kubectl reads them, and cut down to one context."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.kubernetes.server import kubeconfig
from meshgauge.errors import ConfigurationError


def _config(name: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"} | more.get("cluster", {})}],
        "users": [{"name": name, "user": {"token": f"{name}-token"} | more.get("user", {})}],
    }


def _write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def test_of_two_files_the_first_one_names_the_current_context_and_wins_where_names_meet(tmp_path: Path) -> None:
    first, second = _config("one"), _config("two")
    second["clusters"].append({"name": "one", "cluster": {"server": "https://other"}})
    merged = kubeconfig.read([_write(tmp_path / "a", first), _write(tmp_path / "b", second)])
    assert merged["current-context"] == "one"
    assert kubeconfig.contexts(merged) == ["one", "two"]
    assert kubeconfig.only(merged, "one")["clusters"][0]["cluster"]["server"] == "https://one:6443"


def test_one_context_takes_its_own_cluster_and_user_along_and_nobody_elses(tmp_path: Path) -> None:
    merged = kubeconfig.read([_write(tmp_path / "a", _config("one")), _write(tmp_path / "b", _config("two"))])
    alone = kubeconfig.only(merged, "two")
    assert alone["current-context"] == "two"
    assert "one-token" not in yaml.safe_dump(alone)
    assert [entry["name"] for entry in alone["users"]] == ["two"]


def test_an_unknown_context_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    merged = kubeconfig.read([_write(tmp_path / "a", _config("one")), _write(tmp_path / "b", _config("two"))])
    with pytest.raises(ConfigurationError, match=r"no context 'three' \(known contexts: one, two\)"):
        kubeconfig.only(merged, "three")


def test_a_context_without_its_cluster_is_refused(tmp_path: Path) -> None:
    broken = _config("one") | {"clusters": []}
    with pytest.raises(ConfigurationError, match="no cluster 'one'"):
        kubeconfig.only(kubeconfig.read([_write(tmp_path / "a", broken)]), "one")


def test_relative_files_count_from_the_file_that_names_them(tmp_path: Path) -> None:
    config = _config("one", cluster={"certificate-authority": "pki/ca.crt"}, user={"tokenFile": "/abs/token"})
    config["users"][0]["user"]["exec"] = {"command": "bin/login", "args": ["x"]}
    merged = kubeconfig.read([_write(tmp_path / "deep" / "config", config)])
    assert merged["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "deep/pki/ca.crt")
    assert merged["users"][0]["user"]["tokenFile"] == "/abs/token"
    assert merged["users"][0]["user"]["exec"]["command"] == str(tmp_path / "deep/bin/login")


def test_a_broken_file_is_named_and_its_secrets_are_not_quoted(tmp_path: Path) -> None:
    path = _write(tmp_path / "config", "users: [{name: a, user: {token: s3cret, : }}")
    with pytest.raises(ConfigurationError) as caught:
        kubeconfig.read([path])
    assert str(path) in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_some_other_yaml_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no kubeconfig"):
        kubeconfig.read([_write(tmp_path / "config", ["a", "b"])])


def test_files_that_are_named_and_missing_are_passed_over(tmp_path: Path) -> None:
    there = _write(tmp_path / "config", _config("one"))
    assert kubeconfig.files({"KUBECONFIG": f"{tmp_path / 'missing'}:{there}"}) == [there]


def test_embedded_keys_become_private_files_of_each_connection(tmp_path: Path) -> None:
    data = base64.b64encode(b"-----KEY-----").decode()
    config = _config("one", user={"client-key-data": data})
    written = kubeconfig.with_files(kubeconfig.only(config, "one"), tmp_path)
    path = Path(written["users"][0]["user"]["client-key"])
    assert path.read_bytes() == b"-----KEY-----"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "client-key-data" not in written["users"][0]["user"]
    assert "client-key-data" in config["users"][0]["user"]


def test_a_pod_uses_its_service_account_by_the_file_of_its_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken")
    variables = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    config = kubeconfig.in_cluster(variables, tmp_path)
    assert config is not None
    assert config["clusters"][0]["cluster"]["server"] == "https://[fd00::1]:443"
    assert config["users"][0]["user"] == {"tokenFile": str(tmp_path / "token")}
    assert "t0ken" not in yaml.safe_dump(config)


def test_outside_a_pod_there_is_no_service_account(tmp_path: Path) -> None:
    assert kubeconfig.in_cluster({}, tmp_path) is None
