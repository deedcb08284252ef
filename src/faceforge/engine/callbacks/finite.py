"""Checks for NaN and infinite values at intervals."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from faceforge.engine.callbacks.session import ClockCallback, parts
from faceforge.engine.guard import require_finite, slow_down


class FiniteCheck(ClockCallback):
    """Checks losses, weights and statistics every ``guard.every`` batches; raises NotFinite or GuardStop."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lower the learning rates if the run rolled back to this checkpoint before."""
        slow_down(trainer.optimizers, self.session.run.record, self.session.images)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check before anything of this batch is written."""
        module, data = parts(trainer, pl_module)
        if self.session.done or self.session.is_due(self.session.plan.guard.every * data.batch_size):
            require_finite(trainer, module)
