"""Reconstruction: a network that predicts the target from the input, trained with an image loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from faceforge.data.datamodule import Batch, FaceData
from faceforge.schedules import Amount, at
from faceforge.schemes import ema
from faceforge.schemes.base import Example, Optimizer, optimizer_of
from faceforge.schemes.early_stopping import Stop
from faceforge.schemes.scales import SIGNED, UNIT, Span, into, out_of
from faceforge.schemes.supervised import AnySchedule, PairedScheme


class ReconstructionModule(PairedScheme):
    """One optimiser step per batch. The loss sees images in [0, 1]."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        loss: nn.Module,
        schedule: AnySchedule | None,
        stop: Stop | None,
        clip_norm: float | None,
        ema_half_life: Amount,
        ema_ramp: float | None,
        seed: int,
    ) -> None:
        super().__init__(loss, schedule, stop, seed)
        self.network = network
        self.average = ema.averaged_copy(network)
        self.optimizer = optimizer
        self.clip_norm, self.ema_half_life, self.ema_ramp = clip_norm, ema_half_life, ema_ramp

    def trained(self) -> list[nn.Module]:
        """The network."""
        return [self.network]

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        """One optimiser for the network."""
        return self.planned(optimizer_of(self.optimizer, self.network))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step."""
        self.begin_batch()
        images = len(batch["target"]) * self.world
        losses = (self.objective(batch, rows) for rows in self.micro_batches(len(batch["target"])))
        optimizer = self.raw_optimizers()[0]
        self.step_optimizer(optimizer, losses, self.clip_norm)
        self.after_step()
        self.clock.images += images
        self.clock.generator_steps += 1
        half_life = at(self.ema_half_life, self.clock.images)
        keep = ema.decay(images, self.clock.images, half_life, self.ema_ramp)
        ema.update(self.average, self.network, keep)

    def objective(self, batch: Batch, rows: slice = slice(None)) -> Tensor:
        """The training loss of some rows of a batch, a scalar."""
        made = self._outputs(self.compiled(self.network), batch["input"][rows], UNIT)
        loss = self.loss(made, (batch["target"][rows] + 1) / 2)
        self.means.add(**{"loss/train": loss})
        return loss

    def _outputs(self, network: nn.Module, inputs: Tensor, span: Span) -> Tensor:
        return out_of(network, network(into(network, inputs)), span)

    @torch.no_grad()
    def predict(self, inputs: Tensor, averaged: bool = True) -> Tensor:
        """As PairedScheme.predict."""
        with self.evaluating(self.average if averaged else self.network) as network:
            return self._outputs(network, inputs, SIGNED).float().clamp(-1, 1)

    def networks(self, data: FaceData) -> dict[str, Example]:
        """The network with an example input of batch 1."""
        return {"network": (self.average, (data.pairs("train", [0])["input"],))}
