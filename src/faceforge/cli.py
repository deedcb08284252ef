"""The `faceforge` command. Training is Hydra's; what uses a run takes a path and a few flags."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from faceforge.errors import BadInput
from faceforge.fetch import command as data_command
from faceforge.studio import cli as studio_cli

app = typer.Typer(
    help="Train, measure and use generative models of faces.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_command.app, name="data")
app.add_typer(studio_cli.app)


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
def bench(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[OVERRIDES]", help="As for train, such as model=pix2pix.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="For each of about ten measurements.")] = 4.0,
    compiled: Annotated[bool, typer.Option("--compile", help="Also trainer.compile, which takes minutes.")] = False,
) -> None:
    """Time a model's training step on this machine with each switch on and off, and suggest what is faster."""
    from faceforge.engine.bench import bench

    print("\n".join(bench(overrides or [], seconds, compiled)))


@app.command()
def cut(
    photos: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of photos, a zip or tar of them, or one.")],
    faces: Annotated[Path, typer.Argument(metavar="DST", help="A new folder, or one that was cut before.")],
    size: Annotated[
        str, typer.Option(help="WIDTHxHEIGHT, one number for a square, published (360x480) or pix2pix (256x320).")
    ] = "published",
    detector: Annotated[
        Literal["yunet", "haar", "verified"],
        typer.Option(help="yunet; haar, the published cascade; verified, Haar boxes with YuNet as judge."),
    ] = "yunet",
    align: Annotated[bool, typer.Option("--align", help="Turn every face until its eyes are level.")] = False,
    zoom: Annotated[float, typer.Option(help="1 is the published frame, more comes closer.")] = 1.0,
    min_face: Annotated[int, typer.Option(help="Faces of fewer pixels are rejected.")] = 40,
    labels: Annotated[Path | None, typer.Option(help="A CSV of labels of the photos, for the summary.")] = None,
    engine: Annotated[
        Literal["loky", "ray", "dask"], typer.Option(help="loky: this machine; ray, dask: a cluster or this machine.")
    ] = "loky",
    processes: Annotated[int | None, typer.Option(help="Default: one a core.")] = None,
    people: Annotated[bool, typer.Option("--people", help="Say in the manifest which faces are one person.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove all that is kept of photos no longer in SRC.")] = False,
) -> None:
    """Cut the faces out of photos: crops, a manifest that can be edited, and pages to look through."""
    from faceforge.cut import command

    typed = shlex.join(["faceforge", *sys.argv[1:]])
    command.cut(photos, faces, size, detector, align, zoom, min_face, labels, engine, processes, people, prune, typed)


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


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.")],
    split: Annotated[Literal["test", "val", "train"], typer.Option(help="Which of the run's own faces.")] = "test",
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which of the run's checkpoints.")] = "best",
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="At most so many faces; default all, of generated ones 1,000."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of generated faces, of choices among real ones, of intervals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A JSON file; default RUN/evaluation.json, made anew.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another file than the run's own.")] = False,
    data_root: Annotated[Path | None, typer.Option(help="Where the run's faces are now, if they moved.")] = None,
    trusted_packages: Annotated[
        list[str] | None, typer.Option(help="A package of your own that the run's configuration names.")
    ] = None,
) -> None:
    """Score a run on faces it has never seen, beside baselines, with intervals; the report page shows the table."""
    from faceforge.evaluation import command

    command.evaluate(
        command.Options(run, split, checkpoint, count, seed, out, overwrite, data_root, tuple(trusted_packages or ()))
    )


def run() -> NoReturn:
    """The entry point: what is wrong with the input is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except BadInput as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        complaint = getattr(error, "format_message", None)  # how the parser's own are told, in every typer
        if complaint is None:
            raise
        _fail(complaint())
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)
    sys.exit(2)
