"""How fast `faceforge cut` is beside a plain loop, how it scales, and how much memory it takes."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated as Arg
from typing import Any

import cv2
import numpy as np
import typer

from benchmarks import machine, records
from benchmarks.command import FACEFORGE, ROOT
from benchmarks.cut import page, plain
from benchmarks.cut.annotated import (
    PHOTOS,
    Annotated,
    Scene,
    annotated,
    as_it_lies,
    judge,
    manifest_hash,
    provenance,
    read_photo,
)
from benchmarks.cut.scenes import foliage
from faceforge.cut import command, frame, work
from faceforge.cut.detect import SURE_SCORE, DetectorName, find_yunet, make_detector
from faceforge.cut.frame import Box
from faceforge.cut.work import Job, Settings, Task
from faceforge.errors import BadInput
from faceforge.io.archives import Folder
from faceforge.io.engines import spread
from faceforge.io.images import decode, jpeg_size

QUIET = 0.15  # cores that others may keep busy during a turn that counts
PROCESSES = 2
FRAME = command.Framing("published", zoom=1.0)
BIG, HUGE = 1600, 4000  # long sides of enlarged photos


# ------------------------------------------------------------------------------------------------------------ clocks


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement: seconds on the wall, of CPU, and the cores that others kept busy meanwhile."""

    wall: float
    cpu: float
    others: float


def timed(job: Callable[[], Any]) -> tuple[Turn, Any]:
    """Run a job once; its turn and its result."""
    busy, own, start = machine.busy(), machine.own_seconds(), time.perf_counter()
    result = job()
    wall, mine = time.perf_counter() - start, machine.own_seconds() - own
    others = max(0.0, machine.busy() - busy - mine) / wall
    return Turn(wall, mine, others), result


def alternate(
    jobs: Mapping[str, Callable[[], Any]], repeats: int, same: Callable[[Any], Any] | None = None
) -> dict[str, list[Turn]]:
    """Turns of jobs one after the other until each has ``repeats`` quiet ones, or three times as many at most.

    ``same`` makes of every job's result what must be equal.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in jobs}
    for _ in range(3 * repeats):
        results = []
        for name, job in jobs.items():
            turn, result = timed(job)
            turns[name].append(turn)
            results.append(same(result) if same else None)
            print(f"  {name:28} {turn.wall:7.2f} s, cpu {turn.cpu:7.2f} s, others {turn.others:.2f}", flush=True)
        assert all(result == results[0] for result in results), "the ways found other boxes"
        if all(len(quiet(found)) >= repeats for found in turns.values()):
            break
    return turns


def quiet(turns: Sequence[Turn]) -> list[Turn]:
    """The turns during which others kept still."""
    return [turn for turn in turns if turn.others <= QUIET]


def rates(turns: Sequence[Turn], photos: int) -> dict[str, Any]:
    """Photos per second over the quiet turns; over all where fewer than three were quiet."""
    still = quiet(turns)
    used = still if len(still) >= min(3, len(turns)) else list(turns)
    speeds = [photos / turn.wall for turn in used]
    return {
        "photos_per_second": {"best": max(speeds), "median": statistics.median(speeds), "least": min(speeds)},
        "cpu_ms_per_photo": 1e3 * min(turn.cpu for turn in used) / photos,
        "quiet": used is still,
        "rejected": len(turns) - len(used),
        "turns": [asdict(turn) for turn in turns],
    }


def compared(turns: Mapping[str, Sequence[Turn]], photos: int) -> dict[str, Any]:
    """The rates of two jobs, and how many times as fast the second is, by medians and by the best turns."""
    found = {name: rates(t, photos) for name, t in turns.items()}
    first, second = (row["photos_per_second"] for row in found.values())
    times = {key: second[key] / first[key] for key in ("median", "best")}
    return {"photos": photos, "ways": found, "times": times}


# ----------------------------------------------------------------------------------------------- against a plain loop


def bare(job: Job, tasks: Sequence[Task]) -> list[tuple[str, list[tuple[int, ...]]]]:
    """As work() does it with Haar, but nothing is measured or written: read, detect, frame, cut."""
    cv2.setNumThreads(1)
    detect = make_detector(job.settings.detector, job.weights)
    done = []
    for task in tasks:
        pixels = decode(job.store.read(task.name), task.name)
        pixels = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
        boxes = [face.box for face in detect(pixels)]
        for box in boxes:
            place = frame.fit(frame.grow(box, job.settings.size), pixels.shape[1], pixels.shape[0])
            frame.cut(pixels, place, job.settings.size)
        done.append((task.name, sorted(tuple(int(v) for v in box) for box in boxes)))
    return done


def settings(detector: DetectorName) -> Settings:
    """The defaults of the command."""
    return Settings(480, 360, detector, align=False, zoom=1.0, min_face=40)


def through_engine(folder: Path) -> dict[str, list[tuple[int, ...]]]:
    """bare() of a folder over two processes, by the engine of `faceforge cut`."""
    tasks = [Task(name, "") for name in sorted(path.name for path in folder.iterdir())]
    job = Job(Folder(folder), folder, settings("haar"), None, os.getpid())
    chunks = spread(partial(bare, job), tasks, "loky", PROCESSES)
    return dict(pair for chunk in chunks for pair in chunk)


def whole(folder: Path, detector: DetectorName, processes: int = PROCESSES) -> None:
    """`faceforge cut` in this process, into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        asked = command.Framing(zoom=1.0)
        command.cut(folder, Path(place) / "faces", asked, detector, 40, None, "loky", processes)


def plain_whole(folder: Path) -> None:
    """The plain loop with its crops written."""
    with tempfile.TemporaryDirectory() as place:
        plain.cut_all(folder, Path(place))


def started(*arguments: str) -> None:
    """A process of its own that gets a fresh folder as its last argument."""
    alone = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as place:
        command_line = [*arguments[:-1], arguments[-1].format(place)]
        subprocess.run(
            command_line, check=True, cwd=ROOT, env=alone, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def cut_started(folder: Path, detector: str, processes: int) -> None:
    """`faceforge cut` typed into a shell."""
    started(*FACEFORGE, "cut", "--detector", detector, "--processes", str(processes), str(folder), "{}/faces")


def against_plain(folder: Path, repeats: int) -> dict[str, Any]:
    """Bare, whole, and whole with the start of the interpreters."""
    count = sum(1 for _ in folder.iterdir())
    through_engine(folder)  # starts the processes
    print("bare")
    ways: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain.cut_all(folder),
        "ours": lambda: through_engine(folder),
    }
    rows = {"bare": compared(alternate(ways, repeats, same=lambda boxes: boxes), count)}
    print("whole")
    ways = {"plain": lambda: plain_whole(folder), "ours": lambda: whole(folder, "haar")}
    rows["whole"] = compared(alternate(ways, repeats), count)
    print("whole, with the start")
    ways = {
        "plain": lambda: started(sys.executable, "-m", plain.__name__, str(folder), "{}"),
        "ours": lambda: cut_started(folder, "haar", PROCESSES),
    }
    rows["whole, with the start"] = compared(alternate(ways, repeats), count)
    return rows


# ----------------------------------------------------------------------------------------------------------- scaling


def scaling(folder: Path, detector: str, repeats: int) -> dict[str, Any]:
    """The whole command with one process and with two."""
    count = sum(1 for _ in folder.iterdir())
    print(f"scaling, {detector}")
    ways: dict[str, Callable[[], Any]] = {
        "1 process": lambda: cut_started(folder, detector, 1),
        "2 processes": lambda: cut_started(folder, detector, 2),
    }
    return compared(alternate(ways, repeats), count)


def several(folder: Path, times: int, to: Path) -> Path:
    """The photos so often under other names, each copy a little darker so that none is a double of another."""
    to.mkdir()
    for path in sorted(folder.iterdir()):
        (to / f"0-{path.name}").symlink_to(path.resolve())
        for n in range(1, times):
            pixels = read_photo(folder, path.name)
            changed = pixels[:, ::-1] if n % 2 else pixels[n:, n:]
            write_jpeg(to / f"{n}-{path.stem}.jpg", np.ascontiguousarray(changed))
    return to


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """A JPEG of quality 90 outside the repository."""
    cv2.imwrite(str(path), pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


def enlarged_folder(photos: Path, names: Sequence[str], side: int, to: Path) -> Path:
    """JPEGs of photos enlarged to a long side; the folder."""
    to.mkdir()
    for name in names:
        pixels = read_photo(photos, name)
        by = side / max(pixels.shape[:2])
        write_jpeg(to / f"{Path(name).stem}.jpg", cv2.resize(pixels, None, fx=by, fy=by, interpolation=cv2.INTER_CUBIC))
    return to


# -------------------------------------------------------------------------------------------------- reduced decoding


def looked(data: bytes, name: str, reduced: bool, cut: bool) -> list[tuple[Box, float]]:
    """Boxes (places in the whole photo) and scores of YuNet, decoded reduced or in full, as work.py does it.

    ``cut``: where faces were found the photo is decoded in full to be cut, once in all.
    """
    detect = make_detector("yunet", find_yunet())
    small = work._reduced(data, name) if reduced else None
    pixels = decode(data, name) if small is None else small
    found = detect(pixels)
    if found and cut and small is not None:
        decode(data, name)
    size = (pixels.shape[0], pixels.shape[1])
    whole_size = jpeg_size(data)
    by = whole_size[1] / size[1] if whole_size and small is not None else 1.0
    boxes = [as_it_lies(face, size) for face in found]
    scaled = [(x * by, y * by, w * by, h * by) for x, y, w, h in boxes]
    return list(zip(scaled, (face.score or 0.0 for face in found), strict=True))


def reduced_decoding(photos: Path, chosen: Sequence[Annotated], folder: Path, repeats: int) -> dict[str, Any]:
    """Photos per second and recall of YuNet on huge photos decoded in full and reduced."""
    print("reduced decoding")
    enlarged_folder(photos, [photo.name for photo in chosen], HUGE, folder)
    stored = {photo.name: (folder / f"{Path(photo.name).stem}.jpg").read_bytes() for photo in chosen}
    cv2.setNumThreads(1)
    recalls, rows = {}, {}
    for reduced in (False, True):
        hits = total = false = 0
        for photo in chosen:
            by = HUGE / max(photo.size)
            faces, ignored = ([(x * by, y * by, w * by, h * by) for x, y, w, h in part] for part in photo.split())
            found = [
                box for box, score in looked(stored[photo.name], photo.name, reduced, False) if score >= SURE_SCORE
            ]
            verdicts = judge(found, Scene(photo.name, np.empty(0), faces, ignored))
            hits, total, false = hits + len(verdicts.hits), total + len(faces), false + len(verdicts.false)
        recalls["reduced" if reduced else "full"] = {"recall": records.share(hits, total), "false": false}
    for cut in (False, True):
        ways = {
            "full": lambda cut=cut: [looked(data, name, False, cut) for name, data in stored.items()],
            "reduced": lambda cut=cut: [looked(data, name, True, cut) for name, data in stored.items()],
        }
        rows["found and decoded to be cut" if cut else "found"] = compared(alternate(ways, repeats), len(stored))
    cv2.setNumThreads(-1)
    return {"recall": recalls, "speed": rows}


Repeats = Arg[int, typer.Option(help="quiet turns of each way")]
Folder_ = Arg[Path, typer.Option("--photos", help="folder of photos")]


def speed(
    photos: Folder_ = PHOTOS,
    repeats: Repeats = 5,
    seed: Arg[int, typer.Option(help="of the choice of photos")] = 0,
    few: Arg[int | None, typer.Option(help="only so many photos, to try it out")] = None,
    large: Arg[int, typer.Option(help="enlarged photos")] = 64,
    copies: Arg[int, typer.Option(help="how often the photos are taken for the scaling")] = 3,
    huge: Arg[int, typer.Option(help="photos of 4000 pixels for the reduced decoding")] = 32,
    parts: Arg[str, typer.Option(help="which: plain,large,scaling,reduced")] = "plain,large,scaling,reduced",
) -> None:
    """Photos per second against a plain loop, from one process to two, and with reduced decoding."""
    names = sorted(path.name for path in photos.iterdir())[:few]
    random = np.random.default_rng([seed, 5])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        same = place / "photos"
        same.mkdir()
        for name in names:
            shutil.copy(photos / name, same / name)
        if "plain" in parts:
            found[page.AS_THEY_ARE] = against_plain(same, repeats)
        if "large" in parts:
            some = sorted(str(name) for name in random.choice(names, min(large, len(names)), replace=False))
            found[f"enlarged to {BIG}"] = against_plain(enlarged_folder(photos, some, BIG, place / "large"), repeats)
        scaled: dict[str, Any] = {}
        if "scaling" in parts:
            more = several(same, copies, place / "more")
            scaled = {name: scaling(more, name, repeats) for name in ("haar", "yunet")}
        reduced = {}
        if "reduced" in parts:
            boxed = [photo for photo in annotated() if photo.name in set(names)]
            picked = sorted(random.choice(len(boxed), min(huge, len(boxed)), replace=False).tolist())
            reduced = reduced_decoding(photos, [boxed[i] for i in picked], place / "huge", repeats)
    before, made = records.read("cut_faces_speed"), provenance(find_yunet())
    now = {part: {name: made[name] for name in ("command", "commit", "made")} for part in parts.split(",")}
    record = {
        **made,
        "measured": {**before.get("measured", {}), **now},
        "seed": seed,
        "data": {"photos": len(names), "manifest": manifest_hash(photos, names)},
        "others_at_most": QUIET,
        "opencv_threads": cv2.getNumThreads(),
        "plain": {**before.get("plain", {}), **found},  # parts that were not measured now are kept
        "scaling": scaled or before.get("scaling", {}),
        "reduced": reduced or before.get("reduced", {}),
    }
    records.write("cut_faces_speed", record)
    print(page.speed(record))


# ------------------------------------------------------------------------------------------------------------ memory


TINY = 64  # pixels a side of the photos of which there are very many


def tiny_photos(photos: Path, count: int, seed: int, to: Path) -> Path:
    """``count`` photos of 64 x 64, no two alike: three of four show a face, the others leaves.

    What lies there already is kept. Each is drawn from a seed of its own, so that the folder can be filled in parts.
    """
    to.mkdir(parents=True, exist_ok=True)
    bases = [read_photo(photos, path.name) for path in sorted(photos.iterdir()) if path.stem.count("_") == 3]
    bases = [base for base in bases if max(base.shape[:2]) <= 200]  # those that a face fills
    there = {path.name for path in to.iterdir()}
    for n in range(count):
        name = f"{n:06d}.jpg"
        if name not in there:
            random = np.random.default_rng([seed, 6, n])
            picture = _tiny_face(random, bases[n % len(bases)]) if n % 4 else foliage(random, TINY, TINY)
            write_jpeg(to / name, picture)
    return to


def _tiny_face(random: np.random.Generator, base: np.ndarray) -> np.ndarray:
    """A photo a little turned, moved, mirrored, and brighter or darker, at 64 x 64."""
    side = TINY / max(base.shape[:2])
    turn = cv2.getRotationMatrix2D((base.shape[1] / 2, base.shape[0] / 2), random.uniform(-15, 15), side)
    turn[:, 2] += TINY / 2 - base.shape[1] / 2, TINY / 2 - base.shape[0] / 2
    turn[:, 2] += random.uniform(-3, 3, 2)
    small = cv2.warpAffine(base, turn, (TINY, TINY), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    lit = np.clip(small * random.uniform(0.7, 1.2) + random.uniform(-15, 15), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(lit[:, ::-1] if random.random() < 0.5 else lit)


def peak_of(folder: Path, target: Path, every: float = 0.25) -> dict[str, Any]:
    """Cut a folder with `faceforge cut`, and the most memory that all its processes held at one time."""
    options = ["--detector", "yunet", "--processes", str(PROCESSES), "--size", str(TINY)]
    start = time.perf_counter()
    command_line = [*FACEFORGE, "cut", str(folder), str(target), *options]
    process = subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True)
    peak = {"pss": 0.0, "rss": 0.0, "parent_pss": 0.0}
    while process.poll() is None:
        pss, rss = machine.held(machine.tree(process.pid))
        own, _ = machine.held([process.pid])
        peak = {"pss": max(peak["pss"], pss), "rss": max(peak["rss"], rss), "parent_pss": max(peak["parent_pss"], own)}
        time.sleep(every)
    told = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise BadInput(f"faceforge cut ended with {process.returncode}")
    return {"mib": peak, "seconds": time.perf_counter() - start, "told": told.splitlines()[0]}


def memory(
    photos: Folder_ = PHOTOS,
    counts: Arg[str, typer.Option(help="how many photos, fewer first")] = "1000,100000",
    seed: Arg[int, typer.Option(help="of the photos")] = 0,
    place: Arg[Path | None, typer.Option(help="a folder that keeps photos and crops; default: a temporary one")] = None,
) -> None:
    """Peak memory of `faceforge cut` over few and over very many small photos."""
    numbers = [int(number) for number in counts.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        base = place or Path(temporary)
        for number in numbers:
            folder = tiny_photos(photos, number, seed, base / f"photos-{number}")
            rows.append({"photos": number, **peak_of(folder, base / f"faces-{number}")})
            print(f"{number:,} photos: {rows[-1]['mib']['pss']:.0f} MiB, {rows[-1]['seconds']:.0f} s", flush=True)
    names = [path.name for path in photos.iterdir()]
    record = {
        **provenance(find_yunet()),
        "seed": seed,
        "data": {"photos": len(names), "manifest": manifest_hash(photos, names)},
        "runs": rows,
        "growth_mib": rows[-1]["mib"]["pss"] - rows[0]["mib"]["pss"],
    }
    records.write("cut_faces_memory", record)
    print(page.memory(record))
