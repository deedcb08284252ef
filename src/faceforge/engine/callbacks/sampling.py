"""Grids of samples over time."""

from __future__ import annotations

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback, parts
from faceforge.engine.loggers.base import RunLogger
from faceforge.io.images import make_grid, write_png
from faceforge.schemes.base import Scheme


class Sampling(ClockCallback):
    """samples/<images>.png: fixed samples every ``trainer.sample_every`` images, starting with the untrained model.

    seen.png: what the discriminator is shown at present, if it is augmented. It holds real faces and is not uploaded.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove what was stored after the clock's position; a new run draws its untrained state."""
        if trainer.is_global_zero:
            self.session.run.cut_after(self.session.images)
        if self.session.images == 0:
            self._sample(trainer, *parts(trainer, pl_module))

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Draw a grid when due and at the end."""
        if self.session.done or self.session.is_due(self.session.plan.options.sample_every):
            self._sample(trainer, module, data)

    def _sample(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        if not trainer.is_global_zero:
            return
        path = self.session.run.folder / "samples" / f"{module.clock.images:09d}.png"
        with self.session.timed(module, "sample"):
            write_png(make_grid(module.pictures(data), 8), path)
            seen = module.seen(data)
            if seen is not None:
                write_png(make_grid(seen, 8), self.session.run.folder / "seen.png")
            for logger in trainer.loggers:
                if isinstance(logger, RunLogger):
                    logger.log_picture(path, module.clock.images)
