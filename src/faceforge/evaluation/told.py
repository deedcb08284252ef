"""Whether faces of a conditional GAN have the attributes that they were told, as an independent predictor sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from faceforge.data.datamodule import FaceData
from faceforge.evaluation import predictors
from faceforge.evaluation.judged import Part, Tick, about
from faceforge.evaluation.predictors import Predictor
from faceforge.schemes.abilities import Samples
from faceforge.types import Json

FACES = 200  # generated with an attribute, and as many without it
TRUSTED = 0.8  # balanced accuracy on real faces below which a predictor judges nothing
AT_ONCE = 64
REAL = "real faces"


@dataclass(frozen=True)
class Found:
    """Of one attribute: the shares of faces seen as they were told, with it and without, and of real faces judged
    correctly (balanced accuracy).
    """

    name: str
    having: float
    lacking: float
    real: float

    @property
    def agreement(self) -> float:
        """The mean of both shares; 0.5 where faces do not depend on what is told."""
        return (self.having + self.lacking) / 2


def work(labels: Sequence[str]) -> int:
    """The number of faces reported to ``tick``."""
    return 2 * FACES * len(labels)


def score_told(module: Samples, data: FaceData, seed: int, tick: Tick) -> Part:
    """Agreement with what is told, for each attribute and over all of them.

    The predictor learns from training faces of ``data`` and is tried on those of the test split (validation, if it is
    empty). Other attributes than the one in question are as in the training faces.
    """
    predictor, accuracies = _predictor(module, data, seed)
    found = []
    for n, name in enumerate(module.labels):
        having, lacking = (_share(module, predictor, n, value, seed, tick) for value in (1, 0))
        found.append(Found(name, having, lacking, accuracies[n]))
    trusted = [one for one in found if one.real >= TRUSTED]
    part = Part(verdict=[_said(one) for one in found])
    if trusted:
        means = {"model": np.mean([one.agreement for one in trusted]), REAL: np.mean([one.real for one in trusted])}
        part.rows = [_row(name, float(mean)) for name, mean in means.items()]
        part.how = {REAL: "the predictor's balanced accuracy on faces that it has not seen"}
        part.protocols = {"agreement": _protocol(trusted)}
    return part


def _predictor(module: Samples, data: FaceData, seed: int) -> tuple[Predictor, list[float]]:
    """A predictor of the labels, and its balanced accuracy for each on other faces."""
    assert data.attributes is not None
    names, values = data.attributes
    labels = {name: values[:, list(names).index(name)] for name in module.labels}
    held_out = data.rows["test"] if data.counts["test"] else data.rows["val"]
    predictor, found = predictors.of_faces(data, labels, data.rows["train"], held_out, seed, module.device)
    return predictor, [found[name] for name in module.labels]


def _share(module: Samples, predictor: Predictor, n: int, value: int, seed: int, tick: Tick) -> float:
    """The share of faces told that they have (1) or lack (0) attribute ``n`` that are seen so."""
    z = module.draw(FACES, seed)
    z[:, n - len(module.labels)] = 2 * value - 1
    seen: list[NDArray[np.bool_]] = []
    for part in z.split(AT_ONCE):
        faces: Tensor = module.decode(part.to(module.device)).cpu()
        seen.append(predictor(faces)[:, n] == bool(value))
        tick(len(part))
    return float(np.concatenate(seen).mean())


def _said(one: Found) -> str:
    judge = f"its predictor is correct on {one.real:.0%} of real faces"
    if not one.real >= TRUSTED:
        return f"{one.name}: cannot be judged, {judge} (must be {TRUSTED:.0%})."
    seen = f"seen in {one.having:.0%} of faces told to have it, not in {one.lacking:.0%} of the others"
    return f"{one.name}: {seen} ({judge})."


def _row(name: str, value: float) -> Json:
    cell = {"value": value, "low": None, "high": None}
    kind = "floor" if name == REAL else "model"
    return {"name": name, "kind": kind, "table": "told", "scores": {"agreement": cell}}


def _protocol(found: Sequence[Found]) -> Json:
    return {
        **about("agreement"),
        "faces": f"{FACES} told to have and {FACES} told to lack each attribute; others as in training faces",
        "value": "mean over attributes and over both of the share seen as told; 0.5 if nothing is heeded",
        "predictor": predictors.PROTOCOL,
        "attributes": {
            one.name: {key: round(share, 4) for key, share in
                       (("with", one.having), ("without", one.lacking), ("real", one.real))}
            for one in found
        },
    }  # fmt: skip
