"""How many droplets the images of translation runs have, on people never trained on.

    python -m benchmarks.models.droplets RUN RUN --count 480 --data-root FACES

`metrics.droplets` of every image, whose references are the true face and the linear 3x3 map of the input. Every run
stands beside what the counter finds in the true faces with one droplet planted in each, and in the linear map's images.
Prints a line a run; with --record NAME they are kept in docs/results/records/NAME.json, numbers only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks import command, records, runs
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint
from faceforge.evaluation.baselines import Fitting, for_task
from faceforge.metrics.droplets import droplets

CHUNK = 32
RADIUS = 3  # pixels, of a planted droplet
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def planted(images: Tensor) -> Tensor:
    """Images (N, C, H, W) in [0, 1] with a black disc where each is brightest on average, away from its borders."""
    height, width = images.shape[2:]
    smooth = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4 * RADIUS + 1, 1)
    place = smooth.flatten(1).argmax(1)
    y, x = place // smooth.shape[3] + 2 * RADIUS, place % smooth.shape[3] + 2 * RADIUS
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2 <= RADIUS**2
    return images * ~inside[:, None]


def counted(module: Any, data: FaceData, split: str, count: int) -> dict[str, Any]:
    """Droplets in all images of a run, how many images have one, and the same of planted ones and of the linear map."""
    rows = for_task(data.task, Fitting(data, 0, CHUNK))
    linear = next(row for row in rows if row.name.startswith("linear map"))
    total = min(count, data.counts[split])
    chosen = [n * data.counts[split] // total for n in range(total)]
    found: dict[str, list[Tensor]] = {"model": [], "planted": [], "linear map": []}
    for first in range(0, total, CHUNK):
        pair = data.pairs(split, chosen[first : first + CHUNK])
        made, straight = (((x + 1) / 2).clamp(0, 1) for x in (module.predict(pair["input"]), linear.outputs(pair)))
        target = (pair["target"] + 1) / 2
        for name, images in {"model": made, "planted": planted(target), "linear map": straight}.items():
            found[name].append(droplets(images, [target, straight]))
    joined = {name: torch.cat(parts) for name, parts in found.items()}
    return {"images": total, "task": data.task.name} | {
        name: {"droplets": int(values.sum()), "images_with": int((values > 0).sum())} for name, values in joined.items()
    }


@app.command()
def main(
    run: Annotated[list[Path], typer.Argument(help="Folders of runs.")],
    count: Annotated[int, typer.Option(help="Faces at most.")] = 480,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    data_root: Annotated[Path | None, typer.Option(help="Where the faces lie now.")] = None,
    record: Annotated[str | None, typer.Option(help="Keep the numbers under this name.")] = None,
) -> None:
    """Count droplets in the images of runs."""
    found = {}
    for folder in run:
        module = checkpoint.load(folder)
        found[folder.name] = counted(module, runs.faces(module.config["data"], data_root), split, count)
        print(f"{folder.name}: {json.dumps(found[folder.name])}", flush=True)
    if record:
        kept = records.provenance() | {"split": split, "runs": found}
        (records.RECORDS / f"{record}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    command.run(app)
