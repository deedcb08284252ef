"""The faces that are scored, and the entries of a kind of scores in evaluation.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import comparison
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

    def some(self, count: int, seed: int) -> Judged:
        """At most this many of them, a keyed subset."""
        if count >= len(self.places):
            return self
        chosen = np.sort(counter_rng.permutation(seed, "evaluate/faces", 0, len(self.places))[:count])
        return Judged(self.data, self.split, self.places[chosen], [self.groups[n] for n in chosen])

    def chunks(self, size: int) -> list[np.ndarray]:
        """Their positions, in chunks of ``size``."""
        return [self.places[first : first + size] for first in range(0, len(self.places), size)]


@dataclass
class Part:
    """The entries of one kind of scores in evaluation.json."""

    rows: list[Json] = field(default_factory=list)
    protocols: dict[str, Json] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    beats: dict[str, comparison.Flag] = field(default_factory=dict)
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def all_faces(data: FaceData, split: str) -> Judged:
    """The faces of a split."""
    rows = data.rows[split]
    return Judged(data, split, np.arange(len(rows)), [data.people[row] for row in rows])


def other_people(judged: Judged) -> Judged:
    """Faces of other people: from the largest other split, usually the training split."""
    split = max((name for name in judged.data.counts if name != judged.split), key=judged.data.counts.__getitem__)
    pool, known = all_faces(judged.data, split), {group for group in judged.groups if group is not None}
    apart = np.array([n for n, group in enumerate(pool.groups) if group not in known], dtype=np.int64)
    return Judged(pool.data, split, pool.places[apart], [pool.groups[n] for n in apart])


def chunk_size(data: FaceData) -> int:
    """Faces per chunk, so that memory stays small at any size."""
    return max(1, min(MOST, PIXELS // (data.height * data.width)))


def about(score: str) -> Json:
    """The direction and the unit of a score."""
    shown = table.measure(score)
    return {"better": shown.better, **({"unit": shown.unit} if shown.unit else {})}
