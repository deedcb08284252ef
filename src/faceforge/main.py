"""The Hydra entry: `python train.py ...` and `faceforge train ...`. torch is imported only after the first check."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from faceforge import config
from faceforge.config import composing
from faceforge.engine.sweep import Sweep, tell
from faceforge.errors import BadInput, GuardStop


def main() -> None:
    """Check the command line, then pass it to Hydra. Exits 2 with one line per problem."""
    arguments = get_args_parser().parse_intermixed_args(sys.argv[1:])
    words = list(arguments.overrides)
    multirun = arguments.multirun or composing.is_sweep(words)
    overrides = [composing.quote_path(word, multirun) for word in words]
    if problems := config.check_overrides(overrides, multirun, arguments.config_dir, types=not arguments.cfg):
        _fail("\n".join(problems))
    library = composing.Library(overrides, arguments.config_dir)
    overrides = library.plainly(overrides, multirun)
    tell("\n".join(library.notices))
    # Hydra accepts flags before or after overrides, not between them.
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in words] + overrides
    if multirun and not arguments.cfg:
        _sweep(overrides)
    else:
        _hand_over(_job)


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
    return config.plain(cfg, state.overrides.task, state.runtime.choices)


def _train(plain: dict[str, Any]) -> int:
    from faceforge.engine import training

    return training.train(plain, list(HydraConfig.get().overrides.task))


# ------------------------------------------------------------------------------------------------------------ sweeps


def _sweep(overrides: list[str]) -> None:
    """Run all jobs of a multirun, then print a line per job; the exit code is not 0 if one did not finish."""
    constant = composing.unswept_keys(overrides)
    folder = _sweep_folder(overrides)
    exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(constant)}]"  # names contain only swept keys
    sys.argv += [f"hydra.sweep.dir='{folder}'", exclude]
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
    run_dir = Path(state.sweep.dir) / name[:120]
    resumed = Path(cfg.resume) if cfg.resume else None
    folder = resumed.parent.parent if resumed and resumed.suffix == ".ckpt" else resumed or run_dir
    words = list(state.overrides.task)
    return sweep.run(state.job.num, words, folder, lambda: _train({**_plain(cfg), "run_dir": str(run_dir)}))


def _sweep_folder(overrides: list[str]) -> str:
    """The folder of the jobs."""
    named = [o.split("=", 1)[1].strip("'\"") for o in overrides if o.startswith("run_dir=")]
    return named[-1] if named else f"runs/{time.strftime('%Y%m%d-%H%M%S')}-sweep"


def _fail(message: str, code: int = 2) -> NoReturn:
    tell(message)
    sys.exit(code)
