"""Objectives of adversarial training, computed from logits, and the gradient penalties that keep them stable.

A logit is the discriminator's output before any sigmoid: positive means "real". Every function takes logits
of any shape (normally (B,)) and returns a scalar, the mean over all of them. Where the papers speak of
probabilities D(x), D(x) = sigmoid(logit) and -log D(x) = softplus(-logit), which neither saturates in
floating point nor needs a clamp.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

Objective = Literal["minimax", "non_saturating", "hinge", "least_squares", "relativistic"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
_F = TypeVar("_F")


def discriminator_loss(kind: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises, a scalar.

    - `minimax`, `non_saturating`: -log D(x) - log(1 - D(G(z))), Goodfellow et al. 2014 (arXiv 1406.2661) eq.
      1.
    - `hinge`: max(0, 1 - x) + max(0, 1 + G), Lim and Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 eq. 16.
    - `least_squares`: half of (x - 1)^2 + G^2, Mao et al. 2017 (arXiv 1611.04076) eq. 9, on the raw logit.
    - `relativistic`: softplus(-(x - G)) of pairs, Huang et al. 2024 (R3GAN, arXiv 2501.05441) eq. 2; needs as
      many real as fake logits.

    The two BCE terms are added, not averaged, as in eq. 1. Raises ValueError for an unknown kind.
    """
    return _pick(_DISCRIMINATOR, kind)(real_logits, fake_logits)


def generator_loss(kind: Objective, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """What the generator minimises, a scalar. `real_logits` are needed by `relativistic` alone.

    - `minimax`: log(1 - D(G(z))), Goodfellow et al. 2014 eq. 1: the generator maximises the discriminator's
      own BCE against the label 0. Its gradient vanishes while the discriminator wins (saturates).
    - `non_saturating`: -log D(G(z)), the same paper, section 3: BCE against the label 1.
    - `hinge`: -G, Miyato et al. 2018 (arXiv 1802.05957) eq. 17.
    - `least_squares`: half of (G - 1)^2, Mao et al. 2017 eq. 9.
    - `relativistic`: softplus(-(G - x)) of pairs, Huang et al. 2024 eq. 2.

    Raises ValueError for an unknown kind, or for `relativistic` without `real_logits`.
    """
    return _pick(_GENERATOR, kind)(fake_logits, real_logits)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean over the batch of the squared gradient norm |d logit / d image|^2, a scalar in float32.

    Mescheder et al. 2018 (arXiv 1801.04406) eq. 9: R1 when `images` (B, ...) are real, R2 (eq. 10) when they
    are generated. **Neither the 1/2 nor gamma is included**: the caller adds `gamma / 2 *
    gradient_penalty(...)`. Runs outside autocast on float32 images, because squared gradients leave the range
    of fp16. `images` are detached, so the penalty reaches the discriminator's weights alone. Each logit must
    depend on its own image only, or the mixing (batch statistics) is counted in.
    """
    with torch.autocast(images.device.type, enabled=False), torch.enable_grad():
        images = images.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()


def _minimax_d(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(fake).mean()


def _hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def _relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    return _paired(real, fake)


def _minimax_g(fake: Tensor, real: Tensor | None) -> Tensor:
    return -softplus(fake).mean()


def _non_saturating_g(fake: Tensor, real: Tensor | None) -> Tensor:
    return softplus(-fake).mean()


def _hinge_g(fake: Tensor, real: Tensor | None) -> Tensor:
    return -fake.mean()


def _least_squares_g(fake: Tensor, real: Tensor | None) -> Tensor:
    return (fake - 1).square().mean() / 2


def _relativistic_g(fake: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        raise ValueError("the relativistic generator loss compares with real images: pass real_logits")
    return _paired(fake, real)


def _paired(better: Tensor, worse: Tensor) -> Tensor:
    if better.shape != worse.shape:  # broadcasting would silently compare everything with everything
        raise ValueError(f"relativistic pairs need equal shapes, not {(*better.shape,)} and {(*worse.shape,)}")
    return softplus(worse - better).mean()


_DISCRIMINATOR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "minimax": _minimax_d,
    "non_saturating": _minimax_d,
    "hinge": _hinge_d,
    "least_squares": _least_squares_d,
    "relativistic": _relativistic_d,
}
_GENERATOR: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "minimax": _minimax_g,
    "non_saturating": _non_saturating_g,
    "hinge": _hinge_g,
    "least_squares": _least_squares_g,
    "relativistic": _relativistic_g,
}


def _pick(table: dict[str, _F], kind: str) -> _F:
    if kind not in table:
        raise ValueError(f"unknown objective {kind!r}; one of {', '.join(table)}")
    return table[kind]
