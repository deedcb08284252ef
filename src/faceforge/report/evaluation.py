"""The part of a run's page that shows its evaluation.json: the table, what it means, and how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from faceforge.metrics.table import MEASURES, WAYS, Table, tables
from faceforge.report.markup import Html, join, pairs, table, tag


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
    return join([tag("p", _what(result)), *said, *map(_table, found), _how(result)])


def _what(result: Mapping[str, Any]) -> str:
    data, point = _mapping(result.get("data")), _mapping(result.get("checkpoint"))
    counts = f"{_count(data.get('faces'))} faces of {_count(data.get('people'))} people"
    where = f"{data.get('split')} split of {data.get('source')}"
    at = f"checkpoint {point.get('name')}, {_count(point.get('images'))} images seen"
    return f"{counts}, {where}; {at}. Bold is the best of a column; in small type stand 95 % intervals."


def _table(found: Table) -> Html:
    header = ["", *(_heading(score) for score in found.scores)]
    rows = [[_name(row), *(_cell(found, row, score) for score in found.scores)] for row in found.rows]
    # On a phone the table scrolls: numbers broken over lines could not be read.
    frame = tag("div", table(header, rows), style="overflow-wrap: normal")
    return join([tag("h3", found.title, style="margin-top: 1.5rem"), frame])


def _heading(score: str) -> Html:
    measure = MEASURES[score]
    label = f"{measure.label}, {measure.unit}" if measure.unit else measure.label
    return join([label, tag("div", tag("small", WAYS[measure.better]))])


def _name(row: Mapping[str, Any]) -> Html | str:
    return tag("b", row.get("name")) if row.get("kind") == "model" else str(row.get("name"))


def _cell(found: Table, row: Mapping[str, Any], score: str) -> Html:
    measure, cell = MEASURES[score], found.cell(row, score)
    value = measure.text(cell.get("value"))
    best = row.get("kind") != "floor" and value and cell.get("value") == found.best(score)
    low, high = measure.text(cell.get("low")), measure.text(cell.get("high"))
    shown = low and high and row.get("kind") != "baseline"
    span = tag("div", tag("small", f"{low} to {high}")) if shown else None
    return join([tag("b", value) if best else value, span])


def _how(result: Mapping[str, Any]) -> Html:
    protocols = _mapping(result.get("protocols"))
    scores = [(_label(name), _plain(_mapping(about))) for name, about in protocols.items()]
    reasons = [(_label(name), f"left out: {why}") for name, why in _mapping(result.get("reasons")).items()]
    rows = [*_mapping(result.get("how")).items()]
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
    """A protocol in one line; a hash is told by its beginning."""
    short = {key: f"{str(value)[:12]}..." for key, value in about.items() if key.endswith("sha256")}
    shown = {key.replace("_", " "): value for key, value in {**about, **short}.items() if key not in ("better", "unit")}
    return "; ".join(f"{key} {value}" for key, value in shown.items())


def _list(result: Mapping[str, Any], key: str) -> list[str]:
    found = result.get(key)
    return [str(line) for line in found] if isinstance(found, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
