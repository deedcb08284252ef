"""Detects NaN and infinite values during training within a few batches; the run stops or rolls back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from faceforge.config.nodes import Guard
from faceforge.engine import checkpoint
from faceforge.engine.run import Run
from faceforge.errors import GuardStop
from faceforge.schemes.base import Scheme

LEAST_SCALE = 2.0**-14  # of a gradient scaler, which starts at 2^16 and halves at every gradient overflow
RATES = {"lr", "initial_lr", "max_lr", "min_lr"}  # of a parameter group; schedules compute the first from the others


class NotFinite(GuardStop):
    """A loss, a weight or a statistic is NaN or infinite."""


def find_nonfinite(module: Scheme) -> str | None:
    """Name of a loss since the last log, a weight or a statistic that is NaN or infinite; None if all are finite."""
    numbers = {**module.means.numbers(), **_floats(module)}
    flat = [values.detach().flatten() for values in numbers.values() if values.numel()]
    largest = torch.stack([n.float() for n in torch._foreach_norm(flat, float("inf"))])  # pyright: ignore[reportPrivateImportUsage]
    if bool(largest.isfinite().all()):
        return None
    return next(name for name, values in numbers.items() if not values.isfinite().all())


def _floats(module: Scheme) -> dict[str, Tensor]:
    return {name: values for name, values in module.state_dict().items() if values.is_floating_point()}


def overflowing(scaler: torch.amp.GradScaler | None) -> str | None:
    """The message for a gradient scaler whose scale has fallen so far that training has stalled."""
    if scaler is None or scaler.get_scale() > LEAST_SCALE:
        return None
    return "gradients overflow in 16 bits at every step; use trainer.precision=32, or bf16 if the GPU supports it"


def require_finite(trainer: pl.Trainer, module: Scheme) -> None:
    """Raises NotFinite on all ranks if a value of any rank is NaN or infinite, GuardStop if 16 bits overflow."""
    agree(trainer, module, find_nonfinite(module))
    overflow = overflowing(getattr(trainer.precision_plugin, "scaler", None))
    if overflow:
        raise GuardStop(f"at image {module.clock.images} {overflow}")


def agree(trainer: pl.Trainer, module: Scheme, bad: str | None) -> None:
    """A bad value on one rank ends all ranks, so that none waits for another."""
    if trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
        what = bad or "a value on another rank"
        raise NotFinite(f"{what} is NaN or infinite at image {module.clock.images}")


def slow_down(optimizers: Iterable[torch.optim.Optimizer], record: Mapping[str, Any], images: int) -> float:
    """Lower the learning rates if the run rolled back to this checkpoint before; returns the factor."""
    returns = sum(entry["to"] == images for entry in record.get("rollbacks", []))
    factor = 0.5 ** max(0, returns - 1)
    for optimizer in optimizers if factor < 1 else ():
        for group in optimizer.param_groups:
            for rate in RATES & group.keys():
                group[rate] *= factor
    return factor


def go_back(guard: Guard, run: Run, error: NotFinite) -> tuple[Run, Path]:
    """The checkpoint to continue from. Raises GuardStop if the run must stop or has used all rollbacks."""
    before = run.record.get("rollbacks", [])
    path = checkpoint.find(run.folder, "last")
    images = checkpoint.read(path)["clock"]["images"]
    if guard.action == "stop" or len(before) >= guard.rollbacks:
        often = f" after {len(before)} rollbacks" if before else ""
        raise GuardStop(
            f"{error}{often}; {path} (image {images}) is valid. Try a lower learning rate, or "
            f"guard.action=rollback to continue automatically"
        )
    rollbacks = [*before, {"what": str(error), "to": images}]
    run.update(rollbacks=rollbacks, resumed=[*run.record["resumed"], images])
    same = sum(entry["to"] == images for entry in rollbacks) - 1
    slower = f", learning rates times {0.5**same:g}" if same else ""
    print(f"{error}: back to image {images}{slower} (rollback {len(rollbacks)} of {guard.rollbacks})", flush=True)
    return run, path
