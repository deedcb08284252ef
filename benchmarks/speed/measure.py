"""What training costs beyond the bare loop, feeding, packing, averaging; two processes; memory of packing.

    python -m benchmarks.speed all             every figure below; `make bench`
    python -m benchmarks.speed train --name pix2pix
    python -m benchmarks.speed train --beside HEAD~10
    python -m benchmarks.speed ranks

Every figure is one line ``name value`` and one entry of docs/results/records/speed.json. Ratios of CPU time, one
thread, the two sides in turns within one process, the least of the turns; a turn during which the processor was taken
away (wall above 1.15 times CPU time) is rejected.

A whole run is measured in several fresh processes (afresh.py), with its logs and saves closer together; what they add
to a step is then counted as often as the model's own cadences have it. ``train --beside COMMIT`` measures the files of
an earlier commit in turns with these. What only the wall can tell (two processes) is timed in turns, with the cores
that others kept busy beside it. The other sides, none slowed down on purpose, are in baselines.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from PIL import Image
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks import machine, records
from benchmarks.command import FACEFORGE, ROOT, place_of
from benchmarks.speed import afresh, baselines
from benchmarks.speed.pace import (
    LEAST,
    NVML,
    Pacer,
    Turns,
    alternate,
    built,
    composed,
    paced,
    run_quietly,
    timed_alone,
)
from faceforge.data import cache
from faceforge.data.datamodule import FaceData
from faceforge.data.framing import Recipe, frame
from faceforge.data.listing import digests_of
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.drawn import Drawn
from faceforge.errors import BadInput
from faceforge.io.images import decode
from faceforge.networks.dcgan import ConventionalGenerator
from faceforge.schemes import ema

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
Rounds = Annotated[int, typer.Option(help="Of each side, in turns.")]
Processes = Annotated[int, typer.Option(help="Fresh processes of each side, in turns.", min=1)]
Beside = Annotated[str | None, typer.Option(help="A commit that is measured in turns with these files.")]
Place = Annotated[Path | None, typer.Option(help="A folder for what is written meanwhile; default a temporary one.")]

PHOTO = (218, 178)  # height and width of CelebA's aligned pictures
LIMITS = {  # at least, or at most where the name is in MOST
    "train_over_bare.default": 0.98,
    "train_over_bare.published": 0.98,
    "train_over_bare.pix2pix": 0.98,
    "train_over_bare.default.over_before": 0.995,
    "host_over_idiom": 0.25,
    "feed_over_dataloader": 10.0,
    "starved": 1.02,
    "pack_over_pil": 1.5,
    "pack_2_over_1": 1.6,
    "step_over_tutorial": 1.05,
    "ema_over_averagedmodel": 5.0,
    "ranks2_over_1": 1.6,
    "ranks2_over_1.torchrun": 1.6,
    "pack_memory_mib": 1024.0,
}
MOST = {"host_over_idiom", "starved", "pack_memory_mib"}
SETTINGS = {  # overrides, and the batches after which is logged and saved while measuring
    "default": (["model=dcgan_conventional"], 4, 12),
    "published": (["experiment=published/gan_conventional", "data.batch_size=32"], 4, 12),
    "pix2pix": (["model=pix2pix"], 4, 12),
}


def tell(name: str, value: float, **about: Any) -> float:
    """Print a figure and put it into the record."""
    limit = LIMITS.get(name)
    holds = None if limit is None else bool(value <= limit if name in MOST else value >= limit)
    notes = [f"does not hold: must be {limit}"] * (holds is False) + ["on a busy machine"] * disturbed(about)
    print(f"{name} {value:.3f}" + "".join(f"  ({note})" for note in notes), flush=True)
    figures = records.read("speed").get("figures", {})
    entry = {"value": round(value, 4), "limit": limit, "holds": holds, "made": records.provenance(), **about}
    records.write("speed", {"threads": torch.get_num_threads(), "figures": {**figures, name: entry}})
    return value


def disturbed(about: Mapping[str, Any]) -> bool:
    """Whether too few turns were left of any side, so that rejected ones had to count."""
    if "rejected" in about:
        return about["turns"] - about["rejected"] < min(LEAST, about["turns"])
    return any(disturbed(part) for part in about.values() if isinstance(part, Mapping))


def common(folder: Path, name: str, faces: int) -> list[str]:
    """Overrides of every run made here."""
    shutil.rmtree(folder / name, ignore_errors=True)
    return [
        f"run_dir={folder / name}",
        f"data.cache={folder / 'cache'}",
        f"data.source.count={faces}",
        "trainer.gpus=0",
        "logger.mode=offline",
    ]


# ------------------------------------------------------------------------------------------ training over the bare loop


def bare_of(module: Any, batch: dict[str, torch.Tensor]) -> Callable[[int], None]:
    """The bare loop for a module's scheme."""
    if isinstance(module, baselines.TranslationModule):
        return baselines.translation(module, batch)
    if isinstance(module, baselines.AdversarialModule):
        return baselines.gan(module, batch)
    if isinstance(module, baselines.LatentModule):
        return baselines.latent(module, batch)
    if isinstance(module, baselines.ReconstructionModule):
        return baselines.reconstruction(module, batch)
    raise BadInput(f"no bare loop for {type(module).__name__}")


def first_batch(data: FaceData) -> dict[str, torch.Tensor]:
    """The first batch as a module gets it."""
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


def kind_of(step: int, log: int, save: int, penalty: int, warm: int = 2) -> str | None:
    """What else the recorder did, and whether a lazy penalty was due, in the step that counts as ``step``-th."""
    if step <= warm:
        return None
    done = "saved" if step % save == 0 else "logged" if step % log == 0 else "plain"
    return f"{done}, penalty" if (step - 1) % penalty == 0 and penalty > 1 else done


def window(turns: Turns, steps: int, logs: int, penalty: int) -> tuple[float, float]:
    """CPU seconds of ours and of the bare loop from one checkpoint to the next, put together from single steps.

    What a log and a save add to a step is measured on steps that are otherwise alike.
    """
    plain, logged = turns.least("plain"), turns.least("logged")
    heavy = steps // penalty if "plain, penalty" in turns.found else 0
    bare = (steps - heavy) * min(turns.least(f"bare {kind}") for kind in ("plain", "logged"))
    ours = (steps - heavy) * plain + logs * max(0.0, logged - plain) + max(0.0, turns.least("saved") - plain)
    if heavy:
        ours, bare = ours + heavy * turns.least("plain, penalty"), bare + heavy * turns.least("bare plain, penalty")
    return ours, bare


def measure_training(name: str, folder: Path, steps: int, lean: bool = True) -> tuple[float, dict[str, Any]]:
    """Images a second of a whole run over those of the bare loop, at the setting's own cadences.

    ``lean`` False: in Lightning's own loop, which runs where a callback asks for more than the lean one calls.
    """
    setting, log, save = SETTINGS[name]
    overrides = [*common(folder, name, 300), *setting]
    module, data = built(overrides)
    batch, penalty = data.batch_size, getattr(module, "penalty_every", 1)
    pacer = Pacer(bare_of(module, first_batch(data)), 1, partial(kind_of, log=log, save=save, penalty=penalty))
    pacer.lean = lean
    own = composed(overrides)["trainer"]
    cadence = [f"trainer.log_every={log * batch}", f"trainer.checkpoint_every={save * batch}"]
    with paced(pacer):
        run_quietly([*overrides, *cadence, f"trainer.max_images={steps * batch}"])
    between = own["checkpoint_every"] // batch
    ours, bare = window(pacer.turns, between, own["checkpoint_every"] // own["log_every"], penalty)
    about = {"batch": batch, "window_steps": between, "overrides": setting, "turns": pacer.turns.about()}
    return bare / ours, about


@app.command()
def train(
    name: str = "default", steps: int = 48, processes: Processes = 5, beside: Beside = None, place: Place = None
) -> None:
    """train_over_bare: a whole run, logging, averaging, saving, over the bare loop. The median of fresh processes."""
    with place_of(place) as folder:
        found = afresh.measured(name, folder, steps, processes, beside)
    usual = {side: afresh.usual(figures) for side, figures in found.items()}
    for side, (ratio, about) in usual.items():
        suffix = "" if side == "ours" else f".{side}"
        tell(f"train_over_bare.{name}{suffix}", ratio, **about, **({"commit": beside} if side == "before" else {}))
    if beside:
        tell(f"train_over_bare.{name}.over_before", usual["ours"][0] / usual["before"][0])


TOYS: dict[str, tuple[list[str], dict[str, str], Any]] = {  # overrides, networks put in their place, the idiom
    "gan": (
        ["model=dcgan_conventional", "model.objective=non_saturating", "model.r1_gamma=0", "model.r2_gamma=0"],
        {"generator": "ToyGenerator", "discriminator": "ToyDiscriminator"},
        baselines.IdiomGan,
    ),
    "autoencoder": (
        ["model=mlp_autoencoder", "task=autoencode", "model/loss=mse", "data.channels=3"],
        {"network": "ToyAutoencoder"},
        baselines.IdiomAutoencoder,
    ),
}
BLOCK = 313  # steps of 32 images: ten logs and one checkpoint at the default cadences


def toy_networks(toy: str) -> Callable[[dict[str, Any]], None]:
    def change(chosen: dict[str, Any]) -> None:
        for part, name in TOYS[toy][1].items():
            chosen["model"][part] = {"_target_": f"benchmarks.speed.baselines.{name}"}

    return change


def block_of(step: int) -> str | None:
    return "block" if step > BLOCK else None


def measure_ours(toy: str, folder: Path, blocks: int) -> tuple[Turns, dict[str, Any]]:
    """Blocks of a whole run of a toy, each followed by as many steps of the bare loop; and a batch."""
    wanted = [*TOYS[toy][0], "trusted_packages=[benchmarks]", "data.size=8"]
    overrides, change = [*common(folder, f"toy-{toy}", 300), *wanted], toy_networks(toy)
    module, data = built(overrides, change)
    batch = first_batch(data)
    pacer = Pacer(bare_of(module, batch), BLOCK, block_of)
    with paced(pacer):
        run_quietly([*overrides, f"trainer.max_images={(blocks + 1) * BLOCK * data.batch_size}"], change)
    return pacer.turns, {"bare": bare_of(module, batch), **batch}


def measure_idiom(toy: str, ours: dict[str, Any], blocks: int) -> Turns:
    """The same for Lightning's idiom, on as many images in memory."""
    images = ours["target"].repeat(8, 1, 1, 1)
    pacer = Pacer(ours["bare"], BLOCK, block_of)
    with mock.patch.dict(os.environ, {NVML: "1"}):  # as importing Lightning leaves it
        baselines.fit_idiom(TOYS[toy][2](), images, len(ours["target"]), (blocks + 1) * BLOCK, [pacer])
    return pacer.turns


def measure_host(toy: str, folder: Path, blocks: int) -> tuple[float, dict[str, Any]]:
    """Host CPU time a step above the bare loop: ours over Lightning's idiom."""
    turns, rest = measure_ours(toy, folder, blocks)
    idiom = measure_idiom(toy, rest, blocks)
    above = {
        name: 1e3 * (found.least("block") - found.least("bare block")) / BLOCK
        for name, found in (("ours", turns), ("idiom", idiom))
    }
    about = {"ms_a_step_above_bare": above, "block_steps": BLOCK, "ours": turns.about(), "idiom": idiom.about()}
    return above["ours"] / above["idiom"], about


@app.command()
def host(blocks: Rounds = 9, place: Place = None) -> None:
    """host_over_idiom: what everything costs a step of two-layer networks, over four self.log and a bar."""
    with place_of(place) as folder:
        for toy, name in (("gan", "host_over_idiom"), ("autoencoder", "host_over_idiom.autoencoder")):
            ratio, about = measure_host(toy, folder, blocks)
            tell(name, ratio, **about)


# ------------------------------------------------------------------------------------------------------------- the step


def measure_step(rounds: int, batch: int, extra: Sequence[str]) -> tuple[float, float, dict[str, Any]]:
    """The taught loop over our step on the same weights, batch and z; how far the losses of the first step differ."""
    taught = ["experiment=published/dcgan_tutorial", "model.r2_gamma=0", "data.source.count=300"]
    wanted = [*taught, f"data.batch_size={batch}", *extra]
    module, _ = built([*wanted, "trainer.gpus=0"])
    real = torch.rand(batch, 3, 64, 64) * 2 - 1
    z = torch.randn(batch, 100)
    plain = baselines.tutorial(module.generator, module.discriminator, real, z)
    with driven(module, z):
        module.on_fit_start()  # compiles, where that is asked for
        ours = partial(module.training_step, {"target": real}, 0)
        expected = plain()
        ours()
        means = module.means.drain()
        found = means["loss/discriminator"], means["loss/generator"]
        apart = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
        turns = alternate({"tutorial": plain, "ours": ours}, rounds)
    return turns.least("tutorial") / turns.least("ours"), apart, turns.about()


@contextmanager
def driven(module: Any, z: torch.Tensor | None = None) -> Iterator[None]:
    """A module whose ``training_step`` can be called outside a trainer; every z is ``z`` where one is given."""
    optimizers = module.configure_optimizers()
    trainer = mock.MagicMock(world_size=1, global_rank=0)
    trainer.precision_plugin = mock.Mock(spec=[])
    trainer.strategy.backward = lambda loss, *_, **__: loss.backward()
    with mock.patch.object(type(module), "trainer", trainer), mock.patch.object(module, "_trainer", trainer):
        module.optimizers = lambda use_pl_optimizer=False: optimizers
        if z is not None:
            drawn = module.noise
            module.noise = lambda purpose, *more: z if purpose.startswith("z/") else drawn(purpose, *more)
        yield


@app.command()
def step(rounds: Rounds = 9, batch: int = 16) -> None:
    """step_over_tutorial: our GAN step over the widely taught loop, same weights, batch and z, eager."""
    for name, extra in STEPS.items():
        ratio, apart, about = measure_step(rounds, batch, extra)
        tell(name, ratio, batch=batch, overrides=extra, first_losses_differ_by=apart, turns=about)


FAST = ["trainer.channels_last=true"]
STEPS: dict[str, list[str]] = {  # the taught loop judges the same faces twice; the default here draws fresh ones
    "step_over_tutorial": ["model.reuse_fakes=true"],
    "step_over_tutorial.channels_last": ["model.reuse_fakes=true", *FAST],
    "step_over_tutorial.compiled": ["model.reuse_fakes=true", "trainer.compile=true"],
    "step_over_tutorial.fresh_fakes": [],
    "step_over_tutorial.fresh_channels_last": FAST,
}


# ------------------------------------------------------------------------------------------------------------ averaging


def measure_ema(rounds: int, times: int = 20) -> dict[str, float]:
    """CPU microseconds of an update of the default generator's average, by way."""
    network = ConventionalGenerator()
    ways: dict[str, Callable[[], Any]] = {"ours": partial(ema.update, ema.averaged_copy(network), network, 0.999)}
    fast = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.999), use_buffers=True)
    slow = AveragedModel(network, avg_fn=lambda mine, its, n: 0.999 * mine + 0.001 * its, use_buffers=True)
    ways |= {
        "multi_avg_fn": partial(fast.update_parameters, network),
        "avg_fn": partial(slow.update_parameters, network),
    }

    def repeated(way: Callable[[], Any]) -> Callable[[], None]:
        def work() -> None:
            for _ in range(times):
                way()

        return work

    turns = alternate({name: repeated(way) for name, way in ways.items()}, rounds)
    return {name: 1e6 * turns.least(name) / times for name in ways}


@app.command()
def averaging(rounds: Rounds = 15) -> None:
    """ema_over_averagedmodel: torch's AveragedModel over ours, on the default generator."""
    found = measure_ema(rounds)
    tell("ema_over_averagedmodel", found["avg_fn"] / found["ours"], microseconds=found)
    tell("ema_over_averagedmodel.multi_avg_fn", found["multi_avg_fn"] / found["ours"])


# ----------------------------------------------------------------------------------------------------- feeding, packing


def write_faces(folder: Path, number: int, size: tuple[int, int] = PHOTO) -> Path:
    """Drawn faces as JPEG of quality 90 in ``folder/faces``."""
    target = folder / "faces"
    target.mkdir(parents=True)
    source = Drawn(None, number, 0)
    for n in range(number):
        Image.fromarray(source.read(n, size)).save(target / f"{n:06d}.jpg", quality=90)
    return folder


def links(folder: Path, faces: Path, number: int) -> Path:
    """``number`` hard links to the pictures in ``faces``, in turn."""
    files = sorted(faces.rglob("*.jpg"))
    folder.mkdir(parents=True)
    for n in range(number):
        os.link(files[n % len(files)], folder / f"{n:06d}.jpg")
    return folder


def packed_overrides(folder: Path, faces: Path) -> list[str]:
    words = [word for word in common(folder, "none", 0) if "source.count" not in word]
    return [*words, "data=crops", f"data.root={faces}"]


def measure_feed(folder: Path, rounds: int, number: int = 512, batch: int = 64) -> tuple[float, dict[str, Any]]:
    """Images per CPU-second from the packed cache over those of torchvision."""
    faces = write_faces(folder / "photos", number)
    _, data = built([*packed_overrides(folder, faces), f"data.batch_size={batch}"])
    ours, theirs = iter(data.train_dataloader()), baselines.feed(faces, 64, batch)

    def packed() -> None:
        for _ in range(8):
            assert data.on_after_batch_transfer(next(ours), 0)["target"].shape == (batch, 3, 64, 64)

    def torchvision() -> None:
        for _ in range(8):
            assert next(theirs).shape == (batch, 3, 64, 64)

    turns = alternate({"ours": packed, "torchvision": torchvision}, rounds)
    rates = {name: 8 * batch / turns.least(name) for name in turns.found}
    return rates["ours"] / rates["torchvision"], {"images_per_cpu_second": rates, "turns": turns.about()}


def measure_starved(folder: Path, rounds: int) -> tuple[float, dict[str, Any]]:
    """The default step with a batch from the cache over the step alone: both parts are timed in turns."""
    module, data = built(common(folder, "starved", 600))
    loader, held = iter(data.train_dataloader()), first_batch(data)
    loop, numbers = bare_of(module, held), count()
    works = {"feed": lambda: data.on_after_batch_transfer(next(loader), 0), "step": lambda: loop(next(numbers) * 8 + 1)}
    turns = alternate(works, rounds)
    return 1 + turns.least("feed") / turns.least("step"), {"turns": turns.about()}


@app.command()
def feed(rounds: Rounds = 7, place: Place = None) -> None:
    """feed_over_dataloader and starved."""
    with place_of(place) as folder:
        ratio, about = measure_feed(folder, rounds)
        tell("feed_over_dataloader", ratio, **about)
        ratio, about = measure_starved(folder, 3 * rounds)
        tell("starved", ratio, **about)


RECIPE = Recipe("center", (64, 64), 3)
RECIPE_PARTS = RECIPE.crop, RECIPE.size, RECIPE.channels


def first_packing(faces: Path, root: Path) -> cache.Packed:
    """As a first training packs a folder: listed, hashed, decoded, cropped, resized, written, synced."""
    shutil.rmtree(root, ignore_errors=True)
    source = Crops(str(faces))
    return cache.pack(source, RECIPE, root, digests_of(source, root, False), False)


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measure_pack(folder: Path, rounds: int, number: int) -> tuple[float, dict[str, Any]]:
    """Pillow's loop over the first packing, both on one core, beside what either spends in memory alone."""
    faces = write_faces(folder / "packing", number)
    data = [path.read_bytes() for path in sorted(faces.rglob("*.jpg"))]
    pictures, top, side = [decode(each) for each in data], (PHOTO[0] - PHOTO[1]) // 2, PHOTO[1]
    squares = [Image.fromarray(picture[top : top + side]) for picture in pictures]
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: first_packing(faces, folder / "packs"),
        "pil": lambda: baselines.pil_pack(faces, 64),
        "ours decodes": lambda: [decode(each) for each in data],
        "pil decodes": lambda: [Image.open(BytesIO(each)).convert("RGB") for each in data],
        "ours resizes": lambda: [frame(picture, *RECIPE_PARTS) for picture in pictures],
        "pil resizes": lambda: [np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC)) for square in squares],
    }
    with one_core():
        turns = alternate(works, rounds)
    spent = {name: turns.least(name) / number for name in works}
    rates = {name: 1 / spent[name] for name in ("ours", "pil")}
    parts = {name: round(1e3 * seconds, 4) for name, seconds in spent.items() if name not in rates}
    about = {"images_per_cpu_second": rates, "parts_ms": parts, "turns": turns.about()}
    return rates["ours"] / rates["pil"], about


def measure_two(folder: Path, rounds: int, number: int) -> tuple[float, dict[str, Any]]:
    """Seconds on the wall of one process over those of two."""
    faces = links(folder / "linked", folder / "packing", number)
    seconds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, found in seconds.items():
            found.append(packed_apart(faces, folder / "packs", processes))
    least = {processes: min(wall for wall, _ in found) for processes, found in seconds.items()}
    return least[1] / least[2], {"images": number, "wall_and_others": {str(k): v for k, v in seconds.items()}}


PACKER = """
import sys
from pathlib import Path
from benchmarks.speed.measure import first_packing, timed_alone
from faceforge.io import workers
faces, root, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if processes:
    workers.cores = lambda: processes
print("ready", flush=True)
sys.stdin.readline()
print(*timed_alone(lambda: first_packing(faces, root)))
"""  # not a file: worker processes would load what it imports


def packer(faces: Path, root: Path, processes: int = 0) -> subprocess.Popen[str]:
    """A process that is ready to pack when it reads a line, and then writes seconds and cores others kept busy."""
    words = [sys.executable, "-c", PACKER, str(faces), str(root), str(processes)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert process.stdout
    process.stdout.readline()
    return process


def packed_apart(faces: Path, root: Path, processes: int) -> tuple[float, float]:
    """Seconds on the wall of a first packing by so many processes, and cores that others kept busy."""
    process = packer(faces, root, processes)
    out, _ = process.communicate("\n")
    if process.returncode:
        raise BadInput(f"packing ended with {process.returncode}")
    wall, others = map(float, out.split())
    return wall, others


@app.command()
def pack(rounds: Rounds = 5, number: int = 600, linked: int = 108_000, place: Place = None) -> None:
    """pack_over_pil on one core, and two processes over one."""
    with place_of(place) as folder:
        ratio, about = measure_pack(folder, rounds, number)
        tell("pack_over_pil", ratio, images=number, **about)
        parts = about["parts_ms"].items()
        ours, pil = (sum(ms for name, ms in parts if name.startswith(side)) for side in ("ours", "pil"))
        tell("pack_over_pil.decode_and_resize_alone", pil / ours)
        ratio, about = measure_two(folder, 3, linked)
        tell("pack_2_over_1", ratio, **about)


def measure_memory(folder: Path, number: int) -> tuple[float, dict[str, Any]]:
    """MiB that all packing processes hold at most (PSS) above the packer before it begins."""
    many = links(folder / "many", write_faces(folder / "few", 16), number)
    process = packer(many, folder / "many-packed")
    assert process.stdin
    before, peak, start = machine.held([process.pid])[0], 0.0, time.perf_counter()
    process.stdin.write("\n")
    process.stdin.flush()
    while process.poll() is None:
        peak = max(peak, machine.held(machine.tree(process.pid))[0])
        time.sleep(0.2)
    if process.returncode:
        raise BadInput(f"packing ended with {process.returncode}")
    about = {"images": number, "baseline_mib": before, "peak_mib": peak, "seconds": time.perf_counter() - start}
    return peak - before, about


@app.command()
def memory(number: int = 200_000, place: Place = None) -> None:
    """pack_memory_mib: what packing holds above its start, hard links to 16 drawn JPEGs."""
    with place_of(place) as folder:
        mib, about = measure_memory(folder, number)
    tell("pack_memory_mib", mib, **about)


# -------------------------------------------------------------------------------------------------------- two processes


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def ranked(
    folder: Path, processes: int, batch: int, steps: int, by_torchrun: bool = False, runs: int = 1
) -> tuple[float, float]:
    """Median images a second between logs of a run with so many single-threaded processes, summed over ``runs`` that
    train at the same time; cores others used.
    """
    names = [f"ranks{processes}{'-torchrun' * by_torchrun}{n or ''}" for n in range(runs)]
    settings = [f"trainer.processes={processes}", f"trainer.max_images={batch * steps}", f"data.batch_size={batch}"]
    settings += ["model.val_samples=0", f"trainer.log_every={8 * batch}"]
    settings += ["trainer.sample_every=1000000", "trainer.checkpoint_every=1000000"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    agent = [*TORCHRUN, f"--nproc-per-node={processes}", str(ROOT / "train.py")]
    command = agent if by_torchrun else [*FACEFORGE, "train"]

    def train(name: str) -> None:
        words = [*command, *common(folder, name, 300), *settings]
        subprocess.run(words, check=True, capture_output=True, env=environment)

    def work() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(train, names))

    _, others = timed_alone(work)
    return sum(usual_rate(folder / name / "metrics.csv") for name in names), others


def usual_rate(metrics: Path) -> float:
    """The median of images a second between two logs, but for the first. The most would flatter one process: two that
    wait for each other need both cores undisturbed at the same moment.
    """
    lines = metrics.read_text().splitlines()
    column = lines[0].split(",").index("images_per_second")
    rates = [float(cells[column]) for cells in (line.split(",") for line in lines[1:]) if cells[column]]
    return median(rates[1:])


@app.command()
def ranks(rounds: Rounds = 5, steps: int = 64, place: Place = None) -> None:
    """ranks2_over_1: two single-threaded processes over one, images a second on the wall, by us and by torchrun; beside
    two runs on half a batch that know nothing of each other, which is what the machine's cores give.
    """
    works: dict[str, tuple[Any, ...]] = {  # processes, batch, by torchrun, runs at the same time
        "one": (1, 32, False, 1),
        "two": (2, 32, False, 1),
        "two by torchrun": (2, 32, True, 1),
        "one on a half": (1, 16, False, 1),
        "two runs on halves": (1, 16, False, 2),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    with place_of(place) as folder:
        for _ in range(rounds):
            for name, (processes, batch, by_torchrun, runs) in works.items():
                found[name].append(ranked(folder, processes, batch, steps, by_torchrun, runs))
    usual = {name: median(rate for rate, _ in rates) for name, rates in found.items()}
    tell("ranks2_over_1", usual["two"] / usual["one"], images_per_second_and_others=found)
    tell("ranks2_over_1.torchrun", usual["two by torchrun"] / usual["one"])
    tell("ranks2_over_1.half_batch_alone", usual["one on a half"] / usual["one"])
    tell("ranks2_over_1.two_runs", usual["two runs on halves"] / usual["one"])
    tell("ranks2_over_two_runs", usual["two"] / usual["two runs on halves"])


@app.command(name="all")
def everything(place: Place = None) -> None:
    """Every figure, in about half an hour."""
    for name in SETTINGS:
        train(name, 24 if name == "published" else 48, 5 if name == "default" else 3, None, place)
    host(9, place)
    step(9, 16)
    averaging(15)
    feed(7, place)
    pack(5, 600, 108_000, place)
    ranks(5, 64, place)
    memory(200_000, place)
