"""Posting to addresses somebody named: where it may go, how long it may take, how little is listened to."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from coordinator.notify import post as posting
from coordinator.notify.outcome import Outcome
from coordinator.notify.post import post, refuse_unreachable
from coordinator.targets import is_public
from meshgauge.errors import InvalidRequestError

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
PUBLIC = ipaddress.ip_address("93.184.216.34")


def resolving(*addresses: str) -> Any:
    return lambda _host, _port: tuple(map(ipaddress.ip_address, addresses))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "100.100.100.200", "192.0.0.192", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00:ec2::254", "fc00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
def test_no_notice_goes_to_a_network_that_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(InvalidRequestError, match="MESHGAUGE_NOTIFY_NETWORKS"):
        refuse_unreachable("https://hooks.example.org/x", (), resolving(address))
    outcome = post("https://hooks.example.org/x", b"{}", {}, (), resolving(address))
    assert (outcome.sent, outcome.again) == (False, False)
    assert "not on the public internet" in outcome.said


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    outcome = post("https://hooks.example.org/x", b"{}", {}, (), resolving(str(PUBLIC), "127.0.0.1"))
    assert (outcome.sent, outcome.again) == (False, False)


def test_public_addresses_need_no_leave_over_https_and_get_nothing_over_http() -> None:
    assert is_public(PUBLIC)
    refuse_unreachable("https://hooks.example.org/x", (), resolving(str(PUBLIC)))
    with pytest.raises(InvalidRequestError, match="https only"):
        refuse_unreachable("http://hooks.example.org/x", (), resolving(str(PUBLIC)))


def test_an_allowed_network_around_everything_opens_no_loopback() -> None:
    with pytest.raises(InvalidRequestError, match="not on the public internet"):
        refuse_unreachable("https://hooks.example.org/x", (ipaddress.ip_network("0.0.0.0/0"),), resolving("127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    ["ftp://example.org", "https://", "https://example.org:99999/", "https://user:pass@example.org/", "//example.org",
     "https://example.org/a b", "https://example.org/a\r\nX-Evil: 1", "https://exämple.org/", "https://example.org/#x",
     "https://example.org:0/", "file:///etc/passwd", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        refuse_unreachable(url, (), resolving(str(PUBLIC)))
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1"])
def test_other_spellings_of_loopback_are_loopback(host: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"127\.0\.0\.1"):
        refuse_unreachable(f"https://{host}/", ())


def test_the_connection_goes_to_the_checked_address_under_the_name_that_was_given(receiver: Any) -> None:
    asked: list[str] = []

    def resolve(host: str, _port: int) -> Any:
        asked.append(host)  # a second question could be answered with another address
        return (ipaddress.ip_address("127.0.0.1"),)

    outcome = post(f"http://hooks.example.org:{receiver.port}/a?b=c", b'{"x": 1}', {"X-Own": "y"}, LOOPBACK, resolve)
    assert outcome.sent, outcome
    assert asked == ["hooks.example.org"]
    (got,) = receiver.received
    assert (got.path, got.json) == ("/a?b=c", {"x": 1})
    assert got.headers["Host"] == f"hooks.example.org:{receiver.port}"
    assert (got.headers["Content-Type"], got.headers["X-Own"]) == ("application/json", "y")


def test_proxies_of_the_environment_are_not_used(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(receiver.url, b"{}", {}, LOOPBACK).sent


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(receiver: Any, make_receiver: Callable[..., Any], status: int) -> None:
    elsewhere = make_receiver()
    receiver.answers.append((status, {"Location": elsewhere.url}, b""))
    outcome = post(receiver.url, b"{}", {}, LOOPBACK)
    assert (outcome.sent, outcome.again) == (False, False)
    assert "redirects are not followed" in outcome.said
    assert elsewhere.received == []


@pytest.mark.parametrize(
    ("status", "again"), [(400, True), (404, True), (410, False), (429, True), (500, True), (503, True)]
)
def test_what_may_pass_is_tried_again_what_is_gone_is_not(receiver: Any, status: int, again: bool) -> None:
    receiver.answers.append((status, {"Retry-After": "120"}, b"invalid_payload"))
    outcome = post(receiver.url, b"{}", {}, LOOPBACK)
    assert (outcome.sent, outcome.again, outcome.pause_s) == (False, again, 120.0)
    assert outcome.said.startswith(f"HTTP {status}")
    assert "invalid_payload" in outcome.said


@pytest.mark.parametrize(
    ("told", "pause_s"), [("999999999", 3600.0), ("-1", None), ("soon", None), ("1e9", None), ("9" * 40, None)]
)
def test_no_receiver_makes_us_wait_for_ever(receiver: Any, told: str, pause_s: float | None) -> None:
    receiver.answers.append((429, {"Retry-After": told}, b""))
    assert post(receiver.url, b"{}", {}, LOOPBACK).pause_s == pause_s


def test_of_a_long_answer_little_is_kept_and_on_one_line(receiver: Any) -> None:
    receiver.answers.append((500, {}, b"\x1b[31mline\r\nline\x00" + b"y" * 100_000))
    said = post(receiver.url, b"{}", {}, LOOPBACK).said
    assert len(said) <= 160
    assert said.isprintable()


def test_a_dead_receiver_is_told_by_its_address(closed_port: int) -> None:
    outcome = post(f"http://127.0.0.1:{closed_port}/", b"{}", {}, LOOPBACK)
    assert (outcome.sent, outcome.again) == (False, True)
    assert f"127.0.0.1 port {closed_port}: Connection refused" in outcome.said


def test_a_name_without_address_is_tried_again() -> None:
    def nothing(_host: str, _port: int) -> Any:
        raise OSError("Name or service not known")

    outcome = post("https://nowhere.example.org/", b"{}", {}, (), nothing)
    assert (outcome.sent, outcome.again) == (False, True)
    assert "nowhere.example.org" in outcome.said


def test_a_silent_receiver_is_left_after_a_while(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "SILENCE_S", 0.2)
    receiver.delay_s = 1.0
    outcome = post(receiver.url, b"{}", {}, LOOPBACK)
    assert (outcome.sent, outcome.again) == (False, True)
    assert "no answer within 0.2 s" in outcome.said


def test_a_receiver_that_talks_for_ever_is_cut(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "WHOLE_S", 0.4)
    receiver.drips = True
    started_s = time.monotonic()
    outcome = post(receiver.url, b"{}", {}, LOOPBACK)
    assert time.monotonic() - started_s < posting.SILENCE_S
    assert outcome == Outcome(False, "no whole answer within 0.4 s", again=True)


def test_https_is_checked_against_the_name(trusted: ssl.SSLContext, make_receiver: Callable[..., Any]) -> None:
    receiver = make_receiver(trusted)
    assert post(f"https://localhost:{receiver.port}/", b"{}", {}, LOOPBACK, resolving("127.0.0.1")).sent
    other = post(f"https://hooks.example.org:{receiver.port}/", b"{}", {}, LOOPBACK, resolving("127.0.0.1"))
    assert (other.sent, other.again) == (False, True)
    assert "certificate" in other.said.lower()
    assert len(receiver.received) == 1


def test_an_unknown_authority_gets_nothing(server_context: ssl.SSLContext, make_receiver: Callable[..., Any]) -> None:
    receiver = make_receiver(server_context)
    outcome = post(f"https://localhost:{receiver.port}/", b"{}", {}, LOOPBACK, resolving("127.0.0.1"))
    assert not outcome.sent
    assert receiver.received == []
