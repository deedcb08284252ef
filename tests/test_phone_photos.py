"""Photos as phones keep them, written and read by the libraries themselves: HEIC, AVIF, WebP, what lies beside and
behind the picture, and colours wider than sRGB; in sources, commands and on the page.
"""

import csv
import io
import sys
from collections import Counter

import numpy as np
import pillow_heif
import pytest
from picture_makers import put, put_zip
from PIL import Image
from test_cut_job import cut_haar

from benchmarks.hostile.profiles import profile, tagged
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.fetch.inspect import check
from faceforge.io import kinds
from faceforge.io.images import ImageError, decode
from faceforge.studio import photo as photos
from faceforge.studio.web.handlers import Ask

FACE = Drawn(count=4).read(1, (120, 96))
FILM = b"\0\0\0\x14ftypqt  " + bytes(8) + b"\0\0\0\x08mdat"


def heic(pixels=FACE, profile=None, depth=False, more=(), **options):
    """The bytes of a HEIC file; ``more`` are further pictures in it."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.info = {"icc_profile": profile} if profile else {}
    file = pillow_heif.from_pillow(image)
    for other in more:
        file.add_from_pillow(Image.fromarray(other))
    data = io.BytesIO()
    file.save(data, quality=95, chroma=444, **options)
    return data.getvalue()


def coded(kind, **options):
    data = io.BytesIO()
    Image.fromarray(FACE).save(data, kind, quality=90, **options)
    return data.getvalue()


def near(found, wanted=FACE, most=3.0):
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).mean() < most
    return True


OF_PHONES = {
    "HEIC": heic(),
    "HEIC, thumbnail": heic(more=[FACE[::4, ::4]], primary_index=0),
    "HEIC, another picture first": heic(FACE[::2, ::2], more=[FACE], primary_index=1),
    "AVIF": coded("AVIF"),
    "WebP": coded("WEBP"),
    "motion photo": coded("JPEG") + FILM + bytes(2000),
    "several pictures (MPO)": coded("MPO", save_all=True, append_images=[Image.fromarray(FACE[::2, ::2])]),
}


@pytest.mark.parametrize("kind", OF_PHONES)
def test_every_kind_is_the_picture_that_one_sees(kind, tmp_path):
    data = OF_PHONES[kind]
    assert near(decode(data))
    assert near(decode(data + b"trailer"))
    folder = put({"IMG_0001.HEIC": data}, tmp_path / "set")  # whatever it is called
    assert near(Crops(str(folder)).read(0, (0, 0)))
    assert near(photos.read_photo(folder / "IMG_0001.HEIC"))
    assert near(Ask({}, [data]).photo())
    if kind != "motion photo":
        with pytest.raises(ImageError):
            decode(data[: len(data) // 2])


def test_ten_bits_and_grey_and_transparent():
    deep = np.repeat((np.linspace(0, 1023, 128).round().astype(np.uint16) << 6)[None], 64, 0)
    data = io.BytesIO()
    pillow_heif.encode("RGB;16", (128, 64), np.repeat(deep[..., None], 3, 2).tobytes(), data, quality=-1)
    wanted = np.repeat(np.linspace(0, 255, 128).round()[None, :, None], 64, 0).repeat(3, 2)
    assert near(decode(data.getvalue()), wanted, 1.5)
    assert near(decode(heic(FACE[..., 0])), FACE[..., 0])
    clear = np.dstack([FACE, np.where(np.arange(96) < 48, 255, 0)[None].repeat(120, 0).astype(np.uint8)])
    found = decode(heic(clear))
    assert near(found[:, :40], FACE[:, :40])
    assert found[:, 60:].min() > 245  # on white


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_stands_upright_once(orientation):
    """The libraries turn HEIC and AVIF themselves; to do it again would lay the face on its side."""
    from test_images import STORED, corners

    upright = corners()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("HEIF", "AVIF", "WEBP"):
        pillow_heif.register_heif_opener()
        data = io.BytesIO()
        stored.save(data, kind, quality=95, exif=exif.tobytes())
        assert near(decode(data.getvalue()), upright, 8), kind


def test_colours_of_display_p3_become_srgb():
    soft = (FACE // 2 + 60).astype(np.uint8)
    wide = Image.fromarray(np.asarray(tagged(soft, "Display P3")))
    plain, found = decode(heic(wide.copy())), decode(heic(wide, profile("Display P3")))
    assert near(found, soft, 1.5)
    assert np.abs(plain.astype(int) - soft).mean() > 2 * np.abs(found.astype(int) - soft).mean()


@pytest.mark.parametrize("pack", [put, put_zip])
def test_the_film_of_a_live_photo_is_no_picture_that_was_left_out(pack, tmp_path):
    photo, place = OF_PHONES["HEIC"], tmp_path / ("set.zip" if pack is put_zip else "set")
    files = {"IMG_1.HEIC": photo, "IMG_1.MOV": FILM, "b/IMG_1.mov": FILM, "b/IMG_1.heic": photo}
    root = pack({**files, "clip.MOV": FILM, "b/IMG_2.MOV": FILM}, place)
    source = Crops(str(root), cache=str(tmp_path / "cache"))
    assert (sorted(source.names), source.left_out()) == (["IMG_1.HEIC", "b/IMG_1.heic"], Counter(video=2))
    assert any(line.startswith("2 videos were left out") for line in check(root).lines)


def test_faces_are_cut_from_photos_of_phones(tmp_path):
    ground = np.full((240, 280, 3), 128, np.uint8)
    ground[40:200, 60:220] = Drawn(count=50).read(1, (160, 160))  # whom the cascade sees
    files = {"a.heic": heic(ground), "b.avif": coded_photo(ground, "AVIF"), "c.webp": coded_photo(ground, "WEBP")}
    put(files, tmp_path / "in")
    cut_haar(tmp_path / "in", tmp_path / "out")
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        assert {row["source"] for row in csv.DictReader(file) if row["face"]} == set(files)


def coded_photo(pixels, kind):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, quality=100, **({"lossless": True} if kind == "WEBP" else {}))
    return data.getvalue()


def test_without_the_library_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIC, which is not read: pip install pillow-heif \(the extra photos\)"):
        decode(OF_PHONES["HEIC"])
    assert kinds.told({"HEIC": 2}) == ["2 HEIC pictures were left out: pip install pillow-heif (the extra photos)"]
