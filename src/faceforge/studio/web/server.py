"""The studio as a web app: a small server without storage.

Photos arrive as request bodies and stay in memory until the answer: no upload touches a disk or a log. One thread, or
one process for each of several workers, takes the requests in turn: all limits are here and hold for all workers
together. The page loads nothing from other hosts, and other pages cannot use it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from faceforge.errors import BadInput
from faceforge.io import portable
from faceforge.io.workers import cores
from faceforge.studio.web.access import LOOPBACK, Access, AccessMiddleware, TokenMiddleware, access, drain, said
from faceforge.studio.web.workers import Crew, Ended, Job, Reply, Stopped, Workers

PAGE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Limits:
    """Limits of one request and of all requests together."""

    photos: int = 40  # per request
    upload_bytes: int = 48_000_000  # per request
    held_bytes: int = 256_000_000  # of all uploads in memory
    waiting: int = 64  # requests in the queue
    upload_seconds: float = 60.0
    work_seconds: float = 60.0


class Refused(Exception):
    """A rejected request: its status and a sentence."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status


class WorkQueue:
    """Admits requests within limits and has them done, as many at a time as there are workers."""

    def __init__(self, crew: Crew, limits: Limits) -> None:
        self.crew, self.limits = crew, limits
        self.threads = ThreadPoolExecutor(crew.count, "studio")
        self.waiting = self.held = 0

    async def work(self, request: Request, name: str, words: dict[str, str]) -> Reply:
        """The reply of a function to a request and its photos. Raises Refused, Stopped or Ended."""
        try:
            size = self._admitted(request)
        except Refused:
            await drain(request)
            raise
        self.waiting, self.held = self.waiting + 1, self.held + size
        try:
            uploads = await self._uploads(request, size)
            return await self._worked(request, Job(name, words, uploads))
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

    async def _worked(self, request: Request, job: Job) -> Reply:
        gone = threading.Event()
        leaving = asyncio.ensure_future(_until_gone(request))
        leaving.add_done_callback(lambda _: gone.set())
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, self._watched, job, gone)
        finally:
            leaving.cancel()

    def _watched(self, job: Job, gone: threading.Event) -> Reply:
        end = time.monotonic() + self.limits.work_seconds

        def watch() -> None:
            if gone.is_set():
                raise Stopped("The client has disconnected.")
            if time.monotonic() > end:
                raise Stopped(f"That took longer than {self.limits.work_seconds:.0f} seconds; ask for less at once.")

        watch()
        return self.crew.do(job, watch)


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# ------------------------------------------------------------------------------------------------------------- the app


def make_app(crew: Crew, limits: Limits | None = None, access: Access | None = None) -> Starlette:
    """The app of some workers."""
    access, desk = access or Access(), WorkQueue(crew, limits or Limits())
    routes = [
        Mount("/api", routes=_routes(crew, desk, access)),
        Route("/", _page(access.root), methods=["GET"]),
        Mount("/", StaticFiles(directory=PAGE)),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(AccessMiddleware, access)])
    app.router.redirect_slashes = False  # it would name the address that the proxy sees
    return app


def _page(root: str) -> HTMLResponse:
    """The page; below a path its links are absolute, since it is also asked for without a final slash."""
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    return HTMLResponse(text.replace('"./', f'"{root}/') if root else text)


def _routes(crew: Crew, desk: WorkQueue, access: Access) -> list[Route]:
    limits = {"photos": desk.limits.photos, "bytes": desk.limits.upload_bytes, **crew.offer.limits}
    offered = {"models": crew.offer.models, "limits": limits}

    async def offers(request: Request) -> Response:
        return JSONResponse(offered)

    async def remembered(request: Request) -> Response:
        response = said("The token is right.", 200)
        if access.token is not None:
            access.remember(response)
        return response

    async def asked(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in crew.offer.functions:
            return said(f"Unknown function {name[:40]!r}.", 404)
        return await _answered(desk, request, name)

    guard = [Middleware(TokenMiddleware, access)]
    return [
        Route("/studio", offers, middleware=guard),
        Route("/token", remembered, methods=["POST"], middleware=guard),
        Route("/{name}", asked, methods=["POST"], middleware=guard),
    ]


async def _answered(desk: WorkQueue, request: Request, name: str) -> Response:
    try:
        status, body = await desk.work(request, name, dict(request.query_params))
    except Refused as refused:
        return said(str(refused), refused.status)
    except Stopped as error:
        return said(str(error), 504)
    except Ended as error:
        return said(str(error), 500)
    except ClientDisconnect:
        return said("The client has disconnected.", 408)
    except Exception:  # the server must survive any error; a traceback contains no upload
        traceback.print_exc()
        return said("An internal error occurred, not caused by your photo; see the terminal for details.", 500)
    return Response(body, status, media_type="application/json")


# ------------------------------------------------------------------------------------------------------------- serving


@dataclass(frozen=True)
class Settings:
    """The options of `faceforge app`."""

    host: str = "127.0.0.1"
    port: int = 7860
    trusted: Sequence[str] = ()
    public_url: str | None = None
    root_path: str | None = None
    token: str | None = None
    workers: int = 1


def serve(runs: Sequence[Path], settings: Settings) -> None:
    """Serve the app until interrupted. Raises BadInput if an option, a run or the address cannot be used."""
    allowed = access(settings.host, settings.public_url, settings.root_path, settings.token)
    if not 1 <= settings.workers <= cores():
        raise BadInput(f"--workers {settings.workers}: must be from 1 to {cores()}, the cores of this machine")
    portable.write_no_core_files()
    with _ending_in_order(), _listening(settings.host, settings.port) as place, closing(_crew(runs, settings)) as crew:
        _tell_what(runs, settings, crew)
        _tell_where(settings, allowed, place.getsockname()[1])
        uvicorn_settings = uvicorn.Config(
            make_app(crew, access=allowed),
            proxy_headers=False,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn_settings).run(sockets=[place])


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, so that workers and temporary files go with it; exit code 143."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _crew(runs: Sequence[Path], settings: Settings) -> Crew:
    if settings.workers > 1:
        return Workers(runs, settings.trusted, settings.workers)
    from faceforge.studio.web.work import Alone, open_models  # torch; workers import it themselves

    return Alone(open_models(runs, settings.trusted))


def _tell_what(runs: Sequence[Path], settings: Settings, crew: Crew) -> None:
    if not runs:
        _tell("no run was given: using small models of drawn faces; `faceforge app RUN` uses your own")
    if crew.count > 1:
        memory = f", each with about {crew.offer.mebibytes} MiB of its own" if crew.offer.mebibytes else ""
        _tell(f"{crew.count} workers{memory}")


def _tell_where(settings: Settings, allowed: Access, port: int) -> None:
    host, address = settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host or "0.0.0.0"
    if host not in LOOPBACK:
        who = "anyone there" if allowed.token is None else "whoever has the token"
        _tell(
            f"{host or 'every address'} is reachable from other machines: {who} may use these models and this machine, "
            "and photos are sent unencrypted; "
            + ("--token asks for a token, and " if allowed.token is None else "")
            + "127.0.0.1 restricts it to this machine"
        )
    seen = f", seen as {settings.public_url}" if settings.public_url else ""
    _tell(f"listening on http://{address}:{port}{allowed.root}{seen} (Ctrl-C to stop)")


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
