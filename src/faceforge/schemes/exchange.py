"""Means of gradients over ranks: through memory that the ranks of one machine share, else by messages.

Gloo sends what the ranks of one machine exchange through the network stack: 5 MB took 4 to 8 ms beside training, and
time of the cores that train. In shared memory each rank writes its gradients and reads those of the others; one number
travels, by which all know that all have written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

MEMORY = Path("/dev/shm")  # where files are memory; elsewhere than on Linux there is none
MOST = 8  # ranks, each of which reads what all have written; a ring of messages reads the same for any number


class Exchange:
    """What the ranks of a run average, step after step, in the same order on all of them."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, torch.dtype], tuple[list[int], Tensor] | None] = {}

    def start(self, optimizer: torch.optim.Optimizer, networks: Iterable[nn.Module]) -> Callable[[], None]:
        """Send gradients, and the batch statistics of ``networks``; the result writes their means over all ranks back.

        All in one message, since each costs the same wait for the slowest rank.
        """
        tensors = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        tensors += [b for network in networks for b in network.buffers() if b.is_floating_point()]
        lines = [t.as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors]  # as they lie in memory
        slot = self._slot(lines)
        return _by_message(lines) if slot is None else _by_memory(lines, slot)

    def _slot(self, lines: Sequence[Tensor]) -> Tensor | None:
        """Where a message of these lines is written, (ranks, numbers); None where it must be sent.

        Messages of one length take turns between two places: when a rank writes into one again, all ranks have
        written into the other since, so they have read the first.
        """
        if lines[0].device.type != "cpu" or distributed.get_world_size() > MOST:
            return None
        key = sum(line.numel() for line in lines), reduce(torch.promote_types, (line.dtype for line in lines))
        if key not in self._slots:
            memory = shared_memory((2, distributed.get_world_size(), key[0]), key[1])
            self._slots[key] = None if memory is None else ([0], memory)
        known = self._slots[key]
        if known is None:
            return None
        turn, memory = known
        turn[0] ^= 1
        return memory[turn[0]]


def shared_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
    """A tensor that all ranks see, without a name that could be left behind; None if some rank cannot see it.

    Called by all ranks. Space is reserved first: writing into memory that is not there would kill the process.
    """
    size = torch.Size(shape).numel()
    path = MEMORY / f"faceforge-{uuid.uuid4().hex}"
    told: list[str | None] = [None]
    if distributed.get_rank() == 0 and _reserved(path, size * dtype.itemsize):
        told = [str(path)]
    distributed.broadcast_object_list(told)
    memory = _opened(told[0], size, dtype)
    seen = torch.tensor(float(memory is not None))
    distributed.all_reduce(seen, distributed.ReduceOp.MIN)
    path.unlink(missing_ok=True)
    return memory.view(shape) if memory is not None and seen else None


def _reserved(path: Path, size: int) -> bool:
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except (OSError, AttributeError):  # no such folder, no room, no such call
        return False
    return True


def _opened(path: str | None, size: int, dtype: torch.dtype) -> Tensor | None:
    if path is None or not Path(path).is_file():  # from_file would make it, on another machine
        return None
    try:
        return torch.from_file(path, shared=True, size=size, dtype=dtype)
    except RuntimeError:
        return None


def _by_message(lines: Sequence[Tensor]) -> Callable[[], None]:
    flat = torch.cat(list(lines)).div_(distributed.get_world_size())
    message = distributed.all_reduce(flat, async_op=True)
    assert message is not None

    def receive() -> None:
        message.wait()
        for line, part in zip(lines, flat.split([line.numel() for line in lines]), strict=True):
            line.copy_(part)

    return receive


def _by_memory(lines: Sequence[Tensor], slot: Tensor) -> Callable[[], None]:
    sizes = [line.numel() for line in lines]
    torch.cat(list(lines), out=slot[distributed.get_rank()])
    written = distributed.all_reduce(torch.zeros(1), async_op=True)
    assert written is not None

    def receive() -> None:
        written.wait()
        first, *others = (rank.split(sizes) for rank in slot)
        for n, line in enumerate(lines):
            line.copy_(first[n])
            for other in others:
                line.add_(other[n])
            line.div_(len(slot))

    return receive
