"""Whether a server answers."""

from __future__ import annotations

import socket
import threading
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit


def reachable(url: str, seconds: float = 2.0) -> bool:
    """Whether the server (or the proxy on the way) accepts a connection; the timeout includes DNS lookup."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    address = (parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443))
    answered = threading.Event()

    def connect() -> None:
        with suppress(OSError), socket.create_connection(address, timeout=seconds):
            answered.set()

    # a DNS lookup has no timeout; a thread can be abandoned
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(seconds)
    return answered.is_set()
