"""Adversarial training (Goodfellow et al. 2014, arXiv 1406.2661) of any generator against any discriminator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from faceforge import counter_rng
from faceforge.diffaugment import augment, uniforms_needed
from faceforge.losses import Objective, discriminator_loss, generator_loss, gradient_penalty
from faceforge.metrics import health
from faceforge.metrics.kid import KidMonitor
from faceforge.schemes import ema
from faceforge.schemes.base import Batch, Optimizer, RunningMeans, Scheme, optimizer_of, rescale


class AdversarialModule(Scheme):
    """One discriminator step per batch, one generator step after every ``discriminator_steps`` of them.

    Penalties follow Mescheder et al. 2018 (arXiv 1801.04406): gamma/2 times the squared gradient norm, on every
    ``penalty_every``-th batch and multiplied by that number (lazy regularisation, Karras et al. 2020). ``sample`` uses
    the averaged generator, whose half-life is in images. With ``reuse_fakes`` the generator step reuses the fakes of
    the discriminator step, as in the PyTorch tutorial, which saves one pass through the generator.
    """

    monitor: ClassVar[tuple[str, str]] = ("val/kid", "min")

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizer_g: Optimizer,
        optimizer_d: Optimizer,
        objective: Objective,
        discriminator_steps: int,
        r1_gamma: float,
        r2_gamma: float,
        penalty_every: int,
        augment_policy: list[str],
        clip_norm: float | None,
        ema_half_life: float,
        ema_ramp: float | None,
        val_samples: int,
        seed: int,
        reuse_fakes: bool,
    ) -> None:
        super().__init__(seed)
        if discriminator_steps < 1 or penalty_every < 1:
            raise ValueError("model.discriminator_steps and model.penalty_every must be at least 1")
        self.generator, self.discriminator = generator, discriminator
        self.average = ema.averaged_copy(generator)
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.objective: Objective = objective
        self.means = RunningMeans(logits=partial(health.of_discriminator, objective))
        self.discriminator_steps = discriminator_steps
        self.r1_gamma, self.r2_gamma, self.penalty_every = r1_gamma, r2_gamma, penalty_every
        self.augment_policy = ",".join(augment_policy)
        self._augment_draws = uniforms_needed(self.augment_policy)
        self.clip_norm = clip_norm
        self.ema_half_life, self.ema_ramp = ema_half_life, ema_ramp
        self.val_samples = val_samples
        self.reuse_fakes = reuse_fakes
        self._score: KidMonitor | None = None

    def trained(self) -> list[nn.Module]:
        """Generator and discriminator."""
        return [self.generator, self.discriminator]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Generator first."""
        return [optimizer_of(self.optimizer_g, self.generator), optimizer_of(self.optimizer_d, self.discriminator)]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step."""
        self.reseed()
        real = batch["target"]
        global_batch = len(real) * self.world
        position = self.positions(len(real))
        step = self.clock.images // global_batch
        generates = (step + 1) % self.discriminator_steps == 0
        with torch.set_grad_enabled(generates and self.reuse_fakes):
            fake = self._generate(self.compiled(self.generator), self._z("z/discriminator", position))
        others = partial(self._others, position) if generates and not self.reuse_fakes else None
        made = self._discriminator_step(real, fake.detach(), position, step % self.penalty_every == 0, others)
        self.clock.images += global_batch
        if generates:
            self._generator_step(real, fake if self.reuse_fakes else made, position)
            self._update_average(global_batch * self.discriminator_steps)

    def _others(self, position: range) -> Tensor:
        """The fakes of the generator step."""
        return self._generate(self.compiled(self.generator), self._z("z/generator", position))

    def _discriminator_step(
        self, real: Tensor, fake: Tensor, position: range, penalise: bool, meanwhile: Callable[[], Tensor] | None
    ) -> Any:
        self.discriminator.requires_grad_(True)
        real_seen, fake_seen = self._seen(real, "real", position), self._seen(fake, "fake", position)
        judge = self.compiled(self.discriminator)
        real_logits, fake_logits = judge(real_seen), judge(fake_seen)
        loss = discriminator_loss(self.objective, real_logits, fake_logits)
        self.means.add(**{"loss/discriminator": loss})
        self.means.keep("logits", real_logits, fake_logits)
        if penalise:
            loss = loss + self._penalty("r1", self.r1_gamma, real_seen) + self._penalty("r2", self.r2_gamma, fake_seen)
        return self.step_optimizer(self._raw_optimizers()[1], loss, self.clip_norm, meanwhile)

    def _penalty(self, name: str, gamma: float, images: Tensor) -> Tensor | float:
        if gamma == 0:
            return 0.0
        penalty = gradient_penalty(self.discriminator, images)  # not compiled: it is differentiated twice
        self.means.add(**{f"penalty/{name}": penalty})
        return 0.5 * gamma * self.penalty_every * penalty

    def _generator_step(self, real: Tensor, fake: Tensor, position: range) -> None:
        self.discriminator.requires_grad_(False)
        fake_logits = self.compiled(self.discriminator)(self._seen(fake, "generator", position))
        real_logits = self._real_logits(real, position) if self.objective == "relativistic" else None
        loss = generator_loss(self.objective, fake_logits, real_logits)
        self.means.add(**{"loss/generator": loss})
        self.step_optimizer(self._raw_optimizers()[0], loss, self.clip_norm)
        self.clock.generator_steps += 1

    def _real_logits(self, real: Tensor, position: range) -> Tensor:
        with torch.no_grad():
            return self.compiled(self.discriminator)(self._seen(real, "real", position))

    def _raw_optimizers(self) -> list[torch.optim.Optimizer]:
        return self.optimizers(use_pl_optimizer=False)  # type: ignore[return-value]

    def _update_average(self, images: int) -> None:
        keep = ema.decay(images, self.clock.images, self.ema_half_life, self.ema_ramp)
        ema.update(self.average, self.generator, keep)

    def _z(self, purpose: str, counters: range | Tensor) -> Tensor:
        return self.noise(purpose, counters, self.generator.latent_shape, self.generator.latent)  # type: ignore[arg-type]

    def _generate(self, generator: nn.Module, z: Tensor) -> Tensor:
        """Images on the [-1, 1] scale; a generator without an upper bound may leave it."""
        return rescale(generator(z), generator.output_range, (-1.0, 1.0))  # type: ignore[arg-type]

    def _seen(self, images: Tensor, purpose: str, position: range) -> Tensor:
        """The discriminator's input: augmented, in its own range."""
        if self._augment_draws:
            uniforms = self.noise(f"augment/{purpose}", position, (self._augment_draws,), "uniform")
            images = augment(images, self.augment_policy, uniforms)
        return rescale(images, (-1.0, 1.0), self.discriminator.input_range)  # type: ignore[arg-type]

    def draw(self, count: int, seed: int = 0, start: int = 0, truncation: float = 1.0) -> Tensor:
        """z (count, ...) of samples ``start ...`` of a seed, moved towards the mean by ``truncation``."""
        z = self._z(f"sample/{seed}", torch.arange(start, start + count))
        middle = 0.5 if self.generator.latent == "uniform" else 0.0
        return z if truncation == 1.0 else middle + truncation * (z - middle)

    @torch.no_grad()
    def decode(self, z: Tensor, averaged: bool = True) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of z (N, ...): eval mode, averaged weights."""
        with self.evaluating(self.average if averaged else self.generator) as network:
            return self._generate(network, z).float().clamp(-1, 1)

    def sample(self, count: int, seed: int = 0, batch: int = 64, averaged: bool = True, start: int = 0) -> Tensor:
        """(count, C, H, W) in [-1, 1] on the CPU, for samples ``start ...`` of a seed.

        Sample i of a seed has the same z for any ``batch``.
        """
        end = start + count
        counts = {first: min(batch, end - first) for first in range(start, end, batch)}
        return torch.cat([self.decode(self.draw(n, seed, first), averaged).cpu() for first, n in counts.items()])

    def validate(self, data: Any) -> dict[str, float]:
        """A cheap KID and health figures of ``val_samples`` faces against as many validation faces (at least three)."""
        if min(self.val_samples, data.counts["val"]) < 3:
            return {}
        chosen = counter_rng.permutation(self.seed, "val/kid", 0, data.counts["val"])[: self.val_samples]
        real, fake = data.images("val", chosen), self.sample(self.val_samples)
        if self._score is None:
            self._score = KidMonitor(real.to(self.device))
        return {"val/kid": self._score(fake).value, **health.of_generated(fake, real)}

    def pictures(self, data: Any) -> Tensor:
        """64 faces from fixed noise."""
        return self.sample(64)

    def networks(self, data: Any) -> dict[str, tuple[Any, ...]]:
        """Generator and discriminator with example inputs of batch 1."""
        z = self._z("example", torch.zeros(1))
        with torch.no_grad():
            image = self._generate(self.average, z)
        return {"generator": (self.average, z), "discriminator": (self.discriminator, image)}
