"""Who starts the processes of a training: this program, torchrun, or SLURM's srun. Imports no torch.

Shells, batch jobs and other programs leave variables such as RANK and SLURM_PROCID behind, so variables alone prove
nothing. torchrun is believed if its agent is among the processes above this one, srun if the task that it names
(SLURM_TASK_PID) is this process or one above it: a copy of the variables cannot have these. Where the system names no
processes (Windows), nobody is believed, and this program starts its own.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from faceforge.io.portable import ancestors

RANKS = re.compile(
    r"((LOCAL|NODE|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
    r"|SLURM_(PROCID|LOCALID|NODEID|NPROCS|NTASKS\w*|STEP_\w+)"
    r"|(PMI|PMIX|OMPI_COMM_WORLD|MV2_COMM_WORLD|JSM_NAMESPACE)_\w+"
)
AGENTS = {"torchrun", "torch.distributed.run", "torch.distributed.launch", "accelerate"}
TORCHRUN = ("RANK", "WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
STEP = ("JOB_ID", "STEP_ID", "STEP_NUM_TASKS", "STEP_NUM_NODES", "NODEID", "LOCALID", "TASK_PID")
NOTE = "faceforge_run"  # a file in the agent's folder
PORTS = range(15000, 31000)  # below those that systems give to clients


@dataclass(frozen=True)
class Launch:
    """Who started this process, and which of how many it is: ``processes`` on each of ``nodes`` machines.

    ``address`` and ``port`` are where all ranks meet; ``served``: the agent of torchrun serves there, else rank 0.
    ``notes`` is a folder of torchrun's agent that outlives restarts, ``attempt`` counts them.
    """

    by: Literal["faceforge", "torchrun", "srun"] = "faceforge"
    node: int = 0
    nodes: int = 1
    local_rank: int = 0
    processes: int = 1
    address: str = "127.0.0.1"
    port: int = 0
    served: bool = False
    attempt: int = 0
    notes: Path | None = None
    even: bool = True  # every machine has as many processes

    @property
    def outside(self) -> bool:
        """Whether each rank was started from outside, so that none is started here."""
        return self.by != "faceforge"

    @property
    def option(self) -> str:
        """The option that says how many processes each machine starts."""
        return "--nproc-per-node" if self.by == "torchrun" else "--ntasks-per-node"

    @property
    def rank(self) -> int:
        """The rank among all; machine by machine, however SLURM has distributed its tasks."""
        return self.node * self.processes + self.local_rank

    @property
    def world(self) -> int:
        """The number of ranks that were started from outside; 1 if none was."""
        return self.nodes * self.processes


_in_force: list[Launch] = []


def current() -> Launch:
    """The decision in force; this program where none was made."""
    return _in_force[-1] if _in_force else Launch()


@contextmanager
def own_ranks() -> Iterator[Launch]:
    """Decide once, then hide the rank variables from Lightning and torch, which would believe them.

    Within this context the decision stands. A process that a training started takes its rank from there.
    """
    ours = multiprocessing.parent_process() is not None
    if _in_force or ours:
        yield current()
        return
    _in_force.append(decide(os.environ))
    if current().outside:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else a rank that is gone is a page of addresses
    before = {name: os.environ.pop(name) for name in filter(RANKS.fullmatch, list(os.environ))}
    try:
        yield current()
    finally:
        _in_force.pop()
        for name in filter(RANKS.fullmatch, list(os.environ)):
            del os.environ[name]
        os.environ.update(before)


def remember(launch: Launch, folder: Path) -> None:
    """Note the run's folder where torchrun's agent finds it when it starts the ranks again."""
    if launch.notes and launch.notes.is_dir():
        (launch.notes / NOTE).write_text(str(folder.resolve()), encoding="utf-8")


def recalled(launch: Launch) -> str | None:
    """The folder of the run that torchrun has restarted."""
    if launch.attempt and launch.notes and (launch.notes / NOTE).is_file():
        return (launch.notes / NOTE).read_text(encoding="utf-8")
    return None


def decide(environment: Mapping[str, str]) -> Launch:
    """Who started a process with this environment. torchrun first: SLURM may have started its agents."""
    return _by_torchrun(environment) or _by_srun(environment) or Launch()


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> list[int] | None:
    """The values of variables that all must be whole numbers; None otherwise."""
    values = [environment.get(name, "") for name in names]
    return [int(value) for value in values] if all(value.isdecimal() for value in values) else None


def _by_torchrun(environment: Mapping[str, str]) -> Launch | None:
    numbers = _numbers(environment, TORCHRUN)
    if not numbers or "TORCHELASTIC_RUN_ID" not in environment or not _has_agent():
        return None
    rank, world, node, nodes, processes, port = numbers
    error_file = environment.get("TORCHELASTIC_ERROR_FILE")  # AGENT'S FOLDER/attempt_0/0/error.json
    restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "")
    return Launch(
        "torchrun",
        node,
        nodes,
        rank - node * processes,  # LOCAL_RANK is 0 everywhere under --virtual-local-rank
        processes,
        environment.get("MASTER_ADDR", "127.0.0.1"),
        port,
        served=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=int(restarts) if restarts.isdecimal() else 0,
        notes=Path(error_file).parents[2] if error_file else None,
        even=nodes * processes == world,
    )


def _has_agent() -> bool:
    return any(Path(word).name in AGENTS for _, words in ancestors() for word in words[:4])


def _by_srun(environment: Mapping[str, str]) -> Launch | None:
    """A task of a step with several; a step with one task may start its own processes, as a batch script may."""
    numbers = _numbers(environment, tuple(f"SLURM_{name}" for name in STEP))
    if not numbers or numbers[2] < 2 or numbers[-1] not in {process for process, _ in ancestors()}:
        return None
    job, step, tasks, nodes, node, local_rank, _ = numbers
    nodelist, port = environment.get("SLURM_STEP_NODELIST", ""), environment.get("MASTER_PORT", "")
    host = "127.0.0.1" if nodes == 1 else first_host(nodelist)
    each = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    return Launch(
        "srun",
        node,
        nodes,
        local_rank,
        tasks // nodes,
        environment.get("MASTER_ADDR") or host,
        int(port) if port.isdecimal() else PORTS[(31 * job + step) % len(PORTS)],
        even="," not in each and tasks % nodes == 0,
    )


def first_host(nodes: str) -> str:
    """The first of SLURM's list of machines: ``gpu-[07-09,12],b1`` gives ``gpu-07``."""
    found = re.match(r"[^,\[]*(?:\[[^\],-]+)?", nodes)
    return found[0].replace("[", "") if found else ""
