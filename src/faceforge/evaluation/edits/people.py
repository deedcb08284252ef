"""Who is who when edits are judged: whose codes give directions, whose faces train predictors, whose are edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.evaluation.baselines import VALUES
from faceforge.metrics.kid import halves
from faceforge.metrics.units import Groups
from faceforge.schemes.latent_space import FACES, binary
from faceforge.types import Json

Rows = NDArray[np.integer[Any]]
FEWEST = 20  # faces with and without an attribute, each, among those that are edited
TAUGHT = 50  # and among those that predictors are trained on
MOST = 8000  # faces that predictors are trained on


@dataclass(frozen=True)
class People:
    """Rows of the packed cache of three sets that share no person, and labels (faces, A) of 0, 1 and nan if unknown.

    Directions are fitted to ``editor``, predictors to ``teachers``, and ``edited`` are edited and judged.
    """

    data: FaceData
    names: tuple[str, ...]
    labels: NDArray[np.float32]
    split: str
    editor: Rows
    teachers: Rows
    edited: Rows

    @classmethod
    def of(cls, data: FaceData, split: str, seed: int) -> People:
        """One half of the training people each for directions and predictors, which also get the validation faces.

        Raises BadInput if the faces have no attributes, or if ``split`` is that of the training.
        """
        if data.attributes is None:
            raise BadInput("--edits: the faces of this run have no attributes; train with data.attributes=CSV")
        if split == "train":
            raise BadInput("--edits --split train: the autoencoder knows these faces; must be test or val")
        names, values = data.attributes
        train = data.rows["train"]
        first, second = (train[half] for half in halves([data.people[row] for row in train], seed))
        labels = np.stack([binary(column, train) for column in values.T], axis=1)
        spare = data.rows["val"] if split == "test" else second[:0]
        known = {data.people[row] for row in data.rows[split]} - {None}  # an official split may share people
        apart = [np.array([row for row in rows if data.people[row] not in known], np.int64) for rows in (first, second)]
        teachers = np.concatenate(
            [apart[1], np.array([row for row in spare if data.people[row] not in known], np.int64)]
        )
        return cls(
            data,
            tuple(names),
            labels,
            split,
            _some(apart[0], FACES, seed, "editor"),
            _some(teachers, min(MOST, VALUES // data.pictures(train[:1]).numel()), seed, "teachers"),
            data.rows[split],
        )

    def column(self, name: str, rows: Rows) -> NDArray[np.float32]:
        """The labels (N,) of an attribute."""
        return self.labels[rows, self.names.index(name)]

    def groups(self, rows: Rows) -> Groups:
        """The person of each face."""
        return [self.data.people[row] for row in rows]

    def some(self, name: str, value: int, rows: Rows, count: int, seed: int) -> Rows:
        """At most ``count`` faces whose label of an attribute is 1 or 0, a keyed subset."""
        return _some(rows[self.column(name, rows) == value], count, seed, f"faces/{value}")

    def too_few(self, name: str) -> str | None:
        """Why an attribute cannot be judged, in words; None if it can."""
        needed = (
            (self.edited, FEWEST, f"{self.split} faces"),
            (self.teachers, TAUGHT, "faces for predictors"),
            (self.editor, FEWEST, "faces for directions"),
        )
        for rows, least, what in needed:
            column = self.column(name, rows)
            having, lacking = int((column == 1).sum()), int((column == 0).sum())
            if min(having, lacking) < least:
                return f"{having:,} {what} have it and {lacking:,} lack it; must be at least {least} of each"
        return None

    def enough(self) -> dict[str, NDArray[np.float32]]:
        """Labels (faces,) of the attributes that can be judged."""
        return {name: self.labels[:, n] for n, name in enumerate(self.names) if self.too_few(name) is None}

    def about(self) -> Json:
        """Faces and people of the three sets."""
        parts = {"directions": self.editor, "predictors": self.teachers, "edited": self.edited}
        return {
            name: {"faces": len(rows), "people": len({self.data.people[row] or (row,) for row in rows})}
            for name, rows in parts.items()
        }


def asked_for(people: People, asked: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The attributes to judge, and why others are left out; ``all`` asks for all. Raises BadInput for one by name."""
    for name in asked:
        if name == "all":
            continue
        if name not in people.names:
            close = get_close_matches(name, people.names, 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(people.names)}, or all"
            raise BadInput(f"--edits {name}: no such attribute; {hint}")
        if why := people.too_few(name):
            raise BadInput(f"--edits {name}: {why}")
    named = people.names if "all" in asked else tuple(dict.fromkeys(asked))
    reasons = {name: why for name in named if (why := people.too_few(name))}
    return [name for name in named if name not in reasons], reasons


def _some(rows: Rows, count: int, seed: int, what: str) -> Rows:
    """At most ``count`` rows, a keyed subset in their order."""
    if len(rows) <= count:
        return rows
    return rows[np.sort(counter_rng.permutation(seed, f"edits/{what}", 0, len(rows))[:count])]
