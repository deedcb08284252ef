"""Reconstruction: a network that predicts the target from the input, trained with an image loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from faceforge.schemes import ema
from faceforge.schemes.base import Batch, Optimizer, optimizer_of, rescale
from faceforge.schemes.early_stopping import Stop
from faceforge.schemes.supervised import PairedScheme, Schedule


class ReconstructionModule(PairedScheme):
    """One optimiser step per batch. The loss sees images in [0, 1]."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        loss: nn.Module,
        schedule: Schedule | None,
        stop: Stop | None,
        clip_norm: float | None,
        ema_half_life: float,
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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser for the network."""
        return self.planned(optimizer_of(self.optimizer, self.network))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step."""
        self.reseed()
        images = len(batch["target"]) * self.world
        loss = self.objective(batch)
        self.step_optimizer(self.optimizers(use_pl_optimizer=False), loss, self.clip_norm)  # type: ignore[arg-type]
        self.after_step()
        self.clock.images += images
        self.clock.generator_steps += 1
        keep = ema.decay(images, self.clock.images, self.ema_half_life, self.ema_ramp)
        ema.update(self.average, self.network, keep)

    def objective(self, batch: Batch) -> Tensor:
        """The training loss, a scalar."""
        loss = self.loss(
            self._outputs(self.compiled(self.network), batch["input"], (0.0, 1.0)), (batch["target"] + 1) / 2
        )
        self.means.add(**{"loss/train": loss})
        return loss

    def _outputs(self, network: nn.Module, inputs: Tensor, span: tuple[float, float]) -> Tensor:
        seen = rescale(inputs, (-1.0, 1.0), network.input_range)  # type: ignore[arg-type]
        return rescale(network(seen), network.output_range, span)  # type: ignore[arg-type]

    @torch.no_grad()
    def predict(self, inputs: Tensor, averaged: bool = True) -> Tensor:
        """As PairedScheme.predict."""
        with self.evaluating(self.average if averaged else self.network) as network:
            return self._outputs(network, inputs, (-1.0, 1.0)).float().clamp(-1, 1)

    def networks(self, data: Any) -> dict[str, tuple[Any, ...]]:
        """The network with an example input of batch 1."""
        return {"network": (self.average, data.pairs("train", [0])["input"])}
