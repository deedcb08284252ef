"""`faceforge evaluate`: scores of a run, written to its folder, report and W&B run and printed as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.progress import Bar
from faceforge.engine.run import write_atomic
from faceforge.errors import BadInput
from faceforge.evaluation import extractors, kept, opened, scoring, written
from faceforge.evaluation import judged as faces
from faceforge.evaluation.another_set import AnotherSet, Named, open_set
from faceforge.evaluation.edits import scoreboard
from faceforge.evaluation.generated import row_count
from faceforge.io.record import Record
from faceforge.metrics.features import Extractor
from faceforge.report import write_report
from faceforge.schemes import directions
from faceforge.schemes.abilities import Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.inversion import GanCodes
from faceforge.schemes.supervised import PairedScheme
from faceforge.types import Json

NAME = "evaluation.json"


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
    self_ensemble: bool = False


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
    folder, record = opened.record_of(path)
    own = folder / (f"evaluation-{named.label}.json" if named else NAME)
    out = asked.out or own
    shown = out.resolve() == own.resolve()
    beside = kept.path_of(out)
    if there := [path for path in (out, beside) if path.exists() and not shown and not asked.overwrite]:
        raise BadInput(f"{there[0]}: already exists; use --overwrite to replace it")
    digest = opened.digest_of(path)
    module = checkpoint.load(path, asked.trusted)
    features = _extractors(asked, module)
    if asked.self_ensemble and not isinstance(module, PairedScheme):
        raise BadInput(f"--self-ensemble: {asked.run} makes nothing of an input; must be without it")
    node = opened.data_node(folder, module.config, record, asked.data_root)
    trained = opened.data_of(folder, node, record, asked.trusted)
    scored = _other(asked, named, node, trained) if named else _own(asked, trained)
    if shown and named and named.root:
        _require_same_set(own, scored, asked.overwrite)
    said, part = _score(asked, module, scored, features, folder, digest)
    hashed = kept.write(beside, {kind: (of.names, of.groups) for kind, of in part.faces.items()}, part.kept)
    result = {**opened.about_run(folder, path, digest, module), **said, "kept": hashed, **opened.stamp()}
    write_atomic(out, json.dumps(result, indent=1) + "\n")
    if shown:
        if not named:
            written.tell_wandb(folder, module, result)
        write_report(folder)
    print("\n".join(written.said(result, folder, out, shown)))


# ------------------------------------------------------------------------------------------------- which faces


def _own(asked: Options, data: FaceData) -> Scored:
    """A split of the run's own faces."""
    judged = opened.faces_of(data, asked.split or "test")
    return Scored(judged, faces.other_people(judged))


def _other(asked: Options, named: Named, node: Mapping[str, Any], trained: FaceData) -> Scored:
    """Another set's faces; the floor is made of the run's own training faces."""
    found: AnotherSet = open_set(named, asked.split, node, trained, asked.trusted)
    if found.differences and not asked.force:
        forced = "--force scores them all the same and says so"
        raise BadInput(f"--data {asked.data}: {'; '.join(found.differences)}. {forced}")
    about = {**found.about, "split": asked.split or "all"}
    about["training"] = {key: trained.summary()[key] for key in opened.OF_DATA}
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


def _editable(module: Scheme, data: FaceData, folder: Path, digest: str) -> Scheme:
    """The module, or a GAN with the encoder that `faceforge directions` made for it."""
    file = folder / directions.NAME
    if not isinstance(module, Samples) or not file.exists():
        return module
    found = directions.Directions.load(file, (data.height, data.width), data.channels, digest)
    return GanCodes(module, found.encoder).to(devices.best())


def _score(
    asked: Options, module: Scheme, scored: Scored, features: Sequence[Extractor], folder: Path, digest: str
) -> tuple[Json, faces.Part]:
    """What evaluation.json says of the faces and scores, and all that was scored."""
    judged = scored.judged if asked.count is None else scored.judged.some(asked.count, asked.seed)
    data = judged.data
    board = None
    if asked.edits is not None:
        board = scoreboard.checked(_editable(module, data, folder, digest), data, judged.split, asked.edits, asked.seed)
    part, edits = _part(asked, module, judged, scored.others, features, board)
    about = {**opened.about_data(data, judged), **scored.about}
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
    with Bar(scoring.work(module, judged, asked.count, len(features))) as bar:
        bar.note("fitting baselines")
        part = scoring.evaluate(module, judged, others, asked.count, asked.seed, bar.add, features, asked.self_ensemble)
        return part, board.judge(asked.count, asked.seed, bar.note) if board else {}


def _plain(node: object) -> Json:
    return {key: value for key, value in node.items() if key != "_target_"} if isinstance(node, Mapping) else {}
