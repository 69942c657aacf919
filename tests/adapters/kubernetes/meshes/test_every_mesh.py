"""Every mesh keeps the contract of ``adapters.kubernetes.mesh``, in every profile and placement it supports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from adapters import registry
from adapters.contract import FEATURES
from adapters.kubernetes.api import ObjectRef
from adapters.kubernetes.helm.contract import ChartVersion
from adapters.kubernetes.mesh import Condition, Injector, KubernetesMesh, MeshOrder, Rollout, Setting
from adapters.kubernetes.mesh_parts import parity
from adapters.kubernetes.preflight.permissions import PROVIDER
from meshgauge.errors import ConfigurationError
from meshgauge.matrix import Role
from meshgauge.plan import BUILT_IN_PROFILES, Placement, Profile

OrderFor = Callable[..., MeshOrder]

# One version of each mesh, with the version of each of its charts (all of one version where there is one text alone).
VERSIONS: Mapping[str, tuple[str, str]] = {
    "istio": ("1.30.3", "1.30.3"),
    "istio-ambient": ("1.30.3", "1.30.3"),
    "linkerd": ("26.8.3", "2026.8.3"),
    "consul": ("2.0.3", "2.0.3"),
    "kuma": ("2.14.3", "2.14.3"),
    "cilium": ("1.20.0", "1.20.0"),
    "traefik-mesh": ("1.4.8", "4.1.1"),
    "nginx-service-mesh": ("2.0.0", "2.0.0"),
    "osm": ("1.2.4", "1.2.4"),
}

ROLES: Mapping[Placement, tuple[Role, ...]] = {
    "pair": ("client", "server"),
    "client": ("client",),
    "server": ("server",),
    "node": ("node",),
}

PROFILES = (
    *BUILT_IN_PROFILES.values(),
    Profile(name="permissive", mtls=True, permissive=True),
    Profile(name="observed-more", mtls=True, access_log=True, metrics=True, request_id=True, proxy_threads=4),
    Profile(name="limited", proxy_cpu_cores=1.5, proxy_memory_bytes=256 << 20, request_timeout_s=0.25),
    Profile(name="limited-mtls", mtls=True, proxy_cpu_cores=1.5, proxy_memory_bytes=256 << 20),
    Profile(name="tls-1-2", mtls=True, tls_version="1.2"),
    Profile(name="traced", mtls=True, request_id=True, tracing_ratio=0.1),
    Profile(name="traced-plain", request_id=True, tracing_ratio=0.0001),
)
REGISTRY_OF_ONES_OWN = "registry.example:5000/mirror"

MESHES = registry.kubernetes_meshes()
pytestmark = pytest.mark.parametrize("name", MESHES)


def supported(mesh: KubernetesMesh) -> Iterator[tuple[Profile, Placement]]:
    for profile, placement in product(PROFILES, mesh.placements):
        if mesh.unsupported(profile, placement) is None:
            yield profile, placement


@pytest.fixture
def mesh(name: str) -> KubernetesMesh:
    return MESHES[name]


@pytest.fixture
def orders(name: str, mesh: KubernetesMesh, order_for: OrderFor) -> Sequence[MeshOrder]:
    """Return an order for each supported profile and placement."""
    version, chart = VERSIONS[name]
    charts = dict.fromkeys(mesh.charts, chart)
    return [order_for(mesh, version, *each, chart_versions=charts) for each in supported(mesh)]


def objects_of(mesh: KubernetesMesh, order: MeshOrder) -> list[Mapping[str, Any]]:
    return [*mesh.objects(order), *mesh.configuration(order)]


def test_it_says_what_it_is(name: str, mesh: KubernetesMesh) -> None:
    assert mesh.name == name
    assert mesh.title
    assert mesh.upkeep == "maintained" or mesh.note, "a mesh nobody keeps has to say so"
    assert mesh.placements
    assert mesh.charts
    assert set(mesh.placements) <= set(ROLES)


def test_it_supports_something_and_gives_a_sentence_for_everything_else(name: str, mesh: KubernetesMesh) -> None:
    assert list(supported(mesh))
    for profile, placement in product(PROFILES, ROLES):
        reason = mesh.unsupported(profile, placement)
        assert reason is None or len(reason.split()) > 4, f"{profile.name} {placement}: {reason!r} explains nothing"
        assert placement in mesh.placements or reason is not None


def test_a_placement_it_does_not_have_is_named_with_those_it_has(name: str, mesh: KubernetesMesh) -> None:
    for placement in set(ROLES) - set(mesh.placements):
        reason = mesh.unsupported(BUILT_IN_PROFILES["plain"], placement) or ""
        assert placement in reason
        assert all(known in reason for known in mesh.placements)


# Placements in which a mesh reports a share of requests. What it reports, its own tests say.
TRACED: Mapping[str, tuple[Placement, ...]] = {
    "istio": ("pair", "client", "server"),
    "istio-ambient": ("server",),
    "kuma": ("pair", "server"),
    "consul": ("pair",),
}


def test_it_reports_a_share_of_requests_or_says_why_it_cannot(name: str, mesh: KubernetesMesh) -> None:
    for placement in mesh.placements:
        asked = [Profile(name="t", mtls=mtls, request_id=True, tracing_ratio=0.5) for mtls in (True, False)]
        reasons = [mesh.unsupported(profile, placement) for profile in asked]
        if placement in TRACED.get(name, ()):
            assert None in reasons, reasons
        else:
            assert any("tracing_ratio" in (reason or "") for reason in reasons), reasons
            assert None not in reasons


def test_a_share_no_envoy_can_sample_is_refused(name: str, mesh: KubernetesMesh) -> None:
    profile = Profile(name="fine", mtls=True, request_id=True, tracing_ratio=0.00015)
    assert all(mesh.unsupported(profile, placement) for placement in mesh.placements)


def test_spans_go_to_the_environments_collector_and_only_when_asked_for(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        made = [*objects_of(mesh, order), *(dict(release.values) for release in mesh.releases(order))]
        told = json.dumps(made)
        is_told = "trace-collector.bench.svc" in told
        assert is_told == bool(order.profile.tracing_ratio)
        assert ("9411" in told) == is_told
        for role in ROLES[order.placement]:
            features = mesh.features(order.profile, role)
            assert (features["tracing"] != "off") == is_told
            assert ("x-b3-traceid" in features["header_rewriting"]) == is_told


def test_a_pod_that_is_no_part_of_it_is_kept_out_where_its_namespace_would_take_it_in(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        enrolment = mesh.enrolment(order)
        joining = {**enrolment.namespace_labels, **enrolment.app_labels}  # every placement but client has a server
        taken_in = joining.items() & enrolment.outsider_labels.items() if order.placement != "client" else ()
        assert not taken_in


def test_its_features_are_exactly_those_of_the_report(name: str, mesh: KubernetesMesh) -> None:
    for profile, placement in supported(mesh):
        for role in ROLES[placement]:
            features = mesh.features(profile, role)
            assert sorted(features) == sorted(FEATURES)
            assert all(isinstance(value, str) and value for value in features.values())


def test_its_features_name_the_threads_and_the_time_out_of_the_profile(name: str, mesh: KubernetesMesh) -> None:
    for profile, placement in supported(mesh):
        for role in ROLES[placement]:
            features = mesh.features(profile, role)
            assert str(profile.proxy_threads) in features["threads"] or "no switch" in features["threads"]
            says_why_not = any(words in features["timeout"] for words in ("none", "no switch"))
            assert f"{profile.request_timeout_s:g} s" in features["timeout"] or says_why_not


def test_each_chart_gets_a_version_and_one_that_lacks_it_is_refused(name: str, mesh: KubernetesMesh) -> None:
    version, chart = VERSIONS[name]
    indexes = {each: [ChartVersion(chart, version)] for each in mesh.charts}
    found = mesh.versions_of(indexes[next(iter(mesh.charts))])
    assert version in found
    assert all(Version(known) for known in found)
    assert dict(mesh.chart_versions(version, indexes)) == dict.fromkeys(mesh.charts, chart)
    for lacking in mesh.charts:
        with pytest.raises(ConfigurationError, match=version.replace(".", r"\.")):
            mesh.chart_versions(version, indexes | {lacking: []})


def test_what_it_needs_can_be_read(name: str, mesh: KubernetesMesh) -> None:
    needs = mesh.needs(VERSIONS[name][0])
    assert "1.1" not in SpecifierSet(needs.kube)
    assert needs.gateway_api is None or SpecifierSet(needs.gateway_api)
    assert bool(needs.installed) != any(mesh.charts) or needs.installed.strip()


def test_releases_are_charts_of_its_own_in_the_versions_ordered(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        releases = mesh.releases(order)
        assert bool(releases) != bool(mesh.needs(order.version).installed), "installs charts, or needs to be there"
        assert len({release.name for release in releases}) == len(releases)
        for release in releases:
            chart = next(chart for chart, source in mesh.charts.items() if source == release.source)
            assert release.version == order.chart_versions[chart]
            assert release.namespace
            json.dumps(release.values)  # Helm gets them as JSON


def test_no_private_key_is_in_values_or_in_configuration(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        shown = json.dumps([release.values for release in mesh.releases(order)]) + json.dumps(mesh.configuration(order))
        assert "PRIVATE KEY" not in shown


def test_objects_are_whole_ours_and_in_namespaces_that_go(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    own = set(mesh.residue().namespaces)
    for order in orders:
        refs = [ObjectRef.of(manifest) for manifest in objects_of(mesh, order)]
        assert len(set(refs)) == len(refs), "no two objects of one name"
        for ref, manifest in zip(refs, objects_of(mesh, order), strict=True):
            assert manifest["metadata"]["labels"].items() >= order.labels.items(), ref
            assert ref.namespace in {"", order.namespace, *own}, ref
            assert ref.kind.name != "Namespace" or ref.name in own, f"{ref} is left behind"
            json.dumps(manifest)


def test_its_permissions_cover_every_object_it_makes(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    held: dict[tuple[str, str], set[str]] = {}
    for permission in (*PROVIDER, *mesh.permissions()):
        held.setdefault((permission.group, permission.resource), set()).update(permission.verbs)
    for order in orders:
        for manifest in objects_of(mesh, order):
            kind = ObjectRef.of(manifest).kind
            verbs = held.get((kind.group, plural(kind.name)), set()) | held.get((kind.group, "*"), set())
            assert {"create", "patch", "delete", "get"} <= verbs, f"{kind} needs more than {sorted(verbs)}"


def plural(kind: str) -> str:
    """Return the resource of a kind, as the API machinery guesses it."""
    lower = kind.lower()
    if lower.endswith(("defaults", "intentions")):  # Consul's kinds are plurals themselves
        return lower
    if lower.endswith(("s", "sh")):
        return f"{lower}es"
    return f"{lower[:-1]}ies" if lower.endswith("y") and lower[-2] not in "aeiou" else f"{lower}s"


def test_every_role_of_a_placement_has_containers_and_so_has_the_control_plane(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        groups = mesh.containers(order)
        assert set(ROLES[order.placement]) <= {group.role for group in groups}
        control_plane = [group for group in groups if group.role is None]
        assert control_plane
        assert all(group.namespace for group in control_plane), "a control plane has a namespace of its own"
        for group in groups:
            assert group.namespace != order.namespace, "None means the environment's own"
            assert group.role is None or group.names, "a data plane shares its pods: name its containers"


def test_it_waits_for_things_that_can_be_waited_for(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        readiness = mesh.readiness(order)
        assert any(isinstance(each, Rollout) for each in readiness)
        assert all(isinstance(each, Rollout | Injector | Condition | Setting) for each in readiness)
        made = {ObjectRef.of(manifest) for manifest in objects_of(mesh, order)}
        for each in mesh.configured(order):
            if isinstance(each, Condition) and each.ref.namespace == order.namespace and each.type:
                assert each.ref in made, f"nobody makes {each.ref}"


def test_a_side_the_placement_leaves_out_is_enrolled_otherwise(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        enrolment = mesh.enrolment(order)
        app = (enrolment.app_labels, enrolment.app_annotations)
        load = (enrolment.load_labels, enrolment.load_annotations)
        if order.placement in ("client", "server") and name != "istio-ambient":  # a waypoint's clients are in the mesh
            assert app != load
        for texts in (*app, *load, enrolment.namespace_labels, enrolment.namespace_annotations):
            assert all(isinstance(key, str) and isinstance(value, str) for key, value in texts.items())
        assert order.namespace not in mesh.residue().namespaces


def test_metrics_that_say_nothing_count_nothing(name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]) -> None:
    for order in orders:
        for role in ROLES[order.placement]:
            endpoint = mesh.metrics(role)
            if endpoint is not None:
                assert 0 < endpoint.port < 65_536
                assert endpoint.path.startswith("/")
            passage = mesh.passage("# HELP up One.\nup 1\n", role, order)
            assert not any((passage.requests, passage.connections, passage.encrypted, passage.retries))
            assert not passage.in_sync


def test_what_it_leaves_is_named_by_patterns_that_name_something(name: str, mesh: KubernetesMesh) -> None:
    residue = mesh.residue()
    patterns = [*residue.groups, *(pattern for _, pattern in (*residue.kinds, *residue.everywhere))]
    assert all(pattern.strip("*?.") for pattern in patterns), "a bare * is everybody's"
    assert not {"default", "kube-system", "kube-public", "kube-node-lease"} & set(residue.namespaces)


def test_images_come_from_another_registry_where_one_is_given(
    name: str, mesh: KubernetesMesh, order_for: OrderFor
) -> None:
    version, chart = VERSIONS[name]
    charts = dict.fromkeys(mesh.charts, chart)
    for each in supported(mesh):
        order = order_for(mesh, version, *each, chart_versions=charts, images=REGISTRY_OF_ONES_OWN)
        values = json.dumps([release.values for release in mesh.releases(order)])
        assert (REGISTRY_OF_ONES_OWN in values) == bool(mesh.releases(order))


def test_two_orders_of_one_life_make_the_same_objects(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        assert objects_of(mesh, order) == objects_of(mesh, order)
        assert list(mesh.releases(order)) == list(mesh.releases(order))


def test_proxies_put_into_our_pods_ask_for_what_their_profile_gives_them(
    mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        groups = mesh.containers(order)
        own = [one for one in groups if one.namespace is None]
        assert all(one.requests in ({}, parity.proxy_requests(order.profile)) for one in own), order
        assert all((one.copies == 0) is (not one.labels) for one in own), "without labels they are put into our pods"
        if order.profile.proxy_cpu_cores:  # what can be limited is known to preflight
            assert all(one.requests for one in groups if one.role), order


def test_services_are_named_by_the_domain_of_the_cluster(
    name: str, mesh: KubernetesMesh, orders: Sequence[MeshOrder]
) -> None:
    for order in orders:
        moved = replace(order, cluster_domain="k8s.example")
        values = [release.values for release in mesh.releases(moved)]
        text = json.dumps([*objects_of(mesh, moved), *values])
        assert "svc.cluster.local" not in text
        assert ("k8s.example" in text) is (name in {"istio", "istio-ambient", "linkerd", "traefik-mesh"})
