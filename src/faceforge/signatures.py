"""What constructors of ours take, read from the source text: names and types, long before torch is imported."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sized
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
NUMBERS = {"int": "a whole number", "float": "a number"}
SIMPLE = {"bool": "true or false", "str": "a text"}
SEQUENCES = ("list", "tuple", "Sequence")
MAPPINGS = ("dict", "Mapping")
ANYTHING = ("Any", "object")
SIZES = ("size", "channels", "in_channels", "width", "max_width", "latent_size", "factor")  # 1 or more
AMOUNTS = (  # 0 or more
    "blocks", "val_samples", "freeze_statistics", "ema_half_life", "ema_ramp", "clip_norm", "epsilon",
    "r1_gamma", "r2_gamma", "discriminator_weight", "adversarial_weight", "loss_weight",
)  # fmt: skip
Signature = dict[str, ast.expr | None]


class Unfit(Exception):
    """A value is not of the type that an annotation asks for."""


@cache
def of(target: str) -> Signature | None:
    """Parameter names and annotations of a class or function of faceforge; None where there is no such.

    Aliases of types are replaced by what they stand for. What comes after the star in a signature is given at run time
    and is left out.
    """
    module, _, name = target.rpartition(".")
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            found = _parameters(node)
            return found and {n: a and _Expand(module).visit(a) for n, a in found.items()}
    return None


@cache
def _tree(module: str) -> ast.Module:
    first, *parts = module.split(".")
    source = PACKAGE.joinpath(*parts).with_suffix(".py")
    if first != "faceforge" or not source.is_file():
        return ast.Module([], [])
    return ast.parse(source.read_text(encoding="utf-8"))


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> Signature | None:
    if isinstance(node, ast.FunctionDef):
        return {a.arg: a.annotation for a in [*node.args.posonlyargs, *node.args.args] if a.arg != "self"}
    inits = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    if inits:
        return _parameters(inits[0])
    fields: Signature = {
        n.target.id: n.annotation for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
    }
    return fields or None


class _Expand(ast.NodeTransformer):
    """Puts the meaning of a module's type aliases in their place, those imported from faceforge too."""

    def __init__(self, module: str) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        for statement in _tree(self.module).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == node.id:
                return self.visit(ast.parse(ast.unparse(statement.value), mode="eval").body)
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("faceforge."):
                names = {alias.asname or alias.name: alias.name for alias in statement.names}
                if node.id in names:
                    return _Expand(str(statement.module)).visit(ast.Name(names[node.id]))
        return node


def fit(value: Any, annotation: ast.expr) -> Any:
    """A value of a yaml as an annotation asks for it: a whole float as int, where that is wanted. Raises Unfit."""
    if isinstance(annotation, ast.BinOp):
        return _fit_first(value, [annotation.left, annotation.right])
    if isinstance(annotation, ast.Subscript):
        return _fit_generic(value, ast.unparse(annotation.value), annotation.slice)
    kind = ast.unparse(annotation)
    if kind == "None":
        return _require(value, value is None)
    if kind in NUMBERS:
        return _fit_number(value, kind)
    if kind in SIMPLE:
        return _require(value, isinstance(value, bool if kind == "bool" else str))
    if kind in SEQUENCES:
        return _require(value, _is_sequence(value))
    # everything else is an object, which a node with a _target_ makes
    return _require(value, kind in ANYTHING or isinstance(value, Mapping))


def _fit_first(value: Any, annotations: list[ast.expr]) -> Any:
    """As the first annotation that takes the value unchanged asks for it, or else the first that takes it at all."""
    fitted = []
    for annotation in annotations:
        try:
            fitted.append(fit(value, annotation))
        except Unfit:
            continue
    if not fitted:
        raise Unfit
    return next((found for found in fitted if type(found) is type(value)), fitted[0])


def _fit_number(value: Any, kind: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(value, number and (kind == "float" or value == int(value)))
    return int(value) if kind == "int" else value


def _fit_generic(value: Any, kind: str, inner: ast.expr) -> Any:
    elements = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if kind == "Literal":
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        known = [(type(choice), choice) for choice in map(ast.literal_eval, elements)]
        return _require(whole, (type(whole), whole) in known)
    if kind in ("Union", "Optional"):
        return _fit_first(value, [*elements, *([ast.Constant(None)] if kind == "Optional" else [])])
    if kind not in SEQUENCES:
        return _require(value, isinstance(value, Mapping))
    _require(value, _is_sequence(value))
    if kind == "tuple" and ast.unparse(elements[-1]) != "...":
        _require(value, len(value) == len(elements))
        return [fit(v, element) for v, element in zip(value, elements, strict=True)]
    return [fit(v, elements[0]) for v in value]


def _is_sequence(value: Any) -> bool:
    return not isinstance(value, str | Mapping) and isinstance(value, Sized)


def _require(value: Any, holds: bool) -> Any:
    if not holds:
        raise Unfit
    return value


def complaint(name: str, value: Any, annotation: ast.expr) -> str | None:
    """What is wrong with the value of a parameter, without its key; None where nothing is."""
    try:
        fit(value, annotation)
    except Unfit:
        if isinstance(value, float) and not math.isfinite(value):
            return f"{value} must be a finite number"
        return f"{'null' if value is None else repr(value)} is not {_words(annotation)}"
    least = 1 if name in SIZES else 0 if name in AMOUNTS else -math.inf
    numbers = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int | float)]
    return f"{value} must be at least {least}" if min(numbers, default=math.inf) < least else None


def _words(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.BinOp):
        return f"{_words(annotation.left)} or {_words(annotation.right)}"
    kind = ast.unparse(annotation)
    if isinstance(annotation, ast.Subscript):
        kind = ast.unparse(annotation.value)
        elements = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if kind == "Literal":
            return f"one of [{', '.join(map(ast.unparse, elements))}]"
        if kind in SEQUENCES:
            return "[" + ", ".join(map(_words, elements)) + ", ..." * (kind != "tuple") + "]"
    return {**NUMBERS, **SIMPLE, "None": "null", "list": "a list"}.get(kind, "a node with a _target_")
