"""The base of all training schemes: clock, keyed randomness, losses kept on the device, checkpoint contents."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceforge import counter_rng, counter_rng_torch
from faceforge.clock import Clock

Batch = dict[str, Tensor]
PENDING = 64  # batches buffered before they are summed
BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Best = Callable[[], tuple[Mapping[str, Tensor], str]]
Say = Callable[[str], None]


class RunningMeans:
    """Running means of scalars, kept on the device: adding never synchronises, reading does.

    Added values are buffered: each sum or figure costs the host ten times as much, and no more for many batches than
    for one. ``figures`` (by the name given to ``keep``) turns tensors of whole batches into scalars.
    """

    def __init__(self, **figures: Callable[..., dict[str, Tensor]]) -> None:
        self._figures = figures
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._pending: dict[str, list[tuple[Tensor, ...]]] = {}

    def add(self, **values: Tensor) -> None:
        """Add one value of each named scalar."""
        for name, value in values.items():
            self.keep(name, value)

    def keep(self, name: str, *tensors: Tensor) -> None:
        """Add one batch of tensors for the figures of this name."""
        pending = self._pending.setdefault(name, [])
        pending.append(tuple(tensor.detach() for tensor in tensors))
        if len(pending) == PENDING:
            self._add_up(name)

    def _add_up(self, name: str) -> None:
        pending = self._pending.pop(name)
        columns = zip(*pending, strict=True)
        if name in self._figures:
            means = self._figures[name](*(torch.cat(column) for column in columns))
        else:
            means = {name: torch.stack(next(columns)).float().mean()}
        for figure, mean in means.items():
            total = mean * len(pending)
            self._sums[figure] = self._sums[figure] + total if figure in self._sums else total
            self._counts[figure] = self._counts.get(figure, 0) + len(pending)

    def numbers(self) -> dict[str, Tensor]:
        """Tensors that show, by name, whether anything since the last drain was NaN or infinite."""
        found = {name: [total.reshape(-1)] for name, total in self._sums.items()}
        for name, pending in self._pending.items():
            found.setdefault(name, []).extend(tensor.reshape(-1) for tensors in pending for tensor in tensors)
        return {name: torch.cat(tensors) for name, tensors in found.items()}

    def drain(self) -> dict[str, float]:
        """The means since the last drain, as floats."""
        for name in list(self._pending):
            self._add_up(name)
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def to(self, device: torch.device) -> None:
        """Move the buffered values: a checkpoint is read on the CPU, and the next values are on the device."""
        self._sums = {name: total.to(device) for name, total in self._sums.items()}
        moved = {name: [tuple(t.to(device) for t in row) for row in rows] for name, rows in self._pending.items()}
        self._pending = moved

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data and tensors."""
        pending = {name: [torch.stack(c) for c in zip(*rows, strict=True)] for name, rows in self._pending.items()}
        return {"sums": dict(self._sums), "counts": dict(self._counts), "pending": pending}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self._sums, self._counts = {k: v.clone() for k, v in state["sums"].items()}, dict(state["counts"])
        self._pending = {n: list(zip(*(c.clone() for c in cs), strict=True)) for n, cs in state["pending"].items()}


class Scheme(pl.LightningModule):
    """Base of the LightningModules, one per training scheme. ``training_step`` advances ``clock.images``."""

    monitor: ClassVar[tuple[str, str]]  # the metric that `best` follows, and its mode: min or max
    shows: ClassVar[str] = "generated"  # content of its grids; "real-derived" is not uploaded by default

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seed = seed
        self.clock = Clock()
        self.means = RunningMeans()
        self.config: dict[str, Any] = {}
        self.framing: Sequence[float] | None = None  # of the training faces (cut/framing.py); None in older runs
        self.end: str | None = None  # why the run stopped before its limits
        self.tell: Callable[[str], None] = _tell_nobody  # reports this rank's phase to the watchdog
        self.compiles = False
        self.lean = True  # no Lightning hooks around backward passes and optimiser steps
        self._compiled: dict[nn.Module, Any] = {}
        self._ahead: dict[tuple[str, tuple[int, ...], str, torch.device], counter_rng.BatchedDraws] = {}

    @property
    def world(self) -> int:
        """The number of ranks that share a batch."""
        return self._trainer.world_size if self._trainer else 1

    def trained(self) -> list[nn.Module]:
        """The networks that a step runs; each can be compiled separately."""
        raise NotImplementedError

    def on_fit_start(self) -> None:
        """Compile, if requested, in the training process; saved and sampled networks stay uncompiled."""
        self.means.to(self.device)
        if self.compiles:
            self._compiled = {network: torch.compile(network) for network in self.trained()}

    def on_fit_end(self) -> None:
        """Drop the compiled networks."""
        self._compiled = {}

    def compiled(self, network: nn.Module) -> Any:
        """A network, compiled if requested. Not for networks that are differentiated twice."""
        return self._compiled.get(network, network)

    def reseed(self) -> None:
        """Seed torch's generators (dropout and the like) from the clock, with a separate stream per rank."""
        seed = counter_rng.key(self.seed, "torch", self.clock.images, self.global_rank) >> 1
        counter_rng_torch.seed(self.device, seed)

    def positions(self, count: int) -> range:
        """Clock positions of this rank's ``count`` images: batch["position"], without synchronising with the device."""
        first = self.clock.images + self.global_rank * count
        return range(first, first + count)

    def noise(self, purpose: str, counters: range | Tensor, shape: tuple[int, ...], kind: str = "normal") -> Tensor:
        """(N, *shape) float32 noise, a function of each counter alone: N(0, 1) or, for ``uniform``, U[0, 1).

        Computed on the device, so that the host's work does not grow with resolution; normal numbers may differ from
        the CPU's by one unit in the last place.
        """
        there = self.device.type != "cpu" and counter_rng_torch.exact(self.device)
        draw = partial(_noise_there if there else _noise, self.seed, purpose, shape, kind)
        drawn: Any
        if isinstance(counters, range):
            key = purpose, shape, kind, self.device
            if key not in self._ahead:
                options = (partial(counter_rng_torch.counters, self.device),) if there else ()
                self._ahead[key] = counter_rng.BatchedDraws(draw, *options)
            drawn = self._ahead[key](counters)
        else:
            drawn = draw(counters.to(self.device) if there else counters.cpu().numpy())
        return drawn if there else torch.from_numpy(drawn).to(self.device)

    def step_optimizer(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        clip_norm: float | None,
        meanwhile: Callable[[], Any] | None = None,
    ) -> Any:
        """Backward, unscale, clip, step, and clear the gradients.

        While ranks average their gradients they run ``meanwhile``, whose result is returned: a part of this step that
        needs neither these gradients nor the weights that they change. Optimisers and scaler are called directly:
        Lightning does not clip under manual optimisation, and its wrapper would unscale a second time.
        """
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None and self.lean:
            loss.backward()  # Lightning's own call costs the host as much again
        else:
            self.manual_backward(loss)
        strategy: Any = self.trainer.strategy  # with several ranks it is ours
        receive = strategy.share(optimizer, () if meanwhile else self.trained()) if self.world > 1 else None
        made = meanwhile() if meanwhile else None
        if receive:
            self.tell("waiting")
            receive()
            self.tell("training")
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

    def _call_hooks(self, name: str, optimizer: torch.optim.Optimizer) -> None:
        """The hooks that Lightning calls itself when it steps the optimisers."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            getattr(callback, name)(self.trainer, self, optimizer)
        getattr(self, name)(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add everything that makes a checkpoint self-contained."""
        checkpoint["config"] = self.config
        checkpoint["framing"] = self.framing and list(self.framing)
        checkpoint["clock"] = self.clock.state_dict()
        checkpoint["means"] = self.means.state_dict()
        checkpoint["end"] = self.end

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Set the clock before the sampler reads it."""
        self.clock.load_state_dict(checkpoint["clock"])
        self.means.load_state_dict(checkpoint["means"])
        self.end, self.framing = checkpoint["end"], checkpoint["framing"]

    def after_validation(self, scores: dict[str, float]) -> None:
        """React to validation scores: learning rates, early stopping."""

    def on_run_end(self, data: Any, folder: Path, best: Best, say: Say = lambda text: None) -> str | None:
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

    def validate(self, data: Any) -> dict[str, float]:
        """Scores on the validation split; pixel errors are in [0, 1] units."""
        raise NotImplementedError

    def pictures(self, data: Any) -> Tensor:
        """(N, C, H, W) in [-1, 1]: the same fixed inputs each time, for the grids over time."""
        raise NotImplementedError

    def networks(self, data: Any) -> dict[str, tuple[Any, ...]]:
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


def _noise(seed: int, purpose: str, shape: tuple[int, ...], kind: str, counters: NDArray[np.int64]) -> NDArray[Any]:
    draw = counter_rng.uniform if kind == "uniform" else counter_rng.normal
    return draw(seed, purpose, counters, shape).astype(np.float32)


def _noise_there(seed: int, purpose: str, shape: tuple[int, ...], kind: str, counters: Tensor) -> Tensor:
    """The same on the device of the counters."""
    draw = counter_rng_torch.uniform if kind == "uniform" else counter_rng_torch.normal
    return draw(seed, purpose, counters, shape).float()


def rescale(images: Tensor, source: tuple[float, float], target: tuple[float, float]) -> Tensor:
    """Map one value range linearly to another; an unbounded range counts as [low, low + 1]."""
    if source == target:
        return images
    (a, b), (c, d) = _bounded(source), _bounded(target)
    return (images - a) * ((d - c) / (b - a)) + c


def _bounded(span: tuple[float, float]) -> tuple[float, float]:
    return span if math.isfinite(span[1]) else (span[0], span[0] + 1.0)
