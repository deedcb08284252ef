"""Checks configuration values against the annotations of the parameters that take them."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

NUMBERS = {int: "a whole number", float: "a number"}
SIMPLE = {bool: "true or false", str: "a text", Path: "a text", type(None): "null"}
SEQUENCES = (list, tuple, Sequence)
SIZES = ("size", "channels", "in_channels", "width", "max_width", "latent_size", "factor")  # 1 or more
AMOUNTS = (  # 0 or more
    "blocks", "val_samples", "freeze_statistics", "ema_half_life", "ema_ramp", "clip_norm", "epsilon",
    "r1_gamma", "r2_gamma", "discriminator_weight", "adversarial_weight", "loss_weight",
)  # fmt: skip
Hints = dict[str, Any]  # annotations have no common type


class Unfit(Exception):
    """A value does not have the annotated type."""


@cache
def of(target: Callable[..., object]) -> Hints:
    """The annotations of a class's or function's parameters; none if they cannot be resolved."""
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}
    return {name: hint for name, hint in hints.items() if name != "return"}


def fit(value: Any, hint: Any) -> Any:
    """A yaml value converted to an annotation: a whole float becomes int if needed. Raises Unfit."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return _fit_first(value, inner)
    if kind is Literal:
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        return _require(whole, (type(whole), whole) in [(type(choice), choice) for choice in inner])
    if kind in NUMBERS:
        return _fit_number(value, kind)
    if kind in SIMPLE:
        return _require(value, isinstance(value, str if kind is Path else kind))
    if kind in SEQUENCES:
        return _fit_sequence(value, kind, inner)
    return _require(value, not _is_object(kind) or isinstance(value, Mapping))


def _is_object(kind: Any) -> bool:
    """Whether an annotation requires a node with a ``_target_``."""
    home = getattr(kind, "__module__", "")
    return kind in (dict, Mapping, Callable) or (inspect.isclass(kind) and home.split(".")[0] in ("torch", "faceforge"))


def _fit_first(value: Any, hints: Sequence[Any]) -> Any:
    """Converted to the first annotation that accepts the value unchanged, else to the first that accepts it."""
    fitted = []
    for hint in hints:
        try:
            fitted.append(fit(value, hint))
        except Unfit:
            continue
    if not fitted:
        raise Unfit
    return next((one for one in fitted if type(one) is type(value)), fitted[0])


def _fit_number(value: Any, kind: type) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(value, number and (kind is float or value == int(value)))
    return int(value) if kind is int else value


def _fit_sequence(value: Any, kind: type, inner: Sequence[Any]) -> Any:
    _require(value, isinstance(value, Sequence) and not isinstance(value, str))
    if kind is tuple and inner and inner[-1] is not ...:
        _require(value, len(value) == len(inner))
        return [fit(v, hint) for v, hint in zip(value, inner, strict=True)]
    return [fit(v, inner[0]) for v in value] if inner else list(value)


def _require(value: Any, holds: bool) -> Any:
    if not holds:
        raise Unfit
    return value


def complaint(name: str, value: Any, hint: Any) -> str | None:
    """The problem with a parameter's value, without its key; None if there is none."""
    try:
        fit(value, hint)
    except Unfit:
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value} must be a finite number"
        return f"{'null' if value is None else repr(value)} is not {words(hint)}"
    least = 1 if name in SIZES else 0 if name in AMOUNTS else -math.inf
    numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
    return f"{value} must be at least {least}" if min(numbers, default=math.inf) < least else None


def words(hint: Any) -> str:
    """An annotation in words, for messages."""
    kind, inner = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(map(words, inner))
    if kind is Literal:
        return f"one of [{', '.join(map(repr, inner))}]"
    if kind in SEQUENCES and inner:
        fixed = kind is tuple and inner[-1] is not ...
        return "[" + ", ".join(map(words, inner if fixed else inner[:1])) + ", ..." * (not fixed) + "]"
    return {**NUMBERS, **SIMPLE, list: "a list"}.get(kind, "a node with a _target_")
