"""The clock of a run: images drawn. It ends the run and measures its time."""

from __future__ import annotations

import time

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine import devices
from faceforge.engine.callbacks.session import ClockCallback, parts
from faceforge.schemes.base import Scheme
from faceforge.types import Json


class Clock(ClockCallback):
    """First of the callbacks: connects the data to the clock, counts time, and decides if this batch is the last."""

    def state_dict(self) -> Json:
        """Seconds of training and of interruptions."""
        return {"timings": dict(self.session.timings)}

    def load_state_dict(self, state_dict: Json) -> None:
        """Restore the state in the checkpoint."""
        self.session.timings = dict(state_dict["timings"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Connect the data to the module's clock before anything is drawn."""
        module, data = parts(trainer, pl_module)
        data.clock, data.rank, data.world = module.clock, trainer.global_rank, trainer.world_size
        data.pin_memory = trainer.strategy.root_device.type != "cpu" and devices.can_pin()
        self.session.rank = trainer.global_rank
        module.tell = self.session.tell_phase

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the clock and its end."""
        module, data = parts(trainer, pl_module)
        session = self.session
        session.signals.install()
        session.images = session.before = module.clock.images
        session.limit = session.plan.limit_images(data.counts["train"], data.batch_size)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting time."""
        self.session.lap = time.monotonic()

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Advance the clock. After a signal only a checkpoint is saved: its sender waits, and skipping the rest keeps
        the resumed run identical to an uninterrupted one.
        """
        session, now = self.session, time.monotonic()
        session.before, session.images, session.steps = session.images, module.clock.images, session.steps + 1
        session.tell_phase("training")
        module.clock.seconds += now - session.lap
        session.timings["train"] += now - session.lap
        session.lap = now
        late = session.plan.is_late(module.clock.seconds)
        why = session.signals.ends(session.rank, session.steps, late=late)
        reached = session.limit is not None and session.images >= session.limit
        session.done, session.stopped = why == "time" or reached or module.end is not None, why == "signal"
        trainer.should_stop = trainer.should_stop or session.done or session.stopped
        trainer.fit_loop.epoch_loop._batches_that_stepped = session.images  # the x-axis of Lightning's own logging

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The limit was reached, or a signal requested the end."""
        self.session.tell_phase("finishing")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Restore the caller's signal handlers."""
        self.session.signals.restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """As ``teardown``, after an error."""
        self.session.signals.restore()
