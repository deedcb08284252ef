"""Health figures of a training, each of which detects one failure; pure functions of tensors.

Images are (N, C, H, W) in [-1, 1]. Figures relative to real faces are 1 if outputs are like real faces. They do not
measure quality: images may be diverse, clean and not faces. Images and codes are processed on the CPU in float64, which
not every device has; logits on their own device, without synchronising.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from faceforge.losses import Objective, kl_units, terms

SIDE = 16  # comparison size: insensitive to noise and small shifts, sensitive to faces and light
LOOKED_AT = 64  # images whose spectra a validation computes; more add little
SMALLEST = 16  # smaller sides have no room for a spectral peak and its surroundings
TILE = 64
UNSEEN = 4 / 255  # deviation of invisible noise
ACTIVE_VARIANCE = 0.01


# ------------------------------------------------------------------------------------------- outputs and their targets


def variance_ratio(outputs: Tensor, targets: Tensor) -> float:
    """Variance over a set of outputs relative to that of their targets, both averaged over pixels; 0 or more.

    0: always the same image. 1: outputs vary as much as targets. A regression with squared error reaches the share of
    variance that the input explains, so a healthy run on a hard task ends below 1.
    """
    own, right = (images.double().var(0, correction=0).mean() for images in (outputs, targets))
    return float(own / right) if right > 0 else 1.0


def mean_face_distance(outputs: Tensor, targets: Tensor, mean_face: Tensor) -> float:
    """RMS distance of outputs to the mean training face (C, H, W), relative to that of the targets; 0 or more.

    0: every output is the mean face, published as "posterior collapse". 1: outputs are as far from it as faces are. A
    constant image other than the mean face has a variance ratio of 0, but is not near 0 here.
    """
    own, right = ((images - mean_face).double().square().mean() for images in (outputs, targets))
    return float((own / right).sqrt()) if right > 0 else 1.0


def of_outputs(outputs: Tensor, targets: Tensor, mean_face: Tensor) -> dict[str, float]:
    """Figures of outputs that a validation logs as ``val/...``; checkerboards if the size allows."""
    scores = {"val/mean_face_distance": mean_face_distance(outputs, targets, mean_face)}
    if min(targets.shape[-2:]) >= SMALLEST:
        scores["val/checkerboard"] = checkerboard_energy(outputs[:LOOKED_AT], targets[:LOOKED_AT])
    return scores


def gap(train: float, validation: float) -> float:
    """Relative excess of the validation error: validation / train - 1.

    0: no gap. 0.2 is usual on small sets; the published dense network, called overfitted, ends at 0.46 in MAE, the
    published convolutional one, called not overfitted, at 0.24. Nan if the training error is 0.
    """
    return validation / train - 1 if train > 0 else float("nan")


# ------------------------------------------------------------------------------------------------------ generated faces


def diversity(generated: Tensor, real: Tensor) -> float:
    """Mean distance between two generated faces relative to two real ones, at 16x16; 0 or more.

    0: one image for every z. 1: as different as real faces. It does not detect a generator with only a few faces: see
    ``nearest``. Sets of 256 real faces score within 3 % of 1, sets of 64 within 5 %.
    """
    return float(_distances(generated).mean() / _distances(real).mean())


def nearest(generated: Tensor, real: Tensor) -> float:
    """Mean nearest-neighbour distance of generated faces relative to that of as many real faces.

    0: each face has a duplicate. 1: as for real faces.
    """
    count = min(len(generated), len(real))
    own, right = (_distances(images[:count]).min(1).values.mean() for images in (generated, real))
    return float(own / right)


def _distances(images: Tensor) -> Tensor:
    """RMS distance of each image to each other one (N, N - 1), in units of the range [0, 1]. N is 2 or more."""
    sizes = min(images.shape[-2], SIDE), min(images.shape[-1], SIDE)
    small = F.adaptive_avg_pool2d(images.float(), sizes).flatten(1).double() / 2
    distances = torch.cdist(small, small) / small.shape[1] ** 0.5
    n = len(images)
    return distances.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)  # without the diagonal


def of_generated(generated: Tensor, real: Tensor) -> dict[str, float]:
    """Figures of generated faces that a validation logs as ``val/...``; checkerboards if the size allows."""
    scores = {"val/diversity": diversity(generated, real), "val/nearest": nearest(generated, real)}
    if min(real.shape[-2:]) >= SMALLEST:
        scores["val/checkerboard"] = checkerboard_energy(generated[:LOOKED_AT], real[:LOOKED_AT])
    return scores


# ------------------------------------------------------------------------------------------------------- checkerboards


def checkerboard_energy(images: Tensor, real: Tensor) -> float:
    """Spectral peaks of periodic patterns, relative to real images; 1 is clean.

    A transposed convolution treats pixels unequally with a period of 2, deeper ones with 4 (Odena et al. 2016, distill
    10.23915/00003), which repeats the spectrum's centre around the frequencies that are multiples of pi or pi / 2:
    peaks where natural spectra are flat. At each of them the energy (3x3 frequencies) is divided by that of its
    surroundings (the ring 3 frequencies away), then by the same ratio of real images, and averaged; the larger of both
    periods is returned. Noise and blur have no such peaks. Measured on sets of 64 faces of 64x64: real ones 0.8 to
    1.3, a healthy generator 1.2, those with visible patterns 5 to 24; an added pattern of 1/255, 10.

    Spectra are means over 64x64 tiles with a Hann window (Welch 1967), so that the size matters little. Energy below
    ``UNSEEN`` has little weight. Raises ValueError for sides below 16.
    """
    own, right = _spectrum(images), _spectrum(real)
    periods = (2, 4) if min(own.shape) >= 32 else (2,)
    return max(float((_prominence(own, period) / _prominence(right, period)).mean()) for period in periods)


def _spectrum(images: Tensor) -> Tensor:
    """Mean power per frequency (h, w), scaled so that white noise of variance s has s everywhere."""
    if min(images.shape[-2:]) < SMALLEST:
        raise ValueError(f"checkerboards: sides must be at least {SMALLEST}, not {images.shape[-2]}x{images.shape[-1]}")
    height, width = (min(side, TILE) for side in images.shape[-2:])
    tiles = _tiles(_tiles(images.float() / 2, -2, height), -2, width)  # an unfolded dimension moves to the end
    window = torch.outer(*(torch.hann_window(side, periodic=False) for side in (height, width))).to(images.device)
    power = torch.fft.fft2((tiles - tiles.mean((-2, -1), keepdim=True)) * window).abs().square()
    return (power.flatten(0, -3).mean(0) / window.square().sum()).cpu()


def _tiles(images: Tensor, dimension: int, size: int) -> Tensor:
    """Evenly spaced tiles over a dimension: about as many as fit side by side."""
    length = images.shape[dimension]
    count = max(1, round(length / size))
    return images.unfold(dimension, size, (length - size) // (count - 1) if count > 1 else size)


def _prominence(power: Tensor, period: int) -> Tensor:
    """Energy at each frequency of a period relative to its surroundings: 3 numbers for period 2, 12 more for 4."""
    around = torch.arange(-3, 4)
    ring = torch.maximum(around.abs()[:, None], around.abs())
    found = []
    for row in range(period):
        for column in range(period):
            if row % 2 == column % 2 == 0:
                continue  # the mean, or a frequency of period 2
            rows = (round(row * power.shape[0] / period) + around) % power.shape[0]
            columns = (round(column * power.shape[1] / period) + around) % power.shape[1]
            patch = power[rows][:, columns] + UNSEEN**2
            found.append(patch[ring <= 1].mean() / patch[ring == 3].median())
    return torch.stack(found)


# --------------------------------------------------------------------------------------------------------------- codes


def active_units(means: Tensor, relative: bool = False) -> int:
    """The number of active units of a code (N, Z): those whose mean has a variance above 0.01 over a set.

    Burda et al. 2016 (arXiv 1509.00519), section 5.2, for posterior means with prior N(0, 1). A deterministic code has
    no natural scale: with ``relative``, variances are divided by their mean over all units; the last of 128 principal
    components of faces has 0.06.
    """
    variance = means.double().var(0, correction=0)
    limit = ACTIVE_VARIANCE * (float(variance.mean()) if relative else 1.0)
    return int((variance > limit).sum())


def of_codes(means: Tensor, log_variances: Tensor | None) -> dict[str, float]:
    """Figures of codes (N, Z) that a validation logs as ``val/...``: active units and, for posteriors, the KL
    divergence from N(0, 1) in nats, summed over units.
    """
    if log_variances is None:
        return {"val/active_units": active_units(means, relative=True)}
    return {"val/active_units": active_units(means), "val/kl": float(kl_units(means, log_variances).sum())}


# ------------------------------------------------------------------------------------------------------- discriminators


def saturation(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Share of faces on which the discriminator is certain and correct, a scalar in [0, 1]; no gradient is kept.

    Certain means a sigmoid beyond 0.99 (of a pair's difference if the objective is relativistic), beyond the hinge
    margin, or within 0.1 of the least-squares label. 1: the discriminator has won. Below 0.5 is healthy.
    """
    real, fake = real_logits.detach().float(), fake_logits.detach().float()
    return terms(objective).sure(real, fake).float().mean()


def generator_signal(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Mean absolute derivative of the generator's loss by its logits, a scalar: 1 is the full signal of any
    objective, 0 no signal. No gradient is kept.

    ``minimax``: sigmoid(fake), which vanishes while the discriminator wins. ``non_saturating``: 1 - sigmoid(fake);
    ``hinge``: 1; ``least_squares``: |fake - 1|; ``relativistic``: sigmoid(real - fake).
    """
    real, fake = real_logits.detach().float(), fake_logits.detach().float()
    return terms(objective).signal(real, fake).mean()


def of_discriminator(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Figures of the logits of some steps: scalars on their device, without a graph."""
    real_logits, fake_logits = real_logits.detach().float(), fake_logits.detach().float()
    return {
        "logit/real": real_logits.mean(),
        "logit/fake": fake_logits.mean(),
        "discriminator/saturation": saturation(objective, real_logits, fake_logits),
        "discriminator/signal": generator_signal(objective, real_logits, fake_logits),
    }
