"""`faceforge data check`: the content of a path, the source and crop that fit it, and the command that uses it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from faceforge import words
from faceforge.data.framing import PROTOCOLS
from faceforge.data.sources.base import Files
from faceforge.data.sources.celeba import FOLDERS, ZIPS, Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.lfw import Lfw, face_of
from faceforge.errors import BadInput, to_install
from faceforge.io import manifest
from faceforge.io.archives import IMAGES, FileStore, Folder, image_names, open_store
from faceforge.io.images import ImageError

SAMPLE_SIZE = 64  # images that are decoded, evenly spaced
DETECTION_SAMPLE = 24  # images of these in which faces are detected
ARCHIVES = (".zip", ".tgz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
CELEBA, LFW_ORIGINAL = (178, 218), (250, 250)  # width, height
DEFAULT_BATCH = 64  # conf/data/base.yaml


@dataclass
class Finding:
    """The report lines, the path for data.root, and the command that uses it."""

    root: Path
    lines: list[str] = field(default_factory=list)
    command: str = ""


@dataclass
class Sample:
    """Statistics of a sample of decoded images."""

    total: int
    sizes: Counter[tuple[int, int]]  # width, height
    unreadable: list[str]
    grey: bool
    shares: list[float]  # for each detection: width of the largest face / width of the image
    looked: int  # images in which faces were detected

    def size(self) -> tuple[int, int]:
        """The most common width and height."""
        return self.sizes.most_common(1)[0][0]

    def share(self) -> float:
        """The median share of the width, nan if no face was detected."""
        return float(np.median(self.shares)) if self.shares else float("nan")


def check(path: Path) -> Finding:
    """Inspect a folder, an archive or a file; only a sample of the images is read.

    Raises BadInput, one line, if there is nothing that faceforge can use.
    """
    if not path.exists():
        raise BadInput(f"{path}: no such folder or file")
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(4)
        if head == b"PAR1":
            return _parquet(path, [path])
        if path.suffix.lower() in IMAGES:
            raise BadInput(f"{path}: one image; must be a folder or an archive (or: faceforge cut FOLDER my_faces)")
    try:
        return _check_store(path)
    except BadInput as error:
        raise BadInput(str(error).removeprefix("data.root=")) from error


def _check_store(path: Path) -> Finding:
    store = open_store(path, None)
    listed = store.names()
    if not any(name.lower().endswith(IMAGES) for name in listed) and isinstance(store, Folder):
        inner = [path / name for name in listed if name.lower().endswith(ARCHIVES)]
        if len(inner) > 1:
            raise BadInput(f"{path}: holds archives ({', '.join(file.name for file in inner[:3])}); choose one of them")
        if inner and inner[0].name not in ZIPS:
            return _check_store(inner[0])
        if shards := [path / name for name in listed if name.endswith(".parquet")]:
            return _parquet(path, shards)
    source = _source(path, store, listed)
    sample = _sample(source)
    if not sample.sizes:
        raise BadInput(f"{path}: none of {sample.total} sampled images can be read ({sample.unreadable[0]})")
    cut = path / manifest.NAME if manifest.NAME in listed and path.is_dir() else None
    lines = [_content_line(path, source), _sample_line(sample), *_metadata_lines(source, sample)]
    lines += [_verdict_line(cut)] if cut else []
    finding = Finding(path, lines)
    _recommend(finding, source, sample, cut is not None)
    return finding


def _source(path: Path, store: FileStore, listed: list[str]) -> Files:
    """The data source that fits best."""
    bases = [name.rpartition("/")[2] for name in listed]
    tables = {"list_attr_celeba", "list_eval_partition", "identity_CelebA"} & {base.partition(".")[0] for base in bases}
    folders = {part for name in listed[:1000] for part in PurePosixPath(name).parts[:-1]}
    if tables or not set(ZIPS).isdisjoint(bases) or FOLDERS & folders:
        return Celeba(str(path))
    names = image_names(listed, store.root)
    names = names[:: 1 + len(names) // 1000]
    if sum(face_of(name) is not None for name in names) >= 0.9 * len(names):
        return Lfw(str(path))
    numbered = sum(bool(re.fullmatch(r"\d{6}\.(jpg|png)", name.rpartition("/")[2])) for name in names)
    crops = Crops(str(path))
    if numbered >= 0.9 * len(names) and _sample(crops, 8, 0).sizes.get(CELEBA):
        return Celeba(str(path))
    return crops


# -------------------------------------------------------------------------------------------------- the sample


def _sample(source: Files, count: int = SAMPLE_SIZE, detected: int = DETECTION_SAMPLE) -> Sample:
    total = len(source.faces)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
    detect = _detector() if detected else None
    sample = Sample(len(chosen), Counter(), [], True, [], 0)
    every = -(-len(chosen) // max(detected, 1))
    for n, index in enumerate(chosen):
        try:
            pixels = source.read(index, (0, 0))
        except ImageError as error:
            sample.unreadable.append(f"{source.names[index]}: {error}")
            continue
        sample.sizes[pixels.shape[1], pixels.shape[0]] += 1
        sample.grey &= pixels.ndim == 2 or bool((pixels == pixels[..., :1]).all())
        if detect and n % every == 0:
            sample.looked += 1
            sample.shares += detect(pixels)
    return sample


def _detector() -> Callable[[np.ndarray], list[float]]:
    """A fast detector (OpenCV's frontal cascade): the share of the width of the largest face, or nothing."""
    import cv2
    from cv2 import data as cascades

    cascade = cv2.CascadeClassifier(str(Path(cascades.haarcascades) / "haarcascade_frontalface_default.xml"))

    def detect(pixels: np.ndarray) -> list[float]:
        grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, 240 / max(grey.shape))
        size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
        boxes = cascade.detectMultiScale(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), 1.2, 5, minSize=(24, 24))
        return [max(box[2] for box in boxes) / size[0]] if len(boxes) else []

    return detect


# -------------------------------------------------------------------------------------------------- the words


def _content_line(path: Path, source: Files) -> str:
    kinds = Counter(name.rpartition(".")[2].lower() for name in source.names)
    endings = ", ".join(f".{kind}" for kind, _ in kinds.most_common(4))
    inside = "a folder" if path.is_dir() else "a zip" if source.store.root == path else "a tar"
    people = len({face.identity for face in source.faces} - {None})
    return f"{path}: {inside} of {len(source.faces):,} images ({endings})" + (f", {people:,} people" if people else "")


def _sample_line(sample: Sample) -> str:
    bad = f"{len(sample.unreadable)} unreadable ({sample.unreadable[0]})" if sample.unreadable else "all readable"
    common = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sample.sizes.most_common(3))
    more = f" and {len(sample.sizes) - 3} other sizes" if len(sample.sizes) > 3 else ""
    share = f"about {sample.share():.0%} of the width (detected in {len(sample.shares)} of {sample.looked})"
    faces = f"faces fill {share}" if sample.shares else f"no frontal face detected in {sample.looked}"
    return f"a sample of {sample.total}: {bad}; {common}{more}; {'grey' if sample.grey else 'colour'}; {faces}"


def _verdict_line(file: Path) -> str:
    """The verdicts in the manifest of `faceforge cut`. Raises BadInput if it is invalid."""
    counts = Counter(row.verdict for row in manifest.read(file))
    counted = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in manifest.VERDICTS)
    return f"cut by faceforge: {manifest.NAME} lists {counted} faces"


def _metadata_lines(source: Files, sample: Sample) -> list[str]:
    """Lines on labels, splits and crops."""
    lines = []
    attributes = source.attributes()
    if isinstance(source, Crops) and source.sets:
        counts = Counter(source.folders)
        lines.append("sets: " + ", ".join(f"{name} ({counts[name]:,})" for name in source.sets) + "; each an attribute")
    elif attributes:
        known = 1 - float(np.isnan(attributes[1]).all(axis=1).mean())
        lines.append(f"attributes: {len(attributes[0])}, for {known:.0%} of the images")
    elif not isinstance(source, Crops):
        lines.append(f"attributes: none ({_TABLES[source.name]} is neither in it nor beside it)")
    if any(face.split for face in source.faces):
        lines.append("official split: data.split=official")
    if isinstance(source, Celeba) and sample.sizes and sample.size() == CELEBA:
        lines.append(f"crop c140: {PROTOCOLS['c140']}; others: faceforge data protocols")
    return lines


_TABLES = {"lfw": "lfw_attributes.txt", "celeba": "list_attr_celeba.txt"}


def _recommend(finding: Finding, source: Files, sample: Sample, cut: bool) -> None:
    """Set the command; adds a line if the choice needs a reason."""
    if isinstance(source, Crops) and not cut and _whole_photos(sample):
        finding.lines.append("photographs rather than face crops: run `faceforge cut` first")
        finding.command = words.faceforge("cut", finding.root, "my_faces")
        return
    overrides = [f"data={source.name}", words.word("data.root", finding.root)]
    if isinstance(source, Celeba):
        overrides.append(f"data.crop={'c140' if sample.size() == CELEBA else 'center'}")
    elif sample.size() == LFW_ORIGINAL and sample.share() < 0.62:
        finding.lines.append("framed like the original LFW images, with much background: crop c150")
        overrides.append("data.crop=c150")
    if sample.grey:
        overrides.append("data.channels=1")
    if len(source.faces) < 2 * DEFAULT_BATCH:
        overrides.append(f"data.batch_size={max(1, len(source.faces) // 2)}")
    finding.command = words.train(*overrides)


def _whole_photos(sample: Sample) -> bool:
    """Whether the images have many aspect ratios or small faces."""
    shapes = Counter(round(width / height, 1) for width, height in sample.sizes.elements())
    many = len(shapes) > 4 and shapes.most_common(1)[0][1] < 0.7 * shapes.total()
    return many or sample.share() < 0.35


def _parquet(path: Path, shards: Sequence[Path]) -> Finding:
    """Parquet cannot be trained from; `data get` unpacks the copies that it knows."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise BadInput(f"{path}: parquet needs pyarrow; {to_install('data')}") from error
    try:
        rows = sum(parquet.read_metadata(shard).num_rows for shard in shards)
        columns = parquet.read_schema(shards[0]).names
    except (OSError, ArrowException) as error:
        raise BadInput(f"{path}: damaged parquet ({str(error).splitlines()[0]})") from error
    name = "celeba" if "celeb_id" in columns else "lfw" if "filename" in columns else None
    if name is None or "image" not in columns:
        names = ", ".join(columns[:5])
        raise BadInput(f"{path}: parquet of {rows:,} rows ({names}), not a copy of CelebA or LFW; unpack its images")
    line = f"{path}: parquet, {len(shards)} files of {rows:,} rows: a copy of {name}, must be unpacked"
    return Finding(path, [line], words.faceforge("data", "get", name, "--file", path))
