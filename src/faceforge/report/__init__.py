"""What a person opens after a run: `report.html`, `curves.png`, and the diagram of the networks."""

from __future__ import annotations

from faceforge.report.charts import write_curves
from faceforge.report.diagram import describe
from faceforge.report.page import write_report

__all__ = ["describe", "write_curves", "write_report"]
