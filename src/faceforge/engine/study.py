"""A sweep with Optuna: its storage, its study, and what the jobs report to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from faceforge.engine.jobs import PRUNED, Record, run_record
from faceforge.errors import BadInput
from faceforge.io.metrics_csv import read_rows
from faceforge.types import JobRow

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

Sampler = Literal["tpe", "random", "grid", "gp", "nsgaii", "qmc", "cmaes"]
Pruner = Literal["median", "halving", "hyperband"]
Direction = Literal["minimize", "maximize"]
FOLDER = "folder"  # attribute of a trial: the sweep that runs it
KEY = "hydra.sweeper"
REACH_SECONDS = 10  # to reach a database, in seconds
BUSY_SECONDS = 120  # that a job waits for others that write into the same SQLite file


@dataclass(frozen=True)
class Outcome:
    """What a job tells the sweeper: its state, and the values of the objectives if it finished."""

    state: Literal["finished", "pruned", "failed", "stopped"]
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Options:
    """A study: where it is stored, what it optimises (metric and mode of each objective), and how."""

    storage: str
    study_name: str
    objectives: tuple[tuple[str, str], ...]
    sampler: Sampler
    pruner: Pruner | None
    startup: int
    seed: int

    def sample(self, trials: int) -> BaseSampler:
        """The sampler after some trials: a sweep that was killed goes on with other draws than those it began with."""
        from optuna import samplers

        seed = (self.seed * 1_000_003 + trials) % 2**31
        if self.sampler == "tpe":
            return samplers.TPESampler(n_startup_trials=self.startup, seed=seed, multivariate=True, constant_liar=True)
        if self.sampler == "grid":
            return samplers.BruteForceSampler(seed=seed)
        if self.sampler == "gp":
            return samplers.GPSampler(n_startup_trials=self.startup, seed=seed)
        if self.sampler == "cmaes":
            return samplers.CmaEsSampler(n_startup_trials=self.startup, seed=seed)
        if self.sampler == "nsgaii":
            return samplers.NSGAIISampler(seed=seed)
        return samplers.QMCSampler(seed=self.seed) if self.sampler == "qmc" else samplers.RandomSampler(seed=seed)

    def prune(self) -> BasePruner:
        """The pruner; with several objectives it ends nothing."""
        from optuna import pruners

        if self.pruner is None or len(self.objectives) > 1:
            return pruners.NopPruner()
        if self.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=self.startup, n_min_trials=min(2, max(1, self.startup)))
        return pruners.SuccessiveHalvingPruner() if self.pruner == "halving" else pruners.HyperbandPruner()

    def open(self) -> optuna.Study:
        """The study, new or as earlier commands left it. Raises BadInput."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Direction] = ["minimize" if mode == "min" else "maximize" for _, mode in self.objectives]
        storage = open_storage(self.storage)
        study = optuna.create_study(
            storage=storage,
            study_name=self.study_name,
            directions=directions,
            sampler=self.sample(0),
            pruner=self.prune(),
            load_if_exists=True,
        )
        if [direction.name.lower() for direction in study.directions] != directions:
            there = ", ".join(direction.name.lower() for direction in study.directions)
            raise BadInput(
                f"{KEY}.study_name: the study {self.study_name!r} exists and wants to {there}; "
                f"the objectives must {', '.join(directions)}, or name another study"
            )
        return study


def objectives(given: Sequence[str] | None, monitor: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """``metric:min`` or ``metric:max`` taken apart; where none is given, the scheme's ``monitor``. Raises BadInput."""
    found = []
    for text in given or []:
        metric, _, mode = str(text).rpartition(":")
        if not metric or mode not in ("min", "max"):
            raise BadInput(f"{KEY}.objectives: {text!r} must be a metric with its mode, such as val/mae:min")
        found.append((metric, mode))
    return tuple(found) or (monitor,)


def located(storage: str | None, folder: Path) -> str:
    """The address of a storage; a file is found from the working directory, none is ``optuna.db`` in ``folder``."""
    if storage is None:
        return f"sqlite:///{folder.absolute() / 'optuna.db'}"
    return storage if "://" in storage else str(Path(storage).absolute())


def open_storage(storage: str) -> BaseStorage:
    """A database, a SQLite file or a journal. Raises BadInput if it cannot be reached."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if "://" not in storage:
        if Path(storage).suffix not in (".db", ".log"):
            raise BadInput(f"{KEY}.storage: {storage} must end in .db (SQLite) or .log (a journal), or be an address")
        if not Path(storage).parent.is_dir():
            raise BadInput(f"{KEY}.storage: {storage} cannot be made; the folder {Path(storage).parent} does not exist")
    try:
        if storage.endswith(".log") and "://" not in storage:
            return JournalStorage(JournalFileBackend(storage))
        return _database(storage if "://" in storage else f"sqlite:///{storage}")
    except BadInput:
        raise
    except Exception as error:  # each driver has its own
        raise BadInput(f"{KEY}.storage: {_hidden(storage)} cannot be reached ({_reason(error)})") from None


def _database(address: str) -> BaseStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url

    kind = make_url(address).get_backend_name()
    waits = {"timeout": BUSY_SECONDS} if kind == "sqlite" else {"connect_timeout": REACH_SECONDS}
    return RDBStorage(address, engine_kwargs={"connect_args": waits, "pool_pre_ping": True})


def _hidden(storage: str) -> str:
    """An address without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _hidden(" ".join(str(error).strip().partition("\n")[0].split()) or type(error).__name__)


# ------------------------------------------------------------------------------------------------------------- trials


class Search:
    """Proposes jobs and takes in their outcomes. Raises BadInput if the study cannot be used."""

    def __init__(self, options: Options, space: Mapping[str, BaseDistribution], folder: Path, trials: int) -> None:
        self.options, self.space, self.folder, self.trials = options, dict(space), str(folder.absolute()), trials
        self.study = options.open()

    def batch(self, size: int) -> dict[int, dict[str, object]]:
        """At most ``size`` trials with their values: first those that a killed sweep left running, then new ones."""
        from optuna.trial import TrialState

        states = (TrialState.RUNNING,)
        left = [t for t in self.study.get_trials(states=states) if t.user_attrs.get(FOLDER) == self.folder]
        batch = {trial.number: dict(trial.params) for trial in left[:size]}
        while len(batch) < size and (number := self._new()) is not None:
            batch[number] = dict(self.study.trials[number].params)
        return batch

    def _new(self) -> int | None:
        """The number of a new trial; None if there are enough. One like an earlier trial takes over its outcome."""
        while (count := len(self.study.trials)) < self.trials:
            self.study.sampler = self.options.sample(count)
            try:
                trial = self.study.ask(self.space)
            except ValueError as error:
                raise BadInput(
                    f"{KEY}.study_name: the study {self.options.study_name!r} has another search space "
                    f"({_reason(error)}); name another study"
                ) from None
            trial.set_user_attr(FOLDER, self.folder)
            if not self._is_known(trial.number):
                return trial.number
        return None

    def _is_known(self, number: int) -> bool:
        trials = self.study.trials
        same = [t for t in trials if t.number != number and t.params == trials[number].params]
        if not same:
            return False
        from optuna.trial import TrialState

        values = same[0].values if same[0].state == TrialState.COMPLETE else None
        self.study.tell(number, values, state=None if values else TrialState.FAIL)
        return True

    def tell(self, number: int, outcome: Outcome) -> None:
        """Take in the outcome of a trial; one that was stopped stays open, to be continued."""
        from optuna.trial import TrialState

        if outcome.state == "finished":
            self.study.tell(number, list(outcome.values))
        elif outcome.state == PRUNED:
            self.study.tell(number, state=TrialState.PRUNED)
        elif outcome.state == "failed":
            self.study.tell(number, state=TrialState.FAIL)


def outcome_of(record: Record, row: JobRow, wanted: Sequence[tuple[str, str]]) -> tuple[Outcome, JobRow]:
    """The outcome of a job for Optuna, and its row: a job without a value for an objective has failed."""
    if row.outcome.startswith(("stopped", "not started")):
        return Outcome("stopped"), row
    if row.code:
        return Outcome("failed"), row
    if row.outcome == PRUNED:
        return Outcome("pruned"), row
    values = values_at_best(record.place(row), [metric for metric, _ in wanted])
    missing = [metric for metric, _ in wanted if metric not in values]
    if missing:
        said = (
            f"failed: {KEY}.objectives: the run has no {missing[0]}; it has {', '.join(sorted(values)) or 'no scores'}"
        )
        return Outcome("failed"), replace(row, outcome=said, code=2)
    return Outcome("finished", tuple(values[metric] for metric, _ in wanted)), row


def values_at_best(folder: Path, wanted: Sequence[str]) -> dict[str, float]:
    """Scores of a run: those of its best checkpoint; a score that was not taken then counts with its last value.

    Without ``wanted`` among them all scores, for a message.
    """
    best = run_record(folder).get("best") or {}
    found: dict[str, float] = {}
    at_best: dict[str, float] = {}
    for images, row in read_rows(folder / "metrics.csv"):
        scores = {name: value for name, value in row.items() if math.isfinite(value)}
        found |= scores
        at_best |= scores if images == best.get("images") else {}
    found |= at_best
    if best and math.isfinite(best["value"]):
        found[best["metric"]] = best["value"]
    kept = {name: found[name] for name in wanted if name in found}
    return kept if len(kept) == len(wanted) else {n: v for n, v in found.items() if n in kept or n.startswith("val/")}
