"""Signals that end a run: they set a flag, and training ends after a whole step, on all ranks after the same one."""

from __future__ import annotations

import signal
from ctypes import c_int64
from multiprocessing import get_context
from types import FrameType, SimpleNamespace
from typing import Any

from faceforge.portable import LISTENED


class Signals:
    """Ctrl-C, SIGTERM or SIGUSR1 asks for a stop. A second Ctrl-C stops at once; what a scheduler repeats changes
    nothing.

    With several ranks the flag lies in memory that they and their parent share, whoever of them was sent the signal.
    """

    def __init__(self, world: int = 1) -> None:
        self.world = world
        shared = get_context("spawn")
        self._number: Any = shared.RawValue(c_int64, 0) if world > 1 else SimpleNamespace(value=0)
        self._last: Any = shared.RawValue(c_int64, 0) if world > 1 else SimpleNamespace(value=0)
        self._heard = False
        self._before: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For a rank: what its parent has heard and replaced is its parent's."""
        return {**vars(self), "_heard": False, "_before": {}}

    @property
    def received(self) -> int | None:
        """The number of the signal, if any came."""
        return self._number.value or None

    def ends(self, rank: int, step: int) -> bool:
        """Whether training ends after this step (1, 2, ...), the same for all ranks.

        Rank 0 names the step after next: no rank is more than one step ahead of another, because each step waits for
        the gradients of all.
        """
        if not self._number.value:
            return False
        if self.world == 1:
            return True
        if rank == 0 and not self._last.value:
            self._last.value = step + 2
        return 0 < self._last.value <= step

    def install(self) -> None:
        """Take the signals over, from Lightning too, whose handlers would save in the middle of a step."""
        for number in LISTENED:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = True
        self._number.value = self._number.value or number
