"""Was the mesh really there? Checks of one environment around each trial (measurement.md 5)."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from adapters.contract import Check, Endpoint
from adapters.local import parity, probes, procfs
from adapters.local.launching import Launched
from adapters.local.mesh import RunningHop
from adapters.local.placement import CpuPlacement
from adapters.local.processes import wait_until
from adapters.local.proxy import CountsWorkers, ProxyCounters
from adapters.local.sockets import Parties, link_to
from meshgauge.errors import MeasurementError
from meshgauge.matrix import EnvironmentKey

PROBES = 3
_SETTLE_S = 2.0  # some proxies count after they answered
_LOOKS = 3  # at who is connected, before a stranger is believed
_SPARE_CONNECTIONS = 16  # probes leave one each in a pool


@dataclass(frozen=True, slots=True)
class Subject:
    """The environment under check.

    Attributes:
        hops: in the order a request meets them; empty: the baseline.
        connections: the most client connections of any load.
    """

    key: EnvironmentKey
    entry: Endpoint
    app: Launched
    hops: tuple[RunningHop, ...]
    placement: CpuPlacement
    connections: int

    @property
    def listeners(self) -> tuple[tuple[str, Endpoint], ...]:
        """Every party that listens for traffic, in the order a request meets them."""
        proxies = tuple((hop.component, hop.order.listen) for hop in self.hops)
        return (*proxies, ("app", self.app.endpoints[0]))


class Treatment:
    """The checks, and the counters remembered between them."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._remembered: dict[str, ProxyCounters] = {}
        self._closed: dict[str, int] = {}

    def before(self) -> list[Check]:
        """Send probes and check everything that can be checked without load; then remember all counters."""
        checks = [*self._probed(), *self._path(), *_readable(self._tls()), *self._limits()]
        self._remembered = self._read()
        self._closed = {hop.component: procfs.closed_connections(hop.order.upstream) for hop in self._subject.hops}
        return checks

    def connected(self, generator: Collection[int]) -> list[Check]:
        """Check the owner of both ends of every connection, while load is on.

        The two tables of the kernel are not read at one instant: a connection that comes or goes between them
        looks like a stranger's. It does not look so again; a stranger does.
        """
        for _ in range(_LOOKS):
            checks = self._connected_now(generator)
            if all(check.passed for check in checks):
                break
        return checks

    def _connected_now(self, generator: Collection[int]) -> list[Check]:
        parties = {"load_generator": tuple(generator)} | self._parties()  # whoever is both is ours
        owners, table = Parties(parties).owners(), procfs.connections()
        checks = []
        client = "load_generator"
        for server, listener in self._subject.listeners:
            link = link_to(listener, table, owners)
            right = set(link.opened_by) == {client} and link.served_by == {server}
            opened = ", ".join(f"{count} by {party}" for party, count in sorted(link.opened_by.items())) or "none"
            seen = f"{opened}; served by {', '.join(sorted(link.served_by)) or 'nobody'}"
            checks.append(Check(f"connections/{server}", right, f"opened by {client} alone, served by {server}", seen))
            client = server
        return checks

    def after(self, requests_sent: int) -> list[Check]:
        """Compare the counters with what was sent; then check TLS and limits once more."""
        checks = [check for hop in self._subject.hops for check in _readable(self._counted(hop, requests_sent))]
        return [*checks, *_readable(self._tls()), *self._limits()]

    def _read(self) -> dict[str, ProxyCounters]:
        """Return the counters of each hop; without those that cannot be read, as of a proxy that died."""
        counters = {}
        for hop in self._subject.hops:
            with contextlib.suppress(MeasurementError):  # told by the check that misses them
                counters[hop.component] = hop.installed.proxy.counters(hop.order)
        return counters

    def _parties(self) -> dict[str, tuple[int, ...]]:
        parties = {hop.component: tuple(hop.launched.program.process_ids()) for hop in self._subject.hops}
        return parties | {"app": tuple(self._subject.app.program.process_ids())}

    def _probed(self) -> Iterator[Check]:
        spec = self._subject.key.workload.spec
        counted = self._read()
        replies = [probes.request(self._subject.entry, spec) for _ in range(PROBES)]
        size = probes.expected_body_bytes(spec)
        expected = f"{PROBES} x status {spec.expected_status}" + ("" if size is None else f", {size} bytes")
        passed = all(probes.is_expected(reply, spec) for reply in replies)
        yield Check("reply", passed, expected, "; ".join(sorted({reply.seen for reply in replies})))
        for hop in self._subject.hops:
            yield from _readable(_requests(hop, counted.get(hop.component), PROBES, "probes"))

    def _path(self) -> Iterator[Check]:
        """Check who listens, and that a baseline has no proxy anywhere."""
        for party, listener in self._subject.listeners:
            owners = Parties(self._parties()).owners()
            holders = {owners.get(inode, "another process") for inode in procfs.listeners(listener)}
            yield Check(f"listener/{party}", holders == {party}, party, ", ".join(sorted(holders)) or "nobody")
        if not self._subject.hops:
            app = self._subject.app.endpoints[0]
            yield Check(
                "no_proxy", self._subject.entry == app, f"load goes to the app at {app}", str(self._subject.entry)
            )

    def _tls(self) -> Iterator[Check]:
        server = next((hop for hop in self._subject.hops if hop.order.terminate_tls), None)
        client = next((hop for hop in self._subject.hops if hop.order.originate_tls), None)
        if not self._subject.key.profile.mtls or not server or not client:
            if self._subject.key.profile.mtls:
                yield Check("mtls", False, "a client and a server proxy with identities", "none")
            return
        yield from self._handshakes(client, server)
        for hop in (client, server):
            handshakes = hop.installed.proxy.counters(hop.order).tls_handshakes
            if handshakes is not None:
                yield Check(f"mtls_handshakes/{hop.component}", handshakes > 0, "more than 0", str(handshakes))

    def _handshakes(self, client: RunningHop, server: RunningHop) -> Iterator[Check]:
        spec, listen = self._subject.key.workload.spec, server.order.listen
        own, issued = client.order.originate_tls, server.order.terminate_tls
        assert own is not None  # noqa: S101 - chosen for having them
        assert issued is not None  # noqa: S101
        admitted = probes.request_over_tls(listen, spec, own, issued, parity.SERVER_NAME)
        certificate = ssl.PEM_cert_to_DER_cert(issued.certificate_path.read_text())
        same = admitted.certificate_der == certificate
        seen = f"{'the issued' if same else 'another or no'} certificate; {admitted.seen}"
        expected = f"certificate of {issued.spiffe_id}, expected reply"
        yield Check("mtls_certificate", same and probes.is_expected(admitted, spec), expected, seen)
        refusals: Mapping[str, Callable[[], probes.Reply]] = {
            "mtls_plaintext_refused": lambda: probes.request(listen, spec),
            "mtls_without_certificate_refused": lambda: probes.request_over_tls(
                listen, spec, None, issued, parity.SERVER_NAME
            ),
        }
        for name, attempt in refusals.items():
            reply = attempt()
            refused = not probes.is_expected(reply, spec) and (reply.status is None or reply.status >= 400)
            yield Check(name, refused, "no reply, or an error status", reply.seen)

    def _limits(self) -> Iterator[Check]:
        """Check threads and cores of each proxy against what was ordered."""
        ordered = frozenset(self._subject.placement.proxies) or frozenset(os.sched_getaffinity(0))
        threads = self._subject.key.profile.proxy_threads
        for hop in self._subject.hops:
            pids = tuple(hop.launched.program.process_ids())
            proxy = hop.installed.proxy
            if isinstance(proxy, CountsWorkers):
                workers = proxy.workers(pids)
                yield Check(f"threads/{hop.component}", workers == threads, str(threads), str(workers))
            allowed = {procfs.allowed_cpus(thread) for pid in pids for thread in procfs.thread_ids(pid)} - {None}
            seen = "; ".join(str(sorted(cpus)) for cpus in allowed if cpus is not None) or "no thread"
            yield Check(f"cpu_set/{hop.component}", allowed == {ordered}, str(sorted(ordered)), seen)

    def _counted(self, hop: RunningHop, requests_sent: int) -> Iterator[Check]:
        before = self._remembered.get(hop.component)
        yield from _requests(hop, before, requests_sent, "requests sent")
        if before is None:
            return
        now = hop.installed.proxy.counters(hop.order)
        for name, first, last in (
            ("retries", before.upstream_retries, now.upstream_retries),
            ("overflows", before.upstream_overflows, now.upstream_overflows),
        ):
            if first is not None and last is not None:
                yield Check(f"{name}/{hop.component}", last == first, "0", str(last - first))
        if self._subject.key.workload.command is None:  # a user's program may close connections as it likes
            yield self._kept_alive(hop, before.upstream_connections, now.upstream_connections)

    def _kept_alive(self, hop: RunningHop, before: int | None, now: int | None) -> Check:
        """Check that upstream connections are about as many as clients, not as many as requests."""
        limit = 2 * self._subject.connections + _SPARE_CONNECTIONS
        name, expected = f"keep_alive/{hop.component}", f"at most {limit} upstream connections"
        if before is None or now is None:
            closed = procfs.closed_connections(hop.order.upstream) - self._closed[hop.component]
            return Check(name, closed <= limit, expected, f"{closed} more closed within the last minute")
        return Check(name, now - before <= limit, expected, f"{now - before} opened")


def _readable(checks: Iterator[Check]) -> Iterator[Check]:
    """Yield ``checks``; counters that cannot be read, as of a proxy that died meanwhile, are a failed one."""
    try:
        yield from checks
    except MeasurementError as error:
        yield Check("counters", False, "counters that can be read", str(error))


def _requests(hop: RunningHop, before: ProxyCounters | None, expected: int, of_what: str) -> Iterator[Check]:
    """Check that the proxy counted exactly ``expected`` requests since ``before``, if it counts them."""
    if before is None:
        yield Check(f"counters/{hop.component}", False, "counters read before", "none could be read")
        return
    first = before.requests
    if first is None:
        return

    def counted() -> int:
        now = hop.installed.proxy.counters(hop.order).requests
        return (now or 0) - first

    wait_until(lambda: counted() >= expected, _SETTLE_S, step_s=0.05)
    seen = counted()
    yield Check(f"requests/{hop.component}", seen == expected, f"{expected} ({of_what})", str(seen))
