"""NaN and infinite values, looked for now and then."""

from __future__ import annotations

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback
from faceforge.engine.guard import require_finite, slow_down
from faceforge.schemes.base import Scheme


class FiniteCheck(ClockCallback):
    """Looks at losses, weights and statistics every ``guard.every`` batches; raises NotFinite or GuardStop."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that went back to this checkpoint before learns more slowly."""
        slow_down(trainer.optimizers, self.session.run.record, self.session.images)

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Before anything of this batch is written."""
        if self.session.done or self.session.is_due(self.session.plan.guard.every * data.batch_size):
            require_finite(trainer, module)
