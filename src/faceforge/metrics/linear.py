"""Closed-form fits: principal components and linear filters, exact and in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

COLUMNS = 2048  # rows of a matrix converted to float64 at a time
RIDGE = 1e-9  # of the mean diagonal: keeps singular systems (three equal channels) solvable
ROUNDS = 6  # of subspace iteration
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


Chunks = Callable[[], Iterable[Tensor]]


def leading_components(faces: Chunks, count: int, mirrored: bool, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), principal components (count, D) and deviations (count,) of faces that do not fit into memory, float32.

    ``faces()`` yields them in chunks (N, C, H, W), the same each time. ``mirrored`` counts every face twice, as it is
    and mirrored: then components are even or odd, and half a picture says all about each. What lies beyond the rank of
    the faces is zero. Raises ValueError for an odd width with ``mirrored``.
    """
    shape = next(iter(faces())).shape[1:]
    if mirrored and shape[2] % 2:
        raise ValueError(f"mirrored faces must have an even width, not {shape[2]}")
    found = []
    for sign in (1, -1) if mirrored else (0,):
        mean, rows, variances = _subspace(lambda sign=sign: (_half(x, sign) for x in faces()), count, sign >= 0, seed)
        found.append((_whole(mean[None], sign, shape)[0], _whole(rows, sign, shape), variances))
    means, rows, variances = zip(*found, strict=True)
    values, best = torch.cat(variances).topk(min(count, sum(map(len, variances))))
    kept = values > NOTHING * values[0]
    directions, deviations = torch.zeros(count, len(means[0])), torch.zeros(count)
    directions[: len(values)], deviations[: len(values)] = torch.cat(rows)[best] * kept[:, None], values.sqrt() * kept
    return sum(means), directions, deviations  # type: ignore[return-value]


def _half(images: Tensor, sign: int) -> Tensor:
    """Images (N, C, H, W) as rows; with a sign, those of their even (1) or odd (-1) half."""
    if not sign:
        return images.flatten(1)
    left, right = images.chunk(2, 3)
    return ((left + sign * right.flip(3)) / 2**0.5).flatten(1)


def _whole(rows: Tensor, sign: int, shape: torch.Size) -> Tensor:
    """The rows of whole images from those of their halves."""
    if not sign:
        return rows
    left = rows.unflatten(1, (*shape[:2], -1)) / 2**0.5
    return torch.cat([left, sign * left.flip(3)], 3).flatten(1)


def _subspace(chunks: Chunks, count: int, centred: bool, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), leading components and their variances of rows (N, D); without ``centred`` the mean is known to be 0.

    Subspace iteration from random numbers (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4) with a
    quarter more directions than are kept.
    """
    total = sum(len(chunk) for chunk in chunks())
    mean = (sum(chunk.double().sum(0) for chunk in chunks()) / total).float()  # type: ignore[union-attr]
    mean = mean if centred else torch.zeros_like(mean)
    wide = min(count + count // 4 + 16, len(mean))
    start = torch.randn(len(mean), wide, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(start)[0]
    for _ in range(ROUNDS):
        moved = torch.zeros_like(basis)
        for chunk in chunks():
            moved.addmm_((chunk - mean).T, (chunk - mean) @ basis)
        basis = torch.linalg.qr(moved)[0]
    gram = torch.zeros(wide, wide, dtype=torch.float64)
    for chunk in chunks():
        codes = ((chunk - mean) @ basis).double()
        gram.addmm_(codes.T, codes)
    variances, vectors = torch.linalg.eigh(gram / max(total - 1, 1))
    kept = slice(wide - min(count, wide), None)
    rows = (basis @ vectors[:, kept].float()).T
    return mean, rows, variances[kept].clamp(min=0).float()


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
