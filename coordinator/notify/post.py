"""One HTTP POST to an address somebody named: checked, not redirected, timed, and hardly listened to.

The name is resolved once, every address it has is checked, and the connection goes to a checked address: a name
that means another host a moment later leads nowhere else. Source: reference/operations.md 8.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from coordinator.notify.outcome import Deadline, Outcome, one_line
from coordinator.targets import Address, Network, Resolve, is_allowed, is_public, resolve_host
from meshgauge.errors import InvalidRequestError
from meshgauge.revision import own_version

CONNECT_S = 5.0
SILENCE_S = 10.0  # longest wait for a single read
WHOLE_S = 20.0  # of everything after the name is resolved; a command that waits for it gives up after 30 s
MOST_PAUSE_S = 3600.0
_MOST_ADDRESSES = 3
_SETTING = "MESHGAUGE_NOTIFY_NETWORKS"


def parsed_url(url: str) -> SplitResult:
    """Return the parts of an address to post to.

    Raises:
        InvalidRequestError: it is none; the address itself is not repeated, it may hold a secret.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequestError(f"the address is no URL: {error}") from error
    if not re.fullmatch(r"[!-~]+", url):
        raise InvalidRequestError(
            "the address has characters that no URL has; write a foreign host name as xn--..., escape others with %"
        )
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise InvalidRequestError("the address reads https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequestError("a user name or password does not belong into the address; notices are signed")
    if parts.fragment:
        raise InvalidRequestError("the part behind # is never sent; leave it out of the address")
    return parts


def refuse_unreachable(url: str, allowed: Sequence[Network], resolve: Resolve = resolve_host) -> None:
    """See that notices may go to ``url``, as far as that can be known before one is sent.

    Raises:
        InvalidRequestError: they may not, or the host has no address.
    """
    parts = parsed_url(url)
    try:
        refusal = _refusal(parts, resolve(parts.hostname or "", _port(parts)), allowed)
    except (OSError, UnicodeError) as error:
        raise InvalidRequestError(f"host {parts.hostname!r} has no address: {error}") from error
    if refusal is not None:
        raise InvalidRequestError(refusal)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _refusal(parts: SplitResult, addresses: Sequence[Address], allowed: Sequence[Network]) -> str | None:
    for address in addresses:
        listed = is_allowed(address, allowed)
        hint = f"an operator can allow it: {_SETTING}={address}/{address.max_prefixlen}"
        if not listed and not is_public(address):
            return f"{parts.hostname!r} is {address}, which is not on the public internet; {hint}"
        if not listed and parts.scheme == "http":
            return f"notices leave this network over https only; write https://, or {hint}"
    return None


def post(
    url: str, body: bytes, headers: Mapping[str, str], allowed: Sequence[Network], resolve: Resolve = resolve_host
) -> Outcome:
    """Send ``body`` as JSON and return what came of it; a redirect is an answer like any other, and a wrong one.

    Args:
        allowed: networks of the operator's list; others get notices on public addresses and over https only.
    """
    parts = parsed_url(url)
    try:
        addresses = resolve(parts.hostname or "", _port(parts))
    except (OSError, UnicodeError) as error:
        return Outcome(False, one_line(f"host {parts.hostname!r} has no address: {error}"), again=True)
    refusal = _refusal(parts, addresses, allowed)
    if refusal is not None:
        return Outcome(False, one_line(refusal, 300))
    own = {"Host": parts.netloc, "Content-Type": "application/json", "User-Agent": f"Meshgauge/{own_version()}"}
    with Deadline(WHOLE_S) as deadline:
        try:
            return _ask(parts, addresses[:_MOST_ADDRESSES], body, {**own, **headers}, deadline)
        except (OSError, http.client.HTTPException) as error:
            late = f"no whole answer within {WHOLE_S:g} s" if deadline.has_passed else _said_of(error)
            return Outcome(False, one_line(late), again=True)


def _said_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {SILENCE_S:g} s"
    return str(error) or type(error).__name__


def _ask(
    parts: SplitResult, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str], deadline: Deadline
) -> Outcome:
    host = parts.hostname or ""
    with _connected(addresses, _port(parts)) as plain:
        deadline.watch(plain)
        plain.settimeout(SILENCE_S)
        secure = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if _is_tls(parts) else plain
        connection = http.client.HTTPConnection(host, _port(parts))
        connection.sock, connection.auto_open = secure, 0
        try:
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request("POST", path, body, {**headers, "Connection": "close"})
            with connection.getresponse() as response:
                outcome = _judged(response)
            if deadline.has_passed:  # http.client takes a cut header for a whole one
                raise TimeoutError
            return outcome
        finally:
            connection.close()


def _is_tls(parts: SplitResult) -> bool:
    return parts.scheme == "https"


def _connected(addresses: Sequence[Address], port: int) -> socket.socket:
    """Return a connection to the first address that takes it.

    Raises:
        OSError: of the last one that did not.
    """
    failure: OSError = ConnectionError("the host has no address")
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), timeout=CONNECT_S)
        except TimeoutError:
            failure = ConnectionError(f"{address} port {port} takes no connection within {CONNECT_S:g} s")
        except OSError as error:
            failure = ConnectionError(f"{address} port {port}: {error.strerror or error}")
    raise failure


def _judged(response: http.client.HTTPResponse) -> Outcome:
    said = f"HTTP {response.status} {response.reason}"
    if 200 <= response.status < 300:
        return Outcome(True, one_line(said))
    if 300 <= response.status < 400:
        return Outcome(False, one_line(f"{said}: redirects are not followed; name the final address"))
    excerpt = response.read(512).decode("utf-8", errors="replace")
    # 410: whoever took notices there takes none any more. All else may pass: a deployment, a lock, a quota.
    return Outcome(False, one_line(f"{said}: {excerpt}"), again=response.status != 410, pause_s=_pause_s(response))


def _pause_s(response: http.client.HTTPResponse) -> float | None:
    """Return the wait of a Retry-After in seconds; its other form, a date, is left to our own pauses."""
    text = (response.getheader("Retry-After") or "").strip()
    return min(float(text), MOST_PAUSE_S) if re.fullmatch(r"[0-9]{1,9}", text) else None
