"""`faceforge score`: a folder of generated pictures against a folder of real ones, of any model."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import faceforge
from faceforge import words
from faceforge.data.framing import RESIZE, check_crop
from faceforge.engine import devices
from faceforge.engine.progress import Bar
from faceforge.engine.run import now, sources_commit, write_atomic
from faceforge.errors import BadInput
from faceforge.evaluation import comparison, extractors, written
from faceforge.evaluation.generated import Reals
from faceforge.evaluation.judged import Part
from faceforge.evaluation.paired import score_paired
from faceforge.evaluation.score_notes import cautions
from faceforge.evaluation.score_pictures import (
    ASPECT,
    Pictures,
    Size,
    copies,
    manifest_of,
    matched,
    read_pictures,
    repeated,
)
from faceforge.io.images import DECODE, from_uint8
from faceforge.io.storage import cache_root
from faceforge.metrics.features import Extractor
from faceforge.metrics.table import label, metric_of
from faceforge.metrics.units import Groups
from faceforge.types import Json

MOST = 5000  # pictures a side, unless told
LEAST = 3  # for any score
LISTED = 20  # names in the result


@dataclass(frozen=True)
class Options:
    """The command's options."""

    generated: Path
    real: Path
    features: Sequence[str] = ()
    size: int | None = None
    crop: str = "none"
    count: int = MOST
    seed: int = 0
    paired: bool = False
    force: bool = False
    out: Path | None = None
    overwrite: bool = False


def score(asked: Options) -> None:
    """Score pictures against pictures, print the table, and write the result where asked. Raises BadInput."""
    _check(asked)
    device = devices.best()
    found = extractors.build(asked.features, device)
    size = (asked.size, asked.size) if asked.size else None
    made = read_pictures(asked.generated, "GENERATED", "none", size, asked.count, asked.seed, bool(size))
    height, width = made.pixels.shape[2:]
    real = read_pictures(asked.real, "REAL", asked.crop, (height, width), asked.count, asked.seed, bool(size))
    _require_enough(made, real)
    differences = unlike(made, real)
    if differences and not asked.force:
        raise BadInput(f"{asked.generated}: {'; '.join(differences)}. --force scores them all the same and says so")
    pairs = matched(made, real) if asked.paired else []
    part = _scored(asked, made, real, found, device)
    if pairs:
        part = score_paired(part, _channels(made, real), _channels(real, made), pairs, real.people, asked.seed, device)
    result = _result(asked, made, real, part, differences)
    if asked.out:
        write_atomic(asked.out, json.dumps(result, indent=1) + "\n")
    print("\n".join([*_sides_said(result), *written.tables_said(result), *_out_said(asked)]))


# ------------------------------------------------------------------------------------------------- checks


def _check(asked: Options) -> None:
    """What needs no picture to be seen. Raises BadInput."""
    if asked.count < LEAST:
        raise BadInput(f"--count {asked.count}: must be at least {LEAST}, scores need {LEAST} pictures a side")
    if asked.size is not None and asked.size < 1:
        raise BadInput(f"--size {asked.size}: must be at least 1 pixel")
    try:
        check_crop(asked.crop)
    except BadInput as error:
        raise BadInput(str(error).replace("data.crop=", "--crop ")) from error
    if asked.out and asked.out.exists() and not asked.overwrite:
        raise BadInput(f"{asked.out}: already exists; use --overwrite to replace it")
    sides = asked.generated.expanduser().resolve(), asked.real.expanduser().resolve()
    for inner, outer, names in ((*sides, "GENERATED lies in REAL"), (*sides[::-1], "REAL lies in GENERATED")):
        if inner != outer and inner.is_relative_to(outer) and inner.exists():
            raise BadInput(f"{inner}: {names}, whose pictures would be among its own; move one of them")


def _require_enough(made: Pictures, real: Pictures) -> None:
    for side, pictures in (("GENERATED", made), ("REAL", real)):
        if len(pictures.names) < LEAST:
            found = f"{len(pictures.names)} readable pictures"
            raise BadInput(
                f"{side} {pictures.path}: {found}; KID and FID need at least {LEAST} a side, better thousands"
            )
    people = {name if name is not None else n for n, name in enumerate(real.people)}
    if len(people) < LEAST:
        raise BadInput(f"REAL {real.path}: pictures of {len(people)} people; KID needs at least {LEAST}")


def unlike(made: Pictures, real: Pictures) -> list[str]:
    """One sentence for everything that makes scores of the two sides meaningless."""
    found = []
    if made.is_grey != real.is_grey:
        found.append(
            "its pictures are " + ("grey, the real ones in colour" if made.is_grey else "in colour, the real ones grey")
        )
    for which, pictures in (("its pictures would", made), ("the real pictures, unless --crop is named, would", real)):
        if pictures.stretched > ASPECT:
            found.append(f"{which} be stretched by {pictures.stretched - 1:.0%}")
    if real.enlarged > max(1.0, made.enlarged):
        found.append(f"the real pictures would be enlarged {real.enlarged:.1f} times")
    return found


# ------------------------------------------------------------------------------------------------- scoring


@dataclass(frozen=True)
class AsFaces:
    """Real pictures as faces that are scored against; their features are kept in the cache."""

    pictures: Pictures
    tensor: torch.Tensor

    @property
    def groups(self) -> Groups:
        """As RealFaces.groups."""
        return self.pictures.people

    @property
    def key(self) -> Mapping[str, str]:
        """As RealFaces.key; the pixels are hashed as well."""
        return {"source": "pictures", "manifest": manifest_of(self.pictures), "resize": RESIZE}

    @property
    def folder(self) -> Path:
        """As RealFaces.folder."""
        return cache_root(None)

    def images(self) -> torch.Tensor:
        """As RealFaces.images."""
        return self.tensor


def _scored(
    asked: Options, made: Pictures, real: Pictures, features: Sequence[Extractor], device: torch.device
) -> Part:
    """The rows of the generated pictures and of half of the real ones against the other half."""
    with Bar(len(features) * (len(made.names) + len(real.names))) as bar:
        against = Reals(AsFaces(real, _channels(real, made)), features, device, asked.seed, bar.add)
        row = against.row("generated", "model", _channels(made, real))
    floor = against.halves()
    part = Part(rows=[row, floor], protocols=against.protocols)
    part.reasons = {name: why for name, why in against.reasons.items() if name not in row["scores"]}
    part.how = {"generated": str(made.path), floor["name"]: f"{real.path}: two halves, without common people if known"}
    part.verdict = _verdict(row, floor)
    return part


def _channels(pictures: Pictures, other: Pictures) -> torch.Tensor:
    """The images, in one channel if both sides are grey."""
    images = from_uint8(torch.from_numpy(pictures.pixels))
    return images[:, :1] if pictures.is_grey and other.is_grey else images


def _verdict(row: Mapping[str, Any], floor: Mapping[str, Any]) -> list[str]:
    """Whether the generated pictures can be told from real ones, in scores that do not depend on counts."""
    kids = [name for name in row["scores"] if metric_of(name) == "kid"]
    said = [] if any(name in floor["scores"] for name in kids) else ["There are too few real pictures for a floor."]
    for name in (name for name in kids if name in floor["scores"]):
        ours, theirs = row["scores"][name], floor["scores"][name]
        flag = comparison.of_intervals(name, ours, theirs)
        figures = f"{label(name)} {_interval(ours)}, real against real {_interval(theirs)}"
        end = "can be told from real ones" if flag is False else "cannot be told from real ones by this many pictures"
        said.append(f"The generated pictures {end} ({figures}).")
    return said


def _interval(cell: Mapping[str, float | None]) -> str:
    low, high = cell["low"], cell["high"]
    return f"{cell['value']:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else "")


# ------------------------------------------------------------------------------------------------- the result


def _result(asked: Options, made: Pictures, real: Pictures, part: Part, differences: Sequence[str]) -> Json:
    size: Size = (made.pixels.shape[2], made.pixels.shape[3])
    channels = 1 if made.is_grey and real.is_grey else 3
    protocol = {"size": list(size), "channels": channels, "crop": asked.crop, "decode": DECODE}
    resized = any(found != size for side in (made, real) for found in side.sizes)
    return {
        "faceforge": faceforge.__version__,
        **sources_commit(),
        "generated": _about(made),
        "real": {**_about(real), "people": len(set(real.people) - {None})},
        "protocol": {**protocol, "resize": RESIZE if resized else "none"},
        "rows": part.rows,
        "forced": list(differences),
        "verdict": [*written.forced(differences), *part.verdict],
        "protocols": part.protocols,
        "how": part.how,
        "reasons": part.reasons,
        "notes": cautions(made, real, list(part.protocols)),
        "copies": [list(pair) for pair in copies(made, real)[:LISTED]],
        "seed": asked.seed,
        "device": devices.name(min(1, devices.count())),
        "created": now(),
        "command": words.faceforge(*sys.argv[1:]),
    }


def _about(pictures: Pictures) -> Json:
    sizes = {f"{width}x{height}": count for (height, width), count in pictures.sizes.most_common(LISTED)}
    return {
        "path": str(pictures.path),
        "pictures": len(pictures.names),
        "there": pictures.there,
        "manifest": manifest_of(pictures),
        "sizes": sizes,
        "kinds": dict(pictures.kinds),
        "grey": pictures.grey,
        "repeated": repeated(pictures),
        "unreadable": [list(pair) for pair in pictures.unreadable],
    }


def _sides_said(result: Mapping[str, Any]) -> list[str]:
    made, real, protocol = result["generated"], result["real"], result["protocol"]
    people = f" of {real['people']:,} people" if real["people"] else ", people unknown"
    height, width = protocol["size"]
    form = f"{width}x{height} pixels, {'grey' if protocol['channels'] == 1 else 'colour'}"
    how = f"crop of the real ones {protocol['crop']}, resize {protocol['resize']}"
    sides = f"{made['pictures']:,} generated pictures ({made['path']}) against {real['pictures']:,} real ones"
    return [f"{sides} ({real['path']}){people}; {form}; {how}"]


def _out_said(asked: Options) -> list[str]:
    if asked.out:
        more = words.faceforge("score", asked.generated, asked.real, "--features", "squeezenet")
        return ["", f"  scores  {asked.out}", f"To see whether another extractor agrees:  {more}"]
    kept = words.faceforge("score", asked.generated, asked.real, "--out", "scores.json")
    return ["", f"To keep the scores:  {kept}"]
