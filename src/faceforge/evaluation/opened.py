"""A run opened to be scored or audited: its record, its checkpoint, its faces, and what results say of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faceforge
from faceforge import config as configuration
from faceforge import words
from faceforge.data.datamodule import FaceData
from faceforge.engine import checkpoint, devices
from faceforge.engine.resume import located
from faceforge.engine.run import Run, now, sources_commit
from faceforge.errors import BadInput
from faceforge.evaluation.judged import Judged, all_faces
from faceforge.schemes.base import Scheme
from faceforge.types import Json

OF_DATA = ("source", "manifest", "protocol", "protocol_hash", "size", "channels", "counts", "identities", "split_by")


def record_of(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """The run folder of a checkpoint, and its run.json."""
    folder = path.absolute().parent.parent
    try:
        record = json.loads((folder / "run.json").read_text())
        record["data"]["manifest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(f"{folder}: no run.json with its training data; name a run folder") from None
    return Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder, record


def digest_of(path: Path) -> str:
    """SHA-256 of the checkpoint; a damaged one is refused, without falling back to another."""
    digest = checkpoint.digest(path)
    hashes = path.with_name(checkpoint.HASHES)
    if hashes.is_file() and digest not in hashes.read_text().split():
        raise BadInput(f"{path}: damaged file (its hash does not match); try another --checkpoint")
    return digest


def data_node(folder: Path, config: Mapping[str, Any], record: Mapping[str, Any], data_root: Path | None) -> Json:
    """The run's data configuration with the faces where they are now. Raises BadInput."""
    node = dict(located(config["data"], Run(folder, dict(record)).starts))
    if data_root is not None:
        node["root"] = str(data_root)
    root = node["root"]
    if root is not None and not Path(root).expanduser().exists():
        raise BadInput(f"{root}: the faces of {folder} are not there; give their location with --data-root PATH")
    return node


def data_of(folder: Path, node: Mapping[str, Any], record: Mapping[str, Any], trusted: Sequence[str]) -> FaceData:
    """The run's faces, packed and split as in training. Raises BadInput if these are others."""
    data: FaceData = configuration.build(node, trusted)
    data.prepare()
    if data.manifest != record["data"]["manifest"]:
        raise BadInput(
            f"{node['root'] or 'data'}: not the training data of {folder} (manifest {data.manifest[:12]}..., in "
            f"training {record['data']['manifest'][:12]}...); give other data with --data-root PATH"
        )
    return data


def faces_of(data: FaceData, split: str) -> Judged:
    """A split of the run's own faces. Raises BadInput if it is empty."""
    if not data.counts[split]:
        full = ", ".join(f"{name} {count:,}" for name, count in data.counts.items() if count)
        raise BadInput(f"--split {split}: the run has no faces there; must be one of {full}")
    return all_faces(data, split)


def about_run(folder: Path, path: Path, digest: str, module: Scheme) -> Json:
    """The program, the run and its checkpoint."""
    about = {"name": path.stem, "sha256": digest, "images": module.clock.images}
    return {"faceforge": faceforge.__version__, **sources_commit(), "run": folder.resolve().name, "checkpoint": about}


def about_data(data: FaceData, judged: Judged) -> Json:
    """The data set, and which of its faces were looked at."""
    summary = data.summary()
    own = {"split": judged.split, "faces": len(judged.places), "people": judged.people}
    own["unnamed"] = sum(group is None for group in judged.groups)  # each counts as one of the people
    return {**{key: summary[key] for key in (*OF_DATA, "cautions")}, **own}


def stamp() -> Json:
    """Where, when and by which command."""
    typed = words.faceforge(*sys.argv[1:])
    return {"device": devices.name(min(1, devices.count())), "created": now(), "command": typed}
