"""Short forms of benchmarks/hostile: nothing hostile runs, crashes, escapes or takes much memory."""

import io
import os
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_makers import encode, picture, write
from PIL import Image

from benchmarks.hostile import cases
from benchmarks.hostile import measure as hostile
from faceforge import config
from faceforge.data.sources.crops import Crops
from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.io import images, jpeg
from faceforge.io.archives import BOMB_BYTES
from faceforge.io.images import ImageError, decode

# ------------------------------------------------------------------------------------------------------------- images


def test_what_counts_as_visibly_broken():
    sound = np.full((40, 24, 3), 100, np.uint8)
    spot, faint = sound.copy(), sound + 2
    spot[16:32, 16:24] += 20
    assert not hostile.visibly_broken(faint, sound)
    assert hostile.visibly_broken(faint + 1, sound)
    assert hostile.visibly_broken(spot, sound)
    assert hostile.visibly_broken(sound[1:], sound)


def test_mutated_pictures_are_rarely_taken_for_good():
    found = hostile.shares(hostile.fuzz(hostile.sources(None), 400, seed=1), 400)
    assert found["crashes"] == 0
    assert found["taken_broken_share"] <= 0.12
    assert found["taken_broken_over_pil"] <= 0.25
    assert found["taken_broken_known"] == 0
    assert found["pillow_taken_broken_share"] > 0.3  # else the mutations would be harmless


@pytest.mark.parametrize("quality", [10, 75, 95])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("progressive", [False, True])
def test_no_sound_jpeg_is_taken_for_a_broken_one(quality, optimize, progressive):
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    grid = (np.indices((64, 48)).sum(0) % 2 * 255).astype(np.uint8)
    for array in (picture(0), noise, grid, np.full((64, 48), 255, np.uint8), np.zeros((300, 300, 3), np.uint8)):
        options = {"quality": quality, "optimize": optimize, "progressive": progressive}
        assert decode(encode(array, **options)).shape == array.shape


def test_a_zeroed_run_and_a_doubled_huffman_symbol_are_seen():
    whole = encode(picture(0, 200, 200))
    start = jpeg.read(whole).start
    with pytest.raises(ImageError, match="damaged JPEG: a run of zeros"):
        decode(whole[: start + 300] + bytes(12) + whole[start + 312 :])
    table = whole.index(b"\xff\xc4")
    changed = bytearray(whole)
    changed[table + 21] = changed[table + 22]
    with pytest.raises(ImageError, match="Huffman table"):
        decode(bytes(changed))


def test_headers_of_jpegs_are_read_as_the_standard_says():
    plain, progressive = jpeg.read(encode(picture(0), subsampling=2)), jpeg.read(encode(picture(0), progressive=True))
    assert (plain.kind, plain.buffered, plain.zeros_are_noise) == (0xC0, 0, True)
    assert plain.factors == {1: (2, 2), 2: (1, 1), 3: (1, 1)}
    assert (progressive.kind, progressive.zeros_are_noise) == (0xC2, False)
    assert progressive.buffered == 3  # 2 bytes times (4 + 1 + 1) / 4 coefficients a pixel
    for broken in (b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\xd8\xff\xda\0\x03\x07"):
        with pytest.raises(ValueError, match=r"segment|premature"):
            jpeg.read(broken)


def test_endless_scans_are_refused():
    whole = encode(picture(0), progressive=True)
    last = whole.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 64 scans"):
        decode(whole[:-2] + whole[last:-2] * 80 + b"\xff\xd9")


def test_tiles_do_not_change_pixels(monkeypatch):
    rgba = np.random.default_rng(1).integers(0, 256, (37, 53, 4), dtype=np.uint8)
    wide = np.random.default_rng(2).integers(0, 65536, (37, 53), dtype=np.uint16)
    palette = Image.fromarray(rgba[..., :3]).quantize(16)
    files = [encode(rgba, "PNG"), encode(rgba[..., :3], "TIFF"), encode(Image.fromarray(wide), "PNG")]
    files += [encode(palette, "PNG", transparency=3), encode(palette, "GIF"), encode(Image.fromarray(wide), "TIFF")]
    whole = [decode(data) for data in files]
    monkeypatch.setattr(images, "_TILE", 20)
    for data, expected in zip(files, whole, strict=True):
        assert np.array_equal(decode(data), expected)


@pytest.mark.parametrize(
    "name",
    [
        "rgb-allowed.png",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("high-allowed.png", "padded-png.zip", "giant-tile.tif")),
    ],
)
def test_small_files_take_little_memory(tmp_path, name):
    found = hostile.peaks(tmp_path, [name])[name]
    assert found["bytes"] <= 1_000_000
    assert found["mib"] <= 256
    assert found["said"] == "taken" if name.count("allowed") else "more than" in found["said"]


def test_a_large_photo_may_take_more_memory_than_a_bomb():
    bomb = cases.png(6000, 6000)
    with pytest.raises(ImageError, match=r"needs \d+ MiB of memory for"):
        decode(bomb)
    for inside, taken in ((np.random.default_rng(0).bytes(8_000_000), True), (bytes(8_000_000), False)):
        chunk = struct.pack(">I", len(inside)) + b"teSt" + inside + struct.pack(">I", zlib.crc32(b"teSt" + inside))
        large = bomb[:33] + chunk + bomb[33:]
        if taken:
            assert decode(large).shape[:2] == (6000, 6000)
            continue
        with pytest.raises(ImageError, match="needs"):
            decode(large)


def test_a_file_that_is_not_the_one_its_manifest_lists_is_a_bad_picture(tmp_path):
    import hashlib

    whole = encode(picture(0), "BMP")
    other = bytearray(whole)
    other[60] ^= 255  # a format without any checksum
    for name, data in {"a.bmp": whole, "b.bmp": bytes(other), "c.bmp": bytes(other)}.items():
        write(tmp_path / name, data)
    known = hashlib.sha256(whole).hexdigest()
    write(tmp_path / "SHA256SUMS", f"{known}  a.bmp\n{known} *./b.bmp\n".encode())
    source = Crops(str(tmp_path))
    assert source.read(0, (4, 4)).shape == (40, 40, 3)
    assert source.read(2, (4, 4)).shape == (40, 40, 3)
    with pytest.raises(ImageError, match="not the one that its manifest lists"):
        source.read(1, (4, 4))
    write(tmp_path / "SHA256SUMS", b"hello\n")
    with pytest.raises(BadInput, match="SHA256SUMS: line 1 must be a hash"):
        Crops(str(tmp_path))


# -------------------------------------------------------------------------------------------- what must never run


@pytest.fixture(scope="module")
def child():
    """What was executed, refused and connected to in a process of its own, without a network where that can be had."""
    return hostile._in_child("all", alone=True)


@pytest.mark.parametrize(("what", "count"), [("checkpoints", "files"), ("targets", "targets")])
def test_hostile_checkpoints_and_targets_execute_nothing(child, what, count):
    assert child[what][count] >= 50
    assert child[what]["executed"] == 0, child[what]["seen"]
    assert child[what]["not_refused"] == {}


def test_the_watch_sees_what_it_should():
    watch = hostile.Watch()
    os.system("true")
    watch.on = True
    os.system("true")
    watch.on = False
    assert len(watch.seen) == 1


def test_hydra_alone_would_run_what_hides_in_tuples_and_interpolations(tmp_path):
    """Shows that the hostile nodes are live: only the check stands before them."""
    import hydra

    model = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    nodes = cases.foreign_models(model, str(tmp_path / "canary"), "bias")
    for case in ("in-a-tuple", "interpolated-create"):
        with pytest.raises(BadInput):
            config.build(nodes[case])
        assert not (tmp_path / "canary").exists()
        hydra.utils.instantiate(nodes[case], _convert_="all")
        (tmp_path / "canary").unlink()


def middle_of_largest(path):
    """The place of a byte of the largest tensor: between tensors lies padding, in which a change is no damage."""
    with zipfile.ZipFile(path) as stored:
        largest = max(stored.infolist(), key=lambda entry: entry.file_size)
    name, extra = struct.unpack_from("<HH", path.read_bytes(), largest.header_offset + 26)
    return largest.header_offset + 30 + name + extra + largest.file_size // 2


def test_resume_at_a_hostile_or_damaged_checkpoint(tiny, resume, tmp_path):
    run = tiny("run")
    last, previous = run / "checkpoints/last.ckpt", run / "checkpoints/previous.ckpt"
    whole = last.read_bytes()
    (run / "checkpoints/hashes.txt").unlink()  # as where a folder was put together by hand
    flipped = bytearray(whole)
    flipped[middle_of_largest(last)] ^= 1
    evil = cases.saved(
        {**torch.load(last, weights_only=True), "x": cases.Gadget("os.system", str(tmp_path / "canary"))}
    )
    for content in (whole[: len(whole) // 2], bytes(flipped), evil):
        last.write_bytes(content)
        with pytest.warns(
            UserWarning, match=r"last\.ckpt: not a faceforge checkpoint .*using .*previous\.ckpt instead"
        ):
            assert checkpoint.read(last)["clock"]["images"] == 20
    kept = previous.read_bytes()
    previous.unlink()
    with pytest.raises(BadInput, match=r"last\.ckpt: not a faceforge checkpoint"):
        resume(run, "trainer.max_images=80")
    previous.write_bytes(kept)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert resume(run, "trainer.max_images=60") == 0
    assert any("previous.ckpt instead" in str(one.message) for one in said)
    assert checkpoint.read(last)["clock"]["images"] == 60
    assert not (tmp_path / "canary").exists()


# ----------------------------------------------------------------------------------------------------------- archives


def test_hostile_archives_are_refused_or_read_without_a_trace(tmp_path):
    said = hostile.open_archives(tmp_path, 0)
    for case in ("up", "deep-up", "absolute", "backslash", "drive"):
        for kind in (".zip", ".tgz"):
            assert said[case + kind].startswith("refused: data.root=/"), case
            assert "which is outside it" in said[case + kind]
    for case in ("SYMTYPE", "LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE"):
        assert said[f"{case}.tgz"] == "taken: 0.jpg 1.jpg 2.jpg 3.jpg; 0 unreadable"
    assert said["encrypted.zip"].endswith("; 4 unreadable")
    assert said["case.zip"].startswith("taken: 0.jpg 1.jpg 2.jpg 3.jpg A.jpg a.JPG a.jpg; 0")


def test_members_of_gigabytes_of_zeros_are_refused_unread(tmp_path):
    packed = cases._zeros(tmp_path / "zeros.zip", {"0.jpg": encode(picture(0))}, 2**24)
    content = bytearray(packed.read_bytes())
    at = content.rindex(b"zeros.bin") - 46 + 24
    content[at : at + 4] = (BOMB_BYTES * 3).to_bytes(4, "little")  # what the directory says is what counts
    packed.write_bytes(content)
    for path in (packed, cases._sparse(tmp_path / "sparse.tar", 2**31)):
        with pytest.raises(BadInput, match=r"expands to [\d,]+ bytes; nothing was extracted"):
            Crops(str(path), cache=str(tmp_path / "cache"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


# ------------------------------------------------------------------------------------------------------------ network


def test_training_and_commands_connect_to_nothing(child):
    found = child["network"]
    assert found["codes"] == [0, 0, 0]
    assert found["connection_attempts"] == 0, found["seen"]


@pytest.mark.slow
def test_sixty_thousand_by_sixty_thousand_ends_a_training_in_one_line(tmp_path):
    write(tmp_path / "faces/a.png", cases.png(60_000, 60_000, interlace=1))
    write(tmp_path / "faces/b.png", io.BytesIO(encode(picture(1), "PNG")).getvalue())
    script = Path(__file__).parents[1] / "train.py"
    words = ["data=crops", f"data.root={tmp_path}/faces", f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache"]
    command = [sys.executable, str(script), *words, "data.size=8", "trainer.gpus=0", "logger.mode=disabled"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("faceforge:")]
    assert len(said) == 1
    assert "more than 50000000" in said[0]
    assert not (tmp_path / "run").exists()
