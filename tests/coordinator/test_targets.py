"""Where external load may go: the allow-list against smuggled addresses."""

from __future__ import annotations

import ipaddress

import pytest

from coordinator.targets import allowed_networks, is_allowed, refuse_foreign_targets
from meshgauge.document import load_plan
from meshgauge.errors import ConfigurationError, InvalidPlanError
from meshgauge.plan import Plan


def plan_to(url: str) -> Plan:
    return load_plan(
        "name: x\nmeshes: [none]\nworkloads: {name: w, app: fixed-reply, reply_bytes: 1}\nloads: {rate_rps: 10}\n"
        f"infrastructures: [{{name: far, provider: external, target_url: {url!r}}}]\n"
    )


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(InvalidPlanError, match=r"MESHGAUGE_ALLOWED_TARGETS=192\.0\.2\.7/32"):
        refuse_foreign_targets(plan_to("http://192.0.2.7/"), ())


def test_a_prometheus_server_is_asked_only_where_an_operator_allows_it() -> None:
    plan = load_plan(
        "name: x\nmeshes: [none]\nworkloads: {name: w, app: fixed-reply, reply_bytes: 1}\nloads: {rate_rps: 10}\n"
        "infrastructures: [{name: c, provider: kubernetes, cluster: {prometheus_url: 'http://169.254.169.254/'}}]\n"
    )
    with pytest.raises(InvalidPlanError, match=r"infrastructures\[0\]\.cluster\.prometheus_url"):
        refuse_foreign_targets(plan, allowed_networks(["0.0.0.0/0"]))


def test_an_allowed_network_lets_its_addresses_in() -> None:
    refuse_foreign_targets(plan_to("http://192.0.2.7:8080/"), allowed_networks(["192.0.2.0/24"]))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "169.254.169.254",
        "192.0.0.192",
        "100.100.100.200",
        "0.0.0.0",
        "::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fd00:ec2::254",
    ],
)
def test_a_wide_network_opens_no_guarded_address(address: str) -> None:
    everything = allowed_networks(["0.0.0.0/0", "::/0"])
    assert not is_allowed(ipaddress.ip_address(address), everything)


def test_a_guarded_address_can_be_allowed_by_name() -> None:
    assert is_allowed(ipaddress.ip_address("127.0.0.1"), allowed_networks(["127.0.0.1/32"]))
    assert is_allowed(ipaddress.ip_address("::ffff:127.0.0.1"), allowed_networks(["127.0.0.0/8"]))


@pytest.mark.parametrize("url", ["http://2130706433/", "http://0x7f.1/", "http://localhost/"])
def test_spellings_of_loopback_are_seen_through(url: str) -> None:
    with pytest.raises(InvalidPlanError, match=r"127\.0\.0\.1|::1"):
        refuse_foreign_targets(plan_to(url), allowed_networks(["0.0.0.0/0"]))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://192.0.2.7/", "write http"),
        ("http://", "write http"),
        ("http://user:pass@192.0.2.7/", "does not belong in a plan"),
        ("http://192.0.2.7:99999/", "not a URL"),
    ],
)
def test_what_is_no_target_is_said(url: str, said: str) -> None:
    with pytest.raises(InvalidPlanError, match=said):
        refuse_foreign_targets(plan_to(url), allowed_networks(["192.0.2.0/24"]))


def test_every_address_of_a_name_has_to_be_allowed() -> None:
    both = [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("169.254.169.254")]
    with pytest.raises(InvalidPlanError, match=r"169\.254\.169\.254"):
        refuse_foreign_targets(plan_to("http://two.example/"), allowed_networks(["0.0.0.0/0"]), lambda *_: both)


def test_a_wrong_allow_list_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"'10\.0\.0'"):
        allowed_networks(["10.0.0"])
