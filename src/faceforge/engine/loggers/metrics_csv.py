"""metrics.csv, written by every run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only

from faceforge.engine.loggers.base import RunLogger
from faceforge.io.files import replacing
from faceforge.io.metrics_csv import header, read_rows


class MetricsCsv(RunLogger):
    """`metrics.csv` of a run: a row per report, first column `images`, one column per name.

    Each row is passed to the system at once, so a killed process loses none; an incomplete last row (power loss) is
    dropped on resume. Nine significant digits: float32 values are exact.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.path = self.folder / "metrics.csv"
        self._columns: list[str] | None = None  # unknown until the file is read

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row at `step` images seen; a key `images` in the metrics overrides `step`."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}  # from Lightning: always 0
        if metrics and not values:
            return
        images = values.pop("images", step)
        if images is None:
            raise ValueError("metrics need the number of images seen: step=, or 'images' among them")
        known = header(self.path) if self._columns is None or not self.path.exists() else self._columns
        new = [name for name in values if name not in known]
        if new or known is not self._columns:
            self._rewrite([*known, *new])
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(self._row(int(images), values))

    @rank_zero_only
    def start(self, images: int = 0) -> None:
        """Drop rows after clock position `images`: a resumed run measures them again."""
        if self.path.exists():
            self._rewrite(header(self.path), lambda position: position <= images)

    def _rewrite(self, columns: list[str], keep: Callable[[int], bool] = lambda images: True) -> None:
        """Rewrite all rows with these columns, atomically."""
        self._columns = columns
        with replacing(self.path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["images", *columns])
            writer.writerows(self._row(images, values) for images, values in read_rows(self.path) if keep(images))

    def _row(self, images: int, values: Mapping[str, float]) -> list[int | str]:
        return [images, *(f"{values[name]:.9g}" if name in values else "" for name in self._columns or ())]
