"""`report.html`: a run on one page that needs nothing beside itself."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from faceforge.io.files import replacing
from faceforge.report import charts, diagnosis, diagram, evaluation, pictures
from faceforge.report.markup import Html, duration, join, name_of, pairs, table, tag, text, times

SKIPPED_SHOWN = 50
ABOVE = ("source", "size", "height", "width", "channels")  # said once, above the protocol
ATTRIBUTES_SHOWN = 60
RATE = "model.optimizer_g.lr"
HERE = Path(__file__).parent
# Even markup that slipped through could then load nothing from anywhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
WORDS = {"train": "training", "validate": "validating", "sample": "drawing grids", "checkpoint": "saving"}


@dataclass(frozen=True)
class Facts:
    """What a run folder says about itself; every part may be missing, a run can end at any moment."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json."""
        try:
            return _mapping(json.loads((self.folder / "run.json").read_text(encoding="utf-8", errors="replace")))
        except (OSError, ValueError):
            return {}

    @cached_property
    def config_text(self) -> str:
        """config.yaml as it stands there."""
        try:
            return (self.folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.yaml read."""
        try:
            return _mapping(yaml.safe_load(self.config_text))
        except yaml.YAMLError:
            return {}

    @cached_property
    def panels(self) -> list[charts.Panel]:
        """The curves of metrics.csv."""
        return charts.read_panels(self.folder / "metrics.csv")

    @cached_property
    def time_line(self) -> list[pictures.Picture]:
        """The grids of samples/."""
        return pictures.time_line(self.folder)

    @cached_property
    def skipped(self) -> tuple[list[list[str]], int]:
        """The first rows of skipped.csv and how many there are."""
        rows: list[list[str]] = []
        count = 0
        for row in _rows(self.folder / "skipped.csv"):
            count += 1
            if len(rows) < SKIPPED_SHOWN:
                rows.append([*row, "", ""][:2])
        return rows, count

    def part(self, *keys: str) -> dict[str, Any]:
        """A mapping inside run.json, empty where it is missing."""
        value: Any = self.record
        for key in keys:
            value = _mapping(value).get(key)
        return _mapping(value)

    def number(self, key: str) -> float | None:
        """A number of run.json."""
        value = self.record.get(key)
        return value if isinstance(value, (int, float)) and math.isfinite(value) else None

    def setting(self, dotted: str) -> Any:
        """A value of the config by its dotted key, None where it is missing."""
        value: Any = self.config
        for key in dotted.split("."):
            value = _mapping(value).get(key)
        return value

    @cached_property
    def images(self) -> int:
        """Images seen, by run.json or whatever else is there."""
        ends = [series.end for panel in self.panels for series in panel.series]
        grids = [picture.images for picture in self.time_line]
        return int(self.number("images") or max([*ends, *grids, 0]))


def write_report(run: str | Path) -> Path:
    """Write `report.html` into a run folder from what lies there, in one step; returns its path."""
    run = Path(run)
    page = build(Facts(run))
    with replacing(run / "report.html") as file:
        file.write(page)
    return run / "report.html"


def build(facts: Facts) -> str:
    """The whole page."""
    title = _title(facts)
    head = join(
        [
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
            tag("title", title),
            tag("link", rel="icon", href="data:,"),
            tag("style", Html((HERE / "page.css").read_text(encoding="utf-8"))),
        ]
    )
    found = [(name, label, inside) for name, label, inside in _sections(facts) if inside]
    links = [tag("a", label, href=f"#{name}") for name, label, _ in found]
    parts = [tag("section", tag("h2", label), inside, id=name) for name, label, inside in found]
    header = tag("header", _masthead(facts, title), tag("nav", *links, aria_label="Parts of this page"))
    script = tag("script", Html((HERE / "page.js").read_text(encoding="utf-8")))
    body = tag("body", header, tag("main", _opening(facts), *parts), _footer(facts), script)
    return "<!doctype html>\n" + tag("html", tag("head", head), body, lang="en") + "\n"


def _sections(facts: Facts) -> list[tuple[str, str, Html | None]]:
    return [
        ("evaluation", "Evaluation", evaluation.section(facts.folder)),
        ("curves", "Curves", _curves(facts)),
        ("diagnosis", "Diagnosis", diagnosis.section(facts)),
        ("networks", "Networks", _networks(facts)),
        ("data", "Data", _data(facts)),
        ("time", "Where the time went", _time(facts)),
        ("next", "What next", _next(facts)),
        ("config", "Configuration", _configuration(facts)),
        ("origin", "How it was made", _origin(facts)),
    ]


# ------------------------------------------------------------------------------------------------------ top


def _title(facts: Facts) -> str:
    model, data = facts.setting("choices.model"), facts.setting("choices.data")
    source = facts.part("data").get("source")
    return f"{model} on {source or data}" if model else facts.folder.resolve().name


def _masthead(facts: Facts, title: str) -> Html:
    status = str(facts.record.get("status", "unknown"))
    chosen = [facts.setting(f"choices.{name}") for name in ("task", "experiment")]
    notes = [f"task {chosen[0]}" if chosen[0] not in (None, "none") else None, chosen[1]]
    kicker = " · ".join(["faceforge", *(str(note) for note in notes if note), facts.folder.resolve().name])
    light = tag("span", class_="light", aria_hidden="true")
    words = tag("p", light, _status(facts, status), class_=f"status {_safe(status)}")
    return join([tag("p", text(kicker), class_="kicker"), tag("h1", title), words])


def _status(facts: Facts, status: str) -> str:
    seen, limit, seconds = f"{facts.images:,} images", facts.setting("trainer.max_images"), facts.number("seconds")
    took = f" in {duration(seconds)}" if seconds else ""
    share = f" of {limit:,} ({facts.images / limit:.0%})" if isinstance(limit, int) and limit else ""
    return {
        "finished": f"Finished: {seen}{took}.",
        "running": f"Not finished when this page was written: {seen}{share}.",
        "interrupted": f"Interrupted after {seen}{share}. Its last checkpoint is whole; it can go on from there.",
        "failed": f"Failed after {seen}{share}. The last good checkpoint is kept.",
    }.get(status, f"This folder does not say how its run ended; its numbers reach {seen}.")


def _opening(facts: Facts) -> Html:
    return tag("section", _show(facts), _key_figures(facts), class_="opening", aria_label="Last grid and key figures")


def _show(facts: Facts) -> Html:
    line = facts.time_line
    if not line:
        return tag("p", "No grid of pictures has been drawn yet.", class_="empty")
    last = pictures.large(facts.folder, line[-1].images) or line[-1]
    size = {"width": last.width, "height": last.height}
    image = tag("img", src=last.uri, alt=_alt(last.images), id="grid", **size)
    caption = tag("figcaption", tag("output", f"{last.images:,} images seen", id="position"))
    figure = tag("figure", image, caption, class_="show")
    return tag("div", figure, _strip(line) if len(line) > 1 else None, class_="stage")


def _strip(line: Sequence[pictures.Picture]) -> Html:
    """The time line: pictures to scroll through; the script adds a slider that shows them large."""
    cells = []
    for picture in line:
        size = {"width": picture.width, "height": picture.height, "data-images": picture.images}
        image = tag("img", src=picture.uri, alt=_alt(picture.images), **size)
        cells.append(tag("figure", image, tag("figcaption", charts.short(picture.images))))
    name = f"Time line: {len(line)} grids"
    return tag("div", *cells, class_="strip", id="strip", tabindex="0", role="region", aria_label=name)


def _alt(images: int) -> str:
    return f"Grid of sample pictures after {images:,} images seen"


def _key_figures(facts: Facts) -> Html:
    best, seconds = facts.part("best"), facts.number("seconds")
    shown = {key: [facts.record[key]] for key in ("device", "seed") if facts.record.get(key) is not None}
    figures = [
        ("Images seen", [f"{facts.images:,}", *_passes(facts)]),
        ("Speed", _speed(facts.number("images_per_second"))),
        ("Time", [duration(seconds)] if seconds else []),
        (f"Best {best.get('metric', 'score')}", _best(best)),
        *((f"Parameters, {name}", [f"{count:,}"]) for name, count in _weights(facts)),
        ("Device", shown.get("device", [])),
        ("Precision", [_precision(facts.record["precision"])] if facts.record.get("precision") else []),
        ("Seed", shown.get("seed", [])),
    ]
    return pairs(((name, _stack(values)) for name, values in figures if values), "figures")


def _passes(facts: Facts) -> list[str]:
    faces = _mapping(facts.part("data").get("counts")).get("train")
    return [f"{facts.images / faces:.1f} passes over {faces:,} faces"] if isinstance(faces, int) and faces else []


def _speed(rate: float | None) -> list[str]:
    return [f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"] if rate else []


def _weights(facts: Facts) -> list[tuple[str, int]]:
    counts = ((name, _mapping(network).get("parameters")) for name, network in facts.part("networks").items())
    return [(str(name).replace("_", " "), count) for name, count in counts if isinstance(count, int)]


def _best(best: Mapping[str, Any]) -> list[str]:
    value, images = best.get("value"), best.get("images")
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return []
    where = f"at {images:,} images" if isinstance(images, int) else ""
    return [f"{value:.4g}", f"{where} ({'lower' if best.get('mode') == 'min' else 'higher'} is better)".strip()]


def _precision(name: object) -> str:
    return {"32": "32 bit", "32-true": "32 bit", "bf16": "bf16 mixed", "16": "16 bit mixed"}.get(str(name), str(name))


def _stack(values: Sequence[object]) -> Html:
    """The first value large, what explains it below."""
    return join([tag("span", values[0]), *(tag("small", value) for value in values[1:])])


# ----------------------------------------------------------------------------------------------------- parts


def _curves(facts: Facts) -> Html | None:
    end = max((series.end for panel in facts.panels for series in panel.series), default=0.0)
    drawn = [Html(charts.draw_html(panel, end)) for panel in facts.panels]
    return tag("div", *drawn, class_="charts") if drawn else None


def _networks(facts: Facts) -> Html | None:
    return diagram.draw_all(facts.part("networks")) or None


def _data(facts: Facts) -> Html | None:
    data = facts.part("data")
    rows, count = facts.skipped
    if not data and not count:
        return None
    return join([_splits(data), _about_data(data), _attributes(data), _skipped(rows, count)])


def _splits(data: Mapping[str, Any]) -> Html | None:
    counts, people = _mapping(data.get("counts")), _mapping(data.get("identities"))
    if not counts:
        return None
    names = {"train": "training", "val": "validation", "test": "test"}
    rows = [(names.get(name, name), _count(n), _count(people.get(name))) for name, n in counts.items()]
    return table(["Split", "Faces", "People"], rows)


def _about_data(data: Mapping[str, Any]) -> Html | None:
    size, protocol = data.get("size"), _mapping(data.get("protocol"))
    shape = f"{times(size)}, {'grey' if data.get('channels') == 1 else 'colour'}" if size else None
    items = [
        ("Source", data.get("source")),
        ("Height and width", shape),
        *((str(key).replace("_", " "), _plain(value)) for key, value in protocol.items() if key not in ABOVE),
        ("Protocol hash", _code(data.get("protocol_hash"))),
        ("Manifest of files", _code(data.get("manifest"))),
    ]
    return pairs((name, value) for name, value in items if value is not None) if data else None


def _attributes(data: Mapping[str, Any]) -> Html | None:
    shares = _mapping(data.get("attributes"))
    known = [(name, share) for name, share in shares.items() if isinstance(share, (int, float))]
    if not known:
        return None
    bars = [
        tag("li", tag("span", name_of(str(name).replace("_", " "))), tag("b", f"{share:.0%}"), _bar(share))
        for name, share in sorted(known, key=lambda pair: -pair[1])[:ATTRIBUTES_SHOWN]
    ]
    summary = tag("summary", f"{len(known)} attributes and how many faces have them")
    return tag("details", summary, tag("ul", *bars, class_="attributes"))


def _bar(share: float) -> Html:
    return tag("i", style=f"width:{100 * min(max(share, 0.0), 1.0):.1f}%")


def _skipped(rows: Sequence[Sequence[str]], count: int) -> Html:
    if not count:
        return tag("p", "No file was skipped.")
    listed = table(["File", "Why it was skipped"], [(name_of(name), name_of(why)) for name, why in rows])
    rest = tag("p", f"and {count - len(rows):,} more in skipped.csv") if count > len(rows) else None
    summary = tag("summary", f"{count:,} file{'s' * (count != 1)} skipped")
    return tag("details", summary, listed, rest, open="" if count <= 10 else None)


def _time(facts: Facts) -> Html | None:
    spent = {k: v for k, v in facts.part("timings").items() if isinstance(v, (int, float)) and v > 0}
    if not spent:
        return None
    rest = (facts.number("seconds") or 0) - sum(spent.values())
    if rest > 0.01 * sum(spent.values()):
        spent["other"] = rest
    total = sum(spent.values())
    ordered = sorted(spent.items(), key=lambda pair: -pair[1])
    bars = [tag("i", class_=f"c{n % 6}", style=f"flex-grow:{s / total:.4f}") for n, (_, s) in enumerate(ordered)]
    legend = [
        tag(
            "li",
            tag("i", class_=f"key c{n % 6}"),
            WORDS.get(name, name),
            " ",
            tag("b", duration(s)),
            f" {s / total:.0%}",
        )
        for n, (name, s) in enumerate(ordered)
    ]
    return join([tag("div", *bars, class_="spent", aria_hidden="true"), tag("ul", *legend, class_="legend")])


# ----------------------------------------------------------------------------------------------------- next


def _next(facts: Facts) -> Html | None:
    if not facts.record or not facts.setting("choices.model"):
        return None
    return tag("ul", *(tag("li", tag("p", why), _command(what)) for why, what in commands(facts)), class_="commands")


def commands(facts: Facts) -> Iterator[tuple[str, str]]:
    """(why, what to type) for what can follow this run."""
    run = shlex.quote(_shown_path(facts.folder))
    finished = facts.record.get("status") == "finished"
    limit = facts.setting("trainer.max_images")
    longer = 2 * (limit if isinstance(limit, int) else facts.images or 100_000)
    if finished:
        yield "Train it twice as long", f"python train.py resume={run} trainer.max_images={longer}"
    else:
        yield "Go on where it stopped; it ends as if it had never been interrupted", f"python train.py resume={run}"
        yield "Go on, to another limit", f"python train.py resume={run} trainer.max_images={longer}"
    same = shlex.join(_overrides(facts))
    model = shlex.quote(f"model={facts.setting('choices.model')}")
    yield (
        "Fine-tune it on a folder of your own pictures",
        f"python train.py {model} init_from={run} data=crops data.root=FOLDER",
    )
    yield "See how much is luck: the same with three seeds", f"python train.py -m {same} seed=1,2,3"
    rate = facts.setting(RATE)
    if isinstance(rate, (int, float)):
        rates = f"{rate / 2:g},{rate:g},{2 * rate:g}"
        yield "Try other learning rates", f"python train.py -m {same} {RATE}={rates}"
    wandb = facts.part("wandb")
    if wandb.get("mode") == "offline" and wandb.get("folder"):
        yield "Upload it to Weights & Biases, after `wandb login`", f"wandb sync {shlex.quote(str(wandb['folder']))}"


def _overrides(facts: Facts) -> list[str]:
    """What was typed for this run, but for its folder, seed and rate; of a sweep, this job's own values."""
    try:
        typed = shlex.split(str(facts.record.get("command", "")))[2:]
    except ValueError:
        typed = []
    pairs = [(key, value) for key, equals, value in (word.partition("=") for word in typed) if equals]
    kept = {key: value for key, value in pairs if key not in ("run_dir", "resume", "seed", RATE) and key[0].isalpha()}
    for key, value in kept.items():
        if "," in value and value[0] not in "[{":
            kept[key] = str(facts.setting(f"choices.{key}") or facts.setting(key))
    kept.setdefault("model", str(facts.setting("choices.model")))
    return [f"{key}={value}" for key, value in kept.items()]


def _command(line: str) -> Html:
    return tag("pre", tag("code", line), class_="command", tabindex="0")


def _shown_path(folder: Path) -> str:
    """Relative where the run lies below the folder one is in, as one would type it."""
    path = os.path.relpath(folder)
    return str(folder.resolve()) if path.startswith("..") else path


# ---------------------------------------------------------------------------------------------------- bottom


def _configuration(facts: Facts) -> Html | None:
    if not facts.config_text:
        return None
    lines = facts.config_text.count("\n")
    code = tag("pre", tag("code", facts.config_text), tabindex="0")
    return tag("details", tag("summary", f"config.yaml, {lines:,} lines"), code)


def _origin(facts: Facts) -> Html | None:
    record = facts.record
    if not record:
        return None
    commit, resumed = record.get("commit"), record.get("resumed")
    if commit and record.get("dirty"):
        commit = f"{commit} with changes not committed"
    points = [f"{n:,}" for n in resumed if isinstance(n, int)] if isinstance(resumed, list) else []
    wandb = facts.part("wandb")
    items = [
        ("Command", _code(record.get("command"))),
        ("Started", record.get("created")),
        ("Ended", record.get("finished")),
        ("Resumed at", f"{', '.join(points)} images" if points else None),
        ("Went back", _rollbacks(record.get("rollbacks"))),
        ("faceforge", record.get("faceforge")),
        ("Commit", _code(commit)),
        ("Python", record.get("python")),
        ("Packages", ", ".join(f"{name} {version}" for name, version in facts.part("packages").items()) or None),
        ("Platform", record.get("platform")),
        ("Threads", record.get("threads")),
        ("Weights & Biases", f"run {wandb['id']}, {wandb.get('mode', '')}" if wandb.get("id") else None),
    ]
    return pairs((name, value) for name, value in items if value is not None)


def _rollbacks(found: Any) -> str | None:
    """How often numbers left the finite world, and where from the run went on."""
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return "; ".join(f"to image {entry.get('to')}: {entry.get('what')}" for entry in entries) or None


def _footer(facts: Facts) -> Html:
    return tag("footer", tag("p", "Written by faceforge from ", tag("code", _shown_path(facts.folder)), "."))


# --------------------------------------------------------------------------------------------------- helpers


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows below the header of a CSV file; none where it is missing, as far as it can be read."""
    try:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            rows = csv.reader(line.replace("\0", "") for line in file)
            next(rows, None)
            yield from (row for row in rows if row)
    except (OSError, csv.Error):
        return


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "not known"


def _code(value: Any) -> Html | None:
    return None if value is None else tag("code", value)


def _plain(value: Any) -> str | None:
    """A value of a protocol in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return times(value) if isinstance(value, list) else str(value)


def _safe(name: str) -> str:
    return name if name.isalpha() else "unknown"
