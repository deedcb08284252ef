"""The jobs of a multirun: a failed job is a row of the summary and the sweep continues; a signal ends the sweep."""

from __future__ import annotations

import json
import math
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from faceforge.errors import BadInput, GuardStop
from faceforge.io.portable import LISTENED, Handler

ENDING = set(LISTENED) - {signal.SIGINT}  # while a job trains they are its own
STOPPED = 128  # exit codes above this: ended by a signal


@dataclass
class Row:
    """One job: its number, swept overrides, run folder, outcome and exit code."""

    number: int
    overrides: str
    folder: str
    outcome: str
    code: int


class Sweep:
    """Runs jobs. ``jobs`` are the overrides of all jobs, None if a sweeper chooses them one by one.

    A launcher may run jobs in other processes or on other machines, so each writes its row into the file ``record``.
    As a context manager it also ends the sweep on signals between two trainings.
    """

    def __init__(self, jobs: list[list[str]] | None, constant: Iterable[str], record: Path) -> None:
        self._jobs = list(jobs or [])
        self._constant = set(constant)
        self._record = record
        self._before: dict[int, Handler] = {}

    @property
    def rows(self) -> list[Row]:
        """The finished jobs, by number."""
        lines = self._record.read_text(encoding="utf-8").splitlines() if self._record.is_file() else []
        return sorted((Row(**json.loads(line)) for line in lines), key=lambda row: row.number)

    def __enter__(self) -> Sweep:
        self._record.unlink(missing_ok=True)
        for number in ENDING:
            self._before[number] = signal.signal(number, _end)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, number: int, overrides: list[str], folder: Path, train: Callable[[], int]) -> float | None:
        """Train one job; its best score, NaN if it failed, None if it has none. A signal raises SystemExit."""
        row = Row(number, self._words(overrides), str(folder), "finished", 0)
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
        elif row.code and row.outcome == "finished":
            row.outcome = f"failed: exit code {row.code}"
        self._keep(row)
        if row.code > STOPPED:
            raise SystemExit(row.code)
        return math.nan if row.code else _best(folder)

    def _keep(self, row: Row) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        with self._record.open("a", encoding="utf-8") as file:  # one write, so that processes do not interleave
            file.write(f"{json.dumps(asdict(row))}\n")

    @property
    def code(self) -> int:
        """0 if every job finished; else the exit code of the failed jobs, 1 if they differ."""
        codes = {row.code for row in self.rows if row.code}
        return codes.pop() if len(codes) == 1 else int(bool(codes))

    def table(self) -> str:
        """A line per job; jobs that were not started come last."""
        rows = self.rows
        begun = {row.number for row in rows}
        late = [Row(n, self._words(job), "", "not started", 0) for n, job in enumerate(self._jobs) if n not in begun]
        cells = [
            (
                str(row.number),
                row.overrides or "-",
                row.folder if Path(row.folder or "-").is_dir() else "-",
                row.outcome,
            )
            for row in [*rows, *late]
        ]
        cells.insert(0, ("job", "overrides", "run folder", "outcome"))
        widths = [max(len(line[column]) for line in cells) for column in range(3)]
        lines = ["  ".join([*map(str.ljust, line, widths), line[3]]) for line in cells]
        finished = sum(not row.code for row in rows)
        return "\n".join(["", *lines, f"{finished} of {len(cells) - 1} jobs finished."])

    def _words(self, overrides: Iterable[str]) -> str:
        return " ".join(o for o in overrides if o.split("=", 1)[0] not in self._constant)


def tell(message: str) -> None:
    """Print each line of an error on stderr."""
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
