"""`report.html`: a run on one page that needs nothing beside itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faceforge import words
from faceforge.io.files import replacing
from faceforge.io.record import Record
from faceforge.metrics import table
from faceforge.metrics.table import MEASURES, WAYS, Measure, Table, tables
from faceforge.report import diagram, pictures
from faceforge.report.charts import Chart, chart
from faceforge.report.diagnosis import FIGURES
from faceforge.report.edits import Edits
from faceforge.report.facts import Facts
from faceforge.report.html import SHARED, Pages, Share, duration, grouped

PAGES = Pages(SHARED, "page.js", "data:", "faceforge", sheets=diagram.sheets)
RATE = "model.optimizer_g.lr"
WORDS = {"train": "training", "validate": "validating", "sample": "drawing grids", "checkpoint": "saving"}


def write_report(run: str | Path) -> Path:
    """Write `report.html` into a run folder from what lies there, in one step; returns its path."""
    run = Path(run)
    page = PAGES.render("report.html.j2", Report(run))
    with replacing(run / "report.html") as file:
        file.write(page)
    return run / "report.html"


class Report(Facts):
    """The same as the page's parts; an empty one is left out there."""

    ways = WAYS

    def measure(self, score: str) -> Measure:
        """How a score is shown."""
        return table.measure(score)

    def score_name(self, score: str) -> str:
        """A score's label with its extractor; unknown names as they are."""
        return table.label(score) if table.metric_of(score) in MEASURES else score

    @property
    def title(self) -> str:
        """Model and data, else the folder's name."""
        model, data = (self.config.at(f"choices.{name}") for name in ("model", "data"))
        source = self.record.part("data").get("source") or data
        return f"{model} on {source}" if model else self.folder.resolve().name

    @property
    def status(self) -> tuple[str, str]:
        """How the run ended, in a word and in a sentence."""
        status, seen, limit = self.record.get("status"), f"{self.images:,} images", self.config.at("trainer.max_images")
        seconds = self.record.number("seconds")
        took = f" in {duration(seconds)}" if seconds else ""
        share = f" of {limit:,} ({self.images / limit:.0%})" if isinstance(limit, int) and limit else ""
        said = {
            "finished": f"Finished: {seen}{took}.",
            "running": f"Not finished when this page was written: {seen}{share}.",
            "interrupted": f"Interrupted after {seen}{share}. Its last checkpoint is whole; training can resume.",
            "failed": f"Failed after {seen}{share}. The last good checkpoint is kept.",
        }
        unknown = f"This folder does not record how its run ended. Its data reach {seen}."
        return (status, said[status]) if isinstance(status, str) and status in said else ("unknown", unknown)

    @property
    def last(self) -> pictures.Picture | None:
        """The last grid, large."""
        line = self.time_line
        return (pictures.large(self.folder, line[-1].images) or line[-1]) if line else None

    @property
    def seen(self) -> pictures.Picture | None:
        """What the discriminator was last shown."""
        return pictures.named(self.folder / "seen.png", self.images)

    @property
    def tables(self) -> list[Table]:
        """Of the evaluation."""
        return tables(self.evaluation)

    @property
    def others(self) -> list[tuple[str, Record, list[Table]]]:
        """Of the evaluations on other sets: the set's name, all, and the tables."""
        found = [(name, each) for each in self.other_evaluations if isinstance(name := each.at("data.set"), str)]
        return [(name, each, shown) for name, each in found if (shown := tables(each))]

    @property
    def audit_said(self) -> list[tuple[str, list[str]]]:
        """Sentences of the audit by part. It names files and people elsewhere, which are left there."""
        parts = self.audit.part("said").items()
        return [
            (part, [line for line in lines if isinstance(line, str)])
            for part, lines in parts
            if isinstance(lines, list)
        ]

    @property
    def audit_spaces(self) -> list[tuple[str, ...]]:
        """Where copies were sought, how many were found, below which ratio a face is one, and the test of the set."""
        found = [(name, Record.of(about)) for name, about in self.audit.part("memorisation.spaces").items()]
        keys = ("copies", "copy_below_ratio", "ratio_to_chance", "p")
        return [
            (name, *(f"{value:.3g}" if (value := about.number(key)) is not None else "" for key in keys))
            for name, about in found
        ]

    @property
    def edits(self) -> Edits | None:
        """Of the evaluation, if edits were judged."""
        found = self.evaluation.part("edits")
        return Edits(found) if found else None

    @property
    def charts(self) -> list[Chart]:
        """The curves, all up to the same number of images."""
        end = max((series.end for panel in self.panels for series in panel.series), default=0.0)
        return [chart(panel, end) for panel in self.panels]

    @property
    def notes(self) -> list[Record]:
        """What was noticed during the training."""
        return [Record(note) for note in self.record.listed("notes") if isinstance(note, dict) and "text" in note]

    @property
    def watched(self) -> list[tuple[str, str, str]]:
        """The watched figures: in words, the last value, how to read it."""
        last = {series.name: series.last for panel in self.panels for series in panel.series}
        return [(words, f"{last[name]:.4g}", meaning) for name, (words, meaning) in FIGURES.items() if name in last]

    @property
    def networks(self) -> list[tuple[str, Record, list[dict[str, Any]]]]:
        """Names, what is known of each network, and its blocks of layers."""
        found = self.record.part("networks").items()
        parts = [(name.replace("_", " "), Record(about)) for name, about in found if isinstance(about, dict)]
        return [(name, about, diagram.group(about.listed("layers"))) for name, about in parts]

    @property
    def splits(self) -> list[tuple[str, str, str]]:
        """Faces and people of each split."""
        data, names = self.record.part("data"), {"train": "training", "val": "validation"}
        counts, people = data.part("counts").items(), data.part("identities")
        return [(names.get(name, name), grouped(faces), grouped(people.get(name))) for name, faces in counts]

    @property
    def attributes(self) -> list[Share]:
        """Which share of the faces has each attribute."""
        known = self.record.part("data.attributes").numbers().items()
        return [Share(name.replace("_", " "), f"{share:.0%}", share) for name, share in known]

    @property
    def spent(self) -> list[Share]:
        """Where the time went."""
        spent = {WORDS.get(name, name): part for name, part in self.record.part("timings").numbers().items() if part}
        rest = (self.record.number("seconds") or 0) - sum(spent.values())
        if spent and rest > 0.01 * sum(spent.values()):
            spent = Record({**spent, "other": rest}).numbers()
        whole = sum(spent.values())
        return [Share(name, f"{duration(part)}, {part / whole:.0%}", part / whole) for name, part in spent.items()]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """(why, what to type) for what can follow."""
        return list(commands(self)) if self.record and self.config.at("choices.model") else []

    @property
    def shown_folder(self) -> str:
        """The folder as one would type it."""
        return _shown_path(self.folder)


# ----------------------------------------------------------------------------------------------------- next


def commands(facts: Facts) -> Iterator[tuple[str, str]]:
    """(why, what to type) for what can follow this run."""
    folder = _shown_path(facts.folder)
    run = words.word("resume", folder)
    finished = facts.record.get("status") == "finished"
    limit = facts.config.at("trainer.max_images")
    longer = f"trainer.max_images={2 * (limit if isinstance(limit, int) else facts.images or 100_000)}"
    if finished:
        yield "Train twice as long", words.train(run, longer)
    else:
        yield "Resume where it stopped; the result is the same as without the interruption", words.train(run)
        yield "Resume with another limit", words.train(run, longer)
    same = _overrides(facts)
    model = f"model={facts.config.at('choices.model')}"
    yield (
        "Fine-tune on a folder of your own pictures",
        words.train(model, words.word("init_from", folder), "data=crops", "data.root=FOLDER"),
    )
    yield "Repeat with three seeds to see the variation", words.train("-m", *same, "seed=1,2,3")
    rate = facts.config.at(RATE)
    if isinstance(rate, (int, float)):
        rates = f"{rate / 2:g},{rate:g},{2 * rate:g}"
        yield "Try other learning rates", words.train("-m", *same, f"{RATE}={rates}")
    wandb = facts.record.part("wandb")
    if wandb.get("mode") == "offline" and wandb.get("folder"):
        yield "Upload to Weights & Biases, after `wandb login`", f"wandb sync {shlex.quote(str(wandb['folder']))}"


def _overrides(facts: Facts) -> list[str]:
    """What was typed for this run, but for its folder, seed and rate; of a sweep, this job's own values."""
    try:
        typed = shlex.split(str(facts.record.get("command", "")))[2:]
    except ValueError:
        typed = []
    pairs = [(key, value) for key, equals, value in (word.partition("=") for word in typed) if equals]
    kept = {key: value for key, value in pairs if key not in ("run_dir", "resume", "seed", RATE) and key[0].isalpha()}
    for key, value in kept.items():
        if "," in value and value[0] not in "[{'\"":
            kept[key] = str(facts.config.at(f"choices.{key}") or facts.config.at(key))
    kept.setdefault("model", str(facts.config.at("choices.model")))
    return [f"{key}={value}" for key, value in kept.items()]


def _shown_path(folder: Path) -> str:
    """Relative where the run lies below the folder one is in, as one would type it."""
    path = words.relative(folder)
    return str(folder.resolve()) if path.startswith("..") else path
