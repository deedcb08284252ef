"""The claims of docs/results.md, each checked against the records: published claims, targets, and our own checks."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from benchmarks.results.book import Book, names, spread, won_from
from benchmarks.results.columns import Place, Verdict, columns, figures, over_seeds, seeds_of, verdict
from faceforge.metrics.table import measure as measure_of

Source = Literal["published", "aim", "check"]
Values = Mapping[int, float]


@dataclass(frozen=True)
class Claim:
    """A sentence, its source, whether it holds, and the figures with the records that they come from.

    A sentence that names a score is judged on it; any other on every score of its table. It holds where it does for
    every seed.
    """

    section: str
    said: str
    source: Source
    verdict: Verdict
    figures: str = ""
    records: Sequence[str] = ()


@dataclass(frozen=True)
class Asker:
    """Computes the claims of a section from a book."""

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
    ) -> Claim:
        """A claim on two quantities, each (row, label, values by seed): it holds where it does for every seed."""
        (row_a, label_a, a), (row_b, label_b, b) = first, second
        seeds = sorted(set(a) & set(b))
        if not seeds:
            return Claim(self.section, said, source, "not run yet")
        found = over_seeds([holds(a[seed], b[seed]) for seed in seeds])
        texts = [spread([side[seed] for seed in seeds], digits) for side in (a, b)]
        shown = f"{label_a} {texts[0]}, {label_b} {texts[1]}{f' {unit}' * bool(unit)}"
        records = dict.fromkeys([*names(row_a, seeds), *names(row_b, seeds)])
        return Claim(self.section, said, source, found, shown, list(records))

    def everywhere(self, said: str, source: Source, better: str | Place, worse: str | Place) -> Claim:
        """One row is better than another in every score; a row may be one of a table, such as its best baseline."""
        first, second = ((place, "model") if isinstance(place, str) else place for place in (better, worse))
        found = columns(self.book, first, second)
        seeds = seeds_of(self.book, first, second) if found else []
        records = dict.fromkeys([*names(first[0], seeds), *names(second[0], seeds)])
        told = f"{first[0]}: {figures(found)}" if found else ""
        return Claim(self.section, said, source, verdict(found), told, list(records))

    def beaten(self, said: str, source: Source, row: str, other: str = "best baseline") -> Claim:
        """A row is better than a baseline in every score."""
        return self.everywhere(said, source, row, (row, other))

    def order(self, said: str, source: Source, better: str, worse: str, score: str, which: str = "model") -> Claim:
        """One row has a better score than another."""
        measure = measure_of(score)
        a, b = self.book.scores(better, score, which), self.book.scores(worse, score, which)
        label = f"{measure.label}:"
        found = (better, f"{label} {better}", a), (worse, worse, b)
        digits = measure.digits
        return self.paired(said, source, *found, lambda x, y: measure.rank(x) > measure.rank(y), digits, measure.unit)

    def beats(
        self,
        said: str,
        source: Source,
        row: str,
        score: str,
        other: str = "best baseline",
        by: float = 0.0,
    ) -> Claim:
        """A row's score is better than that of a baseline, by more than ``by``."""
        measure = measure_of(score)
        a, b = self.book.scores(row, score), self.book.scores(row, score, other)
        found = (row, f"{measure.label}: {row}", a), (row, other, b)
        return self.paired(said, source, *found, lambda x, y: measure.rank(x) - measure.rank(y) > by, measure.digits,
                           measure.unit)  # fmt: skip


def ratio(book: Book, row: str) -> dict[int, float]:
    """MSE on new faces over MSE on training faces, by seed: 1 is no overfitting."""
    new, seen = book.scores(row, "mse"), book.scores(row, "mse", part="evaluation_train")
    return {seed: new[seed] / seen[seed] for seed in new if seed in seen}


# ---------------------------------------------------------------------------------------------------- super-resolution


def super_resolution(book: Book) -> list[Claim]:
    """Published orderings and our targets."""
    ask = Asker(book, "super-resolution")
    mlp, conv = "sr-mlp-published", "sr-conv-published"
    linear = "is better than the best linear upscaling"
    return [
        ask.beats("The modern convolutional model beats the best linear baseline by at least 1.5 dB", "aim",
                  "sr-conv-modern", "psnr", by=1.5),
        ask.beats("At x4 it beats the best linear baseline by at least 1.5 dB", "aim", "sr-conv-x4", "psnr", by=1.5),
        ask.order("More steps at falling rates give a higher PSNR", "aim", "sr-conv-cosine", "sr-conv-modern", "psnr"),
        ask.everywhere("The convolutional net beats the MLP", "published", conv, mlp),
        _ratios(ask, "The MLP overfits more", "published", mlp, conv),
        _ratios(ask, "The MLP overfits more when trained on half of the faces", "published", "sr-mlp-half",
                "sr-conv-half"),
        ask.everywhere("The MLP is worse if trained on half of the faces", "check", mlp, "sr-mlp-half"),
        ask.beaten(f"The published MLP {linear}", "check", mlp),
        ask.beaten(f"The published MLP at its early stop {linear}", "check", "sr-mlp-published-stop"),
        ask.beaten(f"The published convolutional net {linear}", "check", conv),
        ask.beaten(f"superres_x2 as published {linear}", "check", "superres-x2-published"),
        ask.order("The adversarial form of superres_x2 has lower PSNR", "check", "superres-x2-published",
                  "superres-x2-adversarial", "psnr"),
        ask.order("The adversarial form of superres_x2 has a lower perceptual distance", "check",
                  "superres-x2-adversarial", "superres-x2-published", "perceptual"),
        ask.everywhere("The modern MLP beats the published one", "aim", "sr-mlp-modern", "sr-mlp-published-stop"),
        *(ask.beaten(f"{row} {linear}", "check", row) for row in ("sr-mlp-modern", "sr-conv-colour", "sr-mlp-colour")),
    ]  # fmt: skip


def _ratios(ask: Asker, said: str, source: Source, larger: str, smaller: str) -> Claim:
    a, b = ratio(ask.book, larger), ratio(ask.book, smaller)
    told = f"MSE on new faces over MSE on training faces: {larger}"
    return ask.paired(said, source, (larger, told, a), (smaller, smaller, b), lambda x, y: x > y)


# ------------------------------------------------------------------------------------------------------- latent editor


def latent(book: Book) -> list[Claim]:
    """Reconstruction against PCA, bottlenecks, sampling, edits."""
    ask = Asker(book, "latent editor")
    relu, sigmoid, uniform = "latent-relu-128", "latent-sigmoid-128", "model, uniform"
    return [
        *(_against_pca(ask, size) for size in (64, 128, 1024)),
        *(ask.beaten(f"{row} reconstructs better than PCA of its length", "check", row, "PCA 128")
          for row in ("latent-lfw-colour", "latent-celeba-colour")),
        ask.everywhere("From U[0, 1), a sigmoid code gives better faces than a ReLU code", "published",
                       (sigmoid, uniform), (relu, uniform)),
        ask.everywhere("From U[0, 1), the twin of latent_bce gives better faces than that of latent_mse", "published",
                       ("latent-bce-twin", uniform), ("latent-mse-twin", uniform)),
        _fitted(ask, sigmoid),
        _fitted(ask, relu),
        ask.everywhere("BCE reconstructs worse than MSE, all else equal", "check", sigmoid, "latent-sigmoid-128-bce"),
        *_smiles(book),
        *_glasses(book),
    ]  # fmt: skip


def _against_pca(ask: Asker, size: int) -> Claim:
    others = {128: ["latent-relu-128", "latent-sigmoid-128"], 1024: ["latent-mse-twin", "latent-bce-twin"]}
    rows = [f"latent-gaussian-{size}", *others.get(size, [])]
    known = [row for row in rows if ask.book.scores(row, "psnr")]
    best = max(known, key=lambda row: statistics.fmean(ask.book.scores(row, "psnr").values()), default=rows[0])
    source: Source = "check" if size == 1024 else "aim"
    said = f"The best code of length {size} reconstructs better than PCA of that length"
    return ask.beaten(said, source, best, f"PCA {size}")


def _fitted(ask: Asker, row: str) -> Claim:
    ways = [ask.book.scores(row, "kid", f"model, {way}") for way in ("gaussian", "mixture")]
    seeds = set.intersection(*(set(way) for way in ways))
    best = {seed: min(way[seed] for way in ways) for seed in seeds}
    said = f"Codes from a density fitted to training faces give better faces than U[0, 1) ({row})"
    uniform = ask.book.scores(row, "kid", "model, uniform")
    return ask.paired(said, "check", (row, "KID: fitted", best), (row, "U[0, 1)", uniform), lambda x, y: x < y, 4)


def _smiles(book: Book) -> list[Claim]:
    """For each run and edit, the strength at which the true direction gains most over shuffled labels."""
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
    told: Verdict = "holds" if a["low"] > b["high"] else "does not hold"
    said = f"An edit towards {edit} flips an independent classifier more often than shuffled labels do"
    shown = (f"{run}, strength {best:g}: {a['share']:.1%} against {b['share']:.1%}, mean pixel change "
               f"{a['cost']:.3f} against {b['cost']:.3f}")  # fmt: skip
    return Claim("latent editor", said, "published", told, shown, ["latent_edits_smiles"])


def _glasses(book: Book) -> list[Claim]:
    said = "An edit towards glasses brings a drawn face closer to the same face drawn with glasses"
    if not (found := book.others.get("latent_edits_glasses")):
        return [Claim("latent editor", said, "published", "not run yet")]
    key = "psnr against the face with glasses"
    before, ceiling = found[f"psnr of the reconstruction {key[5:]}"], found["psnr of that face's own reconstruction"]
    best = {way: max(row[key] for row in rows) for way, rows in found["directions"].items()}
    true, control = best["mean difference"], best["shuffled labels"]
    shown = (f"PSNR {before:.2f} without an edit, {true:.2f} with the mean difference, {control:.2f} with shuffled "
               f"labels, {ceiling:.2f} dB at best")  # fmt: skip
    told: Verdict = "holds" if true > max(before, control) else "does not hold"
    return [Claim("latent editor", said, "published", told, shown, ["latent_edits_glasses"])]


# ---------------------------------------------------------------------------------------------------------------- GANs


def gans(book: Book) -> list[Claim]:
    """Collapse, objectives, learning rates, and the modern models."""
    ask = Asker(book, "GANs")
    cnn, deep = "gan-cnn-published-minimax", "gan-cnn-depthwise-published-minimax-equal"
    equal = [f"{cnn}-equal", "gan-cnn-published-non-saturating-equal"]
    row = "gan-conventional-published-{}-{}".format
    return [
        *(_wins(ask, "The CNN's discriminator wins within 40 batches at equal learning rates", name, 40, "published")
          for name in equal),
        _wins(ask, "The discriminator wins within 40 batches against the depthwise CNN", deep, 40, "check"),
        _wins(ask, "The CNN's discriminator wins within 40 batches at rates of 1e-3 and 1e-5", cnn, 40, "check"),
        *(_lives(ask, row(objective, "unequal")) for objective in ("minimax", "non-saturating")),
        *(ask.beaten(f"{row(objective, 'unequal')} scores better than the mean face", "check",
                     row(objective, "unequal"), "mean face") for objective in ("minimax", "non-saturating")),
        _suppressed(ask, row("minimax", "equal")),
        ask.everywhere("The non-saturating loss gives better faces than minimax at unequal learning rates",
                       "published", row("non-saturating", "unequal"), row("minimax", "unequal")),
        ask.everywhere("Unequal learning rates give better faces than equal ones with minimax", "published",
                       row("minimax", "unequal"), row("minimax", "equal")),
        _half_of_taught(book),
        ask.everywhere("dcgan_cnn makes better faces than the published CNN", "aim", "gan-cnn-modern", cnn),
        *(ask.beaten(f"{row} makes better faces than a Gaussian of principal components", "check", row,
                     "PCA 128 Gaussian")
          for row in ("gan-cnn-modern", "gan-conventional-colour", "gan-conventional-celeba")),
    ]  # fmt: skip


def _wins(ask: Asker, said: str, row: str, within: int, source: Source) -> Claim:
    found = {seed: won_from(record) for seed, record in ask.book.rows.get(row, {}).items()}
    said = f"{said} ({row})"
    if not found:
        return Claim(ask.section, said, source, "not run yet")
    told = [f"from batch {batch}" if batch else "never" for batch in found.values()]
    right = [batch is not None and batch <= within for batch in found.values()]
    losses = [spread(list(ask.book.ends(row, f"loss/{net}").values()), 3) for net in ("discriminator", "generator")]
    shown = (f"loss below 0.05 {', '.join(told)}; final discriminator loss {losses[0]}, generator {losses[1]}"
               f"{_different(ask, row)}")  # fmt: skip
    return Claim(ask.section, said, source, over_seeds(right), shown, names(row, list(found)))


def _lives(ask: Asker, row: str) -> Claim:
    said = f"The conventional generator survives: neither network wins ({row})"
    found = {seed: won_from(record) for seed, record in ask.book.rows.get(row, {}).items()}
    if not found:
        return Claim(ask.section, said, "published", "not run yet")
    loss = spread(list(ask.book.ends(row, "loss/discriminator").values()), 3)
    shown = f"final discriminator loss {loss} (1.386 at chance){_different(ask, row)}"
    lives = over_seeds([batch is None for batch in found.values()])
    return Claim(ask.section, said, "published", lives, shown, names(row, list(found)))


def _different(ask: Asker, row: str) -> str:
    """How much its faces differ: a discriminator may also fail to win because the generator repeats one image."""
    found = spread(list(ask.book.scores(row, "diversity").values()), 3)
    return f"; diversity of its faces {found} times that of real ones" if found else ""


def _suppressed(ask: Asker, equal: str) -> Claim:
    unequal = equal.removesuffix("equal") + "unequal"
    losses = [ask.book.ends(row, "loss/discriminator") for row in (equal, unequal)]
    said = f"With equal learning rates the discriminator suppresses the generator ({equal})"
    found = (equal, "final discriminator loss: equal", losses[0]), (unequal, "unequal", losses[1])
    return ask.paired(said, "published", *found, lambda x, y: x < 0.5 * y, 3)


def _half_of_taught(book: Book) -> Claim:
    said = "dcgan_conventional has at most half the KID of the PyTorch-tutorial DCGAN after equal training time"
    record = book.others.get("gan_faces", {})
    rows = {} if "caveat" in record else record.get("rows", {})
    ours, taught = rows.get("dcgan_conventional"), rows.get("published/dcgan_taught")
    if not (ours and taught):
        return Claim("GANs", said, "aim", "not run yet")
    a, b = ours["kid"]["value"], taught["kid"]["value"]
    shown = f"KID x 1000: {1e3 * a:.1f} against {1e3 * b:.1f}"
    told: Verdict = "holds" if a <= b / 2 else "does not hold"
    return Claim("GANs", said, "aim", told, shown, ["gan_faces"])


# ------------------------------------------------------------------------------------------------------------- pix2pix


def pix2pix(book: Book) -> list[Claim]:
    """The ladder of inputs, the patch size, the mask."""
    ask = Asker(book, "pix2pix")
    ladder = ["grey", "thresholds", "contours", "canny"]
    steps = pairwise(ladder)
    rows = [*ladder, "canny-mask", "lfw-grey", "lfw-canny", "celeba-grey", "celeba-contours", "celeba-canny"]
    return [
        *(ask.everywhere(f"Reconstruction from {a} is better than from {b}", "check", f"pix2pix-{a}", f"pix2pix-{b}")
          for a, b in steps),
        ask.everywhere("Reconstruction from Canny of the image is better than from Canny of the mask", "published",
                       "pix2pix-canny", "pix2pix-canny-mask"),
        *(ask.beaten(f"From {row}, the U-Net beats the best baseline of every score", "check", f"pix2pix-{row}")
          for row in rows),
        *(ask.everywhere(f"From {kind}, the recipe is better than the one up to November 2026, in as many seconds",
                         "aim", f"pix2pix-celeba-{kind}", f"pix2pix-celeba-{kind}-former")
          for kind in ("contours", "canny")),
        ask.order("A patch of 70 pixels has a lower perceptual distance than one of 142", "published", "pix2pix-grey",
                  "pix2pix-grey-patch142", "perceptual"),
        ask.order("A patch of 70 pixels has a lower colour error than one of 142", "check", "pix2pix-grey",
                  "pix2pix-grey-patch142", "ciede2000"),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- average and noise


def average(book: Book) -> list[Claim]:
    """Whether the outputs converge to one face."""
    claims = []
    asked: list[tuple[str, str, Source]] = [
        ("average", "Outputs converge to one face when the target is another face", "published"),
        ("noise", "Outputs converge to one face when the input is noise", "check"),
    ]
    for row, said, source in asked:
        varied, far = (book.ends(row, f"val/{name}") for name in ("variance_ratio", "mean_face_distance"))
        if not (varied and far):
            claims.append(Claim("average and noise", said, source, "not run yet"))
            continue
        right = [varied[seed] < 0.1 and far[seed] < 0.5 for seed in varied]
        shown = (f"outputs have {spread(list(varied.values()), 3)} of the variance of faces and "
                   f"{spread(list(far.values()), 2)} of their distance to the mean face")  # fmt: skip
        claims.append(Claim("average and noise", said, source, over_seeds(right), shown, names(row, sorted(varied))))
    return [*claims, *_average_noise(book)]


def _average_noise(book: Book) -> list[Claim]:
    said = "The mean of generator outputs converges faster than the mean of photographs"
    if not (found := book.others.get("average_noise")):
        return [Claim("average and noise", said, "check", "not run yet")]
    outputs, photographs = (found["average"][f"means of {what}"] for what in ("outputs", "photographs"))
    first, last = (row["faces"] for row in (outputs[0], outputs[-1]))
    parts = [f"{rows[0]['distance']:.4f} after {first} face, {rows[-1]['distance']:.4f} after {last:,}"
             for rows in (outputs, photographs)]  # fmt: skip
    right = all(a["distance"] < b["distance"] for a, b in zip(outputs[:4], photographs, strict=False))
    shown = f"RMS distance to the mean face: outputs {parts[0]}; photographs {parts[1]}"
    told: Verdict = "holds" if right else "does not hold"
    return [Claim("average and noise", said, "check", told, shown, ["average_noise"])]


SECTIONS: Mapping[str, Callable[[Book], list[Claim]]] = {
    "super-resolution": super_resolution,
    "latent editor": latent,
    "GANs": gans,
    "pix2pix": pix2pix,
    "average and noise": average,
}
