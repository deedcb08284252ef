"""What a composed multirun says of its launcher and sweeper: how many jobs run at once, where, and what is lacking."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf

from faceforge.config import parameters
from faceforge.errors import to_install
from faceforge.io.workers import cores

NEEDS = {  # of a choice: the module, and the extra that brings it
    ("hydra/launcher", "joblib"): ("hydra_plugins.hydra_joblib_launcher", "sweep"),
    ("hydra/launcher", "submitit_local"): ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    ("hydra/launcher", "submitit_slurm"): ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    ("hydra/launcher", "ray"): ("hydra_plugins.hydra_ray_launcher", "ray"),
    ("hydra/sweeper", "optuna"): ("optuna", "sweep"),
}
OPTUNA = "hydra_plugins.faceforge_optuna.OptunaSweeper"


def not_installed(group: str, choice: str) -> str | None:
    """How to install what a launcher or sweeper needs; None if it needs nothing more."""
    module, extra = NEEDS.get((group, choice), ("hydra", ""))
    try:
        there = find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        there = False
    return None if there else f"is not installed; {to_install(extra)}"


def launcher_of(config: DictConfig) -> str:
    """The name of the chosen launcher."""
    return str(config.hydra.runtime.choices["hydra/launcher"])


def has_optuna(config: DictConfig) -> bool:
    """Whether our Optuna sweeper is chosen."""
    return OmegaConf.select(config, "hydra.sweeper._target_") == OPTUNA


def is_local(config: DictConfig) -> bool:
    """Whether jobs run on this machine and end with the sweep."""
    return launcher_of(config) != "submitit_slurm" and not _at(config, "launcher.ray.init.address")


def at_once(config: DictConfig, jobs: int | None) -> int:
    """How many of ``jobs`` share this machine; 1 where another program divides the machines. None: not known yet."""
    batch = _at(config, "sweeper.n_jobs") or _at(config, "sweeper.max_batch_size") or jobs
    launcher, most = launcher_of(config), 1
    if launcher == "joblib":
        asked = _at(config, "launcher.n_jobs") or 1
        most = asked if asked > 0 else max(1, cores() + 1 + asked)
    elif launcher == "submitit_local":
        most = batch or 1
    elif launcher == "ray" and is_local(config):
        per_job = _at(config, "launcher.ray.remote.num_cpus") or 1
        most = max(1, int((_at(config, "launcher.ray.init.num_cpus") or cores()) // per_job))
    return min(most, batch) if batch else most


def problems(config: DictConfig) -> list[str]:
    """A line for each option of launcher and sweeper that cannot work."""
    found = []
    if (_at(config, "launcher.tasks_per_node") or 1) != 1 or (_at(config, "launcher.nodes") or 1) != 1:
        found.append(
            "hydra.launcher: nodes and tasks_per_node must be 1; a job starts its own processes (trainer.gpus)"
        )
    if has_optuna(config):
        from hydra_plugins.faceforge_optuna import OptunaSweeper

        for name, hint in parameters.of(OptunaSweeper).items():
            value = _at(config, f"sweeper.{name}")
            if problem := parameters.complaint(name, value, hint):
                found.append(f"hydra.sweeper.{name}: {problem}")
            elif name in ("n_trials", "n_jobs", "startup") and value is not None and value < 1:
                found.append(f"hydra.sweeper.{name}: {value} must be at least 1")
    return found


def _at(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, f"hydra.{key}")
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
