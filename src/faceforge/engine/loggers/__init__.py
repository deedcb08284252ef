"""The loggers of a run: metrics.csv always, Weights & Biases and others in addition, all against images seen."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import Logger

from faceforge.engine.loggers.beside import Beside
from faceforge.engine.loggers.wandb_logger import POLICIES, Checkpoints, Mode, Policy, Wandb
from faceforge.errors import BadInput, to_install


def make_loggers(
    mode: Mode,
    project: str | None,
    entity: str | None,
    name: str | None,
    group: str | None,
    tags: Sequence[str],
    images: Policy,
    also: Mapping[str, Any],
    *,
    folder: str | Path,
    config: Mapping[str, Any],
    earlier: Mapping[str, Any] | None = None,
    resumed_at: int | None = None,
    kind: str = "generated",
    checkpoints: Checkpoints = "none",
) -> list[Logger]:
    """The W&B logger, unless its mode is disabled, and those of ``also``; keyword-only arguments come from training.

    ``also`` are other Lightning loggers, or factories, which receive the folder as ``save_dir``.
    `earlier` (as recorded in run.json) and `resumed_at` (the clock) continue a W&B run; `kind` as in `Wandb`. Raises
    BadInput.
    """
    chosen = [("mode", mode, get_args(Mode)), ("images", images, POLICIES)]
    for key, value, legal in [*chosen, ("checkpoints", checkpoints, get_args(Checkpoints))]:
        if value not in legal:
            raise BadInput(f"logger.{key}: {value!r} is none of {', '.join(legal)}")
    others = [_made(name, logger, Path(folder)) for name, logger in also.items() if logger is not None]
    if others:
        others.append(Beside(folder, others, config, POLICIES[images], kind))
    if mode == "disabled" or (mode == "auto" and os.environ.get("WANDB_MODE") == "disabled"):
        return others
    earlier = earlier or {}
    where = {"project": project or earlier.get("project"), "name": name or earlier.get("name")}
    about = {**where, "entity": entity, "group": group, "tags": list(tags)}
    ours = {"mode": mode, "images_policy": images, "run_id": earlier.get("id"), "resumed_at": resumed_at, "kind": kind}
    ours["checkpoints"] = checkpoints
    return [Wandb(folder, config=dict(config), **ours, **about), *others]


def _made(name: str, logger: Any, folder: Path) -> Logger:
    if isinstance(logger, functools.partial):
        own = folder / "mlruns" if logger.func is MLFlowLogger else folder  # whose store must have a folder of its own
        place = {"save_dir": str(own)} if "save_dir" in inspect.signature(logger).parameters else {}
        try:
            logger = logger(**{**place, **logger.keywords})
        except ModuleNotFoundError as error:
            reason = " ".join(str(error).split())
            raise BadInput(f"logger.also.{name}: {reason}; {to_install('loggers')}") from None
    if not isinstance(logger, Logger):
        raise BadInput(f"logger.also.{name}: {type(logger).__name__} must be a Lightning logger")
    return logger
