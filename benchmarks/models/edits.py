"""Edits of faces by their codes: does a smile direction make people smile, do glasses sit where glasses belong?

    python -m benchmarks.models.edits smiles RUN RUN ... --labels labels.csv
    python -m benchmarks.models.edits glasses RUN

``smiles`` edits people never trained on and asks a classifier that has nothing to do with the autoencoder. ``glasses``
edits drawn faces, of which the same face with glasses can be drawn. Each writes a record; no photograph is written.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import command, records, runs
from faceforge import counter_rng
from faceforge.data.sources.drawn import Drawn
from faceforge.drawn.portrait import paint
from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.io.images import from_uint8, make_grid, write_png
from faceforge.metrics.pairs import mae, psnr
from faceforge.schemes.latent_space import logistic, mean_difference

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
PASSES, BATCH = 12, 64  # of the classifier
SHOWN = 8  # drawn faces in the grid
GRID = records.GRIDS / "latent_edits_glasses.png"
EYES = (0.30, 0.55)  # rows of a drawn face, as shares of its height, in which glasses lie
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


# --------------------------------------------------------------------------------------------------------- classifier


def small_network(channels: int) -> nn.Module:
    """A classifier of (N, C, H, W) in [-1, 1]: four halvings, one logit. It shares nothing with the autoencoders."""
    widths = (channels, 16, 32, 64, 96)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4 * widths[-1], 1))


def train_classifier(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Adam with one cycle, faces mirrored at random, both classes weighed alike."""
    torch.manual_seed(counter_rng.key(seed, "edits/classifier") >> 1)
    network = small_network(images.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = PASSES * (len(images) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    weight = (labels == 0).sum() / (labels == 1).sum()
    for step in range(steps):
        rows = counter_rng.order(seed, len(images), range(step * BATCH, (step + 1) * BATCH))
        batch, mirrored = images[rows], torch.rand(BATCH) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
        loss = functional.binary_cross_entropy_with_logits(network(batch)[:, 0], labels[rows], pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
        if step % 100 == 0:
            print(f"classifier {step}/{steps}  loss {float(loss):.3f}", flush=True)
    return network.eval()


@torch.no_grad()
def says_yes(network: nn.Module, images: Tensor) -> NDArray[np.bool_]:
    """Whether the classifier sees the attribute in each of (N, C, H, W) in [-1, 1]."""
    return torch.cat([network(part)[:, 0] > 0 for part in images.split(256)]).numpy()


# --------------------------------------------------------------------------------------------------------------- faces


def smiling_only(labels: Path) -> Path:
    """A table of one attribute, Smiling: 1 for happiness, 0 for neutral, empty for other faces."""
    values = {"happiness": "1", "neutral": "0"}
    with labels.open() as file:
        rows = [(row["image"], values.get(row["emotion"], "")) for row in csv.DictReader(file)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False, newline="") as file:
        csv.writer(file).writerows([("image", "Smiling"), *rows])
    return Path(file.name)


def load(run: Path, attributes: Path | None) -> tuple[Any, Any]:
    """A latent run's module, and its data with other labels where some are given. Raises BadInput."""
    module = checkpoint.load(run)
    if not hasattr(module, "encode"):
        raise BadInput(f"{run}: has no codes to edit; a run of model=latent_editor has")
    changes = {"attributes": str(attributes)} if attributes else {}
    return module, runs.faces(module.config["data"], **changes)


def labelled(data: Any, split: str, name: str) -> tuple[Tensor, Tensor]:
    """The faces of a split whose attribute is known, (N, C, H, W) in [-1, 1], and its values (N,)."""
    names, values = data.attributes
    column = values[data.rows[split], names.index(name)]
    known = np.flatnonzero(~np.isnan(column))
    return data.images(split, known), torch.from_numpy(column[known] > 0.5).float()


def coded(module: Any, images: Tensor) -> Tensor:
    """Their codes (N, Z)."""
    return torch.cat([module.encode(part) for part in images.split(256)])


def directions(codes: Tensor, labels: Tensor, seed: int) -> dict[str, Tensor]:
    """By its kind (Z,); ``shuffled`` is the mean difference of faces labelled at random, brought to the true length."""

    def of(way: Any, had: Tensor) -> Tensor:
        return torch.from_numpy(way(codes[had].double().numpy(), codes[~had].double().numpy())).float()

    had = labels > 0.5
    mixed = had[torch.from_numpy(counter_rng.permutation(seed, "edits/shuffled", 0, len(had)).copy())]
    true, random = of(mean_difference, had), of(mean_difference, mixed)
    return {
        "mean difference": true,
        "logistic": of(logistic, had),
        "shuffled labels": random * true.norm() / random.norm(),
    }


def moved(module: Any, z: Tensor, direction: Tensor, strength: float) -> Tensor:
    """What codes (N, Z) give after a step, (N, C, H, W) in [-1, 1]; a plain code stays in its range."""
    code = z + strength * direction
    code = code if module.code_range is None else code.clamp(*module.code_range)
    return torch.cat([module.decode(part) for part in code.split(256)])


# -------------------------------------------------------------------------------------------------------------- smiles


def flips(module: Any, judge: nn.Module, z: Tensor, ways: dict[str, Tensor], sign: int) -> Iterator[dict[str, Any]]:
    """Of the faces whose reconstruction does not have what the step gives: how many have it after, at what cost.

    The cost is the mean absolute change of a pixel against the reconstruction, range 1, over all faces.
    """
    plain = moved(module, z, ways["mean difference"], 0.0)
    lacking = says_yes(judge, plain) != (sign > 0)
    for way, direction in ways.items():
        for strength in STRENGTHS:
            edited = moved(module, z, direction, sign * strength)
            turned = (says_yes(judge, edited) == (sign > 0)) & lacking
            cost = float(mae((edited + 1) / 2, (plain + 1) / 2).mean())
            yield {
                "edit": "smile" if sign > 0 else "no smile",
                "direction": way,
                "strength": strength,
                **records.share(int(turned.sum()), int(lacking.sum())),
                "cost": cost,
            }


def edit_smiles(run: Path, labels: Path, judges: dict[str, Any]) -> dict[str, Any]:
    """One run's record; classifiers are trained once for each set of faces."""
    module, data = load(run, labels)
    train, test = labelled(data, "train", "Smiling"), labelled(data, "test", "Smiling")
    judge = judges.get(data.manifest) or judges.setdefault(data.manifest, train_classifier(*train, seed=0))
    ways = directions(coded(module, train[0]), train[1], seed=0)
    had = test[1] > 0.5
    z = coded(module, test[0])
    right = says_yes(judge, test[0]) == had.numpy()
    kept = says_yes(judge, moved(module, z, ways["logistic"], 0.0)) == had.numpy()
    return {
        "faces": {"train": len(train[0]), "test": len(test[0]), "smiling in test": int(had.sum())},
        "classifier on photographs": records.share(int(right.sum()), len(right)),
        "classifier on reconstructions": records.share(int(kept.sum()), len(kept)),
        "code": {"kind": module.config["choices"].get("model/code"), "size": module.latent_size},
        "data": {"manifest": data.manifest, "protocol_hash": data.summary()["protocol_hash"]},
        "edits": [*flips(module, judge, z[~had], ways, 1), *flips(module, judge, z[had], ways, -1)],
    }


# ------------------------------------------------------------------------------------------------------------- glasses


def drawn_again(source: Drawn, index: int, size: tuple[int, int], glasses: bool) -> NDArray[np.uint8]:
    """The same face, with or without clear glasses."""
    return paint({**source.factors(index), "eyeglasses": float(glasses), "sunglasses": 0.0}, size)


def pictures(source: Drawn, indices: NDArray[np.int64], size: tuple[int, int], glasses: bool) -> Tensor:
    """(N, 3, H, W) in [-1, 1]."""
    faces = np.stack([drawn_again(source, int(i), size, glasses) for i in indices])
    return from_uint8(torch.from_numpy(faces.transpose(0, 3, 1, 2)))


def edit_glasses(run: Path) -> tuple[dict[str, Any], Tensor]:
    """Record and grid: bare faces, reconstructions, edits, and the same faces drawn with glasses."""
    module, data = load(run, None)
    images, labels = labelled(data, "train", "Eyeglasses")
    ways = directions(coded(module, images), labels, seed=0)
    node = module.config["data"]["source"]
    source = Drawn(count=node["count"], seed=node["seed"])
    rows = data.rows["test"]
    bare = rows[data.attributes[1][rows, data.attributes[0].index("Eyeglasses")] == 0]
    size = (data.height, data.width)
    without, right = pictures(source, bare, size, False), pictures(source, bare, size, True)
    z, best = coded(module, without), coded(module, right)
    plain, ceiling = moved(module, z, ways["logistic"], 0.0), moved(module, best, ways["logistic"], 0.0)
    change = right - without
    found = {name: _against(module, z, way, plain, right, change) for name, way in ways.items()}
    record = {
        "faces": {"train": len(images), "with glasses": int(labels.sum()), "test, without": len(bare)},
        "psnr of the reconstruction against the face with glasses": float(psnr(_unit(plain), _unit(right)).mean()),
        "psnr of that face's own reconstruction": float(psnr(_unit(ceiling), _unit(right)).mean()),
        "share of the true change in the rows of the eyes": _in_eyes(change),
        "directions": found,
    }
    shown = slice(0, SHOWN)
    edited = moved(module, z[shown], ways["mean difference"], 1.0)
    return record, torch.cat([without[shown], plain[shown], edited, right[shown]])


def _against(module: Any, z: Tensor, way: Tensor, plain: Tensor, right: Tensor, change: Tensor) -> list[dict[str, Any]]:
    rows = []
    for strength in STRENGTHS[1:]:
        edited = moved(module, z, way, strength)
        rows.append(
            {
                "strength": strength,
                "psnr against the face with glasses": float(psnr(_unit(edited), _unit(right)).mean()),
                "correlation with the true change": _correlation(edited - plain, change),
                "share of the change in the rows of the eyes": _in_eyes(edited - plain),
            }
        )
    return rows


def _unit(images: Tensor) -> Tensor:
    return (images + 1) / 2


def _correlation(a: Tensor, b: Tensor) -> float:
    """Mean over faces of the cosine between two changes of pixels."""
    return float(functional.cosine_similarity(a.flatten(1), b.flatten(1)).mean())


def _in_eyes(change: Tensor) -> float:
    """The share of the squared change that lies in the rows of the eyes."""
    height = change.shape[-2]
    top, bottom = (round(share * height) for share in EYES)
    return float(change[:, :, top:bottom].square().sum() / change.square().sum())


# ------------------------------------------------------------------------------------------------------------- command


@app.command()
def smiles(
    runs: Annotated[list[Path], typer.Argument(help="Runs of model=latent_editor on the same faces.")],
    labels: Annotated[Path, typer.Option(help="A CSV with the columns image and emotion.")],
) -> None:
    """Flip rates against pixel cost on people never trained on."""
    table, judges = smiling_only(labels), {}
    found = {run.name: edit_smiles(run, table, judges) for run in runs}
    table.unlink()
    print(records.keep("latent_edits_smiles", {"runs": found}))


@app.command()
def glasses(run: Path) -> None:
    """Edits of drawn faces against the same faces drawn with glasses."""
    record, grid = edit_glasses(run)
    GRID.parent.mkdir(parents=True, exist_ok=True)
    write_png(make_grid(grid, SHOWN), GRID)
    print(records.keep("latent_edits_glasses", {"run": run.name, **record}))


if __name__ == "__main__":
    command.run(app)
