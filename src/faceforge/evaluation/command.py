"""`faceforge evaluate`: scores of a run, written to its folder, report and W&B run and printed as a table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faceforge
from faceforge import config as configuration
from faceforge import words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.progress import Progress
from faceforge.engine.resume import located
from faceforge.engine.run import Run, now, sources_commit, write_atomic
from faceforge.errors import BadInput
from faceforge.evaluation import extractors, kept, scoring, written
from faceforge.evaluation import judged as faces
from faceforge.evaluation.another_set import AnotherSet, Named, open_set
from faceforge.evaluation.edits import scoreboard
from faceforge.evaluation.generated import row_count
from faceforge.io.record import Record
from faceforge.metrics.features import Extractor
from faceforge.report import write_report
from faceforge.schemes.base import Scheme
from faceforge.types import Json

NAME = "evaluation.json"
OF_DATA = ("source", "manifest", "protocol", "protocol_hash", "size", "channels", "counts", "identities", "split_by")


@dataclass(frozen=True)
class Options:
    """The command's options. ``data`` is another set, ``force`` scores it even if its faces differ."""

    run: Path
    split: str | None
    checkpoint: str
    count: int | None
    seed: int
    out: Path | None
    overwrite: bool
    data_root: Path | None
    trusted: Sequence[str]
    features: Sequence[str] = ()
    data: str | None = None
    force: bool = False
    edits: str | None = None


@dataclass(frozen=True)
class Scored:
    """The faces that a run is scored on, faces for the floor, and what evaluation.json says of the choice."""

    judged: faces.Judged
    others: faces.Judged
    about: Json = field(default_factory=dict)
    notes: Sequence[str] = ()
    differences: Sequence[str] = ()


def evaluate(asked: Options) -> None:
    """Score a run and write the scores. Raises BadInput."""
    if asked.count is not None and asked.count < 1:
        raise BadInput(f"--count {asked.count}: must be at least 1")
    if asked.force and not asked.data:
        raise BadInput("--force: scores another set although its faces differ; name one with --data")
    if asked.edits is not None and asked.data:
        raise BadInput("--edits: is judged on the run's own people; must be without --data")
    named = Named.parse(asked.data) if asked.data else None
    path = checkpoint.find(asked.run, asked.checkpoint)
    folder, record = _record(path)
    own = folder / (f"evaluation-{named.label}.json" if named else NAME)
    out = asked.out or own
    shown = out.resolve() == own.resolve()
    beside = kept.path_of(out)
    if there := [path for path in (out, beside) if path.exists() and not shown and not asked.overwrite]:
        raise BadInput(f"{there[0]}: already exists; use --overwrite to replace it")
    digest = _digest(path)
    module = checkpoint.load(path, asked.trusted)
    features = _extractors(asked, module)
    node = _node(asked, folder, module.config, record)
    trained = _trained(asked, folder, node, record)
    scored = _other(asked, named, node, trained) if named else _own(asked, folder, trained)
    if shown and named and named.root:
        _require_same_set(own, scored, asked.overwrite)
    said, part = _score(asked, module, scored, features)
    hashed = kept.write(beside, {kind: (of.names, of.groups) for kind, of in part.faces.items()}, part.kept)
    result = {**_about_run(folder, path, digest, module), **said, "kept": hashed, **_stamp()}
    write_atomic(out, json.dumps(result, indent=1) + "\n")
    if shown:
        if not named:
            written.tell_wandb(folder, module, result)
        write_report(folder)
    print("\n".join(written.said(result, folder, out, shown)))


# ------------------------------------------------------------------------------------------------- what there is


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


def _node(asked: Options, folder: Path, config: Mapping[str, Any], record: Mapping[str, Any]) -> Json:
    """The run's data configuration with the faces where they are now."""
    node = dict(located(config["data"], Run(folder, dict(record)).starts))
    if asked.data_root is not None:
        node["root"] = str(asked.data_root)
    root = node["root"]
    if root is not None and not Path(root).expanduser().exists():
        raise BadInput(f"{root}: the faces of {folder} are not there; give their location with --data-root PATH")
    return node


def _trained(asked: Options, folder: Path, node: Mapping[str, Any], record: Mapping[str, Any]) -> FaceData:
    """The run's faces, packed and split as in training."""
    data: FaceData = configuration.build(node, asked.trusted)
    data.prepare()
    if data.manifest != record["data"]["manifest"]:
        raise BadInput(
            f"{node['root'] or 'data'}: not the training data of {folder} (manifest {data.manifest[:12]}..., in "
            f"training {record['data']['manifest'][:12]}...); give other data with --data-root PATH"
        )
    return data


# ------------------------------------------------------------------------------------------------- which faces


def _own(asked: Options, folder: Path, data: FaceData) -> Scored:
    """A split of the run's own faces."""
    split = asked.split or "test"
    if not data.counts[split]:
        full = ", ".join(f"{name} {count:,}" for name, count in data.counts.items() if count)
        raise BadInput(f"--split {split}: the run has no faces there; must be one of {full}")
    judged = faces.all_faces(data, split)
    return Scored(judged, faces.other_people(judged))


def _other(asked: Options, named: Named, node: Mapping[str, Any], trained: FaceData) -> Scored:
    """Another set's faces; the floor is made of the run's own training faces."""
    found: AnotherSet = open_set(named, asked.split, node, trained, asked.trusted)
    if found.differences and not asked.force:
        forced = "--force scores them all the same and says so"
        raise BadInput(f"--data {asked.data}: {'; '.join(found.differences)}. {forced}")
    about = {**found.about, "split": asked.split or "all"}
    about["training"] = {key: trained.summary()[key] for key in OF_DATA}
    return Scored(found.judged, faces.all_faces(trained, "train"), about, found.notes, found.differences)


def _require_same_set(path: Path, scored: Scored, overwrite: bool) -> None:
    """Two sets may have one name: scores of another one are not replaced without being told. Raises BadInput."""
    there = Record.read(path).at("data.manifest")
    if there not in (None, scored.judged.data.manifest) and not overwrite:
        raise BadInput(f"{path}: holds scores of another set of this name; use --overwrite, or --out FILE")


# ------------------------------------------------------------------------------------------------- scoring


def _extractors(asked: Options, module: Scheme) -> list[Extractor]:
    """Of generated faces: those that are asked for, else that of the run's configuration. Raises BadInput."""
    if not row_count(module):
        if asked.features:
            raise BadInput(f"--features {asked.features[0]}: {asked.run} generates no faces, so nothing uses it")
        return []
    node = module.config.get("evaluation")
    own = node.get("features") if isinstance(node, Mapping) else None
    return extractors.build(asked.features, devices.best(), own, asked.trusted)


def _score(asked: Options, module: Scheme, scored: Scored, features: Sequence[Extractor]) -> tuple[Json, faces.Part]:
    """What evaluation.json says of the faces and scores, and all that was scored."""
    judged = scored.judged if asked.count is None else scored.judged.some(asked.count, asked.seed)
    data = judged.data
    board = scoreboard.checked(module, data, judged.split, asked.edits, asked.seed) if asked.edits is not None else None
    part, edits = _part(asked, module, judged, scored.others, features, board)
    about = {**_about_data(data, judged), **scored.about}
    said = {
        "data": about,
        "task": {"name": data.task.name, **_plain(module.config.get("task"))},
        "rows": part.rows,
        "beats_baselines": part.beats,
        "forced": list(scored.differences),
        "verdict": [*written.forced(scored.differences), *part.verdict],
        "protocols": part.protocols,
        "how": part.how,
        "reasons": part.reasons,
        **edits,
        "notes": [*about["cautions"], *scored.notes, *part.notes],
        "seed": asked.seed,
    }
    return said, part


def _part(
    asked: Options,
    module: Scheme,
    judged: faces.Judged,
    others: faces.Judged,
    features: Sequence[Extractor],
    board: scoreboard.Scoreboard | None,
) -> tuple[faces.Part, Json]:
    """The scores and those of edits, with a bar."""
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
        return part, board.judge(asked.count, asked.seed, progress.note) if board else {}
    finally:
        progress.close()


def _about_run(folder: Path, path: Path, digest: str, module: Scheme) -> Json:
    about = {"name": path.stem, "sha256": digest, "images": module.clock.images}
    return {"faceforge": faceforge.__version__, **sources_commit(), "run": folder.resolve().name, "checkpoint": about}


def _about_data(data: FaceData, judged: faces.Judged) -> Json:
    summary = data.summary()
    own = {"split": judged.split, "faces": len(judged.places), "people": judged.people}
    own["unnamed"] = sum(group is None for group in judged.groups)  # each counts as one of the people
    return {**{key: summary[key] for key in (*OF_DATA, "cautions")}, **own}


def _stamp() -> Json:
    typed = words.faceforge(*sys.argv[1:])
    return {"device": devices.name(min(1, devices.count())), "created": now(), "command": typed}


def _plain(node: object) -> Json:
    return {key: value for key, value in node.items() if key != "_target_"} if isinstance(node, Mapping) else {}
