"""Training problems, reported once on the screen and stored in run.json."""

from __future__ import annotations

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.alerts import Watch
from faceforge.engine.callbacks.session import ClockCallback, Session, parts
from faceforge.schemes.base import Scheme
from faceforge.types import Json


class Alerts(ClockCallback):
    """Passes each row and each validation to the rules of ``engine/alerts.py``, on the main rank.

    They are not evaluated at the end of a run, so that a resumed run has the same notes.
    """

    def __init__(self, *, session: Session) -> None:
        super().__init__(session=session)
        self.watch = Watch(session.plan.config, session.plan.config["data"]["batch_size"])

    def state_dict(self) -> Json:
        """Rows not yet evaluated, and notes already shown."""
        return {"watch": self.watch.state_dict()}

    def load_state_dict(self, state_dict: Json) -> None:
        """Restore the state in the checkpoint."""
        self.watch.load_state_dict(state_dict["watch"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the notes shown so far."""
        _, data = parts(trainer, pl_module)
        self.watch.mean_is_best = data.task.mean_is_best
        self.session.notes = self.watch.notes
        if trainer.is_global_zero:
            self.session.run.update(notes=self.watch.notes)

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Evaluate what was logged or scored in this batch."""
        session, options, fresh = self.session, self.session.plan.options, []
        if session.is_due(options.log_every):
            fresh += self.watch.training(session.images, session.means)
        if session.is_due(options.checkpoint_every) and trainer.is_global_zero:
            fresh += self.watch.validation(session.images, session.scores)
        session.notes = self.watch.notes
        if session.progress and fresh:
            session.run.update(notes=self.watch.notes)
            for note in fresh:
                session.say(note)
