"""E-mail: text and HTML, sent to the operator's mail server over TLS."""

from __future__ import annotations

import contextlib
import email.policy
import html
import re
import smtplib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Literal
from urllib.parse import unquote, urlsplit

from coordinator.notify.message import Message
from coordinator.notify.outcome import Deadline, Outcome, one_line
from meshgauge.errors import ConfigurationError, InvalidRequestError
from meshgauge.settings import Settings

SILENCE_S = 10.0  # longest wait for a single reply
WHOLE_S = 20.0

Security = Literal["starttls", "tls", "none"]

_SECURITY: Mapping[str, tuple[Security, int]] = {
    "smtp": ("starttls", 587),
    "smtps": ("tls", 465),
    "smtp+plain": ("none", 25),
}
# Addresses a person would write down; quoted local parts and comments are refused with the rest.
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where e-mails are handed over, and as whom."""

    host: str
    port: int
    security: Security
    user: str | None
    password: str | None = field(repr=False)
    sender: str


def checked_address(text: str) -> str:
    """Return ``text`` if it is one e-mail address.

    Raises:
        InvalidRequestError: it is not.
    """
    if not _ADDRESS.fullmatch(text) or ".." in text or len(text) > 254:
        raise InvalidRequestError(f"{text[:80]!r} is no e-mail address; write one such as someone@example.org")
    return text


def server_of(settings: Settings) -> MailServer:
    """Return the mail server of this installation.

    Raises:
        ConfigurationError: none is set, or not so that it can be used; never repeats the password.
    """
    url = "" if settings.smtp_url is None else settings.smtp_url.get_secret_value()
    if not url or settings.mail_from is None:
        raise ConfigurationError("e-mail needs MESHGAUGE_SMTP_URL and MESHGAUGE_MAIL_FROM where the coordinator runs")
    if not _ADDRESS.fullmatch(settings.mail_from):
        raise ConfigurationError(f"MESHGAUGE_MAIL_FROM: {settings.mail_from!r} is no e-mail address")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError("MESHGAUGE_SMTP_URL is no URL; write smtp://user:password@host:587") from error
    if parts.scheme not in _SECURITY or not parts.hostname:
        raise ConfigurationError("MESHGAUGE_SMTP_URL reads smtp://HOST, smtps://HOST or smtp+plain://HOST")
    security, usual_port = _SECURITY[parts.scheme]
    user, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    if (user is None) != (password is None):
        raise ConfigurationError("MESHGAUGE_SMTP_URL needs both user and password, or neither")
    if security == "none" and password is not None:
        raise ConfigurationError("MESHGAUGE_SMTP_URL would send the password unencrypted; use smtp:// or smtps://")
    return MailServer(parts.hostname, port or usual_port, security, user, password, settings.mail_from)


def mail_of(message: Message, sender: str, receiver: str) -> EmailMessage:
    """Return the e-mail: the answer first, as text and as HTML. Headers hold one line each, whatever names contain."""
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = one_line(f"[Meshgauge] {message.title}", 200)
    mail["From"] = f"Meshgauge <{sender}>"
    mail["To"] = receiver
    mail["Date"] = message.at
    mail["Message-ID"] = f"<{message.delivery}@{sender.rpartition('@')[2]}>"  # the same at every attempt
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in return
    mail["X-Meshgauge-Delivery"] = message.delivery
    link = f"\n\n{message.url}" if message.url else ""
    when = f"{message.at:%Y-%m-%d %H:%M} UTC"
    mail.set_content(f"{message.answer}{link}\n\n-- \n{message.title}, {when}\n")
    mail.add_alternative(_html(message, when), subtype="html")
    return mail


def _html(message: Message, when: str) -> str:
    link = f'<p><a href="{html.escape(message.url)}">Open the page</a></p>' if message.url else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(message.title)}</title><body><p>{html.escape(message.answer)}</p>{link}"
        f"<p><small>{html.escape(message.title)}, {when}</small></p></body></html>\n"
    )


def send(message: Message, receiver: str, server: MailServer) -> Outcome:
    """Hand a message over and return what came of it."""
    with Deadline(WHOLE_S) as deadline:
        try:
            said = _hand_over(mail_of(message, server.sender, receiver), receiver, server, deadline)
        except smtplib.SMTPRecipientsRefused as error:
            code, said_bytes = error.recipients[receiver]
            return _refused(code, said_bytes)
        except smtplib.SMTPAuthenticationError as error:  # an operator can mend it, so it is tried again
            return Outcome(False, one_line(f"the mail server refuses the user or password: {error.smtp_code}"), True)
        except smtplib.SMTPResponseException as error:
            return _refused(error.smtp_code, error.smtp_error)
        except (smtplib.SMTPException, OSError) as error:
            late = f"no whole answer within {WHOLE_S:g} s" if deadline.has_passed else str(error)
            return Outcome(False, one_line(f"{server.host} port {server.port}: {late}"), again=True)
    return Outcome(True, one_line(said))


def _hand_over(mail: EmailMessage, receiver: str, server: MailServer, deadline: Deadline) -> str:
    secure = ssl.create_default_context()
    smtp: smtplib.SMTP = (
        smtplib.SMTP_SSL(server.host, server.port, timeout=SILENCE_S, context=secure)
        if server.security == "tls"
        else smtplib.SMTP(server.host, server.port, timeout=SILENCE_S)
    )
    with contextlib.closing(smtp):
        if smtp.sock is not None:
            deadline.watch(smtp.sock)
        if server.security == "starttls":
            smtp.starttls(context=secure)  # raises where it is not offered: never on without
        if server.user is not None and server.password is not None:
            smtp.login(server.user, server.password)
        smtp.send_message(mail, server.sender, [receiver])
        # It is taken: a server that stumbles over the farewell must not be sent the same once more.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            smtp.quit()
    return f"taken by {server.host}"


def _refused(code: int, said: bytes | str) -> Outcome:
    """Judge a reply: 4yz may pass, 5yz is for good. Source: RFC 5321, 4.2.1."""
    text = said.decode("utf-8", errors="replace") if isinstance(said, bytes) else said
    return Outcome(False, one_line(f"the mail server answers {code} {text}"), again=code < 500)
