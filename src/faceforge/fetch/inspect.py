"""`faceforge data check`: the content of a path, the source and crop that fit it, and the command that uses it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from faceforge import words
from faceforge.data.framing import PROTOCOLS
from faceforge.data.sources.arrays import ENDINGS, Arrays
from faceforge.data.sources.base import Face, Files, Source
from faceforge.data.sources.celeba import FOLDERS, NUMBERED, TABLES, ZIPS, Celeba
from faceforge.data.sources.crops import Crops
from faceforge.data.sources.hub import SAVED, Hub
from faceforge.data.sources.lfw import Lfw, face_of
from faceforge.data.sources.lmdb import FILE, Lmdb
from faceforge.data.sources.pairs import INPUTS
from faceforge.data.sources.shards import Shards
from faceforge.data.splits import SPLITS, so_what, split_by, split_faces
from faceforge.errors import BadInput, to_install
from faceforge.io import manifest
from faceforge.io.archives import IMAGES, NO_IMAGES, SUMS, FileStore, Folder, image_names, open_store
from faceforge.io.archives import TABLES as TABLE_ENDINGS
from faceforge.io.attributes import read_attributes
from faceforge.io.images import ImageError
from faceforge.io.kinds import kind_of, told

SAMPLE_SIZE = 64  # images that are decoded, evenly spaced
DETECTION_SAMPLE = 24  # images of these in which faces are detected
ARCHIVES = (".zip", ".tgz", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
CELEBA, LFW_ORIGINAL = (178, 218), (250, 250)  # width, height
MOST_TABLES = 8  # that are tried as labels
METADATA = ("metadata.csv", "metadata.jsonl")  # of an imagefolder of `datasets`
FEW = 3  # images beside an archive that are no set
DEFAULT_BATCH, SEED, SHARES, MOST_CORRUPT = 64, 0, (0.1, 0.1), 0.25  # conf/data/base.yaml
PHOTOGRAPHS = re.compile(r"(photo|image|img|face|real|rgb|colou?r|hr|high|sharp|clean)s?", re.IGNORECASE)


@dataclass
class Finding:
    """The report lines, the path for data.root, and the command that uses it; "" if none works."""

    root: Path
    lines: list[str] = field(default_factory=list)
    command: str = ""

    def __str__(self) -> str:
        """The lines as a small tree, then the command."""
        first, *others = self.lines
        tree = [f"{'└─' if n == len(others) else '├─'} {line}" for n, line in enumerate(others, start=1)]
        return "\n".join([first, *tree, *(["", f"  {self.command}"] if self.command else [])])


@dataclass
class Sample:
    """Statistics of a sample of decoded images."""

    total: int
    sizes: Counter[tuple[int, int]]  # width, height
    unreadable: list[str]
    unusable: set[int]  # the places of the unreadable ones among all images
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
    if not path.exists() and re.search(r"\{.+\}|::", str(path)):
        return _check_samples(path, Shards(str(path)))
    if not path.exists():
        raise BadInput(f"{path}: no such folder or file")
    if any((path / name).is_file() for name in SAVED):
        return _check_samples(path, Hub(str(path)))
    if (path / FILE).is_file() or path.name == FILE:
        return _check_samples(path, Lmdb(str(path)))
    if path.is_file() and path.suffix.lower() in ENDINGS:
        return _check_samples(path, Arrays(str(path)))
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


def source_of(path: Path) -> Files:
    """The data source that fits a folder or an archive of pictures best. Raises BadInput, one line."""
    try:
        store = open_store(path, None)
        return _source(path, store, store.names())
    except BadInput as error:
        raise BadInput(str(error).removeprefix("data.root=")) from error


def _check_store(path: Path) -> Finding:
    store = open_store(path, None)
    listed = store.names()
    if isinstance(store, Folder) and any(_of_hugging_face(store, name) for name in listed):
        return _check_samples(path, Hub(str(path)))
    images = sum(name.lower().endswith(IMAGES) for name in listed)
    if images <= FEW and isinstance(store, Folder):
        inner = [path / name for name in listed if name.lower().endswith(ARCHIVES)]
        known = {file.name.lower() for file in inner}.isdisjoint(ZIPS)
        if len(inner) > 1 and not images and all(file.suffix == ".tar" for file in inner):
            return _check_samples(path, Shards(str(path)))
        if len(inner) > 1 and known:
            raise BadInput(f"{path}: holds archives ({', '.join(file.name for file in inner[:3])}); choose one of them")
        if inner and known:
            return _check_store(inner[0])
        if not images and (shards := [path / name for name in listed if name.endswith(".parquet")]):
            return _parquet(path, shards)
    source = _source(path, store, listed)
    sample = _sample(source)
    if not sample.sizes:
        raise BadInput(f"{path}: none of {sample.total} sampled images can be read ({sample.unreadable[0]})")
    verdicts = source.verdicts if isinstance(source, Crops) else Counter[str]()
    lines = [_content_line(path, source), _sample_line(sample), *_metadata_lines(source, sample)]
    lines += [*_label_lines(path, source, listed), *told(source.left_out()), *_left_out(store, listed)]
    lines += [_verdict_line(verdicts)] if verdicts else []
    finding = Finding(path, lines)
    _recommend(finding, source, sample, bool(verdicts))
    return finding


def _of_hugging_face(store: FileStore, name: str) -> bool:
    """Whether a file is the table of an imagefolder of `datasets`."""
    return name.rpartition("/")[2] in METADATA and b"file_name" in store.head(name)


def _check_samples(path: Path, source: Shards | Hub | Lmdb | Arrays) -> Finding:
    """Samples with a row of values: shards, a data set of `datasets`, a database, arrays."""
    sample = _sample(source)
    if not sample.sizes:
        raise BadInput(f"{path}: none of {sample.total} sampled images can be read ({sample.unreadable[0]})")
    people = len({face.identity for face in source.faces} - {None})
    counted = f"{len(source.faces):,} images" + (f", {people:,} people" if people else "")
    finding = Finding(path, [f"{path}: {counted}", _sample_line(sample), *_metadata_lines(source, sample)])
    _recommend(finding, source, sample, False)
    return finding


def _source(path: Path, store: FileStore, listed: list[str]) -> Files:
    """The data source that fits best."""
    bases = {name.rpartition("/")[2].lower() for name in listed}
    tables = {table.lower() for table in TABLES} & {base.partition(".")[0] for base in bases}
    folders = {part.lower() for name in listed[:1000] for part in PurePosixPath(name).parts[:-1]}
    if tables or not bases.isdisjoint(ZIPS) or not folders.isdisjoint(FOLDERS):
        return Celeba(str(path))
    names = image_names(store, listed)
    names = names[:: 1 + len(names) // 1000]
    crops = Crops(str(path))
    if any(crops.layout.splits):
        return crops
    if sum(face_of(name) is not None for name in names) >= 0.9 * len(names):
        return Lfw(str(path))
    numbered = sum(bool(NUMBERED.fullmatch(name)) for name in names) >= 0.9 * len(names)
    within = any(part.lower() in FOLDERS for part in path.absolute().parts)
    if numbered and (within or _sample(crops, 8, 0).sizes.get(CELEBA)):
        return Celeba(str(path))
    return crops


# -------------------------------------------------------------------------------------------------- the sample


def _sample(source: Source, count: int = SAMPLE_SIZE, detected: int = DETECTION_SAMPLE) -> Sample:
    total = len(source.faces)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
    detect = _detector() if detected else None
    sample = Sample(len(chosen), Counter(), [], set(), True, [], 0)
    every = -(-len(chosen) // max(detected, 1))
    for n, index in enumerate(chosen):
        try:
            pixels = source.read(index, (0, 0))
        except ImageError as error:
            sample.unreadable.append(f"{source.faces[index].id}: {error}")
            sample.unusable.add(index)
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


def _verdict_line(counts: Counter[str]) -> str:
    """The verdicts in the manifests of `faceforge cut`."""
    counted = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in manifest.VERDICTS)
    return f"cut by faceforge: {manifest.NAME} lists {counted} faces"


def _metadata_lines(source: Source, sample: Sample) -> list[str]:
    """Lines on layout, people, labels, splits and crops."""
    known = sum(face.identity is not None for face in source.faces)
    lines = [f"layout: {source.layout.said() if isinstance(source, Crops) else _LAYOUTS[source.name]}"]
    if known < len(source.faces):
        who = f"known for {known:,} of {len(source.faces):,} images" if known else "unknown"
        by = split_by(source.faces, "identity" if isinstance(source, Celeba) else "auto")
        lines.append(f"people: {who}, {so_what(by)}")
    lines += [f"table: {told}" for told in (source.told if isinstance(source, Files) else ())]
    attributes = source.attributes()
    if isinstance(source, Crops) and source.sets:
        counts = Counter(source.folders)
        lines.append("sets: " + ", ".join(f"{name} ({counts[name]:,})" for name in source.sets) + "; each an attribute")
    elif attributes:
        share = 1 - float(np.isnan(attributes[1]).all(axis=1).mean())
        lines.append(f"attributes: {len(attributes[0])}, for {share:.0%} of the images")
    elif source.name in _TABLES:
        lines.append(f"attributes: none ({_TABLES[source.name]} is neither in it nor beside it)")
    return [*lines, *_split_lines(source), *_crop_lines(source, sample)]


def _split_lines(source: Source) -> list[str]:
    counts = Counter(face.split for face in source.faces)
    if not any(counts[name] for name in SPLITS):
        return []
    counted = ", ".join(f"{name} {counts[name]:,}" for name in SPLITS)
    rest = f"; {counts[None]:,} images are in none" if counts[None] else ""
    lines = ["official split: data.split=official"] if all(counts[name] for name in SPLITS) and not rest else []
    return [*lines, f"splits: {counted}{rest}"]


def _from_pairs(root: Path, sample: Sample, *sides: str) -> str:
    """The command that trains from one picture of each pair to the other."""
    grey = ["data.channels=1"] if sample.grey else []
    return words.train("model=pix2pix", "task=pairs", "data=pairs", words.word("data.root", root), *sides, *grey)


def _side_by_side(source: Source, sample: Sample) -> bool:
    width, height = sample.size()
    return isinstance(source, Crops) and width == 2 * height and sample.sizes[width, height] >= 0.9 * sample.total > 2


def _crop_lines(source: Source, sample: Sample) -> list[str]:
    if not isinstance(source, Celeba) or sample.size() != CELEBA:
        return []
    return [f"crop c140: {PROTOCOLS['c140']}; others: faceforge data protocols"]


def _label_lines(path: Path, source: Files, listed: Sequence[str]) -> list[str]:
    """Lines on tables in a folder that can be used as data.attributes."""
    known = {manifest.NAME, "lfw_attributes", *(table.lower() for table in TABLES)}
    names = [name for name in listed if name.lower().endswith(TABLE_ENDINGS)] if path.is_dir() else []
    told: list[str] = []
    for name in names[:MOST_TABLES]:
        base = PurePosixPath(name.lower())
        if base.name not in known and base.stem not in known:
            with suppress(BadInput):
                read_attributes(str(path / name), [face.id for face in source.faces], told)
    return [f"labels: {line}" for line in told]


def _left_out(store: FileStore, listed: Sequence[str]) -> list[str]:
    """A line on what is no image, by ending; pictures with the endings of texts, which are never read, are among it."""
    ignored = (*IMAGES, *ARCHIVES, SUMS.lower())
    found = [(name, kind_of(store.head(name), name)) for name in listed if not name.lower().endswith(ignored)]
    # a picture is among them with a text's ending, any other file without a table's
    others = [name for name, kind in found if name.lower().endswith(NO_IMAGES if kind else TABLE_ENDINGS) == bool(kind)]
    kinds = store.left_out + Counter(PurePosixPath(name).suffix or "no ending" for name in others)
    counted = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common(6))
    return [f"left out: {counted}"] if kinds else []


_LAYOUTS = {
    "lfw": "that of LFW, Name/Name_0001.jpg",
    "celeba": "that of CelebA",
    "shards": "WebDataset shards",
    "hub": "a data set of Hugging Face datasets",
    "lmdb": "an LMDB of image files",
    "arrays": "an array of images",
}
_TABLES = {"lfw": "lfw_attributes.txt", "celeba": "list_attr_celeba.txt"}


def _recommend(finding: Finding, source: Source, sample: Sample, cut: bool) -> None:
    """Set the command; adds a line if the choice needs a reason."""
    if _side_by_side(source, sample):
        finding.lines.append("pairs, side by side: data.source.input=right if the right half is the input")
        finding.command = _from_pairs(finding.root, sample)
        return
    if isinstance(source, Crops) and (source.layout.pairs or source.layout.alike):
        drawn = [name for name in source.sets if not PHOTOGRAPHS.fullmatch(name)] or source.sets
        sides = [] if drawn[0].lower() in INPUTS else [f"data.source.input={drawn[0]}"]
        paired = _from_pairs(finding.root, sample, *sides)
        finding.lines.append(f"pairs ({' and '.join(source.sets)}); from one to the other: {paired}")
    if isinstance(source, Crops) and not cut and _whole_photos(sample):
        finding.lines.append("photographs rather than face crops: run `faceforge cut` first")
        finding.command = words.faceforge("cut", finding.root, "my_faces")
        return
    root, faces = _root(finding.root, source), [f for n, f in enumerate(source.faces) if n not in sample.unusable]
    overrides = [f"data={source.name}", words.word("data.root", root)]
    if isinstance(source, Celeba):
        overrides.append(f"data.crop={'c140' if sample.size() == CELEBA else 'center'}")
    elif sample.size() == LFW_ORIGINAL and sample.share() < 0.62:
        finding.lines.append("framed like the original LFW images, with much background: crop c150")
        overrides.append("data.crop=c150")
    if sample.grey:
        overrides.append("data.channels=1")
    try:
        batch = _batch(source, sample, faces)
    except BadInput as error:
        finding.lines.append(str(error).removeprefix("data.root: "))
        return
    overrides += [f"data.batch_size={batch}"] if batch < DEFAULT_BATCH else []
    finding.command = words.train(*overrides)


def _root(root: Path, source: Source) -> Path:
    """The folder of photographs where they lie beside their drawings."""
    if not isinstance(source, Crops) or not source.layout.pairs or any(source.layout.splits):
        return root
    photographs = [name for name in source.sets if PHOTOGRAPHS.fullmatch(name)]
    inside = root / source.layout.outer / photographs[0] if len(photographs) == 1 else root
    return inside if inside.is_dir() else root


def _batch(source: Source, sample: Sample, faces: Sequence[Face]) -> int:
    """A batch size for which training has enough faces. Raises BadInput if it has too few."""
    corrupt = len(sample.unreadable) / sample.total
    if corrupt > MOST_CORRUPT:
        limit = f"at most {MOST_CORRUPT:.0%} may be (data.max_corrupt_fraction)"
        raise BadInput(f"{corrupt:.0%} of the sampled images are unreadable, {limit}")
    mode = "identity" if isinstance(source, Celeba) else "auto"
    train = len(split_faces(faces, mode, SEED, *SHARES)["train"])
    unseen = corrupt if len(source.faces) > sample.total else 0.0
    return max(1, min(DEFAULT_BATCH, len(source.faces) // 2, int(train * (1 - unseen))))


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
        return _other_parquet(path, rows, columns)
    line = f"{path}: parquet, {len(shards)} files of {rows:,} rows: a copy of {name}, must be unpacked"
    return Finding(path, [line], words.faceforge("data", "get", name, "--file", path))


def _other_parquet(path: Path, rows: int, columns: Sequence[str]) -> Finding:
    """Any other parquet: a data set of `datasets` if it has a column of pictures. Raises BadInput."""
    try:
        return _check_samples(path, Hub(str(path)))
    except BadInput as error:
        found = f"parquet of {rows:,} rows ({', '.join(columns[:5])}), not a copy of CelebA or LFW"
        why = str(error).removeprefix(f"data.root={path}: ")
        raise BadInput(f"{path}: {found}; data=hub cannot read it either ({why})") from error
