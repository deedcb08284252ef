"""What a comparison holds: tables of settings and their differences to a reference."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from faceforge.evaluation.compare.differences import Difference
from faceforge.evaluation.compare.runs import Run
from faceforge.evaluation.compare.settings import Setting, differing
from faceforge.evaluation.compare.sheets import VALIDATION, Cell
from faceforge.metrics.table import TITLES, measure

ALL_TITLES = {**TITLES, VALIDATION: "Validation during training"}
Reference = Literal["first", "best"]


@dataclass(frozen=True)
class Options:
    """What is compared: some scores (default: all), in which order, against which row, and whether in spite of unlike
    protocols.
    """

    scores: Sequence[str] = ()
    sort: str | None = None
    reference: Reference = "first"
    force: bool = False


@dataclass(frozen=True)
class Stat:
    """A score of a setting: its value for each seed, and the interval of a single one."""

    score: str
    cells: tuple[Cell, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(cell.value for cell in self.cells)

    @property
    def deviation(self) -> float | None:
        """Of the seeds (n - 1); None for one."""
        return statistics.stdev(cell.value for cell in self.cells) if len(self.cells) > 1 else None

    @property
    def worst(self) -> float:
        """Of the seeds."""
        return min((cell.value for cell in self.cells), key=measure(self.score).rank)


@dataclass(frozen=True)
class Against:
    """By how much a setting is better than the reference in a score, for each pair of runs."""

    score: str
    parts: tuple[Difference, ...]

    @property
    def gain(self) -> float:
        """The mean over the pairs."""
        return statistics.fmean(part.gain for part in self.parts)

    @property
    def span(self) -> tuple[float, float] | None:
        """The interval of a single pair, or the least and the greatest gain of several; None without either."""
        first, *others = self.parts
        if others:
            gains = [part.gain for part in self.parts]
            return min(gains), max(gains)
        return None if first.low is None or first.high is None else (first.low, first.high)

    @property
    def judged(self) -> bool:
        """Whether every pair has an interval."""
        return all(part.low is not None for part in self.parts)

    @property
    def better(self) -> int:
        """In how many pairs the setting is better."""
        return sum(part.flag is True for part in self.parts)

    @property
    def worse(self) -> int:
        """In how many pairs it is worse."""
        return sum(part.flag is False for part in self.parts)


@dataclass(frozen=True)
class Row:
    """A setting in a table; ``against`` is empty for the reference and where nothing can be paired with it."""

    setting: Setting
    model: str
    stats: Mapping[str, Stat]
    against: Mapping[str, Against] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the setting, and of its density of codes."""
        _, comma, which = self.model.partition(", ")
        return f"{self.setting.name} ({which})" if comma else self.setting.name


@dataclass(frozen=True)
class Block:
    """A table: rows of one model each, in the order asked for, and the reference of each model."""

    kind: str
    scores: Sequence[str]
    rows: Sequence[Row]
    references: Mapping[str, Row]
    about: str
    notes: Sequence[str] = ()

    @property
    def title(self) -> str:
        """In words."""
        return ALL_TITLES[self.kind]

    @property
    def against(self) -> str:
        """The names of the settings that are references."""
        return ", ".join(dict.fromkeys(row.setting.name for row in self.references.values()))

    def best(self, score: str) -> float:
        """The best mean of a score."""
        return max((row.stats[score].mean for row in self.rows), key=measure(score).rank)


@dataclass(frozen=True)
class Comparison:
    """Everything that is shown."""

    runs: Sequence[Run]
    settings: Sequence[Setting]
    blocks: Sequence[Block]
    notes: Sequence[str]
    forced: Sequence[str] = ()

    @cached_property
    def differing(self) -> list[tuple[str, list[str]]]:
        """Keys of the configurations that differ, with a value for each setting."""
        return differing(self.settings)
