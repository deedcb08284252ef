"""How well `faceforge cut --people` tells people apart, and where its constants come from.

    faceforge cut ../shared/data/lfw_gray /tmp/grey --people
    faceforge cut ../shared/data/photos_color /tmp/colour --people
    python -m benchmarks.cut.people /tmp/grey /tmp/colour

The names of the photographs say who is on them. Constants are fitted to one half of the people, figures are those of
the other half. It writes docs/results/records/cut_people.json, with numbers only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks import command, records
from benchmarks.cut.annotated import provenance
from faceforge.cut import identity_clusters
from faceforge.cut.identity_clusters import UNIT, groups

NEAREST = 5  # strangers whose distance says how near strangers come
RIDGE = 1.0
ORDINARY = 60  # percentile of faces in the first set from which on strangers are not near
SCALE = 2048  # of LOOKALIKE_WEIGHTS, so that each of its numbers fits into a byte


@dataclass
class Faces:
    """Descriptions, int16 (N, 128), of faces of which the people are known."""

    numbers: np.ndarray
    names: np.ndarray

    def of(self, chosen: np.ndarray) -> Faces:
        """Some of them."""
        return Faces(self.numbers[chosen], self.names[chosen])

    def half(self, which: int) -> Faces:
        """The faces of one half of the people, by a hash of their names."""
        halves = {name: hashlib.sha256(name.encode()).digest()[0] % 2 for name in set(self.names.tolist())}
        return self.of(np.array([halves[name] == which for name in self.names.tolist()]))


def read(target: Path) -> Faces:
    """The first face of each photo whose name says who is on it."""
    found, names = [], []
    for line in (target / "_review" / identity_clusters.NAME).read_text().splitlines():
        face, _, numbers = json.loads(line)
        told = re.fullmatch(r"(?:(.+)/)?(?:[01]_0_)?(.+)_\d+\.jpg-1\.png", face)
        if told:
            found.append(np.frombuffer(base64.b64decode(numbers), "<i2"))
            names.append(told[1] or told[2])
    return Faces(np.array(found), np.array(names))


# ------------------------------------------------------------------------------------------------------- calibration


def calibrate(ordinary: Faces, alike: Faces) -> tuple[float, str]:
    """LOOKALIKE_BIAS and LOOKALIKE_WEIGHTS: half of how much nearer strangers are than in general, predicted linearly.

    Ridge regression of the mean squared distance to the five nearest strangers; both sets count alike.
    """
    numbers = np.concatenate([ordinary.numbers, alike.numbers]) / UNIT
    near = nearest_strangers(numbers, np.concatenate([ordinary.names, alike.names]))
    weights = np.repeat([1.0, len(ordinary.names) / len(alike.names)], [len(ordinary.names), len(alike.names)])
    middle, level = numbers.mean(axis=0), float(np.average(near, weights=weights))
    centred, root = numbers - middle, np.sqrt(weights)
    square = (centred * weights[:, None]).T @ centred + RIDGE * np.eye(centred.shape[1])
    lean = np.linalg.solve(square, (centred * root[:, None]).T @ ((near - level) * root))
    usual = float(np.percentile(level + centred[: len(ordinary.names)] @ lean, ORDINARY))
    codes = np.rint(lean / 2 * SCALE)
    assert np.abs(codes).max() < 128, "SCALE is too large"
    return (usual - level + float(middle @ lean)) / 2, base64.b64encode(codes.astype(np.int8).tobytes()).decode()


def nearest_strangers(numbers: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Mean squared distance of each face to the five nearest ones of other people."""
    near = np.zeros(len(numbers))
    squares = (numbers**2).sum(axis=1)
    for n, (vector, name) in enumerate(zip(numbers, names, strict=True)):
        distances = squares + squares[n] - 2 * numbers @ vector
        distances[names == name] = np.inf
        near[n] = np.sort(distances)[:NEAREST].mean()
    return near


# ----------------------------------------------------------------------------------------------------------- figures


def figures(faces: Faces) -> dict[str, Any]:
    """Pairs and groups that are right, and how much of what there is was found."""
    first = groups(faces.numbers)
    who = np.unique(faces.names, return_inverse=True)[1]
    together = Counter(zip(first.tolist(), who.tolist(), strict=True))
    sizes, faces_of = Counter(first.tolist()), Counter(who.tolist())
    told, there = pairs(sizes), pairs(faces_of)
    named = {leader for leader, size in sizes.items() if size > 1}
    pure = sum(len({person for group, person in together if group == leader}) == 1 for leader in named)
    several = sum(size for size in faces_of.values() if size > 1)
    return {
        "faces": len(first),
        "people": len(faces_of),
        "pairs told": told,
        "of them right": round(pairs(together) / max(1, told), 4),
        "pairs found of those there are": round(pairs(together) / max(1, there), 4),
        "groups of one person only": records.share(pure, len(named)),
        "faces named of those of people with several": records.share(
            sum(sizes[leader] > 1 and faces_of[person] > 1 for leader, person in zip(first, who, strict=True)), several
        ),
        "groups a named person falls into": round(
            sum(group in named for group, person in together if faces_of[person] > 1)
            / max(1, len({person for group, person in together if group in named and faces_of[person] > 1})),
            2,
        ),
    }


def pairs(sizes: Counter[Any]) -> int:
    """How many pairs there are within sets of given sizes."""
    return sum(size * (size - 1) // 2 for size in sizes.values())


def main(grey: Path, colour: Path) -> None:
    """Fit the constants, show how they differ from those in identity_clusters.py, and measure these."""
    ordinary, alike = read(grey), read(colour)
    near, lean = calibrate(ordinary.half(0), alike.half(0))
    print(
        f"LOOKALIKE_BIAS = {near:.4f} (identity_clusters.py: {identity_clusters.LOOKALIKE_BIAS})\n"
        f"LOOKALIKE_WEIGHTS = {lean!r} (unchanged: {lean == identity_clusters.LOOKALIKE_WEIGHTS})"
    )
    record: dict[str, Any] = provenance()
    record["constants"] = {
        "SAME": identity_clusters.MAX_DISTANCE,
        "SAME_MEANS": identity_clusters.MAX_DISTANCE_OF_MEANS,
        "NEAR": identity_clusters.LOOKALIKE_BIAS,
    }
    record["grey, other half of the people"] = figures(ordinary.half(1))
    record["colour, other half of the people"] = figures(alike.half(1))
    near, identity_clusters.LOOKALIKE_BIAS = identity_clusters.LOOKALIKE_BIAS, -9.0
    record["colour, other half, as if strangers came equally near to all"] = figures(alike.half(1))
    record["grey, other half, as if strangers came equally near to all"] = figures(ordinary.half(1))
    identity_clusters.LOOKALIKE_BIAS = near
    for part in (4, 2, 1):
        some = [int(hashlib.md5(name.encode()).hexdigest(), 16) % part == 0 for name in ordinary.names.tolist()]
        record[f"grey, 1/{part} of all the people"] = figures(ordinary.of(np.array(some)))
    print(json.dumps(record, indent=1))
    print(records.write("cut_people", record))


if __name__ == "__main__":
    command.run(lambda: typer.run(main))
