"""Why pods are not ready: images that cannot be pulled."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.kubernetes.server.reasons import Pulls, give_up_on_hopeless
from meshgauge.errors import EnvironmentUpError


def _pod(reason: str, uid: str = "u1") -> dict[str, Any]:
    waiting = {"reason": reason, "message": "no such host"}
    status = {"name": "web", "image": "web:1", "state": {"waiting": waiting}}
    metadata = {"name": f"web-{uid}", "namespace": "bench", "uid": uid}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {},
        "status": {"containerStatuses": [status]},
    }


def test_an_image_that_cannot_be_pulled_is_told_once_and_waited_for_a_while() -> None:
    told: list[str] = []
    pulls = Pulls(told.append, patience_s=3600.0)
    for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"):
        pulls.look([_pod(reason)])
    (line,) = told
    assert "web-u1" in line
    assert "cannot pull the image web:1 of its container web: no such host" in line


def test_an_image_that_could_not_be_pulled_for_long_ends_the_wait() -> None:
    pulls = Pulls(lambda _: None, patience_s=0.0)
    pulls.look([_pod("ErrImagePull")])
    with pytest.raises(EnvironmentUpError, match=r"cannot pull the image web:1 .*no such host; .*cluster\.images"):
        pulls.look([_pod("ImagePullBackOff")])


def test_an_image_that_was_pulled_after_all_is_forgotten() -> None:
    told: list[str] = []
    pulls = Pulls(told.append, patience_s=0.0)
    for reason in ("ErrImagePull", "ContainerCreating", "ErrImagePull"):
        pulls.look([_pod(reason)])
    assert len(told) == 2


def test_a_pod_without_hope_is_given_up_at_once() -> None:
    with pytest.raises(EnvironmentUpError, match=r"web-u1.* cannot come up: .*is no valid image name"):
        give_up_on_hopeless([_pod("InvalidImageName")])
