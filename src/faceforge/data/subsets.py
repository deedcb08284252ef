"""Subsets of faces, and the partner of each face in tasks whose target is another face of the same subset."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

import numpy as np

from faceforge import counter_rng
from faceforge.data.sources.base import Face
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes

CHUNK = 1024  # faces per chunk
MAX_VALUES = 50  # an attribute with more different values is continuous
LUMA = (0.299, 0.587, 0.114)  # Rec. 601


class Pixels(Protocol):
    """Packed faces, uint8 (N, C, H, W), in slices: an array, or one that is larger than memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, channels, height, width."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


def identities(faces: Sequence[Face]) -> np.ndarray:
    """A number per person, int64 (N,); each unnamed face is its own person. Raises BadInput without identities."""
    if all(face.identity is None for face in faces):
        raise BadInput("task.subset=identity: the dataset has no identities; use all, brightness or colour")
    return _numbered([("face", face.id) if face.identity is None else ("", face.identity) for face in faces])


def values_of(attributes: Attributes | None, name: str | None) -> np.ndarray:
    """A number per value of an attribute, int64 (N,); unknown counts as a value. Raises BadInput naming the key."""
    if attributes is None:
        raise BadInput("task.subset=attribute: the dataset has no attributes; add some with data.attributes=CSV")
    if name not in attributes[0]:
        [nearest] = get_close_matches(str(name), attributes[0], n=1, cutoff=0.0)
        raise BadInput(f"task.attribute={name}: the dataset has no such attribute, the nearest is {nearest}")
    column = attributes[1][:, attributes[0].index(name)]
    if np.isnan(column).all():
        raise BadInput(f"task.attribute={name}: no face has a known value; the labels must match the images")
    _, numbers = np.unique(column, return_inverse=True)
    if numbers.max() >= MAX_VALUES:
        raise BadInput(f"task.attribute={name}: more than {MAX_VALUES} different values; must be 0 or 1")
    return numbers.astype(np.int64)


def brightness(packed: Pixels) -> np.ndarray:
    """The tercile of each face's mean luma among all, uint8 (N, C, H, W) to int64 (N,): dark 0, middle 1, bright 2."""
    means = channel_means(packed)
    luma = means @ np.array(LUMA) if means.shape[1] == 3 else means[:, 0]
    return np.searchsorted(np.quantile(luma, [1 / 3, 2 / 3]), luma, side="right").astype(np.int64)


def colours(packed: Pixels) -> np.ndarray:
    """The channel with the largest mean, uint8 (N, 3, H, W) to int64 (N,): red 0, green 1, blue 2; ties: the first.

    The published routine does the same but names them from a list in which blue and green are swapped; the
    subsets are the same faces. Raises BadInput for grey faces.
    """
    if packed.shape[1] != 3:
        raise BadInput("task.subset=colour: grey faces have no colour; data.channels must be 3")
    return channel_means(packed).argmax(axis=1)


def channel_means(packed: Pixels) -> np.ndarray:
    """Mean of each channel of each face: uint8 (N, C, H, W) to float64 (N, C) in [0, 255], exact sums."""
    parts = [packed[n : n + CHUNK].sum(axis=(2, 3), dtype=np.int64) for n in range(0, len(packed), CHUNK)]
    return np.concatenate(parts) / (packed.shape[2] * packed.shape[3])


def _numbered(names: Sequence[tuple[str, str]]) -> np.ndarray:
    places = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], dtype=np.int64)


class Partners:
    """Draws another face of the same subset for each face, by keyed draws; itself only if it is alone."""

    def __init__(self, labels: np.ndarray, rows: np.ndarray, seed: int) -> None:
        """``labels`` int64 (N,) is the subset of each packed face; ``rows`` are the faces to draw from."""
        self.seed = seed
        self.members = rows[np.argsort(labels[rows], kind="stable")]  # subset after subset
        _, first, counts = np.unique(labels[self.members], return_index=True, return_counts=True)
        self._first, self._count = np.repeat(first, counts), np.repeat(counts, counts)
        self._place = np.full(len(labels), -1, dtype=np.int64)
        self._place[self.members] = np.arange(len(rows))

    def __call__(self, rows: np.ndarray, positions: Sequence[int] | np.ndarray, stream: str) -> np.ndarray:
        """Rows of the partners of ``rows`` (B,), drawn uniformly for ``positions`` (B,) of a stream."""
        place = self._place[rows]
        first, others = self._first[place], self._count[place] - 1
        draw = counter_rng.uniform(self.seed, f"task/average/{stream}", positions)
        step = np.where(others > 0, 1 + np.floor(draw * others).astype(np.int64), 0)
        return self.members[first + (place - first + step) % (others + 1)]

    @property
    def alone(self) -> int:
        """The number of faces that are alone in their subset."""
        return int((self._count == 1).sum())
