"""Who may ask the app, and under which address: its host names, its origin behind a proxy, its path, its token.

What a proxy adds (X-Forwarded-...) is never trusted, since anyone can send it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faceforge.errors import BadInput

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
PORTS = {"http": 80, "https": 443}
TOKEN = "FACEFORGE_TOKEN"
SHORTEST = 16  # characters of a token
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
class Access:
    """Who may ask. ``hosts`` are the allowed host names, against DNS rebinding; empty allows any."""

    hosts: Sequence[str] = LOOPBACK
    origin: str | None = None  # of the page behind a proxy
    root: str = ""  # the path below which the page is, such as /faces
    token: str | None = None

    def is_own(self, origin: str, host: str) -> bool:
        """Whether the page of this server sent a request: by the public address, or by the address that was asked."""
        if self.origin and (origin == self.origin or _hostname(host) == _hostname(self.origin.partition("://")[2])):
            return origin == self.origin
        return origin.partition("://")[2] == host

    def knows(self, request: Request) -> bool:
        """Whether a request has the token, as ``Authorization: Bearer`` or by the cookie."""
        if self.token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        by_header = scheme.lower() == "bearer" and _same(given.strip(), self.token)
        return by_header or _same(request.cookies.get(self._cookie_name, ""), self._cookie)

    def remember(self, response: Response) -> None:
        """Set the cookie that stands for the token: until the browser closes, for this path, unreadable by scripts."""
        safe = bool(self.origin and self.origin.startswith("https"))
        response.set_cookie(
            self._cookie_name, self._cookie, path=self.root or "/", secure=safe, httponly=True, samesite="strict"
        )

    @property
    def _cookie(self) -> str:  # never the token itself: a browser keeps it, and sends it to every port of the host
        return self._keyed("cookie")

    @property
    def _cookie_name(self) -> str:  # of this token alone: two apps on one host have different ones
        return f"faceforge-{self._keyed('name')[:16]}"

    def _keyed(self, use: str) -> str:
        return hmac.new((self.token or "").encode(), use.encode(), hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    """Whether two texts are the same, in a time that does not tell how much of them is."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, wanted))
    return hmac.compare_digest(*digests)


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


# ------------------------------------------------------------------------------------------------------------- options


def access(host: str, public_url: str | None = None, root_path: str | None = None, token: str | None = None) -> Access:
    """From the options of the command; ``token`` is a token or a file with one. Raises BadInput."""
    origin, root = public_address(public_url) if public_url else (None, "")
    if root_path is not None:
        named = _root(f"--root-path {root_path}", root_path)
        if root and named != root:
            raise BadInput(f"--root-path {root_path}: must be {root}, the path of --public-url, or left out")
        root = named
    hosts = [] if host in EVERYWHERE else [*LOOPBACK, host.lower()]
    if origin and hosts:
        hosts.append(_hostname(origin.partition("://")[2]) or "")
    return Access(hosts, origin, root, read_token(token))


def public_address(url: str) -> tuple[str, str]:
    """The origin of an address as browsers send it, and its path without a final slash. Raises BadInput."""
    wrong = BadInput(f"--public-url {url}: must be https://HOST or http://HOST, optionally with a port and a path")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise wrong from None
    if not host or parts.scheme not in PORTS or parts.query or parts.fragment or parts.username is not None:
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    shown += f":{port}" if port not in (None, PORTS[parts.scheme]) else ""
    return f"{parts.scheme}://{shown}", _root(f"--public-url {url}", parts.path)


def _root(what: str, path: str) -> str:
    """A path without its final slash. Raises BadInput."""
    if path in ("", "/"):
        return ""
    if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?", path):
        raise BadInput(f"{what}: the path must be such as /faces: letters, digits, - . _ ~ between slashes")
    if path.split("/")[1] == "api":
        raise BadInput(f"{what}: the path must not begin with /api, where the app answers")
    return path.rstrip("/")


def read_token(word: str | None) -> str | None:
    """The token of ``--token``, which is a text or a file, or of the environment; None without one. Raises BadInput.

    An error never shows a text that may be a token.
    """
    if word is None:
        word = os.environ.get(TOKEN)
        return None if word is None else _token(TOKEN, word)
    path, is_file = Path(word), False
    with suppress(OSError, ValueError):
        is_file = bool(word) and path.exists()
    if not is_file and not re.fullmatch(r"[A-Za-z0-9_-]*", word):
        raise BadInput("--token: there is no such file; a token itself must be of letters, digits, - and _")
    try:
        return (
            _token(f"--token {word}", path.read_text(encoding="utf-8").strip()) if is_file else _token("--token", word)
        )
    except UnicodeDecodeError:
        raise BadInput(f"--token {word}: the file must hold one line of text, the token") from None
    except OSError as error:
        raise BadInput(f"--token {word}: cannot be read ({error.strerror})") from None


def _token(what: str, word: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9._~+/-]{{{SHORTEST},}}=*", word):
        raise BadInput(
            f"{what}: a token must be one word of at least {SHORTEST} letters, digits and - . _ ~ + / "
            f"(found {len(word)} characters); `openssl rand -hex 24` makes one"
        )
    return word


# ---------------------------------------------------------------------------------------------------------- middleware


class AccessMiddleware:
    """Rejects requests from other origins and names, accepts paths with or without the root, adds security headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *ours]  # a new list: the page is one response for all
            await send(message)

        root, path = self.access.root, "/" + scope["path"].lstrip("/")  # `location /faces` and `proxy_pass http://app/`
        whole = path if path.startswith(f"{root}/") else root + path  # a proxy may have taken the root away
        answer = self._refused(scope) or self.app
        await answer({**scope, "path": whole, "root_path": root}, receive, sent)

    def _refused(self, scope: Scope) -> Response | None:
        names = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin, host = names.get(b"origin"), names.get(b"host", "")
        if self.access.hosts and _hostname(host) not in self.access.hosts:
            return said("This host name is not allowed.", 400)
        if origin is not None and not self.access.is_own(origin, host):
            return said("Requests from other pages are not allowed.", 403)
        if self.access.root and scope["path"] == self.access.root:
            return RedirectResponse(f"{self.access.root}/")
        return None


class TokenMiddleware:
    """Rejects requests without the token."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        request = Request(scope, receive)
        if self.access.knows(request):
            await self.app(scope, receive, send)
            return
        await drain(request)
        response = said("The token is missing or wrong; reload the page to enter it.", 401)
        response.headers["www-authenticate"] = "Bearer"
        await response(scope, receive, send)


def said(sentence: str, status: int) -> Response:
    """An answer of one sentence."""
    return JSONResponse({"says": sentence}, status)


async def drain(request: Request) -> None:
    """Read the rest of the request for a limited time, so that the client receives the answer."""
    with anyio.move_on_after(DRAIN_SECONDS):
        while (await request.receive()).get("more_body"):
            pass
