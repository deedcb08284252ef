"""Baselines that need little or no training, as rows of the score tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.data.tasks import Row, Task, luma
from faceforge.metrics.linear import LinearFilter, Pca

Batch = Mapping[str, Tensor]
FITTED = 5_000  # maximum of training faces
VALUES = 100_000_000  # maximum of numbers in them: 400 MB
FILTER = 7  # pixels per side of the linear filter of super-resolution
MAP = 3  # and the linear map of the other tasks
CODE = 128  # components if the model has no code
Enlarge = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Baseline:
    """A row: its name, its description, and its outputs (N, C, H, W) for a batch of pairs, all in [-1, 1]."""

    name: str
    how: str
    outputs: Callable[[Batch], Tensor]


class Fitting:
    """Faces to fit on: the same keyed subset of the training split for every baseline."""

    def __init__(self, data: FaceData, seed: int, chunk: int) -> None:
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

    @cached_property
    def one_size(self) -> bool:
        """Whether inputs are as large as their targets."""
        pair = next(self.pairs())
        return pair["input"].shape[2:] == pair["target"].shape[2:]

    @cached_property
    def mean(self) -> Tensor:
        """The mean target (1, C, H, W)."""
        total = sum(pair["target"].double().sum(0, keepdim=True) for pair in self.pairs())
        assert isinstance(total, Tensor)
        return (total / self.count).float()


Make = Callable[[Task, Fitting, int | None], Baseline | None]


def for_task(task: Task, fitting: Fitting, code_length: int | None = None) -> list[Baseline]:
    """The rows that a task asks for, in its order, without those that its faces do not allow."""
    made = (ROWS[name](task, fitting, code_length) for name in task.baselines)
    return [row for row in made if row]


# ------------------------------------------------------------------------------------------------ super-resolution


def _interpolated(mode: str, **options: bool) -> Enlarge:
    return lambda small, factor: F.interpolate(small, scale_factor=factor, mode=mode, **options)


def _lanczos(small: Tensor, factor: int) -> Tensor:
    size = (small.shape[3] * factor, small.shape[2] * factor)
    planes = [Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS) for plane in small.flatten(0, 1).numpy()]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).unflatten(0, small.shape[:2])


def _enlargement(name: str, how: str, enlarge: Enlarge) -> Make:
    """Of the small faces; a network that takes them enlarged has them in the target only."""

    def make(task: Task, fitting: Fitting, code_length: int | None) -> Baseline | None:
        to_small = task.upscaling
        return to_small and Baseline(
            name, how, lambda b: enlarge(to_small.small_of(b["input"], b["target"]), to_small.factor)
        )

    return make


def _linear_filter(task: Task, fitting: Fitting, code_length: int | None) -> Baseline | None:
    """One filter per output pixel of each input pixel (factor^2), the same for all channels."""
    to_small = task.upscaling
    if to_small is None:
        return None

    def parts(batch: Batch) -> tuple[Tensor, Tensor]:
        planes = [to_small.small_of(batch["input"], batch["target"]), batch["target"]]
        small, target = (images.flatten(0, 1)[:, None] for images in planes)
        return small, F.pixel_unshuffle(target, to_small.factor)

    fitted = LinearFilter(map(parts, fitting.pairs()), FILTER)

    def enlarge(batch: Batch) -> Tensor:
        small = to_small.small_of(batch["input"], batch["target"])
        made = F.pixel_shuffle(fitted(small.flatten(0, 1)[:, None]), to_small.factor)
        return made[:, 0].unflatten(0, small.shape[:2])

    how = f"least squares on {fitting.count:,} training faces, {FILTER}x{FILTER} pixels and a constant, for each phase"
    return Baseline(f"linear filter {FILTER}x{FILTER}", how, enlarge)


# ------------------------------------------------------------------------------------------------- every other task


def _mean_face(task: Task, fitting: Fitting, code_length: int | None) -> Baseline:
    mean = fitting.mean
    return Baseline("mean face", "of the training faces", lambda batch: mean.expand(len(batch["target"]), -1, -1, -1))


def _pca(task: Task, fitting: Fitting, code_length: int | None) -> Baseline:
    pca = Pca(fitting.targets(), code_length or CODE)
    why = "as long as the model's code" if pca.size == code_length else f"{pca.size} components"
    return Baseline(
        f"PCA {pca.size}",
        f"{why}, exact, of {fitting.count:,} training faces",
        lambda batch: pca.decode(pca.encode(batch["input"])),
    )


def _copy(task: Task, fitting: Fitting, code_length: int | None) -> Baseline | None:
    how = "grey replicated, colour to luma where the target is grey"
    return Baseline("copy input", how, _as_target) if fitting.one_size else None


def _as_target(batch: Batch) -> Tensor:
    """The input with as many channels as the target."""
    source, channels = batch["input"], batch["target"].shape[1]
    grey = channels == 1 and source.shape[1] == 3
    return luma(source) if grey else source.expand(-1, channels, -1, -1)


def _mean_colour(task: Task, fitting: Fitting, code_length: int | None) -> Baseline:
    """One colour, where the input says nothing of light and shade."""
    face = fitting.mean
    flat = face.mean((2, 3), keepdim=True).expand_as(face)
    return Baseline("mean colour", "of the training faces", lambda batch: flat.expand_as(batch["target"]))


def _mean_chroma(task: Task, fitting: Fitting, code_length: int | None) -> Baseline | None:
    """The input's luma, coloured; grey faces have no chroma."""
    face = fitting.mean
    if face.shape[1] != 3:
        return None
    chroma = (face - luma(face)).mean((2, 3), keepdim=True)
    how = "the input's Rec. 601 luma with the mean chroma of the training faces (YCbCr)"
    return Baseline("mean colour", how, lambda batch: luma(_as_target(batch)) + chroma)


def _linear_map(task: Task, fitting: Fitting, code_length: int | None) -> Baseline | None:
    if not fitting.one_size:
        return None
    fitted = LinearFilter(((pair["input"], pair["target"]) for pair in fitting.pairs()), MAP)
    how = f"least squares on {fitting.count:,} training faces, {MAP}x{MAP} pixels of all channels and a constant"
    return Baseline(f"linear map {MAP}x{MAP}", how, lambda batch: fitted(batch["input"]))


ROWS: Mapping[Row, Make] = {
    "nearest": _enlargement("nearest", "pixels repeated", _interpolated("nearest")),
    "bilinear": _enlargement("bilinear", "torch, half-pixel centres", _interpolated("bilinear")),
    "bicubic -0.75": _enlargement(
        "bicubic -0.75", "a = -0.75 as OpenCV and torch, borders repeated", _interpolated("bicubic")
    ),
    "bicubic -0.5": _enlargement(
        "bicubic -0.5", "a = -0.5 as Pillow, borders renormalised", _interpolated("bicubic", antialias=True)
    ),
    "Lanczos": _enlargement("Lanczos", "a = 3, Pillow, on floats", _lanczos),
    "linear filter": _linear_filter,
    "mean face": _mean_face,
    "mean colour": _mean_colour,
    "mean chroma": _mean_chroma,
    "copy input": _copy,
    "linear map": _linear_map,
    "PCA": _pca,
}


# --------------------------------------------------------------------------------------------------------- sampling


@dataclass(frozen=True)
class Sampler:
    """A row of generated faces: ``sample(count)`` returns (count, C, H, W) in [-1, 1]."""

    name: str
    how: str
    sample: Callable[[int], Tensor]


def samplers(fitting: Fitting, seed: int) -> Sequence[Sampler]:
    """The mean face repeated, and a Gaussian in the space of the first principal components."""
    mean, pca = fitting.mean, Pca(fitting.targets(), CODE)

    def gaussian(count: int) -> Tensor:
        draws = counter_rng.normal(seed, "evaluate/gaussian", np.arange(count), (pca.size,))
        return pca.decode(torch.from_numpy(draws).float() * pca.deviations.float()).clamp(-1, 1)

    how = f"{pca.size} independent normal components, fitted to {fitting.count:,} training faces"
    return [
        Sampler("mean face", "of the training faces, repeated", lambda count: mean.expand(count, -1, -1, -1)),
        Sampler(f"PCA {pca.size} Gaussian", how, gaussian),
    ]
