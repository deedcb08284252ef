"""Scores of predicted images against their targets, per image, in units of the range [0, 1]."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

WORST_DB = 100.0  # PSNR of identical images, which would be infinite
LEAST_SSIM = 6  # pixels per side: the window's mirrored border is 5


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of each image (N,), from (N, C, H, W) in [0, 1]."""
    return (prediction - target).abs().flatten(1).mean(1)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each image (N,)."""
    return (prediction - target).square().flatten(1).mean(1)


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (N,) in dB for the range 1: -10 log10 of its MSE, at most 100."""
    return -10 * mse(prediction, target).clamp(min=10 ** (-WORST_DB / 10)).log10()


def ssim(prediction: Tensor, target: Tensor) -> Tensor:
    """SSIM (Wang et al. 2004) of each image (N,), window 11, sigma 1.5, mirrored borders as torchmetrics has them.

    Sides are at least 6 pixels.
    """
    found = structural_similarity_index_measure(prediction, target, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found.reshape(len(prediction), -1).mean(1)


class PairScores:
    """Means over a set that arrives in chunks; equal for any chunking up to float64 rounding.

    ``variance_ratio`` is the variance among outputs relative to that among targets: it falls towards 0 when every
    output is the mean face (published as "posterior collapse").
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._images = 0
        self._moments: dict[str, list[Tensor]] = {}

    def add(self, prediction: Tensor, target: Tensor) -> None:
        """Add images (N, C, H, W) in [0, 1]; predictions are clamped, as in a file."""
        prediction, target = prediction.float().clamp(0, 1), target.float()
        for name, score in (("mae", mae), ("mse", mse), ("psnr", psnr), ("ssim", ssim)):
            found = float(score(prediction, target).double().sum())
            self._sums[name] = self._sums.get(name, 0.0) + found
        self._images += len(target)
        for name, images in (("prediction", prediction), ("target", target)):
            doubles = images.double()
            parts = [doubles.sum(0), doubles.square().sum(0)]
            before = self._moments.get(name)
            self._moments[name] = parts if before is None else [a + b for a, b in zip(before, parts, strict=True)]

    def means(self) -> dict[str, float]:
        """The scores by name; empty for an empty set."""
        if not self._images:
            return {}
        scores = {name: total / self._images for name, total in self._sums.items()}
        own, right = (self._variance(name) for name in ("prediction", "target"))
        return {**scores, "variance_ratio": own / right if right else 1.0}

    def _variance(self, name: str) -> float:
        total, squares = (part / self._images for part in self._moments[name])
        return float((squares - total.square()).clamp(min=0).mean())
