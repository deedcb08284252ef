"""What a run leaves behind, driven by the one clock: rows, grids, scores, checkpoints, and the end."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytorch_lightning as pl

from faceforge import config as configuration
from faceforge.cut import framing
from faceforge.engine import checkpoint, devices
from faceforge.engine.alerts import Watch
from faceforge.engine.guard import NotFinite, look, overflowing, slow_down
from faceforge.engine.loggers import MetricsCsv
from faceforge.engine.plan import Plan
from faceforge.engine.progress import Progress
from faceforge.engine.run import Run
from faceforge.engine.signals import Signals
from faceforge.errors import GuardStop
from faceforge.io.images import make_grid, write_png
from faceforge.report import describe, write_curves
from faceforge.schemes.base import Scheme

CURVES_EVERY = 60.0  # seconds
NOTES = {"validate": "validating", "sample": "drawing a grid", "checkpoint": "saving"}
PHASES = {"validate": "validating", "sample": "sampling", "checkpoint": "saving"}


def crossed(every: int, before: int, now: int) -> bool:
    """Whether the clock passed a multiple of ``every`` on its way from ``before`` to ``now``."""
    return now // every > before // every


class Recorder(pl.Callback):
    """Logs, samples, validates, watches, saves and stops. Its state (best score, timings, what was noted) travels in
    the checkpoint.
    """

    def __init__(self, plan: Plan, run: Run, stop: Signals) -> None:
        self.plan, self.options, self.run, self.stop = plan, plan.options, run, stop
        self.best: dict[str, Any] | None = None
        self.timings = {"train": 0.0, "validate": 0.0, "sample": 0.0, "checkpoint": 0.0}
        self.watch = Watch(plan.config, plan.config["data"]["batch_size"])
        self.loggers: list[Any] = []
        self.progress: Progress | None = None
        self._images = self._steps = self._rank = 0
        self._window = (0, 0.0)
        self._drawn = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"best": self.best, "timings": dict(self.timings), "watch": self.watch.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the checkpoint was written."""
        self.best, self.timings = state_dict["best"], dict(state_dict["timings"])
        if "watch" in state_dict:  # a run begun before there was one
            self.watch.load_state_dict(state_dict["watch"])

    # ----------------------------------------------------------------------------------------------- start

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tie the data to the module's clock before anything is drawn."""
        quieten()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.clock, data.rank, data.world = pl_module.clock, trainer.global_rank, trainer.world_size
        data.pin_memory = trainer.strategy.root_device.type != "cpu" and devices.can_pin()
        self._rank = trainer.global_rank
        pl_module.tell = self._tell_phase  # type: ignore[assignment]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the logs; a new run records its untrained state at image 0."""
        module, data = _parts(trainer, pl_module)
        self.stop.install()
        self._images = module.clock.images
        slow_down(trainer.optimizers, self.run.record, self._images)
        self._limit = self.plan.limit_images(data.counts["train"], data.batch_size)
        if trainer.is_global_zero:
            self._open(module, data)
        if self._images == 0:
            self._sample(trainer, module)
            self._save(trainer, module)
        elif self.best and self.best["images"] == self._images and trainer.is_global_zero:
            self._keep_best()
        self._lap = time.monotonic()
        self._window = (self._images, self.timings["train"])

    def _open(self, module: Scheme, data: Any) -> None:
        images = module.clock.images
        self.run.cut_samples(images)
        self._open_loggers(images, module.shows)
        described = {name: describe(*network) for name, network in module.networks(data).items()}
        if hasattr(module, "predict") and not module.framing:  # whoever uses the run has no data to measure it on
            module.framing = framing.of_training_faces(data)
        self.run.update(networks=described, notes=self.watch.notes, framing=module.framing)
        self.progress = Progress(self._limit)
        self.progress.start(images)

    def _open_loggers(self, images: int, kind: str) -> None:
        table = MetricsCsv(self.run.folder)
        table.cut(images)
        earlier = self.run.record["wandb"] or {}
        others = configuration.build(
            self.plan.config["logger"],
            folder=self.run.folder,
            config=self.plan.config,
            run_id=earlier.get("id"),
            resumed_at=images if self.run.record["resumed"] else None,
            kind=kind,
        )
        self.loggers = [table, *others]
        for logger in self.loggers:
            logger.start()
        self.run.update(wandb=next((logger.info for logger in self.loggers if logger.info), earlier or None))

    # ------------------------------------------------------------------------------------------------ steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Whatever the clock has reached. A signal adds nothing but a checkpoint: whoever sent it waits, and what is
        not measured now cannot differ from a run that was never stopped.
        """
        module, data = _parts(trainer, pl_module)
        before, now = self._images, module.clock.images
        self._images, self._steps = now, self._steps + 1
        self._tell_phase("training")
        self._count_time(module)
        why = self.stop.ends(self._rank, self._steps, late=self._is_late(module))
        done, stopped = why == "time" or self._is_done(module), why == "signal"
        if done or crossed(self.plan.guard.every * data.batch_size, before, now):
            self._look(trainer, module)
        if done or crossed(self.options.log_every, before, now):
            self._log(trainer, module, seen=crossed(self.options.log_every, before, now))
        if done or crossed(self.options.sample_every, before, now):
            self._sample(trainer, module)
        due = done or crossed(self.options.checkpoint_every, before, now)
        if due:
            self._validate(trainer, module, seen=crossed(self.options.checkpoint_every, before, now))
        if due or stopped:
            self._save(trainer, module)
        if self.progress:
            self.progress.update(now)
        if done or stopped or module.end:
            trainer.should_stop = True

    def _tell_phase(self, phase: str) -> None:
        self.stop.beat(self._rank, self._steps, phase)

    def _count_time(self, module: Scheme) -> None:
        now = time.monotonic()
        module.clock.seconds += now - self._lap
        self.timings["train"] += now - self._lap
        self._lap = now

    def _is_done(self, module: Scheme) -> bool:
        """By what is the same on all ranks."""
        return module.end is not None or (self._limit is not None and module.clock.images >= self._limit)

    def _is_late(self, module: Scheme) -> bool:
        """By this rank's own clock."""
        return self.plan.is_late(module.clock.seconds)

    @contextmanager
    def _timed(self, module: Scheme, name: str) -> Iterator[None]:
        if self.progress:
            self.progress.note(NOTES[name])
        start = time.monotonic()
        self._tell_phase(PHASES[name])
        yield
        self._tell_phase("training")
        spent = time.monotonic() - start
        self.timings[name] += spent
        module.clock.seconds += spent
        self._lap = time.monotonic()

    # ----------------------------------------------------------------------------------------------- events

    def _log(self, trainer: pl.Trainer, module: Scheme, seen: bool) -> None:
        means = module.means.drain()
        self._agree(trainer, module, next((name for name, mean in means.items() if not math.isfinite(mean)), None))
        if seen:
            self._tell(self.watch.training(module.clock.images, means))
        images, seconds = self._window
        self._window = (module.clock.images, self.timings["train"])
        spent = self.timings["train"] - seconds
        if spent > 0:
            means["images_per_second"] = (module.clock.images - images) / spent
        self._write(module, means)
        if self.progress:
            self.progress.update(module.clock.images, means)

    def _look(self, trainer: pl.Trainer, module: Scheme) -> None:
        self._agree(trainer, module, look(module))
        overflow = overflowing(getattr(trainer.precision_plugin, "scaler", None))
        if overflow:
            raise GuardStop(f"at image {module.clock.images} {overflow}")

    def _agree(self, trainer: pl.Trainer, module: Scheme, bad: str | None) -> None:
        """What is bad on one rank ends all, so that none is left waiting for another."""
        if trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
            what = bad or "a number of another rank"
            raise NotFinite(f"{what} is no longer a finite number at image {module.clock.images}")

    def _write(self, module: Scheme, values: dict[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(values, module.clock.images)

    def _sample(self, trainer: pl.Trainer, module: Scheme) -> None:
        if not trainer.is_global_zero:
            return
        with self._timed(module, "sample"):
            path = self.run.folder / "samples" / f"{module.clock.images:09d}.png"
            write_png(make_grid(module.pictures(trainer.datamodule), 8), path)  # type: ignore[attr-defined]
            for logger in self.loggers:
                logger.log_picture(path, module.clock.images)

    def _tell(self, notes: list[dict[str, Any]]) -> None:
        """Once on the screen, and kept. Not asked where a run happens to end: it may go on as if it had not."""
        if not self.progress or not notes:
            return
        self.run.update(notes=self.watch.notes)
        for note in notes:
            self.progress.say(f"At {note['images']:,} images: {note['text']}")

    def _validate(self, trainer: pl.Trainer, module: Scheme, seen: bool) -> None:
        scores: dict[str, float] = {}
        if trainer.is_global_zero:
            with self._timed(module, "validate"):
                scores = module.validate(trainer.datamodule)  # type: ignore[attr-defined]
            self._write(module, scores)
            self._compare(module, scores)
            if seen:
                self._tell(self.watch.validation(module.clock.images, scores))
        module.after_validation(trainer.strategy.broadcast(scores))  # every rank ends, or slows, at the same step

    def _compare(self, module: Scheme, scores: dict[str, float]) -> None:
        metric, mode = module.monitor
        if metric not in scores:
            return
        sign, value = 1 if mode == "min" else -1, scores[metric]
        beaten = self.best is None or not math.isfinite(self.best["value"]) or sign * value < sign * self.best["value"]
        if math.isfinite(value) and beaten:
            self.best = {
                "metric": metric,
                "mode": mode,
                "value": value,
                "images": module.clock.images,
            }

    def _save(self, trainer: pl.Trainer, module: Scheme) -> None:
        self._look(trainer, module)
        with self._timed(module, "checkpoint"):
            trainer.save_checkpoint(self.run.folder / "checkpoints" / "last.ckpt")
            if trainer.is_global_zero:
                if self.best and self.best["images"] == module.clock.images:
                    self._keep_best()
                self._draw_curves()
                self._update_record(module)

    def _draw_curves(self) -> None:
        """Now and then: drawing takes a second, and reads the whole table."""
        if time.monotonic() - self._drawn > CURVES_EVERY:
            write_curves(self.run.folder)
            self._drawn = time.monotonic()

    def _keep_best(self) -> None:
        folder = self.run.folder / "checkpoints"
        checkpoint.link(folder / "last.ckpt", folder / "best.ckpt")

    def _update_record(self, module: Scheme) -> None:
        train = self.timings["train"]
        self.run.update(
            images=module.clock.images,
            generator_steps=module.clock.generator_steps,
            seconds=module.clock.seconds,
            timings=self.timings,
            images_per_second=module.clock.images / train if train else None,
            best=self.best,
        )

    # -------------------------------------------------------------------------------------------------- end

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The limit was reached, or a signal asked for the end."""
        self._tell_phase("finishing")
        if trainer.is_global_zero and self.stop.received in (None, signal.SIGINT):
            write_curves(self.run.folder)
        if trainer.is_global_zero and not self.stop.received:
            module, data = _parts(trainer, pl_module)
            say = self.progress.note if self.progress else print
            say("finishing")
            left_out = module.on_run_end(
                data, self.run.folder, partial(checkpoint.best, self.run.folder), lambda text: say(f"finishing: {text}")
            )
            if left_out:
                note = {"images": module.clock.images, "rule": "left out", "text": left_out}
                self.watch.notes.append(note)
                self._tell([note])
        self._close(128 + self.stop.received if self.stop.received else 0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Whatever happened, the logs are finished, in the process that opened them."""
        self._close(getattr(exception, "exit_code", 1))

    def _close(self, code: int) -> None:
        self.stop.restore()
        if self.progress:
            self.progress.close()
        best = {"best": self.best["value"]} if self.best else {}
        notes = {"notes": " ".join(note["text"] for note in self.watch.notes)} if self.watch.notes else {}
        for logger in self.loggers:
            logger.summary({"images": self._images, **best, **notes})
            logger.finish(code)
        self.loggers = []


def _parts(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[Scheme, Any]:
    assert isinstance(module, Scheme)
    return module, trainer.datamodule  # type: ignore[attr-defined]


def quieten() -> None:
    """Silence what Lightning says about choices made here on purpose; every other warning stays."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for expected in (
        ".*does not have many workers.*",
        ".*found .* module.* in eval mode at the start of training.*",
        ".*GPU available but not used.*",
        ".*IterableDataset.*__len__.*",
        ".*`max_epochs` was not set.*",
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=expected)
