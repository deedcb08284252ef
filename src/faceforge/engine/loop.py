"""How a trainer runs steps: Lightning's own loop, or a lean one while nothing asks for what that leaves out.

Lightning's loop spends a third of a millisecond a step on hooks, profilers and progress, and with several ranks waits
for all of them at every step. Both train to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.utilities.model_helpers import is_overridden

# Hooks of a step that the lean loop does not call. on_train_batch_end it does, but without what `log` needs there.
LEFT_OUT = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_batch_transfer", "backward", "optimizer_step", "optimizer_zero_grad"),
)


class LeanLoop(_TrainingEpochLoop):
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


def needs_lightnings_loop(module: pl.LightningModule | None, callbacks: Iterable[pl.Callback]) -> bool:
    """Whether the lean loop would leave out something that somebody's callback or scheme asks for.

    A scheme of other people's may call ``self.log``. A callback with a true attribute ``lean`` needs no more than
    ``on_train_batch_end``.
    """
    if module is not None and not type(module).__module__.startswith("faceforge."):
        return True
    if module is not None and any(is_overridden(hook, module, pl.LightningModule) for hook in LEFT_OUT):
        return True
    others = [callback for callback in callbacks if not getattr(callback, "lean", False)]
    hooks = set(LEFT_OUT) & set(dir(pl.Callback))
    return any(is_overridden(hook, callback, pl.Callback) for callback in others for hook in hooks)
