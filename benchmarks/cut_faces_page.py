"""The page docs/results/cut_faces.md, made from the records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cut_faces_common import RECORDS, RESULTS

NAMES = {"haar": "Haar as published", "verified": "Haar verified by YuNet", "yunet": "YuNet"}
PARTS = {"photos": "annotated photos", "faceless": "pictures without faces", "composites": "photos with planted things"}


def lines_of(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A markdown table, all columns but the first to the right."""
    rule = f"| --- |{' ---: |' * (len(head) - 1)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def percent(found: Mapping[str, Any]) -> str:
    """A share with its interval."""
    if not found["total"]:
        return "-"
    return f"{found['share']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def made_by(record: Mapping[str, Any]) -> str:
    """How a record was made."""
    packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    machine = f"{record['machine']['processor']}, {record['machine']['cores']} cores"
    return (
        f"Made by `{record['command']}`, commit {str(record['commit'])[:12]}{', changed' * record['dirty']}, seed "
        f"{record['seed']}, {machine}; {packages}."
    )


def accuracy(record: Mapping[str, Any]) -> str:
    """Precision and recall, faults, thresholds, agreement, robustness."""
    data, parts = record["data"], record["parts"]
    rows = [
        [NAMES[d], PARTS[part], percent(tally["precision"]), percent(tally["recall"]), tally["missed"], _false(tally)]
        for part in PARTS
        for d, tally in parts[part].items()
    ]
    rows += [[NAMES[d], "**together**", percent(t["precision"]), percent(t["recall"]), "", ""]
             for d, t in record["together"].items()]  # fmt: skip
    head = ["detector", "on", "precision (95 %)", "recall (95 %)", "missed", "false finds"]
    said = (
        f"{data['photos']} photos (manifest {data['manifest'][:12]}) with "
        f"{parts['photos']['yunet']['recall']['total']} faces of at least 40 pixels. A found box means a face when its "
        "centre lies in the annotated one or they overlap by 0.4 (IoU), one to one; a second box on a face is false. "
        f"Smaller and unsure faces count neither way. YuNet counts from a score of {record['threshold']}, the one "
        f"`faceforge cut` accepts from. Weights: {record['weights']['name']}. Intervals: Wilson; the faces of the "
        "composites are those of the photos again, so that together they say less than their number."
    )
    return "\n\n".join([
        "## Precision and recall", lines_of(head, rows), said, _faceless(record), _planted(record), _curve(record),
        _faults(record), _agreement(record), _robust(record), made_by(record),
    ])  # fmt: skip


def _false(tally: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in tally["false"].items()) or "0"


def _faceless(record: Mapping[str, Any]) -> str:
    head = ["pictures without faces", "pictures", *(f"{name}: false" for name in NAMES.values())]
    rows = [[name, row["pictures"], *(row[d] for d in NAMES)] for name, row in record["faceless"].items()]
    samples = record["data"]["samples"]
    said = "Parts of photos: the largest rectangle of at least 96 pixels a side beside the grown boxes of a photo."
    told = f" Sample pictures: {', '.join(samples)}." if samples else ""
    return lines_of(head, rows) + "\n\n" + said + told


def _planted(record: Mapping[str, Any]) -> str:
    head = ["planted beside faces", "things", *(f"{name}: taken for a face" for name in NAMES.values())]
    rows = [
        [kind, row["planted"], *(f"{row[d]['hits']}, {percent(row[d])}" for d in NAMES)]
        for kind, row in record["planted"].items()
    ]
    return lines_of(head, rows)


def _curve(record: Mapping[str, Any]) -> str:
    head = [
        "YuNet from score",
        "precision",
        "recall",
        "missed in photos",
        *(f"false: {part}" for part in PARTS.values()),
    ]
    rows = [
        [row["threshold"], f"{row['precision']['share']:.4f}", f"{row['recall']['share']:.4f}", row["missed"],
         *(row["false"][part] for part in PARTS)]
        for row in record["curve"]
    ]  # fmt: skip
    return lines_of(head, rows)


def _faults(record: Mapping[str, Any]) -> str:
    rows = []
    for d, name in NAMES.items():
        tally = record["parts"]["photos"][d]
        rows.append([name, tally["missed"], tally["false"].get("beside", 0), tally["false"].get("doubled", 0)])
    told = []
    for part, words in PARTS.items():
        for fault in record["parts"][part]["yunet"]["faults"]:
            score = f", score {fault['score']}" if "score" in fault else ""
            told.append(f"- {words}: {fault['photo']}, {fault['kind']} at {fault['box']}{score}")
    shown = "YuNet's faults, each box as left, top, width, height:\n\n" + ("\n".join(told) or "- none")
    return lines_of(["faults in the annotated photos", "missed", "beside a face", "doubled"], rows) + "\n\n" + shown


def _agreement(record: Mapping[str, Any]) -> str:
    found = record["agreement"]
    return (
        f"{found['photos']} photos were annotated twice: {found['matched']['share']:.1%} of {found['boxes']} boxes have "
        f"a partner, whose overlap (IoU) is {found['iou']['mean']:.3f} on average and {found['iou']['least']:.3f} at "
        "least."
    )


def _robust(record: Mapping[str, Any]) -> str:
    head = [
        "the photos",
        *(f"{name}: recall" for name in NAMES.values()),
        "YuNet: precision",
        "YuNet: right quarter turn",
    ]
    rows = [
        [name, *(percent(row[d]["recall"]) for d in NAMES), percent(row["yunet"]["precision"]),
         percent(row["yunet"]["right_quarter"])]
        for name, row in record["robustness"].items()
    ]  # fmt: skip
    return lines_of(head, rows)


def calibrate(record: Mapping[str, Any]) -> str:
    """The constants of the frame and how well they hold."""
    constants = [
        [key, f"{value:.3f}", f"{record['fit'][key]:.4f}", " to ".join(f"{v:.3f}" for v in record["interval"][key])]
        for key, value in record["constants"].items()
    ]
    rows = [
        [name, found["faces"], f"{found['centre']['median']:.3f}", f"{found['centre']['p90']:.3f}",
         f"{found['width']['median']:.3f}", f"{found['width']['off_median']:.1%}", f"{found['width']['off_p90']:.1%}",
         f"{found['iou']['median']:.3f}", f"{found['iou']['p10']:.3f}"]
        for name, found in record["errors"].items()
    ]  # fmt: skip
    head = ["faces of", "faces", "centre off, median", "90 %", "width ratio, median", "width off, median", "90 %",
            "IoU of frames, median", "10 %"]  # fmt: skip
    said = (
        f"Faces that the Haar cascade and YuNet both find, upright: {record['faces']['fitted']} in a random half of the "
        f"{record['data']['photos']} photos that were not annotated (manifest {record['data']['manifest'][:12]}) "
        "fitted, the other half and the annotated photos checked. Centres in widths of the Haar box; frames are those "
        "of the published crop before they are fitted into the photo."
    )
    return "\n\n".join([
        "## YuNet crops framed as the published Haar crops",
        lines_of(["constant of `cut/frame.py`", "value", "fit", "95 %"], constants), lines_of(head, rows), said,
        made_by(record),
    ])  # fmt: skip


SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {"accuracy": accuracy, "calibrate": calibrate}


def write() -> Path:
    """The page of all records that are there; its path."""
    told = []
    for name, section in SECTIONS.items():
        record = RECORDS / f"cut_faces_{name}.json"
        if record.exists():
            told.append(section(json.loads(record.read_text())))
    path = RESULTS / "cut_faces.md"
    path.write_text("\n\n".join(["# Cutting faces out of photos", *told]) + "\n")
    return path


def speed(record):
    return json.dumps(
        {k: {n: {w: (v["times"]) for w, v in r.items()} for n, r in record["plain"].items()} for k in ["plain"]}
    )
