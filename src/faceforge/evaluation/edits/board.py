"""The curves of all ways and attributes, and what evaluation.json says of them: rows at equal cost, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from faceforge.evaluation import predictors
from faceforge.evaluation.comparison import of_gain
from faceforge.evaluation.edits.curves import STRENGTHS, Judges, Point, Values
from faceforge.evaluation.edits.equal import at_cost, common_cost
from faceforge.evaluation.edits.people import People
from faceforge.evaluation.edits.ways import HOW, Way
from faceforge.metrics.bootstrap import Resamples
from faceforge.metrics.table import full_name
from faceforge.metrics.units import Groups
from faceforge.types import Json

REALS = 500  # real faces that have an attribute
TRUSTED = 0.8  # balanced accuracy that a predictor must reach
MEASURES = ("flips", "leakage", "identity", "change", "gain", "nearer")


@dataclass
class Board:
    """Curves of each attribute and way, the people of the edited faces, and every way at the attribute's common cost.

    ``accuracies`` are those of the predictors, ``floors`` the KID of real faces that have the attribute.
    """

    people: People
    judges: Judges
    ways: Sequence[Way]
    accuracies: Mapping[str, float]
    seed: int
    reasons: dict[str, str]
    curves: dict[str, Mapping[str, Sequence[Point]]] = field(default_factory=dict)
    groups: dict[str, Groups] = field(default_factory=dict)
    floors: dict[str, float | None] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    equal: dict[str, dict[str, Point]] = field(default_factory=dict)

    def add(self, name: str, curves: Mapping[str, Sequence[Point]], groups: Groups, floor: float | None) -> None:
        """Add an attribute."""
        cost, idle = common_cost(curves)
        self.curves[name], self.groups[name], self.floors[name], self.costs[name] = curves, groups, floor, cost
        self.equal[name] = {way: at_cost(points, cost) for way, points in curves.items() if way not in idle}
        missing = [way.name for way in self.ways if way.name not in curves]
        self.reasons |= {f"{name}, {way}": "no direction of this kind was found" for way in missing}
        self.reasons |= {f"{name}, {way}": "hardly changes faces at any strength" for way in idle}

    @property
    def kid(self) -> str:
        """The name of the realism of edited faces."""
        return full_name("kid", self.judges.extractor.key if self.judges.extractor else "")

    @property
    def compared(self) -> tuple[list[str], list[Way]]:
        """Attributes and ways, each of which can edit each: all ways, or all attributes, whichever compares more."""
        names, ways = list(self.equal), list(self.ways)
        whole = [name for name in names if len(self.equal[name]) == len(ways)]
        common = [way for way in ways if all(way.name in self.equal[name] for name in names)]
        return (whole, ways) if len(whole) * len(ways) >= len(names) * len(common) else (names, common)

    def unedited(self, name: str) -> Point:
        """The faces as they are."""
        return next(iter(self.curves[name].values()))[0]


def written(board: Board, why: str | None) -> Json:
    """The entry ``edits`` of evaluation.json; ``why`` says why identity is not measured."""
    return {
        "rows": _rows(board) if board.compared[0] else [],
        "attributes": [_attribute(board, name) for name in board.equal],
        "curves": {name: {way: _columns(points) for way, points in of.items()} for name, of in board.curves.items()},
        "predictors": {name: round(accuracy, 4) for name, accuracy in board.accuracies.items()},
        "reasons": {**board.reasons, **({"identity": why} if why else {})},
        "how": {way.name: HOW.get(way.name, "") for way in board.ways},
        "verdict": verdict(board),
        "protocol": _protocol(board),
    }


def _protocol(board: Board) -> Json:
    judges, people = board.judges, board.people
    extractor = judges.extractor.protocol if judges.extractor else {}
    return {
        "faces": people.about(),
        "edited faces": "face + mask * (decoded edited code - decoded code), as faceforge edit writes them",
        "flips": "share of faces lacking an attribute, also by its predictor, in which the predictor sees it after",
        "leakage": "share of the decisions of the other attributes' predictors that change",
        "cost": "1 - identity" if judges.identity else "mean absolute change of a pixel, range 1",
        "strengths": ", ".join(f"{strength:g}" for strength in STRENGTHS),
        "interval": "95 %, percentile bootstrap of people",
        "predictors": {**predictors.PROTOCOL, "least balanced accuracy": TRUSTED},
        board.kid: {"against": f"at most {REALS} real faces of other people that have the attribute", **extractor},
        **({"identity": dict(judges.identity.protocol)} if judges.identity else {}),
    }


# -------------------------------------------------------------------------------------------------------------- rows


def _rows(board: Board) -> list[Json]:
    """A row for each way at equal cost, over the faces of all attributes, and the rows that need no edit."""
    (names, ways), rows = board.compared, []
    for way in ways:
        kind = "baseline" if way.control else "model"
        rows.append(_row(way.name, kind, _cells(board, {name: board.equal[name][way.name] for name in names})))
    rows.append(_row("no edit", "floor", _cells(board, {name: board.unedited(name) for name in names})))
    floor = _average([board.floors[name] for name in names])
    return [*rows, _row("real faces with it", "floor", {} if floor is None else {board.kid: _cell(floor)})]


def _row(name: str, kind: str, cells: Json) -> Json:
    return {"name": name, "kind": kind, "table": "edits", "scores": cells}


def _attribute(board: Board, name: str) -> Json:
    """One attribute at its common cost: every way, its strength there, and the other attribute that it changes most."""
    ways: dict[str, Json] = {}
    for way, point in board.equal[name].items():
        other = max(point.others, key=point.others.__getitem__, default=None)
        most = {} if other is None else {"most leakage": {"attribute": other, "share": point.others[other]}}
        ways[way] = {"strength": round(point.strength, 3), "scores": _cells(board, {name: point}), **most}
    kids = {"no edit": board.unedited(name).kid, "real faces with it": board.floors[name]}
    faces = len(board.groups[name])
    return {"attribute": name, "faces": faces, "cost": board.costs[name], "ways": ways, "kid": kids}


def _cells(board: Board, points: Mapping[str, Point]) -> Json:
    """Means over the faces of these attributes with intervals over people; KID is the mean over attributes."""
    cells: Json = {}
    for measure in MEASURES:
        found = {name: point.values[measure] for name, point in points.items() if measure in point.values}
        if found:
            cells[measure] = _interval(*_pooled(board, found), board.seed)
    average = _average([point.kid for point in points.values()])
    return cells if average is None else {**cells, board.kid: _cell(average)}


def _pooled(board: Board, values: Mapping[str, Values]) -> tuple[Values, Groups]:
    """The known values of several attributes, with the people of their faces, of which one may be edited repeatedly."""
    joined = np.concatenate(list(values.values()))
    groups = [group for name in values for group in board.groups[name]]
    known = ~np.isnan(joined)
    return joined[known], [group for group, is_known in zip(groups, known, strict=True) if is_known]


def _interval(values: Values, groups: Groups, seed: int) -> Json:
    if not len(values):
        return _cell(None)
    who = Resamples(groups, seed)
    low, high = who.interval(values) if who.people > 1 else (None, None)
    return {"value": float(values.mean()), "low": low, "high": high}


def _cell(value: float | None) -> Json:
    return {"value": value, "low": None, "high": None}


def _columns(points: Sequence[Point]) -> Json:
    """A curve as plain data: a list for each measure, over the strengths; null where nothing is known."""
    columns: Json = {"strength": [round(point.strength, 4) for point in points]}
    for measure in MEASURES:
        if all(measure in point.values for point in points):
            columns[measure] = [_mean(point.values[measure]) for point in points]
    columns["kid"] = [point.kid for point in points]
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _mean(values: Values) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _average(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


# ---------------------------------------------------------------------------------------------------------- in words


def verdict(board: Board) -> list[str]:
    """Which way flips most at equal cost, against the next best and the control, in words."""
    names, ways = board.compared
    if not names:
        return ["No attribute could be edited by every way at equal cost."]
    pooled = {way.name: _flips(board, way.name) for way in ways}
    shares = {way: float(values.mean()) for way, (values, _) in pooled.items() if len(values)}
    real = sorted((way.name for way in ways if not way.control and way.name in shares), key=lambda way: -shares[way])
    if not real:
        return ["Predictors see the attributes in every face before the edit."]
    price = "similarity of faces" if board.judges.identity else "change of pixels"
    control = [way.name for way in ways if way.control and way.name in shares]
    others = ", ".join(f"{way} {shares[way]:.0%}" for way in (*real[1:], *control))
    over = names[0] if len(names) == 1 else f"{len(names)} attributes"
    said = f"At equal {price}, {real[0]} flips most predictors of {over}: {shares[real[0]]:.0%} of faces ({others})."
    return [said, *_next_best(pooled, real, board.seed), *_truth(board, real[0])]


def _flips(board: Board, way: str) -> tuple[Values, Groups]:
    return _pooled(board, {name: board.equal[name][way].values["flips"] for name in board.compared[0]})


def _next_best(pooled: Mapping[str, tuple[Values, Groups]], ranked: Sequence[str], seed: int) -> list[str]:
    """Whether the best differs from the second, from the same faces edited by both."""
    if len(ranked) < 2:
        return []
    (first, who), (second, _) = pooled[ranked[0]], pooled[ranked[1]]
    people = Resamples(who, seed)
    low, high = people.interval(first - second)
    better = people.people > 1 and of_gain(low, high) is True
    said = "better than" if better else "not distinguishable from"
    return [f"{ranked[0]} is {said} {ranked[1]} (flips {low:+.1%} to {high:+.1%}, 95 % over people)."]


def _truth(board: Board, best: str) -> list[str]:
    """How near the best way comes to the true edit, where faces are painted."""
    values = {name: board.equal[name][best].values for name in board.compared[0]}
    found = {
        name: gain for name in values if "gain" in values[name] and (gain := _mean(values[name]["gain"])) is not None
    }
    if not found:
        return []
    nearer, mean = sum(gain > 0 for gain in found.values()), sum(found.values()) / len(found)
    return [
        f"It brings {nearer} of {len(found)} attributes nearer to the face painted with them ({mean:+.2f} dB of PSNR)."
    ]
