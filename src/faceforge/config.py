"""The configuration's border: everything wrong is said at once, and objects are built by one allow-listed door.

``check_overrides`` needs no torch: names come from the yaml files, types from the signatures in the source text.
``check_targets`` imports what the configuration names, binds it against real signatures and the allow-list.
"""

from __future__ import annotations

import ast
import copy
import functools
import importlib
import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from faceforge import signatures
from faceforge.errors import BadInput

PACKAGE = Path(__file__).parent
ALLOWED = ("faceforge", "torch.nn", "torch.optim", "pytorch_lightning.callbacks", "pytorch_lightning.loggers")
FUNCTIONS = ("faceforge.engine.loggers.make_loggers",)  # every other target is a class
OWN_PARTS = ("networks", "schemes", "losses", "metrics", "data", "engine")
CARRIED = ("networks", "schemes", "losses", "metrics.features", "data.tasks")  # none of them takes a path
PATHS = ("run_dir", "resume", "init_from", "data.root", "data.attributes", "data.cache")
NEVER_MISSING = ("_target_", "_partial_", "_convert_", "_recursive_")
JOBS_CHECKED = 256  # of a sweep, one by one; of a larger one each value once
MOST_VALUES = 10_000  # of one key
ROOT = "faceforge.config.Root"
Found = tuple[str, list[str]]  # what is swept in a job, and the problems there


@dataclass
class Root:
    """The keys at the top of train.yaml and their types."""

    seed: int
    tasks: list[str]
    run_dir: str | None
    resume: str | None
    init_from: str | None
    trusted_packages: list[str]
    guard: Mapping[str, Any]
    input: Mapping[str, Any]


def conf_dir() -> Path:
    """The folder of yaml files: beside the sources in a checkout, inside the package once installed."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"


def compose(overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The resolved configuration for some overrides, as plain data. Raises BadInput with every problem."""
    overrides = plainly(overrides)
    bases: dict[str, DictConfig] = {}
    problems = check_overrides(overrides, bases=bases)
    if problems:
        raise BadInput("\n".join(problems))
    (config,) = bases.values()
    ConfigLoaderImpl._apply_overrides_to_config([o for o in _parse(overrides)[0] if not _is_group(o)], config)
    return plain(config, overrides)


def plain(config: DictConfig, overrides: Iterable[str], choices: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Resolve to plain data, whole floats as ints where whole numbers are asked for; add the ``choices`` made, and let
    a limit named by hand replace the default one. Raises BadInput.
    """
    named = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    choices = choices or HydraConfig.get().runtime.choices
    resolved = _fitted({"_target_": ROOT, **_resolve(config)})
    del resolved["_target_"]
    made = {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}
    resolved["choices"] = {"experiment": None, **made}
    if problem := _check_task(resolved, resolved["choices"]):
        raise BadInput(problem)
    limits = {"trainer.max_epochs", "trainer.max_steps", "trainer.max_minutes"}
    if named & limits and "trainer.max_images" not in named:
        resolved["trainer"]["max_images"] = None
    return resolved


def _fitted(node: Any) -> Any:
    """Plain data with every parameter of ours as its annotation asks for it."""
    if isinstance(node, list):
        return [_fitted(child) for child in node]
    if not isinstance(node, dict):
        return node
    signature = (signatures.of(str(node["_target_"])) if "_target_" in node else None) or {}
    fitted = {name: _fitted(child) for name, child in node.items()}
    for name, annotation in signature.items():
        if annotation and name in fitted:
            with suppress(signatures.Unfit):  # stage one has said so, or a run of before had it
                fitted[name] = signatures.fit(fitted[name], annotation)
    return fitted


def _resolve(config: DictConfig) -> dict[str, Any]:
    with flag_override(config, ["struct", "readonly"], False):
        config = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _compose(overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        config = hydra.compose("train", overrides=overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return config


# --------------------------------------------------------------------------- stage one: names and types, without torch


def check_overrides(
    overrides: Iterable[str], multirun: bool = False, bases: dict[str, DictConfig] | None = None
) -> list[str]:
    """Every unknown key or choice (with the nearest right one) and every value of a wrong type, one line each.

    Under ``multirun`` every job of a sweep is checked (beyond JOBS_CHECKED every value once). A problem that only some
    jobs have is said with the first that has it. ``bases`` is given what each combination of groups composes to.
    """
    bases = {} if bases is None else bases
    parsed, problems = _parse(plainly(overrides, multirun))
    sweeps = [_check_sweep(o, multirun, _own_sweeper(parsed)) for o in parsed]
    parsed = [o for o, problem in zip(parsed, sweeps, strict=True) if not problem]
    wrong = [list(_check_choice(o)) if _is_group(o) else [] for o in parsed]
    problems += [*filter(None, sweeps), *itertools.chain(*wrong)]
    groups = [o for o, lines in zip(parsed, wrong, strict=True) if _is_group(o) and not lines]
    values = [o for o in parsed if not _is_group(o)]
    names: list[Found] = []
    wholes: list[Found] = []
    chosen = _products(groups, JOBS_CHECKED)
    for swept, choices in chosen:
        try:
            base = bases[swept] = _compose([str(o.input_line) for o in choices])
        except (HydraException, OmegaConfBaseException) as error:
            names.append((swept, [_one_line(error)]))
            continue
        names.append((swept, list(_check_values(values, base))))
        if not problems and not names[-1][1]:
            made, runtime = _products(values, JOBS_CHECKED // len(chosen)), HydraConfig.get().runtime.choices
            wholes += [(f"{swept} {s}".strip(), _check_whole(base, v, runtime)) for s, v in made]
    return list(dict.fromkeys([*problems, *_said(names), *_said(wholes)]))


def _check_values(values: Iterable[Override], base: DictConfig) -> Iterator[str]:
    known = [k for k in _keys(base) if not k.startswith("hydra.")]
    for override in values:
        if not override.is_hydra_override() and not override.is_delete():
            yield from _check_value(override, base, known)


def _check_whole(base: DictConfig, values: list[Override], choices: Mapping[str, Any]) -> list[str]:
    config = copy.deepcopy(base)
    try:
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        resolved = _resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        return [_one_line(error)]
    nodes = [("", {"_target_": ROOT, **resolved}), *_targets(resolved)]
    wrong = [problem for path, node in nodes for problem in _check_node(path, node)]
    wrong = wrong or list(_not_finite(resolved))
    problem = None if wrong else _check_task(resolved, choices)
    return [problem] if problem else wrong


def _said(jobs: list[Found]) -> list[str]:
    """Each problem once; one that not all jobs have with the first that has it."""
    counts = Counter(problem for _, problems in jobs for problem in problems)
    first = {problem: swept for swept, problems in reversed(jobs) for problem in problems}
    return [
        problem if count == len(jobs) else f"{problem} (with {first[problem]})" for problem, count in counts.items()
    ]


def _check_task(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """A model's yaml lists the tasks it takes."""
    task, model, legal = choices["task"], choices["model"], config["tasks"]
    if task in legal:
        return None
    takes = f"{', '.join(legal[:-1])}{' or ' * (len(legal) > 1)}{legal[-1]}" if legal else "none (tasks is empty)"
    return f"task={task}: model={model} takes {takes}"


def _parse(overrides: Iterable[str]) -> tuple[list[Override], list[str]]:
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed.append(_parse_one(text))
        except HydraException:
            problems.append(f"{text}: not understood; write group=name or dotted.key=value (quote what has spaces)")
    return parsed, problems


@functools.lru_cache(1024)
def _parse_one(text: str) -> Override:
    """Each word is asked for several times, and Hydra's grammar takes milliseconds."""
    return OverridesParser.create().parse_override(text)


def quote_path(override: str, multirun: bool = False) -> str:
    """``data.root=my photos (2)`` as Hydra wants it, in quotes; commas still sweep under multirun."""
    key, _, value = override.partition("=")
    plain_enough = re.fullmatch(r"[\w./\\:-]*", value) or value[:1] in "'\""
    if key not in PATHS or plain_enough or (multirun and "," in value):
        return override
    return f"{key}='" + value.replace("'", "\\'") + "'"


def plainly(overrides: Iterable[str], multirun: bool = False) -> list[str]:
    """Overrides in words that Hydra has: it knows no ``group=null``, and its globs leave out choices in folders."""
    return [_plainly(text, multirun) for text in overrides]


def _plainly(text: str, multirun: bool) -> str:
    parsed, _ = _parse([text])
    if not parsed or not _is_group(parsed[0]) or parsed[0].is_delete():
        return text
    key, value = parsed[0].key_or_group, parsed[0].value()
    if isinstance(value, Glob) and multirun and (names := _matching(value, key)):
        return f"{key}={','.join(names)}"
    if value is None and key == "experiment":
        return "~experiment"
    if value is None and "/" in key and not key.startswith("hydra/"):
        return f"{key.replace('/', '.')}=null"
    return text


def _matching(glob: Glob, group: str) -> list[str]:
    names = [name for name in _names(group) if any(fnmatch(name, pattern) for pattern in glob.include)]
    return [name for name in names if not any(fnmatch(name, pattern) for pattern in glob.exclude)]


def _is_group(override: Override) -> bool:
    key = override.key_or_group
    return key.startswith("hydra/") or (conf_dir() / key).is_dir()


def _names(group: str) -> list[str]:
    """The choices of a group; base.yaml is what others begin with."""
    folder = conf_dir() / group
    names = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml") if p.stem != "base")
    return [n for n in names if "/" not in n or group == "experiment"]


def _check_choice(override: Override) -> Iterator[str]:
    group = override.key_or_group
    if group.startswith("hydra/"):
        return
    names, named = _names(group), [] if override.is_delete() else _choices(override)
    if None in named or (override.is_delete() and "/" not in group and group != "experiment"):
        yield f"{group}: null cannot be chosen; there are {', '.join(names)}"
    for choice in named:
        if choice is not None and str(choice) not in names:
            yield f"{group}: there is no {choice!r}; {_nearest(str(choice), names)}"


def _check_value(override: Override, base: DictConfig, known: list[str]) -> Iterator[str]:
    key = override.key_or_group
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(base, parent) if parent else None
    if not override.is_add() and not override.is_force_add() and key not in known:
        if _takes_more(node, name):
            yield f"{key}: not in the yaml; add it with +{key}={override.get_value_string()}"
        else:
            yield f"{key}: unknown; {_nearest(key, known)}"
        return
    target = ROOT if not parent else str(node.get("_target_")) if isinstance(node, DictConfig) else ""
    expected = (signatures.of(target) or {}).get(name) or _like(OmegaConf.select(base, key))
    for value in _choices(override):
        if expected and (problem := signatures.complaint(name, value, expected)):
            yield f"{key}: {problem}"


def _takes_more(node: Any, name: str) -> bool:
    """Whether a node's target of torch's has a parameter that the yaml does not list; of ours it lists all."""
    target = str(node.get("_target_")) if isinstance(node, DictConfig) else ""
    try:
        return target.startswith("torch.") and name in inspect.signature(resolve(target)).parameters
    except (BadInput, ValueError, TypeError):
        return False


# ------------------------------------------------------------------------------------------------------------ sweeps


def is_sweep(words: Iterable[str]) -> bool:
    """Whether overrides ask for a sweep by themselves, as -m does."""
    return any(re.fullmatch(r"\+*hydra\.mode=MULTIRUN", word) for word in words)


def jobs_of(overrides: Iterable[str]) -> list[list[str]] | None:
    """The overrides of each job of a sweep, in order; None where a sweeper other than Hydra's basic one decides."""
    parsed, _ = _parse(plainly(overrides, multirun=True))
    if _own_sweeper(parsed):
        return None
    return BasicSweeper.split_arguments([o for o in parsed if not o.is_hydra_override()], None)[0]


def unswept_keys(overrides: Iterable[str]) -> list[str]:
    """The keys of a multirun that have one value in every job."""
    return [o.key_or_group for o in _parse(overrides)[0] if not o.is_sweep_override()]


def _own_sweeper(parsed: Iterable[Override]) -> bool:
    return any(o.key_or_group == "hydra/sweeper" and o.value() != "basic" for o in parsed)


def _check_sweep(override: Override, multirun: bool, own_sweeper: bool) -> str | None:
    text = override.input_line
    if not override.is_sweep_override():
        return None
    if not multirun:
        return f"{text}: several values are a sweep, which needs -m; a text with commas needs quotes"
    if override.is_interval_sweep():
        return None if own_sweeper else f"{text}: the basic sweeper takes no intervals; name values or range(...)"
    if isinstance(override.value(), Glob):
        there = f"there are {', '.join(_names(override.key_or_group))}" if _is_group(override) else "it is no group"
        return f"{text}: matches no choice; {there}"
    try:
        count = len(list(itertools.islice(override.sweep_iterator(), MOST_VALUES + 1)))
    except (HydraException, ValueError) as error:
        return f"{text}: {_one_line(error)}"
    return None if 0 < count <= MOST_VALUES else f"{text}: must name 1 to {MOST_VALUES:,} values"


def _choices(override: Override) -> list[Any]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [value.start, value.end]
    values = override.sweep_iterator() if override.is_sweep_override() else [value]
    return [Override._convert_value(v) for v in values]  # type: ignore[arg-type]


def _products(overrides: list[Override], most: int) -> list[tuple[str, list[Override]]]:
    """Each combination of swept values, and in words what is swept in it; if more than ``most``, each value once."""
    options = [_parse(_texts(o))[0] if o.is_sweep_override() else [o] for o in overrides]
    swept = [n for n, values in enumerate(options) if len(values) > 1]
    if math.prod(map(len, options)) <= most:
        made = [list(product) for product in itertools.product(*options)]
    else:
        first = [values[0] for values in options]
        made = [first, *([*first[:n], v, *first[n + 1 :]] for n in swept for v in options[n][1:])][:JOBS_CHECKED]
    return [(" ".join(str(job[n].input_line) for n in swept), job) for job in made]


def _texts(override: Override) -> list[str]:
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}", f"{key}={value.end}"]
    return [f"{key}={text}" for text in override.sweep_string_iterator()]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for name in node:
            yield f"{prefix}{name}"
            child = node._get_node(name)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
                yield from _keys(child, f"{prefix}{name}.")


def _nearest(word: str, names: list[str]) -> str:
    tails = {n.rsplit(".", 1)[-1]: n for n in reversed(names)}
    close = get_close_matches(word, names, 1, 0.6)
    close = close or [tails[t] for t in get_close_matches(word.rsplit(".", 1)[-1], tails, 1, 0.35)]
    if close:
        return f"did you mean {close[0]!r}?"
    return "there are " + ", ".join(names) if len(names) < 30 else "see --cfg job for all keys"


def _targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node that names a ``_target_``, inner ones first."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _targets(child, f"{path}.{name}".lstrip("."))
        if "_target_" in node:
            yield path, dict(node)
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from _targets(child, f"{path}[{i}]")


def _check_node(path: str, node: dict[str, Any]) -> Iterator[str]:
    signature = signatures.of(str(node["_target_"]))
    if signature is None:
        return
    for name, value in node.items():
        key = f"{path}.{name}".lstrip(".")
        if name in NEVER_MISSING or (not path and name not in signature):
            continue
        if name not in signature:
            yield f"{key}: unknown; {_nearest(name, list(signature))}"
        elif (expected := signature[name]) and (problem := signatures.complaint(name, value, expected)):
            yield f"{key}: {problem}"


def _not_finite(node: Any, path: str = "") -> Iterator[str]:
    """Numbers that are none, in whatever target's parameters they stand."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _not_finite(child, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from _not_finite(child, f"{path}[{i}]")
    elif isinstance(node, float) and not math.isfinite(node):
        yield f"{path}: {node} must be a finite number"


def _like(value: Any) -> ast.expr | None:
    """Third-party parameters have the type that their yaml value shows."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return ast.Name("bool" if kind is bool else "float")
    return None


def _one_line(error: BaseException | str) -> str:
    return " ".join(str(error).split())


# ----------------------------------------------------------------- stage two: signatures and the allow-list, then build


def check_targets(config: Mapping[str, Any], trusted: Iterable[str] = ()) -> list[str]:
    """One line for each ``_target_`` that is not allowed, not there, or does not take what the yaml gives.

    The configuration is resolved, so that a text which Hydra would resolve again is one of the problems.
    """
    try:
        problems = list(_unresolved(config))
        nodes = list(_targets(config))
    except RecursionError:
        return ["the configuration is nested too deeply"]
    for path, node in nodes:
        try:
            target = resolve(str(node["_target_"]), trusted)
            given = {k: v for k, v in node.items() if k not in NEVER_MISSING}
            problems += _check_signature(path, node, inspect.signature(target), given)
        except BadInput as error:
            problems.append(f"{path}._target_: {error}")
    return problems


def _unresolved(node: Any, path: str = "") -> Iterator[str]:
    """An interpolation could yield a node of its own, which nobody has looked at."""
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _unresolved(child, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list | tuple):
        for i, child in enumerate(node):
            yield from _unresolved(child, f"{path}[{i}]")
    elif isinstance(node, str) and "${" in node:
        yield f"{path}: {shorten(node)} is not resolved; write the value itself"


def shorten(text: str) -> str:
    """A text from outside, quoted on one line of bearable length."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _check_signature(
    path: str, node: Mapping[str, Any], signature: inspect.Signature, given: Mapping[str, Any]
) -> Iterator[str]:
    """What comes after the star in a signature is given at run time, not by a yaml."""
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needs = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    for name in given:
        if name not in takes:
            yield f"{path}.{name}: {node['_target_']} has no such parameter; {_nearest(name, takes)}"
    for name in needs:
        if name not in given and not node.get("_partial_"):
            yield f"{path}.{name}: missing; {node['_target_']} needs it"


def resolve(target: str, trusted: Iterable[str] = ()) -> Any:
    """The class or function that a ``_target_`` names, if the allow-list has it. Raises BadInput."""
    allowed = (*ALLOWED, *trusted)
    if not any(target.startswith(f"{prefix}.") for prefix in allowed):
        raise BadInput(
            f"{shorten(target)} is not on the allow-list ({', '.join(allowed)}); name own packages in trusted_packages"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise BadInput(f"{shorten(target)} does not exist") from None
    known = _is_ours(target, found) or _is_torch_class(target, found) or _is_lightning_class(target, found)
    if not known and not _is_trusted(found, trusted):
        raise BadInput(f"{shorten(target)} is not a network, loss, module, data source, optimiser or scheduler")
    return found


def _is_ours(target: str, found: Any) -> bool:
    part = target.split(".")[1]
    home = getattr(found, "__module__", "")
    return (
        part in OWN_PARTS and home.startswith(f"faceforge.{part}") and (inspect.isclass(found) or target in FUNCTIONS)
    )


def _is_torch_class(target: str, found: Any) -> bool:
    from torch import nn, optim

    bases = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    return (
        inspect.isclass(found)
        and issubclass(found, bases)
        and found.__module__.startswith(("torch.nn.", "torch.optim."))
    )


def _is_lightning_class(target: str, found: Any) -> bool:
    if not target.startswith("pytorch_lightning."):
        return False
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger

    return inspect.isclass(found) and issubclass(found, (pl.Callback, Logger))


def _is_trusted(found: Any, trusted: Iterable[str]) -> bool:
    home = getattr(found, "__module__", "")
    return callable(found) and any(home == t or home.startswith(f"{t}.") for t in trusted)


def build(node: Mapping[str, Any], trusted: Iterable[str] = (), at: str = "", **runtime: Any) -> Any:
    """Instantiate the node at a dotted key; the only call of Hydra's ``instantiate``. Raises BadInput.

    Optimisers and schedules, which are made later, are tried on a parameter of one weight. ``runtime`` are keyword-only
    parameters of the node's own target, which no yaml gives.
    """
    problems = check_targets({at: node}, trusted)
    if problems:
        raise BadInput("\n".join(problem.lstrip(".") for problem in problems))
    with naming(at):
        built = hydra.utils.instantiate({**node, "_partial_": True} if runtime else dict(node), _convert_="all")
        for path, inner in _targets(node):
            if inner.get("_partial_"):
                _try(inner, f"{at}.{path}".strip("."))
        return built(**runtime) if runtime else built


def _try(node: Mapping[str, Any], at: str) -> None:
    """Make an optimiser or a schedule, as training will, to see if it takes what the yaml gives."""
    from torch import nn, ones, optim

    factory = hydra.utils.instantiate(dict(node), _convert_="all")
    kind = factory.func
    if not inspect.isclass(kind) or not issubclass(kind, (optim.Optimizer, optim.lr_scheduler.LRScheduler)):
        return
    weight = nn.Parameter(ones(1, 1))
    with naming(at):
        factory([weight] if issubclass(kind, optim.Optimizer) else optim.SGD([weight], lr=1.0))


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Whatever a constructor raises becomes BadInput, named by the dotted key of its node."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # constructors say it each in their way, torch among them
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        if isinstance(cause, BadInput):
            raise cause from None
        inner = re.search(r"full_key: (\S+)", str(error)) if isinstance(error, HydraException) else None
        place = ".".join(filter(None, [key, inner and inner[1]]))
        raise BadInput(_told(cause, place)) from error


def _told(error: BaseException, key: str) -> str:
    """ValueErrors are sentences already; of others the kind says the most."""
    text = _one_line(error)[:300]
    if not isinstance(error, ValueError):
        text = f"cannot be made ({type(error).__name__}{text and ': '}{text})"
    return text if not key or text.startswith((f"{key}.", f"{key}=")) else f"{key}: {text}"


def build_from(file: Path, node: Any, trusted: Iterable[str] = ()) -> Any:
    """As build(), for a node that a file carries: whatever is wrong with it is BadInput, naming the file.

    The file may come from a stranger, so it may name no data source or logger, which would open paths of its choice.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise BadInput(f"{file}: its configuration names no model")
    try:
        _require_carried(node)
        return build(node, trusted)
    except BadInput as error:
        raise BadInput(f"{file}: its configuration: {_one_line(error)}") from None


def _require_carried(node: Mapping[str, Any]) -> None:
    for path, inner in _targets(node):
        target = str(inner["_target_"])
        if target.startswith("faceforge.") and not target.startswith(tuple(f"faceforge.{part}." for part in CARRIED)):
            raise BadInput(f"{path}._target_: {shorten(target)} must be a network, loss, module or task".lstrip("."))
