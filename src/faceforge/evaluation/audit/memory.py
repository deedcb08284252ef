"""Memorisation: whether a generator returns its training faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faceforge import counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation.audit.people import CHUNK, Real
from faceforge.evaluation.generated import decoded
from faceforge.evaluation.judged import Tick
from faceforge.metrics.copies import (
    NEAR,
    Closeness,
    Neighbours,
    Space,
    Tail,
    closeness,
    closer,
    log_ratio,
    nearest,
    to_keep,
)
from faceforge.schemes.abilities import Encodes, Generates, Samples
from faceforge.schemes.latent_space import LatentSpace
from faceforge.types import Json

ALARM = 0.01  # chance that any of the generated faces is called a copy in error
CLOSER = 0.01  # chance that faces as a set are called closer in error, in each space
MOST_COMPARED = 1000  # held-out faces whose scores are the tail
SHOWN = 20


def sampled(module: Generates, data: FaceData, count: int, seed: int) -> Tensor:
    """Faces (count, C, H, W) in [-1, 1], as `faceforge generate` makes them."""
    if isinstance(module, Samples):
        return module.sample(count, seed=seed)
    assert isinstance(module, Encodes)
    codes = LatentSpace.fit(module, data, seed=seed).sample("mixture", count, seed)
    return decoded(module, codes)


@dataclass(frozen=True)
class Look:
    """The comparison in one space, of N faces: distances (N,) to the nearest training and held-out face, and these
    faces' places (N,) among the real ones; scores (N,) and the logarithm of their chance, corrected for N.

    ``found`` are neighbours of all kinds as first found, before the nearest were compared closer."""

    space: Space
    found: Neighbours
    distances: Sequence[Tensor]
    places: Sequence[Tensor]
    scores: Tensor
    log_chance: Tensor
    tail: Tail
    closeness: Closeness


@dataclass(frozen=True)
class Memory:
    """All comparisons of N faces; ``log_chance`` (N,) is corrected for faces and spaces."""

    looks: Sequence[Look]
    real: Real

    @property
    def log_chance(self) -> Tensor:
        """The least of all spaces, times their number."""
        lowest = torch.stack([look.log_chance for look in self.looks]).amin(0)
        return (lowest + math.log(len(self.looks))).clamp(max=0)

    @property
    def copies(self) -> Tensor:
        """Which faces are copies, bool (N,)."""
        return self.log_chance <= math.log(ALARM)

    def order(self) -> list[int]:
        """The faces from the likeliest copy on."""
        score = torch.stack([look.scores for look in self.looks]).amin(0)
        return sorted(range(len(score)), key=lambda n: (float(self.log_chance[n]), float(score[n])))

    def best(self, face: int) -> Look:
        """The space in which a face's score is the least likely."""
        return min(self.looks, key=lambda look: (float(look.log_chance[face]), float(look.scores[face])))


def remember(spaces: Sequence[Space], faces: Tensor, real: Real, seed: int, tick: Tick) -> Memory:
    """Compare faces (N, C, H, W) in [-1, 1] with real ones. Raises ValueError if too few were held out."""
    held_out = real.held_out
    some = held_out[np.sort(counter_rng.permutation(seed, "audit/held out", 0, len(held_out))[:MOST_COMPARED])]
    return Memory([_look(space, faces, real, some, seed, tick) for space in spaces], real)


def work(spaces: int, faces: int, real: Real) -> int:
    """The number of faces told to ``tick``."""
    return spaces * (faces + min(MOST_COMPARED, len(real.held_out)) + len(real.rows))


def _look(space: Space, faces: Tensor, real: Real, some: np.ndarray, seed: int, tick: Tick) -> Look:
    training, people, count = real.training, real.people, len(faces)
    queries = torch.cat([faces, real.images(some)]) if len(some) else faces
    asked = torch.cat([_counted(space.query(part), tick) for part in queries.split(CHUNK)], dim=1)
    pool = (_counted(space.pool(part), tick) for part in real.chunks())
    found = nearest(asked, pool, to_keep(int(training.sum()), int((~training).sum())))
    person = torch.cat([torch.full((count,), -1), people[torch.from_numpy(some)]])
    strangers = people[found.place] != person[:, None]
    kinds = (training[found.place], ~training[found.place])
    near = [
        closer(asked, found.few(kind & strangers), lambda p: space.closer(real.images(p.numpy()))) for kind in kinds
    ]
    least = NEAR * float(torch.cat([each.distance[count:, 0] for each in near]).median()) + 1e-9 if len(some) else 0.0
    scores = log_ratio(near[0].distance, near[1].distance, least)
    tail = Tail.fit(scores[count:])
    chance = (tail.log_chance(scores[:count]) + math.log(count)).clamp(max=0)
    distances, places = ([getattr(each, part)[:count, 0] for each in near] for part in ("distance", "place"))
    all_near = closeness(found.of(slice(count)), training, people, seed)
    return Look(space, found.of(slice(count)), distances, places, scores[:count], chance, tail, all_near)


def _counted(vectors: Tensor, tick: Tick) -> Tensor:
    tick(vectors.shape[1])
    return vectors


# ------------------------------------------------------------------------------------------------------- what is said


def plain(memory: Memory) -> Json:
    """As data; pairs name files, so they stay in the run."""
    real, whole = memory.real, len(memory.log_chance)
    return {
        "generated": whole,
        "training_faces": int(real.training.sum()),
        "held_out_faces": len(real.held_out),
        "copies": int(memory.copies.sum()),
        "false_alarm_rate": ALARM,
        "rate_of": "any of the generated faces being called a copy in error",
        "test": "log ratio of distances to the nearest training face and to 5 held-out faces; exponential tail of the "
        "scores of held-out faces (Davison and Smith 1990), upper 95 % limit; Bonferroni over faces and spaces",
        "closeness_test": "mean score, permutation of people between training and held-out faces",
        "spaces": {look.space.name: _space(look, len(memory.looks)) for look in memory.looks},
        "pairs": [_pair(memory, n) for n in memory.order()[:SHOWN]],
    }


def _space(look: Look, spaces: int) -> Json:
    limit = math.log(ALARM / spaces / len(look.scores))
    return {
        "protocol": look.space.protocol,
        "copies": int((look.log_chance + math.log(spaces) <= math.log(ALARM)).sum()),
        "copy_below_ratio": math.exp(look.tail.threshold(limit)),
        "compared_held_out_faces": look.tail.scores,
        "median_distance": {
            "training": float(look.distances[0].median()),
            "held_out": float(look.distances[1].median()),
        },
        "ratio_to_chance": look.closeness.ratio,
        "p": look.closeness.p,
    }


def _pair(memory: Memory, face: int) -> Json:
    look, ids, rows = memory.best(face), memory.real.data.ids, memory.real.rows
    files = {kind: ids[rows[places[face]]] for kind, places in zip(("training", "held_out"), look.places, strict=True)}
    distances = {
        each.space.name: {"training": float(each.distances[0][face]), "held_out": float(each.distances[1][face])}
        for each in memory.looks
    }
    chance = math.exp(float(memory.log_chance[face]))
    copy = bool(memory.copies[face])
    return {"face": face, "copy": copy, "chance": chance, "by": look.space.name, "files": files, "distances": distances}


def sentences(about: Json) -> list[str]:
    """The result in words."""
    found, faces, known = about["copies"], about["generated"], about["training_faces"]
    how_sure = f"(the chance that any of the {faces:,} is called a copy in error is {about['false_alarm_rate']:.0%})"
    if not found:
        said = [f"None of {faces:,} generated faces is a copy of one of the {known:,} training faces {how_sure}."]
    else:
        which = "faces is a copy" if found == 1 else "faces are copies"
        said = [f"{found:,} of {faces:,} generated {which} of training faces {how_sure}."]
    for name, space in about["spaces"].items():
        off, p = 1 - space["ratio_to_chance"], f"p = {space['p']:.2g}"
        if space["p"] <= CLOSER:
            said.append(
                f"In {name}, generated faces as a set are {off:.1%} nearer to training faces than chance allows "
                f"({p}): the generator fits its training people better than others."
            )
        else:
            said.append(
                f"In {name}, generated faces as a set are no nearer to training faces than chance allows ({p})."
            )
    return said
