"""Who is served worse: a run's scores by attribute of the true face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from faceforge.evaluation.audit.memory import Tick
from faceforge.evaluation.images import predict
from faceforge.evaluation.judged import Judged, chunk_size
from faceforge.metrics.features import Extractor
from faceforge.metrics.group_gaps import FEWEST, LEVEL, Gap, gaps, people_on, sides
from faceforge.metrics.image_scores import ImageScores
from faceforge.metrics.precision_recall import K_DENSITY, K, hits, radii
from faceforge.metrics.table import MEASURES, full_name, metric_of
from faceforge.schemes.supervised import PairedScheme
from faceforge.types import Json

TOLD = 5  # groups in words
Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Served:
    """Scores by attribute; ``few`` are attributes with too few people on one side: people with and without."""

    table: str
    faces: int
    gaps: list[Gap]
    few: dict[str, tuple[int, int]]
    protocol: Json

    def worse(self) -> list[Gap]:
        """Of each attribute the clearest gap whose interval excludes 0, the clearest attribute first."""
        clear = [gap for gap in self.gaps if gap.low > 0 or gap.high < 0]
        clearest: dict[str, Gap] = {}
        for gap in sorted(clear, key=lambda gap: -abs(gap.t)):
            clearest.setdefault(gap.attribute, gap)
        return list(clearest.values())


def of_images(module: PairedScheme, judged: Judged, tick: Tick) -> tuple[Values, Json]:
    """The scores of each output against its target (N,), and how they are computed."""
    data = judged.data
    scores = ImageScores(data.channels, data.height, data.width, module.device)
    found: dict[str, list[Tensor]] = {name: [] for name in scores.names}
    for places in judged.chunks(chunk_size(data)):
        pairs = data.pairs(judged.split, places)
        for name, values in scores({"model": predict(module, pairs["input"])}, pairs["target"])["model"].items():
            found[name].append(values)
        tick(len(places))
    return {name: torch.cat(v).numpy() for name, v in found.items()}, {n: scores.protocol(n) for n in scores.names}


def of_generated(
    faces: Tensor, judged: Judged, extractor: Extractor, device: torch.device, tick: Tick
) -> tuple[Values, Json]:
    """Whether each real face is covered by generated ones (N, C, H, W), and recalled: 1 or 0 (N,).

    Coverage (Naeem et al. 2020): a generated face is nearer than its 5th real neighbour. Recall (Kynkaanniemi et al.
    2019): it is nearer to a generated face than that one's 3rd generated neighbour.
    """
    real = torch.cat([judged.data.images(judged.split, places) for places in judged.chunks(64)])

    def features(images: Tensor) -> Tensor:
        parts = []
        for part in images.split(64):
            parts.append(extractor(part.to(device)).cpu())
            tick(len(part))
        return torch.cat(parts)

    x, y = features(real), features(faces)
    covered, recalled = hits(y, x, radii(x, K_DENSITY))[1] > 0, hits(x, y, radii(y, K))[0] > 0
    about = {**extractor.protocol, "real": len(x), "fake": len(y)}
    ways = {"coverage": (covered, K_DENSITY), "recall": (recalled, K)}
    ways = {full_name(name, extractor.key): way for name, way in ways.items()}
    return {n: v.double().numpy() for n, (v, _) in ways.items()}, {n: {"k": k, **about} for n, (_, k) in ways.items()}


def by_attribute(values: Values, about: Json, judged: Judged, table: str, seed: int) -> Served:
    """Every score by every attribute that has enough people with and without it."""
    attributes = judged.data.attributes
    rows = judged.data.rows[judged.split][judged.places]
    columns = zip(attributes[0], attributes[1][rows].T, strict=True) if attributes else ()
    split = {name: sides(column) for name, column in columns}
    people = {name: people_on(side, judged.groups) for name, side in split.items()}
    few = {name: counts for name, counts in people.items() if min(counts) < FEWEST}
    compared = {name: side for name, side in split.items() if name not in few}
    protocol = {
        "scores": about,
        "interval": f"{LEVEL:.0%} for all together: bootstrap of people, single-step max-t (Westfall and Young 1993)",
        "comparisons": len(values) * len(compared),
        "fewest_people": FEWEST,
        "numbers": "labels of other values than 0 and 1 are split at their median",
        "seed": seed,
    }
    return Served(table, len(rows), gaps(values, compared, judged.groups, seed), few, protocol)


# ------------------------------------------------------------------------------------------------------- what is said


def plain(served: Served) -> Json:
    """As data."""
    few = {name: {"with": with_it, "without": without} for name, (with_it, without) in served.few.items()}
    rows = [{**asdict(gap), "difference": gap.difference} for gap in served.gaps]
    return {"table": served.table, "faces": served.faces, "rows": rows, "too_few": few, "protocol": served.protocol}


def sentences(served: Served) -> list[str]:
    """The groups that are served worse, and those too small to tell."""
    worse = served.worse()
    what = "outputs for" if served.table == "images" else "real"
    said = [_sentence(gap, what) for gap in worse[:TOLD]]
    if len(worse) > TOLD:
        said.append(f"The same holds for {len(worse) - TOLD} more attributes; audit.json lists them.")
    if served.gaps and not worse:
        compared = len({gap.attribute for gap in served.gaps})
        said.append(f"No group by {compared} attributes is served worse than the other faces, as far as can be told.")
    if not served.gaps and not served.few:
        said.append(
            "The run's faces have no attributes, so no groups are compared; give data.attributes when training."
        )
    if served.few:
        names = ", ".join(f"{name} ({min(counts)})" for name, counts in served.few.items())
        said.append(f"Too few people to compare (fewer than {FEWEST} with or without it): {names}.")
    return said


def _sentence(gap: Gap, what: str) -> str:
    measure = MEASURES[metric_of(gap.score)]
    lower_with = gap.difference < 0
    whose = "with" if lower_with == (measure.better == "higher") else "without"
    with_it, without = measure.text(gap.with_it), measure.text(gap.without)
    unit = f" {measure.unit}" if measure.unit else ""
    interval = f"difference {measure.text(gap.difference)}, {measure.text(gap.low)} to {measure.text(gap.high)}{unit}"
    verb = "are served worse" if what != "real" else "are reached less often"
    return (
        f"{what.capitalize()} faces {whose} {gap.attribute} {verb}: {measure.label} {with_it}{unit} with it, "
        f"{without}{unit} without ({interval})."
    )
