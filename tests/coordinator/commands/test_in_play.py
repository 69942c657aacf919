"""What a plan check prints of the features in play."""

from __future__ import annotations

from adapters.contract import FEATURES
from coordinator.commands.in_play import in_play

SAME = dict.fromkeys(FEATURES, "none")


def test_what_all_proxies_share_takes_one_line_and_differences_name_their_proxies() -> None:
    features = {
        "none/plain/small/k": {},
        "a-1/mtls/small/k": {"client": SAME, "server": {**SAME, "retries": "2"}},
        "b-1/mtls/small/k": {"node": SAME},
    }
    lines = list(in_play(features))
    assert ("tls", "none") in lines
    assert [value for name, value in lines if name == "retries"] == [
        "none (a-1/mtls client, b-1/mtls node)",
        "2 (a-1/mtls server)",
    ]
    assert [name for name, _ in lines] == [f for f in FEATURES for _ in range(2 if f == "retries" else 1)]


def test_workloads_do_not_repeat_what_a_proxy_does() -> None:
    features = {f"a-1/plain/{workload}/k": {"node": SAME} for workload in ("small", "large")}
    assert len(list(in_play(features))) == len(FEATURES)


def test_without_proxies_there_is_nothing_in_play() -> None:
    assert not list(in_play({"none/plain/small/k": {}}))
