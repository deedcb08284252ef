"""The latent space of an autoencoder: densities of codes and attribute directions.

A ``LatentSpace`` is computed once from the codes of training faces and stored in the run folder as plain arrays:
densities to sample codes from, and directions of attributes. Codes are z (N, Z) float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isinf
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.io import tensors
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.masks import EXAMPLES, Decode, place_of
from faceforge.types import Json

Array = NDArray[np.floating[Any]]
Range = tuple[float, float] | None
Density = Literal["prior", "uniform", "gaussian", "mixture"]
Kind = Literal["mean_difference", "logistic", "orthogonalised"]
Say = Callable[[str], None]
SPACE = "latent.safetensors"  # in a run folder
FORMAT, VERSION = "faceforge latent space", 1
FACES = 5000  # maximum of encoded faces: a shrunk covariance of 1024 units gains little from more
FEWEST = 3  # faces with and without, each, that a direction needs
GENERATED = "generated"  # split of faces that a GAN made
COMPONENTS = (1, 2, 4, 8, 16)
MIXED = 128  # principal components with a fitted mixture; the others are normal
RIDGE = 0.1  # most of the variance of white codes: without it, many components learn by heart
HELD_OUT = 5  # every fifth code chooses the number of them
ITERATIONS = 100  # of a logistic regression; codes of faces take about 20
ALL_ITERATIONS = 1500  # for all attributes: 20 s on one core for 5000 codes of 1024 numbers
GIVEN_UP = 3  # attributes without a direction after which the rest are skipped
RESOLUTION = 1e-6  # relative to its largest value: a unit that varies less is constant up to float32 rounding
ALIKE = 0.9  # cosine from which two directions count as the same and are not projected out
BEST_FIRST: tuple[Density, ...] = ("mixture", "gaussian", "prior", "uniform")
EDGE = 1e-4  # codes in (0, 1) are clamped to this distance from 0 and 1


def offered(has_prior: bool, code_range: Range) -> tuple[Density, ...]:
    """What codes may be drawn from, the best first: densities fitted to those of training faces, U[0, 1) where the
    published projects did so, and N(0, 1) if training draws codes towards it.
    """
    left_out = {"uniform": code_range is None, "prior": not has_prior}
    return tuple(density for density in BEST_FIRST if not left_out.get(density))


# ----------------------------------------------------------------------------------------------------- ranges of codes


@dataclass(frozen=True)
class Link:
    """Maps codes in their range to an unbounded space, in which densities are fitted, and back.

    - no range: the codes themselves
    - (0, 1), a sigmoid: its inverse, the logit
    - [0, inf), a ReLU: half of the codes are exactly 0, which no density models. They are treated as normal numbers
      censored at 0 (Tobin 1958): the share of zeros and the mean of a unit give its ``location`` and ``scale``. A zero
      is replaced by the mean of the censored part; ``spread``, the remaining deviation, restores the lost variance,
      and ``restore`` the correlation.
    """

    code_range: Range
    location: Array
    scale: Array
    spread: Array

    @classmethod
    def fit(cls, codes: Array, code_range: Range) -> Link:
        """Fit from codes (N, Z)."""
        ones = np.ones(codes.shape[1])
        if code_range is None or not isinf(code_range[1]):
            return cls(code_range, 0 * ones, ones, ones)
        location, scale = map(_single, _censored(codes))
        spread = cls(code_range, location, scale, ones).free(codes).std(0)
        return cls(code_range, location, scale, _single(np.where(spread > 0, spread, 1.0)))

    def free(self, codes: Array) -> Array:
        """Codes in their range -> the unbounded space."""
        if self.code_range is None:
            return codes
        if not isinf(self.code_range[1]):
            inside = np.clip(codes, EDGE, 1 - EDGE)
            return np.log(inside / (1 - inside))
        scale = np.where(self.scale > 0, self.scale, 1.0)
        edge = -self.location / scale
        below = -_density(edge) / np.maximum(ndtr(edge), 1e-12)  # mean of a normal number given that it is below
        return np.where(codes > 0, (codes - self.location) / scale, below) / self.spread

    def restore(self, axes: Array) -> Array:
        """Axes (Z, Z) of points with the correlations of the uncensored numbers.

        To first order a unit replaced by its mean where it is censored keeps spread^2 of its covariance with any other
        (Kendall's attenuation), of which ``free`` restores one factor of spread. A unit that is nearly always 0 has too
        little information to restore more.
        """
        if self.code_range is None or not isinf(self.code_range[1]):
            return axes
        known = axes.T @ axes
        whole = known / np.outer(*[np.maximum(self.spread, 0.7)] * 2)
        np.fill_diagonal(whole, known.diagonal())
        restored = axes @ _power(known, -0.5) @ _power(whole, 0.5)
        variance = (restored**2).sum(0)
        return restored * np.sqrt(known.diagonal() / np.where(variance > 0, variance, 1.0))

    def bound(self, points: Array) -> Array:
        """Back to codes in their range."""
        if self.code_range is None:
            return points
        if not isinf(self.code_range[1]):
            return 1 / (1 + np.exp(-points))
        return np.maximum(self.location + self.scale * points, 0)


def _power(covariance: Array, exponent: float) -> Array:
    """Square root of a symmetric matrix, with negative eigenvalues set to 0."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 1e-6 * values.max()) ** exponent) @ vectors.T


def _density(x: Array) -> Array:
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


def _censored(codes: Array) -> tuple[Array, Array]:
    """Location and scale (Z,) of normal numbers censored at 0.

    With a = location / scale, the share of zeros is P(-a), and the mean scale * (a P(a) + p(a)).
    """
    share, mean = (codes <= 0).mean(0), codes.mean(0)
    a = ndtri(1 - np.clip(share, 0.5 / len(codes), 1 - 0.5 / len(codes)))
    scale = np.where(share > 0, mean / (a * ndtr(a) + _density(a)), codes.std(0))
    return np.where(share > 0, a * scale, mean), scale


# ------------------------------------------------------------------------------------------------------------ densities


def fit_gaussian(points: Array) -> tuple[Array, Array]:
    """Mean (Z,) and axes (Z, Z), longest first, of points (N, Z): mean + normal numbers @ axes has their distribution.

    The covariance is shrunk towards its mean variance (Ledoit and Wolf 2004), so that it is regular also for fewer
    points than dimensions.
    """
    from sklearn.covariance import LedoitWolf  # only fitting needs it, and importing takes a second

    if len(points) < 2:
        return points.mean(0), np.eye(points.shape[1])
    values, vectors = np.linalg.eigh(LedoitWolf().fit(points).covariance_)
    return points.mean(0), (vectors * np.sqrt(np.maximum(values, 0))).T[::-1].copy()


def fit_mixture(white: Array, seed: int) -> tuple[Array, Array, Array]:
    """Weights (K,), means (K, D) and axes (K, D, D) of normal distributions, for points (N, D) of unit variance.

    Normal numbers @ axes have the covariance of a component, to which a ridge is added; all is scaled back to unit
    variance. Of 1, 2, 4, 8 and 16 components, the number whose fit to the others makes held-out points most likely.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    state = counter_rng.key(seed, "latent/mixture") % 2**32
    ridge = min(RIDGE, 4 * white.shape[1] / len(white))
    held = np.arange(len(white)) % HELD_OUT == 0
    counts = [count for count in COMPONENTS if count == 1 or len(white) >= 20 * count]
    options = {"covariance_type": "full", "reg_covar": ridge, "max_iter": 60, "tol": 1e-2, "random_state": state}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit that has not converged is judged like the others
        fits = [GaussianMixture(k, **options).fit(white[~held]) for k in counts if len(counts) > 1]
        found = [fit.score_samples(white[held]) for fit in fits]
        best = GaussianMixture(counts[_fewest(found)], **options).fit(white)
    shrunk = (1 + ridge) ** -0.5
    axes = np.linalg.cholesky(np.asarray(best.covariances_)).transpose(0, 2, 1)
    return np.asarray(best.weights_), np.asarray(best.means_) * shrunk, axes * shrunk


def _fewest(found: Sequence[Array]) -> int:
    """The first of several log likelihoods (N,) that is not clearly below the best; 0 for none."""
    best = max(found, key=np.mean, default=np.zeros(0))
    below = [best - each for each in found]
    near = [float(gap.mean()) <= 2 * float(gap.std()) / len(gap) ** 0.5 for gap in below]
    return near.index(True) if near else 0


# ----------------------------------------------------------------------------------------------------------- directions


def mean_difference(having: Array, lacking: Array) -> Array:
    """Mean of the codes (N, Z) with the attribute minus mean of those without: (Z,), as published."""
    return having.mean(0) - lacking.mean(0)


def logistic(having: Array, lacking: Array) -> Array | None:
    """The normal (Z,) of a logistic regression between the two sets, scaled to the distance of their means along it.

    Units are standardised first, both sets have equal weight, the penalty is scikit-learn's (C = 1). None if no unit
    varies, or if 100 iterations do not converge, as happens with collapsed codes.
    """
    return _regress(having, lacking, ITERATIONS)[0]


def _regress(having: Array, lacking: Array, most: int) -> tuple[Array | None, int]:
    """As logistic, with a limit of iterations and the number used."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    codes = np.concatenate([having, lacking])
    deviation = codes.std(0)
    scale = np.where(deviation > RESOLUTION * np.abs(codes).max(0), deviation, np.inf)
    labels = np.arange(len(codes)) < len(having)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression = LogisticRegression(class_weight="balanced", max_iter=most)
        fit = regression.fit((codes - codes.mean(0)) / scale, labels)
    normal = fit.coef_[0] / scale
    length, iterations = normal @ normal, int(fit.n_iter_[0])
    if length == 0 or iterations >= most:
        return None, iterations
    return normal * (mean_difference(having, lacking) @ normal / length), iterations


def normals_of(sets: Mapping[str, tuple[Array, Array]], say: Say) -> tuple[list[Array], list[str]]:
    """The logistic normal of each attribute, and the names of those without one, which get their mean difference.

    After ``GIVEN_UP`` attributes without one, or ``ALL_ITERATIONS``, the rest are skipped, so that collapsed codes do
    not take minutes. The limit is on iterations, not time: the same codes give the same directions on any machine.
    """
    found: list[Array] = []
    without: list[str] = []
    left = ALL_ITERATIONS
    for number, (name, pair) in enumerate(sets.items()):
        say(f"direction {number + 1} of {len(sets)}: {name}")
        normal, spent = None, 0
        if left and len(without) < GIVEN_UP:
            normal, spent = _regress(*pair, min(left, ITERATIONS))
        left -= spent
        without += [name] if normal is None else []
        found.append(mean_difference(*pair) if normal is None else normal)
    return found, without


def orthogonalised(differences: Array, normals: Array) -> Array:
    """Mean differences (A, Z) with the normals (A, Z) of the other attributes projected out.

    A mean difference includes correlated attributes: smiling people may wear more glasses. Conditional manipulation as
    in Shen et al. 2020 (InterFaceGAN, arXiv 1907.10786, section 2.3), against all others at once; of many attributes,
    those that it moves most, at most a quarter of the units. Attributes at a cosine beyond 0.9 count as the same and
    are not projected out.
    """
    units = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    apart = np.abs(units @ units.T) < ALIKE
    found = []
    for n, difference in enumerate(differences):
        moved = np.where(apart[n] & (np.arange(len(units)) != n), np.abs(units @ difference), 0.0)
        most = np.argsort(-moved)[: max(1, units.shape[1] // 4)]
        others = units[most[moved[most] > 0]]
        found.append(difference - np.linalg.pinv(others, rcond=1e-6) @ (others @ difference))
    return np.array(found).reshape(differences.shape)


# ------------------------------------------------------------------------------------------------------------ the space


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """Densities and directions of the codes of one checkpoint.

    ``names`` are the attributes with a direction in ``differences`` and ``normals`` (A, Z): mean difference and
    logistic. ``made`` records the source: split, count, checkpoint, manifest and seed; and ``without_logistic``,
    the attributes whose normal is their mean difference, because no logistic direction was found.
    """

    link: Link
    mean: Array
    axes: Array
    weights: Array
    centres: Array
    deviations: Array
    names: tuple[str, ...]
    differences: Array
    normals: Array
    made: Mapping[str, Any]

    @classmethod
    def fit(
        cls, module: Encodes, data: FaceData, checkpoint: str | None = None, seed: int = 0, say: Say = lambda text: None
    ) -> LatentSpace:
        """From the training faces of a datamodule, at most 5000 of them, and their labels where there are some.

        ``checkpoint`` is the hash of the file its weights come from; ``say`` is told what is being made.
        """
        say("codes of training faces")
        order = counter_rng.permutation(seed, "latent/faces", 0, data.counts["train"])
        chosen = np.sort(order[:FACES])
        codes = encode(module, data, chosen)
        labels = data.attributes and (data.attributes[0], data.attributes[1][data.rows["train"][chosen]])
        made = {
            "split": "train",
            "count": len(codes),
            "checkpoint": checkpoint,
            "manifest": data.manifest,
            "seed": seed,
            "has_prior": module.has_prior,
        }
        return cls.of_codes(codes, module.code_range, labels, made, say)

    @classmethod
    def of_codes(
        cls,
        codes: Array,
        code_range: Range,
        labels: tuple[Sequence[str], Array] | None,
        made: Mapping[str, Any],
        say: Say = lambda text: None,
    ) -> LatentSpace:
        """Compute from codes (N, Z) and labels (names, (N, A), nan if unknown)."""
        codes = np.asarray(codes, dtype=np.float64)
        say("densities of codes")
        link = Link.fit(codes, code_range)
        points = link.free(codes)
        mean, axes = fit_gaussian(points)
        leading = axes[:MIXED]
        white = (points - mean) @ (leading / np.maximum((leading**2).sum(1, keepdims=True), 1e-12)).T
        mixture = fit_mixture(white, int(made.get("seed", 0)))
        sets = dict(_sets(codes, *labels)) if labels else {}
        differences = [mean_difference(*pair) for pair in sets.values()]
        normals, without = normals_of(sets, say)
        shape = (len(sets), codes.shape[1])
        mean, axes, weights, centres, deviations, *rows = map(
            _single, (mean, link.restore(axes), *mixture, np.reshape(differences, shape), np.reshape(normals, shape))
        )
        return cls(
            link,
            mean,
            axes,
            weights,
            centres,
            deviations,
            tuple(sets),
            rows[0],
            rows[1],
            {**made, "without_logistic": without},
        )

    @property
    def densities(self) -> tuple[Density, ...]:
        """What codes of faces may be drawn from, the best first; all in files of earlier versions."""
        known = self.made.get("has_prior")
        return offered(known, self.link.code_range) if isinstance(known, bool) else BEST_FIRST

    @property
    def without_logistic(self) -> list[str]:
        """Attributes whose normal is their mean difference."""
        names = self.made.get("without_logistic")  # missing in older files
        return names if isinstance(names, list) else []

    @property
    def principal(self) -> list[str]:
        """The last of the names, which no label gave: every kind of them is the same direction."""
        names = self.made.get("principal")  # of GANs only
        return names if isinstance(names, list) else []

    @property
    def left_out(self) -> str | None:
        """A sentence naming the attributes without a logistic direction; None if all have one."""
        names = self.without_logistic
        if not names:
            return None
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return (
            f"No logistic direction was found for {len(names)} of {len(self.names)} attributes ({listed}) within "
            f"{ITERATIONS} iterations; their mean difference is used instead."
        )

    def sample(self, density: Density, count: int, seed: int = 0, start: int = 0, truncation: float = 1.0) -> Tensor:
        """Codes ``start ...`` of a seed: (count, Z) float32, within rounding the same for any count. Raises BadInput.

        ``prior``: normal numbers, mapped into the range of the code. ``uniform``: U[0, 1), as published.
        ``gaussian`` and ``mixture``: densities fitted to the codes of training faces. All are moved towards the mean by
        ``truncation``.
        """
        positions = np.arange(start, start + count)
        if density not in get_args(Density):
            raise BadInput(f"density={density}: must be one of {', '.join(get_args(Density))}")
        if density == "uniform":
            numbers = counter_rng.uniform(seed, "latent/uniform", positions, self.mean.shape)
            return _tensor(0.5 + truncation * (numbers - 0.5))
        noise = counter_rng.normal(seed, f"latent/{density}", positions, self.mean.shape)
        if density == "prior":
            return _tensor(_linked(truncation * noise, self.link.code_range))
        if density == "mixture":
            mixed = self.centres.shape[1]
            noise[:, :mixed] = self._mixed(noise[:, :mixed], counter_rng.uniform(seed, "latent/component", positions))
        return _tensor(self.link.bound(self.mean + truncation * noise @ self.axes))

    def _mixed(self, noise: Array, uniforms: Array) -> Array:
        which = np.minimum(np.searchsorted(np.cumsum(self.weights), uniforms, side="right"), len(self.weights) - 1)
        if self.deviations.ndim == 2:  # of older files: independent axes
            return self.centres[which] + self.deviations[which] * noise
        drawn = self.centres[which]
        for component, axes in enumerate(self.deviations):
            drawn[which == component] += noise[which == component] @ axes
        return drawn

    @property
    def kind(self) -> Kind:
        """The kind of directions that is used where none is asked for.

        In z of a GAN, whose numbers are alike and few, little is left of an attribute without those that go with it.
        """
        return "mean_difference" if self.made.get("split") == GENERATED else "orthogonalised"

    def directions(self, kind: Kind | None = None) -> dict[str, Tensor]:
        """Directions by attribute, (Z,) float32: strength 1.0 is the step from the mean without to the mean with it."""
        kind = kind or self.kind
        if kind not in get_args(Kind):
            raise BadInput(f"direction={kind}: must be one of {', '.join(get_args(Kind))}")
        found = self.normals if kind == "logistic" else self.differences
        if kind == "orthogonalised":
            apart = len(self.names) - len(self.principal)
            found = np.concatenate([orthogonalised(found[:apart], self.normals[:apart]), found[apart:]])
        return {name: _tensor(row) for name, row in zip(self.names, found, strict=True)}

    def edit(self, z: Tensor, strengths: Mapping[str, float], kind: Kind | None = None) -> Tensor:
        """Codes (N, Z) moved along attributes by their strengths, kept in their range. Raises BadInput."""
        known = self.directions(kind)
        for name in strengths:
            if name not in known:
                right = f"known are {', '.join(known)}" if known else "this run has none: its faces have no labels"
                raise BadInput(f"{name}: no such attribute; {right}")
        step = sum((s * known[name].to(z) for name, s in strengths.items()), torch.zeros_like(z))
        return moved(z, step, self.link.code_range)

    def mask(self, decode: Decode, name: str, kind: Kind | None = None) -> Tensor:
        """Where an attribute shows, (1, 1, H, W) from 0 to 1: what a step of 1 along it changes in random faces.

        ``decode`` makes images (N, C, H, W) of codes (N, Z). Raises BadInput for an unknown attribute.
        """
        z = self.sample("gaussian", EXAMPLES)
        return place_of(decode, z, self.edit(z, {name: 1.0}, kind))

    def with_attribute(self, name: str, having: Array, lacking: Array) -> LatentSpace:
        """This space plus one attribute, from two sets of codes (N, Z). Raises BadInput for fewer than 3 per set."""
        if min(len(having), len(lacking)) < FEWEST:
            found = f"{len(having)} faces with and {len(lacking)} without"
            raise BadInput(f"{name}: {found}; must be at least {FEWEST} of each")
        sets = np.asarray(having, dtype=np.float64), np.asarray(lacking, dtype=np.float64)
        (normal,), without = normals_of({name: sets}, say=lambda text: None)
        space = self._with({name: (mean_difference(*sets), normal)}, first=True)
        others = [other for other in self.without_logistic if other != name]
        return replace(space, made={**space.made, "without_logistic": [*others, *without]})

    def with_principal(self, directions: Mapping[str, Array]) -> LatentSpace:
        """This space with these directions (Z,) that no label gave, and no others of that kind."""
        space = self._with({name: (row, row) for name, row in directions.items()}, first=False)
        return replace(space, made={**space.made, "principal": list(directions)})

    def _with(self, rows: Mapping[str, tuple[Array, Array]], first: bool) -> LatentSpace:
        """With differences and normals of other names: ``first``, before the principal ones, or instead of them."""
        gone = {*rows, *([] if first else self.principal)}
        kept = [n for n, name in enumerate(self.names) if name not in gone]
        at = sum(self.names[n] not in self.principal for n in kept) if first else len(kept)
        order = [*(self.names[n] for n in kept[:at]), *rows, *(self.names[n] for n in kept[at:])]
        found = {self.names[n]: (self.differences[n], self.normals[n]) for n in kept} | dict(rows)
        shape = (len(order), len(self.mean))
        differences, normals = (_single(np.reshape([found[name][n] for name in order], shape)) for n in (0, 1))
        return replace(self, names=tuple(order), differences=differences, normals=normals)

    def pack(self) -> tuple[Json, dict[str, NDArray[np.float32]]]:
        """As plain data: metadata and arrays."""
        low, high = self.link.code_range or (None, None)
        about = {"format": FORMAT, "version": VERSION, "names": self.names, "made": self.made}
        about["range"] = None if low is None or high is None else [low, None if isinf(high) else high]
        own = {name: getattr(self, name) for name in ARRAYS if name not in LINK}
        arrays = own | {name: getattr(self.link, name) for name in LINK}
        return about, {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}

    @classmethod
    def unpack(cls, about: Mapping[str, Any], arrays: Mapping[str, Array], where: str) -> LatentSpace:
        """Restore packed data. Raises BadInput naming ``where`` if it is damaged or foreign."""
        if about.get("format") != FORMAT:
            raise _foreign(where)
        if about.get("version") != VERSION:
            found = f"version {about.get('version')}, this one reads {VERSION}"
            raise BadInput(f"{where}: written by another faceforge ({found})")
        if not _fits(about, arrays):
            raise _foreign(where)
        doubles = {name: array.astype(np.float64) for name, array in arrays.items()}
        found = about["range"]
        code_range = None if found is None else (found[0], float("inf") if found[1] is None else found[1])
        link = Link(code_range, *(doubles.pop(name) for name in LINK))
        return cls(link=link, **doubles, names=tuple(about["names"]), made=about["made"])  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write one safetensors file atomically."""
        about, arrays = self.pack()
        tensors.write(path, about, {name: torch.from_numpy(array) for name, array in arrays.items()})

    @classmethod
    def load(cls, path: Path, checkpoint: str | None = None) -> LatentSpace:
        """Load a saved space. Raises BadInput if the file is damaged or foreign, or, given a ``checkpoint``'s hash, if
        it was made from another one.
        """
        space = cls.unpack(*_read(path), where=str(path))
        if checkpoint is not None and space.made.get("checkpoint") != checkpoint:
            raise BadInput(f"{path}: made from another checkpoint than the run's best; finish the run to update it")
        return space


LINK = ("location", "scale", "spread")
ARRAYS = ("mean", "axes", "weights", "centres", "deviations", "differences", "normals", *LINK)


def encode(module: Encodes, data: FaceData, indices: NDArray[np.integer[Any]], chunk: int = 256) -> Array:
    """Codes (N, Z) of training faces, in chunks."""
    parts = [indices[n : n + chunk] for n in range(0, len(indices), chunk)]
    device = next(module.parameters()).device
    codes = [module.encode(data.images("train", part).to(device)).cpu() for part in parts]
    return torch.cat(codes).double().numpy()


def _sets(codes: Array, names: Sequence[str], values: Array) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """(name, (codes with, codes without)) of each attribute with enough faces of both kinds."""
    for name, column in zip(names, values.T, strict=True):
        known, limit = ~np.isnan(column), having_above(column)
        having, lacking = codes[known & (column > limit)], codes[known & (column <= limit)]
        if min(len(having), len(lacking)) >= FEWEST:
            yield name, (having, lacking)


def having_above(column: Array) -> float:
    """The value above which a face has an attribute, from its values (N,), nan if unknown: 0.5 if they are 0 and 1,
    else their median.
    """
    known = column[~np.isnan(column)]
    return 0.5 if set(np.unique(known)) <= {0.0, 1.0} else float(np.median(known))


def binary(column: Array, chosen: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Values (N,) as 0, 1, or nan if unknown; a median is that of the ``chosen`` rows."""
    return np.where(np.isnan(column), np.nan, column > having_above(column[chosen])).astype(np.float32)


def moved(z: Tensor, step: Tensor, code_range: Range) -> Tensor:
    """Codes (N, Z) after a step, kept in their range."""
    return z + step if code_range is None else (z + step).clamp(*code_range)


def _linked(noise: Array, code_range: Range) -> Array:
    """Normal numbers mapped into a range by ReLU or sigmoid, as after batch norm."""
    if code_range is None:
        return noise
    return np.maximum(noise, 0) if isinf(code_range[1]) else 1 / (1 + np.exp(-noise))


def _single(values: Array) -> Array:
    """Rounded as in a file, so that loaded and fitted spaces are equal."""
    return np.asarray(values, dtype=np.float32).astype(np.float64)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _read(path: Path) -> tuple[Json, dict[str, Array]]:
    try:
        about, arrays = tensors.read(path)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; a latent run writes it at its end") from None
    except tensors.Unreadable:
        raise _foreign(str(path)) from None
    return about, {name: array.float().numpy() for name, array in arrays.items()}


def _foreign(where: str) -> BadInput:
    return BadInput(f"{where}: not a latent space of faceforge, or damaged; finish the run to write it again")


def _fits(about: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
    """Whether all parts are present, finite and of consistent shapes."""
    if set(arrays) != set(ARRAYS) or not all(np.isfinite(array).all() for array in arrays.values()):
        return False
    units, names = arrays["mean"].shape, about.get("names")
    if not isinstance(names, list) or not isinstance(about.get("made"), dict) or len(units) != 1:
        return False
    mixed = (*arrays["weights"].shape, *arrays["centres"].shape[1:])
    if len(mixed) != 2 or mixed[1] > units[0]:
        return False
    shapes = dict.fromkeys(LINK, units) | {"mean": units, "axes": units * 2, "weights": arrays["weights"].shape}
    shapes |= {"centres": mixed, "deviations": (*mixed, *mixed[1:])[: max(arrays["deviations"].ndim, 2)]}
    shapes |= dict.fromkeys(("differences", "normals"), (len(names), *units))
    return all(arrays[name].shape == shape for name, shape in shapes.items())
