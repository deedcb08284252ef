"""The commands that use a run. Flags only: what they do is in command.py, which is imported when one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, a checkpoint, or what was exported of one.")]
Photo = Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture, or a folder of them at any depth.")]
Out = Annotated[
    Path | None, typer.Option(help="A file (.png: one grid) or a folder (one file each); default RUN/made/...")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what lies there.")]
Seed = Annotated[int, typer.Option(help="Of the random faces; sample i of a seed is the same for any count, to 1/255.")]
Truncation = Annotated[float, typer.Option(help="Below 1: closer to the middle, more alike and better.")]
Density = Annotated[
    Literal["mixture", "gaussian", "prior", "uniform"],
    typer.Option(help="Codes as those of training faces (mixture, gaussian), as trained for, or U[0, 1)."),
]
Direction = Annotated[
    Literal["orthogonalised", "mean_difference", "logistic"], typer.Option(help="mean_difference is as published.")
]
Whole = Annotated[bool, typer.Option("--whole", help="Take the picture itself as one face; nothing is looked for.")]
Show = Annotated[
    Literal["photo", "faces"], typer.Option(help="The photo with its faces laid back, or the faces by steps.")
]
Seconds = Annotated[float, typer.Option(help="How long the film is, at 24 pictures a second.")]
Trusted = Annotated[
    list[str] | None, typer.Option("--trusted-packages", help="A package of yours that the run's config names.")
]


@app.command()
def generate(
    run: Run,
    count: Annotated[int, typer.Option("--count", "-n", help="How many faces.")] = 64,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    density: Density = "mixture",
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Random faces of a GAN or a latent editor."""
    from faceforge.studio import command

    command.generate(command.Request(run, out, overwrite, tuple(trusted or ())), count, seed, truncation, density)


@app.command()
def upscale(
    run: Run,
    photo: Photo,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Make the photo smaller first: lowered, bicubic, restored, original.")
    ] = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Photos made larger by a run of task=super_resolution."""
    from faceforge.studio import command

    command.upscale(command.Request(run, out, overwrite, tuple(trusted or ())), photo, simulate)


@app.command()
def translate(
    run: Run,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture, a folder of them, or a film.")],
    whole: Whole = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="The picture is lines on black already, drawn by hand (contours, canny).")
    ] = False,
    show: Show = "photo",
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """What a run's task makes of the faces in photos: coloured, redrawn from lines, sharpened."""
    from faceforge.studio import command

    command.translate(command.Request(run, out, overwrite, tuple(trusted or ())), photo, whole, show, lines)


@app.command()
def edit(
    run: Run,
    photo: Photo,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=NUMBER", help="Smiling=1.5 Eyeglasses=-1")
    ] = None,
    teach: Annotated[
        tuple[str, Path, Path] | None,
        typer.Option(metavar="NAME HAVING LACKING", help="Learn an attribute from two folders of pictures first."),
    ] = None,
    direction: Direction = "orthogonalised",
    whole: Whole = False,
    show: Show = "photo",
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Photos with attributes changed by a latent editor."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.edit(asked, photo, changes or [], direction, whole, show, teach)


@app.command()
def average(
    folder: Annotated[Path, typer.Argument(metavar="PHOTOS", help="A folder of pictures, at any depth.")],
    run: Annotated[Path | None, typer.Option(help="A run of model=latent_editor, or of task=average.")] = None,
    way: Annotated[
        Literal["landmarks", "latent", "translation"] | None,
        typer.Option(help="Default: what the run can do; without a run, by landmarks."),
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="A film of how it comes to rest.")] = False,
    out: Annotated[Path | None, typer.Option(help="A .png, or .mp4 or .gif with --video.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """The mean face of a folder."""
    from faceforge.studio import command

    command.average(folder, run, way, out, video, overwrite, tuple(trusted or ()))


@app.command()
def walk(
    run: Run,
    faces: Annotated[int, typer.Option(help="How many random faces the way leads through.")] = 6,
    seconds: Seconds = 10.0,
    attribute: Annotated[str | None, typer.Option(help="One face along this attribute instead.")] = None,
    span: Annotated[tuple[float, float], typer.Option("--from-to", help="Of the attribute.")] = (-2.0, 2.0),
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    density: Density = "mixture",
    direction: Direction = "orthogonalised",
    out: Annotated[Path | None, typer.Option(help="A .mp4 or .gif; default RUN/made/walk-SEED.mp4.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """A film through the space of faces."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.walk(asked, faces, seconds, seed, truncation, density, attribute, span, direction)


@app.command()
def morph(
    run: Run,
    first: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another.")],
    seconds: Seconds = 4.0,
    steps: Annotated[int, typer.Option(help="Of optimisation, by which the ends become more like the photos.")] = 100,
    whole: Whole = False,
    out: Annotated[Path | None, typer.Option(help="A .mp4, a .gif, or a .png of eight steps.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """A film from one person's face to another's."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.morph(asked, first, second, seconds, steps, whole)


@app.command()
def invert(
    run: Run,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A picture.")],
    steps: Annotated[int, typer.Option(help="Of optimisation; 0: what the encoder says.")] = 100,
    whole: Whole = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """A photo's face as a code: how like it is, and the code as a .safetensors file."""
    from faceforge.studio import command

    command.invert(command.Request(run, out, overwrite, tuple(trusted or ())), photo, steps, whole)


@app.command("app")
def app_(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Runs to offer; default: a small model of drawn faces."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen. Any other than this machine can be reached.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    trusted: Trusted = None,
) -> None:
    """A page in the browser over all of these."""
    from faceforge.studio.web.server import serve

    serve(runs or [], host, port, tuple(trusted or ()))


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .safetensors, a .onnx, or a new folder for a model hub.")
    ],
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """A model for other programs, with proof that it computes the same."""
    from faceforge.studio import command

    command.export(command.Request(run, None, overwrite, tuple(trusted or ())), out)
