"""What a run of several processes survives: torchrun's ranks killed, one or all, and the same line typed again.

    python -m benchmarks.survival.torchrun --count 10

Two ranks train a tiny GAN. In turns one rank is taken away with SIGKILL, which ends the others, and all processes at
once, torchrun with them, at random moments of starting and training. Then the same command is typed again. What the
run ends in is compared, bit by bit, with one that nobody disturbed. Prints lines ``name value``.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from benchmarks import records
from benchmarks.command import ROOT, run
from benchmarks.runs import differences
from benchmarks.survival.child import contents, new_run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
AGENT = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
PATIENCE = 600.0  # seconds for a start or an end


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Agent:
    """torchrun with two ranks of one run."""

    def __init__(self, words: list[str], log: Path) -> None:
        known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}"}
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*AGENT, str(ROOT / "train.py"), *words], env=known, stdout=file, stderr=file
            )

    def ranks(self) -> list[psutil.Process]:
        """The ranks that live."""
        found = psutil.Process(self.process.pid).children() if self.process.poll() is None else []
        return [rank for rank in found if "train.py" in " ".join(words_of(rank))]

    def strike(self, table: Path, rows: int, delay: float, one: int | None) -> bool:
        """Kill rank ``one``, or everything, some time after both live and the table has more rows; False if the run
        ended before.
        """
        until = time.monotonic() + PATIENCE
        while len(self.ranks()) < 2 or count(table) <= rows:
            if self.process.poll() is not None:
                return False
            if time.monotonic() > until:
                raise RuntimeError("no row was written")
            time.sleep(0.01)
        time.sleep(delay)
        ranks = self.ranks()
        if len(ranks) < 2:
            return False
        gone = [ranks[one]] if one is not None else [psutil.Process(self.process.pid), *ranks]
        for process in gone:
            process.kill()
        self.process.wait(PATIENCE)
        psutil.wait_procs(ranks, PATIENCE)
        return True


def count(table: Path) -> int:
    """Lines of a table; 0 if there is none."""
    return len(table.read_text().splitlines()) if table.exists() else 0


def to_the_end(folder: Path, images: int, log: Path) -> None:
    """Type the command, and let it end."""
    code = Agent(new_run(folder, images), log).process.wait()
    if code:
        raise RuntimeError(f"ended with {code}: {log.read_text()[-2000:]}")


def kill_often(place: Path, kills: int, images: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` times; what differed in the end, run by run."""
    dice, log, struck = random.Random(seed), place / "log", 0
    to_the_end(place / "whole", images, log)
    expected, different, number = contents(place / "whole"), list[list[str]](), 0
    while struck < kills:
        folder = place / f"run{number}"
        table = folder / "metrics.csv"
        rows = -1 if struck % 4 > 1 else count(table)  # while it starts, or trains
        one = dice.randrange(2) if struck % 2 == 0 else None
        if Agent(new_run(folder, images), log).strike(table, rows, dice.uniform(0, 0.5), one):
            struck += 1
            print(f"kill {struck}: {'all' if one is None else f'rank {one}'} at row {count(table)}", flush=True)
        else:
            if not (folder / "report.html").exists():
                raise RuntimeError(f"ended by itself: {log.read_text()[-3000:]}")
            different.append(differences(expected, contents(folder)))
            number += 1
    to_the_end(place / f"run{number}", images, log)
    different.append(differences(expected, contents(place / f"run{number}")))
    unlike = [names[:5] for names in different if names]
    return {"kills": kills, "images": images, "seed": seed, "runs": len(different), "different": unlike}


@app.command()
def main(
    count: int = 10,
    images: int = 1200,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Default: docs/results/records/survival_torchrun.json")] = None,
) -> None:
    """Exit code 1 where a run ends in other bits."""
    with tempfile.TemporaryDirectory(prefix="survival-") as place:
        found = kill_often(Path(place), count, images, seed)
    identical = found["runs"] - len(found["different"])
    print(f"kills {count}\nruns {found['runs']}\nidentical {identical}")
    print(records.keep(out or "survival_torchrun", {**found, "identical": identical}))
    raise typer.Exit(int(identical != found["runs"]))


if __name__ == "__main__":
    run(app)
