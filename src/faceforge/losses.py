"""Losses: image losses, the KL divergence of codes, and adversarial objectives on logits.

**Images** are in [0, 1]; an image loss takes a prediction and a target of the same shape (B, C, H, W) and returns a
scalar, the mean over all values, so that it is comparable across sizes and batch sizes.

**Adversarial objectives** are computed from logits. A logit is the discriminator's output before any sigmoid: positive
means "real". Every function takes logits of any shape (normally (B,)) and returns a scalar, the mean over all of them.
For the probabilities D(x) of the papers, D(x) = sigmoid(logit) and -log D(x) = softplus(-logit), which does not
saturate in floating point and needs no clamp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, l1_loss, mse_loss, normalize, relu, softplus
from torchmetrics.functional.image import structural_similarity_index_measure

Objective = Literal["minimax", "non_saturating", "hinge", "least_squares", "relativistic"]
Unpaired = Literal["minimax", "non_saturating", "hinge", "least_squares"]  # which use each image separately
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


def discriminator_loss(kind: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The discriminator loss, a scalar.

    - `minimax`, `non_saturating`: -log D(x) - log(1 - D(G(z))), Goodfellow et al. 2014 (arXiv 1406.2661) eq.
      1.
    - `hinge`: max(0, 1 - x) + max(0, 1 + G), Lim and Ye 2017 (arXiv 1705.02894); Miyato et al. 2018 eq. 16.
    - `least_squares`: half of (x - 1)^2 + G^2, Mao et al. 2017 (arXiv 1611.04076) eq. 9, on the raw logit.
    - `relativistic`: softplus(-(x - G)) of pairs, Huang et al. 2024 (R3GAN, arXiv 2501.05441) eq. 2; needs as
      many real as fake logits.

    The two BCE terms are added, not averaged, as in eq. 1. Raises ValueError for an unknown kind.
    """
    return terms(kind).discriminator(real_logits, fake_logits)


def generator_loss(kind: Objective, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
    """The generator loss, a scalar. Only `relativistic` needs `real_logits`.

    - `minimax`: log(1 - D(G(z))), Goodfellow et al. 2014 eq. 1: the generator maximises the discriminator's
      own BCE against the label 0. Its gradient vanishes while the discriminator wins (saturates).
    - `non_saturating`: -log D(G(z)), the same paper, section 3: BCE against the label 1.
    - `hinge`: -G, Miyato et al. 2018 (arXiv 1802.05957) eq. 17.
    - `least_squares`: half of (G - 1)^2, Mao et al. 2017 eq. 9.
    - `relativistic`: softplus(-(G - x)) of pairs, Huang et al. 2024 eq. 2.

    Raises ValueError for an unknown kind, or for `relativistic` without `real_logits`.
    """
    found = terms(kind)
    if real_logits is None and found.paired:
        raise ValueError(f"the {kind} generator loss: real_logits must be given")
    return found.generator(fake_logits, fake_logits if real_logits is None else real_logits)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean over the batch of the squared gradient norm |d logit / d image|^2, a scalar in float32.

    Mescheder et al. 2018 (arXiv 1801.04406) eq. 9: R1 when `images` (B, ...) are real, R2 (eq. 10) when they
    are generated. **Neither the 1/2 nor gamma is included**: the caller adds `gamma / 2 *
    gradient_penalty(...)`. Runs outside autocast on float32 images, because squared gradients exceed the range
    of fp16. `images` are detached, so that only the discriminator's weights receive gradients. Each logit must
    depend on its own image only; batch statistics would add cross terms.
    """
    with torch.autocast(images.device.type, enabled=False), torch.enable_grad():
        images = images.detach().float().requires_grad_(True)
        (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
        return gradient.square().flatten(1).sum(1).mean()


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of a discriminator's maps of real and generated images, averaged over maps: a scalar.

    Wang et al. 2018 (arXiv 1711.11585), eq. 3, with a mean in place of the sum over layers.
    """
    return torch.stack([l1_loss(b, a) for a, b in zip(real, fake, strict=True)]).mean()


@dataclass(frozen=True)
class Terms:
    """One adversarial objective. Logits have any shape, losses are scalars."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # loss from real and fake logits
    generator: Callable[[Tensor, Tensor], Tensor]  # loss from fake and real logits
    sure: Callable[[Tensor, Tensor], Tensor]  # bool, from real and fake logits: certain and correct
    signal: Callable[
        [Tensor, Tensor], Tensor
    ]  # from real and fake logits: |derivative of the generator's loss| by each
    paired: bool = False  # whether the generator's loss uses real logits


SURE = log(99)  # the logit at which the sigmoid is 0.99
LABEL_ERROR = 0.1  # a least-squares discriminator this close to its labels has stopped learning


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(fake).mean()


def _hinge(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean() + relu(1 + fake).mean()


def _least_squares(real: Tensor, fake: Tensor) -> Tensor:
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def _paired(better: Tensor, worse: Tensor) -> Tensor:
    if better.shape != worse.shape:  # broadcasting would silently compare all pairs
        raise ValueError(f"relativistic pairs need equal shapes, not {(*better.shape,)} and {(*worse.shape,)}")
    return softplus(worse - better).mean()


def _beyond(real_least: float, fake_most: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda real, fake: torch.cat([(real > real_least).flatten(), (fake < fake_most).flatten()])


TERMS: dict[Objective, Terms] = {
    "minimax": Terms(
        discriminator=_cross_entropy,
        generator=lambda fake, real: -softplus(fake).mean(),
        sure=_beyond(SURE, -SURE),
        signal=lambda real, fake: torch.sigmoid(fake),
    ),
    "non_saturating": Terms(
        discriminator=_cross_entropy,
        generator=lambda fake, real: softplus(-fake).mean(),
        sure=_beyond(SURE, -SURE),
        signal=lambda real, fake: torch.sigmoid(-fake),
    ),
    "hinge": Terms(
        discriminator=_hinge,
        generator=lambda fake, real: -fake.mean(),
        sure=_beyond(1.0, -1.0),
        signal=lambda real, fake: torch.ones_like(fake),
    ),
    "least_squares": Terms(
        discriminator=_least_squares,
        generator=lambda fake, real: (fake - 1).square().mean() / 2,
        sure=_beyond(1 - LABEL_ERROR, LABEL_ERROR),
        signal=lambda real, fake: (fake - 1).abs(),
    ),
    "relativistic": Terms(
        discriminator=_paired,
        generator=_paired,
        sure=lambda real, fake: real - fake > SURE,
        signal=lambda real, fake: torch.sigmoid(real - fake),
        paired=True,
    ),
}


def terms(kind: Objective) -> Terms:
    """An objective by name. Raises ValueError for an unknown one."""
    if kind not in TERMS:
        raise ValueError(f"unknown objective {kind!r}; must be one of {', '.join(TERMS)}")
    return TERMS[kind]


# -------------------------------------------------------------------------------------------------------- image losses


class L1(nn.Module):
    """Mean absolute error."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar, in units of the range [0, 1]."""
        return l1_loss(prediction, target)


class MSE(nn.Module):
    """Mean squared error."""

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar, in squared units of the range [0, 1]."""
        return mse_loss(prediction, target)


class BCE(nn.Module):
    """Binary cross entropy of pixel values as probabilities, in nats.

    Its minimum is the entropy of the target, not 0, so it is not comparable with other losses. Predictions outside
    [0, 1] are clamped and get no gradient: networks need a sigmoid for this loss.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar. Computed outside autocast, where it would be unsafe."""
        with torch.autocast(prediction.device.type, enabled=False):
            return binary_cross_entropy(prediction.float().clamp(0, 1), target.float().clamp(0, 1))


class Charbonnier(nn.Module):
    """sqrt(d^2 + epsilon^2), an L1 smoothed at 0 (Charbonnier et al. 1994; Lai et al. 2017, 1710.01992)."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar, in units of the range [0, 1]; epsilon for equal images."""
        return ((prediction - target).square() + self.epsilon**2).sqrt().mean()


class SSIM(nn.Module):
    """1 - SSIM (Wang et al. 2004), Gaussian window of 11 with sigma 1.5, range 1; 0 for equal images.

    As in torchmetrics, with mirrored borders; the authors omit the borders.
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar in [0, 2]. Computed in float32: squares of small variances underflow in 16 bits."""
        with torch.autocast(prediction.device.type, enabled=False):
            similarity = structural_similarity_index_measure(prediction.float(), target.float(), data_range=1.0)
        assert isinstance(similarity, Tensor)
        return 1 - similarity


class OfFrozen(nn.Module):
    """A loss by a frozen network: its weights get no gradient and are not in checkpoints. It follows the loss to its
    device."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._frozen = (network.requires_grad_(False).eval(),)  # a tuple keeps it from being a submodule

    @property
    def network(self) -> nn.Module:
        """The network, in eval mode."""
        return self._frozen[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OfFrozen:
        """Move the network too, in ``to``, ``cpu``, ``cuda`` and the like."""
        self.network._apply(fn)
        return super()._apply(fn, recurse)


class Perceptual(OfFrozen):
    """Distance of feature maps (Zhang et al. 2018, arXiv 1801.03924, eq. 1 with all weights 1).

    ``features`` returns a list of maps (B, C_l, H_l, W_l) for images in [0, 1]; each is normalised to unit length along
    its channels, and the squared differences are summed over channels and averaged over positions and maps.
    """

    def __init__(self, features: nn.Module) -> None:
        super().__init__(features)

    @property
    def features(self) -> nn.Module:
        """The feature network, in eval mode."""
        return self.network

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar, 0 for equal images, at most 4."""
        pairs = zip(self.features(prediction), self.features(target), strict=True)
        distances = [(normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1).mean() for a, b in pairs]
        return torch.stack(distances).mean()


class Identity(OfFrozen):
    """How far a prediction is from the person of its target: 1 - similarity, as `metrics.identity.Similarity` gives it.

    ``similarity`` returns the similarity (B,), at most 1, of images (B, C, H, W) in [-1, 1] before and after. Alone it
    asks for the features of a person and not for a picture: it is added to another loss (`Weighted`).
    """

    def __init__(self, similarity: nn.Module) -> None:
        super().__init__(similarity)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar, 0 for equal images. Computed outside autocast."""
        with torch.autocast(prediction.device.type, enabled=False):
            return (1 - self.network(2 * target - 1, 2 * prediction - 1)).mean()


class Weighted(nn.Module):
    """A weighted sum of image losses. One with weight 0 is dropped."""

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        if len(losses) != len(weights):
            raise ValueError(f"{len(losses)} losses and {len(weights)} weights: must be one weight per loss")
        used = [(loss, weight) for loss, weight in zip(losses, weights, strict=True) if weight]
        self.losses, self.weights = nn.ModuleList(loss for loss, _ in used), [weight for _, weight in used]

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar."""
        terms = [w * loss(prediction, target) for loss, w in zip(self.losses, self.weights, strict=True)]
        return torch.stack(terms).sum() if terms else 0 * prediction.sum()


# ------------------------------------------------------------------------------------------------------------- codes


def kl_units(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of every unit in nats, averaged over the batch: (Z,) from (B, Z).

    Kingma and Welling 2014 (arXiv 1312.6114), appendix B, without its sum over units.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)


def kl_loss(units: Tensor, free_nats: float) -> Tensor:
    """The sum over units (Z,) with a floor of ``free_nats`` each (Kingma et al. 2016, 1606.04934, eq. 15).

    A unit below the floor has no gradient: it is not pushed further towards the prior.
    """
    return units.clamp(min=free_nats).sum()
