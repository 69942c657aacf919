"""E-mail, against a real mail server: TLS or nothing, one receiver, headers that hold one line."""

from __future__ import annotations

import email
import email.policy
import ssl
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest
from pydantic import SecretStr

from coordinator.notify import mail
from coordinator.notify.mail import MailServer, checked_address, server_of
from coordinator.notify.message import Message
from meshgauge.errors import ConfigurationError, InvalidRequestError
from meshgauge.settings import Settings

SENDER = "bench@example.org"
RECEIVER = "someone@example.net"


def plain(port: int) -> MailServer:
    return MailServer("127.0.0.1", port, "none", None, None, SENDER)


def arrived(post: Any) -> EmailMessage:
    (envelope,) = post.mails
    assert envelope.rcpt_tos == [RECEIVER]
    assert envelope.mail_from == SENDER
    return email.message_from_bytes(envelope.original_content, policy=email.policy.default)


def part(mail_: EmailMessage, kind: str) -> str:
    found = mail_.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n")


def test_text_and_html_begin_with_the_answer(
    make_post: Callable[..., Any], make_message: Callable[..., Message]
) -> None:
    post = make_post()
    message = make_message()
    outcome = mail.send(message, RECEIVER, plain(post.port))
    assert outcome.sent, outcome
    got = arrived(post)
    assert part(got, "plain").startswith(f"{message.answer}\n\n{message.url}\n")
    assert f"<body><p>{message.answer}</p>" in part(got, "html")
    assert f'href="{message.url}"' in part(got, "html")
    assert got["Subject"] == "[Meshgauge] Gate not passed: nightly"
    assert (got["From"], got["To"]) == (f"Meshgauge <{SENDER}>", RECEIVER)
    assert got["Message-ID"] == f"<{message.delivery}@example.org>"
    assert got["Auto-Submitted"] == "auto-generated"


def test_no_name_adds_a_header_a_receiver_or_a_tag(
    make_post: Callable[..., Any], make_message: Callable[..., Message]
) -> None:
    post = make_post()
    hostile = "x\r\nBcc: victim@example.com\r\n\r\n<script>alert(1)</script>\n.\r\nRCPT TO:<victim@example.com>"
    assert mail.send(make_message(title=hostile, answer=hostile), RECEIVER, plain(post.port)).sent
    got = arrived(post)
    assert got["Bcc"] is None
    assert "\n" not in got["Subject"]
    assert "<script>" not in part(got, "html")
    assert "RCPT TO" in part(got, "plain")  # as text, after a line with a full stop


def test_foreign_letters_arrive(make_post: Callable[..., Any], make_message: Callable[..., Message]) -> None:
    post = make_post()
    assert mail.send(make_message(title="Läuft: 夜", answer="≈ 3 µs"), RECEIVER, plain(post.port)).sent
    got = arrived(post)
    assert got["Subject"] == "[Meshgauge] Läuft: 夜"
    assert part(got, "plain").startswith("≈ 3 µs")


def test_starttls_and_password(
    trusted: ssl.SSLContext, make_post: Callable[..., Any], make_message: Callable[..., Message], authenticator: Any
) -> None:
    post = make_post(tls_context=trusted, require_starttls=True, authenticator=authenticator, auth_required=True)
    server = MailServer("localhost", post.port, "starttls", SENDER, "p@ss/word", SENDER)
    outcome = mail.send(make_message(), RECEIVER, server)
    assert outcome.sent, outcome
    arrived(post)


def test_a_wrong_password_is_told_and_not_repeated(
    trusted: ssl.SSLContext, make_post: Callable[..., Any], make_message: Callable[..., Message], authenticator: Any
) -> None:
    post = make_post(tls_context=trusted, authenticator=authenticator, auth_required=True)
    outcome = mail.send(
        make_message(), RECEIVER, MailServer("localhost", post.port, "starttls", SENDER, "wrong-one", SENDER)
    )
    assert (outcome.sent, outcome.again) == (False, True)
    assert "user or password" in outcome.said
    assert "wrong-one" not in outcome.said


def test_without_starttls_nothing_is_sent(make_post: Callable[..., Any], make_message: Callable[..., Message]) -> None:
    post = make_post()
    outcome = mail.send(make_message(), RECEIVER, MailServer("127.0.0.1", post.port, "starttls", None, None, SENDER))
    assert (outcome.sent, outcome.again) == (False, True)
    assert "STARTTLS" in outcome.said
    assert post.mails == []


def test_an_unknown_certificate_gets_no_mail(
    server_context: ssl.SSLContext, make_post: Callable[..., Any], make_message: Callable[..., Message]
) -> None:
    post = make_post(tls_context=server_context)
    outcome = mail.send(make_message(), RECEIVER, MailServer("localhost", post.port, "starttls", None, None, SENDER))
    assert not outcome.sent
    assert "certificate" in outcome.said.lower()
    assert post.mails == []


def test_tls_from_the_start(
    trusted: ssl.SSLContext, make_post: Callable[..., Any], make_message: Callable[..., Message]
) -> None:
    post = make_post(ssl_context=trusted)
    assert mail.send(make_message(), RECEIVER, MailServer("localhost", post.port, "tls", None, None, SENDER)).sent
    arrived(post)


@pytest.mark.parametrize(("reply", "again"), [("550 no such mailbox", False), ("451 try later", True)])
def test_a_refused_receiver_is_final_a_deferred_one_is_not(
    make_post: Callable[..., Any], make_message: Callable[..., Message], reply: str, again: bool
) -> None:
    post = make_post()
    post.refusal = reply
    outcome = mail.send(make_message(), RECEIVER, plain(post.port))
    assert (outcome.sent, outcome.again) == (False, again)
    assert reply in outcome.said


def test_a_dead_server_is_tried_again(closed_port: int, make_message: Callable[..., Message]) -> None:
    outcome = mail.send(make_message(), RECEIVER, plain(closed_port))
    assert (outcome.sent, outcome.again) == (False, True)
    assert f"127.0.0.1 port {closed_port}" in outcome.said


@pytest.mark.parametrize(
    "text",
    ["", "someone", "a@b\r\nBcc: c@d", "a@b, c@d", "<a@b>", "a b@c", '"a b"@c', "a@", "@b", "a@b@c", "ä@b.org",
     "a..b@c", "a@-b", "a@b\n"],
)  # fmt: skip
def test_only_one_plain_address_is_taken(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="e-mail address"):
        checked_address(text)


def test_usual_addresses_are_taken() -> None:
    for text in ("a@b", "first.last+tag@mail.example.org", "o'brien@example.org"):
        assert checked_address(text) == text


def settings_with(url: str | None, sender: str | None = SENDER) -> Settings:
    return Settings(smtp_url=None if url is None else SecretStr(url), mail_from=sender)


def test_the_mail_server_is_read_from_its_address() -> None:
    server = server_of(settings_with("smtp://bench%40example.org:p%40ss%2Fword@mail.example.org"))
    assert (server.host, server.port, server.security) == ("mail.example.org", 587, "starttls")
    assert (server.user, server.password) == ("bench@example.org", "p@ss/word")
    assert "p@ss" not in repr(server)
    assert server_of(settings_with("smtps://mail.example.org:4650")).port == 4650
    assert server_of(settings_with("smtp+plain://127.0.0.1")).security == "none"


@pytest.mark.parametrize(
    "url", [None, "mail.example.org", "http://mail", "smtp://", "smtp://u@h", "smtp+plain://u:secret@h", "smtp://h:x"]
)
def test_a_mail_server_that_cannot_be_used_is_told_without_its_password(url: str | None) -> None:
    with pytest.raises(ConfigurationError, match="MESHGAUGE_SMTP_URL") as caught:
        server_of(settings_with(url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("sender", [None, "no address", "a@b\r\nBcc: c@d"])
def test_a_sender_is_needed(sender: str | None) -> None:
    with pytest.raises(ConfigurationError, match="MESHGAUGE_MAIL_FROM"):
        server_of(settings_with("smtp://mail.example.org", sender))
