"""Training with several processes: how they start, share gradients, and report a process that died."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from faceforge.engine.guard import NotFinite
from faceforge.errors import BadInput, GuardStop


class Ranks(DDPStrategy):
    """Each process holds the whole, unwrapped module; ``share`` averages gradients.

    DistributedDataParallel averages the gradients of all networks after each backward pass, although a step updates
    only one network, and must search for unused parameters. Processes are started by spawn, never by running the
    command line again, which a multirun would sweep a second time.
    """

    def __init__(self, device: torch.device) -> None:
        backend = distributed.get_default_backend_for_device(device)
        super().__init__(start_method="spawn", process_group_backend=backend)

    def configure_ddp(self) -> None:
        """Nothing to broadcast: all ranks have the same weights, from the seed or a checkpoint."""

    @staticmethod
    def share(optimizer: torch.optim.Optimizer, networks: Iterable[nn.Module]) -> Callable[[], None]:
        """Start averaging gradients and the batch statistics of ``networks``; calling the result writes back the means.

        All in one message, since each message waits for the slowest rank.
        """
        tensors = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        tensors += [b for network in networks for b in network.buffers() if b.is_floating_point()]
        lines = [t.as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors]  # in memory order
        flat = torch.cat(lines).div_(distributed.get_world_size())
        message = distributed.all_reduce(flat, async_op=True)
        assert message is not None

        def receive() -> None:
            message.wait()
            for line, part in zip(lines, flat.split([line.numel() for line in lines]), strict=True):
                line.copy_(part)

        return receive


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
