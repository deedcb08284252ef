"""Sets of hundreds of thousands of pictures, and sets larger than memory.

    python -m benchmarks.speed.large_sets all                   # both; writes docs/results/records/large_sets.json
    python -m benchmarks.speed.large_sets start --most 200000   # the first batch with a warm cache
    python -m benchmarks.speed.large_sets feed --megabytes 1536 # batches from a set that memory cannot hold

**start** types `python train.py data=crops` for 2,000 and 200,000 pictures of 8x8, a folder for each eight, in turns
until the first batch, from the start of the process on. The ratio is of CPU time, least of the turns; wall time is
beside it.

**feed** draws batches of 64 faces of 64x64 from a packed set of which only ``--share`` fits, beside the same process
without a limit and with the set in memory. Limits: ``addresses``, a process that can map no more (RLIMIT_AS), and
``group``, a control group that holds no more, cached files too, so that the rest comes from the disk (version 1 or 2;
as root). What must hold is the speed of a training (``train``). A feed alone has nothing to do while the disk works,
so its rate is that of the disk: it is compared with what 16 threads read at random, and has no limit.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks import records
from benchmarks.command import ROOT, place_of, run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Rounds = Annotated[int, typer.Option(help="Of each side, in turns.")]
Place = Annotated[Path | None, typer.Option(help="A folder to keep the pictures in; default a temporary one.")]
Most = Annotated[int, typer.Option(help="Pictures of the large set.")]
Megabytes = Annotated[int, typer.Option(help="Of the packed set.")]
Share = Annotated[float, typer.Option(help="Of the set, that the limited side can hold.")]

FEW, PER_PERSON, SIDE = 2000, 8, 64
LIMITS: dict[str, float | None] = {
    "start_200000_over_2000": 1.3,
    "train_over_memory.addresses": 0.9,
    "train_over_memory.group": 0.9,
    "feed_over_memory.addresses": None,
    "feed_over_disk.group": None,
}
GROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))
FIRST = """
import json, os, sys, time
from faceforge.data.datamodule import TrainFaces
whole = TrainFaces.__getitems__
def first(self, positions):
    whole(self, positions)
    spent = os.times()
    print(json.dumps({"cpu": spent.user + spent.system, "at": time.time()}), file=sys.__stdout__, flush=True)
    os._exit(0)
TrainFaces.__getitems__ = first
from faceforge.main import main
main()
"""


def keep(name: str, value: float, about: dict[str, Any]) -> None:
    """Print a figure and put it into the record."""
    limit = LIMITS[name]
    holds = None if limit is None else (value < limit if name.startswith("start") else value >= limit)
    print(f"{name} {value:.3f}" + (f"  (does not hold: must be {limit})" if holds is False else ""), flush=True)
    figures = records.read("large_sets").get("figures", {})
    entry = {"value": round(value, 4), "limit": limit, "holds": holds, "made": records.provenance(), **about}
    records.write("large_sets", {"figures": {**figures, name: entry}})


# ------------------------------------------------------------------------------------------------ the first batch


def write_pictures(folder: Path, count: int) -> Path:
    """Pictures of 8x8, a folder for each person; those of an earlier call are kept."""
    faces = folder / f"pictures{count}"
    if not faces.exists():
        beside = folder / f".pictures{count}"
        shutil.rmtree(beside, ignore_errors=True)
        noise = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
        (folder / "kind").mkdir(exist_ok=True)
        kinds = [folder / "kind" / f"{n}.png" for n in range(len(noise))]
        for pixels, path in zip(noise, kinds, strict=True):
            Image.fromarray(pixels).save(path)
        kind = [path.read_bytes() for path in kinds]
        for n in range(count):
            person = beside / f"person{n // PER_PERSON:06d}"
            if n % PER_PERSON == 0:
                person.mkdir(parents=True)
            (person / f"{n:07d}.png").write_bytes(kind[n % len(kind)])
        beside.rename(faces)
    return faces


def first_batch(folder: Path, faces: Path) -> tuple[float, float]:
    """CPU and wall seconds from typing the command to the first batch."""
    words = ["data=crops", f"data.root={faces}", f"data.cache={folder / 'cache'}", "data.size=8", "trainer.gpus=0"]
    words += [f"run_dir={folder / 'run'}", "logger.mode=disabled", "model.val_samples=0"]
    shutil.rmtree(folder / "run", ignore_errors=True)
    begun = time.time()
    command = [sys.executable, "-c", FIRST, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith('{"cpu"')]
    if not told:
        raise SystemExit(f"no first batch: {done.stderr[-2000:]}")
    spent = json.loads(told[0])
    return spent["cpu"], spent["at"] - begun


@app.command()
def start(rounds: Rounds = 5, place: Place = None, most: Most = 200_000) -> None:
    """The time to the first batch with a warm cache, of many pictures over few."""
    with place_of(place) as folder:
        sets = {count: write_pictures(folder, count) for count in (FEW, most)}
        for faces in sets.values():
            first_batch(folder, faces)  # packs
        found: dict[int, list[tuple[float, float]]] = {count: [] for count in sets}
        for _ in range(rounds):
            for count, faces in sets.items():
                found[count].append(first_batch(folder, faces))
    (few, _), (many, _) = (min(found[count]) for count in sets)
    seconds = {
        str(count): {"cpu": [a for a, _ in turns], "wall": [b for _, b in turns]} for count, turns in found.items()
    }
    wall = min(b for _, b in found[most]) / min(b for _, b in found[FEW])
    keep("start_200000_over_2000", many / few, {"pictures": most, "wall": wall, "seconds": seconds})


# ------------------------------------------------------------------------------------------- larger than memory

FEED = """
import json, sys
from benchmarks.speed.large_sets import feed_rates
print(json.dumps(feed_rates(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))))
"""


def feed_rates(folder: str, seconds: float, addresses: int) -> dict[str, Any]:
    """Batches a second of the loader alone and with the default training step, after a pass without timing."""
    from itertools import count

    from benchmarks.speed import baselines
    from benchmarks.speed.pace import built
    from faceforge.data.cache import Packed

    small = ["data.source.count=200", f"data.cache={Path(folder).parent / 'small'}", f"run_dir={folder}/../run"]
    module, data = built([*small, "trainer.gpus=0", "logger.mode=disabled"])
    step = baselines.gan(module, data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0))  # type: ignore[arg-type]
    step(1)  # what training needs is there before addresses are limited
    if addresses:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + addresses, resource.RLIM_INFINITY))
    packed, numbers = Packed(Path(folder)), count()
    faces = loader(packed, 0)

    def rate(work: Any) -> float:
        end, done, begun = time.perf_counter() + seconds, 0, time.perf_counter()
        while time.perf_counter() < end:
            work()
            done += 1
        return done / (time.perf_counter() - begun)

    def train() -> None:
        data.on_after_batch_transfer(next(faces), 0)
        step(next(numbers) * 8 + 1)

    for _ in range(200):
        next(faces)
    return {"feed": rate(lambda: next(faces)), "train": rate(train), "mapped": packed.rows.mapped}


def loader(packed: Any, first: int) -> Iterator[Any]:
    """Batches of 64 as a training draws them."""
    from torch.utils.data import DataLoader

    from faceforge.clock import Clock
    from faceforge.data import datamodule
    from faceforge.data.tasks import NoInput

    rows, clock = np.arange(len(packed.rows)), Clock()
    clock.images = first
    faces = datamodule.TrainFaces(packed, rows, 0, True, None, NoInput(), None, 64)
    sampler: Any = datamodule.ClockSampler(clock, 64, 0, 1)
    return iter(DataLoader(faces, batch_sampler=sampler, collate_fn=lambda batch: batch))


def write_packed(folder: Path, megabytes: int) -> Path:
    """A packed set of noise."""
    from faceforge.data.framing import Recipe
    from faceforge.data.shards import header

    target, recipe = folder / f"packed{megabytes}", Recipe("none", (SIDE, SIDE), 3)
    if not (target / "faces.npy").exists():
        target.mkdir(parents=True, exist_ok=True)
        count, block = megabytes * 2**20 // recipe.bytes, np.random.default_rng(0).bytes(2**20)
        with (target / "faces.npy").open("wb") as file:
            file.write(header(count, recipe))
            for _ in range(megabytes + 1):
                file.write(block)
            file.truncate(len(header(0, recipe)) + count * recipe.bytes)
            os.fsync(file.fileno())
    return target


@contextmanager
def control_group(limit: int) -> Iterator[Path | None]:
    """A control group whose processes hold at most ``limit`` bytes, cached files too; None where there can be none."""
    for root, name in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"faceforge-large-sets-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None


def measured(packed: Path, seconds: float, group: Path | None, addresses: int) -> dict[str, Any]:
    """The rates of a process of its own, in a control group or with limited addresses."""
    with (packed / "faces.npy").open("rb") as file:
        if group:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # memory that is not charged to the group
        else:
            while file.read(2**24):
                pass
    join = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n" if group else ""
    command = [sys.executable, "-c", join + FEED, str(packed), str(seconds), str(addresses)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no rates: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak(group: Path) -> int:
    """Bytes that the group's processes held at most."""
    names = ("memory.max_usage_in_bytes", "memory.peak")
    return next((int((group / name).read_text()) for name in names if (group / name).exists()), 0)


def random_reads(file: Path, row: int, seconds: float = 3.0) -> float:
    """Rows a second that 16 threads read from the disk."""
    from concurrent.futures import ThreadPoolExecutor

    starts = (np.random.default_rng(1).integers(0, file.stat().st_size // row - 1, 200_000) * row).tolist()
    with file.open("rb") as opened, ThreadPoolExecutor(16) as threads:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        end = time.perf_counter() + seconds

        def read(part: list[int]) -> int:
            done = 0
            while time.perf_counter() < end and done < len(part):
                os.pread(opened.fileno(), row, part[done])
                done += 1
            return done

        begun = time.perf_counter()
        done = sum(threads.map(read, [starts[n::16] for n in range(16)]))
        return done / (time.perf_counter() - begun)


@app.command()
def feed(
    rounds: Rounds = 3, place: Place = None, megabytes: Megabytes = 1536, share: Share = 0.5, seconds: float = 8.0
) -> None:
    """Batches from a set that memory cannot hold, over batches from memory."""
    with place_of(place) as folder:
        packed = write_packed(folder, megabytes)
        file, own = packed / "faces.npy", 900 * 2**20  # the process with torch
        held = int(share * file.stat().st_size)
        found: dict[str, list[dict[str, Any]]] = {"memory": [], "addresses": [], "group": []}
        about: dict[str, Any] = {"megabytes": megabytes, "share": share}
        for _ in range(rounds):
            found["memory"].append(measured(packed, seconds, None, 0))
            found["addresses"].append(measured(packed, seconds, None, held))
            with control_group(own + held) as group:
                if group:
                    turn = measured(packed, seconds, group, 0)
                    found["group"].append({**turn, "held_at_most": peak(group), "disk": disk_share(file, turn)})
    told = {**about, **found}
    for kind in ("addresses", "group") if found["group"] else ("addresses",):
        for work in ("feed", "train"):
            if (kind, work) != ("group", "feed"):
                keep(f"{work}_over_memory.{kind}", best(found[kind], work) / best(found["memory"], work), told)
    if found["group"]:
        keep("feed_over_disk.group", best(found["group"], "disk"), told)


def best(turns: Sequence[dict[str, Any]], name: str) -> float:
    """The fastest turn."""
    return max(turn[name] for turn in turns)


def disk_share(file: Path, rates: dict[str, Any]) -> float:
    """The rows of a feed over those that the disk itself gives."""
    return rates["feed"] * 64 / random_reads(file, 3 * SIDE * SIDE)


@app.command(name="all")
def everything(rounds: Rounds = 5, place: Place = None) -> None:
    """Every figure."""
    start(rounds, place)
    feed(rounds, place)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    run(lambda: app(words))


if __name__ == "__main__":
    main()
