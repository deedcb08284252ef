"""Does each score say that worse is worse? Faces are made worse by five grades of five kinds; real faces are grade 0.

    python -m benchmarks.scores sane run data=lfw data.root=LFW data.crop=c150 --count 2000
    python -m benchmarks.scores sane table

Scores of generated faces compare real faces of other people (half of all people), made worse, with real faces.
Scores of images compare each face, made worse, with itself. ``table`` makes the page again from the record.

Modes and people are halved by each grade. A set of P people drawn at random is of the same distribution, and a distance
of distributions sees in it only that P are few: an unbiased squared one, such as KID, is about 1/P of what people
differ by, whatever the number of faces. So each grade doubles what there is to see. A single draw of people scatters
by half of that and more, which no number of faces mends, so scores of people are means over a few draws. All grades
are nested.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from benchmarks import records
from faceforge import config, counter_rng
from faceforge.data.datamodule import FaceData
from faceforge.evaluation import extractors
from faceforge.evaluation.generated import Reals
from faceforge.evaluation.judged import Judged, all_faces
from faceforge.io.images import from_uint8, to_uint8
from faceforge.metrics.features import Extractor
from faceforge.metrics.image_scores import ImageScores
from faceforge.metrics.linear import Pca
from faceforge.metrics.table import measure, metric_of

BLUR = (0.6, 0.8, 1.0, 1.3, 1.7)  # pixels: the deviation of a Gaussian
NOISE = (0.005, 0.01, 0.02, 0.04, 0.08)  # deviation of normal noise, range 1
JPEG = (90, 75, 55, 35, 20)  # Pillow's quality
MODES, LEFT = 32, (16, 8, 4, 2, 1)  # clusters of the faces, and how many of them are left
PEOPLE, DRAWS = (2, 4, 8, 16, 32), 4  # one person in so many is left; scores are means over so many draws of people
COMPONENTS, SMALL = 32, 16  # principal components of small faces, in which modes are found, and their side in pixels
POOL = 8  # faces to choose from, for each that is shown
PAIRED = 500  # faces whose outputs are compared with targets
RECORD, PAGE = "scores_sane", records.RESULTS / "scores_sane.md"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

QUALITY_ONLY = "measures quality alone: faces that are left are as good as before (Kynkaanniemi et al. 2019, sec. 3.1)"
DENSITY = "counts real neighbourhoods around fakes, not how many are reached (Naeem et al. 2020, sec. 3.2)"
CLOSER = (
    "rises where images differ less and lie closer together, as by truncation (Kynkaanniemi et al. 2019, sec. 3), and "
    "blurred ones do, as their diversity shows"
)
RECALL = "outliers enlarge the balls around fakes, so worse faces may reach more (Naeem et al. 2020, sec. 3.1)"
SPREAD = "measures how much faces differ, not how good they are; 1 is that of real faces (metrics/diversity.py)"
DISTANCE = (
    "is a mean distance, which hardly changes while the faces that are left differ as much (metrics/diversity.py)"
)
ABOVE = "is a share above a threshold, which all faces pass until they are much worse (docs/identity.md)"
PATCHES = "sees 7x7 patches alone, which are those of real faces (Karras et al. 2018, sec. 5)"
EXPECTED: Mapping[tuple[str, str], str] = {  # where a score need not worsen, and who says so
    ("precision", "modes"): QUALITY_ONLY,
    ("precision", "people"): QUALITY_ONLY,
    ("density", "modes"): DENSITY,
    ("density", "people"): DENSITY,
    ("precision", "blur"): CLOSER,
    ("density", "blur"): CLOSER,
    **{("recall", kind): RECALL for kind in ("blur", "noise", "jpeg")},
    **{("diversity", kind): SPREAD for kind in ("blur", "noise", "jpeg")},
    **{("diversity", kind): DISTANCE for kind in ("modes", "people")},
    **{("same_person", kind): ABOVE for kind in ("blur", "noise", "jpeg")},
    ("swd", "modes"): PATCHES,
    ("swd", "people"): PATCHES,
}


# ------------------------------------------------------------------------------------------------------ made worse


def blurred(images: Tensor, grade: int) -> Tensor:
    """A Gaussian blur; borders are mirrored."""
    sigma = BLUR[grade - 1]
    reach = min(2 * math.ceil(3 * sigma) + 1, 2 * (min(images.shape[2:]) - 1) - 1)
    return gaussian_blur(images, [reach, reach], [sigma, sigma])


def noisy(images: Tensor, grade: int, seed: int = 0) -> Tensor:
    """The same normal noise for every grade, ever stronger, clipped."""
    draws = counter_rng.normal(seed, "sane/noise", np.arange(len(images)), tuple(images.shape[1:]))
    return (images + 2 * NOISE[grade - 1] * torch.from_numpy(draws).float()).clamp(-1, 1)


def compressed(images: Tensor, grade: int) -> Tensor:
    """Written and read as JPEG."""
    return torch.cat([_jpeg(image, JPEG[grade - 1]) for image in to_uint8(images)])


def _jpeg(image: Tensor, quality: int) -> Tensor:
    pixels, file = image.permute(1, 2, 0).numpy(), io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "JPEG", quality=quality)
    back = np.array(Image.open(file)).reshape(pixels.shape)
    return from_uint8(torch.from_numpy(back.transpose(2, 0, 1).copy()))[None]


PIXELS: Mapping[str, Callable[[Tensor, int], Tensor]] = {"blur": blurred, "noise": noisy, "jpeg": compressed}
KINDS = (*PIXELS, "modes", "people")


@dataclass(frozen=True)
class Pool:
    """Faces (N, C, H, W) in [-1, 1] to choose from, in a keyed order, their people and their modes.

    Modes are clusters in the space of principal components of pixels, numbered along the first component.
    """

    images: Tensor
    people: NDArray[np.int64]
    modes: NDArray[np.int64]

    @classmethod
    def of(cls, judged: Judged, seed: int) -> Pool:
        """All faces of a split."""
        order = counter_rng.permutation(seed, "sane/pool", 0, len(judged.places))
        images = judged.data.images(judged.split, judged.places[order])
        keys = [judged.groups[n] or (n,) for n in order]
        number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        small = functional.adaptive_avg_pool2d(images, SMALL)
        points = Pca(small, min(COMPONENTS, len(small) - 1)).encode(small).numpy()
        fit = KMeans(MODES, random_state=seed).fit(points)
        place = np.argsort(np.argsort(fit.cluster_centers_[:, 0]))
        return cls(images, np.array([number[key] for key in keys]), place[fit.labels_].astype(np.int64))

    def first(self, count: int, rows: NDArray[np.integer[Any]] | None = None) -> Tensor:
        """The first faces, or those of some rows; these are repeated if there are too few."""
        rows = np.arange(len(self.images)) if rows is None else rows
        return self.images[np.resize(rows, count)]

    def of_few_modes(self, count: int, grade: int) -> Tensor:
        """Faces of the last clusters."""
        return self.first(count, np.flatnonzero(self.modes >= MODES - LEFT[grade - 1]))

    def of_few_people(self, count: int, grade: int, draw: int = 0) -> Tensor:
        """All faces of some people: of as many as ``count`` faces show, a share; other people for each draw."""
        shown = len(np.unique(self.people[:count]))
        most, kept = (max(2, shown // PEOPLE[n - 1]) for n in (1, grade))
        first = draw * most % max(1, len(np.unique(self.people)) - most + 1)
        return self.first(count, np.flatnonzero((self.people >= first) & (self.people < first + kept)))


def sets(pool: Pool, count: int) -> Iterator[tuple[str, int, Tensor]]:
    """(kind, grade, faces) of everything that is scored; grade 0 is the same for every kind and comes once.

    Few people come in DRAWS draws.
    """
    plain = pool.first(count)
    yield "real", 0, plain
    for kind in KINDS:
        for grade in range(1, 6):
            if kind in PIXELS:
                yield kind, grade, PIXELS[kind](plain, grade)
            elif kind == "modes":
                yield kind, grade, pool.of_few_modes(count, grade)
            else:
                yield from ((kind, grade, pool.of_few_people(count, grade, draw)) for draw in range(DRAWS))


# ---------------------------------------------------------------------------------------------------------- scored

Curves = dict[str, dict[str, list[float | None]]]  # score -> kind -> values of grades 0 to 5


def generated(data: FaceData, count: int, seed: int, features: Sequence[Extractor]) -> tuple[Curves, dict[str, Any]]:
    """All scores of generated faces that `faceforge evaluate` knows, and their protocols."""
    reference = all_faces(data, "test").some(count, seed)
    against = Reals(reference, features, torch.device("cpu"), seed, lambda faces: None)
    draws: dict[tuple[str, int], list[dict[str, float | None]]] = {}
    for kind, grade, images in sets(Pool.of(all_faces(data, "train").some(POOL * count, seed), seed), count):
        print(f"{kind} {grade}", flush=True)
        cells = against.row(kind, "model", images)["scores"]
        draws.setdefault((kind, grade), []).append({score: cell["value"] for score, cell in cells.items()})
    found: Curves = {}
    for (kind, _), several in draws.items():
        for score in several[0]:
            _put(found, score, kind, _mean([values[score] for values in several]))
    return _complete(found), against.protocols


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def images(data: FaceData, count: int) -> tuple[Curves, dict[str, Any]]:
    """All scores of images against targets: faces made worse against themselves."""
    target = data.images("test", np.arange(min(count, PAIRED, data.counts["test"])))
    scores = ImageScores(data.channels, data.height, data.width, torch.device("cpu"))
    found: Curves = {}
    for kind, worse in {"real": lambda faces, grade: faces, **PIXELS}.items():
        for grade in range(1, 6) if kind != "real" else (0,):
            for score, values in scores({"row": worse(target, grade)}, target)["row"].items():
                _put(found, score, kind, float(values.mean()))
    return _complete(found), {name: scores.protocol(name) for name in scores.names}


def _put(found: Curves, score: str, kind: str, value: float | None) -> None:
    found.setdefault(score, {}).setdefault(kind, []).append(value)


def _complete(found: Curves) -> Curves:
    """Each curve begins with the real faces."""
    return {
        score: {kind: kinds["real"] + kinds[kind] for kind in kinds if kind != "real"} for score, kinds in found.items()
    }


def worsens(score: str, values: Sequence[float | None]) -> bool:
    """Whether each grade is strictly worse than the one before."""
    ranks = [-math.inf if value is None else measure(score).rank(value) for value in values]
    return all(later < earlier for earlier, later in pairwise(ranks))


def judged(curves: Curves) -> list[dict[str, Any]]:
    """A row for each score and kind: values, and whether they worsen strictly."""
    return [
        {"score": score, "kind": kind, "values": values, "strictly": worsens(score, values)}
        for score, kinds in curves.items()
        for kind, values in kinds.items()
    ]


def measured(data: FaceData, count: int, seed: int, features: Sequence[Extractor]) -> dict[str, Any]:
    """The record."""
    count = min(count, data.counts["test"], data.counts["train"])
    made, protocols = generated(data, count, seed, features)
    paired, others = images(data, count)
    return {
        "data": {key: data.summary()[key] for key in ("source", "manifest", "protocol_hash", "size", "counts")},
        "faces": count,
        "grades": {
            "blur": BLUR,
            "noise": NOISE,
            "jpeg": JPEG,
            "modes": LEFT,
            "people": PEOPLE,
            "of modes": MODES,
            "draws": DRAWS,
        },
        "generated": judged(made),
        "images": judged(paired),
        "protocols": {**protocols, **others},
    }


# ------------------------------------------------------------------------------------------------------------ page


def need_not(row: Mapping[str, Any]) -> str | None:
    """Why a score need not worsen, and who says so; None if it should."""
    return EXPECTED.get((metric_of(row["score"]), row["kind"]))


def failures(record: Mapping[str, Any]) -> list[str]:
    """Scores that do not worsen strictly although nothing says that they need not."""
    rows = [*record["generated"], *record["images"]]
    return [f"{row['score']}, {row['kind']}" for row in rows if not (row["strictly"] or need_not(row))]


def page(record: Mapping[str, Any]) -> str:
    """The record as a page."""
    rows, wrong = [*record["generated"], *record["images"]], failures(record)
    other = [row for row in rows if need_not(row)]
    strictly = sum(row["strictly"] for row in rows)
    parts = [
        "# Do the scores say that worse is worse?",
        f"Generated by `python -m benchmarks.scores sane table` from [{RECORD}](records/{RECORD}.json): "
        f"real faces made worse by five grades, {record['faces']:,} of each side, from {record['data']['source']} at "
        f"{record['data']['size'][1]}x{record['data']['size'][0]}. Grade 0 are real faces of other people; for "
        "scores of images, the images themselves. Those compare pairs, so modes and people do not apply to them.",
        _grades(record["grades"]),
        f"{strictly} of {len(rows)} worsen strictly over all five grades."
        + (f" Unexpectedly not: {'; '.join(wrong)}." if wrong else " All that should, do."),
        records.table(["score", "made worse by", *map(str, range(6)), "strictly worse"], map(_row, rows), left=2),
        "Where a score need not worsen:",
        "\n".join(
            f"- {row['score']}, {row['kind']} ({'does' if row['strictly'] else 'does not'}): {need_not(row)}."
            for row in other
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _grades(found: Mapping[str, Any]) -> str:
    listed = {kind: ", ".join(f"{value:g}" for value in found[kind]) for kind in KINDS}
    return (
        f"Grades: blur {listed['blur']} pixels; noise {listed['noise']} of the range; JPEG quality {listed['jpeg']}; "
        f"{listed['modes']} of {found['of modes']} modes left; one of {listed['people']} people left, means over "
        f"{found['draws']} draws of people. Modes and people are halved by each grade, since a distance of "
        "distributions sees of few people only that they are few: an unbiased squared one is inverse to their number."
    )


def _row(row: Mapping[str, Any]) -> list[str]:
    verdict = "yes" if row["strictly"] else ("need not" if need_not(row) else "**no**")
    return [row["score"], row["kind"], *map(measure(row["score"]).text, row["values"]), verdict]


# --------------------------------------------------------------------------------------------------------- command


@app.command()
def run(
    overrides: Annotated[
        list[str], typer.Argument(help="data=..., as for training; half of the people are each side.")
    ],
    count: Annotated[int, typer.Option("--count", "-n", help="Faces of each side.")] = 2000,
    features: Annotated[list[str] | None, typer.Option(help="As of `faceforge evaluate`; repeat it.")] = None,
    seed: int = 0,
) -> None:
    """Score all grades, write the record and the page."""
    halves = ["data.val_fraction=0", "data.test_fraction=0.5", "model=dcgan_conventional"]
    data: FaceData = config.build(config.compose([*halves, *overrides])["data"])
    data.prepare()
    extractor = extractors.build(features or [], torch.device("cpu"))
    print(records.keep(RECORD, measured(data, count, seed, extractor)))
    table()


@app.command()
def table() -> None:
    """Write the page from the record."""
    PAGE.write_text(page(records.read(RECORD)))
    print(PAGE)
