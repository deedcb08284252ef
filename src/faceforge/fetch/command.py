"""`faceforge data`: get a set, look at what one has, and the crops by which CelebA's scores differ."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from faceforge.errors import BadInput

app = typer.Typer(help="Get sets of faces, and look at what you have.", rich_markup_mode=None, no_args_is_help=True)


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="celeba|lfw", help="The set.")],
    folder: Annotated[Path | None, typer.Argument(metavar="[DST]", help="Where to; a folder of its name here.")] = None,
    file: Annotated[Path | None, typer.Option(help="A copy that you have: folder, archive or parquet.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Take one step: file, hub, figshare (lfw) or drive (celeba).")
    ] = None,
) -> None:
    """Find a set here, or fetch it.

    It comes from the first place that gives it whole: this machine, the Hugging Face hub, its host.
    An interrupted download goes on when the same command is typed again. Exit code 2 where nobody has it.
    """
    from faceforge.fetch import catalog
    from faceforge.fetch.inspect import check as look

    if name not in catalog.SETS:
        nearest = get_close_matches(name, catalog.SETS, n=1, cutoff=0.0)[0]
        raise BadInput(f"faceforge data get {name}: no such set, the nearest is {nearest}; lfw or celeba")
    say = partial(print, flush=True)
    folder, given = (folder or Path(name)).expanduser(), file and file.expanduser()
    found = look(catalog.get(catalog.SETS[name], folder, given, only, say))
    print("", *found.lines, "", f"  {found.command}", sep="\n")


@app.command()
def check(path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, archive or parquet file.")]) -> None:
    """Say what lies at PATH and how to use it.

    What it holds, which source and crop fit it, and the one command to type. Of many pictures only some are read.
    """
    from faceforge.fetch.inspect import check as look

    found = look(path.expanduser())
    print(*found.lines, "", f"  {found.command}", sep="\n")


@app.command()
def protocols() -> None:
    """List the crops that "CelebA at 64x64" can mean.

    Scores of different ones are not comparable.
    """
    from faceforge.data.framing import PROTOCOLS

    for crop, who in PROTOCOLS.items():
        print(f"data.crop={crop:<10} {who}")
