"""U-Nets for image-to-image translation (Isola et al. 2017, arXiv 1611.07004).

All take (B, in_channels, H, W) and return (B, channels, H, W), both in [-1, 1]. ``size`` is [height, width] or one
int; unsupported sizes raise ValueError naming the nearest valid ones. Dropout and norms follow train() and eval(); the
scheme can keep them active at test time.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from faceforge.networks.blocks import (
    Norm,
    Output,
    Residual,
    Upsampling,
    coloured,
    doubler,
    equal_phases_,
    he_init,
    keras_norm,
    norm_of,
    outputs_of,
    pix2pix_init,
    scale_,
)
from faceforge.networks.recompute import Recomputing
from faceforge.networks.sizes import Size, halvings_of, multiple_of


class PublishedUNet(Recomputing):
    """The generator of the published face transformations: 29,247,491 parameters in colour.

    Six halvings (kernel 4, stride 2, LeakyReLU 0.2): 64 without norm, 128, 256, 512 and 512 with norm, then 512
    with ReLU and no norm, 5x4 positions for an image of 320x256. Five transposed convolutions with batch norm -
    512 (and dropout), 512, 256, 128, 64 - each concatenated with the halving of its size, then ReLU; a sixth and
    tanh. N(0, 0.02) weights, Keras' batch norm.
    """

    input_range = (-1.0, 1.0)
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = (320, 256),
        channels: int = 3,
        in_channels: int = 3,
        dropout: float = 0.5,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        multiple_of(size, 64, "the published U-Net halves six times: both sides must be multiples of 64")
        widths = [64, 128, 256, 512, 512]
        first = nn.Sequential(nn.Conv2d(in_channels, 64, 4, 2, 1), nn.LeakyReLU(0.2))
        self.down = nn.ModuleList([first, *(self._halve(a, b) for a, b in pairwise(widths))])
        self.bottleneck = nn.Sequential(nn.Conv2d(512, 512, 4, 2, 1), nn.ReLU())
        first_up = self._double(512, 512).append(nn.Dropout(dropout))
        self.up = nn.ModuleList([first_up, *(self._double(2 * a, b) for a, b in pairwise(widths[::-1]))])
        self.last = nn.Sequential(nn.ConvTranspose2d(128, channels, 4, 2, 1), nn.Tanh())
        self.apply(pix2pix_init)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) from (B, in_channels, H, W), both in [-1, 1]."""
        skips = []
        for down in self.down:
            x = self.run(down, x)
            skips.append(x)
        x = self.run(self.bottleneck, x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = torch.relu(torch.cat([self.run(up, x), skip], 1))
        return self.last(x)

    @staticmethod
    def _halve(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), keras_norm(outputs), nn.LeakyReLU(0.2))

    @staticmethod
    def _double(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), keras_norm(outputs))


class UNet(Recomputing):
    """Halvings (kernel 4, stride 2, LeakyReLU 0.2) to a few positions and upsampling back, with skip connections.

    Channels: ``width`` at half the size, doubling at every halving, at most ``max_width``. The depth follows the size,
    down to 4 or more positions (``halvings_of``), unless ``depth`` is given. The input image is also concatenated
    before the last convolution, so that existing detail need not be reproduced. Dropout after the three deepest
    upsamplings; norms except first, at the bottom and last. ``upsampling`` as in ``doubler``: nearest leaves no
    checkerboard. ``blocks`` residual blocks follow each halving from the third on. Without norm the weights keep the
    variance (``he_init``). ``output`` = chroma: the network predicts the colour of the input's lightness
    (``coloured``), at first little of it.
    """

    input_range = (-1.0, 1.0)
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = (160, 128),
        channels: int = 3,
        in_channels: int = 3,
        width: int = 24,
        max_width: int = 192,
        depth: int | None = None,
        upsampling: Upsampling = "nearest",
        norm: Norm = "none",
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
        blocks: int = 0,
        output: Output = "image",
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = gradient_checkpointing
        self.output: Output = output
        halvings = self._depth(size, depth)
        widths = [min(width * 2**i, max_width) for i in range(halvings)]
        self.down = nn.ModuleList(
            _halve(a, b, norm if 0 < i < halvings - 1 else "none")
            for i, (a, b) in enumerate(pairwise([in_channels, *widths]))
        )
        self.refine = nn.ModuleList(
            nn.Sequential(*(Residual(w, 0.2) for _ in range(blocks if i >= 2 else 0))) for i, w in enumerate(widths)
        )
        inputs = [widths[-1], *(2 * w for w in widths[-2::-1])]
        outputs = [*widths[-2::-1], width // 2]
        self.up = nn.ModuleList(
            _double(a, b, upsampling, norm, dropout if i < 3 else 0.0)
            for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        )
        self.last = nn.Conv2d(width // 2 + in_channels, outputs_of(output, in_channels, channels), 3, padding=1)
        if norm == "none":
            self._initialise()
        scale_(self.last, 0.02 if output == "chroma" else 0.5)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, channels, H, W) from (B, in_channels, H, W), both in [-1, 1]."""
        skips = [x]
        for down, refine in zip(self.down, self.refine, strict=True):
            skips.append(self.run(refine, self.run(down, skips[-1])))
        y = skips.pop()
        for up in self.up:
            y = torch.cat([self.run(up, y), skips.pop()], 1)
        made = torch.tanh(self.last(y))
        return coloured(x, made) if self.output == "chroma" else made

    def _initialise(self) -> None:
        self.apply(he_init)
        for block in self.modules():
            if isinstance(block, Residual):
                scale_(block.second, 0.1)
            elif isinstance(block, nn.Sequential) and any(isinstance(layer, nn.PixelShuffle) for layer in block):
                equal_phases_(block[0], 2)  # type: ignore[arg-type]

    @staticmethod
    def _depth(size: Size, depth: int | None) -> int:
        if depth is None:
            return halvings_of(size)
        if depth < 1:
            raise ValueError(f"depth={depth}: must be at least 1, or null to follow the size")
        multiple_of(size, 2**depth, f"with {depth} halvings, both sides must be multiples of {2**depth}", least=2)
        return depth


def _halve(inputs: int, outputs: int, norm: Norm) -> nn.Module:
    shrink = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=norm == "none")
    return nn.Sequential(shrink, norm_of(outputs, norm), nn.LeakyReLU(0.2))


def _double(inputs: int, outputs: int, upsampling: Upsampling, norm: Norm, dropout: float) -> nn.Module:
    grow = doubler(inputs, outputs, upsampling, bias=norm == "none")
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(grow, norm_of(outputs, norm), *drop, nn.LeakyReLU(0.2))
