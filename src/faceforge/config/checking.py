"""The first check of a command line, before torch is imported: reports all wrong keys, choices and values."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from faceforge.config import parameters
from faceforge.config.composing import Library, check_task, has_own_sweeper, parse, resolve, texts_of, values_of
from faceforge.config.multirun import not_installed
from faceforge.config.nodes import Guard, Root, TrainerOptions
from faceforge.errors import BadInput

INSTEAD = {  # of null, which turns off what the user does not want
    "logger": "logger.mode=disabled logs to metrics.csv only",
    "callbacks": "callbacks.NAME=null turns one of them off",
    "data": "data=drawn needs no files",
    "task": "task=none is no task",
}
OFF = ("false", "none", "off", "no", "disabled")
OURS = ("faceforge.", "torch.")
JOBS_CHECKED = 256  # jobs of a sweep; in larger sweeps each value is checked once
MOST_VALUES = 10_000  # per key
Found = tuple[str, list[str]]  # swept overrides of a job, and its problems


NODES: dict[str, Callable[..., object]] = {"": Root, "trainer": TrainerOptions, "guard": Guard}  # need no torch


def check_overrides(
    overrides: Iterable[str],
    multirun: bool = False,
    library: Library | None = None,
    types: bool = False,
    bases: dict[str, DictConfig] | None = None,
) -> list[str]:
    """Every unknown key or choice (with the closest one) and every value of the wrong type, one line each.

    Under ``multirun`` every job of a sweep is checked (beyond JOBS_CHECKED every value once). A problem of only some
    jobs is reported with the first of them. ``types`` imports torch, once nothing else is wrong, and compares with the
    annotations of the constructors. ``bases`` receives the composition of each combination of groups. Raises
    BadInput if a folder of yaml files does not exist.
    """
    overrides = list(overrides)
    library = library or Library(overrides)
    parsed, problems = parse(library.plainly(overrides, multirun))
    sweeps = [_check_sweep(o, multirun, has_own_sweeper(parsed), library) for o in parsed]
    parsed = [o for o, problem in zip(parsed, sweeps, strict=True) if not problem]
    wrong = [list(_check_choice(o, library)) if library.is_group(o.key_or_group) else [] for o in parsed]
    problems += [*filter(None, sweeps), *itertools.chain(*wrong)]
    chosen = [library.is_group(o.key_or_group) or o.key_or_group == "hydra.searchpath" for o in parsed]
    groups = [o for o, is_choice, lines in zip(parsed, chosen, wrong, strict=True) if is_choice and not lines]
    values = [o for o, is_choice in zip(parsed, chosen, strict=True) if not is_choice]
    jobs = _Jobs(library, groups, values, {} if bases is None else bases)
    problems += jobs.said(jobs.check_values(types=False))
    if types:
        problems = problems or jobs.said(jobs.check_values(types=True))
    return list(dict.fromkeys(problems or jobs.said(jobs.check_wholes(types))))


@dataclass
class _Jobs:
    """The jobs of a command line: each combination of groups with each combination of values."""

    files: Library
    groups: list[Override]
    values: list[Override]
    bases: dict[str, DictConfig]  # composition of each combination of groups
    choices: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def check_values(self, types: bool) -> list[Found]:
        """Check each override against the yaml of each combination of groups."""
        found = []
        for swept, chosen in _products(self.groups, JOBS_CHECKED):
            try:
                base = self.bases.get(swept) or self.files.compose([str(o.input_line) for o in chosen])
            except (HydraException, OmegaConfBaseException) as error:
                found.append((swept, [one_line(error)]))
            else:
                self.bases[swept], self.choices[swept] = base, base.hydra.runtime.choices
                found.append((swept, list(_check_values(self.values, base, types, self.files))))
        return found

    def check_wholes(self, types: bool) -> list[Found]:
        """Check each job's full configuration."""
        most = JOBS_CHECKED // len(self.bases)
        return [
            (f"{swept} {s}".strip(), _check_whole(base, values, self.choices[swept], types))
            for swept, base in self.bases.items()
            for s, values in _products(self.values, most)
        ]

    @staticmethod
    def said(jobs: list[Found]) -> list[str]:
        """Each problem once; a problem of only some jobs with the first of them."""
        counts = Counter(problem for _, problems in jobs for problem in problems)
        first = {problem: swept for swept, problems in reversed(jobs) for problem in problems}
        return [
            problem if count == len(jobs) else f"{problem} (with {first[problem]})" for problem, count in counts.items()
        ]


def _check_values(values: Iterable[Override], base: DictConfig, types: bool, library: Library) -> Iterator[str]:
    known = [k for k in _keys(base) if not k.startswith("hydra.")]
    for override in values:
        if override.is_hydra_override() and isinstance(OmegaConf.select(base, override.key_or_group), DictConfig):
            if form := _form_like(override.key_or_group, override, base, library):
                yield f"{override.key_or_group}: {override.get_value_string()} is not a node; {form}"
        elif not override.is_hydra_override() and not override.is_delete():
            yield from _check_value(override, base, known, types, library)


def _check_whole(base: DictConfig, values: list[Override], choices: Mapping[str, Any], types: bool) -> list[str]:
    config = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config([v for v in values if not v.is_hydra_override()], config)
        resolved = resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        return [one_line(error)]
    wrong = [line for path, kind in NODES.items() for line in _check_node(resolved, path, kind)]
    wrong = wrong or list(_not_finite(resolved))
    if types and not wrong:
        from faceforge.config.building import check_targets

        wrong = check_targets(resolved, resolved["trusted_packages"])
    problem = None if wrong else check_task(resolved, choices)
    return [problem] if problem else wrong


def _check_node(config: Mapping[str, Any], path: str, kind: Callable[..., object]) -> Iterator[str]:
    node = config.get(path) if path else config
    if not isinstance(node, Mapping):
        return
    for name, hint in parameters.of(kind).items():
        if name in node and (problem := parameters.complaint(name, node[name], hint)):
            yield f"{path}.{name}: {problem}".lstrip(".")


def _check_choice(override: Override, library: Library) -> Iterator[str]:
    group = override.key_or_group
    names, named = library.names(group), [] if override.is_delete() else values_of(override)
    if None in named or (override.is_delete() and "/" not in group and group != "experiment"):
        yield f"{group}: null cannot be chosen; {INSTEAD.get(group) or 'there are ' + ', '.join(names)}"
    for choice in named:
        if lacking := not_installed(group, str(choice)):
            yield f"{group}: {choice} {lacking}"
        elif choice is not None and str(choice) not in names:
            form = INSTEAD.get(group) if str(choice).lower() in OFF else library.choice_like(group, choice)
            yield f"{group}: there is no {choice!r}; {form or nearest(str(choice), names)}"


def _check_value(
    override: Override, base: DictConfig, known: list[str], types: bool, library: Library
) -> Iterator[str]:
    key = override.key_or_group
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else None
    target = str(node.get("_target_")) if isinstance(node, DictConfig) else ""
    added = override.is_add() or override.is_force_add()
    is_node = isinstance(OmegaConf.select(base, key), DictConfig)
    if key not in known and not name.startswith("_") and (not added or target.startswith("faceforge.")):
        if not added and _takes_more(target, name):
            yield f"{key}: not in the yaml; add it with +{key}={override.get_value_string()}"
        else:
            yield f"{key}: unknown; {nearest(key, known)}"
        return
    if (is_node or library.is_group(key.replace(".", "/"))) and (form := _form_like(key, override, base, library)):
        yield f"{key}: {override.get_value_string()} is not a node; {form}"
        return
    hints = parameters.of(NODES[parent]) if parent in NODES else {}
    if types and not hints:
        from faceforge.config.building import hints_of

        hints = hints_of(target, base.trusted_packages)
    hint = hints.get(name)
    for value in values_of(override):
        problem = parameters.complaint(name, value, hint) if hint else None
        if problem := problem or _other_kind(value, OmegaConf.select(base, key), target):
            yield f"{key}: {problem}"


def _form_like(key: str, override: Override, base: DictConfig, library: Library) -> str | None:
    """The form that an override of a whole node may have meant; None if a value may replace it."""
    group, value, node = key.replace(".", "/"), values_of(override)[0], OmegaConf.select(base, key)
    if value is None or isinstance(value, dict):
        return None
    if form := library.choice_like(group, value):
        return form
    if library.is_group(group) and (choices := library.names(group)):
        return nearest(f"{group}={value}", [f"{group}={name}" for name in choices])
    names = [str(name) for name in node if not str(name).startswith("_")]
    return f"set its keys, such as {key}.{names[0]}" if names else None


def _other_kind(value: Any, default: Any, target: str) -> str | None:
    """A parameter that is a number or boolean in the yaml takes no text; annotations are checked later."""
    if not target.startswith(OURS) or not isinstance(default, bool | int | float):
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool | None) else f"{value!r} is not true or false"
    return f"{value!r} is not a number" if isinstance(value, str | bool) else None


def _takes_more(target: str, name: str) -> bool:
    """Whether a torch target has a parameter that the yaml does not list; ours are all listed."""
    from faceforge.config.building import find

    try:
        return target.startswith("torch.") and name in inspect.signature(find(target)).parameters
    except (BadInput, ValueError, TypeError):
        return False


def _check_sweep(override: Override, multirun: bool, own_sweeper: bool, library: Library) -> str | None:
    text = override.input_line
    if not override.is_sweep_override():
        return None
    if not multirun:
        return f"{text}: several values are a sweep, which needs -m; a text with commas needs quotes"
    if override.is_interval_sweep():
        return None if own_sweeper else f"{text}: the basic sweeper takes no intervals; name values or range(...)"
    if isinstance(override.value(), Glob):
        group = override.key_or_group
        there = f"there are {', '.join(library.names(group))}" if library.is_group(group) else "it is no group"
        return f"{text}: matches no choice; {there}"
    try:
        count = len(list(itertools.islice(override.sweep_iterator(), MOST_VALUES + 1)))
    except (HydraException, ValueError) as error:
        return f"{text}: {one_line(error)}"
    return None if 0 < count <= MOST_VALUES else f"{text}: must name 1 to {MOST_VALUES:,} values"


def _products(overrides: list[Override], most: int) -> list[tuple[str, list[Override]]]:
    """Each combination of swept values with its swept overrides; if more than ``most``, each value once."""
    options = [parse(texts_of(o))[0] if o.is_sweep_override() else [o] for o in overrides]
    swept = [n for n, values in enumerate(options) if len(values) > 1]
    if math.prod(map(len, options)) <= most:
        made = [list(product) for product in itertools.product(*options)]
    else:
        first = [values[0] for values in options]
        made = [first, *([*first[:n], v, *first[n + 1 :]] for n in swept for v in options[n][1:])][:JOBS_CHECKED]
    return [(" ".join(str(job[n].input_line) for n in swept), job) for job in made]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for name in node:
            yield f"{prefix}{name}"
            child = node._get_node(name)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
                yield from _keys(child, f"{prefix}{name}.")


def walk(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of plain data with its dotted key, inner ones first, itself last."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from walk(child, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from walk(child, f"{path}[{i}]")
    yield path, node


def _not_finite(node: Any) -> Iterator[str]:
    """NaN and infinite numbers in the parameters of any target."""
    for key, value in walk(node):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{key}: {value} must be a finite number"


def nearest(word: str, names: list[str]) -> str:
    """The closest name, or all names."""
    tails = {n.rsplit(".", 1)[-1]: n for n in reversed(names)}
    close = get_close_matches(word, names, 1, 0.6)
    close = close or [tails[t] for t in get_close_matches(word.rsplit(".", 1)[-1], tails, 1, 0.35)]
    if close:
        return f"did you mean {close[0]!r}?"
    return "there are " + ", ".join(names) if len(names) < 30 else "see --cfg job for all keys"


def one_line(error: BaseException | str) -> str:
    """A message on one line."""
    return " ".join(str(error).split())
