"""The data sets LFW and CelebA, and `faceforge data get`, which tries their sources in order.

Hashes: the SHA-256 of lfw.tgz is the one that scikit-learn pins, the MD5s of CelebA's files are those of torchvision.
Nobody pins the copies on the Hugging Face hub: their files are checked against the size and SHA-256 that the hub
declares, and their content against the known numbers of images and people. The LFW attribute table has no known hash
either; it is used only if it can be parsed. The hub does not say which LFW alignment its copy holds; the archive on
figshare is the original.

Mirrors: HF_ENDPOINT, FACEFORGE_FIGSHARE, FACEFORGE_DRIVE and FACEFORGE_LFW_ATTRIBUTES replace the addresses in MIRRORS.
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
    """A file of a data set: its name, its id at the host, its size in bytes and its hash."""

    name: str
    id: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set and its sources. The first of ``files`` is the archive of images; the others are tables."""

    name: str
    title: str
    terms: str
    images: int
    people: int
    repository: str  # on the Hugging Face hub
    revision: str
    files: tuple[File, ...]
    host: str  # of ``files``: figshare or drive
    local: tuple[str, ...]  # common file and folder names of local copies
    web_pages: tuple[str, ...]  # for a download with a browser


LFW = DataSet(
    name="lfw",
    title="Labeled Faces in the Wild: 13,233 photographs of 5,749 people, 250x250 (Huang et al. 2007)",
    terms="for face research; the photographs are from the news and the rights remain with their owners",
    images=13_233,
    people=5_749,
    repository="bitmind/lfw",
    revision="main",
    files=(File("lfw.tgz", "5976018", sha256="055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0"),),
    host="figshare",
    local=("lfw.tgz", "lfw-funneled.tgz", "lfw-deepfunneled.tgz", "lfw.zip", "lfw", "lfw_funneled", "lfw-deepfunneled"),
    web_pages=("https://www.kaggle.com/datasets/jessicali9530/lfw-dataset", f"{MIRRORS['FACEFORGE_FIGSHARE']}/5976018"),
)
CELEBA = DataSet(
    name="celeba",
    title="CelebA, aligned: 202,599 photographs of 10,177 people, 178x218, 40 attributes (Liu et al. 2015)",
    terms="for non-commercial research only, no redistribution, and MMLAB may end your access; by downloading it you\n"
    "accept the agreement at http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    images=202_599,
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
    local=("img_align_celeba.zip", "celeba.zip", "img_celeba_dataset.zip", "celeba", "CelebA", "img_align_celeba"),
    web_pages=(
        "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "https://www.kaggle.com/datasets/jessicali9530/celeba-dataset",
    ),
)
SETS = {"lfw": LFW, "celeba": CELEBA}
SEARCH_FOLDERS = (".", "data", "~/Downloads", "~/data", "~/scikit_learn_data/lfw_home")

Say = Callable[[str], None]


def mirror(name: str) -> str:
    """The address for a name of MIRRORS; an environment variable of that name overrides it."""
    return (os.environ.get(name) or MIRRORS[name]).rstrip("/")


def get(data: DataSet, folder: Path, given: Path | None = None, only: str | None = None, say: Say = print) -> Path:
    """The path for data.root of a set, from the first source that is complete; downloads go into ``folder``.

    ``given`` is a local copy to use; ``only`` names the one step to take. ``say`` receives the terms of the set, then
    each step and, in one sentence, why it failed. Raises BadInput if all steps fail.
    """
    steps: dict[str, Callable[[], Path]] = {
        "file": lambda: _local(data, folder, given, say),
        "hub": lambda: _hub(data, folder, say),
        data.host: lambda: _hosted(data, folder, say),
    }
    if only is not None and only not in steps:
        raise BadInput(f"--only {only}: no such step for {data.name}; must be {', '.join(steps)}")
    say(f"{data.title}\nTerms: {data.terms}")
    existed = folder.exists()
    chosen = {name: step for name, step in steps.items() if only in (None, name)}
    for number, (name, step) in enumerate(chosen.items(), start=1):
        say(f"{number}. {_STEP_TITLES[name].format(data=data)}")
        try:
            root = step()
        except (BadInput, OSError) as error:
            say(f"   {error}")
            continue
        _attributes(data, root, folder, say)
        return root
    if not existed:
        with suppress(OSError):
            folder.rmdir()  # fails if it holds a partial download
    say(_manual_instructions(data))
    raise BadInput(f"{data.name} is not available; see the reasons above ({len(chosen)} sources tried)")


_STEP_TITLES = {
    "file": "on this machine",
    "hub": "Hugging Face hub, {data.repository}",
    "figshare": "figshare, the archive used by scikit-learn",
    "drive": "Google Drive, the official files",
}


def _manual_instructions(data: DataSet) -> str:
    pages = "\n".join(f"   {page}" for page in data.web_pages)
    then = f"faceforge data get {data.name} --file ~/Downloads/archive.zip"
    return f"Download it with a browser from one of\n{pages}\nthen run: {then}\nWithout a download: data=drawn"


# ------------------------------------------------------------------------------------------------- on this machine


def _local(data: DataSet, folder: Path, given: Path | None, say: Say) -> Path:
    """A local copy: the given one, or a complete one in a usual place."""
    if given is not None:
        return _named(data, folder, given, say)
    reasons = []
    for path in _candidates(data, folder):
        try:
            count = images(data, path)
        except BadInput as error:
            if path.is_file():
                reasons.append(str(error))
            continue
        if count >= data.images:
            return path
        reasons.append(f"{path} holds {count:,} of {data.images:,} images (to use it anyway: --file {path})")
    raise DownloadError("; ".join(reasons) or f"no copy in {folder} or the usual places (use --file PATH for another)")


def _named(data: DataSet, folder: Path, given: Path, say: Say) -> Path:
    if not given.exists():
        raise DownloadError(f"{given}: no such file or folder")
    shards = [given] if given.suffix == ".parquet" else sorted(given.rglob("*.parquet")) if given.is_dir() else []
    if shards:
        from faceforge.fetch.hub import by_split, unpack

        return unpack(data, by_split(shards), folder, say)
    count = images(data, given)
    if count < data.images:
        say(f"   incomplete set: {count:,} of {data.images:,} images")
    return given


def _candidates(data: DataSet, folder: Path) -> Iterator[Path]:
    places = [folder, *(Path(place).expanduser() for place in SEARCH_FOLDERS)]
    paths = [folder, *(place / name for place in places for name in data.local)]
    seen = set()
    for path in paths:
        if path.exists() and path.resolve() not in seen:
            seen.add(path.resolve())
            yield path


def images(data: DataSet, path: Path) -> int:
    """The number of images of the set at ``path``. Raises BadInput if its source cannot read them."""
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
    """Download the original archive and its tables; a table that is not available is skipped."""
    archive, *tables = data.files
    root = _fetch(data, archive, folder)
    for table in tables:
        try:
            _fetch(data, table, folder)
        except DownloadError as error:
            say(f"   table skipped: {error}")
    return root


def _fetch(data: DataSet, file: File, folder: Path) -> Path:
    if data.host == "drive":
        url = f"{mirror('FACEFORGE_DRIVE')}?id={file.id}&export=download&confirm=t"
    else:
        url = f"{mirror('FACEFORGE_FIGSHARE')}/{file.id}"
    return fetch(url, folder / file.name, size=file.size, sha256=file.sha256, md5=file.md5)


def _attributes(data: DataSet, root: Path, folder: Path, say: Say) -> None:
    """Download the attributes of LFW, which no copy of the images contains, if the set is in ``folder``."""
    from faceforge.data.sources.lfw import WANTED, read_table

    inside = folder.resolve() in (root.resolve(), *root.resolve().parents)
    target = folder / WANTED[0]
    if data.name != "lfw" or not inside or target.exists():
        return
    try:
        fetch(mirror("FACEFORGE_LFW_ATTRIBUTES"), target)
        read_table(WANTED[0], target.read_bytes(), [])
    except BadInput as error:
        if target.exists() and not isinstance(error, DownloadError):
            target.unlink()  # downloaded now, but not a valid table
        say(f"   attributes skipped: {error}")
