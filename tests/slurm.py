"""A real SLURM for tests. Where it is not installed they skip with the reason, and fail under CI=true."""

import os

import pytest

from benchmarks.survival.slurm import missing, started


@pytest.fixture(scope="session")
def slurm():
    """A real SLURM of this machine, as long as the tests of a process run."""
    if reason := missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    with started() as cluster:
        yield cluster
