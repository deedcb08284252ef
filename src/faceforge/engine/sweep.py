"""The jobs of a multirun: one that fails is a row of the summary, and the sweep goes on; a signal ends all of it."""

from __future__ import annotations

import json
import math
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from faceforge.errors import BadInput, GuardStop
from faceforge.io.portable import LISTENED, Handler

ENDING = set(LISTENED) - {signal.SIGINT}  # while a job trains they are its own
STOPPED = 128  # exit codes above: of what a signal has ended


@dataclass
class Row:
    """One job: what is swept in it, its run folder, how it ended, its exit code."""

    overrides: str
    folder: Path
    outcome: str
    code: int


class Sweep:
    """Runs jobs one after another. ``jobs`` are the overrides of all that there will be, None where nobody knows yet.

    As a context it ends the sweep at signals that come between two trainings.
    """

    def __init__(self, jobs: list[list[str]] | None, constant: Iterable[str]) -> None:
        self.rows: list[Row] = []
        self._constant = set(constant)
        self._waiting = list(jobs or [])
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> Sweep:
        for number in ENDING:
            self._before[number] = signal.signal(number, _end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, overrides: list[str], folder: Path, train: Callable[[], int]) -> float | None:
        """Train one job; its best score, NaN where it failed, None where it has none. A signal raises SystemExit."""
        if overrides in self._waiting:
            self._waiting.remove(overrides)
        row = Row(self._words(overrides), folder, "finished", 0)
        self.rows.append(row)
        try:
            row.code = train()
        except (BadInput, GuardStop) as error:
            row.code, row.outcome = error.exit_code, f"failed: {' '.join(str(error).split())}"
            tell(str(error))
        except KeyboardInterrupt:
            row.code = STOPPED + signal.SIGINT
        except SystemExit as end:
            row.code = end.code if isinstance(end.code, int) else 1
        except Exception as error:
            traceback.print_exc()
            row.code, row.outcome = 1, f"failed: {type(error).__name__}: {' '.join(str(error).split())}"
        if row.code > STOPPED:
            row.outcome = f"stopped by {signal.Signals(row.code - STOPPED).name}"
            raise SystemExit(row.code)
        if row.code and row.outcome == "finished":
            row.outcome = f"failed: exit code {row.code}"
        return math.nan if row.code else _best(folder)

    @property
    def code(self) -> int:
        """0 where every job finished; else the code of those that did not, 1 where they differ."""
        codes = {row.code for row in self.rows if row.code}
        return codes.pop() if len(codes) == 1 else int(bool(codes))

    def table(self) -> str:
        """A line for each job; those that were not started last."""
        late = [Row(self._words(job), Path(), "not started", 0) for job in self._waiting]
        cells = [
            (
                str(n),
                row.overrides or "-",
                str(row.folder) if row.folder.is_dir() and row not in late else "-",
                row.outcome,
            )
            for n, row in enumerate([*self.rows, *late])
        ]
        cells.insert(0, ("job", "overrides", "run folder", "outcome"))
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, line, widths), line[3]]) for line in cells]
        finished = sum(not row.code for row in self.rows)
        return "\n".join(["", *lines, f"{finished} of {len(cells) - 1} jobs finished."])

    def _words(self, overrides: Iterable[str]) -> str:
        return " ".join(o for o in overrides if o.split("=", 1)[0] not in self._constant)


def tell(message: str) -> None:
    """Each line of a message to a person, on stderr."""
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(STOPPED + number)


def _best(folder: Path) -> float | None:
    try:
        best = json.loads((folder / "run.json").read_text(encoding="utf-8"))["best"]
    except (OSError, ValueError, KeyError):
        return None
    return best["value"] if best else None
