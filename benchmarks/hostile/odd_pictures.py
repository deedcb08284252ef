"""Some 300 odd pictures: the right pixels of each, or why it must be refused."""

from __future__ import annotations

import base64
import gzip
import io
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from benchmarks.hostile import odd_files as made
from benchmarks.hostile.odd_doors import Case, Picture, encoded, face, picture_case

HEIGHT, WIDTH = 48, 40
ANY = "."  # any reason of one line
Pixels = np.ndarray
Found = Iterator[Picture]
Options = dict[str, Any]  # of an encoder
WAYS: tuple[Options, ...] = ({}, {"progressive": True}, {"quality": 100}, {"optimize": True})
CUT: tuple[Options, ...] = ({"progressive": True}, {"restart_marker_blocks": 1})
BITMAPS: dict[str, Options] = {
    "24 bits": {},
    "32 bits, whose fourth is zero": {"bits": 32},
    "top down": {"top_down": True},
    "32 bits top down": {"bits": 32, "top_down": True},
    "OS/2's header": {"core": True},
    "16 bits": {"bits": 16},
    "16 bits by masks": {"bits": 16, "fields": True},
}


class Faces:
    """A new drawn face at every call, in colour or grey."""

    def __init__(self, seed: int) -> None:
        self.seed, self.count = seed, 0

    def __call__(self, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
        self.count += 1
        return face(self.seed, self.count % 48, height, width)

    def grey(self) -> Pixels:
        """Luma, as a scanner of grey would have seen the face."""
        return (self() @ np.array([0.299, 0.587, 0.114]) + 0.5).astype(np.uint8)


def cases(seed: int) -> list[Case]:
    """All of them."""
    faces = Faces(seed)
    found = [picture for family in FAMILIES for picture in family(faces)]
    return [picture_case(picture, n, seed) for n, picture in enumerate(found)]


# ------------------------------------------------------------------------------------------------ names and endings


def endings(faces: Faces) -> Found:
    """JPEGs under every ending, and other formats under a wrong one or none."""
    for ending in (
        *(
            "jpg",
            "JPG",
            "Jpeg",
            "jpe",
            "jfif",
            "JFIF",
            "jif",
            "jfi",
            "pjpeg",
            "pjp",
            "jpg_large",
            "jpeg_large",
            "jpg_orig",
        ),
        *("jpg-large", "jpg_small", "jpgx", "jpg~", "jpg.1", "jpg.bak", "jpg.download", "jpg.crdownload", "jpg (1)"),
        *(
            "jpg?w=640&fit=crop",
            "img",
            "image",
            "bin",
            "dat",
            "tmp",
            "thumb",
            "mpo",
            "THM",
            "jps",
            "webp",
            "png",
            "gif",
        ),
        *("tif", "bmp", "heic", "HEIC", "avif", "jxl", "dng", "pdf", "txt", "html", "json", "csv", "py", "log", "xml"),
    ):
        pixels = faces()
        strange = ending in {"txt", "html", "json", "csv", "py", "log", "xml"}
        named: dict[str, Any] = {"refusal": ANY, "mentioned": ending} if strange else {}
        yield Picture(f"a JPEG named .{ending}", f"face.{ending}", encoded(pixels), pixels, **named)
    for name in ("face", "DSC_0001", "6f1ed002ab5595859014ebf0951522d9", "face.", "a.b.c", "2026-11-29 12.30.05"):
        pixels = faces()
        yield Picture(f"a JPEG named {name}", name, encoded(pixels), pixels)
    kinds = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "PPM": {}, "AVIF": {"quality": 95}}
    for kind, options in kinds.items():
        for name in ("face.jpg", "face", "face.png", f"FACE.{kind}"):
            pixels = faces()
            yield Picture(
                f"{kind} named {name}", name, encoded(pixels, kind, **options), pixels, ANY if kind == "AVIF" else None
            )
    for kind in (
        "TGA",
        "PCX",
        "ICO",
        "SGI",
        "JPEG2000",
        "ICNS",
        "DDS",
        "PDF",
        "EPS",
        "IM",
        "XBM",
        "MSP",
        "QOI",
        "DIB",
        "PFM",
    ):
        pixels = faces(64, 64)
        image = Image.fromarray(pixels)
        one_bit = image.convert("1")
        given = {"XBM": one_bit, "MSP": one_bit, "PFM": image.convert("F"), "ICNS": image.resize((128, 128))}.get(
            kind, image
        )
        try:
            data = encoded(given, "PPM" if kind == "PFM" else kind)
        except (OSError, KeyError, ValueError):
            continue
        ending = {"JPEG2000": "jp2", "PFM": "pfm"}.get(kind, kind.lower())
        right = pixels if given is image else np.asarray(given.convert("RGB")) if kind != "PFM" else None
        yield Picture(f"{kind} by its own ending", f"face.{ending}", data, right, ANY, 8.0, f"{ending}|JPEG 2000")


def names(faces: Faces) -> Found:
    """Names that systems, shells and tables find hard."""
    for name in (
        *(
            "Jose\u0301 Mu\u0308ller.jpg",
            "Jos\u00e9.jpg",
            "\U0001f600\U0001f9d1\u200d\U0001f680.jpg",
            "two\nlines.jpg",
            "tab\there.jpg",
        ),
        *(
            "-rf.jpg",
            "--help.png",
            "face .jpg",
            " face.jpg",
            "face.jpg ",
            "face.jpg.",
            "..face.jpg",
            "a;b.jpg",
            "a,b.jpg",
        ),
        *(
            "a'b\"c.jpg",
            "a\\b.jpg",
            "c:face.jpg",
            "100%.jpg",
            "%2e%2e.jpg",
            "$HOME.jpg",
            "~face.jpg",
            "[1].jpg",
            "{a,b}.jpg",
        ),
        *(
            "*.jpg",
            "what?.jpg",
            "#1.jpg",
            "a=b.jpg",
            "\u202egpj.face.jpg",
            "\u5199\u771f.jpg",
            "CON.jpg",
            "nul.jpg",
            "NaN.jpg",
        ),
        *(
            "a" * 251 + ".jpg",
            "\u00e9" * 125 + ".jpg",
            "I\u0307stanbul.jpg",
            "\u1e9e.JPG",
            "face.jpg.jpg",
            "0.jpg",
            "None.jpg",
            "._.jpg.png",
        ),
        *(
            "face\u00a0.jpg",
            "face\u3000.jpg",
            "ﬁle.jpg",
            "\ufefface.jpg",
            "a|b.jpg",
            "<b>.jpg",
            "&amp;.jpg",
            "\x1b[31mred.jpg",
        ),
    ):
        pixels = faces()
        kind = "PNG" if name.endswith(".png") else "JPEG"
        hidden: dict[str, Any] = {"refusal": "hidden", "mentioned": "hidden"} if name.startswith(".") else {}
        yield Picture(f"a name {name[:20]!r}", name, encoded(pixels, kind), pixels, **hidden)
    for name in (".face.jpg", "._face.jpg"):
        pixels = faces()
        yield Picture(f"hidden {name}", name, encoded(pixels), pixels, "hidden|left out", mentioned="hidden")


# ---------------------------------------------------------------------------------------------------------- trailers


def trailers(faces: Faces) -> Found:
    """Bytes after a picture's end never matter."""
    other = encoded(faces())
    tails = {
        "8 zeros": bytes(8),
        "64 KiB of zeros": bytes(65536),
        "a second JPEG": other,
        "a film": made.boxes(b"mp42", b"isom") + bytes(range(256)) * 40,
        "a zip": b"PK\3\4" + bytes(300) + b"PK\5\6" + bytes(18),
        "0xff": b"\xff" * 700,
        "end markers": b"\xff\xd9" * 9,
        "a start marker": b"\xff\xd8\xff",
        "HTML": b"\n<html>ad</html>\n",
        "a line end": b"\r\n",
        "ctrl-z": b"\x1a" * 128,
        "noise": random.Random(7).randbytes(3000),
        "noise, then zeros": random.Random(8).randbytes(999) + bytes(999),
        "Samsung's notes": b"\0\0\1\x0a\x0e\0\0\0Image_UTC_Data1700000000000SEFHk\0\0\0SEFT",
        "a PNG": encoded(faces(), "PNG"),
    }
    for what, tail in tails.items():
        pixels = faces()
        yield Picture(f"a JPEG, then {what}", "IMG_1.jpg", encoded(pixels) + tail, pixels)
    forms: dict[str, tuple[str, Pixels, dict[str, Any]]] = {
        "progressive": ("JPEG", faces(), {"progressive": True}),
        "restarts": ("JPEG", faces(), {"restart_marker_blocks": 2}),
        "grey": ("JPEG", faces.grey(), {}),
        "PNG": ("PNG", faces(), {}),
        "GIF": ("GIF", np.asarray(Image.fromarray(faces()).quantize(64).convert("RGB")), {}),
        "WebP": ("WEBP", faces(), {"lossless": True}),
        "BMP": ("BMP", faces(), {}),
        "TIFF": ("TIFF", faces(), {}),
        "PPM": ("PPM", faces(), {}),
        "AVIF": ("AVIF", faces(), {"quality": 95}),
    }
    for what, (kind, pixels, options) in forms.items():
        image = Image.fromarray(pixels).quantize(64) if kind == "GIF" else pixels
        for tail in ("8 zeros", "64 KiB of zeros", "a second JPEG", "a zip"):
            data = encoded(image, kind, **options) + tails[tail]
            yield Picture(f"{what}, then {tail}", f"face.{kind.lower().replace('jpeg', 'jpg')}", data, pixels)
    for padded in (512, 4096):
        pixels = faces()
        data = encoded(pixels)
        yield Picture(f"a JPEG padded to {padded}", "a.jpg", data + bytes(-len(data) % padded), pixels)
    cmyk = Image.fromarray(faces()).convert("CMYK")
    yield Picture("CMYK, then zeros", "a.jpg", encoded(cmyk) + bytes(64), np.asarray(cmyk.convert("RGB")))


# ------------------------------------------------------------------------------------------------------- orientation


def orientations(faces: Faces) -> Found:
    """EXIF's orientations 1 to 8 in everything that carries EXIF, and EXIF as careless programs write it."""
    for n in range(1, 9):
        for what, kind, options in (
            ("JPEG", "JPEG", {}),
            ("progressive JPEG", "JPEG", {"progressive": True}),
            ("PNG", "PNG", {}),
            ("WebP", "WEBP", {"lossless": True}),
            ("TIFF", "TIFF", {}),
        ):
            pixels, stored = faces(), None
            stored = made.turned(pixels, n)
            if kind == "TIFF":
                data = encoded(stored, kind, tiffinfo={274: n})
            else:
                data = encoded(stored, kind, exif=b"Exif\0\0" + made.exif(n), **options)
            yield Picture(f"{what} of orientation {n}", f"a.{kind.lower().replace('jpeg', 'jpg')}", data, pixels)
        grey = faces.grey()
        tag = made.app1(made.exif(n, ">"))
        yield Picture(
            f"grey JPEG of orientation {n}", "a.jpg", made.with_segments(encoded(made.turned(grey, n)), tag), grey
        )
        upright = Image.fromarray(faces()).convert("CMYK")
        stored = Image.frombytes("CMYK", *_cmyk(made.turned(np.asarray(upright), n)))
        data = made.with_segments(encoded(stored), tag)
        yield Picture(f"CMYK JPEG of orientation {n}", "a.jpg", data, np.asarray(upright.convert("RGB")))
    yield from _careless(faces)


def _cmyk(pixels: Pixels) -> tuple[tuple[int, int], bytes]:
    return (pixels.shape[1], pixels.shape[0]), pixels.tobytes()


def _careless(faces: Faces) -> Found:
    sideways = {n: made.exif(n) for n in (0, 9, 65535)}
    upright = {
        **{f"orientation {n}": made.app1(tiff) for n, tiff in sideways.items()},
        "EXIF cut short": made.segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12"),
        "EXIF of zeros": made.app1(bytes(64)),
        "EXIF without tags": made.app1(b"MM\0*\0\0\0\x08\0\0\0\0\0\0"),
        "EXIF that points to itself": made.app1(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"),
        "a thumbnail on its side": made.app1(_thumbnail(6)),
        "an Adobe segment cut short": made.segment(0xED, b"Photoshop 3.0\08BIM"),
        "a comment of 65,533 bytes": made.segment(0xFE, b"x" * 65533),
        "empty segments": made.segment(0xE5, b"") * 3,
        "fill bytes": b"\xff\xff\xff" + made.segment(0xE5, b""),
    }
    for what, segments in upright.items():
        pixels = faces()
        yield Picture(f"a JPEG with {what}", "a.jpg", made.with_segments(encoded(pixels), segments), pixels)
    tag = made.app1(made.exif(6))
    for what, segments in {
        "XMP before EXIF": made.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>") + tag,
        "EXIF after the profile": b"".join(made.app2(made.rgb_profile(made.P3, 1.0), 1))[:0] + tag,
        "EXIF after a comment": made.segment(0xFE, b"hello") + tag,
        "EXIF as a long": made.app1(made.exif(6, kind=4)),
        "EXIF before JFIF": tag,
    }.items():
        pixels = faces()
        data = made.with_segments(encoded(made.turned(pixels, 6)), segments)
        yield Picture(f"orientation 6: {what}", "a.jpg", data, pixels)
    for n in (3, 6):
        pixels = faces()
        data = encoded(made.turned(pixels, n), "AVIF", quality=95, exif=b"Exif\0\0" + made.exif(n))
        yield Picture(f"AVIF of orientation {n}", "a.avif", data, pixels, "AVIF")


def _thumbnail(orientation: int) -> bytes:
    """EXIF whose second directory, that of the thumbnail, has an orientation."""
    tag = struct.pack("<HHIHxx", 0x0112, 3, 1, orientation)
    make = struct.pack("<HHI4s", 271, 2, 4, b"abc\0")
    return b"II*\0" + struct.pack("<IH", 8, 1) + make + struct.pack("<IH", 26, 1) + tag + bytes(4)


# --------------------------------------------------------------------------------------------------------- bits


def _levels(grey: Pixels, depth: int) -> tuple[Pixels, Pixels]:
    """Samples of a depth, and the levels of 8 bits that they mean."""
    top = 2**depth - 1
    samples = np.rint(grey.astype(float) / 255 * top).astype(np.int64)
    return samples, np.rint(samples / top * 255).astype(np.uint8)


def bits(faces: Faces) -> Found:
    """PNG: every colour and depth, plain and interlaced, with and without transparency."""
    for woven in (False, True):
        way = " interlaced" * woven
        for depth in (1, 2, 4, 8, 16):
            samples, right = _levels(faces.grey(), depth)
            yield Picture(
                f"PNG{way} of {depth} bits of grey",
                "a.png",
                made.png(samples[..., None], depth, 0, interlaced=woven),
                right,
            )
            clear = int(samples[0, 0])
            holed = np.where(samples == clear, 255, right).astype(np.uint8)
            key = made.chunk(b"tRNS", struct.pack(">H", clear))
            yield Picture(
                f"PNG{way} of {depth} bits of grey, one transparent",
                "a.png",
                made.png(samples[..., None], depth, 0, [key], woven),
                holed,
            )
        for depth in (8, 16):
            samples, right = _levels(faces(), depth)
            yield Picture(
                f"PNG{way} of {depth} bits of RGB", "a.png", made.png(samples, depth, 2, interlaced=woven), right
            )
            clear = samples[0, 0]
            holed = np.where((samples == clear).all(-1, keepdims=True), 255, right).astype(np.uint8)
            key = made.chunk(b"tRNS", struct.pack(">HHH", *(int(value) for value in clear)))
            yield Picture(
                f"PNG{way} of {depth} bits of RGB, one transparent",
                "a.png",
                made.png(samples, depth, 2, [key], woven),
                holed,
            )
            yield from _alpha(faces, depth, woven, way)
        yield from _palettes(faces, woven, way)


def _alpha(faces: Faces, depth: int, woven: bool, way: str) -> Found:
    top = 2**depth - 1
    ramp = np.linspace(0, top, WIDTH).round().astype(np.int64)[None, :, None] * np.ones((HEIGHT, 1, 1), np.int64)
    for colour, source in ((4, faces.grey()[..., None]), (6, faces())):
        samples, right = _levels(source, depth)
        over = np.rint(right * (ramp / top) + 255 * (1 - ramp / top)).astype(np.uint8)
        data = made.png(np.concatenate([samples, ramp], -1), depth, colour, interlaced=woven)
        yield Picture(
            f"PNG{way} of {depth} bits, colour {colour}, with alpha",
            "a.png",
            data,
            over if colour == 6 else over[..., 0],
        )


def _palettes(faces: Faces, woven: bool, way: str) -> Found:
    for depth in (1, 2, 4, 8):
        image = Image.fromarray(faces()).quantize(2**depth)
        colours = np.array((image.getpalette() or [])[: 3 * 2**depth], np.uint8).reshape(-1, 3)
        index = np.minimum(np.asarray(image), len(colours) - 1)
        table = made.chunk(b"PLTE", colours.tobytes())
        data = made.png(index[..., None].astype(np.int64), depth, 3, [table], woven)
        yield Picture(f"PNG{way} of a palette of {depth} bits", "a.png", data, colours[index])
        key = made.chunk(b"tRNS", b"\0\x80")
        alpha = np.array([0, 128, *[255] * 254])[index][..., None] / 255
        over = np.rint(colours[index] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        data = made.png(index[..., None].astype(np.int64), depth, 3, [table, key], woven)
        yield Picture(f"PNG{way} of a palette of {depth} bits, two transparent", "a.png", data, over)


def chunks(faces: Faces) -> Found:
    """PNGs with chunks that are rare, doubled, misplaced or damaged."""
    for what, extra in {
        "an unknown chunk": [made.chunk(b"vpAg", bytes(9))],
        "a text": [made.chunk(b"tEXt", b"Comment\0hello")],
        "a broken EXIF": [made.chunk(b"eXIf", b"II*\0garbage")],
        "a time of nonsense": [made.chunk(b"tIME", bytes([255] * 7))],
        "an sRGB chunk and a gamma": [made.chunk(b"sRGB", b"\0"), made.chunk(b"gAMA", struct.pack(">I", 45455))],
        "a compressed text that is none": [made.chunk(b"zTXt", b"Comment\0\0nonsense")],
        "an empty physical size": [made.chunk(b"pHYs", bytes(9))],
    }.items():
        pixels = faces()
        refusal = (
            ANY if what in {"an empty physical size", "a compressed text that is none", "a time of nonsense"} else None
        )
        yield Picture(f"a PNG with {what}", "a.png", made.png(pixels.astype(np.int64), 8, 2, extra), pixels, refusal)
    pixels = faces()
    whole = encoded(pixels, "PNG")
    start, end = whole.index(b"IDAT") - 4, whole.index(b"IEND") - 4
    body = whole[start + 8 : start + 8 + int.from_bytes(whole[start : start + 4], "big")]
    many = b"".join(made.chunk(b"IDAT", body[n : n + 1]) for n in range(len(body)))
    yield Picture("a PNG of chunks of one byte", "a.png", whole[:start] + many + whole[end:], pixels)
    empty = made.chunk(b"IDAT", b"") + whole[start:end] + made.chunk(b"IDAT", b"")
    yield Picture("a PNG with empty chunks of pixels", "a.png", whole[:start] + empty + whole[end:], pixels)
    yield Picture("a PNG without its end", "a.png", whole[:end], pixels, ANY)
    yield Picture("a PNG without its last checksum", "a.png", whole[:-4], pixels, ANY)
    turned = made.turned(pixels, 6)
    late = encoded(turned, "PNG")
    at = late.index(b"IEND") - 4
    yield Picture(
        "a PNG with EXIF after its pixels", "a.png", late[:at] + made.chunk(b"eXIf", made.exif(6)) + late[at:], pixels
    )
    wrong = bytearray(whole)
    wrong[start + 12] ^= 1
    yield Picture("a PNG with a flipped bit of its pixels", "a.png", bytes(wrong), None, ANY)
    bare = made.chunk(b"IDAT", body[2:-4])  # Apple leaves out zlib's frame
    apple = whole[:8] + made.chunk(b"CgBI", b"\x50\0\x20\x02") + whole[8:start] + bare + whole[end:]
    yield Picture("a PNG of an iPhone's program", "a.png", apple, None, ANY)
    yield Picture("a MNG", "a.png", b"\x8aMNG\r\n\x1a\n" + whole[8:], None, ANY)
    yield Picture("a PNG sent as text", "a.png", whole.replace(b"\r\n", b"\n"), None, ANY)


def tiffs(faces: Faces) -> Found:
    """TIFF: compressions, depths, byte orders, and numbers without a known range."""
    for how in ("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg"):
        pixels = faces()
        yield Picture(
            f"TIFF, {how}",
            "a.tif",
            encoded(pixels, "TIFF", compression=None if how == "raw" else how),
            pixels,
            ANY if how == "jpeg" else None,
            6.0,
        )
    black = Image.fromarray(faces.grey()).convert("1")
    for how in ("group3", "group4", "tiff_ccitt"):
        yield Picture(f"TIFF, {how}", "a.tif", encoded(black, "TIFF", compression=how), np.asarray(black.convert("L")))
    grey = faces.grey()
    yield Picture(
        "TIFF of 16 bits of grey", "a.tiff", encoded(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"), grey
    )
    pixels = faces()
    sixteen = cv2.imencode(".tif", pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    yield Picture("TIFF of 16 bits of RGB", "a.tif", sixteen, pixels, ANY)
    yield Picture(
        "TIFF of floats from 0 to 1",
        "a.tif",
        encoded(Image.fromarray(faces.grey().astype(np.float32) / 255), "TIFF"),
        None,
        ANY,
    )
    yield Picture(
        "TIFF of floats in colour", "a.tif", cv2.imencode(".tif", faces().astype(np.float32))[1].tobytes(), None, ANY
    )
    yield Picture(
        "TIFF of 32 bits", "a.tif", encoded(Image.fromarray(faces.grey().astype(np.int32) * 70000), "TIFF"), None, ANY
    )
    yield Picture(
        "TIFF of 32 bits, of a small range",
        "a.tif",
        encoded(Image.fromarray(faces.grey().astype(np.int32)), "TIFF"),
        None,
        ANY,
    )
    cmyk = Image.fromarray(faces()).convert("CMYK")
    yield Picture("TIFF of CMYK", "a.tif", encoded(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB")))
    palette = Image.fromarray(faces()).quantize(32)
    yield Picture("TIFF of a palette", "a.tif", encoded(palette, "TIFF"), np.asarray(palette.convert("RGB")))
    pixels = faces()
    alpha = np.full((*pixels.shape[:2], 1), 255, np.uint8)
    yield Picture("TIFF with alpha", "a.tif", encoded(np.concatenate([pixels, alpha], -1), "TIFF"), pixels)
    first, second = faces(), Image.fromarray(faces())
    yield Picture("TIFF of two pages", "a.tif", encoded(first, "TIFF", save_all=True, append_images=[second]), first)
    lab = Image.fromarray(faces())
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(lab, *profiles, outputMode="LAB")
    if found is not None:
        yield Picture("TIFF of Lab", "a.tif", encoded(found, "TIFF"), np.asarray(lab), ANY, 6.0)
    yield from _tiffs_by_tags(faces)


def _tiffs_by_tags(faces: Faces) -> Found:
    for order in ("<", ">"):
        pixels = faces()
        yield Picture(f"TIFF in byte order {order}", "a.tif", _tiff(pixels, order), pixels)
        pixels = faces()
        yield Picture(f"TIFF of planes in byte order {order}", "a.tif", _tiff(pixels, order, planes=True), pixels, ANY)
        grey = faces.grey()
        yield Picture(
            f"TIFF of 16 bits of grey in byte order {order}", "a.tif", _tiff(grey.astype(np.uint16) * 257, order), grey
        )
        yield Picture(
            f"TIFF whose white is zero in byte order {order}", "a.tif", _tiff(255 - grey, order, white=0), grey, ANY
        )


def _tiff(pixels: Pixels, order: str, planes: bool = False, white: int = 1) -> bytes:
    height, width = pixels.shape[:2]
    samples, depth = 1 if pixels.ndim == 2 else 3, pixels.itemsize * 8
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    body = stored.astype(np.dtype(f"{order}u{stored.itemsize}")).tobytes()
    size, strips = len(body) // (3 if planes else 1), 3 if planes else 1
    tags = {256: [width], 257: [height], 258: [depth] * samples, 259: [1], 262: [2 if samples == 3 else white]}
    tags |= {273: [8 + size * n for n in range(strips)], 277: [samples], 278: [height], 279: [size] * strips}
    tags |= {284: [2 if planes else 1]}
    entries, beyond, start = b"", b"", 8 + len(body) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            entries += struct.pack(order + "HHII", tag, 4, len(values), start + len(beyond))
            beyond += packed
        else:
            entries += struct.pack(order + "HHI", tag, 4, 1) + packed
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    return mark + struct.pack(order + "I", 8 + len(body)) + body + directory + beyond


# ---------------------------------------------------------------------------------------------------------- JPEGs


def jpegs(faces: Faces) -> Found:
    """JPEGs as encoders of all kinds write them, and kinds of JPEG that nobody writes."""
    for what, options in {
        "progressive": {"progressive": True},
        "optimised": {"optimize": True},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "restarts": {"restart_marker_blocks": 1},
        "restarts by rows": {"restart_marker_rows": 1},
        "RGB inside": {"keep_rgb": True},
        "quality 100": {"quality": 100},
        "quality 50": {"quality": 50},
        "smoothed": {"smooth": 10},
    }.items():
        pixels = faces()
        tolerance = 9.0 if what in {"quality 50", "smoothed", "4:2:0", "4:2:2"} else 3.0
        yield Picture(f"a JPEG, {what}", "a.jpg", encoded(pixels, **options), pixels, tolerance=tolerance)
    for value in (0, 1, 127, 128, 254, 255):
        for shape in ((400, 400, 3), (333, 401)):
            pixels = np.full(shape, value, np.uint8)
            for options in WAYS:
                yield Picture(
                    f"a JPEG of {value} only, {len(shape)} axes, {options}", "a.jpg", encoded(pixels, **options), pixels
                )
    yield from _adobe(faces)
    pixels = faces()
    whole = encoded(pixels)
    yield Picture("a JPEG without its end marker", "a.jpg", whole[:-2], pixels, ANY)
    yield Picture("a JPEG without its last byte", "a.jpg", whole[:-1], pixels, ANY)
    frame = whole.index(b"\xff\xc0")
    for marker, what in (
        (0xC3, "lossless"),
        (0xC5, "hierarchical"),
        (0xC9, "arithmetic"),
        (0xC2, "said to be progressive"),
    ):
        yield Picture(f"a JPEG, {what}", "a.jpg", whole[: frame + 1] + bytes([marker]) + whole[frame + 2 :], None, ANY)
    yield Picture("a JPEG of 12 bits", "a.jpg", whole[: frame + 4] + b"\x0c" + whole[frame + 5 :], None, ANY)
    yield Picture("a JPEG of height 0", "a.jpg", whole[: frame + 5] + b"\0\0" + whole[frame + 7 :], None, ANY)
    table = whole.index(b"\xff\xc4")
    scan = whole.index(b"\xff\xda")
    yield Picture("a JPEG without Huffman tables, as films have", "a.jpg", whole[:table] + whole[scan:], pixels, ANY)
    yield Picture("a JPEG without JFIF", "a.jpg", whole[:2] + whole[20:], pixels)
    for before in (b"\n", b"\xef\xbb\xbf", b"\0", b"HTTP/1.1 200 OK\r\n\r\n"):
        yield Picture(f"a JPEG after {before[:6]!r}", "a.jpg", before + whole, pixels, ANY)
    yield (
        Picture("a JPEG sent as text", "a.jpg", whole.replace(b"\n", b"\r\n"), None, ANY)
        if b"\n" in whole
        else Picture("a JPEG of half", "a.jpg", whole[: len(whole) // 2], None, ANY)
    )
    mpo = encoded(pixels, "MPO", save_all=True, append_images=[Image.fromarray(faces())])
    yield Picture("a JPEG of two pictures (MPO)", "a.mpo", mpo, pixels, tolerance=6.0)
    yield Picture("a JPEG of two pictures named .jpg", "a.jpg", mpo, pixels, tolerance=6.0)


def _adobe(faces: Faces) -> Found:
    """CMYK and YCCK, as Adobe's programs store them: inverted."""
    for inks in range(3):
        image = Image.fromarray(faces()).convert("CMYK")
        values = np.asarray(image).copy()
        values[..., 3] = (0, 40, 90)[inks]
        image = Image.frombytes("CMYK", image.size, values.tobytes())
        right = np.asarray(image.convert("RGB"))
        yield Picture(f"a JPEG of CMYK, black {inks}", "a.jpg", encoded(image), right)
        yield Picture(f"a progressive JPEG of CMYK, black {inks}", "a.jpg", encoded(image, progressive=True), right)
        colours = np.asarray(Image.fromarray(np.ascontiguousarray(values[..., :3])).convert("YCbCr"))
        planes = np.concatenate([255 - colours, values[..., 3:]], -1)  # Pillow inverts what it writes
        data = encoded(Image.frombytes("CMYK", image.size, planes.tobytes()))
        at = data.index(b"Adobe") + 11
        yield Picture(
            f"a JPEG of YCCK, black {inks}", "a.jpg", data[:at] + b"\x02" + data[at + 1 :], right, tolerance=4.0
        )


# ---------------------------------------------------------------------------------------------------------- profiles


def _srgb(image: Image.Image, profile: bytes) -> Pixels:
    """What lcms makes of a picture with a profile."""
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    found = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(found if found is not None else image)


def profiles(faces: Faces) -> Found:
    """Colour profiles become sRGB; broken ones, and those of another kind of picture, are none."""
    screens = {"Display P3": made.rgb_profile(made.P3, 2.2), "Adobe RGB": made.rgb_profile(made.ADOBE, 2.2)}
    screens |= {"a gamma of 1": made.rgb_profile(made.P3, 1.0), "a gamma of 1.8": made.rgb_profile(made.ADOBE, 1.8)}
    carriers = {
        "JPEG": {},
        "PNG": {},
        "WEBP": {"lossless": True},
        "TIFF": {},
        "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    }
    for what, profile in screens.items():
        for kind, options in carriers.items():
            image = Image.fromarray(faces())
            data = encoded(image, kind, icc_profile=profile, **options)
            yield Picture(
                f"{kind} in {what}",
                f"a.{kind.lower().replace('jpeg', 'jpg')}",
                data,
                _srgb(image, profile),
                "AVIF" if kind == "AVIF" else None,
            )
        grey = Image.fromarray(faces.grey())
        curve = made.grey_profile({"a gamma of 1": 1.0, "a gamma of 1.8": 1.8}.get(what, 2.2))
        for kind in ("JPEG", "PNG", "TIFF"):
            data = encoded(grey, kind, icc_profile=curve)
            yield Picture(
                f"grey {kind} with {what}", f"g.{kind.lower().replace('jpeg', 'jpg')}", data, _srgb(grey, curve)
            )
    yield from _combined(faces, screens["Display P3"])
    yield from _broken(faces, screens["Display P3"])
    press = made.cmyk_profile()
    image = Image.fromarray(faces()).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        right = _srgb(image, press)
        yield Picture(
            f"{kind} of CMYK with a press",
            f"a.{kind.lower().replace('jpeg', 'jpg')}",
            encoded(image, kind, icc_profile=press),
            right,
            tolerance=4.0,
        )
    for n in (3, 6, 8):
        stored = Image.frombytes("CMYK", *_cmyk(made.turned(np.asarray(image), n)))
        data = made.with_segments(encoded(stored, icc_profile=press), made.app1(made.exif(n)))
        yield Picture(f"CMYK with a press, orientation {n}", "a.jpg", data, _srgb(image, press), tolerance=4.0)


def _combined(faces: Faces, p3: bytes) -> Found:
    for n in (2, 6, 8):
        image = Image.fromarray(faces())
        right = _srgb(image, p3)
        stored = encoded(made.turned(np.asarray(image), n), icc_profile=p3)
        yield Picture(f"P3 of orientation {n}", "a.jpg", made.with_segments(stored, made.app1(made.exif(n))), right)
    image = Image.fromarray(faces())
    right = _srgb(image, p3)
    for what, options in {
        "progressive": {"progressive": True},
        "4:2:0": {"subsampling": 2},
        "restarts": {"restart_marker_blocks": 3},
    }.items():
        yield Picture(f"P3, {what}", "a.jpg", encoded(image, icc_profile=p3, **options), right, tolerance=9.0)
    yield Picture("P3, then zeros", "a.jpg", encoded(image, icc_profile=p3) + bytes(512), right)
    plain = encoded(image)
    pieces = made.app2(p3, 3)
    yield Picture("P3 in three pieces", "a.jpg", made.with_segments(plain, *pieces), right)
    yield Picture("P3 in pieces, out of order", "a.jpg", made.with_segments(plain, *made.app2(p3, 3, (2, 0, 1))), right)
    yield Picture(
        "P3 in pieces, one is missing",
        "a.jpg",
        made.with_segments(plain, *made.app2(p3, 3, leave=1)),
        np.asarray(image),
    )
    rgba = image.copy()
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1)))
    rgba.putalpha(ramp)
    share = np.asarray(ramp)[..., None] / 255
    over = np.rint(right * share + 255 * (1 - share)).astype(np.uint8)
    for kind in ("PNG", "TIFF", "WEBP"):
        data = encoded(rgba, kind, icc_profile=p3, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
        yield Picture(f"{kind} in P3 with alpha", f"a.{kind.lower()}", data, over)
    palette = image.quantize(64)
    yield Picture(
        "a palette in P3", "a.png", encoded(palette, "PNG", icc_profile=p3), _srgb(palette.convert("RGB"), p3)
    )
    sixteen = made.png(np.asarray(image).astype(np.int64) * 257, 16, 2, [made.iccp(p3)])
    yield Picture("16 bits in P3", "a.png", sixteen, right)
    grey = Image.fromarray(faces.grey())
    deep = made.png(np.asarray(grey)[..., None].astype(np.int64) * 257, 16, 0, [made.iccp(made.grey_profile(1.0))])
    yield Picture("16 bits of grey with a gamma of 1", "a.png", deep, _srgb(grey, made.grey_profile(1.0)))


def _broken(faces: Faces, p3: bytes) -> Found:
    bent = bytearray(p3)
    bent[36:40] = b"nope"
    wrong = {
        "noise": random.Random(3).randbytes(600),
        "a third of a profile": p3[: len(p3) // 3],
        "a profile without its last bytes": p3[:-40],
        "one byte": b"x",
        "a head only": p3[:128],
        "zeros": bytes(500),
        "no signature": bytes(bent),
        "a profile of CMYK": made.cmyk_profile(),
        "a profile of grey": made.grey_profile(1.0),
        "a profile of nothing": made.profile(b"RGB ", []),
        "a link": made.profile(b"RGB ", [], b"link", b"RGB "),
        "a name": made.profile(b"RGB ", [], b"nmcl"),
    }
    for what, profile in wrong.items():
        for kind in ("JPEG", "PNG"):
            pixels = faces()
            data = encoded(pixels, kind, icc_profile=profile)
            yield Picture(f"{kind} with {what}", f"a.{kind.lower().replace('jpeg', 'jpg')}", data, pixels)
    grey = faces.grey()
    yield Picture("grey with a profile of CMYK", "a.jpg", encoded(grey, icc_profile=made.cmyk_profile()), grey)
    pixels = faces()
    lying = made.chunk(b"iCCP", b"p\0\0nonsense")
    yield Picture(
        "a PNG with a profile that does not unpack", "a.png", made.png(pixels.astype(np.int64), 8, 2, [lying]), pixels
    )
    image = Image.fromarray(faces()).convert("CMYK")
    yield Picture(
        "CMYK with noise as profile",
        "a.jpg",
        encoded(image, icc_profile=wrong["noise"]),
        np.asarray(image.convert("RGB")),
    )
    yield Picture(
        "CMYK with a profile of RGB", "a.jpg", encoded(image, icc_profile=p3), np.asarray(image.convert("RGB"))
    )


# ------------------------------------------------------------------------------------------- films and variants of BMP


def several(faces: Faces) -> Found:
    """Of several frames, the first."""
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("AVIF", {"quality": 95})):
        frames = [Image.fromarray(faces()) for _ in range(3)]
        first: Image.Image | Pixels = frames[0]
        if kind == "GIF":
            frames = [frame.quantize(64) for frame in frames]
            first = frames[0].convert("RGB")
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=80, loop=0, **options)
        yield Picture(
            f"{kind} of three frames", f"a.{kind.lower()}", data, np.asarray(first), "AVIF" if kind == "AVIF" else None
        )
        yield Picture(
            f"{kind} of three frames named .jpg", "a.jpg", data, np.asarray(first), "AVIF" if kind == "AVIF" else None
        )
    palette = Image.fromarray(faces()).quantize(16)
    index = np.asarray(palette)
    holed = np.where((index == index[0, 0])[..., None], 255, np.asarray(palette.convert("RGB"))).astype(np.uint8)
    yield Picture(
        "GIF with a transparent colour", "a.gif", encoded(palette, "GIF", transparency=int(index[0, 0])), holed
    )
    grey = faces.grey() // 2 * 2
    yield Picture("GIF of grey", "a.gif", encoded(grey, "GIF"), grey)


def gifs(faces: Faces) -> Found:
    """GIFs whose first frame is woven, has colours of its own, or fills a part of the canvas."""
    for what, woven, local, at in (
        ("woven", True, False, (0, 0)),
        ("with colours of its own", False, True, (0, 0)),
        ("woven, with colours of its own", True, True, (0, 0)),
        ("on a part of the canvas", False, False, (5, 9)),
        ("woven, on a part of the canvas", True, True, (7, 3)),
    ):
        image = Image.fromarray(faces()).quantize(64)
        index, colours = np.asarray(image), np.array(image.getpalette(), np.uint8).reshape(-1, 3)[:64]
        right = np.full((HEIGHT + 12, WIDTH + 12, 3) if at != (0, 0) else (HEIGHT, WIDTH, 3), 255, np.uint8)
        right[at[1] : at[1] + HEIGHT, at[0] : at[0] + WIDTH] = colours[index]
        data = made.gif(index, colours, at, (right.shape[1], right.shape[0]), 100, woven, local)
        yield Picture(f"GIF {what}", "a.gif", data, right)


def relatives(faces: Faces) -> Found:
    """Relatives of what the other families have."""
    for what, profile in {"P3 of a phone": made.apple_p3(), "a scanner's table": made.scanner_profile()}.items():
        for kind in ("JPEG", "PNG", "TIFF"):
            image = Image.fromarray(faces())
            data = encoded(image, kind, icc_profile=profile)
            yield Picture(
                f"{kind} with {what}",
                f"a.{kind.lower().replace('jpeg', 'jpg')}",
                data,
                _srgb(image, profile),
                tolerance=4.0,
            )
    pixels = faces()
    whole, small = encoded(pixels), encoded(faces(16, 16))
    thumb = made.segment(0xE1, b"Exif\0\0" + made.exif(1) + small)
    yield Picture("a JPEG with a JPEG in its EXIF", "a.jpg", made.with_segments(whole, thumb), pixels)
    yield Picture(
        "a JPEG with a JPEG in a comment", "a.jpg", made.with_segments(whole, made.segment(0xFE, small)), pixels
    )
    yield Picture(
        "a JPEG with a JPEG in Photoshop's segment",
        "a.jpg",
        made.with_segments(whole, made.segment(0xED, small)),
        pixels,
    )
    yield Picture("a JPEG with fill bytes before its end", "a.jpg", whole[:-2] + b"\xff\xff" + whole[-2:], pixels)
    yield Picture(
        "a JPEG without restarts, and that said",
        "a.jpg",
        made.with_segments(whole, made.segment(0xDD, b"\0\0")),
        pixels,
    )
    many = encoded(faces(), progressive=True)
    yield Picture("a JPEG, then twenty progressive ones", "a.jpg", whole + many * 20, pixels)
    yield Picture(
        "a progressive JPEG, then twenty more", "a.jpg", encoded(pixels, progressive=True) + many * 20, pixels
    )
    for what, body in {"UTF-8": "Z\u00fcrich".encode(), "zeros": bytes(900), "end markers": b"\xff\xd9" * 90}.items():
        yield Picture(
            f"a JPEG with a comment of {what}", "a.jpg", made.with_segments(whole, made.segment(0xFE, body)), pixels
        )
    grey = encoded(faces.grey(), icc_profile=made.rgb_profile(made.P3, 2.2))
    yield Picture("a grey JPEG with P3", "a.jpg", grey, np.asarray(Image.open(io.BytesIO(grey))), tolerance=6.0)
    for n in (3, 6, 8):
        deep = made.turned(faces.grey().astype(np.int64) * 257, n)
        data = made.png(deep[..., None], 16, 0, [made.chunk(b"eXIf", made.exif(n))])
        yield Picture(
            f"16 bits of grey of orientation {n}",
            "a.png",
            data,
            made.turned((deep // 257).astype(np.uint8), {6: 8, 8: 6}.get(n, n)),
        )
        rgba = Image.fromarray(made.turned(faces(), n)).convert("RGBA")
        upright = made.turned(np.asarray(rgba.convert("RGB")), {6: 8, 8: 6}.get(n, n))
        yield Picture(
            f"WebP with alpha of orientation {n}",
            "a.webp",
            encoded(rgba, "WEBP", lossless=True, exif=b"Exif\0\0" + made.exif(n)),
            upright,
        )
        palette = Image.fromarray(made.turned(faces(), n)).quantize(64)
        upright = made.turned(np.asarray(palette.convert("RGB")), {6: 8, 8: 6}.get(n, n))
        yield Picture(
            f"a palette of orientation {n}", "a.png", encoded(palette, "PNG", exif=b"Exif\0\0" + made.exif(n)), upright
        )
    yield from _more_tiffs(faces)
    yield from _more_netpbm(faces)
    riff = bytearray(encoded(faces(), "WEBP", lossless=True))
    right = np.asarray(Image.open(io.BytesIO(bytes(riff))))
    for size in (0, 2**32 - 2, len(riff) + 92):
        struct.pack_into("<I", riff, 4, size)
        yield Picture(f"a WebP that says it has {size} bytes", "a.webp", bytes(riff), right, ANY)


def _more_tiffs(faces: Faces) -> Found:
    pixels = faces()
    yield Picture("a large TIFF (BigTIFF)", "a.tif", encoded(pixels, "TIFF", big_tiff=True), pixels, ANY)
    for n in (3, 6, 8):
        cmyk = Image.fromarray(faces()).convert("CMYK")
        stored = Image.frombytes("CMYK", *_cmyk(made.turned(np.asarray(cmyk), n)))
        yield Picture(
            f"TIFF of CMYK of orientation {n}",
            "a.tif",
            encoded(stored, "TIFF", tiffinfo={274: n}),
            np.asarray(cmyk.convert("RGB")),
        )
        deep = made.turned(faces.grey().astype(np.uint16) * 257, n)
        upright = made.turned((deep // 257).astype(np.uint8), {6: 8, 8: 6}.get(n, n))
        yield Picture(
            f"TIFF of 16 bits of orientation {n}",
            "a.tif",
            encoded(Image.fromarray(deep), "TIFF", tiffinfo={274: n}),
            upright,
        )
    for low, high in ((0, 4095), (0, 1023), (20_000, 60_000)):
        deep = np.rint(low + faces.grey() / 255 * (high - low)).astype(np.uint16)
        yield Picture(
            f"TIFF of 16 bits from {low} to {high}",
            "a.tif",
            encoded(Image.fromarray(deep), "TIFF"),
            (deep / 257).round().astype(np.uint8),
        )
    alpha = Image.fromarray(faces()).convert("LA")
    yield Picture("TIFF of grey with alpha", "a.tif", encoded(alpha, "TIFF"), np.asarray(alpha.convert("L")))


def _more_netpbm(faces: Faces) -> Found:
    grey = faces.grey()
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    black = (grey < 128).astype(np.uint8)
    digits = "".join(map(str, black.reshape(-1).tolist())).encode()
    right = np.where(black, 0, 255).astype(np.uint8)
    yield Picture("PBM in digits without spaces", "a.pbm", b"P1\n" + size + digits, right)
    yield Picture("PGM of one bit", "a.pgm", b"P5\n" + size + b"1\n" + (1 - black).tobytes(), right)
    yield Picture(
        "PGM of 100 levels", "a.pgm", b"P5\n" + size + b"100\n" + np.rint(grey / 2.55).astype(np.uint8).tobytes(), grey
    )
    pixels = faces()
    wide = (pixels.astype(np.uint16) * 257).astype(">u2").tobytes()
    yield Picture("PPM of 16 bits", "a.ppm", b"P6\n" + size + b"65535\n" + wide, pixels)
    yield Picture("PPM on one line", "a.ppm", b"P6 %d %d 255 " % (WIDTH, HEIGHT) + pixels.tobytes(), pixels)
    yield Picture("PPM cut short", "a.ppm", b"P6\n" + size + b"255\n" + pixels.tobytes()[:-9], None, ANY)


def bitmaps(faces: Faces) -> Found:
    """BMP as Windows, OS/2 and cameras of microscopes write it; netpbm; 1xN."""
    for what, options in BITMAPS.items():
        pixels, step = faces(), 8 if options.get("bits") == 16 else 1
        right = (pixels // step * step + (step // 2)).astype(np.uint8) if step > 1 else pixels
        yield Picture(f"BMP, {what}", "a.bmp", made.bmp(pixels, **options), right, tolerance=6.0)
    for mode in ("1", "L", "P"):
        image = Image.fromarray(faces.grey()).convert(mode)
        yield Picture(f"BMP of mode {mode}", "a.bmp", encoded(image, "BMP"), np.asarray(image.convert("L")))
        if mode != "P":
            ending = "pbm" if mode == "1" else "pgm"
            yield Picture(
                f"netpbm of mode {mode}", f"a.{ending}", encoded(image, "PPM"), np.asarray(image.convert("L"))
            )
    grey, pixels = faces.grey(), faces()
    size = b"%d %d" % (WIDTH, HEIGHT)
    text = " ".join(map(str, pixels.reshape(-1).tolist())).encode()
    yield Picture("PPM in digits", "a.ppm", b"P3\n" + size + b"\n255\n" + text + b"\n", pixels)
    yield Picture(
        "PPM with comments", "a.ppm", b"P6\n# by hand\n" + size + b"\n# more\n255\n" + pixels.tobytes(), pixels
    )
    wide = (grey.astype(np.uint16) * 257).astype(">u2").tobytes()
    yield Picture("PGM of 16 bits", "a.pgm", b"P5\n" + size + b"\n65535\n" + wide, grey)
    ten = np.rint(grey / 255 * 1023).astype(">u2").tobytes()
    yield Picture("PGM of 10 bits", "a.pgm", b"P5\n" + size + b"\n1023\n" + ten, grey)
    pam = b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" % (WIDTH, HEIGHT)
    yield Picture("PAM", "a.pam", pam + pixels.tobytes(), pixels, ANY, mentioned="pam")
    for height, width in ((1, 1), (1, 300), (300, 1), (2, 65500), (1, 40000), (3, 3), (7, 1)):
        line = np.random.default_rng(width).integers(0, 256, (height, width), np.uint8) // 16 * 8 + 60
        for kind in ("PNG", "JPEG", "BMP"):
            yield Picture(
                f"{kind} of {width}x{height}",
                f"a.{kind.lower().replace('jpeg', 'jpg')}",
                encoded(line, kind, **({"quality": 100} if kind == "JPEG" else {})),
                line,
                tolerance=6.0,
            )


# ------------------------------------------------------------------------------------------------- what is no picture

RIFF = b"RIFF\x40\0\0\0"
FOREIGN = {
    "HEIC": (made.boxes(b"heic", b"mif1", b"heic"), "heic", "HEIC|HEIF"),
    "HEIF of brand mif1": (made.boxes(b"mif1", b"mif1", b"heic"), "heif", "HEIC|HEIF"),
    "HEIC of a burst": (made.boxes(b"hevc", b"msf1", b"hevc"), "heics", "HEIC|HEIF"),
    "HEIC of a Canon": (made.boxes(b"heix", b"mif1", b"heix"), "HIF", "HEIC|HEIF"),
    "AVIF that is damaged": (made.boxes(b"avif", b"mif1", b"miaf"), "avif", "AVIF"),
    "CR3": (made.boxes(b"crx ", b"crx ", b"isom"), "CR3", "RAW|CR3"),
    "CR2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(4096), "CR2", "RAW|CR2"),
    "NEF": (made.raw(b"NIKON CORPORATION"), "NEF", "RAW|NEF"),
    "ARW": (made.raw(b"SONY"), "ARW", "RAW|ARW"),
    "DNG": (made.raw(b"Apple", [(50706, 1, 0x0401)]), "dng", "RAW|DNG"),
    "PEF": (made.raw(b"PENTAX Corporation"), "PEF", "RAW|PEF"),
    "RAF": (b"FUJIFILMCCD-RAW 0201FF" + bytes(900), "RAF", "RAW|RAF"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(900), "ORF", "RAW|ORF"),
    "RW2": (b"IIU\0\x18\0\0\0" + bytes(900), "RW2", "RAW|RW2"),
    "X3F": (b"FOVb\0\0\2\0" + bytes(900), "X3F", "RAW|X3F"),
    "MRW": (b"\0MRM\0\0\x10\0" + bytes(900), "MRW", "RAW|MRW|unknown"),
    "JPEG XL": (b"\xff\x0a" + bytes(90), "jxl", "JPEG XL"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl " + bytes(90), "jxl", "JPEG XL"),
    "a stream of JPEG 2000": (b"\xff\x4f\xff\x51" + bytes(90), "j2k", "JPEG 2000"),
    "JPEG XR": (b"II\xbc\x01\x20\0\0\0" + bytes(90), "jxr", "JPEG XR|unknown|jxr"),
    "JPEG-LS": (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x30\0\x28\1\1\x11\0" + bytes(90), "jls", ANY),
    "PSD": (b"8BPS\0\1" + bytes(90), "psd", "PSD|Photoshop"),
    "PSB": (b"8BPS\0\2" + bytes(90), "psb", "PSD|PSB|Photoshop"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "svg", "SVG"),
    "SVG after XML": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- by hand -->\n<svg viewBox="0 0 9 9"/>', "svg", "SVG"),
    "PDF": (b"%PDF-1.7\n" + bytes(90), "pdf", "PDF"),
    "MP4": (made.boxes(b"mp42", b"isom"), "mp4", "film|video|MP4"),
    "MOV": (made.boxes(b"qt  "), "MOV", "film|video|MOV"),
    "MOV without brands": (b"\0\0\0\x08wide\0\0\1\0mdat" + bytes(90), "mov", "film|video|MOV"),
    "WebM": (b"\x1a\x45\xdf\xa3" + bytes(90), "webm", "film|video|WebM"),
    "AVI": (RIFF + b"AVI LIST" + bytes(90), "avi", "film|video|AVI"),
    "3GP": (made.boxes(b"3gp4"), "3gp", "film|video|3GP"),
    "MPEG": (b"\0\0\1\xba\x44" + bytes(90), "mpg", "film|video|MPE?G|unknown"),
    "an XCF": (b"gimp xcf v011\0" + bytes(90), "xcf", ANY),
    "OpenEXR": (b"v/1\1\2\0\0\0" + bytes(90), "exr", ANY),
    "Radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64), "hdr", ANY),
    "DICOM": (bytes(128) + b"DICM" + bytes(90), "dcm", ANY),
    "FITS": (b"SIMPLE  =                    T" + b" " * 200, "fits", ANY),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 90, "eps", ANY),
    "WMF": (b"\xd7\xcd\xc6\x9a" + bytes(90), "wmf", ANY),
    "BPG": (b"BPG\xfb" + bytes(90), "bpg", ANY),
    "DjVu": (b"AT&TFORM\0\0\0\x20DJVU" + bytes(90), "djvu", ANY),
    "WebP that is damaged": (RIFF + b"WEBPVP8 " + bytes(56), "webp", "WebP|damaged|truncated"),
    "a WebP of zeros": (RIFF + b"WEBPVP8X" + bytes(56), "webp", "WebP|damaged|truncated"),
    "a sound": (RIFF + b"WAVEfmt " + bytes(56), "wav", ANY),
    "a cursor": (b"\0\0\2\0\1\0\x20\x20" + bytes(90), "cur", ANY),
}


def foreign(faces: Faces) -> Found:
    """Formats that are not read, under their own ending and as a photo: each is named."""
    del faces
    for what, (data, ending, pattern) in FOREIGN.items():
        yield Picture(
            f"{what} by its own ending",
            f"IMG_1.{ending}",
            data,
            None,
            pattern,
            mentioned=f"{pattern}|{ending}" if pattern != ANY else ending,
        )
        yield Picture(f"{what} named .jpg", "IMG_1.jpg", data, None, pattern)


def papers(faces: Faces) -> Found:
    """What a download leaves behind instead of a picture."""
    whole = encoded(faces())
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
    pages = {
        "nothing": (b"", "empty"),
        "spaces": (b"  \n\n ", "text|empty|unknown"),
        "a line": (b"Not Found", "text"),
        "HTML": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML"),
        "HTML in capitals": (b"<HTML><HEAD><TITLE>302</TITLE></HEAD></HTML>", "HTML"),
        "HTML after lines": (b"\n\n\t <!doctype HTML PUBLIC>\n<html></html>", "HTML"),
        "HTML after a byte order mark": (b"\xef\xbb\xbf<!DOCTYPE html><html></html>", "HTML"),
        "HTML after a comment": (b"<!-- cached --><html><body/></html>", "HTML|text"),
        "XHTML": (b'<?xml version="1.0"?><!DOCTYPE html><html/>', "HTML|XML|text"),
        "an answer of S3": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML|text"),
        "JSON": (b'{"error": "rate limit"}', "text|JSON"),
        "a pointer of git-lfs": (lfs, "LFS|text"),
        "base64": (b"data:image/jpeg;base64," + base64.b64encode(whole), "text"),
        "base64 alone": (base64.b64encode(whole), "text"),
        "UTF-16": ("Zugriff verweigert".encode("utf-16"), "text|unknown"),
        "cp1252": ("Datei nicht verfügbar".encode("cp1252"), "text|unknown"),
        "zeros": (bytes(5000), ANY),
        "0xff": (b"\xff" * 5000, ANY),
        "one byte": (b"\xff", ANY),
        "noise": (random.Random(5).randbytes(5000), ANY),
        "a JPEG in gzip": (gzip.compress(whole), ANY),
        "a zip": (b"PK\3\4" + bytes(90), ANY),
        "an array": (b"\x93NUMPY\1\0v\0{'descr'" + bytes(90), ANY),
        "a pickle": (b"\x80\4\x95\x10\0\0\0" + bytes(90), ANY),
        "a program": (b"\x7fELF\2\1\1" + bytes(90), ANY),
        "a path": (b"../../raw/face_0001.jpg", "text"),
    }
    for what, (data, pattern) in pages.items():
        for name in ("face.jpg", "face.png"):
            yield Picture(f"{what} as {name}", name, data, None, pattern)


def damages(faces: Faces) -> Found:
    """Pictures cut short at several places, with headers that lie, or with flipped bits."""
    kinds = {"JPEG": {}, "PNG": {}, "GIF": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}, "PPM": {}, "AVIF": {}}
    for kind, options in kinds.items():
        whole = encoded(faces(), kind, **options)
        for share in (0.02, 0.2, 0.5, 0.9):
            part = whole[: max(4, int(len(whole) * share))]
            yield Picture(f"{kind} cut at {share:.0%}", f"a.{kind.lower().replace('jpeg', 'jpg')}", part, None, ANY)
    for options in CUT:
        whole = encoded(faces(), **options)
        for share in (0.5, 0.8):
            yield Picture(
                f"JPEG with {options} cut at {share:.0%}", "a.jpg", whole[: int(len(whole) * share)], None, ANY
            )
    draw, pixels = random.Random(faces.seed), faces()
    whole = encoded(pixels, "PNG")
    for n in range(12):
        flipped = bytearray(whole)
        at = draw.randrange(40)
        flipped[at] ^= 1 << draw.randrange(8)
        yield Picture(f"PNG with a flipped bit in byte {at} ({n})", "a.png", bytes(flipped), pixels, ANY)
    whole = encoded(pixels)
    for at in (0, 1, 2, 3, whole.index(b"\xff\xdb"), whole.index(b"\xff\xc0") + 1, whole.index(b"\xff\xc4") + 2):
        flipped = bytearray(whole)
        flipped[at] ^= 0x40
        yield Picture(f"JPEG with a flipped bit in byte {at}", "a.jpg", bytes(flipped), pixels, ANY)
    for width, height in ((60_000, 60_000), (70_000, 2), (2**31 - 1, 1), (0, 40)):
        head = made.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        yield Picture(f"PNG that says {width}x{height}", "a.png", whole_png(head), None, ANY)
    frame = whole.index(b"\xff\xc0") + 5
    for height, width in ((65500, 65500), (1, 1), (480, 400)):
        lying = whole[:frame] + struct.pack(">HH", height, width) + whole[frame + 4 :]
        yield Picture(f"JPEG that says {width}x{height}", "a.jpg", lying, None, ANY)
    scan = whole.index(b"\xff\xda") + 200
    yield Picture("JPEG with zeros amid its pixels", "a.jpg", whole[:scan] + bytes(64) + whole[scan + 64 :], None, ANY)


def whole_png(head: bytes) -> bytes:
    """A PNG of some header and few pixels."""
    return b"\x89PNG\r\n\x1a\n" + head + made.png(np.zeros((4, 4, 3), np.int64), 8, 2)[33:]


FAMILIES: tuple[Callable[[Faces], Found], ...] = (
    endings, names, trailers, orientations, bits, chunks, tiffs, jpegs, profiles, several, gifs, bitmaps, relatives,
    foreign, papers, damages,
)  # fmt: skip
