from __future__ import annotations

import pytest

from adapters.kubernetes.helm.failures import failure, tail, without_secrets
from meshgauge.errors import ConfigurationError, EnvironmentUpError, MeshgaugeError, ServiceUnavailableError

PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nEEIA\n-----END EC PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("said", "error", "told"),
    [
        # Each as Helm 3.21 or 4.2 and client-go 0.36 write it.
        ("INSTALLATION FAILED: cannot re-use a name that is still in use", EnvironmentUpError, "uninstall it first"),
        (
            "UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
            EnvironmentUpError,
            "uninstall it first",
        ),
        (
            'secrets is forbidden: User "poor" cannot list resource "secrets" in API group ""',
            ConfigurationError,
            "grant the missing permission",
        ),
        (
            'Kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": dial tcp: connect: connection refused',
            ServiceUnavailableError,
            "does not answer",
        ),
        (
            'CustomResourceDefinition "a.b" in namespace "" exists and cannot be imported into the current release: '
            'invalid ownership metadata; annotation validation error: key "meta.helm.sh/release-name" must equal "x"',
            EnvironmentUpError,
            "somebody else's, or was left",
        ),
        (
            "resource Job/shop/hook not ready. status: InProgress\ncontext deadline exceeded",
            EnvironmentUpError,
            "was not done in time",
        ),
        (
            'Internal error occurred: failed calling webhook "v.example.org": Post "https://a": connection refused',
            EnvironmentUpError,
            "an admission webhook",
        ),
        (
            "values don't meet the specifications of the schema(s)",
            EnvironmentUpError,
            "failed. Helm said: values don't",
        ),
    ],
)
def test_what_helm_says_decides_what_to_do_next(said: str, error: type[MeshgaugeError], told: str) -> None:
    found = failure("helm install x", said)
    assert type(found) is error
    assert str(found).startswith("helm install x")
    assert told in str(found)


def test_secrets_are_taken_out_in_every_form() -> None:
    values = {
        "issuer": {"tls": {"keyPEM": PEM, "crtPEM": "short"}},
        "list": [{"token": "s3cr3t-s3cr3t"}],
        "name": "x" * 40,
    }
    said = "\n".join([PEM, PEM.replace("\n", "\\n"), "s3cr3t-s3cr3t", "Authorization: Bearer abc.def-ghi", "x" * 40])
    clean = without_secrets(said, values)
    for secret in ("MHcCAQ", "s3cr3t-s3cr3t", "abc.def-ghi"):
        assert secret not in clean
    assert "x" * 40 in clean, "what is no secret stays: it tells what went wrong"


def test_the_end_of_a_long_answer_is_kept_on_one_line_without_chatter() -> None:
    chatter = 'W1123 14:23:59.489109   15502 warnings.go:107] "Warning: unrecognized format"'
    assert tail(f"{chatter}\nfirst\n\n first \nlast\n") == "first | last"
    long = tail("x" * 5000 + " the end")
    assert len(long) < 1600
    assert long.endswith("the end")
