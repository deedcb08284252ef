"""Checks for NaN and infinite values at intervals."""

from __future__ import annotations

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback
from faceforge.engine.guard import require_finite, slow_down
from faceforge.schemes.base import Scheme


class FiniteCheck(ClockCallback):
    """Checks losses, weights and statistics every ``guard.every`` batches; raises NotFinite or GuardStop."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lower the learning rates if the run rolled back to this checkpoint before."""
        slow_down(trainer.optimizers, self.session.run.record, self.session.images)

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Check before anything of this batch is written."""
        if self.session.done or self.session.is_due(self.session.plan.guard.every * data.batch_size):
            require_finite(trainer, module)
