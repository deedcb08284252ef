"""The commands that use a run: read the inputs, call the functions of the studio, write and report the results."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from faceforge import words as commands
from faceforge.engine.progress import Bar
from faceforge.errors import BadInput
from faceforge.io.files import atomic_path, short_name
from faceforge.io.images import make_grid
from faceforge.schemes.latent_space import Density, Kind
from faceforge.studio import animation, hub, output, recipes
from faceforge.studio import average as averages
from faceforge.studio import edit as edits
from faceforge.studio import photo as photos
from faceforge.studio import translate as translations
from faceforge.studio import upscale as enlargements
from faceforge.studio import video as videos
from faceforge.studio.hints import parse as parse_hints
from faceforge.studio.model import Ability, Model, open_model
from faceforge.studio.output import VIDEOS, Beside, Recipe, Target, alone
from faceforge.studio.panel import Result
from faceforge.types import Json

Show = Literal["photo", "faces"]
Work = Callable[[Model, np.ndarray, photos.Places], Result]


@dataclass(frozen=True)
class Request:
    """The options that all commands share: the run, the output path, and trusted packages."""

    run: Path
    out: Path | None
    overwrite: bool
    trusted: Sequence[str] = ()

    def open(self, ability: Ability) -> Model:
        """The model. Raises BadInput if it lacks the ability."""
        return open_model(self.run, ability, self.trusted)

    def target(self, model: Model, default: str, kinds: tuple[str, ...] = (".png",), beside: Beside = alone) -> Target:
        """The output path or folder. Raises BadInput."""
        return output.target(self.out, model.made / default, self.overwrite, kinds, beside)


# ------------------------------------------------------------------------------------------------------------ generate


def generate(
    asked: Request, count: int, seed: int, truncation: float, density: Density, words: Sequence[str] = ()
) -> None:
    """Random faces, with attributes such as Smiling=1: one grid, or a folder with one file per face."""
    if count < 1 or truncation < 0:
        raise BadInput(f"--count {count}, --truncation {truncation}: must be at least 1 and at least 0")
    chosen = edits.parse_strengths(words)
    model = asked.open("generate")
    model.require_attributes(chosen)
    target = asked.target(model, short_name("-".join(["faces", str(seed), *words]), ".png"))
    drawn = recipes.drawn(model, seed, truncation, density, chosen)
    parts = model.faces(count, seed, truncation, density, chosen)
    with Bar(count) as progress:
        if not target.folder:
            faces = []
            for part in parts:
                faces.append(part)
                progress.add(len(part))
            output.save_png(make_grid(torch.cat(faces)), target.path, recipes.generate(model, drawn, count))
        else:
            width = len(str(count - 1))
            for n, face in enumerate(chain.from_iterable(map(photos.to_pictures, parts))):
                output.save_png(face, target.path / f"{n:0{width}d}.png", recipes.generate(model, drawn, count, n))
                progress.add(1)
    _say(f"{count} face{'s' * (count != 1)} of seed {seed}", target.path)
    if model.labels and not words:
        _then(f"choose what they have ({', '.join(model.labels)})", "generate", asked.run, f"{model.labels[0]}=1")
    else:
        _then("see others", "generate", asked.run, *words, "-n", str(count), "--seed", str(seed + 1))


# -------------------------------------------------------------------------------------------------------------- photos


def upscale(asked: Request, photo: Path, simulate: bool, self_ensemble: bool = False, preview: bool = False) -> None:
    """Enlarged photos or a video; with ``simulate``, photos are downscaled first and compared with the original."""
    model = replace(asked.open("upscale"), self_ensemble=self_ensemble)
    recipe = partial(recipes.upscale, model, simulate)
    if _is_video(photo, preview, **{"--simulate": simulate}):
        looks = not model.takes_any_size
        _video(asked, model, photo, "upscaled", recipe, enlargements.upscale, preview, looks, everywhere=True)
        return

    def work(model: Model, pixels: np.ndarray, known: photos.Places) -> Result:
        return enlargements.simulate(model, pixels) if simulate else enlargements.upscale(model, pixels, known)

    results = _photos(asked, model, photo, "simulated" if simulate else "upscaled", recipe, "photo", work)
    scores = [result.scores for result in results if result.scores]
    if scores:
        restored, bicubic = (float(np.mean([score[name] for score in scores])) for name in ("restored", "bicubic"))
        print(f"from the left: downscaled, bicubic ({bicubic:.2f} dB PSNR), restored ({restored:.2f} dB), original")
        _then("enlarge it", "upscale", asked.run, photo)
    else:
        _then("compare with an original", "upscale", asked.run, photo, "--simulate")


def translate(
    asked: Request,
    photo: Path,
    whole: bool,
    show: Show,
    lines: bool = False,
    strength: float = 1.0,
    hints: Sequence[str] = (),
    preview: bool = False,
) -> None:
    """Photos, or a video, with their faces translated by the task of the run."""
    dabs = parse_hints(hints)
    model = asked.open("translate")
    translations.check_strength(model, strength)
    translations.check_hints(model, dabs)
    recipe = partial(recipes.from_lines, model) if lines else partial(recipes.translate, model, whole, strength, hints)

    def work(model: Model, pixels: np.ndarray, known: photos.Places) -> Result:
        if lines:
            return Result(translations.from_lines(model, pixels), [])
        return translations.translate(model, pixels, whole, strength, dabs, known)

    if _is_video(photo, preview, **{"--hint": bool(dabs), "--lines": lines, "--show faces": show == "faces"}):
        _video(asked, model, photo, model.task.name, recipe, work, preview, not whole)
        return
    _photos(asked, model, photo, model.task.name, recipe, "photo" if lines else show, work)
    if lines:
        _then_browser(asked)
    else:
        _then_steps(show, "translate", asked.run, photo)


def edit(
    asked: Request,
    photo: Path,
    words: Sequence[str],
    kind: Kind | None,
    whole: bool,
    show: Show,
    taught: edits.Taught | None,
    preview: bool = False,
) -> None:
    """Photos or a video with changed attributes; ``taught`` is an attribute with its two folders, or None."""
    strengths = edits.parse_strengths(words)
    model = asked.open("edit")
    kind = kind or model.space.kind
    filmed = _is_video(photo, preview, **{"--show faces": show == "faces"})
    target = partial(_video_target, preview=preview) if filmed else _photo_target
    target(asked, model, photo, "edited")  # fails before anything is learned
    space = edits.teach(model, *taught) if taught else model.space
    if not strengths:
        known = ", ".join(space.names) or "none (its faces had no labels; --learn NAME WITH WITHOUT adds one)"
        raise BadInput(f"no attribute to change, must be for example Smiling=1.5; {asked.run} knows {known}")
    recipe = partial(recipes.edit, model, strengths, kind, whole, taught)

    def work(model: Model, pixels: np.ndarray, known: photos.Places) -> Result:
        return edits.edit(model, pixels, strengths, kind, whole, space, known)

    if filmed:
        _video(asked, model, photo, "edited", recipe, work, preview, not whole)
        return
    _photos(asked, model, photo, "edited", recipe, show, work)
    _then_steps(show, "edit", asked.run, photo, *words)


def invert(asked: Request, photo: Path, steps: int, whole: bool) -> None:
    """The codes of the faces in a photo, and an image of their reconstructions."""
    from safetensors.torch import save

    if steps < 0:
        raise BadInput(f"--steps {steps}: must be at least 0")
    model = asked.open("invert")
    target = asked.target(model, f"{photo.stem}-code.png", beside=lambda path: [_code_file(path)])
    z, result = edits.invert(model, photos.read_photo(photo), steps, whole)
    path = next(target.files([f"{photo.stem}-code"]))
    output.save_png(result.photo, path, recipes.invert(model, steps, whole, photo=photo.name))
    with atomic_path(_code_file(path)) as beside:
        beside.write_bytes(save({"z": z.contiguous()}))
    _say(f"error {result.scores['encoder']:.4f} encoded, {result.scores['after']:.4f} in {steps} steps", path)
    print(f"code: {_code_file(path)}")
    _then("come nearer", "invert", asked.run, photo, "--steps", str(max(2 * steps, 100)))


def _code_file(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def _photos(
    asked: Request, model: Model, photo: Path, name: str, recipe: Callable[..., Recipe], show: Show, work: Work
) -> list[Result]:
    """Apply ``work`` to a photo or each photo of a folder; photos without a face are reported and skipped."""
    files, single = photos.photo_files(photo), photo.is_file()
    target = _photo_target(asked, model, photo, name)
    paths = _beside(target.path, files, photo) if target.folder else [target.path]
    results, left_out = [], []
    with Bar(len(files)) as progress:
        for file, path in zip(files, paths, strict=True):
            try:
                result = _one(work, model, file)
            except BadInput as error:
                if single:
                    raise
                left_out.append(str(error))
            else:
                picture = result.photo if show == "photo" else result.panel()
                output.save_png(picture, path, recipe(photo=file.name))
                results.append(Result(result.photo[:0], [], result.scores))
            progress.add(1)
    for line in left_out:
        print(f"skipped: {line}")
    if not results:
        raise BadInput(f"{photo}: none of its {len(files)} images could be used")
    _say(f"{len(results)} image{'s' * (len(results) != 1)}", target.path)
    return results


def _photo_target(asked: Request, model: Model, photo: Path, name: str) -> Target:
    photo = _named(photo)
    return asked.target(model, f"{photo.stem}-{name}.png" if photo.is_file() else f"{photo.name}-{name}")


def _named(path: Path) -> Path:
    """The path with a name that outputs can have, unlike ``.``."""
    return path if path.name.strip(".") else path.resolve()


def _one(work: Work, model: Model, file: Path) -> Result:
    pixels = photos.read_photo(file)
    try:
        return work(model, pixels, None)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


def _beside(folder: Path, files: Sequence[Path], root: Path) -> list[Path]:
    """The output path of each image; if a.jpg and a.png would collide, all names keep their suffixes."""
    below = [file.relative_to(root) if root.is_dir() else Path(file.name) for file in files]
    short = [path.with_name(short_name(path.stem, ".png")) for path in below]
    distinct = len(set(short)) == len(short)
    return [folder / path for path in (short if distinct else (p.with_name(short_name(p.name, ".png")) for p in below))]


def _is_video(path: Path, preview: bool, **only_of_photos: bool) -> bool:
    """Whether a command is given a video. Raises BadInput for options that it then does not have."""
    if not videos.is_video(path):
        if preview:
            raise BadInput(f"--preview: shows frames of a video; {path} is none")
        return False
    for name, asked in only_of_photos.items():
        if asked:
            raise BadInput(f"{name}: is for photos, and {path} is a video (--preview shows some of its frames)")
    return True


def _video_target(asked: Request, model: Model, file: Path, name: str, preview: bool = False) -> Path:
    kinds = (".png",) if preview else VIDEOS
    ending = "-preview.png" if preview else ".mp4"
    return next(asked.target(model, f"{file.stem}-{name}{ending}", kinds).files([file.stem], kinds[0]))


def _video(
    asked: Request,
    model: Model,
    file: Path,
    name: str,
    recipe: Callable[..., Recipe],
    work: Work,
    preview: bool,
    looks: bool,
    everywhere: bool = False,
) -> None:
    """A video of what ``work`` makes of each frame, or a picture of some. ``looks``: for faces."""
    path, video = _video_target(asked, model, file, name, preview), videos.open_video(file)
    find = partial(photos.find_faces, model=model) if looks else None

    def change(pixels: np.ndarray, known: photos.Places) -> np.ndarray:
        return work(model, pixels, known).photo

    def made(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return videos.changed(frames, video.rate, change, find, everywhere)

    how = recipe(video=file.name)
    if preview:
        shown = videos.preview(video, lambda pixels: next(made([pixels])))
        output.save_png(shown, path, how)
        _say(f"{videos.PREVIEWED} frames, before and after", path)
        changes = [f"{attribute}={strength:g}" for attribute, strength in how.settings.get("strengths", {}).items()]
        _then("make the video", how.command, asked.run, file, *changes)
        return
    with Bar(video.count) as progress:
        output.save_video(made(progress.over(video.frames())), path, video.rate, how, video.heard)
    silent = video.sound and path.suffix.lower() == ".gif"
    _say(f"{video.seconds:.1f} s of video{', without its sound, which a .gif cannot have' * bool(silent)}", path)
    _then_browser(asked)


# -------------------------------------------------------------------------------------------------------------- motion


def walk(
    asked: Request,
    stops: int,
    seconds: float,
    seed: int,
    truncation: float,
    density: Density,
    attribute: str | None,
    span: tuple[float, float],
    kind: Kind | None,
) -> None:
    """A video from random face to random face, or of one face along an attribute."""
    model = asked.open("walk")
    frames = _frames(seconds)
    name = f"walk-{seed}.mp4" if attribute is None else f"{attribute}-{seed}.mp4"
    target = asked.target(model, name, VIDEOS)
    way: Json = {"faces": stops}
    if attribute is None:
        made = animation.walk(model, stops, frames, seed, truncation, density)
    else:
        made, way = animation.one_face(model, attribute, span, frames, seed, truncation, density, kind)
    recipe = recipes.walk(model, recipes.drawn(model, seed, truncation, density), seconds, way)
    _write_film(made, frames, next(target.files([Path(name).stem], ".mp4")), recipe)
    along = [] if attribute is None else ["--attribute", attribute]
    _then("see another", "walk", asked.run, "--seed", str(seed + 1), *along)


def morph(asked: Request, first: Path, second: Path, seconds: float, steps: int, whole: bool) -> None:
    """A video from one person to another, or a strip of images."""
    model = asked.open("morph")
    frames = _frames(seconds)
    target = asked.target(model, f"{first.stem}-{second.stem}.mp4", (*VIDEOS, ".png"))
    ends = [edits.invert(model, photos.read_photo(photo), steps, whole)[0][:1] for photo in (first, second)]
    path = next(target.files([f"{first.stem}-{second.stem}"], ".mp4"))
    strip = path.suffix.lower() == ".png"
    recipe = recipes.morph(model, steps, whole, None if strip else seconds, first.name, second.name)
    if strip:
        pictures = np.concatenate(list(animation.morph(model, *ends, frames=8)), axis=1)
        output.save_png(pictures, path, recipe)
        _say("eight steps", path)
        _then("make a video", "morph", asked.run, first, second)
        return
    _write_film(animation.morph(model, *ends, frames=frames), frames, path, recipe)
    _then("see eight steps in one picture", "morph", asked.run, first, second, "--out", path.with_suffix(".png"))


def average(
    folder: Path,
    run: Path | None,
    way: averages.Way | None,
    out: Path | None,
    video: bool,
    overwrite: bool,
    trusted: Sequence[str],
) -> None:
    """The mean face of a folder, or a video of how it converges."""
    model = open_model(run, "average", trusted) if run else None
    if model is None and way not in (None, "landmarks"):
        raise BadInput(f"--method {way}: needs --run RUN")
    way = way or averages.ways_of(model)[0]
    folder, read = _named(folder), list[int]()
    made = averages.by_way(way, model, _counted(photos.read_photos(folder), read))
    kinds = VIDEOS if video else (".png",)
    default = (model.made if model else folder.parent) / f"{folder.name}-mean{kinds[0]}"
    path = next(output.target(out, default, overwrite, kinds).files([default.stem], kinds[0]))
    first = next(made)  # the photos are read by now
    steps = _write_average(
        chain([first], made), path, recipes.average(model, way, len(read), folder=folder.name), video
    )
    _say(f"the mean face of {len(read)} photos ({way}, {steps} steps)", path)
    by = ["--run", run] if run else []
    if video:
        _then("have it as a picture", "average", folder, *by)
    else:
        _then("see how it converges", "average", folder, *by, "--video")


def _write_average(made: Iterator[np.ndarray], path: Path, recipe: Recipe, video: bool) -> int:
    """Write all of a mean's steps, or the last; how many there were."""
    last: list[np.ndarray] = []
    with Bar(None) as progress:
        frames = progress.over(made)
        if video:
            output.save_video(frames, path, 8, recipe)
            return progress.done
        for frame in frames:
            last[:] = [frame]
        output.save_png(last[0], path, recipe)
        return progress.done


def _counted(pictures: Iterable[np.ndarray], read: list[int]) -> Iterator[np.ndarray]:
    for pixels in pictures:
        read.append(1)
        yield pixels


def _frames(seconds: float) -> int:
    if not 0.1 <= seconds <= 600:
        raise BadInput(f"--seconds {seconds}: must be from 0.1 to 600")
    return max(2, round(seconds * animation.FPS))


def _write_film(made: Iterable[np.ndarray], frames: int, path: Path, recipe: Recipe) -> None:
    with Bar(frames) as progress:
        output.save_video(progress.over(made), path, animation.FPS, recipe)
    _say(f"{frames / animation.FPS:.1f} s of video", path)


# -------------------------------------------------------------------------------------------------------------- export


def push(asked: Request, out: Path | None, name: str, private: bool, licence: str | None) -> None:
    """Export a model to a hub: a folder as ``export`` writes it, or without one the weights and the card alone."""
    from faceforge.studio import export as exports

    hub.require_name(name)
    if out is not None and out.suffix:
        raise BadInput(f"{out}: --push needs a folder, or none")
    if out is not None:
        export(asked, out, licence)
        at = hub.push(out, name, private)
    else:
        model = open_model(asked.run, None, asked.trusted)
        with tempfile.TemporaryDirectory() as folder:
            exports.write_weights(model, Path(folder), licence)
            at = hub.push(Path(folder), name, private)
    print(f"pushed: {at}")
    _then("use it", "app", at)


def export(asked: Request, out: Path, licence: str | None = None) -> None:
    """Export a model as .safetensors, .onnx or a folder with both; ``licence`` is that of the data. Raises BadInput."""
    from faceforge.studio import export as exports

    model = open_model(asked.run, None, asked.trusted)

    def beside(path: Path) -> list[Path]:
        return exports.onnx_files(model, path) if path.suffix.lower() == ".onnx" else []

    path = output.target(out, out, asked.overwrite, (".safetensors", ".onnx"), beside).path
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        exports.write_safetensors(model, path, licence)
        _say("weights, configuration and card", path)
        _then("use it", "app", path)
        return
    onnx = suffix == ".onnx"
    differences = exports.write_onnx(model, path) if onnx else exports.write_folder(model, path, licence)
    for name, worst in differences.items():
        print(f"{name}: differs from torch by at most {worst:.1g} on random inputs, batch sizes {exports.BATCHES}")
    _say("exported", path)
    if suffix == ".onnx":
        _then("export what uses it without torch, too", "export", asked.run, path.with_suffix(""))
    else:
        _then("use it", "app", path)


# -------------------------------------------------------------------------------------------------------------- common


def _say(what: str, path: Path) -> None:
    print(f"{what}: {path}")


def _then(purpose: str, *command: str | Path) -> None:
    """Print what to type next."""
    print(f"To {purpose}:  {commands.faceforge(*command)}")


def _then_steps(show: Show, *command: str | Path) -> None:
    """What follows a picture is the steps to it, and the other way round."""
    if show == "faces":
        _then("have the photo", *command)
    else:
        _then("see the steps", *command, "--show", "faces")


def _then_browser(asked: Request) -> None:
    _then("do this in the browser", "app", asked.run)
