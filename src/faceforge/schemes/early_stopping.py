"""Early stopping. Counted in validations, which follow the clock."""

from __future__ import annotations

import math
from typing import Protocol

from faceforge.errors import BadInput
from faceforge.types import Json


class Stop(Protocol):
    """Called after every validation; its state is stored in the checkpoint."""

    def update(self, scores: dict[str, float]) -> str | None:
        """Why the run must stop now, in one sentence; None to continue. Raises BadInput if its metric is missing."""
        ...

    def state_dict(self) -> Json:
        """Plain data."""
        ...

    def load_state_dict(self, state: Json) -> None:
        """Restore the state in the checkpoint."""
        ...


class EarlyStop:
    """Stops a run when ``metric`` has not fallen more than ``min_delta`` below its best for ``patience`` validations.

    Counted as in Keras' EarlyStopping; Prechelt 1998, "Early stopping - but when?". The published super-resolution
    uses val/mae, 1e-4 and 10, with one validation per epoch.
    """

    def __init__(self, metric: str, min_delta: float, patience: int) -> None:
        if patience < 1 or min_delta < 0:
            raise BadInput(f"model.stop: patience={patience}, min_delta={min_delta}; must be at least 1 and at least 0")
        self.metric, self.min_delta, self.patience = metric, min_delta, patience
        self.best, self.waited = math.inf, 0

    def update(self, scores: dict[str, float]) -> str | None:
        """As Stop.update."""
        value = _score(scores, self.metric)
        if value < self.best - self.min_delta:
            self.best, self.waited = value, 0
            return None
        self.waited += 1
        if self.waited < self.patience:
            return None
        waited = f"for {self.patience} validations (best {self.best:.4g})"
        return f"{self.metric} has not fallen by more than {self.min_delta:g} {waited}"

    def state_dict(self) -> Json:
        """Plain data."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Json) -> None:
        """As Stop.load_state_dict."""
        self.best, self.waited = state["best"], state["waited"]


class Threshold:
    """Stops a run when ``metric`` is at or below ``value``."""

    def __init__(self, metric: str, value: float) -> None:
        self.metric, self.value = metric, value

    def update(self, scores: dict[str, float]) -> str | None:
        """As Stop.update."""
        found = _score(scores, self.metric)
        return f"{self.metric} is {found:.4g}, at or below {self.value:g}" if found <= self.value else None

    def state_dict(self) -> Json:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Json) -> None:
        """Nothing."""


def _score(scores: dict[str, float], metric: str) -> float:
    if metric not in scores:
        raise BadInput(f"model.stop.metric={metric}: not scored; must be one of {', '.join(scores) or 'none'}")
    return scores[metric]
