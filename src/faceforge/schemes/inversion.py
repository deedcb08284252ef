"""Codes of photos: an encoder for a GAN, which has none of its own, and optimisation from where an encoder starts."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.networks.inverter import Inverter
from faceforge.schemes.abilities import Encodes, Samples
from faceforge.schemes.scales import UNIT, Span, into, out_of

LARGEST = 2048  # numbers of z, at most: a space holds the square of them
BATCH = 32  # real faces of a step, and as many generated ones
RATE = 1e-3
PIXELS = 30.0  # weight of the squared error of pixels in [0, 1]; that of z, whose variance is 1, has weight 1
Decode = Callable[[Tensor], Tensor]


class GanCodes(Encodes):
    """A GAN and an encoder for it: the code of a face is the z, as one row, from which the GAN would make it.

    The labels of a conditional GAN are the last numbers of z, and of the code.
    """

    def __init__(self, gan: Samples, encoder: Inverter) -> None:
        super().__init__(gan.seed)
        self.gan, self.encoder = gan, encoder
        self.average, self.clock = gan.average, gan.clock

    @property
    def latent_size(self) -> int:
        """As Encodes.latent_size."""
        return size_of(self.gan)

    @property
    def code_range(self) -> Span | None:
        """As Encodes.code_range; none where z ends in labels, whose range is another."""
        return UNIT if self.gan.latent == "uniform" and not self.gan.labels else None

    @property
    def has_prior(self) -> bool:
        """As Encodes.has_prior."""
        return self.gan.latent == "normal"

    def guessed(self, images: Tensor) -> Tensor:
        """Codes (N, Z) of images (N, C, H, W) in [-1, 1], with gradients."""
        told = len(self.gan.labels)
        noise, labels = self.encoder(into(self.encoder, images)).split([self.latent_size - told, told], 1)
        noise = noise.sigmoid() if self.gan.latent == "uniform" else noise
        return torch.cat([noise, labels.tanh()], 1) if told else noise

    def drawn(self, z: Tensor, span: Span) -> Tensor:
        """Images (N, C, H, W) in ``span`` of codes (N, Z), with gradients; the generator must be in eval mode."""
        return out_of(self.average, self.average(z.unflatten(1, self.gan.latent_shape)), span)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """As Encodes.encode."""
        with self.evaluating(self.encoder):
            return self.guessed(images).float()

    def decode(self, z: Tensor) -> Tensor:
        """As Generates.decode, of codes (N, Z)."""
        return self.gan.decode(z.unflatten(1, self.gan.latent_shape))

    def invert(self, images: Tensor, steps: int) -> Tensor:
        """As Encodes.invert, by ``nearer``."""
        with self.evaluating(self.average):
            return nearer(images, self.encode(images), lambda z: self.drawn(z, UNIT), steps, self.code_range)


def size_of(gan: Samples) -> int:
    """The numbers of z. Raises BadInput if they are too many for directions."""
    count = prod(gan.latent_shape)
    if count > LARGEST:
        raise BadInput(f"z of this GAN has {count:,} numbers; must be at most {LARGEST:,} for directions and codes")
    return count


def nearer(
    images: Tensor,
    first: Tensor,
    decode: Decode,
    steps: int,
    code_range: Span | None,
    rate: float = 0.05,
    pull: float = 1e-3,
) -> Tensor:
    """Codes (N, Z) that decode closer to images (N, C, H, W) in [-1, 1] than ``first`` do, the codes of an encoder.

    Starting there, ``steps`` of Adam on the squared error of pixels in [0, 1] plus ``pull`` times the squared distance
    from the encoder's code, in standard deviations of these codes: without it codes leave the region of faces (Zhu et
    al. 2020, arXiv 2004.00049). Codes with a range stay in it. Faces are optimised independently. ``decode`` makes
    images in [0, 1] of codes, with gradients.
    """
    scale = first.std().clamp(min=1e-3)
    with torch.enable_grad():
        z = first.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([z], lr=rate * float(scale))
        for _ in range(steps):
            error = (decode(z) - (images + 1) / 2).square().flatten(1).mean(1)
            away = ((z - first) / scale).square().mean(1)
            optimizer.zero_grad()
            (error + pull * away).sum().backward()
            optimizer.step()
            if code_range:
                z.data.clamp_(*code_range)
    return z.detach()


def fit_encoder(gan: Samples, data: FaceData, steps: int, seed: int, tick: Callable[[int], None]) -> GanCodes:
    """An encoder for a GAN: of faces that it generates, whose z are known, and of the training faces of ``data``.

    ``steps`` of Adam in one cycle of the rate. The loss is the squared error of z for generated faces, plus ``PIXELS``
    times the squared error of pixels for training faces, which go through encoder and generator: an encoder that saw
    generated faces alone fails on real ones (Zhu et al. 2020, arXiv 2004.00049). A code that leaves the sphere of
    samples costs the square of what it is too long. The same on the same kind of processor for the same seed; ``tick``
    is told the faces of each step. Raises BadInput for a z of too many numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(counter_rng.key(seed, "directions/encoder") >> 1)
        network = Inverter(size_of(gan), (data.height, data.width), data.channels)
    codes = GanCodes(gan, network).to(gan.device)
    optimizer = torch.optim.Adam(network.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=max(steps, 1))
    with torch.enable_grad(), codes.evaluating(gan.average):
        for step in range(steps):
            optimizer.zero_grad()
            _loss(codes, data, step, seed).backward()
            optimizer.step()
            cycle.step()
            tick(2 * BATCH)
    network.eval().requires_grad_(False)
    return codes


def _loss(codes: GanCodes, data: FaceData, step: int, seed: int) -> Tensor:
    rows = counter_rng.order(seed, data.counts["train"], range(step * BATCH, (step + 1) * BATCH))
    real = data.images("train", rows).to(codes.gan.device)
    if data.flip:
        mirrored = counter_rng.uniform(seed, "directions/mirrored", range(step * BATCH, (step + 1) * BATCH)) < 0.5
        real = torch.where(torch.from_numpy(mirrored).to(real.device)[:, None, None, None], real.flip(-1), real)
    z = codes.gan.draw(BATCH, counter_rng.key(seed, "directions/z") >> 1, step * BATCH).to(real.device)
    made = codes.gan.decode(z)
    found, guessed = codes.guessed(torch.cat([made, real])).split(BATCH)
    pixels = functional.mse_loss(codes.drawn(guessed, UNIT), (real + 1) / 2)
    too_long = (guessed.square().mean(1) - z.flatten(1).square().mean()).clamp(min=0).square().mean()
    return functional.mse_loss(found, z.flatten(1)) + PIXELS * pixels + too_long
