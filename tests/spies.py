"""Networks and an optimiser that write down what they see, for trainings whose processes a test cannot look into."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from faceforge.schemes.adversarial import AdversarialModule


def _note(kind: str, value: object) -> None:
    """The next ``kind`` of this rank."""
    folder = Path(os.environ["FACEFORGE_SPY"])
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    number = len(list(folder.glob(f"{kind}-{rank}-*.pt")))
    torch.save(value, folder / f"{kind}-{rank}-{number}.pt")


class Generator(nn.Module):
    """Without batch statistics, in double precision."""

    latent_shape, latent, output_range = (3,), "normal", (-1.0, 1.0)

    def __init__(self, size: int, channels: int, **_: object) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.layer = nn.Linear(3, channels * size * size).double()

    def forward(self, z: Tensor) -> Tensor:
        """Images."""
        if self.training and z.requires_grad is False:
            _note("z", z.detach().clone())
        return torch.tanh(self.layer(z.double())).view(len(z), *self.shape)


class Discriminator(nn.Module):
    """The same; from the image ``FACEFORGE_SPY_NAN`` on, rank 1 says NaN."""

    input_range = (-1.0, 1.0)

    def __init__(self, size: int, channels: int, **_: object) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 4), nn.Tanh(), nn.Linear(4, 1))
        self.layers.double()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 1)."""
        if self.training:
            _note("seen", images.detach().clone())
        return self.layers(images.double())


class Sgd(torch.optim.SGD):
    """Notes the gradients of its first steps."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step."""
        _note("threads", torch.get_num_threads())
        _note("gradient", [p.grad.clone() for group in self.param_groups for p in group["params"]])
        super().step(closure)


def hang() -> None:
    """Never returns, as a fault in foreign code: a lock that is taken twice. No handler of Python runs meanwhile."""
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)


class StuckRank(AdversarialModule):
    """Rank 1 hangs at the step after 20 images."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step."""
        if self.global_rank == 1 and self.clock.images >= 20:
            hang()
        super().training_step(batch, batch_idx)


class NanOnce(AdversarialModule):
    """After 20 images a weight of rank 1 becomes NaN; once, if FACEFORGE_SPY names a folder."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """One step."""
        super().training_step(batch, batch_idx)
        mark = Path(os.environ["FACEFORGE_SPY"], "nan")
        if self.global_rank == 1 and self.clock.images >= 20 and not mark.exists():
            mark.touch()
            next(self.parameters()).data.fill_(float("nan"))
