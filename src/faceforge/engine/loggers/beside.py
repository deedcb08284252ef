"""Pictures and the configuration for loggers that are not ours, which training itself gives numbers only."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from faceforge.engine.loggers.base import RunLogger
from faceforge.types import Json

log = logging.getLogger(__name__)
LONGEST = 500  # letters of a value, which every tracker takes


class Beside(RunLogger):
    """What TensorBoard, MLflow, Aim and Lightning's own W&B logger get besides numbers.

    ``sent`` are the kinds of pictures that may be logged, ``kind`` is that of samples/. An error of a logger is
    reported once and ends nothing.
    """

    def __init__(
        self, folder: str | Path, loggers: Sequence[Logger], config: Mapping[str, Any], sent: set[str], kind: str
    ) -> None:
        super().__init__(folder)
        self._loggers, self._config, self._sent, self._kind = list(loggers), config, sent, kind
        self._broken: set[str] = set()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Nothing: each logger gets them from training."""

    def start(self, images: int = 0) -> None:
        """The configuration, one value for each dotted key."""
        values = dict(_flat(self._config))
        for logger in self._loggers:
            self._try(logger, partial(_settings, logger, values))

    def log_picture(self, path: Path, images: int, kind: str | None = None) -> None:
        """A grid as ``samples``, if its kind may be logged."""
        if (kind or self._kind) in self._sent:
            for logger in self._loggers:
                self._try(logger, partial(_picture, logger, path, images))

    def _try(self, logger: Logger, call: Callable[[], object]) -> None:
        name = type(logger).__name__
        if name in self._broken:
            return
        try:
            call()
        except Exception as error:  # the picture and the configuration also lie in the run's folder
            self._broken.add(name)
            text = " ".join(str(error).split())[:200] or type(error).__name__
            log.warning("%s gets no more pictures or settings (%s); the run goes on", name, text)


def _settings(logger: Logger, values: Mapping[str, Any]) -> None:
    if isinstance(logger, TensorBoardLogger):  # whose table of settings needs a result beside each
        rows = "\n".join(f"| {key} | {value} |" for key, value in values.items())
        logger.experiment.add_text("configuration", f"| key | value |\n| --- | --- |\n{rows}")
    else:
        logger.log_hyperparams(dict(values))


def _picture(logger: Logger, path: Path, images: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image("samples", np.asarray(Image.open(path)), images, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(logger.run_id, str(path), "samples")
    elif isinstance(logger, WandbLogger):
        logger.log_image("samples", [str(path)], step=images)
    elif type(logger).__module__.partition(".")[0] == "aim":
        aim: Any = importlib.import_module("aim")
        logger.experiment.track(aim.Image(str(path)), name="samples", step=images)  # type: ignore[attr-defined]


def _flat(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Json | str | float | int | bool]]:
    """Each value under its dotted key, which is a file's name in some stores; lists and nothing as text."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}".replace("/", "."), value if isinstance(value, int | float) else str(value)[:LONGEST]
