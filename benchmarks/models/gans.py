"""Four GANs on the same real faces for the same minutes: how many images that is, and how good the faces are.

    python -m benchmarks.models.gans time --minutes 30 data=lfw data.root=FACES data.channels=1
    python -m benchmarks.models.gans score RUN RUN RUN --data-root FACES
    python -m benchmarks.models.gans table

``time`` says how many images each setting draws in equal minutes; train each with that ``trainer.max_images``.
``score`` writes a record and the table made from it; ``table`` makes the table again. No photograph is written.
"""

from __future__ import annotations

import json
import logging
import shlex
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytorch_lightning as pl
import torch
import typer
from torch import Tensor

from benchmarks import machine, records
from benchmarks.command import run
from benchmarks.records import RECORDS
from benchmarks.runs import faces
from faceforge import config, counter_rng
from faceforge.engine import checkpoint
from faceforge.engine.plan import Plan, make_plan
from faceforge.engine.training import make_trainer
from faceforge.errors import BadInput
from faceforge.io.images import make_grid, write_png
from faceforge.metrics.features import Features
from faceforge.metrics.kid import kid
from faceforge.metrics.swd import patch_swd
from faceforge.metrics.units import Groups, Score

SETTINGS = {
    "dcgan_conventional": ["model=dcgan_conventional"],
    "dcgan_cnn": ["model=dcgan_cnn"],
    "published/gan_conventional": ["experiment=published/gan_conventional"],
    "published/dcgan_taught": ["experiment=published/dcgan_tutorial"],
}
RECORD = RECORDS / "gan_faces.json"
GRID = 48  # faces shown of each run
TIMES = RECORD.with_name("gan_faces_time.json")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


# ------------------------------------------------------------------------------------------------------------- time


class Lap(pl.Callback):
    """Times ``steps`` training steps after a few to warm up, then stops; clocks start at the end of a step."""

    lean = True

    def __init__(self, steps: int, warm: int = 3) -> None:
        self.steps, self.warm, self.done = steps, warm, 0

    def setup(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        """Tie the data to the module's clock, as a run does."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        data.clock, data.rank, data.world = pl_module.clock, 0, 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and look at the clocks at both ends."""
        self.done += 1
        if self.done == self.warm:
            self.start, self.before = time.perf_counter(), self._cpu()
        elif self.done == self.warm + self.steps:
            self.seconds = time.perf_counter() - self.start
            busy, self.cpu = (after - before for after, before in zip(self._cpu(), self.before, strict=True))
            self.others = max(0.0, busy - self.cpu) / self.seconds
            trainer.should_stop = True

    @staticmethod
    def _cpu() -> tuple[float, float]:
        return machine.busy(), time.process_time()


@dataclass
class Contender:
    """One setting, built as a run would build it."""

    plan: Plan
    module: Any
    data: Any
    steps: int

    @classmethod
    def build(cls, overrides: Sequence[str], least_steps: int) -> Contender:
        """A turn holds whole cycles of penalties and generator steps, or turns would differ in their work."""
        chosen = config.compose([*overrides, "trainer.gpus=0"])
        torch.manual_seed(counter_rng.key(chosen["seed"], "init") >> 1)
        module, data = config.build(chosen["model"]), config.build(chosen["data"])
        data.prepare()
        cycle = int(np.lcm(module.penalty_every, module.discriminator_steps))
        return cls(make_plan(chosen), module, data, -(-least_steps // cycle) * cycle)

    def turn(self) -> dict[str, float]:
        """Time one turn: images a second, images a second of CPU, and the cores that other processes kept busy."""
        lap = Lap(self.steps)
        make_trainer(self.plan, [lap]).fit(self.module, datamodule=self.data)
        images = self.steps * self.data.batch_size
        return {
            "images_per_second": images / lap.seconds,
            "images_per_cpu_second": images / lap.cpu,
            "other_cores": lap.others,
        }


def time_settings(
    settings: Mapping[str, Sequence[str]], overrides: Sequence[str], rounds: int, steps: int, minutes: float
) -> dict[str, Any]:
    """Alternate between the settings ``rounds`` times in this process; each round every setting has one turn."""
    contenders = {name: Contender.build([*own, *overrides], steps) for name, own in settings.items()}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            turns[name].append(contender.turn())
            print(f"round {number + 1}/{rounds}  {name:28}", _words(turns[name][-1]), flush=True)
    return {name: _rates(turns[name], contenders[name], minutes) for name in contenders}


def _rates(turns: list[dict[str, float]], contender: Contender, minutes: float) -> dict[str, Any]:
    rates = {key: [turn[key] for turn in turns] for key in ("images_per_second", "images_per_cpu_second")}
    batch = contender.data.batch_size
    return {
        **{key: {"median": statistics.median(v), "min": min(v), "max": max(v)} for key, v in rates.items()},
        "images": int(statistics.median(rates["images_per_second"]) * 60 * minutes) // batch * batch,
        "batch_size": batch,
        "steps_per_turn": contender.steps,
        "turns": turns,
    }


def _words(turn: Mapping[str, float]) -> str:
    return f"{turn['images_per_second']:7.1f} images/s, others {turn['other_cores']:.2f} cores"


@app.command("time")
def time_command(
    overrides: Annotated[list[str] | None, typer.Argument(help="data=lfw data.root=FACES ...")] = None,
    minutes: Annotated[float, typer.Option(help="the budget to express in images")] = 30.0,
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    rounds: Annotated[int, typer.Option(help="turns of each setting")] = 7,
    steps: Annotated[int, typer.Option(help="least training steps in a turn")] = 16,
    out: Annotated[Path, typer.Option(help="where the record goes")] = TIMES,
) -> None:
    """Time full training steps of the four settings in turns, and say what equal minutes are in images."""
    torch.set_num_threads(threads)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    measured = time_settings(SETTINGS, overrides or [], rounds, steps, minutes)
    found = {"overrides": records.portable(overrides or []), "minutes": minutes, "settings": measured}
    records.keep(out, found)
    for name, found in measured.items():
        rate = found["images_per_second"]
        print(f"{name:28} {rate['median']:7.1f} images/s (min {rate['min']:.1f}), {found['images']:,} images")


# ------------------------------------------------------------------------------------------------------------ score


@dataclass
class Reference:
    """Real faces for one data configuration; kept in memory only."""

    held_out: Tensor
    held_out_people: list[str | None]
    train: Tensor
    train_people: list[str | None]
    mean: Tensor

    @classmethod
    def of(cls, data: Any, people: Sequence[str | None], count: int, seed: int) -> Reference:
        """Up to ``count`` faces of people not trained on and of people trained on, and the mean training face.

        ``people[row]`` is the identity of a row of the packed set, None where unknown.
        """
        held_out = [("val", i) for i in range(data.counts["val"])] + [("test", i) for i in range(data.counts["test"])]
        chosen = [held_out[i] for i in _some(len(held_out), count, seed, "benchmark/held-out")]
        parts = [(split, [i for s, i in chosen if s == split]) for split in ("val", "test")]
        train = _some(data.counts["train"], count, seed, "benchmark/train")
        return cls(
            torch.cat([data.images(split, indices) for split, indices in parts]),
            [people[data.rows[split][i]] for split, indices in parts for i in indices],
            data.images("train", train),
            [people[data.rows["train"][i]] for i in train],
            _mean(data),
        )


def _some(n: int, count: int, seed: int, purpose: str) -> list[int]:
    return sorted(int(i) for i in counter_rng.permutation(seed, purpose, 0, n)[:count])


def _mean(data: Any, batch: int = 512) -> Tensor:
    n = data.counts["train"]
    sums = [data.images("train", range(i, min(i + batch, n))).double().sum(0) for i in range(0, n, batch)]
    return (torch.stack(sums).sum(0) / n).float()


def score_set(
    features: Features, reference: Reference, real: Tensor, fake: Tensor, fake_people: Groups | None, seed: int
) -> dict[str, Any]:
    """KID and patch SWD of any set of images (N, C, H, W) in [-1, 1] against the people not trained on."""
    found: Score = kid(real, features(fake), reference.held_out_people, fake_people, protocol=features.protocol)
    told = {key: value for key, value in asdict(found).items() if key != "parts"}
    return {"kid": told, "swd": patch_swd(reference.held_out, fake, seed=seed), "count": len(fake)}


def score_all(
    features: Features, reference: Reference, samples: Mapping[str, Tensor], seed: int
) -> dict[str, dict[str, Any]]:
    """Rows of the table: other real people (the floor), the mean face, then every set of samples."""
    real = features(reference.held_out)
    count = max([len(reference.train), *map(len, samples.values())])
    sets: dict[str, tuple[Tensor, Groups | None]] = {
        "real faces, other people": (reference.train, reference.train_people),
        "mean face": (reference.mean.expand(count, -1, -1, -1), None),
        **{name: (images, None) for name, images in samples.items()},
    }
    rows = {}
    for name, (images, people) in sets.items():
        rows[name] = score_set(features, reference, real, images, people, seed)
        print(f"{name:28}", *_cells(rows[name]), flush=True)
    return rows


def load_data(node: Mapping[str, Any], root: str | None) -> tuple[Any, list[str | None]]:
    """A run's faces, read from ``root`` if given, and the identity of every row of the packed set."""
    data = faces(node, root)
    return data, data.people


def _require_same_data(modules: Mapping[str, Any]) -> dict[str, Any]:
    """The data configuration that all runs share. What only concerns training may differ. Raises BadInput."""
    free = ("root", "batch_size", "flip", "augment", "workers", "cache")
    nodes = {name: module.config["data"] for name, module in modules.items()}
    first, base = next(iter(nodes.items()))
    for name, node in nodes.items():
        unlike = [key for key in base if key not in (*free, "source") and node.get(key) != base[key]]
        if node["source"]["_target_"] != base["source"]["_target_"]:
            unlike.append("source")
        if unlike:
            raise BadInput(f"{name}: data.{unlike[0]} differs from that of {first}; such scores cannot be compared")
    return base


def _label(module: Any) -> str:
    choices = module.config["choices"]
    return str(choices.get("experiment") or choices["model"])


def _load_runs(runs: Sequence[Path], name: str) -> dict[str, Any]:
    modules: dict[str, Any] = {}
    for path in runs:
        module = checkpoint.load(path, name=name)
        label = _label(module)
        if label in modules:
            label = f"{label}, {path.resolve().name}"
        modules[label] = module
    return modules


def _run_facts(path: Path, module: Any) -> dict[str, Any]:
    """What a reader needs to train the run again."""
    record = json.loads((path / "run.json").read_text()) if (path / "run.json").is_file() else {}
    kept = ("commit", "dirty", "seconds", "images_per_second", "device", "threads", "precision")
    command = records.portable(shlex.split(record.get("command", "")))
    return {"images": module.clock.images, "seed": module.config["seed"], "command": shlex.join(command)} | {
        key: record.get(key) for key in kept
    }


@app.command()
def score(
    runs: Annotated[list[Path], typer.Argument(help="run folders")],
    data_root: Annotated[str | None, typer.Option(help="the real faces; default: where the run found them")] = None,
    count: Annotated[int, typer.Option(help="samples of each run, and most real faces")] = 2000,
    seed: Annotated[int, typer.Option(help="of samples, choices and projections")] = 0,
    which: Annotated[str, typer.Option("--checkpoint", help="last (nothing chosen by scores) or best")] = "last",
    threads: Annotated[int, typer.Option(help="threads of torch")] = 1,
    out: Annotated[Path, typer.Option(help="where the record goes; the table beside its folder")] = RECORD,
) -> None:
    """Score runs against people not trained on; write a record, the table, and a grid of each run's faces."""
    torch.set_num_threads(threads)
    modules = _load_runs(runs, which)
    data, people = load_data(_require_same_data(modules), data_root)
    reference = Reference.of(data, people, count, seed)
    samples = {name: module.sample(count, seed) for name, module in modules.items()}
    rows = score_all(Features(), reference, samples, seed)
    for (name, module), path in zip(modules.items(), runs, strict=True):
        rows[name]["run"] = _run_facts(path, module)
        rows[name]["grid"] = _write_grid(samples[name], name, out)
    records.keep(out, {"checkpoint": which, "seed": seed, "data": _data_facts(data, reference), "rows": rows})
    print(write_table(out))


def _data_facts(data: Any, reference: Reference) -> dict[str, Any]:
    summary = data.summary()
    kept = ("source", "protocol", "protocol_hash", "manifest", "counts", "identities", "size", "channels")
    people = [i if person is None else person for i, person in enumerate(reference.held_out_people)]
    used = {"held_out": len(people), "held_out_people": len(set(people))}
    return {key: summary[key] for key in kept} | {"scored_against": used}


def _write_grid(images: Tensor, name: str, record: Path) -> str:
    """Some generated faces beside the table; the path is relative to it."""
    place = record.parent.parent / "images" / f"{record.stem}-{name.replace('/', '-').replace(', ', '-')}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_png(make_grid(images[:GRID], 8), place)
    return f"images/{place.name}"


# ------------------------------------------------------------------------------------------------- record and table


def _cells(row: Mapping[str, Any]) -> list[str]:
    value, low, high = (1e3 * row["kid"][key] for key in ("value", "low", "high"))
    return [f"{value:.1f}", f"{low:.1f} to {high:.1f}", *(f"{distance:.1f}" for distance in row["swd"].values())]


def table(record: Mapping[str, Any]) -> str:
    """The markdown page of a record made by ``score``."""
    rows, data = record["rows"], record["data"]
    sides = list(next(iter(rows.values()))["swd"])
    head = ["faces", "KID x 1000", "95 % interval", *(f"SWD {side}" for side in sides), "images drawn"]
    cells = [[name, *_cells(row), f"{row['run']['images']:,}" if "run" in row else ""] for name, row in rows.items()]
    made = next(iter(rows.values()))["kid"]["protocol"]
    used = data["scored_against"]
    notes = [
        *([f"**{record['caveat']}**"] if "caveat" in record else []),
        f"{max(row['count'] for row in rows.values()):,} faces a row against {used['held_out']:,} real faces of "
        f"{used['held_out_people']:,} people not trained on ({data['source']}, {data['size'][0]}x{data['size'][1]}, "
        f"{'grey' if data['channels'] == 1 else 'colour'}). Lower is better; real faces of other people are the floor.",
        f"KID: {made['metric']}, features of {made['extractor']} ({made['weights_sha256'][:12]}), {made['resize']}; "
        f"interval: {made['interval']}, people as units. SWD: 7x7 patches at three scales, x 1000.",
        f"Checkpoints: {record['checkpoint']}. Commit {str(record['commit'])[:12]}{', changed' * record['dirty']}, "
        f"data manifest {data['manifest'][:12]}, seed {record['seed']}. Made by `{record['command']}`.",
    ]
    grids = [f"![{GRID} faces made by {name}]({row['grid']})" for name, row in rows.items() if "grid" in row]
    commands = [f"- `{row['run']['command']}`" for row in rows.values() if "run" in row]
    notes.append("The runs:\n\n" + "\n".join(commands))
    return "\n\n".join(["# GANs on the same faces", records.table(head, cells), *notes, *grids]) + "\n"


def times(record: Mapping[str, Any]) -> str:
    """A paragraph and table of a record made by ``time``."""
    minutes, threads = record["minutes"], record["machine"]["device"].rpartition(", ")[2]
    rows = []
    for name, found in record["settings"].items():
        rate = found["images_per_second"]
        rows.append([name, f"{rate['median']:.1f}, {rate['min']:.1f}", f"{found['images']:,}"])
    head = [threads, "images/s (median, least)", f"images in {minutes:g} minutes"]
    made = f"Full training steps in turns, in one process: `{record['command']}`, commit {record['commit'][:12]}."
    caveat = f" **{record['caveat']}**" if "caveat" in record else ""
    return records.table(head, rows) + f"\n\n{made}{caveat}\n"


def write_table(record: Path) -> Path:
    """Write the page of a record, and of the timings beside it, beside the record's folder."""
    path = record.parent.parent / f"{record.stem}.md"
    timed = [times(json.loads(found.read_text())) for found in sorted(record.parent.glob(f"{record.stem}_time*.json"))]
    heading = ["## Equal minutes\n"] if timed else []
    path.write_text("\n".join([table(json.loads(record.read_text())), *heading, *timed]))
    return path


@app.command("table")
def table_command(record: Annotated[Path, typer.Argument()] = RECORD) -> None:
    """Make the table again from its record."""
    print(write_table(record))


if __name__ == "__main__":
    run(app)
