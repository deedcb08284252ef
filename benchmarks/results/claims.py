"""What docs/results.md says holds or does not, each computed from records: claims as published, aims, and checks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from benchmarks.results.book import Book, names, spread, won_from
from faceforge.metrics.table import MEASURES

Verdict = Literal["holds", "does not hold", "depends on the seed", "not run yet"]
Source = Literal["published", "aim", "check"]
Values = Mapping[int, float]


@dataclass(frozen=True)
class Claim:
    """A sentence, who says so, whether it is so, the figures and the records that they are from."""

    section: str
    said: str
    source: Source
    verdict: Verdict
    figures: str = ""
    records: Sequence[str] = ()
    headline: bool = False


@dataclass(frozen=True)
class Asker:
    """Makes the claims of a section from a book."""

    book: Book
    section: str

    def paired(
        self,
        said: str,
        source: Source,
        first: tuple[str, str, Values],
        second: tuple[str, str, Values],
        holds: Callable[[float, float], bool],
        digits: int = 2,
        unit: str = "",
        headline: bool = False,
    ) -> Claim:
        """A claim on two quantities, each (row, label, values by seed): it holds where it does for every seed."""
        (row_a, label_a, a), (row_b, label_b, b) = first, second
        seeds = sorted(set(a) & set(b))
        if not seeds:
            return Claim(self.section, said, source, "not run yet", headline=headline)
        told = {holds(a[seed], b[seed]) for seed in seeds}
        verdict: Verdict = "depends on the seed" if len(told) == 2 else ("holds" if told == {True} else "does not hold")
        texts = [spread([found[seed] for seed in seeds], digits) for found in (a, b)]
        figures = f"{label_a} {texts[0]}, {label_b} {texts[1]}{f' {unit}' * bool(unit)}"
        records = dict.fromkeys([*names(row_a, seeds), *names(row_b, seeds)])
        return Claim(self.section, said, source, verdict, figures, list(records), headline)

    def order(
        self, said: str, source: Source, better: str, worse: str, score: str, which: str = "model", **options: Any
    ) -> Claim:
        """One row has a better score than another."""
        measure = MEASURES[score]
        a, b = self.book.scores(better, score, which), self.book.scores(worse, score, which)
        label = f"{measure.label}:"
        found = (better, f"{label} {better}", a), (worse, worse, b)
        digits = measure.digits
        return self.paired(said, source, *found, lambda x, y: measure.rank(x) > measure.rank(y), digits, measure.unit,
                           **options)  # fmt: skip

    def beats(
        self,
        said: str,
        source: Source,
        row: str,
        score: str,
        other: str = "best baseline",
        by: float = 0.0,
        **more: Any,
    ) -> Claim:
        """A row's score is better than one of a baseline, by so much."""
        measure = MEASURES[score]
        a, b = self.book.scores(row, score), self.book.scores(row, score, other)
        found = (row, f"{measure.label}: {row}", a), (row, other, b)
        return self.paired(said, source, *found, lambda x, y: measure.rank(x) - measure.rank(y) > by, measure.digits,
                           measure.unit, **more)  # fmt: skip


def ratio(book: Book, row: str) -> dict[int, float]:
    """MSE of new faces over MSE of training faces, by seed: 1 is no overfitting."""
    new, seen = book.scores(row, "mse"), book.scores(row, "mse", part="evaluation_train")
    return {seed: new[seed] / seen[seed] for seed in new if seed in seen}


# ---------------------------------------------------------------------------------------------------- super-resolution


def super_resolution(book: Book) -> list[Claim]:
    """Published orderings and today's aim."""
    ask = Asker(book, "super-resolution")
    mlp, conv = "sr-mlp-published", "sr-conv-published"
    linear = "is better than the best linear enlargement"
    return [
        ask.beats("The modern convolutional form beats the best linear baseline by at least 1.5 dB", "aim",
                  "sr-conv-modern", "psnr", by=1.5, headline=True),
        ask.order("The convolutional net beats the MLP", "published", conv, mlp, "mse", headline=True),
        _ratios(ask, "The MLP overfits more", "published", mlp, conv),
        _ratios(ask, "The MLP leans more on its training set, of half as many faces", "published", "sr-mlp-half",
                "sr-conv-half"),
        ask.order("The MLP loses by having half of the faces", "check", mlp, "sr-mlp-half", "psnr"),
        ask.beats(f"The published MLP {linear}", "check", mlp, "psnr"),
        ask.beats(f"The published MLP, trained to its early stop, {linear}", "check", "sr-mlp-published-stop", "psnr"),
        ask.beats(f"The published convolutional net {linear}", "check", conv, "psnr"),
        ask.beats(f"superres_x2 as published {linear}", "check", "superres-x2-published", "psnr"),
        ask.order("The adversarial form of superres_x2 pays in PSNR", "check", "superres-x2-published",
                  "superres-x2-adversarial", "psnr"),
        ask.order("and looks more like the face (perceptual distance)", "check", "superres-x2-adversarial",
                  "superres-x2-published", "perceptual"),
        ask.order("The modern MLP beats the published one", "aim", "sr-mlp-modern", "sr-mlp-published-stop", "psnr"),
    ]  # fmt: skip


def _ratios(ask: Asker, said: str, source: Source, larger: str, smaller: str) -> Claim:
    a, b = ratio(ask.book, larger), ratio(ask.book, smaller)
    told = f"MSE of new faces over that of training faces: {larger}"
    return ask.paired(said, source, (larger, told, a), (smaller, smaller, b), lambda x, y: x > y)


# ------------------------------------------------------------------------------------------------------- latent editor


def latent(book: Book) -> list[Claim]:
    """Reconstruction against PCA, bottlenecks, ways to sample, edits."""
    ask = Asker(book, "latent editor")
    relu, sigmoid = "latent-relu-128", "latent-sigmoid-128"
    return [
        *(_against_pca(ask, size) for size in (64, 128, 1024)),
        ask.order("From U[0, 1) a sigmoid code gives better faces than a ReLU code (KID)", "published", sigmoid, relu,
                  "kid", "model, uniform", headline=True),
        ask.order("and so it is for the twins of the two published editors", "published", "latent-bce-twin",
                  "latent-mse-twin", "kid", "model, uniform"),
        _fitted(ask, sigmoid),
        _fitted(ask, relu),
        ask.order("BCE costs reconstruction against MSE, all else equal", "check", sigmoid, "latent-sigmoid-128-bce",
                  "psnr"),
        *_smiles(book),
        *_glasses(book),
    ]  # fmt: skip


def _against_pca(ask: Asker, size: int) -> Claim:
    others = {128: ["latent-relu-128", "latent-sigmoid-128"], 1024: ["latent-mse-twin", "latent-bce-twin"]}
    rows = [f"latent-gaussian-{size}", *others.get(size, [])]
    known = [row for row in rows if ask.book.scores(row, "psnr")]
    best = max(known, key=lambda row: statistics.fmean(ask.book.scores(row, "psnr").values()), default=rows[0])
    source: Source = "check" if size == 1024 else "aim"
    said = f"The best form reconstructs better than PCA with {size} numbers"
    return ask.beats(said, source, best, "psnr", f"PCA {size}", headline=size == 128)


def _fitted(ask: Asker, row: str) -> Claim:
    ways = [ask.book.scores(row, "kid", f"model, {way}") for way in ("gaussian", "mixture")]
    seeds = set.intersection(*(set(way) for way in ways))
    best = {seed: min(way[seed] for way in ways) for seed in seeds}
    said = f"Codes from a density fitted to those of training faces give better faces than U[0, 1) ({row})"
    uniform = ask.book.scores(row, "kid", "model, uniform")
    return ask.paired(said, "check", (row, "KID: fitted", best), (row, "U[0, 1)", uniform), lambda x, y: x < y, 4)


def _smiles(book: Book) -> list[Claim]:
    """Of each run and kind of edit the strength at which the true direction gains most over shuffled labels."""
    claims = []
    for run, found in book.others.get("latent_edits_smiles", {}).get("runs", {}).items():
        for edit in dict.fromkeys(row["edit"] for row in found["edits"]):
            claims.append(_flipped(run, edit, [row for row in found["edits"] if row["edit"] == edit]))
    return claims or [Claim("latent editor", "Edits make people smile", "published", "not run yet")]


def _flipped(run: str, edit: str, edits: Sequence[Mapping[str, Any]]) -> Claim:
    true, control = ({row["strength"]: row for row in edits if row["direction"] == way}
                     for way in ("mean difference", "shuffled labels"))  # fmt: skip
    best = max(true, key=lambda strength: true[strength]["share"] - control[strength]["share"])
    a, b = true[best], control[best]
    verdict: Verdict = "holds" if a["low"] > b["high"] else "does not hold"
    said = f"An edit towards {edit} flips an independent classifier more often than one with shuffled labels"
    figures = (f"{run}, strength {best:g}: {a['share']:.1%} against {b['share']:.1%}, mean change of a pixel "
               f"{a['cost']:.3f} against {b['cost']:.3f}")  # fmt: skip
    return Claim("latent editor", said, "published", verdict, figures, ["latent_edits_smiles"])


def _glasses(book: Book) -> list[Claim]:
    said = "An edit towards glasses brings drawn faces nearer to themselves with glasses"
    if not (found := book.others.get("latent_edits_glasses")):
        return [Claim("latent editor", said, "published", "not run yet")]
    key = "psnr against the face with glasses"
    before, ceiling = found[f"psnr of the reconstruction {key[5:]}"], found["psnr of that face's own reconstruction"]
    best = {way: max(row[key] for row in rows) for way, rows in found["directions"].items()}
    true, control = best["mean difference"], best["shuffled labels"]
    figures = (f"PSNR {before:.2f} without an edit, {true:.2f} with the mean difference, {control:.2f} with shuffled "
               f"labels, {ceiling:.2f} dB at best")  # fmt: skip
    verdict: Verdict = "holds" if true > max(before, control) else "does not hold"
    return [Claim("latent editor", said, "published", verdict, figures, ["latent_edits_glasses"])]


# ---------------------------------------------------------------------------------------------------------------- GANs


def gans(book: Book) -> list[Claim]:
    """Collapse, objectives, rates, and today's forms."""
    ask = Asker(book, "GANs")
    cnn, deep = "gan-cnn-published-minimax", "gan-cnn-depthwise-published-minimax-equal"
    equal = [f"{cnn}-equal", "gan-cnn-published-non-saturating-equal"]
    row = "gan-conventional-published-{}-{}".format
    return [
        *(_wins(ask, "The discriminator of the CNN has won within 40 batches, equal rates", name, 40, "published")
          for name in equal),
        _wins(ask, "and so it has against the depthwise form", deep, 40, "check"),
        _wins(ask, "and so it has at the published rates of 1e-3 and 1e-5", cnn, 40, "check"),
        *(_lives(ask, row(objective, "unequal")) for objective in ("minimax", "non-saturating")),
        *(ask.beats(f"What it makes is nearer to faces than one mean face ({row(objective, 'unequal')})", "check",
                    row(objective, "unequal"), "kid", "mean face") for objective in ("minimax", "non-saturating")),
        _suppressed(ask, row("minimax", "equal")),
        ask.order("The non-saturating loss gives better faces than minimax, unequal rates", "published",
                  row("non-saturating", "unequal"), row("minimax", "unequal"), "kid"),
        ask.order("Unequal rates give better faces than equal ones, minimax", "published", row("minimax", "unequal"),
                  row("minimax", "equal"), "kid"),
        _half_of_taught(book),
        ask.order("dcgan_cnn makes better faces than the published CNN", "aim", "gan-cnn-modern", cnn, "kid",
                  headline=True),
    ]  # fmt: skip


def _wins(ask: Asker, said: str, row: str, within: int, source: Source) -> Claim:
    found = {seed: won_from(record) for seed, record in ask.book.rows.get(row, {}).items()}
    said = f"{said} ({row})"
    if not found:
        return Claim(ask.section, said, source, "not run yet", headline=source == "published")
    told = [f"from batch {batch}" if batch else "not to the end" for batch in found.values()]
    right = [batch is not None and batch <= within for batch in found.values()]
    losses = [spread(list(ask.book.ends(row, f"loss/{net}").values()), 3) for net in ("discriminator", "generator")]
    figures = (f"loss below 0.05 {', '.join(told)}; at the end discriminator {losses[0]}, generator {losses[1]}"
               f"{_different(ask, row)}")  # fmt: skip
    verdict: Verdict = "holds" if all(right) else ("depends on the seed" if any(right) else "does not hold")
    return Claim(ask.section, said, source, verdict, figures, names(row, list(found)), source == "published")


def _lives(ask: Asker, row: str) -> Claim:
    said = f"The conventional generator lives longer: no winner to the end ({row})"
    found = {seed: won_from(record) for seed, record in ask.book.rows.get(row, {}).items()}
    if not found:
        return Claim(ask.section, said, "published", "not run yet")
    loss = spread(list(ask.book.ends(row, "loss/discriminator").values()), 3)
    figures = f"discriminator's loss {loss} at the end (1.386 where it guesses){_different(ask, row)}"
    verdict: Verdict = "does not hold" if any(found.values()) else "holds"
    return Claim(ask.section, said, "published", verdict, figures, names(row, list(found)))


def _different(ask: Asker, row: str) -> str:
    """How different its faces are: a discriminator that does not win may as well be blind to one repeated picture."""
    found = spread(list(ask.book.scores(row, "diversity").values()), 3)
    return f"; two of its faces differ {found} times as much as two real ones" if found else ""


def _suppressed(ask: Asker, equal: str) -> Claim:
    unequal = equal.removesuffix("equal") + "unequal"
    losses = [ask.book.ends(row, "loss/discriminator") for row in (equal, unequal)]
    said = f"With equal rates the discriminator suppresses the generator ({equal})"
    found = (equal, "discriminator's last loss: equal rates", losses[0]), (unequal, "unequal", losses[1])
    return ask.paired(said, "published", *found, lambda x, y: x < 0.5 * y, 3)


def _half_of_taught(book: Book) -> Claim:
    said = "dcgan_conventional has at most half the KID of the taught DCGAN at equal time"
    record = book.others.get("gan_faces", {})
    rows = {} if "caveat" in record else record.get("rows", {})
    ours, taught = rows.get("dcgan_conventional"), rows.get("published/dcgan_taught")
    if not (ours and taught):
        return Claim("GANs", said, "aim", "not run yet", headline=True)
    a, b = ours["kid"]["value"], taught["kid"]["value"]
    figures = f"KID x 1000: {1e3 * a:.1f} against {1e3 * b:.1f}"
    verdict: Verdict = "holds" if a <= b / 2 else "does not hold"
    return Claim("GANs", said, "aim", verdict, figures, ["gan_faces"], headline=True)


# ------------------------------------------------------------------------------------------------------------- pix2pix


def pix2pix(book: Book) -> list[Claim]:
    """The ladder, the patch, the mask."""
    ask = Asker(book, "pix2pix")
    ladder = ["grey", "thresholds", "contours", "canny"]
    steps = pairwise(ladder)
    rows = [*ladder, "canny-mask"]
    return [
        *(ask.order(f"{a} keeps more of the face than {b}", "check", f"pix2pix-{a}", f"pix2pix-{b}", "mae",
                    headline=True) for a, b in steps),
        ask.order("Canny of the image keeps more of the face than Canny of the mask", "published", "pix2pix-canny",
                  "pix2pix-canny-mask", "mae", headline=True),
        *(ask.beats(f"From {row} the U-Net does better than the best baseline", "check", f"pix2pix-{row}", "mae")
          for row in rows),
        ask.order("A patch of 70 pixels looks more like the face than one of 142", "published", "pix2pix-grey",
                  "pix2pix-grey-patch142", "perceptual"),
        ask.order("and is nearer in colour", "check", "pix2pix-grey", "pix2pix-grey-patch142", "ciede2000"),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- average and noise


def average(book: Book) -> list[Claim]:
    """Whether outputs come to one face, and what noise gives."""
    claims = []
    asked: list[tuple[str, str, Source]] = [
        ("average", "The average converges to one face", "published"),
        ("noise", "Noise becomes one face, too", "check"),
    ]
    for row, said, source in asked:
        varied, far = (book.ends(row, f"val/{name}") for name in ("variance_ratio", "mean_face_distance"))
        if not (varied and far):
            claims.append(Claim("average and noise", said, source, "not run yet"))
            continue
        right = all(varied[seed] < 0.1 and far[seed] < 0.5 for seed in varied)
        figures = (f"outputs have {spread(list(varied.values()), 3)} of the faces' variance and lie at "
                   f"{spread(list(far.values()), 2)} of their distance from the mean face")  # fmt: skip
        claims.append(Claim("average and noise", said, source, "holds" if right else "does not hold", figures,
                            names(row, sorted(varied))))  # fmt: skip
    return [*claims, *_average_noise(book)]


def _average_noise(book: Book) -> list[Claim]:
    said = "The mean of the generator's answers settles faster over faces than the mean of photographs"
    if not (found := book.others.get("average_noise")):
        return [Claim("average and noise", said, "check", "not run yet")]
    outputs, photographs = (found["average"][f"means of {what}"] for what in ("outputs", "photographs"))
    first, last = (row["faces"] for row in (outputs[0], outputs[-1]))
    parts = [f"{rows[0]['distance']:.4f} after {first} face, {rows[-1]['distance']:.4f} after {last:,}"
             for rows in (outputs, photographs)]  # fmt: skip
    right = all(a["distance"] < b["distance"] for a, b in zip(outputs[:4], photographs, strict=False))
    figures = f"RMS distance to the mean face: answers {parts[0]}; photographs {parts[1]}"
    verdict: Verdict = "holds" if right else "does not hold"
    return [Claim("average and noise", said, "check", verdict, figures, ["average_noise"])]


SECTIONS: Mapping[str, Callable[[Book], list[Claim]]] = {
    "super-resolution": super_resolution,
    "latent editor": latent,
    "GANs": gans,
    "pix2pix": pix2pix,
    "average and noise": average,
}
