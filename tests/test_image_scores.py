"""Colour and perceptual errors against published pairs and the loss; intervals against known coverage."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import deltaE_ciede2000

from faceforge.errors import BadInput
from faceforge.losses import Perceptual
from faceforge.metrics import image_scores
from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.features import FeatureMaps
from faceforge.metrics.image_scores import ImageScores, colour_error, perceptual

CPU = torch.device("cpu")
# Sharma, Wu and Dalal 2005, table 1: pairs 1-4, 7, 9, 11, 17-20, 25, 26, 29, 33, 34
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, 2.8361, -74.0200), (50, 0, -82.7485), 3.4412),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0009), 7.1792),
    ((50, 2.4900, -0.0010), (50, -2.4900, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((50, 2.5, 0), (58, 24, 15), 19.4535),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((63.0109, -31.0961, -5.8663), (62.8187, -29.7946, -4.0864), 1.2630),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.fixture(scope="module")
def maps():
    return FeatureMaps()


def pictures(n, channels, height, width, seed=0):
    coarse = torch.rand(n, channels, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize(("a", "b", "expected"), SHARMA)
def test_the_colour_difference_is_the_published_one(a, b, expected):
    for first, second in ((a, b), (b, a)):
        assert deltaE_ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=6e-5)


def test_colour_error_by_hand():
    """Black and white are 100 apart; red and green of sRGB 86.61; half of the pixels wrong count half."""
    black, white = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    red, green = black.clone(), black.clone()
    red[:, 0], green[:, 1] = 1, 1
    made = torch.cat([black, red, red])
    right = torch.cat([white, green, red])
    assert colour_error(made, right).tolist() == pytest.approx([100, 86.61, 0], abs=0.01)
    mixed = red.clone()
    mixed[..., 0, :] = green[..., 0, :]
    assert colour_error(mixed, red).tolist() == pytest.approx([86.61 / 2], abs=0.01)


def test_perceptual_is_the_loss_of_each_image(maps):
    made, right = pictures(3, 3, 70, 65), pictures(3, 3, 70, 65, seed=1)
    with torch.no_grad():
        found = perceptual(maps(made), maps(right))
        loss = Perceptual(maps)
        expected = [float(loss(a[None], b[None])) for a, b in zip(made, right, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_perceptual_grows_with_blur_and_is_nothing_for_the_same(maps):
    right = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    blurred = [F.avg_pool2d(right, side, 1, side // 2, count_include_pad=False) for side in (1, 3, 7)]
    with torch.no_grad():
        errors = torch.stack([perceptual(maps(image), maps(right)) for image in blurred])
    assert errors[0].tolist() == [0, 0]
    assert (errors.diff(dim=0) > 0).all()


def test_maps_have_their_strides_and_small_images_are_enlarged(maps):
    with torch.no_grad():
        shapes = [tuple(m.shape) for m in maps(torch.rand(2, 1, 16, 24))]
    assert shapes == [(2, 16, 32, 48), (2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]


def test_gradients_reach_the_images_and_no_weight(maps):
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    Perceptual(maps)(images, torch.rand(1, 3, 64, 64)).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in maps.parameters())


@pytest.mark.parametrize("shape", [(5, 3, 33, 40), (5, 1, 8, 8)])
def test_scores_do_not_depend_on_the_chunk(shape):
    made, right = 2 * pictures(*shape) - 1, 2 * pictures(*shape, seed=1) - 1
    scores = ImageScores(*shape[1:], CPU)
    whole = scores({"model": made}, right)["model"]
    parts = [scores({"model": a[None]}, b[None])["model"] for a, b in zip(made, right, strict=True)]
    assert set(whole) == set(scores.names)
    for name, values in whole.items():
        assert values.tolist() == pytest.approx([float(part[name]) for part in parts], rel=1e-4)


def test_what_cannot_be_scored_is_left_out_with_a_reason(monkeypatch):
    def missing():
        raise BadInput("scores need a package")

    monkeypatch.setattr(image_scores, "SqueezeNetMaps", missing)
    scores = ImageScores(1, 5, 9, CPU)
    assert set(scores.reasons) == {"perceptual", "ciede2000", "ssim", "identity", "same_person"}
    assert "5" in scores.reasons["ssim"]
    assert scores.names == ["psnr", "mae", "mse"]
    found = scores({"model": torch.zeros(1, 1, 5, 9)}, torch.zeros(1, 1, 5, 9))
    assert set(found["model"]) == {"psnr", "mae", "mse"}


# Intervals


def test_people_are_the_units():
    """Ten copies of each image add no knowledge: the interval is the same as of one each."""
    values = np.random.default_rng(0).normal(size=30)
    one = Resamples([str(n) for n in range(30)], seed=1)
    ten = Resamples([str(n) for n in range(30) for _ in range(10)], seed=1)
    assert ten.interval(np.repeat(values, 10)) == pytest.approx(one.interval(values))
    alone = Resamples([None] * 300, seed=1)
    low, high = alone.interval(np.repeat(values, 10))
    assert high - low < 0.5 * np.diff(one.interval(values))[0]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """30 people with 1 to 6 images and an effect of their own; 300 trials: 95 % nominal, percentile a little below."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        counts = rng.integers(1, 7, 30)
        groups = np.repeat(np.arange(30), counts)
        values = rng.normal(size=30)[groups] + 0.5 * rng.normal(size=len(groups))
        low, high = Resamples(groups.tolist(), seed=trial).interval(values)
        covered += low <= 0 <= high
    assert 0.89 <= covered / 300 <= 0.98


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.floats(-5, 5)), min_size=1, max_size=20))
@settings(max_examples=15, deadline=None)
def test_the_interval_lies_within_the_values_and_is_the_same_each_time(images):
    groups, values = [g for g, _ in images], np.array([v for _, v in images])
    low, high = Resamples(groups, seed=3).interval(values)
    assert values.min() - 1e-4 <= low <= high <= values.max() + 1e-4
    assert (low, high) == Resamples(groups, seed=3).interval(values)
