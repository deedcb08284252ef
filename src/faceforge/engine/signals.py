"""When a run ends before its limit in images: by a signal, or because its time is up. All ranks end after one step."""

from __future__ import annotations

import signal
import socket
import threading
from ctypes import c_double, c_int64
from multiprocessing import get_context
from types import FrameType
from typing import Literal

from faceforge.io.portable import LISTENED, Handler

Why = Literal["signal", "time"]
PHASES = ("starting", "training", "waiting", "validating", "sampling", "saving", "finishing")


class Signals:
    """Ctrl-C, SIGTERM or SIGUSR1 (sent by batch systems before time is up) asks for a stop. A second Ctrl-C stops at
    once; what a scheduler repeats changes nothing.

    Rank 0 decides for all ranks. What it decides, and what each rank is doing, lies in memory that they and their
    parent share.
    """

    def __init__(self, world: int = 1) -> None:
        self.world = world
        shared = get_context("spawn")
        self._number = shared.RawValue(c_int64, 0)
        self._last = shared.RawValue(c_int64, 0)  # the last step, twice, plus 1 where a signal ends the run
        self._beats = shared.RawArray(c_double, 2 * world)  # of each rank its step and its phase
        self._heard = False
        self._before: dict[int, Handler] = {}
        self._wakeup: socket.socket | None = None

    def __getstate__(self) -> dict[str, object]:
        """For a rank: what its parent has heard and replaced is its parent's."""
        return {**vars(self), "_heard": False, "_before": {}, "_wakeup": None}

    @property
    def received(self) -> int | None:
        """The number of the signal, if any came."""
        return self._number.value or None

    def begin(self) -> None:
        """Forget the steps of an earlier fit; no rank runs yet."""
        self._last.value = 0
        self._beats[:] = [0.0] * (2 * self.world)

    def ends(self, rank: int, step: int, late: bool = False) -> Why | None:
        """Why training ends after this step (1, 2, ...), the same for all ranks; None to go on.

        ``late``: time is up, as rank 0 sees it; the clocks of other ranks do not count. Rank 0 names the step after
        next: no rank is more than one step ahead of another, because each step waits for the gradients of all.
        """
        if rank == 0 and not self._last.value and (self._number.value or late):
            self._last.value = 2 * (step if self.world == 1 else step + 2) + bool(self._number.value)
        last = self._last.value
        if not last or step < last // 2:
            return None
        return "signal" if last % 2 else "time"

    def beat(self, rank: int, step: int, phase: str) -> None:
        """Say what a rank is doing."""
        self._beats[2 * rank : 2 * rank + 2] = [step, PHASES.index(phase)]

    def beats(self) -> list[tuple[int, str]]:
        """Of each rank the steps it has done, and its phase."""
        return [(int(self._beats[2 * rank]), PHASES[int(self._beats[2 * rank + 1])]) for rank in range(self.world)]

    def install(self) -> None:
        """Take the signals over, from Lightning too, whose handlers would save in the middle of a step."""
        for number in LISTENED:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)
        if self._wakeup is None:
            self._listen()

    def _listen(self) -> None:
        """Note signals even while the main thread waits in foreign code, where no handler runs."""
        reader, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reader,), daemon=True, name="signals").start()

    def _hear(self, reader: socket.socket) -> None:
        with reader:  # closed here alone: a number that is read from could meanwhile be another file's
            while numbers := reader.recv(16):
                for number in numbers:
                    if number in LISTENED:
                        self._number.value = self._number.value or number

    def restore(self) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._wakeup:
            signal.set_wakeup_fd(-1)
            self._wakeup.close()  # which ends the thread that listens
            self._wakeup = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._heard and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._heard = True
        self._number.value = self._number.value or number
