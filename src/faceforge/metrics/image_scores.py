"""All scores of images against targets, for several rows of outputs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor, nn

from faceforge.errors import BadInput
from faceforge.losses import Perceptual
from faceforge.metrics import identity, pairs
from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.features.base import Maps
from faceforge.metrics.features.squeezenet import SqueezeNetMaps
from faceforge.metrics.table import full_name, metric_of
from faceforge.metrics.units import Groups

HOW = {
    "psnr": "mean over images of -10 log10(MSE), range 1, at most 100",
    "ssim": "window 11, sigma 1.5, mirrored borders, range 1, mean over channels (torchmetrics)",
    "mae": "mean absolute error, range 1",
    "mse": "mean squared error, range 1",
    "ciede2000": "mean over pixels of CIEDE2000, sRGB, D65 (scikit-image)",
    "perceptual": "squared distance of feature maps of unit length, mean over places and maps (Zhang et al. 2018)",
    **identity.HOW,
}


def colour_error(prediction: Tensor, target: Tensor) -> Tensor:
    """CIEDE2000 (Sharma, Wu and Dalal 2005) of each sRGB image (N, 3, H, W) in [0, 1], mean over pixels: (N,) float64.

    White is D65, seen by the 2 degree observer. A difference of 1 is about just noticeable.
    """
    a, b = (rgb2lab(images.detach().cpu().double().numpy(), channel_axis=1) for images in (prediction, target))
    return torch.from_numpy(deltaE_ciede2000(a, b, channel_axis=1)).flatten(1).mean(1)


def perceptual(maps: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """`losses.Perceptual` of each image (N,), from feature maps of predictions and targets, each (N, C_l, H_l, W_l)."""
    distance = Perceptual(nn.Identity())
    images = range(len(maps[0]))
    return torch.stack([distance([m[n : n + 1] for m in maps], [m[n : n + 1] for m in right]) for n in images])


class ImageScores:
    """Scores of each image against its target; ``reasons`` names those left out for these images, and why."""

    def __init__(self, channels: int, height: int, width: int, device: torch.device) -> None:
        self.device = device
        self.reasons: dict[str, str] = {}
        self._maps = self._feature_maps()
        self._faces = self._face_network(min(height, width))
        self._descriptions: list[Tensor] = []  # of the targets, each aligned by its own points
        self._aligned = 0
        if channels != 3:
            self.reasons["ciede2000"] = "the targets are grey"
        if min(height, width) < pairs.LEAST_SSIM:
            self.reasons["ssim"] = f"needs {pairs.LEAST_SSIM} pixels a side, the targets have {min(height, width)}"

    def _feature_maps(self) -> Maps | None:
        """Not of EfficientNet-lite0, with which perceptual losses train: a model learns to please its own."""
        try:
            return SqueezeNetMaps().to(self.device)
        except BadInput as error:  # without its weights the other scores remain valid
            self.reasons["perceptual"] = str(error)
            return None

    def _face_network(self, side: int) -> DlibFace | None:
        reason = f"needs {identity.LEAST_SIDE} pixels a side, the targets have {side}"
        if side >= identity.LEAST_SIDE:
            try:
                return DlibFace().to(self.device)
            except BadInput as error:
                reason = str(error)
        self.reasons |= dict.fromkeys(identity.HOW, reason)
        return None

    @property
    def names(self) -> list[str]:
        """The scores that are computed."""
        return [self._named(name) for name in HOW if name not in self.reasons]

    def _named(self, metric: str) -> str:
        """The full name of a score, with its network where it has one."""
        network = {"perceptual": self._maps, **dict.fromkeys(identity.HOW, self._faces)}.get(metric)
        return full_name(metric, network.key) if network else metric

    def protocol(self, name: str) -> dict[str, Any]:
        """The protocol of a score."""
        metric = metric_of(name)
        extra: dict[str, Any] = self._maps.protocol if metric == "perceptual" and self._maps else {}
        if metric in identity.HOW and self._faces:
            faces = sum(map(len, self._descriptions))
            extra = {**self._faces.protocol, "not_aligned": faces - self._aligned, "threshold": identity.THRESHOLD}
        return {"metric": HOW[metric], **extra, "outputs": "clamped to [0, 1], not rounded"}

    def between_people(self, groups: Groups) -> dict[str, Any]:
        """`identity.between_people` of all targets so far, of whom ``groups`` names the people; empty without it."""
        return identity.between_people(torch.cat(self._descriptions), groups) if self._descriptions else {}

    @torch.no_grad()
    def __call__(self, rows: Mapping[str, Tensor], target: Tensor) -> dict[str, dict[str, Tensor]]:
        """{row: {score: (N,) float64}} of outputs (N, C, H, W) in [-1, 1], clamped, against such targets."""
        right, made = _unit(target), {row: _unit(outputs) for row, outputs in rows.items()}
        maps = self._maps(right.float().to(self.device)) if self._maps else None
        scores = {row: self._score(outputs, right, maps) for row, outputs in made.items()}
        for row, alike in self._identity(made, right).items():
            found = {"identity": alike, "same_person": identity.same_person(alike).double()}
            scores[row] |= {self._named(metric): values for metric, values in found.items()}
        return scores

    def _identity(self, made: Mapping[str, Tensor], right: Tensor) -> dict[str, Tensor]:
        """The similarity (N,) of each row's outputs to the targets; empty without a network."""
        if self._faces is None:
            return {}
        pictures = [(2 * images - 1).float().to(self.device) for images in (right, *made.values())]
        (own, *others), aligned = self._faces.describe(pictures)
        self._descriptions.append(own.cpu())
        self._aligned += int(aligned.sum())
        return {row: identity.similarity(own, of).cpu().double() for row, of in zip(made, others, strict=True)}

    def _score(self, made: Tensor, right: Tensor, maps: list[Tensor] | None) -> dict[str, Tensor]:
        scores = {"mae": pairs.mae(made, right), "mse": pairs.mse(made, right), "psnr": pairs.psnr(made, right)}
        if "ssim" not in self.reasons:
            scores["ssim"] = pairs.ssim(made.float(), right.float()).double()  # many times faster than float64
        if "ciede2000" not in self.reasons:
            scores["ciede2000"] = colour_error(made, right)
        if self._maps is not None and maps is not None:
            scores[self._named("perceptual")] = (
                perceptual(self._maps(made.float().to(self.device)), maps).cpu().double()
            )
        return scores


def _unit(images: Tensor) -> Tensor:
    """[-1, 1] to [0, 1] in float64, in which sums do not depend on the chunk size."""
    return (images.double() + 1).div(2).clamp(0, 1)
