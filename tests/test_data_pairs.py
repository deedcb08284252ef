"""`data=pairs` and `task=pairs`: which pictures belong together, how they are split and augmented, what is refused."""

import csv

import numpy as np
import pytest
import torch
from picture_makers import encode, picture, write

from faceforge import config
from faceforge.data.sources.pairs import Pairs
from faceforge.data.tasks import Pairs as Task
from faceforge.errors import BadInput
from faceforge.fetch import inspect
from faceforge.studio.model import open_model
from faceforge.studio.photo import read_photo
from faceforge.studio.translate import translate

SIZE = (20, 16)


def colour(n, side):
    """A picture of one colour for a pair and a side, with a bright corner at the top left."""
    made = np.full((*SIZE, 3), (n * 10 + 5, 200 if side == "target" else 20, 60), np.uint8)
    made[:4, :4] = 255
    return made


def two_folders(root, names=("A", "B"), splits=("",), count=12):
    for split in splits:
        for n in range(count):
            for side, folder in zip(("input", "target"), names, strict=True):
                write(root / f"{folder}" / split / f"{n:02d}.png", encode(colour(n, side), "PNG"))
    return root


def unlike(root):
    """Two folders whose pictures have other names."""
    for n in range(12):
        write(root / "left" / f"a{n}.png", encode(colour(n, "input"), "PNG"))
        write(root / "other" / f"b{n}.png", encode(colour(n, "target"), "PNG"))
    return root


def side_by_side(root, count=12, order=("input", "target"), rows=16):
    for n in range(count):
        both = np.concatenate([colour(n, side)[:rows] for side in order], axis=1)
        write(root / "train" / f"{n}.png", encode(both, "PNG"))
    return root


def table(root, count=12, **columns):
    two_folders(root, ("in", "out"), count=count)
    with (root / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "target", *columns])
        writer.writerows(
            [f"in/{n:02d}.png", f"out/{n:02d}.png", *(values[n] for values in columns.values())] for n in range(count)
        )
    return root / "pairs.csv"


def check(source, count=12):
    """Every target has the input of its own pair; the two are one person."""
    assert len(source.faces) == 2 * count
    assert [face.id for face in source.faces] == sorted(face.id for face in source.faces)
    targets = [n for n, place in enumerate(source.inputs) if place >= 0]
    assert len(targets) == count
    for n in targets:
        target, given = (source.read(place, SIZE)[-1, -1] for place in (n, source.inputs[n]))
        assert (target[0], target[1], given[1]) == (given[0], 200, 20)
        assert source.faces[n].identity == source.faces[source.inputs[n]].identity
        assert source.digest(n) != source.digest(source.inputs[n])


@pytest.mark.parametrize(
    ("names", "wanted"), [(("A", "B"), None), (("sketches", "photos"), "sketches"), (("pencil", "faces"), "pencil")]
)
def test_two_folders_with_the_same_names(tmp_path, names, wanted):
    check(Pairs(str(two_folders(tmp_path, names)), wanted))


def test_check_says_that_two_folders_may_be_pairs(tmp_path):
    """As faces they are two sets: their names do not say that they belong together."""
    finding = inspect.check(two_folders(tmp_path / "set", ("pencil", "faces")))
    (line,) = [line for line in finding.lines if line.startswith("pairs (faces and pencil)")]
    assert "data=pairs" in line
    assert "data=crops" in finding.command


def test_the_names_of_the_two_may_end_otherwise(tmp_path):
    two_folders(tmp_path)
    for path in (tmp_path / "B").iterdir():
        path.rename(path.with_suffix(".PNG"))
    check(Pairs(str(tmp_path)))


@pytest.mark.parametrize(("half", "order"), [(None, ("input", "target")), ("right", ("target", "input"))])
def test_pictures_side_by_side(tmp_path, half, order):
    check(Pairs(str(side_by_side(tmp_path, order=order)), half))


def test_halves_that_are_no_squares_must_be_said_to_be_halves(tmp_path):
    root = side_by_side(tmp_path, rows=12)
    with pytest.raises(BadInput, match="must be two folders"):
        Pairs(str(root))
    check(Pairs(str(root), "left"))


@pytest.mark.parametrize("names", [("trainA", "trainB", "testA", "testB"), ("A/train", "B/train", "A/val", "B/val")])
def test_folders_of_a_split_may_hold_equal_names(tmp_path, names):
    two_folders(tmp_path, names[:2], count=9)
    two_folders(tmp_path, names[2:], count=9)
    source = Pairs(str(tmp_path))
    check(source, 18)
    assert len({(face.id, face.split) for face in source.faces}) == 36
    assert {face.split for face in source.faces} == {"train", "test" if "testA" in names else "val"}


def test_a_table_names_files_people_and_splits(tmp_path):
    path = table(tmp_path, person=[n // 2 for n in range(12)], split=["train"] * 8 + ["val"] * 2 + ["test"] * 2)
    source = Pairs(str(path))
    check(source)
    found = {face.identity for face in source.faces}, {face.split for face in source.faces}
    assert found == ({str(n) for n in range(6)}, {"train", "val", "test"})


FACES = ["data=pairs", "data.batch_size=4", "data.val_fraction=0.2", "data.test_fraction=0.2", "data.size=[20,16]"]


def data_of(root, tmp_path, *words):
    composed = config.compose(["model=pix2pix", "task=pairs", *FACES, f"data.root={root}", *words])
    data = config.build({**composed["data"], "cache": str(tmp_path / "cache")})
    data.prepare(progress=False)
    return data


def pair_of(images):
    """The pair (from red) and the side (from green) of each picture (B, 3, H, W) in [-1, 1]."""
    pixels = ((images[:, :, -1, 8] + 1) * 127.5).round()
    return ((pixels[:, 0] - 5) / 10).tolist(), (pixels[:, 1] > 100).tolist()


def test_only_targets_are_counted_and_no_pair_is_in_two_splits(tmp_path):
    data = data_of(two_folders(tmp_path / "set"), tmp_path)
    assert sum(data.counts.values()) == 12
    seen = []
    for split in ("train", "val", "test"):
        batch = data.pairs(split)
        numbers, targets = pair_of(batch["target"])
        assert pair_of(batch["input"]) == (numbers, [False] * len(numbers))
        assert all(targets)
        seen += numbers
    assert sorted(seen) == list(range(12))


@pytest.mark.parametrize("augment", [None, "[{Affine:{rotate:[20,20],p:0.5}}]"])
def test_both_pictures_of_a_pair_are_augmented_and_mirrored_alike(tmp_path, augment):
    data = data_of(two_folders(tmp_path / "set"), tmp_path, f"data.augment={augment or 'null'}")
    batches = iter(data.train_dataloader())
    mirrored = set()
    for _ in range(6):
        batch = data.on_after_batch_transfer(next(batches), 0)
        corners = [(batch[side][:, 2] > 0.9).float() for side in ("input", "target")]
        assert torch.equal(*corners)  # the bright corner, in blue
        mirrored |= {bool(corner[:, -3:].sum() > corner[:, :3].sum()) for corner in corners[0]}
        if augment is None:
            assert pair_of(batch["input"])[0] == pair_of(batch["target"])[0]
    assert mirrored == {True, False}


def test_inputs_of_one_channel_are_grey(tmp_path):
    data = data_of(two_folders(tmp_path / "set"), tmp_path, "input.channels=1", "model=pix2pix")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["input"].shape == (4, 1, 20, 16)
    assert data.pairs("val")["input"].shape[1] == 1
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert Task(1).input_for(red)[0, 0, 0, 0] == pytest.approx(2 * 0.299 - 1)


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("targets", [1, 3])
def test_inputs_and_targets_have_channels_of_their_own(tmp_path, train_typed, inputs, targets):
    """From the first batch to a picture that a run makes; colours of inputs are not lost where targets have none."""
    root = two_folders(tmp_path / "set")
    words = [f"input.channels={inputs}", f"data.channels={targets}"]
    data = data_of(root, tmp_path, *words)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert (batch["input"].shape[1], batch["target"].shape[1]) == (inputs, targets)
    pairs = data.pairs("train")
    assert (pairs["input"].shape[1], pairs["target"].shape[1]) == (inputs, targets)
    assert torch.equal(data.images("train"), pairs["target"])
    if inputs == 3:
        colours = data_of(root, tmp_path, "input.channels=3", "data.channels=3").pairs("train")
        assert torch.equal(pairs["input"], colours["input"])
        assert pairs["input"].std(1).max() > 0.1
    if targets == 1:
        greys = data_of(root, tmp_path, "input.channels=1", "data.channels=1").pairs("train")
        assert torch.equal(pairs["target"], greys["target"])
    small = ["model.generator.width=4", "model.discriminator.width=4", "trainer.max_images=8"]
    small += ["trainer.gpus=0", "logger.mode=disabled", f"run_dir={tmp_path / 'run'}"]
    code, _, wrong = train_typed("model=pix2pix", "task=pairs", *FACES, f"data.root={root}", *words, *small)
    assert code == 0, wrong
    model = open_model(tmp_path / "run")
    made = translate(model, read_photo(root / "A" / "01.png"), whole=True)
    assert made.photo.shape == (20, 16, 3)
    assert (np.ptp(made.photo.astype(int), axis=2).max() == 0) == (targets == 1)
    assert (np.ptp(made.faces[0]["input"].astype(int), axis=2).max() == 0) == (inputs == 1)


def test_a_pair_of_which_one_picture_is_broken_is_left_out(tmp_path):
    root = two_folders(tmp_path / "set")
    (root / "A" / "03.png").write_bytes(b"no picture")
    (root / "B" / "05.png").write_bytes(b"no picture")
    data = data_of(root, tmp_path)
    numbers = [number for split in ("train", "val", "test") for number in pair_of(data.pairs(split)["target"])[0]]
    assert sorted(numbers) == [n for n in range(12) if n not in (3, 5)]


def test_pairs_are_faces_for_every_other_task(tmp_path):
    data = data_of(two_folders(tmp_path / "set"), tmp_path, "task=colorize")
    batch = data.pairs("train")
    assert batch["input"].shape[1] == 1
    assert all(pair_of(batch["target"])[1])


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        (lambda p: two_folders(p, ("left", "other")), (), "the folder of the inputs, left or other"),
        (unlike, (), "two folders with the same names, pictures side by side"),
        (lambda p: two_folders(p, ("photo", "sketch")), (), "the folder of the inputs, photo or sketch"),
        (two_folders, ("data.source.input=C",), "data.source.input=C: it must be the folder of the inputs, A or B"),
        (side_by_side, ("data.source.input=up",), "data.source.input=up: pictures are side by side; must be left or"),
        (lambda p: p.mkdir() or p, (), "no images"),
    ],
)
def test_what_is_no_set_of_pairs_is_one_line(tmp_path, make, words, said):
    with pytest.raises(BadInput) as caught:
        data_of(make(tmp_path / "set"), tmp_path, *words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_without_a_partner_is_named(tmp_path):
    root = two_folders(tmp_path / "set", count=30)
    (root / "B" / "07.png").unlink()
    with pytest.raises(BadInput, match=r"A/07\.png: no picture of this name on the other side"):
        data_of(root, tmp_path)


def test_bad_tables_are_one_line(tmp_path):
    path = table(tmp_path / "set")
    whole = path.read_text()
    for change, said in {
        "input,result": "must have input and target",
        "in/00.png,out/xx.png": "line 2: out/xx.png: there is no such file",
        "in/00.png,out/01.png": "1 targets are named more than once",
    }.items():
        first = "input,target" if change.startswith("input") else "in/00.png,out/00.png"
        path.write_text(whole.replace(first, change))
        with pytest.raises(BadInput, match=said):
            Pairs(str(path))


def test_the_task_needs_pairs(tmp_path):
    write(tmp_path / "set" / "a.png", encode(picture(0), "PNG"))
    with pytest.raises(BadInput, match="task=pairs: crops has no pairs; must be data=pairs"):
        data_of(tmp_path / "set", tmp_path, "data=crops", "data.val_fraction=0", "data.test_fraction=0")
