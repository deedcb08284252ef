"""Convolutional GANs that upsample a small seed to a face: the published one, the PyTorch-tutorial DCGAN, and our
default.

Generators have `latent_shape`, `latent` (the distribution of z: "normal" is N(0, 1), "uniform" is U[0, 1))
and `output_range`; discriminators have `input_range` and return logits (B,), positive for "real". Sizes are
[height, width] or one int; unsupported sizes raise ValueError naming the nearest valid ones.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from faceforge.networks.blocks import normalise_spectra
from faceforge.networks.conditional import TakesLabels
from faceforge.networks.sizes import Size, as_pair, seed_of, text


class PublishedConventionalGenerator(nn.Module):
    """The "conventional" generator of the published GAN (final state of 2023), 125,811 parameters, as
    published.

    Five transposed convolutions, each followed by ReLU and only then batch norm (none in the last two),
    default initialisation. The last ReLU leaves the output in [0, inf) although images end at 1; kept as
    published. Images must be clamped; the project's own tools wrapped them modulo 256.
    """

    latent_shape = (5, 5, 5)
    latent = "uniform"
    output_range = (0.0, inf)

    def __init__(self, size: Size = 64, channels: int = 3) -> None:
        super().__init__()
        _only_64(size)
        self.layers = nn.Sequential(
            *_published_up(5, 128, kernel=4, stride=1, padding=2, norm=True),  # 4x4
            *_published_up(128, 64, kernel=3, stride=3, padding=2, norm=True),  # 8x8
            *_published_up(64, 32, kernel=4, stride=2, padding=1, norm=True),  # 16x16
            *_published_up(32, 16, kernel=4, stride=2, padding=1, norm=False),  # 32x32
            *_published_up(16, channels, kernel=2, stride=2, padding=0, norm=False),  # 64x64
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, 64, 64) in [0, inf) from z (B, 5, 5, 5) in [0, 1)."""
        return self.layers(z)


class PublishedDiscriminator(nn.Module):
    """The discriminator of the published GAN, 429,121 parameters; the final sigmoid is part of the loss on
    logits.
    """

    input_range = (0.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 3) -> None:
        super().__init__()
        _only_64(size)
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 32, 7, padding="same"), nn.AvgPool2d(2), nn.LeakyReLU(0.01)),  # 32x32
            *(nn.Conv2d(32, 64, 5, padding="same"), nn.AvgPool2d(2), nn.LeakyReLU(0.01)),  # 16x16
            *(nn.Conv2d(64, 128, 3, stride=2, padding=1), nn.ReLU()),  # 8x8
            *(nn.Conv2d(128, 256, 3, stride=2, padding=1), nn.ReLU()),  # 4x4
            *(nn.Flatten(), nn.Linear(4096, 1)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) from images (B, channels, 64, 64) in [0, 1]."""
        return self.layers(images).flatten()


class TutorialGenerator(nn.Module):
    """The PyTorch-tutorial DCGAN generator: Radford et al. 2015 (arXiv 1511.06434), fig. 1, at half its
    widths.

    z of 100 normal numbers, 512-256-128-64 channels, kernel 4 without bias, batch norm, tanh; N(0, 0.02)
    weights.
    """

    latent_shape = (100,)
    latent = "normal"
    output_range = (-1.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 3) -> None:
        super().__init__()
        _only_64(size)
        self.layers = nn.Sequential(
            *_tutorial_up(100, 512, stride=1, padding=0),
            *_tutorial_up(512, 256),
            *_tutorial_up(256, 128),
            *_tutorial_up(128, 64),
            *(nn.ConvTranspose2d(64, channels, 4, 2, 1, bias=False), nn.Tanh()),
        )
        self.apply(_tutorial_init)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, 64, 64) in [-1, 1] from z (B, 100)."""
        return self.layers(z[:, :, None, None])


class TutorialDiscriminator(nn.Module):
    """The PyTorch-tutorial DCGAN discriminator: 64-128-256-512 channels, LeakyReLU 0.2, batch norm except in
    the first layer.
    """

    input_range = (-1.0, 1.0)

    def __init__(self, size: Size = 64, channels: int = 3) -> None:
        super().__init__()
        _only_64(size)
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)),
            *_tutorial_down(64, 128),
            *_tutorial_down(128, 256),
            *_tutorial_down(256, 512),
            nn.Conv2d(512, 1, 4, bias=False),
        )
        self.apply(_tutorial_init)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) from images (B, channels, 64, 64) in [-1, 1]."""
        return self.layers(images).flatten()


class ConventionalGenerator(TakesLabels):
    """A seed of about 4x4 upsampled by two until it has the image size: the published design, modernised.

    Normal z -> linear -> seed; every upsampling is a transposed convolution (kernel 4, stride 2, which covers
    each pixel evenly), batch norm, LeakyReLU 0.2. Each resolution adds its RGB output to the upsampled image of
    the previous one (skip generator, Karras et al. 2020, arXiv 1912.04958, fig. 7); tanh keeps the sum in
    [-1, 1]. Channels: `width` at half the image size, doubling at every step towards the seed, at most
    `max_width`. `size` as in `seed_of`.
    """

    latent = "normal"
    output_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_size: int = 128,
        width: int = 32,
        max_width: int = 256,
    ) -> None:
        super().__init__()
        doublings, self.seed = seed_of(size)
        self.latent_shape = (latent_size,)
        widths = _widths(doublings, width, max_width)[::-1]
        self.label_features = widths[0] * self.seed[0] * self.seed[1]
        self.expand = nn.Linear(latent_size, self.label_features)
        self.first = nn.Sequential(nn.BatchNorm2d(widths[0]), nn.LeakyReLU(0.2))
        self.doublings = nn.ModuleList(_double(a, b) for a, b in pairwise(widths))
        self.colours = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths[1:])
        self.last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1)
        self._initialise()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, channels, height, width) in [-1, 1] from z (B, latent_size) and labels (B, K), if it takes any."""
        features = (self.expand(z) + self.of_labels(labels)).unflatten(1, (*self.seed, -1)).permute(0, 3, 1, 2)
        features, image = self.first(features), None
        for double, colour in zip(self.doublings, self.colours, strict=True):
            features = double(features)
            image = _added(image, colour(features))
        return torch.tanh(_added(image, self.last(features)))

    def _initialise(self) -> None:
        nn.init.normal_(self.expand.weight, 0.0, self.latent_shape[0] ** -0.5)
        nn.init.zeros_(self.expand.bias)
        for module in [*self.doublings.modules(), *self.colours, self.last]:
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                _normal(module, 0.02)


class ConventionalDiscriminator(TakesLabels):
    """The mirrored generator: strided convolutions (kernel 4, stride 2), LeakyReLU 0.2, then one linear layer.

    No batch norm, so that each logit depends only on its image and gradient penalties are valid, except for one
    number per batch: the mean standard deviation of its features, which shows the discriminator a lack of
    variety (Karras et al. 2018, arXiv 1710.10196, section 3). `spectral_norm` divides each weight by its
    largest singular value (Miyato et al. 2018, arXiv 1802.05957). Widths and sizes as in the generator.
    """

    input_range = (-1.0, 1.0)

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        width: int = 32,
        max_width: int = 256,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__()
        doublings, seed = seed_of(size)
        widths = [channels, *_widths(doublings, width, max_width)]
        self.halvings = nn.Sequential(*(layer for a, b in pairwise(widths) for layer in _halve(a, b)))
        self.variety = Variety()
        self.label_features = widths[-1]
        # no bias: it would cancel in a relativistic loss and get no gradient
        self.judge = nn.Linear((widths[-1] + 1) * seed[0] * seed[1], 1, bias=False)
        self._initialise()
        if spectral_norm:
            normalise_spectra(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B,) from images (B, channels, height, width) in [-1, 1] and labels (B, K), if it takes any."""
        features = self.halvings(images)
        logits = self.judge(torch.cat([features, self.variety(features)], 1).flatten(1)).flatten()
        return logits + self.projected(features, labels)

    def _initialise(self) -> None:
        for module in self.halvings:
            if isinstance(module, nn.Conv2d):
                _normal(module, sqrt(2 / (1 + 0.2**2) / module.weight[0].numel()))  # He et al. 2015, eq. 14
        nn.init.normal_(self.judge.weight, 0.0, self.judge.in_features**-0.5)


def _widths(doublings: int, width: int, max_width: int) -> list[int]:
    """Channels at half the image size, a quarter, ... down to the seed."""
    return [min(width * 2**i, max_width) for i in range(doublings)]


def _double(inputs: int, outputs: int) -> nn.Module:
    grow = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)
    return nn.Sequential(grow, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))


def _halve(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]


def _added(image: Tensor | None, finer: Tensor) -> Tensor:
    """The image so far, upsampled by two, plus the output of the next resolution."""
    if image is None:
        return finer
    return finer + interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)


class Variety(nn.Module):
    """The standard deviation of features over their batch, averaged over features and positions."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, 1, h, w), all the same number, from (B, C, h, w)."""
        spread = (self.variance(features.float()) + 1e-8).sqrt().mean()
        return spread.to(features.dtype).expand(len(features), 1, *features.shape[-2:])

    def variance(self, features: Tensor) -> Tensor:
        """(C, h, w): the variance over the batch, not the unbiased one."""
        return (features - features.mean(0)).square().mean(0)  # torch.var(0) is several times slower here


def _normal(layer: nn.Conv2d | nn.ConvTranspose2d, std: float) -> None:
    nn.init.normal_(layer.weight, 0.0, std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _only_64(size: Size) -> None:
    if as_pair(size) != (64, 64):
        raise ValueError(f"this network supports only 64x64, not {text(as_pair(size))}; set the size to 64")


def _published_up(inputs: int, outputs: int, *, kernel: int, stride: int, padding: int, norm: bool) -> list[nn.Module]:
    """Transposed convolution, then ReLU, and only then batch norm: the published order."""
    grow = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding)
    return [grow, nn.ReLU(), *([nn.BatchNorm2d(outputs)] if norm else [])]


def _tutorial_up(inputs: int, outputs: int, stride: int = 2, padding: int = 1) -> list[nn.Module]:
    grow = nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False)
    return [grow, nn.BatchNorm2d(outputs), nn.ReLU()]


def _tutorial_down(inputs: int, outputs: int) -> list[nn.Module]:
    shrink = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
    return [shrink, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]


def _tutorial_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
