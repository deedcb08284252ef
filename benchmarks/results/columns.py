"""Whether one row is better than another in every score of their table, and for every seed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results.book import Book, spread
from faceforge.metrics.table import MEASURES, label, measure, metric_of

Verdict = Literal["holds", "holds in some seeds", "holds in some scores", "does not hold", "not run yet"]
Place = tuple[str, str]  # a row of rows.yaml, and a row of its evaluation's table


@dataclass(frozen=True)
class Column:
    """One score of both sides, seed by seed."""

    score: str
    first: Sequence[float]
    second: Sequence[float]

    @property
    def won(self) -> int:
        """The number of seeds in which the first is better."""
        rank = measure(self.score).rank
        return sum(rank(a) > rank(b) for a, b in zip(self.first, self.second, strict=True))

    @property
    def told(self) -> str:
        """The score with both values."""
        digits = measure(self.score).digits
        return f"{label(self.score)} {spread(self.first, digits)} against {spread(self.second, digits)}"


def over_seeds(right: Collection[bool]) -> Verdict:
    """The verdict on a statement that is right or wrong for each seed."""
    return "holds" if all(right) else ("holds in some seeds" if any(right) else "does not hold")


def seeds_of(book: Book, first: Place, second: Place) -> list[int]:
    """The seeds that both have a record of."""
    return sorted(set(book.rows.get(first[0], {})) & set(book.rows.get(second[0], {})))


def columns(book: Book, first: Place, second: Place) -> list[Column]:
    """Every score that both have for all of their common seeds, in the order of the tables."""
    seeds, found = seeds_of(book, first, second), []
    known = dict.fromkeys(score for seed in seeds for score in _scores(book, first, seed))
    for score in sorted(known, key=lambda score: list(MEASURES).index(metric_of(score))):
        a, b = book.scores(first[0], score, first[1]), book.scores(second[0], score, second[1])
        if all(seed in a and seed in b for seed in seeds):
            found.append(Column(score, [a[seed] for seed in seeds], [b[seed] for seed in seeds]))
    return found


def _scores(book: Book, place: Place, seed: int) -> list[str]:
    rows = book.rows[place[0]][seed].get("evaluation", {}).get("rows", [])
    return [score for row in rows if row["name"] == place[1] for score in row["scores"]]


def verdict(found: Sequence[Column]) -> Verdict:
    """Holds if the first is better in every score for every seed; does not hold if it is in none for any."""
    if not found:
        return "not run yet"
    seeds = len(found[0].first)
    if all(column.won == seeds for column in found):
        return "holds"
    if not any(column.won for column in found):
        return "does not hold"
    return "holds in some seeds" if all(column.won for column in found) else "holds in some scores"


def figures(found: Sequence[Column]) -> str:
    """The scores in which the first is better for all seeds, for some, and for none."""
    seeds = len(found[0].first) if found else 0
    parts = []
    for words, holds in (("better", lambda won: won == seeds), ("not better", lambda won: not won)):
        if here := [column.told for column in found if holds(column.won)]:
            parts.append(f"{words}: {', '.join(here)}")
    if mixed := [f"{c.told} (better in {c.won} of {seeds})" for c in found if 0 < c.won < seeds]:
        parts.insert(1, f"in some seeds: {', '.join(mixed)}")
    return "; ".join(parts)
