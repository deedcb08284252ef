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
    arguments = get_args_parser().parse_intermixed_args(sys.argv[1:])
    words = list(arguments.overrides)
    overrides = [config.quote_path(word, arguments.multirun) for word in words]
    problems = config.check_overrides(overrides)
    if problems:
        _fail("\n".join(problems))
    # Hydra itself takes flags before overrides or after them, not among them.
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in words] + overrides
    if arguments.multirun:
        sys.argv += _sweep_settings(overrides)
    hydra.main(version_base="1.3", config_path=str(config.conf_dir().resolve()), config_name="train")(_job)()


def _sweep_settings(overrides: list[str]) -> list[str]:
    """Where the jobs go, and that their names speak only of what is swept."""
    named = [o.split("=", 1)[1].strip("'\"") for o in overrides if o.startswith("run_dir=")]
    folder = named[-1] if named else f"runs/{time.strftime('%Y%m%d-%H%M%S')}-sweep"
    constant = ",".join(config.unswept_keys(overrides))
    return [f"hydra.sweep.dir='{folder}'", f"hydra.job.config.override_dirname.exclude_keys=[{constant}]"]


def _job(cfg: DictConfig) -> None:
    state = HydraConfig.get()
    overrides = list(state.overrides.task)
    try:
        plain = config.plain(cfg, overrides, state.runtime.choices)
        if state.mode == RunMode.MULTIRUN:
            name = f"{state.job.num}-{state.job.override_dirname}".replace("/", "-")
            plain["run_dir"] = str(Path(state.sweep.dir) / name[:120])
        from faceforge import training

        code = training.train(plain, overrides)
    except (BadInput, GuardStop) as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted before training began; nothing was written", 130)
    if code:
        sys.exit(code)


def _fail(message: str, code: int = 2) -> NoReturn:
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)
    sys.exit(code)
