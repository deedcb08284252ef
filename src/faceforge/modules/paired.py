"""What every scheme with an input and a target shares: prediction, validation, grids, learning rates, early ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from faceforge import streams
from faceforge.evaluation import health
from faceforge.evaluation.pairs import PairScores, mae
from faceforge.modules.scheme import Batch, Scheme
from faceforge.modules.stops import Stop

Schedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.ReduceLROnPlateau]
COMPARED = 256  # validation faces on which health is judged
RECALLED = 128  # training faces beside them: their mean error within 3 %, and a validation little longer
AT_ONCE = 64
SHOWN = 8  # faces in a grid: a row of inputs, one of outputs, one of targets


class PairedScheme(Scheme):
    """Base of reconstruction, latent and translation modules. ``best`` follows val/mae."""

    monitor: ClassVar[tuple[str, str]] = ("val/mae", "min")
    shows: ClassVar[str] = "real-derived"

    def __init__(self, loss: nn.Module, schedule: Schedule | None, stop: Stop | None, seed: int) -> None:
        super().__init__(seed)
        self.loss, self.schedule, self.stop = loss, schedule, stop
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._saved_plateau: dict[str, Any] | None = None

    def predict(self, inputs: Tensor, averaged: bool = True) -> Tensor:
        """Outputs (N, C, H, W) in [-1, 1] for inputs (N, C', H', W'): eval mode, averaged weights."""
        raise NotImplementedError

    def shown(self, inputs: Tensor, size: tuple[int, int]) -> Tensor:
        """Inputs as pictures of a size in colour or grey like the output: pixels are repeated, never smoothed."""
        return torch.nn.functional.interpolate(inputs.float().clamp(-1, 1), size=size, mode="nearest")

    @torch.no_grad()
    def validate(self, data: Any) -> dict[str, float]:
        """Means over the validation split, in [0, 1] units: loss, mae, mse, psnr (dB), ssim, variance_ratio; then
        how healthy the outputs are, and the mae of training faces.
        """
        if not data.counts["val"]:
            return {}
        scores, loss = PairScores(), 0.0
        found: dict[str, float] = {}
        for pair in data.pairs_in_chunks("val", COMPARED):
            outputs, targets = self._outputs_of(pair), pair["target"]
            prediction, target = (outputs + 1) / 2, (targets + 1) / 2
            scores.add(prediction, target)
            loss += float(self.loss(prediction, target)) * len(target)
            found = found or self._health(data, outputs, targets)
        means = {"loss": loss / data.counts["val"], **scores.means()}
        found["val/gap"] = health.gap(found["train/mae"], means["mae"])
        return {**{f"val/{name}": value for name, value in means.items()}, **found}

    def _outputs_of(self, pair: Batch) -> Tensor:
        """Predictions in [-1, 1] on the CPU, a few at a time: large ones would not fit otherwise."""
        return torch.cat([self.predict(part.to(self.device)).cpu() for part in pair["input"].split(AT_ONCE)])

    def _health(self, data: Any, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Of some outputs, beside the error on no more training faces than that, the same each time."""
        count = min(len(targets), data.counts["train"], RECALLED)
        chosen = streams.permutation(self.seed, "train/mae", 0, data.counts["train"])[:count]
        seen = data.pairs("train", chosen)
        error = float(mae(self._outputs_of(seen), seen["target"]).mean()) / 2
        return {"train/mae": error, **health.of_outputs(outputs, targets, seen["target"].mean(0))}

    @torch.no_grad()
    def pictures(self, data: Any) -> Tensor:
        """Rows of eight: inputs, outputs and targets of the same validation faces each time."""
        split = "val" if data.counts["val"] else "train"
        total = data.counts[split]
        pair = data.pairs(split, [n * total // SHOWN for n in range(SHOWN)])  # fewer than eight come again
        target = pair["target"]
        output = self.predict(pair["input"].to(self.device)).cpu()
        rows = self.shown(pair["input"], (target.shape[-2], target.shape[-1])), output, target
        channels = max(row.shape[1] for row in rows)
        return torch.cat([row.expand(-1, channels, -1, -1) for row in rows])

    def after_validation(self, scores: dict[str, float]) -> None:
        """Lower the learning rate on a plateau of val/loss, and end where the stop says so."""
        if not scores:
            return
        if self._plateau is not None:
            self._plateau.step(scores["val/loss"])
        if self.stop is not None:
            self.end = self.stop.update(scores)

    def planned(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimiser, its learning rate in the hands of the schedule."""
        self._plateau = self.schedule(optimizer) if self.schedule else None
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the states of schedule and stop."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["stop"] = self.stop.state_dict() if self.stop else None
        checkpoint["plateau"] = _plain(self._plateau.state_dict()) if self._plateau else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up again; the schedule itself is made later, with its optimiser."""
        super().on_load_checkpoint(checkpoint)
        if self.stop and checkpoint.get("stop") is not None:
            self.stop.load_state_dict(checkpoint["stop"])
        self._saved_plateau = checkpoint.get("plateau")

    def on_train_start(self) -> None:
        """The optimisers exist and hold their saved state."""
        if self._plateau and self._saved_plateau:
            self._plateau.load_state_dict(self._saved_plateau)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in state.items() if isinstance(v, int | float | str | bool | list | None)}
