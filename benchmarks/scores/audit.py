"""Planted copies: does the audit find copies of training faces, and nothing among faces that are none?

    python -m benchmarks.scores audit                         # five sets; photographs from --faces
    python -m benchmarks.scores audit --sets drawn            # one of them

Of each set, training people are what a generator has seen, test people are the held-out faces of the audit, and
validation people are strangers to both. Copies of training faces are planted among strangers and what a generator
makes without copying, which must raise no alarm: a Gaussian of principal components, blurred near-mean faces, blurred
strangers, noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from benchmarks import records, runs
from faceforge import config, counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation.audit import memory, spaces
from faceforge.evaluation.audit.people import Real, near_duplicates
from faceforge.evaluation.baselines import Fitting, samplers
from faceforge.io.images import from_uint8, to_uint8
from faceforge.metrics.copies import Pixels, Space, closeness

PLANTED, STRANGERS, MADE = 50, 300, 150  # copies of each kind, strangers beside them, faces of other controls
LEAST_RECALL = 0.95
FACES = Path(__file__).resolve().parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Set:
    """Faces: what is typed for them, below the folder of photographs, and the seed of split and draws."""

    name: str
    overrides: Sequence[str]
    seed: int
    folder: str | None = None


SETS = [
    Set("lfw_color", ["data=lfw", "data.crop=c150", "data.size=64", "data.fraction=0.3"], 1, "lfw_color"),
    Set("celeba_small", ["data=celeba", "data.split=identity", "data.size=64"], 2, "celeba_small"),
    Set(
        "lfw_gray",
        ["data=lfw", "data.crop=none", "data.size=64", "data.channels=1", "data.fraction=0.5"],
        3,
        "lfw_gray",
    ),
    Set("lfw_color_32", ["data=lfw", "data.crop=c150", "data.size=32", "data.fraction=0.3"], 4, "lfw_color"),
    Set("drawn", ["data=drawn", "data.source.count=3000", "data.size=48"], 5),
]


def faces_of(chosen: Set, root: Path) -> FaceData:
    """The faces of a set, split by person."""
    shares = ["data.val_fraction=0.15", "data.test_fraction=0.15", f"seed={chosen.seed}"]
    where = [f"data.root={root / chosen.folder}"] if chosen.folder else []
    composed = config.compose(["model=dcgan_conventional", *chosen.overrides, *shares, *where])
    return runs.faces(composed["data"])


# ---------------------------------------------------------------------------------------------------- what is planted


def relit(faces: Tensor, seed: int) -> Tensor:
    """Gain 0.7 to 1.3 and offset -0.15 to 0.15 (range -1 to 1), clipped as in a file."""
    draws = torch.from_numpy(counter_rng.uniform(seed, "audit/light", np.arange(len(faces)), (2,))).float()
    gain, offset = (draws[:, n, None, None, None] for n in (0, 1))
    return ((0.7 + 0.6 * gain) * faces + 0.3 * offset - 0.15).clamp(-1, 1)


def cropped(faces: Tensor, seed: int, share: float = 0.95) -> Tensor:
    """A window of 95 % of both sides at a drawn place, enlarged (bicubic)."""
    place = torch.from_numpy(counter_rng.uniform(seed, "audit/crop", np.arange(len(faces)), (2,))).float()
    theta = torch.zeros(len(faces), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = share
    theta[:, :, 2] = (1 - share) * (2 * place - 1)
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    return F.grid_sample(faces, grid, "bicubic", "reflection", align_corners=False).clamp(-1, 1)


def blurred(faces: Tensor, factor: int) -> Tensor:
    """Averaged over factor x factor pixels and enlarged."""
    small = F.interpolate(faces, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, faces.shape[2:], mode="bicubic", antialias=False).clamp(-1, 1)


def at_once(faces: Tensor, seed: int) -> Tensor:
    """Cropped, mirrored, re-lit and blurred."""
    return blurred(relit(cropped(faces, seed).flip(-1), seed), 2)


def kinds(seed: int) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """Ways of copying; those after the first four are not part of the figure."""
    return {
        "exact": lambda faces: faces,
        "mirrored": lambda faces: faces.flip(-1),
        "re-lit": partial(relit, seed=seed),
        "cropped by 5 %": partial(cropped, seed=seed),
        "blurred": partial(blurred, factor=4),
        "cropped by 10 %": partial(cropped, seed=seed, share=0.9),
        "all at once": partial(at_once, seed=seed),
    }


FIGURE = ("exact", "mirrored", "re-lit", "cropped by 5 %")


def controls(data: FaceData, strangers: Tensor, seed: int) -> Mapping[str, Tensor]:
    """Faces that are no copies, as a generator may make them."""
    mean, gaussian = samplers(Fitting(data, seed, 64), seed)
    shape = (MADE, data.channels, 4, 4)
    noise = torch.from_numpy(counter_rng.normal(seed, "audit/near mean", np.arange(MADE), shape[1:])).float()
    smooth = F.interpolate(noise, (data.height, data.width), mode="bicubic")
    return {
        "PCA Gaussian": gaussian.sample(MADE),
        "near the mean face": (mean.sample(MADE) + 0.1 * smooth).clamp(-1, 1),
        "the mean face, repeated": mean.sample(MADE).contiguous(),
        "strangers, blurred": blurred(strangers, 4),
        "one stranger, repeated": strangers[:1].expand(MADE, -1, -1, -1).contiguous(),
        "noise": noise.new_tensor(counter_rng.normal(seed, "audit/noise", np.arange(MADE), tuple(strangers.shape[1:]))),
    }


# ------------------------------------------------------------------------------------------------------- what is found


def measure(chosen: Set, root: Path, looked: Sequence[Space]) -> dict[str, Any]:
    """Recall of each kind of copy, and alarms among all else."""
    began, seed, data = time.monotonic(), chosen.seed, faces_of(chosen, root)
    twins = near_duplicates(data)
    both = {twin.held_out for twin in twins}
    real, apart = Real.of(data, sorted(both), ["test"]), Real.of(data, sorted(both), ["val"])
    order = counter_rng.permutation(seed, "audit/strangers", 0, len(apart.held_out))
    strangers = apart.images(apart.held_out[order[:STRANGERS]])
    sources = counter_rng.permutation(seed, "audit/planted", 0, data.counts["train"])

    ways = kinds(seed)
    copied = [sources[n * PLANTED : (n + 1) * PLANTED] for n in range(len(ways))]
    planted = {name: ways[name](data.images("train", rows)) for name, rows in zip(ways, copied, strict=True)}
    others = {"strangers": strangers, **controls(data, strangers, seed)}
    faces = from_uint8(to_uint8(torch.cat([*planted.values(), *others.values()])))
    known = memory.remember(looked, faces, real, seed, lambda count: None)
    ends = np.cumsum([len(part) for part in (*planted.values(), *others.values())])
    parts = dict(zip((*planted, *others), map(slice, [0, *ends], ends), strict=True))
    found = {name: records.share(int(known.copies[part].sum()), part.stop - part.start) for name, part in parts.items()}
    return {
        "counts": {**data.counts, "near_duplicates": len(twins), "compared": len(real.held_out)},
        "size": [data.height, data.width],
        "recall": {name: found[name] for name in planted},
        "alarms": {name: {**found[name], "as a set": _as_a_set(known, parts[name], seed)} for name in others},
        "below": {look.space.name: float(np.exp(look.tail.threshold(_limit(known)))) for look in known.looks},
        "seconds": round(time.monotonic() - began, 1),
    }


def _as_a_set(known: memory.Memory, part: slice, seed: int) -> dict[str, Any]:
    found = {}
    for look in known.looks:
        near = closeness(look.found.of(part), known.real.training, known.real.people, seed)
        found[look.space.name] = {"ratio": near.ratio, "p": near.p}
    return found


def _limit(known: memory.Memory) -> float:
    return float(np.log(memory.ALARM / len(known.looks) / len(known.log_chance)))


def holds(sets: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether recall of the figure's kinds is at least 0.95 in every set, and no other face is called a copy."""
    found = all(result["recall"][kind]["share"] >= LEAST_RECALL for result in sets.values() for kind in FIGURE)
    return found and all(alarm["hits"] == 0 for result in sets.values() for alarm in result["alarms"].values())


def audit(
    sets: Annotated[str, typer.Option(help="Names between commas.")] = ",".join(chosen.name for chosen in SETS),
    faces: Annotated[Path, typer.Option(help="The folder of photographs.")] = FACES,
    record: Annotated[str, typer.Option(help="The name of the record.")] = "scores_audit",
    pixels: Annotated[bool, typer.Option("--pixels", help="Compare in pixels alone, which is fast.")] = False,
) -> None:
    """Plant copies in every set, count what is found, and write the record."""
    looked, reasons = ([Pixels()], {}) if pixels else spaces.all_spaces(torch.device("cpu"), spaces.EMBEDDED + 1)
    names, found = sets.split(","), {}
    for chosen in [chosen for chosen in SETS if chosen.name in names]:
        found[chosen.name] = result = measure(chosen, faces, looked)
        recall = ", ".join(f"{kind} {part['hits']}/{part['total']}" for kind, part in result["recall"].items())
        alarms = ", ".join(f"{kind} {part['hits']}/{part['total']}" for kind, part in result["alarms"].items())
        print(f"{chosen.name}: found {recall}; alarms {alarms}; {result['seconds']} s", flush=True)
    about = {"spaces": {space.name: space.protocol for space in looked}, "left_out": reasons, "rate": memory.ALARM}
    print(records.keep(record, {**about, "holds": holds(found), "sets": found}))
    if not holds(found):
        raise typer.Exit(1)
