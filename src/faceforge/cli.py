"""The `faceforge` command. Hydra configures training; commands that use a run take a path and a few flags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from faceforge import words
from faceforge.engine import cluster
from faceforge.errors import BadInput
from faceforge.fetch import command as data_command
from faceforge.io.storage import lend_home
from faceforge.runs import command as runs_command
from faceforge.studio import cli as studio_cli
from faceforge.studio import completion

OLDER_FLAGS = {"--whole": "--no-detect", "--way": "--method", "--teach": "--learn"}  # still understood
app = typer.Typer(
    help="Train, evaluate and use generative models of faces.",
    epilog="Example: faceforge generate drawn:dcgan_conventional -n 16 --out faces.png",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_command.app, name="data")
app.add_typer(runs_command.app, name="runs")
app.add_typer(studio_cli.app)


@app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    """Train, evaluate and use generative models of faces."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def train(
    overrides: Annotated[list[str] | None, typer.Argument(autocompletion=completion.overrides)] = None,
) -> None:
    """Train a model: same as `python train.py`, with the same overrides (see `faceforge train --help`)."""
    from faceforge.main import main

    sys.argv = ["faceforge train", *(overrides or [])]
    main()


@app.command(epilog="Example: faceforge doctor")
def doctor() -> None:
    """Check this machine: Python, torch, accelerator, OpenCV, ffmpeg, W&B, caches, disk, weights, network, clocks."""
    from faceforge import doctor as checks

    lines, code = checks.report()
    print("\n".join(lines))
    raise typer.Exit(code)


@app.command(epilog="Example: faceforge bench model=pix2pix --seconds 2")
def bench(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OVERRIDES]",
            help="Same as for train, such as model=pix2pix.",
            autocompletion=completion.overrides,
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Duration of each of about ten measurements.")] = 4.0,
    compiled: Annotated[bool, typer.Option("--compile", help="Also try trainer.compile, which takes minutes.")] = False,
    record: Annotated[
        Path | None, typer.Option(help="Measure these settings alone, and write a JSON file for docs/cost.md.")
    ] = None,
) -> None:
    """Time a model's training step on this machine with each option on and off, and suggest the faster ones."""
    from faceforge.engine import bench as benchmark

    if record is None:
        print("\n".join(benchmark.bench(overrides or [], seconds, compiled)))
    else:
        print(benchmark.write(record, benchmark.record(overrides or [], seconds)))
        print(f"To see what is faster:  {words.faceforge('bench', *(overrides or []))}")


Size = Annotated[
    str | None,
    typer.Option(help="WIDTHxHEIGHT, one number for a square, published (360x480, the default) or pix2pix (256x320)."),
]
Detector = Annotated[
    Literal["yunet", "haar", "verified"],
    typer.Option(help="yunet; haar: the published cascade; verified: Haar boxes confirmed by YuNet."),
]
Fit = Annotated[
    bool | None,
    typer.Option(
        "--fit/--no-fit",
        help="Choose the widest frame that fits nine in ten faces. Default: if a third is too tight otherwise.",
    ),
]
Pad = Annotated[
    Literal["none", "reflect"],
    typer.Option(help="reflect: fill frames that leave the photo by reflection, as FFHQ does; none: shrink them."),
]
Engine = Annotated[
    Literal["loky", "ray", "dask"], typer.Option(help="loky: this machine; ray, dask: a cluster or this machine.")
]


@app.command(epilog="Example: faceforge cut photos/ my_faces")
def cut(
    photos: Annotated[Path, typer.Argument(metavar="SRC", help="A folder, zip or tar of photos, or one photo.")],
    faces: Annotated[Path, typer.Argument(metavar="DST", help="A new folder, or the output of an earlier cut.")],
    size: Size = None,
    detector: Detector = "yunet",
    align: Annotated[bool, typer.Option("--align", help="Rotate every face until its eyes are level.")] = False,
    zoom: Annotated[float | None, typer.Option(help="1 is the published frame, the default; larger is closer.")] = None,
    fit: Fit = None,
    pad: Pad = "none",
    min_face: Annotated[int, typer.Option(help="Minimum face size in pixels.")] = 40,
    labels: Annotated[Path | None, typer.Option(help="A CSV of photo labels, for the summary.")] = None,
    engine: Engine = "loky",
    processes: Annotated[int | None, typer.Option(help="Default: one per core.")] = None,
    people: Annotated[bool, typer.Option("--people", help="Group faces by person in the manifest.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove all data of photos no longer in SRC.")] = False,
) -> None:
    """Crop faces from photos: crops, an editable manifest, and review pages."""
    from faceforge.cut import command

    typed, padded = words.faceforge(*sys.argv[1:]), pad == "reflect"
    frame = command.Framing(size, align, zoom, padded, fit)
    command.cut(photos, faces, frame, detector, min_face, labels, engine, processes, people, prune, typed)


@app.command(epilog="Example: faceforge filters my_faces")
def filters(
    picture_or_folder: Annotated[Path, typer.Argument(help="An image, or a folder of crops at any depth.")],
    out: Annotated[Path | None, typer.Option(help="A .png or a folder; default: _review/filters/.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing panels.")] = False,
) -> None:
    """Show the filters (grey, thresholds, contours, edges) of each image in one panel per image."""
    from faceforge.cut.panel import write_panels

    count, where = write_panels(picture_or_folder, out, overwrite)
    print(f"{count} panel{'s' * (count != 1)}: {where}")
    root = words.word("data.root", picture_or_folder)
    print(f"To train on one of them:  {words.train('model=pix2pix', 'task=contours', 'data=crops', root)}")


RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="A run's folder, or one of its checkpoints.", autocompletion=completion.runs),
]
AnotherSet = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help="Score on another set: lfw=PATH, celeba=PATH, a folder or archive of faces, or drawn[=COUNT].",
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Score faces although they are unlike in size, crop or colour, and say so.")
]
Features = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:KEY=VALUE,...]",
        help="An extractor for generated faces: lite0, squeezenet, inception, dlib; repeat it for several. "
        "Default: the run's own, or lite0.",
    ),
]


@app.command(epilog="Example: faceforge evaluate runs/RUN --data lfw=lfw.tgz")
def evaluate(
    run: RunFolder,
    data: AnotherSet = None,
    force: Force = False,
    split: Annotated[
        Literal["test", "val", "train"] | None,
        typer.Option(help="Which split; default: test, and all faces of another set."),
    ] = None,
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which checkpoint of the run.")] = "best",
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="Maximum number of faces; default: all, or 1,000 generated ones."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of generated faces, subsets and intervals.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="A JSON file; default: RUN/evaluation.json or RUN/evaluation-SET.json, replaced."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
    features: Features = None,
    data_root: Annotated[Path | None, typer.Option(help="Where the run's data is now, if it moved.")] = None,
    edits: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Also judge edits of attributes: names with commas between, or all."),
    ] = None,
    self_ensemble: studio_cli.SelfEnsemble = False,
    trusted_packages: Annotated[
        list[str] | None, typer.Option(help="Your own package, if the run's configuration names one.")
    ] = None,
) -> None:
    """Score a run and baselines on held-out faces, with confidence intervals; the report page shows the table."""
    from faceforge.evaluation import command

    trusted, chosen = tuple(trusted_packages or ()), tuple(features or ())
    where = (out, overwrite, data_root, trusted, chosen, data, force, edits, self_ensemble)
    command.evaluate(command.Options(run, split, checkpoint, count, seed, *where))


@app.command(epilog="Example: faceforge ema runs/RUN")
def ema(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="The folder of a GAN trained with model.ema_kept.", autocompletion=completion.runs
        ),
    ],
    length: Annotated[
        list[float] | None,
        typer.Option(help="Relative to the training, 0.1 is about its last tenth; repeat it. Default: nine lengths."),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="Maximum number of faces for each length.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of generated faces and of the validation faces.")] = 0,
    data_root: Annotated[Path | None, typer.Option(help="Where the run's data is now, if it moved.")] = None,
    trusted_packages: Annotated[
        list[str] | None, typer.Option(help="Your own package, if the run's configuration names one.")
    ] = None,
) -> None:
    """Choose how long a GAN's generator is averaged, after the training; writes RUN/checkpoints/ema.ckpt."""
    from faceforge.evaluation import averaging

    options = averaging.Options(run, tuple(length or ()), count, seed, data_root, tuple(trusted_packages or ()))
    averaging.choose(options)


@app.command(epilog="Example: faceforge score generated/ real.zip --size 64")
def score(
    generated: Annotated[
        Path, typer.Argument(metavar="GENERATED", help="A folder, zip or tar of pictures, or an .npz of uint8.")
    ],
    real: Annotated[Path, typer.Argument(metavar="REAL", help="The same of real ones; LFW and CelebA tell people.")],
    features: Features = None,
    size: Annotated[
        int | None, typer.Option(help="Resize all pictures to SIZE x SIZE, antialiased; needed where sizes differ.")
    ] = None,
    crop: Annotated[
        str, typer.Option(help="Of REAL's pictures first: none, center, c140, c150, ... as in data.crop.")
    ] = "none",
    count: Annotated[int, typer.Option("--count", "-n", help="Maximum number of pictures a side.")] = 5000,
    seed: Annotated[int, typer.Option(help="Seed of subsets, halves and intervals.")] = 0,
    paired: Annotated[
        bool, typer.Option("--paired", help="Also score each picture against the one of the same name.")
    ] = False,
    force: Force = False,
    out: Annotated[Path | None, typer.Option(help="A JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing OUT.")] = False,
) -> None:
    """Score generated pictures of any model against real ones, both as files; needs no run."""
    from faceforge.evaluation import score as pictures

    named = tuple(features or ())
    pictures.score(pictures.Options(generated, real, named, size, crop, count, seed, paired, force, out, overwrite))


@app.command(epilog="Example: faceforge compare runs/A runs/B --html compared.html")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs, at least two.", autocompletion=completion.runs),
    ],
    html: Annotated[Path | None, typer.Option(help="Write a page as well: one .html file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    split: Annotated[
        Literal["test", "val", "train"] | None, typer.Option(help="The split that all evaluations must be of.")
    ] = None,
    score: Annotated[
        list[str] | None, typer.Option(help="Only this score, such as psnr; may be given several times.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Order the rows by this score, the best first.")] = None,
    reference: Annotated[
        Literal["first", "best"], typer.Option(help="Differences are to the first run, or to the best by --sort.")
    ] = "first",
    force: Annotated[bool, typer.Option("--force", help="Compare scores of unlike protocols, and say so.")] = False,
) -> None:
    """Compare evaluated runs: scores, differences with confidence intervals paired over people, a verdict in words.

    Runs that differ in their seeds alone are one row, with mean, deviation and the worst seed.
    """
    from faceforge.evaluation.compare import command, comparison

    options = comparison.Options(tuple(score or ()), sort, reference, force)
    command.run(command.Request(runs, html, overwrite, split, options))


@app.command(epilog="Example: faceforge audit runs/RUN")
def audit(
    run: RunFolder,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", help="Number of generated faces, default 1,000, and most scored ones."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of generated faces, subsets and tests.")] = 0,
    split: Annotated[Literal["test", "val"], typer.Option(help="Whose scores are compared by attribute.")] = "test",
    checkpoint: Annotated[Literal["best", "last"], typer.Option(help="Which checkpoint of the run.")] = "best",
    out: Annotated[Path | None, typer.Option(help="A folder; default: RUN/audit, replaced.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an audit in OUT.")] = False,
    data_root: Annotated[Path | None, typer.Option(help="Where the run's data is now, if it moved.")] = None,
    trusted_packages: Annotated[
        list[str] | None, typer.Option(help="Your own package, if the run's configuration names one.")
    ] = None,
) -> None:
    """Look for copied training faces, faces on both sides of the split, and groups that a run serves worse."""
    from faceforge.evaluation.audit import command

    command.audit(
        command.Options(run, split, checkpoint, count, seed, out, overwrite, data_root, tuple(trusted_packages or ()))
    )


def run() -> NoReturn:
    """The entry point: invalid input is one line on stderr and exit code 2."""
    lend_home()
    sys.argv[1:] = words.expanded(map(_present, sys.argv[1:]))
    try:
        with cluster.own_ranks():
            code = app(standalone_mode=False)
    except BadInput as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output has gone, for example `| head`
        sys.exit(0)
    except OSError as error:
        place = error.filename or "faceforge"
        _fail(f"{place}: cannot be read or written ({error.strerror or error})")
    except Exception as error:
        complaint = getattr(error, "format_message", None)  # how the parser's own are told, in every typer
        if complaint is None:
            raise
        _fail(complaint())
    sys.exit(code or 0)


def _present(word: str) -> str:
    """A flag under its present name, with a line of notice where an older one was typed."""
    flag, equals, value = word.partition("=")
    if flag not in OLDER_FLAGS:
        return word
    print(f"faceforge: {flag} is called {OLDER_FLAGS[flag]} now", file=sys.stderr)
    return OLDER_FLAGS[flag] + equals + value


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        print(f"faceforge: {line}", file=sys.stderr)
    sys.exit(2)
