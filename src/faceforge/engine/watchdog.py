"""Ends a run that hangs: no step completes after a signal, or a rank waits too long for another.

The last checkpoint is always valid, so only the work since then is lost.
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

from faceforge import words
from faceforge.engine import requeue
from faceforge.engine.group import Group, RankLost
from faceforge.engine.run import write_end
from faceforge.engine.signals import Signals
from faceforge.errors import GuardStop

GRACE_SECONDS = 60.0  # from a signal to the end of a step; batch systems often kill soon afterwards
START_SECONDS = 300.0  # for ranks to load torch and find each other
LOOK_SECONDS = 0.5


class Watchdog:
    """Watches the ranks of a run in its own thread, between ``start`` and ``stop``.

    ``give_up(why)`` is called once, in that thread: ``why`` is one line, kept together with ``asked``, the number of
    the signal that requested the end, if any (killed ranks receive signals as well). ``max_wait`` is in seconds.
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
        """Start the thread."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def stop(self) -> None:
        """Stop watching: the run has ended normally."""
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.asked, self.why = self.signals.received, self.judge(time.monotonic())
            if self.why:
                self.give_up(self.why)
                return

    def judge(self, now: float) -> str | None:
        """The problem at a time of ``time.monotonic``, in one line; None if there is none."""
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
            return f"no step has completed for {still:.0f} s since the signal" if still > bound else None
        still = now - max(self._moved)
        bound = max(self.max_wait, START_SECONDS) if "starting" in phases else self.max_wait
        if self.signals.world == 1 or "finishing" in phases or still <= bound:
            return None
        return self._who_waits(still)

    def _who_waits(self, still: float) -> str:
        """The ranks that wait for gradients, else the furthest ones, and the phases of the others."""
        steps = [step for step, _ in self._seen]
        waiting = [rank for rank, (_, phase) in enumerate(self._seen) if phase == "waiting"]
        waiting = waiting or [rank for rank, step in enumerate(steps) if step == max(steps)]
        others = [f"rank {n} ({phase})" for n, (_, phase) in enumerate(self._seen) if n not in waiting]
        at = f"rank {waiting[0]} has waited {still:.0f} s at step {steps[waiting[0]] + 1}"
        return f"{at} for {', '.join(others) or 'the other ranks, which wait as well'}"


def give_up(folder: Path, signals: Signals, trainer: pl.Trainer, group: Group | None, why: str) -> None:
    """Terminate the hanging processes: the ranks, or this one and those that were started with it."""
    ranks = getattr(trainer.strategy.launcher, "procs", [])  # not all children: a library may have its own workers
    for rank in ranks:
        rank.kill()
    if not ranks:
        error = unanswered(signals.received, why, folder)
        write_end(folder, "interrupted" if signals.received else "failed")
        print(f"\nfaceforge: {error}", file=sys.stderr, flush=True)
        code = 128 + (signals.received or signal.SIGTERM)
        if group:
            code = code if signals.received else RankLost.exit_code
            group.end(code)
            group.close()
        requeue.now(code)
        os._exit(code)


def unanswered(asked: int | None, why: str, folder: Path) -> Exception:
    """The error that ends the run; ``asked`` is the signal that requested the end, if any."""
    whole = f"the last checkpoint of {words.relative(folder)} is valid"
    return Unanswered(f"{why}; {whole}") if asked else GuardStop(f"{why}; all processes were terminated, {whole}")


class Unanswered(Exception):
    """A signal requested the end, and no step completed."""
