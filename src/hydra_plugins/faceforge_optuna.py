"""`hydra/sweeper=optuna`: Hydra's launchers run the jobs that Optuna proposes (Hydra finds sweepers here only).

Nothing of Optuna or torch is imported before a sweep begins: Hydra loads this file at every start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from faceforge.engine.study import Options, Search
    from faceforge.schemes.base import Scheme


class OptunaSweeper(Sweeper):
    """The keys are explained in conf/hydra/sweeper/optuna.yaml."""

    def __init__(
        self,
        storage: str | None,
        study_name: str | None,
        n_trials: int,
        n_jobs: int | None,
        objectives: Sequence[str] | None,
        sampler: Literal["tpe", "random", "grid", "gp", "nsgaii", "qmc", "cmaes"],
        pruner: Literal["median", "halving", "hyperband"] | None,
        startup: int,
        seed: int,
        params: Mapping[str, str],
        trial: int | None,
    ) -> None:
        self.n_trials, self.n_jobs, self.params = n_trials, n_jobs, params
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's name for it."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Launch batches until the study has its trials."""
        assert self.config is not None
        assert self.launcher is not None
        fixed, search = opened(self.config, arguments, Path(self.config.hydra.sweep.dir))
        first = 0
        while batch := search.batch(self.n_jobs or 1):
            jobs = [[*fixed, *(f"{k}={v}" for k, v in found.items()), f"{TRIAL}={n}"] for n, found in batch.items()]
            for number, done in zip(batch, self.launcher.launch(jobs, initial_job_idx=first), strict=True):
                search.tell(number, done.return_value)  # or the launcher's error
            first += len(batch)


TRIAL = "hydra.sweeper.trial"


def options_of(config: DictConfig, folder: Path) -> Options:
    """The study of a composed configuration, for a sweep in ``folder``. Raises BadInput."""
    from faceforge.config import find
    from faceforge.engine import study

    given: dict[str, Any] = OmegaConf.to_container(config.hydra.sweeper, resolve=True)  # type: ignore[assignment]
    scheme: type[Scheme] = find(str(config.model._target_), list(config.trusted_packages))  # type: ignore[assignment]
    return study.Options(
        storage=study.located(given["storage"], folder),
        study_name=given["study_name"] or folder.absolute().name,
        objectives=study.objectives(given["objectives"], scheme.monitor),
        sampler=given["sampler"],
        pruner=given["pruner"],
        startup=given["startup"],
        seed=given["seed"],
    )


def opened(config: DictConfig, overrides: Sequence[str], folder: Path) -> tuple[list[str], Search]:
    """The overrides that all jobs have, and the search over the others. Raises BadInput."""
    from faceforge.config.searching import space_of
    from faceforge.engine.study import Search

    fixed, space = space_of(overrides)
    return fixed, Search(options_of(config, folder), space, folder, config.hydra.sweeper.n_trials)
