"""Predictors of attributes, which judge edits: small networks that share nothing with the model that they judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation.baselines import VALUES

WIDTHS = (16, 32, 64, 96)
PASSES, BATCH, RATE = 12, 64, 3e-3
AT_ONCE = 256  # images judged at a time
MOST = 8000  # faces that teach
PROTOCOL = {
    "network": f"{len(WIDTHS)} convolutions of {', '.join(map(str, WIDTHS))} channels, one output for each attribute",
    "training": f"{PASSES} passes in batches of {BATCH}, AdamW, one cycle up to {RATE:g}, mirrored at random",
    "loss": "cross entropy, both classes of an attribute weighed alike, unknown labels left out",
}
Say = Callable[[str], None]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Predictor:
    """A trained network: which attributes it sees in images (N, C, H, W) in [-1, 1]; ``columns`` are its outputs."""

    names: tuple[str, ...]
    network: nn.Module
    columns: tuple[int, ...]
    device: torch.device = CPU

    def __call__(self, images: Tensor) -> NDArray[np.bool_]:
        """(N, A): whether each image has each attribute."""
        return self.logits(images) > 0

    @torch.no_grad()
    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """(N, A): how surely each image has each attribute; 0 where that is open."""
        seen = [self.network(part.to(self.device)).cpu() for part in images.split(AT_ONCE)]
        return torch.cat(seen)[:, list(self.columns)].numpy()

    def only(self, names: Sequence[str]) -> Predictor:
        """The same network, asked for some of its attributes."""
        columns = tuple(self.columns[self.names.index(name)] for name in names)
        return Predictor(tuple(names), self.network, columns, self.device)


def build(channels: int, attributes: int) -> nn.Sequential:
    """A network of (N, C, H, W) in [-1, 1] with a logit for each attribute, (N, A); any size from 1 pixel."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((channels, *WIDTHS)):
        pool = nn.MaxPool2d(2, ceil_mode=True)
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), pool]
    last = nn.Linear(4 * WIDTHS[-1], attributes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), last)


def fit(
    names: tuple[str, ...],
    images: Tensor,
    labels: NDArray[np.floating],
    seed: int,
    device: torch.device,
    say: Say = lambda text: None,
) -> Predictor:
    """Train on images (N, C, H, W) in [-1, 1] and labels (N, A) of 0, 1 and nan where unknown.

    The same on the same kind of processor for the same seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(counter_rng.key(seed, "edits/predictor") >> 1)
        network = build(images.shape[1], len(names)).to(device)
        _train(network, images, torch.from_numpy(np.asarray(labels, np.float32)), seed, say)
    return Predictor(names, network.eval().requires_grad_(False), tuple(range(len(names))), device)


def of_faces(
    data: FaceData,
    labels: Mapping[str, NDArray[np.floating]],
    rows: NDArray[np.integer],
    held_out: NDArray[np.integer],
    seed: int,
    device: torch.device,
    say: Say = lambda text: None,
) -> tuple[Predictor, dict[str, float]]:
    """A predictor taught by some rows of the packed cache, and its balanced accuracy for each attribute on others.

    ``labels`` (faces,) of each attribute are 0, 1 and nan where unknown. Of more than ``MOST`` rows, or than fit into
    memory, it is taught by a keyed subset.
    """
    most = min(MOST, VALUES // data.pictures(rows[:1]).numel(), len(rows))
    chosen = rows[np.sort(counter_rng.permutation(seed, "predictors/taught", 0, len(rows))[:most])]
    columns = np.stack(list(labels.values()), axis=1)
    predictor = fit(tuple(labels), data.pictures(chosen), columns[chosen], seed, device, say)
    seen, real = predictor(data.pictures(held_out)), columns[held_out]
    return predictor, {name: balanced_accuracy(seen[:, n], real[:, n]) for n, name in enumerate(labels)}


def _train(network: nn.Module, images: Tensor, labels: Tensor, seed: int, say: Say) -> None:
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = PASSES * max(1, len(images) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    weights = ((labels == 0).sum(0) / (labels == 1).sum(0).clamp(min=1)).to(device)
    for step in range(steps):
        rows = counter_rng.order(seed, len(images), range(step * BATCH, (step + 1) * BATCH))
        batch, mirrored = images[rows], torch.rand(BATCH) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
        loss = _loss(network(batch.to(device)), labels[rows].to(device), weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        if step % 20 == 0:
            say(f"predictors {step}/{steps}")


def _loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over the known labels; ``weights`` (A,) are those of faces that have an attribute."""
    known = ~labels.isnan()
    found = functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(), pos_weight=weights, reduction="none"
    )
    return (found * known).sum() / known.sum().clamp(min=1)


def balanced_accuracy(seen: NDArray[np.bool_], labels: NDArray[np.floating]) -> float:
    """The mean of the shares found among faces with (1) and without (0) an attribute, of decisions and labels (N,).

    0.5 is chance, however rare the attribute (Brodersen et al. 2010). nan if one of the two kinds is missing.
    """
    shares = [float((seen[labels == value] == bool(value)).mean()) for value in (0, 1) if (labels == value).any()]
    return sum(shares) / 2 if len(shares) == 2 else float("nan")
