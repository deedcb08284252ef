"""From a checked configuration to a finished run: start or resume, fit, end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import yaml
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge import config as configuration
from faceforge import counter_rng, words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, cluster, devices, messages, requeue, resume
from faceforge.engine.callbacks.checkpointing import end_run
from faceforge.engine.callbacks.session import Session
from faceforge.engine.cluster import Launch
from faceforge.engine.dry_run import dry_run
from faceforge.engine.group import Ended, Group, RankLost, Word, joined
from faceforge.engine.guard import NotFinite, go_back
from faceforge.engine.loggers.metrics_csv import MetricsCsv
from faceforge.engine.loop import LeanLoop, needs_lightnings_loop
from faceforge.engine.plan import Plan, make_callbacks, make_plan
from faceforge.engine.run import Run, lock_run, make_folder, now, write_end
from faceforge.engine.signals import AgreedSignals, Signals
from faceforge.engine.strategy import (
    NoHandlers,
    environment,
    killed,
    own_devices,
    raised_in_rank,
    share_cores,
    strategy,
)
from faceforge.engine.watchdog import Unanswered, Watchdog, give_up, unanswered
from faceforge.errors import BadInput, GuardStop
from faceforge.report import write_report
from faceforge.schemes import conditions
from faceforge.schemes.abilities import Samples
from faceforge.schemes.base import Scheme


def train(config: Mapping[str, Any], overrides: Iterable[str] = ()) -> int:
    """Start or resume the training that a resolved configuration describes; returns the exit code.

    Raises BadInput before anything is written if the request is invalid, GuardStop if a value is NaN or infinite.
    """
    messages.filter_warnings()
    if config.get("dry_run"):
        return dry_run(config, overrides)
    config = {key: value for key, value in config.items() if key != "dry_run"}  # no part of a run
    try:
        with cluster.own_ranks() as launch:
            rank_zero_only.rank = launch.rank  # pyright: ignore[reportFunctionMemberAccess]  (else the environment's)
            return follow(launch) if launch.rank else _lead(launch, config, overrides)
    except Ended as end:
        return end.exit_code
    except OSError as error:  # during start-up; later, _fit says how to continue
        place = error.filename or config["resume"] or config["run_dir"] or "runs"
        raise BadInput(f"{place}: cannot be read or written ({error.strerror or error}); nothing is lost") from error


def _lead(launch: Launch, config: Mapping[str, Any], overrides: Iterable[str]) -> int:
    """Train as the only process, as the parent of others, or as rank 0 of those that were started with this one."""
    with ExitStack() as stack:
        group = stack.enter_context(joined(launch, 60 * config["trainer"]["max_wait"])) if launch.world > 1 else None
        stack.callback(devices.use_threads, torch.get_num_threads())
        config = {**config, "run_dir": cluster.recalled(launch) or config["run_dir"]}
        requeue.prepare(config)
        going_on = resume.goes_on(config)
        code = _resume(config, overrides, stack, group) if going_on else _start(config, stack, group)
        if group:
            group.end(code)
    requeue.at_end(code)
    return code


def _start(config: Mapping[str, Any], stack: ExitStack, group: Group | None) -> int:
    plan = make_plan(config)
    share_cores(plan, torch.get_num_threads())
    module, data = build(plan.config)
    matched = checkpoint.initialise(module, config["init_from"]) if config["init_from"] else None
    data.prepare()
    module.check_data(data)
    folder = make_folder(config)
    stack.enter_context(lock_run(folder))
    checkpoint.sweep_orphans(folder / "checkpoints")
    run = Run.create(folder, plan.config, words.typed(sys.argv))
    run.write_skipped(data.skipped)
    if matched:
        print(matched)
        run.update(init_from=matched)
    return _fit(plan, run, module, data, group)


def _resume(config: Mapping[str, Any], overrides: Iterable[str], stack: ExitStack, group: Group | None) -> int:
    plan, run, saved = resume.reopen(config, overrides, stack)
    finished = resume.is_finished(plan, run.record["data"]["counts"]["train"], saved)
    if finished and run.record["status"] == "finished":
        print(messages.finished(run, saved))
        return 0
    module, data = build(plan.config, run.starts)
    data.prepare()
    module.check_data(data)
    resume.require_same_faces(run, data)
    resume.require_same_labels(config, module, data)
    if finished:
        _finish(run, module, data, saved)
        return 0
    print(messages.going_on(run, saved))
    if run.record["threads"] <= (os.cpu_count() or 1):
        share_cores(plan, run.record["threads"])  # float sums depend on it
    run.update(status="running", resumed=[*run.record["resumed"], saved["clock"]["images"]])
    run.write_config(plan.config)
    return _fit(plan, run, module, data, group)


def _finish(run: Run, module: Scheme, data: FaceData, saved: Mapping[str, Any]) -> None:
    """Complete a run that was killed after its last checkpoint."""
    module.load_state_dict(saved["state_dict"])
    note = end_run(run, module, data, saved["clock"]["images"])
    if note:
        print(note["text"])
    run.update(status="finished", finished=now())
    write_report(run.folder)
    print(messages.finished(run, saved))


def build(config: Mapping[str, Any], starts: Sequence[Path] = ()) -> tuple[Scheme, FaceData]:
    """The module, with weights from the seed, and the data, which has touched no file yet unless the module's labels
    are those of the faces.

    ``starts`` are the folders to which a run's relative paths may refer, besides the working directory.
    """
    trusted = config["trusted_packages"]
    data: FaceData = configuration.build(resume.located(config["data"], starts), trusted, "data")
    config = {**config, "model": conditions.with_names(config["model"], data)}
    torch.manual_seed(counter_rng.key(config["seed"], "init") >> 1)
    module: Scheme = configuration.build(config["model"], trusted, "model")
    with configuration.naming("model"):
        module.configure_optimizers()  # reports wrong arguments before a folder is created
    module.config = {k: v for k, v in config.items() if k not in ("resume", "trusted_packages")}
    if config["trainer"]["channels_last"]:
        module.to(memory_format=torch.channels_last)
    if isinstance(module, Samples) and (node := (config.get("evaluation") or {}).get("features")):
        module.score_features = partial(configuration.build, node, trusted, "evaluation.features")
        name = module.score_features().name  # reports what is missing before a folder is created
        if name == module.trained_by:
            raise BadInput(f"evaluation/features={name}: the discriminator sees these; it must be scored by others")
    module.compiles = config["trainer"]["compile"]
    module.syncs_statistics = config["trainer"]["sync_batchnorm"]
    module.divide(config["trainer"]["accumulate"])
    return module, data


def make_trainer(
    plan: Plan,
    callbacks: Sequence[pl.Callback],
    module: Scheme | None = None,
    loggers: Sequence[Logger] = (),
    group: Group | None = None,
) -> pl.Trainer:
    """Lightning's Trainer for a plan: one endless epoch, which the clock callback ends.

    It uses the lean loop unless ``module``, a callback or ``trainer.extra`` needs Lightning's own.
    """
    if not plan.gpus:
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"  # Lightning's default opens a library at every optimiser step
    trainer = pl.Trainer(
        accelerator=devices.lightning_accelerator(plan.gpus),
        devices=own_devices(plan),
        strategy=strategy(plan, group),
        deterministic=plan.options.deterministic or None,
        max_epochs=-1,
        logger=list(loggers),
        callbacks=list(callbacks),
        plugins=[
            checkpoint.AtomicCheckpointIO(),
            devices.lightning_precision(plan.precision, plan.gpus),
            environment(plan),
        ],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),  # else Lightning adds one
        use_distributed_sampler=False,
        **{"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1, **plan.options.extra},
    )
    trainer._signal_connector = NoHandlers(trainer)
    lean = not plan.options.extra and not needs_lightnings_loop(module, callbacks)
    if module is not None:
        module.lean = lean
    if lean:
        trainer.fit_loop.epoch_loop = LeanLoop(trainer)
    return trainer


# ------------------------------------------------------------------------------------------------------- one run


def _fit(plan: Plan, run: Run, module: Scheme, data: FaceData, group: Group | None) -> int:
    device, threads = devices.name(plan.gpus), torch.get_num_threads()
    run.update(device=device, threads=threads, precision=plan.precision, data=data.summary())
    print(messages.greeting(run), flush=True)
    if note := messages.left_idle(run.folder, plan.gpus):
        print(note)
    cluster.remember(plan.launch, run.folder)
    signals = _signals(plan, group)
    status, code = "failed", 1
    try:
        _train_through_faults(plan, run, module, data, signals, group)
        status, code = ("interrupted", 128 + signals.received) if signals.received else ("finished", 0)
    except (KeyboardInterrupt, SystemExit):
        status, code = "interrupted", 128 + (signals.received or signal.SIGINT)
    except Unanswered as error:
        status, code = "interrupted", 128 + (signals.received or signal.SIGTERM)
        print(f"faceforge: {error}", file=sys.stderr)
    except OSError as error:
        raise BadInput(messages.stuck(run.folder, error)) from error
    except GuardStop:
        code = GuardStop.exit_code
        raise
    finally:
        signals.restore()
        late = write_end(run.folder, status)
    if late:
        raise BadInput(messages.stuck(run.folder, late)) from late
    print(messages.farewell(Run.reopen(run.folder), code, plan.config["trusted_packages"]))
    return code


def _train_through_faults(
    plan: Plan, run: Run, module: Scheme, data: FaceData, signals: Signals, group: Group | None
) -> None:
    """Train to the end; on NaN or infinite values, from the last checkpoint, as often as the guard allows."""
    while True:
        if group:
            group.lead(run.folder, plan.resume, plan.gpus, devices.identity(plan.device))
        try:
            _train(plan, Session(plan, run, signals), module, data, group)
            return
        except NotFinite as error:
            run, path = go_back(plan.guard, Run.reopen(run.folder), error)
            plan = replace(plan, resume=path)
            module, data = build(plan.config, run.starts)
            data.prepare()


def _loggers(plan: Plan, run: Run, kind: str) -> list[Logger]:
    """metrics.csv and the loggers of the ``logger`` node."""
    resumed = run.record["resumed"]
    others = configuration.build(
        plan.config["logger"],
        plan.config["trusted_packages"],
        "logger",
        folder=run.folder,
        config=plan.config,
        earlier=run.record["wandb"],
        resumed_at=resumed[-1] if resumed else None,
        kind=kind,
    )
    return [MetricsCsv(run.folder), *others]


def _train(plan: Plan, session: Session, module: Scheme, data: FaceData, group: Group | None) -> None:
    """Train to the end, or raise the error that ended any of the processes."""
    signals, folder = session.signals, session.run.folder
    signals.begin()
    signals.install()
    callbacks = make_callbacks(plan.config["callbacks"], plan.config, session=session)
    trainer = make_trainer(plan, callbacks, module, _loggers(plan, session.run, module.shows), group)
    watchdog = Watchdog(signals, 60 * plan.options.max_wait, partial(give_up, folder, signals, trainer, group))
    if not plan.launch.rank:
        watchdog.start()
    if group:
        group.watch(session.signals, folder)
    try:
        path = None if plan.resume is None else str(plan.resume)
        trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    except (ProcessRaisedException, ProcessExitedException) as error:
        if watchdog.why:
            raise unanswered(watchdog.asked, watchdog.why, folder) from error
        raise (raised_in_rank(error) if isinstance(error, ProcessRaisedException) else killed(error)) from error
    except RuntimeError as error:
        raise (group.broken(error) if group else error) from error
    finally:
        watchdog.stop()
        if group:
            group.watch(None, folder)


# ------------------------------------------------------------------------- ranks from outside, all but the first


def follow(launch: Launch) -> int:
    """Train as one of the ranks that rank 0 leads; the exit code of all. Only an error of its own is printed."""
    messages.filter_warnings()
    rank_zero_only.rank = launch.rank  # pyright: ignore[reportFunctionMemberAccess]
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        try:
            return _follow(stack.enter_context(joined(launch)))
        except Ended as end:
            return end.exit_code
        except RankLost as error:  # it never joined
            print(f"faceforge: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            return 130


def _follow(group: Group) -> int:
    while isinstance(word := group.follow(), Word):
        try:
            plan, run, module, data = _opened(group, word)
        except (BadInput, OSError) as error:
            group.begin(str(error))
            raise
        group.begin(None, devices.identity(plan.device))
        try:
            _train(plan, Session(plan, run, _signals(plan, group)), module, data, group)
        except NotFinite:
            continue  # rank 0 decides whether the run goes back to a checkpoint
        except (BadInput, GuardStop, OSError) as error:
            code = GuardStop.exit_code if isinstance(error, GuardStop) else BadInput.exit_code
            group.end(code, str(error) if isinstance(error, RankLost) else f"{group.host(group.rank)}: {error}")
            raise Ended(code) from error
    return word


def _opened(group: Group, word: Word) -> tuple[Plan, Run, Scheme, FaceData]:
    """What rank 0 has begun, as this rank sees it. Raises BadInput."""
    sys.path += [path for path in word.paths if path not in sys.path]
    folder = group.seen(word)
    run = Run.reopen(folder)
    torch.set_num_threads(run.record["threads"])
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    plan = make_plan(config, Path(word.resume) if word.resume else None)
    if plan.gpus != word.gpus:
        raise BadInput(f"trainer.gpus: {plan.gpus} here, {word.gpus} on rank 0's machine; all must have as many")
    module, data = build(plan.config, run.starts)
    if config["init_from"] and not word.resume:
        checkpoint.initialise(module, config["init_from"])
    group.after_first_of_machine(partial(data.prepare, progress=False))
    if data.manifest != run.record["data"]["manifest"]:
        raise BadInput("data.root: these are other faces than on rank 0's machine")
    return plan, run, module, data


def _signals(plan: Plan, group: Group | None) -> Signals:
    """Who asks for an end: ranks on the CPU exchange it at every step, others where the guard waits for the device."""
    if group is None:
        return Signals(plan.world)
    return AgreedSignals(plan.world, plan.device, plan.guard.every if plan.gpus else 1)
