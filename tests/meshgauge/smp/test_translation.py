"""SMP test configurations: read as Meshery writes them, nothing dropped in silence, every fault with its place."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshgauge.document import parse_document, validate_plan
from meshgauge.errors import InvalidPlanError
from meshgauge.plan import Plan
from meshgauge.smp.messages import SmpClient, SmpMesh, SmpTest, duration_s, is_smp
from meshgauge.smp.translation import DESCRIPTION_CHARACTERS, Translation, translate

# Of the shape of the files Meshery's users keep; values of our own.
FILE = """\
test:
  smp_version: v0.0.1
  name: Nightly Load
  labels: {}
  clients:
    - internal: false
      load_generator: fortio
      protocol: 1
      connections: 2
      rps: 10
      headers: {}
      cookies: {}
      body: ''
      content_type: ''
      endpoint_urls: ['http://shop.example/productpage?u=normal']
  duration: 90s
mesh:
  type: 3
"""


def document(test: dict[str, Any] | None = None, client: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """Return the file above with changes."""
    made = parse_document(FILE)
    made["test"]["clients"][0] |= client or {}
    made["test"] |= test or {}
    return made | top


def plan_of(made: Translation) -> Plan:
    return validate_plan(made.document)


def told(made: Translation) -> str:
    return "\n".join(made.notes)


def test_the_file_is_told_from_a_plan() -> None:
    assert is_smp(parse_document(FILE))
    assert not is_smp({"name": "x", "meshes": ["none"], "test": 1})
    assert not is_smp({"name": "x"})


def test_a_file_as_meshery_writes_it_becomes_a_plan() -> None:
    plan = plan_of(translate(parse_document(FILE)))
    assert plan.name == "nightly-load"
    assert [mesh.adapter for mesh in plan.meshes] == ["none", "envoy"]
    (load,) = plan.loads
    assert (load.rate_rps, load.connections, load.window_s, load.loop) == (10, 2, 90, "open")
    (workload,) = plan.workloads
    assert (workload.path, workload.method, workload.body_bytes) == ("/productpage?u=normal", "GET", 0)
    assert (plan.blocks, [profile.name for profile in plan.profiles]) == (10, ["plain"])


def test_its_notes_name_what_became_of_what() -> None:
    made = translate(parse_document(FILE))
    words = ("'Nightly Load' became", "ISTIO became its data plane", "fortio became", "10 blocks", "30 s of warm-up")
    for word in (*words, "nothing is sent to that host"):
        assert word in told(made), word
    assert plan_of(made).description.startswith("Made from an SMP test configuration. ")
    assert all(note in plan_of(made).description for note in made.notes)


def test_the_spelling_of_proto3s_json_is_read_too() -> None:
    other = {
        "test": {
            "smpVersion": "v0.0.1",
            "name": "x",
            "clients": [
                {"loadGenerator": "wrk2", "protocol": "PROTOCOL_HTTP", "connections": 4, "rps": "250",
                 "endpointUrls": ["https://a.example"], "contentType": "text/plain"}
            ],
            "duration": "1m30s",
        },
        "mesh": {"type": "nginx-service-mesh"},
    }  # fmt: skip
    plan = plan_of(translate(other))
    assert plan.loads[0].rate_rps == 250
    assert plan.workloads[0].headers == {"Content-Type": "text/plain"}
    assert plan.meshes[1].adapter == "nginx"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("5m", 300), ("1h30m", 5400), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("2h45m0.5s", 9900.5)],
)
def test_durations_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "60", "60 s s", "s", "1h30", "-5s", "1d", "60sec"])
def test_what_is_no_duration(text: str) -> None:
    assert duration_s(text) is None


def test_clients_that_differ_in_load_alone_become_load_workers() -> None:
    made = document()
    made["test"]["clients"] = [made["test"]["clients"][0], {**made["test"]["clients"][0], "rps": 30, "connections": 6}]
    result = translate(made)
    (load,) = plan_of(result).loads
    assert (load.rate_rps, load.connections, load.load_workers) == (40, 8, 2)
    assert "2 clients became 2 load workers" in told(result)


def test_cookies_headers_and_body_go_with_the_request() -> None:
    made = translate(document(client={"headers": {"X-A": "1"}, "cookies": {"a": "b", "c": "d"}, "body": "hällo"}))
    (workload,) = plan_of(made).workloads
    assert workload.headers == {"X-A": "1", "Cookie": "a=b; c=d"}
    assert (workload.method, workload.body_bytes) == ("POST", 6)
    assert "6 bytes are sent, of Meshgauge's own content" in told(made)


def test_no_rate_is_a_closed_loop_and_says_so() -> None:
    made = translate(document(client={"rps": 0, "connections": 0}))
    (load,) = plan_of(made).loads
    assert (load.loop, load.rate_rps, load.connections) == ("closed", None, 1)
    assert "closed loop" in told(made)
    assert "connections is not given" in told(made)


@pytest.mark.parametrize("mesh", [None, {"type": 0}, {}, {"type": "INVALID_MESH"}])
def test_without_a_mesh_there_is_the_baseline_alone(mesh: dict[str, Any] | None) -> None:
    made = translate(document(mesh=mesh))
    assert [entry.adapter for entry in plan_of(made).meshes] == ["none"]
    assert "names no mesh" in told(made)


# Every field of the spec, with a value that is not its default: it has to show in the plan, in a note or as an error.
CLIENT_FIELDS: dict[str, Any] = {
    "internal": True, "load_generator": "wrk2", "protocol": 4, "connections": 77, "rps": 1234,
    "headers": {"X-Seen": "yes"}, "cookies": {"seen": "yes"}, "body": "seen", "content_type": "text/seen",
    "endpoint_urls": ["http://seen.example/seen"], "ssl_certificate": "PEM", "additional_options": '{"seen": 1}',
}  # fmt: skip
TEST_FIELDS: dict[str, Any] = {
    "id": "seen-id", "name": "seen", "labels": {"team": "seen"}, "duration": "77s", "smp_version": "v0.0.1",
}  # fmt: skip
MESH_FIELDS: dict[str, Any] = {
    "type": 6, "version": "1.20.3", "labels": {"team": "seen"}, "annotations": {"note": "seen"},
}  # fmt: skip


def outcome(made: dict[str, Any]) -> str:
    """Return everything a user gets to see."""
    try:
        result = translate(made)
    except InvalidPlanError as error:
        return str(error)
    return f"{result.document}"


@pytest.mark.parametrize("field", sorted(set(SmpClient.model_fields)))
def test_no_field_of_a_client_is_dropped_in_silence(field: str) -> None:
    assert outcome(document(client={field: CLIENT_FIELDS[field]})) != outcome(document())


@pytest.mark.parametrize("field", sorted(set(SmpTest.model_fields) - {"clients", "smp_version"}))
def test_no_field_of_a_test_is_dropped_in_silence(field: str) -> None:
    assert outcome(document(test={field: TEST_FIELDS[field]})) != outcome(document())


@pytest.mark.parametrize("field", sorted(SmpMesh.model_fields))
def test_no_field_of_a_mesh_is_dropped_in_silence(field: str) -> None:
    assert outcome(document(mesh={"type": 3, field: MESH_FIELDS[field]})) != outcome(document())


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"client": {"protocol": 4}}, "test.clients[0].protocol", "only HTTP"),
        ({"client": {"protocol": "PROTOCOL_UDP"}}, "test.clients[0].protocol", "only HTTP"),
        ({"client": {"protocol": "gopher"}}, "test.clients[0].protocol", "only HTTP"),
        ({"client": {"load_generator": "hey"}}, "test.clients[0].load_generator", "fortio, wrk2, nighthawk"),
        ({"client": {"rps": -1}}, "test.clients[0].rps", "greater than or equal to 0"),
        ({"client": {"rps": 1.5}}, "test.clients[0].rps", "integer"),
        ({"client": {"conections": 3}}, "test.clients[0].conections", "did you mean 'connections'?"),
        ({"client": {"endpoint_urls": ["http://a/", "http://b/"]}}, "test.clients[0].endpoint_urls", "one address"),
        ({"client": {"endpoint_urls": ["nats://a"]}}, "test.clients[0].endpoint_urls[0]", "no http address"),
        ({"client": {"ssl_certificate": "PEM"}}, "test.clients[0].ssl_certificate", "leave it out"),
        ({"client": {"additional_options": '{"c": 3}'}}, "test.clients[0].additional_options", "leave them out"),
        ({"test": {"duration": "90"}}, "test.duration", "60s, 5m or 1m30s"),
        ({"test": {"duration": 90}}, "test.duration", "60s, 5m or 1m30s"),
        ({"test": {"duration": "500ms"}}, "test.duration", "shortest window"),
        ({"test": {"clients": []}}, "test.clients", "at least 1"),
        ({"test": {"blocks": 3}}, "test.blocks", "known: smp_version, id, name"),
        ({"mesh": {"type": "LINKERD"}}, "mesh.type", "can be run by the local provider"),
        ({"mesh": {"type": 99}}, "mesh.type", "no mesh of SMP's"),
        ({"extra": 1}, "extra", "known: test, mesh"),
    ],
)
def test_what_cannot_be_translated_is_an_error_with_its_place(changes: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(InvalidPlanError) as refused:
        translate(document(**changes))
    found = {problem.path: problem.message for problem in refused.value.problems}
    assert words in found[path]


def test_clients_that_differ_otherwise_are_refused() -> None:
    made = document()
    first = made["test"]["clients"][0]
    made["test"]["clients"] = [first, {**first, "endpoint_urls": ["http://other.example/"]}]
    with pytest.raises(InvalidPlanError, match=r"clients\[1\]: differs from clients\[0\]"):
        translate(made)
    made["test"]["clients"] = [first, {**first, "rps": 0}]
    with pytest.raises(InvalidPlanError, match="give all a rate"):
        translate(made)


def test_a_long_description_says_where_the_rest_is() -> None:
    made = translate(document(test={"labels": {f"label-{at}": "x" * 50 for at in range(60)}}))
    description = plan_of(made).description
    assert len(description) == DESCRIPTION_CHARACTERS
    assert description.endswith("(all of it: meshgauge plan check)")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12) | st.just("http://["),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [("client", name) for name in SmpClient.model_fields] + [("test", name) for name in SmpTest.model_fields]


@given(st.sampled_from(FIELDS), JSON)
def test_whatever_stands_in_a_field_is_a_plan_or_a_sentence(where: tuple[str, str], value: Any) -> None:
    part, field = where
    with contextlib.suppress(InvalidPlanError):
        translate(document(**{part: {field: value}}))


@given(st.lists(st.text(max_size=20) | st.just("http://[::1"), max_size=2), JSON)
def test_whatever_addresses_and_meshes_are_given(urls: list[str], mesh: Any) -> None:
    with contextlib.suppress(InvalidPlanError):
        translate(document(client={"endpoint_urls": urls}, mesh=mesh))
