"""Odd layouts: one set packed in many ways, official splits, shards, pairs, CelebA, FFHQ, strays, links, archives."""

from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.hostile.odd_doors import Case, Expected, Verdict, encoded, face, feed_set, put

ANY = "."
WHO = ("Ann", "Bob", "José", "Zoë", "Łukasz", "Åse", "山田", "Fay", "Gül", "Hal")
PER = 3
COUNT = len(WHO) * PER
SPLITS = ("train", "val", "test")
Names = Sequence[str]  # name n is that of face n


@dataclass(frozen=True)
class Layout:
    """Names of faces 0, 1, ..., other files, and what must be known."""

    name: str
    names: Names
    right: Expected
    others: Sequence[Expected] = ()  # other right readings
    litter: Mapping[str, bytes] | None = None  # written as they are
    form: str = "folder"
    source: str = "crops"
    through_check: bool = True
    below: str = ""  # the folder that is named as root
    build: Callable[[Path], Path] | None = None  # changes the folder; the new root
    kind: str = "PNG"


def _case(layout: Layout, seed: int) -> Case:
    def feed(folder: Path) -> Verdict:
        files = {name: encoded(face(seed, n), layout.kind) for n, name in enumerate(layout.names)}
        litter = {k: v or encoded(face(seed, 60 + len(k) % 4), layout.kind) for k, v in (layout.litter or {}).items()}
        root = put({**files, **litter}, folder / "set", layout.form) / layout.below
        root = layout.build(root) if layout.build else root
        shares: dict[str, Any] = {"val_fraction": 0.2, "test_fraction": 0.2}
        first = feed_set(layout.source, root, folder, layout.right, seed, others=layout.others, **shares)
        if first.kind != "read right" or not layout.through_check:
            return first
        second = feed_set(layout.source, root, folder, layout.right, seed, True, layout.others, **shares)
        return second._replace(said=f"by the command of the check: {second.said}")

    return Case("layouts", layout.name, feed)


# ------------------------------------------------------------------------------------------------------ what is right


def _people(per: int = PER, count: int = COUNT) -> Expected:
    return Expected(range(count), {n: n // per for n in range(count)}, None, {})


def _nobody(count: int) -> Expected:
    return Expected(range(count), {}, None, {})


def _sets(folders: Sequence[str], per: int) -> Expected:
    """Few folders: each is a label."""
    count = len(folders) * per
    labels = {name: {n: float(n // per == k) for n in range(count)} for k, name in enumerate(folders)}
    return Expected(range(count), {}, None, labels)


def _official(per: int, parts: Sequence[str] = SPLITS, people: Mapping[int, object] | None = None) -> Expected:
    count = per * len(parts)
    return Expected(range(count), people or {}, {n: parts[n // per] for n in range(count)}, {})


PEOPLE = [f"{who}/{k}.png" for who in WHO for k in range(PER)]
FLAT = [f"{n:03d}.png" for n in range(12)]
MOODS = [f"{mood}/{k}.png" for mood in ("smile", "sad", "fâché") for k in range(6)]
OFFICIAL = [f"{part}/{k}.png" for part in SPLITS for k in range(6)]
SHARDED = [f"{n // 10 * 10:05d}/{n:05d}.png" for n in range(40)]
KNOWN = {
    "people": (PEOPLE, _people()),
    "one folder": (FLAT, _nobody(12)),
    "labels": (MOODS, _sets(("smile", "sad", "fâché"), 6)),
    "an official split": (OFFICIAL, _official(6)),
    "shards": (SHARDED, _nobody(40)),
}
SYSTEMS = {
    "@eaDir/a.png": b"",
    "#recycle/b.png": b"",
    "$RECYCLE.BIN/S-1-5/c.png": b"",
    "__MACOSX/._d.png": b"",
    ".thumbnails/e.png": b"",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    ".DS_Store": b"\0\0\0\1Bud1",
    "desktop.ini": b"[.ShellClassInfo]",
}
MORE_SYSTEMS = {
    "lost+found/a.png": b"",
    "System Volume Information/b.png": b"",
    ".git/c.png": b"",
    ".ipynb_checkpoints/d.png": b"",
    ".Trash-1000/files/e.png": b"",
    ".Spotlight-V100/f.png": b"",
    "@Recycle/g.png": b"",
    ".cache/h.png": b"",
    "#snapshot/i.png": b"",
    "__pycache__/j.png": b"",
}
DEEP_SYSTEMS = {
    "Ann/@eaDir/0.png/SYNOFILE_THUMB_M.png": b"",
    "Bob/.picasaoriginals/1.png": b"",
    "Fay/__MACOSX/._2.png": b"",
}


def packings() -> Iterator[Layout]:
    """The same sets as folders and archives, within wrappers, with what systems leave in them."""
    wrappers = ("", "people/", "my faces/v1.0/", "a/b/Bilder für Ömer/")
    for n, (what, (names, right)) in enumerate(KNOWN.items()):
        for k, form in enumerate(("folder", "zip", "tar", "tgz")):
            for depth in range(4):
                if (n + k + depth) % 2 == 0 or what == "people":
                    wrapped = [wrappers[depth] + name for name in names]
                    yield Layout(f"{what}, {form}, {depth} folders around", wrapped, right, form=form)
        for form in ("folder", "zip"):
            yield Layout(f"{what}, {form}, with folders of systems", names, right, litter=SYSTEMS, form=form)
        yield Layout(f"{what}, with more folders of systems", names, right, litter=MORE_SYSTEMS)
    yield Layout("people, folders of systems within", PEOPLE, _people(), litter=DEEP_SYSTEMS)
    for form in ("NFC", "NFD"):
        for packing in ("folder", "zip"):
            yield Layout(
                f"people in {form}, {packing}",
                [unicodedata.normalize(form, name) for name in PEOPLE],
                _people(),
                form=packing,
            )
    yield Layout(
        "people in a zip of Windows",
        [name.replace("/", "\\") for name in PEOPLE],
        _people(),
        form="zip",
        through_check=False,
    )
    yield Layout("people from here, tgz", [f"./{name}" for name in PEOPLE], _people(), form="tgz")
    yield Layout(
        "a wrapper beside __MACOSX, zip",
        [f"people/{name}" for name in PEOPLE],
        _people(),
        litter={f"__MACOSX/people/._{n}.png": b"" for n in range(9)},
        form="zip",
    )
    yield Layout(
        "a wrapper and a readme",
        [f"people/{name}" for name in PEOPLE],
        _people(),
        litter={"README.md": b"# faces\n", "LICENSE": b"MIT\n", "requirements.txt": b"numpy\n"},
    )
    yield Layout(
        "a wrapper and a stray picture",
        [f"people/{name}" for name in PEOPLE],
        replace(_people(), faces=[*range(COUNT)], refusal=ANY),
        [replace(_people(), faces=[*range(COUNT), 60])],
        {"logo.png": b""},
        through_check=False,
    )


def named() -> Iterator[Layout]:
    """People by folders of all kinds."""
    for what, folders in {
        "numbers": [str(n) for n in range(1, 11)],
        "numbers with zeros": [f"{n:07d}" for n in range(1, 11)],
        "identities of VGGFace2": [f"n{n:06d}" for n in range(1, 11)],
        "subjects": [f"s{n}" for n in range(1, 11)],
        "CASIA's": [f"{n * 1111:07d}" for n in range(1, 11)],
        "names with spaces": [f"Person Number {n}" for n in range(10)],
        "names with points": [f"Dr. A. {n}" for n in range(10)],
        "names in capitals and not": [f"{'Aa'[n % 2]}{n // 2}" for n in range(10)],
        "names of splits among others": ["test", "val", *WHO[:8]],
        "years of birth": [f"born_{1950 + n}" for n in range(10)],
        "emoji": [chr(0x1F600 + n) for n in range(10)],
    }.items():
        names = [f"{folder}/{k}.png" for folder in folders for k in range(PER)]
        yield Layout(f"people called by {what}", names, _people())
    yield Layout(
        "people, each with folders of sessions",
        [f"{who}/session_{k}/a.png" for who in WHO for k in range(PER)],
        _people(),
    )
    yield Layout(
        "people, each with the same two folders",
        [f"{who}/{'ab'[k % 2]}/{k}.png" for who in WHO for k in range(PER)],
        _people(),
    )
    yield Layout(
        "people, all with the same file names", [f"{who}/face_{k}.png" for who in WHO for k in range(PER)], _people()
    )
    yield Layout("people, one empty", PEOPLE, _people(), litter={"Nobody/.keep": b"x"})
    yield Layout("people, with notes beside", PEOPLE, _people(), litter={f"{who}/info.txt": b"hello\n" for who in WHO})
    yield Layout(
        "people by LFW's layout",
        [f"{who}/{who}_{k + 1:04d}.png" for who in WHO for k in range(PER)],
        _people(),
        source="lfw",
    )
    yield Layout(
        "people by LFW's layout, two folders around",
        [f"x/lfw/{who}/{who}_{k + 1:04d}.png" for who in WHO for k in range(PER)],
        _people(),
        source="lfw",
    )
    yield Layout(
        "people by LFW's layout, tgz",
        [f"lfw/{who}/{who}_{k + 1:04d}.jpg" for who in WHO for k in range(PER)],
        _people(),
        source="lfw",
        form="tgz",
        kind="JPEG",
    )
    yield Layout(
        "LFW with its lists beside",
        [f"lfw/{who}/{who}_{k + 1:04d}.png" for who in WHO for k in range(PER)],
        _people(),
        source="lfw",
        litter={"pairs.txt": b"10\t300\n", "lfw-names.txt": b"Ann\t3\n"},
    )
    yield from _more_people()
    yield Layout(
        "people in two cases", [f"{name}/{k}.png" for name in [*WHO[:9], "ann"] for k in range(PER)], _people()
    )
    both = [f"{unicodedata.normalize('NFD' if k % 2 else 'NFC', who)}/{k}.png" for who in WHO for k in range(PER)]
    yield Layout("people in two Unicode forms at once", both, _people())
    yield Layout("ORL's", [f"orl/s{n + 1}/{k + 1}.png" for n in range(10) for k in range(PER)], _people())
    yield Layout(
        "KDEF's",
        [f"KDEF/{'AB'[n % 2]}F{n:02d}/{'AB'[n % 2]}F{n:02d}{k}HL.png" for n in range(10) for k in range(PER)],
        _people(),
    )
    yield Layout(
        "UTKFace's", [f"UTKFace/{20 + n}_0_1_2017011{n % 9}.jpg.chip.jpg" for n in range(20)], _nobody(20), kind="JPEG"
    )
    vgg = [f"{'train' if n < 7 else 'test'}/n{n:06d}/{k:04d}_01.png" for n in range(10) for k in range(PER)]
    yield Layout(
        "VGGFace2's", vgg, Expected(range(30), {n: n // 3 for n in range(30)}, dict.fromkeys(range(21, 30), "test"), {})
    )
    yield Layout(
        "one person",
        [f"Ann/{k}.png" for k in range(12)],
        _nobody(12),
        [replace(_people(12, 12), people=None, refusal=ANY)],
    )
    yield Layout("two people", [f"{who}/{k}.png" for who in ("Ann", "Bob") for k in range(8)], _sets(("Ann", "Bob"), 8))
    yield Layout("one picture", ["a.png"], Expected([0], refusal=ANY, read=False), through_check=False)
    yield Layout("two pictures", ["a.png", "b.png"], Expected([0, 1], refusal=ANY, read=False), through_check=False)


def _more_people() -> Iterator[Layout]:
    """People whose folders look like shards, dates or letters, and copies."""
    for wrapper in ("train/", "test/", "0/", "part_1/", "100APPLE/", "A/", "00000/", "Ann/"):
        yield Layout(f"people within {wrapper}", [wrapper + name for name in PEOPLE], _people())
    for what, folders in {
        "Ann_1950-01-02": [f"{who}_{1950 + n}-01-02" for n, who in enumerate(WHO)],
        "long numbers": [f"{9876543210 + 7919 * n}" for n in range(10)],
        "group_0_Ann": [f"group_{n}_{who}" for n, who in enumerate(WHO)],
        "person_0": [f"person_{n}" for n in range(10)],
        "Person 0": [f"Person {n}" for n in range(10)],
        "Subject 1": [f"Subject {n}" for n in range(10)],
        "Actor_01": [f"Actor_{n:02d}" for n in range(10)],
        "pins_Ann": [f"pins_{who}" for who in WHO],
        "A0": [f"{who[0]}{n}" for n, who in enumerate(WHO)],
        "user1": [f"user{n}" for n in range(10)],
        "face1": [f"face{n}" for n in range(10)],
        "model-1": [f"model-{n}" for n in range(10)],
        "class_0": [f"class_{n}" for n in range(10)],
    }.items():
        names = [f"{folder}/{k}.png" for folder in folders for k in range(PER)]
        yield Layout(f"people called {what}", names, _people())
    twice = [f"{copy}/{who}/{who}_{k + 1:04d}.png" for copy in ("lfw", "lfw2") for who in WHO[:5] for k in range(PER)]
    right = replace(_people(), people=None, refusal=ANY, labels=None)
    yield Layout("two copies of LFW", twice, right, source="lfw", through_check=False)
    letters = [f"{chr(65 + n)}/{who}/{k}.png" for n, who in enumerate(WHO) for k in range(PER)]
    yield Layout("people, one below each letter of a list", letters, _people())
    many = [who + suffix for who in WHO for suffix in ("", "2")]
    below = [f"{who[0]}/{who}/{k}.png" for who in many for k in range(2)]
    yield Layout(
        "people below their initials, two each", below, Expected(range(40), {n: n // 2 for n in range(40)}, None, {})
    )


SPELLINGS = {
    "train, val, test": ("train", "val", "test"),
    "Train, Val, Test": ("Train", "Val", "Test"),
    "TRAIN, VALID, TEST": ("TRAIN", "VALID", "TEST"),
    "training, validation, testing": ("training", "validation", "testing"),
    "train, dev, test": ("train", "dev", "test"),
    "train, valid, eval": ("train", "valid", "eval"),
    "train_set, val_set, test_set": ("train_set", "val_set", "test_set"),
    "train2017, val2017, test2017": ("train2017", "val2017", "test2017"),
    "trainset, valset, testset": ("trainset", "valset", "testset"),
    "train_images, val_images, test_images": ("train_images", "val_images", "test_images"),
    "train-data, val-data, test-data": ("train-data", "val-data", "test-data"),
    "faces_train, faces_val, faces_test": ("faces_train", "faces_val", "faces_test"),
    "01_train, 02_val, 03_test": ("01_train", "02_val", "03_test"),
    "tr, va, te": ("tr", "va", "te"),
}


def official() -> Iterator[Layout]:
    """Official splits: spellings, levels, parts of them."""
    for what, folders in SPELLINGS.items():
        guessed = replace(_official(6), refusal=None)
        others = [_sets(folders, 6)] if what == "tr, va, te" else []
        yield Layout(
            f"a split called {what}", [f"{part}/{k}.png" for part in folders for k in range(6)], guessed, others
        )
    for what, names in {
        "train/train, test/test": [f"{part}/{part}/{k}.png" for part in SPLITS for k in range(6)],
        "five folders around": [f"a/b/c/d/e/{name}" for name in OFFICIAL],
        "a folder of images around": [f"images/{name}" for name in OFFICIAL],
        "a folder called train around": [f"train/{name}" for name in OFFICIAL],
        "a folder called test around": [f"test/{name}" for name in OFFICIAL],
        "split_train": [f"split_{name}" for name in OFFICIAL],
        "Training Set": [f"{part} Set/{k}.png" for part in ("Training", "Validation", "Test") for k in range(6)],
        "TrainImages": [f"{part}Images/{k}.png" for part in ("Train", "Val", "Test") for k in range(6)],
        "celeba-train": [f"celeba-{part}/{k}.png" for part in SPLITS for k in range(6)],
        "train_128x128": [f"{part}_128x128/{k}.png" for part in SPLITS for k in range(6)],
        "train (1)": [f"{part} (1)/{k}.png" for part in SPLITS for k in range(6)],
    }.items():
        yield Layout(f"a split: {what}", names, _official(6))
    csvs = {"train.csv": b"file,smile\n0.png,1\n", "test.csv": b"file,smile\n", "sample_submission.csv": b"id,smile\n"}
    yield Layout("a split, with Kaggle's tables", OFFICIAL, _official(6), litter=csvs)
    inner = {n: n // 2 for n in range(30)}
    names = [f"{part}/{WHO[k // 2]}{p}/{k}.png" for p, part in enumerate(SPLITS) for k in range(10)]
    yield Layout("people within a split", names, _official(10, people=inner))
    shared = [f"{part}/{WHO[k // 2]}/{part}{k}.png" for part in SPLITS for k in range(20)]
    yield Layout(
        "the same people in all parts",
        shared[:60],
        Expected(range(60), {n: n % 20 // 2 for n in range(60)}, {n: SPLITS[n // 20] for n in range(60)}, {}),
    )
    moods = [f"{part}/{mood}/{k}.png" for part in SPLITS for mood in ("sad", "smile") for k in range(5)]
    labels = {mood: {n: float(n // 5 % 2 == m) for n in range(30)} for m, mood in enumerate(("sad", "smile"))}
    yield Layout("labels within a split", moods, replace(_official(10), labels=labels))
    turned = [f"{mood}/{part}/{k}.png" for mood in ("sad", "smile") for part in SPLITS for k in range(5)]
    splits = {n: SPLITS[n // 5 % 3] for n in range(30)}
    yield Layout(
        "a split within labels",
        turned,
        Expected(
            range(30),
            {},
            splits,
            {m: {n: float(n // 15 == i) for n in range(30)} for i, m in enumerate(("sad", "smile"))},
        ),
    )
    each = [f"{who}/{part}/{k}.png" for who in WHO for k, part in enumerate(SPLITS)]
    yield Layout(
        "a split within people",
        each,
        Expected(range(30), {n: n // 3 for n in range(30)}, {n: SPLITS[n % 3] for n in range(30)}, {}),
        [_people()],
    )
    yield Layout(
        "train and test",
        [f"{part}/{k}.png" for part in ("train", "test") for k in range(9)],
        Expected(range(18), {}, dict.fromkeys(range(9, 18), "test"), {}),
    )
    yield Layout(
        "train and val",
        [f"{part}/{k}.png" for part in ("train", "val") for k in range(9)],
        Expected(range(18), {}, dict.fromkeys(range(9, 18), "val"), {}),
    )
    yield Layout("train alone", [f"train/{k}.png" for k in range(12)], _nobody(12))
    yield Layout(
        "train, beside an empty test",
        [f"train/{k}.png" for k in range(12)],
        _nobody(12),
        litter={"test/.keep": b"x", "val/.keep": b"x"},
    )
    yield Layout("test alone", [f"test/{k}.png" for k in range(12)], _nobody(12))
    yield Layout(
        "train and unlabelled",
        [f"{part}/{k}.png" for part in ("train", "extra") for k in range(6)],
        _sets(("train", "extra"), 6),
    )
    yield Layout("a split below images", [f"data/images/{name}" for name in OFFICIAL], _official(6))
    yield Layout("images below a split", [f"{part}/images/{k}.png" for part in SPLITS for k in range(6)], _official(6))
    yield Layout(
        "images and masks below a split",
        [f"{part}/{kind}/{k}.png" for part in SPLITS for kind in ("images", "masks") for k in range(3)],
        Expected(
            range(18),
            None,
            {n: SPLITS[n // 6] for n in range(18)},
            {w: {n: float(n // 3 % 2 == i) for n in range(18)} for i, w in enumerate(("images", "masks"))},
        ),
    )
    yield Layout(
        "a split of shards",
        [f"{part}/{k // 3:02d}/{p}{k:04d}.png" for p, part in enumerate(SPLITS) for k in range(9)],
        replace(_official(9), people=None),
        through_check=False,
    )
    yield Layout(
        "a split and a stray picture",
        OFFICIAL,
        replace(_official(6), faces=[*range(18)]),
        [replace(_official(6), faces=[*range(18), 61])],
        {"overview_.png": b""},
        through_check=False,
    )


def shards() -> Iterator[Layout]:
    """Folders that are neither people nor labels."""
    for what, names in {
        "FFHQ": [f"{n // 4 * 1000:05d}/{n // 4 * 1000 + n % 4:05d}.png" for n in range(40)],
        "FFHQ, thumbnails": [
            f"thumbnails128x128/{n // 4 * 1000:05d}/{n // 4 * 1000 + n % 4:05d}.png" for n in range(40)
        ],
        "thousands": [f"{n // 4}/{n // 4 * 1000 + n % 4:06d}.png" for n in range(40)],
        "parts": [f"part_{n // 4}/{n}.png" for n in range(40)],
        "part1, part2, part3": [f"part{n // 4 + 1}/{n}.png" for n in range(12)],
        "batches": [f"batch-{n // 4:03d}/{n:05d}.png" for n in range(40)],
        "chunks of a crawler": [f"{n // 4:05d}/{n // 4:05d}{n % 4:04d}.png" for n in range(40)],
        "a camera": [f"DCIM/{100 + n // 4}APPLE/IMG_{n:04d}.png" for n in range(40)],
        "Canon": [f"DCIM/{100 + n // 4}CANON/IMG_{n:04d}.png" for n in range(40)],
        "years": [f"{2010 + n // 4}/IMG_{n:04d}.png" for n in range(40)],
        "years and months": [f"{2020 + n // 12}/{n % 12 + 1:02d}/IMG_{n:04d}.png" for n in range(48)],
        "days": [f"2026-01-{n // 4 + 1:02d}/IMG_{n:04d}.png" for n in range(40)],
        "hashes": [f"{n * 7:02x}/{n * 7:02x}{'0123456789abcdef' * 2}{n:02x}.png" for n in range(36)],
        "hashes of two levels": [
            f"{n * 7:02x}/{n * 3:02x}/{n * 7:02x}{n * 3:02x}{'0123456789abcdef' * 2}.png" for n in range(36)
        ],
        "volumes": [f"Vol. {n // 4 + 1}/{n}.png" for n in range(40)],
        "new folders": [f"New folder ({n // 4})/{n}.png" for n in range(40)],
        "StyleGAN's": [f"{n // 4:05d}/img{n:08d}.png" for n in range(40)],
        "groups": [f"group_{n // 4:02d}/{n}.png" for n in range(40)],
        "sets": [f"set {n // 4 + 1}/{n}.png" for n in range(40)],
        "German folders": [f"Neuer Ordner ({n // 4})/{n}.png" for n in range(40)],
        "downloads": [f"download ({n // 4 + 1})/{n}.png" for n in range(40)],
        "cameras of three kinds": [
            f"DCIM/{100 + n // 4}{('APPLE', 'CANON', '_PANA')[n // 4 % 3]}/IMG_{n:04d}.png" for n in range(40)
        ],
        "ranges": [f"{n // 4 * 4:04d}-{n // 4 * 4 + 3:04d}/{n:04d}.png" for n in range(40)],
        "images_001": [f"images_{n // 4:03d}/{n:08d}_000.png" for n in range(40)],
        "of one thousand each, without zeros": [f"{n // 4 * 1000}/{n // 4 * 1000 + n % 4}.png" for n in range(40)],
        "archives": [f"archive{n // 4 + 1}/{n}.png" for n in range(40)],
        "data_batch_1": [f"data_batch_{n // 4 + 1}/{n}.png" for n in range(40)],
        "pages": [f"page_{n // 4 + 1}/{n}.png" for n in range(40)],
        "dates in one word": [f"202601{n // 4 + 1:02d}/IMG_{n:04d}.png" for n in range(40)],
        "Android's": [f"DCIM/Camera/{2016 + n // 4}/{n:02d}.png" for n in range(40)],
        "Lightroom's": [
            f"{2020 + n // 24}/{2020 + n // 24}-{n // 4 % 6 + 1:02d}-11/DSC_{n:04d}.png" for n in range(48)
        ],
        "Takeout": [f"Takeout/Google Photos/Photos from {2010 + n // 4}/IMG_{n}.png" for n in range(40)],
    }.items():
        yield Layout(f"shards: {what}", names, _nobody(len(names)))
    # Face sets unpacked from one record file number the images of their people on, too: 0/0.jpg, 0/1.jpg, 1/2.jpg.
    # Taken for people the folders are kept together in a split, which is never wrong by much.
    names = [f"{n // 4}/{n:06d}.png" for n in range(40)]
    yield Layout("shards or people: numbered from 0", names, _nobody(40), others=[_people(4, 40)])


def pairs() -> Iterator[Layout]:
    """Pictures and their drawings."""
    for a, b in (
        ("A", "B"),
        ("photo", "sketch"),
        ("images", "masks"),
        ("LR", "HR"),
        ("input", "target"),
        ("gt", "blur"),
    ):
        names = [f"{side}/{k:03d}.png" for side in (a, b) for k in range(10)]
        right = replace(_sets((a, b), 10), people={n: n % 10 for n in range(20)})
        yield Layout(f"pairs {a} and {b}", names, right, through_check=False)
    names = [f"{part}{side}/{part}{side}{k}.png" for part in ("train", "test") for side in "AB" for k in range(6)]
    labels = {side: {n: float(n // 6 % 2 == i) for n in range(24)} for i, side in enumerate("AB")}
    splits = dict.fromkeys(range(12, 24), "test")
    yield Layout("trainA, trainB, testA, testB", names, Expected(range(24), None, splits, labels))
    other = [f"{part}_{side}/{k}.png" for part in ("train", "test") for side in "AB" for k in range(6)]
    yield Layout(
        "train_A, train_B, test_A, test_B",
        other,
        Expected(range(24), {n: n % 6 + n // 12 * 6 for n in range(24)}, splits, labels),
    )
    swapped = [f"{side}/{part}/{k}.png" for side in "AB" for part in ("train", "test") for k in range(6)]
    yield Layout(
        "A/train, A/test, B/train, B/test",
        swapped,
        Expected(
            range(24),
            {n: n % 6 + n // 6 % 2 * 6 for n in range(24)},
            {n: "test" for n in range(24) if n // 6 % 2},
            {s: {n: float(n // 12 == i) for n in range(24)} for i, s in enumerate("AB")},
        ),
    )


# ------------------------------------------------------------------------------------------------------------ CelebA


def _celeba_tables(count: int, csv: bool = False) -> dict[str, bytes]:
    names = [f"{n + 1:06d}.jpg" for n in range(count)]
    flags = [f"Flag_{n}" for n in range(39)] + ["Smiling"]
    rows = [[name, *["-1"] * 39, "1" if n % 2 else "-1"] for n, name in enumerate(names)]
    if csv:
        attributes = "\n".join([",".join(["image_id", *flags]), *map(",".join, rows)]) + "\n"
        parts = "image_id,partition\n" + "".join(f"{name},{n * 3 // count}\n" for n, name in enumerate(names))
        return {"list_attr_celeba.csv": attributes.encode(), "list_eval_partition.csv": parts.encode()}
    attributes = "\n".join([str(count), " ".join(flags) + " ", *map(" ".join, rows)]) + "\n"
    people = "".join(f"{name} {n // 2}\n" for n, name in enumerate(names))
    parts = "".join(f"{name} {n * 3 // count}\n" for n, name in enumerate(names))
    return {
        "list_attr_celeba.txt": attributes.encode(),
        "identity_CelebA.txt": people.encode(),
        "list_eval_partition.txt": parts.encode(),
    }


def _celeba(count: int = 18, people: bool = True) -> Expected:
    flags: dict[str, Mapping[int, float]] = {f"Flag_{n}": dict.fromkeys(range(count), 0.0) for n in range(39)}
    flags["Smiling"] = {n: float(n % 2) for n in range(count)}
    return Expected(range(count), {n: n // 2 for n in range(count)} if people else {}, None, flags)


def _at(places: Mapping[str, str]) -> dict[str, bytes]:
    tables = _celeba_tables(18)
    return {places[stem.partition(".")[0]] + stem: data for stem, data in tables.items()}


def celeba() -> Iterator[Layout]:
    """CelebA at all its levels, with its tables in every place where they are found."""
    official = {"list_attr_celeba": "Anno/", "identity_CelebA": "Anno/", "list_eval_partition": "Eval/"}
    lower = {stem: place.lower() for stem, place in official.items()}
    flat = dict.fromkeys(official, "")
    names = [f"{n + 1:06d}.jpg" for n in range(18)]
    inside = [f"Img/img_align_celeba/{name}" for name in names]
    own: dict[str, Any] = {"source": "celeba", "kind": "JPEG"}
    for what, pictures, places, below in (
        ("the whole", inside, official, ""),
        ("Img", inside, official, "Img"),
        ("Img/img_align_celeba", inside, official, "Img/img_align_celeba"),
        ("anno and eval in small letters", inside, lower, "Img/img_align_celeba"),
        ("tables beside", [f"img_align_celeba/{name}" for name in names], flat, ""),
        ("tables beside, from the pictures", [f"img_align_celeba/{name}" for name in names], flat, "img_align_celeba"),
        ("Kaggle's doubled folder", [f"img_align_celeba/img_align_celeba/{name}" for name in names], flat, ""),
        (
            "Kaggle's doubled folder, from within",
            [f"img_align_celeba/img_align_celeba/{name}" for name in names],
            flat,
            "img_align_celeba/img_align_celeba",
        ),
        ("a folder around", [f"CelebA/{name}" for name in inside], {k: f"CelebA/{v}" for k, v in official.items()}, ""),
        (
            "torchvision's",
            [f"celeba/img_align_celeba/{name}" for name in names],
            dict.fromkeys(official, "celeba/"),
            "",
        ),
        ("pictures and tables together", list(names), flat, ""),
        ("img_celeba_dataset", [f"img_celeba_dataset/{name}" for name in names], flat, ""),
        (
            "tables within the pictures",
            [f"img_align_celeba/{name}" for name in names],
            dict.fromkeys(official, "img_align_celeba/"),
            "",
        ),
        (
            "capital IMG",
            [f"IMG/img_align_celeba/{name}" for name in names],
            {k: v.upper() for k, v in official.items()},
            "",
        ),
        ("sibling tables", [f"images/{name}" for name in names], dict.fromkeys(official, "labels/"), ""),
    ):
        yield Layout(f"CelebA: {what}", pictures, _celeba(), litter=_at(places), below=below, **own)
    for form in ("zip", "tgz"):
        yield Layout(f"CelebA: the whole as {form}", inside, _celeba(), litter=_at(official), form=form, **own)
    stray = {**_at(official), "overview.jpg": b"", "README.txt": b"CelebA\n"}
    yield Layout("CelebA: a stray overview", inside, _celeba(), litter=stray, **own)
    yield Layout(
        "CelebA: as on Kaggle",
        [f"img_align_celeba/{name}" for name in names],
        _celeba(people=False),
        litter=_celeba_tables(18, csv=True),
        **own,
    )
    yield Layout(
        "CelebA: landmarks and boxes too",
        inside,
        _celeba(),
        litter={
            **_at(official),
            "Anno/list_bbox_celeba.txt": b"1\nimage_id x_1 y_1 width height\n000001.jpg 95 71 226 313\n",
            "Anno/list_landmarks_align_celeba.txt": b"1\nlefteye_x\n000001.jpg 69\n",
        },
        **own,
    )
    for inner, litter in (
        ("img_align_celeba.zip", {}),
        ("Img/img_align_celeba.zip", {"overview.jpg": b""}),
        ("img_align_celeba.zip", {"a.jpg": b"", "b.jpg": b""}),
    ):
        places = official if inner.startswith("Img") else flat
        yield Layout(
            f"CelebA: {inner}, {len(litter)} strays",
            [f"x/{name}" for name in names],
            _celeba(),
            litter={**_at(places), **litter},
            build=_zipped(inner),
            **own,
        )
    yield Layout(
        "CelebA: wild pictures beside",
        inside,
        _celeba(),
        litter={**_at(official), **{f"Img/img_celeba/{name}": b"" for name in names}},
        **own,
    )
    yield Layout(
        "CelebA: identities alone",
        inside,
        Expected(range(18), {n: n // 2 for n in range(18)}, None, {}),
        litter={"identity_CelebA.txt": _celeba_tables(18)["identity_CelebA.txt"]},
        **own,
    )


def _zipped(inner: str) -> Callable[[Path], Path]:
    """Puts the pictures of the folder x into a zip and removes them."""

    def build(root: Path) -> Path:
        (root / inner).parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(root / inner, "w") as archive:
            for path in sorted((root / "x").iterdir()):
                archive.write(path, f"img_align_celeba/{path.name}")
                path.unlink()
        (root / "x").rmdir()
        return root

    return build


# --------------------------------------------------------------------------------------- links, archives, nothing


def _linked(change: Callable[[Path], None]) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        change(root)
        return root

    return build


def _link_outside(root: Path) -> None:
    for folder in sorted(root.iterdir()):
        outside = root.parent / f"outside_{folder.name}"
        folder.rename(outside)
        folder.symlink_to(outside, target_is_directory=True)


def _link_root(root: Path) -> Path:
    link = root.parent / "link"
    link.symlink_to(root, target_is_directory=True)
    return link


def _link_files(root: Path) -> None:
    store = root.parent / "store"
    store.mkdir()
    for n, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        path.rename(store / f"blob{n}")
        path.symlink_to(store / f"blob{n}")


def _loop(root: Path) -> None:
    (root / "Ann" / "again").symlink_to(root, target_is_directory=True)
    (root / "more").symlink_to(root / "Bob", target_is_directory=True)


def _broken(root: Path) -> None:
    (root / "Ann" / "9.png").symlink_to(root / "nowhere.png")
    (root / "gone").symlink_to(root / "nowhere", target_is_directory=True)


def _special(root: Path) -> None:
    os.mkfifo(root / "Ann" / "pipe.png")


def _archive(root: Path) -> Path:
    """The only file of a folder is a zip of everything."""
    outer = root.parent / "downloads"
    outer.mkdir()
    with zipfile.ZipFile(outer / "people.zip", "w") as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(root).as_posix())
    return outer


def _nested(root: Path) -> Path:
    """A zip within a zip."""
    inner, path = io.BytesIO(), root.parent / "outer.zip"
    with zipfile.ZipFile(inner, "w") as archive:
        for file in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(root).as_posix())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("people.zip", inner.getvalue())
    return path


def _misnamed(form: str, ending: str) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        path = root.parent / f"packed{ending}"
        if form == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(p for p in root.rglob("*") if p.is_file()):
                    archive.write(file, file.relative_to(root).as_posix())
        else:
            with tarfile.open(path, "w:gz" if form == "gz" else "w:bz2" if form == "bz2" else "w:xz") as tar:
                tar.add(root, arcname="people")
        return path

    return build


def _archives(root: Path) -> Path:
    """Shards of WebDataset: several tars in a folder."""
    outer = root.parent / "shards"
    outer.mkdir()
    for n in range(3):
        with tarfile.open(outer / f"shard-{n:06d}.tar", "w") as tar:
            tar.add(root / WHO[n], arcname=WHO[n])
    return outer


def _doubled(root: Path) -> Path:
    """A zip in which the last name stands twice, with the same picture."""
    path = root.parent / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*FLAT, FLAT[-1]]:
            archive.write(root / name, name)
    return path


def _cut(root: Path) -> Path:
    path = _misnamed("zip", ".zip")(root)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _only(name: str, data: bytes) -> Callable[[Path], Path]:
    def build(root: Path) -> Path:
        path = root.parent / name
        path.write_bytes(data)
        return path

    return build


def strange() -> Iterator[Layout]:
    """Links, archives in archives, wrong endings, and what is no set."""
    people = _people()
    for what, change in {
        "linked folders outside": _link_outside,
        "linked files": _link_files,
        "links in a circle": _loop,
    }.items():
        yield Layout(what, PEOPLE, people, build=_linked(change))
    yield Layout(
        "links to nowhere", PEOPLE, replace(people, unread=1), [people], build=_linked(_broken), through_check=False
    )
    yield Layout("a pipe", PEOPLE, replace(people, unread=1), [people], build=_linked(_special), through_check=False)
    yield Layout("the root is a link", PEOPLE, people, build=_link_root)
    yield Layout(
        "a folder with one zip, for the check",
        PEOPLE,
        replace(people, refusal=r"people\.zip|archive|zip"),
        build=_archive,
        through_check=False,
    )
    doubled = replace(_nobody(12), refusal=ANY)
    yield Layout("a zip that holds a name twice", FLAT, doubled, build=_doubled, through_check=False)
    yield Layout(
        "shards of WebDataset",
        PEOPLE,
        Expected([], refusal=r"shard|archive|\.tar", read=False),
        build=_archives,
        through_check=False,
    )
    yield Layout("a zip within a zip", PEOPLE, replace(people, refusal=r"zip"), build=_nested, through_check=False)
    for form, ending in (
        ("zip", ".ZIP"),
        ("zip", ".cbz"),
        ("zip", ""),
        ("zip", ".tar"),
        ("gz", ".zip"),
        ("bz2", ".tar.bz2"),
        ("xz", ".tar.xz"),
        ("gz", ".tar"),
        ("gz", ""),
    ):
        yield Layout(
            f"an archive ({form}) that ends in {ending!r}",
            PEOPLE,
            people,
            build=_misnamed(form, ending),
            through_check=bool(ending),
        )
    yield Layout(
        "a zip cut short",
        PEOPLE,
        replace(people, refusal="truncated|damaged", read=False),
        build=_cut,
        through_check=False,
    )
    for name, data, pattern in (
        ("set.rar", b"Rar!\x1a\7\1\0" + bytes(90), "archive|rar"),
        ("set.7z", b"7z\xbc\xaf\x27\x1c" + bytes(90), "archive|7z"),
        ("set.zip", b"<!DOCTYPE html><html>quota exceeded</html>", "HTML|archive"),
        ("set.tar", b"", "empty|archive"),
        ("set.npz", b"", "empty|archive"),
        ("set.jpg", encoded(face(0, 0)), "archive|image|picture"),
        ("set.csv", b"file,smile\na.png,1\n", "archive|text"),
    ):
        yield Layout(
            f"the root is {name} ({data[:4]!r})",
            ["a.png"],
            Expected([], refusal=pattern, read=False),
            build=_only(name, data),
            through_check=False,
        )
    nothing = Expected([], refusal="no images|found nothing|no pictures|no such", read=False)
    yield Layout("an empty folder", [], nothing, through_check=False)
    yield Layout("empty folders", [], nothing, litter={"Ann/.keep": b"x", "Bob/.keep": b"x"}, through_check=False)
    yield Layout("texts alone", [], nothing, litter={"a.txt": b"x", "b.md": b"x"}, through_check=False)
    yield Layout("hidden pictures alone", [], nothing, litter={".a.png": b"", ".b/c.png": b""}, through_check=False)
    yield Layout(
        "a folder that is not there", ["a.png"], nothing, build=lambda root: root / "gone", through_check=False
    )
    mixed = [
        f"{n:02d}.{ending}"
        for n, ending in enumerate(
            ("png", "PNG", "jpg", "jpeg", "webp", "bmp", "tif", "gif", "JPG", "Jpeg", "jpe", "jfif")
        )
    ]
    yield Layout("PNGs under all endings", mixed, _nobody(12))
    yield Layout(
        "pictures beside films, sounds and texts",
        FLAT,
        _nobody(12),
        litter={
            "a.mp4": b"\0\0\0\x18ftypmp42" + bytes(60),
            "b.wav": b"RIFF",
            "c.txt": b"x",
            "d.xmp": b"<x/>",
            "e.json": b"{}",
        },
    )
    yield Layout(
        "a broken picture among good ones",
        FLAT,
        replace(_nobody(12), unread=1),
        litter={"zz.png": b"\x89PNG\r\n\x1a\n" + bytes(40)},
    )
    yield Layout(
        "more broken than good",
        FLAT,
        Expected(range(12), refusal="unreadable|cannot be used|corrupt", read=False),
        litter={f"zz{n}.png": b"broken" for n in range(12)},
        through_check=False,
    )
    yield Layout(
        "people and loose pictures",
        [*PEOPLE, *(f"extra{n}.png" for n in range(3))],
        Expected(range(33), {n: n // 3 for n in range(30)}, None, {}),
    )
    yield Layout(
        "people at two depths",
        [name if n < 15 else f"more/{name}" for n, name in enumerate(PEOPLE)],
        Expected(range(30), None, None, None, refusal=ANY),
        through_check=False,
    )


def cases(seed: int) -> list[Case]:
    """All of them."""
    families = (packings, named, official, shards, pairs, celeba, strange)
    return [_case(layout, seed) for family in families for layout in family()]
