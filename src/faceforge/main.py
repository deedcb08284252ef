"""The Hydra entry: `python train.py ...` and `faceforge train ...`. torch is imported only after the first check."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from faceforge import config
from faceforge.errors import BadInput, GuardStop


def main() -> None:
    """Check the command line, then hand it to Hydra. Exits 2 with one line for each thing that is wrong."""
    arguments = get_args_parser().parse_args(sys.argv[1:])
    overrides = list(arguments.overrides)
    problems = config.check_overrides(overrides)
    if problems:
        _fail("\n".join(problems))
    if arguments.multirun:
        sys.argv.append(f"hydra.sweep.dir='{_sweep_folder(overrides)}'")
    hydra.main(version_base="1.3", config_path=str(config.conf_dir().resolve()), config_name="train")(_job)()


def _sweep_folder(overrides: list[str]) -> str:
    named = [o.split("=", 1)[1].strip("'\"") for o in overrides if o.startswith("run_dir=")]
    return named[-1] if named else f"runs/{time.strftime('%Y%m%d-%H%M%S')}-sweep"


def _job(cfg: DictConfig) -> None:
    state = HydraConfig.get()
    overrides = list(state.overrides.task)
    try:
        plain = config.plain(cfg, overrides, state.runtime.choices)
        if state.mode == RunMode.MULTIRUN:
            plain["run_dir"] = str(Path(state.sweep.dir) / _job_name(state.job.num, overrides))
        from faceforge import training

        code = training.train(plain, overrides)
    except (BadInput, GuardStop) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted before training began; nothing was written", 130)
    if code:
        sys.exit(code)


def _job_name(number: int, overrides: list[str]) -> str:
    words = [o.replace("/", "-") for o in overrides if not o.startswith(("run_dir=", "data.root=", "logger."))]
    return f"{number}-{','.join(words)}"[:120]


def _fail(message: str, code: int = 2) -> NoReturn:
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)
    sys.exit(code)
