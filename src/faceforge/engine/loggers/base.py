"""What the loggers of a run have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class RunLogger(Logger):
    """What training may ask of any logger; each takes what it can use and leaves the rest."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.name

    @property
    def version(self) -> str:
        """Empty: a run folder has no versions."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.folder)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the whole config was handed over at construction."""

    @property
    def info(self) -> dict[str, str] | None:
        """What run.json keeps of it; None where there is nothing to keep."""
        return None

    def start(self, images: int = 0) -> None:
        """Begin, before the first value, where the clock stands at ``images``."""

    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """A picture file that belongs to the clock's position `images`."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """What is to stand beside the run in a table of runs."""

    def finish(self, exit_code: int = 0) -> None:
        """The run is over; 0 if it ended well."""
