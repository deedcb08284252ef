"""Objectives against probabilities and hand-computed values; penalties against analytic gradients."""

from __future__ import annotations

import copy
from math import log
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from faceforge.losses import OBJECTIVES, TERMS, Unpaired, discriminator_loss, generator_loss, gradient_penalty
from faceforge.metrics import health

REAL = torch.tensor([0.7, -1.3, 2.0])
FAKE = torch.tensor([-0.2, 1.5, -2.5])


def bce(logits: Tensor, label: float) -> Tensor:
    probability = torch.sigmoid(logits.double())
    return binary_cross_entropy(probability, torch.full_like(probability, label)).float()


@pytest.mark.parametrize("kind", ["minimax", "non_saturating"])
def test_discriminator_minimises_bce_of_probabilities(kind):
    torch.testing.assert_close(discriminator_loss(kind, REAL, FAKE), bce(REAL, 1) + bce(FAKE, 0))


def test_generator_of_minimax_maximises_the_bce_that_the_other_objective_turns_round():
    torch.testing.assert_close(generator_loss("minimax", FAKE), -bce(FAKE, 0))
    torch.testing.assert_close(generator_loss("non_saturating", FAKE), bce(FAKE, 1))


def test_hinge_least_squares_and_relativistic_against_numpy():
    real, fake = REAL.numpy().astype(np.float64), FAKE.numpy().astype(np.float64)
    expected = {
        ("hinge", "d"): np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(),
        ("hinge", "g"): -fake.mean(),
        ("least_squares", "d"): ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        ("least_squares", "g"): ((fake - 1) ** 2).mean() / 2,
        ("relativistic", "d"): np.log1p(np.exp(-(real - fake))).mean(),
        ("relativistic", "g"): np.log1p(np.exp(-(fake - real))).mean(),
    }
    for (kind, player), value in expected.items():
        loss = discriminator_loss(kind, REAL, FAKE) if player == "d" else generator_loss(kind, FAKE, REAL)
        assert loss.item() == pytest.approx(value, rel=1e-6), (kind, player)


def test_values_at_zero_logits_are_the_known_ones():
    zero = torch.zeros(1)
    assert discriminator_loss("minimax", zero, zero).item() == pytest.approx(2 * log(2))
    assert generator_loss("minimax", zero).item() == pytest.approx(-log(2))
    assert discriminator_loss("hinge", zero, zero).item() == 2.0
    assert discriminator_loss("least_squares", zero, zero).item() == 0.5


def generator_gradient(kind: str, logit: float) -> float:
    fake = torch.tensor([logit], requires_grad=True)
    generator_loss(kind, fake, torch.zeros(1)).backward()
    return fake.grad.item()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_generator_pulls_a_rejected_image_towards_real(kind):
    assert generator_gradient(kind, -3.0) < 0


def test_minimax_saturates_where_the_discriminator_wins_and_the_other_does_not():
    assert abs(generator_gradient("minimax", -10.0)) < 1e-4
    assert abs(generator_gradient("non_saturating", -10.0)) > 0.999
    assert generator_gradient("minimax", 0.0) == pytest.approx(generator_gradient("non_saturating", 0.0))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_extreme_logits_stay_finite_with_finite_gradients(kind):
    real = torch.tensor([1e4, -1e4], requires_grad=True)
    fake = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = discriminator_loss(kind, real, fake) + generator_loss(kind, fake, real)
    loss.backward()
    assert loss.isfinite()
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_batch_of_one_equals_its_part_of_the_mean(kind):
    singles = [discriminator_loss(kind, r[None], f[None]) for r, f in zip(REAL, FAKE, strict=True)]
    torch.testing.assert_close(torch.stack(singles).mean(), discriminator_loss(kind, REAL, FAKE))


def test_every_objective_has_one_entry_of_all_that_is_known_of_it():
    """Types and table name the same; those that judge each picture by itself are those of translation."""
    assert set(TERMS) == set(OBJECTIVES)
    assert {kind for kind in OBJECTIVES if not TERMS[kind].paired} == set(get_args(Unpaired))
    for found in TERMS.values():
        assert found.sure(REAL, FAKE).dtype == torch.bool
        assert found.signal(REAL, FAKE).shape == FAKE.shape


@pytest.mark.parametrize("ask", [discriminator_loss, generator_loss, health.saturation, health.generator_signal])
def test_no_figure_is_made_up_for_an_unknown_objective(ask):
    with pytest.raises(ValueError, match="unknown objective 'wasserstein'"):
        ask("wasserstein", REAL, FAKE)


def test_unknown_objective_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown objective 'wasserstein'; must be one of minimax, non_saturating"):
        discriminator_loss("wasserstein", REAL, FAKE)
    with pytest.raises(ValueError, match="unknown objective"):
        generator_loss("", FAKE)


def test_relativistic_refuses_what_it_cannot_pair():
    with pytest.raises(ValueError, match="real_logits"):
        generator_loss("relativistic", FAKE)
    with pytest.raises(ValueError, match="equal shapes"):
        discriminator_loss("relativistic", REAL, FAKE[:1])


class Linear(nn.Module):
    """logit = <w, x>, so the gradient is w for every image."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(count, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.w


def test_penalty_of_a_linear_discriminator_is_its_squared_norm_and_so_is_its_gradient():
    net = Linear(3 * 5 * 7)
    penalty = gradient_penalty(net, torch.randn(4, 3, 5, 7))
    penalty.backward()
    torch.testing.assert_close(penalty, net.w.square().sum())
    torch.testing.assert_close(net.w.grad, 2 * net.w.detach())


@pytest.mark.parametrize("batch", [1, 6])
def test_penalty_of_a_quadratic_discriminator_is_the_mean_of_analytic_norms(batch):
    scale, images = torch.tensor(0.8, requires_grad=True), torch.randn(batch, 1, 3, 3)
    penalty = gradient_penalty(lambda x: scale * x.square().flatten(1).sum(1), images)
    penalty.backward()
    norms = images.square().flatten(1).sum(1)  # |2 s x|^2 = 4 s^2 |x|^2
    torch.testing.assert_close(penalty.detach(), (4 * 0.8**2 * norms).mean())
    torch.testing.assert_close(scale.grad, (8 * 0.8 * norms).mean())


def small_discriminator() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 4 * 4, 1))


def test_penalty_is_float32_and_unchanged_under_autocast_even_where_half_precision_overflows():
    net, images = small_discriminator(), torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        net[3].weight.mul_(1e4)  # the squared gradient leaves the range of fp16
    expected = gradient_penalty(net, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(images).dtype == torch.bfloat16
        penalty = gradient_penalty(net, images.bfloat16().float())
        exact = gradient_penalty(net, images)
    assert expected > torch.finfo(torch.float16).max
    assert exact.dtype == penalty.dtype == torch.float32
    assert exact == expected


def test_penalty_works_inside_no_grad_and_leaves_images_and_their_graph_alone():
    net, generator = small_discriminator(), nn.Conv2d(1, 1, 1)
    fakes = generator(torch.randn(2, 1, 6, 6))
    gradient_penalty(net, fakes).backward()
    assert all(p.grad is None for p in generator.parameters())
    assert all(p.grad is not None for p in net.parameters() if p is not net[3].bias)
    with torch.no_grad():
        assert gradient_penalty(net, fakes).requires_grad


def test_penalty_matches_finite_differences():
    net = copy.deepcopy(small_discriminator()).double()
    image = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    step, slopes = 1e-6, []
    for i in range(36):
        shift = torch.zeros(36, dtype=torch.float64)
        shift[i] = step
        shift = shift.view_as(image)
        slopes.append((net(image + shift) - net(image - shift)).item() / (2 * step))
    penalty = gradient_penalty(net.float(), image)
    assert penalty.item() == pytest.approx(float(np.square(slopes).sum()), rel=1e-3)
