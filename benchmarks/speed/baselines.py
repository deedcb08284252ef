"""What measure.py compares with: plain PyTorch, Lightning, torchvision and Pillow as they are usually written.

All run on as many threads as the process that calls them has; measure.py sets one (``torch.set_num_threads(1)``,
OpenCV and Pillow have one of their own). None is slowed down on purpose: the bare loops also freeze the discriminator
in the generator's step, leave gradients as None and ask for no number.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from faceforge.losses import discriminator_loss, generator_loss, gradient_penalty, kl_loss, kl_units
from faceforge.schemes.adversarial import AdversarialModule
from faceforge.schemes.latent import LatentModule
from faceforge.schemes.reconstruction import ReconstructionModule
from faceforge.schemes.scales import into, out_of, rescale
from faceforge.schemes.translation import TranslationModule

UNIT = (-1.0, 1.0)
Step = Callable[[int], None]
Optimizer = torch.optim.Optimizer


def advance(optimizer: Optimizer, loss: Tensor) -> None:
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


# ---------------------------------------------------------------------------------------- bare loops of our schemes


def gan(module: AdversarialModule, batch: dict[str, Tensor]) -> Step:
    """The step of an adversarial module, its z from torch's generator: no averaging, no figures, no clock."""
    own, real = copy.deepcopy(module), batch["target"]
    generator, discriminator = own.generator, own.discriminator
    g, d = own.configure_optimizers()
    draw = torch.rand if generator.latent == "uniform" else torch.randn
    relativistic = own.objective == "relativistic"
    seen = rescale(real, UNIT, discriminator.input_range)  # type: ignore[arg-type]

    def fake() -> Tensor:
        made = generator(draw(len(real), *generator.latent_shape, device=real.device))  # type: ignore[misc]
        whole = rescale(made, generator.output_range, UNIT)  # type: ignore[arg-type]
        return rescale(whole, UNIT, discriminator.input_range)  # type: ignore[arg-type]

    def step(number: int) -> None:
        discriminator.requires_grad_(True)
        with torch.no_grad():
            made = fake()
        loss = discriminator_loss(own.objective, discriminator(seen), discriminator(made))
        if number % own.penalty_every == 0:
            for weight, images in ((own.r1_gamma, seen), (own.r2_gamma, made)):
                if gamma := own.gamma(weight, real):
                    loss = loss + 0.5 * gamma * own.penalty_every * gradient_penalty(discriminator, images)
        advance(d, loss)
        discriminator.requires_grad_(False)
        logits = discriminator(fake())
        with torch.no_grad():
            others = discriminator(seen) if relativistic else None
        advance(g, generator_loss(own.objective, logits, others))

    return step


def translation(module: TranslationModule, batch: dict[str, Tensor]) -> Step:
    """The step of a translation module."""
    own, source, target = copy.deepcopy(module), batch["input"], batch["target"]
    g, d = own.configure_optimizers()

    def step(number: int) -> None:
        made = out_of(own.generator, own.generator(into(own.generator, source)))
        if not own.adversarial_weight:
            advance(g, own.loss_weight * own.loss((made + 1) / 2, (target + 1) / 2))
            return
        own.discriminator.requires_grad_(True)
        shown, right, wrong = (into(own.discriminator, images) for images in (source, target, made))
        real, fake = own.discriminator(shown, right), own.discriminator(shown, wrong.detach())
        advance(d, own.discriminator_weight * discriminator_loss(own.objective, real, fake))
        own.discriminator.requires_grad_(False)
        adversarial = generator_loss(own.objective, own.discriminator(shown, wrong))
        error = own.loss((made + 1) / 2, (target + 1) / 2)
        advance(g, own.adversarial_weight * adversarial + own.loss_weight * error)

    return step


def reconstruction(module: ReconstructionModule, batch: dict[str, Tensor]) -> Step:
    """The step of a reconstruction module."""
    own = copy.deepcopy(module)
    source = rescale(batch["input"], UNIT, own.network.input_range)  # type: ignore[arg-type]
    target, optimizer = (batch["target"] + 1) / 2, own.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)

    def step(number: int) -> None:
        made = rescale(own.network(source), own.network.output_range, (0.0, 1.0))  # type: ignore[arg-type]
        advance(optimizer, own.loss(made, target))

    return step


def latent(module: LatentModule, batch: dict[str, Tensor]) -> Step:
    """The step of an autoencoder of codes, its noise from torch's generator."""
    own = copy.deepcopy(module)
    encoder, code, decoder = (own.network[name] for name in ("encoder", "code", "decoder"))  # type: ignore[index]
    source, target = rescale(batch["input"], UNIT, encoder.input_range), (batch["target"] + 1) / 2
    optimizer = own.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer), "with a discriminator a step is not one loss"

    def step(number: int) -> None:
        found = code(encoder(source))
        plain = isinstance(found, Tensor)
        z = found if plain else found[0] + (0.5 * found[1]).exp() * torch.randn_like(found[0])
        loss = own.loss(rescale(decoder(z), decoder.output_range, (0.0, 1.0)), target)
        if not plain:
            loss = own._weighed(loss, kl_loss(kl_units(*found), own.free_nats), target[0].numel())
        advance(optimizer, loss)

    return step


# ---------------------------------------------------------------------------------------------- two-layer toy networks


class ToyGenerator(nn.Module):
    latent, latent_shape, output_range = "normal", (16,), UNIT

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 192), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, (3, 8, 8))


class ToyDiscriminator(nn.Module):
    input_range = UNIT

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten()


class ToyAutoencoder(nn.Module):
    input_range = output_range = UNIT

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 192))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).unflatten(1, (3, 8, 8))


# -------------------------------------------------------------------------------------------------- Lightning's idiom


class IdiomGan(pl.LightningModule):
    """A GAN as Lightning's documentation writes it: toggled optimisers, four logged values a step, a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = ToyGenerator(), ToyDiscriminator()

    def configure_optimizers(self) -> list[Optimizer]:
        return [torch.optim.Adam(net.parameters(), 1e-3, fused=True) for net in (self.generator, self.discriminator)]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        g, d = self.optimizers()  # type: ignore[misc]
        self.toggle_optimizer(d)
        fake = self.generator(torch.randn(len(real), 16)).detach()
        real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
        d_loss = discriminator_loss("non_saturating", real_logits, fake_logits)
        self._advance(d, d_loss)
        self.toggle_optimizer(g)
        g_loss = generator_loss("non_saturating", self.discriminator(self.generator(torch.randn(len(real), 16))))
        self._advance(g, g_loss)
        self.log("d_loss", d_loss, prog_bar=True)
        self.log("g_loss", g_loss, prog_bar=True)
        self.log("real", real_logits.mean())
        self.log("fake", fake_logits.mean())

    def _advance(self, optimizer: Any, loss: Tensor) -> None:
        self.manual_backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        self.untoggle_optimizer(optimizer)


class IdiomAutoencoder(pl.LightningModule):
    """An autoencoder under automatic optimisation, four logged values a step, a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ToyAutoencoder()

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.network.parameters(), 1e-3, fused=True)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (images,) = batch
        made = self.network(images)
        loss = nn.functional.mse_loss(made, images)
        self.log("loss", loss, prog_bar=True)
        self.log("mae", (made - images).abs().mean(), prog_bar=True)
        self.log("mean", made.mean())
        self.log("std", made.std())
        return loss


def fit_idiom(module: pl.LightningModule, images: Tensor, batch: int, steps: int, callbacks: list[Any]) -> None:
    """As many steps of Lightning's trainer with its bar (into memory) and no logger's files."""
    epochs = -(-steps // (len(images) // batch))
    loader = DataLoader(TensorDataset(images), batch, shuffle=True, drop_last=True)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        pl.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            max_steps=-1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=callbacks,
        ).fit(module, loader)


# ------------------------------------------------------------------------------------------------- the taught DCGAN


def tutorial(
    generator: nn.Module, discriminator: nn.Module, real: Tensor, z: Tensor
) -> Callable[[], tuple[float, ...]]:
    """A step of the widely taught DCGAN loop; returns both losses, read each time as the loop does."""
    generator, discriminator = copy.deepcopy(generator), copy.deepcopy(discriminator)
    criterion = nn.BCEWithLogitsLoss()
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step() -> tuple[float, ...]:
        discriminator.zero_grad()
        label = torch.full((len(real),), 1.0)
        error_real = criterion(discriminator(real), label)
        error_real.backward()
        fake = generator(z)
        error_fake = criterion(discriminator(fake.detach()), label.fill_(0.0))
        error_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        error = criterion(discriminator(fake), label.fill_(1.0))
        error.backward()
        optimizer_g.step()
        return (error_real + error_fake).item(), error.item()

    return step


# ----------------------------------------------------------------------------------------------------- feeding, packing


def feed(folder: Path, size: int, batch: int) -> Iterator[Tensor]:
    """Per-sample torchvision: ImageFolder, resize, crop, flip, to tensor, normalise; DataLoader in this process."""
    recipe = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.5,) * 3, (0.5,) * 3),
    ]
    loader = DataLoader(ImageFolder(str(folder), transforms.Compose(recipe)), batch, shuffle=True, drop_last=True)
    while True:
        for images, _ in loader:
            yield images


def pil_pack(folder: Path, size: int) -> np.ndarray:
    """Open, crop the centred square, resize with Pillow's antialiased bicubic: uint8 (N, 3, size, size)."""
    faces = []
    for path in sorted(folder.rglob("*.jpg")):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        faces.append(np.asarray(image).transpose(2, 0, 1))
    return np.stack(faces)
