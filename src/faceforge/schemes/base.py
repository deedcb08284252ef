"""What every training scheme shares: the clock, keyed randomness, a step of an optimiser, checkpoint contents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceforge import counter_rng, counter_rng_torch
from faceforge.clock import Clock
from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.metrics.features import Extractor, Features
from faceforge.networks.recompute import recomputed, rewind, snapshot
from faceforge.schedules import RateSchedule
from faceforge.schemes.batch_statistics import release, synchronise
from faceforge.schemes.exchange import Exchange
from faceforge.schemes.running_means import RunningMeans
from faceforge.types import Json

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Best = Callable[[], tuple[Mapping[str, Tensor], str]]
Say = Callable[[str], None]
Kind = Literal["normal", "uniform"]  # of noise: N(0, 1) or U[0, 1)
Example = tuple[nn.Module, tuple[Tensor, ...]]  # a network, and one of each of its inputs


class Scheme(pl.LightningModule):
    """Base of the LightningModules, one for each training scheme. ``clock.images`` is moved by ``training_step``.

    ``average`` is the averaged copy of the networks that are used after training.
    """

    monitor: tuple[str, str]  # the metric that `best` follows, and its mode: min or max
    shows: ClassVar[str] = "generated"  # content of its grids; "real-derived" is not uploaded by default
    average: nn.Module
    optimized: tuple[str, ...] = ("network",)  # by each optimiser
    period = 1  # batches after which the cost of steps repeats

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seed = seed
        self.clock = Clock()
        self.means = RunningMeans()
        self.config: Json = {}
        self.framing: Sequence[float] | None = None  # of the training faces (cut/framing.py); None in older runs
        self.end: str | None = None  # why the run stopped before its limits
        self.tell: Callable[[str], None] = _tell_nobody  # reports this rank's phase to the watchdog
        self.score_features: Callable[[], Extractor] = Features  # makes the extractor of val/kid
        self.compiles = False
        self.syncs_statistics = False
        self.accumulate = 1  # micro-batches of a batch; set by ``divide``
        self.rates: RateSchedule | None = None  # of all optimisers
        self.exchange = Exchange()
        self.lean = True  # no Lightning hooks around backward passes and optimiser steps
        self._compiled: dict[nn.Module, nn.Module] = {}
        self._ahead: dict[tuple[str, tuple[int, ...], str, torch.device], counter_rng.BatchedDraws] = {}

    @property
    def world(self) -> int:
        """The number of ranks that share a batch."""
        return self._trainer.world_size if self._trainer else 1

    @property
    def rates_move(self) -> bool:
        """Whether learning rates follow a schedule."""
        return self.rates is not None

    def trained(self) -> list[nn.Module]:
        """The networks that a step runs; each can be compiled separately."""
        raise NotImplementedError

    def check_data(self, data: FaceData) -> None:
        """Raise BadInput if the faces, which are packed and split by now, lack what the training needs."""

    def fitting(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights of another run (``init_from``), named as this module names them."""
        return weights

    def prepare(self, data: FaceData) -> None:
        """Set weights that are computed from the training faces, equally on all ranks. Called once, before the first
        step of a new run: they are in its first checkpoint.
        """

    def on_fit_start(self) -> None:
        """Prepare a new run. Compile and synchronise batch norm, if requested; only networks in training do either."""
        self.means.to(self.device)
        data = getattr(self._trainer, "datamodule", None)
        if not self.clock.images and isinstance(data, FaceData):
            self.prepare(data)
        if self.syncs_statistics and self.world > 1:
            synchronise(self.trained())
        if self.compiles:
            self._compiled = {network: torch.compile(network) for network in self.trained()}  # type: ignore[misc]

    def on_fit_end(self) -> None:
        """Drop the compiled networks; each process normalises alone again."""
        self._compiled = {}
        release(self.trained())

    def compiled(self, network: nn.Module) -> nn.Module:
        """A network, compiled if requested. Not for networks that are differentiated twice."""
        return self._compiled.get(network, network)

    def divide(self, parts: int) -> None:
        """Compute the gradients of each batch in ``parts`` equal micro-batches. Raises BadInput if a loss forbids it:
        the mean of the micro-batches' losses must be the loss of the batch.
        """
        self.accumulate = parts

    def micro_batches(self, count: int) -> Iterator[slice]:
        """The rows of each micro-batch of a batch of ``count`` images. All find the buffers of the networks (spectral
        norm's vectors) as the first does; only batch norm's running statistics move with each.
        """
        size = count // self.accumulate
        before = snapshot(*self.trained(), but=BATCH_NORM) if self.accumulate > 1 else []
        for first in range(0, size * self.accumulate, size):
            if first:
                rewind(before)
            yield slice(first, first + size)

    def kept(self, network: nn.Module, *inputs: Tensor) -> Tensor:
        """Outputs that two optimiser steps use. Of micro-batches only the outputs are kept, not how they were made."""
        return network(*inputs) if self.accumulate == 1 else recomputed(network, *inputs)

    def begin_batch(self) -> None:
        """Set what follows from the clock: learning rates, and the seed of torch's generators, another on each rank."""
        if self.rates is not None:
            factor = self.rates.factor(self.clock.images)
            for group in self._groups():
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        seed = counter_rng.key(self.seed, "torch", self.clock.images, self.global_rank) >> 1
        counter_rng_torch.seed(self.device, seed)

    def _groups(self) -> Iterator[Json]:
        return (group for optimizer in self.raw_optimizers() for group in optimizer.param_groups)

    def scheduled(self) -> dict[str, float]:
        """The present values of all that follows a schedule, for the logs."""
        if not self.rates_move:
            return {}
        rates = [optimizer.param_groups[0]["lr"] for optimizer in self.raw_optimizers()]
        return {f"learning_rate/{name}": rate for name, rate in zip(self.optimized, rates, strict=True)}

    def positions(self, count: int) -> range:
        """Clock positions of this rank's ``count`` images: batch["position"], without synchronising with the device."""
        first = self.clock.images + self.global_rank * count
        return range(first, first + count)

    def noise(self, purpose: str, counters: range | Tensor, shape: tuple[int, ...], kind: Kind = "normal") -> Tensor:
        """(N, *shape) float32 noise, a function of each counter alone: N(0, 1) or, for ``uniform``, U[0, 1).

        Computed on the device, so that the host's work does not grow with resolution; normal numbers may differ from
        the CPU's by one unit in the last place.
        """
        there = self.device.type != "cpu" and counter_rng_torch.exact(self.device)
        draw = partial(_noise_there if there else _noise, self.seed, purpose, shape, kind)
        if isinstance(counters, range):
            key = purpose, shape, kind, self.device
            if key not in self._ahead:
                options = (partial(counter_rng_torch.counters, self.device),) if there else ()
                self._ahead[key] = counter_rng.BatchedDraws(draw, *options)
            drawn = self._ahead[key](counters)
        else:
            drawn = draw(counters.to(self.device) if there else counters.cpu().numpy())
        return drawn if isinstance(drawn, Tensor) else torch.from_numpy(drawn).to(self.device)

    def raw_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimisers without Lightning's wrappers."""
        found = self.optimizers(use_pl_optimizer=False)
        return found if isinstance(found, list) else [found]  # type: ignore[list-item, return-value]

    def step_optimizer(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor | Iterable[Tensor],
        clip_norm: float | None,
        meanwhile: Callable[[], Tensor] | None = None,
    ) -> Tensor | None:
        """Backward, unscale, clip, step, and clear the gradients.

        ``loss`` is that of the batch, or yields that of each micro-batch in turn: the gradient is that of their mean.
        While ranks average their gradients they run ``meanwhile``, whose result is returned: a part of this step that
        needs neither these gradients nor the weights that they change. Optimisers and scaler are called directly:
        Lightning does not clip under manual optimisation, and its wrapper would unscale a second time.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        for share in self._shares(loss):
            if scaler is None and self.lean:
                share.backward()  # Lightning's own call costs the host as much again
            else:
                self.manual_backward(share)
        made = self._exchange(optimizer, meanwhile)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip_norm)
        if not self.lean:
            self._call_hooks("on_before_optimizer_step", optimizer)
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        if not self.lean:
            self._call_hooks("on_before_zero_grad", optimizer)
        optimizer.zero_grad(set_to_none=True)
        return made

    def _shares(self, loss: Tensor | Iterable[Tensor]) -> Iterator[Tensor]:
        """What each micro-batch adds to the loss of its batch."""
        if self.accumulate == 1:
            yield from (loss,) if isinstance(loss, Tensor) else loss
        elif isinstance(loss, Tensor):
            raise BadInput(
                f"trainer.accumulate={self.accumulate}: {type(self).__name__} computes one loss for the whole batch; "
                "it must give step_optimizer the loss of each micro-batch, or trainer.accumulate must be 1"
            )
        else:
            yield from (part / self.accumulate for part in loss)

    def _exchange(self, optimizer: torch.optim.Optimizer, meanwhile: Callable[[], Tensor] | None) -> Tensor | None:
        """Average gradients over ranks. The result of ``meanwhile``, which runs while they travel."""
        receive = self.exchange.start(optimizer, () if meanwhile else self.trained()) if self.world > 1 else None
        made = meanwhile() if meanwhile else None
        if receive:
            self.tell("waiting")
            receive()
            self.tell("training")
        return made

    def _call_hooks(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """The hooks that Lightning calls itself when it steps the optimisers."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            getattr(callback, name)(self.trainer, self, optimizer)
        getattr(self, name)(optimizer)

    def on_save_checkpoint(self, checkpoint: Json) -> None:
        """Add everything that makes a checkpoint self-contained."""
        checkpoint["config"] = self.config
        checkpoint["framing"] = self.framing and list(self.framing)
        checkpoint["clock"] = self.clock.state_dict()
        checkpoint["means"] = self.means.state_dict()
        checkpoint["end"] = self.end

    def on_load_checkpoint(self, checkpoint: Json) -> None:
        """Set the clock before the sampler reads it."""
        self.clock.load_state_dict(checkpoint["clock"])
        self.means.load_state_dict(checkpoint["means"])
        self.end, self.framing = checkpoint["end"], checkpoint["framing"]

    def store_beside(self, folder: Path) -> None:
        """Write what a run keeps of every checkpoint into its ``folder``, on the main rank."""

    def after_validation(self, scores: dict[str, float]) -> None:
        """React to validation scores: learning rates, early stopping."""

    def on_run_end(self, data: FaceData, folder: Path, best: Best, say: Say = lambda text: None) -> str | None:
        """Compute what is made once at the end of a run, in its ``folder``, on the main rank.

        ``best()`` returns the weights of the best checkpoint and its digest; ``say`` receives progress messages. The
        result is a sentence on what was left out, if anything.
        """
        return None

    @contextmanager
    def evaluating(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network in eval mode; its modes are restored afterwards."""
        modes = {module: module.training for module in network.modules()}
        network.eval()
        try:
            yield network
        finally:
            for module, mode in modes.items():
                module.training = mode

    def validate(self, data: FaceData) -> dict[str, float]:
        """Scores on the validation split; pixel errors are in [0, 1] units."""
        raise NotImplementedError

    def pictures(self, data: FaceData) -> Tensor:
        """(N, C, H, W) in [-1, 1]: the same fixed inputs each time, for the grids over time."""
        raise NotImplementedError

    def seen(self, data: FaceData) -> Tensor | None:
        """(N, C, H, W) in [-1, 1]: what a discriminator is shown at present, if it is not the faces themselves."""
        return None

    def networks(self, data: FaceData) -> dict[str, Example]:
        """The networks by name, each with an example of every input, for the report's diagram."""
        raise NotImplementedError


def _tell_nobody(phase: str) -> None:
    pass


def optimizer_of(factory: Optimizer, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a network, fused if it supports that and nothing else was requested."""
    chosen = factory.keywords if isinstance(factory, partial) else {}
    free = "fused" not in chosen and "foreach" not in chosen
    kernel = isinstance(factory, partial) and free and "fused" in inspect.signature(factory.func).parameters
    return factory(network.parameters(), **({"fused": True} if kernel else {}))


def _noise(
    seed: int, purpose: str, shape: tuple[int, ...], kind: Kind, counters: NDArray[np.int64]
) -> NDArray[np.float32]:
    draw = counter_rng.uniform if kind == "uniform" else counter_rng.normal
    return draw(seed, purpose, counters, shape).astype(np.float32)


def _noise_there(seed: int, purpose: str, shape: tuple[int, ...], kind: Kind, counters: Tensor) -> Tensor:
    """The same on the device of the counters."""
    draw = counter_rng_torch.uniform if kind == "uniform" else counter_rng_torch.normal
    return draw(seed, purpose, counters, shape).float()
