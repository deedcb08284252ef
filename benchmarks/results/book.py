"""Queries on the records of docs/results.md: scores by row and seed, means with spreads, last values of curves."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.rows import Table
from faceforge.metrics.table import current, find, measure

Record = Mapping[str, Any]
OTHERS = ("gan_faces", "latent_edits_smiles", "latent_edits_glasses", "average_noise")  # written by other benchmarks


@dataclass(frozen=True)
class Book:
    """All records by name; records of rows by row and seed."""

    rows: Mapping[str, Mapping[int, Record]]
    full: Mapping[str, Mapping[int, Record]]
    others: Mapping[str, Record]

    @classmethod
    def read(cls, results: Path, table: Table) -> Book:
        """Read the records under docs/results. Records of removed rows are ignored."""
        rows: dict[str, dict[str, dict[int, Record]]] = {"cpu": {}, "full": {}}
        for path in sorted((results / "records" / "results").glob("*.json")):
            record = json.loads(path.read_text())
            record |= {part: current(record[part]) for part in ("evaluation", "evaluation_train") if part in record}
            if record["row"] in table.rows:
                rows[record["size"]].setdefault(record["row"], {})[record["seed"]] = record
        paths = {name: results / "records" / f"{name}.json" for name in OTHERS}
        others = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
        return cls(rows["cpu"], rows["full"], others)

    def scores(self, row: str, score: str, which: str = "model", part: str = "evaluation") -> dict[int, float]:
        """A score by seed: of the named row of the evaluation table, or of its ``best baseline``."""
        found = {}
        for seed, record in self.rows.get(row, {}).items():
            value = score_of(record.get(part) or {}, score, which)
            if value is not None:
                found[seed] = value
        return found

    def ends(self, row: str, column: str) -> dict[int, float]:
        """The last value of a curve, by seed."""
        records = self.rows.get(row, {}).items()
        values = {seed: r["curves"][column]["mean"][-1] for seed, r in records if column in r["curves"]}
        return {seed: value for seed, value in values.items() if value is not None}


def score_of(evaluation: Record, score: str, which: str) -> float | None:
    """A score of one row of an evaluation; ``best baseline`` is the best score of any baseline.

    A score without an extractor is the first of that metric.
    """
    rows = evaluation.get("rows", [])
    if which == "best baseline":
        values = [value_of(row, score) for row in rows if row["kind"] == "baseline"]
        return max((v for v in values if v is not None), key=measure(score).rank, default=None)
    return next((value_of(row, score) for row in rows if row["name"] == which and find(row["scores"], score)), None)


def value_of(row: Record, score: str) -> float | None:
    """One score of one row of an evaluation."""
    name = find(row["scores"], score)
    return row["scores"][name]["value"] if name else None


def names(row: str, seeds: Sequence[int]) -> list[str]:
    """Names of the records of a row."""
    return [f"{row}-s{seed}" for seed in seeds]


def spread(values: Sequence[float], digits: int) -> str:
    """The mean; with several values, also the standard deviation (n - 1)."""
    if not values:
        return ""
    mean = f"{statistics.fmean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def won_from(record: Record, limit: float = 0.05) -> int | None:
    """The batch from which the discriminator loss stays below ``limit`` (2 ln 2 at chance); None if there is none."""
    curve = record["curves"]["loss/discriminator"]
    since = None
    for images, loss in zip(curve["images"], curve["mean"], strict=True):
        since = (images if since is None else since) if loss is not None and loss < limit else None
    return None if since is None else -(-since // record["batch_size"])


def walk(record: Any) -> Iterator[str]:
    """Every string in a record."""
    if isinstance(record, str):
        yield record
    elif isinstance(record, Mapping):
        for key, value in record.items():
            yield str(key)
            yield from walk(value)
    elif isinstance(record, list):
        for value in record:
            yield from walk(value)
