"""Run folders with everything that a comparison reads, made without training."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from faceforge.evaluation import kept

WIDE = {"value": 1.0, "low": 0.5, "high": 1.5}
CONFIG = {
    "seed": 0,
    "run_dir": None,
    "data": {"root": None, "seed": 0, "split": "identity", "val_fraction": 0.1, "test_fraction": 0.1, "cache": None},
    "task": {"_target_": "faceforge.data.tasks.SuperResolution", "factor": 2, "kernel": "mean", "input_factor": 2},
    "trainer": {"max_images": 1000, "max_minutes": None, "log_every": 100, "gpus": 0},
    "model": {"optimizer": {"lr": 1e-3}, "seed": 0, "network": {"width": 4}},
    "choices": {"model": "conv_superres", "model/network": "conv", "task": "super_resolution", "data": "drawn"},
}
METRICS = "images,loss/train,images_per_second,val/mae,val/psnr\n"


def of_people(people, each=4):
    """``each`` faces of each of some people: names and people."""
    return [f"p{n // each}/{n % each}.png" for n in range(people * each)], [
        f"p{n // each}" for n in range(people * each)
    ]


def merged(base, changes):
    """A copy of nested mappings with other values at dotted keys."""
    made = json.loads(json.dumps(base))
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = made
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return made


def make(folder, values=None, *, seed=0, faces=None, config=None, data=None, generated=None, keep=True, result=None):
    """A run in ``folder``; ``values`` {score: (N,)} of its faces and ``generated`` {score: {of: values}} with a "value"
    are its evaluation, None none. ``config``, ``data`` and ``result`` change what it says at dotted keys.
    """
    folder = Path(folder)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    names, people = faces or of_people(10)
    seeds = dict.fromkeys(("seed", "data.seed", "model.seed"), seed)
    conf = merged(CONFIG, {**seeds, "run_dir": str(folder), **(config or {})})
    (folder / "config.yaml").write_text(yaml.safe_dump(conf))
    about = {"source": "drawn", "manifest": "a" * 64, "protocol_hash": "b" * 64, "size": [8, 8], "channels": 1}
    counts = {"train": 100, "val": 20, "test": len(names)}
    record = {
        "status": "finished",
        "images": 1000,
        "seconds": 65.0,
        "seed": seed,
        "device": "CPU",
        "data": about | {"counts": counts},
    }
    record["best"] = {"metric": "val/mae", "mode": "min", "value": 0.1, "images": 800}
    (folder / "run.json").write_text(json.dumps(record))
    rows = [f"{n},{1 / n},{100 + seed},," for n in range(100, 1001, 100)]
    rows += [f"{n},,,{0.2 - n / 1e4 + seed / 100},{20 + n / 1e3}" for n in range(200, 1001, 200)]
    (folder / "metrics.csv").write_text(METRICS + "\n".join(rows) + "\n")
    if values is None and generated is None:
        return folder
    cells = {
        s: {"value": float(np.mean(v)), "low": float(np.min(v)), "high": float(np.max(v))}
        for s, v in (values or {}).items()
    }
    made = {s: WIDE | {"value": parts["value"]} for s, parts in (generated or {}).items()}
    tables = [("images", cells)] * bool(cells) + [("generated", made)] * bool(made)
    evaluation = {
        "checkpoint": {"name": "best", "images": 800, "sha256": "c" * 64},
        "data": about
        | {"counts": counts, "split": "test", "faces": len(names), "people": len(set(people))}
        | (data or {}),
        "task": {"name": conf["choices"]["task"], **{k: v for k, v in conf["task"].items() if k != "_target_"}},
        "rows": [{"name": "model", "kind": "model", "table": kind, "scores": scores} for kind, scores in tables],
        "protocols": {s: {"better": "higher", "metric": s, "interval": "95 %"} for _, scores in tables for s in scores},
        "seed": 0,
        "command": "faceforge evaluate RUN",
    }
    parts = {("images", "model", s, "faces"): np.asarray(v) for s, v in (values or {}).items()}
    parts |= {
        ("generated", "model", s, of): np.asarray(v)
        for s, own in (generated or {}).items()
        for of, v in own.items()
        if of != "value"
    }
    if keep:
        digest = kept.write(folder / "evaluation.npz", {kind: (names, people) for kind, _ in tables}, parts)
        evaluation["kept"] = digest
    (folder / "evaluation.json").write_text(json.dumps(merged(evaluation, result or {})))
    return folder


def add_grid(folder, rows, images=1000, size=8, gap=2):
    """A grid of ``rows`` (R, 8, 3) of plain colours as the last one of a run."""
    rows = np.asarray(rows, np.uint8)
    grid = np.full((len(rows) * (size + gap) - gap, 8 * (size + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, colour in enumerate(row):
            grid[r * (size + gap) :, c * (size + gap) :][:size, :size] = colour
    Image.fromarray(grid).save(Path(folder) / "samples" / f"{images:09d}.png")
