"""The studio as a web app: a small server without storage.

Photos arrive as request bodies and stay in memory until the answer: no upload touches a disk or a log. One worker
thread processes the requests in turn, so memory stays bounded; the queue is bounded too. The page loads nothing from
other hosts, and other pages cannot use it.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceforge.errors import BadInput
from faceforge.schemes.latent_space import Density
from faceforge.studio import photo as photos
from faceforge.studio.average import ways_of
from faceforge.studio.model import WATCH, Model, open_model
from faceforge.studio.translate import takes_lines
from faceforge.studio.web.handlers import ANSWERS, MOST_FACES, MOST_SECONDS, Answer, Ask, answer
from faceforge.types import Json

PAGE = Path(__file__).parent / "page"
DRAWN = Path(__file__).parents[1] / "drawn.safetensors"  # the default model
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORTS = {"http": 80, "https": 443}
EVERYWHERE = ("0.0.0.0", "::", "")
DRAIN_SECONDS = 5.0
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Limits:
    """Limits of one request and of all requests together."""

    photos: int = 40  # per request
    upload_bytes: int = 48_000_000  # per request
    held_bytes: int = 256_000_000  # of all uploads in memory
    waiting: int = 64  # requests in the queue
    upload_seconds: float = 60.0
    work_seconds: float = 60.0


class Stopped(Exception):
    """The work took too long, or the client has disconnected."""


class Refused(Exception):
    """A rejected request: its status and a sentence."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status


class WorkQueue:
    """Admits requests within limits and processes them one at a time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.worker = ThreadPoolExecutor(1, "studio")
        self.waiting = self.held = 0

    async def work(self, request: Request, job: Callable[[list[bytes]], Answer]) -> Answer:
        """The answer of ``job`` for the photos of a request. Raises Refused, Stopped or what the job raises."""
        try:
            size = self._admitted(request)
        except Refused:
            await _drain(request)
            raise
        self.waiting, self.held = self.waiting + 1, self.held + size
        try:
            uploads = await self._uploads(request, size)
            return await self._worked(request, lambda: job(uploads))
        finally:
            self.waiting, self.held = self.waiting - 1, self.held - size

    def _admitted(self, request: Request) -> int:
        """The length of the request body. Raises Refused if there is no room for it."""
        length = request.headers.get("content-length", "" if "transfer-encoding" in request.headers else "0")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "The request must have a Content-Length.")
        most = self.limits.upload_bytes
        if len(length) > 15 or int(length) > most:
            raise Refused(413, f"The upload is too large: it must be at most {most / 1e6:.0f} MB.")
        if self.waiting >= self.limits.waiting or self.held + int(length) > self.limits.held_bytes:
            raise Refused(503, "The server is busy; try again in a few seconds.")
        return int(length)

    async def _uploads(self, request: Request, size: int) -> list[bytes]:
        """The photos in the body; the parameter ``sizes`` gives their lengths."""
        body = bytearray()
        with anyio.move_on_after(self.limits.upload_seconds) as scope:
            async for chunk in request.stream():
                body += chunk
        if scope.cancelled_caught:
            raise Refused(408, "The upload took too long.")
        words = [word for word in request.query_params.get("sizes", str(size) if size else "").split(",") if word]
        if len(words) > self.limits.photos:
            raise Refused(413, f"{len(words)} photos are too many at once: there must be at most {self.limits.photos}.")
        if not all(word.isascii() and word.isdigit() and len(word) < 15 for word in words):
            raise Refused(400, "The lengths of the photos must be integers.")
        lengths = [int(word) for word in words]
        if sum(lengths) != len(body):
            raise Refused(400, "The photos do not have the lengths given in sizes.")
        ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
        return [bytes(body[end - length : end]) for end, length in zip(ends, lengths, strict=True)]

    async def _worked(self, request: Request, job: Callable[[], Answer]) -> Answer:
        gone = threading.Event()
        leaving = asyncio.ensure_future(_until_gone(request))
        leaving.add_done_callback(lambda _: gone.set())
        try:
            return await asyncio.get_running_loop().run_in_executor(self.worker, self._watched, job, gone)
        finally:
            leaving.cancel()

    def _watched(self, job: Callable[[], Answer], gone: threading.Event) -> Answer:
        end = time.monotonic() + self.limits.work_seconds

        def watch() -> None:
            if gone.is_set():
                raise Stopped("The client has disconnected.")
            if time.monotonic() > end:
                raise Stopped(f"That took longer than {self.limits.work_seconds:.0f} seconds; ask for less at once.")

        token = WATCH.set(watch)
        try:
            watch()
            return job()
        finally:
            WATCH.reset(token)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _drain(request: Request) -> None:
    """Read the rest of the request for a limited time, so that the client receives the answer."""
    with anyio.move_on_after(DRAIN_SECONDS):
        while (await request.receive()).get("more_body"):
            pass


class SameOriginMiddleware:
    """Rejects requests from other origins and adds the security headers.

    ``hosts`` are the allowed host names, against DNS rebinding; empty allows any. ``public`` is the origin of the page
    behind a proxy. What a proxy adds (X-Forwarded-...) is never trusted, since anyone can send it.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], public: str | None = None) -> None:
        self.app, self.hosts, self.public = app, hosts, public
        self.public_host = urlsplit(public).hostname if public else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        names = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin = names.get(b"origin")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        if self.hosts and _hostname(names.get(b"host", "")) not in self.hosts:
            await _said("This host name is not allowed.", 400)(scope, receive, sent)
        elif origin is not None and not self._is_own(origin, names.get(b"host", "")):
            await _said("Requests from other pages are not allowed.", 403)(scope, receive, sent)
        else:
            await self.app(scope, receive, sent)

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether the page of this server sent a request: by the public address, or by the address that was asked."""
        if self.public and (origin == self.public or _hostname(host) == self.public_host):
            return origin == self.public
        return origin.partition("://")[2] == host


def public_origin(url: str) -> str:
    """The origin of an address as browsers send it. Raises BadInput."""
    wrong = BadInput(f"--public-url {url}: must be https://HOST or http://HOST, optionally with a port and a path")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.scheme not in PORTS or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port not in (None, PORTS[parts.scheme]) else "")


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def make_app(
    models: Sequence[Model], limits: Limits | None = None, host: str = "127.0.0.1", public_url: str | None = None
) -> Starlette:
    """The app for some models; ``public_url`` is its address behind a proxy. Raises BadInput."""
    desk = WorkQueue(limits or Limits())
    offered = _offers(models, desk.limits)

    async def offers(request: Request) -> Response:
        return JSONResponse(offered)

    async def asked(request: Request) -> Response:
        words, name = dict(request.query_params), request.path_params["name"]
        try:
            if name not in ANSWERS:
                raise Refused(404, f"Unknown function {name[:40]!r}.")
            model = _chosen(models, words.pop("run", ""))
            made = await desk.work(request, lambda uploads: answer(name, model, Ask(words, uploads)))
        except Refused as refused:
            return _said(str(refused), refused.status)
        except BadInput as error:
            return _said(str(error), 422)
        except Stopped as error:
            return _said(str(error), 504)
        except ClientDisconnect:
            return _said("The client has disconnected.", 408)
        except Exception:  # the server must survive any error; a traceback contains no upload
            traceback.print_exc()
            return _said("An internal error occurred, not caused by your photo; see the terminal for details.", 500)
        return JSONResponse(made.told())

    routes = [
        Route("/api/studio", offers),
        Route("/api/{name}", asked, methods=["POST"]),
        Mount("/", StaticFiles(directory=PAGE, html=True)),
    ]
    hosts = [] if host in EVERYWHERE else [*LOOPBACK, host.lower()]
    public = public_origin(public_url) if public_url else None
    if public and hosts:
        hosts.append(urlsplit(public).hostname or "")
    return Starlette(routes=routes, middleware=[Middleware(SameOriginMiddleware, hosts, public)])


def _said(sentence: str, status: int) -> Response:
    return JSONResponse({"says": sentence}, status)


def _chosen(models: Sequence[Model], word: str) -> Model | None:
    """The model with a number; None for an empty word."""
    if not word:
        return None
    if not (word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(models)):
        raise BadInput(f"run {word[:40]!r}: must be from 0 to {len(models) - 1}")
    return models[int(word)]


def _offers(models: Sequence[Model], limits: Limits) -> Json:
    """The data for the page: the models with their abilities, and the limits."""
    return {
        "models": [_offer(model) for model in models],
        "limits": {
            "photos": limits.photos,
            "bytes": limits.upload_bytes,
            "faces": MOST_FACES,
            "seconds": MOST_SECONDS,
        },
    }


def _offer(model: Model) -> Json:
    task = model.task
    return {
        "name": model.name,
        "task": task.name,
        "label": task.label or task.name.replace("_", " "),
        "words": task.words and [word or task.name for word in task.words],
        "can": model.abilities,
        "height": model.size[0],
        "width": model.size[1],
        "drawn": model.path == DRAWN,
        "lines": takes_lines(model),
        "attributes": list(model.space.names) if model.has_codes else [],
        "densities": sorted(get_args(Density)) if model.has_codes else [],
        "ways": ways_of(model),
    }


# ------------------------------------------------------------------------------------------------------------- serving


def serve(
    runs: Sequence[Path], host: str, port: int, trusted: Sequence[str] = (), public_url: str | None = None
) -> None:
    """Serve the app until interrupted. Raises BadInput if a run or the address cannot be used."""
    if public_url:
        public_origin(public_url)  # refused before models are loaded
    models = [open_model(run, None, trusted) for run in runs or [DRAWN]]
    for model in models:
        if not model.abilities:
            raise BadInput(f"{model.path}: this run supports none of the app's features")
        _warm(model)
    if not runs:
        _tell("no run was given: using a small model of drawn faces; `faceforge app RUN` uses your own model")
    with _listening(host, port) as place:
        address = f"[{host}]" if ":" in host else host or "0.0.0.0"
        if host not in LOOPBACK:
            _tell(
                f"{host or 'every address'} is reachable from other machines: anyone there may use these models and "
                "this machine, and photos are sent unencrypted; use 127.0.0.1 to restrict it to this machine"
            )
        seen = f", seen as {public_url}" if public_url else ""
        _tell(f"listening on http://{address}:{place.getsockname()[1]}{seen} (Ctrl-C to stop)")
        settings = uvicorn.Config(
            make_app(models, host=host, public_url=public_url),
            proxy_headers=False,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(settings).run(sockets=[place])


def _tell(line: str) -> None:
    print(line, flush=True)  # immediately, also through a pipe


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = socket.socket(family)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
        place.listen(128)
    except OSError as error:
        place.close()
        raise BadInput(f"--host {host} --port {port}: {error.strerror or error}; --port 0 picks a free port") from None
    return place


def _warm(model: Model) -> None:
    """Run the slow first call before the first request."""
    if "generate" in model.abilities:
        model.decode(model.codes(1))
    if {"edit", "translate", "upscale"} & set(model.abilities):
        photos.finder()
