"""Ends a run before its image limit: by a signal, or by its time limit. All ranks end after the same step.

Ranks that this program started share memory; those started from outside agree by messages.
"""

from __future__ import annotations

import signal
import socket
import threading
from ctypes import c_double, c_int64
from multiprocessing import get_context
from types import FrameType
from typing import Literal

import torch
from torch import Tensor, distributed

from faceforge.io.portable import LISTENED, Handler

Why = Literal["signal", "time"]
PHASES = ("starting", "training", "waiting", "validating", "sampling", "saving", "finishing")


class Signals:
    """Ctrl-C, SIGTERM, SIGUSR1 or SIGUSR2 (sent by batch systems before a time limit) requests a stop. A second Ctrl-C
    stops at once; repeated signals of a scheduler change nothing.

    Rank 0 decides for all ranks. Its decision, and the phase of each rank, are in memory shared by the ranks and their
    parent.
    """

    impatient = True  # a second Ctrl-C comes from a person

    def __init__(self, world: int = 1) -> None:
        self.world = world
        shared = get_context("spawn")
        self._number = shared.RawValue(c_int64, 0)
        self._last = shared.RawValue(c_int64, 0)  # twice the last step, plus 1 if a signal ends the run
        self._beats = shared.RawArray(c_double, 2 * world)  # step and phase of each rank
        self._heard = False
        self._before: dict[int, Handler] = {}
        self._wakeup: socket.socket | None = None

    def __getstate__(self) -> dict[str, object]:
        """State for a rank: received signals and replaced handlers stay with the parent."""
        return {**vars(self), "_heard": False, "_before": {}, "_wakeup": None}

    @property
    def received(self) -> int | None:
        """The number of the signal, if one was received."""
        return self._number.value or None

    def begin(self) -> None:
        """Forget the steps of an earlier fit; no rank is running yet."""
        self._last.value = 0
        self._beats[:] = [0.0] * (2 * self.world)

    def ends(self, rank: int, step: int, late: bool = False) -> Why | None:
        """Why training ends after this step (1, 2, ...), the same for all ranks; None to continue.

        ``late``: the time limit is reached on rank 0; other ranks' clocks do not count. Rank 0 chooses the step after
        next: no rank is more than one step ahead, because each step waits for the gradients of all.
        """
        if rank == 0 and not self._last.value and (self._number.value or late):
            self._last.value = 2 * (step if self.world == 1 else step + 2) + bool(self._number.value)
        last = self._last.value
        if not last or step < last // 2:
            return None
        return "signal" if last % 2 else "time"

    def beat(self, rank: int, step: int, phase: str) -> None:
        """Set the phase of a rank."""
        self._beats[2 * rank : 2 * rank + 2] = [step, PHASES.index(phase)]

    def beats(self) -> list[tuple[int, str]]:
        """Completed steps and phase of each rank."""
        return [(int(self._beats[2 * rank]), PHASES[int(self._beats[2 * rank + 1])]) for rank in range(self.world)]

    def install(self) -> None:
        """Install the handlers, also over Lightning's, which would save in the middle of a step."""
        for number in LISTENED:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, before)
        if self._wakeup is None:
            self._listen()

    def _listen(self) -> None:
        """Record signals even while the main thread is in C code, where no handler runs."""
        reader, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(reader,), daemon=True, name="signals").start()

    def _hear(self, reader: socket.socket) -> None:
        with reader:  # closed only here: a descriptor in use could be reused for another file
            while numbers := reader.recv(16):
                for number in numbers:
                    if number in LISTENED:
                        self._number.value = self._number.value or number

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._wakeup:
            signal.set_wakeup_fd(-1)
            self._wakeup.close()  # ends the listening thread
            self._wakeup = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._heard and number == signal.SIGINT and self.impatient:
            raise KeyboardInterrupt
        self._heard = True
        self._number.value = self._number.value or number


class AgreedSignals(Signals):
    """Of ranks started from outside, which share no memory: a signal to any of them, and the time limit on rank 0.

    Beside every ``every``-th step all ranks exchange what each knows, and read it after the next one, so that no step
    waits for it. torchrun and srun may pass a Ctrl-C on more than once.
    """

    impatient = False

    def __init__(self, world: int, device: torch.device, every: int) -> None:
        super().__init__(world)
        self.device, self.every = device, every
        self._sent: tuple[Tensor, distributed.Work] | None = None

    def begin(self) -> None:
        """Forget the steps of an earlier fit, and what was exchanged last."""
        super().begin()
        self._read()

    def restore(self) -> None:
        """Nothing: when one rank has failed, all are sent SIGTERM, and must still say which one it was."""

    def ends(self, rank: int, step: int, late: bool = False) -> Why | None:
        """Why training ends after this step, the same for all ranks; None to continue."""
        number, is_late = self._read()
        if number:
            self._number.value = number
            return "signal"
        if is_late:
            return "time"
        if step % self.every == 0:
            known = torch.tensor([self._number.value, late and rank == 0], dtype=torch.int32, device=self.device)
            sent = distributed.all_reduce(known, distributed.ReduceOp.MAX, async_op=True)
            assert sent is not None
            self._sent = known, sent
        return None

    def _read(self) -> tuple[int, int]:
        if self._sent is None:
            return 0, 0
        known, sent = self._sent
        self._sent = None
        sent.wait()
        number, late = known.tolist()
        return number, late

    def hear(self, rank: int, step: int, phase: str, received: int) -> None:
        """Take over the phase of another rank, and the signal that it received."""
        self.beat(rank, step, phase)
        self._number.value = self._number.value or received
