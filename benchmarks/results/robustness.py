"""docs/robustness.md: what breaks a run and what a step costs, from the records of survival, guard, hostile and speed.

python -m benchmarks.results.robustness           # write the page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records import RECORDS, ROOT, table

PAGE = "docs/robustness.md"
Record = Mapping[str, Any]


class Row(NamedTuple):
    """What is promised, and how the record of ``name`` says what became of it."""

    promise: str
    name: str
    found: Callable[[Record], str]


INTRO = """# What a run survives, and what a step costs

Made by `python -m benchmarks.results.robustness` from the records in [docs/results/records](results/records), each
with its command, commit, machine and packages. All on CPUs; nothing here was measured on a GPU."""
SURVIVAL = [
    Row(
        "SIGKILL at random moments, resumed each time: weights, optimisers, averages bit by bit as if never stopped",
        "survival_kills",
        lambda r: f"{r['kills']} kills ({_counts(r['fell'])}), {r['identical']} of {r['runs']} runs identical",
    ),
    Row(
        "SIGTERM and SIGUSR1 end a run within a step and a save",
        "survival_signals",
        lambda r: f"{r['in_time']} of {r['signals']}, {r['right']} with the right end",
    ),
    Row(
        "A valid checkpoint, at most two intervals old, at every instant: kills at each write, full, read-only and "
        "foreign disks, flipped bits, cut files, two trainers",
        "survival_faults",
        lambda r: f"{r['faults']} faults, {r['instants']} instants, {r['violations']} violations",
    ),
    Row(
        "NaN or infinity in input, loss, gradient or weight is found within 50 batches and handled as configured",
        "guard",
        lambda r: f"{r['handled']} of {r['count']}, within {r['found_within_batches']} batches",
    ),
]
HOSTILE = [
    Row(
        "Checkpoints and exports with pickled objects, foreign targets, huge headers, cut: nothing is executed",
        "hostile_checkpoints",
        lambda r: f"{r['files']} files, {r['executed']} executed, {len(r['not_refused'])} not refused in one line",
    ),
    Row(
        "Foreign targets in a configuration, nested, partial, interpolated",
        "hostile_targets",
        lambda r: f"{r['targets']} targets, {r['executed']} executed, {len(r['not_refused'])} not refused in one line",
    ),
    Row(
        "Archives with names that escape, links, devices, bombs, a file of 10 GB of zeros",
        "hostile_archives",
        lambda r: f"{len(r['said'])} archives, none wrote outside of the cache",
    ),
    Row("Drawn JPEGs, bits flipped, cut, lying headers, zeroed runs", "hostile_images_drawn", lambda r: _mutated(r)),
    Row("The same of photos", "hostile_images_photos", lambda r: _mutated(r)),
    Row(
        "Memory of decoding any file of 1 MB: at most 256 MiB",
        "hostile_memory",
        lambda r: f"{r['memory_peak_mib']:.0f} MiB over {len(r['files'])} files",
    ),
    Row(
        "Connections of an import, a training and two commands, in a network without routes",
        "hostile_network",
        lambda r: f"{r['connection_attempts']} attempts",
    ),
]
SPEED = {
    "train_over_bare.default": "Images/s of a whole run with logs, averages, checkpoints over a bare loop: default",
    "train_over_bare.published": "... the published conventional GAN",
    "train_over_bare.pix2pix": "... pix2pix",
    "host_over_idiom": "Host time a step above the bare loop over Lightning's idiom: two-layer GAN",
    "host_over_idiom.autoencoder": "... two-layer autoencoder",
    "feed_over_dataloader": "Images per CPU-second from the packed set over ImageFolder and DataLoader",
    "starved": "Step fed from the packed set over a step on a held batch",
    "pack_over_pil": "First packing over a Pillow loop, one core",
    "pack_over_pil.decode_and_resize_alone": "... if both did nothing but decode and resize from memory",
    "pack_2_over_1": "First packing by two processes over one",
    "pack_memory_mib": "MiB held while packing 200,000 pictures",
    "step_over_tutorial": "Our GAN step over the taught loop, same weights, z and judged faces",
    "step_over_tutorial.channels_last": "... with channels last",
    "step_over_tutorial.compiled": "... compiled, after the minute that compiling takes",
    "step_over_tutorial.fresh_fakes": "... with other faces in the generator's step, the default",
    "step_over_tutorial.fresh_channels_last": "... both",
    "ema_over_averagedmodel": "torch's AveragedModel over our average, with `avg_fn`",
    "ema_over_averagedmodel.multi_avg_fn": "... with `multi_avg_fn`",
    "ranks2_over_1": "Images/s of two single-threaded processes over one",
    "ranks2_over_1.half_batch_alone": "... of one process on half the batch, as each of the two has, over one",
}


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()))


def _mutated(record: Record) -> str:
    return (
        f"{record['count']:,}: {record['crashes']} crashes, {record['taken_broken_share']:.1%} taken though visibly "
        f"broken (12 % allowed), {record['taken_broken_over_pil']:.2f} of what Pillow takes (0.25 allowed), "
        f"{record['taken_broken_known']} where the hash is known"
    )


def page(records: Path) -> str:
    """The page, of the records in a folder."""

    def read(name: str) -> Record:
        return json.loads((records / f"{name}.json").read_text(encoding="utf-8"))

    parts = [INTRO]
    for title, promises in (("Survival", SURVIVAL), ("Hostile input", HOSTILE)):
        rows = [[r.promise, r.found(read(r.name)), f"[{r.name}](results/records/{r.name}.json)"] for r in promises]
        parts += [f"## {title}", table(["promise", "found", "record"], rows, left=3)]
    figures = read("speed")["figures"]
    parts += ["## Speed", "Ratios by `make bench`, of CPU time on one thread unless it says processes."]
    rows = [_figure(name, what, figures[name]) for name, what in SPEED.items()]
    parts += [table(["figure", "what", "asked", "found", ""], rows, left=5), *_where_time_goes(figures)]
    return "\n\n".join(parts) + "\n"


def _figure(name: str, what: str, figure: Record) -> list[str]:
    asked = "" if figure["limit"] is None else f"{figure['limit']:g}"
    holds = {None: "", True: "holds", False: "**does not hold**"}[figure["holds"]]
    return [f"`{name}`", what, asked, f"{figure['value']:.3g}", holds]


def _where_time_goes(figures: Mapping[str, Record]) -> list[str]:
    """What packing consists of."""
    parts = figures["pack_over_pil"]["parts_ms"]
    whole = {side: 1e3 / rate for side, rate in figures["pack_over_pil"]["images_per_cpu_second"].items()}
    rest = {side: whole[side] - parts[f"{side} decodes"] - parts[f"{side} resizes"] for side in ("ours", "pil")}
    alone = figures["pack_over_pil.decode_and_resize_alone"]["value"]
    said = (
        "CPU milliseconds of packing a picture of 178x218 into 64x64. Both decode by libjpeg-turbo to the same pixels, "
        "and resize by the same filter to within two levels; decoding and resizing alone, from memory, would give "
        f"{alone:.2f}. The rest are stamps, hashes, strict checks, and files that outlive a loss of power, none of "
        "which Pillow's loop has:"
    )
    rows = []
    for side, title in (("ours", "faceforge"), ("pil", "Pillow's loop")):
        cells = [parts[f"{side} decodes"], parts[f"{side} resizes"], rest[side], whole[side]]
        rows.append([title, *(f"{cell:.3f}" for cell in cells)])
    return [said, table(["", "decoding", "resizing", "files, hashes, checks, writing", "all"], rows, left=5)]


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(RECORDS), encoding="utf-8")
    print(PAGE)
