"""What an operation is called."""

from __future__ import annotations

import pytest

from meshgauge.operations import OperationRequest


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        ({"action": "install", "adapter": "istio"}, "install istio latest"),
        ({"action": "upgrade", "adapter": "istio", "version": "1.30.3"}, "upgrade istio 1.30.3"),
        ({"action": "verify", "adapter": "istio"}, "verify istio"),  # whichever version stands
        ({"action": "uninstall", "adapter": "istio"}, "uninstall istio"),
        ({"action": "clean", "dry_run": True}, "clean (dry run)"),
    ],
)
def test_an_operation_names_a_version_only_where_it_chooses_one(asked: dict[str, object], subject: str) -> None:
    assert OperationRequest.model_validate(asked).subject == subject
