"""The accelerators of this machine, of any kind: their number, names, precision, seeds and memory.

No other module queries devices. The answers come from ``torch.accelerator`` and the torch module of its kind, so CUDA,
ROCm, Apple and Intel GPUs, and devices that a package adds to torch, share the same code.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from pytorch_lightning.accelerators import Accelerator, AcceleratorRegistry
from pytorch_lightning.plugins.precision import MixedPrecision, Precision

from faceforge.engine.cluster import Launch
from faceforge.errors import BadInput

Devices = int | str | list[int]  # how many, or which
Resolved = Literal["32", "bf16", "16"]
MIXED: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bf16": "bf16-mixed", "16": "16-mixed"}
CPU = torch.device("cpu")
SHOWN = {"cuda": "CUDA_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}  # ROCm, which is called cuda, reads it too


def accelerator() -> torch.device | None:
    """The available kind of accelerator, without an index; None if there is none."""
    return torch.accelerator.current_accelerator(check_available=True)


def count() -> int:
    """The number of available accelerators."""
    return torch.accelerator.device_count() if accelerator() else 0


def best() -> torch.device:
    """The device for inference: the accelerator, else the CPU."""
    return accelerator() or CPU


def take(number: int) -> None:
    """Make an accelerator the current one, for process ``number`` of several that share them all."""
    if found := count():
        torch.accelerator.set_device_index(number % found)


def _module() -> ModuleType:
    """The torch module of the accelerator: ``torch.cuda``, ``torch.mps``, ``torch.xpu``, ..."""
    return torch.get_device_module(best())


# --------------------------------------------------------------------------------------------------- what to train on


def gpus(asked: int | None, batch_size: int) -> int:
    """How many accelerators to use, 0 for the CPU, for ``trainer.gpus`` and ``data.batch_size``. Raises BadInput.

    None takes all of them, or as many as divide a batch evenly; in an interactive session one, since it cannot start
    more processes.
    """
    found = count()
    if asked is None:
        most = min(found, 1) if interactive() else found
        return next((number for number in range(most, 0, -1) if batch_size % number == 0), 0)
    if asked < 0:
        raise BadInput(f"trainer.gpus: {asked} must be 0 (the CPU), a number of GPUs, or null for every GPU")
    if asked > found:
        kind = best().type.upper()
        has = f"{found} {kind} GPU{'s' * (found != 1)}" if found else "no GPU that torch can use"
        raise BadInput(
            f"trainer.gpus: {asked} requested, this machine has {has}; use trainer.gpus={found}"
            + " (the CPU)" * (not found)
        )
    return asked


def interactive() -> bool:
    """Whether this is a notebook or a Python prompt, which cannot start processes that train."""
    return getattr(sys, "ps1", None) is not None


def gpus_of_ranks(asked: int | None, launch: Launch) -> int:
    """How many accelerators the ranks of each machine use, one each, 0 for the CPU. Raises BadInput.

    A scheduler may show each rank one GPU of its own.
    """
    found, started = count(), launch.processes
    asked = (started if found else 0) if asked is None else asked
    if asked and asked != started:
        each = f"{launch.by} started {started} process{'es' * (started > 1)} on each machine, each for one GPU"
        either = f"use {launch.option}={asked} or trainer.gpus={started}"
        raise BadInput(f"trainer.gpus: {asked} requested, but {each}; {either}")
    if asked and not (found == 1 or found >= started):
        each = f"{launch.by} started {started} processes on a machine with {found} GPUs"
        raise BadInput(f"trainer.gpus: {each}; start at most one per GPU, or use trainer.gpus=0 (the CPU)")
    return asked


def index(launch: Launch) -> int:
    """The accelerator of a process: its rank on this machine, or the only one that a scheduler shows it."""
    return 0 if count() == 1 else launch.local_rank


def identity(device: torch.device) -> str:
    """What tells an accelerator from all others of this machine; empty for the CPU, or if torch cannot tell."""
    about = getattr(_module(), "get_device_properties", None) if device.type != "cpu" else None
    return str(getattr(about(device.index), "uuid", "")) if about else ""


def precision(asked: str, number: int) -> Resolved:
    """What ``trainer.precision`` means on ``number`` accelerators, by static rules. Raises BadInput.

    auto is bf16 where it is native, else 16 with a gradient scaler; 32 on the CPU, or if torch cannot tell.
    """
    if not number:
        if asked in MIXED:
            raise BadInput(f"trainer.precision: {asked} is emulated on the CPU and many times slower; use 32 or auto")
        return "32"
    native = native_bf16()
    if asked == "auto":
        return "32" if native is None else "bf16" if native else "16"
    if asked == "bf16" and native is False:
        raise BadInput("trainer.precision: this GPU has no native bf16; use 16, 32 or auto")
    return asked  # type: ignore[return-value]


def native_bf16() -> bool | None:
    """Whether the accelerator has native bf16; None if torch cannot tell."""
    supported = getattr(_module(), "is_bf16_supported", None)
    return None if supported is None else bool(supported(including_emulation=False))


def name(number: int) -> str:
    """Number and name of the accelerators, or the CPU's name and threads."""
    if number:
        named = getattr(_module(), "get_device_name", None)
        return f"{number} x {named(0) if named else best().type.upper()}"
    return f"CPU, {_cpu_name()}, {torch.get_num_threads()} threads"


def _cpu_name() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def show_only(indices: Sequence[int]) -> None:
    """Hide the other accelerators from this process, which must not have used any yet; all stay if none is named.

    A variable that hides some already is narrowed. Kinds without such a variable have one accelerator at most.
    """
    kind = torch.accelerator.current_accelerator()  # asks no driver, which would read the variable now
    name = SHOWN.get(kind.type) if kind else None
    if name and len(indices):
        there = os.environ[name].split(",") if os.environ.get(name) else None
        os.environ[name] = ",".join(there[index] if there else str(index) for index in indices)


def use_threads(number: int) -> None:
    """Compute on this many cores."""
    torch.set_num_threads(number)


def most_memory() -> int | None:
    """The most bytes that torch has reserved on the accelerator, where it counts them."""
    with suppress(RuntimeError, AttributeError):
        return int(torch.accelerator.max_memory_reserved())
    return None


# ------------------------------------------------------------------------------------------------ what Lightning needs


class TorchAccelerator(Accelerator):
    """Lightning's interface to accelerators that torch knows and Lightning's registry does not."""

    def setup_device(self, device: torch.device) -> None:
        """Make the device current."""
        torch.accelerator.set_device_index(device.index or 0)

    def teardown(self) -> None:
        """Nothing to release."""

    def get_device_stats(self, device: int | str | torch.device) -> dict[str, Any]:
        """Torch's memory statistics, if it has them for this kind."""
        with suppress(RuntimeError, AttributeError):
            return dict(torch.accelerator.memory_stats(device))
        return {}

    @staticmethod
    def parse_devices(devices: Devices) -> Devices:
        """As given: a number, or a list of indices."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: Devices) -> list[torch.device]:
        """The first n devices, or those at the indices."""
        indices = range(int(devices)) if isinstance(devices, int | str) else devices
        return [torch.device(best().type, index) for index in indices]

    @staticmethod
    def auto_device_count() -> int:
        """All."""
        return count()

    @staticmethod
    def is_available() -> bool:
        """Whether torch has an accelerator."""
        return accelerator() is not None

    @staticmethod
    def name() -> str:
        """The kind."""
        return best().type


def lightning_accelerator(number: int) -> str | Accelerator:
    """Arguments of Lightning's Trainer for this number of accelerators."""
    if not number:
        return "cpu"
    kind = best().type
    return kind if kind in AcceleratorRegistry.available_accelerators() else TorchAccelerator()


def lightning_precision(resolved: str, number: int) -> Precision:
    """Lightning's mixed-precision plugin for the accelerator's kind, or none."""
    return MixedPrecision(MIXED[resolved], best().type) if number and resolved in MIXED else Precision()


# -------------------------------------------------------------------------------------------------- the rest


def synchronize() -> None:
    """Wait until the accelerator has finished its queued work; does nothing without one."""
    if accelerator():
        _module().synchronize()


@cache
def can_pin() -> bool:
    """Whether host memory can be pinned, for asynchronous copies to the accelerator."""
    if accelerator() is None:
        return False
    try:
        return torch.empty(1).pin_memory().is_pinned()
    except (RuntimeError, NotImplementedError):
        return False
