"""`faceforge evaluate`: scores of a run, written to its folder, report and W&B run and printed as a table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faceforge
from faceforge import config as configuration
from faceforge import words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.loggers.base import RunLogger
from faceforge.engine.progress import Progress
from faceforge.engine.resume import located
from faceforge.engine.run import Run, lock_run, now, sources_commit, write_atomic
from faceforge.errors import BadInput
from faceforge.evaluation import extractors, scoring
from faceforge.evaluation import judged as faces
from faceforge.evaluation.edits import scoreboard
from faceforge.evaluation.edits.said import edits_said
from faceforge.evaluation.generated import row_count
from faceforge.metrics import table
from faceforge.metrics.features import Extractor
from faceforge.report import write_report
from faceforge.schemes.base import Scheme
from faceforge.types import Json

NAME = "evaluation.json"


@dataclass(frozen=True)
class Options:
    """The command's options."""

    run: Path
    split: str
    checkpoint: str
    count: int | None
    seed: int
    out: Path | None
    overwrite: bool
    data_root: Path | None
    trusted: Sequence[str]
    features: Sequence[str] = ()
    edits: str | None = None


def evaluate(asked: Options) -> None:
    """Score a run and write the scores. Raises BadInput."""
    if asked.count is not None and asked.count < 1:
        raise BadInput(f"--count {asked.count}: must be at least 1")
    path = checkpoint.find(asked.run, asked.checkpoint)
    folder, record = _record(path)
    out = asked.out or folder / NAME
    own = out.resolve() == (folder / NAME).resolve()
    if out.exists() and not own and not asked.overwrite:
        raise BadInput(f"{out}: already exists; use --overwrite to replace it")
    digest = _digest(path)
    module = checkpoint.load(path, asked.trusted)
    features = _extractors(asked, module)
    data = _data(asked, folder, module.config, record)
    result = _score(asked, module, data, features)
    result = {**_about_run(folder, path, digest, module), **result, "created": now(), "command": _typed()}
    write_atomic(out, json.dumps(result, indent=1) + "\n")
    if own:
        _tell_wandb(folder, module, result)
        write_report(folder)
    print("\n".join(_said(result, folder, out, own)))


# ------------------------------------------------------------------------------------------------------ what there is


def _record(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """The run folder of a checkpoint, and its run.json."""
    folder = path.absolute().parent.parent
    try:
        record = json.loads((folder / "run.json").read_text())
        record["data"]["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{folder}: no run.json with its training data; name a run folder") from None
    return Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder, record


def _digest(path: Path) -> str:
    """SHA-256 of the checkpoint; a damaged one is refused, without falling back to another."""
    digest = checkpoint.digest(path)
    hashes = path.with_name(checkpoint.HASHES)
    if hashes.is_file() and digest not in hashes.read_text().split():
        raise BadInput(f"{path}: damaged file (its hash does not match); try another --checkpoint")
    return digest


def _data(asked: Options, folder: Path, config: Mapping[str, Any], record: Mapping[str, Any]) -> FaceData:
    """The run's faces, packed and split as in training."""
    node = dict(located(config["data"], Run(folder, dict(record)).starts))
    if asked.data_root is not None:
        node["root"] = str(asked.data_root)
    root = node["root"]
    if root is not None and not Path(root).expanduser().exists():
        raise BadInput(f"{root}: the faces of {folder} are not there; give their location with --data-root PATH")
    data: FaceData = configuration.build(node, asked.trusted)
    data.prepare()
    if data.manifest != record["data"]["manifest"]:
        raise BadInput(
            f"{root or 'data'}: not the training data of {folder} (manifest {data.manifest[:12]}..., in "
            f"training {record['data']['manifest'][:12]}...); give other data with --data-root PATH"
        )
    if not data.counts[asked.split]:
        full = ", ".join(f"{name} {count:,}" for name, count in data.counts.items() if count)
        raise BadInput(f"--split {asked.split}: the run has no faces there; must be one of {full}")
    return data


# ---------------------------------------------------------------------------------------------------------- scoring


def _extractors(asked: Options, module: Scheme) -> list[Extractor]:
    """Of generated faces: those that are asked for, else that of the run's configuration. Raises BadInput."""
    if not row_count(module):
        if asked.features:
            raise BadInput(f"--features {asked.features[0]}: {asked.run} generates no faces, so nothing uses it")
        return []
    node = module.config.get("evaluation")
    own = node.get("features") if isinstance(node, Mapping) else None
    return extractors.build(asked.features, devices.best(), own, asked.trusted)


def _score(asked: Options, module: Scheme, data: FaceData, features: Sequence[Extractor]) -> Json:
    judged = faces.all_faces(data, asked.split)
    others = faces.other_people(judged)
    judged = judged if asked.count is None else judged.some(asked.count, asked.seed)
    board = scoreboard.checked(module, data, asked.split, asked.edits, asked.seed) if asked.edits is not None else None
    module.to(devices.best())
    progress = Progress(scoring.work(module, judged, asked.count, len(features)))
    progress.start()
    done = 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress.update(done)

    progress.note("fitting baselines")
    try:
        part = scoring.evaluate(module, judged, others, asked.count, asked.seed, tick, features)
        edits = board.judge(asked.count, asked.seed, progress.note) if board else {}
    finally:
        progress.close()
    return {
        "data": _about_data(data, judged),
        "task": {"name": data.task.name, **_plain(module.config.get("task"))},
        "rows": part.rows,
        "beats_baselines": part.beats,
        "verdict": part.verdict,
        "protocols": part.protocols,
        "how": part.how,
        "reasons": part.reasons,
        **edits,
        "notes": [*data.cautions, *part.notes],
        "seed": asked.seed,
        "device": devices.name(min(1, devices.count())),
    }


def _about_run(folder: Path, path: Path, digest: str, module: Scheme) -> Json:
    about = {"name": path.stem, "sha256": digest, "images": module.clock.images}
    return {"faceforge": faceforge.__version__, **sources_commit(), "run": folder.resolve().name, "checkpoint": about}


def _about_data(data: FaceData, judged: faces.Judged) -> Json:
    summary = data.summary()
    kept = (
        "source",
        "manifest",
        "protocol",
        "protocol_hash",
        "size",
        "channels",
        "counts",
        "identities",
        "split_by",
        "cautions",
    )
    own = {"split": judged.split, "faces": len(judged.places), "people": judged.people}
    own["unnamed"] = sum(group is None for group in judged.groups)  # each counts as one of the people
    return {**{key: summary[key] for key in kept}, **own}


def _plain(node: object) -> Json:
    return {key: value for key, value in node.items() if key != "_target_"} if isinstance(node, Mapping) else {}


def _typed() -> str:
    return words.faceforge(*sys.argv[1:])


# ---------------------------------------------------------------------------------------------------- where it goes


def _tell_wandb(folder: Path, module: Scheme, result: Mapping[str, Any]) -> None:
    """Add the scores to the summary of the run's W&B run, if it has one."""
    run = Run.reopen(folder)
    earlier = run.record.get("wandb")
    if not earlier:
        return
    try:
        lock = lock_run(folder)
    except BadInput:
        print(f"{folder}: still training, so its W&B run is not updated; evaluate again afterwards")
        return
    with lock:
        again = {"earlier": earlier, "resumed_at": run.record["images"], "kind": module.shows}
        loggers = configuration.build(module.config["logger"], folder=folder, config=module.config, **again)
        for logger in [logger for logger in loggers if isinstance(logger, RunLogger)]:
            logger.start()
            logger.summary(_summary(run.record, result))
            run.update(wandb=logger.info or earlier)
            logger.finish()


def _summary(record: Mapping[str, Any], result: Mapping[str, Any]) -> Json:
    """The models' scores, merged with the summary at the end of training."""
    split = result["data"]["split"]
    best = {"best": record["best"]["value"]} if record.get("best") else {}
    values: Json = {"images": record["images"], **best}
    for row in result["rows"]:
        if row["kind"] == "model":
            which = row["name"].removeprefix("model").removeprefix(", ")
            values |= {"/".join(filter(None, [split, which, name])): s["value"] for name, s in row["scores"].items()}
    return values


def _said(result: Mapping[str, Any], folder: Path, out: Path, own: bool) -> list[str]:
    """The printed tables, their meaning, and paths."""
    data = result["data"]
    known = data["unnamed"] < data["faces"]
    faces, people = f"{data['faces']:,} faces", f"{data['people']:,} people" if known else "unknown people"
    at = f"checkpoint {result['checkpoint']['name']} at {result['checkpoint']['images']:,} images"
    strange = "" if data["split"] == "train" or data["cautions"] else ", none of them in the training set"
    said = [f"{data['split']} split of {data['source']}: {faces} of {people}{strange}; {at}"]
    for found in table.tables(result):
        ways = [f"{table.measure(name).label} {_arrow(name)}" for name in found.scores]
        said += ["", f"{found.title} ({', '.join(ways)}; {table.BEST} the best)", *table.lines(found)]
    said += [*edits_said(result), "", *result["verdict"], *result["notes"]]
    said += [f"{table.label(name)} is left out: {why}." for name, why in result["reasons"].items()]
    said += ["", f"  scores  {out}", *([f"  report  {folder}/report.html"] if own else [])]
    longer = 2 * result["checkpoint"]["images"]
    return [*said, f"To continue:  {words.train(words.word('resume', folder), f'trainer.max_images={longer}')}"]


def _arrow(name: str) -> str:
    return {"higher": "up", "lower": "down", "one": "1"}[table.measure(name).better]
