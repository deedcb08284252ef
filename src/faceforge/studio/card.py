"""The model card: what the model is, its training data, its scores, and what it must not be used for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faceforge
from faceforge.metrics import table
from faceforge.studio.model import Model, record

ETHICS = """\
Faces made by this model are synthetic, and so are the parts that it adds to a photo: they are guesses based on other
people's faces, never evidence of what somebody looks like. Do not use it to identify people, to judge them by their
faces, to deceive, or to show a real person in a way that person would not agree to. It knows only faces like those it
was trained on; results are worse for people who are rare among them. Label what you publish as synthetic; files made
by faceforge carry such a label and the recipe that made them.
"""


LICENCES = {  # of the data, by source
    "celeba": "CelebA may be used for non-commercial research only (mmlab.ie.cuhk.edu.hk/projects/CelebA.html).",
    "lfw": "LFW holds pictures of news sites, for research; it names no licence (vis-www.cs.umass.edu/lfw).",
    "drawn": "Drawn faces are made by faceforge; they show nobody.",
}
UNKNOWN = "Unknown to faceforge: say here under which terms the training data may be used."


def make_card(model: Model, files: Mapping[str, str], licence: str | None = None) -> str:
    """Markdown with the header that model hubs read; ``files`` maps the files beside it to descriptions, ``licence`` is
    that of the training data.
    """
    run = record(model.folder)
    parts = [
        _header(model),
        f"# {model.name}",
        _what(model, run),
        "## Files\n\n" + "\n".join(f"- `{name}`: {what}" for name, what in files.items()),
        "## Use\n\n" + _use(model),
        "## Data\n\n" + _data(run),
        "## Licence of the data\n\n" + (licence or _licence(run)),
        "## Scores\n\n" + _scores(model.folder),
        "## Limits\n\n" + model.task.limits,
        "## Ethics\n\n" + ETHICS.strip(),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _header(model: Model) -> str:
    kind = "unconditional-image-generation" if "generate" in model.abilities else "image-to-image"
    return f"---\nlibrary_name: faceforge\npipeline_tag: {kind}\ntags: [faces, {model.task.name}]\n---"


def _what(model: Model, run: Mapping[str, Any]) -> str:
    height, width = model.size
    colour = "colour" if model.channels == 3 else "grey"
    scheme = type(model.module).__name__.removesuffix("Module").lower()
    lines = [
        f"A model of faces at {width}x{height} pixels (width x height), {colour}; training scheme: {scheme}, task: "
        f"{model.task.name}. It can {', '.join(model.abilities) or 'be looked at'}.",
        f"Made with faceforge {run.get('faceforge', faceforge.__version__)}; {model.module.clock.images:,} images drawn"
        + (f" in {run['seconds'] / 60:.0f} minutes on {run['device']}" if run.get("device") else "")
        + (f"; seed {run['seed']}" if "seed" in run else "")
        + ".",
    ]
    return "\n\n".join(lines)


def _use(model: Model) -> str:
    commands = {
        "generate": "faceforge generate . -n 64",
        "upscale": "faceforge upscale . photo.jpg",
        "translate": "faceforge translate . photo.jpg",
        "edit": "faceforge edit . photo.jpg NAME=1.5",
        "walk": "faceforge walk .",
    }
    lines = [command for ability, command in commands.items() if ability in model.abilities]
    return "```\n" + "\n".join(lines) + "\n```"


def _data(run: Mapping[str, Any]) -> str:
    data = run.get("data")
    if not isinstance(data, Mapping):
        return "Unknown: the run has no record of its data."
    counts, protocol = data["counts"], data["protocol"]
    return (
        f"Source `{data['source']}`, protocol `{protocol.get('name', data['source'])}` ({protocol['resize']}), "
        f"manifest `{data['manifest'][:16]}`. Trained on {counts['train']:,} faces; {counts['val']:,} for validation, "
        f"{counts['test']:,} for testing, from people not in the training set, as far as identities are known."
    )


def _licence(run: Mapping[str, Any]) -> str:
    data = run.get("data")
    return LICENCES.get(str(data.get("source")) if isinstance(data, Mapping) else "", UNKNOWN)


def _scores(folder: Path) -> str:
    try:
        result = json.loads((folder / "evaluation.json").read_text())
    except (OSError, ValueError):
        return "None yet: `faceforge evaluate RUN` measures them."
    about = result["data"]
    text = [
        f"On {about['faces']:,} faces of the {about['split']} split; checkpoint {result['checkpoint']['sha256'][:16]}."
    ]
    for found in table.tables(result):
        heads = [f"{table.measure(name).label} ({table.WAYS[table.measure(name).better]})" for name in found.scores]
        rows = [f"| {found.title} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for row in found.rows:
            cells = [table.measure(name).text(found.cell(row, name).get("value")) for name in found.scores]
            rows.append(f"| {row['name']} | " + " | ".join(cells) + " |")
        text.append("\n".join(rows))
    return "\n\n".join([*text, *result["verdict"]])
