"""What is decided before training begins, once: device, precision, processes, limits, what is resumed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch

from faceforge import config as configuration
from faceforge.engine import devices
from faceforge.engine.guard import Guard
from faceforge.errors import BadInput
from faceforge.types import Json

CLOCK = "faceforge.engine.callbacks.clock.Clock"
# arguments of Lightning's Trainer
DECIDED = {"accelerator", "devices", "num_nodes", "strategy", "precision", "deterministic", "plugins", "logger"}
DECIDED |= {"callbacks", "max_epochs", "max_steps", "max_time", "enable_checkpointing", "use_distributed_sampler"}
DECIDED |= {"fast_dev_run"}


@dataclass(frozen=True)
class TrainerOptions:
    """The ``trainer`` node, as it was asked for. Limits and cadences count real images drawn; null is no limit."""

    gpus: int | None
    processes: int
    precision: Literal["auto", "32", "bf16", "16", 32, 16]
    max_images: int | None
    max_epochs: int | None
    max_steps: int | None
    max_minutes: float | None
    max_wait: float
    log_every: int
    sample_every: int
    checkpoint_every: int
    deterministic: bool
    channels_last: bool
    compile: bool
    extra: Json

    def __post_init__(self) -> None:
        for name in ("log_every", "sample_every", "checkpoint_every", "processes"):
            if getattr(self, name) < 1:
                raise BadInput(f"trainer.{name}: {getattr(self, name)} must be at least 1")
        for name in ("max_images", "max_epochs", "max_steps", "max_minutes"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise BadInput(f"trainer.{name}: {limit} must be a positive number, or null for no limit")
        if not 0 < self.max_wait < math.inf:
            raise BadInput(f"trainer.max_wait: {self.max_wait} must be a positive number of minutes")
        if self.max_images is self.max_epochs is self.max_steps is self.max_minutes is None:
            raise BadInput("trainer: no limit is set; give max_images, max_epochs, max_steps or max_minutes")
        for name in self.extra:
            if name not in inspect.signature(pl.Trainer).parameters:
                raise BadInput(f"trainer.extra.{name}: Lightning's Trainer has no such argument")
            if name in DECIDED:
                raise BadInput(f"trainer.extra.{name}: is decided by faceforge; see conf/trainer/default.yaml")
        if self.extra:
            with configuration.naming("trainer.extra"):
                pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, **self.extra)


@dataclass(frozen=True)
class Plan:
    """A training that can begin. ``config`` is what its checkpoints and config.yaml hold."""

    config: Mapping[str, Any]
    options: TrainerOptions
    guard: Guard
    gpus: int  # accelerators in use, 0 for the CPU
    precision: devices.Resolved
    resume: Path | None = None  # the checkpoint to go on from

    @property
    def world(self) -> int:
        """How many processes train: one for each GPU, or ``trainer.processes`` on the CPU."""
        return self.gpus or self.options.processes

    @property
    def device(self) -> torch.device:
        """Where the first process trains."""
        return torch.device(devices.best().type, 0) if self.gpus else devices.CPU

    def limit_images(self, epoch: int, batch: int) -> int | None:
        """The images at which the run ends, for ``epoch`` images a pass and ``batch`` images a step."""
        options = self.options
        limits = [
            options.max_images,
            options.max_epochs and options.max_epochs * epoch,
            options.max_steps and options.max_steps * batch,
        ]
        return min((limit for limit in limits if limit), default=None)

    def is_late(self, seconds: float) -> bool:
        """Whether ``trainer.max_minutes`` have passed."""
        return self.options.max_minutes is not None and seconds >= 60 * self.options.max_minutes


def make_plan(config: Mapping[str, Any], resumed: Path | None = None) -> Plan:
    """Decide what a resolved configuration leaves open, on this machine; nothing is written. Raises BadInput.

    A run that is ``resumed``, from that checkpoint, on the CPU leaves the precision that it had on a GPU.
    """
    _check(config)
    guard = configuration.build(config["guard"], at="guard")
    options: TrainerOptions = configuration.build(config["trainer"], at="trainer")
    batch_size = config["data"]["batch_size"]
    gpus = devices.gpus(options.gpus, batch_size)
    precision = devices.precision("32" if resumed and not gpus else str(options.precision), gpus)
    kept = config if resumed else {**config, "trainer": {**config["trainer"], "precision": precision}}
    _try_callbacks(config)
    plan = Plan(kept, options, guard, gpus, precision, resume=resumed)
    if batch_size % plan.world:
        raise BadInput(f"data.batch_size: {batch_size} cannot be shared evenly by {plan.world} processes")
    return plan


def _check(config: Mapping[str, Any]) -> None:
    nodes = {key: config[key] for key in ("model", "data", "trainer", "logger", "callbacks", "guard")}
    if problems := configuration.check_targets(nodes, config["trusted_packages"]):
        raise BadInput("\n".join(problems))


def _try_callbacks(config: Mapping[str, Any]) -> None:
    """What a user's callback does not take is said before a folder is made."""
    kinds = [node["_target_"] for node in config["callbacks"].values() if node]
    if CLOCK not in kinds:
        raise BadInput("callbacks.clock: must be among the callbacks, since nothing else ends a run")
    make_callbacks({name: node for name, node in config["callbacks"].items() if node and not _is_ours(node)}, config)


def make_callbacks(nodes: Mapping[str, Any], config: Mapping[str, Any], **shared: object) -> list[pl.Callback]:
    """The callbacks of some nodes of a configuration, in their order; ours are given what they ``share``."""
    trusted = config["trusted_packages"]
    made = []
    for name, node in nodes.items():
        if node:
            callback = configuration.build(node, trusted, f"callbacks.{name}", **(shared if _is_ours(node) else {}))
            if not isinstance(callback, pl.Callback):
                raise BadInput(f"callbacks.{name}: {node['_target_']} must be a pytorch_lightning.Callback")
            made.append(callback)
    return made


def _is_ours(node: Mapping[str, Any]) -> bool:
    return str(node["_target_"]).startswith("faceforge.engine.callbacks.")
