"""NaN and infinity put into running trainings: found within 50 batches, and handled as configured.

    python -m benchmarks.survival.guard --count 20

Each run is a tiny GAN on drawn faces. At some batch an input, a loss, a gradient or a weight becomes NaN or infinite,
once; half of the runs stop, half go back to their last checkpoint, and those have to end in the very bits of a run
to which nothing happened.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import typer
from torch import nn

from benchmarks import records, runs
from benchmarks.command import run
from benchmarks.tiny import TINY
from faceforge import config
from faceforge.engine import training
from faceforge.engine.run import Run
from faceforge.errors import GuardStop
from faceforge.schemes.adversarial import AdversarialModule

PLACES = ("input", "loss", "gradient", "weight")
BATCH, IMAGES = 4, 600
LONG = [
    f"trainer.max_images={IMAGES}",
    "trainer.log_every=600",
    "trainer.sample_every=600",
    "trainer.checkpoint_every=120",
]


@dataclass
class Fault:
    """What becomes ``value`` at the batch that begins at image ``at``, so many ``times`` as the clock comes there."""

    place: str
    value: float
    at: int
    times: int = 1
    struck: list[int] = field(default_factory=list)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Trainings in this process meet it."""
        step = AdversarialModule.training_step

        def faulty(module: Any, batch: Any, number: int) -> None:
            if module.clock.images != self.at or len(self.struck) >= self.times:
                step(module, batch, number)
                return
            self.struck.append(self.at)
            getattr(self, self.place)(module, batch, lambda changed: step(module, changed, number))

        with mock.patch.object(AdversarialModule, "training_step", faulty):
            yield

    def input(self, module: Any, batch: Any, go: Any) -> None:
        """One pixel."""
        target = batch["target"].clone()
        target[0, 0, 0, 0] = self.value
        go({**batch, "target": target})

    def loss(self, module: Any, batch: Any, go: Any) -> None:
        """Both losses."""
        backward = module.step_optimizer

        def struck(optimizer: Any, losses: Any, *rest: Any) -> Any:
            return backward(optimizer, (loss * self.value for loss in losses), *rest)

        module.step_optimizer = struck
        go(batch)
        del module.step_optimizer

    def gradient(self, module: Any, batch: Any, go: Any) -> None:
        """One number of one gradient."""
        hook = _first(module).register_hook(lambda g: torch.full_like(g, self.value))
        go(batch)
        hook.remove()

    def weight(self, module: Any, batch: Any, go: Any) -> None:
        """One weight."""
        with torch.no_grad():
            _first(module).view(-1)[0] = self.value
        go(batch)


def _first(module: Any) -> nn.Parameter:
    return next(module.generator.parameters())


def train(folder: Path, *overrides: str) -> int:
    """A tiny run in this process."""
    words = [*TINY, *LONG, f"run_dir={folder}", *overrides]
    return training.train(config.compose(words), words)


def same(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same weights."""
    return not runs.differences(*(runs.last(run)["state_dict"] for run in (one, other)))


def strike(fault: Fault, action: str, folder: Path, whole: Path) -> dict[str, Any]:
    """One run with one fault: after how many batches it was found, and whether what followed is right."""
    with fault.planted():
        try:
            code = train(folder, f"guard.action={action}")
        except GuardStop as error:
            code, said = GuardStop.exit_code, str(error)
        else:
            said = Run.reopen(folder).record["rollbacks"][0]["what"]
    found = int(said.split("at image ")[1].split(";")[0].split(" ")[0])
    right = code == 3 and not runs.not_finite(folder) if action == "stop" else code == 0 and same(folder, whole)
    return {"place": fault.place, "value": str(fault.value), "at": fault.at, "action": action, "said": said} | {
        "batches": (found - fault.at) // BATCH,
        "handled": right,
    }


def main(count: int = 20, seed: int = 0) -> None:
    """Strike ``count`` runs."""
    draw, rows = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        train(Path(place) / "whole")
        for number in range(count):
            at = BATCH * draw.randrange(IMAGES // BATCH)
            fault = Fault(PLACES[number % 4], draw.choice([float("nan"), float("inf"), float("-inf")]), at)
            action = ("stop", "rollback")[number // 4 % 2]
            rows.append(strike(fault, action, Path(place) / f"run-{number}", Path(place) / "whole"))
    worst, handled = max(row["batches"] for row in rows), sum(row["handled"] for row in rows)
    print(f"guard_found_within_batches {worst}")
    print(f"guard_handled {handled} of {count}")
    found = {"rows": rows, "found_within_batches": worst, "handled": handled, "count": count}
    print(records.keep("guard", found))
    sys.exit(0 if handled == count and worst <= 50 else 1)


if __name__ == "__main__":
    run(lambda: typer.run(main))
