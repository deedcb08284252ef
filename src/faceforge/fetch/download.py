"""Downloads that are complete and verified, or fail with one sentence that says why."""

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
from faceforge.io.kinds import what_is
from faceforge.io.portable import Held, locked

if TYPE_CHECKING:
    from requests import Response

CHUNK = 2**18
SNIFF_BYTES = 4096  # from which a web page is recognised and its title read
SIGNATURES = {".zip": b"PK", ".tgz": b"\x1f\x8b", ".gz": b"\x1f\x8b", ".parquet": b"PAR1", ".jpg": b"\xff\xd8\xff"}
STATUS_REASONS = {
    202: "asks for a browser (202)",
    401: "requires an account (401)",
    403: "denied access (403): a quota, a blocked network, or terms to accept on its web page",
    404: "does not have the file (404)",
    410: "no longer has the file (410)",
    429: "received too many requests (429); try again later",
}


class DownloadError(BadInput):
    """One sentence: what could not be downloaded and why. Uncaught: one line and exit code 2."""


class _Interrupted(Exception):
    """The connection ended before the file was complete."""


@dataclass(frozen=True)
class Limits:
    """Timeouts and retries."""

    connect_s: float = 15.0
    silence_s: float = 30.0  # without any data
    slow_s: float = 30.0  # interval over which the speed is measured
    slow_bytes_s: float = 2000.0  # minimum speed in bytes per second
    redirects: int = 10
    cuts: int = 5  # interruptions after progress, each followed by a retry
    wait_s: float = 1.0  # before a retry


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
    """Download ``url`` to the file ``target``, which appears only after size and hashes are checked.

    The data is collected in ``.NAME.part`` beside the target. A later call resumes it if the server confirms (ETag or
    date) that the file has not changed, and starts over otherwise. An existing target is checked and returned, never
    overwritten. ``what`` names the file in messages. Raises DownloadError, one sentence, and leaves no target.
    """
    target, expected = Path(target), Expected(size, sha256, md5)
    what = what or target.name
    try:
        if target.exists():
            return _checked_existing(target, expected)
        with _partial(target, url) as part:
            _receive(part, expected, what if progress else "", limits)
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
                raise DownloadError(_status_error(response))
            for chunk in _chunks(response, limits):
                text += chunk
                if len(text) > max_bytes:
                    break
        return json.loads(text)
    except DownloadError as error:
        raise DownloadError(f"{what}: {error}") from error
    except (_Interrupted, ValueError, RecursionError) as error:
        raise DownloadError(f"{what}: {_host(url)} sent an unreadable answer") from error


@dataclass(frozen=True)
class Expected:
    """The expected size in bytes and hashes of a file; None if unknown."""

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    def complaint(self, path: Path) -> str | None:
        """The first difference from what is expected, in a few words; None if there is none."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size:,} bytes, must be {self.size:,}"
        for name, expected_hash in (("sha256", self.sha256), ("md5", self.md5)):
            if expected_hash is not None and (actual := file_hash(path, name)) != expected_hash.lower():
                return f"has {name} {actual[:12]}..., must be {expected_hash[:12].lower()}..."
        return None


def file_hash(path: Path, name: str = "sha256") -> str:
    """The hash of a file in hex; ``name`` is an algorithm of hashlib."""
    total = hashlib.new(name, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            total.update(block)
    return total.hexdigest()


def _checked_existing(target: Path, expected: Expected) -> Path:
    complaint = expected.complaint(target) if target.is_file() else "is not a file"
    if complaint:
        raise DownloadError(f"{target} already exists but {complaint}; move it away to download it again")
    return target


# ------------------------------------------------------------------------------------------- the partial file


class _PartialFile:
    """The data so far, and a JSON note beside it with the URL, the validator and the size of the file."""

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
        """Truncate it for a new download of a file with this validator and size."""
        self.clear()
        self.validator, self.total = validator, total
        self.note.write_text(json.dumps({"url": self.url, "validator": validator, "total": total}), encoding="utf-8")

    def head(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(SNIFF_BYTES)


@contextmanager
def _partial(target: Path, url: str) -> Iterator[_PartialFile]:
    """The partial file of a target, guarded by a lock on its note; the note is removed on completion."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path, note = (target.with_name(f".{target.name}.{end}") for end in ("part", "part.json"))
    if path.exists() and not note.exists():
        raise DownloadError(f"{path} was not made by faceforge; move it away")
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(note))
        except Held as held:
            raise DownloadError(f"another process is downloading {target}{held.hint}") from held
        try:
            part = _PartialFile(path, note, url)
        except (ValueError, KeyError, AttributeError) as error:
            raise DownloadError(f"{note} was not made by faceforge; move it away") from error
        path.touch()
        try:
            yield part
        finally:
            if not path.exists() or not part.size():  # moved to its target, or nothing received
                path.unlink(missing_ok=True)
                note.unlink()


# ------------------------------------------------------------------------------------------------ the transfer


def _receive(part: _PartialFile, expected: Expected, title: str, limits: Limits) -> None:
    """Complete the partial file; retries after an interruption as long as each connection made progress."""
    furthest = -1
    for attempt in range(limits.cuts + 2):
        resumed = part.size() > 0
        try:
            _transfer(part, expected, title, limits)
        except _Interrupted as cut:
            if part.size() <= furthest or attempt > limits.cuts:
                raise DownloadError(_incomplete(part, str(cut))) from cut
            furthest = part.size()
            time.sleep(limits.wait_s)
            continue
        complaint = expected.complaint(part.path)
        if complaint is None:
            return
        part.clear()
        if not resumed:  # otherwise the two parts may come from different files
            raise DownloadError(f"the file from {_host(part.url)} {complaint}; it was changed or damaged")
    raise DownloadError(_incomplete(part, "the file keeps changing on the server"))


def _incomplete(part: _PartialFile, reason: str) -> str:
    of = f" of {part.total:,}" if part.total else ""
    then = "; run the same command again to resume" if part.validator else ""
    return f"{reason}, after {part.size():,}{of} bytes{then}"


def _transfer(part: _PartialFile, expected: Expected, title: str, limits: Limits) -> None:
    """One connection: append the missing data. Raises _Interrupted if it ends too early."""
    can_resume = part.validator or expected.sha256 or expected.md5
    offset = part.size() if can_resume else 0
    if offset and offset == part.total:
        _sniff(part)
        return
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and part.validator:
        headers["If-Range"] = part.validator
    with _open(part.url, headers, limits) as response:
        total = _begin(response, part, offset, expected)
        _check_space(part, total)
        silent = None if title else True
        with (
            part.path.open("ab") as file,
            tqdm(None, title, total, initial=part.size(), unit="B", unit_scale=True, disable=silent) as bar,
        ):
            sniffed = part.size() >= SNIFF_BYTES
            for chunk in _chunks(response, limits):
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
                sniffed = sniffed or (file.tell() >= SNIFF_BYTES and _sniff(part))
    _sniff(part)


def _begin(response: Response, part: _PartialFile, offset: int, expected: Expected) -> int | None:
    """Prepare the partial file for the response; returns the size of the complete file if known."""
    status, headers = response.status_code, response.headers
    length, validator = headers.get("Content-Length", ""), _validator(response)
    if status == 206 and _continues(headers.get("Content-Range", ""), validator, part, offset):
        return part.total
    if status == 416 or (status == 206 and offset):  # beyond its end, or the file has changed: start over
        part.begin("", None)
        raise _Interrupted("the file changed on the server")
    if status != 200:
        raise DownloadError(_status_error(response))
    total = int(length) if length.isdigit() else expected.size
    if expected.size is not None and total is not None and total != expected.size:
        page = " (a web page?)" if "html" in headers.get("Content-Type", "") else ""
        raise DownloadError(f"{_host(part.url)} offers {total:,} bytes{page}, must be {expected.size:,}")
    if offset and part.validator and validator != part.validator:
        tqdm.write("the file changed on the server since the download began; starting over", file=sys.stderr)
    part.begin(validator, total)
    return total


def _continues(content_range: str, validator: str, part: _PartialFile, offset: int) -> bool:
    """Whether a partial response continues the partial file at its end, and the file has not changed."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if not offset or span is None or int(span[1]) != offset:
        return False
    same_size = part.total is None or span[2] in ("*", str(part.total))
    return same_size and (not part.validator or validator in ("", part.validator))


def _validator(response: Response) -> str:
    """A strong validator of the file for If-Range (RFC 9110, 13.1.5), or ""."""
    tag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag


def _check_space(part: _PartialFile, total: int | None) -> None:
    needed, free = (total or 0) - part.size(), shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise DownloadError(f"{part.path.parent} needs {needed:,} free bytes, has {free:,}")


def _sniff(part: _PartialFile) -> bool:
    """Raise DownloadError and clear the file if its content does not match its suffix."""
    head = part.head()
    name = part.path.name.removesuffix(".part")
    ending = Path(name).suffix.lower()
    kind = what_is(head)
    wrong = not head.startswith(SIGNATURES[ending]) if ending in SIGNATURES else kind == "HTML page"
    if not wrong and head:
        return True
    part.clear()
    if kind == "HTML page":
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title", head, re.IGNORECASE | re.DOTALL)
        words = " ".join(title[1].decode("utf-8", "replace").split())[:80] if title else "a quota or a login?"
        raise DownloadError(f"{_host(part.url)} sent a web page instead of the file ({words})")
    raise DownloadError(f"{_host(part.url)} sent something other than a {ending} file: {kind}")


def _open(url: str, headers: dict[str, str], limits: Limits) -> Response:
    """The response after redirects, its body unread. Raises DownloadError if there is none."""
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
            raise DownloadError(_connection_error(error, url, limits)) from error
        if not response.is_redirect:
            return response
        response.close()
        before, url = url, urljoin(url, response.headers["Location"])
        if before.startswith("https:") and not url.startswith("https:"):
            raise DownloadError(f"{_host(before)} redirects to an address that is not https")
    raise DownloadError(f"{_host(start)} redirects in a loop ({limits.redirects} redirects without a file)")


def _chunks(response: Response, limits: Limits) -> Iterator[bytes]:
    """The body as it arrives. Raises _Interrupted if it ends too early, DownloadError if it is too slow."""
    from urllib3.exceptions import HTTPError

    since, received = time.monotonic(), 0
    while True:
        try:
            chunk = response.raw.read1(CHUNK, decode_content=False)
        except HTTPError as error:
            silent = "timed out" in str(error).lower()
            host = _host(response.url)
            raise _Interrupted(f"{host} stopped sending data" if silent else f"{host} closed the connection") from error
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= limits.slow_s:
            if received < limits.slow_bytes_s * seconds:
                speed = f"{received / seconds:,.0f} bytes per second"
                raise DownloadError(f"{_host(response.url)} is too slow ({speed}); the data so far is kept")
            since, received = time.monotonic(), 0


# ------------------------------------------------------------------------------------------------- the reasons


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _status_error(response: Response) -> str:
    status = response.status_code
    trouble = f"failed ({status}); try again later" if status >= 500 else f"answered with status {status}"
    return f"{_host(response.url)} {STATUS_REASONS.get(status, trouble)}"


def _connection_error(error: Exception, url: str, limits: Limits) -> str:
    """Why there was no response."""
    from requests import exceptions as of

    host, text = _host(url), str(error)
    if isinstance(error, (of.InvalidURL, of.MissingSchema, of.InvalidSchema)):
        return f"{url} is not a web address"
    if isinstance(error, of.SSLError):
        return f"{host} has a certificate that is not trusted on this machine"
    if isinstance(error, of.ProxyError):
        return f"the proxy of this network blocks {host}"
    if isinstance(error, of.ConnectTimeout):
        return f"{host} did not answer within {limits.connect_s:g} s"
    if isinstance(error, of.ReadTimeout):
        return f"{host} accepted the connection but sent no data for {limits.silence_s:g} s"
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return f"the host {host} was not found (it no longer exists, or there is no network)"
    if "refused" in text:
        return f"{host} refused the connection"
    return f"no connection to {host} ({type(error).__name__})"
