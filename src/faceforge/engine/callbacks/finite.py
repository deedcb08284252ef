"""NaN and infinite values, looked for now and then."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import STEP_OUTPUT

from faceforge.data.datamodule import Batch
from faceforge.engine.callbacks.session import ClockCallback, parts
from faceforge.engine.guard import require_finite, slow_down


class FiniteCheck(ClockCallback):
    """Looks at losses, weights and statistics every ``guard.every`` batches; raises NotFinite or GuardStop."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that went back to this checkpoint before learns more slowly."""
        slow_down(trainer.optimizers, self.session.run.record, self.session.images)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Before anything of this batch is written."""
        module, data = parts(trainer, pl_module)
        if self.session.done or self.session.is_due(self.session.plan.guard.every * data.batch_size):
            require_finite(trainer, module)
