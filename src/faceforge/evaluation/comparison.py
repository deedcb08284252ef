"""Compares a model with its best baseline, as flags and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from faceforge.metrics.table import extractor_of, full_name, label, measure, metric_of

Flag = Literal[True, False, "unclear"]
Row = Mapping[str, Any]
ONE_FACE_ENOUGH = ("precision", "density")
WORDS: Mapping[Flag, str] = {
    True: "Better than every baseline in",
    False: "Worse than the best baseline in",
    "unclear": "Not distinguishable from the best baseline in",
}


def best_baseline(rows: Sequence[Row], score: str) -> Row | None:
    """The baseline with the best value of a score; excludes a repeated face where that is meaningless."""
    having = [row for row in rows if row["kind"] == "baseline" and score in row["scores"]]
    if metric_of(score) in ONE_FACE_ENOUGH:
        spread = full_name("diversity", extractor_of(score))
        having = [row for row in having if row["scores"].get(spread, {}).get("value") != 0]
    return max(having, key=lambda row: measure(score).rank(row["scores"][score]["value"]), default=None)


def of_gain(low: float, high: float) -> Flag:
    """The flag from the interval of a gain (positive is better)."""
    return True if low > 0 else (False if high < 0 else "unclear")


def of_intervals(score: str, model: Mapping[str, Any], baseline: Mapping[str, Any]) -> Flag:
    """The flag from whether two intervals overlap; unclear without intervals."""
    if measure(score).better == "one" or None in (model["low"], baseline["low"]):
        return "unclear"
    above, below = model["low"] > baseline["high"], model["high"] < baseline["low"]
    won, lost = (above, below) if measure(score).better == "higher" else (below, above)
    return True if won else (False if lost else "unclear")


def sentences(rows: Sequence[Row], model: Row, flags: Mapping[str, Flag]) -> list[str]:
    """The flags of a model in words, a sentence per kind of flag, with figures.

    Scores without an interval or a direction are left out.
    """
    said = []
    told = [score for score in flags if measure(score).better != "one" and model["scores"][score]["low"] is not None]
    for flag, words in WORDS.items():
        parts = [_against(rows, model, score) for score in told if flags[score] == flag]
        if parts:
            said.append(f"{words} {_listed(parts)}.")
    return said


def _against(rows: Sequence[Row], model: Row, score: str) -> str:
    shown, other = measure(score), best_baseline(rows, score)
    assert other is not None
    ours, theirs = (shown.text(row["scores"][score]["value"]) for row in (model, other))
    return f"{label(score)} ({ours} against {theirs}{' ' * bool(shown.unit)}{shown.unit}, {other['name']})"


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
