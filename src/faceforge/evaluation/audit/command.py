"""`faceforge audit`: copied training faces, faces on both sides of the split, and who is served worse.

The sheet shows real people. It stays in the folder `audit/` of the run: no logger, report, export or artifact takes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from faceforge import counter_rng, words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.progress import Bar
from faceforge.engine.run import write_atomic
from faceforge.errors import BadInput
from faceforge.evaluation import opened
from faceforge.evaluation.audit import memory, people, served, spaces
from faceforge.evaluation.audit.sheet import Trio, draw_sheet
from faceforge.evaluation.command import Options
from faceforge.evaluation.judged import Judged, Tick
from faceforge.io.images import write_png
from faceforge.io.storage import is_writable
from faceforge.metrics.copies import Extracted
from faceforge.metrics.features import Extractor
from faceforge.report import write_report
from faceforge.schemes.abilities import Generates
from faceforge.schemes.base import Scheme
from faceforge.schemes.supervised import PairedScheme
from faceforge.types import Json

FOLDER, NAME, SHEET = "audit", "audit.json", "sheet.png"
GENERATED, FEWEST = 1000, 20
COPIES, BOTH, WORSE = "Copies of training faces", "Both sides of the split", "Who is served worse"


@dataclass
class Findings:
    """The parts of audit.json; ``reasons`` says why a part is left out. ``said`` are sentences by part."""

    parts: Json = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    trios: list[Trio] = field(default_factory=list)


def audit(asked: Options) -> None:
    """Audit a run and write what was found. Raises BadInput."""
    if asked.count is not None and asked.count < FEWEST:
        raise BadInput(f"--count {asked.count}: must be at least {FEWEST}; with fewer faces nothing can be told")
    path = checkpoint.find(asked.run, asked.checkpoint)
    folder, record = opened.record_of(path)
    out = asked.out or folder / FOLDER
    own = out.resolve() == (folder / FOLDER).resolve()
    taken = next((out / name for name in (NAME, SHEET) if (out / name).exists()), None)
    if taken and not own and not asked.overwrite:
        raise BadInput(f"{taken}: already exists; use --overwrite to replace it")
    digest = opened.digest_of(path)
    module = checkpoint.load(path, asked.trusted)
    if not isinstance(module, Generates | PairedScheme):
        raise BadInput(f"{folder}: makes neither faces from noise nor images from images, so there is nothing to audit")
    if not any(record["data"].get("counts", {}).get(name) for name in people.HELD_OUT):
        raise BadInput(f"{folder}: no faces were held out (data.val_fraction, data.test_fraction), to compare with")
    node = opened.data_node(folder, module.config, record, asked.data_root)
    data = opened.data_of(folder, node, record, asked.trusted)
    judged = opened.faces_of(data, asked.split or "test")
    if not is_writable(out):
        raise BadInput(f"{out}: cannot be written; must be a folder that can, such as --out FOLDER")
    found = _found(asked, module.to(devices.best()), judged)
    about = opened.about_run(folder, path, digest, module)
    _write(out, {**about, **_result(asked, judged, found), **opened.stamp()}, found)
    if own:
        write_report(folder)
    print("\n".join(_printed(found, out, folder if own else None, asked.run)))


def _found(asked: Options, module: Scheme, judged: Judged) -> Findings:
    found, data = Findings(), judged.data
    judged = judged if asked.count is None else judged.some(asked.count, asked.seed)
    with Bar(_work(asked, module, data, judged)) as bar:
        twins = _both_sides(found, data, asked.seed)
        bar.add(sum(data.counts.values()))
        if isinstance(module, PairedScheme):
            values, how = served.of_images(module, judged, bar.add)
            _served(found, served.by_attribute(values, how, judged, "images", asked.seed))
        if isinstance(module, Generates):
            _generated(found, asked, module, judged, [twin.held_out for twin in twins], bar.add)
    found.said = {part: found.said[part] for part in (COPIES, BOTH, WORSE) if part in found.said}
    return found


def _work(asked: Options, module: Scheme, data: FaceData, judged: Judged) -> int:
    whole = sum(data.counts.values())
    images = len(judged.places) if isinstance(module, PairedScheme) else 0
    made = asked.count or GENERATED
    looked, _ = spaces.all_spaces(module.device, whole)
    compared = memory.work(len(looked), made, people.Real.of(data)) + 2 * min(made, len(judged.places))
    return whole + images + (compared if isinstance(module, Generates) else 0)


# ------------------------------------------------------------------------------------------------------------- parts


def _both_sides(found: Findings, data: FaceData, seed: int) -> list[people.Twins]:
    """Near duplicates and people in the training set and in another split."""
    twins, named = people.near_duplicates(data), people.named_on_both_sides(data)
    files = [{"training": data.ids[t.training], t.split: data.ids[t.held_out]} for t in twins]
    about: Json = {
        "near_duplicates": {"pairs": len(twins), "files": files, "protocol": people.PROTOCOL},
        "people_by_name": {"people": len(named), "names": named, "unnamed": sum(p is None for p in data.people)},
    }
    held_out = len({t.held_out for t in twins})
    said = [
        f"Held-out pictures that are near duplicates of training pictures: {held_out:,}; audit.json lists the files."
        if twins
        else "No held-out picture is a near duplicate of a training picture."
    ]
    said.append(
        f"People who are named on both sides of the split: {len(named):,}."
        if named
        else "No name is on both sides of the split."
    )
    try:
        about["people_by_embedding"] = embedded = _same_people(data, devices.best(), seed)
        count = len(embedded["groups"])
        said.append(f"Groups on both sides of the split that a face embedding takes for one person: {count:,}.")
    except BadInput as error:
        found.reasons["people by face embedding"] = str(error)
    found.parts["both_sides"], found.said[BOTH] = about, said + list(data.cautions)
    return twins


def _same_people(data: FaceData, device: torch.device, seed: int) -> Json:
    extractor = spaces.face_embedding(device)
    real = people.Real.of(data)
    some = counter_rng.permutation(seed, "audit/embedded", 0, len(real.rows))[: spaces.EMBEDDED]
    embeddings = torch.cat([extractor(real.images(part).to(device)).cpu() for part in _parts(some)])
    groups = people.alike_on_both_sides(embeddings, real.training[torch.from_numpy(some.copy())])
    files = [[data.ids[real.rows[some[n]]] for n in group] for group in groups]
    return {"groups": files, "faces": len(some), "protocol": extractor.protocol}


def _parts(places: people.Places) -> list[people.Places]:
    return [places[first : first + people.CHUNK] for first in range(0, len(places), people.CHUNK)]


def _served(found: Findings, about: served.Served) -> None:
    found.parts.setdefault("by_attribute", []).append(served.plain(about))
    found.said.setdefault(WORSE, []).extend(served.sentences(about))


def _generated(
    found: Findings, asked: Options, module: Generates, judged: Judged, duplicates: Sequence[int], tick: Tick
) -> None:
    """Copies among the generated faces, and which real faces they reach."""
    data, device = judged.data, module.device
    count = asked.count or GENERATED
    faces = memory.sampled(module, data, count, asked.seed)
    real = people.Real.of(data, duplicates)
    looked, reasons = spaces.all_spaces(device, len(real.rows))
    found.reasons |= reasons
    try:
        known = memory.remember(looked, faces, real, asked.seed, tick)
        found.parts["memorisation"] = about = memory.plain(known) | {"seed": asked.seed, "density": "mixture"}
        found.said[COPIES] = memory.sentences(about)
        found.trios = _trios(known, faces)
    except ValueError as error:
        found.reasons["copies of training faces"] = str(error)
    extractors = (space.extractor for space in looked if isinstance(space, Extracted))
    features = next((extractor for extractor in extractors if isinstance(extractor, Extractor)), None)
    if features is not None:
        some = judged.some(count, asked.seed)
        try:
            values, how = served.of_generated(faces[: len(some.places)], some, features, device, tick)
            _served(found, served.by_attribute(values, how, some, "generated", asked.seed))
        except ValueError as error:
            found.reasons["coverage by attribute"] = str(error)


def _trios(known: memory.Memory, faces: Tensor) -> list[Trio]:
    trios = []
    for n in known.order()[: memory.SHOWN]:
        look = known.best(n)
        real = [known.real.images(place[n : n + 1].numpy())[0] for place in look.places]
        near = [
            f"{each.space.name} {float(a[n]):.2f} / {float(b[n]):.2f}"
            for each in known.looks
            for a, b in [each.distances]
        ]
        copy = bool(known.copies[n])
        said = f"face {n}: {'copy' if copy else 'no copy'} by {look.space.name}, chance {known.log_chance[n].exp():.1g}"
        trios.append(Trio([faces[n], *real], "   ".join(near), said, copy))
    return trios


# ----------------------------------------------------------------------------------------------------- where it goes


def _result(asked: Options, judged: Judged, found: Findings) -> Json:
    about = opened.about_data(judged.data, judged)
    return {
        "data": about,
        **found.parts,
        "said": found.said,
        "reasons": found.reasons,
        "seed": asked.seed,
    }


def _write(out: Path, result: Json, found: Findings) -> None:
    """The sheet, which git must not take either, then the figures; an older sheet does not stay beside new figures."""
    write_atomic(out / ".gitignore", "*\n")
    if found.trios:
        title = "Distances to the training face / the held-out face. Pictures of real people: keep this sheet here."
        write_png(draw_sheet(found.trios, title), out / SHEET)
    else:
        (out / SHEET).unlink(missing_ok=True)
    write_atomic(out / NAME, json.dumps(result, indent=1) + "\n")


def _printed(found: Findings, out: Path, folder: Path | None, run: Path) -> list[str]:
    lines = []
    for part, said in found.said.items():
        lines += [part, *(f"  {line}" for line in said), ""]
    lines += [f"Left out: {what}: {why}." for what, why in found.reasons.items()]
    lines += [*([""] if found.reasons else []), f"  figures  {out / NAME}"]
    lines += [f"  sheet    {out / SHEET}  (real people: keep it there)"] if found.trios else []
    lines += [f"  report   {folder}/report.html"] if folder else []
    return [*lines, f"To score its faces:  {words.faceforge('evaluate', run)}"]
