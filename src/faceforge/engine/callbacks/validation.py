"""Validation scores, and the selection of the best checkpoint."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from faceforge.data.datamodule import FaceData
from faceforge.engine.callbacks.session import ClockCallback
from faceforge.schemes.base import Scheme
from faceforge.types import Json


class Validation(ClockCallback):
    """Scores the model every ``trainer.checkpoint_every`` images, before it is saved, and informs the scheme."""

    def state_dict(self) -> Json:
        """The best score so far."""
        return {"best": self.session.best}

    def load_state_dict(self, state_dict: Json) -> None:
        """Restore the state in the checkpoint."""
        self.session.best = state_dict["best"]

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Validate when due and at the end."""
        session = self.session
        if not session.done and not session.is_due(session.plan.options.checkpoint_every):
            return
        scores: dict[str, float] = {}
        if trainer.is_global_zero:
            with session.timed(module, "validate"):
                scores = module.validate(data)
            for logger in trainer.loggers:
                logger.log_metrics(scores, session.images)
            self.compare(module, scores)
        session.scores = scores
        module.after_validation(
            trainer.strategy.broadcast(scores)
        )  # all ranks stop, or lower their rates, at the same step
        trainer.should_stop = trainer.should_stop or module.end is not None

    def compare(self, module: Scheme, scores: dict[str, float]) -> None:
        """Record a score that is finite and better than the best."""
        metric, mode = module.monitor
        if metric not in scores:
            return
        sign, value, best = 1 if mode == "min" else -1, scores[metric], self.session.best
        beaten = best is None or not math.isfinite(best["value"]) or sign * value < sign * best["value"]
        if math.isfinite(value) and beaten:
            self.session.best = {"metric": metric, "mode": mode, "value": value, "images": module.clock.images}
