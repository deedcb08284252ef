"""Detects training problems from logged scores and reports each once, with advice.

A rule fires when its condition holds for several consecutive rows and does not recover: a single bad value or the
start of a run is no problem. The figures are defined in ``metrics/health.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from faceforge.types import Json

Row = Mapping[str, float]
Kind = Literal["training", "validation"]


class Note(TypedDict):
    """What was said of a run: at how many images, by which rule, in which words."""

    images: int
    rule: str
    text: str


MISSING = object()
CONSTANTS = {"latent_size": "model.code.latent_size"}  # config values that a rule may need, by name


def _setting(config: Mapping[str, Any], key: str) -> object:
    node: object = config
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return MISSING
        node = node[name]
    return node


@dataclass(frozen=True)
class Remedy:
    """Advice for runs whose config has ``key``, with the value ``when`` if given, and no key of ``lacks``."""

    key: str
    advice: str
    when: str | None = None
    lacks: tuple[str, ...] = ()

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether a config has the key, and the value."""
        value = _setting(config, self.key)
        apart = all(_setting(config, key) is MISSING for key in self.lacks)
        return value is not MISSING and self.when in (None, value) and apart


@dataclass(frozen=True)
class Rule:
    """``bad`` receives the last ``over`` rows that have all of ``needs``; the last one fills ``text``."""

    name: str
    kind: Kind
    needs: tuple[str, ...]
    over: int
    bad: Callable[[Sequence[Row]], bool]
    text: str
    remedies: tuple[Remedy, ...]
    always: bool = True  # whether it applies to tasks whose optimum is the mean face

    def speaks(self, rows: Sequence[Row]) -> bool:
        """Whether the rule fires."""
        known = [row for row in rows if all(name in row for name in self.needs)][-self.over :]
        return len(known) == self.over and self.bad(known)

    def say(self, row: Row, config: Mapping[str, Any]) -> str:
        """The message, with the first advice that applies."""
        advice = next((f" {remedy.advice}" for remedy in self.remedies if remedy.fits(config)), "")
        return self.text.format_map(row) + advice


class Watch:
    """Asks the rules as rows come in. Its state is plain data: a run that is resumed says nothing twice.

    ``batch`` is the number of images in one: rows of training are averaged over ten batches or more, and validations
    that follow within twenty are passed over, so that logging every batch does not make a rule hasty. ``mean_is_best``
    is what the run's task says of itself.
    """

    mean_is_best = False

    def __init__(self, config: Mapping[str, Any], batch: int) -> None:
        self.config = config
        found = {name: _setting(config, key) for name, key in CONSTANTS.items()}
        self.constants = {name: value for name, value in found.items() if isinstance(value, int)}
        self.spans: dict[Kind, int] = {"training": 10 * batch, "validation": 20 * batch}
        self.notes: list[Note] = []
        self._rows: dict[str, list[dict[str, float]]] = {"training": [], "validation": []}
        self._sums: dict[str, float] = {}
        self._count = 0
        self._ends: dict[str, int] = {"training": 0, "validation": 0}

    def state_dict(self) -> Json:
        """Plain data."""
        rows = {kind: [dict(row) for row in rows] for kind, rows in self._rows.items()}
        state = {"rows": rows, "sums": dict(self._sums), "count": self._count, "ends": dict(self._ends)}
        return {**state, "notes": [note.copy() for note in self.notes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._rows = {kind: [dict(row) for row in rows] for kind, rows in state["rows"].items()}
        self._sums, self._count = dict(state["sums"]), state["count"]
        self._ends, self.notes = dict(state["ends"]), [note.copy() for note in state["notes"]]

    def training(self, images: int, means: Row) -> list[Note]:
        """Add means of the steps up to ``images``; returns new notes."""
        for name in self._watched("training"):
            if name in means:
                self._sums[name] = self._sums.get(name, 0.0) + means[name]
        self._count += 1
        if images - self._ends["training"] < self.spans["training"]:
            return []
        row = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return self._see("training", images, row)

    def validation(self, images: int, scores: Row) -> list[Note]:
        """Add validation scores at ``images``; returns new notes."""
        if images - self._ends["validation"] < self.spans["validation"]:
            return []
        return self._see("validation", images, {k: v for k, v in scores.items() if k in self._watched("validation")})

    def _watched(self, kind: Kind) -> set[str]:
        return {name for rule in RULES if rule.kind == kind for name in rule.needs}

    def _see(self, kind: Kind, images: int, row: dict[str, float]) -> list[Note]:
        self._ends[kind] = images
        self._rows[kind] = [*self._rows[kind], row][-KEPT:]
        rows = [{**self.constants, **row} for row in self._rows[kind]]
        said = {note["rule"] for note in self.notes}
        due = [rule for rule in RULES if rule.kind == kind and rule.name not in said]
        due = [rule for rule in due if rule.always or not self.mean_is_best]
        fresh: list[Note] = [
            {"images": images, "rule": rule.name, "text": rule.say(rows[-1], self.config)}
            for rule in due
            if rule.speaks(rows)
        ]
        self.notes += fresh
        return fresh


# --------------------------------------------------------------------------------------------------------------- rules


def _below(name: str, limit: float) -> Callable[[Sequence[Row]], bool]:
    return lambda rows: all(row[name] < limit for row in rows)


def _above(name: str, limit: float) -> Callable[[Sequence[Row]], bool]:
    return lambda rows: all(row[name] > limit for row in rows)


def _grows(rows: Sequence[Row], name: str, factor: float) -> bool:
    """Whether the last value exceeds the first by this much: the run is recovering."""
    return rows[-1][name] > factor * rows[0][name]


def _dead(rows: Sequence[Row]) -> bool:
    """All outputs are one image, but not the mean face. Untrained networks have ratios above 1e-3."""
    return _below("val/variance_ratio", 1e-3)(rows) and _above("val/mean_face_distance", 0.5)(rows)


def _mean_face(rows: Sequence[Row]) -> bool:
    """Less than a tenth of the faces' variance, close to the mean face. Models that use their input are far above: four
    principal components explain more than a third of the variance (drawn faces and LFW, 64x64).
    """
    small = _below("val/variance_ratio", 0.1)(rows) and _below("val/mean_face_distance", 0.5)(rows)
    return small and not _grows(rows, "val/variance_ratio", 1.3)


def _overfitted(rows: Sequence[Row]) -> bool:
    """A gap between those of the published networks, one described as overfitted (0.46) and one not (0.24), and no
    better validation three times in a row, because a gap alone is harmless while both errors fall.
    """
    worse = all(row["val/mae"] >= rows[0]["val/mae"] for row in rows[1:])
    return worse and _above("val/gap", 0.35)(rows[1:])


def _collapsed(rows: Sequence[Row]) -> bool:
    """Healthy runs have 0.9 or more in both after the first 1500 images; a poor run with distinct faces has 0.73 and
    0.61, the published collapse 0.04 and 0.03, a generator of only 64 faces 0.99 and 0.03.
    """
    few = all(row["val/diversity"] < 0.5 or row["val/nearest"] < 0.3 for row in rows)
    return few and not _grows(rows, "val/diversity", 1.3) and not _grows(rows, "val/nearest", 1.3)


def _checkered(rows: Sequence[Row]) -> bool:
    """Healthy runs start at 4 and fall to 1.2; a barely visible pattern of 0.7 of 255 levels gives 5."""
    return (
        _above("val/checkerboard", 5.0)(rows) and not rows[-1]["val/checkerboard"] < 0.7 * rows[0]["val/checkerboard"]
    )


def _inactive(rows: Sequence[Row]) -> bool:
    """A variational code switches off units that it does not need (Burda et al. 2016, table 2: half or more of 50), so
    the rule fires only when most are inactive.
    """
    few = all(row["val/active_units"] < 0.1 * row["latent_size"] for row in rows)
    return few and not _grows(rows, "val/active_units", 1.3)


def _blind(rows: Sequence[Row]) -> bool:
    """Real faces are rated no higher than generated ones. Healthy runs keep a logit distance of 0.6 or more; with least
    squares, whose labels are 1 apart, it starts at 0.01 and rises at once. The published discriminator stays below
    0.03 for tens of thousands of images; one that does not learn falls far below 0.
    """
    apart = [row["logit/real"] - row["logit/fake"] for row in rows]
    return max(apart) < 0.03 and apart[-1] < max(1.3 * apart[0], 0.005)


STRONGER_PENALTY = Remedy("model.r1_gamma", "Try a larger model.r1_gamma or a lower model.optimizer_d.lr.")
RULES: tuple[Rule, ...] = (
    Rule(
        "constant output",
        "validation",
        ("val/variance_ratio", "val/mean_face_distance"),
        2,
        _dead,
        "Every output is the same image ({val/variance_ratio:.1g} of the targets' variance), and not a face: part of "
        "the network is dead.",
        (
            Remedy("model.optimizer.lr", "Restart with a lower model.optimizer.lr, or with model.clip_norm=1."),
            Remedy("model.optimizer_g.lr", "Restart with a lower model.optimizer_g.lr, or with model.clip_norm=1."),
        ),
    ),
    Rule(
        "mean face",
        "validation",
        ("val/variance_ratio", "val/mean_face_distance"),
        3,
        _mean_face,
        "The outputs are close to the mean training face: they have {val/variance_ratio:.1%} of the targets' variance "
        "and {val/mean_face_distance:.0%} of the faces' distance to it. The model does not use its "
        "input.",
        (
            Remedy("model.code.log_variance", "Try a lower model.kl_weight."),
            Remedy("model.optimizer.lr", "Try another model.optimizer.lr, or a longer run (trainer.max_images)."),
            Remedy("model.loss_weight", "Try a larger model.loss_weight."),
        ),
        always=False,
    ),
    Rule(
        "overfitting",
        "validation",
        ("val/mae", "train/mae", "val/gap"),
        4,
        _overfitted,
        "The error on validation faces ({val/mae:.4f}) is {val/gap:.0%} above that on training faces "
        "({train/mae:.4f}) and has not fallen for three validations: the model is overfitting. best.ckpt is an "
        "earlier checkpoint.",
        (Remedy("data.augment", "Try data.augment=light or more faces; model/stop=early stops such a run."),),
        always=False,
    ),
    Rule(
        "inactive code",
        "validation",
        ("val/active_units", "latent_size"),
        3,
        _inactive,
        "Only {val/active_units:.0f} of {latent_size:.0f} units of the code still depend on the face (posterior "
        "collapse).",
        (
            Remedy("model.code.log_variance", "Try a lower model.kl_weight, or model.free_nats=0.1."),
            Remedy("model.optimizer.lr", "Try a lower model.optimizer.lr, or a smaller model.code.latent_size."),
        ),
    ),
    Rule(
        "collapse",
        "validation",
        ("val/diversity", "val/nearest"),
        3,
        _collapsed,
        "Mode collapse: generated faces differ {val/diversity:.0%} as much as real faces do, and "
        "nearest neighbours {val/nearest:.0%} as much.",
        (
            Remedy("model.objective", "model.objective=non_saturating or relativistic often prevents it.", "minimax"),
            Remedy("model.r1_gamma", "A larger model.r1_gamma, or lower learning rates of both, often prevent it."),
        ),
    ),
    Rule(
        "checkerboard",
        "validation",
        ("val/checkerboard",),
        3,
        _checkered,
        "The images have a checkerboard pattern: its frequencies have {val/checkerboard:.0f} times the excess energy "
        "of real faces.",
        (
            Remedy("model.generator.upsampling", "Try model.generator.upsampling=nearest.", "transposed"),
            Remedy("model.decoder.upsampling", "Try model.decoder.upsampling=nearest.", "transposed"),
            Remedy(  # for GANs whose generator has no settings
                "choices.model/generator",
                "Try model/generator=conventional.",
                lacks=("model.generator.latent_size", "model.generator.latent", "model.generator.in_channels"),
            ),
        ),
    ),
    Rule(
        "discriminator won",
        "training",
        ("discriminator/saturation", "discriminator/signal"),
        4,
        # Healthy runs start below 0.5 and stay below 0.1.
        _above("discriminator/saturation", 0.95),
        "The discriminator is certain and correct on {discriminator/saturation:.0%} of the faces; "
        "{discriminator/signal:.1%} of the full gradient signal reaches the generator.",
        (
            Remedy("model.objective", "Try model.objective=non_saturating, which keeps the full signal.", "minimax"),
            STRONGER_PENALTY,
            Remedy("model.optimizer_d.lr", "Try a lower model.optimizer_d.lr."),
        ),
    ),
    Rule(
        "discriminator blind",
        "training",
        ("logit/real", "logit/fake"),
        5,
        _blind,
        "The discriminator does not rate real faces above generated ones (logits {logit/real:.3f} and "
        "{logit/fake:.3f}), so the generator learns nothing from it.",
        (Remedy("model.optimizer_d.lr", "Try model.optimizer_d.lr as high as model.optimizer_g.lr."),),
    ),
)
KEPT = max(rule.over for rule in RULES)
