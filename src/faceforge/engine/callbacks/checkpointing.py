"""Checkpoints, run.json, and what is computed once at the end of a run."""

from __future__ import annotations

import signal
import time
from functools import partial

import pytorch_lightning as pl

from faceforge.cut import framing
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint
from faceforge.engine.alerts import Note
from faceforge.engine.callbacks.session import ClockCallback, Session, parts
from faceforge.engine.guard import require_finite
from faceforge.engine.run import Run
from faceforge.report import describe, write_curves
from faceforge.schemes.base import Say, Scheme
from faceforge.schemes.supervised import PairedScheme

CURVES_EVERY = 60.0  # seconds


class Checkpointing(ClockCallback):
    """Saves every ``trainer.checkpoint_every`` images, at image 0 and at the end; ``best`` follows validation."""

    def __init__(self, *, session: Session) -> None:
        super().__init__(session=session)
        self._drawn = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the untrained state of a new run."""
        module, data = parts(trainer, pl_module)
        session = self.session
        if trainer.is_global_zero:
            parts_of = module.networks(data)
            described = {name: describe(network, *inputs) for name, (network, inputs) in parts_of.items()}
            if isinstance(module, PairedScheme) and not module.framing:  # who uses the run has no data to measure it on
                module.framing = framing.of_training_faces(data)
            session.run.update(networks=described, framing=module.framing)
        if session.images == 0:
            self._save(trainer, module)
        elif session.best and session.best["images"] == session.images and trainer.is_global_zero:
            self._keep_best()

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Save when due, at the end, and when a signal ends the run."""
        session = self.session
        if session.done or session.stopped or session.is_due(session.plan.options.checkpoint_every):
            self._save(trainer, module)

    def _save(self, trainer: pl.Trainer, module: Scheme) -> None:
        session = self.session
        require_finite(trainer, module)
        with session.timed(module, "checkpoint"):
            trainer.save_checkpoint(session.run.folder / "checkpoints" / "last.ckpt")
            if trainer.is_global_zero:
                if session.best and session.best["images"] == module.clock.images:
                    self._keep_best()
                module.store_beside(session.run.folder)
                self._draw_curves()
                self._update_record(module)

    def _draw_curves(self) -> None:
        """Update the curves at intervals: drawing takes a second and reads the whole table."""
        if time.monotonic() - self._drawn > CURVES_EVERY:
            write_curves(self.session.run.folder)
            self._drawn = time.monotonic()

    def _keep_best(self) -> None:
        folder = self.session.run.folder / "checkpoints"
        checkpoint.link(folder / "last.ckpt", folder / "best.ckpt")

    def _update_record(self, module: Scheme) -> None:
        train = self.session.timings["train"]
        self.session.run.update(
            images=module.clock.images,
            generator_steps=module.clock.generator_steps,
            seconds=module.clock.seconds,
            timings=self.session.timings,
            images_per_second=module.clock.images / train if train else None,
            best=self.session.best,
        )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute what is made once at the end of a run."""
        session = self.session
        if trainer.is_global_zero and session.signals.received in (None, signal.SIGINT):
            write_curves(session.run.folder)
        if not trainer.is_global_zero or session.signals.received:
            return
        module, data = parts(trainer, pl_module)
        say = session.progress.note if session.progress else print
        say("finishing")
        note = end_run(session.run, module, data, module.clock.images, lambda text: say(f"finishing: {text}"))
        if note:
            session.notes.append(note)
            session.say(note)


def end_run(run: Run, module: Scheme, data: FaceData, images: int, say: Say = lambda text: None) -> Note | None:
    """Compute what is made once at the end of a run; returns a note on what was left out, stored in run.json."""
    left_out = module.on_run_end(data, run.folder, partial(checkpoint.best, run.folder), say)
    if left_out is None:
        return None
    note: Note = {"images": images, "rule": "left out", "text": left_out}
    run.update(notes=[*(run.record.get("notes") or []), note])
    return note
