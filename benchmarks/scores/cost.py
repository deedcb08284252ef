"""What scoring generated faces costs above the extractor itself, and what kept features of real faces save.

Times are CPU seconds of one thread. Other work on the machine makes these longer too, by what it takes of a processor's
caches, so the extractor and the calls are timed in turn, and of each the shortest counts. Patch SWD uses no extractor
and is timed apart.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks import records
from benchmarks.command import place_of
from faceforge import config
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import extractors
from faceforge.evaluation.generated import DISTANCES, Reals
from faceforge.evaluation.judged import Judged, all_faces
from faceforge.evaluation.real_features import FOLDER
from faceforge.metrics.feature_set import FeatureSet
from faceforge.metrics.features import Extractor
from faceforge.metrics.precision_recall import precision_recall
from faceforge.metrics.swd import PatchSwd

MOST_TIMES = 1.3  # scoring over the extractor alone
LEAST_FASTER = 1.9  # of a second call

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Measures on scores of generated faces."""


@app.command()
def cost(
    count: Annotated[int, typer.Option("--count", "-n", help="Generated faces, and real ones.")] = 2000,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    features: Annotated[str, typer.Option(help="The extractor, as for `faceforge evaluate`.")] = "lite0",
    out: Annotated[Path | None, typer.Option(help="Of the record; default: docs/results/records.")] = None,
) -> None:
    """Time the extractor alone, a first and a second call of all its scores, and each score; about eight minutes."""
    with place_of(None) as folder:
        data = _faces(count, size, folder)
        judged = all_faces(data, "test").some(count, 0)
        fakes = data.images("train", range(count))
        (extractor,) = extractors.build([features], torch.device("cpu"))
        found = measure(judged, fakes, extractor)
    name = f"scores_cost_{extractor.name}"
    path = records.keep(out or name, {"faces": count, "size": size, "threads": torch.get_num_threads(), **found})
    print("\n".join(said(found)))
    print(f"  record  {path}")


def _faces(count: int, size: int, folder: Path) -> FaceData:
    """Twice as many drawn faces and some: generated ones are played by those of the training split."""
    words = ["data.source.count=" + str(round(2.3 * count) + 100), f"data.size={size}", f"data.cache={folder}"]
    words += ["data.test_fraction=0.5", "data.val_fraction=0.02", "data.batch_size=1"]
    data: FaceData = config.build(config.compose(words)["data"])
    data.prepare()
    return data


def measure(judged: Judged, fakes: Tensor, extractor: Extractor, rounds: int = 2) -> dict[str, Any]:
    """Seconds of the extractor alone, of a first call and of a second (in turn, ``rounds`` times; of each the shortest
    counts), and of each score.
    """
    extractor(fakes[:8])  # the network is made
    row: dict[str, Any] = {}
    made, times = fakes, {"extractor alone": [], "first call": [], "second call": []}
    for _ in range(rounds):
        shutil.rmtree(judged.folder / FOLDER, ignore_errors=True)
        taken, made = timed(lambda: extractor(fakes))
        times["extractor alone"].append(taken)
        for call in ("first call", "second call"):
            taken, row = timed(lambda: _score(judged, fakes, extractor))
            times[call].append(taken)
    alone, first, second = map(min, times.values())
    each = _each(judged, fakes, made, extractor)
    patches = each["swd"]
    return {
        "extractor": {"key": extractor.key, **extractor.protocol},
        "seconds": times,
        "seconds of each score": each,
        "figures": {
            "scores of features over the extractor alone": _figure((second - patches) / alone, MOST_TIMES, "at most"),
            "the same with patch SWD": _figure(second / alone, MOST_TIMES, "at most"),
            "first call over second, scores of features": _figure(
                (first - patches) / (second - patches), LEAST_FASTER, "at least"
            ),
            "first call over second, with patch SWD": _figure(first / second, LEAST_FASTER, "at least"),
        },
        "scores": row["scores"],
    }


def _score(judged: Judged, fakes: Tensor, extractor: Extractor) -> dict[str, Any]:
    return Reals(judged, [extractor], torch.device("cpu"), 0, lambda _: None).row("model", "model", fakes)


def _each(judged: Judged, fakes: Tensor, made: Tensor, extractor: Extractor) -> dict[str, float]:
    reals = Reals(judged, [extractor], torch.device("cpu"), 0, lambda _: None)
    real, fake = FeatureSet(reals.features[extractor.key], judged.groups), FeatureSet(made)
    parts: dict[str, Callable[[], object]] = {"pairs within generated faces": lambda: fake.within}
    parts["pairs within real faces"] = lambda: real.within
    parts["pairs across"] = lambda: real.across(fake)
    parts |= {score.__name__: lambda score=score: score(real, fake) for score in DISTANCES}
    parts["precision, recall, density, coverage"] = lambda: precision_recall(real, fake)
    swd = PatchSwd(reals.images.shape[1:])
    shares = swd.shares(reals.images)
    parts["swd"] = lambda: swd(shares, fakes)
    return {name: timed(part)[0] for name, part in parts.items()}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what came of it."""
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def _figure(value: float, limit: float, which: str) -> dict[str, Any]:
    holds = value <= limit if which == "at most" else value >= limit
    return {"value": round(value, 3), "limit": f"{which} {limit}", "holds": holds}


def said(found: Mapping[str, Any]) -> list[str]:
    """The figures in lines."""
    lines = [f"{found['extractor']['key']}"]
    lines += [f"  {name}: {figure['value']:.2f} ({figure['limit']}: {'holds' if figure['holds'] else 'does not hold'})"
              for name, figure in found["figures"].items()]  # fmt: skip
    times = {**found["seconds"], **found["seconds of each score"]}
    told = {name: value if isinstance(value, float) else min(value) for name, value in times.items()}
    return [*lines, "  seconds: " + ", ".join(f"{name} {value:.1f}" for name, value in told.items())]
