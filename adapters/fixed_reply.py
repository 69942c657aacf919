"""The built-in application: NGINX that answers everything with the same bytes, on a host as in a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

VERSION: Final = "1.31.3"  # one application for all arms and all runs: changed only with a note under "Measurement"

_INLINE_BYTES = 2048  # nginx cuts a configuration parameter at 4 KiB
_SPARE_CONNECTIONS = 512  # probes, and reconnects that overlap


@dataclass(frozen=True, slots=True)
class FixedReply:
    """What the application has to be.

    Attributes:
        listen: HOST:PORT.
        threads: worker processes.
        connections: the most the load opens.
        directory: absolute path of a writable folder for NGINX's own files; a large reply is read from there.
        user: NGINX's ``user`` directive, "name group"; empty: whoever starts it.
    """

    FILE: ClassVar[str] = "reply"

    listen: str
    reply_bytes: int
    threads: int
    connections: int
    directory: str
    user: str = ""

    @property
    def is_file(self) -> bool:
        """Whether the reply is too large for the configuration: ``FILE`` in the folder has to hold it."""
        return self.reply_bytes > _INLINE_BYTES

    def configuration(self) -> str:
        """Return NGINX's configuration: 200 with exactly ``reply_bytes``, whatever method, path or body comes.

        Small replies come out of the configuration; larger ones from an open file in the page cache. The static
        module refuses methods other than GET and HEAD with 405, which is turned into the same reply.
        """
        room = 2 * self.connections + _SPARE_CONNECTIONS
        user = f"user {self.user};" if self.user else ""
        return f"""daemon off;
{user}
worker_processes {self.threads};
worker_rlimit_nofile {room + 256};
pid nginx.pid;
error_log stderr warn;
events {{ use epoll; accept_mutex off; worker_connections {room}; }}
http {{
  access_log off;
  server_tokens off;
  etag off;
  if_modified_since off;
  max_ranges 0;
  types {{ }}
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  keepalive_timeout 7d;
  tcp_nodelay on;
  sendfile on;
  tcp_nopush on;
  client_max_body_size 0;
  client_body_buffer_size 1m;
  client_header_timeout 7d;
  client_body_timeout 7d;
  send_timeout 7d;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
  listen {self.listen} backlog=4096;
  {self._location()}
  }}
}}
"""

    def _location(self) -> str:
        if not self.is_file:
            return f'location / {{ return 200 "{"x" * self.reply_bytes}"; }}'
        return (
            f"location / {{ root {self.directory}; rewrite ^ /{self.FILE} break; error_page 405 =200 /{self.FILE}; }}\n"
            "  open_file_cache max=8 inactive=7d; open_file_cache_valid 7d; open_file_cache_min_uses 1;"
        )
