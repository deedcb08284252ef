"""Base of the loggers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class RunLogger(Logger):
    """The calls that training makes on every logger; each uses what it supports and ignores the rest."""

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
        """Nothing: the config was passed to the constructor."""

    @property
    def info(self) -> dict[str, str] | None:
        """The logger's entry in run.json; None if it has none."""
        return None

    def start(self, images: int = 0) -> None:
        """Start, before the first value, with the clock at ``images``."""

    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """Log an image file for the clock position `images`."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Set the summary values of the run."""

    def finish(self, exit_code: int = 0) -> None:
        """Close the logger; the code is 0 if the run ended normally."""
