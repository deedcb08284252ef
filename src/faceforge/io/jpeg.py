"""What a JPEG says of itself before its first scan (ITU T.81, annex B), read without decoding anything."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

MAX_SCANS = 64  # encoders write about ten; each costs a pass over the whole picture
ZEROS = bytes(8)
KEPT = 4096  # bytes of a header that is remembered
_SEQUENTIAL, _HUFFMAN = (0xC0, 0xC1, 0xC9), (0xC0, 0xC1)
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_SKIPS = (0x00, 0xF0)  # "the rest is 0" and "sixteen times 0"


@dataclass
class Header:  # not to be changed once it is read
    """The first frame and scan. ``factors`` are the sampling factors of each component, by its id."""

    kind: int = 0
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    first_codes: dict[int, int] = field(default_factory=dict)  # the symbol of the code 00..0 of each AC table
    scan: list[tuple[int, int]] = field(default_factory=list)  # component, AC table
    start: int = 0  # of the first scan's data

    @property
    def buffered(self) -> int:
        """Coefficients a pixel, times 2, that a decoder keeps of the whole picture: 0 where one scan has it all."""
        if self.kind in _SEQUENTIAL and len(self.scan) == len(self.factors):
            return 0
        largest = max(h for h, _ in self.factors.values()) * max(v for _, v in self.factors.values())
        return -(-2 * sum(h * v for h, v in self.factors.values()) // largest)

    @property
    def zeros_are_noise(self) -> bool:
        """Whether a run of zero bits stands for the same coefficient again and again, which no picture has."""
        first = [self.first_codes.get(table, 0) for _, table in self.scan]
        return self.kind in _HUFFMAN and any(symbol not in _SKIPS for symbol in first)


def read(data: bytes) -> Header:
    """The header of a JPEG's bytes. Raises ValueError where there is none that makes sense."""
    # One encoder writes the same header for all pictures of a size. A header is over where its scan begins, unless
    # that is the scan of a thumbnail in it, in front of which it is incomplete.
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
    """As read(). Raises ValueError also for what a decoder lets pass: a zeroed run, more scans than MAX_SCANS."""
    header = read(data)
    if header.zeros_are_noise and ZEROS in data[header.start :]:
        raise ValueError("a run of zeros where the picture should be")
    if header.buffered and data.count(b"\xff\xda", header.start) >= MAX_SCANS:
        raise ValueError(f"more than {MAX_SCANS} scans")
    return header


def _marker(data: bytes, at: int) -> tuple[int, int]:
    if data[at : at + 1] != b"\xff":
        raise ValueError("no marker where a segment should begin")
    while data[at : at + 1] == b"\xff":  # any number may fill
        at += 1
    if at >= len(data) or data[at] == 0xD9:
        raise ValueError("premature end before the picture")
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
        raise ValueError("a segment is shorter than it says") from None
    if marker == 0xDA and not (header.factors and all(h and v for h, v in header.factors.values())):
        raise ValueError("a picture without a size")


@lru_cache(maxsize=64)  # nearly all files carry the tables of the standard
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
