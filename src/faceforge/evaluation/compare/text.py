"""A comparison as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faceforge.evaluation.compare import verdict
from faceforge.evaluation.compare.comparison import Against, Block, Comparison, Row
from faceforge.evaluation.compare.sheets import label, measure
from faceforge.metrics.table import BEST, aligned
from faceforge.report.html import duration

ARROWS = {"higher": "up", "lower": "down", "one": "1"}
SIGNS = {True: "+", False: "-", "unclear": "="}


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
            yield [
                f"  +- of {len(row.setting.runs)} seeds",
                *(f"{measure(s.score).text(s.deviation)} " for s in stats),
                "",
                "",
            ]
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
    names = ", ".join(dict.fromkeys(row.name for row in block.references.values()))
    several = any(len(part.parts) > 1 for row in block.rows for part in row.against.values())
    spans = "least and greatest of the seeds" if several else "95 %, paired"
    body = [["", *(f"{label(score)} " for score in block.scores)]]
    for row in block.rows:
        if row.against:
            found = [row.against[score] for score in block.scores]
            body += [[row.name, *map(difference, found)], [f"  {spans}", *map(_span, found)]]
    return [f"Better (+) or worse (-) than {names} by (= cannot be told apart):", *aligned(body)]


def difference(part: Against) -> str:
    """The gain, marked if its interval excludes zero in every pair."""
    n = len(part.parts)
    flag = True if part.better == n else False if part.worse == n else "unclear"
    return f"{verdict.shown(part.score, part.gain)}{SIGNS[flag] if part.judged else ' '}"


def _span(part: Against) -> str:
    return (
        ""
        if part.span is None
        else f"{verdict.shown(part.score, part.span[0])}..{verdict.shown(part.score, part.span[1])} "
    )


def closing(comparison: Comparison) -> Sequence[str]:
    """Nothing is hidden: how many intervals there are, of which some exclude zero by chance."""
    count = sum(part.judged * len(part.parts) for b in comparison.blocks for r in b.rows for part in r.against.values())
    return [f"Each of these {count} intervals misses the truth in one of 20 cases."] if count > 1 else []
