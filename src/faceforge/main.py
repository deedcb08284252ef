"""The Hydra entry: `python train.py ...` and `faceforge train ...`. torch is imported only after the first check."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from faceforge import config, words
from faceforge.config import composing
from faceforge.engine import cluster
from faceforge.engine.cluster import Launch
from faceforge.engine.sweep import Sweep, tell
from faceforge.errors import BadInput, GuardStop
from faceforge.io.files import short_name
from faceforge.io.storage import lend_home


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
    multirun = arguments.multirun or composing.is_sweep(arguments.overrides)
    overrides = [words.override(word, multirun) for word in arguments.overrides]
    try:
        library = composing.Library(overrides, arguments.config_dir)
    except BadInput as error:
        _fail(str(error))
    overrides = library.plainly(overrides, multirun)
    if problems := config.check_overrides(overrides, multirun, library, types=not arguments.cfg):
        _fail("\n".join(problems))
    tell("\n".join(library.notices))
    sys.argv[1:] = flags + overrides  # Hydra accepts flags before or after overrides, not between them
    if multirun and cluster.current().world > 1:
        _fail(f"-m: {cluster.current().by} started several ranks, which train one run; start a sweep with python")
    if multirun and not arguments.cfg:
        _sweep(overrides)
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

    return training.train(plain, list(HydraConfig.get().overrides.task))


# ------------------------------------------------------------------------------------------------------------ sweeps


def _sweep(overrides: list[str]) -> None:
    """Run all jobs of a multirun, then print a line per job; the exit code is not 0 if one did not finish."""
    constant = composing.unswept_keys(overrides)
    folder = _sweep_folder(overrides)
    exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"  # names contain only swept keys
    sys.argv += [f"hydra.sweep.dir={words.quoted(folder)}", exclude]
    with Sweep(composing.jobs_of(overrides), constant, Path(folder, "jobs.jsonl").resolve()) as sweep:
        try:
            _hand_over(lambda cfg: _job_of(sweep, cfg))
            code = sweep.code
        except KeyboardInterrupt:
            code = 130
        except SystemExit as end:
            code = end.code
        print(sweep.table(), flush=True)
    if code:
        sys.exit(code)


def _job_of(sweep: Sweep, cfg: DictConfig) -> float | None:
    """A job's best score, as sweepers expect it."""
    state = HydraConfig.get()
    name = f"{state.job.num}-{state.job.override_dirname}".replace("/", "-")
    run_dir = Path(state.sweep.dir) / short_name(name, most=120)
    resumed = Path(cfg.resume).expanduser() if cfg.resume else None
    folder = resumed.parent.parent if resumed and resumed.suffix == ".ckpt" else resumed or run_dir
    typed = list(state.overrides.task)
    return sweep.run(state.job.num, typed, folder, lambda: _train({**_plain(cfg), "run_dir": str(run_dir)}))


def _sweep_folder(overrides: list[str]) -> str:
    """The folder of the jobs."""
    named = [o for o in composing.parse(overrides)[0] if o.key_or_group == "run_dir"]
    folder = composing.values_of(named[-1])[0] if named else None
    return words.at_home(folder or f"runs/{time.strftime('%Y%m%d-%H%M%S')}-sweep")


def _fail(message: str, code: int = 2) -> NoReturn:
    tell(message)
    sys.exit(code)
