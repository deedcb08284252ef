"""A comparison in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from faceforge.evaluation.compare.comparison import VALIDATION, Against, Block, Comparison, Row
from faceforge.metrics.table import label, measure


def sentences(comparison: Comparison) -> list[str]:
    """The verdict on every table. Only differences whose interval excludes zero count."""
    return [line for block in comparison.blocks for line in of_block(block)]


def of_block(block: Block) -> list[str]:
    """What the rows of a table are, compared with their reference; a single setting is described instead."""
    rows = [row for row in block.rows if row.against]
    if not rows:
        return [_alone(row, block.scores) for row in block.rows]
    return [line for row in rows for line in _of_row(block, row)]


def _alone(row: Row, scores: Sequence[str]) -> str:
    parts = []
    for score in scores:
        stat, how = row.stats[score], measure(score)
        spread = "" if stat.deviation is None else f" +- {precise(score, stat.deviation)[0]}"
        parts.append(f"{label(score)} {how.text(stat.mean)}{spread} (worst {how.text(stat.worst)})")
    return f"{row.name}, over {len(row.setting.runs)} seeds: {', '.join(parts)}."


def _of_row(block: Block, row: Row) -> list[str]:
    other = block.references[row.model]
    found = [row.against[score] for score in block.scores]
    judged, bare = [part for part in found if part.judged], [part for part in found if not part.judged]
    where = "In validation, " if block.kind == VALIDATION else ""
    many = len(found[0].parts) > 1
    said = (_over_seeds if many else _once)(row.name, other.name, judged) if judged else []
    if bare:
        parts = [f"{label(part.score)} {_figures(part, row, other)}" for part in bare]
        said.append(f"{row.name} against {other.name} without an interval, so not judged: {', '.join(parts)}.")
    return [f"{where}{line}" for line in said]


def _figures(part: Against, row: Row, other: Row) -> str:
    how = measure(part.score)
    mine, theirs = (how.text(found.stats[part.score].mean) for found in (row, other))
    return f"{mine} against {theirs}"


def _once(name: str, other: str, found: Sequence[Against]) -> list[str]:
    """One pair of runs."""
    better, worse = [p for p in found if p.better], [p for p in found if p.worse]
    level = [label(p.score) for p in found if not p.better and not p.worse]
    parts = [f"{name} is better than {other} in {listed(map(by, better))}"] if better else []
    if worse:
        parts.append(
            f"worse in {listed(map(by, worse))}"
            if better
            else f"{name} is worse than {other} in {listed(map(by, worse))}"
        )
    if level:
        parts.append(
            f"in {listed(level)} they cannot be told apart"
            if parts
            else f"{name} and {other} cannot be told apart in {listed(level)}"
        )
    return [f"{'; '.join(parts)}."]


def _over_seeds(name: str, other: str, found: Sequence[Against]) -> list[str]:
    """Several pairs: in all, in some, in none of them."""
    n = len(found[0].parts)
    every, none = ("both seeds", "either seed") if n == 2 else (f"all {n} seeds", f"any of {n} seeds")
    kinds = {
        f"{name} is better than {other} in {every} in": [p for p in found if p.better == n],
        f"{name} is worse than {other} in {every} in": [p for p in found if p.worse == n],
        f"{name} is better than {other} in some seeds in": [p for p in found if 0 < p.better < n and not p.worse],
        f"{name} is worse than {other} in some seeds in": [p for p in found if 0 < p.worse < n and not p.better],
        f"{name} is better than {other} in some seeds and worse in others in": [
            p for p in found if p.better and p.worse
        ],
        f"{name} and {other} cannot be told apart in {none} in": [p for p in found if not p.better and not p.worse],
    }
    return [f"{start} {listed(_counted(p, n) for p in parts)}." for start, parts in kinds.items() if parts]


def _counted(part: Against, n: int) -> str:
    if not part.better and not part.worse:
        return label(part.score)
    if n in (part.better, part.worse):
        return by(part)
    if part.better and part.worse:
        return f"{label(part.score)} (better in {part.better}, worse in {part.worse} of {n})"
    return f"{label(part.score)} ({part.better or part.worse} of {n})"


def by(part: Against) -> str:
    """Such as ``PSNR by 0.40 dB (0.20 to 0.61)``; for several seeds their mean, least and greatest."""
    how, (gain, *ends) = measure(part.score), [text.removeprefix("-") for text in texts(part)]
    unit = f" {how.unit}" if how.unit else ""
    closer = " (distance to 1)" if how.better == "one" else ""
    around = f" ({' to '.join(sorted(ends, key=float))})" if ends else ""
    return f"{label(part.score)}{closer} by {gain}{unit}{around}"


def texts(part: Against) -> list[str]:
    """The gain and the ends of its span."""
    return precise(part.score, part.gain, *(part.span or ()))


def precise(score: str, *values: float) -> list[str]:
    """Values with the digits of a score, or with more where the largest would show only one that is not zero."""
    largest, digits = max(map(abs, values)), measure(score).digits
    if largest > 0:
        digits = min(9, max(digits, 1 - math.floor(math.log10(largest))))
    return [f"{value:.{digits}f}" for value in values]


def listed(parts: Iterable[str]) -> str:
    """Words with commas and an and."""
    found = list(parts)
    return " and ".join(filter(None, [", ".join(found[:-1]), found[-1]]))
