"""The `faceforge` command. Training is Hydra's; what uses a run takes a path and a few flags."""

from __future__ import annotations

import sys

import typer

app = typer.Typer(help="Train, measure and use generative models of faces.", no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """Train, measure and use generative models of faces."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(context: typer.Context) -> None:
    """Train a model: the same as `python train.py`, with the same overrides (try `faceforge train --help`)."""
    from faceforge.main import main

    sys.argv = ["faceforge train", *context.args]
    main()
