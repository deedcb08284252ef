"""`faceforge ema`: the average of a GAN's generator of any length, chosen on validation faces after the training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from faceforge import counter_rng, words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.errors import BadInput
from faceforge.evaluation import extractors, opened
from faceforge.metrics.kid import KidMonitor
from faceforge.schemes.adversarial import AdversarialModule
from faceforge.schemes.power_averages import FOLDER, Stored, require_length

LENGTHS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.25)
NAME = "ema.ckpt"  # beside last.ckpt


@dataclass(frozen=True)
class Options:
    """The command's options."""

    run: Path
    lengths: Sequence[float]
    count: int
    seed: int
    data_root: Path | None
    trusted: Sequence[str] = ()


def choose(asked: Options) -> None:
    """Print KID of every length on validation faces; write the best average as a checkpoint. Raises BadInput."""
    if asked.count < 3:
        raise BadInput(f"--count {asked.count}: must be at least 3")
    path = checkpoint.find(asked.run, "last")
    folder, record = opened.record_of(path)
    module = checkpoint.load(path, asked.trusted)
    if not isinstance(module, AdversarialModule):
        raise BadInput(f"{asked.run}: is not a GAN; only these keep averages of several lengths")
    stored = Stored(folder / FOLDER)
    lengths = asked.lengths or LENGTHS
    for length in lengths:
        require_length(length)
    node = opened.data_node(folder, module.config, record, asked.data_root)
    scorer = _Scorer(module, opened.data_of(folder, node, record, asked.trusted), asked)
    print(f"KID of {scorer.count:,} faces against as many validation faces, averages of {stored.images:,} images:")
    print(f"  {'as trained':>10}  {scorer.score():.4f}")
    scores: dict[float, float] = {}
    for length in lengths:
        scores[length] = scorer.score(stored.average(length))
        print(f"  {length:>10g}  {scores[length]:.4f}")
    best = min(scores, key=scores.__getitem__)
    written = _write(path, stored.average(best), stored.images)
    print(f"the average of length {best:g} is in {written}, which every command takes instead of the run")
    print(f"To see its faces:  {words.faceforge('generate', written)}")


class _Scorer:
    """KID of the module's averaged generator with any weights."""

    def __init__(self, module: AdversarialModule, data: FaceData, asked: Options) -> None:
        self.count, self.seed = min(asked.count, data.counts["val"]), asked.seed
        if self.count < 3:
            raise BadInput(f"{asked.run}: has {self.count} validation faces; choosing a length takes at least 3")
        self.module = module.to(devices.best())
        (features,) = extractors.build((), devices.best(), (module.config.get("evaluation") or {}).get("features"))
        chosen = counter_rng.permutation(asked.seed, "ema", 0, data.counts["val"])[: self.count]
        self._kid = KidMonitor(data.images("val", chosen).to(module.device), features=features.for_training())

    def score(self, weights: dict[str, Tensor] | None = None) -> float:
        """KID with these weights, or the present ones."""
        if weights is not None:
            _load(self.module, weights)
        return self._kid(self.module.sample(self.count, self.seed)).value


def _load(module: AdversarialModule, weights: dict[str, Tensor]) -> None:
    try:
        module.average.load_state_dict(weights)
    except RuntimeError:
        raise BadInput(f"{FOLDER}: holds averages of another network than the run's; remove them") from None


def _write(path: Path, weights: dict[str, Tensor], images: int) -> Path:
    """The last checkpoint with another average. Raises BadInput if it is not the one of the averages."""
    content = checkpoint.read(path)
    if content["clock"]["images"] != images:
        seen = content["clock"]["images"]
        raise BadInput(f"{path}: has seen {seen:,} images, the last averages {images:,}; both must be of one moment")
    for name, value in weights.items():
        content["state_dict"][f"average.{name}"] = value
    target = path.with_name(NAME)
    checkpoint.write_beside(content, target)
    return target
