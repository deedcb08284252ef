"""Ends a run whose processes no longer answer: a signal that no step obeys, or a rank that waits too long for another.

The last checkpoint is whole at any moment, so nothing is lost but the work since then.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl

from faceforge.engine.run import write_end
from faceforge.engine.signals import Signals
from faceforge.errors import GuardStop

GRACE_SECONDS = 60.0  # from a signal to the end of a step; batch systems often kill soon after
START_SECONDS = 300.0  # for ranks to load torch and find each other
LOOK_SECONDS = 0.5


class Watchdog:
    """Watches the ranks of a run from a thread of its own, between ``start`` and ``stop``.

    ``give_up(why)`` is called once, in that thread: ``why`` is one line, kept with the number of the signal that had
    ``asked`` for the end, if one did (ranks that are ended get signals as well). ``max_wait`` is in seconds.
    """

    def __init__(self, signals: Signals, max_wait: float, give_up: Callable[[str], None]) -> None:
        self.signals, self.max_wait, self.give_up = signals, max_wait, give_up
        self.why: str | None = None
        self.asked: int | None = None
        self._over = threading.Event()
        self._seen = signals.beats()
        self._moved = [time.monotonic()] * signals.world
        self._heard: float | None = None

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def stop(self) -> None:
        """The run has ended by itself."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.asked, self.why = self.signals.received, self.judge(time.monotonic())
            if self.why:
                self.give_up(self.why)
                return

    def judge(self, now: float) -> str | None:
        """What is wrong at a time of ``time.monotonic``, in one line; None where all is well."""
        beats = self.signals.beats()
        for rank, beat in enumerate(beats):
            if beat != self._seen[rank]:
                self._seen[rank], self._moved[rank] = beat, now
        if self.signals.received and self._heard is None:
            self._heard = now
        phases = {phase for _, phase in beats}
        if self._heard is not None:
            busy = phases & {"validating", "sampling", "saving", "finishing"}
            bound = self.max_wait if busy else GRACE_SECONDS
            still = now - max(self._heard, *self._moved)
            return f"no step has answered the signal for {still:.0f} s" if still > bound else None
        still = now - max(self._moved)
        bound = max(self.max_wait, START_SECONDS) if "starting" in phases else self.max_wait
        if self.signals.world == 1 or "finishing" in phases or still <= bound:
            return None
        return self._who_waits(still)

    def _who_waits(self, still: float) -> str:
        """Those that wait for gradients, else those that have come furthest, and what the others do meanwhile."""
        steps = [step for step, _ in self._seen]
        waiting = [rank for rank, (_, phase) in enumerate(self._seen) if phase == "waiting"]
        waiting = waiting or [rank for rank, step in enumerate(steps) if step == max(steps)]
        others = [f"rank {n} ({phase})" for n, (_, phase) in enumerate(self._seen) if n not in waiting]
        at = f"rank {waiting[0]} has waited {still:.0f} s at step {steps[waiting[0]] + 1}"
        return f"{at} for {', '.join(others) or 'the other ranks, which wait as well'}"


def give_up(folder: Path, signals: Signals, trainer: pl.Trainer, why: str) -> None:
    """End the processes that do not answer: the ranks, or this one."""
    ranks = getattr(trainer.strategy.launcher, "procs", [])  # not all children: a library may keep workers of its own
    for rank in ranks:
        rank.kill()
    if not ranks:
        error = unanswered(signals.received, why, folder)
        write_end(folder, "interrupted" if signals.received else "failed")
        print(f"\nfaceforge: {error}", file=sys.stderr, flush=True)
        os._exit(128 + (signals.received or signal.SIGTERM))


def unanswered(asked: int | None, why: str, folder: Path) -> Exception:
    """What ended the run, by the number of the signal that asked for it, if one did."""
    whole = f"the last checkpoint of {os.path.relpath(folder)} is whole"
    return Unanswered(f"{why}; {whole}") if asked else GuardStop(f"{why}; all processes were ended, {whole}")


class Unanswered(Exception):
    """A signal asked for the end, and no step answered it."""
