"""The commands that use a run: their options only. command.py implements them and is imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from faceforge.studio import completion

app = typer.Typer()

Run = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="A run folder, a checkpoint, an exported model, drawn:MODEL, which ships, or hf://USER/NAME.",
        autocompletion=completion.runs,
    ),
]
Photo = Annotated[Path, typer.Argument(metavar="PHOTO", help="An image, a folder of images at any depth, or a video.")]
Preview = Annotated[
    bool, typer.Option("--preview", help="Of a video: four frames before and after, as one picture, and no video.")
]
Out = Annotated[
    Path | None, typer.Option(help="A .png (one grid), a folder (one file each) or a video; default: RUN/made/...")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
Seed = Annotated[int, typer.Option(help="Of the random faces; sample i is the same for any count, within 1/255.")]
Truncation = Annotated[float, typer.Option(help="Below 1: less variety, better quality.")]
Density = Annotated[
    Literal["mixture", "gaussian", "prior", "uniform"],
    typer.Option(
        help="Codes like those of training faces (mixture, gaussian), or N(0, 1) or U[0, 1) for a model trained for it."
    ),
]
Direction = Annotated[
    Literal["orthogonalised", "mean_difference", "logistic"] | None,
    typer.Option(help="mean_difference is as published, and the default of a GAN; else orthogonalised."),
]
NoDetect = Annotated[bool, typer.Option("--no-detect", help="Use the whole image as one face, without face detection.")]
Show = Annotated[
    Literal["photo", "faces"], typer.Option(help="The photo with its faces pasted back, or the steps for each face.")
]
SelfEnsemble = Annotated[
    bool, typer.Option("--self-ensemble", help="Mean of the outputs for inputs and mirrored ones: twice the time.")
]
Seconds = Annotated[float, typer.Option(help="Length of the video, at 24 frames per second.")]
Trusted = Annotated[
    list[str] | None, typer.Option("--trusted-packages", help="Your package that the run's config imports.")
]


@app.command(epilog="Example: faceforge generate runs/RUN -n 64 --seed 1")
def generate(
    run: Run,
    attributes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=NUMBER", help="1 with, 0 without where a GAN is told; else as in edit."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="Number of faces.")] = 64,
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    density: Density = "mixture",
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Generate random faces with a GAN or a latent editor."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.generate(asked, count, seed, truncation, density, attributes or ())


@app.command(epilog="Example: faceforge upscale drawn:conv_superres photo.jpg")
def upscale(
    run: Run,
    photo: Photo,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Downscale the photo first, then compare with the original.")
    ] = False,
    self_ensemble: SelfEnsemble = False,
    preview: Preview = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Enlarge photos or a video with a run of task=super_resolution."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.upscale(asked, photo, simulate, self_ensemble, preview)


@app.command(epilog="Example: faceforge translate drawn:pix2pix photo.jpg")
def translate(
    run: Run,
    photo: Photo,
    no_detect: NoDetect = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="The image is a line drawing on black (contours, canny).")
    ] = False,
    strength: Annotated[
        float, typer.Option(help="Of the colours that a run of task=colorize gives: 0 is grey, 1 as predicted.")
    ] = 1.0,
    hint: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,#COLOUR", help="The colour meant at a pixel of the photo (a run with task.hints)."),
    ] = None,
    show: Show = "photo",
    preview: Preview = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Apply the task of a run to the faces in photos or a video: colorize, deblur, redraw from lines."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.translate(asked, photo, no_detect, show, lines, strength, hint or (), preview)


@app.command(epilog="Example: faceforge edit drawn:latent_editor photo.jpg Eyeglasses=2")
def edit(
    run: Run,
    photo: Photo,
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=NUMBER", help="For example Smiling=1.5 Eyeglasses=-1.")
    ] = None,
    learn: Annotated[
        tuple[str, Path, Path] | None,
        typer.Option(metavar="NAME WITH WITHOUT", help="First learn an attribute from two folders of images."),
    ] = None,
    direction: Direction = None,
    no_detect: NoDetect = False,
    show: Show = "photo",
    preview: Preview = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Change attributes of the faces in photos or a video with a latent editor."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.edit(asked, photo, changes or [], direction, no_detect, show, learn, preview)


@app.command(epilog="Example: faceforge average my_faces --video")
def average(
    folder: Annotated[Path, typer.Argument(metavar="PHOTOS", help="A folder of images, at any depth.")],
    run: Annotated[Path | None, typer.Option(help="A run of model=latent_editor, or of task=average.")] = None,
    method: Annotated[
        Literal["landmarks", "latent", "translation"] | None,
        typer.Option(help="Default: what the run supports; without a run, landmarks."),
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="A video of how the mean converges.")] = False,
    out: Annotated[Path | None, typer.Option(help="A .png, or .mp4 or .gif with --video.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Compute the mean face of a folder of photos."""
    from faceforge.studio import command

    command.average(folder, run, method, out, video, overwrite, tuple(trusted or ()))


@app.command(epilog="Example: faceforge walk runs/RUN --seconds 10 --attribute Smiling")
def walk(
    run: Run,
    faces: Annotated[int, typer.Option(help="Number of random faces on the path.")] = 6,
    seconds: Seconds = 10.0,
    attribute: Annotated[str | None, typer.Option(help="Vary one face along this attribute instead.")] = None,
    span: Annotated[tuple[float, float], typer.Option("--from-to", help="Range of the attribute.")] = (-2.0, 2.0),
    seed: Seed = 0,
    truncation: Truncation = 1.0,
    density: Density = "mixture",
    direction: Direction = None,
    out: Annotated[Path | None, typer.Option(help="A .mp4 or .gif; default: RUN/made/walk-SEED.mp4.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Make a video that walks through latent space."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.walk(asked, faces, seconds, seed, truncation, density, attribute, span, direction)


@app.command(epilog="Example: faceforge morph drawn:latent_editor a.jpg b.jpg")
def morph(
    run: Run,
    first: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another photo.")],
    seconds: Seconds = 4.0,
    steps: Annotated[int, typer.Option(help="Optimisation steps that fit the two codes to the photos.")] = 100,
    no_detect: NoDetect = False,
    out: Annotated[Path | None, typer.Option(help="A .mp4, a .gif, or a .png with eight steps.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Make a video that morphs the face of one person into that of another."""
    from faceforge.studio import command

    asked = command.Request(run, out, overwrite, tuple(trusted or ()))
    command.morph(asked, first, second, seconds, steps, no_detect)


@app.command(epilog="Example: faceforge invert runs/RUN photo.jpg")
def invert(
    run: Run,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="An image.")],
    steps: Annotated[int, typer.Option(help="Optimisation steps; 0 uses the encoder only.")] = 100,
    no_detect: NoDetect = False,
    out: Out = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Encode the face in a photo; writes its reconstruction and the code as a .safetensors file."""
    from faceforge.studio import command

    command.invert(command.Request(run, out, overwrite, tuple(trusted or ())), photo, steps, no_detect)


@app.command(epilog="Example: faceforge directions runs/GAN")
def directions(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run of a GAN, whose training faces are there.", autocompletion=completion.runs
        ),
    ],
    steps: Annotated[int, typer.Option(help="Of the encoder's training, 64 faces each.")] = 1500,
    count: Annotated[int, typer.Option("--count", "-n", help="Generated faces that give the directions.")] = 8000,
    seed: Annotated[int, typer.Option(help="Of the generated faces and of both trainings.")] = 0,
    overwrite: Overwrite = False,
    data_root: Annotated[Path | None, typer.Option(help="Where the run's data is now, if it moved.")] = None,
    trusted: Trusted = None,
) -> None:
    """Find directions of a GAN, by attribute and by what differs most, and train an encoder of photos for it.

    Then edit, invert, morph and walk --attribute work on the run, in the app too. Takes minutes.
    """
    from faceforge.studio import directions as found

    found.run(found.Options(run, steps, count, seed, overwrite, data_root, tuple(trusted or ())))


@app.command("app", epilog="Example: faceforge app runs/GAN runs/PIX2PIX --port 8000")
def app_(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN...",
            help="Runs to use; default: the small models of drawn faces that ship.",
            autocompletion=completion.runs,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any other address than the default is open to the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free port.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT|FILE",
            help="Answer only those who have this token, or the one in this file. Default: $FACEFORGE_TOKEN.",
        ),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address behind a proxy, such as https://faces.example.com/studio.")
    ] = None,
    root_path: Annotated[
        str | None,
        typer.Option(help="Path of the page behind a proxy, such as /studio; default: that of --public-url."),
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that answer requests; each opens the models. At most one per core.")
    ] = 1,
    trusted: Trusted = None,
) -> None:
    """Open the studio: all of these commands in the browser."""
    from faceforge.studio.web import server

    settings = server.Settings(host, port, tuple(trusted or ()), public_url, root_path, token, workers)
    server.serve(runs or [], settings)


@app.command(epilog="Example: faceforge export runs/RUN my_model")
def export(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", help="A .safetensors file, a .onnx file, or a new folder for a model hub."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME", help="Upload to the Hugging Face hub (or $HF_ENDPOINT); OUT may be left out."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Where --push makes it, only you see it.")] = False,
    licence: Annotated[str | None, typer.Option(help="Of the training data, for the model card.")] = None,
    overwrite: Overwrite = False,
    trusted: Trusted = None,
) -> None:
    """Export a model for other programs and verify its outputs."""
    from faceforge.errors import BadInput
    from faceforge.studio import command

    asked = command.Request(run, None, overwrite, tuple(trusted or ()))
    if push is not None:
        command.push(asked, out, push, private, licence)
    elif out is None:
        raise BadInput("OUT: missing; must be a .safetensors file, a .onnx file, a folder, or --push USER/NAME instead")
    else:
        command.export(asked, out, licence)
