"""What a person opens after a run: `report.html`, `curves.png`, and the diagram of the networks.

Each is imported on first use: the pages of cut faces share `html` and need neither torch nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faceforge.report.charts import write_curves
    from faceforge.report.diagram import describe
    from faceforge.report.page import write_report
    from faceforge.report.sweep import write_sweep

__all__ = ["describe", "write_curves", "write_report", "write_sweep"]
_HOMES = {"describe": "diagram", "write_curves": "charts", "write_report": "page", "write_sweep": "sweep"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
