"""Batched augmentation against a slow one that handles image by image and pixel by pixel."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest
import torch

from faceforge.diffaugment import augment, parse, uniforms_needed

FULL = "color,translation,cutout"
SHAPES = [(3, 3, 64, 64), (1, 3, 17, 9), (4, 1, 10, 33)]


def slow_color(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    x = x + (u[0] - 0.5)
    grey = x.mean(0)
    x = np.stack([grey + (plane - grey) * 2 * u[1] for plane in x])
    return x.mean() + (x - x.mean()) * (u[2] + 0.5)


def slow_translation(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    _, height, width = x.shape
    out = np.zeros_like(x)
    most = [int(height / 8 + 0.5), int(width / 8 + 0.5)]
    dy, dx = (floor(v * (2 * m + 1)) - m for v, m in zip(u, most, strict=True))
    for row in range(height):
        for column in range(width):
            if 0 <= row - dy < height and 0 <= column - dx < width:
                out[:, row, column] = x[:, row - dy, column - dx]
    return out


def slow_cutout(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    _, height, width = x.shape
    box, out = (int(height / 2 + 0.5), int(width / 2 + 0.5)), x.copy()
    top, left = floor(u[0] * height) - box[0] // 2, floor(u[1] * width) - box[1] // 2
    for row in range(top, top + box[0]):
        for column in range(left, left + box[1]):
            if 0 <= row < height and 0 <= column < width:
                out[:, row, column] = 0
    return out


SLOW = {"color": (slow_color, 3), "translation": (slow_translation, 2), "cutout": (slow_cutout, 2)}


def draw(shape: tuple[int, ...], policy: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    images = torch.rand(shape, generator=generator) * 2 - 1
    return images, torch.rand(shape[0], uniforms_needed(policy), generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "cutout,color", FULL])
def test_batched_equals_slow(policy, shape):
    images, uniforms = draw(shape, policy)
    expected = images.double().numpy()
    for i, row in enumerate(uniforms.double().numpy()):
        start = 0
        for step in policy.split(","):
            function, count = SLOW[step]
            expected[i] = function(expected[i], row[start : start + count])
            start += count
    result = augment(images, policy, uniforms)
    assert result.shape == images.shape
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_uniforms_stay_in_the_stated_ranges(dtype):
    images = torch.ones(2, 1, 16, 8, dtype=dtype)  # in bfloat16 the upper edge would round to 1
    edge = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24]])
    moved = augment(images, "translation", edge)
    assert moved.sum((1, 2, 3)).tolist() == [14 * 7, 14 * 7]  # shifts of 2 and 1, both ways
    assert moved[0, 0, -2:].sum() == moved[1, 0, :2].sum() == 0
    kept = augment(images, "cutout", edge).sum((1, 2, 3))
    assert kept.tolist() == [128 - 4 * 2, 128 - 5 * 3]  # the boxes reach over opposite corners


def test_each_image_depends_on_its_own_row_alone():
    images, uniforms = draw((4, 3, 12, 12), FULL)
    together = augment(images, FULL, uniforms)
    for i in range(4):
        alone = augment(images[i : i + 1], FULL, uniforms[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])


def test_gradients_reach_the_images_and_equal_finite_differences():
    images, uniforms = draw((2, 3, 8, 6), FULL)
    assert torch.autograd.gradcheck(
        lambda x: augment(x, FULL, uniforms), images.double().requires_grad_(True), atol=1e-6
    )


@pytest.mark.parametrize("policy", ["", " ", ","])
def test_an_empty_policy_returns_the_images_themselves(policy):
    images = torch.randn(2, 3, 5, 5)
    assert uniforms_needed(policy) == 0
    assert augment(images, policy, torch.rand(2, 0)) is images


def test_grey_stays_grey_and_precision_stays():
    images = torch.randn(2, 1, 8, 8).expand(-1, 3, -1, -1).bfloat16()
    result = augment(images, FULL, torch.rand(2, uniforms_needed(FULL)))
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result[:, 0], result[:, 2], atol=0.02, rtol=0.02)


def test_wrong_policies_and_wrong_uniforms_are_named():
    with pytest.raises(ValueError, match=r"unknown augmentation 'colour'; known: color, translation, cutout"):
        parse("colour")
    with pytest.raises(ValueError, match=r"needs uniforms of shape \(2, 3\), not \(2, 4\)"):
        augment(torch.zeros(2, 3, 4, 4), "color", torch.zeros(2, 4))
