"""The headers of a JPEG before its first scan (ITU T.81, annex B), read without decoding."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

MAX_SCANS = 64  # encoders write about ten; each is a pass over the whole image
ZEROS = bytes(8)
KEPT = 4096  # maximum bytes of a cached header
_SEQUENTIAL, _HUFFMAN = (0xC0, 0xC1, 0xC9), (0xC0, 0xC1)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # in image data, where FF 00 is a byte and FF D0 to D7 restart
_SKIPS = (0x00, 0xF0)  # "the rest is 0" and "sixteen times 0"


@dataclass
class Header:  # cached: do not modify
    """The first frame and scan. ``factors`` are the sampling factors of each component, by its id."""

    kind: int = 0
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    first_codes: dict[int, int] = field(default_factory=dict)  # the symbol of the code 00..0 of each AC table
    scan: list[tuple[int, int]] = field(default_factory=list)  # component, AC table
    start: int = 0  # of the first scan's data

    @property
    def buffered(self) -> int:
        """Coefficients per pixel, times 2, that a decoder keeps for the whole image: 0 if one scan has everything."""
        if self.kind in _SEQUENTIAL and len(self.scan) == len(self.factors):
            return 0
        largest = max(h for h, _ in self.factors.values()) * max(v for _, v in self.factors.values())
        return -(-2 * sum(h * v for h, v in self.factors.values()) // largest)

    @property
    def zeros_are_noise(self) -> bool:
        """Whether a run of zero bits repeats the same coefficient, which no real image does."""
        first = [self.first_codes.get(table, 0) for _, table in self.scan]
        return self.kind in _HUFFMAN and any(symbol not in _SKIPS for symbol in first)


def read(data: bytes) -> Header:
    """The header of a JPEG's bytes. Raises ValueError if it is invalid."""
    # One encoder writes the same header for all images of a size. A header ends where its scan starts, unless that is
    # the scan of an embedded thumbnail, before which it is incomplete.
    scan = data.find(b"\xff\xda", 2)
    length = int.from_bytes(data[scan + 2 : scan + 4], "big")
    if scan > 0 and scan + 2 + length <= min(len(data), KEPT):
        with suppress(ValueError):
            return _read_kept(data[: scan + 2 + length])
    return _read(data)


@lru_cache(maxsize=64)
def _read_kept(data: bytes) -> Header:
    return _read(data)


def _read(data: bytes) -> Header:
    header, at = Header(), 2
    while True:
        at, marker = _marker(data, at)
        if marker in _ALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) != length - 2:
            raise ValueError("a segment is longer than the file")
        at += length
        _take(header, marker, body)
        if marker == 0xDA:
            header.start = at
            return header


def check(data: bytes) -> Header:
    """As read(), and raises ValueError for faults that decoders accept: a zeroed run, more scans than MAX_SCANS.

    Only the picture itself is searched: cameras append second pictures, videos and padding.
    """
    header = read(data)
    zeros = data.find(ZEROS, header.start) if header.zeros_are_noise else -1
    if zeros >= 0 and zeros < end(data, header):
        raise ValueError("a run of zeros in the image data")
    many = header.buffered and data.count(b"\xff\xda", header.start) >= MAX_SCANS
    if many and data.count(b"\xff\xda", header.start, end(data, header)) >= MAX_SCANS:
        raise ValueError(f"more than {MAX_SCANS} scans")
    return header


def end(data: bytes, header: Header) -> int:
    """Where the picture ends: after its end marker, or where the file ends."""
    at = header.start
    while found := _MARKER.search(data, at):
        at, marker = found.end(), data[found.end() - 1]
        if marker == 0xD9:
            return at
        if marker not in _ALONE:
            at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def without_profile(data: bytes, header: Header) -> bytes:
    """The JPEG with the pieces of its colour profile under another marker, which decoders do not read."""
    head, pieces = re.subn(rb"(?s)\xff\xe2(?=..ICC_PROFILE\0)", b"\xff\xef", data[: header.start])
    return head + data[header.start :] if pieces else data


def _marker(data: bytes, at: int) -> tuple[int, int]:
    if data[at : at + 1] != b"\xff":
        raise ValueError("no marker where a segment should start")
    while data[at : at + 1] == b"\xff":  # any number of fill bytes
        at += 1
    if at >= len(data) or data[at] == 0xD9:
        raise ValueError("premature end before the image data")
    return at + 1, data[at]


def _take(header: Header, marker: int, body: bytes) -> None:
    try:
        if marker in _FRAMES:
            header.kind = marker
            header.factors = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, 6 + 3 * body[5], 3)}
        elif marker == 0xC4:
            header.first_codes |= _tables(body)
        elif marker == 0xDA:
            header.scan = [(body[i], body[i + 1] & 15) for i in range(1, 1 + 2 * body[0], 2)]
    except IndexError:
        raise ValueError("a segment is shorter than its stated length") from None
    if marker == 0xDA and not (header.factors and all(h and v for h, v in header.factors.values())):
        raise ValueError("an image without a size")


@lru_cache(maxsize=64)  # nearly all files have the standard tables
def _tables(body: bytes) -> dict[int, int]:
    """The symbol of the code 00..0 of each AC table."""
    first_codes, at = {}, 0
    while at < len(body):
        count = sum(body[at + 1 : at + 17])
        symbols = body[at + 17 : at + 17 + count]
        largest = 11 if body[at] >> 4 == 0 else 10  # bits of a difference or a coefficient (F.1.2)
        if len(set(symbols)) != count or any((s if body[at] >> 4 == 0 else s & 15) > largest for s in symbols):
            raise ValueError("a Huffman table that no encoder writes")
        if body[at] >> 4 == 1:
            first_codes[body[at] & 15] = symbols[0]
        at += 17 + count
    return first_codes
