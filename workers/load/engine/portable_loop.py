"""The thread of the pure-Python engine; engine.c is its twin and says why things are as they are."""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from meshgauge.trial import OUTCOMES
from workers.load.engine.arrivals import arrivals_ns
from workers.load.engine.contract import ENGINE_STATES, EngineState, Schedule, Target
from workers.load.engine.http1 import ProtocolError
from workers.load.engine.osthreads import Timer, run_delay_ns, set_timer_slack_ns, unpatched
from workers.load.engine.portable_connections import RETRY_AFTER_NS, Connection, Connections
from workers.load.engine.portable_tally import Passage, Tally
from workers.load.engine.readings import NS_PER_S

_READ_BYTES = 65_536
_EPOLLOUT = 4
_NEVER = 1 << 62
_OK, _2XX, _TIMEOUT, _RESET, _CONNECT_FAILURE, _BAD_BODY = (
    OUTCOMES.index(name) for name in ("ok", "status_2xx", "timeout", "reset", "connect_failure", "bad_body")
)


@dataclass(slots=True)
class Asked:
    """What other threads want; each field is written by them and read by the loop."""

    connections: int = 0
    schedule: Schedule | None = None
    stop: bool = False


class Loop:
    """One pass: what is due by the clock, then events until the next thing is due."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._timeout_ns = round(target.timeout_s * 1e9)
        self._tally, self._stats = tally, tally.stats
        self._asked = Asked()
        self._connections = Connections(target, tally.stats)
        self._timer = Timer()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for fd in (self._timer.fd, self._wake_fd):
            self._connections.epoll.register(fd, 1)
        self._schedule: Schedule | None = None
        self._arrivals: Iterator[int] = iter(())
        self._next_arrival_ns = self._next_edge_ns = _NEVER
        self._backlog: deque[int] = deque()
        self._closed_loop = self._ending = False

    def ask_connections(self, connections: int) -> None:
        """Want so many connections."""
        self._asked.connections = connections
        os.eventfd_write(self._wake_fd, 1)

    def give_schedule(self, schedule: Schedule) -> None:
        """Hand over the schedule."""
        self._asked.schedule = schedule
        os.eventfd_write(self._wake_fd, 1)

    def ask_stop(self) -> None:
        """End at once."""
        self._asked.stop = True
        os.eventfd_write(self._wake_fd, 1)

    def fail(self, error: int) -> None:
        """Record that the thread died."""
        self._stats.failure_errno = error
        self._enter("failed")

    def release(self) -> None:
        """Give the descriptors back; the thread has ended."""
        self._connections.epoll.close()
        self._timer.close()
        os.close(self._wake_fd)

    def run(self) -> None:
        """Work until the schedule is done or somebody asks to stop."""
        self._prepare_thread()
        done = False
        try:
            while not self._asked.stop and not done:
                done = self._do_what_is_due()
                if not done:
                    self._handle_events()
        finally:
            self._connections.close_all()
        self._enter("finished" if done else "stopped")

    def _enter(self, state: EngineState) -> None:
        self._stats.state = ENGINE_STATES.index(state)

    def _prepare_thread(self) -> None:
        self._stats.thread_id = unpatched("_thread", "get_native_id")()
        set_timer_slack_ns(1)
        if self._target.cpu is not None:
            os.sched_setaffinity(0, {self._target.cpu})
        if self._target.fifo_priority:
            try:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(self._target.fifo_priority))
                self._stats.fifo_applied = 1
            except PermissionError:
                self._stats.fifo_applied = 0

    # -- by the clock --

    def _do_what_is_due(self) -> bool:
        now = time.monotonic_ns()
        self._connections.adjust(self._asked.connections)
        if self._schedule is None and self._asked.schedule is not None:
            self._take_schedule(self._asked.schedule)
        self._expire(now)
        for connection in self._connections.take_to_open():
            error = self._connections.open(connection, now)
            if error:
                self._connect_failed(connection, error, now)
        schedule = self._schedule
        if schedule is None:
            return False
        self._admit_arrivals(schedule, now)
        self._pass_edges(schedule, now)
        if now >= schedule.end_ns:
            self._wind_down(schedule, now)
        self._serve_waiting(now)
        if schedule.window_start_ns <= now < schedule.window_end_ns:
            self._stats.backlog_peak = max(self._stats.backlog_peak, len(self._backlog))
        return self._ending and not self._backlog and not self._any_busy()

    def _any_busy(self) -> bool:
        return any(connection.state == "busy" for connection in self._connections.pending)

    def _take_schedule(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._closed_loop = schedule.kind == "closed"
        self._arrivals = arrivals_ns(schedule)
        self._next_arrival_ns = next(self._arrivals, _NEVER)
        self._next_edge_ns = schedule.window_start_ns
        self._enter("running")

    def _drain_end_ns(self, schedule: Schedule) -> int:
        return max(schedule.end_ns, schedule.window_end_ns + self._timeout_ns)

    def _expire(self, now: int) -> None:
        pending = self._connections.pending
        while pending:
            connection = next(iter(pending))
            if connection.since_ns + self._timeout_ns > now:
                break
            if connection.state == "connecting":
                self._connect_failed(connection, errno.ETIMEDOUT, now)
            else:
                self._end_request(connection, _TIMEOUT, reusable=False, now=now)
        self._connections.take_retries(now)

    def _admit_arrivals(self, schedule: Schedule, now: int) -> None:
        while self._next_arrival_ns <= now and self._next_arrival_ns < schedule.end_ns:
            self._tally.offered.append(self._next_arrival_ns)
            self._backlog.append(self._next_arrival_ns)
            self._next_arrival_ns = next(self._arrivals)

    def _pass_edges(self, schedule: Schedule, now: int) -> None:
        arrays, stats = self._tally.arrays, self._stats
        while now >= self._next_edge_ns and arrays is not None:
            edge, last = stats.edges_passed, len(arrays.edges) - 1
            arrays.edges[edge] = time.thread_time_ns()
            if edge in (0, last):
                self._note_run_delay(is_end=edge == last)
            if edge == last:
                self._next_edge_ns = _NEVER
            elif edge + 1 == last:
                self._next_edge_ns = schedule.window_end_ns
            else:
                self._next_edge_ns += NS_PER_S
            stats.edges_passed = edge + 1

    def _note_run_delay(self, *, is_end: bool) -> None:
        delay_ns = run_delay_ns()
        if delay_ns is None:
            return
        self._stats.run_delay_known += 1
        if is_end:
            self._stats.run_delay_end_ns = delay_ns
        else:
            self._stats.run_delay_start_ns = delay_ns

    def _wind_down(self, schedule: Schedule, now: int) -> None:
        if not self._ending:
            self._ending = True
            self._next_arrival_ns = _NEVER
            self._enter("draining")
            while self._backlog and self._backlog[-1] >= schedule.window_end_ns:
                self._backlog.pop()
        if now >= self._drain_end_ns(schedule):
            self._tally.dropped.extend(self._backlog)
            self._backlog.clear()

    # -- requests --

    def _closed_loop_sends(self, now: int) -> bool:
        schedule = self._schedule
        return self._closed_loop and not self._ending and schedule is not None and now >= schedule.start_ns

    def _serve_waiting(self, now: int) -> None:
        idle = self._connections.idle
        while idle and (self._backlog or self._closed_loop_sends(now)):
            self._dispatch(next(iter(idle)), None if self._closed_loop else self._backlog.popleft())

    def _dispatch(self, connection: Connection, intended_ns: int | None) -> None:
        now = time.monotonic_ns()
        connection.sent_ns = connection.since_ns = now
        connection.intended_ns = now if intended_ns is None else intended_ns
        if intended_ns is None:
            self._tally.offered.append(now)
        del self._connections.idle[connection]
        self._connections.pending[connection] = None
        connection.state = "busy"
        connection.sent_bytes = 0
        connection.parser.reset()
        self._stats.requests_total += 1
        self._tally.sent.append((connection.intended_ns, connection.free_since_ns))
        self._send_rest(connection)

    def _send_rest(self, connection: Connection) -> None:
        request = self._target.request
        was_partial = connection.sent_bytes > 0
        try:
            connection.sent_bytes += connection.socket.send(
                request[connection.sent_bytes :] if was_partial else request
            )
        except (BlockingIOError, InterruptedError):
            was_partial = False
        except OSError:
            self._end_request(connection, _RESET, reusable=False, now=time.monotonic_ns())
            return
        if connection.sent_bytes < len(request):
            self._connections.watch(connection, writable=True)
        elif was_partial:
            self._connections.watch(connection, writable=False)

    def _end_request(self, connection: Connection, outcome: int, *, reusable: bool, now: int) -> None:
        self._tally.ended.append(
            Passage(connection.intended_ns, connection.free_since_ns, connection.sent_ns, now, outcome)
        )
        connection.served += 1
        limit = self._target.requests_per_connection
        if not reusable or connection.slot >= self._connections.applied or (limit and connection.served >= limit):
            self._connections.replace(connection, now)
        else:
            self._connections.free(connection, now)

    def _connect_failed(self, connection: Connection, error: int, now: int) -> None:
        tried_ns = connection.since_ns
        self._stats.connect_failures += 1
        self._stats.connect_errno = error
        self._connections.retry_later(connection, now)
        if self._closed_loop_sends(now) and self._schedule is not None:
            intended_ns = max(tried_ns, self._schedule.start_ns)
            self._tally.offered.append(intended_ns)
            self._fail_arrival(intended_ns, intended_ns, now)
        count = min(1, len(self._backlog)) if self._stats.connections_open else len(self._backlog)
        for _ in range(count):
            self._fail_arrival(self._backlog.popleft(), tried_ns, now)

    def _fail_arrival(self, intended_ns: int, tried_ns: int, now: int) -> None:
        sent_ns = max(intended_ns, tried_ns)
        self._tally.sent.append((intended_ns, sent_ns))
        self._tally.ended.append(Passage(intended_ns, sent_ns, sent_ns, now, _CONNECT_FAILURE))

    # -- events --

    def _next_due_ns(self) -> int:
        if self._connections.has_work_to_open:
            return 0
        due = [_NEVER]
        if self._connections.pending:
            due.append(next(iter(self._connections.pending)).since_ns + self._timeout_ns)
        if self._connections.retrying:
            due.append(next(iter(self._connections.retrying)).since_ns + RETRY_AFTER_NS)
        schedule = self._schedule
        if schedule is not None:
            due += [self._next_arrival_ns, self._next_edge_ns]
            due.append(self._drain_end_ns(schedule) if self._ending else schedule.end_ns)
            if self._closed_loop and self._connections.idle and not self._ending:
                due.append(schedule.start_ns)
        return min(due)

    def _handle_events(self) -> None:
        due_ns = self._next_due_ns()
        waits = due_ns > time.monotonic_ns()
        if waits:
            self._timer.set(None if due_ns == _NEVER else due_ns)
        for fd, events in self._connections.epoll.poll(-1 if waits else 0):
            connection = self._connections.by_fd.get(fd)
            if connection is not None:
                self._on_event(connection, events)
                if self._backlog or self._closed_loop:
                    self._serve_waiting(time.monotonic_ns())
            elif fd == self._wake_fd:
                os.eventfd_read(fd)

    def _on_event(self, connection: Connection, events: int) -> None:
        if connection.state == "connecting":
            error = self._connections.connected(connection)
            if error:
                self._connect_failed(connection, error, time.monotonic_ns())
            return
        fd = connection.fd
        if events & _EPOLLOUT and connection.state == "busy":
            self._send_rest(connection)
        if events & ~_EPOLLOUT and connection.fd == fd:
            self._on_readable(connection)

    def _on_readable(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = None
        now = time.monotonic_ns()
        if connection.state == "idle":  # closed by the peer, or bytes nobody asked for
            self._connections.replace(connection, now)
            return
        parser = connection.parser
        try:
            used = parser.feed(data) if data else 0
        except ProtocolError:
            data, used = None, 0
        if data is None or (data == b"" and not parser.eof()):
            self._end_request(connection, _RESET, reusable=False, now=now)
        elif parser.phase == "complete":
            is_sent = connection.sent_bytes == len(self._target.request)
            reusable = used == len(data) and is_sent and not parser.closes
            self._end_request(connection, self._outcome(connection), reusable=reusable, now=now)

    def _outcome(self, connection: Connection) -> int:
        parser, target = connection.parser, self._target
        if parser.status != target.expected_status:
            return _2XX + parser.status // 100 - 2
        has_body = not (target.is_head or parser.status in (204, 304))
        if has_body and target.expected_body_bytes not in (None, parser.body_bytes):
            return _BAD_BODY
        return _OK
