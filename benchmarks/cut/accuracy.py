"""How well, how fast and in how much memory `faceforge cut` works, measured on photographs with annotated boxes.

    python -m benchmarks.cut accuracy
    python -m benchmarks.cut calibrate
    python -m benchmarks.cut speed
    python -m benchmarks.cut memory
    python -m benchmarks.cut table

Each writes a record under docs/results/records/; ``table`` makes docs/results/cut_faces.md from them. The boxes of
150 photos were drawn by eye before any detector had looked at these. No photograph is written into the repository.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated as Arg
from typing import Any

import cv2
import numpy as np
import typer

from benchmarks import records
from benchmarks.cut import framing, page
from benchmarks.cut.annotated import (
    BOXES,
    PHOTOS,
    SMALLEST,
    Annotated,
    Scene,
    annotated,
    as_it_lies,
    judge,
    manifest_hash,
    provenance,
    scenes,
    twice,
)
from benchmarks.cut.scenes import PLANTED, composite, free_parts, sample_pictures, textures
from faceforge.cut.detect import (
    SURE_SCORE,
    Detection,
    DetectorName,
    find_yunet,
    make_detector,
    overlap,
)
from faceforge.cut.frame import Box
from faceforge.errors import BadInput
from faceforge.fetch.download import file_hash

DETECTORS: tuple[DetectorName, ...] = ("haar", "verified", "yunet")
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92)
SIZE = (480, 360)  # of the published crop

Folder = Arg[Path, typer.Option("--photos", help="folder of photos")]
Seed = Arg[int, typer.Option(help="of everything that is drawn")]
Few = Arg[int | None, typer.Option(help="only so many photos, to try it out")]


# ---------------------------------------------------------------------------------------------------------- accuracy

Finds = Mapping[str, Sequence[Sequence[Detection]]]  # of each detector, of each scene


def look(pictures: Sequence[Scene], detectors: Sequence[DetectorName] = DETECTORS) -> Finds:
    """What each detector finds in each scene, whatever the score."""
    weights = find_yunet()
    made = {name: make_detector(name, None if name == "haar" else weights) for name in detectors}
    return {name: [detect(scene.pixels) for scene in pictures] for name, detect in made.items()}


def counts(face: Detection, detector: str, threshold: float = SURE_SCORE) -> bool:
    """Whether `faceforge cut` would take what was found for a face: large enough, sure, and agreed on."""
    if min(face.box[2:]) < SMALLEST or face.agreement == 0.0:
        return False
    return detector == "haar" or (face.score or 0.0) >= threshold


def taken(faces: Sequence[Detection], detector: str, scene: Scene, threshold: float = SURE_SCORE) -> list[Detection]:
    """Those that count, with boxes as the photo lies."""
    size = (scene.pixels.shape[0], scene.pixels.shape[1])
    kept = [face for face in faces if counts(face, detector, threshold)]
    return [
        Detection(as_it_lies(face, size), face.score, neighbours=face.neighbours, quarter=face.quarter) for face in kept
    ]


def tally(pictures: Sequence[Scene], finds: Finds, detector: str, threshold: float = SURE_SCORE) -> dict[str, Any]:
    """Precision, recall, and every fault by kind and picture."""
    hits = missed = 0
    kinds: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    for scene, faces in zip(pictures, finds[detector], strict=True):
        kept = taken(faces, detector, scene, threshold)
        verdicts = judge([face.box for face in kept], scene)
        hits, missed = hits + len(verdicts.hits), missed + len(verdicts.missed)
        kinds.update(kind for _, kind in verdicts.false)
        faults += [_fault(scene.name, "missed", scene.faces[j], None) for j in verdicts.missed]
        faults += [_fault(scene.name, kind, kept[i].box, kept[i].score) for i, kind in verdicts.false]
    false = sum(kinds.values())
    return {
        "pictures": len(pictures),
        "precision": records.share(hits, hits + false),
        "recall": records.share(hits, hits + missed),
        "missed": missed,
        "false": dict(sorted(kinds.items())),
        "faults": faults,
    }


def _fault(photo: str, kind: str, box: Box, score: float | None) -> dict[str, Any]:
    made = {"photo": photo, "kind": kind, "box": [round(v) for v in box]}
    return made if score is None else {**made, "score": round(score, 3)}


def together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and recall over all parts."""
    hits, found = (sum(part["precision"][key] for part in parts) for key in ("hits", "total"))
    faces = sum(part["recall"]["total"] for part in parts)
    return {
        "pictures": sum(part["pictures"] for part in parts),
        "precision": records.share(hits, found),
        "recall": records.share(hits, faces),
    }


def curve(parts: Mapping[str, tuple[Sequence[Scene], Finds]]) -> list[dict[str, Any]]:
    """YuNet's figures at several thresholds, with the false finds of each part."""
    rows = []
    for threshold in THRESHOLDS:
        found = {name: tally(pictures, finds, "yunet", threshold) for name, (pictures, finds) in parts.items()}
        all_parts = together(list(found.values()))
        false = {name: sum(part["false"].values()) for name, part in found.items()}
        rows.append({"threshold": threshold, **all_parts, "false": false, "missed": found["photos"]["missed"]})
    return rows


def planted_table(pictures: Sequence[Scene], finds: Finds) -> dict[str, dict[str, Any]]:
    """How many things of each kind were planted, and the share that each detector took for a face."""
    planted = Counter(kind for scene in pictures for kind, _ in scene.planted)
    false = {name: tally(pictures, finds, name)["false"] for name in finds}
    return {
        kind: {
            "planted": planted[kind],
            **{name: records.share(false[name].get(kind, 0), planted[kind]) for name in finds},
        }
        for kind in PLANTED
    }


def agreement(photos: Iterable[Annotated], second: set[str]) -> dict[str, Any]:
    """How far the two annotations of a photo agree: boxes that have a partner, and the overlap of the pairs."""
    overlaps: list[float] = []
    boxes = 0
    chosen = [photo for photo in photos if photo.name in second]
    for photo in chosen:
        first, other = ([box for kind, box in photo.boxes[n] if kind == "face"] for n in (1, 2))
        scene = Scene(photo.name, np.empty(0), list(first))
        pairs = judge(other, scene).hits
        overlaps += [overlap(other[i], first[j]) for i, j in pairs]
        boxes += len(first) + len(other)
    matched = records.share(2 * len(overlaps), boxes)
    return {
        "photos": len(chosen),
        "boxes": boxes,
        "matched": {"share": matched["share"], "pairs": len(overlaps)},
        "iou": {"mean": statistics.fmean(overlaps), "least": min(overlaps), "median": statistics.median(overlaps)},
    }


def turned(scene: Scene, quarter: int) -> Scene:
    """The scene turned clockwise by quarters."""
    size = (scene.pixels.shape[0], scene.pixels.shape[1])
    back = [Detection(box, quarter=(4 - quarter) % 4) for box in scene.faces + scene.ignored]
    # a box of the photo is that of a face which `4 - quarter` quarters would set upright in the turned photo
    lying = size if quarter % 2 == 0 else size[::-1]
    boxes = [as_it_lies(face, lying) for face in back]
    pixels = np.ascontiguousarray(np.rot90(scene.pixels, -quarter))
    return Scene(scene.name, pixels, boxes[: len(scene.faces)], boxes[len(scene.faces) :])


def enlarged(scene: Scene, times: int) -> Scene:
    """The scene with pixels and boxes ``times`` as large."""
    pixels = cv2.resize(scene.pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)

    def scaled(boxes: Sequence[Box]) -> list[Box]:
        return [(x * times, y * times, w * times, h * times) for x, y, w, h in boxes]

    return Scene(scene.name, pixels, scaled(scene.faces), scaled(scene.ignored))


def robustness(pictures: Sequence[Scene], changes: Mapping[str, Callable[[Scene], Scene]]) -> dict[str, Any]:
    """Recall and precision of changed photos, and for YuNet how often the quarter turn to upright is right."""
    rows: dict[str, Any] = {}
    for name, change in changes.items():
        found: dict[str, Any] = {detector: {"hits": 0, "missed": 0, "false": 0} for detector in DETECTORS}
        right = 0
        for scene in pictures:
            changed = change(scene)
            for detector, finds in look([changed]).items():
                kept = taken(finds[0], detector, changed)
                verdicts = judge([face.box for face in kept], changed)
                row = found[detector]
                row["hits"] += len(verdicts.hits)
                row["missed"] += len(verdicts.missed)
                row["false"] += len(verdicts.false)
                if detector == "yunet":
                    right += sum(kept[i].quarter == _upright(name) for i, _ in verdicts.hits)
        rows[name] = {key: _shares(row) for key, row in found.items()}
        rows[name]["yunet"]["right_quarter"] = records.share(right, found["yunet"]["hits"])
    return rows


def _shares(row: Mapping[str, int]) -> dict[str, Any]:
    return {
        "precision": records.share(row["hits"], row["hits"] + row["false"]),
        "recall": records.share(row["hits"], row["hits"] + row["missed"]),
    }


def _upright(name: str) -> int:
    """The quarter turn that sets a changed photo upright."""
    return {"turned 90": 3, "turned 180": 2, "turned 270": 1}.get(name, 0)


CHANGES: dict[str, Callable[[Scene], Scene]] = {
    "as they are": lambda scene: scene,
    "turned 90": lambda scene: turned(scene, 1),
    "turned 180": lambda scene: turned(scene, 2),
    "turned 270": lambda scene: turned(scene, 3),
    "enlarged x4": lambda scene: enlarged(scene, 4),
    "enlarged x8": lambda scene: enlarged(scene, 8),
}


def accuracy(
    photos: Folder = PHOTOS,
    seed: Seed = 0,
    few: Few = None,
    drawn: Arg[int, typer.Option(help="pictures of textures")] = 120,
) -> None:
    """Precision and recall of the three detectors against the annotated boxes, and where faces are not."""
    cv2.setNumThreads(1)  # as in the processes of `faceforge cut`
    boxed = annotated()[:few]
    real = scenes(photos, boxed)
    free = free_parts(zip(boxed, (scene.pixels for scene in real), strict=True))
    subsets = {"parts of photos": free, "sample pictures": sample_pictures(), "textures": textures(drawn, seed)}
    faceless = [scene for subset in subsets.values() for scene in subset]
    planted = [made for n, scene in enumerate(real) if (made := composite(scene, n, seed))]
    parts = {name: (pictures, look(pictures)) for name, pictures in
             (("photos", real), ("faceless", faceless), ("composites", planted))}  # fmt: skip
    tallies = {name: {d: tally(*part, d) for d in DETECTORS} for name, part in parts.items()}
    record = {
        **provenance(find_yunet()),
        "seed": seed,
        "threshold": SURE_SCORE,
        "data": {"photos": len(real), "manifest": manifest_hash(photos, [p.name for p in boxed]),
                 "boxes_sha256": file_hash(BOXES), "samples": [s.name for s in subsets["sample pictures"]]},
        "parts": tallies,
        "together": {d: together([tallies[name][d] for name in parts]) for d in DETECTORS},
        "faceless": {name: {"pictures": len(s)} for name, s in subsets.items()} | _by_subset(subsets, tallies),
        "planted": planted_table(*parts["composites"]),
        "curve": curve(parts),
        "agreement": agreement(boxed, twice()),
        "robustness": robustness(real, CHANGES),
    }  # fmt: skip
    records.write("cut_faces_accuracy", record)
    print(page.accuracy(record))


def _by_subset(subsets: Mapping[str, Sequence[Scene]], tallies: Mapping[str, Any]) -> dict[str, Any]:
    """False finds in each kind of face-free pictures."""
    rows = {}
    for name, pictures in subsets.items():
        names = {scene.name for scene in pictures}
        false = {d: sum(f["photo"] in names for f in tallies["faceless"][d]["faults"]) for d in DETECTORS}
        rows[name] = {"pictures": len(pictures), **false}
    return rows


# --------------------------------------------------------------------------------------------------------- calibrate


def calibrate(photos: Folder = PHOTOS, seed: Seed = 0, few: Few = None) -> None:
    """Fit the Haar box to YuNet's landmarks on half of the other photos; check on the rest and on the annotated."""
    cv2.setNumThreads(1)  # as in the processes of `faceforge cut`
    record = {**provenance(find_yunet()), **framing.measured(photos, seed, few)}
    records.write("cut_faces_calibrate", record)
    print(page.calibrate(record))
    for key, (low, high) in record["interval"].items():
        if not low <= record["constants"][key] <= high:
            raise BadInput(f"frame.{key} is {record['constants'][key]}, the fit says {record['fit'][key]:.3f}")
