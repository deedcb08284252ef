"""Migrates checkpoints and exports of older versions; no other module knows older versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faceforge.config import composing
from faceforge.types import Json

VERSION = 4  # of checkpoints and exports
MOVED = {  # module paths of version 1
    "loggers": "engine.loggers",
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
RENAMED = {
    "faceforge.training.Options": "faceforge.config.nodes.TrainerOptions",
    "faceforge.engine.plan.TrainerOptions": "faceforge.config.nodes.TrainerOptions",
    "faceforge.modules.guard.Guard": "faceforge.config.nodes.Guard",
    "faceforge.engine.guard.Guard": "faceforge.config.nodes.Guard",
    "faceforge.networks.dcgan.TaughtGenerator": "faceforge.networks.dcgan.TutorialGenerator",
    "faceforge.networks.dcgan.TaughtDiscriminator": "faceforge.networks.dcgan.TutorialDiscriminator",
}
ABSENT = {
    "channels_last": False,
    "compile": False,
    "max_wait": 10,
    "accumulate": 1,
    "sync_batchnorm": False,
    "nodes": None,
    "requeue": "auto",
    "extra": {},
}  # of the trainer
GUARD = {"_target_": "faceforge.config.nodes.Guard", "action": "stop", "every": 25, "rollbacks": 3}
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
    """A checkpoint in the current format. Damaged parts stay as they are; the reader reports them."""
    if checkpoint["version"] == 1:
        checkpoint = _from_1(checkpoint)
    if checkpoint["version"] < VERSION:
        config = migrate_config(checkpoint["config"])
        if isinstance(config.get("trainer"), Mapping):
            config["trainer"] = {**ABSENT, **config["trainer"]}
        checkpoint = {**checkpoint, "config": config, "version": VERSION}
    return checkpoint


def _from_1(checkpoint: dict[str, Any]) -> dict[str, Any]:
    config = {"guard": GUARD, "callbacks": CALLBACKS, **migrate_config(checkpoint["config"])}
    if isinstance(config.get("logger"), Mapping):
        config["logger"] = {"also": {}, **config["logger"]}
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
        "version": 2,
    }


def _states(recorder: Mapping[str, Any]) -> Json:
    """Version 1 had one callback for what several do now."""
    parts = {"Clock": "timings", "Validation": "best", "Alerts": "watch"}
    return {name: {key: recorder[key]} for name, key in parts.items() if key in recorder}


def migrate_config(config: Mapping[str, Any]) -> Json:
    """The configuration of an older file under the current names."""
    renamed: Json = {key: _renamed(node) for key, node in config.items()}
    composing.rename_older(renamed)
    model, choices = renamed.get("model"), renamed.get("choices")
    if isinstance(model, dict) and "discriminator_steps" in model:
        renamed["model"] = {"reuse_fakes": False, **model}
    if isinstance(choices, dict):
        for (group, old), new in composing.OLDER_CHOICES.items():
            choices |= {key: new for key, name in choices.items() if (key.split("@")[0], name) == (group, old)}
    return renamed


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
    """Whether a weight belongs to the feature network of a perceptual loss."""
    return name.startswith("loss.") and ".features." in f".{name.removeprefix('loss.')}"
