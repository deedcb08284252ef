"""What every extractor is: a frozen network, how images are given to it, and its name in the name of a score."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, to_uint8

LEAST_SIDE = 64  # pixels; below, the smallest maps have one or two positions


class Extractor(nn.Module):
    """Features (N, ``width``) of images, always in eval mode and without gradients.

    A subclass gives the class attributes, ``weights_sha256``, ``resize`` and ``seen``, makes its network in ``_make``
    and computes features of 8-bit images in ``_features``. The constructor finds the weights, so that what is missing
    is known before anything else happens; the network itself is made when it is first used.
    """

    name: ClassVar[str]  # short: a part of the names of scores
    width: ClassVar[int]  # numbers in a feature
    network_name: ClassVar[str]  # for the record of a score
    weights_sha256: str  # of the file of weights
    resize: str  # how images are resized, in a word such as bicubic224
    seen: str  # what the network sees of an image, for the record of a score

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        self.batch = batch
        self._made: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        if self._made is None:
            self._made = self._make().requires_grad_(False).eval()
        return self._made

    @property
    def protocol(self) -> dict[str, str]:
        """The protocol of the features, for the record of a score."""
        return {
            "extractor": self.network_name,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "input": self.seen,
        }

    @property
    def key(self) -> str:
        """Extractor, weights and resize in one word, the part after ``@`` in the name of a score."""
        return f"{self.name}-{self.weights_sha256[:8]}-{self.resize}"

    def numbers(self, images: int) -> tuple[int, ...]:
        """The shape of the features of so many images."""
        return images, self.width

    def for_training(self) -> Extractor:
        """The extractor of the score during a training; cheaper, where there is a cheaper one."""
        return self

    def train(self, mode: bool = True) -> Extractor:
        """Always stay in eval mode: batch statistics would make features depend on the batch."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """(N, 1|3, H, W) in [-1, 1], rounded to 8 bits as in a file -> (N, width) float32 on the images' device."""
        network = self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            parts = images.split(self._at_once(images.device))
            return torch.cat([self._features(network, from_uint8(to_uint8(part))) for part in parts])

    def _at_once(self, device: torch.device) -> int:
        return self.batch or (4 if device.type == "cpu" else 64)  # the maps of four images fit a CPU's cache

    def _make(self) -> nn.Module:
        """The network with its weights."""
        raise NotImplementedError

    def _features(self, network: nn.Module, images: Tensor) -> Tensor:
        """(N, width) of images (N, 1|3, H, W) in [-1, 1] with values of 8 bits."""
        raise NotImplementedError


class SquareExtractor(Extractor):
    """An extractor of images resized to ``size`` x ``size`` (bicubic, antialiased), smaller during a training.

    A subclass gives ``least``, the smallest size that its network takes, and ``normalised``, how it sees bytes.
    """

    least: ClassVar[int]
    normalised: ClassVar[str]

    def __init__(self, size: int = 224, batch: int | None = None, size_in_training: int = 128) -> None:
        super().__init__(batch)
        require_size(size, self.least)
        require_size(size_in_training, self.least, "size_in_training")
        self.size, self.size_in_training = size, size_in_training
        self.resize = f"bicubic{size}"
        self.seen = f"8 bits, grey replicated, bicubic, antialiased, to {size}x{size}, {self.normalised}"

    def for_training(self) -> Extractor:
        """The same network on smaller images."""
        return type(self)(self.size_in_training, self.batch)


class Maps(nn.Module):
    """Feature maps for `losses.Perceptual`; always in eval mode, gradients reach the images.

    Images keep their size (Zhang et al. 2018 use patches of 64 x 64); if a side is shorter than 64, they are upscaled
    until it is 64 (bicubic).
    """

    name: ClassVar[str]
    network_name: ClassVar[str]
    weights_sha256: ClassVar[str]
    resize: ClassVar[str] = f"own{LEAST_SIDE}"

    @property
    def protocol(self) -> dict[str, str]:
        """The protocol of the maps, for the record of a score."""
        return {
            "extractor": self.network_name,
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "input": f"own size, at least {LEAST_SIDE} a side; grey replicated",
        }

    @property
    def key(self) -> str:
        """Network, weights and resize in one word, the part after ``@`` in the name of a score."""
        return f"{self.name}-{self.weights_sha256[:8]}-{self.resize}"

    def train(self, mode: bool = True) -> Maps:
        """Always stay in eval mode, like extractors."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 1|3, H, W) in [0, 1] -> maps (N, C_l, H_l, W_l) float32."""
        scale = LEAST_SIDE / min(images.shape[2:])
        if scale > 1:
            height, width = (round(scale * side) for side in images.shape[2:])
            images = F.interpolate(images, (height, width), mode="bicubic")
        with torch.autocast(images.device.type, enabled=False):
            return self._maps(images.float().expand(-1, 3, -1, -1))

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Maps of images (N, 3, H, W) in [0, 1]."""
        raise NotImplementedError


def resized(images: Tensor, size: int) -> Tensor:
    """Images (N, C, H, W) at ``size`` x ``size``: bicubic with a = -0.5, antialiased, as Pillow on floats."""
    return F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)


def require_size(size: int, least: int, key: str = "size") -> None:
    """Raises ValueError unless ``size`` is at least ``least``, below which a network has no map left."""
    if size < least:
        raise ValueError(f"{key}={size}: must be at least {least} pixels")


def read_verified(path: Path, sha256: str) -> bytes:
    """The bytes of a file of weights. Raises BadInput if it is missing or not the one that scores are defined on."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be read ({error.strerror}); install its package again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadInput(f"{path.name}: sha256 is {found[:12]}..., scores are defined on {sha256[:12]}...")
    return data
