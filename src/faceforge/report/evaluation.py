"""The part of a run's page that shows its evaluation.json: the table, what it means, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from faceforge.evaluation.table import MEASURES, WAYS, Table, tables
from faceforge.report.markup import Html, join, pairs, table, tag

KINDS = {"baseline": "baseline", "floor": "real"}


def section(folder: Path) -> Html | None:
    """Tables, verdict and protocols of a run's evaluation; None where there is none that can be read."""
    try:
        result = json.loads((folder / "evaluation.json").read_text(encoding="utf-8", errors="replace"))
        found = tables(result)
    except (OSError, ValueError, AttributeError):
        return None
    if not found:
        return None
    said = [tag("p", line) for line in [*_list(result, "verdict"), *_list(result, "notes")]]
    return join([tag("p", _what(result)), *map(_table, found), *said, _how(result)])


def _what(result: Mapping[str, Any]) -> str:
    data, point = _mapping(result.get("data")), _mapping(result.get("checkpoint"))
    counts = f"{_count(data.get('faces'))} faces of {_count(data.get('people'))} people"
    where = f"{data.get('split')} split of {data.get('source')}"
    at = f"checkpoint {point.get('name')}, {_count(point.get('images'))} images seen"
    return f"{counts}, {where}; {at}. The best of each column is bold; below it stands its 95 % interval."


def _table(found: Table) -> Html:
    header = ["", *(_heading(score) for score in found.scores)]
    rows = [[_name(row), *(_cell(found, row, score) for score in found.scores)] for row in found.rows]
    return join([tag("h3", found.title), table(header, rows)])


def _heading(score: str) -> Html:
    measure = MEASURES[score]
    label = f"{measure.label}, {measure.unit}" if measure.unit else measure.label
    return join([label, tag("div", tag("small", WAYS[measure.better]))])


def _name(row: Mapping[str, Any]) -> Html:
    kind, name = KINDS.get(str(row.get("kind"))), row.get("name")
    return join([name, tag("div", tag("small", kind))]) if kind else tag("b", name)


def _cell(found: Table, row: Mapping[str, Any], score: str) -> Html:
    measure, cell = MEASURES[score], found.cell(row, score)
    value = measure.text(cell.get("value"))
    best = row.get("kind") != "floor" and value and cell.get("value") == found.best(score)
    low, high = measure.text(cell.get("low")), measure.text(cell.get("high"))
    span = tag("div", tag("small", f"{low} to {high}")) if low and high else None
    return join([tag("b", value) if best else value, span])


def _how(result: Mapping[str, Any]) -> Html:
    protocols = _mapping(result.get("protocols"))
    scores = [(_label(name), _plain(_mapping(about))) for name, about in protocols.items()]
    reasons = [(_label(name), f"left out: {why}") for name, why in _mapping(result.get("reasons")).items()]
    rows = [*_mapping(result.get("baselines")).items()]
    origin = [("Checkpoint", tag("code", _mapping(result.get("checkpoint")).get("sha256"))), *_origin(result)]
    inside = [pairs(items) for items in ([*scores, *reasons], rows, origin) if items]
    return tag("details", tag("summary", "How these scores were made"), *inside)


def _origin(result: Mapping[str, Any]) -> Iterable[tuple[str, object]]:
    for key in ("command", "seed", "device", "faceforge", "commit", "created"):
        if result.get(key) is not None:
            yield key, tag("code", result[key]) if key in ("command", "commit") else result[key]


def _label(score: str) -> str:
    return MEASURES[score].label if score in MEASURES else score


def _plain(about: Mapping[str, Any]) -> str:
    return "; ".join(f"{key} {value}" for key, value in about.items() if key not in ("better", "unit"))


def _list(result: Mapping[str, Any], key: str) -> list[str]:
    found = result.get(key)
    return [str(line) for line in found] if isinstance(found, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
