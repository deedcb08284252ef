"""How measure.py measures: alternation step by step, CPU time, what others did meanwhile, what counts."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import pytorch_lightning as pl

from benchmarks import machine
from faceforge import config
from faceforge.engine import training
from faceforge.engine.callbacks.session import Session
from faceforge.engine.plan import Plan

WAITED = 1.15  # wall over CPU time: above it the processor was taken away meanwhile
LEAST = 3  # turns that must be left
NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds of CPU time and on the wall."""

    cpu: float
    wall: float

    @property
    def clean(self) -> bool:
        """Whether the processor was ours throughout."""
        return self.wall <= WAITED * self.cpu + 1e-3


@dataclass
class Turns:
    """Turns by name."""

    found: dict[str, list[Turn]] = field(default_factory=dict)

    def add(self, name: str, turn: Turn) -> None:
        self.found.setdefault(name, []).append(turn)

    def least(self, name: str) -> float:
        """CPU seconds of the quickest clean turn; of the quickest at all where fewer than three were clean."""
        turns = self.found[name]
        clean = [turn for turn in turns if turn.clean]
        return min(turn.cpu for turn in (clean if len(clean) >= min(LEAST, len(turns)) else turns))

    def about(self) -> dict[str, Any]:
        """For the record: how many of each, how many were rejected, milliseconds of the quickest."""
        return {
            name: {
                "turns": len(turns),
                "rejected": sum(not turn.clean for turn in turns),
                "cpu_ms": round(1e3 * self.least(name), 4),
            }
            for name, turns in self.found.items()
        }


class Watch:
    """A stop watch of CPU time and wall."""

    def __init__(self) -> None:
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def read(self) -> Turn:
        return Turn(time.process_time() - self.cpu, time.perf_counter() - self.wall)


def alternate(works: Mapping[str, Callable[[], Any]], rounds: int) -> Turns:
    """Turns of works one after the other, after one round to warm up."""
    turns = Turns()
    for number in range(rounds + 1):
        for name, work in works.items():
            watch = Watch()
            work()
            if number:
                turns.add(name, watch.read())
    return turns


def timed_alone(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall, and cores that others kept busy meanwhile."""
    all_before, own_before, start = machine.busy(), machine.own_seconds(), time.perf_counter()
    work()
    wall, own = time.perf_counter() - start, machine.own_seconds() - own_before
    return wall, max(0.0, machine.busy() - all_before - own) / wall


class Pacer(pl.Callback):
    """Between blocks of ``every`` steps of a trainer it runs the same number of another loop, each timed.

    ``kind(n)`` names the block that ends with step n (None: it does not count). ``apart`` holds what is to be taken
    off the present block.
    """

    lean = True

    def __init__(self, other: Callable[[int], None], every: int, kind: Callable[[int], str | None]) -> None:
        self.other, self.every, self.kind = other, every, kind
        self.turns, self.steps = Turns(), 0
        self.apart = Turn(0.0, 0.0)
        self._watch: Watch | None = None

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1
        if self.steps % self.every:
            return
        name = self.kind(self.steps)
        if self._watch is not None and name:
            turn = self._watch.read()
            self.turns.add(name, Turn(turn.cpu - self.apart.cpu, turn.wall - self.apart.wall))
        self._run_other(name)
        self.apart, self._watch = Turn(0.0, 0.0), Watch()

    def _run_other(self, name: str | None) -> None:
        # the bare loop is as without Lightning, whose import makes every step of an optimiser look for NVML
        with mock.patch.dict(os.environ, {NVML: "0"}):
            watch = Watch()
            for number in range(self.steps - self.every, self.steps):
                self.other(number)
            turn = watch.read()
        if self._watch is not None and name:
            self.turns.add(f"bare {name}", turn)

    def set_apart(self, turn: Turn) -> None:
        self.apart = Turn(self.apart.cpu + turn.cpu, self.apart.wall + turn.wall)


@contextmanager
def with_callback(callback: pl.Callback) -> Iterator[None]:
    """Runs of this process get one more callback, their last."""
    make = training.make_trainer

    def make_with(plan: Plan, callbacks: Sequence[pl.Callback], *rest: Any) -> pl.Trainer:
        return make(plan, [*callbacks, callback], *rest)

    with mock.patch.object(training, "make_trainer", make_with):
        yield


@contextmanager
def paced(pacer: Pacer) -> Iterator[None]:
    """Runs of faceforge get the pacer as their last callback; sampling and validation are set apart."""
    timed = Session.timed

    @contextmanager
    def watched(self: Session, module: Any, name: str) -> Iterator[None]:
        watch = Watch()
        with timed(self, module, name):
            yield
        if name in ("sample", "validate"):
            pacer.set_apart(watch.read())

    with with_callback(pacer), mock.patch.object(Session, "timed", watched):
        yield


Change = Callable[[dict[str, Any]], None]


def composed(overrides: Sequence[str], change: Change | None = None) -> dict[str, Any]:
    """A configuration, with what no override can say."""
    chosen = config.compose(list(overrides))
    if change:
        change(chosen)
    return chosen


def run_quietly(overrides: Sequence[str], change: Change | None = None) -> None:
    """Train in this process as `python train.py` does, without its lines on the screen."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        training.train(composed(overrides, change), list(overrides))


def built(overrides: Sequence[str], change: Change | None = None) -> tuple[Any, Any]:
    """Module and prepared data of a configuration."""
    module, data = training.build(composed(overrides, change))
    data.prepare(progress=False)
    data.clock = module.clock
    return module, data
