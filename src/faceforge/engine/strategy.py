"""Training with several processes: how Lightning sees them, and how a process that died is reported."""

from __future__ import annotations

import os
import re

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge.engine import devices, messages
from faceforge.engine.cluster import Launch
from faceforge.engine.group import Group
from faceforge.engine.guard import NotFinite
from faceforge.engine.plan import Plan
from faceforge.errors import BadInput, GuardStop
from faceforge.io.workers import cores


class Ranks(DDPStrategy):
    """Each process holds the whole, unwrapped module; the ``exchange`` of the scheme averages gradients.

    DistributedDataParallel averages the gradients of all networks after each backward pass, though a step of one
    network concerns no other, and needs to look for those that were not used. Started by spawn, never by running the
    command line again, which a multirun would sweep a second time.
    """

    def __init__(self, device: torch.device) -> None:
        backend = distributed.get_default_backend_for_device(device)
        super().__init__(start_method="spawn", process_group_backend=backend)
        self.threads = torch.get_num_threads()

    def __setstate__(self, state: dict[str, object]) -> None:
        """In a rank that was started: it has none of its parent's filters."""
        super().__setstate__(state)
        messages.filter_warnings()

    def setup_environment(self) -> None:
        """On as many threads as the run has written down, whatever Lightning gives to the ranks that it starts."""
        super().setup_environment()
        devices.use_threads(self.threads)

    def configure_ddp(self) -> None:
        """Nothing to broadcast: all ranks have the same weights, from the seed or a checkpoint."""


class Outside(LightningEnvironment):
    """What Lightning asks of the place where ranks were started. Named explicitly, else it believes any variable, and
    under SLURM saves and requeues within a signal handler.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__()
        self.launch = launch

    @property
    def creates_processes_externally(self) -> bool:
        """Yes."""
        return True

    def global_rank(self) -> int:
        """The rank among all."""
        return self.launch.rank

    def local_rank(self) -> int:
        """The rank on this machine."""
        return self.launch.local_rank

    def node_rank(self) -> int:
        """The number of this machine."""
        return self.launch.node

    def world_size(self) -> int:
        """The number of all ranks."""
        return self.launch.world

    def set_global_rank(self, rank: int) -> None:
        """Given from outside."""

    def set_world_size(self, size: int) -> None:
        """Given from outside."""


class OutsideRanks(Ranks):
    """A rank that was started from outside: this process, with the one device that it uses."""

    def __init__(self, device: torch.device, group: Group) -> None:
        super().__init__(device)
        self.group = group

    @property
    def root_device(self) -> torch.device:
        """The device of this process, the only one that its Trainer knows."""
        assert self.parallel_devices is not None
        return self.parallel_devices[0]

    def set_world_ranks(self) -> None:
        """Who logs."""
        rank_zero_only.rank = self.global_rank  # pyright: ignore[reportFunctionMemberAccess]

    def _configure_launcher(self) -> None:
        """None: the ranks run already."""

    def setup_distributed(self) -> None:
        """Messages between the ranks begin once, also where a fit follows a rollback."""
        self.set_world_ranks()
        assert self.process_group_backend is not None
        self.group.start_messages(self.process_group_backend, self.root_device)


class NoHandlers(_SignalConnector):
    """In place of Lightning's handlers, which broadcast between ranks, or save and requeue, in the middle of a step.

    Ours only note the signal (engine/signals.py).
    """

    def register_signal_handlers(self) -> None:
        """None."""


def share_cores(plan: Plan, threads: int) -> None:
    """Compute on ``threads`` cores; several ranks that this program starts share those there are, unless
    OMP_NUM_THREADS is set.
    """
    shares = plan.world > 1 and not plan.launch.outside and "OMP_NUM_THREADS" not in os.environ
    devices.use_threads(max(1, min(threads, cores() // plan.world)) if shares else threads)


def environment(plan: Plan) -> LightningEnvironment:
    """Where the ranks of a plan were started; by this program unless from outside."""
    return Outside(plan.launch) if plan.launch.outside else LightningEnvironment()


def own_devices(plan: Plan) -> int | list[int]:
    """Which devices the Trainer of this process uses: those of all ranks that it starts, or the one of its own."""
    if not plan.launch.outside:
        return plan.world
    return [plan.device.index] if plan.gpus else 1


def strategy(plan: Plan, group: Group | None) -> Strategy:
    """How the ranks of a plan train together; ``group`` where they were started from outside."""
    if group is not None:
        return OutsideRanks(plan.device, group)
    return Ranks(plan.device) if plan.world > 1 else SingleDeviceStrategy(plan.device)


def raised_in_rank(error: ProcessRaisedException) -> Exception:
    """The error that ended a rank, from the end of its traceback; unknown errors are kept unchanged."""
    kinds = {f"{kind.__module__}.{kind.__name__}": kind for kind in (BadInput, GuardStop, NotFinite)}
    kinds |= {kind.__name__: kind for kind in (OSError, PermissionError, FileNotFoundError)}
    names = "|".join(map(re.escape, kinds))
    raised = list(re.finditer(rf"^({names}): ", str(error), re.MULTILINE))
    last = str(error).rfind("\nTraceback (most recent call last):")
    if not raised or raised[-1].start() < last:
        return error
    text = str(error)[raised[-1].end() :].strip()
    return kinds[raised[-1][1]](text)


def killed(error: ProcessExitedException) -> GuardStop:
    """The error for a rank that was killed, most often for lack of memory."""
    how = error.signal_name or f"exit code {error.exit_code}"
    return GuardStop(f"rank {error.error_index} was ended by {how} (out of memory?); the last checkpoint is valid")
