"""The second check, against the real constructors, and the only, allow-listed call of Hydra's ``instantiate``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException

from faceforge.config import parameters
from faceforge.config.checking import nearest, one_line, walk
from faceforge.errors import BadInput, to_install

ALLOWED = ("faceforge", "torch.nn", "torch.optim", "pytorch_lightning.callbacks", "pytorch_lightning.loggers", "aim")
FUNCTIONS = ("faceforge.engine.loggers.make_loggers",)  # every other target is a class
OWN_PARTS = ("networks", "schemes", "schedules", "losses", "metrics", "data", "engine", "config.nodes")
CARRIED = (  # none of them takes a path
    *("networks", "schemes", "schedules", "losses", "data.tasks"),
    *("metrics.features.FeatureMaps", "metrics.features.lite0", "metrics.features.squeezenet"),
    *("metrics.features.dlib_face", "metrics.dlib_face", "metrics.identity"),
)
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_")  # Hydra's own keys of a node
Target = Callable[..., Any]


def check_targets(config: Mapping[str, Any], trusted: Iterable[str] = ()) -> list[str]:
    """One line per ``_target_`` that is not allowed, does not exist, or does not accept the yaml's parameters.

    The configuration is resolved: a string that Hydra would resolve again is a problem.
    """
    try:
        problems = list(_unresolved(config))
        nodes = list(targets(config))
    except RecursionError:
        return ["the configuration is nested too deeply"]
    for path, node in nodes:
        try:
            target = find(str(node["_target_"]), trusted)
            given = {k: v for k, v in node.items() if k not in SPECIAL}
            problems += _check_signature(path, node, inspect.signature(target), given)
            problems += _check_types(path, target, given)
        except BadInput as error:
            problems.append(f"{path}._target_: {error}")
    return problems


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node with a ``_target_``, inner ones first."""
    return ((key, dict(part)) for key, part in walk(node, path) if isinstance(part, Mapping) and "_target_" in part)


def _unresolved(node: Any) -> Iterator[str]:
    """An interpolation could produce an unchecked node."""
    for key, value in walk(node):
        if isinstance(value, str) and "${" in value:
            yield f"{key}: {shorten(value)} is not resolved; write the value itself"


def shorten(text: str) -> str:
    """Untrusted text, quoted and shortened to one line."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _check_signature(
    path: str, node: Mapping[str, Any], signature: inspect.Signature, given: Mapping[str, Any]
) -> Iterator[str]:
    """Keyword-only parameters are given at run time, not by a yaml."""
    taken = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return
    takes = [p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needs = [p.name for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    for name in given:
        if name not in takes:
            yield f"{path}.{name}: {node['_target_']} has no such parameter; {nearest(name, takes)}"
    for name in needs:
        if name not in given and not node.get("_partial_"):
            yield f"{path}.{name}: missing; {node['_target_']} needs it"


def _check_types(path: str, target: Target, given: Mapping[str, Any]) -> Iterator[str]:
    for name, hint in _hints(target).items():
        if name in given and (problem := parameters.complaint(name, given[name], hint)):
            yield f"{path}.{name}: {problem}".lstrip(".")


def _hints(target: Target) -> parameters.Hints:
    """Annotations of torch and Lightning vary between releases and are narrower than what they accept."""
    return {} if target.__module__.startswith(("torch.", "pytorch_lightning.")) else parameters.of(target)


def fitted(node: Any, hints: parameters.Hints | None = None) -> Any:
    """Plain data with our parameters converted to their annotations, whole floats to ints.

    ``hints`` are the annotations of a node without a ``_target_``.
    """
    if isinstance(node, list):
        return [fitted(child) for child in node]
    if not isinstance(node, dict):
        return node
    whole = {name: fitted(child) for name, child in node.items()}
    for name, hint in (hints or hints_of(str(node.get("_target_", "")))).items():
        if name in whole:
            with suppress(parameters.Unfit):  # the check reports it
                whole[name] = parameters.fit(whole[name], hint)
    return whole


def hints_of(name: str, trusted: Iterable[str] = ()) -> parameters.Hints:
    """The annotations of a ``_target_``'s parameters; none if it is unknown or not allowed."""
    try:
        return _hints(find(name, trusted))
    except BadInput:
        return {}


def find(target: str, trusted: Iterable[str] = ()) -> Target:
    """The class or function of a ``_target_`` on the allow-list. Raises BadInput."""
    trusted = tuple(trusted)
    allowed = (*ALLOWED, *trusted)
    if not any(target.startswith(f"{prefix}.") for prefix in allowed):
        raise BadInput(
            f"{shorten(target)} is not on the allow-list ({', '.join(allowed)}); name own packages in trusted_packages"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(_import(module, trusted), name)
    except (ImportError, AttributeError, ValueError) as error:
        if module.startswith("aim."):
            raise BadInput(f"{shorten(target)} needs aim; {to_install('aim')}") from None
        why = f" ({one_line(error)})" if module.split(".")[0] in trusted else ""
        raise BadInput(f"{shorten(target)} does not exist{why}") from None
    known = _is_ours(target, found) or _is_torch_class(target, found) or _is_lightning_class(target, found)
    if not known and not _is_trusted(found, trusted):
        raise BadInput(f"{shorten(target)} is not a network, loss, module, data source, optimiser or scheduler")
    return found


def _import(module: str, trusted: tuple[str, ...]) -> object:
    """A trusted package may also be in the working directory."""
    if module.split(".")[0] in trusted and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return importlib.import_module(module)


def _is_ours(target: str, found: object) -> bool:
    parts = tuple(f"faceforge.{part}" for part in OWN_PARTS)
    return _below(target, parts) and _below(found.__module__, parts) and (inspect.isclass(found) or target in FUNCTIONS)


def _below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_torch_class(target: str, found: object) -> bool:
    if not target.startswith("torch."):
        return False
    from torch import nn, optim

    bases = (nn.Module, optim.Optimizer, optim.lr_scheduler.LRScheduler)
    return (
        inspect.isclass(found)
        and issubclass(found, bases)
        and found.__module__.startswith(("torch.nn.", "torch.optim."))
    )


def _is_lightning_class(target: str, found: object) -> bool:
    if not target.startswith(("pytorch_lightning.", "aim.pytorch_lightning.")):
        return False
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger

    return inspect.isclass(found) and issubclass(found, (pl.Callback, Logger))


def _is_trusted(found: object, trusted: Iterable[str]) -> bool:
    return callable(found) and _below(found.__module__, trusted)


def build(node: Mapping[str, Any], trusted: Iterable[str] = (), at: str = "", **runtime: Any) -> Any:
    """Instantiate the node at a dotted key; the only call of Hydra's ``instantiate``. Raises BadInput.

    Optimisers and schedules, which are built later, are tested on a parameter of one weight. ``runtime`` are
    keyword-only parameters of the node's target, which no yaml gives.
    """
    problems = check_targets({at: node}, trusted)
    if problems:
        raise BadInput("\n".join(problem.lstrip(".") for problem in problems))
    with naming(at):
        built = hydra.utils.instantiate({**node, "_partial_": True} if runtime else dict(node), _convert_="all")
        for path, inner in targets(node):
            if inner.get("_partial_"):
                _try(inner, f"{at}.{path}".strip("."))
        return built(**runtime) if runtime else built


def _try(node: Mapping[str, Any], at: str) -> None:
    """Build an optimiser or schedule as in training, to check the yaml's parameters."""
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
    """Turn any error of a constructor into BadInput with the dotted key of its node."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # constructors raise many types
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        if isinstance(cause, BadInput):
            raise cause from None
        inner = re.search(r"full_key: (\S+)", str(error)) if isinstance(error, HydraException) else None
        place = ".".join(filter(None, [key, inner and inner[1]]))
        raise BadInput(_told(cause, place)) from error


def _told(error: BaseException, key: str) -> str:
    """ValueErrors are complete messages; for others the type says the most."""
    text = one_line(error)[:300]
    if not isinstance(error, ValueError):
        text = f"cannot be made ({type(error).__name__}{text and ': '}{text})"
    return text if not key or text.startswith((f"{key}.", f"{key}=")) else f"{key}: {text}"


def build_from(file: Path, node: Any, trusted: Iterable[str] = ()) -> Any:
    """As build(), for a node stored in a file: any problem is BadInput naming the file.

    The file may come from a stranger, so it must not name data sources or loggers, which could open any path.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise BadInput(f"{file}: its configuration names no model")
    try:
        _require_carried(node)
        return build(node, trusted)
    except BadInput as error:
        raise BadInput(f"{file}: its configuration: {one_line(error)}") from None


def _require_carried(node: Mapping[str, Any]) -> None:
    for path, inner in targets(node):
        target = str(inner["_target_"])
        if target.startswith("faceforge.") and not _below(target, [f"faceforge.{part}" for part in CARRIED]):
            raise BadInput(f"{path}._target_: {shorten(target)} must be a network, loss, module or task".lstrip("."))
