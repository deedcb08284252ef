"""Hostile input: what is taken that should not be, what runs that must not, what memory small files cost.

    python -m benchmarks.hostile images --count 4000           # of drawn portraits
    python -m benchmarks.hostile images PHOTOS --count 4000    # of a folder of photos, which is only read
    python -m benchmarks.hostile memory
    python -m benchmarks.hostile checkpoints
    python -m benchmarks.hostile targets
    python -m benchmarks.hostile archives
    python -m benchmarks.hostile network

A picture is visibly broken where its size differs from the sound one's, its mean absolute difference is above 2 of 255
levels, or that of any 16x16 block is above 16. Pillow decodes as it does by default. Memory is the peak of a fresh
process above what it held before it saw the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks import records
from benchmarks.command import ROOT
from benchmarks.hostile import cases
from benchmarks.tiny import TINY
from faceforge.errors import BadInput
from faceforge.io import images as pictures

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
MEAN, BLOCK = 2.0, 16.0  # levels of 255
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn", "webbrowser.open")
# ------------------------------------------------------------------------------------------------------------- images


def visibly_broken(found: np.ndarray, sound: np.ndarray) -> bool:
    """Whether a decoded picture (H, W[, 3]) is another than the sound one, as the head of this file says."""
    if found.shape != sound.shape:
        return True
    difference = np.abs(found.astype(np.int16) - sound).reshape(*sound.shape[:2], -1).mean(axis=2)
    blocks = [difference[y : y + 16, x : x + 16].mean() for y, x in _corners(*difference.shape)]
    return bool(difference.mean() > MEAN or max(blocks) > BLOCK)


def _corners(height: int, width: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(0, height, 16) for x in range(0, width, 16)]


def by_pillow(data: bytes) -> np.ndarray:
    """As a loader of the usual kind decodes."""
    image = Image.open(io.BytesIO(data))
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def outcome(decode: Callable[[bytes], np.ndarray], data: bytes, sound: np.ndarray, refusal: type[Exception]) -> str:
    """``refused``, ``sound``, ``broken`` or ``crash``."""
    try:
        return "broken" if visibly_broken(decode(data), sound) else "sound"
    except refusal:
        return "refused"
    except Exception:
        return "crash"


def sources(folder: Path | None, most: int = 60_000) -> list[bytes]:
    """Files to mutate: photos of at most ``most`` bytes, or drawn portraits as JPEG (three of four) and PNG."""
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        return [p.read_bytes() for p in files if p.stat().st_size <= most]
    found = []
    for n, face in enumerate(cases.portraits(40)):
        buffer = io.BytesIO()
        Image.fromarray(face).save(buffer, "PNG" if n % 4 == 3 else "JPEG", **({} if n % 4 == 3 else {"quality": 90}))
        found.append(buffer.getvalue())
    return found


def fuzz(files: Sequence[bytes], count: int, seed: int) -> dict[str, Counter[str]]:
    """How ``count`` mutated files fare with us, with Pillow, and with us where the file's hash is known."""
    draw, told = random.Random(seed), {name: Counter() for name in ("ours", "pillow", "known", *cases.KINDS)}
    for n in range(count):
        kind, whole = cases.KINDS[n % len(cases.KINDS)], files[draw.randrange(len(files))]
        data = cases.mutated(whole, kind, draw)
        if data == whole:  # zeros over zeros
            told["ours"]["sound"] += 1
            continue
        sound, digest = pictures.decode(whole), hashlib.sha256(whole).hexdigest()
        ours = outcome(pictures.decode, data, sound, pictures.ImageError)
        told["ours"][ours] += 1
        told[kind][ours] += 1
        told["pillow"][outcome(by_pillow, data, sound, Exception)] += 1
        told["known"][
            outcome(lambda d, known=digest: pictures.decode(d, sha256=known), data, sound, pictures.ImageError)
        ] += 1
    return told


def shares(told: dict[str, Counter[str]], count: int) -> dict[str, float]:
    """The figures that are promised, and by kind."""
    kinds = {f"taken_broken_share.{kind}": told[kind]["broken"] / max(1, told[kind].total()) for kind in cases.KINDS}
    return {
        "crashes": told["ours"]["crash"] + told["known"]["crash"],
        "taken_broken_share": told["ours"]["broken"] / count,
        "pillow_taken_broken_share": told["pillow"]["broken"] / count,
        "taken_broken_over_pil": told["ours"]["broken"] / max(1, told["pillow"]["broken"]),
        "taken_broken_known": told["known"]["broken"],
        **kinds,
    }


@app.command()
def images(folder: Annotated[Path | None, typer.Argument()] = None, count: int = 4000, seed: int = 0) -> None:
    """Mutated pictures: taken though visibly broken, beside Pillow, and where hashes are known."""
    files = sources(folder)
    found = shares(fuzz(files, count, seed), count)
    refused = sum(outcome(pictures.decode, f, by_pillow(f), pictures.ImageError) == "refused" for f in files)
    found |= {"sound_files": len(files), "sound_files_refused": refused}
    _tell(found)
    of = "photos" if folder else "drawn portraits"
    print(records.keep(f"hostile_images_{of.split()[0]}", {"of": of, "count": count, **found}))


# ------------------------------------------------------------------------------------------------------------- memory

CHILD = """
import sys
from pathlib import Path
import numpy
from faceforge.io import archives
from faceforge.io.images import ImageError, decode
path, warm = Path(sys.argv[1]), sys.argv[2:]
def status(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1])
for small in warm:
    decode(Path(small).read_bytes())
Path("/proc/self/clear_refs").write_text("5")
before, said = status("VmRSS"), "taken"
try:
    if path.suffix == ".zip":
        store = archives.Zip(path)
        for name in store.names():
            decode(store.read(name), name)
    else:
        decode(path.read_bytes())
except ImageError as error:
    said = str(error)
print((status("VmHWM") - before) / 1024, said)
"""


def peak(path: Path, warm: Sequence[Path]) -> tuple[float, str]:
    """MiB above the baseline that decoding a file takes in a fresh process, and what was said."""
    command = [sys.executable, "-c", CHILD, str(path), *map(str, warm)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        return float("inf"), f"crash: {done.stderr[-300:]}"
    number, said = done.stdout.strip().split(" ", 1)
    return float(number), said


def peaks(folder: Path, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """By file: its bytes, the peak in MiB and what was said."""
    warm = [folder / f"warm.{kind.lower()}" for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "AVIF")]
    for path in warm:
        path.write_bytes(cases.plain(path.suffix[1:].upper(), "RGB", 16, 16))
    found = {}
    for name, make in cases.bombs():
        if only and name not in only:
            continue
        (folder / name).write_bytes(make())
        mib, said = peak(folder / name, warm)
        found[name] = {"bytes": (folder / name).stat().st_size, "mib": round(mib, 1), "said": said}
        (folder / name).unlink()
    return found


@app.command()
def memory() -> None:
    """Peak memory of decoding files of at most 1 MB that claim much."""
    with tempfile.TemporaryDirectory() as folder:
        found = peaks(Path(folder))
    for name, row in found.items():
        print(f"{name}: {row['bytes']:,} bytes, {row['mib']} MiB, {row['said']}")
    largest = max(row["mib"] for row in found.values())
    _tell({"memory_peak_mib": largest, "memory_files": len(found)})
    print(records.keep("hostile_memory", {"memory_peak_mib": largest, "files": found}))


# ------------------------------------------------------------------------------------------------ what must never run


class Watch:
    """Counts what would start a program or reach a network, in this process, while it is on."""

    def __init__(self) -> None:
        self.on, self.seen = False, []
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        outside = event == "socket.connect" and isinstance(args[1], tuple)
        if self.on and (outside or event.startswith(WATCHED)):
            self.seen.append(f"{event} {str(args)[:100]}")


def refusal(work: Callable[[], Any]) -> str:
    """How a piece of work ended: ``refused`` in one line, or what went wrong."""
    try:
        work()
    except BadInput as error:
        return "refused" if "\n" not in str(error).strip() else f"several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "taken"


def base_checkpoint() -> dict[str, Any]:
    """A sound checkpoint of a tiny model that nobody trained."""
    from faceforge import config

    composed = config.compose(TINY)
    module = config.build(composed["model"])
    clock = {"images": 0, "generator_steps": 0, "seconds": 0.0}
    weights = module.state_dict()
    return {"state_dict": weights, "config": composed, "version": 1, "clock": clock, "optimizers": []}


def open_checkpoints(folder: Path, watch: Watch) -> dict[str, Any]:
    """Every hostile checkpoint and export through the doors of those who use a run."""
    from faceforge.engine import checkpoint
    from faceforge.studio import shipped
    from faceforge.studio.model import open_model

    canary, base = folder / "canary", base_checkpoint()
    sound = folder / "sound.ckpt"
    sound.write_bytes(cases.saved(base))
    own = shipped.files()["drawn:latent_editor"].read_bytes()
    works = [lambda: checkpoint.load(sound), lambda: open_model(sound)]
    wrong = {f"sound {n}": said for n, work in enumerate(works) if (said := refusal(work)) != "taken"}
    files = {f"{k}.ckpt": v for k, v in cases.hostile_checkpoints(base, str(canary)).items()}
    files |= {f"{k}.safetensors": v for k, v in cases.hostile_exports(own, str(canary)).items()}
    watch.on = True
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        doors = {"open_model": lambda at=path: open_model(at)}
        doors |= {"load": lambda at=path: checkpoint.load(at)} if path.suffix == ".ckpt" else {}
        wrong |= {f"{name} {door}": said for door, work in doors.items() if (said := refusal(work)) != "refused"}
        path.unlink()
    watch.on = False
    return {
        "files": len(files),
        "executed": len(watch.seen) + canary.exists(),
        "seen": watch.seen,
        "not_refused": wrong,
    }


def try_targets(folder: Path, watch: Watch) -> dict[str, Any]:
    """Every hostile node through the check and through the builder."""
    from faceforge import config

    canary = folder / "canary"
    nodes = cases.hostile_nodes(str(canary))
    watch.on = True
    wrong = {name: "passed" for name, node in nodes.items() if not config.check_targets({"model": node})}
    for name, node in nodes.items():
        said = refusal(lambda at=node: config.build_from(Path("x"), at))
        wrong |= {f"{name} build": said} if said != "refused" else {}
    watch.on = False
    seen = watch.seen
    return {"targets": len(nodes), "executed": len(seen) + canary.exists(), "seen": seen, "not_refused": wrong}


def by_command_line(targets: Sequence[str], folder: Path) -> dict[str, str]:
    """What ``train.py model._target_=...`` did wrong, by target; nothing where all is well."""
    wrong = {}
    for target in targets:
        for key in ("model._target_", "model.generator._target_"):
            command = [sys.executable, str(ROOT / "train.py"), f"{key}={target}", f"run_dir={folder / 'run'}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
            if done.returncode != 2 or "Traceback" in done.stderr or (folder / "run").exists():
                wrong[f"{key}={target}"] = f"{done.returncode}: {done.stderr[-300:]}"
    return wrong


UNSHARED = ["unshare", "--map-root-user", "--net"]


def _in_child(work: str, alone: bool = False) -> dict[str, Any]:
    """What ``child`` prints; ``alone`` in a network without routes, where this system lets anybody have one."""
    possible = alone and subprocess.run([*UNSHARED, "true"], capture_output=True, check=False).returncode == 0
    command = [*(UNSHARED if possible else []), sys.executable, "-m", "benchmarks.hostile", "child", work]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BadInput(f"{work}: the process died with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1]) | ({"without_routes": possible} if alone else {})


@app.command(hidden=True)
def child(work: str) -> None:
    """What a parent asks for, in this process, as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        works = {"network": offline, "checkpoints": open_checkpoints, "targets": try_targets}
        done = {name: do(Path(folder), Watch()) for name, do in works.items() if work in (name, "all")}
        print(json.dumps(done if work == "all" else done[work]))


@app.command()
def checkpoints() -> None:
    """Hostile checkpoints and exports: executed, and not refused in one line."""
    found = _in_child("checkpoints")
    _tell_refusals("checkpoints", found)
    print(records.keep("hostile_checkpoints", found))


@app.command()
def targets(lines: Annotated[int, typer.Option(help="How many also by train.py.")] = 6) -> None:
    """Hostile targets: executed, and not refused in one line."""
    found = _in_child("targets")
    with tempfile.TemporaryDirectory() as folder:
        found["not_refused"] |= by_command_line(cases.TARGETS[:: max(1, len(cases.TARGETS) // lines)], Path(folder))
    _tell_refusals("targets", found)
    print(records.keep("hostile_targets", found))


# ----------------------------------------------------------------------------------------------------------- archives


def open_archives(folder: Path, huge: int) -> dict[str, str]:
    """What became of each archive: refused, or the names that were taken. Raises BadInput where a file escaped."""
    from faceforge.data.sources.crops import Crops

    inside = folder / "deep" / "archives"
    inside.mkdir(parents=True)
    paths = cases.hostile_archives(inside, cases.plain("JPEG", "RGB", 16, 16), huge)
    before, said = set(folder.rglob("*")), {}
    for case, path in paths.items():
        try:
            source = Crops(str(path), cache=str(folder / "cache"))
            said[case] = f"taken: {' '.join(face.id for face in source.faces)}; {_unreadable(source)} unreadable"
        except BadInput as error:
            said[case] = f"refused: {str(error).replace(str(inside), '')}"
    new = {p for p in folder.rglob("*") if p not in before and folder / "cache" not in (p, *p.parents)}
    if new or Path("/tmp/faceforge-evil.jpg").exists():
        raise BadInput(f"written outside of the cache: {sorted(map(str, new))}")
    return said


def _unreadable(source: Any) -> int:
    def bad(n: int) -> bool:
        try:
            return source.read(n, (4, 4)) is None
        except pictures.ImageError:
            return True

    return sum(bad(n) for n in range(len(source.faces)))


@app.command()
def archives(gigabytes: int = 10) -> None:
    """Archives with names that escape, links, devices, bombs: what became of each."""
    with tempfile.TemporaryDirectory() as folder:
        said = open_archives(Path(folder), gigabytes * 2**30)
    for case, became in said.items():
        print(f"{case}: {became}")
    _tell({"archives": len(said), "archives_escaped": 0})
    print(records.keep("hostile_archives", {"zeros_gb": gigabytes, "said": said}))


# ------------------------------------------------------------------------------------------------------------ network


def offline(folder: Path, watch: Watch) -> dict[str, Any]:
    """Import, a tiny training and two commands in this process; who tried to connect."""
    watch.on = True
    from typer.testing import CliRunner

    from faceforge import config
    from faceforge.cli import app as commands
    from faceforge.engine import training

    os.environ["FACEFORGE_CACHE"] = str(folder / "cache")
    run, codes = folder / "run", []
    overrides = [*TINY, f"run_dir={run}"]
    codes.append(training.train(config.compose(overrides), overrides))
    for words in (
        ["generate", str(run), "-n", "2", "--out", str(folder / "a.png")],
        ["export", str(run), str(folder / "a.safetensors")],
    ):
        codes.append(CliRunner().invoke(commands, words).exit_code)
    watch.on = False
    connects = [seen for seen in watch.seen if seen.startswith("socket.connect")]
    return {"codes": codes, "connection_attempts": len(connects), "seen": connects}


@app.command()
def network() -> None:
    """Connection attempts of an import, a training and two commands, without routes where that can be had."""
    found = _in_child("network", alone=True)
    _tell({"connection_attempts": found["connection_attempts"], "failed_commands": sum(map(bool, found["codes"]))})
    print(records.keep("hostile_network", found))


# ----------------------------------------------------------------------------------------------------------- printing


def _tell(found: dict[str, float]) -> None:
    for name, value in found.items():
        print(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")


def _tell_refusals(name: str, found: dict[str, Any]) -> None:
    count = found["files" if name == "checkpoints" else "targets"]
    _tell({f"{name}": count, f"{name}_executed": found["executed"], f"{name}_not_refused": len(found["not_refused"])})
    for case, said in found["not_refused"].items():
        print(f"  {case}: {said}")
    for event in found["seen"]:
        print(f"  {event}")
