"""The datamodule: batches of faces that depend only on seed and clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from faceforge import counter_rng
from faceforge.clock import Clock
from faceforge.data import cache
from faceforge.data.augment import Augment
from faceforge.data.framing import Recipe, check_crop, frame, grey
from faceforge.data.listing import listing_of, sha256
from faceforge.data.sources.base import Face, Files, Painted, Paired, Source
from faceforge.data.splits import SPLITS, cautions, share_of, split_by, split_faces
from faceforge.data.subsets import Partners
from faceforge.data.tasks import Task
from faceforge.errors import BadInput
from faceforge.io.attributes import Attributes, merge, read_attributes
from faceforge.io.images import from_uint8
from faceforge.io.rows import MOST_AHEAD
from faceforge.io.storage import cache_root
from faceforge.io.workers import leave_to_parent, without_collection
from faceforge.types import Json

HASHED = 256  # faces whose pixels are hashed at a time
READ_AHEAD = 2**24  # bytes that are asked for before they are needed, of sets larger than memory

Batch = dict[str, Tensor]
Indices = Sequence[int] | NDArray[np.integer]


class FaceData(pl.LightningDataModule):
    """Faces of one source: packed once, split by person, drawn in an order that is a function of seed and clock.

    ``source(root=root)`` builds the source. ``size`` is [height, width] or one number; ``batch_size`` counts over
    all ranks. The trainer sets ``clock``, ``rank``, ``world`` and ``pin_memory``. Raises BadInput naming the key.
    """

    def __init__(
        self,
        source: Callable[..., Source],
        root: str | None,
        attributes: str | None,
        size: int | tuple[int, int],
        channels: int,
        batch_size: int,
        crop: str,
        fraction: float,
        split: Literal["auto", "identity", "official"],
        val_fraction: float,
        test_fraction: float,
        flip: bool,
        augment: str | list | None,
        workers: int,
        max_corrupt_fraction: float,
        cache: str | None,
        seed: int,
        task: Task,
        engine: Literal["auto", "loky", "ray", "dask"] = "auto",  # runs of earlier versions name none
    ) -> None:
        super().__init__()
        self._source, self.root, self._labels = source, root, attributes
        self.height, self.width = _size(size)
        self.channels, self.batch_size, self.crop = channels, batch_size, crop
        self.fraction, self.split, self.shares = fraction, split, (val_fraction, test_fraction)
        self.flip, self.workers, self.max_corrupt_fraction = flip, workers, max_corrupt_fraction
        self.cache, self.seed, self.task = cache, seed, task
        self.engine: cache.Packer = engine
        self._check()
        wanted = None if augment is None else (self.height, self.width)
        self._augment = None if wanted is None else Augment(augment or [], seed, wanted, task.packs(channels))
        self.clock, self.rank, self.world, self.pin_memory = Clock(), 0, 1, False
        self._ready = False

    def _check(self) -> None:
        check_crop(self.crop)
        val_fraction, test_fraction = self.shares
        _require(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (colour)")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        _require(0 < self.fraction <= 1, "fraction", self.fraction, "above 0 and at most 1")
        _require(self.split in ("auto", "identity", "official"), "split", self.split, "identity or official, or auto")
        _require(0 <= val_fraction < 1, "val_fraction", val_fraction, "at least 0 and below 1")
        _require(
            0 <= test_fraction < 1 - val_fraction,
            "test_fraction",
            test_fraction,
            "at least 0, below 1 with val_fraction",
        )
        _require(self.workers >= 0, "workers", self.workers, "at least 0")
        _require(
            0 <= self.max_corrupt_fraction <= 1, "max_corrupt_fraction", self.max_corrupt_fraction, "between 0 and 1"
        )
        self.task.check(self.height, self.width, self.channels)

    def prepare(self, progress: bool = True) -> None:
        """List, pack and split the faces once; afterwards everything is in memory or mapped.

        Sets counts, skipped, manifest, protocol, split_by, cautions and attributes. Raises BadInput.
        """
        if self._ready:
            return
        with without_collection():
            source = self._pack(progress)
            faces = self._keep(source)
            self._inputs = self._inputs_of(source)
            self._ids, self._people = [face.id for face in faces], [face.identity for face in faces]
            self._split(faces)
            self._pair(faces)
            self._describe(source, faces)
        self._ready = True

    def setup(self, stage: str) -> None:
        """Called by Lightning in each process; everything is already done."""
        self.prepare(progress=False)

    def _pack(self, progress: bool) -> Source:
        recipe = Recipe(self.crop, (self.height, self.width), self.task.packs(self.channels))
        listing = listing_of(self._source, self.root, self.cache, progress)
        source, self.manifest = listing.source, listing.manifest
        self.protocol = recipe.protocol(source.name)
        self._packed = cache.pack(
            source, recipe, cache_root(self.cache), listing.digests, progress, self.manifest, self.engine
        )
        self.skipped = self._packed.skipped()
        total = len(source.faces)
        if len(self.skipped) > self.max_corrupt_fraction * total:
            limit = f"more than data.max_corrupt_fraction={self.max_corrupt_fraction} allows"
            raise BadInput(f"data.root={self.root}: {cache.refusal(self.skipped, total)}, {limit}")
        return source

    def _keep(self, source: Source) -> list[Face]:
        """The faces of the packed cache, in its order, with their attributes."""
        unusable = {face for face, _ in self.skipped}
        kept = [n for n, face in enumerate(source.faces) if face.id not in unusable]
        faces = [source.faces[n] for n in kept]
        self._painted, self._kept = source if isinstance(source, Painted) else None, kept
        own = source.attributes()
        own = (own[0], own[1][kept]) if own else None
        self._told = list(source.told) if isinstance(source, Files) else []
        ids = [face.id for face in faces]
        added = read_attributes(self._labels, ids, self._told) if self._labels else None
        self._attributes: Attributes | None = merge(own, added)
        return faces

    def _inputs_of(self, source: Source) -> NDArray[np.int64] | None:
        """The row of each packed face's input, -1 where there is none; None if the source has no pairs."""
        if not isinstance(source, Paired):
            if self.task.from_pairs:
                raise BadInput(f"task={self.task.name}: {source.name} has no pairs; must be data=pairs data.root=PATH")
            return None
        places = np.full(len(source.faces) + 1, -1, dtype=np.int64)  # the last: that of no face
        places[self._kept] = np.arange(len(self._kept))
        return places[source.inputs[self._kept]]

    def _split(self, faces: list[Face]) -> None:
        rows = split_faces(faces, self.split, self.seed, *self.shares)
        if self._inputs is not None:
            rows = {name: found[self._inputs[found] >= 0] for name, found in rows.items()}
        ids = [faces[n].id for n in rows["train"]]
        rows["train"] = rows["train"][share_of(ids, self.fraction, self.seed)]
        self.rows, self.split_by = rows, split_by(faces, self.split)
        self.cautions = cautions(faces, rows, self.split_by)
        self.counts = {name: len(rows[name]) for name in SPLITS}
        if self.batch_size > self.counts["train"]:
            found = f"more than the {self.counts['train']} training faces"
            raise BadInput(f"data.batch_size={self.batch_size}: {found}; must be at most that many")

    def _pair(self, faces: list[Face]) -> None:
        """Partners for tasks whose target is another face of the same split and subset."""
        labels = self.task.labels(self._packed.rows, faces, self._attributes)
        self._partners: dict[str, Partners] = {}
        if labels is None:
            return
        self._partners = {name: Partners(labels, rows, self.seed) for name, rows in self.rows.items() if len(rows)}
        if self._partners["train"].alone == self.counts["train"]:
            raise BadInput("task.subset: no two training faces share a subset; task.subset=all always works")

    def _describe(self, source: Source, faces: list[Face]) -> None:
        people = {name: {faces[n].identity for n in rows} - {None} for name, rows in self.rows.items()}
        self._summary = {
            "source": source.name,
            "protocol": self.protocol,
            "protocol_hash": sha256(self.protocol),
            "manifest": self.manifest,
            "counts": self.counts,
            "identities": {name: len(found) for name, found in people.items()},
            "split_by": self.split_by,
            "cautions": self.cautions,
            "tables": self._told,
            "skipped": [list(item) for item in self.skipped],
            "left_out": dict(source.left_out()) if isinstance(source, Files) else {},
            "size": [self.height, self.width],
            "channels": self.channels,
            "attributes": _shares(self._attributes),
        }

    def summary(self) -> Json:
        """The training data of the run, as plain data for run.json."""
        return self._summary

    @property
    def attributes(self) -> Attributes | None:
        """Names and float32 (N, A) values of all packed faces (row = the ``index`` of a batch), or None."""
        return self._attributes

    @property
    def ids(self) -> list[str]:
        """The id of each row of the packed cache: the file, where there is one."""
        return self._ids

    @property
    def people(self) -> list[str | None]:
        """The identity of each row of the packed cache; None if unknown."""
        return self._people

    def digests_of(self, rows: np.ndarray) -> list[str]:
        """SHA-256 (hex) of the files of some rows of the packed cache, or of the definitions of drawn faces."""
        digests = self._packed.digests()
        return [digests[row] for row in rows]

    def pixel_digests(self, rows: np.ndarray) -> list[str]:
        """SHA-256 (hex) of the pixels of some rows of the packed cache: of faces as cropped and resized."""
        parts = (self._packed.rows.take(rows[first : first + HASHED]) for first in range(0, len(rows), HASHED))
        return [hashlib.sha256(face.tobytes()).hexdigest() for faces in parts for face in faces]

    @property
    def packed_folder(self) -> Path:
        """The folder of the packed cache, for what is computed from these faces; it may be read-only."""
        return self._packed.folder

    def images(self, split: str, indices: Indices | None = None) -> Tensor:
        """Faces of a split, or at ``indices`` within it, float32 (N, C, H, W) in [-1, 1], not augmented."""
        return self.pictures(self._rows(split, indices))

    def pairs(self, split: str, indices: Indices | None = None) -> Batch:
        """Evaluation pairs: faces of a split, not augmented, with the task's inputs.

        ``target`` (N, C, H, W) and, if the task has one, ``input`` (N, C', H', W'): float32 in [-1, 1] on the CPU.
        Every call gives the same pairs: random parts of a task are keyed to the face.
        """
        rows = self._rows(split, indices)
        faces, keys = self.pictures(rows), torch.from_numpy(rows)
        given = faces if self._given is None else _signed(self._packed.rows.take(self._given[rows]))
        made = self.task.input_for(given, keys, "fixed")
        if self._partners:
            target = self.pictures(self._partners[split](rows, rows, "fixed")) if len(rows) else faces
        else:
            target = self.task.target_for(faces, keys, "fixed")
        return {"target": target, **({} if made is None else {"input": made})}

    @property
    def _given(self) -> NDArray[np.int64] | None:
        """The row of each face's input, if the task takes inputs from the data set."""
        return self._inputs if self.task.from_pairs else None

    def pairs_in_chunks(self, split: str, chunk: int = 256) -> Iterator[Batch]:
        """All pairs of a split in its order, ``chunk`` faces at a time."""
        for first in range(0, self.counts[split], chunk):
            yield self.pairs(split, range(first, min(first + chunk, self.counts[split])))

    def _rows(self, split: str, indices: Indices | None) -> np.ndarray:
        rows = self.rows[split]
        return rows if indices is None else rows[np.asarray(indices, dtype=np.int64)]

    def pictures(self, rows: np.ndarray) -> Tensor:
        """Faces at rows of the packed cache, of which ``rows[split]`` are those of a split: as ``images``."""
        return _signed(as_targets(self._packed.rows.take(rows), self.channels))

    def changed(self, rows: np.ndarray, attribute: str) -> Tensor | None:
        """The same faces painted with an attribute and all else as it is, (N, C, H, W) in [-1, 1].

        None where the source does not paint its faces, or does not know what causes the attribute.
        """
        if self._painted is None or attribute not in self._painted.changes:
            return None
        size = (self.height, self.width)
        painted = (self._painted.changed(self._kept[row], attribute, size) for row in rows)
        return _signed(np.stack([frame(face, self.crop, size, self.channels) for face in painted]))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Endless batches from the clock's position.

        ``target`` uint8, ``position``, ``index``, ``flip``, and ``input`` uint8 if workers compute it.
        """
        rows, partners = self.rows["train"], self._partners.get("train")
        faces = TrainFaces(
            self._packed,
            rows,
            self.seed,
            self.flip,
            self._augment,
            self.task,
            partners,
            self.batch_size,
            self._given,
            self.channels,
        )
        workers = self.workers if self._augment or self.task.by_opencv else 0
        return DataLoader(
            faces,
            batch_sampler=ClockSampler(self.clock, self.batch_size, self.rank, self.world),  # type: ignore[arg-type]
            collate_fn=_as_is,
            num_workers=workers,
            worker_init_fn=_begin_worker if workers else None,
            pin_memory=self.pin_memory,
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy to the device asynchronously; on the CPU, the batch itself."""
        if device.type == "cpu":
            return batch
        return {name: values.to(device, non_blocking=True) for name, values in batch.items()}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: flip, convert to float, apply the task. ``target`` (and ``input``) in [-1, 1]."""
        batch = dict(batch)
        flip, position = batch.pop("flip")[:, None, None, None], batch["position"]
        faces = from_uint8(torch.where(flip, batch["target"].flip(-1), batch["target"]))
        if "input" in batch:
            made = from_uint8(torch.where(flip, batch["input"].flip(-1), batch["input"]))
            made = self.task.input_for(made, position, "train") if self.task.from_pairs else made
        else:
            made = self.task.input_for(faces, position, "train")
        target = self.task.target_for(faces, position, "train")
        return {**batch, "target": target, **({} if made is None else {"input": made})}


class TrainFaces(Dataset[Batch]):
    """Training faces by clock position; a list of positions gives a whole batch."""

    def __init__(
        self,
        packed: cache.Packed,
        rows: np.ndarray,
        seed: int,
        flip: bool,
        augment: Augment | None,
        task: Task,
        partners: Partners | None,
        stride: int,
        given: NDArray[np.int64] | None = None,
        channels: int = 3,
    ) -> None:
        """``stride`` is the number of positions from a batch to the next one: the batch of all ranks. ``given`` is the
        row of each face's input, if the task takes inputs from the data set, whose targets have ``channels``.
        """
        self.given, self.channels = given, channels
        self.packed, self.rows, self.stride = packed, rows, stride
        self.augment, self.task, self.partners = augment, task, partners
        self._order = counter_rng.BatchedDraws(partial(counter_rng.order, seed, len(rows)))
        self._flip = counter_rng.BatchedDraws(partial(_flips, seed, 0.5 if flip else 0.0))
        self._later = counter_rng.BatchedDraws(partial(counter_rng.order, seed, len(rows)))
        self._asked = False

    def __getitems__(self, positions: range) -> Batch:
        """``index`` is the row in the packed cache; ``flip`` marks faces still to be mirrored on the device.

        A partner used as target is augmented and mirrored like the input face, which ``index`` names. OpenCV filters
        receive mirrored faces: their lines differ from mirrored lines.
        """
        if not self.packed.rows.mapped:
            self._expect(positions)
        index, flip = self.rows[self._order(positions)], self._flip(positions)
        batch = {"target": self._faces(index, positions)}
        if self.partners:
            partners = self.partners(index, positions, "train")
            batch = {"input": batch["target"], "target": self._faces(partners, positions)}
        if self.given is not None:
            batch["input"] = self._faces(self.given[index], positions)
            batch["target"] = as_targets(batch["target"], self.channels)
        if self.task.by_opencv:
            batch["target"][flip] = batch["target"][flip][..., ::-1]
            batch["input"] = self.task.draw(batch["target"])
            flip = np.zeros_like(flip)
        batch |= {"position": np.arange(positions.start, positions.stop), "index": index, "flip": flip}
        return {name: torch.from_numpy(values) for name, values in batch.items()}

    def _expect(self, positions: range) -> None:
        """Begin to read the batch that lies a few megabytes ahead; at first, all up to it."""
        steps = min(MOST_AHEAD // 2, max(2, READ_AHEAD // (len(positions) * self.packed.rows.bytes)))
        worker = get_worker_info()
        for step in (steps,) if self._asked else range(1, steps + 1):
            further = step * self.stride * (worker.num_workers if worker else 1)
            later = range(positions.start + further, positions.stop + further)
            index = self.rows[self._later(later)]
            self.packed.rows.expect(index)
            if self.partners:
                self.packed.rows.expect(self.partners(index, later, "train"))
            if self.given is not None:
                self.packed.rows.expect(self.given[index])
        self._asked = True

    def _faces(self, rows: np.ndarray, positions: range) -> np.ndarray:
        """Faces as augmented at the positions, uint8 (B, C, H, W)."""
        faces = self.packed.rows.take(rows)
        if self.augment:
            for n, position in enumerate(positions):
                faces[n] = self.augment(faces[n], position)
        return faces


def as_targets(faces: np.ndarray, channels: int) -> np.ndarray:
    """Packed faces, uint8 (B, C, H, W), made grey where targets have one channel and inputs have more."""
    if channels == faces.shape[1] or not len(faces):
        return faces[:, :channels]
    return np.stack([grey(face) for face in faces.transpose(0, 2, 3, 1)])[:, None]


def _signed(faces: np.ndarray) -> Tensor:
    return from_uint8(torch.from_numpy(np.ascontiguousarray(faces)))


def _flips(seed: int, share: float, counters: np.ndarray) -> np.ndarray:
    return counter_rng.uniform(seed, "flip", counters) < share


class ClockSampler(Sampler[range]):
    """This rank's positions, batch after batch, endless, from the clock at the start of iteration."""

    def __init__(self, clock: Clock, batch_size: int, rank: int, world: int) -> None:
        if batch_size % world:
            raise BadInput(f"data.batch_size={batch_size}: cannot be divided among {world} processes")
        self.clock, self.batch_size, self.rank = clock, batch_size, rank
        self.share = batch_size // world

    def __iter__(self) -> Iterator[range]:
        first = self.clock.images + self.rank * self.share
        while True:
            yield range(first, first + self.share)
            first += self.batch_size


def _shares(attributes: Attributes | None) -> dict[str, float | None]:
    """The mean of each attribute over the faces with a known value."""
    shares: dict[str, float | None] = {}
    for name, column in zip(attributes[0], attributes[1].T, strict=True) if attributes else ():
        known = column[~np.isnan(column)]
        shares[name] = round(float(known.mean()), 4) if len(known) else None
    return shares


def _as_is(batch: object) -> object:
    return batch


def _begin_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # the workers already use this many threads
    leave_to_parent()


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    values = [size, size] if isinstance(size, int) else list(size)
    if len(values) != 2 or any(not isinstance(value, int) or value < 1 for value in values):
        raise BadInput(f"data.size={size}: must be one number or [height,width], each at least 1")
    return values[0], values[1]


def _require(holds: bool, name: str, value: object, right: str) -> None:
    if not holds:
        raise BadInput(f"data.{name}={value}: must be {right}")
