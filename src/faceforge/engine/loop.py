"""How a trainer runs steps: Lightning's way around them (devices, precision, ranks, checkpoints), a plain loop within.

Lightning's own loop spends a third of a millisecond a step on hooks, profilers and progress that nothing here uses,
and with several ranks waits for all of them at every step.
"""

from __future__ import annotations

from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop


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
