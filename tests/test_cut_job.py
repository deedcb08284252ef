"""Whole cuts: what lies where, what a second time changes, what a kill leaves, what goes wrong in one line."""

import errno
import hashlib
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceforge.cut import command, job, work
from faceforge.cut.command import Framing, cut
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.io import manifest

FACES = Drawn(None, 200, seed=3)
FOUND = (0, 1, 2, 3, 5, 6, 7, 9)  # drawn faces that the Haar cascade finds


def photo(index, side=110, canvas=(200, 220), at=(60, 45), seed=0):
    """A drawn face somewhere on a plain, slightly noisy ground."""
    noise = np.random.default_rng(seed + index).integers(-4, 5, (*canvas, 3))
    pixels = (np.array([120, 140, 160]) + noise).astype(np.uint8)
    pixels[at[0] : at[0] + side, at[1] : at[1] + side] = FACES.read(index, (side, side))
    return Image.fromarray(pixels)


def save(folder, name, picture, **more):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **more)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for n in FOUND:
        save(folder, f"holiday {n}.png", photo(n))
    save(folder, "sub/holiday 0.jpg", photo(10, seed=5), quality=92)
    save(folder, "wall.png", Image.new("RGB", (90, 90), "grey"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture at all")
    return folder


def cut_haar(source, target, **given):
    framing = {"size": "60x80", "align": False, "zoom": 1.0, "pad": False, "fit": None}
    framing |= {name: given.pop(name) for name in framing if name in given}
    settings = {"detector": "haar", "min_face": 20, "labels": None, "engine": "loky", "processes": 1}
    cut(Path(source), Path(target), Framing(**framing), **{**settings, **given})
    return Path(target)


@pytest.fixture(scope="module")
def first(photos, tmp_path_factory):
    """One whole cut, for tests that only look."""
    return cut_haar(photos, tmp_path_factory.mktemp("first") / "faces")


@pytest.fixture
def again(first, tmp_path):
    """A copy of it, for tests that change things."""
    return Path(shutil.copytree(first, tmp_path / "faces"))


def tree(folder):
    """Every file's bytes below a folder, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder):
    return {row.face or row.source: row for row in manifest.read(folder / "manifest.csv")}


def resized(path, left, top, width, height):
    """The whole pixels nearest to a box of a photo at 60x80: enlarged by OpenCV, shrunk by Pillow."""
    part = Image.open(path).crop((round(left), round(top), round(left + width), round(top + height)))
    if part.width <= 60 and part.height <= 80:
        return cv2.resize(np.array(part), (60, 80), interpolation=cv2.INTER_CUBIC)
    return np.array(part.resize((60, 80), Image.Resampling.BICUBIC))


def crop_times(folder):
    """When each crop was written; the pictures of the summary are made anew each time."""
    crops = (path for path in folder.rglob("*.png") if path.parent != folder / "_review")
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in crops}


def accepted(folder):
    return sorted(row.face for row in rows(folder).values() if row.verdict == "accepted")


def edit(folder, face, **changes):
    """What a person does in a spreadsheet."""
    changed = []
    for row in manifest.read(folder / "manifest.csv"):
        if row.face == face:
            for name, value in changes.items():
                setattr(row, name, value)
        changed.append(row)
    manifest.write(folder / "manifest.csv", changed)


# ------------------------------------------------------------------------------------------------- what a cut leaves


def test_every_photo_has_rows_and_every_face_a_crop(photos, first):
    found = rows(first)
    photos_named = {row.source for row in found.values()}
    assert photos_named == {p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.is_file()}
    assert found["wall.png"].verdict == "none"
    assert found["wall.png"].reason == "no face found"
    assert found["broken.jpg"].reason.startswith("damaged JPEG")
    faces = [row for row in found.values() if row.n]
    assert len(faces) >= len(FOUND)
    for row in faces:
        crop = Image.open(work.place(first, row.face, row.verdict))
        assert crop.size == (60, 80)
        assert max(Image.open(work.thumb(first, row.face)).size) == 120
        data = (photos / row.source).read_bytes()
        assert row.source_sha256 == hashlib.sha256(data).hexdigest()


def test_a_crop_is_the_published_frame_of_its_photo(photos, first):
    row = rows(first)["holiday 1.png-1.png"]
    w = row.box_w
    frame = [row.frame_x - row.frame_w / 2, row.frame_y - row.frame_h / 2, row.frame_w, row.frame_h]
    if row.shrunk == 1 and row.moved == 0:
        assert frame == pytest.approx([row.box_x - 0.25 * w, row.box_y - 0.5 * w, 1.5 * w, 2.0 * w], abs=1e-3)
    expected = resized(photos / row.source, *frame)
    assert np.array_equal(expected, np.array(Image.open(work.place(first, row.face, row.verdict))))


def test_nothing_but_pixels_is_in_a_crop(tmp_path):
    source, exif = tmp_path / "in", Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    exif[0x010F] = "camera of Anna"
    save(source, "p.jpg", photo(1), exif=exif, comment=b"secret")
    target = cut_haar(source, tmp_path / "out")
    for path in [*target.rglob("*.png"), *target.rglob("*.jpg")]:
        data = path.read_bytes()
        assert b"Exif" not in data
        assert b"Anna" not in data
        assert b"secret" not in data
        assert not Image.open(path).getexif()


def test_the_folder_is_a_source_of_faces(first):
    source = Crops(str(first))
    assert [face.id for face in source.faces] == accepted(first)
    assert all(source.read(n, (8, 8)).shape == (80, 60, 3) for n in range(len(source.faces)))


# --------------------------------------------------------------------------------------------------- a second time


def test_a_second_time_changes_nothing(photos, again):
    before, times = tree(again), crop_times(again)
    cut_haar(photos, again)
    assert tree(again) == before
    assert crop_times(again) == times


def test_processes_change_nothing(photos, first, tmp_path, monkeypatch):
    monkeypatch.setattr("faceforge.io.engines.CHUNK", 2)
    assert tree(cut_haar(photos, tmp_path / "faces", processes=2)) == tree(first)


def test_verdicts_are_obeyed_and_only_what_changed_is_touched(photos, again):
    chosen, *others = accepted(again)
    before = tree(again)
    times = {face: (again / face).stat().st_mtime_ns for face in others}
    edit(again, chosen, verdict="rejected")
    assert chosen not in [face.id for face in Crops(str(again)).faces], "obeyed before anything is cut again"
    cut_haar(photos, again)
    assert not (again / chosen).exists()
    moved = again / "_review/rejected" / chosen
    assert hashlib.sha256(moved.read_bytes()).hexdigest() == before[chosen]
    assert {face: (again / face).stat().st_mtime_ns for face in others} == times
    assert rows(again)[chosen].reason == "by hand"
    cut_haar(photos, again)
    assert rows(again)[chosen].verdict == "rejected", "it stays so"
    edit(again, chosen, verdict="accepted")
    assert chosen in [face.id for face in Crops(str(again)).faces], "taken from where it lies"
    cut_haar(photos, again)
    assert tree(again)[chosen] == before[chosen]


def test_an_edited_frame_is_cut_again_and_nothing_else(photos, again):
    chosen = accepted(again)[0]
    row, before = rows(again)[chosen], tree(again)
    edit(again, chosen, frame_w=row.frame_w / 2, frame_h=row.frame_h / 2)
    cut_haar(photos, again)
    after = tree(again)
    assert {name for name in crop_times(again) if before[name] != after[name]} == {chosen}
    corner = row.frame_x - row.frame_w / 4, row.frame_y - row.frame_h / 4
    expected = resized(photos / row.source, *corner, row.frame_w / 2, row.frame_h / 2)
    assert np.array_equal(expected, np.array(Image.open(again / chosen)))
    times = crop_times(again)
    cut_haar(photos, again)
    assert crop_times(again) == times
    edit(again, chosen, frame_w=row.frame_w, frame_h=row.frame_h)
    cut_haar(photos, again)
    assert tree(again)[chosen] == before[chosen]


def test_lost_crops_come_back_the_same(photos, again):
    before = tree(again)
    for path in [*again.glob("*.png"), *again.rglob("thumbs/*.jpg")][::2]:
        path.unlink()
    (again / accepted(again)[-1]).write_bytes(b"")
    cut_haar(photos, again)
    assert tree(again) == before


def test_a_lost_crop_of_a_lost_photo_is_told(photos, again, tmp_path, capsys):
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    target = cut_haar(source, tmp_path / "cut")
    (source / "holiday 3.png").unlink()
    (target / "holiday 3.png-1.png").unlink()
    cut_haar(source, target)
    assert "missing    crops of 1 photos" in capsys.readouterr().out
    assert not (target / "holiday 3.png-1.png").exists()
    assert "holiday 3.png-1.png" in rows(target)


def test_new_changed_and_removed_photos(photos, again, tmp_path):
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    shutil.rmtree(again / "_review")
    for path in again.iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    cut_haar(source, again)
    save(source, "new.png", photo(11, seed=9))
    save(source, "holiday 2.png", Image.new("RGB", (90, 90), "white"))
    (source / "holiday 3.png").unlink()
    (source / "stranger.txt").write_text("not a photo")
    cut_haar(source, again)
    found = rows(again)
    assert "new.png" in {row.source for row in found.values()}
    assert found["holiday 2.png"].verdict == "none"
    assert not list(again.rglob("holiday 2.png-1.*")), "what it showed before is gone"
    assert found["holiday 3.png-1.png"].n == 1, "a photo that went away takes nothing with it"
    fresh = cut_haar(source, tmp_path / "fresh")
    assert set(rows(again)) == set(rows(fresh)) | {"holiday 3.png-1.png"}


def test_an_edit_is_void_for_another_photo_of_that_name(photos, again, tmp_path):
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    target = cut_haar(source, tmp_path / "cut")
    edit(target, "holiday 1.png-1.png", verdict="rejected")
    cut_haar(source, target)
    save(source, "holiday 1.png", photo(5, seed=77))
    cut_haar(source, target)
    assert rows(target)["holiday 1.png-1.png"].verdict == "accepted"


def test_what_others_put_there_stays(photos, again):
    mine = [again / "notes.txt", again / "_review/mine.png", again / "_review/doubtful/mine.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    edit(again, accepted(again)[0], verdict="doubtful")
    cut_haar(photos, again)
    assert all(path.read_bytes() == b"mine" for path in mine)


def test_near_duplicates_are_flagged_and_share_an_identity(tmp_path):
    source = tmp_path / "in"
    save(source, "a.png", photo(1))
    save(source, "b.jpg", photo(1), quality=70)
    save(source, "c.png", photo(6))
    target = cut_haar(source, tmp_path / "out")
    found = rows(target)
    assert found["b.jpg-1.png"].same_as == "a.png-1.png"
    assert found["b.jpg-1.png"].verdict == "doubtful"
    assert found["c.png-1.png"].same_as == ""
    edit(target, "b.jpg-1.png", verdict="accepted")
    people = {face.id: face.identity for face in Crops(str(target)).faces}
    assert people["a.png-1.png"] == people["b.jpg-1.png"] != people["c.png-1.png"]


# -------------------------------------------------------------------------------------------------------- killed


def start(source, target, *more):
    code = "from faceforge.cli import run; run()"
    words = ["cut", str(source), str(target), "--size", "60x80", "--detector", "haar", "--min-face", "20", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


def killed_and_resumed(source, target, kills, seed):
    moments = random.Random(seed)
    ended = 0
    for _ in range(kills):
        process = start(source, target, "--processes", "2")
        try:
            process.wait(moments.uniform(0.5, 1.3))
            ended += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(source, target, "--processes", "2")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    return ended


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Photos enough for a cut of several seconds."""
    folder = tmp_path_factory.mktemp("many")
    for n in range(70):
        save(folder, f"{n:03}.png", photo(n % 12, side=100 + n % 7, canvas=(300, 320), at=(80, 90), seed=n))
    return folder


@pytest.mark.slow
def test_killed_and_resumed_ends_in_the_same_bytes(many, tmp_path):
    whole = cut_haar(many, tmp_path / "whole")
    killed_and_resumed(many, tmp_path / "killed", kills=2, seed=1)
    assert tree(tmp_path / "killed") == tree(whole)


@pytest.mark.slow
def test_killed_at_ten_moments_ends_in_the_same_bytes(many, tmp_path):
    """Also while verdicts are obeyed: half of the kills fall on a folder whose manifest was edited."""
    whole = cut_haar(many, tmp_path / "whole")
    ended = killed_and_resumed(many, tmp_path / "killed", kills=10, seed=2)
    assert ended < 8, "most runs must have been killed for this to say anything"
    assert tree(tmp_path / "killed") == tree(whole)
    for folder in (whole, tmp_path / "killed"):
        for face in accepted(folder)[::3]:
            edit(folder, face, verdict="rejected")
    cut_haar(many, whole)
    killed_and_resumed(many, tmp_path / "killed", kills=6, seed=3)
    assert tree(tmp_path / "killed") == tree(whole)


@pytest.mark.slow
def test_no_process_outlives_a_killed_cut(many, tmp_path):
    process = start(many, tmp_path / "out", "--processes", "2")
    deadline = time.time() + 20
    while not list((tmp_path / "out").glob("*.png")) and time.time() < deadline:
        time.sleep(0.05)
    children = descendants(process.pid)
    process.kill()
    process.communicate()
    deadline = time.time() + 15
    assert len(children) >= 2
    while any(alive(pid) for pid in children) and time.time() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in children)


@pytest.mark.parametrize(
    ("sent", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_interrupted_politely(many, tmp_path, sent, code):
    process = start(many, tmp_path / "out", "--processes", "2")
    deadline = time.time() + 20
    while not list((tmp_path / "out").glob("*.png")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"interrupted; run the same command again to continue" in errors
    assert b"Traceback" not in errors


def descendants(pid):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(child) for child in listed] + [d for child in listed for d in descendants(int(child))]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ------------------------------------------------------------------------------------------------------- bad input


def test_odd_photos_are_rows_and_the_rest_goes_on(tmp_path):
    source = tmp_path / "in"
    good = save(source, "good.png", photo(1))
    (source / "empty.jpg").touch()
    (source / "cut short.png").write_bytes(good.read_bytes()[:-200])
    (source / "quota.jpg").write_bytes(b"<!DOCTYPE html><html>quota exceeded</html>")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (source / "enormous.png").write_bytes(start + b"\x00\x00\x00\x10IDAT" + b"\x00" * 20)
    save(source, "animated.gif", photo(2), save_all=True, append_images=[photo(3)])
    save(source, "cmyk.jpg", photo(5).convert("CMYK"), quality=95)
    wide = np.asarray(photo(6).convert("L"), np.uint16) * 257
    Image.fromarray(wide).save(source / "16 bit.png")
    save(source, "grey.png", photo(7).convert("L"))
    crowd = Image.new("RGB", (1200, 620), (120, 140, 160))
    for n in range(50):
        crowd.paste(photo(FOUND[n % 8], canvas=(115, 115), at=(2, 2)), (n % 10 * 118, n // 10 * 120))
    save(source, "crowd.png", crowd)
    target = cut_haar(source, tmp_path / "out")
    found = rows(target)
    reasons = {name: row.reason for name, row in found.items() if not row.n}
    assert reasons.pop("empty.jpg") == "not an image (empty file)"
    assert "quota.jpg" in reasons
    assert "HTML page" in reasons.pop("quota.jpg")
    assert reasons.pop("cut short.png")
    assert "pixels" in reasons.pop("enormous.png")
    assert not reasons, reasons
    assert all("\n" not in row.reason for row in found.values())
    assert sum(row.source == "crowd.png" for row in found.values()) >= 40
    for name in ("animated.gif", "cmyk.jpg", "16 bit.png", "grey.png"):
        assert any(row.source == name and row.n for row in found.values()), name


def test_names_in_any_script_and_of_any_kind(tmp_path):
    source = tmp_path / "in"
    names = ["Ångström \u4eba\u8138.png", "two\nlines.png", " spaces .png", "-dash.png", "100%41.png", "a,b;\"c'.png"]
    names += ["x" * 240 + ".png", "b.png", "b.jpg", os.fsdecode(b"caf\xe9.png")]
    for n, name in enumerate(names):
        save(source, name, photo(FOUND[n % 8]), format="PNG")
    target = cut_haar(source, tmp_path / "out")
    found = [row for row in rows(target).values() if row.n]
    assert len({row.source for row in found}) == len(names)
    assert all(work.place(target, row.face, row.verdict).is_file() for row in found)
    assert all(name.isprintable() for name in tree(target))
    before = tree(target)
    cut_haar(source, target)
    assert tree(target) == before
    assert len(Crops(str(target)).faces) == len(accepted(target))


def test_a_photo_that_vanishes_midway_is_a_row(photos, tmp_path, monkeypatch):
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    look = job._process

    def late(*given):
        (source / "holiday 3.png").unlink()
        return look(*given)

    monkeypatch.setattr(job, "_process", late)
    target = cut_haar(source, tmp_path / "out")
    assert rows(target)["holiday 3.png"].verdict == "none"
    assert "No such file" in rows(target)["holiday 3.png"].reason


def test_a_full_disk_loses_nothing(photos, first, tmp_path, monkeypatch):
    put, written = work._put, []

    def full(target, path, data):
        written.append(path)
        if len(written) > 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(target, path, data)

    monkeypatch.setattr(work, "_put", full)
    with pytest.raises(BadInput, match=r"No space left on device.*nothing is lost") as caught:
        cut_haar(photos, tmp_path / "faces")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(work, "_put", put)
    assert tree(cut_haar(photos, tmp_path / "faces")) == tree(first)


def test_two_cuts_into_one_folder(photos, again):
    with job._locked_folder(again), pytest.raises(BadInput, match="another cut is writing to this folder"):
        cut_haar(photos, again)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.replace(",accepted,", ",perhaps,", 1), "row 3.*verdict 'perhaps'; must be accepted or doubtful"),
        (lambda t: "face,verdict\n1,2\n", "no column source"),
        (lambda t: t + t.splitlines()[-2] + "\n", "has another row"),
        (lambda t: t.replace("holiday 0.png-1", "holiday 0.png-7"), "no such face: holiday 0.png-7"),
        (lambda t: "", "no column face"),
        (lambda t: t + '"open', "cannot be read as CSV"),
    ],
)
def test_a_manifest_edited_into_nonsense_changes_nothing(photos, again, change, complaint):
    path = again / "manifest.csv"
    path.write_text(change(path.read_text()))
    before = tree(again)
    with pytest.raises(BadInput, match=complaint) as caught:
        cut_haar(photos, again)
    assert "\n" not in str(caught.value)
    assert tree(again) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"size": "huge"}, "--size huge: must be WIDTHxHEIGHT"),
        ({"size": "4x4"}, "from 8 to 4096"),
        ({"zoom": 9.0}, "--zoom 9.0"),
        ({"processes": 0}, "--processes 0"),
        ({"min_face": 0}, "--min-face 0"),
    ],
)
def test_wrong_options_are_one_line(photos, tmp_path, arguments, complaint):
    with pytest.raises(BadInput, match=complaint):
        cut_haar(photos, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be(photos, first, tmp_path):
    with pytest.raises(BadInput, match="is inside"):
        cut_haar(photos, photos / "faces")
    with pytest.raises(BadInput, match="photos would be read as crops"):
        cut_haar(photos, photos.parent)
    with pytest.raises(BadInput, match="no such folder"):
        cut_haar(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="no images"):
        cut_haar(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="is a file"):
        cut_haar(photos, tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("x")
    with pytest.raises(BadInput, match="holds files that `faceforge cut` did not write"):
        cut_haar(photos, tmp_path / "full")
    assert (tmp_path / "full/letter.txt").read_text() == "x"


def test_another_way_or_other_photos_need_another_folder(photos, again, tmp_path):
    before = tree(again)
    with pytest.raises(BadInput, match="was cut with height=80, not 64"):
        cut_haar(photos, again, size="64")
    other = Path(shutil.copytree(photos, tmp_path / "other"))
    with pytest.raises(BadInput, match="was cut with source="):
        cut_haar(other, again)
    assert tree(again) == before


def test_sizes():
    assert command.parse_size("published") == (480, 360)
    assert command.parse_size("pix2pix") == (320, 256)
    assert command.parse_size("64") == (64, 64)
    assert command.parse_size("360x480") == (480, 360)


# --------------------------------------------------------------------------------------------------------- engines


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_other_engines_make_the_same_bytes(photos, first, tmp_path, engine):
    pytest.importorskip({"dask": "distributed"}.get(engine, engine), reason=f"{engine} is not installed")
    assert tree(cut_haar(photos, tmp_path / "faces", engine=engine, processes=2)) == tree(first)


@pytest.mark.parametrize("engine", ["ray", "dask"])
def test_an_engine_that_is_not_installed_is_one_line(photos, tmp_path, engine, monkeypatch):
    monkeypatch.setitem(sys.modules, {"dask": "distributed"}.get(engine, engine), None)
    with pytest.raises(BadInput, match=rf"--engine {engine}: not installed; .* pip install -e '\.\[{engine}\]'$"):
        cut_haar(photos, tmp_path / "out", engine=engine)
