"""A comparison as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from faceforge.evaluation.compare import verdict
from faceforge.evaluation.compare.comparison import Against, Block, Comparison, Row
from faceforge.metrics.table import BEST, aligned, label, measure
from faceforge.report.html import duration

ARROWS = {"higher": "up", "lower": "down", "one": "1"}


def lines(comparison: Comparison) -> list[str]:
    """All of it: tables, differences, the verdict, and what must be known."""
    said = [f"FORCED, these scores were made in different ways: {line}" for line in comparison.forced]
    for block in comparison.blocks:
        ways = [f"{label(score)} {ARROWS[measure(score).better]}" for score in block.scores]
        said += [*([""] if said else []), f"{block.title}: {block.about}", f"({', '.join(ways)}; {BEST} the best)"]
        said += aligned(list(_table(block)))
        if any(row.against for row in block.rows):
            said += ["", *_differences(block)]
        said += [*block.notes]
    said += ["", *verdict.sentences(comparison)]
    if comparison.differing:
        said += ["", "The settings differ in:"]
        said += aligned(
            [["", *(s.name for s in comparison.settings)], *([f"  {key}", *vs] for key, vs in comparison.differing)]
        )
    return [*said, *comparison.notes]


def _table(block: Block) -> Iterator[list[str]]:
    yield ["", *(f"{label(score)} " for score in block.scores), "images", "time"]
    for row in block.rows:
        stats = [row.stats[score] for score in block.scores]
        marks = [BEST if stat.mean == block.best(stat.score) and len(block.rows) > 1 else " " for stat in stats]
        yield [row.name, *(measure(s.score).text(s.mean) + m for s, m in zip(stats, marks, strict=True)), *effort(row)]
        if len(row.setting.runs) > 1:
            spreads = [verdict.precise(s.score, s.deviation or 0.0)[0] for s in stats]
            yield [f"  +- of {len(row.setting.runs)} seeds", *(f"{spread} " for spread in spreads), "", ""]
            yield ["  worst", *(f"{measure(s.score).text(s.worst)} " for s in stats), "", ""]
        elif any(stat.cells[0].low is not None for stat in stats):
            cells = [(measure(stat.score), stat.cells[0]) for stat in stats]
            yield [
                "  95 %",
                *(f"{how.text(c.low)}..{how.text(c.high)} " if c.low is not None else "" for how, c in cells),
                "",
                "",
            ]


def effort(row: Row) -> tuple[str, str]:
    """Images seen and time of training; of several seeds the largest."""
    images = [run.images for run in row.setting.runs if run.images is not None]
    seconds = [s for run in row.setting.runs if (s := run.entry.record.number("seconds")) is not None]
    return f"{max(images):,}" if images else "-", duration(max(seconds)) if seconds else "-"


def _differences(block: Block) -> list[str]:
    """By how much each row is better than its reference: + better, - worse, = cannot be told apart."""
    several = any(len(part.parts) > 1 for row in block.rows for part in row.against.values())
    spans = "least, greatest" if several else "95 %, paired"
    body = [["", *(f"{label(score)} " for score in block.scores)]]
    for row in block.rows:
        if row.against:
            found = [row.against[score] for score in block.scores]
            body += [[row.name, *map(_gain, found)], [f"  {spans}", *map(_span, found)]]
    some = "~ in some seeds, " if several else ""
    return [f"Better (+) or worse (-) than {block.against} by ({some}= cannot be told apart):", *aligned(body)]


def mark(part: Against) -> str:
    """Better or worse in every pair, in some, or in none; a space without an interval."""
    n, some = len(part.parts), part.better or part.worse
    return " " if not part.judged else "+" if part.better == n else "-" if part.worse == n else "~" if some else "="


def _gain(part: Against) -> str:
    return verdict.texts(part)[0] + mark(part)


def _span(part: Against) -> str:
    _, *ends = verdict.texts(part)
    return f"{'..'.join(ends)} " if ends else ""
