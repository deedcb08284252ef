from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from picture_makers import encode, face_data, make_crops, picture, put, write
from PIL import Image
from scipy import ndimage

from faceforge import config, counter_rng, counter_rng_torch
from faceforge.clock import Clock
from faceforge.config import composing
from faceforge.data import filters, subsets
from faceforge.data.degrade import Degradation
from faceforge.data.subsets import Partners
from faceforge.data.tasks import (
    Autoencode,
    Average,
    Canny,
    Colorize,
    Contours,
    Deblur,
    NoInput,
    Noise,
    SuperResolution,
    Thresholds,
    luma,
    resize,
)
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, through_jpeg, to_uint8

LEVELS = [50, 100, 150, 200]
FILTERED = [
    (Thresholds("meant", LEVELS), filters.posterize),
    (Thresholds("published", LEVELS), lambda p: np.where(p > 200, np.uint8(200), np.uint8(0))),
    (Contours("meant", LEVELS), filters.contours),
    (Contours("published", LEVELS), filters.contours_published),
    (Canny("image", 140.0, 255.0), filters.canny_image),
    (Canny("mask", 140.0, 255.0), filters.canny),
]
CHOICES = [
    ("none", []),
    ("autoencode", []),
    ("super_resolution", ["data.size=[12,8]"]),
    ("super_resolution", ["data.size=[12,8]", "task.factor=4", "task.kernel=bicubic", "data.channels=1"]),
    ("super_resolution", ["data.size=[14,10]", "input.factor=1"]),
    ("colorize", []),
    ("colorize", ["input.channels=3"]),
    ("thresholds", ["data.channels=1"]),
    ("contours", []),
    ("canny", ["task.source=mask"]),
    ("average", ["data.channels=1"]),
    ("noise", []),
    ("deblur", ["task.size=23", "task.box=60", "task.blur_target=true", "data.size=[13,15]"]),
]


def faces(count=3, height=14, width=10, channels=3):
    """uint8 (N, C, H, W), each different."""
    drawn = np.stack([picture(n, height, width).transpose(2, 0, 1) for n in range(count)])
    return np.ascontiguousarray(drawn[:, :channels])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_crops(tmp_path_factory.mktemp("crops"), 24)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def prepare(folder, store):
    def prepare(root=folder, **changes):
        data = face_data(root, **({"cache": store} | changes))
        data.prepare(progress=False)
        return data

    return prepare


def batches(data, count, images=0, rank=0, world=1):
    """The first batches as a module gets them, from a clock at ``images``."""
    data.clock, data.rank, data.world = Clock(), rank, world
    data.clock.images = images
    return [data.on_after_batch_transfer(wire, 0) for wire in islice(data.train_dataloader(), count)]


def joined(parts, name):
    return torch.cat([part[name] for part in parts])


# ------------------------------------------------------------------------------------------------ super-resolution


@pytest.mark.parametrize(("factor", "height", "width"), [(2, 70, 70), (2, 14, 10), (4, 12, 20), (5, 5, 15)])
@pytest.mark.parametrize("channels", [1, 3])
def test_block_mean_by_reshape(factor, height, width, channels):
    images = faces(1, height, width, channels)
    made = SuperResolution(factor, "mean", factor).input_for(from_uint8(torch.from_numpy(images)))
    blocks = images.astype(float).reshape(1, channels, height // factor, factor, width // factor, factor)
    assert np.allclose(made.numpy(), blocks.mean((3, 5)) / 127.5 - 1, atol=1e-6)


def by_pillow(plane, height, width):
    """Pillow's bicubic resize of a plane of floats."""
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("factor", "height", "width"), [(2, 14, 10), (4, 20, 12), (2, 2, 6)])
def test_bicubic_is_pillows(factor, height, width):
    images = from_uint8(torch.from_numpy(faces(2, height, width)))
    made = SuperResolution(factor, "bicubic", factor).input_for(images)
    expected = [[by_pillow(p, height // factor, width // factor) for p in image] for image in images.numpy()]
    assert np.allclose(made.numpy(), np.clip(expected, -1, 1), atol=1e-5)


DEGRADED = SuperResolution(2, "mean", 2, Degradation(1.5, 0.1, 30, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_face_is_degraded_by_its_own_draws_wherever_it_stands(channels):
    images = from_uint8(torch.from_numpy(faces(5, 18, 22, channels)))
    places = torch.arange(5) + 40
    made = DEGRADED.input_for(images, places, "train")
    assert made.shape == (5, channels, 9, 11)
    assert made.abs().max() <= 1
    again = DEGRADED.input_for(images[[3, 1]], places[[3, 1]], "train")
    assert torch.allclose(again, made[[3, 1]], atol=1e-6)
    assert torch.allclose(DEGRADED.input_for(images[2:3], places[2:3], "train"), made[2:3], atol=1e-6)  # batch 1
    assert not torch.allclose(DEGRADED.input_for(images, places, "fixed"), made, atol=0.01)
    assert not torch.allclose(DEGRADED.input_for(images[:1], places[1:2], "train"), made[:1], atol=0.01)
    nothing = SuperResolution(2, "mean", 2, Degradation(0, 0, 0, 3))
    assert torch.equal(nothing.input_for(images, places), DEGRADED.reduce(images))


def test_a_blur_is_scipys_by_a_deviation_up_to_the_largest():
    images = from_uint8(torch.from_numpy(faces(4, 24, 20, 1)))
    task = SuperResolution(2, "mean", 2, Degradation(2.0, 0, 0, 0))
    drawn = 2.0 * counter_rng_torch.uniform(0, "task/degrade/outside", torch.arange(4), (3,))[:, 0]
    blurred = [
        ndimage.gaussian_filter(image[0], float(sigma), mode="mirror", radius=6)
        for image, sigma in zip(images.numpy(), drawn, strict=True)
    ]
    expected = SuperResolution(2, "mean", 2).reduce(torch.from_numpy(np.stack(blurred))[:, None])
    assert torch.allclose(task.input_for(images), expected, atol=1e-4)
    assert 0 < drawn.min() < drawn.max() < 2


def test_noise_has_deviations_up_to_the_largest_and_is_normal():
    grey = torch.zeros(400, 1, 16, 16)
    made = SuperResolution(2, "mean", 2, Degradation(0, 0.1, 0, 0)).input_for(grey)
    deviations = made.flatten(1).std(1) / 2
    assert deviations.max() == pytest.approx(0.1, rel=0.3)
    assert deviations.mean() == pytest.approx(0.05, rel=0.1)  # from 0 on
    assert abs(made.mean()) < 0.01


def test_a_jpeg_is_pillows_by_a_quality_from_the_lowest_on():
    images = from_uint8(torch.from_numpy(faces(6, 32, 16)))
    made = SuperResolution(2, "mean", 2, Degradation(0, 0, 40, 0)).input_for(images)
    small = to_uint8(SuperResolution(2, "mean", 2).input_for(images)).permute(0, 2, 3, 1).numpy()
    found = []
    for pixels, result in zip(small, made, strict=True):
        bytes_ = to_uint8(result[None])[0].permute(1, 2, 0).numpy()
        found += [next(q for q in range(40, 96) if np.array_equal(through_jpeg(pixels, q), bytes_))]
    assert len(set(found)) > 3


@pytest.mark.parametrize("kernel", ["mean", "bicubic"])
def test_an_enlarged_input_is_the_small_one_enlarged_by_pillow(kernel):
    images = from_uint8(torch.from_numpy(faces(2, 12, 20)))
    small = SuperResolution(4, kernel, 4).input_for(images)
    made = SuperResolution(4, kernel, 1).input_for(images)
    assert made.shape == images.shape
    expected = [[by_pillow(p, 12, 20) for p in image] for image in small.numpy()]
    assert np.allclose(made.numpy(), np.clip(expected, -1, 1), atol=1e-5)
    assert made.abs().max() <= 1


def test_bicubic_does_not_leave_the_range():
    steps = torch.ones(1, 1, 16, 16)
    steps[..., 7:] = -1
    assert resize(steps, 32, 32).abs().max() == 1


# ----------------------------------------------------------------------------------------------------------- grey


def test_luma_by_hand():
    pixels = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1], [-1, -1, -1], [0.5, 0, -0.25]])
    expected = [-0.402, 0.174, -0.772, 1.0, -1.0, 0.299 * 0.5 - 0.114 * 0.25]
    assert torch.allclose(luma(pixels[:, :, None, None]).flatten(), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_is_the_published_filter_but_for_its_rounding(channels):
    images = faces(2, 7, 5)
    made = Colorize(channels).input_for(from_uint8(torch.from_numpy(images)))
    grey = np.stack([filters.grey(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in images])[:, :channels]
    assert made.shape == grey.shape
    assert np.abs((made.numpy() + 1) * 127.5 - grey).max() <= 0.51


def test_a_grey_photo_can_be_coloured():
    grey = from_uint8(torch.from_numpy(faces(1, 7, 5, 1)))
    assert torch.equal(Colorize(1).input_for(grey), grey)
    assert torch.equal(Colorize(3).input_for(grey), grey.repeat(1, 3, 1, 1))


# ----------------------------------------------------------------------------------------------------------- blur


@pytest.mark.parametrize(("size", "sigma"), [(3, 30.0), (23, 30.0), (5, 1.2), (1, 2.0)])
def test_blur_is_opencvs(size, sigma):
    images = from_uint8(torch.from_numpy(faces(2, 15, 13)))
    task = Deblur(size, sigma, 0, False, 0)
    task.check(15, 13, 3)
    made = task.input_for(images).permute(0, 2, 3, 1).numpy()
    for image, blurred in zip(images.permute(0, 2, 3, 1).numpy(), made, strict=True):
        expected = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
        assert np.allclose(blurred, expected, atol=1e-5)
    assert torch.equal(task.target_for(images), images)


def test_a_box_around_the_face_stays_sharp():
    images = from_uint8(torch.from_numpy(faces(3, 41, 31)))
    positions = torch.tensor([5, 900, 2**40])
    task = Deblur(9, 30.0, 12, False, 7)
    made = task.input_for(images, positions, "train")
    everywhere = Deblur(9, 30.0, 0, False, 7).input_for(images)
    halves = np.floor(counter_rng.uniform(7, "task/deblur/train", positions.numpy(), (2,)) * 12).astype(int)
    assert len(np.unique(halves)) > 2
    for n, (across, down) in enumerate(halves):
        sharp = np.zeros((41, 31), bool)
        sharp[16 - down : 16 + down, 15 - across : 15 + across] = True
        assert np.array_equal(made[n].numpy(), np.where(sharp, images[n].numpy(), everywhere[n].numpy()))
    assert torch.equal(task.target_for(images, positions, "train"), images)
    both = Deblur(9, 30.0, 12, True, 7)
    assert torch.equal(both.target_for(images, positions, "train"), made)


# ---------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("counters", [[0], [5, 2**33 + 1, 17], [2**62, 0]])
def test_tensor_streams_are_the_counter_streams(counters):
    shape, keys = (3, 7, 5), torch.tensor(counters)
    assert np.array_equal(
        counter_rng_torch.bits(9, "x", keys, shape).numpy().view(np.uint64), counter_rng.bits(9, "x", counters, shape)
    )
    assert np.array_equal(
        counter_rng_torch.uniform(9, "x", keys, shape).numpy(), counter_rng.uniform(9, "x", counters, shape)
    )
    normal = counter_rng_torch.normal(9, "x", keys, shape).numpy()
    assert np.allclose(normal, counter_rng.normal(9, "x", counters, shape), rtol=0, atol=1e-14)


def test_a_device_says_whether_it_computes_the_streams(monkeypatch):
    """The CPU does; one without float64, or whose int64 saturates, has its noise made on the CPU."""
    cpu = torch.device("cpu")
    assert counter_rng_torch.exact.__wrapped__(cpu)
    keys = torch.arange(4)
    assert counter_rng_torch.computable(keys) is keys
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "double", lambda tensor: (_ for _ in ()).throw(TypeError("no float64 here")))
        assert not counter_rng_torch.exact.__wrapped__(cpu)
    with monkeypatch.context() as patch:
        patch.setattr(
            counter_rng_torch, "bits", lambda seed, purpose, keys, shape: torch.zeros(len(keys), *shape).long()
        )
        assert not counter_rng_torch.exact.__wrapped__(cpu)
    assert not counter_rng_torch.exact.__wrapped__(torch.device("meta")), (
        "what has no numbers cannot show that it computes"
    )


def test_counters_are_made_on_their_device():
    made = counter_rng_torch.counters(torch.device("cpu"), range(8, 40, 16), 3)
    assert made.tolist() == counter_rng.counters(range(8, 40, 16), 3).tolist() == [8, 9, 10, 24, 25, 26]


def test_noise_is_a_function_of_seed_stream_and_position():
    images, positions = torch.zeros(40, 3, 9, 7), torch.arange(100, 140)
    task = Noise("normal", 1)
    whole = task.input_for(images, positions, "train")
    assert whole.shape == images.shape
    assert whole.dtype == torch.float32
    for parts in (1, 7, 16):
        split = [task.input_for(images[: len(p)], p, "train") for p in positions.split(parts)]
        assert torch.equal(torch.cat(split), whole)
    others = [
        task.input_for(images, positions, "fixed"),
        task.input_for(images, positions + 40, "train"),
        Noise("normal", 2).input_for(images, positions, "train"),
    ]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([whole.flatten(), other.flatten()]))[0, 1]) < 0.05
    assert torch.equal(task.input_for(images), task.input_for(images, torch.arange(40)))


def test_noise_has_the_named_distribution():
    images = torch.zeros(64, 3, 16, 16)
    normal, uniform = (Noise(kind, 0).input_for(images) for kind in ("normal", "uniform"))
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert normal.abs().max() > 3
    assert (uniform.min() >= -1) & (uniform.max() < 1)
    assert abs(uniform.mean()) < 0.02
    assert abs(uniform.var() - 1 / 3) < 0.01


@pytest.mark.parametrize("task", [Noise("normal", 0), Deblur(3, 30.0, 6, True, 0)])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_are_given_what_one_process_is(prepare, task, world):
    data = prepare(task=task)
    alone = batches(data, 6)[2:]
    ranks = [batches(data, 4, 8, rank, world) for rank in range(world)]
    for step, whole in enumerate(alone):
        for name in ("input", "target"):
            parts = joined([rank[step] for rank in ranks], name)
            assert torch.allclose(parts, whole[name], rtol=0, atol=1e-6)  # a blur's sums round by the batch's size


# -------------------------------------------------------------------------------------------------- drawn by OpenCV


@pytest.mark.parametrize(("task", "by_hand"), FILTERED)
def test_filters_draw_the_face_as_it_is_trained_on(prepare, task, by_hand):
    """Mirrored first, then drawn: many a filter of the mirrored face is not the mirrored filter."""
    data = prepare(task=task, size=[13, 18])
    found = batches(data, 6)
    index, target, made = (joined(found, name) for name in ("index", "target", "input"))
    flips = counter_rng.uniform(0, "flip", np.arange(24)) < 0.5
    assert 0 < flips.sum() < 24
    for row, flip, face, drawn in zip(index, flips, target, made, strict=True):
        packed = data._packed.array[int(row)].transpose(1, 2, 0)
        expected = np.ascontiguousarray(packed[:, ::-1] if flip else packed)
        assert torch.equal(face, from_uint8(torch.from_numpy(expected)).permute(2, 0, 1))
        assert torch.equal(drawn, from_uint8(torch.from_numpy(by_hand(expected))).permute(2, 0, 1))
    assert made.std() > 0.05


@pytest.mark.parametrize(("task", "by_hand"), FILTERED)
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_draw_a_picture_from_outside(task, by_hand, channels):
    images = faces(2, 9, 11, channels)
    made = task.input_for(from_uint8(torch.from_numpy(images)))
    for image, drawn in zip(images, made, strict=True):
        colour = np.repeat(image, 3, axis=0) if channels == 1 else image
        expected = by_hand(np.ascontiguousarray(colour.transpose(1, 2, 0)))
        assert torch.equal(drawn, from_uint8(torch.from_numpy(expected)).permute(2, 0, 1))
    assert task.input_for(torch.zeros(0, channels, 9, 11)).shape == (0, 3, 9, 11)


def test_any_number_of_workers_draws_the_same(prepare):
    task = Contours("meant", LEVELS)
    found = [batches(prepare(task=task, augment="light", workers=n), 5) for n in (0, 1, 2)]
    plain = batches(prepare(task=task), 5)
    for name in ("input", "target", "position", "index"):
        alone = joined(found[0], name)
        assert torch.equal(joined(found[1], name), alone)
        assert torch.equal(joined(found[2], name), alone)
    assert not torch.equal(joined(plain, "input"), joined(found[0], "input"))


def test_workers_are_used_for_what_opencv_draws_only(prepare):
    for task, workers in ((Canny("image", 140.0, 255.0), 2), (Deblur(3, 30.0, 0, False, 0), 0), (NoInput(), 0)):
        assert prepare(task=task, workers=2).train_dataloader().num_workers == workers


def test_a_filter_sees_the_augmented_face(prepare):
    data = prepare(task=Canny("image", 140.0, 255.0), augment=[{"Rotate": {"limit": [80, 80], "p": 1.0}}])
    batch = batches(data, 1)[0]
    assert torch.equal(batch["input"], data.task.input_for(batch["target"]))
    assert not torch.equal(batch["target"], data.images("train")[:4])


# -------------------------------------------------------------------------------------------------------- average


def average(subset="all", attribute=None):
    return Average(subset, attribute)


def rows_of(data, images, split="train"):
    """The packed row of each (never altered or mirrored) face among those of a split."""
    known = {image.numpy().tobytes(): int(row) for image, row in zip(data.images(split), data.rows[split], strict=True)}
    return [known[image.numpy().tobytes()] for image in images]


def test_the_target_is_another_face_of_the_training_set(prepare):
    data = prepare(task=average(), flip=False)
    found = batches(data, 60)
    inputs, targets = (rows_of(data, joined(found, name)) for name in ("input", "target"))
    assert inputs == joined(found, "index").tolist()
    assert not any(a == b for a, b in zip(inputs, targets, strict=True))
    n = data.counts["train"]
    assert set(targets) == set(data.rows["train"].tolist())
    assert len(set(zip(inputs, targets, strict=True))) > 0.6 * min(240, n * (n - 1))


def test_both_faces_are_mirrored_and_augmented_alike(prepare):
    data = prepare(task=average(), augment=[{"InvertImg": {"p": 0.5}}])
    upright = prepare(task=average(), flip=False)
    flips = counter_rng.uniform(0, "flip", np.arange(24)) < 0.5
    changed, plain = batches(data, 6), batches(upright, 6)
    signs = []
    for name in ("input", "target"):
        before, after = joined(plain, name).numpy(), joined(changed, name).numpy()
        before[flips] = before[flips][..., ::-1]
        signs.append([1 if np.allclose(a, b, atol=1e-6) else -1 for a, b in zip(before, after, strict=True)])
        assert np.allclose(before * np.array(signs[-1])[:, None, None, None], after, atol=1e-6)
    assert signs[0] == signs[1]
    assert set(signs[0]) == {1, -1}


def test_partners_stay_in_their_subset_and_split(tmp_path, store, prepare):
    """Eight people of three pictures, by folder."""
    put({f"p{n // 3}/{n}.png": encode(picture(n), "PNG") for n in range(24)}, tmp_path / "in")
    data = prepare(tmp_path / "in", task=average("identity"), flip=False)
    people = np.array([int(face.split("/")[0][1:]) for face in sorted(f"p{n // 3}/{n}.png" for n in range(24))])
    for split in ("train", "val", "test"):
        pairs = data.pairs(split)
        inputs, targets = (rows_of(data, pairs[name], split) for name in ("input", "target"))
        assert inputs == data.rows[split].tolist()
        assert people[inputs].tolist() == people[targets].tolist()
        assert not any(a == b for a, b in zip(inputs, targets, strict=True))
    found = batches(data, 20)
    inputs, targets = (rows_of(data, joined(found, name)) for name in ("input", "target"))
    assert people[inputs].tolist() == people[targets].tolist()


def test_partners_are_drawn_evenly_and_never_oneself():
    labels = np.array([7, 3, 7, 3, 9, 7, 7, 3])
    rows = np.array([0, 1, 2, 3, 4, 5, 7])  # 6 is not among them
    partners = Partners(labels, rows, 0)
    drawn = {row: partners(np.full(3000, row), np.arange(3000), "train") for row in rows}
    expected = {0: [2, 5], 2: [0, 5], 5: [0, 2], 1: [3, 7], 3: [1, 7], 7: [1, 3], 4: [4]}
    for row, others in expected.items():
        values, counts = np.unique(drawn[row], return_counts=True)
        assert values.tolist() == others
        assert np.abs(counts - 3000 / len(others)).max() < 120
    assert partners.alone == 1
    mixed = partners(np.array([5, 1]), np.array([10, 20]), "train")
    assert mixed.tolist() == [drawn[5][10], drawn[1][20]]
    assert not np.array_equal(drawn[0], partners(np.full(3000, 0), np.arange(3000), "fixed"))


def test_brightness_is_in_terciles_of_luma():
    levels = [200, 10, 90, 100, 250, 30]
    grey = np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, 1, 3, 5), np.uint8)
    assert subsets.brightness(grey).tolist() == [2, 0, 1, 1, 2, 0]
    colour = np.zeros((3, 3, 2, 2), np.uint8)
    for n, channel in enumerate((1, 2, 0)):  # green is brighter than red, red than blue
        colour[n, channel] = 200
    assert subsets.brightness(colour).tolist() == [2, 0, 1]


def test_the_strongest_channel_is_the_colour():
    packed = np.zeros((5, 3, 4, 4), np.uint8)
    for n, channel in enumerate((2, 0, 1, 1)):
        packed[n, channel] = 9
        packed[n, (channel + 1) % 3, 0, 0] = 100  # bright, but in one pixel of sixteen
    assert subsets.colours(packed).tolist() == [2, 0, 1, 1, 0]


def test_means_are_exact_over_chunks(monkeypatch):
    monkeypatch.setattr(subsets, "CHUNK", 2)
    packed = faces(5, 7, 9)
    assert np.allclose(subsets.channel_means(packed), packed.reshape(5, 3, -1).mean(2), atol=1e-10)


def test_subsets_by_attribute(tmp_path, prepare, monkeypatch):
    rows = "".join(f"{n:03d}.jpg,{'' if n > 20 else n % 2},{n / 100},x\n" for n in range(24))
    labels = write(tmp_path / "labels.csv", f"image,Odd,measure,same\n{rows}".encode())
    data = prepare(attributes=str(labels), task=average("attribute", "Odd"), flip=False)
    kind = ["unknown" if n > 20 else n % 2 for n in range(24)]
    found = batches(data, 30)
    inputs, targets = (rows_of(data, joined(found, name)) for name in ("input", "target"))
    assert [kind[n] for n in inputs] == [kind[n] for n in targets]
    assert len(set(targets)) > 10
    with pytest.raises(BadInput, match=r"task.attribute=Od: the dataset has no such attribute, the nearest is Odd"):
        prepare(attributes=str(labels), task=average("attribute", "Od"))
    monkeypatch.setattr(subsets, "MAX_VALUES", 20)
    with pytest.raises(BadInput, match=r"task.attribute=measure: more than 20 different values"):
        prepare(attributes=str(labels), task=average("attribute", "measure"))


def test_faces_of_nobody_are_people_of_their_own(prepare):
    with pytest.raises(BadInput, match=r"task.subset=identity: the dataset has no identities"):
        prepare(task=average("identity"))
    with pytest.raises(BadInput, match=r"task.subset=attribute: the dataset has no attributes; add some"):
        prepare(task=average("attribute", "Smiling"))


def test_lonely_faces_are_refused(tmp_path, prepare):
    put({f"p{n}/{n}.png": encode(picture(n), "PNG") for n in range(12)}, tmp_path / "in")
    with pytest.raises(BadInput, match=r"task.subset: no two training faces share a subset"):
        prepare(tmp_path / "in", task=average("identity"))


# ----------------------------------------------------------------------------------------------- pairs to judge by


@pytest.mark.parametrize(
    "task",
    [
        NoInput(),
        Autoencode(),
        SuperResolution(2, "mean", 2),
        DEGRADED,
        Contours("meant", LEVELS),
        average("brightness"),
        Noise("normal", 0),
        Deblur(5, 30.0, 6, True, 0),
    ],
    ids=lambda task: task.name,
)
def test_pairs_are_the_same_whatever_else_is_asked_for(prepare, task):
    data = prepare(task=task, val_fraction=0.4)
    whole = data.pairs("val")
    assert set(whole) == {"target"} if task.name == "none" else {"target", "input"}
    assert len(whole["target"]) == data.counts["val"] > 7
    for chunk in (1, 3, 100):
        parts = list(data.pairs_in_chunks("val", chunk))
        assert all(len(part["target"]) <= chunk for part in parts)
        some = data.pairs("val", [5, 2])
        for name, values in whole.items():
            assert torch.allclose(joined(parts, name), values, rtol=0, atol=1e-6)
            assert torch.allclose(some[name], values[[5, 2]], rtol=0, atol=1e-6)
    batches(data, 2)
    assert all(torch.equal(values, whole[name]) for name, values in data.pairs("val").items())
    assert data.pairs("val", [])["target"].shape == (0, 3, 16, 16)


def test_pairs_hold_faces_as_they_are(prepare):
    data = prepare(task=SuperResolution(2, "mean", 2), augment="strong")
    pairs = data.pairs("train")
    assert torch.equal(pairs["target"], data.images("train"))
    assert torch.equal(pairs["input"], data.task.input_for(data.images("train")))


def test_an_empty_split_has_no_pairs(prepare):
    data = prepare(task=average(), test_fraction=0.0)
    assert data.pairs("test")["target"].shape == (0, 3, 16, 16)
    assert list(data.pairs_in_chunks("test")) == []


@pytest.mark.parametrize(
    "task",
    [Noise("normal", 0), Contours("meant", LEVELS), average(), Deblur(5, 30.0, 6, True, 0)],
    ids=lambda t: t.name,
)
def test_training_goes_on_where_it_stopped(prepare, task):
    data = prepare(task=task)
    whole = batches(data, 8)
    for step, batch in enumerate(batches(data, 3, images=20), start=5):
        assert all(torch.equal(values, whole[step][key]) for key, values in batch.items())


# --------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(("name", "overrides"), CHOICES)
def test_yaml_makes_what_the_input_node_says(prepare, name, overrides):
    model = {"none": "dcgan_conventional", "super_resolution": "conv_superres"}.get(name, "pix2pix")
    overrides = [f"model={model}", f"task={name}", "data.size=[9,7]", *overrides]
    chosen = config.plain(composing.Library().compose(overrides), overrides)  # the checks are tested elsewhere
    task = config.build(chosen["task"])
    assert (task.name, chosen["choices"]["task"]) == (name, name)
    size, channels = chosen["data"]["size"], chosen["data"]["channels"]
    data = prepare(task=task, size=size, channels=channels, batch_size=1)
    factor = chosen["input"]["factor"]
    for batch in (batches(data, 1)[0], data.pairs("val", [0])):
        assert batch["target"].shape == (1, channels, *size)
        if name != "none":
            assert batch["input"].shape == (1, chosen["input"]["channels"], size[0] // factor, size[1] // factor)
            assert batch["input"].dtype == torch.float32
        else:
            assert "input" not in batch


@pytest.mark.parametrize(
    ("task", "changes", "reason"),
    [
        (
            lambda: SuperResolution(2, "mean", 2),
            {"size": [65, 64]},
            r"data.size=\[65,64\]: super_resolution x2 needs "
            r"multiples of 2; try \[64,64\] or \[66,64\]",
        ),
        (lambda: SuperResolution(4, "mean", 4), {"size": 3}, r"data.size=\[3,3\]: .* x4 .*; try \[4,4\]"),
        (lambda: SuperResolution(1, "mean", 1), {}, "task.factor=1: must be 2 or 4"),
        (lambda: Degradation(-1, 0, 0, 0), {}, "task.degrade.blur=-1: must be from 0 to 10"),
        (lambda: Degradation(0, 2, 0, 0), {}, "task.degrade.noise=2: must be from 0 to 1"),
        (lambda: Degradation(0, 0, 96, 0), {}, r"task.degrade.jpeg=96: must be 0 \(none\) or a quality from 1 to 95"),
        (
            lambda: SuperResolution(2, "mean", 2, Degradation(4, 0, 0, 0)),
            {"size": 12},
            r"task.degrade.blur=4: at most 3 for data.size=\[12,12\]",
        ),
        (lambda: SuperResolution(4, "mean", 2), {}, r"input.factor=2: must be 1 \(upscaled .*\) or 4 \(task.factor\)"),
        (
            lambda: Colorize(1),
            {"channels": 1},
            "data.channels=1: colorize needs faces in colour; data.channels must be 3",
        ),
        (lambda: Colorize(2), {}, "input.channels=2: must be 1 or 3"),
        (lambda: Deblur(4, 1.0, 0, False, 0), {}, "task.size=4: must be an odd number"),
        (lambda: Deblur(3, 0.0, 0, False, 0), {}, "task.sigma=0.0: must be above 0"),
        (lambda: Deblur(3, 1.0, -1, False, 0), {}, "task.box=-1: must be at least 0"),
        (lambda: Deblur(23, 30.0, 0, False, 0), {"size": [40, 11]}, r"task.size=23: at most 21 for data.size=\[40,11"),
        (
            lambda: Thresholds("meant", [200, 100]),
            {},
            r"task.levels: levels \[200, 100\]; must be integers from 1",
        ),
        (lambda: Contours("meant", []), {}, "task.levels: "),
        (lambda: Canny("image", 200.0, 100.0), {}, "task.low=200.0, task.high=100.0: must be 0 < low <= high"),
        (lambda: average("attribute"), {}, "task.subset=attribute, task.attribute=None: .* go together"),
        (lambda: average("all", "Smiling"), {}, "task.subset=all, task.attribute=Smiling"),
        (lambda: average("colour"), {"channels": 1}, "data.channels=1: task.subset=colour needs data.channels=3"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_read(task, changes, reason):
    with pytest.raises(BadInput, match=reason) as caught:
        face_data("nowhere", **({"cache": None, "task": task()} | changes))
    assert "\n" not in str(caught.value)


def test_small_faces_as_bad_as_photos_by_a_word():
    task = config.build(config.compose(["model=conv_superres", "task/degrade=photos", "seed=5"])["data"]).task
    assert task.degrade == Degradation(1.2, 0.04, 50, 5)
    said = (
        "Small faces are blurred by up to 1.2 pixels, noisy by up to 0.04 of the range, saved as JPEG of quality 50 to"
    )
    assert task.remarks[0].startswith(said)
    assert config.build(config.compose(["model=conv_superres"])["data"]).task.degrade is None


def test_a_bad_task_is_one_line_through_the_configuration():
    with pytest.raises(BadInput, match=r"^data.size=\[65,65\]: super_resolution x2") as caught:
        config.build(config.compose(["model=conv_superres", "data.size=65"])["data"])
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"task.subset: 'name' is not one of"):
        config.compose(["model=pix2pix", "task=average", "task.subset=name"])


# ----------------------------------------------------------------------------------------------------- accelerators


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs a GPU; torch finds none on this machine")
@pytest.mark.parametrize(
    "task",
    [
        SuperResolution(2, "mean", 2),
        SuperResolution(2, "bicubic", 1),
        Colorize(1),
        Noise("normal", 0),
        Noise("uniform", 0),
        Deblur(5, 30.0, 6, True, 0),
        Contours("meant", LEVELS),
    ],
    ids=lambda task: task.name,
)
def test_a_gpu_makes_the_same(task):
    images, positions = from_uint8(torch.from_numpy(faces(4, 16, 12))), torch.tensor([3, 2**40, 0, 7])
    device = torch.accelerator.current_accelerator()
    made = task.input_for(images.to(device), positions.to(device), "train")
    assert made.device.type == device.type
    assert torch.allclose(made.cpu(), task.input_for(images, positions, "train"), atol=1e-5)
    target = task.target_for(images.to(device), positions.to(device), "train")
    assert torch.allclose(target.cpu(), task.target_for(images, positions, "train"), atol=1e-5)
