"""What a file is, by its first bytes, and how a picture that cannot be read can be used all the same."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

from PIL import features

HEAD = 4096  # bytes that decide
READABLE = frozenset({"JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "PNM"})
_SIGNATURES = (  # where, what is there, what it is
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF8", "GIF"),
    (8, b"WEBP", "WebP"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF-", "PDF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"FUJIFILMCCD-RAW", "RAF RAW"),
    (0, b"IIU\0", "RW2 RAW"),
    (0, b"IIRO", "ORF RAW"),
    (0, b"IIRS", "ORF RAW"),
    (0, b"MMOR", "ORF RAW"),
    (0, b"FOVb", "X3F RAW"),
    (0, b"\x1a\x45\xdf\xa3", "video"),
    (8, b"AVI ", "video"),
    (4, b"moov", "video"),
    (4, b"mdat", "video"),
    (4, b"wide", "video"),
)
_PATTERNS = (
    (re.compile(rb"(?s)BM.{4}\0{4}"), "BMP"),
    (re.compile(rb"P[1-6]\s+(#[^\n]*\s+)*\d+\s"), "PNM"),
    (re.compile(rb"(?si)\W*(<\?xml.*?|<!--.*?|<!doctype svg.*?)?<svg[\s>]"), "SVG"),
)
_HEIC, _AVIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}, {b"avif", b"avis"}
_RAW = ["arw", "cr2", "cr3", "dng", "nef", "nrw", "orf", "pef", "raf", "rw2", "srw", "x3f"]
_ENDINGS: Mapping[str, str] = {  # for files whose first bytes do not tell
    **{f".{ending}": f"{ending.upper()} RAW" for ending in _RAW},
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys((".jp2", ".j2k", ".jpf", ".jpx", ".j2c"), "JPEG 2000"),
    **dict.fromkeys((".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp"), "video"),
    **{".jxl": "JPEG XL", ".psd": "PSD", ".svg": "SVG", ".pdf": "PDF"},
}
_WAYS = {
    "HEIC": "pip install pillow-heif (the extra photos)",
    "AVIF": "pip install a Pillow with AVIF, or pillow-heif (the extra photos)",
    "video": "save frames as pictures, for example with ffmpeg",
}
_MAKES = ((b"NIKON", "NEF RAW"), (b"SONY", "ARW RAW"), (b"PENTAX", "PEF RAW"), (b"SAMSUNG", "SRW RAW"))
_PREVIEW, _MAKE, _DNG = 254, 271, 50706  # TIFF tags: kind of the first picture, maker, version of DNG


def kind_of(head: bytes, name: str = "") -> str | None:
    """What the first bytes of a file are (JPEG, HEIC, DNG RAW, video, ...); its ending decides where they do not."""
    known = next((kind for at, mark, kind in _SIGNATURES if head.startswith(mark, at)), None)
    if known or head[4:8] == b"ftyp":
        return known or _of_boxes(head)
    by_ending = _ENDINGS.get(PurePosixPath(name).suffix.lower())
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raw = _raw(head)
        return raw or (by_ending if by_ending and by_ending.endswith("RAW") else "TIFF")
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head[:1024])), by_ending)


def _of_boxes(head: bytes) -> str:
    """HEIC, AVIF, CR3 and videos are boxes (ISO 14496-12); the first names the brands."""
    end = min(int.from_bytes(head[:4], "big"), len(head), HEAD)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
    if brands[0] == b"crx ":
        return "CR3 RAW"
    if _AVIF.intersection(brands):
        return "AVIF"
    return "HEIC" if _HEIC.intersection(brands) else "video"


def _raw(head: bytes) -> str | None:
    """The camera's raw format of a TIFF; None for an ordinary TIFF."""
    if head[8:10] == b"CR":
        return "CR2 RAW"
    tags = _tags(head, "little" if head[:1] == b"I" else "big")
    if _DNG in tags:
        return "DNG RAW"
    if not tags.get(_PREVIEW, b"\0").strip(b"\0"):
        return None
    make = tags.get(_MAKE, b"").upper()
    return next((kind for mark, kind in _MAKES if make.startswith(mark)), None)


def _tags(head: bytes, order: Literal["little", "big"]) -> dict[int, bytes]:
    """The tags of a TIFF's first directory that lie in ``head``, each with the bytes of its value."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(head[at : at + size], order)

    first, tags = number(4, 4), {}
    for at in range(first + 2, min(first + 2 + 12 * number(first, 2), len(head) - 11), 12):
        count, place = number(at + 4, 4), number(at + 8, 4)
        value = head[place : place + count] if number(at + 2, 2) == 2 and count > 4 else head[at + 8 : at + 12]
        tags[number(at, 2)] = value
    return tags


def end_of(data: bytes, kind: str | None) -> int:
    """Where a picture of boxes ends (WebP, HEIC, AVIF), whose decoders mind what follows; else where the file ends."""
    if kind == "WebP":
        return 8 + int.from_bytes(data[4:8], "little")
    at = 0
    while kind in ("HEIC", "AVIF") and re.fullmatch(rb"[ -~]{4}", data[at + 4 : at + 8]):
        size = int.from_bytes(data[at : at + 4], "big")
        size = int.from_bytes(data[at + 8 : at + 16], "big") if size == 1 else size
        at += size if size >= 8 else len(data)
    return at or len(data)


def readable(kind: str | None) -> bool:
    """Whether decode() reads pictures of a kind here; pillow-heif, if installed, teaches Pillow to."""
    if kind == "AVIF":
        return bool(features.check("avif")) or _taught("register_avif_opener")
    return _taught("register_heif_opener") if kind == "HEIC" else kind in READABLE


def _taught(how: str) -> bool:
    try:
        getattr(importlib.import_module("pillow_heif"), how)()
    except (ImportError, AttributeError, OSError):
        return False
    return True


def way_out(kind: str) -> str:
    """What makes pictures of a kind usable, as the end of a sentence."""
    return _WAYS.get(kind, "save as JPEG or PNG")


def told(left_out: Mapping[str, int]) -> list[str]:
    """One line for each kind of picture that was left out."""
    return [
        f"{count:,} {kind}{' picture' if kind != 'video' else ''}{'s' * (count != 1)} "
        f"{'was' if count == 1 else 'were'} left out: {way_out(kind)}"
        for kind, count in sorted(left_out.items())
    ]


def what_is(data: bytes) -> str:
    """What bytes that are no image (or archive) seem to be, in a word or two."""
    head = data[:512].removeprefix(b"\xef\xbb\xbf").strip().lower()
    if not data:
        return "empty file"
    if head.startswith((b"<!doctype html", b"<html")):
        return "HTML page"
    if all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head):
        return "text"
    return "unknown format"
