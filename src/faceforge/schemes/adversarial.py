"""Adversarial training (Goodfellow et al. 2014, arXiv 1406.2661) of any generator against any discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from faceforge import counter_rng
from faceforge.data.datamodule import Batch, FaceData
from faceforge.errors import BadInput
from faceforge.losses import Objective, discriminator_loss, generator_loss, gradient_penalty, terms
from faceforge.metrics import health
from faceforge.metrics.kid import KidMonitor
from faceforge.networks.conditional import ConditionalGenerator, with_labels
from faceforge.networks.projected import ProjectedDiscriminator
from faceforge.schedules import Amount, Moving, RateSchedule, at, by_clock
from faceforge.schemes import conditions, ema
from faceforge.schemes.abilities import Samples
from faceforge.schemes.augmentation import Adaptive, Augmentation, overfitting
from faceforge.schemes.base import Example, Kind, Optimizer, optimizer_of
from faceforge.schemes.power_averages import FOLDER, PowerAverages
from faceforge.schemes.running_means import RunningMeans
from faceforge.schemes.scales import into, out_of
from faceforge.types import Json

GAMMA = 2e-4


class AdversarialModule(Samples):
    """One discriminator step per batch, one generator step after every ``discriminator_steps`` of them.

    Penalties follow Mescheder et al. 2018 (arXiv 1801.04406): gamma/2 times the squared gradient norm, on every
    ``penalty_every``-th batch and multiplied by that number (lazy regularisation, Karras et al. 2020). ``sample`` uses
    the averaged generator, whose half-life is in images. With ``reuse_fakes`` the generator step reuses the fakes of
    the discriminator step, as in the PyTorch tutorial, which saves one pass through the generator.

    ``conditional`` names attributes of the faces, or is ``labels`` for all (replaced by `conditions.with_names`): the
    generator is told which of them a face must have, the discriminator which it is said to have
    (`faceforge.networks.conditional`). The fakes of a batch have the labels of its real faces; elsewhere labels are
    drawn from those of training faces.

    ``ema_kept`` are lengths of further averages of the generator, stored with every checkpoint, by which an average of
    any length can be had afterwards (`faceforge.schemes.power_averages`).

    Penalties, ``ema_half_life``, ``beta2`` of both optimisers (None: their own) and ``augment_strength``, the share of
    images that are augmented, may move with the clock (`faceforge.schedules.Moving`); ``augment_strength`` may also
    follow the overfitting of the discriminator (`faceforge.schemes.augmentation.Adaptive`). A penalty of None is
    ``GAMMA`` times the pixels of an image over the images of a batch, as StyleGAN2-ADA starts from (Karras et al. 2020,
    arXiv 2006.06676, appendix D).
    """

    monitor: tuple[str, str] = ("val/kid", "min")
    optimized = ("generator", "discriminator")
    _score: KidMonitor | None = None
    _labels: Tensor | None = None  # of all packed faces, on the device
    _told: Tensor | None = None  # those of the batch

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        optimizer_g: Optimizer,
        optimizer_d: Optimizer,
        objective: Objective,
        discriminator_steps: int,
        r1_gamma: Amount | None,
        r2_gamma: Amount | None,
        penalty_every: int,
        augment_policy: list[str],
        clip_norm: float | None,
        ema_half_life: Amount,
        ema_ramp: float | None,
        val_samples: int,
        seed: int,
        reuse_fakes: bool,
        schedule: RateSchedule | None = None,
        beta2: Amount | None = None,
        augment_strength: Amount | Adaptive | Literal["adaptive"] = 1.0,
        ema_kept: Sequence[float] = (),
        conditional: Sequence[str] | Literal["labels"] = (),
    ) -> None:
        super().__init__(seed)
        if discriminator_steps < 1 or penalty_every < 1:
            raise ValueError("model.discriminator_steps and model.penalty_every must be at least 1")
        generator = conditions.told(generator, discriminator, conditional) if conditional else generator
        self.generator, self.discriminator = generator, discriminator
        self.average = ema.averaged_copy(generator)
        self.powers = PowerAverages(generator, ema_kept) if ema_kept else None
        self.optimizer_g, self.optimizer_d = optimizer_g, optimizer_d
        self.objective: Objective = objective
        self.paired = terms(objective).paired
        self.means = RunningMeans(logits=partial(health.of_discriminator, objective))
        self.discriminator_steps, self.penalty_every, self.period = discriminator_steps, penalty_every, penalty_every
        self.r1_gamma, self.r2_gamma, self.beta2 = r1_gamma, r2_gamma, beta2
        self.augmentation = Augmentation(augment_policy, augment_strength)
        self.clip_norm, self.rates, self.val_samples = clip_norm, by_clock(schedule), val_samples
        self.ema_half_life, self.ema_ramp, self.reuse_fakes = ema_half_life, ema_ramp, reuse_fakes

    @property
    def labels(self) -> tuple[str, ...]:
        """As Samples.labels."""
        return conditions.names_of(self.generator)

    def fitting(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """As Scheme.fitting: a generator that is told labels holds one that is told nothing."""
        return conditions.fitting(weights, told=bool(self.labels))

    def check_data(self, data: FaceData) -> None:
        """As Scheme.check_data: the faces must have the attributes of ``conditional``."""
        if self.labels:
            conditions.labels_of(data, self.labels)

    def prepare(self, data: FaceData) -> None:
        """As Scheme.prepare: the labels from which others are drawn."""
        if self._labels is not None:
            examples = conditions.examples_of(self._labels.cpu(), data)
            for part in self.modules():
                if isinstance(part, ConditionalGenerator):
                    part.examples.copy_(examples)

    def on_fit_start(self) -> None:
        """As Scheme.on_fit_start."""
        data = getattr(self._trainer, "datamodule", None)
        if self.labels and isinstance(data, FaceData):
            self._labels = conditions.labels_of(data, self.labels).to(self.device)
        super().on_fit_start()

    @property
    def trained_by(self) -> str | None:
        """As Samples.trained_by."""
        return self.discriminator.extractor if isinstance(self.discriminator, ProjectedDiscriminator) else None

    def trained(self) -> list[nn.Module]:
        """Generator and discriminator."""
        return [self.generator, self.discriminator]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Generator first."""
        made = [optimizer_of(self.optimizer_g, self.generator), optimizer_of(self.optimizer_d, self.discriminator)]
        if self.beta2 is not None and not all("betas" in optimizer.defaults for optimizer in made):
            raise BadInput("model.beta2: must be null unless both optimisers are of Adam's kind, which have betas")
        return made

    def begin_batch(self) -> None:
        """As Scheme.begin_batch."""
        super().begin_batch()
        images = self.clock.images
        self.augmentation.begin(images)
        if self.beta2 is not None:
            for group in self._groups():
                group["betas"] = (group["betas"][0], at(self.beta2, images))

    def scheduled(self) -> dict[str, float]:
        """As Scheme.scheduled."""
        named = {
            "r1_gamma": self.r1_gamma,
            "r2_gamma": self.r2_gamma,
            "beta2": self.beta2,
            "ema_half_life": self.ema_half_life,
        }
        moving = {name: amount.at(self.clock.images) for name, amount in named.items() if isinstance(amount, Moving)}
        return {**super().scheduled(), **moving, **self.augmentation.moving(self.clock.images)}

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step: the discriminator and, if due, the generator."""
        self.begin_batch()
        real = batch["target"]
        position, images = self.positions(len(real)), len(real) * self.world
        step = self.clock.images // images
        generates = (step + 1) % self.discriminator_steps == 0
        parts = list(self.micro_batches(len(real)))
        self._told = self._labels_of(batch)
        with torch.set_grad_enabled(generates and self.reuse_fakes):
            fakes = [self._faces("z/discriminator", position, rows, shared=True) for rows in parts]
        fresh = generates and not self.reuse_fakes
        first = partial(self._faces, "z/generator", position, parts[0]) if fresh else None
        made = self._discriminator_step(real, fakes, position, step % self.penalty_every == 0, first)
        self.clock.images += images
        if generates:
            others = (self._faces("z/generator", position, rows) for rows in parts[1:])
            self._generator_step(real, fakes if made is None else chain([made], others), position)
            half_life = at(self.ema_half_life, self.clock.images)
            keep = ema.decay(images * self.discriminator_steps, self.clock.images, half_life, self.ema_ramp)
            ema.update(self.average, self.generator, keep)
            if self.powers is not None:
                self.powers.update(self.generator, images * self.discriminator_steps, self.clock.images)

    def _discriminator_step(
        self,
        real: Tensor,
        fakes: Sequence[Tensor],
        position: range,
        penalise: bool,
        meanwhile: Callable[[], Tensor] | None,
    ) -> Tensor | None:
        """The result of ``meanwhile``, which runs while ranks average their gradients."""
        self.discriminator.requires_grad_(True)
        parts = zip(self.micro_batches(len(real)), fakes, strict=True)
        losses = (self._discriminator_loss(real, fake.detach(), position, rows, penalise) for rows, fake in parts)
        _, optimizer = self.raw_optimizers()
        return self.step_optimizer(optimizer, losses, self.clip_norm, meanwhile)

    def _discriminator_loss(self, real: Tensor, fake: Tensor, position: range, rows: slice, penalise: bool) -> Tensor:
        judge = self._judge(rows)
        real_seen = self._seen(real[rows], "real", position, rows)
        fake_seen = self._seen(fake, "fake", position, rows)
        real_logits, fake_logits = judge(real_seen), judge(fake_seen)
        loss = discriminator_loss(self.objective, real_logits, fake_logits)
        self.means.add(**{"loss/discriminator": loss})
        self.means.keep("logits", real_logits, fake_logits)
        for name, weight, seen in (("r1", self.r1_gamma, real_seen), ("r2", self.r2_gamma, fake_seen)):
            gamma = self.gamma(weight, real) if penalise else 0.0
            if gamma:
                penalty = gradient_penalty(self._judge(rows, twice=True), seen)
                self.means.add(**{f"penalty/{name}": penalty})
                loss = loss + 0.5 * gamma * self.penalty_every * penalty
        return loss

    def gamma(self, weight: Amount | None, real: Tensor) -> float:
        """The weight of a penalty at this moment, for a batch (B, C, H, W) of this rank."""
        if weight is None:
            return GAMMA * real.shape[-2] * real.shape[-1] / (len(real) * self.world)
        return at(weight, self.clock.images)

    def _generator_step(self, real: Tensor, fakes: Iterable[Tensor], position: range) -> None:
        self.discriminator.requires_grad_(False)
        parts = zip(self.micro_batches(len(real)), fakes, strict=True)
        losses = (self._generator_loss(real, fake, position, rows) for rows, fake in parts)
        optimizer, _ = self.raw_optimizers()
        self.step_optimizer(optimizer, losses, self.clip_norm)
        self.clock.generator_steps += 1

    def _generator_loss(self, real: Tensor, fake: Tensor, position: range, rows: slice) -> Tensor:
        judge = self._judge(rows)
        fake_logits, real_logits = judge(self._seen(fake, "generator", position, rows)), None
        if self.paired:
            with torch.no_grad():
                real_logits = judge(self._seen(real[rows], "real", position, rows))
        loss = generator_loss(self.objective, fake_logits, real_logits)
        self.means.add(**{"loss/generator": loss})
        return loss

    def _labels_of(self, batch: Batch) -> Tensor | None:
        """The labels of a batch; all unknown where it is noise, which `faceforge bench` times."""
        if self.labels and self._labels is None:
            return torch.zeros(len(batch["target"]), len(self.labels), device=self.device)
        return None if self._labels is None else self._labels[batch["index"]]

    def _judge(self, rows: slice, twice: bool = False) -> Callable[[Tensor], Tensor]:
        """The discriminator of some rows of the batch, with their labels; not compiled if differentiated twice."""
        network = self.discriminator if twice else self.compiled(self.discriminator)
        return network if self._told is None else partial(network, labels=self._told[rows])

    def _faces(self, purpose: str, position: range, rows: slice, shared: bool = False) -> Tensor:
        """Faces generated for some rows of a batch, in [-1, 1] if the generator is bounded.

        ``shared``: for the steps of both networks.
        """
        network, z = self.compiled(self.generator), self._z(purpose, position, self._told)[rows]
        return out_of(self.generator, self.kept(network, z) if shared else network(z))

    def _seen(self, images: Tensor, purpose: str, position: range, rows: slice) -> Tensor:
        """The discriminator's input for some rows of a batch: augmented, in its own range."""
        return into(self.discriminator, self._augmented(images, purpose, position, rows))

    def _augmented(self, images: Tensor, purpose: str, position: range, rows: slice = slice(None)) -> Tensor:
        def uniforms(name: str, shape: tuple[int, ...]) -> Tensor:
            return self.noise(f"augment/{purpose}{name}", position, shape, "uniform")[rows]

        return self.augmentation(images, uniforms)

    def _z(self, purpose: str, counters: range | Tensor, labels: Tensor | None = None) -> Tensor:
        shape = self.generator.shape if isinstance(self.generator, ConditionalGenerator) else self.latent_shape
        noise = self.noise(purpose, counters, shape, self.latent)
        return noise if labels is None else with_labels(noise, labels)

    def _drawn(self, purpose: str, counters: Tensor) -> Tensor | None:
        """Labels as training faces have them, if there are any."""
        if not isinstance(self.average, ConditionalGenerator):
            return None
        return conditions.picked(self.average.examples, self.noise(f"{purpose}/labels", counters, (1,), "uniform"))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """As Samples.latent_shape."""
        return self.generator.latent_shape  # type: ignore[return-value]

    @property
    def latent(self) -> Kind:
        """As Samples.latent."""
        return self.generator.latent  # type: ignore[return-value]

    def draw(self, count: int, seed: int = 0, start: int = 0, truncation: float = 1.0) -> Tensor:
        """As Samples.draw."""
        purpose, counters = f"sample/{seed}", torch.arange(start, start + count)
        z = self._z(purpose, counters)
        middle = 0.5 if self.latent == "uniform" else 0.0
        z = z if truncation == 1.0 else middle + truncation * (z - middle)
        labels = self._drawn(purpose, counters)
        return z if labels is None else with_labels(z, labels)

    @torch.no_grad()
    def decode(self, z: Tensor, averaged: bool = True) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of z (N, ...): eval mode, averaged weights."""
        with self.evaluating(self.average if averaged else self.generator) as network:
            return out_of(network, network(z)).float().clamp(-1, 1)

    def sample(self, count: int, seed: int = 0, batch: int = 64, averaged: bool = True, start: int = 0) -> Tensor:
        """(count, C, H, W) in [-1, 1] on the CPU, for samples ``start ...`` of a seed.

        Sample i of a seed has the same z for any ``batch``.
        """
        end = start + count
        counts = {first: min(batch, end - first) for first in range(start, end, batch)}
        return torch.cat([self.decode(self.draw(n, seed, first), averaged).cpu() for first, n in counts.items()])

    def validate(self, data: FaceData) -> dict[str, float]:
        """A cheap KID and health figures of ``val_samples`` faces against as many validation faces (at least three)."""
        if min(self.val_samples, data.counts["val"]) < 3:
            return {}
        chosen = counter_rng.permutation(self.seed, "val/kid", 0, data.counts["val"])[: self.val_samples]
        real, fake = data.images("val", chosen), self.sample(self.val_samples)
        if self._score is None:
            self._score = KidMonitor(real.to(self.device), features=self.score_features().for_training())
        scores = {"val/kid": self._score(fake).value, **health.of_generated(fake, real)}
        if self.augmentation.adaptive:
            scores["val/overfitting"] = self._overfitting(data, real)
        return scores

    @torch.no_grad()
    def _overfitting(self, data: FaceData, held_out: Tensor) -> float:
        """As ``augmentation.overfitting``, of training faces, validation faces and faces of the generator, all
        augmented as in training.
        """
        count = len(held_out)
        chosen = counter_rng.permutation(self.seed, "val/overfitting", 0, data.counts["train"])[:count]
        sets = data.images("train", chosen), held_out, self.sample(count, averaged=False)
        with self.evaluating(self.discriminator) as judge:
            logits = [
                torch.cat([judge(into(judge, part)).flatten() for part in faces.split(data.batch_size)])
                for faces in (self._augmented(faces.to(self.device), "val", range(len(faces))) for faces in sets)
            ]
        return overfitting(*logits)

    def after_validation(self, scores: dict[str, float]) -> None:
        """Move the strength of the augmentation."""
        if self.augmentation.adaptive and "val/overfitting" in scores:
            self.augmentation.adaptive.follow(scores["val/overfitting"], self.clock.images)

    def store_beside(self, folder: Path) -> None:
        """As Scheme.store_beside."""
        if self.powers is not None and self.clock.images:
            self.powers.store(folder / FOLDER, self.clock.images)

    def on_save_checkpoint(self, checkpoint: Json) -> None:
        """As Scheme.on_save_checkpoint."""
        super().on_save_checkpoint(checkpoint)
        if self.augmentation.adaptive:
            checkpoint["augment"] = self.augmentation.adaptive.state_dict()

    def on_load_checkpoint(self, checkpoint: Json) -> None:
        """As Scheme.on_load_checkpoint."""
        super().on_load_checkpoint(checkpoint)
        if self.augmentation.adaptive and "augment" in checkpoint:
            self.augmentation.adaptive.load_state_dict(checkpoint["augment"])

    def pictures(self, data: FaceData) -> Tensor:
        """64 faces from fixed noise; with ``conditional``, the same faces without and with each attribute."""
        if not self.labels:
            return self.sample(64)
        return self.decode(conditions.with_and_without(self.draw(32), len(self.labels))).cpu()

    @torch.no_grad()
    def seen(self, data: FaceData) -> Tensor | None:
        """As Scheme.seen: 32 training faces above 32 generated ones, augmented."""
        self.augmentation.begin(self.clock.images)
        if not self.augmentation.active:
            return None
        count = min(32, data.counts["train"])
        chosen = counter_rng.permutation(self.seed, "seen", 0, data.counts["train"])[:count]
        sets = {"real": data.images("train", chosen), "fake": self.sample(count, averaged=False)}
        shown = [self._augmented(faces.to(self.device), name, range(count)) for name, faces in sets.items()]
        return torch.cat(shown).clamp(-1, 1).cpu()

    def networks(self, data: FaceData) -> dict[str, Example]:
        """Generator and discriminator with example inputs of batch 1."""
        labels = (torch.zeros(1, len(self.labels), device=self.device),) if self.labels else ()
        z = self._z("example", torch.zeros(1), *labels)
        with torch.no_grad():
            image = out_of(self.average, self.average(z))
        return {"generator": (self.average, (z,)), "discriminator": (self.discriminator, (image, *labels))}
