"""Everything decided once before training: device, precision, processes, limits, checkpoint to resume."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from faceforge import config as configuration
from faceforge import words
from faceforge.config.nodes import Guard, TrainerOptions
from faceforge.engine import cluster, devices
from faceforge.engine.cluster import Launch
from faceforge.errors import BadInput

CLOCK = "faceforge.engine.callbacks.clock.Clock"
# arguments of Lightning's Trainer
DECIDED = {"accelerator", "devices", "num_nodes", "strategy", "precision", "deterministic", "plugins", "logger"}
DECIDED |= {"callbacks", "max_epochs", "max_steps", "max_time", "enable_checkpointing", "use_distributed_sampler"}
DECIDED |= {"fast_dev_run", "accumulate_grad_batches", "sync_batchnorm"}


@dataclass(frozen=True)
class Plan:
    """A training that is ready to start. ``config`` is stored in its checkpoints and config.yaml."""

    config: Mapping[str, Any]
    options: TrainerOptions
    guard: Guard
    gpus: int  # accelerators in use on each machine; 0: the CPU
    precision: devices.Resolved
    resume: Path | None = None  # the checkpoint to resume
    launch: Launch = field(default_factory=cluster.current)

    @property
    def world(self) -> int:
        """The number of processes: those started from outside, else one per GPU, or ``trainer.processes``."""
        return self.launch.world if self.launch.outside else self.gpus or self.options.processes or 1

    @property
    def device(self) -> torch.device:
        """The device of this process if it was started from outside, else of the first process."""
        return torch.device(devices.best().type, devices.index(self.launch)) if self.gpus else devices.CPU

    def limit_images(self, epoch: int, batch: int) -> int | None:
        """The number of images at which the run ends, with ``epoch`` images per epoch and ``batch`` per step."""
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
    """Resolve what the configuration leaves open on this machine; writes nothing. Raises BadInput.

    A run ``resumed`` on the CPU drops the precision that it had on a GPU.
    """
    _check(config)
    guard: Guard = configuration.build(config["guard"], at="guard")
    options: TrainerOptions = configuration.build(config["trainer"], at="trainer")
    _try_extra(options.extra)
    batch_size = config["data"]["batch_size"]
    gpus = _count(options, batch_size)
    precision = devices.precision("32" if resumed and not gpus else str(options.precision), gpus)
    kept = config if resumed else {**config, "trainer": {**config["trainer"], "precision": precision}}
    _try_callbacks(config)
    plan = Plan(kept, options, guard, gpus, precision, resume=resumed)
    if batch_size % plan.world:
        raise BadInput(f"data.batch_size: {batch_size} cannot be shared evenly by {plan.world} processes")
    if batch_size // plan.world % options.accumulate:
        share = f"data.batch_size={batch_size}" + (f" on {plan.world} processes" if plan.world > 1 else "")
        raise BadInput(f"{share}: cannot be divided into trainer.accumulate={options.accumulate} equal micro-batches")
    return plan


def _count(options: TrainerOptions, batch_size: int) -> int:
    """The accelerators on each machine, where all counts agree with who starts the processes. Raises BadInput."""
    launch = cluster.current()
    if not launch.outside:
        if (options.nodes or 1) > 1:
            raise BadInput(f"trainer.nodes: {options.nodes} requested; start one process per GPU with torchrun or srun")
        _allow_processes(options)
        return devices.gpus(options.gpus, batch_size)
    if not launch.even:
        raise BadInput(f"{launch.by}: every machine must start the same number of processes")
    if options.nodes not in (None, launch.nodes):
        raise BadInput(f"trainer.nodes: {options.nodes} requested, {launch.by} started {launch.nodes}")
    gpus = devices.gpus_of_ranks(options.gpus, launch)
    if not gpus and options.processes not in (None, launch.processes):
        each = f"{launch.by} started {launch.processes} on each machine"
        raise BadInput(f"trainer.processes: {options.processes} requested, {each}")
    return gpus


def _allow_processes(options: TrainerOptions) -> None:
    """Raises BadInput, with what to type instead, where a notebook asks for several processes."""
    for key, number in {"gpus": options.gpus, "processes": options.processes}.items():
        if devices.interactive() and (number or 0) > 1:
            instead = words.train("...", f"trainer.{key}={number}")
            raise BadInput(f"trainer.{key}: {number} requested, but a notebook trains in one process; type !{instead}")


def _check(config: Mapping[str, Any]) -> None:
    nodes = {key: config[key] for key in ("model", "data", "trainer", "logger", "callbacks", "guard")}
    if problems := configuration.check_targets(nodes, config["trusted_packages"]):
        raise BadInput("\n".join(problems))


def _try_extra(extra: Mapping[str, Any]) -> None:
    """Check ``trainer.extra`` before a folder is created."""
    for name in extra:
        if name not in inspect.signature(pl.Trainer).parameters:
            raise BadInput(f"trainer.extra.{name}: Lightning's Trainer has no such argument")
        if name in DECIDED:
            raise BadInput(f"trainer.extra.{name}: is decided by faceforge; see conf/trainer/default.yaml")
    if extra:
        with configuration.naming("trainer.extra"):
            pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, **extra)


def _try_callbacks(config: Mapping[str, Any]) -> None:
    """Check the arguments of user callbacks before a folder is created."""
    kinds = [node["_target_"] for node in config["callbacks"].values() if node]
    if CLOCK not in kinds:
        raise BadInput("callbacks.clock: must be among the callbacks; nothing else ends a run")
    make_callbacks({name: node for name, node in config["callbacks"].items() if node and not _is_ours(node)}, config)


def make_callbacks(nodes: Mapping[str, Any], config: Mapping[str, Any], **shared: object) -> list[pl.Callback]:
    """The callbacks of the ``callbacks`` nodes, in order; ours also receive ``share``."""
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
