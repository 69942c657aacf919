"""Refusals of an API server become sentences a user can act on."""

from __future__ import annotations

import json

import pytest

from adapters.kubernetes.server.refusals import ExpiredError, NotThereError, message_of, refusal
from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, ServiceUnavailableError


def _status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "message": message}).encode()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            'pods is forbidden: User "eve" cannot list resource "pods" in API group "" in the namespace "shop"',
            "user 'eve' of ctx may not list pods in namespace shop: grant the verb 'list' on pods",
        ),
        (
            'x.apps "y" is forbidden: User "eve" cannot patch resource "deployments/scale" in API group "apps"'
            " at the cluster scope",
            "user 'eve' of ctx may not patch deployments/scale.apps cluster-wide",
        ),
        ('forbidden: User "eve" cannot get path "/metrics"', "user 'eve' of ctx may not get the path /metrics"),
    ],
)
def test_a_missing_right_names_verb_resource_group_and_namespace(message: str, words: str) -> None:
    error = refusal(403, _status(message), "list pods", "ctx")
    assert isinstance(error, ConfigurationError)
    assert words in str(error)


def test_a_quota_is_no_missing_right() -> None:
    error = refusal(403, _status('pods "a" is forbidden: exceeded quota: small'), "create Pod a", "ctx")
    assert isinstance(error, EnvironmentUpError)
    assert "refused to create Pod a" in str(error)
    assert "exceeded quota: small" in str(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ConfigurationError),
        (404, NotThereError),
        (409, EnvironmentUpError),
        (410, ExpiredError),
        (422, EnvironmentUpError),
        (429, ServiceUnavailableError),
        (500, EnvironmentUpError),
        (503, ServiceUnavailableError),
    ],
)
def test_each_status_becomes_the_error_of_its_next_action(status: int, kind: type[MeshgaugeError]) -> None:
    error = refusal(status, _status("why"), "do it", "ctx")
    assert type(error) is kind
    assert "why" in str(error)


def test_what_is_no_status_is_told_cut_short() -> None:
    assert message_of(b"404 page not found\n") == "404 page not found"
    assert len(message_of("x" * 10_000)) == 500
    assert "HTTP status 502" in str(refusal(502, None, "do it", "ctx"))


@pytest.mark.parametrize(
    ("status", "sentence", "error"),
    [
        (
            500,
            'Internal error occurred: failed calling webhook "policy.example": failed to call webhook: Post '
            '"https://policy.mesh.svc:443/?timeout=10s": dial tcp 10.96.0.9:443: connect: connection refused',
            ServiceUnavailableError,
        ),
        (500, "Internal error occurred: etcdserver: no leader", EnvironmentUpError),
        (400, 'admission webhook "policy.example" denied the request: port is no port', EnvironmentUpError),
    ],
)
def test_a_webhook_that_does_not_answer_is_worth_another_try_and_one_that_says_no_is_not(
    status: int, sentence: str, error: type[MeshgaugeError]
) -> None:
    raised = refusal(status, json.dumps({"message": sentence}), "apply Server x", "there")
    assert type(raised) is error
    assert sentence in str(raised)
