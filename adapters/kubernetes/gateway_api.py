"""The Gateway API's CRDs: which a cluster has, whether they suit a mesh, and bringing them where there are none.

Somebody else's are never touched: neither upgraded nor, though a mesh wants newer ones, replaced. What Meshgauge
brings carries its labels and is removed with the mesh, the admission policy of v1.5 and later (it keeps older CRDs
out, so whoever comes next would stumble over it) included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from packaging.specifiers import SpecifierSet

from adapters.kubernetes.api import LABEL_OWNER, OWNER, Cluster, Kind, Manifest, ObjectRef
from adapters.kubernetes.helm import web
from adapters.kubernetes.helm.files import write_whole
from adapters.kubernetes.helm.manifests import manifests as parse
from adapters.kubernetes.mesh import Condition
from adapters.kubernetes.server.waiting import wait_ready
from meshgauge.errors import ConfigurationError, EnvironmentUpError

# Standard channel releases that meshes of today read, the preferred first. Source: reference/adapters.md 14.
VERSIONS: Final = ("1.5.1", "1.4.1", "1.3.0", "1.2.1", "1.6.1")
GROUP: Final = "gateway.networking.k8s.io"
_RELEASE: Final = "https://github.com/kubernetes-sigs/gateway-api/releases/download/v{version}/standard-install.yaml"
_BUNDLE: Final = f"{GROUP}/bundle-version"
_CHANNEL: Final = f"{GROUP}/channel"
_CRD: Final = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_POLICIES: Final = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
# In the standard channel since v1.1; a mesh uses these, whatever else a bundle holds.
_PLURALS: Final = ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")


@dataclass(frozen=True, slots=True)
class Found:
    """The Gateway API as a cluster has it.

    Attributes:
        versions: bundle versions of its CRDs, ``1.5.1``; several when a bundle was laid over another one in part;
            empty when they do not say.
        channel: ``standard`` or ``experimental``; empty when they do not say.
        is_ours: Meshgauge brought it.
    """

    versions: tuple[str, ...]
    channel: str
    is_ours: bool

    def __str__(self) -> str:
        version = " and ".join(self.versions) or "of unknown version"
        return f"Gateway API {version} ({self.channel or 'channel unknown'})"


def found(cluster: Cluster) -> Found | None:
    """Return the Gateway API of ``cluster``, or None when it has none of its CRDs."""
    crds = [crd for plural in _PLURALS if (crd := cluster.get(ObjectRef(_CRD, "", f"{plural}.{GROUP}"))) is not None]
    if not crds:
        return None
    annotations = [crd["metadata"].get("annotations") or {} for crd in crds]
    labels = [crd["metadata"].get("labels") or {} for crd in crds]
    versions = sorted({one[_BUNDLE].lstrip("v") for one in annotations if _BUNDLE in one})
    channels = sorted({one[_CHANNEL] for one in annotations if _CHANNEL in one})
    return Found(tuple(versions), " and ".join(channels), all(one.get(LABEL_OWNER) == OWNER for one in labels))


def version_for(wanted: str) -> str:
    """Return the version to bring for a mesh that reads ``wanted``, a specifier such as ``>=1.2,<1.5``.

    Raises:
        ConfigurationError: none of VERSIONS suits.
    """
    suitable = SpecifierSet(wanted)
    for version in VERSIONS:
        if version in suitable:
            return version
    raise ConfigurationError(f"a mesh that reads Gateway API {wanted} suits none of {', '.join(VERSIONS)}")


def obstacle(there: Found | None, wanted: str, may_install: bool) -> str | None:
    """Return why a mesh that reads ``wanted`` cannot be installed beside ``there``, with what to do; or None."""
    if there is None:
        if may_install:
            return None
        return (
            f"the cluster has no Gateway API, which the mesh reads ({wanted}): install its CRDs, "
            "or let the plan do it with cluster.install_gateway_api: true"
        )
    if not there.versions:
        return None  # a provider's own: it is for the mesh to say whether it can read it
    suitable = SpecifierSet(wanted)
    unfit = [version for version in there.versions if not suitable.contains(version, prereleases=True)]
    if not unfit:
        return None
    return (
        f"the cluster has {there}, and the mesh reads {wanted}: Meshgauge does not replace what it did not bring; "
        f"bring the CRDs to v{version_for(wanted)} of the standard channel, or choose a mesh version that reads these"
    )


def missing_from(mirror: str | None, wanted: str) -> str | None:
    """Return why a folder as mirror cannot give the bundle a mesh that reads ``wanted`` needs, or None.

    Anything but a folder is not looked at.
    """
    if mirror is None or not _is_folder(mirror):
        return None
    version = version_for(wanted)
    path = _path_in(mirror, version)
    return None if path.is_file() else _not_there(path, version)


def bundle(version: str, cache_dir: Path, mirror: str | None = None) -> Sequence[Manifest]:
    """Return the objects of a standard bundle, fetched once.

    Args:
        mirror: as the plan's ``cluster.charts``: a folder or address that holds ``gateway-api-v1.5.1.yaml``.

    Raises:
        ServiceUnavailableError: its place cannot be reached and no copy is kept.
        ConfigurationError: it is not there, or is something other than that bundle.
    """
    kept = cache_dir / "charts" / "gateway-api" / f"v{version}.yaml"
    if kept.exists() and (mirror is None or not _is_folder(mirror)):
        return _checked(kept.read_bytes(), version, str(kept))
    content, origin = _fetched(version, mirror)
    objects = _checked(content, version, origin)
    write_whole(kept, content)
    return objects


def _fetched(version: str, mirror: str | None) -> tuple[bytes, str]:
    name = _file_name(version)
    scheme = urlsplit(mirror or "").scheme
    if mirror is None:
        address = _RELEASE.format(version=version)
    elif scheme in {"http", "https"}:
        address = f"{mirror.rstrip('/')}/{name}"
    elif scheme == "oci":
        raise ConfigurationError(
            f"{web.without_userinfo(mirror)} holds charts alone: install the Gateway API's CRDs v{version} yourself, "
            f"or name a mirror that is a folder or an http address and holds {name}"
        )
    else:
        path = _path_in(mirror, version)
        if not path.is_file():
            raise ConfigurationError(_not_there(path, version))
        return path.read_bytes(), str(path)
    return web.get(address), web.without_userinfo(address)


def _is_folder(mirror: str) -> bool:
    return urlsplit(mirror).scheme not in {"http", "https", "oci"}


def _file_name(version: str) -> str:
    return f"gateway-api-v{version}.yaml"


def _path_in(mirror: str, version: str) -> Path:
    return Path(mirror.removeprefix("file://")).expanduser() / _file_name(version)


def _not_there(path: Path, version: str) -> str:
    return f"{path} is not there: put the Gateway API's standard-install.yaml v{version} there"


def _checked(content: bytes, version: str, origin: str) -> Sequence[Manifest]:
    """Return the objects of a bundle; anything but Gateway API's own CRDs and policies is refused, not applied."""
    try:
        objects = parse(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{origin} is no YAML: {error}") from error
    crds = [one for one in objects if one["kind"] == _CRD.name and one.get("spec", {}).get("group") == GROUP]
    strangers = [one["kind"] for one in objects if one not in crds and not _is_policy(one)]
    if not crds or strangers:
        raise ConfigurationError(
            f"{origin} is no standard bundle of the Gateway API: it holds {', '.join(strangers) or 'none of its CRDs'}"
        )
    told = {_annotation(crd, _BUNDLE).lstrip("v") for crd in crds}
    if told != {version} or {_annotation(crd, _CHANNEL) for crd in crds} != {"standard"}:
        raise ConfigurationError(
            f"{origin} is Gateway API {' and '.join(sorted(told))}, not {version} of the standard channel"
        )
    return objects


def _is_policy(one: Manifest) -> bool:
    return one["kind"] in _POLICIES and str(one["metadata"]["name"]).endswith(GROUP)


def _annotation(crd: Manifest, name: str) -> str:
    annotations: Mapping[str, Any] = crd["metadata"].get("annotations") or {}
    return str(annotations.get(name, ""))


def install(cluster: Cluster, objects: Sequence[Manifest], labels: Mapping[str, str], timeout_s: float) -> None:
    """Bring a bundle into a cluster that has none, marked with ``labels``, and wait until it is served.

    What another process made meanwhile is left as it is. The caller has noted ``references`` before.

    Raises:
        EnvironmentUpError: the API server refuses an object, or does not serve the kinds in time.
    """
    for one in objects:
        ref = ObjectRef.of(one)
        there = cluster.get(ref)
        if there is not None and (there["metadata"].get("labels") or {}).get(LABEL_OWNER) != OWNER:
            raise EnvironmentUpError(f"{ref} came into the cluster meanwhile, from somebody else: try again")
        metadata = one["metadata"] | {"labels": {**(one["metadata"].get("labels") or {}), **labels}}
        cluster.apply(one | {"metadata": metadata})
    established = [Condition(ref, "Established") for ref in references(objects) if ref.kind == _CRD]
    wait_ready(cluster, established, timeout_s)


def references(objects: Sequence[Manifest]) -> Sequence[ObjectRef]:
    """Return the names of a bundle's objects, for the record of what has to go."""
    return [ObjectRef.of(one) for one in objects]
