"""From a checked configuration to a finished run: devices, trainer, resume, and the last lines on the screen."""

from __future__ import annotations

import math
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge import config as configuration
from faceforge import counter_rng
from faceforge.engine import checkpoint, devices
from faceforge.engine.callbacks import Recorder, quieten
from faceforge.engine.guard import Guard, NotFinite
from faceforge.engine.loop import PlainLoop, Ranks
from faceforge.engine.run import Run, hold, make_folder, now, require_free
from faceforge.engine.signals import Signals
from faceforge.engine.watchdog import Watchdog
from faceforge.errors import BadInput, GuardStop
from faceforge.report import write_report
from faceforge.schemes.base import Scheme

LIMITS = ("trainer.max_images", "trainer.max_epochs", "trainer.max_steps", "trainer.max_minutes")
PLACES = ("data.root", "data.cache", "data.workers", "data.attributes")  # the manifest and the labels prove the faces
RESUMABLE = (*LIMITS, "trainer.gpus", "trainer.processes", "trainer.max_wait", *PLACES)


@dataclass(frozen=True)
class Options:
    """The ``trainer`` node. Limits and cadences count real images drawn; null is no limit."""

    gpus: int | None
    processes: int
    precision: Literal["auto", "32", "bf16", "16", 32, 16]
    max_images: int | None
    max_epochs: int | None
    max_steps: int | None
    max_minutes: float | None
    log_every: int
    sample_every: int
    checkpoint_every: int
    deterministic: bool
    max_wait: float
    channels_last: bool
    compile: bool

    def __post_init__(self) -> None:
        for name in ("log_every", "sample_every", "checkpoint_every", "processes"):
            if getattr(self, name) < 1:
                raise BadInput(f"trainer.{name}: {getattr(self, name)} must be at least 1")
        for name in ("max_images", "max_epochs", "max_steps", "max_minutes"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                raise BadInput(f"trainer.{name}: {limit} must be a positive number, or null for no limit")
        if not 0 < self.max_wait < math.inf:
            raise BadInput(f"trainer.max_wait: {self.max_wait} must be a positive number of minutes")
        if self.max_images is self.max_epochs is self.max_steps is self.max_minutes is None:
            raise BadInput("trainer: no limit is set; give max_images, max_epochs, max_steps or max_minutes")

    @property
    def world(self) -> int:
        """How many processes train: one a GPU, or ``processes`` on the CPU."""
        return self.gpus or self.processes

    def limit_images(self, epoch: int, batch: int) -> int | None:
        """The images at which the run ends, for ``epoch`` images a pass and ``batch`` images a step."""
        limits = [
            self.max_images,
            self.max_epochs and self.max_epochs * epoch,
            self.max_steps and self.max_steps * batch,
        ]
        return min((limit for limit in limits if limit), default=None)


def train(config: dict[str, Any], overrides: Iterable[str] = ()) -> int:
    """Train, or go on training, what a resolved configuration describes; returns the exit code.

    Raises BadInput before anything is written where the request cannot be met, GuardStop where the numbers left
    the finite world.
    """
    quieten()
    try:
        with ExitStack() as stack:
            if config["resume"]:
                return _resume(config, list(overrides), stack)
            return _start(config, stack)
    except OSError as error:  # while it starts: once it trains, _fit says how to go on
        place = error.filename or config["resume"] or config["run_dir"] or "runs"
        raise BadInput(f"{place}: cannot be read or written ({error.strerror or error}); nothing is lost") from error


def _start(config: dict[str, Any], stack: ExitStack) -> int:
    options = options_of(config)
    if config["run_dir"]:
        require_free(Path(config["run_dir"]))
    config["trainer"]["precision"] = options.precision
    module, data = build(config)
    matched = checkpoint.initialise(module, config["init_from"]) if config["init_from"] else None
    data.prepare()
    folder = make_folder(config)
    stack.enter_context(hold(folder))
    checkpoint.sweep_orphans(folder / "checkpoints")
    run = Run.create(folder, config, shlex.join(["python", *sys.argv]))
    run.write_skipped(data.skipped)
    if matched:
        print(matched)
        run.update(init_from=matched)
    return _fit(config, options, run, module, data, None)


def _resume(config: dict[str, Any], overrides: list[str], stack: ExitStack) -> int:
    path = checkpoint.find(config["resume"], "last")
    folder = path.resolve().parent.parent
    run = Run.reopen(folder)
    stack.enter_context(hold(folder))
    checkpoint.sweep_orphans(path.parent)
    saved = checkpoint.read(path)
    _require_newest(path, saved)
    merged = merge_resumed(saved["config"], config, overrides)
    merged["trusted_packages"] = config["trusted_packages"]
    options = options_of(merged, resumed=True)
    module, data = build(merged)
    data.prepare()
    if data.manifest != run.record["data"]["manifest"]:
        raise BadInput(
            f"resume: the faces of {folder} have changed since (another data manifest); "
            f"start a new run with init_from={folder}"
        )
    if data.summary()["attributes"] != run.record["data"].get("attributes"):
        raise BadInput(f"resume: the labels of {folder} have changed since; data.attributes must name the same ones")
    if saved["end"] or _is_finished(options, data, saved["clock"]):
        _conclude(run, module, data, saved)
        return 0
    if run.record["threads"] <= (os.cpu_count() or 1):
        torch.set_num_threads(run.record["threads"])  # sums of floats depend on it
    run.update(status="running", resumed=[*run.record["resumed"], saved["clock"]["images"]])
    run.write_config(merged)
    return _fit(merged, options, run, module, data, path)


def _require_newest(path: Path, saved: Mapping[str, Any]) -> None:
    """Going on from an older checkpoint would drop what came after it. Raises BadInput."""
    last = path.with_name("last.ckpt")
    if path.name == last.name or not last.is_file():
        return
    try:
        newest = checkpoint.read(last)["clock"]["images"]
    except BadInput:
        return
    if newest > saved["clock"]["images"]:
        folder = path.parent.parent
        raise BadInput(
            f"resume: {path} is of image {saved['clock']['images']}, the run has come to {newest} since; "
            f"resume={folder} goes on from there, init_from={path} starts a new run from these weights"
        )


def _conclude(run: Run, module: Scheme, data: Any, saved: Mapping[str, Any]) -> None:
    """Say that nothing is left to train; a run that was killed after its last checkpoint gets its end now."""
    if run.record["status"] != "finished":
        module.load_state_dict(saved["state_dict"])
        left_out = module.on_run_end(data, run.folder, partial(checkpoint.best, run.folder))
        if left_out:
            print(left_out)
            note = {"images": saved["clock"]["images"], "rule": "left out", "text": left_out}
            run.update(notes=[*(run.record.get("notes") or []), note])
        run.update(status="finished", finished=now())
        write_report(run.folder)
    folder, images, end = run.folder, saved["clock"]["images"], saved["end"]
    on = (
        f"To train on from its weights: init_from={folder}" if end else f"To go on: resume={folder} trainer.max_images="
    )
    print(f"{folder} is finished: {end or f'{images:,} images'}. {on}{'' if end else images * 2}")


def merge_resumed(saved: Mapping[str, Any], asked: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A run's own configuration with the limits, devices and logger named in ``overrides``; limits named replace all.

    Raises BadInput naming any other key whose value differs from the run's.
    """
    overrides = list(overrides)
    merged = {name: dict(node) if isinstance(node, Mapping) else node for name, node in saved.items()}
    if any(override.startswith(LIMITS) for override in overrides):
        merged["trainer"] |= dict.fromkeys((limit.partition(".")[2] for limit in LIMITS), None)
    for override in overrides:
        key = override.split("=", 1)[0].lstrip("+~")
        if key in ("resume", "trusted_packages") or key.startswith("hydra"):
            continue
        mine, theirs = _value(asked, key), _value(saved, key)
        if key in RESUMABLE or key.startswith(("logger", "guard")):
            node, _, name = key.partition(".")
            merged[node] = {**merged.get(node, asked[node]), name: mine} if name else mine
            if key == "data.cache" and "cache" in merged["data"]["source"]:
                merged["data"]["source"] = {**merged["data"]["source"], "cache": mine}
        elif mine != theirs:
            raise BadInput(
                f"resume: {key} is {theirs!r} in this run, {mine!r} was asked for; a resumed run keeps its own "
                f"configuration (only limits, gpus, processes, guard, logger and where the data lies may change)"
            )
    return merged


def _value(config: Mapping[str, Any], key: str) -> Any:
    if key in config["choices"]:
        return config["choices"][key] if key != "logger" else config[key]
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _is_finished(options: Options, data: Any, clock: Mapping[str, Any]) -> bool:
    limit = options.limit_images(data.counts["train"], data.batch_size)
    minutes = options.max_minutes is not None and clock["seconds"] >= 60 * options.max_minutes
    return minutes or (limit is not None and clock["images"] >= limit)


def options_of(config: Mapping[str, Any], resumed: bool = False) -> Options:
    """The trainer's options, settled for this machine, once every target and signature has been checked.

    A run that is ``resumed`` on the CPU leaves the precision that it had on a GPU. Raises BadInput.
    """
    problems = configuration.check_targets(
        {k: config[k] for k in ("model", "data", "trainer", "logger", "guard") if k in config},
        config["trusted_packages"],
    )
    if problems:
        raise BadInput("\n".join(problems))
    configuration.build(config["guard"], at="guard")  # what it does not take is said before a folder is made
    options, batch_size = configuration.build(config["trainer"], at="trainer"), config["data"]["batch_size"]
    if resumed and not devices.gpus(options.gpus, batch_size):
        options = replace(options, precision="32")
    return resolve(options, batch_size)


def resolve(options: Options, batch_size: int) -> Options:
    """What is left open (``gpus`` null, ``precision`` auto) settled for this machine. Raises BadInput."""
    gpus = devices.gpus(options.gpus, batch_size)
    options = replace(options, gpus=gpus, precision=devices.precision(str(options.precision), gpus))
    if batch_size % options.world:
        raise BadInput(f"data.batch_size: {batch_size} cannot be shared evenly by {options.world} processes")
    return options


def build(config: dict[str, Any]) -> tuple[Scheme, Any]:
    """The module, its weights a function of the seed, and the data, which has touched no file yet."""
    torch.manual_seed(counter_rng.key(config["seed"], "init") >> 1)
    trusted = config["trusted_packages"]
    module = configuration.build(config["model"], trusted, "model")
    with configuration.naming("model"):
        module.configure_optimizers()  # what they do not take is said before a folder is made
    module.config = {k: v for k, v in config.items() if k not in ("resume", "trusted_packages")}
    if config["trainer"].get("channels_last"):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.compiles = bool(config["trainer"].get("compile"))
    return module, configuration.build(config["data"], trusted, "data")


def make_trainer(options: Options, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer for resolved options: one endless epoch, which the recorder ends by the clock."""
    gpus = options.gpus or 0
    if not gpus:
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # Lightning's 1 opens a library at every optimiser step
    device = torch.device(devices.best().type, 0) if gpus else devices.CPU
    trainer = pl.Trainer(
        accelerator=devices.lightning_accelerator(gpus),
        devices=options.world,
        strategy=Ranks(device) if options.world > 1 else SingleDeviceStrategy(device),
        deterministic=options.deterministic or None,
        max_epochs=-1,
        logger=False,
        callbacks=callbacks,
        plugins=[checkpoint.Store(), devices.lightning_precision(str(options.precision), gpus)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit_loop.epoch_loop = PlainLoop(trainer)
    return trainer


# ------------------------------------------------------------------------------------------------------- one run


def _fit(config: dict[str, Any], options: Options, run: Run, module: Scheme, data: Any, resume: Path | None) -> int:
    device, threads = devices.name(options.gpus or 0), torch.get_num_threads()
    run.update(device=device, threads=threads, precision=str(options.precision), data=data.summary())
    print(_greeting(run), flush=True)
    signals = Signals(options.world)
    guard = configuration.build(config["guard"], at="guard")
    status, code = "failed", 1
    try:
        while True:
            try:
                _train(Recorder(options, run, config, signals, guard), module, data, resume)
                break
            except NotFinite as error:
                run, resume = _go_back(guard, Run.reopen(run.folder), error)
                module, data = build(config)
                data.prepare()
        status, code = ("interrupted", 128 + signals.received) if signals.received else ("finished", 0)
    except (KeyboardInterrupt, SystemExit):
        status, code = "interrupted", 128 + (signals.received or signal.SIGINT)
    except Unanswered as error:
        status, code = "interrupted", 128 + (signals.received or signal.SIGTERM)
        print(f"faceforge: {error}", file=sys.stderr)
    except OSError as error:
        raise BadInput(_stuck(run.folder, error)) from error
    except GuardStop:
        code = GuardStop.exit_code
        raise
    finally:
        signals.restore()
        late = _write_end(run.folder, status)
    if late:
        raise BadInput(_stuck(run.folder, late)) from late
    print(_farewell(Run.reopen(run.folder), code))
    return code


def _train(recorder: Recorder, module: Scheme, data: Any, resume: Path | None) -> None:
    """Train to the end, or raise what ended it, in whichever process that was."""
    recorder.stop.begin()
    recorder.stop.install()
    trainer = make_trainer(recorder.options, [recorder])
    give_up = partial(_give_up, recorder.run.folder, recorder.stop, trainer)
    watchdog = Watchdog(recorder.stop, 60 * recorder.options.max_wait, give_up)
    watchdog.start()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=True)
    except (ProcessRaisedException, ProcessExitedException) as error:
        if watchdog.why:
            raise _unanswered(watchdog.asked, watchdog.why, recorder.run.folder) from error
        raise (_raised_in_rank(error) if isinstance(error, ProcessRaisedException) else _killed(error)) from error
    finally:
        watchdog.stop()


def _give_up(folder: Path, signals: Signals, trainer: pl.Trainer, why: str) -> None:
    """End the processes that do not answer: the ranks, or this one."""
    ranks = getattr(trainer.strategy.launcher, "procs", [])  # not all children: a library may keep workers of its own
    for rank in ranks:
        rank.kill()
    if not ranks:
        error = _unanswered(signals.received, why, folder)
        _write_end(folder, "interrupted" if signals.received else "failed")
        print(f"\nfaceforge: {error}", file=sys.stderr, flush=True)
        os._exit(128 + (signals.received or signal.SIGTERM))


def _unanswered(asked: int | None, why: str, folder: Path) -> Exception:
    """What ended the run, by the number of the signal that asked for it, if one did."""
    whole = f"the last checkpoint of {os.path.relpath(folder)} is whole"
    return Unanswered(f"{why}; {whole}") if asked else GuardStop(f"{why}; all processes were ended, {whole}")


class Unanswered(Exception):
    """A signal asked for the end, and no step answered it."""


def _raised_in_rank(error: ProcessRaisedException) -> Exception:
    """What ended a rank, by the end of its traceback; errors that are not told to people stay as they are."""
    kinds = {f"{kind.__module__}.{kind.__name__}": kind for kind in (BadInput, GuardStop, NotFinite)}
    kinds |= {kind.__name__: kind for kind in (OSError, PermissionError, FileNotFoundError)}
    names = "|".join(map(re.escape, kinds))
    raised = list(re.finditer(rf"^({names}): ", str(error), re.MULTILINE))
    last = str(error).rfind("\nTraceback (most recent call last):")
    if not raised or raised[-1].start() < last:
        return error
    text = str(error)[raised[-1].end() :].strip()
    return kinds[raised[-1][1]](text)


def _killed(error: ProcessExitedException) -> GuardStop:
    """For a rank that was ended from outside, most often for want of memory."""
    how = error.signal_name or f"exit code {error.exit_code}"
    return GuardStop(f"rank {error.error_index} was ended by {how} (out of memory?); the last checkpoint is whole")


def _go_back(guard: Guard, run: Run, error: NotFinite) -> tuple[Run, Path]:
    """The checkpoint to go on from. Raises GuardStop where the run shall stop, or went back often enough."""
    before = run.record.get("rollbacks", [])
    path = checkpoint.find(run.folder, "last")
    images = checkpoint.read(path)["clock"]["images"]
    if guard.action == "stop" or len(before) >= guard.rollbacks:
        often = f" after going back {len(before)} times" if before else ""
        raise GuardStop(
            f"{error}{often}; {path} of image {images} is good (a lower learning rate often helps, and "
            f"guard.action=rollback goes on by itself)"
        )
    rollbacks = [*before, {"what": str(error), "to": images}]
    run.update(rollbacks=rollbacks, resumed=[*run.record["resumed"], images])
    same = sum(entry["to"] == images for entry in rollbacks) - 1
    slower = f", learning rates times {0.5**same:g}" if same else ""
    print(f"{error}: back to image {images}{slower} (rollback {len(rollbacks)} of {guard.rollbacks})", flush=True)
    return run, path


def _write_end(folder: Path, status: str) -> Exception | None:
    """The last words into run.json and the report; what prevents them must not hide why a run has ended."""
    try:
        Run.reopen(folder).update(status=status, finished=now())
        write_report(folder)
    except (OSError, BadInput) as error:
        return error
    return None


def _stuck(folder: Path, error: Exception) -> str:
    again = f"python train.py {shlex.quote(f'resume={os.path.relpath(folder)}')}"
    if not any((folder / "checkpoints").glob("*.ckpt")):
        again = f"start again with run_dir={os.path.relpath(folder)}; nothing was trained yet"
    return f"{folder}: cannot go on ({error}); the last checkpoint is whole, to go on when this is mended: {again}"


def _greeting(run: Run) -> str:
    record, data = run.record, run.record["data"]
    counts, skipped, folder = data["counts"], len(data["skipped"]), os.path.relpath(run.folder)
    lines = [
        f"{data['source']}: {counts['train']:,} faces to train on, {counts['val']:,} to judge by, {counts['test']:,} "
        f"kept for the end; {record['device']}; {folder}"
    ]
    if skipped:
        lines.append(f"{skipped:,} pictures could not be used: {folder}/skipped.csv says why")
    return "\n".join(lines)


def _farewell(run: Run, code: int) -> str:
    record, folder = run.record, os.path.relpath(run.folder)
    images, best = record["images"], record["best"]
    lines = [
        f"{'Stopped' if code else 'Finished'} after {images:,} images.",
        f"  report       {folder}/report.html",
        f"  last grid    {folder}/samples/{max((p.name for p in (run.folder / 'samples').glob('*.png')), default='')}",
        f"  checkpoints  {folder}/checkpoints/"
        + (f"  (best: {best['metric']} {best['value']:.4g} at {best['images']:,})" if best else ""),
        f"To go on:      python train.py {shlex.quote(f'resume={folder}')}"
        + ("" if code else f" trainer.max_images={images * 2}"),
        f"To fine-tune:  python train.py {shlex.quote(f'init_from={folder}')} data=crops data.root=FOLDER",
    ]
    return "\n".join(lines)
