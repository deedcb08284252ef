"""All scores of a run."""

from __future__ import annotations

from faceforge.evaluation.baselines import Fitting
from faceforge.evaluation.generated import row_count, score_generated
from faceforge.evaluation.images import score_images
from faceforge.evaluation.judged import Judged, Part, Tick, chunk_size
from faceforge.schemes.abilities import Generates
from faceforge.schemes.base import Scheme
from faceforge.schemes.supervised import PairedScheme

GENERATED = 1000  # default number of faces


def evaluate(module: Scheme, judged: Judged, others: Judged, count: int | None, seed: int, tick: Tick) -> Part:
    """All scores that apply to a module.

    ``others`` are faces of other people, for the row of real faces. If they are of another set, it is the one that the
    run learned from, and baselines are fitted to it. ``tick`` receives the number of finished faces.
    """
    fitting = Fitting(others.data, seed, max(1, chunk_size(judged.data) // 4))
    whole = Part()
    if isinstance(module, PairedScheme):
        _join(whole, score_images(module, judged, fitting, seed, tick))
    if isinstance(module, Generates):
        count = min(count or GENERATED, len(judged.places))
        _join(whole, score_generated(module, judged.some(count, seed), others.some(count, seed), fitting, seed, tick))
    return whole


def work(module: Scheme, judged: Judged, count: int | None) -> int:
    """The total number of faces reported to ``tick``."""
    images = len(judged.places) if isinstance(module, PairedScheme) else 0
    made = row_count(module)
    rows = made + 4 if made else 0  # two baselines, real faces, those of other people
    return images + rows * min(count or GENERATED, len(judged.places))


def _join(whole: Part, part: Part) -> None:
    for name, value in vars(part).items():
        if isinstance(value, list):
            getattr(whole, name).extend(value)
        else:
            getattr(whole, name).update(value)
