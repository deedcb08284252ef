"""`faceforge directions`: makes the faces of a GAN editable, and photos through it.

A predictor learns the attributes from the run's training faces and labels faces that the GAN generates; their z give
the directions. An encoder is trained for the GAN. Both go into the run folder, from which all commands take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from faceforge import words
from faceforge.cut import framing
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.progress import Bar
from faceforge.errors import BadInput
from faceforge.evaluation import labelled, opened, principal
from faceforge.evaluation.generated import decoded
from faceforge.evaluation.principal import Principal
from faceforge.io.images import make_grid, write_png
from faceforge.metrics.pairs import psnr
from faceforge.schemes import directions, inversion
from faceforge.schemes.abilities import Samples
from faceforge.schemes.base import Scheme
from faceforge.schemes.inversion import GanCodes
from faceforge.schemes.latent_space import GENERATED, LatentSpace
from faceforge.studio.model import named

PICTURE = "directions.png"
STEPS = 1500  # of the encoder's training
CHECKED = 64  # held-out faces on which the encoder is tried
OPTIMISED = 100  # steps with which it is tried too
SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)  # strengths in the picture
FACES = 2  # of the picture, beside one another


@dataclass(frozen=True)
class Options:
    """The command's options."""

    run: Path
    steps: int = STEPS
    count: int = labelled.COUNT
    seed: int = 0
    overwrite: bool = False
    data_root: Path | None = None
    trusted: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """The file that was written, and what was found, in lines."""

    path: Path
    space: LatentSpace
    said: Sequence[str]


def run(asked: Options) -> None:
    """Make directions and encoder, and say what was found. Raises BadInput."""
    found = make(asked)
    print("\n".join(found.said))
    print(f"directions and encoder: {found.path}; what each does: {found.path.with_name(PICTURE)}")
    name = next(iter(found.space.names))
    print(f"To change a face:  {words.faceforge('edit', asked.run, 'photo.jpg', f'{name}=1')}")


def make(asked: Options) -> Found:
    """Make directions and encoder of a run of a GAN, and write them to its folder. Raises BadInput."""
    if asked.steps < 1 or asked.count < 2 * labelled.FEWEST:
        least = f"must be at least 1 and {2 * labelled.FEWEST}"
        raise BadInput(f"--steps {asked.steps}, --count {asked.count}: {least}")
    path = checkpoint.find(asked.run, "best")
    folder, record = opened.record_of(path)
    file = folder / directions.NAME
    if file.exists() and not asked.overwrite:
        raise BadInput(f"{file}: already exists; use --overwrite to replace it")
    digest = opened.digest_of(path)
    gan = _gan(asked.run, checkpoint.load(path, asked.trusted)).to(devices.best())
    inversion.size_of(gan)
    data = opened.data_of(folder, opened.data_node(folder, gan.config, record, asked.data_root), record, asked.trusted)
    made = {"split": GENERATED, "count": asked.count, "checkpoint": digest, "manifest": data.manifest}
    with Bar(asked.count + asked.steps * 2 * inversion.BATCH) as bar:
        found = _found(gan, data, asked, {**made, "seed": asked.seed}, bar)
    directions.Directions(found.space, found.codes.encoder).save(file)
    write_png(picture(found.codes, found.space), file.with_name(PICTURE))
    return Found(file, found.space, found.said)


def _gan(run: Path, module: Scheme) -> Samples:
    if not isinstance(module, Samples):
        right = named("model", lambda scheme: issubclass(scheme, Samples))
        raise BadInput(f"{run}: makes no faces of noise, and so has no directions to find; must be a run of {right}")
    return module


@dataclass(frozen=True)
class _Made:
    space: LatentSpace
    codes: GanCodes
    said: list[str]


def _found(gan: Samples, data: FaceData, asked: Options, made: dict[str, object], bar: Bar) -> _Made:
    place = framing.parse(gan.framing) or framing.of_training_faces(data)
    bar.note("learning the attributes of the training faces")
    predictor, accuracies, reasons = labelled.taught(data, asked.seed, gan.device, bar.note)
    faces = labelled.label(gan, predictor, asked.count, asked.seed, bar.add)
    if not faces.faces.std(0).any():
        raise BadInput(f"{asked.run}: makes one and the same face of every z, and so has no directions")
    kept = [n for n in range(len(faces.names)) if _enough(faces, n, reasons)]
    names = [faces.names[n] for n in kept]
    codes = inversion.fit_encoder(gan, data, asked.steps, asked.seed, bar.add)
    bar.note("directions")
    space = LatentSpace.of_codes(
        faces.codes,
        codes.code_range,
        (names, faces.labels[:, kept]),
        {**made, "has_prior": codes.has_prior, "framing": place},
    )
    rest = principal.directions(faces, partial(decoded, codes), predictor, place)
    bar.note("trying the encoder on held-out faces")
    lines = [_of_label(faces, n, accuracies) for n in kept] + [_of_principal(one) for one in rest]
    lines += [f"left out: {name}: {reason}" for name, reason in reasons.items()]
    space = space.with_principal({one.name: one.direction for one in rest})
    return _Made(space, codes, [*lines, _tried(codes, data)])


def _enough(faces: labelled.Labelled, n: int, reasons: dict[str, str]) -> bool:
    having, lacking = (int((faces.labels[:, n] == value).sum()) for value in (1, 0))
    if min(having, lacking) >= labelled.FEWEST:
        return True
    found = f"{having:,} generated faces surely have it and {lacking:,} lack it"
    reasons[faces.names[n]] = f"{found}; must be {labelled.FEWEST} of each (--count makes more)"
    return False


def _of_label(faces: labelled.Labelled, n: int, accuracies: dict[str, float]) -> str:
    share = float(np.nanmean(faces.labels[:, n]))
    name = faces.names[n]
    return f"{name}: seen in {share:.0%} of the generated faces; correct on {accuracies[name]:.0%} of held-out faces"


def _of_principal(one: Principal) -> str:
    moves = f", moves that by {one.effect:.1f} standard deviations" if one.effect else ""
    return f"{one.name}: {one.share:.0%} of the differences between generated faces{moves}"


def _tried(codes: GanCodes, data: FaceData) -> str:
    """How near the encoder comes to faces that nothing was trained on, in words."""
    split = "test" if data.counts["test"] else "val"
    if not data.counts[split]:
        return "no held-out faces to try the encoder on"
    faces = data.images(split, range(min(CHECKED, data.counts[split])))
    mean = data.images("train", range(min(1000, data.counts["train"]))).mean(0, keepdim=True)
    there = faces.to(codes.device)
    found = mean.expand_as(faces), decoded(codes, codes.encode(there)), decoded(codes, codes.invert(there, OPTIMISED))
    flat, guessed, nearer = (float(psnr((images + 1) / 2, (faces + 1) / 2).mean()) for images in found)
    return (
        f"held-out faces through the GAN: {guessed:.1f} dB of PSNR by the encoder, {nearer:.1f} dB after {OPTIMISED} "
        f"steps; the mean face has {flat:.1f} dB"
    )


def picture(codes: GanCodes, space: LatentSpace) -> np.ndarray:
    """What each direction does: a row for each, two faces at strengths from -2 to 2; uint8 (H, W, C)."""
    rows = []
    z = space.sample("gaussian", FACES, truncation=0.7)
    for name in space.names:
        moved = torch.cat([space.edit(z, {name: strength}) for strength in SHOWN])
        rows.append(decoded(codes, moved).unflatten(0, (len(SHOWN), FACES)).transpose(0, 1).flatten(0, 1))
    return make_grid(torch.cat(rows), columns=FACES * len(SHOWN))
