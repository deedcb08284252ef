"""Where the scores of a run go: the terminal and the summary of its W&B run."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceforge import config as configuration
from faceforge import words
from faceforge.engine.loggers.base import RunLogger
from faceforge.engine.run import Run, lock_run
from faceforge.errors import BadInput
from faceforge.evaluation.edits.said import edits_said
from faceforge.metrics import table
from faceforge.schemes.base import Scheme
from faceforge.types import Json

ARROWS = {"higher": "up", "lower": "down", "one": "1"}


def said(result: Mapping[str, Any], folder: Path, out: Path, shown: bool) -> list[str]:
    """The lines that are printed: the faces, the tables, what they mean, and paths (the report's, if it shows them)."""
    longer = 2 * result["checkpoint"]["images"]
    lines = [_faces_line(result), *tables_said(result), "", f"  scores  {out}"]
    lines += [f"  report  {folder}/report.html"] if shown else []
    return [*lines, f"To continue:  {words.train(words.word('resume', folder), f'trainer.max_images={longer}')}"]


def tables_said(result: Mapping[str, Any]) -> list[str]:
    """The tables, the verdict, notes, and which scores are left out."""
    lines: list[str] = []
    for found in table.tables(result):
        ways = [f"{table.measure(name).label} {ARROWS[table.measure(name).better]}" for name in found.scores]
        told = textwrap.wrap(f"{table.BEST} the best; {', '.join(ways)}", table.WIDTH)
        lines += ["", found.title, *told, *table.lines(found)]
    lines += [*edits_said(result), "", *result["verdict"], *result["notes"]]
    return lines + [f"{table.label(name)} is left out: {why}." for name, why in result["reasons"].items()]


def forced(differences: Sequence[str]) -> list[str]:
    """The first sentence of a verdict on faces that differ from those they are compared with."""
    return [f"Forced, although {'; '.join(differences)}: these scores are not comparable with others."] * bool(
        differences
    )


def _faces_line(result: Mapping[str, Any]) -> str:
    data = result["data"]
    known = data["unnamed"] < data["faces"]
    faces, people = f"{data['faces']:,} faces", f"{data['people']:,} people" if known else "unknown people"
    at = f"checkpoint {result['checkpoint']['name']} at {result['checkpoint']['images']:,} images"
    of_training = data["split"] == "train" and "training" not in data
    strange = "" if of_training or data["cautions"] else ", none of them in the training set"
    which = "all faces" if data["split"] == "all" else f"{data['split']} split"
    return f"{which} of {data['source']}: {faces} of {people}{strange}; {at}"


# ------------------------------------------------------------------------------------------------- W&B


def tell_wandb(folder: Path, module: Scheme, result: Mapping[str, Any]) -> None:
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
