"""The capabilities of trained schemes, as base classes; the third is ``PairedScheme.predict``."""

from __future__ import annotations

from torch import Tensor

from faceforge.schemes.base import Kind, Scheme
from faceforge.schemes.scales import Span


class Generates(Scheme):
    """Decodes codes or noise to faces."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of z (N, ...): eval mode, averaged weights."""
        raise NotImplementedError


class Samples(Generates):
    """Samples faces from noise of a known distribution."""

    @property
    def trained_by(self) -> str | None:
        """The name of the features that the training uses, which must not score it."""
        return None

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of z, without the batch."""
        raise NotImplementedError

    @property
    def labels(self) -> tuple[str, ...]:
        """The attributes that can be chosen: z then is a line that ends in a number for each, 1 with it, -1 without."""
        return ()

    @property
    def latent(self) -> Kind:
        """The distribution of z: N(0, 1) or U[0, 1)."""
        raise NotImplementedError

    def draw(self, count: int, seed: int = 0, start: int = 0, truncation: float = 1.0) -> Tensor:
        """z (count, ...) of samples ``start ...`` of a seed, moved towards the mean by ``truncation``."""
        raise NotImplementedError

    def sample(self, count: int, seed: int = 0) -> Tensor:
        """(count, C, H, W) in [-1, 1] on the CPU, from samples of a seed."""
        raise NotImplementedError


class Encodes(Generates):
    """Also encodes faces; the fitted density of codes (``LatentSpace``) allows sampling and editing."""

    @property
    def latent_size(self) -> int:
        """The length of a code."""
        raise NotImplementedError

    @property
    def code_range(self) -> Span | None:
        """The range of codes, if it is limited."""
        raise NotImplementedError

    @property
    def has_prior(self) -> bool:
        """Whether training draws codes towards N(0, 1), so that faces may be sampled from it."""
        return False

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, Z) of images (N, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def invert(self, images: Tensor, steps: int) -> Tensor:
        """Codes (N, Z) that decode closer to images than the encoder's own do, by ``steps`` of optimisation."""
        raise NotImplementedError
