"""What is kept of a run of a row: docs/results/records/results/<row>-s<seed>.json, and a grid of what it generated."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import records
from benchmarks.command import FACEFORGE
from benchmarks.records import RESULTS
from benchmarks.results.book import walk
from benchmarks.results.rows import FLAGS, Row, Size, Table
from benchmarks.runs import faces
from faceforge import config
from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.evaluation.generated import DENSITIES
from faceforge.io.images import make_grid, write_png
from faceforge.io.metrics_csv import read_rows
from faceforge.report.charts import thin
from faceforge.schemes.latent_space import LatentSpace

POINTS = 80  # of a curve
FIRST = 60  # batches that are kept one by one where each was logged
COLUMNS = ("loss/", "logit/", "discriminator/", "train/", "val/")
SHOWN = 8  # faces in a row of a grid
FREE = ("data.root", "data.cache", "data.workers", "trainer.gpus", "trainer.precision", "trainer.sample_every",
        "trainer.log_every")  # fmt: skip
NUMBERS = re.compile(r"\[\s+(?:[-+.\deE,\s]|null)+\]")  # a list of them
PLACE = re.compile(r"""(?:^|[\s='"\[(,;:])~?/\w""")  # the beginning of an absolute path


def make(table: Table, row: Row, run: Path, size: Size, data_root: Path | None, results: Path = RESULTS) -> Path:
    """Evaluate a finished run and write its record; the record's path. Raises BadInput."""
    facts = _facts(run)
    seed = facts["seed"]
    name = row.record(seed, size)
    saved = checkpoint.read(checkpoint.find(run, "last"))
    unlike = differences(row, table.words(row, size, seed), saved["config"])
    for key in unlike:
        if key.endswith("_target_"):
            raise BadInput(f"{run}: no run of {row.name}: {key} is {unlike[key][1]}, of the row {unlike[key][0]}")
    scores = {} if row.kind == "step" else evaluate(row, run, data_root)
    record = {
        "row": row.name,
        "size": size,
        "seed": seed,
        "kind": row.kind,
        **_about(facts),
        "command": portable(facts["command"], table.data[row.faces(size)]),
        "batch_size": saved["config"]["data"]["batch_size"],
        "unlike_row": unlike,
        "end": saved.get("end") or "the limit was reached",
        **({"steps": steps(run)} if row.kind == "step" else {}),
        **scores,
        "grid": None if row.kind == "step" else grid(row, run, name, data_root, results),
        "curves": curves(run / "metrics.csv", saved["config"]),
    }
    return write(clean(record, [run, data_root, saved["config"]["data"]["root"]]), name, results)


def write(record: Mapping[str, Any], name: str, results: Path) -> Path:
    """Write a record without any folder of this machine in it, lists of numbers on one line each. Raises BadInput."""
    if told := next((text for text in walk(record) if PLACE.search(text)), None):
        raise BadInput(f"{name}: a folder of this machine would be written down: {told[:100]}")
    text = NUMBERS.sub(lambda found: " ".join(found[0].split()), json.dumps(record, indent=1))
    path = results / "records" / "results" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def _facts(run: Path) -> dict[str, Any]:
    try:
        facts = json.loads((run / "run.json").read_text())
    except (OSError, ValueError):
        raise BadInput(f"{run}: no readable run.json; name a run's folder") from None
    if facts["status"] != "finished":
        raise BadInput(f"{run}: is {facts['status']}, not finished; continue it with resume={run}")
    return facts


def _about(facts: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("commit", "dirty", "python", "packages", "platform", "device", "threads", "precision", "created")
    measured = ("finished", "images", "seconds", "images_per_second", "generator_steps", "best", "resumed", "notes")
    networks = {name: {key: net[key] for key in ("class", "parameters")} for name, net in facts["networks"].items()}
    data = {key: value for key, value in facts["data"].items() if key not in ("skipped", "attributes")}
    skipped = {"skipped": len(facts["data"]["skipped"])}
    found = {key: facts.get(key) for key in (*kept, *measured)}
    return {**found, "networks": networks, "data": {**data, **skipped}}


# ------------------------------------------------------------------------------------------------------------ no paths


def portable(command: str, data: Sequence[str]) -> str:
    """The command that trained, its faces as $NAME, without what only says where things lie."""
    places = {word.partition("=")[0]: word for word in data if word.partition("=")[2] in FLAGS}
    keyed = [(word.partition("=")[0], word) for word in shlex.split(command)]
    kept = [(key, word) for key, word in keyed if key not in ("run_dir", "logger.mode", "resume")]
    return " ".join(places.get(key) or shlex.join(records.portable([word])) for key, word in kept)


def clean(value: Any, places: Sequence[Path | str | None]) -> Any:
    """The same with folders of this machine cut down to their last part; not-finite numbers become null."""
    if isinstance(value, dict):
        return {key: clean(inner, places) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(inner, places) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _without(value, places) if isinstance(value, str) else value


def _without(text: str, places: Sequence[Path | str | None]) -> str:
    ways = {str(way) for place in places if place for way in (place, Path(place).resolve(), os.path.relpath(place))}
    for way in sorted(ways, key=len, reverse=True):
        if "/" in way:
            text = text.replace(way, Path(way).name)
    return text


def differences(row: Row, words: Sequence[str], found: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Settings in which a run differs from its row: {key: [of the row, of the run]}; what changes no result is free."""
    wanted, had = dict(flat(config.compose(plain_places(words)))), dict(flat(found))
    parts = ("data.", "task.", "input.", "model.", *(["trainer."] if row.kind == "train" else []))
    keys = [key for key in wanted if key.startswith(parts) and key in had and key not in FREE]
    return {key: [wanted[key], had[key]] for key in keys if wanted[key] != had[key]}


def plain_places(words: Sequence[str]) -> list[str]:
    """Overrides with $NAME as a name like any other."""
    return [word.replace("=$", "=") for word in words]


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf of plain data."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from flat(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), node


# -------------------------------------------------------------------------------------------------------------- curves


def curves(metrics: Path, found: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Columns of metrics.csv against images, thinned: means of at most ``POINTS`` stretches, lowest and highest.

    Where each batch was logged the first ``FIRST`` stand one by one before them.
    """
    columns: dict[str, tuple[list[int], list[float]]] = {}
    for images, values in read_rows(metrics):
        for name, value in values.items():
            if name.startswith(COLUMNS):
                x, y = columns.setdefault(name, ([], []))
                x.append(images)
                y.append(value)
    each = found["trainer"]["log_every"] <= found["data"]["batch_size"]
    return {name: _thinned(np.array(x, float), np.array(y, float), each) for name, (x, y) in columns.items()}


def _thinned(images: np.ndarray, values: np.ndarray, each: bool) -> dict[str, list[float]]:
    one_by_one = FIRST if each and len(values) > POINTS else 0
    points = {"images": list(images[:one_by_one])}
    for key in ("mean", "low", "high"):
        points[key] = list(values[:one_by_one])
    if np.isfinite(values[one_by_one:]).any():
        rest = thin("", images[one_by_one:], values[one_by_one:], POINTS)
        for key in points:
            points[key] += list(getattr(rest, key))
    if points["low"] == points["high"]:
        del points["low"], points["high"]
    return {key: [float(f"{value:.5g}") if key != "images" else round(value) for value in column]
            for key, column in points.items()}  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- scores


def evaluate(row: Row, run: Path, data_root: Path | None) -> dict[str, Any]:
    """What `faceforge evaluate` says of the test split, and of as many training faces where the row asks for it."""
    found = {"evaluation": _evaluated(run, row.checkpoint, data_root, [], run / "evaluation.json")}
    if row.gap:
        count = found["evaluation"]["data"]["faces"]
        options = [
            "--split",
            "train",
            "--count",
            str(count),
            "--out",
            str(run / "evaluation-train.json"),
            "--overwrite",
        ]
        found["evaluation_train"] = _evaluated(run, row.checkpoint, data_root, options, run / "evaluation-train.json")
    return found


def _evaluated(run: Path, which: str, data_root: Path | None, options: list[str], out: Path) -> dict[str, Any]:
    words = ["evaluate", str(run), "--checkpoint", which, *options]
    words += ["--data-root", str(data_root)] if data_root else []
    if subprocess.run([*FACEFORGE, *words], check=False).returncode:
        raise BadInput(f"{run}: faceforge {shlex.join(words)} failed, see above")
    return json.loads(out.read_text())


# ---------------------------------------------------------------------------------------------------------------- grid


@torch.no_grad()
def grid(row: Row, run: Path, name: str, data_root: Path | None, results: Path) -> dict[str, Any] | None:
    """A grid of generated or drawn faces beside the page; None where pictures would show real people."""
    module = checkpoint.load(run, name=row.checkpoint)
    found = generated(module, data_root)
    if found is None:
        return None
    images, what = found
    path = results / "grids" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(make_grid(images.cpu(), SHOWN), path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "what": what}


def generated(module: Any, data_root: Path | None) -> tuple[torch.Tensor, str] | None:
    """Images (N, C, H, W) in [-1, 1] that show no real person, and what they are.

    Of a generator its samples, of a latent model a row for each density, of noise what becomes of it; of drawn faces
    what the run itself shows. What answers to photographs gives None.
    """
    node = module.config["data"]
    drawn = node["source"]["_target_"].endswith("Drawn")
    if drawn and hasattr(module, "predict"):
        return module.pictures(faces(node, data_root)), "drawn faces as the run shows them, row by row"
    if hasattr(module, "encode"):
        space = LatentSpace.fit(module, faces(node, data_root))
        codes = torch.cat([space.sample(density, SHOWN) for density in DENSITIES])
        return module.decode(codes), f"from codes, row by row: {', '.join(DENSITIES)}"
    if hasattr(module, "sample"):
        return module.sample(2 * SHOWN), "samples"
    if node["task"]["_target_"].endswith("Noise"):
        return module.predict(faces(node, data_root).pairs("val", range(2 * SHOWN))["input"]), "made of noise"
    return None


# --------------------------------------------------------------------------------------------------------------- steps


def straight(run: Path) -> Path:
    """The folder of the run beside a step row's run that made the same steps without a resume."""
    return run.with_name(f"{run.name}-straight")


def steps(run: Path) -> dict[str, Any]:
    """How long a network's steps took, what it left, and whether the resume made no difference to any weight."""
    other = straight(run)
    if not (other / "run.json").is_file():
        raise BadInput(f"{other}: a step row needs it beside {run}; `train` makes both")
    hashes = [_weights(folder) for folder in (run, other)]
    facts = json.loads((run / "run.json").read_text())
    return {
        "seconds_of_training": facts["timings"]["train"],
        "resumed": len(facts["resumed"]),
        "samples": sorted(path.name for path in (run / "samples").glob("*.png")),
        "weights": hashes[0],
        "weights_without_resume": hashes[1],
        "same": hashes[0] == hashes[1],
    }


def _weights(run: Path) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.read(checkpoint.find(run, "last"))["state_dict"].items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
