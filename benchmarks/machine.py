"""What the machine, a process and those it started have worked and hold, as /proc tells it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def busy() -> float:
    """CPU seconds that the whole machine has worked so far; 0 where the system does not say."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0
    return (sum(fields) - fields[3] - fields[4]) / TICK


def tree(root: int | None = None) -> list[int]:
    """A process (default: this one) and all that descend from it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(path.name)] = int(_fields(int(path.name))[1])
    found = [root or os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _fields(pid: int) -> list[str]:
    """The fields of a process's stat after its name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def worked(pid: int) -> float:
    """CPU seconds of a running process."""
    return sum(map(int, _fields(pid)[11:13])) / TICK


def own_seconds() -> float:
    """CPU seconds of this process, of those it started, and of those that ended."""
    used = 0
    for pid in tree():
        with contextlib.suppress(OSError):
            used += sum(map(int, _fields(pid)[11:15]))
    return used / TICK


def held(pids: Sequence[int]) -> tuple[float, float]:
    """MiB that processes hold: shared pages divided among those who share them (PSS), and counted for each (RSS)."""
    sums = {"Pss:": 0, "Rss:": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, value = line.split()[:2]
                if key in sums:
                    sums[key] += int(value)
    return sums["Pss:"] / 1024, sums["Rss:"] / 1024
