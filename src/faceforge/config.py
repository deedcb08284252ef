"""The configuration's border: everything wrong is said at once, and objects are built by one allow-listed door.

``check_overrides`` needs no torch: names come from the yaml files, types from the signatures in the source text.
``check_targets`` imports what the configuration names, binds it against real signatures and the allow-list.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from faceforge.errors import BadInput

PACKAGE = Path(__file__).parent
ALLOWED = ("faceforge", "torch.nn", "torch.optim")
FUNCTIONS = ("faceforge.loggers.make_loggers",)  # every other target is a class
OWN_PARTS = ("networks", "modules", "losses", "evaluation", "data", "loggers", "training")
PATHS = ("run_dir", "resume", "init_from", "data.root", "data.attributes", "data.cache")
NEVER_MISSING = ("_target_", "_partial_", "_convert_", "_recursive_")


@dataclass
class Root:
    """The keys at the top of train.yaml and their types."""

    seed: int
    tasks: list[str]
    run_dir: str | None
    resume: str | None
    init_from: str | None
    trusted_packages: list[str]


def conf_dir() -> Path:
    """The folder of yaml files: beside the sources in a checkout, inside the package once installed."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "conf"


def compose(overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The resolved configuration for some overrides, as plain data. Raises BadInput with every problem."""
    overrides = list(overrides)
    problems = check_overrides(overrides)
    if problems:
        raise BadInput("\n".join(problems))
    return plain(_compose(overrides), overrides)


def plain(config: DictConfig, overrides: Iterable[str], choices: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Resolve to plain data, add the ``choices`` made, and let a limit named by hand replace the default one."""
    named = {override.split("=", 1)[0].lstrip("+~") for override in overrides}
    choices = choices or HydraConfig.get().runtime.choices
    resolved = _resolve(config)
    resolved["choices"] = {str(k): v for k, v in choices.items() if not str(k).startswith("hydra/")}
    if problem := _check_task(resolved, resolved["choices"]):
        raise BadInput(problem)
    limits = {"trainer.max_epochs", "trainer.max_steps", "trainer.max_minutes"}
    if named & limits and "trainer.max_images" not in named:
        resolved["trainer"]["max_images"] = None
    return resolved


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


def check_overrides(overrides: list[str]) -> list[str]:
    """Every unknown key or choice (with the nearest right one) and every value of a wrong type, one line each."""
    parsed, problems = _parse(overrides)
    groups = [o for o in parsed if _is_group(o)]
    bad_groups = {id(o): problem for o in groups if (problem := _check_choice(o))}
    problems += bad_groups.values()
    try:
        base = _compose([_first_value(o) for o in groups if id(o) not in bad_groups])
    except (HydraException, OmegaConfBaseException) as error:
        return [*problems, _one_line(error)]
    values = [o for o in parsed if not _is_group(o) and not o.key_or_group.startswith("hydra.")]
    wrong = [problem for o in values for problem in _check_value(o, base)]
    return problems + wrong if problems or wrong else _check_whole([_first_value(o) for o in parsed])


def _check_whole(overrides: list[str]) -> list[str]:
    try:
        resolved = _resolve(_compose(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        return [_one_line(error)]
    problem = _check_task(resolved, HydraConfig.get().runtime.choices)
    wrong = [problem for path, node in _targets(resolved) for problem in _check_node(path, node)]
    return [problem, *wrong] if problem else wrong


def _check_task(config: Mapping[str, Any], choices: Mapping[str, Any]) -> str | None:
    """A model's yaml lists the tasks it takes."""
    task, model, legal = choices["task"], choices["model"], config["tasks"]
    if task in legal:
        return None
    return f"task={task}: model={model} takes {', '.join(legal[:-1])}{' or ' * (len(legal) > 1)}{legal[-1]}"


def _parse(overrides: list[str]) -> tuple[list[Override], list[str]]:
    parser, parsed, problems = OverridesParser.create(), [], []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            problems.append(f"{text}: not understood; write group=name or dotted.key=value (quote what has spaces)")
    return parsed, problems


def quote_path(override: str, multirun: bool = False) -> str:
    """``data.root=my photos (2)`` as Hydra wants it, in quotes; commas still sweep under multirun."""
    key, _, value = override.partition("=")
    plain_enough = re.fullmatch(r"[\w./\\:-]*", value) or value[:1] in "'\""
    if key not in PATHS or plain_enough or (multirun and "," in value):
        return override
    return f"{key}='" + value.replace("'", "\\'") + "'"


def unswept_keys(overrides: list[str]) -> list[str]:
    """The keys of a multirun that have one value in every job."""
    return [o.key_or_group for o in _parse(overrides)[0] if not o.is_sweep_override()]


def _is_group(override: Override) -> bool:
    return (conf_dir() / override.key_or_group).is_dir()


def _choices(override: Override) -> list[Any]:
    return list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]


def _first_value(override: Override) -> str:
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def _check_choice(override: Override) -> str | None:
    folder = conf_dir() / override.key_or_group
    names = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    names = [n for n in names if "/" not in n or override.key_or_group == "experiment"]
    for choice in _choices(override):
        if choice is not None and str(choice) not in names:
            return f"{override.key_or_group}: there is no {choice!r}; {_nearest(str(choice), names)}"
    return None


def _check_value(override: Override, base: DictConfig) -> Iterator[str]:
    key = override.key_or_group
    known = [k for k in _keys(base) if not k.startswith("hydra.")]
    if override.is_delete():
        return
    if not override.is_add() and not override.is_force_add() and key not in known:
        yield f"{key}: unknown; {_nearest(key, known)}"
        return
    parent, _, name = key.rpartition(".")
    annotation = _annotation(OmegaConf.select(base, parent) if parent else None, name)
    for value in _choices(override):
        expected = annotation or _like(OmegaConf.select(base, key))
        if expected and not _conforms(value, expected):
            yield f"{key}: {value!r} is not {_words(expected)}"


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
    signature = _source_signature(str(node["_target_"]))
    if signature is None:
        return
    for name in node:
        if name in NEVER_MISSING:
            continue
        if name not in signature:
            yield f"{path}.{name}: unknown; {_nearest(name, list(signature))}"
        elif (expected := signature[name]) and not _conforms(node[name], expected):
            yield f"{path}.{name}: {node[name]!r} is not {_words(expected)}"


def _annotation(parent: Any, name: str) -> ast.expr | None:
    if parent is None:
        return _source_signature("faceforge.config.Root").get(name)  # type: ignore[union-attr]
    target = parent.get("_target_") if isinstance(parent, DictConfig) else None
    return (_source_signature(str(target)) or {}).get(name) if target else None


@cache
def _source_signature(target: str) -> dict[str, ast.expr | None] | None:
    """Parameter names and annotations of one of our own callables, read from the source text; None if unknown."""
    module, _, name = target.rpartition(".")
    parts = module.split(".")
    source = PACKAGE.joinpath(*parts[1:]).with_suffix(".py")
    if parts[0] != "faceforge" or not source.is_file():
        return None
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return _parameters(node)
    return None


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> dict[str, ast.expr | None] | None:
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return {a.arg: a.annotation for a in arguments if a.arg != "self"}
    inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    if inits:
        return _parameters(inits[0])
    fields: dict[str, ast.expr | None] = {
        n.target.id: n.annotation for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    return fields or None


def _like(value: Any) -> ast.expr | None:
    """Third-party parameters have the type that their yaml value shows."""
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return ast.Name("bool" if kind is bool else "float")
    return None


def _conforms(value: Any, annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.BinOp):
        return _conforms(value, annotation.left) or _conforms(value, annotation.right)
    if isinstance(annotation, ast.Constant):
        return value is None if annotation.value is None else True
    if isinstance(annotation, ast.Subscript):
        return _conforms_generic(value, ast.unparse(annotation.value), annotation.slice)
    kind = ast.unparse(annotation)
    if kind in ("int", "float") and isinstance(value, bool):
        return False
    simple: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "str": (str,),
    }
    return isinstance(value, simple[kind]) if kind in simple else True


def _conforms_generic(value: Any, kind: str, inner: ast.expr) -> bool:
    if kind == "Literal":
        return value in ast.literal_eval(inner if isinstance(inner, ast.Tuple) else ast.Tuple([inner], ast.Load()))
    if kind not in ("list", "tuple", "Sequence"):
        return True
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return False
    element = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
    return all(_conforms(v, element) for v in value)


def _words(annotation: ast.expr) -> str:
    text = ast.unparse(annotation)
    names = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a text",
        "None": "null",
    }
    return " or ".join(names.get(part.strip(), part.strip()) for part in text.split("|")).replace("Literal", "one of ")


def _one_line(error: BaseException) -> str:
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
    if not _is_ours(target, found) and not _is_torch_class(target, found) and not _is_trusted(found, trusted):
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


def _is_trusted(found: Any, trusted: Iterable[str]) -> bool:
    home = getattr(found, "__module__", "")
    return callable(found) and any(home == t or home.startswith(f"{t}.") for t in trusted)


def build(node: Mapping[str, Any], trusted: Iterable[str] = (), **runtime: Any) -> Any:
    """Instantiate a configuration node; the only call of Hydra's ``instantiate``. Raises BadInput.

    ``runtime`` are keyword-only parameters of the node's own target, which no yaml gives.
    """
    problems = check_targets({"": node}, trusted)
    if problems:
        raise BadInput("\n".join(problem.lstrip(".") for problem in problems))
    try:
        built = hydra.utils.instantiate({**node, "_partial_": True} if runtime else dict(node), _convert_="all")
        return built(**runtime) if runtime else built
    except HydraException as error:
        if isinstance(error.__cause__, BadInput):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise BadInput(str(error.__cause__)) from None
        raise


def build_from(file: Path, node: Any, trusted: Iterable[str] = ()) -> Any:
    """As build(), for a node that a file carries: whatever is wrong with it is BadInput, naming the file."""
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise BadInput(f"{file}: its configuration names no model")
    try:
        return build(node, trusted)
    except BadInput as error:
        raise BadInput(f"{file}: its configuration: {_one_line(error)}") from None
    except Exception as error:  # constructors say it each in their way, torch among them
        raise BadInput(f"{file}: its configuration cannot be built ({_one_line(error)[:200]})") from None
