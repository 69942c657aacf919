"""How far our latencies are from the wire's: p50 against a capture with kernel timestamps on the loopback.

python tests/bench/bench_wire.py [--rates 1000] [--rounds 3] [--seconds 4] [--fifo 10]    bar: 0.15 ms; needs root
The capture socket only fills its buffer during the window and is read afterwards, so it costs the trial nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import socket
import statistics
import struct
import sys
from collections.abc import Iterator

from bench_target import host, nginx, order, run_trial

BAR_MS = 0.15
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_SO_ATTACH_FILTER = 26
_ETH_P_ALL = 3
_PACKET_STATISTICS = (263, 6)
_BUFFER_BYTES = 256 << 20
_SNAP_BYTES = 128
_ETHERNET, _OF_TYPE_HOST = 14, 0

# Classic BPF: IPv4, TCP, received (each loopback packet also passes once as outgoing), from or to the port.
_LD_W, _LD_H, _LD_B, _LDX_MSH, _LDI_H, _JEQ, _RET = 0x20, 0x28, 0x30, 0xB1, 0x48, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE


def port_filter(port: int) -> bytes:
    """Return the program that keeps the port's received segments."""
    program = [
        (_LD_W, 0, 0, _PACKET_TYPE),
        (_JEQ, 0, 9, _OF_TYPE_HOST),
        (_LD_H, 0, 0, 12),
        (_JEQ, 0, 7, 0x0800),
        (_LD_B, 0, 0, 23),
        (_JEQ, 0, 5, 6),
        (_LDX_MSH, 0, 0, _ETHERNET),
        (_LDI_H, 0, 0, _ETHERNET),
        (_JEQ, 3, 0, port),
        (_LDI_H, 0, 0, _ETHERNET + 2),
        (_JEQ, 1, 0, port),
        (_RET, 0, 0, 0),
        (_RET, 0, 0, _SNAP_BYTES),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def open_capture(port: int) -> socket.socket:
    """Start capturing; packets wait in the socket."""
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    code = port_filter(port)
    program = ctypes.create_string_buffer(code)
    attached = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(program))
    capture.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
    capture.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    capture.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    capture.bind(("lo", _ETH_P_ALL))
    capture.setblocking(False)
    return capture


def read_segments(capture: socket.socket, port: int) -> Iterator[tuple[float, int, bool]]:
    """Yield (unix time in s, client port, is request) of segments that carry data."""
    while True:
        try:
            data, ancillary, _, _ = capture.recvmsg(_SNAP_BYTES, 64)
        except BlockingIOError:
            return
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
        ip_bytes = (data[_ETHERNET] & 15) * 4
        total_bytes = struct.unpack_from("!H", data, _ETHERNET + 2)[0]
        tcp = _ETHERNET + ip_bytes
        source, destination = struct.unpack_from("!HH", data, tcp)
        if total_bytes > ip_bytes + (data[tcp + 12] >> 4) * 4:
            is_request = destination == port
            yield seconds + nanoseconds / 1e9, source if is_request else destination, is_request


def wire_latencies_ms(capture: socket.socket, port: int, start_s: float, end_s: float) -> list[float]:
    """Return request-to-reply times of requests inside the window."""
    waiting: dict[int, float] = {}
    latencies = []
    for at_s, client, is_request in read_segments(capture, port):
        if is_request:
            waiting[client] = at_s
        elif client in waiting:
            sent_s = waiting.pop(client)
            if start_s <= sent_s < end_s:
                latencies.append((at_s - sent_s) * 1e3)
    _, dropped = struct.unpack("II", capture.getsockopt(*_PACKET_STATISTICS, 8))
    if dropped:
        raise RuntimeError(f"the capture lost {dropped} packets")
    return latencies


def compare(port: int, rate_rps: float, seconds: int, fifo: int | None) -> dict[str, float]:
    """Run one trial beside a capture; return p50 of both in ms."""
    capture = open_capture(port)
    try:
        load = order(port, rate_rps=rate_rps, window_s=float(seconds), fifo_priority=fifo, connections=16)
        result = run_trial(load).result
        start_s = result.window_start.timestamp()
        wire = wire_latencies_ms(capture, port, start_s, start_s + seconds)
    finally:
        capture.close()
    clocks = {clock: result.clock(clock).quantile_ns(0.5) for clock in ("net", "service", "lag")}
    reported = {f"{clock}_p50_ms": value / 1e6 for clock, value in clocks.items() if value is not None}
    return {
        "rate_rps": rate_rps,
        "wire_p50_ms": statistics.median(wire),
        "wire_requests": len(wire),
        "sent": result.sent,
        **reported,
    }


def main() -> int:
    """Print one JSON line and a readable line a rate; exit 1 beyond the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[1000.0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--fifo", type=int, default=None, help="SCHED_FIFO priority of the engine thread")
    arguments = parser.parse_args()
    worst_ms, lines = 0.0, []
    runs = []
    with nginx() as port:
        for rate_rps in arguments.rates:
            rounds = [compare(port, rate_rps, arguments.seconds, arguments.fifo) for _ in range(arguments.rounds)]
            errors_ms = [run["net_p50_ms"] - run["wire_p50_ms"] for run in rounds]
            error_ms = statistics.median(errors_ms)
            worst_ms = max(worst_ms, abs(error_ms))
            runs += rounds
            lines.append(
                f"{rate_rps:g} rps: p50 {error_ms * 1e3:+.0f} us from the wire ({min(errors_ms) * 1e3:+.0f}.."
                f"{max(errors_ms) * 1e3:+.0f} over {arguments.rounds} rounds; bar {BAR_MS * 1e3:.0f} us)"
            )
    sys.stdout.write(json.dumps({"bench": "wire", "bar_ms": BAR_MS, "runs": runs, "host": host()}) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if worst_ms <= BAR_MS else 1


if __name__ == "__main__":
    sys.exit(main())
