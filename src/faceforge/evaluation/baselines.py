"""Baselines that need little or no training, as rows of the score tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from faceforge import counter_rng
from faceforge.data import tasks
from faceforge.metrics.linear import LinearFilter, Pca

Batch = Mapping[str, Tensor]
FITTED = 5_000  # maximum of training faces
VALUES = 100_000_000  # maximum of numbers in them: 400 MB
FILTER = 7  # pixels per side of the linear filter of super-resolution
MAP = 3  # and the linear map of the other tasks
CODE = 128  # components if the model has no code


@dataclass(frozen=True)
class Baseline:
    """A row: its name, its description, and its outputs (N, C, H, W) for a batch of pairs, all in [-1, 1]."""

    name: str
    how: str
    outputs: Callable[[Batch], Tensor]


class Fitting:
    """Faces to fit on: the same keyed subset of the training split for every baseline."""

    def __init__(self, data: Any, seed: int, chunk: int) -> None:
        count = data.counts["train"]
        least = min(count, FITTED, max(2, VALUES // (data.channels * data.height * data.width)))
        self.data, self.chunk = data, chunk
        self.chosen = np.sort(counter_rng.permutation(seed, "evaluate/fit", 0, count)[:least])

    @property
    def count(self) -> int:
        """The number of faces."""
        return len(self.chosen)

    def pairs(self) -> Iterator[Batch]:
        """The pairs, in chunks."""
        for first in range(0, self.count, self.chunk):
            yield self.data.pairs("train", self.chosen[first : first + self.chunk])

    def targets(self) -> Tensor:
        """All targets (N, C, H, W)."""
        return torch.cat([pair["target"] for pair in self.pairs()])

    def mean(self) -> Tensor:
        """The mean target (1, C, H, W)."""
        total = sum(pair["target"].double().sum(0, keepdim=True) for pair in self.pairs())
        assert isinstance(total, Tensor)
        return (total / self.count).float()


def for_task(task: Any, fitting: Fitting, code_length: int | None = None) -> tuple[list[Baseline], list[str]]:
    """The baselines of a task, and notes on what is left out or special."""
    mean = _mean_face(fitting.mean())
    if isinstance(task, tasks.SuperResolution):
        return [*_enlargements(task), _fitted_enlargement(task, fitting), mean], []
    if isinstance(task, tasks.Autoencode):
        left_out = "Copying the input is left out: it would be perfect."
        return [_compression(fitting, code_length), mean], [left_out]
    rows = [_mean_colour(task, mean.outputs, fitting)]
    sample = next(fitting.pairs())
    if sample["input"].shape[2:] == sample["target"].shape[2:]:
        rows += [_copy(), _map(fitting)]
    return [mean, *(row for row in rows if row)], _notes(task)


def _notes(task: Any) -> list[str]:
    if isinstance(task, tasks.Average):
        whole = task.subset == "all"
        right = "the mean face" if whole else "the mean of each subset; the mean face here is that of all"
        return [f"Targets are other faces: in squared error the optimum is {right}; no model can be clearly better."]
    if isinstance(task, tasks.Noise):
        return ["The input is independent of the target: in squared error the optimum is the mean face."]
    return []


# ------------------------------------------------------------------------------------------------ super-resolution


def _enlargements(task: tasks.SuperResolution) -> list[Baseline]:
    def by(name: str, how: str, enlarge: Callable[[Tensor, int], Tensor]) -> Baseline:
        return Baseline(name, how, lambda batch: enlarge(_small(task, batch), task.factor))

    return [
        by("nearest", "pixels repeated", _interpolated("nearest")),
        by("bilinear", "torch, half-pixel centres", _interpolated("bilinear")),
        by("bicubic -0.75", "a = -0.75 as OpenCV and torch, borders repeated", _interpolated("bicubic")),
        by("bicubic -0.5", "a = -0.5 as Pillow, borders renormalised", _interpolated("bicubic", antialias=True)),
        by("Lanczos", "a = 3, Pillow, on floats", _lanczos),
    ]


def _interpolated(mode: str, **options: bool) -> Callable[[Tensor, int], Tensor]:
    return lambda small, factor: F.interpolate(small, scale_factor=factor, mode=mode, **options)


def _lanczos(small: Tensor, factor: int) -> Tensor:
    size = (small.shape[3] * factor, small.shape[2] * factor)
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS) for plane in small.flatten(0, 1).numpy()]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).unflatten(0, small.shape[:2])


def _small(task: tasks.SuperResolution, batch: Batch) -> Tensor:
    """The small faces; if the network takes upscaled inputs, they are computed from the target."""
    return task.reduce(batch["target"])


def _fitted_enlargement(task: tasks.SuperResolution, fitting: Fitting) -> Baseline:
    """One filter per output pixel of each input pixel (factor^2), the same for all channels."""

    def parts(batch: Batch) -> tuple[Tensor, Tensor]:
        planes = [_small(task, batch), batch["target"]]
        small, target = (images.flatten(0, 1)[:, None] for images in planes)
        return small, F.pixel_unshuffle(target, task.factor)

    fitted = LinearFilter(map(parts, fitting.pairs()), FILTER)

    def enlarge(batch: Batch) -> Tensor:
        small = _small(task, batch)
        made = F.pixel_shuffle(fitted(small.flatten(0, 1)[:, None]), task.factor)
        return made[:, 0].unflatten(0, small.shape[:2])

    how = f"least squares on {fitting.count:,} training faces, {FILTER}x{FILTER} pixels and a constant, for each phase"
    return Baseline(f"linear filter {FILTER}x{FILTER}", how, enlarge)


# ------------------------------------------------------------------------------------------------- every other task


def _mean_face(mean: Tensor) -> Baseline:
    return Baseline("mean face", "of the training faces", lambda batch: mean.expand(len(batch["target"]), -1, -1, -1))


def _compression(fitting: Fitting, code_length: int | None) -> Baseline:
    pca = Pca(fitting.targets(), code_length or CODE)
    why = "as long as the model's code" if pca.size == code_length else f"{pca.size} components"
    return Baseline(
        f"PCA {pca.size}",
        f"{why}, exact, of {fitting.count:,} training faces",
        lambda batch: pca.decode(pca.encode(batch["input"])),
    )


def _copy() -> Baseline:
    return Baseline("copy input", "grey replicated, colour to luma where the target is grey", _as_target)


def _as_target(batch: Batch) -> Tensor:
    """The input with as many channels as the target."""
    source, channels = batch["input"], batch["target"].shape[1]
    grey = channels == 1 and source.shape[1] == 3
    return tasks.luma(source) if grey else source.expand(-1, channels, -1, -1)


def _mean_colour(task: Any, mean: Callable[[Batch], Tensor], fitting: Fitting) -> Baseline | None:
    """The input's luma with the mean chroma of training faces; one colour if the input is not an image."""
    face = mean({"target": torch.empty(1)})
    if isinstance(task, tasks.OpenCVTask | tasks.Noise | tasks.Average):
        flat = face.mean((2, 3), keepdim=True).expand_as(face)
        return Baseline("mean colour", "of the training faces", lambda batch: flat.expand_as(batch["target"]))
    if face.shape[1] != 3:
        return None
    chroma = (face - tasks.luma(face)).mean((2, 3), keepdim=True)
    how = "the input's Rec. 601 luma with the mean chroma of the training faces (YCbCr)"
    return Baseline("mean colour", how, lambda batch: tasks.luma(_as_target(batch)) + chroma)


def _map(fitting: Fitting) -> Baseline:
    fitted = LinearFilter(((pair["input"], pair["target"]) for pair in fitting.pairs()), MAP)
    how = f"least squares on {fitting.count:,} training faces, {MAP}x{MAP} pixels of all channels and a constant"
    return Baseline(f"linear map {MAP}x{MAP}", how, lambda batch: fitted(batch["input"]))


# --------------------------------------------------------------------------------------------------------- sampling


@dataclass(frozen=True)
class Sampler:
    """A row of generated faces: ``sample(count)`` returns (count, C, H, W) in [-1, 1]."""

    name: str
    how: str
    sample: Callable[[int], Tensor]


def samplers(fitting: Fitting, seed: int) -> Sequence[Sampler]:
    """The mean face repeated, and a Gaussian in the space of the first principal components."""
    mean, pca = fitting.mean(), Pca(fitting.targets(), CODE)

    def gaussian(count: int) -> Tensor:
        draws = counter_rng.normal(seed, "evaluate/gaussian", np.arange(count), (pca.size,))
        return pca.decode(torch.from_numpy(draws).float() * pca.deviations.float()).clamp(-1, 1)

    how = f"{pca.size} independent normal components, fitted to {fitting.count:,} training faces"
    return [
        Sampler("mean face", "of the training faces, repeated", lambda count: mean.expand(count, -1, -1, -1)),
        Sampler(f"PCA {pca.size} Gaussian", how, gaussian),
    ]
