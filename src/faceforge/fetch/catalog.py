"""LFW and CelebA: what is known of them, and the chain of places from which they are had.

Hashes: of LFW's archives as scikit-learn pins them (sha256 of lfw.tgz), of CelebA's files as torchvision pins them
(md5). No hash of the Hugging Face copies is known beforehand: their files are checked against the size and sha256 that
the hub itself declares, and what is in them against the known numbers of pictures and people. The table of LFW's
attributes has no known hash either: it is parsed, and joined only if it reads as it should. Which of LFW's alignments
the copy on the hub holds is declared nowhere; the archive from figshare is the original.

Mirrors: HF_ENDPOINT (https://huggingface.co), FACEFORGE_FIGSHARE, FACEFORGE_DRIVE and FACEFORGE_LFW_ATTRIBUTES name
other addresses of the same files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faceforge.errors import BadInput
from faceforge.fetch.download import DownloadError, fetch

MIRRORS = {
    "HF_ENDPOINT": "https://huggingface.co",
    "FACEFORGE_FIGSHARE": "https://ndownloader.figshare.com/files",
    "FACEFORGE_DRIVE": "https://drive.usercontent.google.com/download",
    "FACEFORGE_LFW_ATTRIBUTES": "http://www.cs.columbia.edu/CAVE/databases/pubfig/download/lfw_attributes.txt",
}


@dataclass(frozen=True)
class File:
    """A file of a set: its name, its id at the host, its size in bytes and its hash."""

    name: str
    id: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class DataSet:
    """What is known of a set. ``files`` begins with the pictures; the others are tables."""

    name: str
    title: str
    terms: str
    pictures: int
    people: int
    repository: str  # on the Hugging Face hub
    revision: str
    files: tuple[File, ...]
    host: str  # of files: figshare or drive
    usual: tuple[str, ...]  # names under which people keep it
    by_hand: tuple[str, ...]  # where it can be had with a browser


LFW = DataSet(
    name="lfw",
    title="Labeled Faces in the Wild: 13,233 photographs of 5,749 people, 250x250 (Huang et al. 2007)",
    terms="for research on faces; the photographs are from the news and their rights stay with their owners",
    pictures=13_233,
    people=5_749,
    repository="bitmind/lfw",
    revision="main",
    files=(File("lfw.tgz", "5976018", sha256="055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0"),),
    host="figshare",
    usual=("lfw.tgz", "lfw-funneled.tgz", "lfw-deepfunneled.tgz", "lfw.zip", "lfw", "lfw_funneled", "lfw-deepfunneled"),
    by_hand=("https://www.kaggle.com/datasets/jessicali9530/lfw-dataset", f"{MIRRORS['FACEFORGE_FIGSHARE']}/5976018"),
)
CELEBA = DataSet(
    name="celeba",
    title="CelebA, aligned: 202,599 photographs of 10,177 people, 178x218, 40 attributes (Liu et al. 2015)",
    terms="for non-commercial research only, never to be passed on, and MMLAB may end your access: by fetching it you\n"
    "enter into the agreement at http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    pictures=202_599,
    people=10_177,
    repository="flwrlabs/celeba",
    revision="2d738f56e0e7f925ea36ae7c808ea925264aacec",
    files=(
        File(
            "img_align_celeba.zip",
            "0B7EVK8r0v71pZjFTYXZWM3FlRnM",
            1_443_490_838,
            md5="00d2c5bc6d35e252742224ab0c1e8fcb",
        ),
        File("list_attr_celeba.txt", "0B7EVK8r0v71pblRyaVFSWGxPY0U", md5="75e246fa4810816ffd6ee81facbd244c"),
        File("identity_CelebA.txt", "1_ee_0u7vcNLOfNLegJRHmolfH5ICW-XS", md5="32bd1bd63d3c78cd57e08160ec5ed1e2"),
        File("list_eval_partition.txt", "0B7EVK8r0v71pY0NSMzRuSXJEVkk", md5="d32c9cbf5e040fd4025c592c306e6668"),
    ),
    host="drive",
    usual=("img_align_celeba.zip", "celeba.zip", "img_celeba_dataset.zip", "celeba", "CelebA", "img_align_celeba"),
    by_hand=(
        "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "https://www.kaggle.com/datasets/jessicali9530/celeba-dataset",
    ),
)
SETS = {"lfw": LFW, "celeba": CELEBA}
PLACES = (".", "data", "~/Downloads", "~/data", "~/scikit_learn_data/lfw_home")

Say = Callable[[str], None]


def mirror(name: str) -> str:
    """The address under a name of MIRRORS, from the environment where it is set there."""
    return (os.environ.get(name) or MIRRORS[name]).rstrip("/")


def get(data: DataSet, folder: Path, given: Path | None = None, only: str | None = None, say: Say = print) -> Path:
    """The path for data.root of a set, from the first place that has it whole; fetched files go into ``folder``.

    ``given`` is a file or folder to look at first; ``only`` names the one step to take. ``say`` is told the terms of
    the set, then each step and, in one sentence, why it failed. Raises BadInput where all have.
    """
    steps: dict[str, Callable[[], Path]] = {
        "file": lambda: _local(data, folder, given, say),
        "hub": lambda: _hub(data, folder, say),
        data.host: lambda: _hosted(data, folder, say),
    }
    if only is not None and only not in steps:
        raise BadInput(f"--only {only}: no such step for {data.name}; {', '.join(steps)} are its steps")
    say(f"{data.title}\nTerms: {data.terms}")
    existed = folder.exists()
    chosen = {name: step for name, step in steps.items() if only in (None, name)}
    for number, (name, step) in enumerate(chosen.items(), start=1):
        say(f"{number}. {_TITLES[name].format(data=data)}")
        try:
            root = step()
        except (BadInput, OSError) as error:
            say(f"   {error}")
            continue
        _attributes(data, root, folder, say)
        return root
    if not existed:
        with suppress(OSError):
            folder.rmdir()  # unless something was begun in it
    say(_by_hand(data))
    raise BadInput(f"{data.name} could not be had; the reasons stand above ({len(chosen)} places tried)")


_TITLES = {
    "file": "on this machine",
    "hub": "Hugging Face hub, {data.repository}",
    "figshare": "figshare, the archive that scikit-learn uses",
    "drive": "Google Drive, the official files",
}


def _by_hand(data: DataSet) -> str:
    pages = "\n".join(f"   {page}" for page in data.by_hand)
    then = f"faceforge data get {data.name} --file ~/Downloads/archive.zip"
    return f"By hand: fetch it with a browser from one of\n{pages}\nthen: {then}\nWithout any download: data=drawn"


# ------------------------------------------------------------------------------------------------- on this machine


def _local(data: DataSet, folder: Path, given: Path | None, say: Say) -> Path:
    """A copy that is there already: the one that was named, or a whole one in a usual place."""
    if given is not None:
        return _named(data, folder, given, say)
    reasons = []
    for path in _candidates(data, folder):
        try:
            count = pictures(data, path)
        except BadInput as error:
            if path.is_file():
                reasons.append(str(error))
            continue
        if count >= data.pictures:
            return path
        reasons.append(f"{path} holds {count:,} of {data.pictures:,} pictures (to use it all the same: --file {path})")
    raise DownloadError("; ".join(reasons) or f"no copy in {folder} or the usual places (yours: --file PATH)")


def _named(data: DataSet, folder: Path, given: Path, say: Say) -> Path:
    if not given.exists():
        raise DownloadError(f"{given}: no such file or folder")
    shards = [given] if given.suffix == ".parquet" else sorted(given.rglob("*.parquet")) if given.is_dir() else []
    if shards:
        from faceforge.fetch.hub import by_split, unpack

        return unpack(data, by_split(shards), folder, say)
    count = pictures(data, given)
    if count < data.pictures:
        say(f"   a part of the set: {count:,} of {data.pictures:,} pictures")
    return given


def _candidates(data: DataSet, folder: Path) -> Iterator[Path]:
    places = [folder, *(Path(place).expanduser() for place in PLACES)]
    paths = [folder, *(place / name for place in places for name in data.usual)]
    seen = set()
    for path in paths:
        if path.exists() and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def pictures(data: DataSet, path: Path) -> int:
    """How many pictures of the set lie at ``path``. Raises BadInput where its source cannot read it."""
    from faceforge.data.sources.celeba import Celeba
    from faceforge.data.sources.lfw import Lfw

    try:
        return len((Lfw if data.name == "lfw" else Celeba)(str(path)).faces)
    except BadInput as error:
        raise BadInput(str(error).removeprefix("data.root=")) from error


# ------------------------------------------------------------------------------------------------- from elsewhere


def _hub(data: DataSet, folder: Path, say: Say) -> Path:
    from faceforge.fetch import hub

    return hub.get(data, folder, mirror("HF_ENDPOINT"), say)


def _hosted(data: DataSet, folder: Path, say: Say) -> Path:
    """The original archive, and as many of its tables as can be had."""
    archive, *tables = data.files
    root = _fetch(data, archive, folder)
    for table in tables:
        try:
            _fetch(data, table, folder)
        except DownloadError as error:
            say(f"   without a table: {error}")
    return root


def _fetch(data: DataSet, file: File, folder: Path) -> Path:
    if data.host == "drive":
        url = f"{mirror('FACEFORGE_DRIVE')}?id={file.id}&export=download&confirm=t"
    else:
        url = f"{mirror('FACEFORGE_FIGSHARE')}/{file.id}"
    return fetch(url, folder / file.name, size=file.size, sha256=file.sha256, md5=file.md5)


def _attributes(data: DataSet, root: Path, folder: Path, say: Say) -> None:
    """LFW's attributes lie with nobody who has the pictures; they are fetched where the set is in ``folder``."""
    from faceforge.data.sources.lfw import TABLE, read_table

    inside = folder.resolve() in (root.resolve(), *root.resolve().parents)
    target = folder / TABLE
    if data.name != "lfw" or not inside or target.exists():
        return
    try:
        fetch(mirror("FACEFORGE_LFW_ATTRIBUTES"), target)
        read_table(TABLE, target.read_bytes(), [])
    except BadInput as error:
        if target.exists() and not isinstance(error, DownloadError):
            target.unlink()  # fetched just now, and no table
        say(f"   without attributes: {error}")
