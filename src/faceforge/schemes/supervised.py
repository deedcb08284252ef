"""Base of schemes with input and target: prediction, validation, grids, learning rates, early stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from faceforge import counter_rng
from faceforge.data.datamodule import Batch, FaceData
from faceforge.errors import BadInput
from faceforge.metrics import health
from faceforge.metrics.pairs import PairScores, mae
from faceforge.schedules import RateSchedule
from faceforge.schemes.base import Scheme
from faceforge.schemes.early_stopping import Stop
from faceforge.types import Json

Schedule = Callable[[torch.optim.Optimizer], LRScheduler]
AnySchedule = RateSchedule | Schedule
COMPARED = 256  # validation faces for the health figures
RECALLED = 128  # training faces for the gap: their mean error within 3 %, at little cost
AT_ONCE = 64
SHOWN = 8  # faces in a grid: a row of inputs, one of outputs, one of targets


class PairedScheme(Scheme):
    """Base of reconstruction, latent and translation modules. ``best`` follows val/mae.

    ``schedule`` follows the clock (`faceforge.schedules`) or is one of torch's: a ReduceLROnPlateau receives val/loss
    after each validation; any other is stepped once per batch, so that its T_max, step_size and the like count batches.
    """

    monitor: tuple[str, str] = ("val/mae", "min")
    shows: ClassVar[str] = "real-derived"

    def __init__(self, loss: nn.Module, schedule: AnySchedule | None, stop: Stop | None, seed: int) -> None:
        super().__init__(seed)
        self.loss, self.stop = loss, stop
        self.rates = schedule if isinstance(schedule, RateSchedule) else None
        self.schedule = None if isinstance(schedule, RateSchedule) else schedule
        if self.schedule:
            _try(self.schedule)
        self._rates: LRScheduler | None = None
        self._saved_rates: Json | None = None

    @property
    def rates_move(self) -> bool:
        """As Scheme.rates_move."""
        return super().rates_move or self._rates is not None

    @property
    def pure(self) -> bool:
        """Whether an output is a function of its own input: nothing is drawn, and its batch has no say."""
        return True

    def predict(self, inputs: Tensor, averaged: bool = True) -> Tensor:
        """Outputs (N, C, H, W) in [-1, 1] for inputs (N, C', H', W'): eval mode, averaged weights."""
        raise NotImplementedError

    def predict_mirrored(self, inputs: Tensor) -> Tensor:
        """The mean of the outputs for inputs and of those for mirrored inputs, mirrored back.

        A self-ensemble (Lim et al. 2017, arXiv 1707.02921, sec. 3.4), of one symmetry: faces have no other.
        """
        return (self.predict(inputs) + self.predict(inputs.flip(3)).flip(3)) / 2

    def shown(self, inputs: Tensor, size: tuple[int, int]) -> Tensor:
        """Inputs as images with the size and channels of the output: pixels are repeated, never smoothed."""
        return torch.nn.functional.interpolate(inputs.float().clamp(-1, 1), size=size, mode="nearest")

    @torch.no_grad()
    def validate(self, data: FaceData) -> dict[str, float]:
        """Means over the validation split, in [0, 1] units: loss, mae, mse, psnr (dB), ssim, variance_ratio; then
        health figures of the outputs, and the mae of training faces.
        """
        if not data.counts["val"]:
            return {}
        scores, loss = PairScores(), 0.0
        found: dict[str, float] = {}
        for pair in data.pairs_in_chunks("val", COMPARED):
            outputs, targets = self._outputs_of(pair), pair["target"]
            prediction, target = (outputs + 1) / 2, (targets + 1) / 2
            scores.add(prediction, target)
            loss += self._loss_of(prediction, target)
            found = found or self._health(data, outputs, targets)
        means = {"loss": loss / data.counts["val"], **scores.means()}
        found["val/gap"] = health.gap(found["train/mae"], means["mae"])
        return {**{f"val/{name}": value for name, value in means.items()}, **found}

    def _loss_of(self, prediction: Tensor, target: Tensor) -> float:
        """Losses summed over images, on the module's device; in chunks if its memory is not the host's."""
        size = len(target) if self.device.type == "cpu" else AT_ONCE
        pairs = zip(prediction.split(size), target.split(size), strict=True)
        return sum(float(self.loss(p.to(self.device), t.to(self.device))) * len(t) for p, t in pairs)

    def _outputs_of(self, pair: Batch) -> Tensor:
        """Predictions in [-1, 1] on the CPU, in chunks, since large ones would not fit."""
        return torch.cat([self.predict(part.to(self.device)).cpu() for part in pair["input"].split(AT_ONCE)])

    def _health(self, data: FaceData, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Health figures of some outputs, and the error on a fixed set of training faces."""
        count = min(len(targets), data.counts["train"], RECALLED)
        chosen = counter_rng.permutation(self.seed, "train/mae", 0, data.counts["train"])[:count]
        seen = data.pairs("train", chosen)
        error = float(mae(self._outputs_of(seen), seen["target"]).mean()) / 2
        return {"train/mae": error, **health.of_outputs(outputs, targets, seen["target"].mean(0))}

    @torch.no_grad()
    def pictures(self, data: FaceData) -> Tensor:
        """Rows of eight: inputs, outputs and targets of the same validation faces each time."""
        split = "val" if data.counts["val"] else "train"
        total = data.counts[split]
        pair = data.pairs(split, [n * total // SHOWN for n in range(SHOWN)])  # fewer than eight are repeated
        target = pair["target"]
        output = self.predict(pair["input"].to(self.device)).cpu()
        rows = self.shown(pair["input"], (target.shape[-2], target.shape[-1])), output, target
        channels = max(row.shape[1] for row in rows)
        return torch.cat([row.expand(-1, channels, -1, -1) for row in rows])

    def after_validation(self, scores: dict[str, float]) -> None:
        """Lower the learning rate on a plateau of val/loss; stop early if due."""
        if not scores:
            return
        if isinstance(self._rates, ReduceLROnPlateau):
            self._rates.step(scores["val/loss"])
        if self.stop is not None:
            self.end = self.stop.update(scores)

    def planned(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser, with its schedule."""
        self._rates = self.schedule(optimizer) if self.schedule else None
        return optimizer

    def after_step(self) -> None:
        """Set the learning rate of the next batch if the schedule counts batches."""
        if self._rates is not None and not isinstance(self._rates, ReduceLROnPlateau):
            try:
                self._rates.step()
            except ValueError as error:  # a schedule of a fixed length, such as OneCycleLR
                raise BadInput(f"model.schedule: ends before the run does ({' '.join(str(error).split())})") from None

    def on_save_checkpoint(self, checkpoint: Json) -> None:
        """Save the states of schedule and early stopping too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["stop"] = self.stop.state_dict() if self.stop else None
        checkpoint["schedule"] = _plain(self._rates.state_dict()) if self._rates else None

    def on_load_checkpoint(self, checkpoint: Json) -> None:
        """Restore them; the schedule itself is built later, with its optimiser."""
        super().on_load_checkpoint(checkpoint)
        if self.stop and checkpoint.get("stop") is not None:
            self.stop.load_state_dict(checkpoint["stop"])
        self._saved_rates = checkpoint.get("schedule", checkpoint.get("plateau"))  # its former name

    def on_train_start(self) -> None:
        """Build the schedule: the optimisers now exist with their saved state."""
        if not self._rates or not self._saved_rates:
            return
        self._rates.load_state_dict(self._saved_rates)
        if not isinstance(self._rates, ReduceLROnPlateau):  # the guard may have lowered the base rates
            self._rates.base_lrs = [group["initial_lr"] for group in self._rates.optimizer.param_groups]


def _try(schedule: Schedule) -> None:
    """Build the schedule on a dummy optimiser, before the run folder exists. Raises BadInput."""
    name = getattr(getattr(schedule, "func", schedule), "__name__", str(schedule))
    try:
        made = schedule(torch.optim.Adam([nn.Parameter(torch.zeros(1))]))
    except (TypeError, ValueError, AttributeError) as error:
        reason = str(error).removeprefix(f"{name}.__init__() ")
        raise BadInput(f"model.schedule: {name} cannot be made ({' '.join(reason.split())})") from None
    if not isinstance(made, LRScheduler):
        raise BadInput(f"model.schedule: {name} must be a scheduler of torch.optim.lr_scheduler")


def _plain(state: Json) -> Json:
    return {k: v for k, v in state.items() if isinstance(v, int | float | str | bool | list | None)}
