"""Rows of metrics for all loggers, against images seen."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback
from faceforge.engine.guard import agree
from faceforge.engine.loggers.base import RunLogger
from faceforge.schemes.base import Scheme


class Logging(ClockCallback):
    """Means since the last row, every ``trainer.log_every`` images; opens and closes the loggers of the main rank."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the logs; rows after the clock's position are dropped, since they are measured again."""
        session = self.session
        self._window = session.images, session.timings["train"]
        if not trainer.is_global_zero:
            return
        own = [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]
        for logger in own:
            logger.start(session.images)
        earlier = session.run.record["wandb"] or {}
        session.run.update(wandb=next((logger.info for logger in own if logger.info), earlier or None))

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Write the means, which synchronises with the device."""
        session = self.session
        if not session.done and not session.is_due(session.plan.options.log_every):
            return
        means = module.means.drain()
        agree(trainer, module, next((name for name, mean in means.items() if not math.isfinite(mean)), None))
        session.means = dict(means)
        means |= module.scheduled()
        images, seconds = self._window
        self._window = session.images, session.timings["train"]
        spent = session.timings["train"] - seconds
        if spent > 0:
            means["images_per_second"] = (session.images - images) / spent
        for logger in trainer.loggers if trainer.is_global_zero else ():
            logger.log_metrics(means, session.images)
        if session.progress:
            session.progress.update(session.images, means)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the loggers in the process that opened them."""
        received = self.session.signals.received
        self._close(trainer, 128 + received if received else 0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Whatever happened."""
        self._close(trainer, getattr(exception, "exit_code", 1))

    def _close(self, trainer: pl.Trainer, code: int) -> None:
        session = self.session
        best = {"best": session.best["value"]} if session.best else {}
        notes = {"notes": " ".join(note["text"] for note in session.notes)} if session.notes else {}
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, RunLogger):
                logger.summary({"images": session.images, **best, **notes})
                logger.finish(code)
