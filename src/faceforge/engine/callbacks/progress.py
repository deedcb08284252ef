"""Progress of a run on the screen."""

from __future__ import annotations

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback
from faceforge.engine.progress import Progress
from faceforge.schemes.base import Scheme


class ProgressLine(ClockCallback):
    """A bar, or an occasional line, on the main rank; last of the callbacks, since it shows what the others did."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start before the first grid is drawn."""
        if trainer.is_global_zero:
            self.session.progress = Progress(self.session.limit)
            self.session.progress.start(self.session.images)

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Show the state after the batch."""
        if self.session.progress:
            self.session.progress.update(self.session.images)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the last state on the screen."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same after an error."""
        self._close()

    def _close(self) -> None:
        if self.session.progress:
            self.session.progress.close()
