"""The Hydra entry: `python train.py ...` and `faceforge train ...`. torch is imported only after the first check."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from faceforge import config, words
from faceforge.config import composing, multirun
from faceforge.engine import cluster, jobs, requeue
from faceforge.engine.cluster import Launch
from faceforge.engine.jobs import tell
from faceforge.engine.study import Options, Outcome
from faceforge.engine.sweep import Sweep, job_name, score, stop_file, swept
from faceforge.errors import BadInput, GuardStop
from faceforge.io.storage import lend_home
from faceforge.types import JobRow


def main() -> None:
    """Check the command line, then pass it to Hydra. Exits 2 with one line per problem."""
    lend_home()
    with cluster.own_ranks() as launch:
        if launch.rank:
            sys.exit(_follow(launch))
        code: object = 1
        try:
            _main()
            code = 0
        except SystemExit as end:
            code = end.code
            raise
        finally:
            if launch.world > 1:
                _release(launch, code if isinstance(code, int) else int(bool(code)))


def _follow(launch: Launch) -> int:
    from faceforge.engine import training

    return training.follow(launch)


def _release(launch: Launch, code: int) -> None:
    """End ranks that wait for this one, where it has ended before it joined them."""
    from faceforge.engine import group

    group.release(launch, code)


def _main() -> None:
    arguments, flags = _arguments(words.expanded(map(words.from_flag, sys.argv[1:])))
    many = arguments.multirun or composing.is_sweep(arguments.overrides)
    overrides = [words.override(word, many) for word in arguments.overrides]
    try:
        library = composing.Library(overrides, arguments.config_dir)
    except BadInput as error:
        _fail(str(error))
    overrides = library.plainly(overrides, many)
    first = library.first_job(overrides) if many else None
    overrides = composing.with_space(overrides, first) if first else overrides
    if problems := config.check_overrides(overrides, many, library, types=not arguments.cfg):
        _fail("\n".join(problems))
    if not many and any(o.key_or_group == "sweep" and o.value() for o in composing.parse(overrides)[0]):
        _fail("sweep: a search space needs -m")
    if many and any(o.key_or_group == "dry_run" and o.value() for o in composing.parse(overrides)[0]):
        _fail("dry_run: is for one training; leave out -m, and give each key one value")
    tell("\n".join(library.notices))
    sys.argv[1:] = flags + overrides  # Hydra accepts flags before or after overrides, not between them
    if many and cluster.current().world > 1:
        _fail(f"-m: {cluster.current().by} started several ranks, which train one run; start a sweep with python")
    if first and not arguments.cfg:
        _sweep(overrides, first, [flag for flag in flags if flag not in ("-m", "--multirun")])
    else:
        _hand_over(_job)


def _arguments(typed: list[str]) -> tuple[Namespace, list[str]]:
    """The command line as Hydra reads it, and its flags as typed. A wrong flag is one line and exit code 2."""
    parser = get_args_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(typed)
    return arguments, [word for word in typed if word not in arguments.overrides]


def _refuse_flag(message: str) -> NoReturn:
    _fail(f"{message}; an override is key=value or --key=value, and --help lists the flags")


def _hand_over(job: Callable[[DictConfig], object]) -> None:
    hydra.main(version_base="1.3", config_path=str(config.conf_dir().resolve()), config_name="train")(job)()


def _job(cfg: DictConfig) -> None:
    try:
        code = _train(_plain(cfg))
    except (BadInput, GuardStop) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted before training began; nothing was written", 130)
    if code:
        sys.exit(code)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    state = HydraConfig.get()
    start = state.runtime.cwd if Path.cwd() != Path(state.runtime.cwd) else ""  # other with hydra.job.chdir
    return config.plain(cfg, state.overrides.task, state.runtime.choices, start)


def _train(plain: dict[str, Any]) -> int:
    from faceforge.engine import training

    gc.freeze()  # torch's million objects stay to the end: no collection need look at them
    return training.train(plain, list(HydraConfig.get().overrides.task))


# ------------------------------------------------------------------------------------------------------------ sweeps


@dataclass(frozen=True)
class Task:
    """What all jobs of a sweep have in common; it travels to the processes of launchers."""

    record: jobs.Record
    constant: list[str]  # keys that are not swept
    command: list[str]  # what the command of one job begins with
    share: jobs.Share
    watched: tuple[int, ...]
    options: Options | None  # of the study, if Optuna proposes the jobs
    process: int = field(default_factory=os.getpid)
    path: list[str] = field(default_factory=lambda: list(sys.path))


def _sweep(overrides: list[str], first: DictConfig, flags: list[str]) -> None:
    """Run all jobs of a multirun, then print a line per job; the exit code is not 0 if one did not finish."""
    if problems := multirun.problems(first):
        _fail("\n".join(problems))
    folder = Path(_sweep_folder(overrides))
    constant, all_jobs = composing.unswept_keys(overrides), composing.jobs_of(overrides)
    named = None if all_jobs is None else {_place(job, constant): swept(job, constant) for job in all_jobs}
    try:
        with Sweep(folder, named, multirun.is_local(first)) as sweep:
            requeue.prepare({"trainer": first.trainer, "run_dir": folder, "resume": None})
            code = _run_sweep(sweep, _task(sweep, overrides, first, flags))
            print(sweep.table(), flush=True)
            sweep.write()
            requeue.at_end(code)
    except BadInput as error:
        _fail(str(error))
    if code:
        sys.exit(code)


def _task(sweep: Sweep, overrides: list[str], first: DictConfig, flags: list[str]) -> Task:
    """Raises BadInput if Optuna's study cannot be used."""
    searched = [o for o in flags if o.startswith("hydra.searchpath")]
    at_once = multirun.at_once(first, None if sweep.jobs is None else len(sweep.jobs))
    options, hydra_words = None, [f"hydra.sweep.dir={words.quoted(str(sweep.folder))}"]
    if multirun.has_optuna(first):
        from hydra_plugins.faceforge_optuna import opened

        options = opened(first, overrides, sweep.folder)[1].options
        hydra_words += [f"hydra.sweeper.n_jobs={at_once}", "hydra.sweeper.params={}"]
    sys.argv += hydra_words
    return Task(
        sweep.record,
        composing.unswept_keys(overrides),
        [sys.argv[0], *flags, *searched],
        jobs.Share(at_once, _gpus() if at_once > 1 else 0),
        (os.getpid(),) if sweep.local else (),
        options,
    )


def _gpus() -> int:
    from faceforge.engine import devices

    return devices.count()


def _run_sweep(sweep: Sweep, task: Task) -> int:
    """Hand the sweep to Hydra; its exit code. An error of a launcher is one line, with HYDRA_FULL_ERROR=1 all."""
    full = os.environ.setdefault("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits
    try:
        _hand_over(lambda cfg: _job_of(task, cfg))
        return sweep.code
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except Exception as error:
        if full == "1":
            traceback.print_exc()
        tell(f"the sweep has ended: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return 1
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full
        sweep.close()


def _job_of(task: Task, cfg: DictConfig) -> float | Outcome | None:
    """Train a job; its best score, as sweepers expect it, or what Optuna is told."""
    state = HydraConfig.get()
    typed = list(state.overrides.task)
    number = state.job.num if task.options is None else state.sweeper.trial
    row = JobRow(number, _place(typed, task.constant), swept(typed, task.constant))
    if stop_file(task.record).exists():
        return _answer(task, replace(row, outcome="not started", code=1))
    row = jobs.run(_job_for(task, row, cfg, typed))
    if row.code > jobs.STOPPED and os.getpid() == task.process:
        raise SystemExit(row.code)
    return _answer(task, row)


def _job_for(task: Task, row: JobRow, cfg: DictConfig, typed: list[str]) -> jobs.Job:
    state = HydraConfig.get()
    start = Path.cwd() if state.job.chdir else Path(state.runtime.cwd)
    run_dir = os.path.relpath(task.record.place(row), start)
    trial = None if task.options is None else {"options": asdict(task.options), "trial": state.sweeper.trial}
    composed, whole = (OmegaConf.to_container(node) for node in (cfg, HydraConfig.instance().cfg) if node is not None)
    prepare = partial(_prepared, composed, whole, run_dir, task.record.path.parent.name, trial is not None)
    own = [word for word in typed if word.partition("=")[0] not in ("run_dir", "sweep")]
    command = [*task.command, *own, words.word("run_dir", run_dir)]
    path = list(dict.fromkeys([*task.path, *sys.path]))
    return jobs.Job(row, task.record, prepare, typed, command, task.share, task.watched, trial, path, start=str(start))


def _prepared(cfg: object, whole: object, run_dir: str, sweep: str, prunes: bool) -> dict[str, Any]:
    """The configuration of a job, in its own process: its W&B group is the sweep unless it has one. Raises BadInput."""
    setup_globals()
    HydraConfig.instance().cfg = OmegaConf.create(whole)  # type: ignore[assignment]  (for ${hydra:...} in a yaml)
    plain = {**_plain(OmegaConf.create(cfg)), "run_dir": run_dir}  # type: ignore[arg-type]
    plain["trainer"] = {**plain["trainer"], "requeue": False}  # the sweep or its launcher requeues the job
    plain["logger"] = {**plain["logger"], "group": plain["logger"].get("group") or sweep}
    return {**plain, "callbacks": jobs.with_pruning(plain["callbacks"])} if prunes else plain


def _answer(task: Task, row: JobRow) -> float | Outcome | None:
    if task.options is None:
        return score(task.record, row)
    from faceforge.engine.study import outcome_of

    outcome, told = outcome_of(task.record, row, task.options.objectives)
    if told != row:
        task.record.keep(told)
    return outcome


def _place(overrides: list[str], constant: list[str]) -> str:
    """The folder of a job inside the sweep's; that of the run, if it resumes one."""
    resumed = [o for o in composing.parse(overrides)[0] if o.key_or_group == "resume"]
    if not resumed or not (named := composing.values_of(resumed[-1])[0]):
        return job_name(overrides, constant)
    path = Path(words.at_home(str(named))).absolute()
    return str(path.parent.parent if path.suffix == ".ckpt" else path)


def _sweep_folder(overrides: list[str]) -> str:
    """The folder of the jobs."""
    named = [o for o in composing.parse(overrides)[0] if o.key_or_group == "run_dir"]
    folder = composing.values_of(named[-1])[0] if named else None
    return words.at_home(folder or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-sweep")


def _fail(message: str, code: int = 2) -> NoReturn:
    tell(message)
    sys.exit(code)
