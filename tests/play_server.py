"""A server on this machine that plays the hosts of data sets: the good, the slow and the lying."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Play = Callable[[BaseHTTPRequestHandler], None]


class Stage:
    """What is played under each path, and which requests have come (path and headers)."""

    def __init__(self) -> None:
        self.plays: dict[str, Play] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def ranges(self) -> list[str]:
        return [headers.get("Range", "") for _, headers in self.asked]


@contextmanager
def serving() -> Iterator[Stage]:
    stage = Stage()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            stage.asked.append((self.path, dict(self.headers)))
            play = stage.plays.get(self.path) or stage.plays.get(self.path.partition("?")[0]) or status(404)
            with suppress(OSError):
                play(self)
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    stage.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stage
    finally:
        server.shutdown()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, code: int, body: bytes, **headers: str | None) -> None:
    handler.send_response(code)
    for name, value in ({"Content_Length": str(len(body))} | headers).items():
        if value is not None:
            handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(body)


def good(body: bytes, etag: str | None = None, cut: list[int] | None = None, **headers: str | None) -> Play:
    """A whole server: ETag, Range, If-Range. ``cut`` holds after how many bytes each answer breaks off."""
    tag = f'"{hashlib.md5(body).hexdigest()}"' if etag is None else etag
    own = {"ETag": tag} if tag else {}

    def play(handler: BaseHTTPRequestHandler) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        first = int(asked[1]) if asked and handler.headers.get("If-Range", tag) == tag else 0
        rest = body[first:]
        end = min(cut.pop(0), len(rest)) if cut else len(rest)
        span = f"bytes {first}-{len(body) - 1}/{len(body)}"
        extra = own | ({"Content_Range": span} if first else {}) | headers
        answer(handler, 206 if first else 200, rest[:end], **({"Content_Length": str(len(rest))} | extra))

    return play


def status(code: int, body: bytes = b"no") -> Play:
    return lambda handler: answer(handler, code, body)


def page(title: str) -> Play:
    """What Drive sends where a quota is used up: a web page with status 200."""
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{'sorry ' * 900}</body></html>".encode()
    return lambda handler: answer(handler, 200, text, Content_Type="text/html; charset=utf-8")


def redirect(to: str) -> Play:
    return lambda handler: answer(handler, 302, b"", Location=to)


def drip(body: bytes, pause: float) -> Play:
    """A byte at a time."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for n in range(len(body)):
            handler.wfile.write(body[n : n + 1])
            handler.wfile.flush()
            time.sleep(pause)

    return play


def chunked(body: bytes) -> Play:
    """Without a Content-Length, in chunks."""

    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in (body[:1000], body[1000:]):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\n\r\n")

    return play
