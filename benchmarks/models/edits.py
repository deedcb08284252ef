"""Edits of faces by their codes: does a smile direction make people smile, do glasses sit where glasses belong?

    python -m benchmarks.models.edits smiles RUN RUN ... --labels labels.csv
    python -m benchmarks.models.edits glasses RUN

``smiles`` edits people never trained on and asks a predictor that has nothing to do with the autoencoder. ``glasses``
edits drawn faces, of which the same face with glasses can be drawn. Each writes a record; no photograph is written.
Both look at reconstructions; `faceforge evaluate RUN --edits NAMES` judges the faces that `faceforge edit` gives.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor
from torch.nn import functional

from benchmarks import command, records, runs
from faceforge.data.datamodule import FaceData
from faceforge.data.sources.drawn import Drawn
from faceforge.drawn.portrait import paint
from faceforge.engine import checkpoint
from faceforge.errors import BadInput
from faceforge.evaluation import predictors
from faceforge.evaluation.edits.curves import STRENGTHS, Faces, Judges, curve
from faceforge.evaluation.edits.ways import Editor, Way, ways_of
from faceforge.evaluation.predictors import Predictor
from faceforge.io.images import from_uint8, make_grid, write_png
from faceforge.metrics.pairs import psnr
from faceforge.schemes.abilities import Encodes

SHOWN = 8  # drawn faces in the grid
GRID = records.GRIDS / "latent_edits_glasses.png"
EYES = (0.30, 0.55)  # rows of a drawn face, as shares of its height, in which glasses lie
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


# --------------------------------------------------------------------------------------------------------------- faces


def smiling_only(labels: Path) -> Path:
    """A table of one attribute, Smiling: 1 for happiness, 0 for neutral, empty for other faces."""
    values = {"happiness": "1", "neutral": "0"}
    with labels.open() as file:
        rows = [(row["image"], values.get(row["emotion"], "")) for row in csv.DictReader(file)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False, newline="") as file:
        csv.writer(file).writerows([("image", "Smiling"), *rows])
    return Path(file.name)


def load(run: Path, attributes: Path | None) -> tuple[Encodes, FaceData]:
    """A latent run's module, and its data with other labels where some are given. Raises BadInput."""
    module = checkpoint.load(run)
    if not isinstance(module, Encodes):
        raise BadInput(f"{run}: has no codes to edit; a run of model=latent_editor has")
    changes = {"attributes": str(attributes)} if attributes else {}
    return module, runs.faces(module.config["data"], **changes)


def labelled(data: FaceData, split: str, name: str) -> tuple[Tensor, Tensor]:
    """The faces of a split whose attribute is known, (N, C, H, W) in [-1, 1], and its values (N,)."""
    assert data.attributes is not None
    names, values = data.attributes
    column = values[data.rows[split], names.index(name)]
    known = np.flatnonzero(~np.isnan(column))
    return data.images(split, known), torch.from_numpy(column[known] > 0.5).float()


def directions(editor: Editor, images: Tensor, name: str, labels: Tensor) -> list[Way]:
    """Mean difference, logistic and shuffled labels; with one attribute there is nothing to be orthogonal to."""
    codes = editor.codes(images).double().numpy()
    ways = ways_of(codes, editor.module.code_range, (name,), labels[:, None].numpy(), seed=0)
    return [way for way in ways if way.name != "orthogonalised"]


# -------------------------------------------------------------------------------------------------------------- smiles


def flips(editor: Editor, judge: Predictor, images: Tensor, ways: Sequence[Way], sign: int) -> Iterator[dict[str, Any]]:
    """Of the faces whose reconstruction does not have what the step gives: how many have it after, at what cost.

    The cost is the mean absolute change of a pixel against the reconstruction, range 1, over all faces.
    """
    judges = Judges(judge)
    faces = Faces.of(editor, judges, "Smiling", images, [None] * len(images), sign=sign)
    for way in ways:
        for found in curve(editor, judges, faces, way):
            turned = found.values["flips"][~np.isnan(found.values["flips"])]
            yield {
                "edit": "smile" if sign > 0 else "no smile",
                "direction": way.name,
                "strength": found.strength,
                **records.share(int(turned.sum()), len(turned)),
                "cost": float(found.values["change"].mean()),
            }


def edit_smiles(run: Path, labels: Path, judges: dict[str, Predictor]) -> dict[str, Any]:
    """One run's record; predictors are trained once for each set of faces."""
    module, data = load(run, labels)
    editor = Editor(module, details=False)
    train, test = labelled(data, "train", "Smiling"), labelled(data, "test", "Smiling")
    if data.manifest not in judges:
        taught = train[1][:, None].numpy()
        judges[data.manifest] = predictors.fit(("Smiling",), train[0], taught, 0, module.device)
    judge = judges[data.manifest]
    ways = directions(editor, train[0], "Smiling", train[1])
    had = test[1] > 0.5
    right = judge(test[0])[:, 0] == had.numpy()
    kept = judge(editor.decoded(editor.codes(test[0])))[:, 0] == had.numpy()
    return {
        "faces": {"train": len(train[0]), "test": len(test[0]), "smiling in test": int(had.sum())},
        "classifier on photographs": records.share(int(right.sum()), len(right)),
        "classifier on reconstructions": records.share(int(kept.sum()), len(kept)),
        "code": {"kind": module.config["choices"].get("model/code"), "size": module.latent_size},
        "data": {"manifest": data.manifest, "protocol_hash": data.summary()["protocol_hash"]},
        "edits": [*flips(editor, judge, test[0][~had], ways, 1), *flips(editor, judge, test[0][had], ways, -1)],
    }


# ------------------------------------------------------------------------------------------------------------- glasses


def bare(source: Drawn, rows: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The faces of these rows without glasses of any kind, (N, 3, H, W) in [-1, 1]."""
    faces = [paint({**source.factors(int(n)), "eyeglasses": 0.0, "sunglasses": 0.0}, size) for n in rows]
    return from_uint8(torch.from_numpy(np.stack(faces).transpose(0, 3, 1, 2)))


def edit_glasses(run: Path) -> tuple[dict[str, Any], Tensor]:
    """Record and grid: bare faces, reconstructions, edits, and the same faces drawn with glasses."""
    module, data = load(run, None)
    editor = Editor(module, details=False)
    images, labels = labelled(data, "train", "Eyeglasses")
    ways = {way.name: way for way in directions(editor, images, "Eyeglasses", labels)}
    node = module.config["data"]["source"]
    source = Drawn(count=node["count"], seed=node["seed"])
    assert data.attributes is not None
    rows = data.rows["test"]
    rows = rows[data.attributes[1][rows, data.attributes[0].index("Eyeglasses")] == 0]
    without, right = bare(source, rows.tolist(), (data.height, data.width)), data.changed(rows, "Eyeglasses")
    if right is None:
        raise BadInput(f"{run}: its faces are not drawn; must be a run on data=drawn")
    z = editor.codes(without)
    plain, ceiling = editor.decoded(z), editor.decoded(editor.codes(right))
    record = {
        "faces": {"train": len(images), "with glasses": int(labels.sum()), "test, without": len(rows)},
        "psnr of the reconstruction against the face with glasses": float(psnr(_unit(plain), _unit(right)).mean()),
        "psnr of that face's own reconstruction": float(psnr(_unit(ceiling), _unit(right)).mean()),
        "share of the true change in the rows of the eyes": _in_eyes(right - without),
        "directions": {name: _against(editor, z, way, plain, right, right - without) for name, way in ways.items()},
    }
    shown = slice(0, SHOWN)
    edited = editor.decoded(ways["mean difference"].edit(z[shown], "Eyeglasses", 1.0))
    return record, torch.cat([without[shown], plain[shown], edited, right[shown]])


def _against(editor: Editor, z: Tensor, way: Way, plain: Tensor, right: Tensor, change: Tensor) -> list[dict[str, Any]]:
    rows = []
    for strength in STRENGTHS[1:]:
        edited = editor.decoded(way.edit(z, "Eyeglasses", strength))
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
