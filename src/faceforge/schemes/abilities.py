"""What a trained scheme can be asked for, by the class that it derives from; ``PairedScheme.predict`` is the third."""

from __future__ import annotations

from torch import Tensor

from faceforge.schemes.base import Kind, Scheme
from faceforge.schemes.scales import Span


class Generates(Scheme):
    """Makes faces of codes or of noise."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of z (N, ...): eval mode, averaged weights."""
        raise NotImplementedError


class Samples(Generates):
    """Makes faces of noise of its own, of which nothing but its kind is known."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of z, without the batch."""
        raise NotImplementedError

    @property
    def latent(self) -> Kind:
        """How z is distributed: N(0, 1) or U[0, 1)."""
        raise NotImplementedError

    def draw(self, count: int, seed: int = 0, start: int = 0, truncation: float = 1.0) -> Tensor:
        """z (count, ...) of samples ``start ...`` of a seed, brought to ``truncation`` of their way from the middle."""
        raise NotImplementedError

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """(count, C, H, W) in [-1, 1] on the CPU, from samples of a seed."""
        raise NotImplementedError


class Encodes(Generates):
    """Makes codes of faces too, whose density is fitted (``LatentSpace``), so that they are sampled and edited."""

    @property
    def latent_size(self) -> int:
        """The numbers in a code."""
        raise NotImplementedError

    @property
    def code_range(self) -> Span | None:
        """Where codes lie; None for a posterior, whose prior is N(0, 1)."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, Z) of images (N, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def invert(self, images: Tensor, steps: int) -> Tensor:
        """Codes (N, Z) that decode closer to images than the encoder's own do, by ``steps`` of optimisation."""
        raise NotImplementedError
