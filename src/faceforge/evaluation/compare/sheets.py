"""The scores of one run, table by table, with the conditions under which another run's may be set beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from faceforge.evaluation.compare.runs import Run
from faceforge.evaluation.compare.settings import leaves
from faceforge.evaluation.kept import Kept
from faceforge.io.record import Record
from faceforge.metrics.table import MEASURES, extractor_of, label, metric_of
from faceforge.runs.table import printable

VALIDATION = "validation"
VALIDATED = ("psnr", "ssim", "mae", "mse", "kid")  # columns val/... of metrics.csv
PRESENTED = ("input_factor", "channels")  # how the network is given the task's input, which says nothing of the faces
COUNTS = ("images", "people", "real", "fake", "units", "interval", "caution", "between_people", "not_aligned")
SPLITTING = ("seed", "split", "val_fraction", "test_fraction")
DATA = ("manifest", "protocol_hash", "size", "channels", "split")
REPEATABLE = (
    "data.split",
    "data.faces",
    "data.people",
    "faces",
    "checkpoint",
    "evaluation seed",
)  # by evaluating again
FACES = ("faces", "data.faces", "data.people", *(f"data.{key}" for key in SPLITTING if key != "split"))


@dataclass(frozen=True)
class Cell:
    """A score with its interval, where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A table of a run: the scores of its models by name, the conditions of all of them and of each, and the values of
    single faces, if they were kept. ``seed`` is that of the evaluation.
    """

    rows: Mapping[str, Mapping[str, Cell]]
    conditions: Mapping[str, object]
    protocols: Mapping[str, Mapping[str, object]]
    kept: Kept | None = None
    seed: int = 0


def common_scores(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """The scores that every row has and the package knows, in the order of the tables."""
    known = set.intersection(*map(set, rows)) if rows else set()
    order = list(MEASURES)
    found = [score for score in known if metric_of(score) in order and score.isprintable()]
    return sorted(found, key=lambda score: (extractor_of(score), order.index(metric_of(score))))


# ------------------------------------------------------------------------------------------------------- evaluation


def of_evaluation(run: Run) -> dict[str, Sheet]:
    """The tables of an evaluation; none without one."""
    rows = [Record(row) for row in run.result.listed("rows") if row.get("kind") == "model"]
    tables = list(dict.fromkeys(row["table"] for row in rows))
    return {name: _sheet(run, name, [row for row in rows if row["table"] == name]) for name in tables}


def _sheet(run: Run, table: str, rows: Sequence[Record]) -> Sheet:
    kept, seed = run.kept.get(table), run.result.number("seed")
    protocols = {score: Record.of(about) for score, about in run.result.part("protocols").items()}
    return Sheet(
        {printable(str(row["name"])): _cells(row.part("scores")) for row in rows},
        _conditions(run, kept),
        {
            score: {key: about[key] for key in about if key not in ("better", "unit")}
            for score, about in protocols.items()
        },
        kept,
        int(seed or 0),
    )


def _cells(scores: Record) -> dict[str, Cell]:
    found = {name: Record.of(cell) for name, cell in scores.items()}
    cells = {name: (cell.number("value"), cell.number("low"), cell.number("high")) for name, cell in found.items()}
    return {name: Cell(value, low, high) for name, (value, low, high) in cells.items() if value is not None}


def _conditions(run: Run, kept: Kept | None) -> dict[str, object]:
    data, checkpoint = run.result.part("data"), run.result.part("checkpoint")
    return {
        **_task(run.result.part("task")),
        "data.source": data.get("source"),
        **{f"data.{key}": data.get(key) for key in DATA},
        "faces": kept.digest if kept else None,
        **_splitting(run),
        "data.faces": data.get("faces"),
        "data.people": data.get("people"),
        "checkpoint": checkpoint.get("name"),
        "evaluation seed": run.result.get("seed"),
    }


def _task(task: Record) -> dict[str, object]:
    """The parameters of a task that make it harder or easier."""
    return {f"task.{key}": value for key, value in leaves(task) if key not in ("name", *PRESENTED)}


def _splitting(run: Run) -> dict[str, object]:
    data = run.entry.config.part("data")
    return {**{f"data.{key}": data.get(key) for key in SPLITTING if key != "split"}, "splitting": data.get("split")}


# -------------------------------------------------------------------------------------------------------- validation


def of_validation(run: Run) -> Sheet | None:
    """The scores of metrics.csv at the best validation, or the last one; None without any."""
    columns = {name: run.curves[f"val/{name}"] for name in VALIDATED if f"val/{name}" in run.curves}
    if not columns:
        return None
    best = run.entry.best.number("images")
    row = {name: Cell(_at(best, images, values)) for name, (images, values) in columns.items()}
    data, config = run.entry.record.part("data"), run.entry.config
    conditions = {
        **_task(Record({k: v for k, v in config.part("task").items() if k != "_target_"})),
        "data.source": data.get("source"),
        **{f"data.{key}": data.get(key) for key in DATA if key != "split"},
        **_splitting(run),
        "data.counts.val": data.part("counts").get("val"),
        "checkpoint": "best" if best is not None else "last",
    }
    drawn = {"val_samples": config.at("model.val_samples"), "seed": config.at("model.seed")}
    return Sheet({"model": row}, conditions, {"kid": drawn} if "kid" in row else {})


def _at(best: float | None, images: Sequence[float], values: Sequence[float]) -> float:
    found = [value for seen, value in zip(images, values, strict=True) if seen == best]
    return (found or values)[-1]


# ------------------------------------------------------------------------------------------------------- conditions


def unlike(one: Sheet, other: Sheet, one_setting: bool = False) -> dict[str, str]:
    """The conditions in which ``other`` differs from ``one``, each in words.

    Seeds of ``one_setting`` may be scored on other faces of the same set, since the split follows the seed. Where all
    else agrees, the protocols of the scores that both have are compared.
    """
    mine, theirs = dict(one.conditions), dict(other.conditions)
    same_faces = mine.get("faces") is not None and mine.get("faces") == theirs.get("faces")
    seeds = ("task.seed", "task.degrade.seed")
    free = {"faces", *([*FACES, "splitting"] if same_faces else ()), *([*FACES, *seeds] if one_setting else ())}
    keys = [key for key in mine | theirs if key not in free and mine.get(key) != theirs.get(key)]
    if {"data.manifest", "data.split"} & set(keys):  # the number of faces follows
        keys = [key for key in keys if key not in ("data.faces", "data.people", "data.counts.val")]
    known = None not in (mine.get("faces"), theirs.get("faces"))
    if not keys and known and not same_faces and not one_setting:
        return {"faces": "other faces"}
    skipped = {"interval", *((*COUNTS, "seed") if one_setting else ())}
    return {key: _differs(key, theirs.get(key), mine.get(key)) for key in keys} or _unlike_protocols(
        one, other, skipped
    )


def _unlike_protocols(one: Sheet, other: Sheet, skipped: Collection[str]) -> dict[str, str]:
    said = {}
    for score in [score for score in one.protocols if score in other.protocols]:
        here, there = (sheet.protocols[score] for sheet in (one, other))
        parts = [key for key in {**here, **there} if key not in skipped and here.get(key) != there.get(key)]
        said |= {f"{score} {key}": f"{label(score)}: {_differs(key, there.get(key), here.get(key))}" for key in parts}
    return said


def _differs(key: str, there: object, here: object) -> str:
    said = {
        "data.manifest": "other data (manifest",
        "data.protocol_hash": "another crop protocol (hash",
        "data.seed": "other people in each split (data.seed",
        "data.split": "another split (",
    }.get(key)
    values = f"{_short(there)} instead of {_short(here)}"
    return f"{said}{' ' * (not said.endswith('('))}{values})" if said else f"{key} {values}"


def _short(value: object) -> str:
    text = printable(str(value))
    return "unknown" if value is None else f"{text[:8]}..." if isinstance(value, str) and len(text) == 64 else text


def to_score_alike(run: Run, against: Run) -> str:
    """What to type to score a run on the faces and at the checkpoint of another."""
    data, how = against.result.part("data"), against.result
    count, counts = data.number("faces"), data.part("counts").number(str(data.get("split")))
    options = ["--split", str(data.get("split")), "--checkpoint", str(how.part("checkpoint").get("name"))]
    options += ["--seed", str(how.get("seed"))] if how.get("seed") else []
    options += ["-n", f"{count:.0f}"] if count is not None and counts is not None and count < counts else []
    return run.command(*options)
