"""Copies of training faces among generated ones.

A generated face is compared with its nearest training face and with the nearest held-out faces, which no generator has
seen. Its score is the logarithm of the ratio of these distances. Blurred faces are near to all faces, and noise is
far from all: both distances change alike, and the ratio stays. A copy is near to one training face alone.

- `Tail`: a test of each face. The scores of held-out people against other held-out people say how small a ratio is by
  chance; beyond the smallest ones the tail is continued as an exponential (peaks over a threshold, Davison and Smith
  1990). Over N faces the chances are multiplied by N (Bonferroni), so the family-wise false-alarm rate is stated.
- `closeness`: a test of all faces together. The split is by a hash of the person, so any other division of the same
  people was as likely: a permutation test, exact whatever the generator does, also if it makes one face many times.

The test of Meehan et al. 2020 (arXiv 2004.05675) compares distances of generated and of held-out faces to the training
faces. It asks the same, but calls blurred faces copies, since they are nearer to every face than a photograph is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import chi2
from torch import Tensor

from faceforge import counter_rng
from faceforge.types import Json

SIDE = 16  # pixels a side at which faces are compared; a blurred copy is still one there
NEARBY = 8  # nearest faces of each kind that are compared again, closer
SPANNED = 4  # variants between whose steps a face may lie
HELD = 5  # nearest held-out faces whose mean is the measure: one alone varies more
FAINT = 0.02  # standard deviation, range -1 to 1, below which a picture counts as empty
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
LEAST = 30  # held-out faces that a tail needs
PART = 0.1  # of the scores are its tail
MOST = 4096  # neighbours kept
PART_OF_POOL = 64  # faces whose variants are in memory together
DIVISIONS = 999  # of the permutation test
NEAR = 1e-3  # of the median distance of held-out faces: smaller distances are equal


class Extractor(Protocol):
    """As `features.Features`: images (N, 1|3, H, W) in [-1, 1] to features (N, D), and how they are made."""

    @property
    def protocol(self) -> Json:
        """Extractor, weights, resize, input."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """(N, D) float32."""
        ...


Window = tuple[float, float, float]  # the share of both sides that a crop keeps, and its place, down and across


def _windows(shares: Sequence[float], places: int) -> list[Window]:
    """The whole picture, and crops of some shares at ``places`` x ``places`` places."""
    at = [n / (places - 1) for n in range(places)]
    return [(1.0, 0.0, 0.0), *((share, down, across) for share in shares for down in at for across in at)]


COARSE, FINE = _windows((0.95, 0.9), 3), _windows((0.975, 0.95, 0.925, 0.9), 5)


class Space(Protocol):
    """Where faces are compared, by Euclidean distance of variants of each face: the least one counts."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    @property
    def protocol(self) -> Json:
        """How distances are computed."""
        ...

    def pool(self, images: Tensor) -> Tensor:
        """(V, N, D) of faces (N, C, H, W) in [-1, 1] among which neighbours are sought."""
        ...

    def closer(self, images: Tensor) -> Tensor | None:
        """(V, N, D) of the few nearest faces, in more variants; None if there are no more."""
        ...

    def query(self, images: Tensor) -> Tensor:
        """(W, N, D) of faces whose neighbours are sought."""
        ...


class Pixels:
    """Luma at 16 x 16, less its plane of light, of norm 1: gain, offset and a gradient of light change nothing.

    Neighbours are also tried mirrored and cropped, the nearest of them in small steps: at 16 pixels a side, a crop by
    5 % at another place differs by a fraction of a pixel, which matters as much as another face does.
    """

    name = "pixels"

    @property
    def protocol(self) -> Json:
        """How vectors are made."""
        return {
            "distance": "Euclidean, of luma less its fitted plane, of norm 1",
            "resize": f"triangular filter, to {SIDE}x{SIDE}",
            "tried": "mirrored; crops of 95 and 90 % at 9 places, of the nearest faces of 97.5, 95, 92.5, 90 % at 25",
        }

    def pool(self, images: Tensor) -> Tensor:
        """(19, N, 256) of (N, 1|3, H, W) in [-1, 1]."""
        return torch.stack([_vectors(images, *window) for window in COARSE])

    def closer(self, images: Tensor) -> Tensor:
        """(101, N, 256) of (N, 1|3, H, W) in [-1, 1]."""
        return torch.stack([_vectors(images, *window) for window in FINE])

    def query(self, images: Tensor) -> Tensor:
        """(2, N, 256) of (N, 1|3, H, W) in [-1, 1]."""
        whole = COARSE[0]
        return torch.stack([_vectors(images, *whole), _vectors(images.flip(-1), *whole)])


class Extracted:
    """Features of an extractor; a face that is compared is also tried mirrored."""

    def __init__(self, name: str, extractor: Extractor, device: torch.device) -> None:
        self.name, self.extractor, self.device = name, extractor, device

    @property
    def protocol(self) -> Json:
        """That of the extractor."""
        return {"distance": "Euclidean, of features", "tried": "mirrored", **self.extractor.protocol}

    def pool(self, images: Tensor) -> Tensor:
        """(1, N, D) of (N, 1|3, H, W) in [-1, 1]."""
        return self.extractor(images.to(self.device)).float().cpu()[None]

    def closer(self, images: Tensor) -> None:
        """None."""

    def query(self, images: Tensor) -> Tensor:
        """(2, N, D) of (N, 1|3, H, W) in [-1, 1]."""
        return torch.cat([self.pool(images), self.pool(images.flip(-1))])


def _vectors(images: Tensor, share: float, down: float, across: float) -> Tensor:
    """(N, 256) of a window of images."""
    weights = images.new_tensor(LUMA if images.shape[1] == 3 else (1.0,))
    light = (images * weights[:, None, None]).sum(1)
    rows, columns = _means(light.shape[1], share, down), _means(light.shape[2], share, across)
    small = (rows @ light @ columns.T).flatten(1)
    line = torch.linspace(-1, 1, SIDE)
    grid = torch.stack([torch.ones(SIDE, SIDE), line[:, None].expand(SIDE, SIDE), line.expand(SIDE, SIDE)])
    plane = F.normalize(grid.flatten(1))  # orthogonal, since the line is symmetric
    rest = small - small @ plane.T @ plane
    return rest / rest.norm(dim=1, keepdim=True).clamp(min=FAINT * SIDE)


def _means(length: int, share: float, at: float) -> Tensor:
    """(SIDE, length): weighted means around SIDE places of a window that has a share of the length and lies at ``at``.

    The weights are a triangle two parts wide, and end at the picture's border.
    """
    part = length * share / SIDE
    centres = length * (1 - share) * at + part * (torch.arange(SIDE, dtype=torch.float64) + 0.5)
    pixels = torch.arange(length) + 0.5
    weights = (1 - (pixels - centres[:, None]).abs() / max(part, 1.0)).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()


# ----------------------------------------------------------------------------------------------------------- distances


@dataclass(frozen=True)
class Neighbours:
    """The nearest faces of a pool: distances (N, K) ascending, and places in the pool (N, K)."""

    distance: Tensor
    place: Tensor

    def few(self, allowed: Tensor) -> Neighbours:
        """The nearest `NEARBY` allowed ones, ``allowed`` bool (pool,) or (N, K).

        If fewer of the kept ones are allowed, the rest are at the distance of the last one, which is too small, and at
        place -1.
        """
        allowed = allowed if allowed.ndim == 2 else allowed[self.place]
        last = self.place.shape[1] - 1
        columns = torch.where(allowed, torch.arange(last + 1), last + 1)
        columns = F.pad(columns, (0, NEARBY), value=last + 1).topk(NEARBY, largest=False, sorted=True).values
        place = torch.where(columns <= last, self.place.gather(1, columns.clamp(max=last)), -1)
        return Neighbours(self.distance.gather(1, columns.clamp(max=last)), place)

    def of(self, rows: slice) -> Neighbours:
        """Those of some of the faces."""
        return Neighbours(self.distance[rows], self.place[rows])


def nearest(queries: Tensor, pool: Iterable[Tensor], kept: int) -> Neighbours:
    """The nearest ``kept`` faces to each of the queries (W, N, D), from a pool in parts (V, n, D), n of any size."""
    ways, count, _ = queries.shape
    flat = queries.flatten(0, 1)
    squares = flat.square().sum(1, keepdim=True)
    distance, place, done = torch.empty(count, 0), torch.empty(count, 0, dtype=torch.int64), 0
    for part in pool:
        variants = part.flatten(0, 1)
        found = (squares + variants.square().sum(1) - 2 * flat @ variants.T).clamp(min=0)
        found = found.view(ways, count, *part.shape[:2]).amin((0, 2))
        here = torch.arange(done, done + part.shape[1]).expand(count, -1)
        distance, place, done = torch.cat([distance, found], 1), torch.cat([place, here], 1), done + part.shape[1]
        if distance.shape[1] > kept:
            distance, order = distance.topk(kept, largest=False)
            place = place.gather(1, order)
    distance, order = distance.sort(1)
    return Neighbours(distance.sqrt(), place.gather(1, order))


def to_keep(training: int, held_out: int) -> int:
    """Neighbours to keep so that both kinds are among them, but for a chance of e^-20, where they mix."""
    whole = training + held_out
    return min(whole, MOST, math.ceil(20 * whole / max(1, min(training, held_out))))


def closer(queries: Tensor, found: Neighbours, pool: Callable[[Tensor], Tensor | None]) -> Neighbours:
    """A few neighbours (N, K) of queries (W, N, D) compared again, nearest first.

    ``pool`` gives the variants (V, n, D) of places (n,); neighbours at place -1 stay where they are.
    """
    distance = found.distance.clone()
    for part in found.place[found.place >= 0].unique().split(PART_OF_POOL):
        variants = pool(part)
        if variants is None:
            return found
        for n, place in enumerate(part.tolist()):
            face, column = (found.place == place).nonzero(as_tuple=True)
            near = _to_span(queries[:, face].flatten(0, 1), variants[:, n])
            distance[face, column] = torch.minimum(distance[face, column], near.view(len(queries), -1).amin(0))
    distance, order = distance.sort(1)
    return Neighbours(distance, found.place.gather(1, order))


def _to_span(queries: Tensor, variants: Tensor) -> Tensor:
    """Distances (M,) of queries (M, D) to the span of the `SPANNED` variants (V, D) nearest to each.

    Between two steps of a crop lies nearly a sum of both, as in the tangent distance of Simard et al. 1993.
    """
    best = torch.cdist(queries, variants).topk(min(SPANNED, len(variants)), largest=False).indices
    basis = torch.linalg.qr(variants[best].transpose(1, 2)).Q
    return (queries - (basis @ (basis.transpose(1, 2) @ queries[..., None]))[..., 0]).norm(dim=1)


def log_ratio(training: Tensor, held_out: Tensor, least: float) -> Tensor:
    """The score (N,) from ascending distances (N, K) to training and to held-out faces; a copy's is far below 0.

    The nearest training face over the geometric mean of the nearest `HELD` held-out ones. Distances below ``least``
    count as that.
    """
    return training[:, 0].clamp(min=least).log() - held_out[:, :HELD].clamp(min=least).log().mean(1)


# --------------------------------------------------------------------------------------------------------------- tests


@dataclass(frozen=True)
class Tail:
    """The lower tail of scores without copies: below ``edge`` lies a ``share``, at a ``mean_excess``.

    The mean excess is its upper 95 % limit, since few scores determine it.
    """

    edge: float
    share: float
    mean_excess: float
    scores: int

    @classmethod
    def fit(cls, scores: Tensor) -> Tail:
        """From scores (N,). Raises ValueError below `LEAST`."""
        if len(scores) < LEAST:
            raise ValueError(f"{len(scores)} held-out faces to compare with: at least {LEAST} are needed")
        ordered = scores.double().sort().values
        count = max(10, math.ceil(PART * len(ordered)))
        edge = float(ordered[count])
        excess = edge - float(ordered[:count].mean())
        upper = 2 * count * excess / float(chi2.ppf(0.05, 2 * count))
        return cls(edge, (count + 1) / (len(ordered) + 1), max(upper, 1e-6), len(ordered))

    def log_chance(self, scores: Tensor) -> Tensor:
        """The logarithm of the chance (N,) of a score as low as each, at most that of the edge; above it, 0."""
        beyond = (self.edge - scores.double()) / self.mean_excess
        return torch.where(beyond > 0, math.log(self.share) - beyond, torch.zeros_like(beyond))

    def threshold(self, log_chance: float) -> float:
        """The score whose chance has this logarithm."""
        return self.edge - self.mean_excess * max(0.0, math.log(self.share) - log_chance)


@dataclass(frozen=True)
class Closeness:
    """Whether generated faces are nearer to training faces than to held-out ones: how much, and how likely by chance.

    ``ratio`` is the mean ratio of distances over its mean in random divisions: below 1 is nearer to training faces.
    """

    ratio: float
    p: float


def closeness(found: Neighbours, training: Tensor, people: Tensor, seed: int) -> Closeness:
    """Permutation test of the mean score. ``training`` bool (pool,), ``people`` int64 (pool,): the number of a person.

    All faces of a person are on one side. ``p`` is the share of divisions of the people with a score as low, the real
    one among them (Phipson and Smyth 2010).
    """
    logs, place = found.distance.clamp(min=1e-9).log().numpy(), found.place.numpy()
    person, count = people.numpy(), int(people.max()) + 1
    trained = np.zeros(count, bool)
    trained[person[training.numpy()]] = True
    real = _mean_score(logs, trained[person][place])
    drawn = np.empty(DIVISIONS)
    for n in range(DIVISIONS):
        division = trained[counter_rng.permutation(seed, "audit/divide", n, count)]
        drawn[n] = _mean_score(logs, division[person][place])
    p = (1 + int((drawn <= real + 1e-12).sum())) / (1 + DIVISIONS)
    return Closeness(math.exp(real - drawn.mean()), p)


def _mean_score(logs: NDArray[np.float32], trained: NDArray[np.bool_]) -> float:
    """The mean score of sorted log distances (N, K), given which of the neighbours are training faces (N, K)."""
    line, last = np.arange(len(logs)), logs.shape[1] - 1
    first = [np.where(side.any(1), side.argmax(1), last) for side in (trained, ~trained)]
    return float((logs[line, first[0]] - logs[line, first[1]]).mean(dtype=np.float64))
