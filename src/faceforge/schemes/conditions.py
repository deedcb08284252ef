"""What faces are to show, in adversarial training: labels of batches, of drawn faces, and of the grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceforge.data.datamodule import FaceData
from faceforge.errors import BadInput
from faceforge.networks.conditional import EXAMPLES, ConditionalGenerator, take_labels

KEY, ALL = "model.conditional", "labels"
GENERATORS = ("generator", "average")  # parts of a scheme


def names_of(generator: object) -> tuple[str, ...]:
    """The attributes that a generator is told; none if it is told nothing."""
    return generator.names if isinstance(generator, ConditionalGenerator) else ()


def told(generator: nn.Module, discriminator: nn.Module, names: Sequence[str]) -> ConditionalGenerator:
    """The generator told these attributes; the discriminator is told them too. Raises BadInput for names that cannot be
    those of attributes, and ValueError for networks that take no labels.
    """
    if isinstance(names, str) or len(set(names)) != len(names) or not all(names):
        raise BadInput(f"{KEY}={list(names)}: must be names of attributes, each once")
    take_labels(discriminator, len(names))
    return ConditionalGenerator(generator, names)


def with_names(node: Mapping[str, Any], data: FaceData) -> Mapping[str, Any]:
    """A model's configuration with the attributes of the faces in place of ``conditional: labels``.

    All that are 0 and 1 among the training faces, which are read for it. Raises BadInput if there are none.
    """
    if node.get("conditional") != ALL:
        return node
    data.prepare(progress=False)
    names, values = data.attributes or ((), np.zeros((0, 0)))
    columns = zip(names, values[data.rows["train"]].T, strict=True) if names else ()
    found = [name for name, column in columns if _known(column) == {0.0, 1.0}]
    if not found:
        why = "none is 0 for some and 1 for others" if names else "there are none"
        raise BadInput(f"{KEY}={ALL}: of the attributes of the faces, {why}; data.attributes must name a CSV of them")
    return {**node, "conditional": found}


def _known(column: NDArray[np.floating[Any]]) -> set[float]:
    return set(np.unique(column[~np.isnan(column)]).tolist())


def labels_of(data: FaceData, names: Sequence[str]) -> Tensor:
    """Labels (N, K) of all packed faces, row = the ``index`` of a batch: 1, -1, or 0 where unknown.

    Raises BadInput naming the attributes that there are, if one is missing, is no 0/1 label, or does not vary.
    """
    if data.attributes is None:
        raise BadInput(f"{KEY}={list(names)}: the faces have no attributes; data.attributes must name a CSV of them")
    there, values = data.attributes
    if missing := [name for name in names if name not in there]:
        raise BadInput(f"{KEY}: the faces have no attribute {missing[0]}; must be of {', '.join(there)}")
    found = values[:, [there.index(name) for name in names]]
    for name, column in zip(names, found[data.rows["train"]].T, strict=True):
        known = _known(column)
        if known != {0.0, 1.0}:
            shown = ", ".join(f"{value:g}" for value in sorted(known)[:5]) or "nothing known"
            raise BadInput(f"{KEY}: {name} of the training faces is {shown}; must be 0 and 1")
    return torch.from_numpy(np.nan_to_num(2 * found - 1)).float()


def examples_of(labels: Tensor, data: FaceData) -> Tensor:
    """Labels of ``EXAMPLES`` training faces, evenly spread over them, int8 (``EXAMPLES``, K)."""
    rows = data.rows["train"]
    return labels[rows[np.arange(EXAMPLES) * len(rows) // EXAMPLES]].to(torch.int8)


def picked(examples: Tensor, uniforms: Tensor) -> Tensor:
    """Labels (N, K) drawn from ``examples`` by ``uniforms`` (N, 1) in [0, 1)."""
    return examples[(uniforms[:, 0] * len(examples)).long().clamp(max=len(examples) - 1)].float()


def with_and_without(z: Tensor, count: int) -> Tensor:
    """z (64, N + K) of a grid of 8 rows: the same 8 faces without an attribute and, below, with it.

    ``z`` (32, N + K) ends in ``count`` = K labels. Of more than four attributes the first four are shown; fewer are
    shown again, on other faces.
    """
    shown, rows = min(4, count), []
    for row in range(8):
        again, attribute = divmod(row // 2, shown)
        faces = z[8 * again : 8 * again + 8].clone()
        faces[:, attribute - count] = 1.0 if row % 2 else -1.0
        rows.append(faces)
    return torch.cat(rows)


def fitting(weights: Mapping[str, Tensor], told: bool) -> Mapping[str, Tensor]:
    """The weights of a scheme with generators named as in one that is told labels, or is told nothing."""
    plain, inner = (tuple(f"{part}.{within}" for part in GENERATORS) for within in ("", "network."))
    if told == any(key.startswith(inner) for key in weights):
        return weights
    before, after = (plain, inner) if told else (inner, plain)
    pairs = list(zip(before, after, strict=True))

    def named(key: str) -> str:
        return next((new + key.removeprefix(old) for old, new in pairs if key.startswith(old)), key)

    return {named(key): value for key, value in weights.items()}
