"""The same set is understood in the same way however it is packed, and each folder means what its owner means."""

import json
import shlex
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from picture_makers import celeba_files, celeba_tables, encode, face_data, picture, put, put_tgz, put_zip

from faceforge import config
from faceforge.data.layout import understand
from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.splits import split_faces
from faceforge.errors import BadInput
from faceforge.fetch.inspect import check
from faceforge.io import manifest

PEOPLE = ("Ann", "Bob", "José", "Zoë", "Łukasz", "Åse", "山田", "Fay", "Gül", "Hal", "Ida")
PHOTOS = Path(__file__).parents[2] / "shared" / "data"


def tiny(n):
    return encode(picture(n, 8, 8), "PNG")


IMAGES = [tiny(n) for n in range(99)]
FACES = {f"{who}/{k}.png": IMAGES[3 * n + k] for n, who in enumerate(PEOPLE) for k in range(3)}
FLAT = {f"é{n}.png": IMAGES[n] for n in range(12)}
MOODS = {f"{mood}/{n}.png": IMAGES[9 * m + n] for m, mood in enumerate(("smile", "sad", "fâché")) for n in range(9)}
OFFICIAL = {f"{part}/{n}.png": IMAGES[9 * p + n] for p, part in enumerate(("train", "val", "test")) for n in range(9)}
SHARDED = {f"{n // 10 * 10:05d}/{n:05d}.png": IMAGES[n] for n in range(99)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))


def meaning(root, cache, mode="auto"):
    """What is known of each image of a set, by its bytes: whose it is, its split, its attributes."""
    source = Crops(str(root), cache=str(cache))
    rows = split_faces(source.faces, mode, 0, 0.2, 0.2)
    split = {int(n): name for name, found in rows.items() for n in found}
    labels = source.attributes() or ([], np.zeros((len(source.faces), 0)))
    return {
        source.digest(n): (face.identity, face.split, split[n], tuple(labels[0]), tuple(labels[1][n]))
        for n, face in enumerate(source.faces)
    }


class Unmarked(zipfile.ZipInfo):
    """A member whose name is UTF-8 without saying so, as the Finder of macOS writes it."""

    def _encodeFilenameFlags(self):
        return self.filename.encode(), self.flag_bits & ~0x800


def put_mac(files, path, inside):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(Unmarked(inside + name), data)
    return path


def pack(files, how, inside, folder):
    if how == "folder":
        return put(files, folder / "set", inside)
    if how == "tar":
        return put_tgz({f"./{inside}{name}": data for name, data in files.items()}, folder / "set.tgz")
    if how == "mac zip":
        return put_mac(files, folder / "set.zip", inside)
    slash = "\\" if how == "windows zip" else "/"
    files = {(inside + name).replace("/", slash): data for name, data in files.items()}
    return put_zip(files, folder / "set.zip")


wrappers = st.sampled_from(["people", "my faces", "Bilder für Ömer", "v1.0", "000", "images1024x1024"])


@given(
    st.sampled_from([FACES, FLAT, MOODS, OFFICIAL, SHARDED]),
    st.sampled_from(["folder", "zip", "tar", "mac zip", "windows zip"]),
    st.lists(wrappers, max_size=3),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from([(), ("@eaDir/0.png", "#recycle/1.png", "__MACOSX/._2.png"), ("$RECYCLE.BIN/x/3.png", ".t/4.png")]),
)
@examples(max_examples=100, deadline=None)
def test_a_set_means_the_same_however_it_is_packed(tmp_path_factory, files, how, inside, form, litter):
    folder = tmp_path_factory.mktemp("s")
    expected = meaning(put(files, folder / "plain"), folder / "cache")
    packed = {unicodedata.normalize(form, name): data for name, data in files.items()}
    packed |= {name: IMAGES[98] for name in litter if how != "windows zip"}
    root = pack(packed, how, "".join(f"{name}/" for name in inside), folder)
    found = meaning(root, folder / "cache")
    assert found == expected
    splits: dict[str, set[str]] = {}
    for who, _, split, *_ in found.values():
        splits.setdefault(who or "", set()).add(split)
    assert all(len(sides) == 1 for who, sides in splits.items() if who)


def read(names, anchors=()):
    found = understand(names, anchors)
    return found, len(set(found.people) - {None})


def test_folders_of_a_split_again_are_the_split():
    found, people = read([f"{folder}/{n}.png" for folder in ("train/train", "test/Test") for n in range(4)])
    assert (people, found.sets, found.splits) == (0, [], ["train"] * 4 + ["test"] * 4)
    assert found.ids[:2] == ["train/0.png", "train/1.png"]


def test_letters_with_which_the_people_in_them_begin_are_shards():
    found, people = read([f"{who[0].upper()}/{who}/{n}.png" for who in ("ann", "Alan", "Bob", "Eve") for n in "12"])
    assert (people, found.sets, found.shards) == (0, ["Alan", "Bob", "Eve", "ann"], ["A", "B", "E"])
    found, people = read(
        [f"{who[0]}/{who}{k}/{n}.png" for who in ("Ann", "Bob", "Eve") for k in range(4) for n in "12"]
    )
    assert (people, found.folders[0]) == (12, "Ann0")


def each(*folders, count=3, start="{n}"):
    return [f"{folder}/{start.format(n=n)}.jpg" for folder in folders for n in range(count)]


@pytest.mark.parametrize(
    ("names", "shards"),
    [
        ([f"{n // 1000 * 1000:05d}/{n:05d}.png" for n in range(0, 12_000, 250)], 12),
        ([f"ffhq/images/{n // 1000 * 1000:05d}/{n:05d}.png" for n in range(0, 3000, 250)], 3),
        ([f"{n // 1000:02d}/{n:06d}.png" for n in range(0, 12_000, 250)], 12),
        (each(*(f"part_{n}" for n in range(9))), 9),
        (each(*(f"202601{n:02d}" for n in range(1, 10))), 9),
        (each(*(f"Neuer Ordner ({n})" for n in range(9))), 9),
        (each(*(f"2026/{n:02d}" for n in range(1, 13)), *(f"2025/{n:02d}" for n in range(1, 13))), 14),
        ([f"{n // 4:05d}/img{n:08d}.png" for n in range(40)], 10),
        (each(*(f"DCIM/{n}APPLE" for n in range(100, 110))), 10),
        ([f"{h}/{h}{'0123456789abcdef' * 2}{n}.jpg" for h in ("0a", "1f", "e3") for n in range(3)], 3),
    ],
)
def test_shards_are_no_people(names, shards):
    found, people = read(names)
    assert (people, found.sets, len(found.shards)) == (0, [], shards)


@pytest.mark.parametrize(
    ("names", "who"),
    [
        (each(*(f"{n:07d}" for n in range(12))), 12),  # numbered people, whose images start again at 0
        (each("001", "002", "003", "004", start="img{n}"), 4),
        (each(*(f"part{n % 2}/P{n}" for n in range(10))), 10),
        (each(*(f"train/P{n}" for n in range(6)), *(f"test/P{n}" for n in range(6, 10))), 10),
        (each(*(f"{('male', 'female')[n % 2]}/P{n}" for n in range(10))), 10),
        (each(*(f"P{n}/photos" for n in range(10))), 10),
        ([*each(*(f"people/P{n}" for n in range(10))), "cover.jpg"], 10),
        ([*each(*(f"people/P{n}" for n in range(10))), "docs/logo.png"], 10),
    ],
)
def test_people_are_found_at_their_level(names, who):
    assert read(names)[1] == who


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (each("train", "val", "test"), {"train", "val", "test"}),
        (each("data/Train", "data/Valid", "data/Testing"), {"train", "val", "test"}),
        (each("training/smile", "training/sad", "validation/smile", "validation/sad"), {"train", "val"}),
        (each("train/images", "test/images"), {"train", "test"}),
        (each("01_train", "02_val", "03_test"), {"train", "val", "test"}),
        (each("train2017", "val2017"), {"train", "val"}),
        (each("celeba-train", "celeba-val", "celeba-test"), {"train", "val", "test"}),
        (each("train_128x128", "test_128x128"), {"train", "test"}),
        (each("train_images", "test_images"), {"train", "test"}),
        (each("images_train/Ann", "images_val/Bob"), {"train", "val"}),
        (each("smile/train", "smile/test", "sad/train", "sad/test"), {"train", "test"}),
        (each("trainA", "trainB", "testA", "testB"), {"train", "test"}),
        (each("train", "test", "extra"), {"train", "test", None}),
    ],
)
def test_official_splits_are_found_at_their_level(names, parts):
    found, _ = read(names)
    assert set(found.splits) == parts
    for name, split in zip(names, found.splits, strict=True):
        assert split == next((part for part in ("train", "val", "test") if part in name.lower()), None)


def test_the_users_test_pictures_never_train(tmp_path):
    for parts in (("train", "val", "test"), ("train", "test"), ("Training", "Validation"), ("trainA", "testA")):
        root = put(
            {f"{p}/{n}.png": IMAGES[20 * k + n] for k, p in enumerate(parts) for n in range(20)}, tmp_path / parts[0]
        )
        data = face_data(root, split="auto", cache=str(tmp_path / "cache"), size=8)
        data.prepare(progress=False)
        source = Crops(str(root))
        trained = {source.faces[n].split for n in data.rows["train"]}
        assert trained == {"train"}
        assert all(data.counts.values())
        assert data.summary()["split_by"] == "official"


def test_without_such_folders_auto_is_the_split_by_person(tmp_path):
    put(FACES, tmp_path / "in")
    faces = Crops(str(tmp_path / "in")).faces
    for name, rows in split_faces(faces, "auto", 3, 0.2, 0.2).items():
        assert np.array_equal(rows, split_faces(faces, "identity", 3, 0.2, 0.2)[name])


def test_ids_of_sets_that_were_read_rightly_stay_as_they_are(tmp_path):
    for files in (FACES, MOODS, {f"{n}.png": IMAGES[n] for n in range(9)}):
        assert [face.id for face in Crops(str(put(files, tmp_path / str(len(files))))).faces] == sorted(files)


@pytest.mark.parametrize("sides", [("photos", "sketches"), ("A", "B"), ("input", "target"), ("trainA", "trainB")])
def test_pairs_are_recognised_and_stay_together(tmp_path, sides):
    root = put({f"{side}/face{n}.png": IMAGES[n] for side in sides for n in range(9)}, tmp_path / "in")
    source = Crops(str(root))
    assert source.layout.pairs
    assert Counter(face.identity for face in source.faces).most_common()[-1][1] == 2
    said = next(line for line in check(root).lines if line.startswith(f"pairs ({' and '.join(source.sets)}); from one"))
    assert_trains_on_pairs(said.partition("other: ")[2], {"sketches"} if "sketches" in sides else {sides[0]})
    assert not Crops(str(put(MOODS, tmp_path / "moods"))).layout.pairs


def assert_trains_on_pairs(command, sides):
    """The command gives nine pairs, whose inputs are those of the first side, or of the sketches."""
    program, _, *words = shlex.split(command)
    assert (program, words[:3]) == ("python", ["model=pix2pix", "task=pairs", "data=pairs"])
    source = config.build(config.compose([*words, "data.size=16"])["data"])._source(root=words[3].partition("=")[2])
    assert sorted(source.inputs >= 0) == [False] * 9 + [True] * 9
    folders = {source.names[place].partition("/")[0] for place in source.inputs if place >= 0}
    assert folders <= sides or source.half == "left"


def test_images_side_by_side_are_recognised(tmp_path):
    put({f"{n}.png": encode(picture(n, 16, 32), "PNG") for n in range(9)}, tmp_path / "in")
    found = check(tmp_path / "in")
    assert "pairs, side by side: data.source.input=right if the right half is the input" in found.lines[-1]
    assert_trains_on_pairs(found.command, set())


# ------------------------------------------------------------------------------------------------ what is left out


@pytest.mark.parametrize(
    "litter",
    [
        *("@eaDir/a.png/SYNOFILE_THUMB_M.png", "#recycle/a.png", "$RECYCLE.BIN/a.png", ".Trash-1000/files/a.png"),
        *("__MACOSX/._0.png", ".thumbnails/a.png", "lost+found/a.png", ".ipynb_checkpoints/a.png", "P1/@eaDir/b.png"),
        "._0.png",
    ],
)
@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
def test_folders_of_systems_are_left_out(tmp_path, litter, how):
    root = pack({**FLAT, litter: IMAGES[50]}, how, "", tmp_path)
    assert len(Crops(str(root), cache=str(tmp_path / "cache")).faces) == len(FLAT)
    if how != "tar":
        [line] = [line for line in check(root).lines if line.startswith("left out: ")]
        kind = next(part for part in litter.split("/") if part[0] in "@#$._l")
        assert ("hidden" if kind[0] == "." else kind) in line


def test_what_is_no_image_is_counted_by_kind(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    put({**FLAT, "IMG_1.HEIC": b"x", "IMG_2.HEIC": b"x", "notes.docx": b"x"}, tmp_path / "in")
    lines = check(tmp_path / "in").lines
    assert any(line.startswith("2 HEIC pictures were left out: ") for line in lines)
    assert "left out: .docx (1)" in lines


def test_a_table_of_labels_in_the_folder_is_told(tmp_path):
    root = put({**FLAT, "labels.csv": "name;glad\né0;1\né1;0\nx;1\n".encode(), "notes.txt": b"words"}, tmp_path / "in")
    counted = "2 of 12 images matched; no row for é10.png; 1 rows without an image, such as x"
    assert f"labels: data.attributes={root / 'labels.csv'}: {counted}" in check(root).lines


def test_links_to_folders_are_followed_once(tmp_path):
    people, root = put(FACES, tmp_path / "people"), tmp_path / "in"
    root.mkdir()
    (root / "a").symlink_to(people)
    alone = meaning(people, tmp_path / "cache")
    assert meaning(root, tmp_path / "cache") == alone
    (root / "b").symlink_to(people)  # the same again
    (root / "loop").symlink_to(root)
    (people / "up").symlink_to(tmp_path)
    assert meaning(root, tmp_path / "cache") == alone
    (people / "Ann" / "again").symlink_to(people / "Bob")
    assert len(Crops(str(people)).faces) == len(FACES)


# ------------------------------------------------------------------------------------------------------- CelebA


def celeba_trees(where):
    """CelebA as it lies on people's disks: (data.root, how)."""
    files, tables = celeba_files(), celeba_tables()
    anno = {name: tables[name] for name in ("list_attr_celeba.txt", "identity_CelebA.txt")}
    for n, inside in enumerate(("Img/img_align_celeba", "Img", "")):
        top = where / f"tree{n}"
        put(files, top / "Img/img_align_celeba")
        put(anno, top / "Anno")
        put({"list_eval_partition.txt": tables["list_eval_partition.txt"]}, top / "Eval")
        yield top / inside
    for n, stray in enumerate(("overview.png", "docs/logo.jpg")):
        put_zip(files, where / f"zip{n}/Img/img_align_celeba.zip", "img_align_celeba/")
        put({stray: IMAGES[0]}, where / f"zip{n}/Img")
        put(tables, where / f"zip{n}/Anno")
        yield from (where / f"zip{n}", where / f"zip{n}/Img", where / f"zip{n}/Img/img_align_celeba.zip")
    put(tables, where / "kaggle") and put(files, where / "kaggle/img_align_celeba/img_align_celeba")
    yield where / "kaggle/img_align_celeba/img_align_celeba"
    yield put(tables, put(files | {"../cover.jpg": IMAGES[1]}, where / "cover", "img_align_celeba"))


def test_celeba_is_read_at_any_of_its_levels(tmp_path):
    for root in celeba_trees(tmp_path):
        source = Celeba(str(root))
        assert [face.id for face in source.faces] == sorted(celeba_files()), root
        assert [face.identity for face in source.faces] == [str(n // 2) for n in range(12)], root
        assert {face.split for face in source.faces} == {"train", "val", "test"}, root
        assert source.attributes()[1][:, -1].tolist() == [0, 1] * 6
        found = check(root)
        assert "data=celeba" in found.command, root
        assert "table: identity_CelebA.txt: 12 of 12 images matched" in found.lines


# ---------------------------------------------------------------------------------------------------- cut folders


def put_cut(folder, **store):
    """A folder of faceforge cut with one face rejected by hand, whose crop is still in place."""
    put({f"{n}.png": IMAGES[n] for n in range(6)}, folder)
    rows = [manifest.Row(f"{n}.png", "p.jpg", 1, ("accepted", "rejected")[n == 4], "") for n in range(6)]
    manifest.write(folder / manifest.NAME, rows)
    return folder


@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
@pytest.mark.parametrize("inside", ["", "my_faces/", "x/my_faces/"])
def test_a_manifest_is_followed_wherever_it_lies(tmp_path, how, inside):
    cut = put_cut(tmp_path / "cut")
    files = {path.name: path.read_bytes() for path in cut.iterdir()}
    root = pack(files, how, inside, tmp_path)
    ids = [face.id for face in Crops(str(root), cache=str(tmp_path / "cache")).faces]
    assert ids == [f"{n}.png" for n in range(6) if n != 4]


def test_two_cut_folders_keep_their_verdicts_and_are_sets(tmp_path):
    put_cut(tmp_path / "in/happy")
    put_cut(tmp_path / "in/sad")
    source = Crops(str(tmp_path / "in"))
    assert len(source.faces) == 10
    assert source.attributes()[0] == ["happy", "sad"]


# --------------------------------------------------------------------------------------- what check and training say


def command(found):
    words = shlex.split(found.command)
    assert words[:2] == ["python", "train.py"]
    return words[2:]


def train(words, folder, **more):
    fast = ["trainer.max_steps=2", "trainer.gpus=0", "logger.mode=disabled", "data.size=8", "run_dir=run"]
    code = "from faceforge.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *words, *fast], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, json.loads((folder / "run/run.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "said"),
    [
        (FLAT, "People are unknown, so their split is by picture: one person can be in training and test, and scores"),
        (OFFICIAL, "People are unknown, so scores on the official split may flatter"),
        ({f"{n}.png": IMAGES[n] for n in range(3)}, "scores may flatter"),
        (FACES, ""),
    ],
)
def test_printed_commands_work_and_training_says_what_the_split_is_worth(tmp_path, files, said):
    root = put(files, tmp_path / "it's a set")
    told, record = train(command(check(root)), tmp_path)
    assert said in told
    assert ("flatter" in told) == bool(said)
    assert bool(record["data"]["cautions"]) == bool(said)
    assert "flatter" in (tmp_path / "run/report.html").read_text() or not said


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.png": IMAGES[0], "b.png": IMAGES[1]}, "2 different people (or unnamed images) cannot be split"),
        ({f"{n}.png": IMAGES[n] if n < 4 else b"words" for n in range(12)}, "67% of the sampled images are unreadable"),
        ({f"{n}.png": IMAGES[n] if n < 5 else b"" for n in range(8)}, "38% of the sampled images are unreadable"),
        ({"a.png": IMAGES[0], "b.png": IMAGES[1], "c.png": IMAGES[2], "d.png": b""}, ""),
    ],
)
def test_check_applies_the_limits_of_training(tmp_path, files, reason):
    found = check(put(files, tmp_path / "in"))
    assert (found.command == "") == bool(reason)
    assert reason in found.lines[-1]
    assert str(found).count("\n") == len(found.lines) - 1 + 2 * (not reason)


@pytest.mark.parametrize(
    ("identities", "by", "said"),
    [
        ([None] * 9, "picture", "People are unknown, so their split is by picture"),
        (["a", "b", "c", None] * 3, "person and picture", "The people of 3 of 12 faces are unknown, so their split"),
        (["a", "b", "c"] * 3, "person", None),
    ],
)
def test_scores_that_may_flatter_say_so(tmp_path, identities, by, said):
    class Known(Crops):
        def __init__(self, root, cache=None):
            super().__init__(root, cache=cache)
            self.faces = [type(f)(f.id, who) for f, who in zip(self.faces, identities, strict=True)]

    root = put({f"{n}.png": IMAGES[n] for n in range(len(identities))}, tmp_path / "in")
    data = face_data(root, Known, cache=str(tmp_path / "cache"), size=8, batch_size=1)
    data.prepare(progress=False)
    assert data.summary()["split_by"] == by
    assert [line.startswith(said) for line in data.summary()["cautions"]] == [True] * (said is not None)


def test_people_in_two_official_splits_are_told(tmp_path):
    files = {
        f"{part}/{who}/{n}.png": IMAGES[n] for part in ("train", "val", "test") for who in PEOPLE for n in range(2)
    }
    data = face_data(put(files, tmp_path / "in"), split="auto", cache=str(tmp_path / "cache"), size=8)
    data.prepare(progress=False)
    assert data.cautions == ["11 people are in more than one of the official splits, so scores may flatter."]


@pytest.mark.real_faces
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs at ../shared/data")
@pytest.mark.parametrize(
    ("folder", "lines"),
    [
        ("lfw_color", ["layout: that of LFW, Name/Name_0001.jpg"]),
        ("celeba_small", ["layout: that of CelebA", "table: list_attr_celeba.txt: 5,340 of 5,340 images matched"]),
        ("celeba_small/img_align_celeba", ["table: identity_CelebA.txt: 5,340 of 5,340 images matched"]),
        ("lfw_color_smile_sad", ["layout: a folder per set", "sets: sad (71), smile (73); each an attribute"]),
        ("photos_color", ["layout: images in one folder"]),
        ("cufs_pairs64", ["layout: a folder per set, one name per pair"]),
    ],
)
def test_real_sets_are_understood(folder, lines):
    assert set(lines) <= set(check(PHOTOS / folder).lines)


def test_a_manifest_that_lost_its_verdicts_stops(tmp_path):
    cut = put_cut(tmp_path / "cut")
    text = (cut / manifest.NAME).read_text()
    (cut / manifest.NAME).write_text(text.replace("verdict", "Urteil", 1))
    with pytest.raises(BadInput, match="no column verdict"):
        Crops(str(cut))
