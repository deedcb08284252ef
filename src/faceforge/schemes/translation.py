"""Image-to-image translation (pix2pix; Isola et al. 2017, arXiv 1611.07004): a conditional adversarial loss plus a
pixel loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from faceforge import counter_rng, counter_rng_torch
from faceforge.data.datamodule import Batch, FaceData
from faceforge.losses import Unpaired, discriminator_loss, feature_matching, generator_loss, terms
from faceforge.metrics import health
from faceforge.networks.patch import Layered
from faceforge.schedules import Amount, RateSchedule, at, by_clock
from faceforge.schemes import ema
from faceforge.schemes.base import BATCH_NORM, Example, Optimizer, optimizer_of
from faceforge.schemes.early_stopping import Stop
from faceforge.schemes.running_means import RunningMeans
from faceforge.schemes.scales import into, out_of
from faceforge.schemes.supervised import PairedScheme

DROPOUT = (nn.Dropout, nn.Dropout2d)
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of inputs, targets and outputs


class TranslationModule(PairedScheme):
    """Per batch, one discriminator step and one generator step on the same translated images.

    The discriminator's loss is eq. 1 of the paper times ``discriminator_weight``; the generator's is
    ``adversarial_weight`` times its own plus ``loss_weight`` times ``loss`` of images in [0, 1] (the published 100 of
    an L1 in [-1, 1] is 200 here) plus ``feature_weight`` times the difference of the discriminator's maps
    (``feature_matching``). With both weights 0 the discriminator is neither run nor trained. ``test_dropout`` and
    ``test_batch_statistics`` keep dropout and batch statistics at test time, as in the paper and the published code.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizer_g: Optimizer,
        optimizer_d: Optimizer,
        objective: Unpaired,
        discriminator_weight: float,
        adversarial_weight: float,
        loss: nn.Module,
        loss_weight: float,
        test_dropout: bool,
        test_batch_statistics: bool,
        stop: Stop | None,
        clip_norm: float | None,
        ema_half_life: Amount,
        ema_ramp: float | None,
        seed: int,
        schedule: RateSchedule | None = None,
        feature_weight: float = 0.0,
    ) -> None:
        super().__init__(loss, by_clock(schedule), stop, seed)
        if feature_weight and not isinstance(discriminator, Layered):
            raise ValueError(f"model.feature_weight={feature_weight}: must be 0 unless model/discriminator=patch")
        if terms(objective).paired:
            raise ValueError(f"model.objective={objective}: must use each image separately, like least_squares")
        self.generator, self.discriminator = generator, discriminator
        self.average = ema.averaged_copy(generator)
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.objective: Unpaired = objective
        self.means = RunningMeans(logits=partial(health.of_discriminator, objective))
        self.discriminator_weight, self.adversarial_weight = discriminator_weight, adversarial_weight
        self.loss_weight, self.feature_weight = loss_weight, feature_weight
        self.test_dropout, self.test_batch_statistics = test_dropout, test_batch_statistics
        self.clip_norm, self.ema_half_life, self.ema_ramp = clip_norm, ema_half_life, ema_ramp

    optimized = ("generator", "discriminator")

    @property
    def pure(self) -> bool:
        """As PairedScheme.pure."""
        return not (self.test_dropout or self.test_batch_statistics)

    def trained(self) -> list[nn.Module]:
        """Generator and discriminator."""
        return [self.generator, self.discriminator]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Generator first."""
        return [optimizer_of(self.optimizer_g, self.generator), optimizer_of(self.optimizer_d, self.discriminator)]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step: the discriminator, then the generator, on the same outputs."""
        self.begin_batch()
        images = len(batch["target"]) * self.world
        optimizer_g, optimizer_d = self.raw_optimizers()
        made = [self._translated(batch["input"][rows]) for rows in self.micro_batches(len(batch["target"]))]
        if self.adversarial_weight or self.feature_weight:
            self.discriminator.requires_grad_(True)
            self.step_optimizer(optimizer_d, self._losses(self._discriminator_loss, batch, made), self.clip_norm)
        self.discriminator.requires_grad_(False)
        self.step_optimizer(optimizer_g, self._losses(self._generator_loss, batch, made), self.clip_norm)
        self.clock.images += images
        self.clock.generator_steps += 1
        half_life = at(self.ema_half_life, self.clock.images)
        keep = ema.decay(images, self.clock.images, half_life, self.ema_ramp)
        ema.update(self.average, self.generator, keep)

    def _translated(self, source: Tensor) -> Tensor:
        """Outputs for the steps of both networks."""
        generator = self.generator
        return out_of(generator, self.kept(self.compiled(generator), into(generator, source)))

    def _losses(self, loss: Loss, batch: Batch, made: Iterable[Tensor]) -> Iterator[Tensor]:
        for rows, outputs in zip(self.micro_batches(len(batch["target"])), made, strict=True):
            yield loss(batch["input"][rows], batch["target"][rows], outputs)

    def _discriminator_loss(self, source: Tensor, target: Tensor, made: Tensor) -> Tensor:
        judge = self.compiled(self.discriminator)
        shown, right, wrong = (into(self.discriminator, pictures) for pictures in (source, target, made.detach()))
        real_logits, fake_logits = judge(shown, right), judge(shown, wrong)
        loss = discriminator_loss(self.objective, real_logits, fake_logits)
        self.means.add(**{"loss/discriminator": loss})
        self.means.keep("logits", real_logits, fake_logits)
        return self.discriminator_weight * loss

    def _generator_loss(self, source: Tensor, target: Tensor, made: Tensor) -> Tensor:
        pixels = self.loss((made + 1) / 2, (target + 1) / 2)
        loss = self.loss_weight * pixels
        if self.adversarial_weight or self.feature_weight:
            loss = self._judgement(source, target, made) + loss
        self.means.add(**{"loss/train": pixels})
        return loss

    def _judgement(self, source: Tensor, target: Tensor, made: Tensor) -> Tensor:
        """The adversarial loss and the difference of the discriminator's maps, weighted."""
        judge = self.compiled(self.discriminator)
        shown, right, wrong = (into(self.discriminator, pictures) for pictures in (source, target, made))
        if not self.feature_weight:
            adversarial = generator_loss(self.objective, judge(shown, wrong))
            self.means.add(**{"loss/generator": adversarial})
            return self.adversarial_weight * adversarial
        with torch.no_grad():
            _, expected = judge(shown, right, with_maps=True)
        logits, maps = judge(shown, wrong, with_maps=True)
        adversarial, matching = generator_loss(self.objective, logits), feature_matching(expected, maps)
        self.means.add(**{"loss/generator": adversarial, "loss/features": matching})
        return self.adversarial_weight * adversarial + self.feature_weight * matching

    def _translate(self, generator: nn.Module, source: Tensor) -> Tensor:
        return out_of(generator, generator(into(generator, source)))

    @torch.no_grad()
    def predict(self, inputs: Tensor, averaged: bool = True) -> Tensor:
        """As PairedScheme.predict; dropout at test time is keyed to the seed, and so the same each time."""
        network = self.average if averaged else self.generator
        left = _left_in_training(network, self.test_dropout, self.test_batch_statistics)
        with self.evaluating(network), left, counter_rng_torch.fork_rng(inputs.device):
            counter_rng_torch.seed(inputs.device, counter_rng.key(self.seed, "test/dropout") >> 1)
            return self._translate(network, inputs).float().clamp(-1, 1)

    def networks(self, data: FaceData) -> dict[str, Example]:
        """Generator and discriminator; the discriminator's example is an (input, output) pair."""
        pair = data.pairs("train", [0])
        return {
            "generator": (self.average, (pair["input"],)),
            "discriminator": (self.discriminator, (pair["input"], pair["target"])),
        }


@contextmanager
def _left_in_training(network: nn.Module, dropout: bool, batch_statistics: bool) -> Iterator[None]:
    """Keep some layers of an eval-mode network in training mode; running statistics stay unchanged."""
    norms = [m for m in network.modules() if batch_statistics and isinstance(m, BATCH_NORM)]
    drops = [m for m in network.modules() if dropout and isinstance(m, DROPOUT)]
    for module in norms:
        module.track_running_stats = False
    for module in (*norms, *drops):
        module.train()
    yield
    for module in norms:
        module.track_running_stats = True
