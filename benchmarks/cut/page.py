"""The page docs/results/cut_faces.md, made from the records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import RECORDS, RESULTS, table

NAMES = {"haar": "Haar as published", "verified": "Haar verified by YuNet", "yunet": "YuNet"}
PARTS = {"photos": "annotated photos", "faceless": "pictures without faces", "composites": "photos with planted things"}


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
        "## Precision and recall", table(head, rows), said, _faceless(record), _planted(record), _curve(record),
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
    return table(head, rows) + "\n\n" + said + told


def _planted(record: Mapping[str, Any]) -> str:
    head = ["planted beside faces", "things", *(f"{name}: taken for a face" for name in NAMES.values())]
    rows = [
        [kind, row["planted"], *(f"{row[d]['hits']}, {percent(row[d])}" for d in NAMES)]
        for kind, row in record["planted"].items()
    ]
    return table(head, rows)


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
    return table(head, rows)


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
    return table(["faults in the annotated photos", "missed", "beside a face", "doubled"], rows) + "\n\n" + shown


def _agreement(record: Mapping[str, Any]) -> str:
    found = record["agreement"]
    return (
        f"{found['photos']} photos were annotated twice: {found['matched']['share']:.1%} of {found['boxes']} boxes "
        f"have a partner, whose overlap (IoU) is {found['iou']['mean']:.3f} on average and "
        f"{found['iou']['least']:.3f} at least."
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
    return table(head, rows)


AGAIN = "Haar beside Haar on the other half enlarged by 1.1"


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
        for name, found in [*record["errors"].items(), (AGAIN, record["haar_again"])]
    ]  # fmt: skip
    head = ["faces of", "faces", "centre off, median", "90 %", "width ratio, median", "width off, median", "90 %",
            "IoU of frames, median", "10 %"]  # fmt: skip
    said = (
        f"Upright faces that the Haar cascade and YuNet both find. Fitted: those of a random half of the "
        f"{record['data']['photos']} photos that were not annotated (manifest {record['data']['manifest'][:12]}) round "
        f"which the photo goes on; where it ends, it decides how large a Haar box can be, as the row of such faces "
        "shows. Centres in widths of the Haar box; frames are those of the published crop as they are cut. The last "
        "row shows how far the cascade differs from itself when only the size of the photo changes."
    )
    return "\n\n".join([
        "## YuNet crops framed as the published Haar crops",
        table(["constant of `cut/frame.py`", "value", "fit", "95 %"], constants), table(head, rows), said,
        made_by(record),
    ])  # fmt: skip


def speed(record: Mapping[str, Any]) -> str:
    """Against the plain loop, from one process to two, reduced decoding."""
    told = ["## Speed"]
    head = ["photos", "how", "plain loop, photos/s", "`faceforge cut`, photos/s", "times", "best turns: times",
            "CPU ms a photo, plain and ours"]  # fmt: skip
    rows = [
        [f"{name} ({row['photos']})", how, *_ways(row)]
        for name, found in record["plain"].items()
        for how, row in found.items()
    ]
    if rows:
        told += [table(head, rows), PLAIN.format(threads=record["opencv_threads"])]
    head = ["the whole command", "photos", "1 process, photos/s", "2 processes, photos/s", "times", "best turns: times",
            "CPU ms a photo"]  # fmt: skip
    rows = [[f"--detector {name}", row["photos"], *_ways(row)] for name, row in record["scaling"].items()]
    told += [table(head, rows)] if rows else []
    if record["reduced"]:
        told += _reduced(record["reduced"])
    return "\n\n".join([*told, _loudness(record), made_by(record)])


PLAIN = (
    "Plain loop: `cv2.imread`, the cascade, crop, `cv2.resize` to 360x480 in one process with OpenCV's default "
    "threads ({threads}); ours: two processes of one thread each. Both find the same boxes in every photo. Bare: "
    "nothing is written. Whole: both write the crops as PNG, ours also measures, judges, and writes thumbnails, "
    "manifest and pages. Turns alternate; medians with least and best."
)


def _ways(row: Mapping[str, Any]) -> list[str]:
    cells = []
    for way in row["ways"].values():
        found = way["photos_per_second"]
        cells.append(f"{found['median']:.1f} ({found['least']:.1f} to {found['best']:.1f})")
    cpu = ", ".join(f"{way['cpu_ms_per_photo']:.1f}" for way in row["ways"].values())
    return [*cells, f"**{row['times']['median']:.2f}**", f"{row['times']['best']:.2f}", cpu]


def _reduced(found: Mapping[str, Any]) -> list[str]:
    head = ["YuNet on photos of 4000 pixels", "photos", "full, photos/s", "reduced, photos/s", "times",
            "best turns: times", "CPU ms a photo"]  # fmt: skip
    rows = [[name, row["photos"], *_ways(row)] for name, row in found["speed"].items()]
    said = "; ".join(f"{how}: recall {percent(row['recall'])}, {row['false']} false"
                     for how, row in found["recall"].items())  # fmt: skip
    return [table(head, rows), f"Decoded {said}."]


def _loudness(record: Mapping[str, Any]) -> str:
    """How many turns were left out because the machine was busy, and where none could be."""
    rows = [row for found in record["plain"].values() for row in found.values()]
    rows += [*record["scaling"].values(), *record["reduced"].get("speed", {}).values()]
    ways = [way for row in rows for way in row["ways"].values()]
    loud = sum(not way["quiet"] for way in ways)
    said = (
        f"Turns count while other processes keep at most {record['others_at_most']} cores busy (`/proc/stat`): "
        f"{sum(way['rejected'] for way in ways)} of {sum(len(way['turns']) for way in ways)} were left out."
    )
    busy = f" In {loud} of {len(ways)} rows the machine never was that quiet, and all turns count."
    return said + busy * bool(loud)


def memory(record: Mapping[str, Any]) -> str:
    """Peak memory over few and over very many photos."""
    head = ["small photos", "peak of all processes, MiB", "of the first process, MiB",
            "shared pages counted for each, MiB", "seconds"]  # fmt: skip
    rows = [
        [f"{run['photos']:,}", *(f"{run['mib'][key]:.0f}" for key in ("pss", "parent_pss", "rss")),
         f"{run['seconds']:.0f}"]
        for run in record["runs"]
    ]  # fmt: skip
    said = (
        f"Difference: {record['growth_mib']:.0f} MiB. `faceforge cut` with YuNet and two processes on generated JPEGs "
        "of 64x64 pixels, three of four with a face; proportional set sizes of all its processes together, four times "
        "a second."
    )
    return "\n\n".join(["## Memory", table(head, rows), said, made_by(record)])


HEADING = "# Cutting faces out of photos"

SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "accuracy": accuracy,
    "calibrate": calibrate,
    "speed": speed,
    "memory": memory,
}


def goals(records: Mapping[str, Mapping[str, Any]]) -> str:
    """What was aimed at and what was measured."""
    rows: list[list[str]] = []
    if found := records.get("accuracy"):
        yunet = found["together"]["yunet"]
        rows.append(["YuNet: precision over all parts", "at least 0.97", percent(yunet["precision"])])
        rows.append(["YuNet: recall over all parts", "at least 0.95", percent(yunet["recall"])])
    if found := records.get("speed"):
        for name, ways in found["plain"].items():
            for how, row in ways.items():
                wanted = "at least 1.15" if name == AS_THEY_ARE else "-"
                rows.append([f"Haar against a plain loop, {how}, photos {name}", wanted, _times(row)])
        for name, row in found["scaling"].items():
            rows.append([f"{name}: one process to two", "at least 1.6", _times(row)])
        if found["reduced"]:
            full, reduced = (found["reduced"]["recall"][how]["recall"]["share"] for how in ("full", "reduced"))
            rows.append(["YuNet, reduced decoding: recall", f"{full:.3f}", f"{reduced:.3f}"])
    if found := records.get("memory"):
        few, many = (f"{found['runs'][i]['photos']:,}" for i in (0, -1))
        rows.append([f"memory, {few} to {many} photos", "at most 300 MiB more", f"{found['growth_mib']:.0f} MiB more"])
    return table(["figure", "goal", "measured"], rows)


AS_THEY_ARE = "as they are"


def _times(row: Mapping[str, Any]) -> str:
    return f"{row['times']['median']:.2f} times ({row['times']['best']:.2f} by the best turns)"


def text() -> str:
    """The page of all records that are there."""
    paths = {name: RECORDS / f"cut_faces_{name}.json" for name in SECTIONS}
    records = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    sections = [SECTIONS[name](record) for name, record in records.items()]
    return "\n\n".join([HEADING, goals(records), *sections]) + "\n"


def write() -> Path:
    """Write the page; its path."""
    path = RESULTS / "cut_faces.md"
    path.write_text(text())
    return path
