"""File stores: a folder, a zip, or a tar that is converted to a zip once. Nothing is ever extracted to paths."""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import IO, Any, Protocol

from faceforge.errors import BadInput
from faceforge.io.files import atomic_path
from faceforge.io.images import ImageError
from faceforge.io.kinds import HEAD, kind_of, readable, told, what_is
from faceforge.io.storage import cache_root, fingerprint

JPEGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".jpg_large", ".jpeg_large", ".jpg_orig")
IMAGES = (*JPEGS, ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm")  # others by their first bytes
TABLES = (".txt", ".csv")
NO_IMAGES = (*TABLES, ".json", ".xml", ".html", ".md", ".py", ".npy", ".npz", ".mat", ".log")  # never opened to see
TABLE_FOLDERS = ("Anno", "Eval", "anno", "eval")
SUMS = "SHA256SUMS"
MAX_FILE_BYTES = 64 * 2**20  # of one member, unpacked
MAX_TAR_BYTES = 64 * 2**30  # of all members taken from a tar
BOMB_BYTES, BOMB_RATIO = 2**30, 100  # a member above both is refused unread, with its archive
SKIPPED_FOLDERS = {
    *("_review", "__macosx", "__pycache__", "lost+found", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "~snapshot"),
}  # in lower case
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError)


class FileStore(Protocol):
    """Files by relative, slash-separated names."""

    root: Path
    left_out: Counter[str]  # by kind, what names() last left out

    def names(self) -> list[str]:
        """All names, sorted, without hidden files and folders that contain no data."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises ImageError if it cannot be read or is too large."""
        ...

    def head(self, name: str) -> bytes:
        """The first bytes of a file, which tell what it is; none if it cannot be read."""
        ...

    def status(self, name: str) -> os.stat_result:
        """The status of the file on disk that contains ``name``. Raises OSError."""
        ...


class InPieces:
    """Base of stores whose files are parts of larger ones and are read whole. Only the source knows their names."""

    def names(self) -> list[str]:
        """None."""
        return []

    def read(self, name: str) -> bytes:
        """As Store.read."""
        raise NotImplementedError

    def head(self, name: str) -> bytes:
        """As Store.head."""
        try:
            return self.read(name)[:HEAD]
        except ImageError:
            return b""


class Folder:
    """A folder and everything below it. Links to folders outside it are followed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()

    def names(self, failed: Callable[[OSError], object] | None = None) -> list[str]:
        """As Store.names. ``failed`` receives errors of folders."""
        found: list[str] = []
        self.left_out.clear()
        top, seen = os.path.realpath(self.root), set[str]()
        for folder, folders, files in os.walk(self.root, onerror=failed, followlinks=True):
            folders[:] = [name for name in sorted(self._kept(folders)) if _new(f"{folder}/{name}", top, seen)]
            inside = os.path.relpath(folder, self.root)
            above = "" if inside == "." else f"{inside}/"
            found += [above + name for name in self._kept(files)]
        return sorted(found)

    def _kept(self, names: list[str]) -> list[str]:
        self.left_out.update(kind for name in names if (kind := _unwanted(name)))
        return [name for name in names if not _unwanted(name)]

    def read(self, name: str) -> bytes:
        """As Store.read."""
        try:
            status = self.status(name)
            if not S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                raise ImageError(f"must be a file of at most {MAX_FILE_BYTES} bytes")
            with open(f"{self.root}/{name}", "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error

    def head(self, name: str) -> bytes:
        """As Store.head."""
        try:
            with open(f"{self.root}/{name}", "rb", buffering=0) as file:
                return file.read(HEAD) if S_ISREG(os.fstat(file.fileno()).st_mode) else b""
        except OSError:
            return b""

    def status(self, name: str) -> os.stat_result:
        """As Store.status."""
        return os.stat(f"{self.root}/{name}")  # noqa: PTH116  (joining Paths takes as long as reading)

    def file(self, name: str) -> Path:
        """The path below the root."""
        return self.root / name


class Zip:
    """The members of a zip file, read in place; each process opens the file anew."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()
        self._open: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "left_out": self.left_out, "_open": None, "_members": {}}

    @property
    def _zip(self) -> zipfile.ZipFile:
        if self._open is None:
            self._open = zipfile.ZipFile(self.root)
            self._members = {_member_name(member): member for member in self._open.infolist()}
        return self._open

    def names(self) -> list[str]:
        """As Store.names. Raises BadInput if the zip's directory is damaged or hostile."""
        try:
            members = self._zip.infolist()
        except _DAMAGE as error:
            raise BadInput(f"{self.root}: {_damage(self.root)} ({error})") from error
        for member in members:
            _require_inside(member.filename, self.root)
            _require_no_bomb(member.filename, member.file_size, self.root)
        files = [name for name in self._members if not name.endswith("/")]
        why = {name: next((kind for part in name.split("/") if (kind := _unwanted(part))), "") for name in files}
        self.left_out = Counter(kind for kind in why.values() if kind)
        return sorted(name for name, kind in why.items() if not kind)

    def read(self, name: str) -> bytes:
        """As Store.read."""
        try:
            with self._zip.open(self._members[name]) as member:
                data = member.read(MAX_FILE_BYTES + 1)
        except Exception as error:  # zipfile raises many types: encryption, checksums, unknown methods
            raise ImageError(f"damaged inside its zip: {error}") from error
        if len(data) > MAX_FILE_BYTES:
            raise ImageError(f"expands to more than {MAX_FILE_BYTES} bytes")
        return data

    def head(self, name: str) -> bytes:
        """As Store.head."""
        try:
            with self._zip.open(self._members[name]) as member:
                return member.read(HEAD)
        except Exception:  # as in read()
            return b""

    def status(self, name: str) -> os.stat_result:
        """The status of the zip itself."""
        return self.root.stat()


def _member_name(member: zipfile.ZipInfo) -> str:
    """The name with slashes; macOS writes UTF-8 without saying so, which zipfile reads as cp437."""
    name = member.filename
    if not member.flag_bits & 0x800 and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _unwanted(name: str) -> str:
    """What a system's own file or folder is called when it is counted; "" for any other name."""
    if name.startswith("."):
        return "hidden files and folders"
    return name if name.lower() in SKIPPED_FOLDERS else ""


def _new(folder: str, top: str, seen: set[str]) -> bool:
    """Whether a folder is to be listed: one below ``top``, or the target of a link outside it for the first time."""
    linked = Path(folder).is_symlink()
    if not linked and not seen:
        return True  # no link was followed
    real = os.path.realpath(folder)
    if _within(real, top):
        return not linked
    if _within(top, real) or real in seen:
        return False
    seen.add(real)
    return True


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def open_store(root: str | Path | None, cache: str | None) -> FileStore:
    """The folder or archive at ``data.root``. Raises BadInput if it cannot be read."""
    if root is None or str(root).strip() == "":
        raise BadInput("data.root: must be the folder or archive of images; set data.root=PATH")
    path = Path(root).expanduser()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise BadInput(f"data.root={root}: no such folder or file")
    if zipfile.is_zipfile(path):
        return Zip(path)
    if _is_tar(path):
        return Zip(_tar_to_zip(path, cache))
    raise BadInput(f"data.root={root}: {_damage(path)}; must be a folder, .zip or .tar(.gz)")


def find_tables(
    root: str | Path | None, store: FileStore, listed: list[str], wanted: Iterable[str]
) -> dict[str, bytes]:
    """The bytes of each wanted file found anywhere in the store, or else in one of the three folders above ``root``
    or their ``Anno`` and ``Eval``. Case does not matter.

    Raises BadInput for a file that exists but cannot be read.
    """
    places: dict[str, tuple[FileStore, str]] = {}
    for name in listed:
        places.setdefault(PurePosixPath(name).name.lower(), (store, name))
    found = {}
    for name in wanted:
        place, inside = places.get(name.lower()) or _above(root, name) or (None, "")
        if place is None:
            continue
        try:
            found[name] = place.read(inside)
        except ImageError as error:
            raise BadInput(f"{place.root}/{inside}: {error}; get a new copy of the file") from error
    return found


def around(root: str | Path | None, name: str) -> Iterator[Path]:
    """Where a table called ``name`` may lie around ``root``, in the order in which it is looked for."""
    root = Path(root or "").expanduser().absolute()
    for folder in [root.parent / inside for root in [root, *root.parents[:2]] for inside in ("", *TABLE_FOLDERS)]:
        yield from (folder / shown for shown in dict.fromkeys((name, name.lower())))


def _above(root: str | Path | None, name: str) -> tuple[Folder, str] | None:
    found = next((path for path in around(root, name) if path.is_file()), None)
    return None if found is None else (Folder(found.parent), found.name)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except _DAMAGE:
        return False


def _damage(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "a truncated or damaged zip"
    if head.startswith(b"\x1f\x8b"):
        return "a truncated or damaged .tgz"
    return f"not an archive ({what_is(head)})"


def _tar_to_zip(path: Path, cache: str | None) -> Path:
    """Copy a tar's images and tables into a zip in the cache, once, because a tar has no random access.

    Other files are copied by name only. Links and devices are left out; the total size is bounded.
    """
    target = cache_root(cache) / "archives" / f"{path.name}-{fingerprint(path)}-3.zip"
    if target.exists():
        return target
    try:
        with atomic_path(target) as beside, tarfile.open(path) as tar, zipfile.ZipFile(beside, "w") as packed:
            for name, head, content in _members(tar, path):
                packed.writestr(zipfile.ZipInfo(_text(name)), head + content.read())
    except BadInput:
        raise
    except _DAMAGE as error:
        from_system = isinstance(error, OSError) and error.errno is not None  # gzip's own errors have no errno
        found = f"cannot be copied to {target.parent}" if from_system else "a truncated or damaged archive"
        raise BadInput(f"data.root={path}: {found} ({error})") from error
    return target


def _text(name: str) -> str:
    """The name without undecodable bytes, which a zip cannot hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _taken(name: str, head: bytes) -> bool:
    known = name.lower().endswith(IMAGES + TABLES) or name.removeprefix("./") == SUMS
    return known or (not name.lower().endswith(NO_IMAGES) and kind_of(head, name) is not None)


def _require_inside(name: str, path: Path) -> None:
    """Raises BadInput for a name that would escape the folder if it were extracted."""
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        raise BadInput(f"data.root={path}: holds {name[:80]!r}, which is outside it; nothing was extracted")


def _require_no_bomb(name: str, size: int, path: Path) -> None:
    """Raises BadInput for a zip bomb: a member that is huge and compressed more than a hundredfold."""
    if size > BOMB_BYTES and size > BOMB_RATIO * path.stat().st_size:
        raise BadInput(f"data.root={path}: {name[:80]!r} expands to {size:,} bytes; nothing was extracted")


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tuple[str, bytes, IO[bytes]]]:
    """Each file: its name, its first bytes, and the rest. What is only counted has no rest, or no bytes at all."""
    taken, most = 0, min(MAX_TAR_BYTES, max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size))
    for member in tar:
        _require_inside(member.name, path)
        _require_no_bomb(member.name, member.size, path)
        content = tar.extractfile(member) if member.isreg() else None
        head = content.read(HEAD) if content else b""
        if content is None:
            continue
        wanted = _taken(member.name, head)
        if not wanted or kind_of(head, member.name) == "video":
            yield member.name.removeprefix("./"), head if wanted else b"", BytesIO()
            continue
        taken += member.size
        if member.size > MAX_FILE_BYTES or taken > most:
            limits = f"{MAX_FILE_BYTES} bytes per file or {most} in total"
            raise BadInput(f"data.root={path}: at {member.name} it expands to more than {limits}")
        yield member.name.removeprefix("./"), head, content


def known_hashes(store: FileStore) -> dict[str, str]:
    """The hashes in a ``SHA256SUMS`` at the top of a store, in sha256sum's format. Raises BadInput."""
    if not (store.file(SUMS).is_file() if isinstance(store, Folder) else SUMS in store.names()):
        return {}
    try:
        lines = store.read(SUMS).decode().splitlines()
    except (ImageError, UnicodeDecodeError) as error:
        raise BadInput(f"{store.root}/{SUMS}: {error}; rewrite it with sha256sum") from error
    found = [re.fullmatch(r"([0-9a-fA-F]{64}) [ *](?:\./)?(.+)", line) for line in lines]
    for number, match in enumerate(found, 1):
        if match is None:
            raise BadInput(f"{store.root}/{SUMS}: line {number} must be a hash and a name; write it with sha256sum")
    return {match[2]: match[1].lower() for match in found if match}


def pictures(store: FileStore, names: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """The names of pictures, by ending or by first bytes, and how many files of each kind cannot be read here.

    The film beside a picture of its name is not counted: phones keep them together (live photos).
    """
    names, found, left_out, films = list(names), list[str](), Counter[str](), list[str]()
    for name in names:
        ending = name.lower()
        if ending.endswith(IMAGES):
            found.append(name)
        elif not ending.endswith(NO_IMAGES) and (kind := kind_of(store.head(name), name)):
            if readable(kind):
                found.append(name)
            elif kind == "video":
                films.append(name)
            else:
                left_out[kind] += 1
    stems = {_stem(name) for name in names if name not in films} if films else set()
    left_out["video"] += sum(_stem(film) not in stems for film in films)
    return found, +left_out


def _stem(name: str) -> str:
    return name.rpartition(".")[0].lower()


def image_names(store: FileStore, names: list[str]) -> list[str]:
    """The names of pictures that can be read. Raises BadInput naming what was found instead."""
    images, left_out = pictures(store, names)
    if images:
        return images
    endings = Counter(PurePosixPath(name).suffix or "no ending" for name in names)
    found = ", ".join(f"{ending} ({count})" for ending, count in endings.most_common(3)) or "nothing"
    reasons = "".join(f"; {line}" for line in told(left_out))
    shown = "(.jpg .png .webp .tif and others)"
    raise BadInput(f"data.root={store.root}: no images {shown} at any depth; found {found}{reasons}")
