"""What an accelerator does with everything that trains, in at most eight minutes: `make gpu-check`.

    python -m benchmarks.speed.gpu_check                                    writes docs/results/records/gpu_NAME.json
    python -m benchmarks.speed.gpu_check --device cpu --seconds 90 --out rehearsal.json     the same on tiny networks

Parts: the tests marked `gpu`; every scheme in every precision, its images a second, memory and host time beside a
bare PyTorch loop of the same networks; exact resume; two devices. Each part runs in a process of its own within its
slice of the time, and each of its units reports as it ends, so neither a crash nor a hang takes another's result. What
failed, and what there was no time for, stands in the record with its reason; then the exit code is 1. It is 2 where
there is no accelerator. A rehearsal is marked as one and is refused among the records.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import pytorch_lightning as pl
import torch
import typer

from benchmarks import command, records, runs
from benchmarks.command import ROOT
from benchmarks.records import RECORDS
from benchmarks.speed.measure import bare_of, first_batch
from benchmarks.speed.pace import built, with_callback
from faceforge import config
from faceforge.engine import devices, training
from faceforge.errors import BadInput
from faceforge.schemes.latent import LatentModule

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MODELS = ("dcgan_conventional", "dcgan_cnn", "conv_superres", "mlp_autoencoder", "latent_editor", "pix2pix")
PRECISIONS = ("32", "bf16", "16")
SECONDS = 470.0  # of all parts
LEAST = 0.2  # the share of its slice below which a part is not begun
SEED, FACES = 0, 600
MARK = 8  # steps from one wait for the device to the next
NEVER = 10**9

COMMON = [
    "data=drawn",
    f"data.source.count={FACES}",
    f"seed={SEED}",
    "logger.mode=disabled",
    f"trainer.sample_every={NEVER}",
    f"trainer.checkpoint_every={NEVER}",
]
GAN = ["model.generator.width=4", "model.generator.max_width=4", "model.discriminator.max_width=4"]
TINY = {  # networks of a few hundred weights, for a rehearsal
    "dcgan_conventional": [*GAN, "model.discriminator.width=4"],
    "dcgan_cnn": [*GAN, "model.discriminator.width=4"],
    "conv_superres": ["model.network.width=4", "model.network.blocks=1"],
    "mlp_autoencoder": ["model.network.width=8"],
    "latent_editor": ["model.encoder.width=4", "model.decoder.width=4", "model.code.latent_size=5"],
    "pix2pix": ["model.generator.width=4", "model.discriminator.width=4", "model.discriminator.layers=1"],
}
TINY_FACES = ["data.size=16", "data.batch_size=4", "data.source.count=40"]


# ------------------------------------------------------------------------------------------------------------- devices


def peak_memory(device: torch.device, reset: bool = False) -> int | None:
    """The most bytes that tensors have taken since the last reset; None where torch does not count them."""
    try:
        if device.type == "cpu":
            return None
        if reset:
            torch.accelerator.reset_peak_memory_stats(device)
        return int(torch.accelerator.max_memory_allocated(device))
    except (RuntimeError, AttributeError, NotImplementedError):
        return None


# -------------------------------------------------------------------------------------------------------------- checks


class NotHere(Exception):
    """What this machine cannot do, and need not: no failure."""


@dataclass(frozen=True, slots=True)
class Check:
    """What every part needs to know."""

    device: str
    folder: Path
    tiny: bool
    seconds: float = 3.0  # to train in each precision

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def gpus(self) -> int:
        return int(self.device != "cpu")

    @property
    def count(self) -> int:
        return devices.count() if self.gpus else 0

    def overrides(self, model: str, *more: str) -> list[str]:
        """What trains a model here on drawn faces."""
        validates = [] if not model.startswith("dcgan") else ["model.val_samples=0"]
        tiny = [*TINY_FACES, *TINY[model]] if self.tiny else []
        place = [f"trainer.gpus={self.gpus}", f"data.cache={self.folder / 'cache'}"]
        return [f"model={model}", *COMMON, *validates, *tiny, *place, *more]

    def run_dir(self, name: str) -> Path:
        """A folder that no earlier run has."""
        numbers = (self.folder / "runs" / f"{name}-{number}" for number in range(NEVER))
        return next(folder for folder in numbers if not folder.exists())


class Clock(pl.Callback):
    """The pace of steps by marks, at each of which the device is waited for; the first marks do not count."""

    lean = True

    def __init__(self, device: torch.device, warm: float) -> None:
        self.device, self.warm = device, warm
        self.steps = 0
        self.marks: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self.steps += 1
        if self.steps % MARK == 0 and not trainer.should_stop:
            self.mark()

    def mark(self) -> None:
        devices.synchronize()
        self.marks.append((time.perf_counter(), time.process_time()))

    def pace(self, batch: int) -> dict[str, float | int | None]:
        """Images a second; milliseconds of a step on the wall and of CPU time."""
        warmed = [mark for mark in self.marks if mark[0] >= self.marks[0][0] + self.warm]
        marks = warmed if len(warmed) >= 2 else self.marks
        if len(marks) < 2:
            return {"steps": 0, "images_per_second": None, "wall_ms": None, "cpu_ms": None}
        steps = MARK * (len(marks) - 1)
        wall, cpu = ((marks[-1][n] - marks[0][n]) / steps for n in (0, 1))
        return {
            "steps": steps,
            "images_per_second": round(batch / wall, 2),
            "wall_ms": round(1e3 * wall, 4),
            "cpu_ms": round(1e3 * cpu, 4),
        }


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Runs get the clock as their last callback, and end with training.

    The directions of a latent space are no work of the device, and take minutes where codes have hardly been trained.
    """
    with with_callback(clock), mock.patch.object(LatentModule, "on_run_end", return_value=None):
        yield


def train(overrides: Sequence[str], clock: Clock) -> None:
    """Train in this process, quietly. Raises where the run does not end well."""
    told = io.StringIO()
    with watched(clock), redirect_stdout(told), redirect_stderr(told):
        code = training.train(config.compose(list(overrides)), list(overrides))
    if code:
        raise RuntimeError(f"ended with {code}: {told.getvalue().strip().splitlines()[-1:]}")


def finished(folder: Path) -> dict[str, Any]:
    """run.json of a run that has finished with finite weights."""
    record = json.loads((folder / "run.json").read_text())
    broken = runs.not_finite(folder)
    if broken or record["status"] != "finished":
        raise RuntimeError(f"{record['status']}, weights that are not finite: {', '.join(broken[:3]) or 'none'}")
    return record


# -------------------------------------------------------------------------------------------------- schemes, bare loops


def train_in(check: Check, model: str, precision: str) -> dict[str, Any]:
    """A bounded run of a model, and the bare loop of its networks under the same autocast."""
    folder = check.run_dir(model)
    overrides = check.overrides(model, f"trainer.precision={precision}")
    clock = Clock(check.torch_device, 0.0 if check.tiny else check.seconds / 3)
    peak_memory(check.torch_device, reset=True)
    try:
        train([*overrides, f"run_dir={folder}", *bounds(check, overrides, check.seconds)], clock)
    except BadInput as error:
        if "trainer.precision" in str(error):
            raise NotHere(str(error)) from error
        raise
    peak, record = peak_memory(check.torch_device), finished(folder)
    batch = config.compose(overrides)["data"]["batch_size"]
    found = {"batch": batch, "images": record["images"], "ours": clock.pace(batch), "peak_memory": peak}
    found |= {"precision": record["precision"], "manifest": record["data"]["manifest"], "size": record["data"]["size"]}
    return found | {"bare": bare_pace(check, overrides, precision, check.seconds / 2)}


def host_time(check: Check, model: str) -> dict[str, Any]:
    """Time of a step of two faces, which leaves the device waiting for the host, beside the bare loop."""
    overrides = check.overrides(model, "data.batch_size=2", "trainer.precision=32")
    clock = Clock(check.torch_device, 0.0 if check.tiny else check.seconds / 3)
    train([*overrides, f"run_dir={check.run_dir('host')}", *bounds(check, overrides, 0.7 * check.seconds)], clock)
    return {"batch": 2, "ours": clock.pace(2), "bare": bare_pace(check, overrides, "32", check.seconds / 3)}


def bounds(check: Check, overrides: Sequence[str], seconds: float) -> list[str]:
    """What ends a run: seconds, or four marks of a rehearsal."""
    if not check.tiny:
        return ["trainer.max_images=null", f"trainer.max_minutes={seconds / 60}"]
    return [f"trainer.max_images={4 * MARK * config.compose(list(overrides))['data']['batch_size']}"]


def bare_pace(check: Check, overrides: Sequence[str], precision: str, seconds: float) -> dict[str, Any]:
    """Pace and memory of the bare loop; in half precision without a gradient scaler."""
    device = check.torch_device
    module, data = built(overrides)
    module.to(device)
    batch = {name: value.to(device) for name, value in first_batch(data).items()}
    types = {"bf16": torch.bfloat16, "16": torch.float16}
    within = partial(torch.autocast, device.type, types[precision]) if precision in types else nullcontext
    seconds = 0.0 if check.tiny else seconds
    step, clock = bare_of(module, batch), Clock(device, seconds / 3)
    del module
    peak_memory(device, reset=True)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(clock.marks) < 2:
        with within():
            step(clock.steps)
        clock.steps += 1
        if clock.steps % MARK == 0:
            clock.mark()
    return {**clock.pace(data.batch_size), "peak_memory": peak_memory(device)}


def scheme(check: Check, unit: str, model: str) -> dict[str, Any]:
    return host_time(check, model) if unit == "host time" else train_in(check, model, unit)


# ------------------------------------------------------------------------------------------------- resume, two devices


def resume(check: Check, model: str) -> dict[str, Any]:
    """Three and three batches under ``trainer.deterministic`` against six."""
    batch = config.compose(check.overrides(model))["data"]["batch_size"]
    settings = check.overrides(model, "trainer.deterministic=true")
    whole, parts = check.run_dir(f"whole-{model}"), check.run_dir(f"parts-{model}")
    for folder, overrides in (
        (whole, [*settings, f"run_dir={whole}", f"trainer.max_images={6 * batch}"]),
        (parts, [*settings, f"run_dir={parts}", f"trainer.max_images={3 * batch}"]),
        (parts, [f"resume={parts}", f"trainer.max_images={6 * batch}"]),
    ):
        train(overrides, Clock(check.torch_device, 0.0))
        finished(folder)
    apart = differing(whole, parts)
    if apart:
        raise RuntimeError(f"{len(apart)} values differ, the first is {apart[0]}")
    return {"equal": True, "images": 6 * batch, "precision": finished(parts)["precision"]}


def differing(a: Path, b: Path) -> list[str]:
    """The names of values in which the last checkpoints of two runs differ."""
    return runs.differences(*(runs.flat(_state(runs.last(folder))) for folder in (a, b)))


def _state(kept: dict[str, Any]) -> dict[str, Any]:
    return {"state_dict": kept["state_dict"], "optimizers": kept["optimizers"], "images": kept["clock"]["images"]}


def ranks(check: Check, unit: str) -> dict[str, Any]:
    """A bounded run on two devices (in a rehearsal two processes)."""
    if check.gpus and check.count < 2:
        raise NotHere("one device")
    folder = check.run_dir("ranks")
    two = "trainer.gpus=2" if check.gpus else "trainer.processes=2"
    overrides = check.overrides(MODELS[0], two)
    batch = config.compose(overrides)["data"]["batch_size"]
    limit = f"trainer.max_images={batch * (8 if check.tiny else 400)}"
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        given = [*overrides, f"run_dir={folder}", limit, f"trainer.log_every={batch * (4 if check.tiny else 100)}"]
        code = training.train(config.compose(given), given)
    if code:
        raise RuntimeError(f"ended with {code}")
    record = finished(folder)
    return {"images": record["images"], "images_per_second": record.get("images_per_second"), "batch": batch}


# ---------------------------------------------------------------------------------------------------------------- tests


def tests(check: Check, unit: str) -> dict[str, Any]:
    """`make test-gpu`, by what pytest writes of it. In a rehearsal only of the file that holds most of them."""
    told = check.folder / "tests.xml"
    files = [str(ROOT / "tests" / "test_gpu.py")] if check.tiny else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-rs", f"--junitxml={told}", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not told.exists():
        raise RuntimeError(f"pytest ended with {done.returncode}: {reason_of_text(done.stdout + done.stderr)}")
    found = read_junit(told)
    if found["failed"]:
        raise RuntimeError("; ".join(f"{name}: {why}" for name, why in found["failed"].items()))
    return found


def read_junit(path: Path) -> dict[str, Any]:
    """How many tests passed; why others failed or were skipped."""
    found: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}}
    for case in ElementTree.parse(path).iter("testcase"):
        name = str(case.get("name"))
        wrong = case.find("failure") if case.find("failure") is not None else case.find("error")
        left = case.find("skipped")
        if wrong is not None:
            found["failed"][name] = reason_of_text(wrong.get("message") or "")
        elif left is not None:
            found["skipped"][name] = reason_of_text(left.get("message") or "")
        else:
            found["passed"] += 1
    return found


# ---------------------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True, slots=True)
class Part:
    """Units of one kind; ``seconds`` is their slice of SECONDS, ``work`` does one of them."""

    name: str
    seconds: float
    units: tuple[str, ...]
    work: Callable[[Check, str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit: exactly one of found, failed, not_here and dropped is set."""

    unit: str
    seconds: float = 0.0
    found: dict[str, Any] | None = None
    failed: str | None = None
    not_here: str | None = None
    dropped: str | None = None


PARTS = (
    Part("make test-gpu", 120, ("tests",), tests),
    *(Part(f"train {model}", 40, (*PRECISIONS, "host time"), partial(scheme, model=model)) for model in MODELS),
    Part("exact resume", 70, MODELS, resume),
    Part("two devices", 40, ("two ranks",), ranks),
)


def attempt(part: Part, check: Check, unit: str) -> Outcome:
    """Do a unit; whatever it raises is its outcome."""
    start = time.perf_counter()
    told: dict[str, Any]
    try:
        told = {"found": part.work(check, unit)}
    except NotHere as error:
        told = {"not_here": reason_of_text(str(error))}
    except (Exception, SystemExit) as error:
        told = {"failed": reason(error, check)}
    return Outcome(unit, round(time.perf_counter() - start, 2), **told)


def reason(error: BaseException, check: Check | None = None) -> str:
    """One line without the folders of this machine."""
    text = str(error).replace(str(check.folder), "WORK") if check else str(error)
    return reason_of_text(f"{type(error).__name__}: {text}")


def reason_of_text(text: str) -> str:
    """The last line that says something, or the first of an error of torch, without folders of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason was given"]
    return without_folders(lines[0])[:300]


def without_folders(text: str) -> str:
    """Absolute paths by their last name alone."""
    return re.sub(r"(?<![\w.:/<])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:'\"()]+[/\\])+([^\s/\\:'\"()]*)", r"\1", text)


def in_process(part: Part, check: Check, limit: float) -> Iterator[Outcome]:
    """The outcomes of a part within this process, which a hang does not leave."""
    end = time.perf_counter() + limit
    for unit in part.units:
        if time.perf_counter() > end:
            yield Outcome(unit, dropped=f"no time left of {limit:.3g} s")
        else:
            yield attempt(part, check, unit)


def in_child(part: Part, check: Check, limit: float) -> Iterator[Outcome]:
    """The outcomes of a part in a process of its own, which is ended with all it has started when its time is up."""
    told = check.folder / f"part-{PARTS.index(part)}.jsonl"
    command = [sys.executable, "-m", "benchmarks.speed.gpu_check", "--part", part.name, "--device", check.device]
    command += ["--folder", str(check.folder), *(["--tiny"] if check.tiny else []), "--told", str(told)]
    with (check.folder / "output.txt").open("w+b") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            process.wait(limit)
            why = f"its process ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            why = f"did not end within {limit:.3g} s"
        finally:
            _end(process)
    outcomes = [Outcome(**json.loads(line)) for line in told.read_text().splitlines()] if told.exists() else []
    yield from outcomes
    left = part.units[len(outcomes) :]
    yield from (Outcome(unit, failed=why) if n == 0 else Outcome(unit, dropped=why) for n, unit in enumerate(left))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


Way = Callable[[Part, Check, float], Iterator[Outcome]]


def run(check: Check, seconds: float, way: Way = in_child, parts: Sequence[Part] = PARTS) -> dict[str, Any]:
    """All parts, each within its share of ``seconds`` and what the ones before have left of theirs."""
    start, planned, results = time.perf_counter(), 0.0, {}
    share = seconds / sum(part.seconds for part in parts)
    for part in parts:
        planned += part.seconds * share
        left = planned - (time.perf_counter() - start)
        if left < LEAST * part.seconds * share:
            outcomes = [Outcome(unit, dropped="no time was left") for unit in part.units]
        else:
            outcomes = list(way(part, check, left))
        for outcome in outcomes:
            print(f"{part.name}, {line(outcome)}", flush=True)
        results[part.name] = {"limit_s": round(max(left, 0.0), 1), "units": [_told(outcome) for outcome in outcomes]}
    return results


def _told(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in asdict(outcome).items() if value is not None}


def line(outcome: Outcome) -> str:
    """An outcome as it is printed."""
    if outcome.found is None:
        kinds = {"failed": outcome.failed, "not here": outcome.not_here, "dropped": outcome.dropped}
        return f"{outcome.unit}: " + next(f"{kind}, {why}" for kind, why in kinds.items() if why is not None)
    paces = {name: outcome.found[name]["images_per_second"] for name in ("ours", "bare") if name in outcome.found}
    told = ", ".join(f"{name} {pace} images/s" for name, pace in paces.items())
    return f"{outcome.unit}: {told or 'holds'} ({outcome.seconds:.1f} s)"


def listed(results: dict[str, Any], kind: str) -> list[str]:
    """Of all units with an outcome of that kind: part, unit and reason."""
    units = [(part, unit) for part, told in results.items() for unit in told["units"]]
    return [f"{part}, {unit['unit']}: {unit[kind]}" for part, unit in units if kind in unit]


# --------------------------------------------------------------------------------------------------------------- record


def record_of(check: Check, seconds: float, results: dict[str, Any]) -> dict[str, Any]:
    """All that is kept: how it was made, on what, every result, every failure with its reason."""
    units = [unit["found"] for told in results.values() for unit in told["units"] if "found" in unit]
    return {
        **records.provenance(),
        "rehearsal": check.device == "cpu",
        "device": devices.name(1) if check.gpus else "CPU (a rehearsal)",
        "devices": check.count,
        "backend": {"kind": check.device, "cuda": torch.version.cuda, "hip": torch.version.hip},
        "seed": SEED,
        "data": {"source": "drawn", "manifests": sorted({unit["manifest"] for unit in units if "manifest" in unit})},
        "seconds": seconds,
        "parts": results,
        "failures": listed(results, "failed"),
        "dropped": listed(results, "dropped"),
        "not_here": listed(results, "not_here"),
    }


def place_of(out: Path | None, rehearsal: bool) -> Path:
    """Where the record goes. Raises BadInput for a rehearsal among the records."""
    if rehearsal:
        if out is None:
            raise BadInput("--out: a rehearsal must name its file; only what ran on an accelerator is a record")
        if RECORDS in out.resolve().parents:
            raise BadInput(f"--out {out}: a rehearsal must lie outside {RECORDS.relative_to(ROOT)}")
        return out
    return (
        out
        or RECORDS / f"gpu_{re.sub(r'[^a-z0-9]+', '_', devices.name(1).removeprefix('1 x ').lower()).strip('_')}.json"
    )


def write(path: Path, record: dict[str, Any]) -> None:
    records.write(path, json.loads(without_home(json.dumps(record))))


def without_home(text: str) -> str:
    """Whatever still names a folder of this machine names it no more."""
    for folder in (str(ROOT), str(Path.home()), tempfile.gettempdir()):
        if len(folder) > 1:
            text = text.replace(folder, "...")
    return text


@app.command()
def main(
    device: Annotated[str | None, typer.Option(help="cpu: a rehearsal; default the accelerator.")] = None,
    seconds: Annotated[float, typer.Option(help="Of all parts together.")] = SECONDS,
    out: Annotated[Path | None, typer.Option(help="The record; default docs/results/records/gpu_NAME.json.")] = None,
    part: Annotated[str | None, typer.Option(hidden=True)] = None,
    folder: Annotated[Path | None, typer.Option(hidden=True)] = None,
    told: Annotated[Path | None, typer.Option(hidden=True)] = None,
    tiny: Annotated[bool, typer.Option("--tiny", hidden=True)] = False,
) -> None:
    """Check and measure everything that trains on this machine's accelerator; write the record."""
    if part and folder and told and device:  # a process of its own, started by in_child
        with told.open("a") as file:
            for outcome in in_process(next(p for p in PARTS if p.name == part), Check(device, folder, tiny), NEVER):
                print(json.dumps(asdict(outcome)), file=file, flush=True)
        return
    found = devices.accelerator()
    if device is None and found is None:
        raise BadInput("no accelerator that torch can use; --device cpu --out FILE rehearses this on the CPU")
    if device not in (None, "cpu", found and found.type):
        raise BadInput(f"--device {device}: must be cpu or the accelerator here, {found.type if found else 'none'}")
    kind = device or (found.type if found else "cpu")
    path = place_of(out, kind == "cpu")
    with tempfile.TemporaryDirectory() as place:
        check = Check(kind, Path(place).resolve(), kind == "cpu")
        record = record_of(check, seconds, run(check, seconds))
    write(path, record)
    print(path)
    if record["failures"]:
        raise SystemExit("\n".join(["failed:", *record["failures"]]))


if __name__ == "__main__":
    command.run(app)
