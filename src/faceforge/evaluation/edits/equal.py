"""Ways of editing at equal cost: a stronger edit flips more and costs more, so strengths of two ways mean nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from faceforge.evaluation.edits.curves import Point, Values

IDLE = 0.1  # a way is left out if all its strengths cost less than this share of the costliest way


def cost_of(point: Point) -> float:
    """1 - the mean similarity of faces before and after; where it is not measured, the mean change of a pixel."""
    values = point.values
    return float(1 - values["identity"].mean() if "identity" in values else values["change"].mean())


def common_cost(curves: Mapping[str, Sequence[Point]]) -> tuple[float, list[str]]:
    """The largest cost that each way reaches, and the ways that move hardly anything, which are left out of it."""
    reached = {way: max(map(cost_of, points)) for way, points in curves.items()}
    idle = [way for way, cost in reached.items() if cost < IDLE * max(reached.values())]
    return min((cost for way, cost in reached.items() if way not in idle), default=0.0), idle


def at_cost(points: Sequence[Point], cost: float) -> Point:
    """The edit whose mean cost is this, linear between the two strengths where the curve first reaches it.

    The first point must be the unedited faces. Raises ValueError if no strength costs as much.
    """
    costs = [cost_of(point) for point in points]
    for low, high, start, end in zip(points, points[1:], costs, costs[1:], strict=False):
        if end >= cost:
            return _between(low, high, 1.0 if end <= start else min(1.0, max(0.0, (cost - start) / (end - start))))
    raise ValueError(f"no strength costs {cost:g}; the most is {max(costs):g}")


def _between(low: Point, high: Point, share: float) -> Point:
    def mixed(a: float, b: float) -> float:
        return (1 - share) * a + share * b

    values: dict[str, Values] = {}
    for name, later in high.values.items():
        values[name] = np.asarray((1 - share) * low.values[name] + share * later)
    others = {name: mixed(low.others[name], later) for name, later in high.others.items()}
    distance = None if low.kid is None or high.kid is None else mixed(low.kid, high.kid)
    return Point(mixed(low.strength, high.strength), values, others, distance)
