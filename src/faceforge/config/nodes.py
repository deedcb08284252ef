"""The nodes of the configuration that need no torch: the root, `trainer` and `guard`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from faceforge.errors import BadInput


@dataclass
class Root:
    """The top-level keys of train.yaml and their types."""

    seed: int
    tasks: list[str]
    run_dir: str | None
    dry_run: bool
    resume: str | None
    init_from: str | None
    trusted_packages: list[str]
    guard: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    input: Mapping[str, Any]


@dataclass(frozen=True)
class TrainerOptions:
    """The ``trainer`` node as given. Limits and intervals count real images drawn; null is no limit."""

    gpus: int | None
    processes: int | None
    nodes: int | None
    requeue: Literal["auto", False]
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
    accumulate: int
    sync_batchnorm: bool
    extra: dict[str, Any]

    def __post_init__(self) -> None:
        for name in ("log_every", "sample_every", "checkpoint_every", "processes", "nodes", "accumulate"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise BadInput(f"trainer.{name}: {getattr(self, name)} must be at least 1")
        for name in ("max_images", "max_epochs", "max_steps", "max_minutes"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise BadInput(f"trainer.{name}: {limit} must be a positive number, or null for no limit")
        if not 0 < self.max_wait < math.inf:
            raise BadInput(f"trainer.max_wait: {self.max_wait} must be a positive number of minutes")
        if self.max_images is self.max_epochs is self.max_steps is self.max_minutes is None:
            raise BadInput("trainer: no limit is set; give max_images, max_epochs, max_steps or max_minutes")


@dataclass(frozen=True)
class Guard:
    """The ``guard`` node. The check synchronises with the device once every ``every`` batches and changes nothing.

    ``rollback`` continues from the last checkpoint, at most ``rollbacks`` times in a run. The first rollback to a
    checkpoint repeats the same steps, since a hardware fault rarely recurs; each further rollback to the same
    checkpoint halves the learning rates.
    """

    action: Literal["stop", "rollback"] = "stop"
    every: int = 25
    rollbacks: int = 3

    def __post_init__(self) -> None:
        for name in ("every", "rollbacks"):
            if getattr(self, name) < 1:
                raise BadInput(f"guard.{name}: {getattr(self, name)} must be at least 1")
