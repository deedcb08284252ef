"""Tasks: a task computes the model's input from a face; the face is the target.

Most tasks work on whole batches, on the device. OpenCV tasks work on single uint8 faces, in the dataset and its
workers. Every input is a function of the face and, if the task is random, of (seed, stream, position): the same for any
batch, rank or worker (a blur within rounding), in training, in validation and for images from outside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from faceforge import counter_rng_torch
from faceforge.data import filters, subsets
from faceforge.data.degrade import Degradation
from faceforge.data.sources.base import Face
from faceforge.data.subsets import LUMA, Pixels
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes
from faceforge.io.images import from_uint8, to_uint8
from faceforge.networks.blocks import chroma_of, coloured

Service = Literal["upscale", "translate", "average"]
Row = Literal[
    "nearest", "bilinear", "bicubic -0.75", "bicubic -0.5", "Lanczos", "linear filter", "PCA",
    "mean face", "mean colour", "mean chroma", "copy input", "linear map",
]  # fmt: skip


class Task(ABC):
    """Pairs from faces (B, C, H, W) in [-1, 1], after augmentation; inputs are in [-1, 1] too, but for noise.

    ``positions`` int64 (B,) key what is drawn, apart in each ``stream``: "train" (positions of the clock), "fixed"
    (rows of the packed set) or any other name; None counts from 0. The rest is what a task says of itself: nobody
    else asks which one it is.
    """

    name: ClassVar[str]
    serves: ClassVar[Service | None] = "translate"  # the command that applies its runs to photos
    baselines: ClassVar[Sequence[Row]] = ("mean face", "mean chroma", "copy input", "linear map")
    by_opencv: ClassVar[bool] = False  # inputs are computed by ``draw``, in the workers
    by_hand: ClassVar[bool] = False  # inputs can be drawn by hand: lines on black
    from_pairs: ClassVar[bool] = False  # inputs are pictures of the data set, not made from the faces
    mean_is_best: ClassVar[bool] = False  # the mean face is optimal, so a model that outputs it is healthy
    limits: ClassVar[str] = (  # for the model card
        "What the input does not determine is filled in with what is usual among the faces it was trained on."
    )
    # tab, title and hint in the app, where "" is the name; None: no tab
    words: ClassVar[tuple[str, str, str] | None] = ("", "", "What this run makes of the faces in a photo.")
    label: ClassVar[str] = ""  # its name in a sentence, if different

    @property
    def upscaling(self) -> SuperResolution | None:
        """The task itself, if its inputs are small faces."""
        return None

    @property
    def remarks(self) -> list[str]:
        """Notes for its score tables."""
        return []

    @property
    def keeps_lightness(self) -> bool:
        """Whether outputs have the lightness of the input: in a photo only colours change, at its own resolution."""
        return False

    @property
    def takes_hints(self) -> bool:
        """Whether dabs of colour on the input say which colour is meant."""
        return False

    def check(self, height: int, width: int, channels: int) -> None:
        """Raise BadInput if the task cannot be applied to faces of this size and channels."""
        return

    def packs(self, channels: int) -> int:
        """How many channels pictures must keep for targets of ``channels``."""
        return channels

    def labels(self, packed: Pixels, faces: Sequence[Face], attributes: Attributes | None) -> np.ndarray | None:
        """The subset, int64 (N,), of each packed face if targets are other faces of the same subset; else None."""
        return None

    @abstractmethod
    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor | None:
        """The input, on the device of the faces; None if the task has none."""

    def target_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """The target: the faces."""
        return faces

    def draw(self, faces: np.ndarray) -> np.ndarray:
        """For OpenCV tasks: inputs, uint8 (N, 3, H, W), of faces, uint8 (N, C, H, W)."""
        raise NotImplementedError


class NoInput(Task):
    """The task of generators that start from their own noise: the batch holds only the target."""

    name = "none"
    label = "random faces"
    serves = None
    limits = "Faces of random noise; nobody is meant, though a face may resemble somebody it was trained on."

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> None:
        """Nothing."""


class Autoencode(Task):
    """The face itself."""

    name = "autoencode"
    words = None
    baselines = ("PCA", "mean face")

    @property
    def remarks(self) -> list[str]:
        """Why a row is missing."""
        return ["Copying the input is left out: it would be perfect."]

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """The faces."""
        return faces


@dataclass(frozen=True)
class SuperResolution(Task):
    """The face downscaled by ``factor``, with a block mean or Pillow's antialiased bicubic filter.

    The network expects inputs of 1/``input_factor`` of the size: if that is 1, the input is upscaled again (bicubic).
    ``degrade`` makes small faces as bad as those in photos.
    """

    name = "super_resolution"
    serves = "upscale"
    baselines = ("nearest", "bilinear", "bicubic -0.75", "bicubic -0.5", "Lanczos", "linear filter", "mean face")
    limits = "Details that a small picture does not hold are invented."
    factor: int
    kernel: Literal["mean", "bicubic"]
    input_factor: int
    degrade: Degradation | None = None

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise BadInput(f"task.factor={self.factor}: must be 2 or 4")
        if self.input_factor not in (1, self.factor):
            right = f"must be 1 (upscaled to the target's size) or {self.factor} (task.factor)"
            raise BadInput(f"input.factor={self.input_factor}: {right}")

    @property
    def upscaling(self) -> SuperResolution:
        """Itself."""
        return self

    @property
    def remarks(self) -> list[str]:
        """What was done to the inputs."""
        return [f"Small faces are {self.degrade}; every row sees the same ones."] if self.degrade else []

    def check(self, height: int, width: int, channels: int) -> None:
        """Sides must be multiples of the factor."""
        if height % self.factor or width % self.factor:
            less = [side // self.factor * self.factor for side in (height, width)]
            more = [-(-side // self.factor) * self.factor for side in (height, width)]
            right = " or ".join(f"[{h},{w}]" for h, w in ([less] if min(less) else []) + [more])
            what = f"super_resolution x{self.factor} needs multiples of {self.factor}"
            raise BadInput(f"data.size=[{height},{width}]: {what}; try {right}")
        if self.degrade:
            self.degrade.check(height, width)

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """(B, C, H / input_factor, W / input_factor)."""
        if self.degrade is None:
            return self.enlarge(self.reduce(faces))
        return self.enlarge(self.degrade(faces, self.reduce, _counters(faces, positions), stream))

    def reduce(self, faces: Tensor) -> Tensor:
        """The small faces (B, C, H / factor, W / factor)."""
        if self.kernel == "mean":
            return F.avg_pool2d(faces, self.factor)
        return resize(faces, faces.shape[-2] // self.factor, faces.shape[-1] // self.factor)

    def small_of(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The small faces of a batch; of degraded ones that were enlarged for the network, nearly those."""
        if self.degrade is None:
            return self.reduce(targets)
        return inputs if self.input_factor == self.factor else self.reduce(inputs)

    def enlarge(self, small: Tensor) -> Tensor:
        """Resize small images, from any source, to the size that the network expects."""
        if self.input_factor == self.factor:
            return small
        return resize(small, small.shape[-2] * self.factor, small.shape[-1] * self.factor)


@dataclass(frozen=True)
class Colorize(Task):
    """Rec. 601 luma, in one channel or, for networks that take colour, repeated three times.

    With ``hints`` up to so many dabs, a number drawn for each face, show its own colour at random places on the grey:
    what a user's hints are in training. An image from outside has none until they are painted (``studio/hints.py``).
    """

    name = "colorize"
    limits = "Colours are plausible, not true: loud ones come out muted."
    words = (
        "Colour",
        "Colour my photo",
        "Faces in a grey photo get colours that are plausible, not true. A photo in colour is made grey first.",
    )
    channels: int
    predict: Literal["image", "chroma"] = "image"  # runs of before name none, and took no hints
    hints: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise BadInput(f"input.channels={self.channels}: must be 1 or 3")
        if self.hints < 0:
            raise BadInput(f"task.hints={self.hints}: must be at least 0, the most dabs on a face")
        if self.hints and self.channels != 3:
            raise BadInput(f"input.channels={self.channels}: must be 3 for task.hints={self.hints}, dabs have a colour")

    @property
    def keeps_lightness(self) -> bool:
        """Where the networks predict chroma alone."""
        return self.predict == "chroma"

    @property
    def takes_hints(self) -> bool:
        """If it was trained with them."""
        return self.hints > 0

    def check(self, height: int, width: int, channels: int) -> None:
        """The faces must have colour."""
        if channels != 3:
            raise BadInput(f"data.channels={channels}: colorize needs faces in colour; data.channels must be 3")

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """(B, channels, H, W), also from grey faces."""
        grey = (faces if faces.shape[1] == 1 else luma(faces)).expand(-1, self.channels, -1, -1)
        if not self.hints or faces.shape[1] == 1 or stream == "outside":
            return grey
        height, width = faces.shape[2:]
        dabs = self._dabs(_counters(faces, positions), height, width, stream).to(faces.device)
        radius = dab_radius(height, width)
        means = F.avg_pool2d(chroma_of(faces), 2 * radius + 1, 1, radius, count_include_pad=False)
        return coloured(grey, means * dabs)

    def _dabs(self, counters: Tensor, height: int, width: int, stream: str) -> Tensor:
        """(B, 1, H, W), 1 inside the dabs."""
        draws = counter_rng_torch.uniform(self.seed, f"task/hints/{stream}", counters, (1 + 2 * self.hints,)).float()
        shown = (draws[:, :1] * (self.hints + 1)).floor() > torch.arange(self.hints, device=draws.device)
        y, x = ((draws[:, n::2] * side).floor() for n, side in ((1, height), (2, width)))
        rows, columns = (torch.arange(side, device=draws.device) for side in (height, width))
        away = (rows[:, None] - y[..., None, None]) ** 2 + (columns - x[..., None, None]) ** 2
        inside = (away <= dab_radius(height, width) ** 2) & shown[..., None, None]
        return inside.any(1, keepdim=True).float()


@dataclass(frozen=True)
class Noise(Task):
    """Noise of the face's shape, independent of the face: N(0, 1) as published, or U[-1, 1)."""

    name = "noise"
    serves = None
    baselines = ("mean face", "mean colour", "copy input", "linear map")
    mean_is_best = True
    distribution: Literal["normal", "uniform"]
    seed: int

    @property
    def remarks(self) -> list[str]:
        """What the optimum is."""
        return ["The input is independent of the target: in squared error the optimum is the mean face."]

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """(B, C, H, W), a function of each position alone; N(0, 1) leaves [-1, 1]."""
        counters, purpose, shape = _counters(faces, positions), f"task/noise/{stream}", tuple(faces.shape[1:])
        if self.distribution == "normal":
            return counter_rng_torch.normal(self.seed, purpose, counters, shape).float().to(faces.device)
        return counter_rng_torch.uniform(self.seed, purpose, counters, shape).mul_(2).sub_(1).float().to(faces.device)


@dataclass(frozen=True)
class Deblur(Task):
    """The face blurred by OpenCV's Gaussian of ``size`` x ``size`` pixels and deviation ``sigma``.

    ``box``, if not 0, is the largest half-side in pixels of a sharp box centred at 0.5 of the width and 0.4 of the
    height; with ``blur_target`` the target is blurred like the input. The published code first had 23, 30, 60, true
    (with one box per image, here one per position), and later 3, 30, 0, false.
    """

    name = "deblur"
    words = ("Deblur", "Deblur my photo", "The faces of a photo are blurred, and made sharp again.")
    size: int
    sigma: float
    box: int
    blur_target: bool
    seed: int

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise BadInput(f"task.size={self.size}: must be an odd number of pixels such as 3")
        if self.sigma <= 0:
            raise BadInput(f"task.sigma={self.sigma}: must be above 0")
        if self.box < 0:
            raise BadInput(f"task.box={self.box}: must be at least 0")

    def check(self, height: int, width: int, channels: int) -> None:
        """The kernel must not reach beyond the mirrored border."""
        most = 2 * min(height, width) - 1
        if self.size > most:
            raise BadInput(f"task.size={self.size}: at most {most} for data.size=[{height},{width}]")

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """(B, C, H, W)."""
        blurred = gaussian_blur(faces, [self.size, self.size], [self.sigma, self.sigma])
        if not self.box:
            return blurred
        return torch.where(self._sharp(faces, _counters(faces, positions), stream), faces, blurred)

    def target_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """The faces, or the input if the target is blurred too."""
        return self.input_for(faces, positions, stream) if self.blur_target else faces

    def _sharp(self, faces: Tensor, counters: Tensor, stream: str) -> Tensor:
        """Bool (B, 1, H, W), true inside the boxes."""
        height, width = faces.shape[-2:]
        draws = counter_rng_torch.uniform(self.seed, f"task/deblur/{stream}", counters, (2,))
        half = torch.floor(draws * self.box).long()[:, :, None].to(faces.device)
        columns = torch.arange(width, device=faces.device) - int(0.5 * width)
        rows = torch.arange(height, device=faces.device) - int(0.4 * height)
        within = [(-half[:, n] <= line) & (line < half[:, n]) for n, line in enumerate((columns, rows))]
        return (within[1][:, :, None] & within[0][:, None, :])[:, None]


@dataclass(frozen=True)
class Average(Task):
    """The target is a random other face of the same subset, drawn anew each time; the optimum is the subset's mean.

    Subsets: ``all`` (what the published code always did), ``identity``, ``attribute`` (equal values of one
    attribute), ``brightness`` (terciles of the mean luma), ``colour`` (the strongest channel).
    """

    name = "average"
    serves = "average"
    baselines = ("mean face", "mean colour", "copy input", "linear map")
    mean_is_best = True
    subset: Literal["all", "identity", "attribute", "brightness", "colour"]
    attribute: str | None

    def __post_init__(self) -> None:
        if (self.subset == "attribute") != (self.attribute is not None):
            right = "task.subset=attribute task.attribute=NAME go together"
            raise BadInput(f"task.subset={self.subset}, task.attribute={self.attribute}: {right}")

    @property
    def remarks(self) -> list[str]:
        """What the optimum is."""
        whole = self.subset == "all"
        right = "the mean face" if whole else "the mean of each subset; the mean face here is that of all"
        return [f"Targets are other faces: in squared error the optimum is {right}; no model can be clearly better."]

    def check(self, height: int, width: int, channels: int) -> None:
        """Subsets by colour need colour faces."""
        if self.subset == "colour" and channels != 3:
            raise BadInput(f"data.channels={channels}: task.subset=colour needs data.channels=3")

    def labels(self, packed: Pixels, faces: Sequence[Face], attributes: Attributes | None) -> np.ndarray:
        """The subset of each packed face, int64 (N,). Raises BadInput if the dataset lacks the information."""
        if self.subset == "identity":
            return subsets.identities(faces)
        if self.subset == "attribute":
            return subsets.values_of(attributes, self.attribute)
        if self.subset == "brightness":
            return subsets.brightness(packed)
        return subsets.colours(packed) if self.subset == "colour" else np.zeros(len(packed), dtype=np.int64)

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """The faces; the datamodule draws the targets."""
        return faces


@dataclass(frozen=True)
class Pairs(Task):
    """Inputs and targets are pictures of the data set (``data=pairs``). Inputs of one ``channel`` are made grey."""

    name = "pairs"
    label = "pairs of pictures"
    baselines = ("mean face", "copy input", "linear map")
    from_pairs = True
    words = ("Translate", "One picture becomes the other", "What this run makes of a picture like its inputs.")
    channels: int

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise BadInput(f"input.channels={self.channels}: must be 1 (grey) or 3 (colour)")

    def packs(self, channels: int) -> int:
        """Grey targets may have inputs in colour."""
        return max(channels, self.channels)

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """Pictures that are inputs already, (B, channels, H, W)."""
        if faces.shape[1] == self.channels:
            return faces
        return luma(faces) if self.channels == 1 else faces.expand(-1, 3, -1, -1)


# ------------------------------------------------------------------------------------------------- drawn by OpenCV


class OpenCVTask(Task):
    """Base of the tasks whose input is computed by a filter of filters.py, image by image, in three channels."""

    baselines = ("mean face", "mean colour", "copy input", "linear map")
    by_opencv = True

    @abstractmethod
    def filter(self, picture: np.ndarray) -> np.ndarray:
        """Uint8 (H, W, 3) or (H, W) to uint8 (H, W, 3)."""

    def draw(self, faces: np.ndarray) -> np.ndarray:
        """As Task.draw."""
        pictures = faces.transpose(0, 2, 3, 1) if faces.shape[1] == 3 else faces[:, 0]
        drawn = [self.filter(picture).transpose(2, 0, 1) for picture in pictures]
        return np.stack(drawn) if drawn else np.empty((0, 3, *faces.shape[2:]), np.uint8)

    def input_for(self, faces: Tensor, positions: Tensor | None = None, stream: str = "outside") -> Tensor:
        """(B, 3, H, W), from the faces as uint8."""
        drawn = torch.from_numpy(self.draw(to_uint8(faces).cpu().numpy()))
        return from_uint8(drawn).to(faces.device)


@dataclass(frozen=True)
class Thresholds(OpenCVTask):
    """Each channel quantised: at all levels as ``meant``, or only at the last one as ``published``."""

    name = "thresholds"
    words = (
        "Poster",
        "A poster becomes a face",
        "The faces of a photo are brought to a few values of each colour, and made whole again.",
    )
    variant: Literal["meant", "published"]
    levels: list[int]

    def __post_init__(self) -> None:
        _check_levels(self.levels)

    def filter(self, picture: np.ndarray) -> np.ndarray:
        """Uint8 (H, W, 3)."""
        draw = filters.posterize if self.variant == "meant" else filters.thresholds
        return draw(picture, self.levels)


@dataclass(frozen=True)
class Contours(OpenCVTask):
    """Contour lines at each level: anti-aliased, one per channel, as ``meant``, or as in the ``published`` code."""

    name = "contours"
    words = ("Draw", "Draw a face", "A face from its outlines: of a photo, or drawn by hand.")
    by_hand = True
    variant: Literal["meant", "published"]
    levels: list[int]

    def __post_init__(self) -> None:
        _check_levels(self.levels)

    def filter(self, picture: np.ndarray) -> np.ndarray:
        """Uint8 (H, W, 3)."""
        draw = filters.contours if self.variant == "meant" else filters.contours_published
        return draw(picture, self.levels)


@dataclass(frozen=True)
class Canny(OpenCVTask):
    """The edges of each channel of the ``image``, or of its ``mask`` above 200, as published."""

    name = "canny"
    words = ("Draw edges", "Draw a face", "A face from its edges: of a photo, or drawn by hand.")
    by_hand = True
    source: Literal["image", "mask"]
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise BadInput(f"task.low={self.low}, task.high={self.high}: must be 0 < low <= high")

    def filter(self, picture: np.ndarray) -> np.ndarray:
        """Uint8 (H, W, 3), 0 or 255."""
        draw = filters.canny_image if self.source == "image" else filters.canny
        return draw(picture, self.low, self.high)


# ------------------------------------------------------------------------------------------------------ on tensors


def luma(images: Tensor) -> Tensor:
    """Rec. 601 luma of colour images: (B, 3, H, W) to (B, 1, H, W), in the same range."""
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def dab_radius(height: int, width: int) -> int:
    """The radius, in pixels, of a dab of colour on a face of this size."""
    return max(1, round(min(height, width) / 40))


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Pillow's bicubic filter (a = -0.5, antialiased when downscaling), clamped to [-1, 1]."""
    return F.interpolate(images, (height, width), mode="bicubic", antialias=True).clamp(-1, 1)


def _counters(faces: Tensor, positions: Tensor | None) -> Tensor:
    """The positions on a device that can compute their noise, that of the faces if possible."""
    own = torch.arange(len(faces), device=faces.device) if positions is None else positions.to(faces.device)
    return counter_rng_torch.computable(own)


def _check_levels(levels: list[int]) -> None:
    try:
        filters.posterize(np.zeros((1, 1), np.uint8), levels)
    except ValueError as error:
        raise BadInput(f"task.levels: {error}") from error
