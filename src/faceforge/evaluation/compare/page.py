"""A comparison as one HTML file that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from faceforge import words
from faceforge.evaluation.compare import curves, grids, text, verdict
from faceforge.evaluation.compare.comparison import Against, Block, Comparison, Row, Stat
from faceforge.io.files import replacing
from faceforge.metrics.table import WAYS, extractor_of, in_words, label, measure
from faceforge.report.charts import Chart
from faceforge.report.html import SHARED, Pages


def _network(score: str) -> str:
    """What a score's features are of, if it has any."""
    extractor = extractor_of(score)
    return in_words(extractor) if extractor else ""


PAGES = Pages(SHARED, "page.js", "data:", "faceforge", label=label, measure=measure, network=_network)


def render(comparison: Comparison) -> str:
    """The page."""
    return PAGES.render("compare.html.j2", Page(comparison))


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page, in one step; its path."""
    page = render(comparison)
    with replacing(path) as file:
        file.write(page)
    return path


class Page:
    """The parts of the page; an empty one is left out there."""

    ways = WAYS

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @property
    def title(self) -> str:
        """The names of the settings."""
        names = [setting.name for setting in self.comparison.settings]
        shown = names if len(names) < 4 else [*names[:2], f"{len(names) - 2} others"]
        return f"{shown[0]} against {verdict.listed(shown[1:])}" if len(shown) > 1 else f"{shown[0]} over its seeds"

    @property
    def verdict(self) -> list[str]:
        """In words."""
        return verdict.sentences(self.comparison)

    @property
    def blocks(self) -> Sequence[Block]:
        """The tables."""
        return self.comparison.blocks

    @property
    def compared(self) -> list[Block]:
        """The tables with differences."""
        return [block for block in self.blocks if any(row.against for row in block.rows)]

    @cached_property
    def charts(self) -> list[Chart]:
        """Over images and seconds."""
        return curves.charts(self.comparison.settings)

    @cached_property
    def grids(self) -> grids.Grids | None:
        """The last grids."""
        return grids.grids(self.comparison.settings)

    @property
    def devices(self) -> str:
        """A remark where the seconds are those of unlike devices."""
        found = {str(run.entry.record.get("device")) for run in self.comparison.runs}
        return f"Seconds were measured on different devices: {'; '.join(sorted(found))}." if len(found) > 1 else ""

    @property
    def differing(self) -> list[list[str]]:
        """Keys of the configurations that differ."""
        return [[key, *values] for key, values in self.comparison.differing]

    @property
    def names(self) -> list[str]:
        """Of the settings."""
        return [setting.name for setting in self.comparison.settings]

    @property
    def origin(self) -> list[list[str]]:
        """For each run its seed, its checkpoint, its evaluation and its folder."""
        rows = []
        for run in self.comparison.runs:
            point, typed = run.result.part("checkpoint"), run.result.get("command")
            seen = (
                f"{point.get('name')}, {run.images:,} images" if point and run.images is not None else "not evaluated"
            )
            rows.append([run.name, str(run.seed), seen, str(typed or ""), words.relative(run.folder)])
        return rows

    @property
    def command(self) -> list[tuple[str, str]]:
        """What to type to make it again."""
        folders = [
            Path(words.relative(run.folder if run.file.name == "evaluation.json" else run.file))
            for run in self.comparison.runs
        ]
        forced = ["--force"] if self.comparison.forced else []
        return [("Compare these runs again", words.faceforge("compare", *folders, *forced))]

    def effort(self, row: Row) -> tuple[str, str]:
        """Images and time."""
        return text.effort(row)

    def gain(self, part: Against) -> tuple[str, str, str]:
        """Better, worse, level or bare; the gain; its interval."""
        kind = {"+": "better", "-": "worse", " ": "bare"}.get(text.mark(part), "level")
        gain, *ends = verdict.texts(part)
        return kind, f"{'+' if part.gain > 0 else ''}{gain}", " to ".join(ends)

    def deviation(self, stat: Stat) -> str:
        """Of several seeds; empty for one."""
        return "" if stat.deviation is None else verdict.precise(stat.score, stat.deviation)[0]

    def seeds(self, part: Against) -> str:
        """In how many seeds, if there are several."""
        n = len(part.parts)
        if n == 1 or not part.judged:
            return ""
        return f"better in {part.better}, worse in {part.worse} of {n}"
