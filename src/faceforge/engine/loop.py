"""How a trainer runs steps: Lightning's way around them (devices, precision, ranks, checkpoints), a plain loop within.

Lightning's own loop spends a third of a millisecond a step on hooks, profilers and progress that nothing here uses,
and with several ranks waits for all of them at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed, nn


class PlainLoop(_TrainingEpochLoop):
    """One endless epoch. Of all hooks around a step it calls those of transfer, and ``on_train_batch_end`` of
    callbacks, which end training by ``trainer.should_stop``.
    """

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Steps, until a callback wants no more."""
        trainer, module = self.trainer, self.trainer.lightning_module
        source = trainer.datamodule or module  # type: ignore[attr-defined]
        device, within = trainer.strategy.root_device, trainer.precision_plugin.train_step_context
        for number, (batch, _, _) in enumerate(data_fetcher):
            batch = source.on_after_batch_transfer(source.transfer_batch_to_device(batch, device, 0), 0)
            with within():
                module.training_step(batch, number)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                callback.on_train_batch_end(trainer, module, None, batch, number)
            if trainer.should_stop:
                break


class Ranks(DDPStrategy):
    """Processes that each hold the whole module, bare; ``share`` makes them one.

    DistributedDataParallel averages the gradients of all networks after each backward pass, though a step of one
    network concerns no other, and needs to look for those that were not used. Started by spawn, never by running the
    command line again, which a multirun would sweep a second time.
    """

    def __init__(self, device: torch.device) -> None:
        backend = distributed.get_default_backend_for_device(device)
        super().__init__(start_method="spawn", process_group_backend=backend)

    def configure_ddp(self) -> None:
        """The weights are the same function of the seed, or of a checkpoint, everywhere."""

    @staticmethod
    def share(optimizer: torch.optim.Optimizer, networks: Iterable[nn.Module]) -> Callable[[], None]:
        """Send gradients, and the batch statistics of ``networks``; the result writes their means over all ranks back.

        All in one message, since each costs the same wait for the slowest rank.
        """
        tensors = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        tensors += [b for network in networks for b in network.buffers() if b.is_floating_point()]
        lines = [t.as_strided((t.numel(),), (1,), t.storage_offset()) for t in tensors]  # as they lie in memory
        flat = torch.cat(lines).div_(distributed.get_world_size())
        message = distributed.all_reduce(flat, async_op=True)
        assert message is not None

        def receive() -> None:
            message.wait()
            for line, part in zip(lines, flat.split([line.numel() for line in lines]), strict=True):
                line.copy_(part)

        return receive
