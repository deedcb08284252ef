"""Other people's pictures: trailers, profiles, endings, kinds that are not read, and sizes, whatever opens them."""

import io
import re
import struct
import sys
import types
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_makers import encode, make_crops, picture, put, put_tgz, put_zip, write
from PIL import Image, ImageCms, ImageFile
from test_cut_job import cut_haar
from yunet import WEIGHTS, needs_yunet

from benchmarks.hostile import phones as phone_photos
from benchmarks.hostile.profiles import PRIMARIES, cmyk_profile, profile, tagged
from faceforge.cut.detect import yunet
from faceforge.cut.frame import roll
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io import kinds, manifest
from faceforge.io.images import ImageError, decode, jpeg_size
from faceforge.studio import photo as photos

SOFT = (picture(1, 48, 60) // 2 + 60).astype(np.uint8)  # without colours that lie outside sRGB in another space
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
CODED = {
    "JPEG": encode(SOFT),
    "progressive": encode(SOFT, progressive=True),
    "restarts": encode(SOFT, restart_marker_rows=1),
    "grey": encode(SOFT[..., 0]),
    "CMYK": encode(Image.fromarray(SOFT).convert("CMYK")),
    **{kind: encode(SOFT, kind, **options) for kind, options in LOSSLESS.items()},
    "GIF": encode(SOFT, "GIF"),
    "BMP": encode(SOFT, "BMP"),
    "PPM": encode(SOFT, "PPM"),
}
JPEGS = ("JPEG", "progressive", "restarts", "grey", "CMYK")
BOX = b"\0\0\0\x18ftyp%s\0\0\0\0mif1heic"


# ------------------------------------------------------------------------------------------------ where a picture ends


@given(kind=st.sampled_from(sorted(CODED)), tail=st.binary(min_size=1, max_size=600), n=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_what_follows_a_picture_never_matters(kind, tail, n):
    data = CODED[kind]
    usual = phone_photos.trailer(phone_photos.TRAILERS[n], data) or bytes(8)
    for after in (tail, usual, usual + tail, b"\xff\xda" * 99 + tail):
        assert np.array_equal(decode(data + after), decode(data)), (kind, after[:20])


@given(kind=st.sampled_from(JPEGS), share=st.floats(0.05, 0.95), zeros=st.sampled_from([0, 9, 512]))
@settings(max_examples=100, deadline=None)
def test_a_jpeg_that_ends_early_is_refused_whatever_follows(kind, share, zeros):
    whole = CODED[kind]
    start = whole.index(b"\xff\xda") + 14
    short = whole[: start + int(share * (len(whole) - 2 - start))]
    for after in (bytes(zeros), bytes(zeros) + whole):
        if kind == "progressive" and after:
            continue  # its decoder cannot tell zeros from data
        with pytest.raises(ImageError, match=r"truncated|damaged"):
            decode(short + after)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_pictures_that_end_early_are_refused(kind):
    data = CODED[kind]
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError):
            decode(data[: int(share * len(data))])


# ------------------------------------------------------------------------------------------- the same steps every way


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["CMYK", "L", "RGBA", "LA", "P", "I;16", "RGB"])
def test_every_way_through_the_decoder_ends_upright(mode, orientation):
    from test_images import STORED, corners

    upright = corners()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(stored.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    ways = {"CMYK": ("JPEG", "TIFF"), "L": ("JPEG", "PNG"), "RGB": ("JPEG", "WEBP")}.get(mode, ("PNG", "TIFF"))
    image = stored if mode == "I;16" else stored.quantize(64) if mode == "P" else stored.convert(mode)
    for kind in ways if mode not in ("RGBA", "P", "LA") else ("PNG",):
        found = decode(encode(image, kind, exif=exif))
        wanted = upright if found.ndim == 3 else np.asarray(Image.fromarray(upright).convert("L"))
        assert found.shape == wanted.shape
        assert np.abs(found.astype(int) - wanted).mean() < 8, kind


def test_a_transparent_level_of_a_grey_png_lies_on_white():
    for wide in (np.array([[0, 300], [40_000, 65_535]], np.uint16), np.array([[0, 77], [128, 9]], np.uint8)):
        found = decode(encode(Image.fromarray(wide), "PNG", transparency=int(wide[0, 1])))
        assert found[0, 1] == 255
        assert found[0, 0] == 0


# --------------------------------------------------------------------------------------------------------- profiles


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "palette", "alpha"])
def test_profiles_become_srgb(name, kind):
    image = tagged(SOFT, name)
    if kind == "palette":
        image = image.quantize(256)
        original = np.asarray(image.convert("RGB"))
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile(name)))
        wanted = np.asarray(ImageCms.profileToProfile(Image.fromarray(original), given, ImageCms.createProfile("sRGB")))
    else:
        wanted = SOFT
    if kind == "alpha":
        image.putalpha(255)
    form = kind if kind in ("JPEG", "WEBP", "TIFF") else "PNG"
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    found = decode(encode(image, form, icc_profile=profile(name), **options))
    assert np.abs(found.astype(int) - wanted).mean() <= 1.5
    plain = decode(encode(image, form, icc_profile=None, **options))
    assert np.array_equal(found, plain) == (name == "sRGB")  # an sRGB profile changes nothing
    if name != "sRGB":
        assert np.abs(plain.astype(int) - wanted).mean() > 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_grey_profiles_become_srgb_and_stay_grey(kind):
    grey = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
    options = {"quality": 98} if kind == "JPEG" else {}
    found = decode(encode(grey, kind, icc_profile=profile("grey"), **options))
    linear = (grey / 255.0) ** 2.2
    wanted = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert found.shape == grey.shape
    assert np.abs(found - wanted).mean() <= 1
    assert np.array_equal(
        decode(encode(grey, kind, icc_profile=profile("sRGB"), **options)), decode(encode(grey, kind, **options))
    )
    coloured = decode(encode(grey, kind, icc_profile=profile("ProPhoto"), **options))
    assert coloured.shape == grey.shape
    assert np.abs(coloured.astype(int) - grey).mean() > 3


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_profiles_become_srgb(kind):
    data = encode(Image.fromarray(SOFT).convert("CMYK"), kind, icc_profile=cmyk_profile())
    given = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    with Image.open(io.BytesIO(data)) as image:
        wanted = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.abs(decode(data).astype(int) - np.asarray(wanted)).mean() <= 1.5


@given(junk=st.binary(max_size=300), mode=st.sampled_from(["L", "RGB", "CMYK"]), cut=st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_a_broken_or_foreign_profile_is_srgb(junk, mode, cut):
    image = Image.fromarray(SOFT).convert(mode)
    foreign = profile("grey") if mode == "RGB" else cmyk_profile() if mode == "L" else profile("Adobe RGB")
    for bad in (junk, profile("Display P3")[:cut], foreign):
        assert np.array_equal(decode(encode(image, icc_profile=bad)), decode(encode(image)))


def test_the_exported_helper_reads_as_faceforge_does(tmp_path):
    pytest.importorskip("onnxruntime")
    from faceforge.studio import onnx_use

    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32))
    rgba = Image.fromarray(np.dstack([SOFT, SOFT[..., :1]]))
    made = {
        "wide.png": encode(wide, "PNG", exif=exif),
        "tagged.png": encode(tagged(SOFT, "Adobe RGB"), "PNG", icc_profile=profile("Adobe RGB"), exif=exif),
        "alpha.png": encode(rgba, "PNG"),
        "cmyk.jpg": encode(Image.fromarray(SOFT).convert("CMYK"), exif=exif, icc_profile=cmyk_profile()),
        "grey.tif": encode(SOFT[..., 0], "TIFF", icc_profile=profile("grey")),
        "palette.gif": encode(SOFT, "GIF"),
    }
    for name, data in made.items():
        found = np.asarray(onnx_use.open_picture(write(tmp_path / name, data))).astype(int)
        wanted = photos.in_colour(decode(data))
        assert found.shape == wanted.shape, name
        assert np.abs(found - wanted).max() <= 1, name
    with pytest.raises(ValueError, match="32-bit"):
        onnx_use.open_picture(write(tmp_path / "a.tif", encode(Image.new("I", (3, 3), 70000), "TIFF")))


# ------------------------------------------------------------------------------------------------------------ kinds


def tiff(*tags: tuple[int, int, int, int], more: bytes = b"") -> bytes:
    """A little-endian TIFF's first directory: tag, type, count and value of each entry."""
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags) + more


NIKON, SONY = (
    tiff((254, 4, 1, 1), (271, 2, 6, 38), more=bytes(4) + make + bytes(400)) for make in (b"NIKON\0", b"SONY\0\0")
)
UNREAD = {
    "HEIC": [BOX % b"heic", BOX % b"mif1", b"\0\0\0\x1cftypmsf1\0\0\0\0mif1heixhevc"],
    "JPEG 2000": [b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0\x2f", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99)],
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a" + bytes(40)],
    "PSD": [b"8BPS\0\1", b"8BPS\0\2" + bytes(50), b"8BPS"],
    "PDF": [b"%PDF-1.4\n", b"%PDF-2.0", b"%PDF-1.7\r\n1 0 obj"],
    "SVG": [b"<svg xmlns=", b"<?xml version='1.0'?>\n<!-- a --><svg>", b"\xef\xbb\xbf<SVG >"],
    "video": [
        b"\0\0\0\x18ftypmp42" + bytes(12),
        b"\0\0\0\x14ftypqt  " + bytes(8),
        b"\x1a\x45\xdf\xa3\1",
        b"RIFF\0\0\0\0AVI ",
    ],
    "DNG RAW": [
        tiff((254, 4, 1, 1), (50706, 1, 4, 0x401)),
        tiff((50706, 1, 4, 1)),
        tiff((256, 3, 1, 9), (50706, 1, 4, 1)),
    ],
    "CR2 RAW": [b"II*\0\x10\0\0\0CR\2\0" + bytes(n) for n in (4, 40, 400)],
    "NEF RAW": [NIKON, NIKON + bytes(9), NIKON + b"x"],
    "ARW RAW": [SONY, SONY + bytes(9), SONY + b"x"],
    "RAF RAW": [b"FUJIFILMCCD-RAW 0201", b"FUJIFILMCCD-RAW ", b"FUJIFILMCCD-RAW" + bytes(9)],
}


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


@pytest.fixture
def with_heif(monkeypatch):
    """A stand-in for pillow-heif: what it opens is a PNG inside the box."""

    class Standin(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self) -> None:
            inner = self.inner = Image.open(io.BytesIO(self.fp.read()[32:]), formats=("PNG",))
            self._mode, self._size, self.info = inner.mode, inner.size, dict(inner.info)

        def load(self):
            self.inner.load()
            self._im = self.inner.im
            return Image.Image.load(self)

    def register():
        Image.register_open("HEIF", Standin, lambda head: head[4:8] == b"ftyp")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    yield
    Image.OPEN.pop("HEIF", None)
    if "HEIF" in Image.ID:
        Image.ID.remove("HEIF")


@pytest.mark.parametrize("kind", UNREAD)
def test_pictures_that_are_not_read_are_called_what_they_are(kind, without_heif, tmp_path):
    for n, data in enumerate(UNREAD[kind]):
        for name in (f"IMG_{n}", f"{n}.jpg", f"{n}.dat"):
            assert kinds.kind_of(data, name) == kind, (data, name)
        with pytest.raises(ImageError, match=f"^its format is {kind}, which is not read: "):
            decode(data, "a.jpg")
        write(tmp_path / f"IMG_{n}.odd", data)
    put({"a.jpg": CODED["JPEG"], "b.png": CODED["PNG"], "c.txt": b"words"}, tmp_path)
    source = Crops(str(tmp_path))
    assert source.left_out() == {kind: len(UNREAD[kind])}
    (line,) = kinds.told(source.left_out())
    assert line.startswith(f"{len(UNREAD[kind])} {kind}")
    assert line in check(tmp_path).lines


@pytest.mark.parametrize("ending", ["heic", "HEIF", "dng", "NEF", "cr3", "arw", "jp2", "jxl", "psd", "mov"])
def test_endings_tell_where_first_bytes_do_not(ending, without_heif):
    for head in (b"", b"\1\2\3", bytes(99)):
        kind = kinds.kind_of(head, f"IMG.{ending}")
        assert kind is not None
        assert not kinds.readable(kind)
    start = b"II*\0\xff\xff\xff\x7f"  # its directory lies further on
    assert kinds.kind_of(start, f"a.{ending}") == (kind if kind.endswith("RAW") else "TIFF")


@pytest.mark.parametrize("pack", ["folder", "zip", "tar"])
def test_every_picture_is_read_or_counted_however_it_is_packed(pack, tmp_path, without_heif):
    jpegs = ("a.jpg", "B.JPG", "c.jpeg", "d.jpe", "e.jfif", "f.jpg_large", "g", "h.jpg~orig", "IMG_0001.1", "x/i.JFIF")
    files = dict.fromkeys(jpegs, CODED["JPEG"]) | {"p.png": CODED["PNG"], "w": CODED["WEBP"], "t.TIF": CODED["TIFF"]}
    odd = {"IMG_1.HEIC": BOX % b"heic", "m.mp4": BOX % b"mp42" + bytes(9000), "r.dng": UNREAD["DNG RAW"][0]}
    odd["m.mp4"] = odd["m.mp4"].replace(b"mif1heic", b"mp42isom")
    listed = {**files, **odd, "notes.txt": b"a", "labels.csv": b"a,b", "program.bin": bytes(99)}
    if pack == "folder":
        root = put(listed, tmp_path / "set")
    else:
        root = (put_zip if pack == "zip" else put_tgz)(listed, tmp_path / f"set.{pack if pack == 'zip' else 'tgz'}")
    source = Crops(str(root), cache=str(tmp_path / "cache"))
    assert sorted(source.names) == sorted(files)
    assert source.left_out() == {"HEIC": 1, "video": 1, "DNG RAW": 1}
    for n in range(len(source.faces)):
        assert source.read(n, (0, 0)).shape == SOFT.shape


def test_heic_is_read_where_pillow_heif_is_installed(with_heif, tmp_path):
    inside = struct.pack(">I", 8 + len(CODED["PNG"])) + b"mdat" + CODED["PNG"]
    folder = put({"IMG_1.HEIC": BOX % b"heic" + inside, "b.heif": BOX % b"mif1" + inside + bytes(9)}, tmp_path / "set")
    source = Crops(str(folder))
    assert (source.names, source.left_out()) == (["IMG_1.HEIC", "b.heif"], Counter())
    assert np.array_equal(source.read(0, (0, 0)), SOFT)
    assert np.array_equal(photos.read_photo(folder / "b.heif"), SOFT)


def test_avif_is_read_by_pillow_or_told(monkeypatch, without_heif):
    data = b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf"
    monkeypatch.setattr(kinds.features, "check", lambda name: True)
    assert kinds.readable(kinds.kind_of(data))
    monkeypatch.setattr(kinds.features, "check", lambda name: False)
    assert not kinds.readable("AVIF")
    with pytest.raises(ImageError, match="its format is AVIF"):
        decode(data)


def test_only_unreadable_kinds_are_one_line_with_the_way_out(without_heif, tmp_path):
    put({f"IMG_{n}.HEIC": BOX % b"heic" for n in range(12)}, tmp_path)
    for opened in (lambda: Crops(str(tmp_path)), lambda: check(tmp_path), lambda: photos.photo_files(tmp_path)):
        with pytest.raises(BadInput, match="12 HEIC pictures were left out: pip install pillow-heif") as caught:
            opened()
        assert "\n" not in str(caught.value)


def test_the_page_names_a_picture_that_it_cannot_read(without_heif):
    from faceforge.studio.web.handlers import Ask

    for kind in ("HEIC", "DNG RAW", "video", "PSD"):
        with pytest.raises(BadInput, match=f"this photo cannot be used: its format is {kind}"):
            Ask({}, [UNREAD[kind][0]]).photo()


# ------------------------------------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((5712, 4284), (4284, 5712)),
        ((8160, 6144), (6144, 8160)),
        ((12000, 9000), (4500, 6000)),
        ((16320, 12240), (6120, 8160)),
    ],
)
def test_phones_sizes_are_read_in_bounded_memory(size, shape):
    data = encode(Image.new("L", size, 99))
    assert decode(data).shape == shape
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.new("L", size, 99), exif=exif)
    assert jpeg_size(data) == size[::-1]
    assert jpeg_size(turned) == size


@pytest.mark.slow
@needs_yunet
def test_a_photo_of_108_megapixels_is_cut_in_its_own_coordinates(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_WEIGHTS", str(WEIGHTS.parent))
    small = np.full((900, 1200, 3), (120, 140, 160), np.uint8)
    small[200:700, 300:800] = Drawn(None, 200, seed=3).read(3, (500, 500))
    for name, size in (("a", (12000, 9000)), ("b", (1200, 900))):
        write(tmp_path / name / "p.jpg", encode(Image.fromarray(small).resize(size), quality=80))
        cut_faces(tmp_path / name, tmp_path / f"{name}-out", detector="yunet", size="360x480")
    (large,), (plain,) = (list(manifest.read(tmp_path / f"{n}-out" / "manifest.csv")) for n in "ab")
    assert (large.photo_w, large.photo_h, large.verdict) == (12000, 9000, "accepted")
    for name in ("frame_x", "frame_y", "frame_w", "nose_x", "box_w"):
        assert getattr(large, name) == pytest.approx(10 * getattr(plain, name), rel=0.05), name


# -------------------------------------------------------------------------------------------------------------- cut


def cut_faces(source, target, **given):
    cut_haar(source, target, **{"zoom": None, **given})


def scene(n: int, size: int, side: int) -> np.ndarray:
    pixels = np.full((size, size, 3), (120, 140, 160), np.uint8)
    at = (size - side) // 2
    pixels[at : at + side, at : at + side] = Drawn(None, 200, seed=3).read(n, (side, side))
    return pixels


SEEN = (0, 1, 2, 3, 5, 6, 7, 9)  # drawn faces that the Haar cascade finds


def tight_photos(folder: Path, count: int) -> Path:
    """Eight photos, of which the first ``count`` end at the face."""
    for n, index in enumerate((1, 2, 3, 5, 6, 0, 9, 7)):
        tight = scene(index, 300, 260)[54:246, 54:246]
        write(folder / f"{n}.png", encode(tight if n < count else scene(index, 400, 160), "PNG"))
    return folder


def rows(target: Path) -> list[manifest.Row]:
    return list(manifest.read(target / "manifest.csv"))


def faces(target: Path) -> list[manifest.Row]:
    return [row for row in rows(target) if row.n]


def test_a_photo_that_was_not_read_is_not_one_without_a_face(tmp_path, capsys, without_heif):
    files = {"wall.png": encode(Image.new("RGB", (90, 90), "grey"), "PNG"), "a.png": encode(scene(3, 300, 150), "PNG")}
    files |= {"broken.jpg": CODED["JPEG"][:-300], "b.HEIC": BOX % b"heic", "is_heic.jpg": BOX % b"heic"}
    files |= {"c.mov": UNREAD["video"][1]}
    put(files, tmp_path / "in")
    cut_faces(tmp_path / "in", tmp_path / "out")
    told = capsys.readouterr().out
    assert "1 photos without a face, 2 that could not be read" in told
    assert "1 HEIC picture was left out: pip install pillow-heif" in told
    assert "1 video was left out" in told
    assert {r.source: r.unread for r in rows(tmp_path / "out")} == {
        "a.png": False, "broken.jpg": True, "is_heic.jpg": True, "wall.png": False,
    }  # fmt: skip


def test_where_many_are_too_tight_one_framing_is_chosen_for_all(tmp_path, capsys):
    photos = tight_photos(tmp_path / "in", 5)
    cut_faces(photos, tmp_path / "asked", fit=False)
    assert sum(row.verdict == "accepted" for row in faces(tmp_path / "asked")) <= 4
    assert "framing" not in capsys.readouterr().out
    cut_faces(photos, tmp_path / "chosen", fit=None, size=None)
    told = capsys.readouterr().out
    assert "the widest that fits nine in ten" in told
    assert re.search(r"train\.py .*data\.batch_size=[34]\n", told)  # a command that works with few faces
    found = faces(tmp_path / "chosen")
    (zoom,) = {row.zoom for row in found}
    assert zoom is not None
    assert zoom > 1
    assert sum(row.shrunk == 1 for row in found) >= 0.9 * len(found)
    assert sum(row.verdict == "accepted" for row in found) >= 0.9 * len(found)
    sizes = {Image.open(path).size for path in (tmp_path / "chosen").glob("*.png")}
    assert sizes == {(360, 360)}  # a square shows more of square photos


def test_a_chosen_framing_stays_when_photos_are_added(tmp_path, capsys):
    photos = tight_photos(tmp_path / "in", 5)
    cut_faces(photos, tmp_path / "out", fit=None)
    before = {row.face: row for row in faces(tmp_path / "out")}
    write(photos / "new.png", encode(scene(10, 500, 150), "PNG"))
    cut_faces(photos, tmp_path / "out", fit=None)
    after = {row.face: row for row in faces(tmp_path / "out")}
    assert all(after[face] == row for face, row in before.items())
    assert len({row.zoom for row in after.values()}) == 1
    with pytest.raises(BadInput, match="was cut with fit=auto, not never"):
        cut_faces(photos, tmp_path / "out", fit=False)


@pytest.mark.parametrize(
    ("given", "wanted"), [({"fit": None}, 1.0), ({"fit": None, "zoom": 1.0}, 1.0), ({"fit": True}, 1.5)]
)
def test_a_framing_is_chosen_only_where_it_is_needed_or_asked_for(tmp_path, given, wanted):
    photos = tight_photos(tmp_path / "in", 2 if "zoom" not in given else 5)
    cut_faces(photos, tmp_path / "out", **given)
    (zoom,) = {row.zoom for row in faces(tmp_path / "out")}
    assert (zoom or 0) > 1 if wanted > 1 else zoom == 1


def test_padding_by_reflection_is_marked(tmp_path):
    tight_photos(tmp_path / "in", 3)
    cut_faces(tmp_path / "in", tmp_path / "out", pad=True, fit=None)
    found = faces(tmp_path / "out")
    assert all(row.shrunk == 1 and row.moved == 0 for row in found)
    padded = {row.source: row.padded or 0 for row in found}
    assert all((share > 0.1) == (int(name[0]) < 3) for name, share in padded.items())
    assert all(("is padding" in row.reason) == ((row.padded or 0) > 1 / 3) for row in found)
    cut_faces(tmp_path / "in", tmp_path / "none", fit=False)
    assert {row.padded for row in faces(tmp_path / "none")} == {None}


def test_a_manifest_of_an_earlier_version_is_read(tmp_path):
    make_crops(tmp_path / "in", 2)
    cut_faces(tight_photos(tmp_path / "in", 0), tmp_path / "out")
    path = tmp_path / "out" / "manifest.csv"
    lines = [line.split(",") for line in path.read_text().splitlines()]
    kept = [n for n, name in enumerate(lines[0]) if name not in ("tilt", "zoom", "padded")]
    path.write_text("\n".join(",".join(line[n] for n in kept) for line in lines) + "\n")
    assert {row.zoom for row in manifest.read(path)} == {None}
    assert len(Crops(str(tmp_path / "out")).faces) > 0


@needs_yunet
@pytest.mark.parametrize("index", [0, 3, 6])
@pytest.mark.parametrize("degrees", [-30, 15, 30, 45])
def test_a_tilted_face_is_turned_until_it_is_level(index, degrees):
    def levelled(tilt: float) -> float:
        turn = cv2.getRotationMatrix2D((300, 300), -tilt, 1)
        pixels = cv2.warpAffine(scene(index, 600, 300), turn, (600, 600), borderMode=cv2.BORDER_REPLICATE)
        face = yunet(WEIGHTS)(pixels)[0]
        landmarks, left = yunet(WEIGHTS).level(np.ascontiguousarray(np.rot90(pixels, -face.quarter)), face.landmarks)
        assert left is not None
        assert abs(left) <= 3
        return roll(landmarks) - 90 * face.quarter

    assert abs((levelled(degrees) - levelled(0) - degrees + 180) % 360 - 180) <= 3


@needs_yunet
def test_cut_align_leaves_faces_level_or_doubtful(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_WEIGHTS", str(WEIGHTS.parent))
    for degrees in (0, 15, 30, 45):
        turn = cv2.getRotationMatrix2D((300, 300), -degrees, 1)
        pixels = cv2.warpAffine(scene(3, 600, 300), turn, (600, 600), borderMode=cv2.BORDER_REPLICATE)
        write(tmp_path / "in" / f"{degrees:02}.png", encode(pixels, "PNG"))
    cut_faces(tmp_path / "in", tmp_path / "out", detector="yunet", align=True, size="240x320")
    found = faces(tmp_path / "out")
    first = found[0].frame_angle or 0
    for row, degrees in zip(found, (0, 15, 30, 45), strict=True):
        assert abs(row.tilt if row.tilt is not None else 99) <= 3 or row.verdict == "doubtful"
        assert row.frame_angle == pytest.approx(first + degrees, abs=3)


# ----------------------------------------------------------------------------------------------------- phones' photos


@given(n=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_phones_photos_keep_their_colours(n):
    made = phone_photos.phone_photo(SOFT, n)
    assert phone_photos.difference(made) <= phone_photos.LEVELS, made.name


def test_none_of_a_phones_photos_is_lost(tmp_path):
    for n in range(24):
        made = phone_photos.phone_photo(scene(SEEN[n % 8], 120, 60), n)
        write(tmp_path / "in" / made.name, made.data)
    cut_faces(tmp_path / "in", tmp_path / "out")
    assert len({row.source for row in rows(tmp_path / "out")}) == 24
    assert not any(row.unread for row in rows(tmp_path / "out"))
    assert len(Crops(str(tmp_path / "in")).faces) == 24
    assert len(photos.photo_files(tmp_path / "in")) == 24


@pytest.mark.parametrize("depth", [2, 4])
def test_the_transparent_grey_of_few_bits_is_white(depth):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 8 // depth, 1, depth, 0, 0, 0, 0)
    row = zlib.compress(b"\0" + bytes([0b00011011 if depth == 2 else 0x1F]))  # levels 0, 1, 2, 3, or 1, 15
    chunks = (b"IHDR", head), (b"tRNS", b"\0\1"), (b"IDAT", row), (b"IEND", b"")
    found = decode(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*given) for given in chunks))
    assert found.tolist() == [[0, 255, 170, 255] if depth == 2 else [255, 255]]


@pytest.mark.parametrize("most", [200, 70_000])
def test_a_tiff_of_32_bits_has_no_known_range(most):
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8) * most // 63).save(file, "TIFF")
    with pytest.raises(ImageError, match="32-bit pixels of unknown range"):
        decode(file.getvalue())


def test_a_jpeg_whose_profile_lost_a_piece_is_srgb():
    sound, body = encode(picture(0, 24, 16)), b"ICC_PROFILE\0\1\2" + bytes(200)
    broken = sound[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + sound[2:]
    assert np.array_equal(decode(broken), decode(sound))
    assert jpeg_size(broken) == jpeg_size(sound) == decode(sound).shape[:2]


def test_html_after_a_byte_order_mark_is_html():
    with pytest.raises(ImageError, match="HTML page"):
        decode(b"\xef\xbb\xbf<!DOCTYPE html><html></html>")


@pytest.mark.parametrize("make", [put, put_zip, put_tgz])
def test_what_is_no_picture_is_counted_however_it_is_packed(tmp_path, make):
    sound = {f"{n}.png": encode(picture(n), "PNG") for n in range(12)}
    others = {"a.tga": bytes(99), "b.html": encode(picture(99)), "c.txt": encode(picture(98)), "d.txt": b"words"}
    root = make({**sound, **others}, tmp_path / "set.tgz")
    said = next(line for line in check(root).lines if line.startswith("left out: "))
    assert sorted(said.removeprefix("left out: ").split(", ")) == [".html (1)", ".tga (1)", ".txt (1)"]
