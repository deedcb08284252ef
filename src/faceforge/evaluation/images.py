"""Scores of outputs and baselines against targets, with intervals over people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from faceforge.evaluation import baselines, comparison
from faceforge.evaluation.baselines import Fitting
from faceforge.evaluation.judged import Judged, Part, Tick, about, chunk_size
from faceforge.metrics import identity
from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.image_scores import ImageScores
from faceforge.metrics.table import measure, metric_of
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.supervised import PairedScheme
from faceforge.types import Json

MIRRORED = "self-ensemble: mean over the input and its mirror image"


def score_images(
    module: PairedScheme,
    judged: Judged,
    fitting: Fitting,
    seed: int,
    tick: Tick,
    chunk: int | None = None,
    self_ensemble: bool = False,
) -> Part:
    """Scores of a module's outputs and of the baselines, with intervals over people."""
    data = judged.data
    rows = baselines.for_task(data.task, fitting, module.latent_size if isinstance(module, Encodes) else None)
    scores = ImageScores(data.channels, data.height, data.width, module.device)
    found: dict[str, dict[str, list[Tensor]]] = {}
    for places in judged.chunks(chunk or chunk_size(data)):
        batch = data.pairs(judged.split, places)
        outputs = {"model": predict(module, batch["input"], self_ensemble)}
        outputs |= {row.name: row.outputs(batch) for row in rows}
        for name, values in scores(outputs, batch["target"]).items():
            for score, value in values.items():
                found.setdefault(name, {}).setdefault(score, []).append(value)
        tick(len(places))
    joined = {name: {s: torch.cat(found[name][s]).numpy() for s in scores.names} for name in found}
    who = Resamples(judged.groups, seed)
    part = Part(reasons=dict(scores.reasons), how={row.name: row.how for row in rows}, notes=data.task.remarks)
    part.rows = [image_row(name, "model" if name == "model" else "baseline", of, who) for name, of in joined.items()]
    between = scores.between_people(judged.groups)
    part.protocols = image_protocols(scores, who, between, seed)
    part.notes = [*part.notes, *identity.in_words(between)]
    if self_ensemble:
        _say_mirrored(part)
    part.beats = {
        name: flag for name in scores.names if (flag := _paired_flag(part.rows, joined, name, who)) is not None
    }
    part.kept = {("images", row, s, "faces"): values for row, found in joined.items() for s, values in found.items()}
    part.faces = {"images": judged}
    part.verdict = comparison.sentences(part.rows, part.rows[0], part.beats)
    return part


def _say_mirrored(part: Part) -> None:
    part.how["model"] = MIRRORED
    part.protocols = {name: {**found, "outputs": MIRRORED} for name, found in part.protocols.items()}


def predict(module: PairedScheme, inputs: Tensor, self_ensemble: bool = False) -> Tensor:
    """Outputs (N, C, H, W) on the CPU; one by one if outputs would depend on the batch."""
    parts = inputs.split(len(inputs) if module.pure else 1)
    outputs = module.predict_mirrored if self_ensemble else module.predict
    return torch.cat([outputs(part.to(module.device)).cpu() for part in parts])


def image_row(name: str, kind: str, values: Mapping[str, np.ndarray], who: Resamples) -> Json:
    """A row of the table of images: the mean of each score over images (N,), with its interval over people."""
    scores = {}
    for score, of_images in values.items():
        low, high = who.interval(of_images) if who.people > 1 else (None, None)
        scores[score] = {"value": float(of_images.mean()), "low": low, "high": high}
    return {"name": name, "kind": kind, "table": "images", "scores": scores}


def image_protocols(scores: ImageScores, who: Resamples, between: Json, seed: int) -> dict[str, Json]:
    """How each score was made; those of identity say how alike people are (``between``)."""
    stamp = {"interval": who.protocol, "images": len(who.unit), "people": who.people, "seed": seed}
    found = {name: {**about(name), **scores.protocol(name), **stamp} for name in scores.names}
    for name in found:
        if metric_of(name) in identity.HOW:
            found[name]["between_people"] = between
    return found


def _paired_flag(
    rows: Sequence[comparison.Row], values: Mapping[str, Mapping[str, np.ndarray]], score: str, who: Resamples
) -> comparison.Flag | None:
    other = comparison.best_baseline(rows, score)
    if other is None:
        return None
    gain = values["model"][score] - values[other["name"]][score]
    low, high = who.interval(gain if measure(score).better == "higher" else -gain)
    return comparison.of_gain(low, high) if who.people > 1 else "unclear"
