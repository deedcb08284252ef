"""Colour profiles built by hand (ICC.1:2001-04), and pictures as cameras tag them with them."""

from __future__ import annotations

import io
import struct
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# primaries adapted to D50 (Bradford), as in the published profiles: X, Y, Z of red, green and blue
PRIMARIES = {
    "sRGB": ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)),
    "Display P3": ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)),
    "Adobe RGB": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)),
    "ProPhoto": ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)),
}
WHITE = (0.9642, 1.0, 0.8249)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _curve(name: str) -> bytes:
    if name in ("Adobe RGB", "ProPhoto", "grey"):
        gamma = {"ProPhoto": 1.8}.get(name, 2.2)
        return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    x = np.arange(1024) / 1023
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", 1024) + np.round(y * 65535).astype(">u2").tobytes()


@lru_cache(maxsize=8)
def profile(name: str) -> bytes:
    """A display profile: a name of PRIMARIES, or ``grey`` (gamma 2.2)."""
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE)}
    if name == "grey":
        tags[b"kTRC"] = _curve(name)
    else:
        for letter, values in zip((b"r", b"g", b"b"), PRIMARIES[name], strict=True):
            tags |= {letter + b"XYZ": _xyz(values), letter + b"TRC": _curve(name)}
    return _packed(tags, b"mntr" + (b"GRAY" if name == "grey" else b"RGB ") + b"XYZ ")


def _packed(tags: dict[bytes, bytes], kinds: bytes) -> bytes:
    table, data, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for tag, body in tags.items():
        table += tag + struct.pack(">II", at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI", 128 + len(table + data), b"none", 0x02100000) + kinds
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(_fixed, WHITE))
    return head + bytes(128 - len(head)) + table + data


@lru_cache(maxsize=2)
def cmyk_profile() -> bytes:
    """A printer's profile with tables, of a press that only subtracts and whose inks are a little dull."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - 0.9 * grid[:, :3]) * (1 - grid[:, 3:])
    matrix = np.array(PRIMARIES["sRGB"]).T
    xyz = (light @ matrix.T) / np.array(WHITE)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
    coded = np.clip(np.round((lab + np.array([0, 128, 128])) * np.array([652.8, 256, 256])), 0, 65535).astype(">u2")
    line = np.array([0, 65535], ">u2").tobytes()
    table = b"mft2\0\0\0\0" + bytes([4, 3, 9, 0]) + b"".join(_fixed(v) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table += struct.pack(">HH", 2, 2) + 4 * line + coded.tobytes() + 3 * line
    text = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"p\0" + bytes(80)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz(WHITE), b"A2B0": table}
    return _packed(tags, b"prtrCMYKLab ")


def tagged(pixels: np.ndarray, name: str) -> Image.Image:
    """A picture (uint8 RGB in sRGB) in the colours of a profile, which it carries."""
    given, wanted = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile(name)))
    image = Image.fromarray(pixels)
    made = ImageCms.buildTransform(given, wanted, "RGB", "L" if name == "grey" else "RGB")
    found = ImageCms.applyTransform(image, made)
    assert found is not None
    found.info["icc_profile"] = profile(name)
    return found
