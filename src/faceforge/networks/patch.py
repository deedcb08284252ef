"""Patch discriminators: every logit sees one square of an image and of its source.

Isola et al. 2017 (arXiv 1611.07004), section 3.2.2 and appendix 6.1.2. All take the source (B, in_channels, h, w)
and the target (B, channels, H, W), both in [-1, 1], and return logits (B, 1, H', W'); a smaller source is upscaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import Norm, he_init, keras_norm, norm_of, normalise_spectra, pix2pix_init
from faceforge.networks.sizes import Size, multiple_of

Judged = Tensor | tuple[Tensor, list[Tensor]]


class Layered(nn.Module):
    """Base of discriminators whose hidden layers can be compared (feature matching)."""

    def forward(self, source: Tensor, target: Tensor, with_maps: bool = False) -> Judged:
        """The logits; ``with_maps`` also the maps (B, C_l, H_l, W_l) of every hidden layer, after its activation."""
        raise NotImplementedError


class PublishedPatchDiscriminator(nn.Module):
    """The discriminator of the published face transformations: 6,965,441 parameters in colour.

    Kernel 4: 64 without norm, 128, 256 and 512 of stride 2, 512 of stride 1, LeakyReLU 0.2, then one logit per
    16x16 pixels (the sigmoid is part of the loss). It was described as 70x70, but each logit sees 142x142.
    N(0, 0.02) weights, Keras' batch norm and padding.
    """

    input_range = (-1.0, 1.0)
    receptive_field = 142

    def __init__(self, size: Size = (320, 256), channels: int = 3, in_channels: int = 3) -> None:
        super().__init__()
        multiple_of(size, 16, "the published discriminator halves four times: both sides must be multiples of 16")
        self.layers = nn.Sequential(
            *(nn.Conv2d(in_channels + channels, 64, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(64, 128, 4, 2, 1), keras_norm(128), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(128, 256, 4, 2, 1), keras_norm(256), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(256, 512, 4, 2, 1), keras_norm(512), nn.LeakyReLU(0.2)),
            # stride 1 keeps the size: one row and column of padding before, two after
            *(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(512, 512, 4), keras_norm(512), nn.LeakyReLU(0.2)),
            *(nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(512, 1, 4)),
        )
        self.apply(pix2pix_init)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B, 1, H/16, W/16) of targets (B, channels, H, W) and their sources, both in [-1, 1]."""
        return self.layers(_beside(source, target))


class PatchDiscriminator(Layered):
    """``layers`` halvings and two convolutions of stride 1, all of kernel 4: each logit sees 16, 34, 70, 142 or 286
    pixels of a side for 1 to 5 halvings.

    Channels: ``width``, doubling at every layer, at most ``max_width``; LeakyReLU 0.2. Norms except first and last;
    with instance norm the logits of an image do not depend on the batch. The first convolution of stride 1 pads by
    two, the last by one, so that there is one logit per position. ``spectral_norm`` divides each weight by its largest
    singular value (Miyato et al. 2018, arXiv 1802.05957). ``scales`` above 1 adds discriminators of the same form that
    see the images halved once, twice ... (Wang et al. 2018, arXiv 1711.11585, section 3.2).
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = (160, 128),
        channels: int = 3,
        in_channels: int = 3,
        layers: int = 3,
        width: int = 32,
        max_width: int = 128,
        norm: Norm = "none",
        spectral_norm: bool = False,
        scales: int = 1,
    ) -> None:
        super().__init__()
        if not 1 <= layers <= 5:
            raise ValueError(f"layers={layers}: must be 1 to 5 (receptive field 16, 34, 70, 142 or 286 pixels)")
        if scales < 1:
            raise ValueError(f"scales={scales}: must be at least 1")
        least = 2 ** (layers + scales)
        needed = f"{layers} layers" + (f" at {scales} scales" if scales > 1 else "")
        multiple_of(size, 1, f"{needed} need sides of at least {least}", least=least)
        self.receptive_field = 2**layers * 9 - 2
        widths = [min(width * 2**i, max_width) for i in range(layers + 1)]
        self.layers = _patches(in_channels + channels, widths, norm)
        self.coarser = nn.ModuleList(_patches(in_channels + channels, widths, norm) for _ in range(scales - 1))
        self.apply(he_init if spectral_norm else pix2pix_init)
        if spectral_norm:
            normalise_spectra(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, source: Tensor, target: Tensor, with_maps: bool = False) -> Judged:
        """Logits (B, scales, h, w) of targets (B, channels, H, W) and their sources, both in [-1, 1].

        h is H / 2**layers, rounded down at each halving. Logits of coarser scales are repeated: all scales weigh the
        same. ``with_maps``: as Layered.forward, of all scales.
        """
        logits, maps = [], []
        for layers, x in self._scales(source, target):
            for layer in layers:
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU):
                    maps.append(x)
            logits.append(functional.interpolate(x, logits[0].shape[-2:]) if logits else x)
        judged = torch.cat(logits, 1)
        return (judged, maps) if with_maps else judged

    def _scales(self, source: Tensor, target: Tensor) -> Iterator[tuple[nn.Sequential, Tensor]]:
        pair = _beside(source, target)
        yield self.layers, pair
        for layers in self.coarser:
            pair = functional.avg_pool2d(pair, 2)
            yield layers, pair  # type: ignore[misc]


def _patches(inputs: int, widths: list[int], norm: Norm) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(inputs, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)),
        *(layer for a, b in pairwise(widths[:-1]) for layer in _conv(a, b, norm, stride=2, padding=1)),
        *_conv(widths[-2], widths[-1], norm, stride=1, padding=2),
        nn.Conv2d(widths[-1], 1, 4, 1, 1),
    )


class ImagePatchDiscriminator(nn.Module):
    """Judges squares of an image alone, without a source, as beside an autoencoder (Esser et al. 2021, arXiv
    2012.09841, section 3.1).

    Patches of 2x2 pixels become ``width`` channels, which double at each of ``layers`` halvings (kernel 4, stride 2),
    at most ``max_width``; then two convolutions, all LeakyReLU 0.2. No norm: a logit depends on its own image only, as
    gradient penalties need.
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self, size: Size = 64, channels: int = 3, layers: int = 2, width: int = 32, max_width: int = 128
    ) -> None:
        super().__init__()
        if not 1 <= layers <= 5:
            raise ValueError(f"layers={layers}: must be 1 to 5")
        multiple_of(size, 2, "patches of 2x2 pixels need even sides", least=2**layers)
        widths = [min(width * 2**i, max_width) for i in range(layers + 1)]
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            *(nn.Conv2d(4 * channels, widths[0], 3, padding=1), nn.LeakyReLU(0.2)),
            *(layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2))),
            *(nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2)),
            nn.Conv2d(widths[-1], 1, 3, padding=1),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of images (B, channels, H, W) in [-1, 1]; h is H / 2**(layers + 1), rounded down."""
        return self.layers(x)


def _conv(inputs: int, outputs: int, norm: Norm, stride: int, padding: int) -> tuple[nn.Module, ...]:
    shrink = nn.Conv2d(inputs, outputs, 4, stride, padding, bias=norm == "none")
    return shrink, norm_of(outputs, norm), nn.LeakyReLU(0.2)


def _beside(source: Tensor, target: Tensor) -> Tensor:
    if source.shape[-2:] != target.shape[-2:]:
        source = functional.interpolate(source, target.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([source, target], 1)
