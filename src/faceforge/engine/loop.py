"""The training loop: a lean one, or Lightning's own if anything needs a hook that the lean loop omits.

Lightning's loop spends a third of a millisecond per step on hooks, profilers and progress, and synchronises all ranks
at every step. Both train to the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.loops.fetchers import _DataFetcher
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.utilities.model_helpers import is_overridden

# Per-step hooks that the lean loop omits. It calls on_train_batch_end, but without what `log` needs there.
LEFT_OUT = (
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_before_batch_transfer", "backward", "optimizer_step", "optimizer_zero_grad"),
)


class LeanLoop(_TrainingEpochLoop):
    """One endless epoch. Per step it calls only the transfer hooks and ``Callback.on_train_batch_end``; callbacks end
    training with ``trainer.should_stop``.
    """

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Run steps until a callback stops training."""
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
    """Whether a callback or scheme needs a hook that the lean loop omits.

    A scheme from outside the package may call ``self.log``. A callback with ``lean = True`` needs only
    ``on_train_batch_end``.
    """
    if module is not None and not type(module).__module__.startswith("faceforge."):
        return True
    if module is not None and any(is_overridden(hook, module, pl.LightningModule) for hook in LEFT_OUT):
        return True
    others = [callback for callback in callbacks if not getattr(callback, "lean", False)]
    hooks = set(LEFT_OUT) & set(dir(pl.Callback))
    return any(is_overridden(hook, callback, pl.Callback) for callback in others for hook in hooks)
