"""Which faces are of a kind, and who stands beside whom when a model paints another face of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from faceforge import counter_rng
from faceforge.data.sources.base import Face
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes

CHUNK = 1024  # faces looked at together
MAX_VALUES = 50  # an attribute with more different values is a measure, not a kind
LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def identities(faces: Sequence[Face]) -> np.ndarray:
    """A number for each person, int64 (N,); a face of nobody is a person of its own. Raises BadInput for no people."""
    if all(face.identity is None for face in faces):
        raise BadInput("task.subset=identity: the set does not say who is who; all, brightness or colour would do")
    return _numbered([("face", face.id) if face.identity is None else ("", face.identity) for face in faces])


def values_of(attributes: Attributes | None, name: str | None) -> np.ndarray:
    """A number for each value of an attribute, int64 (N,); unknown is a value too. Raises BadInput naming the key."""
    if attributes is None:
        raise BadInput("task.subset=attribute: the set has no attributes; data.attributes=CSV adds some")
    if name not in attributes[0]:
        [nearest] = get_close_matches(str(name), attributes[0], n=1, cutoff=0.0)
        raise BadInput(f"task.attribute={name}: the set has no such attribute, the nearest is {nearest}")
    column = attributes[1][:, attributes[0].index(name)]
    _, numbers = np.unique(column, return_inverse=True)
    if numbers.max() >= MAX_VALUES:
        raise BadInput(f"task.attribute={name}: more than {MAX_VALUES} different values; must be one of 0 and 1")
    return numbers.astype(np.int64)


def brightness(packed: np.ndarray) -> np.ndarray:
    """The tercile of each face's mean luma among all, uint8 (N, C, H, W) to int64 (N,): dark 0, middle 1, bright 2."""
    means = channel_means(packed)
    luma = means @ np.array(LUMA) if means.shape[1] == 3 else means[:, 0]
    return np.searchsorted(np.quantile(luma, [1 / 3, 2 / 3]), luma, side="right").astype(np.int64)


def colours(packed: np.ndarray) -> np.ndarray:
    """The channel of the largest mean, uint8 (N, 3, H, W) to int64 (N,): red 0, green 1, blue 2, the first of equals.

    The published routine does the same but names them from a list in which blue and green are swapped; the
    subsets are the same faces. Raises BadInput for grey faces.
    """
    if packed.shape[1] != 3:
        raise BadInput("task.subset=colour: grey faces have no colour; data.channels must be 3")
    return channel_means(packed).argmax(axis=1)


def channel_means(packed: np.ndarray) -> np.ndarray:
    """Mean of each channel of each face: uint8 (N, C, H, W) to float64 (N, C) in [0, 255], exact sums."""
    parts = [packed[n : n + CHUNK].sum(axis=(2, 3), dtype=np.int64) for n in range(0, len(packed), CHUNK)]
    return np.concatenate(parts) / (packed.shape[2] * packed.shape[3])


def _numbered(names: Sequence[tuple[str, str]]) -> np.ndarray:
    places = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], dtype=np.int64)


class Partners:
    """For each of some faces another of the same subset, by keyed draws; itself only where it is alone there."""

    def __init__(self, labels: np.ndarray, rows: np.ndarray, seed: int) -> None:
        """``labels`` int64 (N,) say which subset each face of the packed set is in; ``rows`` are those to draw from."""
        self.seed = seed
        self.members = rows[np.argsort(labels[rows], kind="stable")]  # subset after subset
        _, first, counts = np.unique(labels[self.members], return_index=True, return_counts=True)
        self._first, self._count = np.repeat(first, counts), np.repeat(counts, counts)
        self._place = np.full(len(labels), -1, dtype=np.int64)
        self._place[self.members] = np.arange(len(rows))

    def __call__(self, rows: np.ndarray, positions: Sequence[int] | np.ndarray, stream: str) -> np.ndarray:
        """Rows of the partners of ``rows`` (B,), drawn evenly for each of ``positions`` (B,) of a stream."""
        place = self._place[rows]
        first, others = self._first[place], self._count[place] - 1
        draw = counter_rng.uniform(self.seed, f"task/average/{stream}", positions)
        step = np.where(others > 0, 1 + np.floor(draw * others).astype(np.int64), 0)
        return self.members[first + (place - first + step) % (others + 1)]

    @property
    def alone(self) -> int:
        """How many of the faces have no other in their subset."""
        return int((self._count == 1).sum())
