"""Closed-form fits: principal components and linear filters, exact and in chunks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = 2048  # rows of a matrix converted to float64 at a time
RIDGE = 1e-9  # of the mean diagonal: keeps singular systems (three equal channels) solvable
NOTHING = 1e-10  # of the largest variance: a component below it is rounding error


class Pca:
    """Mean and ``components`` (k, D) of images, with their standard ``deviations`` (k,) in the fitted set.

    Exact: eigenvectors of the Gram matrix or of the covariance, whichever is smaller, summed in float64. There is at
    most one component fewer than images.
    """

    def __init__(self, images: Tensor, size: int) -> None:
        """``images`` (N, C, H, W); ``size`` is the number of components."""
        self.shape = images.shape[1:]
        x = images.flatten(1)
        self.mean = x.double().mean(0)
        x = x - self.mean.float()
        gram = len(x) <= x.shape[1]
        values, vectors = torch.linalg.eigh(_products(x if gram else x.T))
        kept = min(size, len(x) - 1, int((values > NOTHING * values[-1]).sum()))
        values, vectors = values.flip(0)[:kept], vectors.flip(1)[:, :kept]
        self.deviations = (values / max(len(x) - 1, 1)).sqrt()
        self.components = _times(vectors.T / values.sqrt()[:, None], x) if gram else vectors.T.float()

    @property
    def size(self) -> int:
        """The number of components."""
        return len(self.components)

    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, k) of images (N, C, H, W)."""
        return (images.flatten(1).double() - self.mean).float() @ self.components.T

    def decode(self, codes: Tensor) -> Tensor:
        """Images (N, C, H, W) of codes (N, k)."""
        return ((codes @ self.components).double() + self.mean).float().unflatten(1, self.shape)


def _products(x: Tensor) -> Tensor:
    """x x^T in float64 of a float32 matrix (N, D)."""
    total = torch.zeros(len(x), len(x), dtype=torch.float64)
    for part in x.split(COLUMNS, 1):
        doubles = part.double()
        total.addmm_(doubles, doubles.T)
    return total


def _times(a: Tensor, x: Tensor) -> Tensor:
    """The product of a float64 and a float32 matrix, rounded to float32 at the end."""
    return torch.cat([(a @ part.double()).float() for part in x.split(COLUMNS, 1)], 1)


class LinearFilter:
    """For every pixel, a weighted sum of the ``side`` x ``side`` pixels around it, of all channels, and a constant.

    Least squares over all pixels of all pairs by the normal equations in float64; borders are replicated.
    """

    def __init__(self, pairs: Iterable[tuple[Tensor, Tensor]], side: int) -> None:
        """``pairs``: inputs (N, I, H, W) with targets (N, O, H, W)."""
        self.side = side
        parts = (self._normal_equations(*pair) for pair in pairs)
        left, right = reduce(lambda a, b: (a[0] + b[0], a[1] + b[1]), parts)
        left.diagonal().add_(RIDGE * left.diagonal().mean())
        self.weights = torch.linalg.solve(left, right)  # (I * side * side + 1, O)

    def _normal_equations(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self._columns(inputs), targets.double().movedim(1, -1).flatten(0, 2)
        return x.T @ x, x.T @ y

    def _columns(self, inputs: Tensor) -> Tensor:
        """The inputs of each pixel: (N * H * W, I * side * side + 1) float64."""
        seen = F.unfold(self._padded(inputs.double()), self.side).movedim(1, -1).flatten(0, 1)
        return torch.cat([seen, seen.new_ones(len(seen), 1)], 1)

    def _padded(self, inputs: Tensor) -> Tensor:
        return F.pad(inputs, (self.side // 2,) * 4, mode="replicate")

    def __call__(self, inputs: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H, W) of the same type."""
        sides = (inputs.shape[1], self.side, self.side)
        kernel = self.weights[:-1].T.unflatten(1, sides).to(inputs)
        return F.conv2d(self._padded(inputs), kernel, self.weights[-1].to(inputs))
