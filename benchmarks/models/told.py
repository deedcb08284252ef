"""What runs heed of the attributes that they were told, from their evaluations; one line a run, and a record.

python -m benchmarks.models.told RUN...     # after `faceforge evaluate RUN`; runs told nothing are for comparison
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import records
from benchmarks.command import run
from faceforge.metrics.table import find

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(runs: Annotated[list[Path], typer.Argument()]) -> None:
    """Print and record them."""
    found = {run.name: of(run) for run in runs}
    for name, about in found.items():
        print(name, " ".join(f"{score} {value:.4g}" for score, value in about["scores"].items()))
        for attribute, shares in about["attributes"].items():
            print(f"  {attribute}", " ".join(f"{kind} {share:.3f}" for kind, share in shares.items()))
    print(records.keep("conditional", {"runs": found}))


def of(folder: Path) -> dict[str, Any]:
    """The command of a run, its scores, and of each attribute the shares seen as told and of all faces."""
    about, scored = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "evaluation"))
    row = next(row for row in scored["rows"] if row["kind"] == "model" and row["table"] == "generated")
    names = {name: find(row["scores"], name) for name in ("kid", "fid", "recall")}
    told = scored["protocols"].get("agreement", {}).get("attributes", {})
    faces = about["data"]["attributes"]
    return {
        "command": records.portable(about["command"].split()),
        "commit": about["commit"],
        "images": about["images"],
        "seconds": about["seconds"],
        "device": about["device"],
        "manifest": about["data"]["manifest"],
        "faces": about["data"]["counts"],
        "scores": {name: row["scores"][score]["value"] for name, score in names.items() if score},
        "intervals": {
            name: [row["scores"][score][end] for end in ("low", "high")] for name, score in names.items() if score
        },
        "attributes": {name: {**shares, "of faces": faces[name]} for name, shares in told.items()},
    }


if __name__ == "__main__":
    run(app)
