"""dlib's face recognition network in torch: 128 numbers that are close for pictures of one person."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from faceforge.io import dlib_models
from faceforge.io.dlib_models import Convolution
from faceforge.metrics.face_chips import SIDE, FaceChips

WIDTH = 128  # values of a description
MEANS, SCALE = (122.782, 117.001, 104.298), 256.0  # dlib's: (byte - mean) / 256 of red, green and blue
DOWN = (3, 7, 10, 13)  # the blocks that halve the picture, of 14


class Network(nn.Module):
    """The residual network of 29 convolutions of dlib's `dnn_face_recognition_ex.cpp` (King 2017; He et al. 2015).

    Each convolution has its affine layer folded in: the same function with half the layers. A 3x3 convolution that
    halves the picture has no padding, the other ones of the blocks have 1; a block that halves it averages 2x2 pixels
    of its input, and the sum of unlike shapes takes what is missing, channels, rows or columns, as 0.
    """

    def __init__(self, convolutions: list[Convolution], last: Tensor) -> None:
        super().__init__()
        stem, *rest = (_folded(layer) for layer in convolutions)
        self.stem = _conv(stem, stride=2, padding=0)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        self.blocks = nn.Sequential(*(_Block(a, b, n in DOWN) for n, (a, b) in enumerate(pairs)))
        self.last = nn.Linear(*last.shape, bias=False)
        self.last.weight.data = last.T.contiguous()
        self.register_buffer("means", torch.tensor(MEANS).view(1, 3, 1, 1), persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Descriptions (N, 128) of aligned RGB faces (N, 3, 150, 150) in [0, 255]; not of unit length."""
        x = F.relu(self.stem((faces - self.means) / SCALE))
        x = self.blocks(F.max_pool2d(x, 3, stride=2))
        return self.last(x.mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], down: bool) -> None:
        super().__init__()
        self.first = _conv(first, stride=2, padding=0) if down else _conv(first, stride=1, padding=1)
        self.second, self.down = _conv(second, stride=1, padding=1), down

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(F.relu(self.first(x)))
        short = F.avg_pool2d(x, 2) if self.down else x
        shape = [max(sides) for sides in zip(made.shape[1:], short.shape[1:], strict=True)]
        return F.relu(_filled(made, shape) + _filled(short, shape))


def _filled(maps: Tensor, shape: list[int]) -> Tensor:
    """Maps (N, C, H, W) with zeros behind their channels, below and to the right, up to (C', H', W')."""
    missing = [wanted - there for wanted, there in zip(shape, maps.shape[1:], strict=True)]
    return F.pad(maps, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else maps


def _folded(layer: Convolution) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the affine layer after it."""
    weight, bias, gain, shift = (torch.from_numpy(part.copy()) for part in vars(layer).values())
    return weight * gain.view(-1, 1, 1, 1), bias * gain + shift


def _conv(folded: tuple[Tensor, Tensor], stride: int, padding: int) -> nn.Conv2d:
    weight, bias = folded
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, padding)
    conv.weight.data, conv.bias = weight.contiguous(), nn.Parameter(bias)
    return conv


@functools.cache
def _pretrained() -> Network:
    """The network with its weights; built once per process, so never move or change it."""
    convolutions, last = dlib_models.network(dlib_models.read(dlib_models.NETWORK))
    return Network(convolutions, torch.from_numpy(last.copy())).requires_grad_(False).eval()


def pretrained() -> Network:
    """A copy of the network with its weights, which get no gradient. Raises BadInput if they are missing or changed."""
    return copy.deepcopy(_pretrained())


class DlibFace(nn.Module):
    """Descriptions of faces: pictures aligned by five points, then the network. Frozen, always in eval mode.

    Differentiable in the pixels, but not in the points.
    """

    name, width = "dlib", WIDTH
    weights_sha256 = dlib_models.SHA256[dlib_models.NETWORK]
    resize = f"aligned{SIDE}"

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        self.batch = batch
        self.align, self.network = FaceChips(), pretrained()
        self.requires_grad_(False).eval()
        self.network.to(memory_format=torch.channels_last)

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol of the descriptions, for the record of a score."""
        return {
            "extractor": "dlib face recognition resnet v1, in torch",
            "weights_sha256": self.weights_sha256,
            "resize": self.resize,
            "input": f"not rounded, grey replicated, bicubic, aligned to {SIDE}x{SIDE}, (byte - mean) / 256",
            **self.align.protocol,
        }

    @property
    def key(self) -> str:
        """Network, weights and alignment in one word, the part after ``@`` in the name of a score."""
        return f"{self.name}-{self.weights_sha256[:8]}-{self.resize}"

    def train(self, mode: bool = True) -> DlibFace:
        """Always stay in eval mode."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1|3, H, W) in [-1, 1] -> (N, 128) float32 on the images' device."""
        return self.describe([images])[0][0]

    def describe(self, pictures: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Descriptions (N, 128) of each of several pictures of N faces, such images of one shape, all aligned by the
        points of the first; and in which of the first points were found, bool (N,).
        """
        size = self.batch or (16 if pictures[0].device.type == "cpu" else 64)
        with torch.autocast(pictures[0].device.type, enabled=False):
            parts = [self._part(part) for part in zip(*(images.split(size) for images in pictures), strict=True)]
        numbers = zip(*(numbers for numbers, _ in parts), strict=True)
        return [torch.cat(found) for found in numbers], torch.cat([found for _, found in parts])

    def _part(self, pictures: tuple[Tensor, ...]) -> tuple[list[Tensor], Tensor]:
        dtype = self.network.last.weight.dtype
        chips, found = self.align([127.5 * (images.to(dtype) + 1) for images in pictures])
        # in this format of memory the convolutions take half the time on a CPU
        return [self.network(faces.contiguous(memory_format=torch.channels_last)) for faces in chips], found
