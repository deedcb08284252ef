"""The search space of a sweep: Hydra's words for values as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from faceforge.config.composing import parse, texts_of
from faceforge.errors import BadInput

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def space_of(overrides: Iterable[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """The overrides with one value, and a distribution for each key that has several. Raises BadInput."""
    fixed: dict[str, str] = {}
    space: dict[str, BaseDistribution] = {}
    for override in parse(overrides)[0]:
        if override.is_hydra_override():
            continue
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed[key] = str(override.input_line)
            continue
        try:
            space[key] = _distribution(override)
        except ValueError as error:
            raise BadInput(f"{override.input_line}: {' '.join(str(error).split())}") from None
    return list(fixed.values()), space


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high, is_log = value.start, value.end, "log" in value.tags
        assert low is not None
        assert high is not None
        if "int" in value.tags or (isinstance(low, int) and isinstance(high, int)):
            return IntDistribution(int(low), int(high), log=is_log)
        return FloatDistribution(float(low), float(high), log=is_log)
    if isinstance(value, RangeSweep) and all(isinstance(n, int) for n in (value.start, value.stop, value.step)):
        values = list(value.range())
        if len(values) > 1 and value.step and value.step > 0:
            return IntDistribution(int(values[0]), int(values[-1]), step=int(value.step))
    return CategoricalDistribution([text.partition("=")[2] for text in texts_of(override)])
