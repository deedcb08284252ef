"""The `faceforge` command. Training is Hydra's; what uses a run takes a path and a few flags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from faceforge.data import command as data_command
from faceforge.errors import BadInput

app = typer.Typer(
    help="Train, measure and use generative models of faces.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_command.app, name="data")


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Train, measure and use generative models of faces."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Train a model: the same as `python train.py`, with the same overrides (try `faceforge train --help`)."""
    from faceforge.main import main

    sys.argv = ["faceforge train", *context.args]
    main()


@app.command()
def filters(
    picture_or_folder: Annotated[Path, typer.Argument(help="A picture, or a folder of crops at any depth.")],
    out: Annotated[Path | None, typer.Option(help="A .png or a folder; default _review/filters/ beside it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace panels that are there.")] = False,
) -> None:
    """Show what the filters (greys, thresholds, contours, edges) make of a picture, in one panel a picture."""
    from faceforge.cut.panel import write_panels

    count, where = write_panels(picture_or_folder, out, overwrite)
    print(f"{count} panel{'s' * (count != 1)}: {where}")


def run() -> NoReturn:
    """The entry point: what is wrong with the input is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except BadInput as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # how the parser's own complaints are told, in every typer
            raise
        _fail(error.format_message())  # pyright: ignore[reportAttributeAccessIssue]
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)
    sys.exit(2)
