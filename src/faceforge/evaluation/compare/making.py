"""From runs to a comparison; runs that cannot be compared are refused with what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from faceforge.errors import BadInput
from faceforge.evaluation.compare import sheets as reading
from faceforge.evaluation.compare.comparison import Against, Block, Comparison, Options, Row, Stat
from faceforge.evaluation.compare.differences import Differences
from faceforge.evaluation.compare.runs import EVALUATION, Run
from faceforge.evaluation.compare.settings import Setting, paired, settings
from faceforge.evaluation.compare.sheets import VALIDATION, Sheet
from faceforge.metrics.table import MEASURES, TITLES, label, measure, metric_of
from faceforge.runs.table import printable

FORCE = "what was scored differs; --force compares all the same, and says so in the tables"


def compare(runs: Sequence[Run], options: Options) -> Comparison:
    """Compare runs. Raises BadInput where their tasks or protocols differ, or where one has no score."""
    _require_one_task(runs)
    _require_scores(runs)
    making = _Making(runs, options)
    blocks = making.blocks()
    _require_known(options, blocks)
    chosen = [block for block in (_chosen(block, options) for block in blocks) if block.scores]
    notes = [f"{run.name} is not evaluated yet; type: {run.command()}" for run in runs if not run.result]
    forced = [printable(f"{run.name}: {line}") for run in runs for line in map(str, run.result.listed("forced"))]
    return Comparison(runs, making.settings, chosen, [*notes, *making.notes], [*forced, *making.forced])


def _require_one_task(runs: Sequence[Run]) -> None:
    first = runs[0]
    others = [run for run in runs if run.task != first.task]
    unlike = f"{first.name} has {first.task}; unlike tasks cannot be compared"
    _refuse([f"{run.name}: task {run.task}, {unlike}" for run in others])


def _require_scores(runs: Sequence[Run]) -> None:
    silent = [run for run in runs if not run.result and not reading.of_validation(run)]
    _refuse([f"{run.name}: not evaluated, and no val/ scores in metrics.csv; type: {run.command()}" for run in silent])


def _refuse(lines: Sequence[str]) -> None:
    if lines:
        raise BadInput("\n".join(lines))


class _Making:
    """A comparison as it is made."""

    def __init__(self, runs: Sequence[Run], options: Options) -> None:
        self.runs, self.options, self.settings = runs, options, settings(runs)
        self.differences = Differences()
        self.forced: list[str] = []
        self.notes: list[str] = []

    def blocks(self) -> list[Block]:
        """The tables of the evaluations, and that of validation scores if a run is not evaluated. Raises BadInput."""
        sheets = {run.file: reading.of_evaluation(run) for run in self.runs}
        tables = {kind: {file: found[kind] for file, found in sheets.items() if kind in found} for kind in TITLES}
        blocks = [block for kind, having in tables.items() if (block := self._evaluated(kind, having))]
        if all(run.result for run in self.runs):
            _refuse([] if blocks else ["these evaluations have no score in common"])
            return blocks
        validated = {run.file: sheet for run in self.runs if (sheet := reading.of_validation(run))}
        lines = self._unlike(validated)
        if lines and blocks:
            self.notes += [f"Validation scores are left out: {line}" for line in lines]
            return blocks
        self._allow(lines)
        return [*blocks, *filter(None, [self._block(VALIDATION, validated)])]

    def _evaluated(self, kind: str, having: Mapping[Path, Sheet]) -> Block | None:
        self._allow(self._unlike(having))
        return self._block(kind, having)

    def _allow(self, lines: Sequence[str]) -> None:
        """Refuse unlike protocols, or remember them."""
        if not self.options.force:
            _refuse([*lines, FORCE] if lines else [])
        self.forced += lines

    def _unlike(self, having: Mapping[Path, Sheet]) -> list[str]:
        """A line for each run whose scores were made in another way than those that they would be set beside."""
        rows, lines = self._rows(having), []
        for setting in rows:
            lines += [_line(setting.runs[0], run, having, True) for run in setting.runs[1:]]
        for setting in rows[1:]:
            lines += [_line(mine, run, having, False) for mine, run in paired(rows[0], setting)]
        return [line for line in dict.fromkeys(lines) if line]

    def _rows(self, having: Mapping[Path, Sheet]) -> list[Setting]:
        """The settings with those of their runs that have a sheet."""
        some = [replace(s, runs=tuple(run for run in s.runs if run.file in having)) for s in self.settings]
        return [setting for setting in some if setting.runs]

    def _block(self, kind: str, having: Mapping[Path, Sheet]) -> Block | None:
        """A table of the models and scores that all sheets have; None if there are none, or one run alone."""
        rows = self._rows(having)
        used = [having[run.file] for setting in rows for run in setting.runs]
        models = [name for name in (used[0].rows if used else ()) if all(name in sheet.rows for sheet in used)]
        scores = reading.common_scores([sheet.rows[model] for sheet in used for model in models])
        if not scores or len(used) < 2:
            return None
        made: list[Row] = []
        references: dict[str, Row] = {}
        for model in models:
            plain = [Row(setting, model, _stats(setting, model, scores, having)) for setting in rows]
            first = plain[0] if self.options.reference == "first" else _best(plain, self.options, scores)
            references[model] = first
            made += [row if row is first else self._against(row, first, having) for row in plain]
        notes = [*_left_out(used, scores), *self._bare(kind, having), *_seeds(made)]
        return Block(kind, scores, made, references, _about(kind, used), notes)

    def _against(self, row: Row, first: Row, having: Mapping[Path, Sheet]) -> Row:
        pairs = [(having[run.file], having[mine.file]) for mine, run in paired(first.setting, row.setting)]
        found = {s: tuple(self.differences.of(*pair, row.model, s) for pair in pairs) for s in row.stats}
        return replace(row, against={score: Against(score, parts) for score, parts in found.items()})

    def _bare(self, kind: str, having: Mapping[Path, Sheet]) -> list[str]:
        """Why differences have no interval."""
        if kind == VALIDATION:
            return ["Training keeps no values of single faces, so these differences have no interval."]
        why = "its evaluation kept no values of single faces, so its differences have no interval; type:"
        bare = [run for run in self.runs if run.file in having and kind not in run.kept]
        return [f"{run.name}: {why} {run.command()}" for run in bare]


def _line(one: Run, run: Run, having: Mapping[Path, Sheet], seeds: bool) -> str:
    said = reading.unlike(having[one.file], having[run.file], seeds)
    plain = one.file.name == run.file.name == EVALUATION and said.keys() <= set(reading.REPEATABLE)
    typed = f"; type: {reading.to_score_alike(run, one)}" if plain else ""
    return f"{run.name}: not scored as {one.name}: {', '.join(said.values())}{typed}" if said else ""


def _best(rows: Sequence[Row], options: Options, scores: Sequence[str]) -> Row:
    score = _sort_score(options, scores) or scores[0]
    return max(rows, key=lambda row: measure(score).rank(row.stats[score].mean))


def _stats(setting: Setting, model: str, scores: Sequence[str], having: Mapping[Path, Sheet]) -> dict[str, Stat]:
    return {s: Stat(s, tuple(having[run.file].rows[model][s] for run in setting.runs)) for s in scores}


# ------------------------------------------------------------------------------------------------------------- choices


def matching(wanted: str, scores: Sequence[str]) -> list[str]:
    """The scores of that name, with or without the extractor."""
    return [score for score in scores if wanted in (score, metric_of(score))]


def _sort_score(options: Options, scores: Sequence[str]) -> str | None:
    return next(iter(matching(options.sort, scores)), None) if options.sort else None


def _require_known(options: Options, blocks: Sequence[Block]) -> None:
    known = list(dict.fromkeys(score for block in blocks for score in block.scores))
    asked = [("--score", score) for score in options.scores] + ([("--sort", options.sort)] if options.sort else [])
    wrong = [(flag, wanted) for flag, wanted in asked if not matching(wanted, known)]
    _refuse([f"{flag} {wanted}: must be one of {', '.join(known)}" for flag, wanted in wrong])


def _chosen(block: Block, options: Options) -> Block:
    """The asked scores, in the asked order."""
    wanted = {score for name in options.scores for score in matching(name, block.scores)}
    scores = [score for score in block.scores if score in wanted or not options.scores]
    by, rows = _sort_score(options, block.scores), list(block.rows)
    if by:
        rows.sort(key=lambda row: -measure(by).rank(row.stats[by].mean))
    return replace(block, scores=scores, rows=rows)


# --------------------------------------------------------------------------------------------------------------- words


def _about(kind: str, used: Sequence[Sheet]) -> str:
    """Which faces, in words."""
    first = used[0].conditions
    if kind == VALIDATION:
        said = f"val split of {first['data.source']}, {first['data.counts.val']} faces; each run at its best validation"
        return printable(said)
    faces = sorted({n for sheet in used if isinstance(n := sheet.conditions["data.faces"], int)})
    count = f"{faces[0]:,}" if len(faces) == 1 else f"{faces[0]:,} to {faces[-1]:,}" if faces else "unknown"
    which = f"{first['data.split']} split of {first['data.source']}"
    return printable(f"{which}, {count} faces; checkpoint {first['checkpoint']}")


def _left_out(used: Sequence[Sheet], scores: Sequence[str]) -> list[str]:
    """Scores that some run lacks."""
    every = {score for sheet in used for row in sheet.rows.values() for score in row}
    known = {score for score in every if metric_of(score) in MEASURES and score.isprintable()}
    missing = sorted(map(label, known - set(scores)))
    return [f"Left out, since not every run has it: {', '.join(missing)}."] if missing else []


def _seeds(rows: Sequence[Row]) -> list[str]:
    """How seeds were paired, where there are several."""
    if all(len(row.setting.runs) == 1 for row in rows):
        return []
    said = ["Several seeds of one setting are one row: mean, deviation (n - 1) and the worst seed."]
    for row in rows:
        pairs = min((len(found.parts) for found in row.against.values()), default=len(row.setting.runs))
        if pairs < len(row.setting.runs):
            said.append(f"{row.name}: {pairs} of its {len(row.setting.runs)} seeds have a partner in the reference.")
    return said
