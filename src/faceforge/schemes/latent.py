"""Autoencoders with a short code: encoder, code and decoder trained together, to encode, decode, sample and edit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, distributed, nn

from faceforge import counter_rng
from faceforge.data.datamodule import Batch, FaceData
from faceforge.errors import BadInput
from faceforge.losses import Unpaired, discriminator_loss, generator_loss, gradient_penalty, kl_loss, kl_units
from faceforge.metrics import health
from faceforge.metrics.linear import leading_components
from faceforge.networks.principal import Principal
from faceforge.schedules import Amount
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.base import BATCH_NORM, Best, Example, Optimizer, Say, optimizer_of
from faceforge.schemes.early_stopping import Stop
from faceforge.schemes.inversion import nearer
from faceforge.schemes.latent_space import SPACE, LatentSpace
from faceforge.schemes.reconstruction import ReconstructionModule
from faceforge.schemes.running_means import RunningMeans
from faceforge.schemes.scales import SIGNED, UNIT, Span, into, out_of
from faceforge.schemes.supervised import COMPARED, SHOWN, AnySchedule

Code = Tensor | tuple[Tensor, Tensor]
Reduction = Literal["value", "face"]
ADVERSARIAL: Unpaired = "non_saturating"
FITTED = 10_000  # maximum of training faces for principal components
CHUNK = 512  # of them in memory at a time


class LatentModule(ReconstructionModule, Encodes):
    """An autoencoder; with a Gaussian code a VAE (Kingma and Welling 2014, arXiv 1312.6114).

    ``code(features=...)`` builds the layer between ``encoder.features`` and the decoder: it returns z, or mean and log
    variance of a posterior from which z is drawn in training (eq. 4). Then ``kl_weight`` times the KL divergence from
    N(0, 1), summed over units with a floor of ``free_nats`` each, is added to the ``loss``, a mean over the values of
    a face in [0, 1]. ``reduction`` = value divides the divergence by the number of values, like the loss; face
    multiplies the loss by it instead, so that both are sums over one face and, with weight 1 and a loss that is a
    negative log likelihood, add up to the negative ELBO. The two differ only by that constant factor. The weight rises
    from 0 over the first ``kl_anneal`` images (Bowman et al. 2016, arXiv 1511.06349). After ``freeze_statistics``
    images, batch norm statistics are frozen.

    A ``discriminator`` of single images makes faces sharp: after ``adversarial_from`` images each step is followed by
    one of the discriminator, and ``adversarial_weight`` times the non-saturating loss is added for reconstructions
    (VQGAN, Esser et al. 2021, arXiv 2012.09841); for faces of codes from N(0, 1), ``sampled_weight`` times as much
    (VAE/GAN, Larsen et al. 2016, arXiv 1512.09300). ``r1_gamma`` is as in AdversarialModule. ``best`` then follows
    val/loss, since mean errors are least for blurred faces.
    """

    monitor, optimized = ReconstructionModule.monitor, ReconstructionModule.optimized

    def __init__(
        self,
        encoder: nn.Module,
        code: Callable[..., nn.Module],
        decoder: nn.Module,
        optimizer: Optimizer,
        loss: nn.Module,
        kl_weight: float,
        kl_anneal: int,
        free_nats: float,
        reduction: Reduction,
        freeze_statistics: int | None,
        schedule: AnySchedule | None,
        stop: Stop | None,
        clip_norm: float | None,
        ema_half_life: Amount,
        ema_ramp: float | None,
        seed: int,
        discriminator: nn.Module | None = None,
        optimizer_d: Optimizer | None = None,
        adversarial_weight: float = 0.0,
        sampled_weight: float = 0.0,
        adversarial_from: int = 0,
        r1_gamma: float = 0.0,
        penalty_every: int = 8,
    ) -> None:
        if reduction not in get_args(Reduction):
            raise BadInput(f"model.reduction={reduction}: must be value or face")
        if min(kl_weight, kl_anneal, free_nats) < 0:
            found = f"model.kl_weight={kl_weight}, kl_anneal={kl_anneal}, free_nats={free_nats}"
            raise BadInput(f"{found}: must all be at least 0")
        network = nn.ModuleDict({"encoder": encoder, "code": code(features=encoder.features), "decoder": decoder})
        super().__init__(network, optimizer, loss, schedule, stop, clip_norm, ema_half_life, ema_ramp, seed)
        self.kl_weight, self.kl_anneal, self.free_nats = kl_weight, kl_anneal, free_nats
        self.reduction, self.freeze_statistics = reduction, freeze_statistics
        self.discriminator, self.optimizer_d = discriminator, optimizer_d
        self.adversarial_weight, self.sampled_weight = adversarial_weight, sampled_weight
        self.adversarial_from, self.r1_gamma, self.penalty_every = adversarial_from, r1_gamma, penalty_every
        if discriminator is not None:
            self._prepare_judge()

    def _prepare_judge(self) -> None:
        if self.optimizer_d is None:
            raise BadInput("model.optimizer_d: null; must be an optimiser, for model.discriminator")
        if self.penalty_every < 1:
            raise BadInput(f"model.penalty_every={self.penalty_every}: must be at least 1")
        if self.sampled_weight and self.code_range:
            raise BadInput(f"model.sampled_weight={self.sampled_weight:g}: must be 0 with a code that has a range")
        self.period = self.penalty_every if self.r1_gamma else 1
        self.monitor, self.optimized = ("val/loss", "min"), ("network", "discriminator")
        self.means = RunningMeans(logits=partial(health.of_discriminator, ADVERSARIAL))

    def divide(self, parts: int) -> None:
        """As Scheme.divide; ``free_nats`` bound the mean divergence of the whole batch."""
        if parts > 1 and self.free_nats:
            found = f"trainer.accumulate={parts}: model.free_nats={self.free_nats:g} compares means of the whole batch"
            raise BadInput(f"{found}; free_nats must be 0 or accumulate 1")
        super().divide(parts)

    def prepare(self, data: FaceData) -> None:
        """As Scheme.prepare: principal components of at most ``FITTED`` training faces, mirrored too if they are in
        training. Kept are those of ``init_from``.
        """
        parts = [part for part in self.modules() if isinstance(part, Principal) and not part.assigned]
        if not parts:
            return
        if not self.global_rank:
            chosen = np.sort(counter_rng.permutation(self.seed, "principal", 0, data.counts["train"])[:FITTED])
            chunks = [chosen[n : n + CHUNK] for n in range(0, len(chosen), CHUNK)]
            count = max(len(part.directions) for part in parts)
            found = leading_components(lambda: (data.images("train", chunk) for chunk in chunks), count, data.flip)
            for part in parts:
                part.assign(*found)
        for value in (value for part in parts for value in part.state_dict().values()):
            if self.world > 1:
                distributed.broadcast(value, 0)

    @property
    def latent_size(self) -> int:
        """As Encodes.latent_size."""
        return _part(self.average, "code").latent_size  # type: ignore[return-value]

    @property
    def code_range(self) -> Span | None:
        """As Encodes.code_range."""
        return getattr(_part(self.average, "code"), "output_range", None)

    @property
    def has_prior(self) -> bool:
        """As Encodes.has_prior: a posterior with a divergence from N(0, 1) in the loss."""
        encoder, code = _part(self.average, "encoder"), _part(self.average, "code")
        with torch.no_grad(), self.evaluating(code):
            made = code(torch.zeros(1, encoder.features, device=self.device))  # type: ignore[arg-type]
        return self.kl_weight > 0 and not isinstance(made, Tensor)

    def trained(self) -> list[nn.Module]:
        """Encoder, code and decoder, and the discriminator."""
        return [*self.network.children(), *([] if self.discriminator is None else [self.discriminator])]

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        """One optimiser for the networks, then that of the discriminator."""
        own = self.planned(optimizer_of(self.optimizer, self.network))
        return (
            [own, optimizer_of(self.optimizer_d, self.discriminator)]
            if self.discriminator and self.optimizer_d
            else own
        )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One training step; with a discriminator, followed by one of its own on the same faces."""
        if self.discriminator is None:
            super().training_step(batch, batch_idx)
            return
        self.discriminator.requires_grad_(False)
        images, penalise = self.clock.images, self.clock.generator_steps % self.penalty_every == 0
        self._made: list[Tensor] = []
        super().training_step(batch, batch_idx)
        if images < self.adversarial_from:
            return
        self.discriminator.requires_grad_(True)
        parts = zip(self.micro_batches(len(batch["target"])), self._made, strict=True)
        losses = (self._discriminator_loss(batch["target"][rows], made, penalise) for rows, made in parts)
        self.step_optimizer(self.raw_optimizers()[1], losses, self.clip_norm)

    @property
    def _judge(self) -> nn.Module:
        assert self.discriminator is not None
        return self.discriminator

    def _judged(self, images: Tensor) -> Tensor:
        """Logits of images in [-1, 1]."""
        return self.compiled(self._judge)(into(self._judge, images))

    def _discriminator_loss(self, real: Tensor, made: Tensor, penalise: bool) -> Tensor:
        real_logits, fake_logits = self._judged(real), self._judged(made)
        loss = discriminator_loss(ADVERSARIAL, real_logits, fake_logits)
        self.means.add(**{"loss/discriminator": loss})
        self.means.keep("logits", real_logits.flatten(), fake_logits.flatten())
        if penalise and self.r1_gamma:
            judge = self._judge  # not compiled: it is differentiated twice
            penalty = gradient_penalty(lambda x: judge(x).flatten(1).mean(1), into(judge, real))
            self.means.add(**{"penalty/r1": penalty})
            loss = loss + 0.5 * self.r1_gamma * self.penalty_every * penalty
        return loss

    def _adversarial(self, made: Tensor, batch: Batch, rows: slice) -> Tensor:
        """The discriminator's part of the loss, and what it is to judge after the step."""
        weight = self.adversarial_weight
        faces = [(weight, 2 * made - 1)]
        if self.sampled_weight:
            z = self.noise("sampled", self.positions(len(batch["target"])), (self.latent_size,))[rows]
            faces.append((weight * self.sampled_weight, self._decoded(self.network, z, SIGNED)))
        self._made.append(torch.cat([made.detach() for _, made in faces]))
        losses = [weight * generator_loss(ADVERSARIAL, self._judged(made)) for weight, made in faces]
        total = torch.stack(losses).sum()
        self.means.add(**{"loss/generator": total})
        return total

    def objective(self, batch: Batch, rows: slice = slice(None)) -> Tensor:
        """As ReconstructionModule.objective."""
        inputs, targets = batch["input"][rows], batch["target"][rows]
        if self.freeze_statistics is not None and self.clock.images >= self.freeze_statistics:
            for norm in (module for module in self.network.modules() if isinstance(module, BATCH_NORM)):
                norm.eval()
        code = self._code(self.network, inputs)
        if isinstance(code, Tensor):
            z = code
        else:
            mean, log_variance = code
            noise = self.noise("posterior", self.positions(len(batch["input"])), (mean.shape[1],))[rows]
            z = mean + (0.5 * log_variance).exp() * noise
        made = self._decoded(self.network, z, UNIT)
        loss = self.loss(made, (targets + 1) / 2)
        self.means.add(**{"loss/train": loss})
        if self.discriminator is not None and self.clock.images >= self.adversarial_from:
            loss = loss + self._adversarial(made, batch, rows)
        if isinstance(code, Tensor):
            return loss
        units = kl_units(*code)
        self.means.add(**{"loss/kl": units.sum()})
        return self._weighed(loss, kl_loss(units, self.free_nats), values=targets[0].numel())

    def _weighed(self, loss: Tensor, divergence: Tensor, values: int) -> Tensor:
        grown = min(1.0, self.clock.images / self.kl_anneal) if self.kl_anneal else 1.0
        weighed = loss + self.kl_weight * grown * divergence / values
        return weighed * values if self.reduction == "face" else weighed

    def _code(self, network: nn.Module, images: Tensor) -> Code:
        encoder, code = _part(network, "encoder"), _part(network, "code")
        return code(self.compiled(encoder)(into(encoder, images)))

    def _decoded(self, network: nn.Module, z: Tensor, span: Span) -> Tensor:
        decoder = _part(network, "decoder")
        return out_of(decoder, self.compiled(decoder)(z), span)

    def _outputs(self, network: nn.Module, inputs: Tensor, span: Span) -> Tensor:
        code = self._code(network, inputs)
        return self._decoded(network, code if isinstance(code, Tensor) else code[0], span)

    @torch.no_grad()
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and log variance (N, Z) of the codes of images (N, C, H, W) in [-1, 1]; None if deterministic."""
        with self.evaluating(self.average) as network:
            code = self._code(network, images)
        return None if isinstance(code, Tensor) else (code[0].float(), code[1].float())

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes (N, Z) of images (N, C, H, W) in [-1, 1]; for a posterior, its mean."""
        with self.evaluating(self.average) as network:
            code = self._code(network, images)
        return (code if isinstance(code, Tensor) else code[0]).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] of codes (N, Z)."""
        with self.evaluating(self.average) as network:
            return self._decoded(network, z, SIGNED).float().clamp(-1, 1)

    def invert(self, images: Tensor, steps: int) -> Tensor:
        """As Encodes.invert, by ``inversion.nearer``."""
        with self.evaluating(self.average) as network:
            decode = partial(self._decoded, network, span=UNIT)
            return nearer(images, self.encode(images), decode, steps, self.code_range)

    def validate(self, data: FaceData) -> dict[str, float]:
        """As PairedScheme.validate, plus the number of active units."""
        scores = super().validate(data)
        if not scores:
            return {}
        images = data.images("val", range(min(data.counts["val"], COMPARED))).to(self.device)
        mean, log_variance = self.posterior(images) or (self.encode(images), None)
        return {**scores, **health.of_codes(mean.cpu(), None if log_variance is None else log_variance.cpu())}

    def on_run_end(self, data: FaceData, folder: Path, best: Best, say: Say = lambda text: None) -> str | None:
        """Write ``latent.safetensors`` of the best checkpoint, whose weights the module then has."""
        weights, digest = best()
        self.load_state_dict(weights)
        space = LatentSpace.fit(self, data, digest, self.seed, say)
        space.save(folder / SPACE)
        return space.left_out

    def pictures(self, data: FaceData) -> Tensor:
        """Rows of eight: faces, reconstructions, and faces from random codes: N(0, 1) if that is the prior, U[0, 1) if
        codes have a range, else normal numbers with the mean and deviations of the codes of validation faces.
        """
        rows = super().pictures(data)
        shown = len(rows) // 3
        kind = "normal" if self.code_range is None else "uniform"
        z = self.noise("pictures", torch.arange(SHOWN), (self.latent_size,), kind)
        count = min(data.counts["val"], COMPARED)
        if self.code_range is None and not self.has_prior and count > 1:
            codes = self.encode(data.images("val", range(count)).to(self.device))
            z = codes.mean(0) + codes.std(0) * z
        return torch.cat([rows[: 2 * shown], self.decode(z).cpu()])

    def networks(self, data: FaceData) -> dict[str, Example]:
        """Encoder, code and decoder with examples of batch 1."""
        encoder, code, decoder = (_part(self.average, name) for name in ("encoder", "code", "decoder"))
        judge: dict[str, Example] = {}
        if self.discriminator is not None:
            judge["discriminator"] = (self.discriminator, (data.images("train", [0]),))
        return judge | {
            "encoder": (encoder, (data.pairs("train", [0])["input"],)),
            "code": (code, (torch.zeros(1, encoder.features),)),  # type: ignore[arg-type]
            "decoder": (decoder, (torch.zeros(1, self.latent_size),)),
        }


def _part(network: nn.Module, name: str) -> nn.Module:
    return network[name]  # type: ignore[index]
