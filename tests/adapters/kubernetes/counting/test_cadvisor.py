"""Counters out of a kubelet's text: only containers and the node, each with its own instant, the newest of each."""

from __future__ import annotations

import sys
import time

from hypothesis import given
from hypothesis import strategies as st
from kubelet_text import Fake, cadvisor_text, resource_text

from adapters.kubernetes.counting.cadvisor import Counted, Reading, readings

AT_MS = 1_795_000_000_123
APP = Fake("mg", "app-1", "app", AT_MS - 4000, 10.5, 2.25)
PROXY = Fake("mg", "app-1", "istio-proxy", AT_MS - 9000, 3.0, 1.0, limited=True, throttled_s=0.5)


def test_containers_and_the_node_are_told_apart_from_sums_and_pause_containers() -> None:
    found = readings(cadvisor_text([APP, PROXY], AT_MS, 400.0, 8 << 30), "n1", "cadvisor")
    assert set(found) == {Counted.node("n1"), Counted("mg", "app-1", "app"), Counted("mg", "app-1", "istio-proxy")}
    assert found[Counted("mg", "app-1", "app")] == Reading(
        AT_MS - 4000, 12.75, 10.5, 2.25, 64 << 20, None, 3.0, source="cadvisor"
    )
    assert found[Counted("mg", "app-1", "istio-proxy")].throttled_s == 0.5
    assert found[Counted.node("n1")].cpu_s == 400.0
    assert found[Counted.node("n1")].at_ms == AT_MS


def test_the_resource_endpoint_tells_totals_without_a_split() -> None:
    found = readings(resource_text([APP], AT_MS, 400.0, 8 << 30), "n1", "resource")
    assert found == {
        Counted.node("n1"): Reading(AT_MS, cpu_s=400.0, memory_bytes=8 << 30, source="resource"),
        Counted("mg", "app-1", "app"): Reading(AT_MS - 4000, cpu_s=12.75, memory_bytes=64 << 20, source="resource"),
    }


def test_of_a_container_that_restarted_the_newer_counts() -> None:
    again = Fake("mg", "app-1", "app", AT_MS, 0.25, 0.0, attempt=1)
    for order in ([APP, again], [again, APP]):
        found = readings(cadvisor_text(order, AT_MS, 1.0, 1), "n1")
        assert found[Counted("mg", "app-1", "app")].cpu_s == 0.25


def test_a_line_without_an_instant_and_shares_of_single_processors_do_not_count() -> None:
    labels = 'container="c",id="/x",namespace="n",pod="p"'
    text = (
        f"container_cpu_user_seconds_total{{{labels}}} 5\n"
        f'container_cpu_usage_seconds_total{{cpu="cpu00",{labels}}} 5 1000\n'
    )
    assert readings(text, "n1") == {}


def test_an_empty_text_and_a_text_of_other_series_have_no_counters() -> None:
    assert readings("", "n1") == {}
    assert readings("# TYPE up gauge\nup 1\n", "n1") == {}


@given(
    st.dictionaries(
        st.tuples(*[st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)] * 3),
        st.tuples(st.integers(1, 2**42), st.floats(0, 1e7), st.floats(0, 1e7)),
        max_size=6,
    )
)
def test_whatever_is_written_is_read(written: dict[tuple[str, str, str], tuple[int, float, float]]) -> None:
    fakes = [Fake(*name, *values) for name, values in written.items()]
    found = readings(cadvisor_text(fakes, AT_MS, 1.0, 1), "n1")
    for one in fakes:
        reading = found[Counted(one.namespace, one.pod, one.container)]
        assert (reading.at_ms, reading.cpu_user_s, reading.cpu_system_s) == (one.at_ms, one.user_s, one.system_s)


def test_megabytes_are_read_in_a_moment() -> None:
    """A full node: 110 pods of two containers, among series nobody asked for. The bound is loose on purpose."""
    fakes = [Fake("ns", f"pod-{at}", name, AT_MS, 1.0, 1.0) for at in range(110) for name in ("app", "proxy")]
    other = "".join(
        f'container_fs_reads_total{{container="app",device="sda",id="/x",namespace="ns",pod="pod-{at}"}} 1 {AT_MS}\n'
        for at in range(40_000)
    )
    text = other + cadvisor_text(fakes, AT_MS, 1.0, 1)
    began = time.process_time()
    found = readings(text, "n1")
    took_s = time.process_time() - began
    began = time.process_time()
    lines = len(text.splitlines())
    split_s = time.process_time() - began
    sys.stdout.write(f"{len(text) / 1e6:.1f} MB, {lines} lines: {1000 * took_s:.1f} ms CPU\n")
    assert len(found) == 221
    assert took_s < 50 * max(split_s, 0.002), "little more than looking at each line once"
