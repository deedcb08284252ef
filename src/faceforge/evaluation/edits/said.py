"""What `faceforge evaluate --edits` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceforge.io.record import Record
from faceforge.metrics import table

CHARTED = "each attribute and the curves over strength: report.html, and the entry edits"


def edits_said(result: Mapping[str, Any]) -> list[str]:
    """The table at equal cost, the verdict, and what is left out and why; nothing without the entry ``edits``."""
    edits = Record.of(result.get("edits"))
    said: list[str] = []
    for found in table.tables(edits):
        said += ["", f"{found.title} ({table.BEST} the best; {CHARTED})", *table.lines(found)]
    reasons = [f"Edits, {name} is left out: {why}." for name, why in edits.part("reasons").items()]
    return [*said, "", *edits.listed("verdict"), *reasons] if edits else []
