"""Figures of health against values worked out by hand, other computations, and faults planted on purpose."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from faceforge.losses import OBJECTIVES, generator_loss
from faceforge.metrics import health


def faces(count, size=(64, 64), channels=3, seed=0):
    """Stand-ins with the spectrum of photographs: noise whose amplitude falls with the frequency."""
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    noise = torch.fft.fft2(torch.randn(count, channels, height, width, generator=generator))
    grid = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.fftfreq(width), indexing="ij")
    fall = torch.hypot(*grid).clamp(min=1 / max(size)) ** -1.5
    images = torch.fft.ifft2(noise * fall).real
    return (0.4 * images / images.std() + 0.1).clamp(-1, 1)


def checkerboard(amplitude, size=(64, 64)):
    """A pattern of so many of 255 levels at the highest frequency."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return torch.from_numpy((-1.0) ** (rows + columns)).float() * 2 * amplitude / 255


# ------------------------------------------------------------------------------------------- outputs and their targets


def test_variance_ratio_is_the_share_of_the_variance():
    targets = faces(20, (9, 7))
    mean = targets.mean(0)
    assert health.variance_ratio(targets, targets) == pytest.approx(1)
    assert health.variance_ratio(mean + 0.5 * (targets - mean), targets) == pytest.approx(0.25)
    assert health.variance_ratio(mean.expand(20, -1, -1, -1), targets) == pytest.approx(0, abs=1e-10)


def test_variance_ratio_against_numpy():
    a, b = torch.rand(5, 1, 3, 2), torch.rand(5, 1, 3, 2)
    assert health.variance_ratio(a, b) == pytest.approx(a.numpy().var(0).mean() / b.numpy().var(0).mean(), rel=1e-5)


def test_a_set_of_one_face_has_no_variance_to_compare():
    assert health.variance_ratio(torch.rand(1, 1, 2, 2), torch.rand(1, 1, 2, 2)) == 1


def test_mean_face_distance_tells_the_mean_face_from_a_dead_output():
    targets = faces(20, (9, 7))
    mean = targets.mean(0)
    assert health.mean_face_distance(mean.expand(20, -1, -1, -1), targets, mean) == 0
    assert health.mean_face_distance(mean + 0.5 * (targets - mean), targets, mean) == pytest.approx(0.5)
    assert health.mean_face_distance(torch.full_like(targets, -1), targets, mean) > 1


def test_gap_of_the_published_networks():
    assert health.gap(0.0288, 0.0421) == pytest.approx(0.4618, abs=1e-4)
    assert health.gap(0.0168, 0.0208) == pytest.approx(0.2381, abs=1e-4)
    assert math.isnan(health.gap(0.0, 0.1))


# ------------------------------------------------------------------------------------------------------ generated faces


def test_diversity_by_hand():
    """Flat pictures at 0, 1 and 3 lie 1, 3 and 2 apart (mean 2), at 0, 2 and 6 twice as far."""
    flat = torch.tensor([0.0, 1.0, 3.0]).view(3, 1, 1, 1).expand(3, 1, 5, 4)
    assert health.diversity(2 * flat, flat) == pytest.approx(2)
    assert health.nearest(2 * flat, flat) == pytest.approx(2)
    # nearest neighbours of 0, 1, 3 are 1, 1, 2 away
    assert health.nearest(flat, torch.tensor([0.0, 3.0, 6.0]).view(3, 1, 1, 1).expand(3, 1, 5, 4)) == pytest.approx(
        4 / 9
    )


@pytest.mark.parametrize("size", [(64, 64), (33, 17), (8, 8)])
def test_other_real_faces_are_as_diverse(size):
    real, other = faces(128, size), faces(128, size, seed=1)
    assert health.diversity(other, real) == pytest.approx(1, abs=0.05)
    assert health.nearest(other, real) == pytest.approx(1, abs=0.05)


def test_one_picture_for_every_z():
    real = faces(64)
    same = real[:1].expand(64, -1, -1, -1)
    assert health.diversity(same, real) == pytest.approx(0, abs=1e-6)
    assert health.nearest(same + 0.02 * torch.randn(same.shape), real) < 0.05


def test_a_few_faces_again_and_again_show_in_the_nearest_alone():
    real = faces(128)
    few = real[:16].repeat(8, 1, 1, 1) + 0.02 * torch.randn(real.shape)
    assert health.diversity(few, real) > 0.8
    assert health.nearest(few, real) < 0.1


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.1, 1), shift=st.floats(-0.5, 0.5))
def test_diversity_follows_contrast_and_not_brightness(scale, shift):
    real = faces(12, (20, 11))
    assert health.diversity(scale * real + shift, real) == pytest.approx(scale, rel=1e-4)


# ------------------------------------------------------------------------------------------------------- checkerboards


@pytest.mark.parametrize("size", [(64, 64), (70, 70), (35, 35), (16, 16), (17, 31), (96, 80)])
@pytest.mark.parametrize("channels", [1, 3])
def test_clean_pictures(size, channels):
    real, other = faces(64, size, channels), faces(64, size, channels, seed=1)
    assert health.checkerboard_energy(other, real) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3)),
        lambda x: F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="bilinear"),
        lambda x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="nearest"),
        lambda x: 0.3 * x,
        lambda x: x.flip(-1),
        lambda x: x[:1],
    ],
    ids=["noise", "blur", "blocks", "low contrast", "mirrored", "one picture"],
)
def test_what_is_no_checkerboard(change):
    assert health.checkerboard_energy(change(faces(64, seed=1)), faces(64)) < 2.5


def test_a_planted_pattern_is_seen_as_soon_as_a_person_sees_it():
    real, other = faces(64), faces(64, seed=1)
    found = [health.checkerboard_energy(other + checkerboard(a), real) for a in (0.1, 1, 2, 8)]
    assert found[0] < 2 < 3 < found[1] < found[2] < found[3]


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("period", [2, 4])
def test_stripes_of_either_period_and_direction(axis, period):
    wave = torch.cos(2 * math.pi * torch.arange(64) / period) * 2 * 6 / 255
    stripes = wave if axis == -1 else wave[:, None]
    assert health.checkerboard_energy(faces(64, seed=1) + stripes, faces(64)) > 3


def test_a_transposed_convolution_with_odd_kernel_and_its_even_cousin():
    """Odena et al. 2016: a kernel of 3 at stride 2 covers pixels 1, 2, 2 and 4 times; the bilinear one of 4 evenly."""
    small = F.avg_pool2d(faces(64, (64, 64), 1, seed=1), 2)
    odd = F.conv_transpose2d(small, torch.ones(1, 1, 3, 3), stride=2, padding=1, output_padding=1)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    even = F.conv_transpose2d(small, torch.outer(line, line)[None, None], stride=2, padding=1)
    real = faces(64, (64, 64), 1)
    assert health.checkerboard_energy(odd / odd.std() * real.std(), real) > 5
    assert health.checkerboard_energy(even, real) < 1.5


def test_white_noise_has_its_variance_at_every_frequency():
    noise = 0.2 * torch.randn(200, 1, 32, 24, generator=torch.Generator().manual_seed(0))
    power = health._spectrum(noise)
    assert power.shape == (32, 24)
    # the mean is taken out, which costs a little at the lowest frequencies
    assert power[4:-4, 4:-4].mean() == pytest.approx(0.1**2, rel=0.02)


@pytest.mark.parametrize("size", [(15, 64), (8, 8)])
def test_too_small_for_a_spectrum(size):
    with pytest.raises(ValueError, match="at least 16"):
        health.checkerboard_energy(torch.zeros(2, 1, *size), torch.zeros(2, 1, *size))
    assert set(health.of_generated(faces(4, size), faces(4, size))) == {"val/diversity", "val/nearest"}


# --------------------------------------------------------------------------------------------------------------- codes


def test_active_units_of_posterior_means():
    """Variances 0.0099 and 0.0101 lie on either side of the limit."""
    means = torch.tensor([-1.0, 1.0])[:, None] * torch.tensor([0.0, 0.0099, 0.0101, 4.0]).sqrt()
    assert health.active_units(means) == 2


def test_active_units_of_a_plain_code_do_not_depend_on_its_scale():
    code = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    code[:, 2:5] = 0.3
    assert health.active_units(code, relative=True) == health.active_units(1e-3 * code, relative=True) == 4
    assert health.active_units(torch.ones(5, 3), relative=True) == 0


# ------------------------------------------------------------------------------------------------------- discriminators


def test_saturation_by_hand():
    real, fake = torch.tensor([5.0, 4.0, -5.0, 4.6]), torch.tensor([-5.0, -4.6, -4.5, 5.0])
    assert health.saturation("minimax", real, fake) == 4 / 8
    assert health.saturation("hinge", real, fake) == 6 / 8
    assert health.saturation("relativistic", real, fake) == 2 / 4  # differences 10, 8.6, -0.5, -0.4
    near = torch.tensor([0.95, 1.3]), torch.tensor([0.05, 0.2])
    assert health.saturation("least_squares", *near) == 3 / 4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_signal_is_the_gradient_of_the_generator_s_loss(objective):
    real, fake = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).mul(4).unbind()
    fake.requires_grad_(True)
    generator_loss(objective, fake, real).backward()
    assert fake.grad is not None
    expected = fake.grad.abs().sum()  # of a mean: the mean of the derivatives
    assert health.generator_signal(objective, real, fake) == pytest.approx(float(expected), rel=1e-5)
    assert not health.generator_signal(objective, real, fake).requires_grad
    assert not health.saturation(objective, real, fake).requires_grad


def test_a_discriminator_that_has_won_silences_minimax_alone():
    real, fake = torch.full((8,), 50.0), torch.full((8,), -50.0)
    for objective in ("minimax", "non_saturating", "hinge", "relativistic"):
        assert health.saturation(objective, real, fake) == 1
        assert health.generator_signal(objective, real, fake) == pytest.approx(0 if objective == "minimax" else 1)


def test_maps_of_logits_count_every_patch():
    assert health.saturation("minimax", torch.full((2, 1, 3, 5), 9.0), torch.zeros(2, 1, 3, 5)) == 0.5
