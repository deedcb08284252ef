"""The faces that are scored, and the entries of a kind of scores in evaluation.json."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import comparison
from faceforge.evaluation.kept import Key
from faceforge.metrics import table
from faceforge.metrics.units import Groups
from faceforge.types import Json

PIXELS = 1 << 20  # of targets per chunk
MOST = 256  # faces looked at together
Tick = Callable[[int], None]  # receives the number of finished faces


@dataclass(frozen=True)
class Judged:
    """The faces that are scored: positions within a split, and their identities (None: unknown)."""

    data: FaceData
    split: str
    places: np.ndarray
    groups: Groups

    @property
    def people(self) -> int:
        """The number of different people; each unknown face counts as one."""
        return len({group for group in self.groups if group}) + sum(group is None for group in self.groups)

    @property
    def names(self) -> list[str]:
        """The ids of the faces."""
        return [self.data.ids[row] for row in self.data.rows[self.split][self.places]]

    def some(self, count: int, seed: int) -> Judged:
        """At most this many of them, a keyed subset."""
        if count >= len(self.places):
            return self
        return self.only(np.sort(counter_rng.permutation(seed, "evaluate/faces", 0, len(self.places))[:count]))

    @property
    def key(self) -> Mapping[str, str]:
        """What tells these faces from others."""
        summary = self.data.summary()
        places = hashlib.sha256(self.places.astype("<i8").tobytes()).hexdigest()
        known = {name: str(summary[name]) for name in ("source", "manifest", "protocol_hash")}
        return {**known, "split": self.split, "positions": places}

    @property
    def folder(self) -> Path:
        """The folder of the packed faces."""
        return self.data.packed_folder

    def images(self) -> Tensor:
        """The faces (N, C, H, W) in [-1, 1]."""
        return self.data.images(self.split, self.places)

    def only(self, kept: np.ndarray) -> Judged:
        """Those at some indices (or where a mask is true)."""
        chosen = np.arange(len(self.places))[kept]
        return Judged(self.data, self.split, self.places[chosen], [self.groups[n] for n in chosen])

    def chunks(self, size: int) -> list[np.ndarray]:
        """Their positions, in chunks of ``size``."""
        return [self.places[first : first + size] for first in range(0, len(self.places), size)]


@dataclass
class Part:
    """The entries of one kind of scores in evaluation.json.

    ``kept`` are values of single faces by table, row, score and whose they are, and ``faces`` the faces of each table,
    for evaluation.npz (kept.py).
    """

    rows: list[Json] = field(default_factory=list)
    protocols: dict[str, Json] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    beats: dict[str, comparison.Flag] = field(default_factory=dict)
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kept: dict[Key, np.ndarray] = field(default_factory=dict)
    faces: dict[str, Judged] = field(default_factory=dict)


def all_faces(data: FaceData, split: str) -> Judged:
    """The faces of a split."""
    rows = data.rows[split]
    return Judged(data, split, np.arange(len(rows)), [data.people[row] for row in rows])


def other_people(judged: Judged) -> Judged:
    """Faces of other people: from the largest other split, usually the training split."""
    split = max((name for name in judged.data.counts if name != judged.split), key=judged.data.counts.__getitem__)
    pool, known = all_faces(judged.data, split), {group for group in judged.groups if group is not None}
    apart = np.array([n for n, group in enumerate(pool.groups) if group not in known], dtype=np.int64)
    return pool.only(apart)


def chunk_size(data: FaceData) -> int:
    """Faces per chunk, so that memory stays small at any size."""
    return max(1, min(MOST, PIXELS // (data.height * data.width)))


def about(score: str) -> Json:
    """The direction and the unit of a score."""
    shown = table.measure(score)
    return {"better": shown.better, **({"unit": shown.unit} if shown.unit else {})}
