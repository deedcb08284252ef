"""What the page says about the health of a training: what was noted, and how to read each figure that was watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from faceforge.report.markup import Html, join, table, tag

if TYPE_CHECKING:
    from faceforge.report.page import Facts

# Name of a column of metrics.csv: the figure in words, and how to read it.
FIGURES: dict[str, tuple[str, str]] = {
    "train/mae": ("Error on training faces", "Mean absolute error, of the range 1, on training faces left unaltered."),
    "val/mae": ("Error on new faces", "The same on people not trained on: the one that counts."),
    "val/gap": ("Gap", "How much larger the second is. 0 is none; above 0.35 the training set is learnt by heart."),
    "val/variance_ratio": (
        "Variance of outputs",
        "Against that of the targets. 1: as varied; 0: always the same picture. A blurred answer lies between.",
    ),
    "val/mean_face_distance": (
        "Distance from the mean face",
        "Against that of real faces. 1: as far; 0: every output is the mean face, often called posterior collapse.",
    ),
    "val/active_units": (
        "Active units of the code",
        "Those that depend on the face. In a variational code unneeded ones fall silent; next to none is a collapse.",
    ),
    "val/kl": (
        "Divergence of the code",
        "From its prior N(0, 1), in nats over all units: what the code tells of a face.",
    ),
    "val/diversity": (
        "Diversity",
        "Distance between two generated faces against that between two real ones. 1: as different; 0: always one.",
    ),
    "val/nearest": (
        "Distance to the nearest",
        "From a generated face to the most similar other one, against real faces. Near 0: a few faces, repeated.",
    ),
    "val/checkerboard": (
        "Checkerboard",
        "How far periodic patterns stand out, against real faces. 1 is clean, 4 usual at the start, above 5 visible.",
    ),
    "discriminator/saturation": (
        "Discriminator sure",
        "Share of faces on which it is sure and right. Near 1 it has won and teaches little.",
    ),
    "discriminator/signal": (
        "Signal to the generator",
        "Share of the full gradient that the discriminator's answers leave. Near 0 the generator learns nothing.",
    ),
}


def section(facts: Facts) -> Html | None:
    """Notes, then the watched figures with their last values; None where nothing was watched."""
    last = {series.name: series.last for panel in facts.panels for series in panel.series}
    rows = [(words, f"{last[name]:.4g}", meaning) for name, (words, meaning) in FIGURES.items() if name in last]
    notes = _notes(facts.record.get("notes"))
    if not rows and not notes:
        return None
    clean = tag("p", "Nothing that is watched for went wrong.")
    said = tag("ul", *(_note(note) for note in notes), class_="notes") if notes else clean
    return join([said, table(["Figure", "Last", "How to read it"], rows) if rows else None])


def _note(note: Mapping[str, Any]) -> Html:
    images = note.get("images")
    when = f"At {images:,} images: " if isinstance(images, int) else ""
    return tag("li", tag("b", str(note.get("rule", "note"))), " ", when, str(note["text"]))


def _notes(found: Any) -> list[Mapping[str, Any]]:
    notes = found if isinstance(found, list) else []
    return [note for note in notes if isinstance(note, Mapping) and "text" in note]
