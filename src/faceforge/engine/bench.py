"""`faceforge bench`: times training steps with each option on and off and suggests the faster settings."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import faceforge
from faceforge import config as configuration
from faceforge import counter_rng, words
from faceforge.data.datamodule import Batch, FaceData
from faceforge.engine import devices, messages, training
from faceforge.engine.plan import make_plan
from faceforge.engine.run import sources_commit
from faceforge.errors import BadInput
from faceforge.io.amounts import in_bytes
from faceforge.io.portable import most_memory
from faceforge.io.workers import cores
from faceforge.types import Json

WORTH = 1.03  # smaller gains are within noise
ROUNDS = 2
SQUARE = 2048  # rows of the matrices that are multiplied


@dataclass(frozen=True)
class Choice:
    """A setting to time: its overrides, threads (None: unchanged), settings of ``trainer``."""

    words: str
    threads: int | None
    trainer: Mapping[str, Any]

    def beside(self, other: Choice) -> Choice:
        """Both settings combined; ``other`` wins."""
        words = " ".join(word for word in (self.words, other.words) if word)
        threads = self.threads if other.threads is None else other.threads
        return Choice(words, threads, {**self.trainer, **other.trainer})


def bench(overrides: Sequence[str], seconds: float, compiled: bool) -> list[str]:
    """Time the options one after the other, each on top of the fastest so far; the lines to print.

    ``seconds`` is the duration of each of about ten measurements, on noise instead of faces. Raises BadInput.
    """
    if seconds <= 0:
        raise BadInput(f"--seconds={seconds:g}: must be above 0")
    messages.filter_warnings()
    config = configuration.compose(list(overrides))
    gpus = make_plan(config).gpus
    best, threads = Choice("", None, {}), torch.get_num_threads()
    lines = [devices.name(gpus)]
    try:
        for candidate in candidates(gpus, compiled):
            ratio = compared(config, best, best.beside(candidate), seconds)
            lines.append(f"  {candidate.words:30} {ratio:.2f} times as fast")
            if ratio >= WORTH:
                best = best.beside(candidate)
    finally:
        torch.set_num_threads(threads)
    return [*lines, f"Suggested: {_suggested(best, overrides)}"]


def record(overrides: Sequence[str], seconds: float) -> Json:
    """What a training step of these settings costs on this machine, for docs/cost.md. Raises BadInput."""
    messages.filter_warnings()
    config = configuration.compose(list(overrides))
    plan = make_plan(config)
    spent = step_seconds(config, Choice("", None, {}), seconds)
    data = configuration.build(config["data"])
    operations, weights = arithmetic(config)
    return {
        "model": config["choices"]["model"],
        "task": config["choices"]["task"],
        "size": [data.height, data.width],
        "channels": data.channels,
        "batch_size": data.batch_size,
        "device": devices.name(plan.gpus),
        "threads": torch.get_num_threads(),
        "precision": plan.precision,
        "images_per_second": round(data.batch_size / spent, 2),
        "operations_per_image": operations,
        "weights": weights,
        **limits(plan.gpus > 0),
        "host_bytes": most_memory(),
        "device_bytes": devices.most_memory() if plan.gpus else None,
        "command": words.faceforge("bench", *overrides, "--record", "FILE"),
        "faceforge": faceforge.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        **sources_commit(),
    }


def arithmetic(config: Json) -> tuple[int, int]:
    """Operations of a training step for each image (a multiplication and an addition are two), and trained weights.

    Convolutions and matrix products are counted, forward and backward, gradient penalties included.
    """
    module, data = training.build(config)
    stop_watch = _StopWatch(0.0, module.period, 1)
    with _Operations() as counter:
        training.make_trainer(make_plan(config), [stop_watch]).fit(module, train_dataloaders=_Same(_noise(data)))
    images = stop_watch.steps * data.batch_size
    return counter.total // images, sum(p.numel() for p in module.parameters() if p.requires_grad)


class _Operations(TorchDispatchMode):
    """Counts by torch's own formulas. Its FlopCounterMode hooks modules, which double backward does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func.overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=made)
        return made


def limits(gpu: bool) -> dict[str, float]:
    """What the device could do: operations a second of a large matrix product, bytes a second read and written."""
    device = devices.best() if gpu else torch.device("cpu")
    square = torch.rand(SQUARE, SQUARE, device=device)
    copied = torch.empty(2 * SQUARE, SQUARE, 4, device=device)
    other = torch.empty_like(copied)
    product = least_seconds(lambda: square @ square)
    copy = least_seconds(lambda: other.copy_(copied))
    return {
        "operations_a_second": float(f"{2 * SQUARE**3 / product:.3g}"),
        "bytes_a_second": float(f"{2 * copied.numel() * copied.element_size() / copy:.3g}"),
    }


def least_seconds(work: Callable[[], object], times: int = 7) -> float:
    """The least of so many times, which are waited for."""
    spent = []
    for _ in range(times):
        devices.synchronize()
        begun = time.perf_counter()
        work()
        devices.synchronize()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def write(path: Path, found: Json) -> str:
    """Write a record into a new file; the line to print. Raises BadInput."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(found, indent=1) + "\n")
    except FileExistsError as error:
        raise BadInput(f"{path}: exists already; a record must be a new file") from error
    rate, memory = found["images_per_second"], in_bytes(found["host_bytes"])
    return f"{found['model']}: {rate:.0f} images a second, {memory}; written to {path}"


def _suggested(best: Choice, overrides: Sequence[str]) -> str:
    if not best.words:
        return f"no other setting, none is faster here:  {words.train(*overrides)}"
    chosen = best.words.split()
    before = [word for word in chosen if word.startswith("OMP_NUM_THREADS")][-1:]
    after = [word for word in chosen if not word.startswith("OMP_NUM_THREADS")]
    return " ".join([*before, words.train(*overrides, *after)])


def candidates(gpus: int, compiled: bool) -> Iterator[Choice]:
    """The options worth timing on this kind of device."""
    if gpus:
        for precision in ("32", "bf16", "16"):
            if precision != "bf16" or devices.native_bf16():
                yield Choice(f"trainer.precision={precision}", None, {"precision": precision})
    else:
        every, now = cores(), torch.get_num_threads()
        for number in sorted({1, max(1, every // 2), every} - {now}):
            yield Choice(f"OMP_NUM_THREADS={number}", number, {})
    yield Choice("trainer.channels_last=true", None, {"channels_last": True})
    if compiled:
        yield Choice("trainer.compile=true", None, {"compile": True})


def compared(config: Json, first: Choice, second: Choice, seconds: float) -> float:
    """Speed ratio of the second choice to the first: the fastest blocks of steps of both, measured alternately."""
    least = {False: float("inf"), True: float("inf")}
    for _ in range(ROUNDS):
        for is_second, choice in ((False, first), (True, second)):
            least[is_second] = min(least[is_second], step_seconds(config, choice, seconds / ROUNDS))
    return least[False] / least[True]


def step_seconds(config: Json, choice: Choice, seconds: float) -> float:
    """Seconds per training step through Lightning's Trainer, on one batch of noise."""
    chosen = {**config, "trainer": {**config["trainer"], **choice.trainer}}
    plan = make_plan(chosen)
    if choice.threads is not None:
        torch.set_num_threads(choice.threads)
    module, data = training.build(chosen)
    block = module.period
    stop_watch = _StopWatch(seconds, block)
    trainer = training.make_trainer(plan, [stop_watch])
    trainer.fit(module, train_dataloaders=_Same(_noise(data)))
    return stop_watch.least / block


def _noise(data: FaceData) -> Batch:
    """A batch of noise in the datamodule's format."""
    shape = data.channels, data.height, data.width
    positions = torch.arange(data.batch_size)
    drawn = counter_rng.uniform(0, "bench", positions.numpy(), shape)
    faces = torch.from_numpy(drawn).float() * 2 - 1
    made = data.task.input_for(faces, positions, "train")
    target = data.task.target_for(faces, positions, "train")
    return {"target": target, "position": positions, **({} if made is None else {"input": made})}


class _Same:
    """The same batch forever."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.batch


class _StopWatch(pl.Callback):
    """The fastest block of steps after the first one, over some seconds and at least so many ``blocks``."""

    lean = True

    def __init__(self, seconds: float, block: int, blocks: int = 3) -> None:
        self.seconds, self.block, self.blocks = seconds, block, blocks
        self.least = float("inf")
        self.steps, self._began, self._lap = 0, 0.0, 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Batch, batch_idx: int
    ) -> None:
        """Count a step; synchronise at the end of a block."""
        self.steps += 1
        if self.steps % self.block:
            return
        devices.synchronize()
        now, blocks = time.perf_counter(), self.steps // self.block
        if blocks == 1:
            self._began = now
        else:
            self.least = min(self.least, now - self._lap)
        self._lap = now
        trainer.should_stop = blocks >= self.blocks and now - self._began >= self.seconds
