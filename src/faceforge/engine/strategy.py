"""Training with several processes: how they start, share gradients, and report a process that died."""

from __future__ import annotations

import re

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge.engine.guard import NotFinite
from faceforge.errors import BadInput, GuardStop


class Ranks(DDPStrategy):
    """Each process holds the whole, unwrapped module; ``share_gradients`` of the schemes averages gradients.

    DistributedDataParallel averages the gradients of all networks after each backward pass, though a step of one
    network concerns no other, and needs to look for those that were not used. Started by spawn, never by running the
    command line again, which a multirun would sweep a second time.
    """

    def __init__(self, device: torch.device) -> None:
        backend = distributed.get_default_backend_for_device(device)
        super().__init__(start_method="spawn", process_group_backend=backend)

    def configure_ddp(self) -> None:
        """Nothing to broadcast: all ranks have the same weights, from the seed or a checkpoint."""


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
