"""Losses and figures of training, kept on the device until they are logged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from faceforge.types import Json

PENDING = 64  # batches buffered before they are summed


class RunningMeans:
    """Running means of scalars, kept on the device: adding never synchronises, reading does.

    Added values are buffered: each sum or figure costs the host ten times as much, and no more for many batches than
    for one. ``figures`` (by the name given to ``keep``) turns tensors of whole batches into scalars.
    """

    def __init__(self, **figures: Callable[..., dict[str, Tensor]]) -> None:
        self._figures = figures
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._pending: dict[str, list[tuple[Tensor, ...]]] = {}

    def add(self, **values: Tensor) -> None:
        """Add one value of each named scalar."""
        for name, value in values.items():
            self.keep(name, value)

    def keep(self, name: str, *tensors: Tensor) -> None:
        """Add one batch of tensors for the figures of this name."""
        pending = self._pending.setdefault(name, [])
        pending.append(tuple(tensor.detach() for tensor in tensors))
        if len(pending) == PENDING:
            self._add_up(name)

    def _add_up(self, name: str) -> None:
        pending = self._pending.pop(name)
        columns = zip(*pending, strict=True)
        if name in self._figures:
            means = self._figures[name](*(torch.cat(column) for column in columns))
        else:
            means = {name: torch.stack(next(columns)).float().mean()}
        for figure, mean in means.items():
            total = mean * len(pending)
            self._sums[figure] = self._sums[figure] + total if figure in self._sums else total
            self._counts[figure] = self._counts.get(figure, 0) + len(pending)

    def numbers(self) -> dict[str, Tensor]:
        """Tensors that show, by name, whether anything since the last drain was NaN or infinite."""
        found = {name: [total.reshape(-1)] for name, total in self._sums.items()}
        for name, pending in self._pending.items():
            found.setdefault(name, []).extend(tensor.reshape(-1) for tensors in pending for tensor in tensors)
        return {name: torch.cat(tensors) for name, tensors in found.items()}

    def drain(self) -> dict[str, float]:
        """The means since the last drain, as floats."""
        for name in list(self._pending):
            self._add_up(name)
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def to(self, device: torch.device) -> None:
        """Move the buffered values: a checkpoint is read on the CPU, and the next values are on the device."""
        self._sums = {name: total.to(device) for name, total in self._sums.items()}
        moved = {name: [tuple(t.to(device) for t in row) for row in rows] for name, rows in self._pending.items()}
        self._pending = moved

    def state_dict(self) -> Json:
        """The state as plain data and tensors."""
        pending = {name: [torch.stack(c) for c in zip(*rows, strict=True)] for name, rows in self._pending.items()}
        return {"sums": dict(self._sums), "counts": dict(self._counts), "pending": pending}

    def load_state_dict(self, state: Json) -> None:
        """Restore a saved state."""
        self._sums, self._counts = {k: v.clone() for k, v in state["sums"].items()}, dict(state["counts"])
        self._pending = {n: list(zip(*(c.clone() for c in cs), strict=True)) for n, cs in state["pending"].items()}
