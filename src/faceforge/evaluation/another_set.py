"""`faceforge evaluate RUN --data ...`: the faces of another set, framed as those that the run learned from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from faceforge import config as configuration
from faceforge.data.datamodule import FaceData
from faceforge.data.sources.base import Source
from faceforge.errors import BadInput
from faceforge.evaluation.alike import Look, Sample, choose_crop, differences
from faceforge.evaluation.judged import Judged, all_faces
from faceforge.fetch.inspect import source_of
from faceforge.types import Json

DRAWN = 1000  # faces, unless told
PUBLISHED = {"lfw": ["c150", "center"], "celeba": ["c140", "center"], "drawn": ["none"]}  # crops, tried in this order
FOLDERS = ["center"]  # and of other sources
KINDS = ("lfw", "celeba", "crops")  # that are named before a path


@dataclass(frozen=True)
class Named:
    """What was typed after --data: the kind of source, its path, and of drawn faces how many."""

    kind: str
    root: str | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Named:
        """From lfw=PATH, celeba=PATH, crops=PATH, PATH (whatever lies there) or drawn[=COUNT]. Raises BadInput."""
        kind, equals, value = text.partition("=")
        if kind == "drawn" and not Path(text).exists():
            if equals and not (value.isascii() and value.isdecimal() and int(value) > 0):
                raise BadInput(f"--data {text}: must be drawn or drawn=COUNT, at least 1")
            return cls("drawn", count=int(value) if equals else DRAWN)
        if kind in KINDS and equals:
            return cls(kind, _existing(text, value))
        if equals and not Path(text).expanduser().exists() and re.fullmatch(r"\w+", kind):
            nearest = get_close_matches(kind, [*KINDS, "drawn"], n=1, cutoff=0.0)[0]
            right = "must be lfw=PATH, celeba=PATH, crops=PATH, drawn[=COUNT] or a folder or archive of pictures"
            raise BadInput(f"--data {text}: unknown source {kind}, the nearest is {nearest}; {right}")
        root = _existing(text, text)
        return cls(source_of(Path(root)).name, root)

    def __str__(self) -> str:
        return self.kind if self.root is None else (self.root if self.kind == "crops" else f"{self.kind}={self.root}")

    @property
    def label(self) -> str:
        """The part of the name of a file that tells it: lfw, celeba, drawn, or the name of a folder."""
        name = self.kind if self.kind != "crops" else Path(self.root or "").resolve().name.partition(".")[0]
        return re.sub(r"[^\w-]+", "-", name).strip("-") or self.kind


def _existing(text: str, path: str) -> str:
    found = Path(path).expanduser()
    if not path or not found.exists():
        raise BadInput(f"--data {text}: {path or 'no path'}: no such folder or file")
    return str(found)


# ------------------------------------------------------------------------------------------------- opening it


@dataclass(frozen=True)
class AnotherSet:
    """Another set's faces that are scored, and what evaluation.json keeps of the choice."""

    judged: Judged
    about: Json
    differences: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class LeftOut:
    """What was left out of a set because the run had learned from it."""

    people: int  # of the training set
    faces_of_them: int
    identical_pictures: int


def open_set(
    named: Named, split: str | None, node: Mapping[str, Any], trained: FaceData, trusted: Sequence[str]
) -> AnotherSet:
    """The faces of another set, in the run's size and channels and framed as its training faces.

    ``node`` is the run's data configuration and ``trained`` what it built. Without a ``split`` all faces are used.
    People and pictures of the training set are left out. Raises BadInput.
    """
    theirs, size = _node(named, split, node), (trained.height, trained.width)
    ours = Look.of(_sample(node, trusted), trained.crop, size)
    with _naming(named):
        look, whole = _opened(named, theirs, trained, ours, split, trusted)
    judged, left = apart(whole, trained, _share_names(node, theirs))
    if not len(judged.places):
        raise BadInput(f"--data {named}: all {len(whole.places):,} faces are of the training set")
    framing = {"training": asdict(ours), "here": asdict(look)}
    about = {"set": named.label, "framing": framing, "left_out": asdict(left), "cautions": _cautions(whole, trained)}
    return AnotherSet(judged, about, differences(ours, look, trained.channels), _notes(left))


def _opened(
    named: Named, node: Mapping[str, Any], trained: FaceData, ours: Look, split: str | None, trusted: Sequence[str]
) -> tuple[Look, Judged]:
    """How the faces of the set look under the crop that suits them, and all of them."""
    own = [trained.crop] if trained.summary()["source"] == named.kind else []
    crops, size = [*own, *PUBLISHED.get(named.kind, FOLDERS)], (trained.height, trained.width)
    crop, look = choose_crop(_sample(node, trusted), ours, size, crops, boxes=named.root is not None)
    data: FaceData = configuration.build({**node, "crop": crop}, trusted)
    data.prepare()
    return look, all_faces(data, split or "train")


@contextmanager
def _naming(named: Named) -> Iterator[None]:
    """Errors of the data's keys are those of --data."""
    try:
        yield
    except BadInput as error:
        plain = re.sub(r"^data\.root(=[^:]*)?: ", "", str(error))
        raise BadInput(str(error) if plain == str(error) else f"--data {named}: {plain}") from error


def _node(named: Named, split: str | None, node: Mapping[str, Any]) -> Json:
    """The data configuration of the set: the run's with another source and all faces in one split, or in its own."""
    own = {} if named.root is None else {"cache": node["cache"]}
    if named.kind == "drawn":
        own = {"count": named.count, "seed": 1 + int(node["source"].get("seed") or 0)}  # of other people
    source = {**configuration.compose([f"data={named.kind}"])["data"]["source"], **own}
    shares = {} if split else {"val_fraction": 0.0, "test_fraction": 0.0}
    fixed = {"attributes": None, "augment": None, "flip": False, "batch_size": 1, "fraction": 1.0, "workers": 0}
    by = "auto" if split else "identity"
    return {**node, **fixed, **shares, "split": by, "source": source, "root": named.root}


def _sample(node: Mapping[str, Any], trusted: Sequence[str]) -> Sample:
    size = node["size"]
    made: partial[Source] = configuration.build(node["source"], trusted)
    sample = Sample.of(made(root=node["root"]), (size, size) if isinstance(size, int) else tuple(size))
    if not sample.pictures:
        raise BadInput(f"{node['root']}: none of its pictures can be read")
    return sample


def _share_names(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether equal names mean the same person: those of drawn people are numbers that begin anew with each seed."""
    sources = one["source"], other["source"]
    drawn = [source["_target_"].endswith(".Drawn") for source in sources]
    return not any(drawn) or (all(drawn) and sources[0].get("seed") == sources[1].get("seed"))


# ------------------------------------------------------------------------------------------------- left out


def apart(judged: Judged, trained: FaceData, share_names: bool = True) -> tuple[Judged, LeftOut]:
    """The faces whose person and picture are not among the training faces of ``trained``, and what was left out.

    People are compared by name, where both sets name them; pictures by their files and by their pixels as framed.
    """
    rows = trained.rows["train"]
    known = {_plain(name) for row in rows if (name := trained.people[row])} if share_names else set()
    names = [_plain(group) if isinstance(group, str) else "" for group in judged.groups]
    person = np.array([name in known for name in names], dtype=bool)
    own = judged.data.rows[judged.split][judged.places]
    files, pixels = set(trained.digests_of(rows)), set(trained.pixel_digests(rows))
    same = np.array([digest in files for digest in judged.data.digests_of(own)], dtype=bool)
    same |= np.array([digest in pixels for digest in judged.data.pixel_digests(own)], dtype=bool)
    people = len({name for name, is_known in zip(names, person, strict=True) if is_known})
    return judged.only(~(person | same)), LeftOut(people, int(person.sum()), int((same & ~person).sum()))


def _plain(name: str) -> str:
    """A person's name in lower case with one kind of gap, as sets write it in several ways."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def _notes(left: LeftOut) -> list[str]:
    if not (left.people or left.identical_pictures):
        return []
    of_people = f"{left.faces_of_them:,} faces of {left.people:,} people of the training set"
    return [f"Left out: {of_people}, and {left.identical_pictures:,} more pictures that are in it."]


def _cautions(whole: Judged, trained: FaceData) -> list[str]:
    """A sentence where people cannot be compared."""
    learned = [trained.people[row] for row in trained.rows["train"]]
    unknown = [name for name, of in (("this set", whole.groups), ("the training set", learned)) if None in of]
    return [f"People are not known for all faces of {' and of '.join(unknown)}, so some may be in both."][
        : len(unknown)
    ]
