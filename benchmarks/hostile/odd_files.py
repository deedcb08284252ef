"""Pictures and colour profiles byte by byte, as their standards say: what no encoder here writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

Pixels = np.ndarray

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))  # chromaticities of red, green, blue
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
D65, D50 = (0.3127, 0.3290), (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


# ---------------------------------------------------------------------------------------------------------------- PNG


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _rows(samples: Pixels, depth: int) -> bytes:
    """Samples (H, W, C) packed row by row, each without a filter."""
    lines = []
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        else:
            bits = (row[:, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
            packed = np.packbits(bits.reshape(-1)).tobytes()
        lines.append(b"\0" + packed)
    return b"".join(lines)


def png(samples: Pixels, depth: int, colour: int, extra: Iterable[bytes] = (), interlaced: bool = False) -> bytes:
    """A PNG of samples (H, W, C) of ``depth`` bits; ``extra`` chunks stand before the pixels."""
    height, width = samples.shape[:2]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    packed = b"".join(_rows(part, depth) for part in parts if part.size)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND")


def iccp(profile: bytes) -> bytes:
    """A PNG's chunk of a profile."""
    return chunk(b"iCCP", b"profile\0\0" + zlib.compress(profile))


# --------------------------------------------------------------------------------------------------------------- JPEG


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments after its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif(orientation: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """EXIF with an orientation: a TIFF of one tag; kind 3 is a short, 4 a long."""
    value = struct.pack(order + ("Hxx" if kind == 3 else "I"), orientation)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    tag = struct.pack(order + "HHI", 0x0112, kind, count) + value
    return mark + struct.pack(order + "IH", 8, 1) + tag + struct.pack(order + "I", 0)


def app1(tiff: bytes) -> bytes:
    """A JPEG's segment of EXIF."""
    return segment(0xE1, b"Exif\0\0" + tiff)


def app2(profile: bytes, pieces: int = 1, order: Sequence[int] = (), leave: int | None = None) -> list[bytes]:
    """A JPEG's segments of a profile, in pieces, in an order of their own, with one left out."""
    size = -(-len(profile) // pieces)
    made = [
        segment(0xE2, b"ICC_PROFILE\0" + bytes([n + 1, pieces]) + profile[n * size : (n + 1) * size])
        for n in range(pieces)
    ]
    return [made[n] for n in (order or range(pieces)) if n != leave]


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as a camera stores them, so that ``orientation`` (TIFF 6.0, tag 274) makes them upright again."""
    ways = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: pixels.swapaxes(0, 1)[::-1],
        7: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: pixels.swapaxes(0, 1)[:, ::-1],
    }
    return np.ascontiguousarray(ways.get(orientation, pixels))


# ----------------------------------------------------------------------------------------------------------- profiles


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _lut(space: int) -> bytes:
    """A table from ``space`` inks to Lab: lightness falls with every ink, the hue does not move."""
    grid = np.indices((2,) * space).reshape(space, -1).sum(0)
    light = np.clip(255 - 75 * grid, 0, 255).astype(np.uint8)
    cells = np.stack([light, np.full_like(light, 128), np.full_like(light, 128)], axis=1).tobytes()
    matrix = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    ramp = bytes(range(256))
    return b"mft1\0\0\0\0" + bytes([space, 3, 2, 0]) + matrix + ramp * space + cells + ramp * 3


def profile(space: bytes, tags: Sequence[tuple[bytes, bytes]], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    text = b"desc\0\0\0\0\0\0\0\x02x\0" + bytes(78)
    every = [(b"desc", text), (b"cprt", b"text\0\0\0\0none\0"), (b"wtpt", _xyz(D50)), *tags]
    table, body, start = b"", b"", 128 + 4 + 12 * len(every)
    for name, data in every:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"\0" * 4, 0x02400000, kind, space, pcs)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(struct.pack(">i", round(value * 65536)) for value in D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(every)) + table + body


def rgb_profile(primaries: Sequence[tuple[float, float]], gamma: float) -> bytes:
    """A profile of a screen by its primaries (white D65) and gamma."""
    whole = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1.0, (1 - sum(D65)) / D65[1]])
    gains = (BRADFORD @ np.array(D50)) / (BRADFORD @ white)
    columns = np.linalg.inv(BRADFORD) @ np.diag(gains) @ BRADFORD @ (whole * np.linalg.solve(whole, white))
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = [(name, _xyz([float(value) for value in column])) for name, column in zip(names, columns.T, strict=True)]
    return profile(b"RGB ", [*tags, *((name, _curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC"))])


def grey_profile(gamma: float) -> bytes:
    """A profile of grey by its gamma."""
    return profile(b"GRAY", [(b"kTRC", _curve(gamma))])


def cmyk_profile() -> bytes:
    """A profile of a press whose inks all only darken."""
    return profile(b"CMYK", [(b"A2B0", _lut(4))], b"prtr", b"Lab ")


def apple_p3() -> bytes:
    """Display P3 as phones write it: version 4, curves by parameters."""
    whole = bytearray(rgb_profile(P3, 1.0))
    curve = b"para\0\0\0\0" + struct.pack(
        ">HH5i", 3, 0, *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
    at = 132
    for _ in range(int.from_bytes(whole[128:132], "big")):
        if whole[at + 1 : at + 4] == b"TRC":
            struct.pack_into(">II", whole, at + 4, len(whole), len(curve))
        at += 12
    whole += curve
    whole[8:12] = b"\x04\0\0\0"
    struct.pack_into(">I", whole, 0, len(whole))
    return bytes(whole)


def scanner_profile() -> bytes:
    """A profile of RGB by a table: darker, and without colour."""
    return profile(b"RGB ", [(b"A2B0", _lut(3))], b"scnr", b"Lab ")


# ------------------------------------------------------------------------------------------------------------- others


def gif(
    index: Pixels, colours: Pixels, at: tuple[int, int], size: tuple[int, int], clear: int, woven: bool, local: bool
) -> bytes:
    """A GIF of at most 128 colours, unpacked, at (x, y) on a canvas of (width, height); ``clear`` is transparent."""
    height, width = index.shape
    table = np.zeros((128, 3), np.uint8)
    table[: len(colours)] = colours
    rows = [r for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for r in range(start, height, step)]
    order = index[rows] if woven else index
    codes: list[int] = []
    for n, value in enumerate(order.reshape(-1).tolist()):
        codes += [128] if n % 100 == 0 else []
        codes.append(value)
    packed = bytes([*codes, 129])  # codes of 8 bits: below 128 entries they never grow
    blocks = b"".join(bytes([len(packed[n : n + 255])]) + packed[n : n + 255] for n in range(0, len(packed), 255))
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0x00 if local else 0xF6, 0, 0) + (b"" if local else table.tobytes())
    control = b"\x21\xf9\x04" + bytes([int(clear >= 0), 0, 0, max(clear, 0), 0])
    flags = (0x40 if woven else 0) | (0x86 if local else 0)
    image = b"," + struct.pack("<HHHHB", *at, width, height, flags) + (table.tobytes() if local else b"")
    return head + control + image + b"\x07" + blocks + b"\0;"


def bmp(pixels: Pixels, bits: int = 24, top_down: bool = False, core: bool = False, fields: bool = False) -> bytes:
    """A BMP of 16, 24 or 32 bits from RGB (H, W, 3); ``core`` is OS/2's header, ``fields`` names 565 by masks."""
    height, width = pixels.shape[:2]
    rows = pixels if top_down else pixels[::-1]
    if bits == 16:
        wide = rows.astype(np.uint16)
        shift = (11, 5, 6, 2) if fields else (10, 5, 5, 3)
        packed = (wide[..., 0] >> 3 << shift[0]) | (wide[..., 1] >> shift[3] << shift[1]) | (wide[..., 2] >> 3)
        lines = [row.astype("<u2").tobytes() for row in packed]
    else:
        cells = np.zeros((height, width, bits // 8), np.uint8)
        cells[..., :3] = rows[..., ::-1]
        lines = [row.tobytes() for row in cells]
    body = b"".join(line + bytes(-len(line) % 4) for line in lines)
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F) if fields else b""
    if core:
        head = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        high = -height if top_down else height
        head = struct.pack("<IiiHHIIiiII", 40, width, high, 1, bits, 3 if fields else 0, len(body), 2835, 2835, 0, 0)
    start = 14 + len(head) + len(masks)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + masks + body


def boxes(brand: bytes, *others: bytes) -> bytes:
    """The beginning of a file of boxes (ISO 14496-12) of some brand, as HEIC, AVIF, CR3 and films have it."""
    inner = brand + bytes(4) + b"".join(others)
    return struct.pack(">I", len(inner) + 8) + b"ftyp" + inner + struct.pack(">I", 64) + b"meta" + bytes(56)


def raw(make: bytes, tags: Sequence[tuple[int, int, int]] = (), mark: bytes = b"II*\0") -> bytes:
    """A camera's raw file as far as its first directory: a small preview, the maker, and tags (tag, kind, value)."""
    every = sorted([(254, 4, 1), (256, 3, 160), (257, 3, 120), (258, 3, 8), (259, 3, 7), *tags])
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in every]
    place = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries.insert(5, struct.pack("<HHII", 271, 2, len(make) + 1, place))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return mark + struct.pack("<I", 8) + directory + make + b"\0" + bytes(4096)
