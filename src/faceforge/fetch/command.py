"""`faceforge data`: download a data set, inspect local data, list the CelebA crop protocols."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from faceforge import words
from faceforge.errors import BadInput

app = typer.Typer(help="Download face data sets and inspect local data.", rich_markup_mode=None, no_args_is_help=True)


@app.command(epilog="Example: faceforge data get lfw")
def get(
    name: Annotated[str, typer.Argument(metavar="celeba|lfw", help="The data set.")],
    folder: Annotated[Path | None, typer.Argument(metavar="[DST]", help="Target folder; default: ./NAME.")] = None,
    file: Annotated[Path | None, typer.Option(help="A local copy: folder, archive or parquet.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Try one source only: file, hub, figshare (lfw) or drive (celeba).")
    ] = None,
) -> None:
    """Find a data set on this machine or download it.

    The first complete source is used: this machine, the Hugging Face hub, the original host.
    To resume an interrupted download, run the same command again. Exit code 2 if no source has it.
    """
    from faceforge.fetch import catalog
    from faceforge.fetch.inspect import check as look

    if name not in catalog.SETS:
        nearest = get_close_matches(name, catalog.SETS, n=1, cutoff=0.0)[0]
        raise BadInput(f"faceforge data get {name}: no such set, the nearest is {nearest}; must be lfw or celeba")
    say = partial(print, flush=True)
    folder, given = (folder or Path(name)).expanduser(), file and file.expanduser()
    finding = look(catalog.get(catalog.SETS[name], folder, given, only, say))
    print("", finding, sep="\n")


@app.command(epilog="Example: faceforge data check photos.zip")
def check(path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder, archive or parquet file.")]) -> None:
    """Inspect a data set and print the command that uses it, if one works.

    Reports layout, people, labels and splits as a tree, and the data source and crop that fit. Reads a sample of the
    images.
    """
    from faceforge.fetch.inspect import check as look

    print(look(path.expanduser()))


@app.command(epilog="Example: faceforge data protocols")
def protocols() -> None:
    """List the crop protocols that "CelebA at 64x64" can mean.

    Scores of different protocols are not comparable.
    """
    from faceforge.data.framing import PROTOCOLS

    for crop, who in PROTOCOLS.items():
        print(f"data.crop={crop:<10} {who}")
    print(f"To train by one:  {words.train('data=celeba', 'data.root=PATH', 'data.crop=c140')}")
