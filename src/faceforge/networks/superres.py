"""Convolutional networks for super-resolution and restoration.

All take (B, in_channels, H / factor, W / factor) and return (B, channels, H, W) in their ``output_range``.
``size`` is the target's, [height, width] or one int; unsupported sizes raise ValueError naming the nearest valid
ones.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import (
    Base,
    Enlarge,
    Output,
    Residual,
    coloured,
    equal_phases_,
    keras_init,
    keras_norm,
    outputs_of,
    scale_,
)
from faceforge.networks.sizes import Size, multiple_of


class PublishedConv(nn.Module):
    """The convolutional autoencoder of the published super-resolution project, 2,367,873 parameters for grey.

    3x3 convolutions with ReLU: 512-256-128, pool, 128-128, pool (the code: 8x8x128 for a 32x32 input, eight
    times its size), 128, then three times nearest upsampling and a convolution to 128, 256 and the sigmoid image.
    The project also built a second convolution of 128 at the code but never used it; it is left out.
    Keras' defaults.
    """

    input_range = (0.0, 1.0)
    output_range = (0.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 1, in_channels: int = 1, factor: int = 2) -> None:
        super().__init__()
        _only_factors("it upscales by two", factor, 2)
        multiple_of(size, 8, "the input is halved twice: both sides must be multiples of 8")
        self.encoder = nn.Sequential(
            *_conv_relu(in_channels, 512),
            *_conv_relu(512, 256),
            *_conv_relu(256, 128),
            nn.MaxPool2d(2),
            *_conv_relu(128, 128),
            *_conv_relu(128, 128),
            nn.MaxPool2d(2),
        )
        self.decoder = nn.Sequential(
            *_conv_relu(128, 128),
            nn.Upsample(scale_factor=2),
            *_conv_relu(128, 128),
            nn.Upsample(scale_factor=2),
            *_conv_relu(128, 256),
            nn.Upsample(scale_factor=2),
            *(nn.Conv2d(256, channels, 3, padding=1), nn.Sigmoid()),
        )
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) in [0, 1] from (B, in_channels, H/2, W/2) in [0, 1]."""
        return self.decoder(self.encoder(x))


class PublishedSuperres(nn.Module):
    """The super-resolution of the published face transformations: 68,099 parameters for x2 in colour.

    A 9x9 convolution to 64 with ReLU; factor/2 times a 3x3 convolution, nearest upsampling and LeakyReLU 0.2; a 9x9
    convolution and tanh. "factor/2 times" is correct only for 2 and 4. Keras' defaults.
    """

    input_range = (-1.0, 1.0)
    output_range = (-1.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 3, in_channels: int = 3, factor: int = 2) -> None:
        super().__init__()
        _only_factors("it upscales by two factor/2 times", factor, 2, 4)
        multiple_of(size, factor, f"both sides must be multiples of the factor {factor}")
        doublings = [
            layer
            for _ in range(factor // 2)
            for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.Upsample(scale_factor=2), nn.LeakyReLU(0.2))
        ]
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels, 64, 9, padding=4), nn.ReLU()),
            *doublings,
            *(nn.Conv2d(64, channels, 9, padding=4), nn.Tanh()),
        )
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) in [-1, 1] from (B, in_channels, H/factor, W/factor) in [-1, 1]."""
        return self.layers(x)


class PublishedSuperresDiscriminator(nn.Module):
    """The discriminator of the adversarial form of the published super-resolution.

    Eight 3x3 convolutions, 64 and then seven of stride 2 (64-128-128-256-256-512-512), each with LeakyReLU 0.2
    followed by batch norm (none in the first; Keras' momentum 0.8); a layer of 1024, LeakyReLU 0.2, one logit (the
    sigmoid is part of the loss). Strides pad below and on the right, as in Keras. As in the published code, the small
    image is an input but not used.
    """

    input_range = (-1.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 3) -> None:
        super().__init__()
        places = list(multiple_of(size, 1, "both sides must be at least 1"))
        widths = [64, 64, 128, 128, 256, 256, 512, 512]
        layers: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1), nn.LeakyReLU(0.2)]
        for inputs, outputs in pairwise(widths):
            # Keras pads an even side by 0 and 1, an odd one by 1 and 1
            layers.append(nn.ZeroPad2d((places[1] % 2, 1, places[0] % 2, 1)))
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2), nn.LeakyReLU(0.2), keras_norm(outputs, 0.8)]
            places = [(side + 1) // 2 for side in places]
        self.layers = nn.Sequential(
            *layers,
            *(nn.Flatten(), nn.Linear(512 * places[0] * places[1], 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)),
        )
        self.apply(keras_init)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, 1, 1, 1) of targets (B, channels, H, W) in [-1, 1]; the source is not used."""
        return self.layers(target)[:, :, None, None]


class ConvSuperres(nn.Module):
    """A correction to a linear upscaling: residual blocks at low resolution, then a pixel shuffle.

    EDSR's body (Lim et al. 2017, arXiv 1707.02921) with ESPCN's head (Shi et al. 2016, arXiv 1609.05158) on top of
    bicubic upscaling, as in VDSR (Kim et al. 2016, arXiv 1511.04587). ``base`` = none: the network predicts the whole
    image. With factor 1 the body works at half the size, on 2x2 pixels stacked as channels, which costs a quarter.
    One input channel may become three. The output is not squashed and may leave [-1, 1] slightly. ``output`` = chroma:
    the network predicts the colour that is laid on the lightness of the upscaled input (``coloured``); ``lightness``:
    it corrects that lightness, and colours stay those of the upscaled input, as Dong et al. 2014 (arXiv 1501.00092,
    sec. 4) treat colour.
    """

    input_range = (-1.0, 1.0)
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 1,
        in_channels: int = 1,
        factor: int = 2,
        width: int = 48,
        blocks: int = 6,
        base: Base = "bicubic",
        output: Output | Literal["lightness"] = "image",
    ) -> None:
        super().__init__()
        if output != "image" and base == "none":
            kept = "lightness" if output == "chroma" else "colour"
            raise ValueError(f"output={output}: base=none; must be bicubic or bilinear, of which the {kept} is kept")
        if output == "lightness" and (channels, in_channels) != (3, 3):
            raise ValueError(f"output=lightness: channels={channels}, in_channels={in_channels}; must both be 3")
        planes = 1 if output == "lightness" else outputs_of(output, in_channels, channels)
        self.output = output
        self.out_factor = max(factor, 2)
        self.in_factor = self.out_factor // factor
        multiple_of(size, self.out_factor, f"both sides must be multiples of {self.out_factor}")
        self.base = Enlarge(factor, in_channels, channels, base)
        self.head = nn.Conv2d(in_channels * self.in_factor**2, width, 3, padding=1)
        self.body = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, planes * self.out_factor**2, 3, padding=1)
        equal_phases_(self.tail, self.out_factor)
        scale_(self.tail, 0.1)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) from (B, in_channels, H/factor, W/factor), both on the [-1, 1] scale."""
        features = self.head(functional.pixel_unshuffle(x, self.in_factor))
        features = features + self.body(features)
        made = functional.pixel_shuffle(self.tail(features), self.out_factor)  # one plane is added to all three
        return coloured(self.base(x), made) if self.output == "chroma" else self.base(x) + made


def _conv_relu(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()


def _only_factors(why: str, factor: int, *legal: int) -> None:
    if factor not in legal:
        named = " or ".join(str(each) for each in legal)
        raise ValueError(f"task.factor={factor}: this network is as published, {why}; must be {named}")
