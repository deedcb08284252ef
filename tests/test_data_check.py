"""What `faceforge data check` says of every kind of place, and that its command works."""

import io
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
from picture_makers import celeba_files, celeba_tables, encode, lfw_files, make_crops, picture, put, put_tgz, put_zip
from picture_makers import write as put_file
from pyarrow import parquet

from faceforge import config
from faceforge.data.framing import PROTOCOLS
from faceforge.errors import BadInput
from faceforge.fetch import inspect as module
from faceforge.fetch.inspect import check
from faceforge.io import manifest

PHOTOS = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def faces(monkeypatch):
    """Drawn pictures hold no faces: say what share of the width they take."""

    def fill(*shares):
        monkeypatch.setattr(module, "_detector", lambda: lambda pixels: list(shares))

    return fill


def words(found):
    """The command's words after `python train.py`; they must be sound."""
    command = shlex.split(found.command)
    assert command[:2] == ["python", "train.py"]
    assert config.check_overrides(command[2:]) == []
    return command[2:]


def test_tight_crops_in_a_folder(tmp_path, faces):
    faces(0.8)
    root = make_crops(tmp_path / "my faces", 130)
    found = check(root)
    assert found.lines == [
        f"{root}: a folder of 130 images (.jpg)",
        "a sample of 64: all readable; 40x40 (64); colour; faces fill about 80% of the width (detected in 22 of 22)",
        "layout: images in one folder",
        "people: unknown, so their split is by picture: one person can be in training and test, and scores may flatter",
    ]
    assert words(found) == ["data=crops", f"data.root={root}"]
    assert shlex.quote(f"data.root={root}") in found.command


def test_a_few_grey_pictures_and_unreadable_ones(tmp_path):
    grey = encode(picture(0)[..., 0])
    root = put({f"{n}.png": grey for n in range(9)} | {"x.jpg": b"words", "y.jpg": b""}, tmp_path / "in")
    found = check(root)
    assert "11 images (.png, .jpg)" in found.lines[0]
    assert "2 unreadable (x.jpg: not an image (text)); 40x40 (9); grey; no frontal face detected in 9" in found.lines[1]
    assert words(found)[2:] == ["data.channels=1", "data.batch_size=5"]


def test_sets_and_people_in_folders(tmp_path):
    moods = put({f"{mood}/{n}.jpg": encode(picture(n)) for mood in ("smile", "sad") for n in range(3)}, tmp_path / "m")
    assert "sets: sad (3), smile (3); each an attribute" in check(moods).lines
    people = put({f"p{n}/{n}.jpg": encode(picture(n)) for n in range(9)}, tmp_path / "p")
    assert check(people).lines[0].endswith("9 images (.jpg), 9 people")


def test_photographs_are_to_be_cut_first(tmp_path, faces):
    faces(0.7)
    shapes = [(40, 60), (60, 40), (40, 40), (30, 70), (50, 40), (40, 55)]
    album = put({f"{n}.jpg": encode(picture(n, *shape)) for n, shape in enumerate(shapes * 3)}, tmp_path / "my album")
    found = check(album)
    assert found.lines[-1] == "photographs rather than face crops: run `faceforge cut` first"
    assert shlex.split(found.command) == ["faceforge", "cut", str(album), "my_faces"]
    assert "40x40 (3), " in found.lines[1] or "60x40 (3), " in found.lines[1]
    assert "and 3 other sizes" in found.lines[1]
    faces(0.2)
    assert check(make_crops(tmp_path / "small", 20)).command.startswith("faceforge cut")
    faces()
    assert check(make_crops(tmp_path / "unseen", 20)).command.startswith("python train.py")


def test_a_cut_folder_is_known_by_its_manifest(tmp_path, faces):
    faces(0.2)
    root = make_crops(tmp_path, 5, 64, 48)
    put({"_review/rejected/9.jpg": encode(picture(9))}, tmp_path)
    rows = [manifest.Row(f"{n:03d}.jpg", "p.jpg", 1, ("accepted", "rejected")[n == 4], "") for n in range(5)]
    manifest.write(root / manifest.NAME, rows)
    found = check(root)
    assert found.lines[-1] == "cut by faceforge: manifest.csv lists 4 accepted, 0 doubtful, 1 rejected faces"
    assert words(found)[0] == "data=crops"
    (root / manifest.NAME).write_text("nonsense\n1\n")
    with pytest.raises(BadInput, match=r"manifest.csv"):
        check(root)


@pytest.mark.parametrize("layout", ["folder", "lfw.tgz", "lfw.zip", "folder of an archive"])
def test_lfw_in_its_layouts(tmp_path, layout, faces):
    faces(0.45)
    files = lfw_files(70, size=250)
    if layout == "folder":
        root = path = put(files, tmp_path / "lfw")
    elif layout == "lfw.zip":
        root = path = put_zip(files, tmp_path / "lfw.zip", "lfw/")
    else:
        path = put_file(tmp_path / "mine" / "lfw.tgz", b"")
        put_tgz({f"lfw/{name}": data for name, data in files.items()}, path)
        root = path.parent if "folder" in layout else path
    found = check(root)
    kind = {"folder": "folder", "lfw.zip": "zip"}.get(layout, "tar")
    assert found.lines[0] == f"{path}: a {kind} of 139 images (.jpg), 70 people"
    assert "attributes: none (lfw_attributes.txt is neither in it nor beside it)" in found.lines
    assert words(found) == ["data=lfw", f"data.root={path}", "data.crop=c150"]
    faces(0.85)
    assert words(check(root)) == ["data=lfw", f"data.root={path}"]


def test_celeba_with_and_without_tables(tmp_path):
    whole = put(celeba_tables(), put(celeba_files(), tmp_path / "celeba", "img_align_celeba"))
    found = check(whole)
    assert found.lines[0] == f"{whole}: a folder of 12 images (.jpg), 6 people"
    assert "attributes: 40, for 100% of the images" in found.lines
    assert "official split: data.split=official" in found.lines
    assert found.lines[-1].startswith("crop c140: score-SDE")
    assert words(found) == ["data=celeba", f"data.root={whole}", "data.crop=c140", "data.batch_size=6"]
    bare = check(put(celeba_files(), tmp_path / "jpgs"))
    assert words(bare)[0] == "data=celeba"
    assert "attributes: none (list_attr_celeba.txt is neither in it nor beside it)" in bare.lines
    zipped = put_zip(celeba_files(), tmp_path / "z" / "img_align_celeba.zip", "img_align_celeba/")
    assert words(check(zipped))[0] == words(check(zipped.parent))[0] == "data=celeba"
    small = put({f"{n:06d}.jpg": encode(picture(n, 64, 64)) for n in range(9)}, tmp_path / "crops")
    assert words(check(small))[0] == "data=crops"


def table(rows):
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def test_parquet_is_to_be_unpacked(tmp_path, monkeypatch):
    copy = put_file(tmp_path / "c" / "train.parquet", table([{"image": None, "celeb_id": 1}] * 3))
    for path in (copy, copy.parent):
        found = check(path)
        assert found.lines == [f"{path}: parquet, 1 files of 3 rows: a copy of celeba, must be unpacked"]
        assert shlex.split(found.command) == ["faceforge", "data", "get", "celeba", "--file", str(path)]
    other = put_file(tmp_path / "o.parquet", table([{"text": "a"}]))
    for path, reason in {
        other: r"parquet of 1 rows \(text\), not a copy of CelebA or LFW",
        put_file(tmp_path / "d.parquet", b"PAR1" + bytes(50)): "damaged parquet",
    }.items():
        with pytest.raises(BadInput, match=reason):
            check(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match=r"parquet needs pyarrow; .* pip install -e '\.\[data\]'"):
        check(copy)


def bad(tmp_path):
    whole = put_zip(lfw_files(), tmp_path / "whole.zip").read_bytes()
    (tmp_path / "empty").mkdir()
    put({"a.txt": b"words", "b.csv": b"1"}, tmp_path / "texts")
    put({f"{n}.jpg": b"words" for n in range(3)}, tmp_path / "lies")
    put(lfw_files(2), put(lfw_files(2), tmp_path / "two", "lfw"), "lfw_funneled")
    put({"a.zip": whole, "b.tgz": b""}, tmp_path / "archives")
    return {
        tmp_path / "archives": r"holds archives \(a.zip, b.tgz\); choose one of them",
        tmp_path / "nix": "no such folder or file",
        tmp_path / "empty": r"no images .*; found nothing",
        tmp_path / "texts": r"no images .*; found .csv \(1\), .txt \(1\)|found .txt \(1\), .csv \(1\)",
        tmp_path / "lies": r"none of 3 sampled images can be read \(0.jpg: not an image \(text\)\)",
        tmp_path / "two": "holds Person_0/Person_0_0001.jpg more than once",
        put_file(tmp_path / "notes.txt", b"words"): r"not an archive \(text\)",
        put_file(tmp_path / "page.zip", b"<html>quota</html>"): r"not an archive \(HTML page\)",
        put_file(tmp_path / "cut.zip", whole[:-100]): "a truncated or damaged zip",
        put_file(tmp_path / "void.zip", b""): r"not an archive \(empty file\)",
        put_file(tmp_path / "face.jpg", encode(picture(0))): "one image; must be a folder or an archive",
    }


def test_what_is_no_set_is_one_line(tmp_path):
    for path, reason in bad(tmp_path).items():
        with pytest.raises(BadInput, match=reason) as caught:
            check(path)
        assert str(caught.value).startswith(f"{path}: "), caught.value
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_at_the_command_line(tmp_path):
    def run(*words):
        command = [str(Path(sys.executable).with_name("faceforge")), "data", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    root = make_crops(tmp_path / "faces", 12)
    done = run("check", str(root))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"  python train.py data=crops data.root={root} data.batch_size=6"
    done = run("check", str(tmp_path / "nix"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"faceforge: {tmp_path / 'nix'}: no such folder or file\n"
    assert all(f"data.crop={crop} " in run("protocols").stdout for crop in PROTOCOLS)


def test_the_command_starts_without_what_is_heavy():
    code = "import sys, faceforge.cli; print([m for m in ('torch', 'cv2', 'requests', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_a_hundred_thousand_pictures_take_seconds(tmp_path):
    one = encode(picture(0))
    for n in range(300):
        put_file(tmp_path / "in" / f"{n:03d}" / f"{n:06d}.jpg", one)
    for n in range(300, 100_000):
        folder = tmp_path / "in" / f"{n % 300:03d}"
        os.link(folder / f"{n % 300:06d}.jpg", folder / f"{n:06d}.jpg")
    began = time.monotonic()
    assert "100,000 images (.jpg), 300 people" in check(tmp_path / "in").lines[0]
    assert time.monotonic() - began < 10


@pytest.mark.real_faces
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs at ../shared/data")
@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("photos_color", "faceforge cut {} my_faces"),
        ("lfw_gray", "python train.py data=lfw data.root={} data.channels=1"),
        ("lfw_color_smile_sad", "python train.py data=crops data.root={} data.crop=c150"),
    ],
)
def test_photographs_are_told_from_crops(folder, command):
    assert check(PHOTOS / folder).command == command.format(PHOTOS / folder)
