"""All scores of a run."""

from __future__ import annotations

from collections.abc import Sequence

from faceforge.evaluation import told
from faceforge.evaluation.baselines import Fitting
from faceforge.evaluation.generated import row_count, score_generated
from faceforge.evaluation.images import score_images
from faceforge.evaluation.judged import Judged, Part, Tick, chunk_size
from faceforge.losses import OfFrozen
from faceforge.metrics.features import Extractor, Features
from faceforge.metrics.features.base import Maps
from faceforge.metrics.identity import Similarity
from faceforge.metrics.table import label
from faceforge.schemes.abilities import Generates, Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.supervised import PairedScheme

GENERATED = 1000  # default number of faces


def evaluate(
    module: Scheme,
    judged: Judged,
    others: Judged,
    count: int | None,
    seed: int,
    tick: Tick,
    extractors: Sequence[Extractor] = (),
    self_ensemble: bool = False,
) -> Part:
    """All scores that apply to a module, of generated faces by each extractor (by default EfficientNet-lite0).

    ``others`` are faces of other people, for the row of real faces. If they are of another set, it is the one that the
    run learned from, and baselines are fitted to it. ``tick`` receives the number of finished faces.
    """
    fitting = Fitting(others.data, seed, max(1, chunk_size(judged.data) // 4))
    whole = Part()
    if isinstance(module, PairedScheme):
        _join(whole, score_images(module, judged, fitting, seed, tick, self_ensemble=self_ensemble))
    if isinstance(module, Generates):
        count = min(count or GENERATED, len(judged.places))
        some, extractors = (judged.some(count, seed), others.some(count, seed)), extractors or [Features()]
        _join(whole, score_generated(module, *some, fitting, seed, tick, extractors))
    if isinstance(module, Samples) and module.labels:
        _join(whole, told.score_told(module, fitting.data, seed, tick))
    _say_which_are_trained_on(module, whole)
    return whole


def _say_which_are_trained_on(module: Scheme, whole: Part) -> None:
    """Mark the scores whose network is also in the model's training loss: a model learns to please it."""
    networks = [loss.network for loss in module.modules() if isinstance(loss, OfFrozen)]
    losses = {net.weights_sha256: net.name for net in networks if isinstance(net, Maps | Similarity)}
    shas = {name: about.get("weights_sha256") for name, about in whole.protocols.items()}
    found = {name: losses[sha] for name, sha in shas.items() if sha in losses}
    for name, network in found.items():
        whole.protocols[name]["caution"] = f"{network} is also in the training loss"
    for row in whole.rows:
        if row["kind"] == "model" and (trained := sorted(found.keys() & row["scores"].keys())):
            row["trained_on"] = trained
    if found:
        labels = ", ".join(dict.fromkeys(map(label, found)))
        whole.notes.append(f"The model was trained with the network of these scores, which flatters them: {labels}.")


def work(module: Scheme, judged: Judged, count: int | None, extractors: int = 1) -> int:
    """The total number of faces reported to ``tick``, generated ones once for each extractor."""
    images = len(judged.places) if isinstance(module, PairedScheme) else 0
    made = row_count(module)
    rows = made + 4 if made else 0  # two baselines, real faces, those of other people
    asked = told.work(module.labels) if isinstance(module, Samples) else 0
    return images + extractors * rows * min(count or GENERATED, len(judged.places)) + asked


def _join(whole: Part, part: Part) -> None:
    for name, value in vars(part).items():
        if isinstance(value, list):
            getattr(whole, name).extend(value)
        else:
            getattr(whole, name).update(value)
