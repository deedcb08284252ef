"""The feature extractors that scores of generated faces can use, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import torch

from faceforge.errors import BadInput
from faceforge.metrics.features import Features

DEFAULT = ("lite0",)
EXTRACTORS: Mapping[str, Callable[[], Features]] = {"lite0": Features}


def build(names: Sequence[str], device: torch.device) -> list[Features]:
    """The named extractors, each once, in the order of the names; ``DEFAULT`` without any. Raises BadInput."""
    wanted = list(dict.fromkeys(names or DEFAULT))
    for name in wanted:
        if name not in EXTRACTORS:
            nearest = get_close_matches(name, EXTRACTORS, n=1, cutoff=0.0)[0]
            right = f"the nearest is {nearest}; must be one of {', '.join(EXTRACTORS)}"
            raise BadInput(f"--features {name}: no such extractor, {right}")
    return [EXTRACTORS[name]().to(device) for name in wanted]
