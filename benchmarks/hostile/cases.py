"""What is thrown: mutated pictures, small files that claim much, checkpoints, targets, archives."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

# ------------------------------------------------------------------------------------------------- mutated pictures

KINDS = ("flips", "cut", "header", "zeros")


def mutated(data: bytes, kind: str, draw: random.Random) -> bytes:
    """The bytes with 1 to 8 bits flipped, cut short, a lying width or height, or a zeroed run of up to 5 %."""
    content = bytearray(data)
    if kind == "flips":
        for _ in range(draw.randint(1, 8)):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == "cut":
        del content[draw.randrange(len(content) // 10, len(content)) :]
    elif kind == "zeros":
        length = draw.randint(1, max(2, len(content) // 20))
        start = draw.randrange(len(content) - length)
        content[start : start + length] = bytes(length)
    else:
        _lie(content, draw)
    return bytes(content)


def _lie(content: bytearray, draw: random.Random) -> None:
    """Another width or height in the header; a PNG's checksum is made right again."""
    png = content[:4] == b"\x89PNG"
    start = 16 if png else _frame(content) + 5
    form = ">II" if png else ">HH"
    sides = list(struct.unpack_from(form, content, start))
    which, factor = draw.randrange(2), draw.choice([0.5, 0.9, 1.1, 2.0])
    sides[which] = max(1, round(sides[which] * factor))
    struct.pack_into(form, content, start, *sides)
    if png:
        struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))


def _frame(content: bytearray) -> int:
    """Where the frame header of a JPEG begins."""
    at = 2
    while content[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at


# ------------------------------------------------------------------------------------------ small files, much claimed


def png(
    width: int,
    height: int,
    depth: int = 8,
    colour: int = 2,
    extra: bytes = b"",
    interlace: int = 0,
    packed: bytes | None = None,
) -> bytes:
    """A black PNG, or one of ``packed`` bytes, whatever its header says; black pixels are packed as they are made."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    if packed is None:
        packer, row = zlib.compressobj(9), bytes(1 + (width * depth * channels + 7) // 8)
        packed = b"" if interlace else b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if colour == 3 else b""
    parts = [chunk(b"IHDR", header), palette, extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, body: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def plain(kind: str, mode: str, width: int, height: int, **options: Any) -> bytes:
    """A picture of one colour as Pillow writes it."""
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    """EXIF that says the camera lay on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def tile_of(side: int) -> bytes:
    """A TIFF of 64x64 pixels whose one tile is far larger."""
    packed = zlib.compress(bytes(side * side), 9)
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 4, side), (323, 4, side), (324, 4, 8), (325, 4, len(packed))]
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + ifd


def zipped(name: str, content: bytes) -> bytes:
    """A zip of one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Files of at most 1 MB, by name: the most that the number of pixels allows, and what memory allows."""
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)) * 60
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
    yield "rgb.png", lambda: png(7000, 7000)
    yield "rgb-allowed.png", lambda: png(5700, 5700)
    yield "rgba.png", lambda: png(7000, 7000, colour=6)
    yield "rgba-allowed.png", lambda: png(5700, 5700, colour=6)
    yield "grey-alpha-allowed.png", lambda: png(5700, 5700, colour=4)
    yield "palette-see-through.png", lambda: png(7000, 7000, colour=3)
    yield "rgb-16-bit-allowed.png", lambda: png(5700, 5700, depth=16)
    yield "grey-16-bit.png", lambda: png(7000, 7000, depth=16, colour=0)
    yield "one-bit.png", lambda: png(7000, 7000, depth=1, colour=0)
    yield "wide.png", lambda: png(30_000_000, 1)
    yield "wide-allowed.png", lambda: png(65_535, 490)
    yield "high-allowed.png", lambda: png(490, 65_535)
    yield "high.png", lambda: png(1, 2_000_000)
    yield "60000x60000.png", lambda: png(60_000, 60_000, interlace=1)
    yield "text.png", lambda: png(5000, 5000, extra=text)
    yield "profile.png", lambda: png(5000, 5000, extra=profile)
    yield "turned.png", lambda: png(4500, 4500, extra=chunk(b"eXIf", turned().tobytes().removeprefix(b"Exif\0\0")))
    yield "grey.jpg", lambda: plain("JPEG", "L", 7000, 7000, quality=30)
    yield "rgb.jpg", lambda: plain("JPEG", "RGB", 7000, 7000, quality=30)
    yield "progressive.jpg", lambda: plain("JPEG", "RGB", 7000, 7000, quality=30, progressive=True)
    yield "progressive-allowed.jpg", lambda: plain("JPEG", "RGB", 6000, 6000, quality=30, progressive=True)
    yield "turned.jpg", lambda: plain("JPEG", "RGB", 7000, 7000, quality=30, exif=turned())
    yield "turned-allowed.jpg", lambda: plain("JPEG", "RGB", 6100, 6100, quality=30, exif=turned())
    yield "cmyk-allowed.jpg", lambda: plain("JPEG", "CMYK", 4500, 4500, quality=30)
    yield "rgb.gif", lambda: plain("GIF", "P", 7000, 7000)
    yield "rgb-allowed.gif", lambda: plain("GIF", "P", 5400, 5400)
    yield "rgba.tif", lambda: plain("TIFF", "RGBA", 7000, 7000, compression="tiff_adobe_deflate")
    yield "rgba-allowed.tif", lambda: plain("TIFF", "RGBA", 3900, 3900, compression="tiff_adobe_deflate")
    yield "grey-16-bit-allowed.tif", lambda: plain("TIFF", "I;16", 4600, 4600, compression="tiff_adobe_deflate")
    yield "turned.tif", lambda: plain("TIFF", "RGB", 3900, 3900, compression="tiff_adobe_deflate", exif=turned())
    yield "giant-tile.tif", lambda: tile_of(20_000)
    yield "lossless.webp", lambda: plain("WEBP", "RGB", 7000, 7000, lossless=True, quality=0, method=0)
    yield "rgb-allowed.webp", lambda: plain("WEBP", "RGB", 3500, 3500, quality=1, method=0)
    yield "rgba-allowed.webp", lambda: plain("WEBP", "RGBA", 3500, 3500, lossless=True, quality=0, method=0)
    yield "rgb-allowed.avif", lambda: plain("AVIF", "RGB", 3500, 3500, quality=10, speed=10)
    yield "rgba-allowed.avif", lambda: plain("AVIF", "RGBA", 3500, 3500, quality=10, speed=10)
    yield "rle.tga", lambda: plain("TGA", "RGB", 5700, 5700, compression="tga_rle")
    yield "bmp-allowed.zip", lambda: zipped("a.bmp", plain("BMP", "RGB", 4200, 4200))
    yield "bmp.zip", lambda: zipped("a.bmp", plain("BMP", "RGB", 4700, 4700))
    yield "padded-png.zip", lambda: zipped("a.png", png(5700, 5700, extra=chunk(b"faCe", bytes(60_000_000))))
    yield "zeros.zip", lambda: zipped("a.jpg", bytes(500_000_000))


# -------------------------------------------------------------------------------------------------------- checkpoints

GADGETS: dict[str, Callable[[str], tuple[Any, tuple[Any, ...]]]] = {
    "os.system": lambda canary: (os.system, (f"touch {canary}",)),
    "eval": lambda canary: (eval, (f"open({canary!r}, 'w').close()",)),
    "exec": lambda canary: (exec, (f"open({canary!r}, 'w').close()",)),
    "Popen": lambda canary: (__import__("subprocess").Popen, (["touch", canary],)),
    "open": lambda canary: (open, (canary, "w")),
    "torch.hub.load": lambda canary: (torch.hub.load, (canary, "model")),
}


class Gadget:
    """An object whose unpickling calls a function."""

    def __init__(self, name: str, canary: str) -> None:
        self.call = GADGETS[name](canary)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def saved(value: Any, **options: Any) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def pickled(base: dict[str, Any], canary: str) -> Iterator[tuple[str, bytes]]:
    """Checkpoints that hold an object which runs when it is loaded in the usual way."""
    for name in GADGETS:
        gadget = Gadget(name, canary)
        yield f"pickle-{name}", pickle.dumps({**base, "state_dict": gadget}, protocol=2)
        yield f"torch-{name}", saved({**base, "config": {**base["config"], "model": gadget}})
        yield f"old-torch-{name}", saved({**base, "x": gadget}, _use_new_zipfile_serialization=False)
    yield "torch-whole", saved(Gadget("os.system", canary))
    yield "torch-key", saved({**base, "optimizers": [{"a": (Gadget("exec", canary),)}]})


def foreign_models(model: dict[str, Any], canary: str, place: str = "generator") -> dict[str, Any]:
    """Configurations of a model that would run something if they were built without looking, at ``place`` in it."""
    call = {"_target_": "codecs.open", "filename": canary, "mode": "w"}  # which Hydra's own list does not know
    text = f"{{_target_:codecs.open,filename:'{canary}',mode:w}}"
    deep: Any = call
    for _ in range(100):
        deep = [deep]
    return {
        "plain": call,
        "nested": {**model, place: call},
        "nested-in-list": {"_target_": "torch.nn.Sequential", "args": [call]},
        "in-a-tuple": {**model, place: (call,)},
        "nested-in-tuple": {"_target_": "torch.nn.Sequential", "_args_": (call,)},
        "partial": {**call, "_partial_": True},
        "args": {"_target_": "builtins.eval", "_args_": [f"open({canary!r}, 'w')"]},
        "interpolated-create": {**model, place: f"${{oc.create:{text}}}"},
        "interpolated-decode": {**model, place: f'${{oc.decode:"{text}"}}'},
        "interpolated-target": {**model, "name": "os.system", "_target_": "${name}"},
        "interpolated-environment": {**model, place: "${oc.env:HOME}"},
        "escaped": {**model, place: "\\${oc.env:HOME}"},
        "alias": {"_target_": "faceforge.engine.training.os.system", "command": f"touch {canary}"},
        "instantiate": {"_target_": "hydra.utils.instantiate", "config": call},
        "not-recursive": {**model, "_recursive_": False, place: call},
        "deep": {**model, place: deep},
        "ordered": OrderedDict(call),
        "number": {**model, "_target_": 7},
        "none": None,
        "text": "os.system",
    }


def wrong_kinds(base: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is no checkpoint, though nothing in it runs."""
    weights = base["state_dict"]
    first = next(iter(weights))
    claimed = torch.zeros(1).expand(10**10)
    yield from {"a-list": [1, 2], "a-tensor": torch.zeros(3), "a-number": 3, "a-text": "x", "nothing": None}.items()
    for key, value in {"version": "9", "clock": [1], "state_dict": [torch.zeros(1)], "config": "x"}.items():
        yield f"{key}-wrong", {**base, key: value}
    yield "clock-empty", {**base, "clock": {}}
    yield "newer", {**base, "version": 99}
    older = {"state_dict": {1: torch.zeros(1)}, "config": {"model": [{"_target_": 3}]}}
    for key, value in older.items():
        yield f"older-{key}", {**base, "version": 1, key: value}
    for name, value in {"text": "x", "sparse": torch.eye(3).to_sparse(), "claimed": claimed}.items():
        yield f"weight-{name}", {**base, "state_dict": {**weights, first: value}}
    yield "weight-missing", {**base, "state_dict": {k: v for k, v in weights.items() if k != first}}
    yield "weight-shape", {**base, "state_dict": {**weights, first: torch.zeros(3, 5, 7)}}


def broken_bytes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """A sound checkpoint's bytes, damaged."""
    yield "empty", b""
    yield "half", whole[: len(whole) // 2]
    yield "cut-by-1", whole[:-1]
    for share in (0.02, 0.3, 0.6):
        content = bytearray(whole)
        content[_inside_an_entry(whole, share)] ^= 4
        yield f"flipped-{share}", bytes(content)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in archive.namelist():
                packed.writestr(name, archive.read(name))
            packed.writestr("archive/data/bomb", bytes(300_000_000))
        yield "packed-bomb", buffer.getvalue()


def _inside_an_entry(archive: bytes, share: float) -> int:
    """Where a byte of a zip's contents lies, a share of the way through its entries; between them is only padding."""
    entries = [entry for entry in zipfile.ZipFile(io.BytesIO(archive)).infolist() if entry.file_size]
    entry = entries[int(len(entries) * share)]
    name, extra = struct.unpack_from("<HH", archive, entry.header_offset + 26)
    return entry.header_offset + 30 + name + extra + entry.file_size // 2


def hostile_checkpoints(base: dict[str, Any], canary: str) -> dict[str, bytes]:
    """All of them, by name."""
    found = dict(pickled(base, canary))
    for name, model in foreign_models(base["config"]["model"], canary).items():
        found[f"config-{name}"] = saved({**base, "config": {**base["config"], "model": model}})
    found |= {f"kind-{name}": saved(value) for name, value in wrong_kinds(base)}
    found |= {f"bytes-{name}": content for name, content in broken_bytes(saved(base))}
    return found


def hostile_exports(whole: bytes, canary: str) -> dict[str, bytes]:
    """Exported models with hostile headers; ``whole`` is a sound one."""
    length = struct.unpack_from("<Q", whole)[0]
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    about = json.loads(header["__metadata__"]["about"])
    model = about["config"]["model"]

    def made(changed: Any) -> bytes:
        text = changed if isinstance(changed, str) else json.dumps(changed)
        return made_of({**header, "__metadata__": {**header["__metadata__"], "about": text}})

    def made_of(head: Any) -> bytes:
        text = head if isinstance(head, bytes) else json.dumps(head).encode()
        return struct.pack("<Q", len(text)) + text + body

    def with_model(node: Any) -> bytes:
        return made({**about, "config": {**about["config"], "model": node}})

    name = next(key for key in header if key != "__metadata__")
    found = {f"config-{key}": with_model(node) for key, node in foreign_models(model, canary).items() if key != "deep"}
    found |= {
        "length-huge": struct.pack("<Q", 2**63) + whole[8:],
        "length-200-MB": struct.pack("<Q", 200_000_000) + whole[8:],
        "not-json": made_of(b"{" * 100),
        "deep-json": made("[" * 100_000),
        "about-a-list": made([1]),
        "about-a-number": made("3"),
        "newer": made({**about, "version": 99}),
        "config-a-text": made({**about, "config": "x"}),
        "space-a-text": made({**about, "space": "x"}),
        "space-empty": made({**about, "space": {"format": "faceforge latent space", "version": 1}}),
        "images-a-text": made({**about, "images": "many"}),
        "offsets-outside": made_of({**header, name: {**header[name], "data_offsets": [0, 10**12]}}),
        "shape-huge": made_of({**header, name: {**header[name], "shape": [10**12]}}),
        "half": whole[: len(whole) // 2],
        "empty": b"",
    }
    return found


# ------------------------------------------------------------------------------------------------------------ targets

_TARGETS = (
    "os.system os.popen os.execv os.remove posix.system subprocess.run subprocess.Popen subprocess.check_output "
    "builtins.eval builtins.exec builtins.open builtins.__import__ builtins.compile pty.spawn runpy.run_path "
    "shutil.rmtree pathlib.Path.write_text pathlib.Path.unlink importlib.import_module pickle.loads marshal.loads "
    "socket.create_connection urllib.request.urlopen webbrowser.open ctypes.CDLL code.interact timeit.timeit "
    "torch.load torch.hub.load torch.save torch.ops.load_library torch.utils.cpp_extension.load torch.jit.load "
    "torch.nn.Module.apply torch.nn.functional.relu torch.nn.modules.module.warnings.warn torch.optim.sys.exit "
    "torch.nn.__builtins__.eval torch.optim.Optimizer.load_state_dict numpy.load yaml.unsafe_load "
    "hydra.utils.instantiate hydra.utils.call omegaconf.OmegaConf.load albumentations.load cv2.imread "
    "faceforge.engine.training.os.system faceforge.data.datamodule.np.load faceforge.config.hydra.utils.instantiate "
    "faceforge.engine.callbacks.checkpointing.checkpoint.load faceforge.engine.checkpoint.torch.load "
    "faceforge.engine.checkpoint.Path faceforge.io.archives.open_store faceforge.fetch.download.fetch "
    "faceforge.main.main faceforge.engine.training.train "
    "faceforge.engine.loggers.os.system faceforge.networks..os.system faceforge.metrics.features.torch.hub.load "
    "faceforge.engine.run.subprocess.run torch.nn torch os.system. .os.system"
)
TARGETS = _TARGETS.split()


def hostile_nodes(canary: str) -> dict[str, Any]:
    """Configuration nodes, by name: each target alone, and one in every place in which it could hide."""
    found: dict[str, Any] = {target: {"_target_": target, "_args_": [canary]} for target in TARGETS}
    model = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    return found | {
        f"hidden: {name}": node
        for name, node in foreign_models(model, canary, "bias").items()
        if name not in ("text", "none")
    }


# ----------------------------------------------------------------------------------------------------------- archives


def hostile_archives(folder: Path, picture: bytes, huge: int = 10 * 2**30) -> dict[str, Path]:
    """Archives below ``folder``, by what is wrong with them. Each also holds four sound pictures."""
    sound = {f"{n}.jpg": picture for n in range(4)}
    names = {"up": "../evil.jpg", "deep-up": "a/../../evil.jpg", "absolute": "/tmp/faceforge-evil.jpg"}
    names |= {"backslash": "..\\evil.jpg", "drive": "C:\\evil.jpg"}
    found = {}
    for case, name in names.items():
        found[f"{case}.zip"] = _zip(folder / f"{case}.zip", {**sound, name: picture})
        found[f"{case}.tgz"] = _tgz(folder / f"{case}.tgz", {**sound, name: picture})
    for kind in ("SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"):
        member = tarfile.TarInfo("evil.jpg")
        member.type, member.linkname = getattr(tarfile, kind), "/etc/passwd"
        found[f"{kind}.tgz"] = _tgz(folder / f"{kind}.tgz", sound, member)
    found["case.zip"] = _zip(folder / "case.zip", {**sound, "A.jpg": picture, "a.jpg": picture, "a.JPG": picture})
    found["nested.zip"] = _zip(folder / "nested.zip", {**sound, "inner.zip": zipped("../evil.jpg", picture)})
    found["twice.tgz"] = _tgz(folder / "twice.tgz", sound, *[tarfile.TarInfo("0.jpg")] * 3)
    found["encrypted.zip"] = _encrypted(_zip(folder / "encrypted.zip", sound))
    if huge:
        found["zeros.zip"] = _zeros(folder / "zeros.zip", sound, huge)
        found["sparse.tar"] = _sparse(folder / "sparse.tar", huge)
    return found


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def _tgz(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in extra:
            archive.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def _encrypted(path: Path) -> Path:
    """Every member marked as encrypted."""
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    path.write_bytes(content)
    return path


def _zeros(path: Path, files: dict[str, bytes], size: int) -> Path:
    """A zip with a packed member of ``size`` zeros."""
    _zip(path, files)
    block = bytes(2**24)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("zeros.bin", "w", force_zip64=True) as member,
    ):
        for _ in range(size // len(block)):
            member.write(block)
    return path


def _sparse(path: Path, size: int) -> Path:
    """A GNU sparse tar: 512 bytes that say they are ``size`` zeros."""
    member = tarfile.TarInfo("zeros.jpg")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = f"{size:011o}\0".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    path.write_bytes(bytes(header) + bytes(1024))
    return path


SIZES = ((64, 64), (128, 128), (218, 178), (250, 250))  # of the usual sets of faces


def portraits(count: int) -> list[np.ndarray]:
    """Drawn faces (H, W, 3) of several sizes."""
    from faceforge.data.sources.drawn import Drawn

    source = Drawn(None, count=count, seed=0)
    return [source.read(n, SIZES[n // 4 % len(SIZES)]) for n in range(count)]
