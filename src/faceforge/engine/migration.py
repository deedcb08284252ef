"""Checkpoints and exports of older versions, brought up to the present one; nothing else knows of older versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceforge.types import Json

VERSION = 2  # of checkpoints and exports
MOVED = {  # version 1: where the parts of the package lay
    "loggers": "engine.loggers",
    "modules.guard": "engine.guard",
    "modules.adversarial": "schemes.adversarial",
    "modules.latent": "schemes.latent",
    "modules.reconstruction": "schemes.reconstruction",
    "modules.stops": "schemes.early_stopping",
    "modules.translation": "schemes.translation",
    "evaluation.metrics": "metrics.features",
    "data.faces": "data.datamodule",
    "data.celeba": "data.sources.celeba",
    "data.crops": "data.sources.crops",
    "data.drawn": "data.sources.drawn",
    "data.lfw": "data.sources.lfw",
}
RENAMED = {"faceforge.training.Options": "faceforge.engine.plan.TrainerOptions"}
ABSENT = {
    "channels_last": False,
    "compile": False,
    "max_wait": 10,
    "extra": {},
}  # of the trainer
GUARD = {"_target_": "faceforge.engine.guard.Guard", "action": "stop", "every": 25, "rollbacks": 3}
CALLBACKS = {
    name: {"_target_": f"faceforge.engine.callbacks.{path}"}
    for name, path in {
        "clock": "clock.Clock",
        "finite": "finite.FiniteCheck",
        "logging": "logging.Logging",
        "sampling": "sampling.Sampling",
        "validation": "validation.Validation",
        "alerts": "alerts.Alerts",
        "checkpointing": "checkpointing.Checkpointing",
        "progress": "progress.ProgressLine",
    }.items()
}


def migrate(checkpoint: Json) -> Json:
    """A checkpoint as the present version writes it. What is damaged in it stays so, for its reader to name."""
    if checkpoint["version"] >= VERSION:
        return checkpoint
    config = {"guard": GUARD, "callbacks": CALLBACKS, **migrate_config(checkpoint["config"])}
    if isinstance(config.get("logger"), Mapping):
        config["logger"] = {"also": {}, **config["logger"]}
    if isinstance(config.get("trainer"), Mapping):
        config["trainer"] = {**ABSENT, **config["trainer"]}
    means = checkpoint.get("means")
    if isinstance(means, Mapping):
        means = {"pending": {}, **means}
    states = checkpoint.get("callbacks")
    recorder = states.get("Recorder") if isinstance(states, Mapping) else None
    kept = {name: value for name, value in checkpoint["state_dict"].items() if not _is_frozen_feature(str(name))}
    return {
        **{"framing": None, "end": None},
        **checkpoint,
        "config": config,
        "means": means,
        "callbacks": _states(recorder) if isinstance(recorder, Mapping) else states,
        "state_dict": kept,
        "version": VERSION,
    }


def _states(recorder: Mapping[str, Any]) -> Json:
    """One callback did what several do now."""
    parts = {"Clock": "timings", "Validation": "best", "Alerts": "watch"}
    return {name: {key: recorder[key]} for name, key in parts.items() if key in recorder}


def migrate_config(config: Mapping[str, Any]) -> Json:
    """The configuration in a file of version 1, under the present names."""
    model = config.get("model")
    if isinstance(model, Mapping) and "discriminator_steps" in model:
        config = {**config, "model": {"share_fakes": False, **model}}
    return {key: _renamed(node) for key, node in config.items()}


def _renamed(node: object) -> object:
    if isinstance(node, Mapping):
        named = {key: _renamed(child) for key, child in node.items()}
        return {**named, "_target_": _target(str(node["_target_"]))} if "_target_" in node else named
    return [_renamed(child) for child in node] if isinstance(node, list | tuple) else node


def _target(name: str) -> str:
    if name in RENAMED:
        return RENAMED[name]
    module, _, kind = name.rpartition(".")
    moved = MOVED.get(module.removeprefix("faceforge."))
    return f"faceforge.{moved}.{kind}" if moved and module.startswith("faceforge.") else name


def _is_frozen_feature(name: str) -> bool:
    """A weight of the network that a perceptual loss compares features of."""
    return name.startswith("loss.") and ".features." in f".{name.removeprefix('loss.')}"
