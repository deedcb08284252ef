"""Ends a job of a sweep that does worse at a validation than others did there."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback, Session
from faceforge.engine.jobs import TRIAL
from faceforge.engine.study import Options
from faceforge.errors import BadInput
from faceforge.schemes.base import Scheme
from faceforge.types import Json

if TYPE_CHECKING:
    import optuna


class Pruning(ClockCallback):
    """Reports each validation to the trial of this job; after `Validation` and before `Checkpointing`.

    A study that cannot be reached ends nothing. Outside a sweep it does nothing.
    """

    def __init__(self, *, session: Session) -> None:
        super().__init__(session=session)
        self._about: Json | None = json.loads(os.environ.get(TRIAL, "null"))

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """After a validation, end the run if its study says so; all ranks do."""
        session = self.session
        if self._about is None or not (session.done or session.is_due(session.plan.options.checkpoint_every)):
            return
        ends = trainer.is_global_zero and self._is_worse(self._about)
        if not trainer.strategy.broadcast(ends) or session.done:
            return
        module.end = f"pruned at {session.images:,} images: other jobs of the sweep were better there"
        trainer.should_stop = True
        if trainer.is_global_zero:
            session.run.update(pruned=session.images)

    def _is_worse(self, about: Json) -> bool:
        session, metric = self.session, about["options"]["objectives"][0][0]
        if metric not in session.scores:
            return False
        try:
            trial = _trial(about)
            if session.images not in trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
                trial.report(session.scores[metric], session.images)
            return trial.should_prune()
        except Exception as error:  # a database that is down must not cost the training
            reason = str(error) if isinstance(error, BadInput) else type(error).__name__
            print(f"faceforge: this validation was not reported to the sweep: {reason}", file=sys.stderr)
            return False


def _trial(about: Json) -> optuna.Trial:
    import optuna

    study = Options(**about["options"]).open()
    return optuna.Trial(study, study.get_trials(deepcopy=False)[about["trial"]]._trial_id)
