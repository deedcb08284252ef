"""Which faces scores are of, and what a kind of scores adds to evaluation.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import comparison
from faceforge.metrics.features import Groups
from faceforge.metrics.table import MEASURES
from faceforge.types import Json

PIXELS = 1 << 20  # of targets looked at together
MOST = 256  # faces looked at together
Tick = Callable[[int], None]  # told of faces that are done


@dataclass(frozen=True)
class Judged:
    """The faces that scores are of: places within a split, and whose faces they are (None: nobody known)."""

    data: FaceData
    split: str
    places: np.ndarray
    groups: Groups

    @property
    def people(self) -> int:
        """How many different people, faces of nobody known counting each as one."""
        return len({group for group in self.groups if group}) + sum(group is None for group in self.groups)

    def some(self, count: int, seed: int) -> Judged:
        """At most so many of them, by a keyed choice."""
        if count >= len(self.places):
            return self
        chosen = np.sort(counter_rng.permutation(seed, "evaluate/faces", 0, len(self.places))[:count])
        return Judged(self.data, self.split, self.places[chosen], [self.groups[n] for n in chosen])

    def chunks(self, size: int) -> list[np.ndarray]:
        """Their places, ``size`` at a time."""
        return [self.places[first : first + size] for first in range(0, len(self.places), size)]


@dataclass
class Part:
    """What one kind of scores adds to evaluation.json."""

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
    """Faces of people who are not among the judged: of the largest other split, which mostly is the training one."""
    split = max((name for name in judged.data.counts if name != judged.split), key=judged.data.counts.__getitem__)
    pool, known = all_faces(judged.data, split), {group for group in judged.groups if group is not None}
    apart = np.array([n for n, group in enumerate(pool.groups) if group not in known], dtype=np.int64)
    return Judged(pool.data, split, pool.places[apart], [pool.groups[n] for n in apart])


def chunk_size(data: FaceData) -> int:
    """Faces looked at together: as many as memory takes lightly, whatever their size."""
    return max(1, min(MOST, PIXELS // (data.height * data.width)))


def about(score: str) -> Json:
    """The side on which a score is better, and its unit."""
    measure = MEASURES[score]
    return {"better": measure.better, **({"unit": measure.unit} if measure.unit else {})}
