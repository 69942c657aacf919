"""A small HTTP application for application-versions.yaml: replies of one size, and as much work as asked for."""

from __future__ import annotations

import argparse
import socketserver
import time
from http.server import BaseHTTPRequestHandler


class Greeter(BaseHTTPRequestHandler):
    """Answers every GET with the same bytes; keeps connections open."""

    protocol_version = "HTTP/1.1"
    reply = b""
    work_s = 0.0

    def setup(self) -> None:
        """Send head and body of a reply as one packet each way, at once."""
        super().setup()
        self.wfile = self.connection.makefile("wb", buffering=65_536)

    def do_GET(self) -> None:
        """Answer after working for ``work_s`` seconds of CPU."""
        until_s = time.thread_time() + self.work_s
        while time.thread_time() < until_s:
            pass
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(self.reply)))
        self.end_headers()
        self.wfile.write(self.reply)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Log nothing: a line a request would be measured too."""


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--reply-bytes", type=int, default=1024)
    parser.add_argument("--work-us", type=float, default=0.0, help="CPU burnt for each request, in microseconds")
    options = parser.parse_args()
    Greeter.reply, Greeter.work_s = b"x" * options.reply_bytes, options.work_us / 1e6
    with Server(("127.0.0.1", options.port), Greeter) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
