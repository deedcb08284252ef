"""metrics.csv, which every run writes."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from pytorch_lightning.utilities import rank_zero_only

from faceforge.engine.loggers.base import RunLogger
from faceforge.io.files import replacing
from faceforge.io.metrics_csv import drop_torn_row, header, read_rows


class MetricsCsv(RunLogger):
    """`metrics.csv` of a run: a row per report, first column `images`, a column more for every new name.

    Rows are appended and handed to the system at once, so a killed process loses none; a torn last row (power
    cut) is dropped when the file is opened again. Nine significant digits: a float32 comes back exactly.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder)
        self.path = self.folder / "metrics.csv"
        self._columns: list[str] = []
        self._file: IO[str] | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row at `step` images seen; a key `images` among the metrics goes before `step`."""
        values = {name: float(value) for name, value in metrics.items() if name != "epoch"}  # Lightning's: always 0
        if metrics and not values:
            return
        images = values.pop("images", step)
        if images is None:
            raise ValueError("metrics need the number of images seen: step=, or 'images' among them")
        file = self._ready(values)
        csv.writer(file, lineterminator="\n").writerow([int(images), *self._cells(values)])
        file.flush()

    @rank_zero_only
    def start(self, images: int = 0) -> None:
        """Drop what was measured after the clock stood at `images`: a resumed run measures it again."""
        self._close()
        if self.path.exists():
            self._columns = header(self.path)
            self._rewrite(lambda position: position <= images)

    def finalize(self, status: str) -> None:
        """Close the file; the next row opens it again."""
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _ready(self, names: Iterable[str]) -> IO[str]:
        """The file, open for appending and with a column for each name."""
        if self._file is None:
            self._columns = header(self.path)
        new = [name for name in names if name not in self._columns]
        if new or not self.path.exists():
            self._close()
            self._columns = [*self._columns, *new]
            self._rewrite()
        if self._file is None:
            drop_torn_row(self.path)
            self._file = self.path.open("a", newline="", encoding="utf-8")
        return self._file

    def _rewrite(self, keep: Callable[[int], bool] = lambda images: True) -> None:
        """The same rows under the present columns, put in place at once."""
        with replacing(self.path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["images", *self._columns])
            for images, values in read_rows(self.path):
                if keep(images):
                    writer.writerow([images, *self._cells(values)])

    def _cells(self, values: Mapping[str, float]) -> list[str]:
        return [f"{values[name]:.9g}" if name in values else "" for name in self._columns]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
