"""Going on with a run: which checkpoint, which configuration keys may change, and whether its faces are unchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from faceforge import words
from faceforge.config.checking import walk
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, cluster
from faceforge.engine.plan import Plan, make_plan
from faceforge.engine.run import Run, holds_run, lock_run
from faceforge.errors import BadInput
from faceforge.schemes import conditions
from faceforge.schemes.base import Scheme
from faceforge.types import Json

LIMITS = ("trainer.max_images", "trainer.max_epochs", "trainer.max_steps", "trainer.max_minutes")
# the manifest and the labels prove the faces
PLACES = ("data.root", "data.cache", "data.workers", "data.engine", "data.attributes")
FILES = ("root", "attributes", "cache", "augment")  # keys of ``data`` that name files
COUNTS = ("trainer.gpus", "trainer.processes", "trainer.nodes")
RESUMABLE = (*LIMITS, *COUNTS, "trainer.max_wait", "trainer.requeue", *PLACES)
WHOLE = ("logger", "guard", "callbacks")  # nodes that may change
OF_COMMAND = ("resume", "run_dir", "trusted_packages")  # say nothing about the run itself
NAMED = 6  # keys that differ, in a message


def goes_on(config: Mapping[str, Any]) -> bool:
    """Whether a command continues a run: the one that ``resume`` names, or the one that ``run_dir`` already holds."""
    return bool(config["resume"]) or (bool(config["run_dir"]) and holds_run(Path(config["run_dir"])))


def reopen(config: Mapping[str, Any], overrides: Iterable[str], stack: ExitStack) -> tuple[Plan, Run, Json]:
    """The plan, the run (locked until ``stack`` closes) and the checkpoint behind ``resume=``, or ``run_dir=`` of a
    run that exists. Raises BadInput.
    """
    path = checkpoint.find(config["resume"] or config["run_dir"], "last")
    folder = path.resolve().parent.parent
    run = Run.reopen(folder)
    stack.enter_context(lock_run(folder))
    checkpoint.sweep_orphans(path.parent)
    saved = checkpoint.read(path)
    _require_newest(path, saved)
    merge = merge_resumed if config["resume"] else merge_same
    merged = _as_started(merge(saved["config"], _seen_from(run.starts, config), overrides), overrides)
    plan = make_plan({**merged, "trusted_packages": config["trusted_packages"]}, path)
    return plan, run, saved


def _as_started(merged: Json, overrides: Iterable[str]) -> Json:
    """A configuration without the counts of an earlier start, which torchrun or srun decide now unless typed."""
    if not cluster.current().outside:
        return merged
    typed = {_key(override) for override in overrides}
    left = [key.partition(".")[2] for key in COUNTS if key not in typed]
    free = {name: None for name in left if merged["trainer"].get(name)}  # gpus=0 stays on the CPU
    return {**merged, "trainer": {**merged["trainer"], **free}}


def located(data: Mapping[str, Any], starts: Sequence[Path]) -> Mapping[str, Any]:
    """The ``data`` node of a run with its relative paths found from anywhere: below one of the folders ``starts``.

    What is in none of them is looked for in the working directory.
    """

    def found(name: str, path: str) -> str:
        places = [start for start in starts if (start / path).exists() or (name == "cache" and start.is_dir())]
        return str(places[0] / path) if places and places[0] != Path.cwd() else path

    return _moved(data, found)


def _seen_from(starts: Sequence[Path], config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of this command with its data's paths as a run that was started elsewhere must name them."""
    here = Path.cwd()

    def seen(name: str, path: str) -> str:
        return path if name == "augment" or not starts or starts[0] == here else str(here / path)

    return {**config, "data": _moved(config["data"], seen)}


def _moved(data: Mapping[str, Any], move: Callable[[str, str], str]) -> dict[str, Any]:
    moved = {name: move(name, path) for name in FILES if isinstance(path := data.get(name), str)}
    source = {name: moved[name] for name in moved if name in data["source"] and data["source"][name] == data[name]}
    return {**data, **moved, "source": {**data["source"], **source}}


def require_same_faces(run: Run, data: FaceData) -> None:
    """Raises BadInput if the prepared ``data`` differs from the run's training data."""
    if data.manifest != run.record["data"]["manifest"]:
        raise BadInput(
            f"resume: the faces of {run.folder} have changed (the data manifest differs); "
            f"start a new run with {words.shown('init_from', run.folder)}"
        )
    if data.summary()["attributes"] != run.record["data"].get("attributes"):
        raise BadInput(f"resume: the labels of {run.folder} have changed; data.attributes must name the same labels")


def require_same_labels(asked: Mapping[str, Any], module: Scheme, data: FaceData) -> None:
    """Raises BadInput if a command that continues a run says ``labels``, and the run is told others than all."""
    mine, theirs = conditions.with_names(asked["model"], data), module.config["model"]
    if asked["model"].get("conditional") == conditions.ALL and mine["conditional"] != list(theirs["conditional"]):
        there = f"run_dir: {asked['run_dir']} holds a run of another configuration: {conditions.KEY} is"
        raise BadInput(f"{there} {list(theirs['conditional'])} there, all of {mine['conditional']} here")


def is_finished(plan: Plan, faces: int, saved: Mapping[str, Any]) -> bool:
    """Whether the plan's limits are reached, with ``faces`` for training, or the run stopped early."""
    limit = plan.limit_images(faces, plan.config["data"]["batch_size"])
    clock = saved["clock"]
    done = limit is not None and clock["images"] >= limit
    return saved["end"] is not None or done or plan.is_late(clock["seconds"])


def _require_newest(path: Path, saved: Mapping[str, Any]) -> None:
    """Refuse to resume an older checkpoint, which would drop what came after it. Raises BadInput."""
    last = path.with_name("last.ckpt")
    if path.name == last.name or not last.is_file():
        return
    try:
        newest = checkpoint.read(last)["clock"]["images"]
    except BadInput:
        return
    if newest > saved["clock"]["images"]:
        folder = path.parent.parent
        raise BadInput(
            f"resume: {path} is at image {saved['clock']['images']}, the run has since reached {newest}; "
            f"{words.shown('resume', folder)} continues from there, "
            f"{words.shown('init_from', path)} starts a new run from these weights"
        )


def merge_resumed(saved: Mapping[str, Any], asked: Mapping[str, Any], overrides: Iterable[str]) -> Json:
    """A run's own configuration with the limits, devices and logger given in ``overrides``; a given limit replaces all.

    Raises BadInput naming any other key whose value differs from the run's.
    """
    overrides = list(overrides)
    merged = _copied(saved)
    if any(override.startswith(LIMITS) for override in overrides):
        merged["trainer"] |= dict.fromkeys((limit.partition(".")[2] for limit in LIMITS), None)
    for override in overrides:
        key = _key(override)
        if key in ("resume", "trusted_packages") or key.startswith("hydra"):
            continue
        mine, theirs = _value(asked, key), _value(saved, key)
        if key.startswith("callbacks"):
            merged["callbacks"] = asked["callbacks"]
        elif key in RESUMABLE or key.startswith(("logger", "guard")):
            _take(merged, asked, key)
        elif mine != theirs:
            raise BadInput(
                f"resume: {key} is {theirs!r} in this run, {mine!r} was given; a resumed run keeps its own "
                f"configuration (limits, gpus, processes, guard, logger, callbacks and data location may change)"
            )
    return merged


def merge_same(saved: Mapping[str, Any], asked: Mapping[str, Any], overrides: Iterable[str]) -> Json:
    """A run's own configuration, with what may change as the same command says it now.

    Raises BadInput naming the other keys of the whole configuration that differ.
    """
    if differing := _differing(saved, asked, {_key(override) for override in overrides}):
        folder = asked["run_dir"]
        shown = [f"{key} is {_value(saved, key)!r} there, {_value(asked, key)!r} here" for key in differing[:NAMED]]
        more = [f"and {len(differing) - NAMED} more"] if len(differing) > NAMED else []
        raise BadInput(
            f"run_dir: {folder} holds a run of another configuration: {'; '.join([*shown, *more])}. Name another "
            f"folder, or continue that run as it is: {words.train(words.word('resume', folder))}"
        )
    merged = _copied(saved) | {node: asked[node] for node in WHOLE}
    for key in RESUMABLE:
        _take(merged, asked, key)
    return merged


def _differing(saved: Mapping[str, Any], asked: Mapping[str, Any], typed: Collection[str]) -> list[str]:
    """Keys whose values differ: choices of groups first, then single keys outside those groups."""
    mine, theirs = dict(_leaves(asked)), dict(_leaves(saved))
    if mine.get("trainer.precision") == "auto":  # the run keeps what it was resolved to
        mine["trainer.precision"] = theirs.get("trainer.precision")
    if mine.get(conditions.KEY) == conditions.ALL and theirs.get(conditions.KEY):  # see require_same_labels
        mine[conditions.KEY] = theirs[conditions.KEY]
    keys = [key for key in {**theirs, **mine} if key in theirs or key in typed]  # a newer version may have added others
    leaves = [key for key in keys if mine.get(key) != theirs.get(key)]
    chosen = [group for group in asked["choices"] if _value(asked, group) != _value(saved, group)]
    groups = {group: f"{group.replace('/', '.')}." for group in chosen}
    groups = {group: below for group, below in groups.items() if any(key.startswith(below) for key in leaves)}
    return [*groups, *(key for key in leaves if not key.startswith(tuple(groups.values())))]


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Keys and values that must not change."""
    moved = {f"data.source.{key.partition('.')[2]}" for key in PLACES}
    for key, value in walk(config):
        node = key.partition(".")[0]
        if node in (*WHOLE, *OF_COMMAND, "choices", "") or key in RESUMABLE or key in moved:
            continue
        if "[" not in key and not isinstance(value, Mapping):
            yield key, str(value) if key == "trainer.precision" else value  # 32 or "32"


def _copied(saved: Mapping[str, Any]) -> Json:
    return {name: dict(node) if isinstance(node, Mapping) else node for name, node in saved.items()}


def _take(merged: Json, asked: Mapping[str, Any], key: str) -> None:
    """Give ``merged`` what this command says about a key, or a whole node, that may change."""
    node, _, name = key.partition(".")
    mine = _value(asked, key)
    merged[node] = {**merged.get(node, asked[node]), name: mine} if name else mine
    if node == "data" and name in merged["data"]["source"]:
        merged["data"]["source"] = {**merged["data"]["source"], name: mine}


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _value(config: Mapping[str, Any], key: str) -> object:
    if key in config["choices"]:
        return config["choices"][key] if key != "logger" else config[key]
    node: object = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
