"""The functions of the app: from checked parameters and uploaded photos to files in memory."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, get_args

import numpy as np

from faceforge.errors import BadInput
from faceforge.io.images import ImageError, decode
from faceforge.io.kinds import HEAD, kind_of
from faceforge.schemes.latent_space import Kind
from faceforge.studio import animation, recipes
from faceforge.studio import average as averages
from faceforge.studio import edit as edits
from faceforge.studio import photo as photos
from faceforge.studio import translate as translations
from faceforge.studio import upscale as enlargements
from faceforge.studio import video as videos
from faceforge.studio.model import Ability, Model
from faceforge.studio.output import VIDEOS, Recipe, save_video, to_png, write_mp4
from faceforge.studio.panel import Result
from faceforge.studio.photo import NoFace
from faceforge.types import Json

T = TypeVar("T", bound=str)
SEEDS = 2**53 - 1  # the largest integer that JavaScript represents exactly
MOST_FACES = 36  # per request
MOST_SECONDS = 12.0  # of video
MOST_PIXELS = 1920 * 1080  # of a frame of an uploaded video
STRONGEST = 10.0  # largest change of an attribute
STEPS = 60  # of optimisation, for the ends of a morph
NO_FACE = "No face was found in this photo. Use a larger, brighter or more frontal face."
UNREADABLE = "this video cannot be used: it is damaged, or not of a kind that is known here"
WHOLE = " Or tick 'The whole image is one face'."
ALSO_WHOLE = ("translate", "faces")


@dataclass(frozen=True)
class File:
    """A result: its name, media type, bytes and recipe ("" if it is not synthetic)."""

    name: str
    kind: str
    data: bytes
    recipe: str = ""

    def told(self) -> dict[str, str]:
        """The result as plain JSON values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "data": b64encode(self.data).decode("ascii"),
            "recipe": self.recipe,
        }


@dataclass(frozen=True)
class Answer:
    """A sentence, and files by their role on the page."""

    says: str
    files: Mapping[str, list[File]]

    def told(self) -> Json:
        """The result as plain JSON values."""
        return {"says": self.says, "files": {role: [file.told() for file in some] for role, some in self.files.items()}}


class Ask:
    """The parameters and uploaded photos of a request. Each accessor checks its value and raises BadInput."""

    def __init__(self, words: Mapping[str, str], uploads: Sequence[bytes] = ()) -> None:
        self.words, self.uploads = words, uploads

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number within bounds."""
        try:
            value = float(self.words.get(name, default))
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise BadInput(f"{name} {self.words[name][:40]!r}: must be a number from {low:g} to {high:g}")
        return value

    def count(self, name: str, default: int, low: int, high: int) -> int:
        """An integer within bounds."""
        word = self.words.get(name, str(default))
        if not (word.isascii() and word.isdigit() and len(word) < 20 and low <= int(word) <= high):
            raise BadInput(f"{name} {word[:40]!r}: must be an integer from {low} to {high}")
        return int(word)

    def choice(self, name: str, options: Sequence[T]) -> T:
        """One of the options; the first is the default."""
        word = self.words.get(name, options[0])
        for option in options:
            if option == word:
                return option
        raise BadInput(f"{name} {word[:40]!r}: must be one of {', '.join(options)}")

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return self.words.get(name, "") in ("1", "true", "on")

    def photo(self, number: int = 0) -> np.ndarray:
        """One of the photos, uint8 RGB (H, W, 3)."""
        if number >= len(self.uploads):
            raise BadInput("a photo is needed: choose one, take one, or drop one here")
        where = f"photo {number + 1}" if len(self.uploads) > 1 else "this photo"
        try:
            return photos.in_colour(decode(self.uploads[number]))
        except ImageError as error:
            raise BadInput(f"{where} cannot be used: {error}") from None

    @property
    def is_video(self) -> bool:
        """Whether the first upload is a video."""
        return bool(self.uploads) and kind_of(self.uploads[0][:HEAD]) == "video"

    def stills(self) -> Iterator[np.ndarray]:
        """The photo, or some frames of the video, in which to look for a face."""
        if not self.is_video:
            yield self.photo()
            return
        with videos.in_memory(self.uploads[0]) as path:
            video = _opened(path)
            for part in range(videos.PREVIEWED):
                yield from islice(video.frames(part / videos.PREVIEWED * video.seconds), 1)

    def photos(self) -> Iterator[np.ndarray]:
        """All photos, decoded lazily."""
        return map(self.photo, range(len(self.uploads)))


# --------------------------------------------------------------------------------------------------------- random faces


def generate(model: Model, ask: Ask) -> Answer:
    """Faces of a seed, the same as from `faceforge generate`."""
    drawn, count = _drawn(model, ask), ask.count("count", 16, 1, MOST_FACES)
    settings = drawn["seed"], drawn["truncation"], drawn.get("density", "mixture"), drawn.get("attributes", {})
    parts = model.faces(count, *settings)
    faces = [face for part in parts for face in photos.to_pictures(part)]
    files = [
        _png(face, f"face-{drawn['seed']}-{n}", recipes.generate(model, drawn, count, n))
        for n, face in enumerate(faces)
    ]
    return Answer(f"{count} synthetic face{'s' * (count != 1)} of seed {drawn['seed']}.", {"made": files})


def _drawn(model: Model, ask: Ask) -> Json:
    """The settings of random faces."""
    seed, truncation = ask.count("seed", 0, 0, SEEDS), ask.number("truncation", 1.0, 0.0, 2.0)
    density = ask.choice("density", model.space.densities) if model.has_codes else "mixture"
    words = [word for word in ask.words.get("attributes", "").split(",") if word]
    chosen = edits.parse_strengths(words)
    model.require_attributes(chosen)
    return recipes.drawn(model, seed, truncation, density, chosen)


# --------------------------------------------------------------------------------------------------------------- photos


def upscale(model: Model, ask: Ask) -> Answer:
    """An enlarged photo; with ``simulate``, a comparison of four images."""
    if ask.is_video and not ask.flag("simulate"):
        recipe, looks = recipes.upscale(model, False), not model.takes_any_size
        return _clip(model, ask, partial(enlargements.upscale, model), recipe, looks, everywhere=True)
    if ask.flag("simulate"):
        result = enlargements.simulate(model, ask.photo())
        restored, bicubic = result.scores["restored"], result.scores["bicubic"]
        says = f"From the left: downscaled, bicubic ({bicubic:.1f} dB PSNR), restored ({restored:.1f} dB), original."
    else:
        result = enlargements.upscale(model, ask.photo())
        says = f"{result.photo.shape[1]} x {result.photo.shape[0]} pixels. Fine details are guesses, not evidence."
    recipe = recipes.upscale(model, ask.flag("simulate"))
    return Answer(says, {"made": [_png(result.photo, recipe.command, recipe)]})


def translate(model: Model, ask: Ask) -> Answer:
    """A photo with its faces translated, the steps for each face, and the lines, which can be edited."""
    whole = ask.flag("whole")
    recipe = recipes.translate(model, whole)
    if ask.is_video:
        return _clip(model, ask, partial(translations.translate, model, whole=whole), recipe, not whole)
    result = translations.translate(model, ask.photo(), whole)
    answer = _photo(result, f"{_faces(result)}; what was added is a guess.", recipe)
    if not translations.takes_lines(model):
        return answer
    lines = File("lines.png", "image/png", to_png(result.faces[0]["input"], None))
    return Answer(answer.says, {**answer.files, "lines": [lines]})


def draw(model: Model, ask: Ask) -> Answer:
    """The face for drawn lines."""
    made = _png(translations.from_lines(model, ask.photo()), "drawn", recipes.from_lines(model))
    return Answer("A face for these lines.", {"made": [made]})


def faces(model: Model, ask: Ask) -> Answer:
    """The faces of a photo, cropped for the model; not synthetic, so without a recipe."""
    found = ((pixels, photos.find_faces(pixels, model, MOST_FACES)) for pixels in ask.stills())
    pixels, spots = next((each for each in found if each[1]), (None, []))
    if pixels is None:
        raise NoFace(NO_FACE)
    crops = [photos.cut(pixels, spot, model.size) for spot in spots]
    files = [File(f"face-{n}.png", "image/png", to_png(crop, None)) for n, crop in enumerate(crops)]
    return Answer(f"{len(files)} face{'s' * (len(files) != 1)} found.", {"faces": files})


def edit(model: Model, ask: Ask) -> Answer:
    """A photo, a cropped face (``whole``), or the random face of a seed, with changed attributes."""
    words = [word for word in ask.words.get("changes", "").split(",") if word]
    strengths = edits.parse_strengths(words)
    if any(abs(strength) > STRONGEST for strength in strengths.values()):
        raise BadInput(f"changes {ask.words['changes'][:80]!r}: must be from -{STRONGEST:g} to {STRONGEST:g}")
    kind: Kind = ask.choice("direction", (model.space.kind, *get_args(Kind)))
    if ask.uploads:
        whole = ask.flag("whole")
        recipe = recipes.edit(model, strengths, kind, whole)
        if ask.is_video:
            work = partial(edits.edit, model, strengths=strengths, kind=kind, whole=whole)
            return _clip(model, ask, work, recipe, not whole)
        result = edits.edit(model, ask.photo(), strengths, kind, whole)
        return _photo(result, f"{_faces(result)} changed.", recipe)
    drawn = _drawn(model, ask)
    z = model.codes(1, drawn["seed"], 0, drawn["truncation"], drawn.get("density", "mixture"))
    (face,) = photos.to_pictures(model.decode(model.edited(z, strengths, kind)))
    made = _png(face, f"edited-{drawn['seed']}", recipes.edit_drawn(model, strengths, kind, drawn))
    return Answer(f"The face of seed {drawn['seed']}, changed.", {"made": [made]})


def _photo(result: Result, says: str, recipe: Recipe) -> Answer:
    steps = _png(result.panel(), f"{recipe.command}-steps", recipe)
    return Answer(says, {"made": [_png(result.photo, recipe.command, recipe)], "steps": [steps]})


def _faces(result: Result) -> str:
    return f"{len(result.faces)} face{'s' * (len(result.faces) != 1)}"


# --------------------------------------------------------------------------------------------------------------- videos


def _opened(path: Path) -> videos.Video:
    """An uploaded video within the bounds. Raises BadInput."""
    try:
        video = videos.open_video(path)
    except BadInput:
        raise BadInput(UNREADABLE) from None
    if video.seconds > MOST_SECONDS + 0.5:
        raise BadInput(f"this video has {video.seconds:.0f} seconds; must be at most {MOST_SECONDS:g} on this page")
    height, width = video.size
    if height * width > MOST_PIXELS:
        raise BadInput(f"this video has {width}x{height} pixels; must be at most 1920x1080 on this page")
    return video


def _clip(
    model: Model,
    ask: Ask,
    work: Callable[..., Result],
    recipe: Recipe,
    looks: bool,
    everywhere: bool = False,
) -> Answer:
    """The video of what ``work(pixels, known=places)`` makes of its frames. It lies in memory only, as photos do."""
    find = partial(photos.find_faces, model=model) if looks else None

    def change(pixels: np.ndarray, known: photos.Places) -> np.ndarray:
        return work(pixels, known=known).photo

    with videos.in_memory(ask.uploads[0]) as source, videos.in_memory() as target:
        video = _opened(source)
        frames = islice(video.frames(), ceil((MOST_SECONDS + 1) * video.rate))  # whatever its head says
        made = videos.changed(frames, video.rate, change, find, everywhere)
        write_mp4(made, target, video.rate, recipe, video.heard)
        data = target.read_bytes()
    sound = "with its sound" if video.sound else "which has no sound"
    says = f"{video.seconds:.1f} seconds of video, {sound}; what was added is a guess."
    return Answer(says, {"made": [File(f"{recipe.command}.mp4", "video/mp4", data, recipe.line())]})


# ------------------------------------------------------------------------------------------------------ means and walks


def average(model: Model | None, ask: Ask) -> Answer:
    """The mean face of the photos."""
    if len(ask.uploads) < 2:
        raise BadInput("the mean needs at least 2 photos: choose several at once")
    way = ask.choice("way", averages.ways_of(model))
    (*_, mean) = averages.by_way(way, model, ask.photos())
    recipe = recipes.average(model, way, len(ask.uploads))
    return Answer(f"The mean of {len(ask.uploads)} photos, by {way}.", {"made": [_png(mean, "mean", recipe)]})


def walk(model: Model, ask: Ask) -> Answer:
    """A video from random face to random face, or of one face along an attribute."""
    drawn, seconds = _drawn(model, ask), ask.number("seconds", 6.0, 0.5, MOST_SECONDS)
    seed, truncation, density = drawn["seed"], drawn["truncation"], drawn.get("density", "mixture")
    frames, attribute = max(2, round(seconds * animation.FPS)), ask.words.get("attribute")
    if attribute:
        made, way = animation.one_face(model, attribute, (-2.0, 2.0), frames, seed, truncation, density)
    else:
        stops = ask.count("faces", 6, 2, MOST_FACES)
        made, way = animation.walk(model, stops, frames, seed, truncation, density), {"faces": stops}
    return _film(made, f"walk-{seed}", ask, recipes.walk(model, drawn, seconds, way))


def morph(model: Model, ask: Ask) -> Answer:
    """A video from the face of one photo to that of another."""
    seconds = ask.number("seconds", 3.0, 0.5, MOST_SECONDS)
    ends = []
    for pixels in (ask.photo(0), ask.photo(1)):
        spot = photos.faces_of(pixels, model)[0]
        ends.append(edits.invert(model, photos.cut(pixels, spot, model.size), STEPS, whole=True)[0])
    made = animation.morph(model, *ends, frames=max(2, round(seconds * animation.FPS)))
    return _film(made, "morph", ask, recipes.morph(model, STEPS, False, seconds))


def _film(frames: Iterable[np.ndarray], name: str, ask: Ask, recipe: Recipe) -> Answer:
    suffix = "." + ask.choice("kind", [kind.removeprefix(".") for kind in VIDEOS])
    with TemporaryDirectory(prefix="faceforge-") as folder:  # ffmpeg can only write to files
        data = save_video(frames, Path(folder) / f"{name}{suffix}", animation.FPS, recipe).read_bytes()
    kind = "video/mp4" if suffix == ".mp4" else "image/gif"
    return Answer(
        f"{recipe.settings['seconds']:g} seconds of video.",
        {"made": [File(f"{name}{suffix}", kind, data, recipe.line())]},
    )


def _png(pixels: np.ndarray, name: str, recipe: Recipe) -> File:
    return File(f"{name}.png", "image/png", to_png(pixels, recipe), recipe.line())


ANSWERS: Mapping[str, tuple[Ability, Callable[..., Answer]]] = {
    "generate": ("generate", generate),
    "upscale": ("upscale", upscale),
    "translate": ("translate", translate),
    "draw": ("translate", draw),
    "faces": ("edit", faces),
    "edit": ("edit", edit),
    "average": ("average", average),
    "walk": ("walk", walk),
    "morph": ("morph", morph),
}


def answer(name: str, model: Model | None, ask: Ask) -> Answer:
    """The answer of a function by name. Raises BadInput."""
    ability, function = ANSWERS[name]
    if model is None and name != "average":
        raise BadInput(f"{name} needs a run")
    if model is not None and not (name == "average" and ask.words.get("way") == "landmarks"):
        model.require(ability)
    try:
        return function(model, ask)
    except NoFace:
        raise BadInput(NO_FACE + WHOLE if name in ALSO_WHOLE else NO_FACE) from None
