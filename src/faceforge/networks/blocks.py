"""Blocks shared by several networks: residual blocks, upsampling, colour on a grey image, initialisations."""

from __future__ import annotations

from math import sqrt
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

Upsampling = Literal["nearest", "transposed", "pixel_shuffle"]
Norm = Literal["none", "batch", "instance"]
Base = Literal["bicubic", "bilinear", "none"]
Output = Literal["image", "chroma"]
SLOPE = 0.2  # of leaky ReLUs
GAIN = sqrt(2 / (1 + SLOPE**2))  # keeps their variance: He et al. 2015 (arXiv 1502.01852), eq. 14
LUMA = (0.299, 0.587, 0.114)  # Rec. 601, of red, green and blue


class Residual(nn.Module):
    """x + two 3x3 convolutions of it with an activation between, no norm (EDSR, Lim et al. 2017, arXiv 1707.02921).

    The second convolution starts at a tenth of its usual scale, so that a deep stack starts near the identity.
    ``hidden`` is the channels between the two (default: as outside), ``slope`` that of a leaky ReLU.
    """

    def __init__(self, channels: int, slope: float = 0.0, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or channels
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.act = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.second = nn.Conv2d(hidden, channels, 3, padding=1)
        scale_(self.second, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return x + self.second(self.act(self.first(x)))


class Enlarge(nn.Module):
    """Linear upscaling by an integer factor; one channel is copied to several. No parameters.

    ``bicubic`` is torch's kernel (a = -0.75), ``bilinear`` the triangle, both with half-pixel centres; ``none`` is
    zeros. Raises ValueError for channels that cannot be copied.
    """

    def __init__(self, factor: int, in_channels: int, channels: int, kind: Base) -> None:
        super().__init__()
        if kind not in get_args(Base):
            raise ValueError(f"base={kind}: must be one of {', '.join(get_args(Base))}")
        if in_channels not in (1, channels):
            raise ValueError(f"in_channels={in_channels}: must be 1 or channels={channels}")
        self.factor, self.channels, self.kind = factor, channels, kind

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, channels, factor * H, factor * W)."""
        if self.kind == "none":
            return x.new_zeros(1)
        if self.factor > 1:
            x = functional.interpolate(x, scale_factor=self.factor, mode=self.kind, align_corners=False)
        return x.expand(-1, self.channels, -1, -1)


def outputs_of(kind: Output, in_channels: int, channels: int) -> int:
    """The channels that a network predicts: those of the image, or two of chroma (``coloured``).

    Raises ValueError for an unknown kind, or for images that have no chroma or no lightness to keep.
    """
    if kind not in get_args(Output):
        raise ValueError(f"output={kind}: must be one of {', '.join(get_args(Output))}")
    if kind == "image":
        return channels
    if channels != 3 or in_channels not in (1, 3):
        found = f"channels={channels}, in_channels={in_channels}"
        raise ValueError(f"output=chroma: {found}; must be 3, and 1 or 3 of an input whose lightness is kept")
    return 2


def coloured(grey: Tensor, chroma: Tensor) -> Tensor:
    """Colour (B, 3, H, W) in [-1, 1] whose Rec. 601 luma is that of ``grey`` (B, 1 or 3, H, W) in [-1, 1].

    ``chroma`` (B, 2, H, W) in [-1, 1] is Cb and Cr of Rec. 601 at full range, section 3.5. Where no such colour has
    that luma, the chroma is scaled down to the largest that has, so that clipping never changes the luma.
    """
    red, green, blue = LUMA
    luma = grey if grey.shape[1] == 1 else (grey * grey.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    to_blue, to_red = 2 * (1 - blue) * chroma[:, :1], 2 * (1 - red) * chroma[:, 1:]
    offset = torch.cat([to_red, -(red * to_red + blue * to_blue) / green, to_blue], 1)
    room = (1 - offset.sign() * luma) / offset.abs().clamp(min=1e-6)
    return luma + offset * room.amin(1, keepdim=True).clamp(0, 1)


def chroma_of(images: Tensor) -> Tensor:
    """Cb and Cr (B, 2, H, W) in [-1, 1] of colour (B, 3, H, W) in [-1, 1]: Rec. 601 at full range, section 3.5."""
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    red, _, blue = LUMA
    return torch.cat([(images[:, 2:] - luma) / (2 * (1 - blue)), (images[:, :1] - luma) / (2 * (1 - red))], 1)


class NearestConv(nn.Conv2d):
    """Nearest upsampling by two and a zero-padded 3x3 convolution, at less than half the cost.

    Every output sees two copies of some inputs, so the weights of copies are added first: the result is an equivalent
    transposed convolution of kernel 4 and stride 2.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        return functional.conv_transpose2d(input, double_kernel(self.weight), self.bias, stride=2, padding=1)


def double_kernel(weight: Tensor) -> Tensor:
    """(inputs, outputs, 4, 4) of a transposed convolution, stride 2, padding 1, from (outputs, inputs, 3, 3): it does
    what nearest upsampling by two and a zero-padded convolution do.
    """
    kernel = weight.flip(2, 3).transpose(0, 1)
    kernel = functional.pad(kernel, (0, 1)) + functional.pad(kernel, (1, 0))
    return functional.pad(kernel, (0, 0, 0, 1)) + functional.pad(kernel, (0, 0, 1, 0))


def doubler(inputs: int, outputs: int, kind: Upsampling, bias: bool = True) -> nn.Module:
    """Upsampling (B, inputs, H, W) to (B, outputs, 2H, 2W). Raises ValueError for an unknown kind.

    - ``nearest``: nearest, then a 3x3 convolution: no checkerboard (Odena et al. 2016, distill 10.23915/00003)
    - ``transposed``: transposed convolution, kernel 4, stride 2, as published
    - ``pixel_shuffle``: a 3x3 convolution to four times the channels, rearranged to 2x2 pixels (Shi et al. 2016,
      arXiv 1609.05158), initialised like nearest (ICNR, Aitken et al. 2017, arXiv 1707.02937)
    """
    if kind == "nearest":
        return NearestConv(inputs, outputs, bias)
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=bias)
    if kind == "pixel_shuffle":
        widen = nn.Conv2d(inputs, 4 * outputs, 3, padding=1, bias=bias)
        equal_phases_(widen, 2)
        return nn.Sequential(widen, nn.PixelShuffle(2))
    raise ValueError(f"upsampling={kind}: must be one of {', '.join(get_args(Upsampling))}")


def doubling(inputs: int, outputs: int, blocks: int, upsampling: Upsampling) -> list[nn.Module]:
    """Residual blocks, LeakyReLU 0.2, then upsampling by two as in ``doubler``."""
    return [
        *(Residual(inputs, SLOPE) for _ in range(blocks)),
        nn.LeakyReLU(SLOPE),
        doubler(inputs, outputs, upsampling),
    ]


def doubled(image: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 2H, 2W), bilinear."""
    return functional.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


def norm_of(channels: int, kind: Norm) -> nn.Module:
    """Batch norm, instance norm (affine) or none for (B, channels, H, W).

    Raises ValueError for an unknown kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm={kind}: must be one of {', '.join(get_args(Norm))}")


def normalise_spectra(network: nn.Module) -> None:
    """Divide each weight by its largest singular value (Miyato et al. 2018, arXiv 1802.05957)."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrizations.spectral_norm(module)


@torch.no_grad()
def scale_(layer: nn.Conv2d | nn.Linear, factor: float) -> None:
    """Scale a new layer's weights down and zero its bias."""
    layer.weight.mul_(factor)
    if layer.bias is not None:
        layer.bias.zero_()


@torch.no_grad()
def zero_(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at zero, so that its block begins as what surrounds it."""
    scale_(layer, 0.0)
    return layer


@torch.no_grad()
def equal_phases_(layer: nn.Conv2d, factor: int) -> None:
    """Initialise the channels that a pixel shuffle by ``factor`` places side by side with equal weights (ICNR)."""
    first = layer.weight[:: factor**2]
    layer.weight.copy_(first.repeat_interleave(factor**2, 0))
    if layer.bias is not None:
        layer.bias.copy_(layer.bias[:: factor**2].repeat_interleave(factor**2))


def keras_norm(channels: int, momentum: float = 0.99) -> nn.BatchNorm2d:
    """Batch norm as in Keras: ``momentum`` is the share that running statistics keep; epsilon 1e-3."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1 - momentum)


def keras_init(module: nn.Module) -> None:
    """For ``apply``: Keras' defaults, Glorot's uniform weights (2010, eq. 16) and zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def he_init(module: nn.Module, slope: float = 0.2) -> None:
    """For ``apply``: weights that keep the variance of leaky ReLUs, N(0, 2 / ((1 + slope^2) fan_in)), zero biases.

    He et al. 2015 (arXiv 1502.01852), eq. 15. Nearest doublings count the positions of their 3x3 kernel.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_in = module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        if isinstance(module, nn.ConvTranspose2d):  # each output sees one in stride^2 of the kernel's positions
            fan_in //= module.stride[0] * module.stride[1]
        nn.init.normal_(module.weight, 0.0, sqrt(2 / (1 + slope**2) / fan_in))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def pix2pix_init(module: nn.Module) -> None:
    """For ``apply``: N(0, 0.02) weights and zero biases; norms keep one and zero."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
