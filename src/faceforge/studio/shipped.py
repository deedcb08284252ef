"""Small models of drawn faces that ship with faceforge: ``drawn:NAME`` wherever the studio takes a run."""

from __future__ import annotations

from pathlib import Path

from faceforge.errors import BadInput

FOLDER = Path(__file__).with_name("drawn")
PREFIX = "drawn:"
MADE = Path("runs", "drawn")  # results go to made/ in a folder of the model's name here


def files() -> dict[str, Path]:
    """The exported models by what one types, the latent editor first."""
    found = sorted(FOLDER.glob("*.safetensors"), key=lambda file: (file.stem != "latent_editor", file.stem))
    return {PREFIX + file.stem: file for file in found}


def is_one(path: Path) -> bool:
    """Whether a path means a model that ships."""
    return str(path).startswith(PREFIX)


def file_of(path: Path) -> Path:
    """The exported model that ``drawn:NAME`` means. Raises BadInput for another name."""
    known = files()
    if str(path) not in known:
        raise BadInput(f"{path}: no such model; must be {', '.join(known)}")
    return known[str(path)]
