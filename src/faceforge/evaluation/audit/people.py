"""The real faces of an audit: training faces and held-out faces of other people; what stands on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceforge.cut import near_duplicates as alike
from faceforge.cut.identity_clusters import UNIT, groups
from faceforge.cut.measure import fingerprint
from faceforge.data.datamodule import FaceData
from faceforge.io.images import to_uint8
from faceforge.metrics.units import units
from faceforge.types import Json

Places = NDArray[np.int64]
HELD_OUT = ("val", "test")
CHUNK = 64
MOST_WITH_ONE_PRINT = 8  # faces with one fingerprint that are compared
PROTOCOL: Json = {
    "fingerprint": f"pHash of 64 bits, at most {alike.MAX_BITS} differ",
    "pixels": f"mean difference at most {alike.MAX_LEVELS:g} of 255 grey levels at {alike.COMPARED_SIDE} pixels a side",
    "tried": "mirrored",
}


@dataclass(frozen=True)
class Real:
    """Faces of a run's data by place: those of training first, then held-out ones of other people.

    ``split`` and ``within`` (N,): where each lies. ``rows`` (N,): its row in the packed cache.
    """

    data: FaceData
    split: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, data: FaceData, without: Sequence[int] = (), held_out: Sequence[str] = HELD_OUT) -> Real:
        """All training faces, and those of the splits ``held_out``, but for training people and rows ``without``."""
        trained = {data.people[row] for row in data.rows["train"]} - {None}
        split, within, left_out = ["train"] * data.counts["train"], list(range(data.counts["train"])), set(without)
        for name in held_out:
            for place, row in enumerate(data.rows[name]):
                if data.people[row] not in trained and int(row) not in left_out:
                    split.append(name)
                    within.append(place)
        return cls(data, np.array(split), np.array(within, dtype=np.int64))

    @property
    def training(self) -> Tensor:
        """Which are training faces, bool (N,)."""
        return torch.from_numpy(self.split == "train")

    @property
    def held_out(self) -> np.ndarray:
        """The places of held-out faces."""
        return np.flatnonzero(self.split != "train")

    @property
    def rows(self) -> np.ndarray:
        """The row of each in the packed cache."""
        return np.array([self.data.rows[s][n] for s, n in zip(self.split, self.within, strict=True)], dtype=np.int64)

    @property
    def people(self) -> Tensor:
        """The number of each one's person, int64 (N,)."""
        return units([self.data.people[row] for row in self.rows], len(self.rows))

    def images(self, places: np.ndarray) -> Tensor:
        """(N, C, H, W) in [-1, 1]."""
        return torch.cat([self.data.images(self.split[n], self.within[n : n + 1]) for n in places])

    def chunks(self) -> Iterator[Tensor]:
        """All, in parts (n, C, H, W)."""
        for name in ("train", *HELD_OUT):
            within = self.within[self.split == name]
            for first in range(0, len(within), CHUNK):
                yield self.data.images(name, within[first : first + CHUNK])


# ------------------------------------------------------------------------------------------------- on both sides


@dataclass(frozen=True)
class Twins:
    """Near duplicates: rows of the packed cache, of a training and of a held-out face."""

    training: int
    held_out: int
    split: str


def near_duplicates(data: FaceData) -> list[Twins]:
    """Pictures that stand in the training set and in another split, as `faceforge cut` finds them, or mirrored."""
    training, found = _greys(data, "train"), {}
    by_print: dict[int, list[int]] = {}
    for place, grey in enumerate(training):
        by_print.setdefault(fingerprint(grey), []).append(place)
    known = np.array(list(by_print), dtype=np.uint64)
    same_print = [places[:MOST_WITH_ONE_PRINT] for places in by_print.values()]
    for split in HELD_OUT:
        for mirrored in (False, True):
            greys = [grey[:, ::-1].copy() if mirrored else grey for grey in _greys(data, split)]
            prints = np.array([fingerprint(grey) for grey in greys], dtype=np.uint64)
            for n, print_ in alike.candidates(prints, known):
                small = alike.without_mean(greys[n])
                for place in same_print[print_]:
                    if alike.alike(small, alike.without_mean(training[place])):
                        pair = int(data.rows["train"][place]), int(data.rows[split][n])
                        found[pair] = Twins(*pair, split)
    return [found[pair] for pair in sorted(found)]


def _greys(data: FaceData, split: str) -> list[np.ndarray]:
    """Faces of a split as grey pictures, uint8 (H, W)."""
    greys = []
    for first in range(0, data.counts[split], CHUNK):
        places = range(first, min(first + CHUNK, data.counts[split]))
        for face in to_uint8(data.images(split, places)).permute(0, 2, 3, 1).numpy():
            greys.append(np.ascontiguousarray(face[..., 0]) if face.shape[2] == 1 else _grey(face))
    return greys


def _grey(face: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2GRAY)


def named_on_both_sides(data: FaceData) -> list[str]:
    """The names of people who have pictures in the training set and in another split."""
    names = {split: {data.people[row] for row in data.rows[split]} - {None} for split in data.rows}
    others = set().union(*(names[split] for split in HELD_OUT))
    return sorted(name for name in names["train"] & others if name is not None)


def alike_on_both_sides(embeddings: Tensor, training: Tensor) -> list[list[int]]:
    """Groups of faces of one person by face embedding, (N, 128) of norm 1, with faces on both sides: their places.

    ``training`` bool (N,). The grouping is that of `faceforge cut --people`.
    """
    first = groups(np.rint(embeddings.numpy() * UNIT).astype(np.int16))
    trained = training.numpy()
    members = [np.flatnonzero(first == leader) for leader in np.unique(first)]
    return [places.tolist() for places in members if 0 < trained[places].sum() < len(places)]
