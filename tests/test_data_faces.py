import inspect
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from picture_makers import (
    celeba_files,
    celeba_tables,
    encode,
    face_data,
    lfw_files,
    make_crops,
    picture,
    put,
    put_zip,
    write,
)
from torch.utils.data import DataLoader

from faceforge import counter_rng
from faceforge.clock import Clock
from faceforge.data.augment import Augment
from faceforge.data.datamodule import ClockSampler, FaceData
from faceforge.data.sources.celeba import Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lfw import Lfw
from faceforge.data.tasks import Task
from faceforge.errors import BadInput

CONF = Path(__file__).parents[1] / "conf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_crops(tmp_path_factory.mktemp("crops"), 30)


@pytest.fixture
def prepare(tmp_path):
    def prepare(root, source=Crops, **changes):
        data = face_data(root, source, cache=str(tmp_path / "cache"), **changes)
        data.prepare(progress=False)
        return data

    return prepare


def batches(data, count, images=0, rank=0, world=1):
    """The first ``count`` batches as they lie on the wire, from a clock at ``images``."""
    data.clock, data.rank, data.world = Clock(), rank, world
    data.clock.images = images
    return list(islice(data.train_dataloader(), count))


def joined(parts, name):
    return torch.cat([part[name] for part in parts])


# -------------------------------------------------------------------------------------------- what a batch holds


def test_a_batch_is_the_ordered_faces_flipped_by_position(folder, prepare):
    data = prepare(folder)
    [wire] = batches(data, 1, images=60)
    positions = np.arange(60, 64)
    assert wire["target"].dtype == torch.uint8
    assert wire["position"].tolist() == positions.tolist()
    rows = data.rows["train"][counter_rng.order(0, data.counts["train"], positions)]
    assert wire["index"].tolist() == rows.tolist()
    final = data.on_after_batch_transfer(wire, 0)
    assert sorted(final) == ["index", "position", "target"]
    assert final["target"].dtype == torch.float32
    upright = data.images("train")[[data.rows["train"].tolist().index(row) for row in rows]]
    flips = counter_rng.uniform(0, "flip", positions) < 0.5
    expected = np.where(flips[:, None, None, None], upright.numpy()[..., ::-1], upright.numpy())
    assert 0 < flips.sum() < 4
    assert np.array_equal(final["target"].numpy(), expected)


def test_without_flip_nothing_is_mirrored(folder, prepare):
    data = prepare(folder, flip=False)
    for wire in batches(data, 10):
        assert not wire["flip"].any()


@pytest.mark.parametrize("images", [0, 4, 20, 52])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_together_see_what_one_process_sees(folder, prepare, world, images):
    data = prepare(folder)
    alone = batches(data, 30)[images // 4 :]
    ranks = [batches(data, len(alone), images, rank, world) for rank in range(world)]
    for step, whole in enumerate(alone):
        for name in ("target", "position", "index", "flip"):
            assert torch.equal(joined([rank[step] for rank in ranks], name), whole[name])


def test_each_epoch_holds_every_training_face_once_in_another_order(folder, prepare):
    data = prepare(folder)
    n = data.counts["train"]
    index = joined(batches(data, n), "index")[: 4 * n].reshape(4, n)
    for epoch in index:
        assert sorted(epoch.tolist()) == data.rows["train"].tolist()
    assert len({tuple(epoch.tolist()) for epoch in index}) == 4


def test_the_clock_is_read_when_iteration_begins(folder, prepare):
    data = prepare(folder)
    loader = data.train_dataloader()
    assert next(iter(loader))["position"][0] == 0
    data.clock.images = 40
    assert next(iter(loader))["position"].tolist() == [40, 41, 42, 43]
    with pytest.raises(TypeError):
        len(loader)  # it has no end


def test_a_task_makes_the_input_from_the_final_target(folder, prepare):
    class Invert(Task):
        name = "invert"

        def input_for(self, faces, positions=None, stream="outside"):
            return -faces

    data = prepare(folder, task=Invert())
    final = data.on_after_batch_transfer(batches(data, 1)[0], 0)
    assert torch.equal(final["input"], -final["target"])


def test_images_of_a_split_are_never_altered(folder, prepare):
    data = prepare(folder, augment="strong")
    plain = prepare(folder)
    for split in ("train", "val", "test"):
        assert torch.equal(data.images(split), plain.images(split))
        assert data.images(split).shape == (data.counts[split], 3, 16, 16)
    assert torch.equal(data.images("train", [3, 0]), data.images("train")[[3, 0]])
    assert data.images("val", []).shape == (0, 3, 16, 16)
    assert -1 <= data.images("train").min() < data.images("train").max() <= 1


@pytest.mark.parametrize("size", [1, 7, 32, [5, 9], [24, 16]])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_colour_or_grey_and_a_batch_of_one(folder, prepare, size, channels):
    data = prepare(folder, size=size, channels=channels, batch_size=1)
    height, width = (size, size) if isinstance(size, int) else size
    final = data.on_after_batch_transfer(batches(data, 1)[0], 0)
    assert final["target"].shape == (1, channels, height, width)
    assert (data.height, data.width, data.channels) == (height, width, channels)


def test_a_red_picture_stays_red(tmp_path, prepare):
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 250
    put({f"{n}.{kind.lower()}": encode(red, kind) for n in range(3) for kind in ("JPEG", "PNG")}, tmp_path / "red")
    data = prepare(tmp_path / "red", batch_size=2, augment=[{"Affine": {"rotate": 0}}])
    mean = data.on_after_batch_transfer(batches(data, 1)[0], 0)["target"].mean(dim=(0, 2, 3))
    assert mean[0] > 0.9
    assert mean[1:].max() < -0.9


# -------------------------------------------------------------------------------------------------- augmentation


def test_augmentation_is_the_same_for_any_number_of_workers(folder, prepare):
    alone = batches(prepare(folder, augment="strong"), 6)
    shared = batches(prepare(folder, augment="strong", workers=2), 6)
    plain = batches(prepare(folder), 6)
    for name in ("target", "position", "index"):
        assert torch.equal(joined(alone, name), joined(shared, name))
    assert (joined(alone, "target") != joined(plain, "target")).float().mean() > 0.5


def test_augmentation_is_a_function_of_seed_and_position():
    face = picture(0, 24, 24).transpose(2, 0, 1)
    first, other = (Augment("strong", seed, (24, 24), 3) for seed in (0, 1))
    results = [first(face, position) for position in range(12)]
    for position in reversed(range(12)):
        assert np.array_equal(first(face, position), results[position])
    assert len({result.tobytes() for result in results}) == 12
    assert not np.array_equal(other(face, 3), results[3])


def test_transforms_of_equal_chance_act_on_different_faces():
    """Compose.set_random_seed gives every transform one seed: those of equal p would always act together."""
    steps = [{"InvertImg": {"p": 0.5}}, {"Transpose": {"p": 0.5}}]
    augment = Augment(steps, 0, (8, 8), 1)
    face = np.zeros((1, 8, 8), np.uint8)
    face[0, 0, 7] = 100
    seen = [augment(face, position) for position in range(200)]
    inverted = np.array([result.mean() > 128 for result in seen])
    turned = np.array([result[0, 7, 0] != result[0, 3, 3] for result in seen])
    for one in (False, True):
        for two in (False, True):
            assert 20 < ((inverted == one) & (turned == two)).sum() < 80


@pytest.mark.parametrize("preset", ["light", "strong"])
@pytest.mark.parametrize("channels", [1, 3])
def test_presets_keep_shape_and_face(preset, channels):
    face = picture(0, 20, 12).transpose(2, 0, 1)[:channels]
    results = [Augment(preset, 0, (20, 12), channels)(face, position) for position in range(20)]
    assert all(result.shape == face.shape for result in results)
    changes = [np.abs(result.astype(int) - face).mean() for result in results]
    assert 1 < np.mean(changes) < 60


def test_lists_and_files_name_the_same_transforms(tmp_path):
    steps = [{"Rotate": {"limit": [10, 20], "p": 1.0}}, "HorizontalFlip"]
    face = picture(0, 16, 16).transpose(2, 0, 1)
    expected = Augment(steps, 5, (16, 16), 3)(face, 9)
    for name in ("a.yaml", "a.json"):
        text = yaml.safe_dump(steps) if name.endswith("yaml") else str(steps).replace("'", '"')
        path = write(tmp_path / name, text.encode())
        assert np.array_equal(Augment(str(path), 5, (16, 16), 3)(face, 9), expected)


@pytest.mark.parametrize(
    ("augment", "reason"),
    [
        ("lightt", "neither light, strong nor a file"),
        ([{"Rotat": {}}], "albumentations has no Rotat, the nearest is Rotate"),
        (["Compose"], "albumentations has no Compose"),
        ([{"Rotate": {"limits": 5}}], "Rotate has no limits, the nearest is limit"),
        ([{"Rotate": {"limit": "far"}}], "Rotate: "),
        ([{"Resize": {"height": 8, "width": 8}}], r"turns \(3, 16, 16\) into \(3, 8, 8\); the size must not change"),
        ([{"ToFloat": {}}], "the size must not change|fails"),
        ([{"Crop": {"x_min": 50, "x_max": 60, "y_max": 60}}], "fails on a face of this kind"),
        ([3], "3 must be Name or"),
        ([{"Rotate": 5}], "must be Name or"),
        ({"Rotate": {}}, "must be a list of transforms"),
    ],
)
def test_bad_augmentations_are_one_line(augment, reason):
    with pytest.raises(BadInput, match=f"data.augment.*({reason})") as caught:
        face_data("x", augment=augment, cache=None)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------- sources, splits, labels


@pytest.mark.parametrize("crop", ["published", "c140", "center", "none"])
def test_celeba_trains_in_its_official_split(tmp_path, prepare, crop):
    root = put(celeba_tables(), put(celeba_files(), tmp_path / "celeba", "img_align_celeba"))
    data = prepare(root, Celeba, split="official", crop=crop, batch_size=2)
    assert data.counts == {"train": 4, "val": 4, "test": 4}
    summary = data.summary()
    assert summary["protocol"]["crop"] == crop
    assert summary["identities"] == {"train": 2, "val": 2, "test": 2}
    assert summary["attributes"]["Young"] == 0.5
    assert len(summary["attributes"]) == 40
    assert batches(data, 2)[1]["target"].shape == (2, 3, 16, 16)


def test_lfw_shares_no_person_between_splits(tmp_path, prepare):
    data = prepare(put_zip(lfw_files(30), tmp_path / "lfw.zip"), Lfw, crop="c30")
    people = sorted(lfw_files(30))
    found = [{people[n].split("/")[0] for n in data.rows[split]} for split in ("train", "val", "test")]
    assert all(found)
    assert sum(map(len, found)) == len(set.union(*found)) == 30


def test_people_stay_with_their_faces_when_others_are_skipped(tmp_path, prepare):
    put(lfw_files(30), tmp_path / "lfw")
    names = sorted(lfw_files(30))
    write(tmp_path / "lfw" / names[3], b"words")
    data = prepare(tmp_path / "lfw", Lfw, crop="c30", batch_size=1)
    assert data.people == [name.split("/")[0] for name in names if name != names[3]]


def test_labels_reach_the_summary(folder, prepare, tmp_path):
    rows = "".join(f"{n:03d}.jpg,{'sad' if n % 3 else 'happy'},{n % 2}\n" for n in range(30))
    labels = write(tmp_path / "labels.csv", f"image,mood,odd\n{rows}".encode())
    data = prepare(folder, attributes=str(labels))
    assert data.summary()["attributes"] == {"mood=happy": 0.3333, "mood=sad": 0.6667, "odd": 0.5}
    names, values = data.attributes
    assert values[:, names.index("odd")].tolist() == [n % 2 for n in range(30)]


def test_labels_stay_with_their_faces_when_others_are_skipped(tmp_path, prepare):
    put({f"{mood}/{n}.jpg": encode(picture(n)) for mood in ("sad", "smile") for n in range(8)}, tmp_path / "in")
    write(tmp_path / "in/sad/3.jpg", b"words")
    data = prepare(tmp_path / "in", batch_size=1)
    assert data.skipped == [("sad/3.jpg", "not an image (text)")]
    assert data.attributes[1].tolist() == [[1, 0]] * 7 + [[0, 1]] * 8
    assert sum(data.counts.values()) == 15
    again = prepare(tmp_path / "in", batch_size=1)
    assert again.skipped == data.skipped  # a second run says so too
    assert again.summary() == data.summary()


def test_a_fraction_is_of_the_training_faces_only(folder, prepare):
    whole, half = prepare(folder), prepare(folder, fraction=0.5)
    assert set(half.rows["train"]) < set(whole.rows["train"])
    for split in ("val", "test"):
        assert np.array_equal(half.rows[split], whole.rows[split])


def test_preparing_twice_does_nothing(folder, prepare, monkeypatch):
    data = prepare(folder)
    monkeypatch.setattr(data, "_source", None)
    data.prepare()
    data.setup("fit")


# -------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": 0}, "data.size=0"),
        ({"size": [64]}, r"data.size=\[64\]: must be one number or \[height,width\]"),
        ({"channels": 4}, "data.channels=4: must be 1 .grey. or 3 .colour."),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"crop": "centre"}, "data.crop=centre.*nearest is center"),
        ({"fraction": 0.0}, "data.fraction=0.0: must be above 0 and at most 1"),
        ({"fraction": 1.5}, "data.fraction=1.5"),
        ({"split": "random"}, "data.split=random: must be identity or official"),
        ({"val_fraction": -0.1}, "data.val_fraction=-0.1"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "data.test_fraction=0.5"),
        ({"workers": -1}, "data.workers=-1"),
        ({"max_corrupt_fraction": 2}, "data.max_corrupt_fraction=2"),
    ],
)
def test_values_out_of_range_are_named_before_anything_is_read(changes, reason):
    with pytest.raises(BadInput, match=reason):
        face_data("nowhere", **({"cache": None} | changes))


@pytest.mark.parametrize(
    ("count", "changes", "reason"),
    [
        (1, {}, "data.root: 1 different people .*at least 3 are needed"),
        (12, {"batch_size": 64}, r"data.batch_size=64: more than the \d+ training faces"),
        (12, {"split": "official"}, "data.split=official: 12 of 12 images have no official split"),
        (12, {"attributes": "nowhere.csv"}, "data.attributes=nowhere.csv: cannot be read"),
        (12, {"crop": "published"}, r"12 of 12 .*40x40 pixels, too small for the crop published"),
    ],
)
def test_sets_that_do_not_fit_are_one_line(tmp_path, prepare, count, changes, reason):
    with pytest.raises(BadInput, match=reason) as caught:
        prepare(make_crops(tmp_path / "in", count), **changes)
    assert "\n" not in str(caught.value)


def test_too_many_unreadable_files_refuse_the_set_in_every_run(tmp_path, prepare):
    root = put({f"bad{n}.jpg": b"words" for n in range(8)}, make_crops(tmp_path / "in", 12))
    for _ in range(2):
        reason = r"8 of 20 images \(40%\) cannot be used \(bad0.jpg: not an image \(text\); .*corrupt_fraction=0.25"
        with pytest.raises(BadInput, match=reason):
            prepare(root)
    assert len(prepare(root, max_corrupt_fraction=0.5).skipped) == 8


def test_a_batch_must_divide_among_ranks():
    with pytest.raises(BadInput, match=r"data.batch_size=6: cannot be divided among 4 processes"):
        ClockSampler(Clock(), 6, 0, 4)


# ------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("name", ["drawn", "crops", "lfw", "celeba"])
def test_yaml_lists_every_parameter_and_no_other(name):
    base = yaml.safe_load((CONF / "data/base.yaml").read_text())
    own = yaml.safe_load((CONF / f"data/{name}.yaml").read_text())
    given = {key for key in {**base, **own} if key not in ("_target_", "defaults")}
    assert given == set(inspect.signature(FaceData).parameters)
    module, _, kind = own["source"]["_target_"].rpartition(".")
    parameters = inspect.signature(getattr(__import__(module, fromlist=[kind]), kind)).parameters
    assert {"root", *own["source"]} - {"_target_", "_partial_"} == set(parameters)


def test_the_loader_is_plain(folder, prepare):
    """No workers and no shared memory on the default path."""
    loader = prepare(folder, workers=2).train_dataloader()
    assert isinstance(loader, DataLoader)
    assert loader.num_workers == 0
