"""Why scores of `faceforge score` may mislead, in words: counts, copies, compression, framing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from faceforge.cut.framing import measure
from faceforge.evaluation.alike import framed_otherwise, looked_at
from faceforge.evaluation.score_pictures import Pictures, copies, repeated
from faceforge.io.images import from_uint8
from faceforge.metrics.table import metric_of

FID_COUNT = 50_000  # pictures, the usual
OF_COUNTS = ("precision", "recall", "density", "coverage", "swd")  # scores that depend on counts


def cautions(made: Pictures, real: Pictures, names: Sequence[str]) -> list[str]:
    """One sentence for each reason why the scores called ``names`` may mislead."""
    said = [*_count_cautions(len(made.names), len(real.names), names), *_copy_cautions(made, real)]
    if jpegs := made.kinds["JPEG"]:
        whole = f"{jpegs:,} of {len(made.names):,} generated pictures are JPEG"
        said.append(f"{whole}: compression alone changes FID and KID (Parmar et al. 2022); save PNG.")
    for which, pictures in (("generated", made), ("real", real)):
        if pictures.unreadable:
            first = "; ".join(f"{name}: {why}" for name, why in pictures.unreadable[:3])
            said.append(f"{len(pictures.unreadable):,} {which} pictures cannot be read and are left out ({first}).")
        if pictures.enlarged > 1:
            said.append(f"The {which} pictures are enlarged {pictures.enlarged:.1f} times.")
        if pictures.asked < pictures.there:
            said.append(f"{pictures.asked:,} of {pictures.there:,} {which} pictures were chosen (--count).")
    if line := _framing_caution(made, real):
        said.append(line)
    return said


def _count_cautions(made: int, real: int, names: Sequence[str]) -> list[str]:
    metrics = {metric_of(name) for name in names}
    counts, said = f"{made:,} generated and {real:,} real pictures", []
    if "fid" in metrics and min(made, real) < FID_COUNT:
        said.append(
            f"FID is too high with few pictures: here {counts}, usually {FID_COUNT:,}; compare at equal counts only."
        )
    if metrics & set(OF_COUNTS):
        said.append(
            f"All scores but KID and diversity depend on counts: here {counts}, half as many real ones in the last row."
        )
    return said


def _copy_cautions(made: Pictures, real: Pictures) -> list[str]:
    said = []
    if same := copies(made, real):
        example = f"{same[0][0]} is {same[0][1]}"
        said.append(
            f"{len(same):,} of {len(made.names):,} generated pictures are copies of real ones here ({example})."
        )
    for which, pictures in (("generated", made), ("real", real)):
        if again := repeated(pictures):
            said.append(f"{again:,} of {len(pictures.names):,} {which} pictures repeat another one.")
    return said


def _framing_caution(made: Pictures, real: Pictures) -> str:
    """Where faces lie otherwise, which changes all scores; a model may do that too, so it is no reason to refuse."""
    places = []
    for pictures in (made, real):
        chosen = pictures.pixels[looked_at(len(pictures.names))]
        places.append(measure(from_uint8(torch.from_numpy(chosen))))
    if None in places:
        return ""
    line = framed_otherwise(places[1], places[0], "the generated faces", "the real ones")
    return f"Framing differs: {line}; were both cropped alike?" if line else ""
