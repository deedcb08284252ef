"""NaN and infinite values during training, found within a few batches: the run stops, or goes back and on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from faceforge.engine import checkpoint
from faceforge.engine.run import Run
from faceforge.errors import BadInput, GuardStop
from faceforge.schemes.base import Scheme

LEAST_SCALE = 2.0**-14  # of a gradient scaler; it begins at 2^16 and halves whenever a gradient overflows
RATES = {"lr", "initial_lr", "max_lr", "min_lr"}  # of a group; all but the first are what schedules compute it from


class NotFinite(GuardStop):
    """A loss, a weight or a statistic is NaN or infinite."""


@dataclass(frozen=True)
class Guard:
    """The ``guard`` node. Looking at the numbers waits for the device once in ``every`` batches and changes nothing.

    ``rollback`` goes on from the last checkpoint, at most ``rollbacks`` times in the life of a run. The first return
    to a checkpoint repeats what was done, since a fault of the machine does not come again; each further one to the
    same checkpoint halves the learning rates.
    """

    action: Literal["stop", "rollback"] = "stop"
    every: int = 25
    rollbacks: int = 3

    def __post_init__(self) -> None:
        for name in ("every", "rollbacks"):
            if getattr(self, name) < 1:
                raise BadInput(f"guard.{name}: {getattr(self, name)} is not a positive number")


def find_nonfinite(module: Scheme) -> str | None:
    """What is not finite: a loss since the last log, a weight or a statistic, by name; None where all is well."""
    numbers = {**module.means.numbers(), **_floats(module)}
    flat = [values.detach().flatten() for values in numbers.values() if values.numel()]
    largest = torch.stack([n.float() for n in torch._foreach_norm(flat, float("inf"))])  # pyright: ignore[reportPrivateImportUsage]
    if bool(largest.isfinite().all()):
        return None
    return next(name for name, values in numbers.items() if not values.isfinite().all())


def _floats(module: Scheme) -> dict[str, Tensor]:
    return {name: values for name, values in module.state_dict().items() if values.is_floating_point()}


def overflowing(scaler: torch.amp.GradScaler | None) -> str | None:
    """What to say of a gradient scaler that has fallen so far that nothing is learnt any more."""
    if scaler is None or scaler.get_scale() > LEAST_SCALE:
        return None
    return "gradients overflow in 16 bits at every step; use trainer.precision=32, or bf16 where there is any"


def require_finite(trainer: pl.Trainer, module: Scheme) -> None:
    """Raises NotFinite on all ranks where a number of one is NaN or infinite, GuardStop where 16 bits overflow."""
    agree(trainer, module, find_nonfinite(module))
    overflow = overflowing(getattr(trainer.precision_plugin, "scaler", None))
    if overflow:
        raise GuardStop(f"at image {module.clock.images} {overflow}")


def agree(trainer: pl.Trainer, module: Scheme, bad: str | None) -> None:
    """What is bad on one rank ends all, so that none is left waiting for another."""
    if trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
        what = bad or "a number of another rank"
        raise NotFinite(f"{what} is no longer a finite number at image {module.clock.images}")


def slow_down(optimizers: Iterable[torch.optim.Optimizer], record: Mapping[str, Any], images: int) -> float:
    """Lower the learning rates of a run that went back to this checkpoint before; by which factor."""
    returns = sum(entry["to"] == images for entry in record.get("rollbacks", []))
    factor = 0.5 ** max(0, returns - 1)
    for optimizer in optimizers if factor < 1 else ():
        for group in optimizer.param_groups:
            for rate in RATES & group.keys():
                group[rate] *= factor
    return factor


def go_back(guard: Guard, run: Run, error: NotFinite) -> tuple[Run, Path]:
    """The checkpoint to go on from. Raises GuardStop where the run shall stop, or went back often enough."""
    before = run.record.get("rollbacks", [])
    path = checkpoint.find(run.folder, "last")
    images = checkpoint.read(path)["clock"]["images"]
    if guard.action == "stop" or len(before) >= guard.rollbacks:
        often = f" after going back {len(before)} times" if before else ""
        raise GuardStop(
            f"{error}{often}; {path} of image {images} is good (a lower learning rate often helps, and "
            f"guard.action=rollback goes on by itself)"
        )
    rollbacks = [*before, {"what": str(error), "to": images}]
    run.update(rollbacks=rollbacks, resumed=[*run.record["resumed"], images])
    same = sum(entry["to"] == images for entry in rollbacks) - 1
    slower = f", learning rates times {0.5**same:g}" if same else ""
    print(f"{error}: back to image {images}{slower} (rollback {len(rollbacks)} of {guard.rollbacks})", flush=True)
    return run, path
