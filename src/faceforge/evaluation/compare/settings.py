"""Runs that differ in their seeds alone are one setting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from faceforge.evaluation.compare.runs import Run
from faceforge.runs.table import printable

SEEDS = ("seed", "data.seed", "data.task.seed", "task.seed", "model.seed")  # those that follow the run's
LIMITS = tuple(f"trainer.max_{name}" for name in ("images", "epochs", "steps", "minutes"))
PLACES = ("root", "cache", "workers", "engine", "attributes")
SAME = (  # what says nothing about what is learned
    *("run_dir", "resume", "trusted_packages", "logger", "guard", "callbacks", "choices", "input", "tasks"),
    *(f"trainer.{name}" for name in ("gpus", "processes", "nodes", "requeue", "max_wait", "log_every", "sample_every")),
    *(f"data.{name}" for name in PLACES),
    *(f"data.source.{name}" for name in PLACES),
)
SHOWN = 8  # keys in which settings differ


@dataclass(frozen=True)
class Setting:
    """A row of the comparison: the runs of one configuration, each with another seed, in the order of their seeds."""

    name: str
    runs: tuple[Run, ...]


def settings(runs: Sequence[Run]) -> list[Setting]:
    """The settings in the order of their first runs.

    Limits may differ where all runs ended at the same number of images. Runs with the same seed stand apart.
    """
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    parts = [part for group in groups.values() for part in _parts(group)]
    parts.sort(key=lambda part: runs.index(part[0]))
    names = [_name(part) for part in parts]
    return [
        Setting(name if names.count(name) == 1 else part[0].name, tuple(sorted(part, key=_order)))
        for name, part in zip(names, parts, strict=True)
    ]


def _order(run: Run) -> tuple[bool, float, str]:
    seed = run.seed
    return (False, float(seed), "") if isinstance(seed, int | float) else (True, 0.0, str(seed))


def _key(run: Run) -> object:
    found = tuple((key, repr(value)) for key, value in leaves(run.entry.config) if _tells(key) and key not in LIMITS)
    return tuple(sorted(found)) if found else run.folder


def _parts(group: Sequence[Run]) -> list[list[Run]]:
    """A group of runs, divided where their limits and lengths differ, or where a seed occurs twice."""
    images = {run.entry.record.number("images") for run in group}
    limits: dict[object, list[Run]] = {}
    for run in group:
        own = [run.entry.config.at(key) for key in LIMITS]
        limits.setdefault(repr(own) if len(images) > 1 else "", []).append(run)
    return [
        part
        for runs in limits.values()
        for part in ([runs] if len({repr(run.seed) for run in runs}) == len(runs) else [[run] for run in runs])
    ]


def _tells(key: str) -> bool:
    return key not in SEEDS and not any(key == same or key.startswith(f"{same}.") for same in SAME)


def _name(runs: Sequence[Run]) -> str:
    """What the names of the runs have in common, without their seeds and the hashes of a sweep's jobs."""
    if len(runs) == 1:
        return runs[0].name
    bare = {_bare(run.name, run.seed) for run in runs}
    return bare.pop() if len(bare) == 1 else f"{runs[0].name} ..."


def _bare(name: str, seed: object) -> str:
    """``lr=1-seed=2-0a1b2c3d`` is ``lr=1``, and ``big-s2`` is ``big``."""
    found, number = re.sub(r"-[0-9a-f]{8}$", "", name), re.escape(str(seed))
    for mark in ("seed[=_-]?", "s", ""):
        found, count = re.subn(rf"(^|[-_,/ ]){mark}{number}(?=$|[-_,/ ])", "", found, count=1)
        if count:
            break
    return found.strip("-_.,/ ") or "seed"


def leaves(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a configuration; a list is a value."""
    if not isinstance(node, Mapping):
        yield path, node
        return
    for key, child in node.items():
        yield from leaves(child, f"{path}.{key}".lstrip("."))


def differing(found: Sequence[Setting]) -> list[tuple[str, list[str]]]:
    """Keys in which the configurations of settings differ, with the value of each: choices of groups first.

    What a chosen group itself holds is left out; at most SHOWN keys.
    """
    configs = [dict(leaves(setting.runs[0].entry.config)) for setting in found]
    keys = list(dict.fromkeys(key for config in configs for key in config))
    unlike = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    own = ("choices.logger", "choices.experiment", "choices.trainer")
    chosen = [key for key in unlike if key.startswith("choices.") and key not in own]
    groups = [key.removeprefix("choices.").replace("/", ".") for key in chosen]
    single = [
        key
        for key in unlike
        if _tells(key) and not any(key == group or key.startswith(f"{group}.") for group in groups)
    ]
    shown = [*chosen, *single][:SHOWN]
    return [
        (printable(key.removeprefix("choices.")), [printable(str(config.get(key))) for config in configs])
        for key in shown
    ]


def paired(first: Setting, other: Setting) -> list[tuple[Run, Run]]:
    """Runs of two settings with the same seed; if no seed is common, in the order of their seeds."""
    by_seed = {repr(run.seed): run for run in first.runs}
    same = [(by_seed[repr(run.seed)], run) for run in other.runs if repr(run.seed) in by_seed]
    return same or list(zip(first.runs, other.runs, strict=False))
