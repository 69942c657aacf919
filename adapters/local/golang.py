"""What Traefik and Caddy have in common, because Go's runtime, crypto/tls and net/http are below both."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.local import procfs
from meshgauge.plan import Profile

TLS12_CIPHER = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"  # parity.TLS12_CIPHER in Go's words

# net/http's Transport does that by itself and has no switch for it; a POST is never repeated.
RETRIES = "none configured; Go repeats a GET when a kept-alive upstream connection closes without a reply"

_PROCESSORS = "GOMAXPROCS"


def describe_threads(profile: Profile) -> str:
    """Return the ``threads`` feature."""
    return f"{_PROCESSORS} {profile.proxy_threads}, garbage collector included"


def limit_threads(profile: Profile) -> dict[str, str]:
    """Return the variables that make Go run on so many threads at a time."""
    return {_PROCESSORS: str(profile.proxy_threads)}


def processors(process_ids: Sequence[int]) -> int:
    """Return how many threads at a time the living processes were allowed; 0 where nothing was set."""
    return sum(int(procfs.environment(pid).get(_PROCESSORS, "0")) for pid in process_ids)
