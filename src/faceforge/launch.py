"""Who started this process. Training by several processes starts its own ranks, so a rank never comes from outside.

Shells, batch jobs and other programs leave variables such as RANK and SLURM_PROCID behind; they prove nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

RANKS = re.compile(
    r"((LOCAL|NODE|GROUP|ROLE)_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|TORCHELASTIC_\w+"
    r"|SLURM_(PROCID|LOCALID|NODEID|NPROCS|NTASKS\w*|STEP_\w+)"
    r"|(PMI|PMIX|OMPI_COMM_WORLD|MV2_COMM_WORLD|JSM_NAMESPACE)_\w+"
)


def started_by() -> Literal["user", "faceforge"]:
    """``faceforge`` in a process that a training started, which takes its rank from there; else ``user``."""
    return "user" if multiprocessing.parent_process() is None else "faceforge"


@contextmanager
def own_ranks() -> Iterator[None]:
    """Hide the rank variables of the environment from Lightning and torch, which would believe them."""
    stale = [name for name in os.environ if RANKS.fullmatch(name)] if started_by() == "user" else []
    before = {name: os.environ.pop(name) for name in stale}
    try:
        yield
    finally:
        if started_by() == "user":
            for name in filter(RANKS.fullmatch, list(os.environ)):
                del os.environ[name]
            os.environ.update(before)
