"""What the folders of a set of images mean: wrappers, shards, official splits, people or labels.

The same set is understood in the same way however it is packed.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from faceforge.io.tables import plain

PEOPLE_FROM = 8  # fewer folders than this are labels (smile/, sad/), not people
STRAYS = 0.02  # share of images that may lie beside the folders of a layout; a few in any case
ALIKE = 0.9  # share of equal names from which two folders are pairs
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
          "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}  # fmt: skip
CONTENT = r"(?:images?|imgs?|pictures?|faces?|photos?|data|set)"
WORD = "|".join(SPLITS)
SPLIT = re.compile(rf"(?:\d+[-_ .]+)?(?:{CONTENT}[-_ ]?)?({WORD})(?:[-_ ]?(?:{CONTENT}|\d+))?", re.IGNORECASE)
SIDES = re.compile(rf"({WORD})[-_ ]?([ab])", re.IGNORECASE)  # trainA, testB
SHARD = re.compile(
    r"(part|shard|chunk|(data[-_ ])?batch|archive|page|group|set|images?|imgs?|dir|folder|vol|volume|dis[kc])[-_ .]*\d+"
    r"|(new folder|untitled folder|neuer ordner|nouveau dossier|nueva carpeta|downloads?)( ?\(?\d+\)?)?|\d{2,}-\d{2,}",
    re.IGNORECASE,
)
CAMERA = re.compile(r"[1-9]\d\d(?!\d{5})[A-Z0-9_]{5}")  # 100APPLE
DATE = re.compile(r"(photos from )?(19|20)\d\d([-_. ]?(0[1-9]|1[0-2])([-_. ]?(0[1-9]|[12]\d|3[01]))?)?", re.IGNORECASE)
PAIRED = {
    *("a", "b", "x", "y", "photo", "sketch", "image", "img", "mask", "label", "edge", "input", "output", "target"),
    *("source", "real", "lr", "hr", "low", "high", "clean", "noisy", "blur", "sharp", "gt", "color", "colour", "gray"),
    *("grey", "line", "drawing", "depth", "rgb"),
}  # names of two folders whose images belong together


@dataclass
class Layout:
    """For each image its id, official split, and person or set; None where there is none."""

    ids: list[str]
    splits: list[str | None]
    folders: list[str | None]  # the first folder that has a meaning
    people: list[str | None]
    sets: list[str] = field(default_factory=list)
    outer: str = ""  # of all images, with a final slash
    shards: list[str] = field(default_factory=list)
    pairs: bool = False
    alike: bool = False  # two sets of the same names, which may be pairs

    def said(self) -> str:
        """The layout in a few words."""
        said = [f"all in {self.outer}"] if self.outer else []
        if self.shards:
            said.append(f"{len(self.shards):,} shards ({self.shards[0]} to {self.shards[-1]})")
        named = len(set(self.folders) - {None})
        if any(self.splits):
            said.append("folders of an official split")
        if self.sets:
            said.append("a folder per set")
        if any(self.people):
            said.append("one name per pair" if self.pairs else "a folder per person")
        elif not self.sets and (named or not said):
            said.append("images in folders without a meaning" if named else "images in one folder")
        return ", ".join(said)


def understand(names: Sequence[str], anchors: Collection[str] = (), pairs: bool = False) -> Layout:
    """The layout of images by their slash-separated names.

    Ids are in composed Unicode, below the folders that hold everything; ``anchors`` are folders, each with a final
    slash, below which ids keep all folders. ``pairs``: two folders of the same names are pairs, whatever they are
    called.
    """
    reading = _Reading(names)
    while reading.step():
        pass
    folders = reading.heads()
    outer = reading.common(anchors)
    layout = Layout(reading.ids(outer), reading.splits, folders, [None] * len(names), outer="".join(outer))
    layout.shards = sorted(reading.shards, key=_natural)
    distinct = {folder for folder in folders if folder is not None}
    if len(distinct) >= PEOPLE_FROM or (len(distinct) > 2 and all(re.fullmatch(r"0\d+", name) for name in distinct)):
        layout.people = list(folders)
    elif len(distinct) >= 2:
        layout.sets = sorted(distinct)
        _read_sets(layout, reading, pairs)
    return layout


def _read_sets(layout: Layout, reading: _Reading, pairs: bool) -> None:
    """The splits or people within sets: their folders, or the names that two sides of pairs share."""
    inner = reading.heads(1)
    parts = [_split_of(name or "") for name in inner]
    if None not in parts and "train" in parts and len(set(parts)) > 1 and not any(layout.splits):
        layout.splits = parts
    elif None not in inner and len(set(inner)) >= PEOPLE_FROM:
        layout.people = inner
        return
    stems = [plain("/".join(rest[1:])) for rest in reading.rests()]
    sides = [{s for s, f in zip(stems, layout.folders, strict=True) if f == side} for side in layout.sets]
    alike = len(set.intersection(*sides)) >= ALIKE * max(map(len, sides))
    layout.alike = alike and len(layout.sets) == 2
    layout.pairs = reading.sides or (layout.alike and (pairs or all(map(_is_side, layout.sets))))
    if layout.pairs and alike:
        layout.people = [f"{split}/{stem}" if split else stem for split, stem in zip(layout.splits, stems, strict=True)]


def _split_of(folder: str) -> str | None:
    found = SPLIT.fullmatch(folder)
    return SPLITS[found[1].lower()] if found else None


def _splits_alike(folders: Collection[str]) -> dict[str, str]:
    """The splits of folders that differ in nothing else, such as celeba-train and celeba-test; none otherwise."""
    word = re.compile(rf"(?<![a-z])({WORD})(?![a-z])")
    found = {folder: match for folder in folders if (match := word.search(folder.lower()))}
    others = {folder.lower().replace(match[1], "", 1) for folder, match in found.items()}
    alike = len(found) == len(folders) and len(others) == 1
    return {folder: SPLITS[match[1]] for folder, match in found.items()} if alike else {}


def _is_side(name: str) -> bool:
    word = name.lower()
    return not PAIRED.isdisjoint({word, word.removesuffix("s"), word.removesuffix("es")})


class _Reading:
    """The names of images, read folder by folder from the outside."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.paths = [unicodedata.normalize("NFC", name).split("/") for name in names]
        self.read = [0] * len(names)  # folders of each path that are understood
        self.dropped: list[set[int]] = [set() for _ in names]  # folders of each path that are no part of its id
        self.splits: list[str | None] = [None] * len(names)
        self.outer: list[str] = []
        self.shards: set[str] = set()
        self.strays: set[int] = set()  # images beside the folders of the layout
        self.sides = False

    def rests(self) -> list[list[str]]:
        """The parts of each path that are not yet understood."""
        return [path[read:] for path, read in zip(self.paths, self.read, strict=True)]

    def heads(self, at: int = 0) -> list[str | None]:
        """The next folder of each image, None in the last one; ``at`` counts from there."""
        rests = enumerate(self.rests())
        return [rest[at] if len(rest) > at + 1 and n not in self.strays else None for n, rest in rests]

    def step(self) -> bool:
        """Understand one more level of folders; False if the next one is people, sets or nothing."""
        heads = self.heads()
        few = max(STRAYS * len(heads), min(3, len(heads) // 10))
        counts = Counter(head for head in heads if head is not None)
        most, count = counts.most_common(1)[0] if counts else ("", 0)
        if len(counts) > 1 and len(heads) - count <= min(few, 3) and self._branches(heads, most):
            self.strays |= {n for n, head in enumerate(heads) if head != most}  # a logo beside the people
            return True
        if not counts or heads.count(None) > few:
            return False
        if len(counts) == 1:
            if not any(self.splits) and not self.shards:
                self.outer.append(f"{most}/")
            return self._pass(heads, counts, drop=not any(self.splits))
        return self._split(heads, counts) or self._shard(heads, counts)

    def _branches(self, heads: Sequence[str | None], folder: str) -> bool:
        below = {inner for head, inner in zip(heads, self.heads(1), strict=True) if head == folder}
        return None not in below and len(below) > 1

    def _pass(self, heads: Sequence[str | None], folders: Collection[str | None], drop: bool) -> bool:
        for n, head in enumerate(heads):
            if head in folders:
                self.dropped[n] |= {self.read[n]} if drop else set()
                self.read[n] += 1
        return True

    def _split(self, heads: Sequence[str | None], distinct: Collection[str]) -> bool:
        parts = {head: part for head in distinct if (part := _split_of(head))} or _splits_alike(distinct)
        sides = {head: SPLITS[found[1].lower()] for head in distinct if (found := SIDES.fullmatch(head))}
        paired = len(sides) == len(distinct)
        if any(self.splits):  # train/train, test/test
            again = all(parts.get(head or "") == part for head, part in zip(heads, self.splits, strict=True) if head)
            return again and self._pass(heads, distinct, drop=True)
        if not (paired or ("train" in parts.values() and len(set(parts.values())) > 1)):
            return False
        for n, head in enumerate(heads):
            self.splits[n] = (sides if paired else parts).get(head or "")
            if paired and head is not None:  # trainA is side A of the training split
                self.paths[n][self.read[n] : self.read[n] + 1] = [head[:-1].rstrip("-_ "), head[-1]]
        self.sides = paired
        return self._pass(self.heads(), set(self.heads()) - {None}, drop=False)

    def _shard(self, heads: Sequence[str | None], distinct: Collection[str]) -> bool:
        dated = bool(self.shards) and all(map(DATE.fullmatch, self.shards))
        named = all(_is_shard(head) or (dated and re.fullmatch(r"\d\d?", head)) for head in distinct)
        before = ["".join(path[len(self.outer) : read]) for path, read in zip(self.paths, self.read, strict=True)]
        numbered = _numbers_agree(heads, self.paths) or _named_by_stylegan(heads, self.paths)
        if not (named or numbered or _hashes_agree(heads, before, self.paths) or _initials(heads, self.heads(1))):
            return False
        self.shards |= set(distinct)
        return self._pass(heads, distinct, drop=True)

    def common(self, anchors: Collection[str]) -> list[str]:
        """The outer folders that are no part of ids."""
        least = (n for n in range(len(self.outer)) if "".join(self.outer[:n]) in anchors)
        return self.outer[: next(least, len(self.outer))]

    def ids(self, outer: Sequence[str]) -> list[str]:
        """The paths without outer folders and shards where that keeps them apart, else whole."""
        drops = [drop if len(outer) == len(self.outer) else set(range(len(outer))) & drop for drop in self.dropped]
        pairs = zip(self.paths, drops, strict=True)
        short = ["/".join(part for n, part in enumerate(path) if n not in drop) for path, drop in pairs]
        whole = ["/".join(path) for path in self.paths]
        return next((ids for ids in (short, whole) if len(set(ids)) == len(ids)), list(self.names))


def _natural(name: str) -> tuple[int, str]:
    return len(name), name


def _is_shard(folder: str) -> bool:
    return any(kind.fullmatch(folder) for kind in (SHARD, CAMERA, DATE))


def _numbers_agree(heads: Sequence[str | None], paths: Sequence[Sequence[str]]) -> bool:
    """Whether folders are numbered by their images: as FFHQ's 01000/01234.png, or as 1/001234.png."""
    stems = [re.search(r"\d+$", path[-1].partition(".")[0]) for path in paths]
    pairs = [(head, stem) for head, stem in zip(heads, stems, strict=True) if head is not None]
    numbers = [(int(head), int(stem[0])) for head, stem in pairs if head.isdecimal() and stem]
    if len(numbers) < len(pairs):
        return False
    starts = sorted({head for head, _ in numbers})
    step = min(after - before for before, after in pairwise(starts))
    by_start = step >= 10 and all(head <= number < head + step for head, number in numbers)
    return by_start or any(all(number // per == head for head, number in numbers) for per in (1000, 10_000))


def _named_by_stylegan(heads: Sequence[str | None], paths: Sequence[Sequence[str]]) -> bool:
    """Whether folders and images have the names of StyleGAN's dataset tool: 00000/img00000123.png."""
    named = zip(heads, paths, strict=True)
    return all(re.fullmatch(r"\d{5}/img\d{8}\.\w+", f"{head}/{path[-1]}") for head, path in named if head is not None)


def _initials(heads: Sequence[str | None], inner: Sequence[str | None]) -> bool:
    """Whether folders are the letters with which the names of the folders in them begin: A/Ann, A/Alan, B/Bob."""
    pairs = [(head.casefold(), name) for head, name in zip(heads, inner, strict=True) if head is not None]
    return all(len(head) == 1 and name and name.casefold().startswith(head) for head, name in pairs)


def _hashes_agree(heads: Sequence[str | None], before: Sequence[str], paths: Sequence[Sequence[str]]) -> bool:
    """Whether folders, after those ``before``, are the first characters of the hashes that name their images."""
    hashed, found = re.compile(r"[0-9a-fA-F]{12,}"), zip(heads, before, paths, strict=True)
    names = [(head, start + head, path[-1].partition(".")[0]) for head, start, path in found if head is not None]
    return all(len(head) <= 3 and hashed.fullmatch(stem) and stem.startswith(start) for head, start, stem in names)
