"""What a run survives: kills, signals, and faults of the disk.

    python -m benchmarks.survival kills --count 50
    python -m benchmarks.survival signals --count 20
    python -m benchmarks.survival faults --count 200

``kills`` takes a tiny GAN away with SIGKILL while it starts, trains, samples, validates and saves, types the same
command each time and compares what it ends in, bit by bit, with a run that nobody stopped. ``signals`` asks for an end
by SIGTERM and SIGUSR1 in turns. ``faults`` breaks the disk under it (faults.py). All print lines ``name value``.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from benchmarks import records
from benchmarks.runs import differences
from benchmarks.survival.child import BATCH, PHASES, Child, contents, new_run, start, to_the_end, without_curves
from benchmarks.survival.faults import inject

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Seed = Annotated[int, typer.Option(help="Of the moments.")]
AIMS = ("saving", "sampling", "validating", "training", "starting")
AIMED = {"saving": 2, "sampling": 3, "validating": 2, "training": 20, "starting": 0}  # times seen, at most, before it


class Chain:
    """Runs of a tiny GAN, one after another, each stopped again and again and compared once it is at its end."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.images = folder, images
        self.log, self.number, self.runs = folder / "log", 0, []
        whole = to_the_end(new_run(folder / "whole", images), self.log)
        self.expected = contents(folder / "whole")
        self.durations = durations(whole)

    @property
    def run(self) -> Path:
        """The folder of the present run."""
        return self.folder / f"run{self.number}"

    def words(self) -> list[str]:
        """What begins the present run, and goes on with it."""
        return new_run(self.run, self.images)

    def close(self) -> None:
        """The present run has ended: compare it, and begin another."""
        self.runs.append(differences(self.expected, contents(self.run)))
        self.number += 1

    def finish(self) -> None:
        """Bring the present run to its end."""
        to_the_end(self.words(), self.log)
        self.close()


def durations(child: Child) -> dict[str, list[float]]:
    """Seconds that each phase took, each time, in a run that nobody stopped."""
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    found["starting"].append(child.told[0][0] - child.begun)
    for (begun, phase, _), (ended, _, _) in zip(child.told, child.told[1:], strict=False):
        found[phase].append(ended - begun)
    return found


def strike(child: Child, aim: str, dice: random.Random, length: float, act: Callable[[Child], None]) -> bool:
    """Act at a random moment of a phase that the child has entered a random number of times; False if it ended."""
    count = dice.randint(1, AIMED[aim]) if AIMED[aim] else 0
    if not child.wait_for(aim, count) or not child.rest(dice.uniform(0, length)):
        return False
    act(child)
    return True


# --------------------------------------------------------------------------------------------------------------- kills


def kill(child: Child) -> None:
    """Take it away."""
    child.send(signal.SIGKILL)


def kill_often(folder: Path, count: int, images: int, seed: int) -> dict[str, Any]:
    """Kill a run ``count`` times; where the kills fell, and what differed in the end, run by run."""
    chain, dice, fell = Chain(folder, images), random.Random(seed), Counter[str]()
    while fell.total() < count:
        aim = AIMS[fell.total() % len(AIMS)]
        child = start(chain.words(), chain.log, without_curves)
        struck = strike(child, aim, dice, median(chain.durations[aim]), kill)
        if struck and child.wait() == -signal.SIGKILL:
            fell[child.phase] += 1
        elif child.wait():
            raise RuntimeError(f"ended with {child.code}: {child.said}")
        else:
            chain.close()
    chain.finish()
    return {"kills": count, "images": images, "seed": seed, "fell": dict(fell), **verdict(chain)}


def verdict(chain: Chain) -> dict[str, Any]:
    """How many runs ended in the same bits."""
    different = [names[:5] for names in chain.runs if names]
    return {"runs": len(chain.runs), "identical": len(chain.runs) - len(different), "different": different}


# -------------------------------------------------------------------------------------------------------------- signals


def stop_often(folder: Path, count: int, images: int, seed: int) -> dict[str, Any]:
    """Ask for the end ``count`` times, by two signals in turns, every other time by two of them."""
    chain, dice, stops = Chain(folder, images), random.Random(seed), list[dict[str, Any]]()
    while len(stops) < count:
        number = (signal.SIGTERM, signal.SIGUSR1)[len(stops) % 2]
        repeated = len(stops) % 4 > 1
        child = start(chain.words(), chain.log)
        aim = ("training", "saving", "training", "validating")[len(stops) % 4]
        if strike(child, aim, dice, median(chain.durations[aim]), lambda c, n=number, r=repeated: ask(c, n, r)):
            phase, stood, busy, code = child.phase, child.images, child.cpu_now(), child.wait()
            if code == 0:  # it came when nothing was left to stop
                chain.close()
                continue
            took = time.monotonic() - child.asked
            stops.append({"signal": number.name, "repeated": repeated, "phase": phase, "code": code, "seconds": took})
            stops[-1]["cpu_seconds"] = child.cpu - busy
            stops[-1]["steps"] = (child.images - stood) // BATCH
            stops[-1]["told"] = "To continue:" in child.said and "Traceback" not in child.said
        else:
            child.wait()
            chain.close()
    chain.finish()
    return {"images": images, "seed": seed, **judged(stops, chain.durations), **verdict(chain)}


def ask(child: Child, number: int, repeated: bool) -> None:
    """A signal, and where wanted the same again a moment later."""
    child.asked = time.monotonic()
    child.send(number)
    if repeated:
        child.rest(0.005)
        child.send(number)


def judged(stops: list[dict[str, Any]], lengths: dict[str, list[float]]) -> dict[str, Any]:
    """Which stops were right: the code, the line that continues, and at most the step under way (two where it ended
    while the signal was sent); and which came in time: a step, a save and 0.5 s, after a save, grid or scores begun.
    CPU seconds decide, since other processes of the machine stretch the time on the wall.
    """
    step, save = max(lengths["training"]), max(lengths["saving"])
    for stop in stops:
        begun = max(lengths[stop["phase"]]) if stop["phase"] != "training" else 0.0
        stop["allowed"] = begun + step + save + 0.5
        code = 128 + signal.Signals[stop["signal"]]
        stop["right"] = stop["code"] == code and stop["told"] and stop["steps"] <= 2
        stop["in_time"] = stop["cpu_seconds"] <= stop["allowed"]
        stop["in_time_wall"] = stop["seconds"] <= stop["allowed"]
    sums = {name: sum(stop[name] for stop in stops) for name in ("right", "in_time", "in_time_wall")}
    return {"signals": len(stops), **sums, "step": step, "save": save, "stops": stops}


# ------------------------------------------------------------------------------------------------------------- commands


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for runs that goes when all is done."""
    with tempfile.TemporaryDirectory(prefix="survival-") as folder:
        yield Path(folder)


@app.command()
def kills(count: int = 50, images: int = 600, seed: Seed = 0) -> None:
    """SIGKILL at random moments; exit code 1 where a run ends in other bits."""
    with workplace() as folder:
        found = kill_often(folder, count, images, seed)
    for phase, number in sorted(found["fell"].items()):
        print(f"kills.{phase} {number}")
    print(f"kills {count}\nruns {found['runs']}\nidentical {found['identical']}")
    print(records.keep("survival_kills", found))
    raise typer.Exit(int(found["identical"] != found["runs"]))


@app.command()
def signals(count: int = 20, images: int = 600, seed: Seed = 0) -> None:
    """SIGTERM and SIGUSR1; exit code 1 where one was not answered in time, or a run ends in other bits."""
    with workplace() as folder:
        found = stop_often(folder, count, images, seed)
    slowest = max(stop["seconds"] for stop in found["stops"])
    print(f"signals {count}\nright {found['right']}")
    print(f"in_time {found['in_time']}\nin_time_wall {found['in_time_wall']}\nslowest_seconds {slowest:.3f}")
    print(f"slowest_cpu_seconds {max(stop['cpu_seconds'] for stop in found['stops']):.3f}")
    print(f"step_seconds {found['step']:.3f}\nsave_seconds {found['save']:.3f}")
    print(f"runs {found['runs']}\nidentical {found['identical']}")
    print(records.keep("survival_signals", found))
    whole = found["identical"] == found["runs"] and found["right"] == found["in_time"] == count
    raise typer.Exit(int(not whole))


@app.command()
def faults(count: int = 200, seed: Seed = 0) -> None:
    """Faults of the disk; exit code 1 where one left no checkpoint, or was not told in one line."""
    with workplace() as folder:
        found = inject(folder, count, seed)
    for name, row in found["classes"].items():
        print(f"faults.{name} {row['faults']}\nviolations.{name} {row['violations']}")
    print(f"faults {found['faults']}\nviolations {found['violations']}")
    print(records.keep("survival_faults", found))
    raise typer.Exit(int(found["violations"] > 0))
