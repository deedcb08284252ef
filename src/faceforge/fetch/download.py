"""A file from the network: whole and the right one, or one sentence that says why not."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from tqdm import tqdm

from faceforge.errors import BadInput
from faceforge.io.files import sync
from faceforge.io.images import what_is
from faceforge.io.portable import Held, locked

if TYPE_CHECKING:
    from requests import Response

CHUNK = 2**18
SNIFF = 4096  # bytes from which a web page is told from a file, and its title read
STARTS = {".zip": b"PK", ".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b", ".parquet": b"PAR1", ".jpg": b"\xff\xd8\xff"}
STATUS = {
    202: "wants to see a browser first (202)",
    401: "asks for an account (401)",
    403: "forbids the download (403): a quota, a block of this network, or terms to be accepted on its page",
    404: "does not have the file (404)",
    410: "does not have the file any more (410)",
    429: "has had too many requests (429); try again later",
}


class DownloadError(BadInput):
    """One sentence: what could not be fetched and why. Uncaught it is a line and exit code 2."""


class _Cut(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class Limits:
    """How long a server is borne with."""

    connect_s: float = 15.0
    silence_s: float = 30.0  # without a single byte
    slow_s: float = 30.0  # over so long ...
    slow_bytes_s: float = 2000.0  # ... at least this many bytes a second
    redirects: int = 10
    cuts: int = 5  # connections cut after progress, each followed by going on
    wait_s: float = 1.0  # before going on


LIMITS = Limits()


def fetch(
    url: str,
    target: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    md5: str | None = None,
    what: str | None = None,
    progress: bool = True,
    limits: Limits = LIMITS,
) -> Path:
    """Fetch ``url`` into the file ``target``; what is known of it (bytes, hashes) is checked before it appears.

    The bytes gather in ``.NAME.part`` beside the target. A later call goes on where an earlier one ended, as long
    as the server vouches (ETag or date) that the file is still the same; else it begins anew. A target that is
    already there is checked and returned, never overwritten. ``what`` names the file in messages. Raises
    DownloadError, one sentence; nothing wrong is kept under the target's name.
    """
    target, known = Path(target), Known(size, sha256, md5)
    what = what or target.name
    try:
        if target.exists():
            return _adopted(target, known)
        with _partial(target, url) as part:
            _receive(part, known, what if progress else "", limits)
            sync(part.path)
            part.path.replace(target)
            sync(target.parent)
    except DownloadError as error:
        raise DownloadError(f"{what}: {error}") from error
    except OSError as error:
        raise DownloadError(f"{what}: cannot be written to {target.parent} ({error.strerror or error})") from error
    return target


def read_json(url: str, what: str, limits: Limits = LIMITS, max_bytes: int = 2**24) -> Any:
    """The JSON at ``url``. Raises DownloadError."""
    text = b""
    try:
        with _open(url, {}, limits) as response:
            if response.status_code != 200:
                raise DownloadError(_refusal(response))
            for chunk in _chunks(response, limits):
                text += chunk
                if len(text) > max_bytes:
                    break
        return json.loads(text)
    except DownloadError as error:
        raise DownloadError(f"{what}: {error}") from error
    except (_Cut, ValueError, RecursionError) as error:
        raise DownloadError(f"{what}: {_host(url)} gives no answer that can be read") from error


@dataclass(frozen=True)
class Known:
    """What is known of a file beforehand; None where it is not."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def complaint(self, path: Path) -> str | None:
        """What of the file differs from what is known, in a few words; None where nothing does."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes where {self.size:,} are known"
        for name, right in (("sha256", self.sha256), ("md5", self.md5)):
            if right is not None and (found := file_hash(path, name)) != right.lower():
                return f"has {name} {found[:12]}... where {right[:12].lower()}... is known"
        return None


def file_hash(path: Path, name: str = "sha256") -> str:
    """A file's hash in hex; ``name`` as hashlib knows it."""
    total = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def _adopted(target: Path, known: Known) -> Path:
    complaint = known.complaint(target) if target.is_file() else "is no file"
    if complaint:
        raise DownloadError(f"{target} is there already but {complaint}; move it away to fetch it anew")
    return target


# ------------------------------------------------------------------------------------------- the partial file


class _Part:
    """The bytes so far, and beside them a note of whence they came and which state of the file they are of."""

    def __init__(self, path: Path, note: Path, url: str) -> None:
        self.path, self.note, self.url = path, note, url
        self.validator, self.total = "", None
        text = note.read_text(encoding="utf-8", errors="replace")
        values = json.loads(text) if text else {}
        if values.get("url") == url:
            self.validator, self.total = values["validator"], values["total"]
        else:
            self.clear()

    def size(self) -> int:
        return self.path.stat().st_size

    def clear(self) -> None:
        self.path.open("wb").close()

    def begin(self, validator: str, total: int | None) -> None:
        """Empty it for a file in this state."""
        self.clear()
        self.validator, self.total = validator, total
        self.note.write_text(json.dumps({"url": self.url, "validator": validator, "total": total}), encoding="utf-8")

    def head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(SNIFF)


@contextmanager
def _partial(target: Path, url: str) -> Iterator[_Part]:
    """The partial file for a target, held by a lock on its note; the note goes when the target is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path, note = (target.with_name(f".{target.name}.{end}") for end in ("part", "part.json"))
    if path.exists() and not note.exists():
        raise DownloadError(f"{path} is in the way and not of this program's making; move it away")
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(note))
        except Held as held:
            raise DownloadError(f"another process is fetching {target}{held.hint}") from held
        try:
            part = _Part(path, note, url)
        except (ValueError, KeyError, AttributeError) as error:
            raise DownloadError(f"{note} is in the way and not of this program's making; move it away") from error
        path.touch()
        try:
            yield part
        finally:
            if not path.exists() or not part.size():  # moved to its target, or nothing came
                path.unlink(missing_ok=True)
                note.unlink()


# ------------------------------------------------------------------------------------------------ the transfer


def _receive(part: _Part, known: Known, title: str, limits: Limits) -> None:
    """Fill the partial file, going on after cuts as long as each connection brought something."""
    furthest = -1
    for attempt in range(limits.cuts + 2):
        resumed = part.size() > 0
        try:
            _transfer(part, known, title, limits)
        except _Cut as cut:
            if part.size() <= furthest or attempt > limits.cuts:
                raise DownloadError(_unfinished(part, str(cut))) from cut
            furthest = part.size()
            time.sleep(limits.wait_s)
            continue
        complaint = known.complaint(part.path)
        if complaint is None:
            return
        part.clear()
        if not resumed:  # else the two halves may be of different files
            raise DownloadError(f"the file from {_host(part.url)} {complaint}: changed there, or damaged")
    raise DownloadError(_unfinished(part, "it changes while it is fetched"))


def _unfinished(part: _Part, reason: str) -> str:
    of = f" of {part.total:,}" if part.total else ""
    then = "; the same command goes on from there" if part.validator else ""
    return f"{reason}, after {part.size():,}{of} bytes{then}"


def _transfer(part: _Part, known: Known, title: str, limits: Limits) -> None:
    """One connection: what is missing is appended to the partial file. Raises _Cut where it ends too early."""
    can_resume = part.validator or known.sha256 or known.md5
    have = part.size() if can_resume else 0
    if have and have == part.total:
        _sniff(part)
        return
    asked = {"Range": f"bytes={have}-"} if have else {}
    if have and part.validator:
        asked["If-Range"] = part.validator
    with _open(part.url, asked, limits) as response:
        total = _begin(response, part, have, known)
        _check_space(part, total)
        silent = None if title else True
        with (
            part.path.open("ab") as file,
            tqdm(None, title, total, initial=part.size(), unit="B", unit_scale=True, disable=silent) as bar,
        ):
            sniffed = part.size() >= SNIFF
            for chunk in _chunks(response, limits):
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
                sniffed = sniffed or (file.tell() >= SNIFF and _sniff(part))
    _sniff(part)


def _begin(response: Response, part: _Part, have: int, known: Known) -> int | None:
    """Set the partial file for what the server is about to send; gives the whole file's size where it is told."""
    status, headers = response.status_code, response.headers
    told, validator = headers.get("Content-Length", ""), _validator(response)
    if status == 206 and _goes_on(headers.get("Content-Range", ""), validator, part, have):
        return part.total
    if status == 416 or (status == 206 and have):  # beyond its end, or another state of it: begin anew
        part.begin("", None)
        raise _Cut("the file changed on the server")
    if status != 200:
        raise DownloadError(_refusal(response))
    total = int(told) if told.isdigit() else known.size
    if known.size is not None and total is not None and total != known.size:
        page = "; a web page?" if "html" in headers.get("Content-Type", "") else ""
        raise DownloadError(f"{_host(part.url)} offers {total:,} bytes where {known.size:,} are known{page}")
    if have and part.validator and validator != part.validator:
        tqdm.write("the file changed on the server since the download began; it is fetched anew", file=sys.stderr)
    part.begin(validator, total)
    return total


def _goes_on(content_range: str, validator: str, part: _Part, have: int) -> bool:
    """Whether a partial answer goes on exactly where the partial file ends, in the same state of the file."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if not have or span is None or int(span[1]) != have:
        return False
    same_size = part.total is None or span[2] in ("*", str(part.total))
    return same_size and (not part.validator or validator in ("", part.validator))


def _validator(response: Response) -> str:
    """What names this state of the file strongly enough for If-Range (RFC 9110, 13.1.5); "" where nothing does."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag


def _check_space(part: _Part, total: int | None) -> None:
    needed, free = (total or 0) - part.size(), shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise DownloadError(f"{needed:,} bytes are needed in {part.path.parent}, {free:,} are free")


def _sniff(part: _Part) -> bool:
    """Raise DownloadError (and forget the bytes) where the content is not what the file's ending promises."""
    head = part.head()
    name = part.path.name.removesuffix(".part")
    ending = Path(name).suffix.lower()
    found = what_is(head)
    wrong = not head.startswith(STARTS[ending]) if ending in STARTS else found == "HTML page"
    if not wrong and head:
        return True
    part.clear()
    if found == "HTML page":
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title", head, re.IGNORECASE | re.DOTALL)
        words = " ".join(title[1].decode("utf-8", "replace").split())[:80] if title else "a quota or a log-in?"
        raise DownloadError(f"{_host(part.url)} sent a web page ({words}) in place of the file")
    raise DownloadError(f"{_host(part.url)} sent no {ending} file but: {found}")


def _open(url: str, headers: dict[str, str], limits: Limits) -> Response:
    """The answer after redirects, its body unread. Raises DownloadError where there is none."""
    import requests

    session, start = requests.Session(), url
    headers = {"User-Agent": "faceforge", "Accept-Encoding": "identity", **headers}
    for _ in range(limits.redirects + 1):
        try:
            response = session.get(
                url,
                headers=headers,
                stream=True,
                allow_redirects=False,
                timeout=(limits.connect_s, limits.silence_s),
            )
        except requests.RequestException as error:
            raise DownloadError(_no_answer(error, url, limits)) from error
        if not response.is_redirect:
            return response
        response.close()
        before, url = url, urljoin(url, response.headers["Location"])
        if before.startswith("https:") and not url.startswith("https:"):
            raise DownloadError(f"{_host(before)} sends on to an address that is not https")
    raise DownloadError(f"{_host(start)} sends in circles ({limits.redirects} redirects and no file)")


def _chunks(response: Response, limits: Limits) -> Iterator[bytes]:
    """The body as it arrives. Raises _Cut where it ends too early, DownloadError where it only drips."""
    from urllib3.exceptions import HTTPError

    since, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.raw.read1(CHUNK, decode_content=False)
        except HTTPError as error:
            silent = "timed out" in str(error).lower()
            host = _host(response.url)
            raise _Cut(f"{host} fell silent" if silent else f"{host} cut the connection") from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= limits.slow_s:
            if received < limits.slow_bytes_s * seconds:
                speed = f"{received / seconds:,.0f} bytes a second"
                raise DownloadError(f"{_host(response.url)} only drips ({speed}); what came is kept")
            since, received = time.monotonic(), 0


# ------------------------------------------------------------------------------------------------- the reasons


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _refusal(response: Response) -> str:
    status = response.status_code
    trouble = f"has a fault ({status}); try again later" if status >= 500 else f"answers with status {status}"
    return f"{_host(response.url)} {STATUS.get(status, trouble)}"


def _no_answer(error: Exception, url: str, limits: Limits) -> str:
    """Why there was no answer at all."""
    from requests import exceptions as of

    host, text = _host(url), str(error)
    if isinstance(error, (of.InvalidURL, of.MissingSchema, of.InvalidSchema)):
        return f"{url} is no web address"
    if isinstance(error, of.SSLError):
        return f"{host} cannot prove that it is {host} (its certificate is not trusted here)"
    if isinstance(error, of.ProxyError):
        return f"the proxy of this network does not let {host} through"
    if isinstance(error, of.ConnectTimeout):
        return f"{host} does not answer within {limits.connect_s:g} s"
    if isinstance(error, of.ReadTimeout):
        return f"{host} takes the question and says nothing for {limits.silence_s:g} s"
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return f"no host is named {host} (it is gone, or there is no network)"
    if "refused" in text:
        return f"{host} refuses the connection"
    return f"no connection to {host} ({type(error).__name__})"
