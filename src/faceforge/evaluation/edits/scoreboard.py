"""The scoreboard of edits in evaluation.json: each way of editing, each attribute, at each strength and equal cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.evaluation import labelled, predictors
from faceforge.evaluation.edits.board import REALS, TRUSTED, Board, written
from faceforge.evaluation.edits.curves import STRENGTHS, Faces, Identity, Judges, Reals, curve, features_of
from faceforge.evaluation.edits.identity import face_identity
from faceforge.evaluation.edits.people import FEWEST, People, Rows, asked_for
from faceforge.evaluation.edits.ways import Editor, ways_of
from faceforge.metrics.features import Features
from faceforge.metrics.kid import kid
from faceforge.schemes.abilities import Encodes
from faceforge.schemes.base import Scheme
from faceforge.schemes.inversion import GanCodes
from faceforge.types import Json

COUNT = 200  # faces edited for each attribute
SIDE = 128  # pixels to which features see faces: a quarter of the time of 224, the same for every way
RARE = "too few generated faces have it, or lack it, for a direction"
Say = Callable[[str], None]


def checked(module: Scheme, data: FaceData, split: str, asked: str, seed: int) -> Scoreboard:
    """What can be judged of what was asked for: attributes by name, with commas between, or all. Raises BadInput."""
    if not isinstance(module, Encodes):
        able = "a run of model=latent_editor has, and a GAN after `faceforge directions RUN`"
        raise BadInput(f"--edits: this run has no codes to edit; {able}")
    people = People.of(data, split, seed)
    names, reasons = asked_for(people, [name for name in asked.split(",") if name])
    if not names:
        raise BadInput(f"--edits {asked}: no attribute has {FEWEST} {split} faces with and {FEWEST} without it")
    return Scoreboard(module, people, names, reasons)


@dataclass(frozen=True)
class Scoreboard:
    """A module, the people, the attributes to judge, and why others are left out."""

    module: Encodes
    people: People
    names: list[str]
    reasons: dict[str, str]

    def judge(self, count: int | None, seed: int, say: Say) -> Json:
        """{"edits": what evaluation.json says of them}, from at most ``count`` faces for each attribute."""
        people, editor = self.people, Editor(self.module)
        say("codes for directions")
        codes, names, labels = self._labelled(editor, seed, say)
        ways = ways_of(codes, self.module.code_range, names, labels, seed, say)
        identity, why = face_identity(self.module.device, min(people.data.height, people.data.width))
        judges, found = judges_of(people, self.module.device, identity, seed, say)
        rare = dict.fromkeys(set(self.names) - set(ways[0].directions), RARE)
        board = Board(people, judges, ways, found, seed, {**self.reasons, **rare, **_untrusted(found, self.names)})
        known = [name for name in self.names if name in judges.predictor.names and name not in rare]
        for number, name in enumerate(known):
            say(f"edits {number + 1} of {len(known)}: {name}")
            _judge_one(board, editor, name, count or COUNT)
        return {"edits": written(board, why)}

    def _labelled(
        self, editor: Editor, seed: int, say: Say
    ) -> tuple[NDArray[np.float64], tuple[str, ...], NDArray[np.floating[Any]]]:
        """Codes (N, Z), and labels (N, A) of attributes: of real faces, or of faces that a GAN generates, as a
        predictor taught by the same people sees them.
        """
        people, rows = self.people, self.people.editor
        if not isinstance(self.module, GanCodes):
            return editor.codes(people.data.pictures(rows)).double().numpy(), people.names, people.labels[rows]
        data, device = people.data, self.module.gan.device
        predictor, _ = predictors.of_faces(data, people.enough(), rows, people.teachers, seed, device, say)
        found = labelled.label(self.module.gan, predictor, labelled.COUNT, seed)
        return found.codes, found.names, found.labels


def judges_of(
    people: People, device: torch.device, identity: Identity | None, seed: int, say: Say
) -> tuple[Judges, dict[str, float]]:
    """Predictors of the attributes that they learn well enough, and the balanced accuracy of each on edited people."""
    labels = people.enough()
    predictor, found = predictors.of_faces(people.data, labels, people.teachers, people.edited, seed, device, say)
    trusted = predictor.only([name for name in labels if found[name] >= TRUSTED])
    return Judges(trusted, identity, Features(SIDE).to(device), device), found


def _untrusted(found: Mapping[str, float], names: Sequence[str]) -> dict[str, str]:
    """Why attributes that were asked for cannot be judged."""
    return {
        name: f"its predictor has a balanced accuracy of {found[name]:.1%}, at least {TRUSTED:.0%} is needed"
        for name in names
        if found[name] < TRUSTED
    }


def _judge_one(board: Board, editor: Editor, name: str, count: int) -> None:
    people, judges, seed = board.people, board.judges, board.seed
    lacking = people.some(name, 0, people.edited, count, seed)
    having = people.some(name, 1, people.teachers, REALS, seed)
    unseen = people.some(name, 1, people.edited, count, seed)
    reals, floor = (_reals(judges, people, rows) for rows in (having, unseen))
    images, groups = people.data.pictures(lacking), people.groups(lacking)
    faces = Faces.of(editor, judges, name, images, groups, people.data.changed(lacking, name), reals)
    first = curve(editor, judges, faces, board.ways[0], STRENGTHS[:1])
    ways = [way for way in board.ways if name in way.directions]
    curves = {way.name: [*first, *curve(editor, judges, faces, way, STRENGTHS[1:])] for way in ways}
    board.add(name, curves, groups, _kid(reals, floor))


def _reals(judges: Judges, people: People, rows: Rows) -> Reals:
    return Reals(features_of(judges, people.data.pictures(rows)), people.groups(rows))


def _kid(a: Reals, b: Reals) -> float | None:
    try:
        return kid(a.features, b.features, a.groups, b.groups).value
    except ValueError:
        return None
