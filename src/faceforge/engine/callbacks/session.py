"""State shared by the callbacks of a run in each process; the clock decides when each is due."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import STEP_OUTPUT

from faceforge.data.datamodule import Batch, FaceData
from faceforge.engine.alerts import Note
from faceforge.engine.plan import Plan
from faceforge.engine.progress import Progress
from faceforge.engine.run import Run
from faceforge.engine.signals import Signals
from faceforge.schemes.base import Scheme

NOTES = {"validate": "validating", "sample": "drawing a grid", "checkpoint": "saving"}
PHASES = {"validate": "validating", "sample": "sampling", "checkpoint": "saving"}


def crossed(every: int, before: int, now: int) -> bool:
    """Whether the clock passed a multiple of ``every`` between ``before`` and ``now``."""
    return now // every > before // every


class BestScore(TypedDict):
    """The best validation so far."""

    metric: str
    mode: str
    value: float
    images: int


class Session:
    """The state of a training between two batches. ``done``: the end is reached; ``stopped``: a signal ended it."""

    def __init__(self, plan: Plan, run: Run, signals: Signals) -> None:
        self.plan, self.run, self.signals = plan, run, signals
        self.rank = self.steps = self.before = self.images = 0
        self.done = self.stopped = False
        self.limit: int | None = None
        self.best: BestScore | None = None
        self.timings = {"train": 0.0, "validate": 0.0, "sample": 0.0, "checkpoint": 0.0}
        self.notes: list[Note] = []
        self.means: dict[str, float] = {}  # of the last row
        self.scores: dict[str, float] = {}  # of the last validation
        self.progress: Progress | None = None
        self.lap = 0.0

    def is_due(self, every: int) -> bool:
        """Whether the last batch passed a multiple of ``every`` images."""
        return crossed(every, self.before, self.images)

    def tell_phase(self, phase: str) -> None:
        """Report the phase to the watchdog."""
        self.signals.beat(self.rank, self.steps, phase)

    @contextmanager
    def timed(self, module: Scheme, name: str) -> Iterator[None]:
        """Count time as ``name`` instead of training; it counts towards ``trainer.max_minutes``."""
        if self.progress:
            self.progress.note(NOTES[name])
        start = time.monotonic()
        self.tell_phase(PHASES[name])
        yield
        self.tell_phase("training")
        spent = time.monotonic() - start
        self.timings[name] += spent
        module.clock.seconds += spent
        self.lap = time.monotonic()

    def say(self, note: Note) -> None:
        """Print a note."""
        if self.progress:
            self.progress.say(f"At {note['images']:,} images: {note['text']}")


class ClockCallback(pl.Callback):
    """Base of our callbacks: each does its part ``after_batch``, in the order of conf/callbacks."""

    lean = True  # the lean loop provides all hooks used here

    def __init__(self, *, session: Session) -> None:
        self.session = session

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Lightning's name for it."""
        self.after_batch(trainer, *parts(trainer, pl_module))

    def after_batch(self, trainer: pl.Trainer, module: Scheme, data: FaceData) -> None:
        """Whatever is to be done after each batch."""


def parts(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[Scheme, FaceData]:
    """The scheme and the data of a training."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(module, Scheme)
    assert isinstance(data, FaceData)
    return module, data
