"""Differences between operating systems and file systems: locks, process checks, signals.

This is the only module that imports ``fcntl`` and ``resource``, so that all others can be imported on Windows.
"""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import IO

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

HOST = platform.node() or "localhost"
# Batch systems send the last two before a time limit or a preemption; Windows has neither.
LISTENED = tuple(number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"))
Handler = Callable[[int, FrameType | None], object] | int | None
LACKING = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM}  # errors of a missing function
NO_LOCKS = {errno.ENOLCK, *LACKING}  # of a file system without flock
NO_SYNC = {errno.EBADF, errno.ENOLCK, *LACKING}  # of one without fsync
WAIT_SECONDS = 0.2  # seconds between checks of a lock file
SETTLE_SECONDS = 0.1  # seconds until a process that took over the same lock file has written to it
UNWRITTEN_SECONDS = 10.0  # age from which a lock file without a process is stale: its creator died before writing


class Held(BlockingIOError):
    """Another process holds the lock. ``hint`` says what to do if that process may be gone."""

    def __init__(self, hint: str = "") -> None:
        super().__init__(errno.EAGAIN, "held by another process")
        self.hint = hint


def is_alive(process: int) -> bool:
    """Whether a process with this id runs on this machine, under any user."""
    if process <= 0:
        return False
    if sys.platform == "win32":  # on Windows, os.kill with signal 0 would end the process
        return _is_alive_on_windows(process)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def ancestors() -> Iterator[tuple[int, list[str]]]:
    """Id and command line of this process and of those above it, as far as the system tells."""
    process = os.getpid()
    while process > 0:
        try:
            words, process_above = _about(process)
        except (OSError, ValueError, IndexError):
            return
        yield process, words
        process = process_above


def _about(process: int) -> tuple[list[str], int]:
    """The command line of a process, and the process that started it."""
    place = Path("/proc", str(process))
    if place.is_dir():
        above = (place / "stat").read_text().rpartition(")")[2].split()[1]
        return (place / "cmdline").read_bytes().decode(errors="replace").split("\0"), int(above)
    asked = ["ps", "-o", "ppid=,command=", "-p", str(process)]  # systems without /proc, such as macOS
    above, *words = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return words, int(above)


def _is_alive_on_windows(process: int) -> bool:
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (type checkers know it only on Windows)
    handle = kernel.OpenProcess(0x1000, False, process)  # PROCESS_QUERY_LIMITED_INFORMATION
    if not handle:
        return kernel.GetLastError() == 5  # ERROR_ACCESS_DENIED: another user's
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == 259  # STILL_ACTIVE


def send(process: int, number: int) -> None:
    """Send a signal to a process of this user, if it still runs. Windows knows SIGTERM alone, which ends it at once."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def own_session() -> None:
    """Leave the terminal's group: its Ctrl-C then reaches only the process that started this one and passes it on."""
    if sys.platform != "win32":
        with suppress(PermissionError):  # it already leads a group
            os.setsid()


def write_no_core_files() -> None:
    """Keep this process from writing its memory to disk if it crashes."""
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def private_mebibytes() -> int | None:
    """The memory of this process that it shares with no other, in MiB; None where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) // 1024


def most_memory() -> int:
    """The most bytes that this process, or the largest of those it started, has held; 0 where nobody counts."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def memory_bytes() -> float:
    """The memory that this process may fill: the machine's, a container's limit, or the limit of its addresses."""
    limits = [float("inf")]
    with suppress(OSError, ValueError, AttributeError):  # AttributeError: Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in _limit_files():
        with suppress(OSError, ValueError):  # a group without a limit says max
            limits.append(int(file.read_text()))
    return min(*limits, address_room())


def _limit_files() -> Iterator[Path]:
    """Files with the memory limits of the control groups of this process and of those above them (Linux)."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds in ("", "memory"):
                root, name = ("memory", "memory.limit_in_bytes") if kinds else ("", "memory.max")
                path = PurePosixPath(group)
                yield from (Path(f"/sys/fs/cgroup/{root}/{part}/{name}") for part in (path, *path.parents))


def address_room() -> float:
    """The bytes that this process may still map (`ulimit -v`)."""
    if resource is None or (most := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return float("inf")
    in_use = 0
    with suppress(OSError, ValueError, IndexError):
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return float(max(0, most - in_use))


# --------------------------------------------------------------------------------------------------------- locks


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock on ``path``, which is created if missing. Raises Held if another process has it, unless ``wait``.

    The lock is flock's and ends with the process. On Windows and some network file systems without flock, a file
    ``<path>.pid``, created exclusively, names process and host. It is taken over if that process was on this host and
    is dead; processes on other hosts cannot be checked. Raises OSError if neither can be written.
    """
    with path.open("a") as file:
        if _flock(file, wait):
            yield
            return
    beside = path.with_name(f"{path.name}.pid")
    while not _claim(beside):
        if not wait:
            raise Held(f"; if that process is gone, remove {beside} (it names {_said(beside)})")
        time.sleep(WAIT_SECONDS)
    try:
        yield
    finally:
        _give_back(beside)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on ``path``, or may hold it; nothing is created."""
    beside = path.with_name(f"{path.name}.pid")
    if beside.exists() and not _is_left_over(beside):
        return True
    if fcntl is None or not path.exists():
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # a file system without flock, where the file beside it is the lock
        return False
    return False


def _flock(file: IO[str], wait: bool) -> bool:
    """Lock an open file; False if the system or file system has no flock."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Held from None
    except OSError as error:
        folder = Path(file.name).parent
        if error.errno not in NO_LOCKS:
            raise OSError(error.errno, error.strerror, file.name) from error
        lock = f"{Path(file.name).name}.pid"
        unprotected = "a lock of a dead process on another machine must be removed by hand"
        warn_once(folder, f"{folder}: this file system has no locks; using {lock} instead: {unprotected}")
        return False
    return True


_claims = threading.Lock()
_mine: set[Path] = set()  # lock files held by this process: its id may have been a dead process's before
_told: set[object] = set()


def warn_once(about: object, warning: str) -> None:
    """Print one line on stderr, once for each thing that it is ``about``."""
    if about not in _told:
        _told.add(about)
        print(f"faceforge: {warning}", file=sys.stderr)


def _claim(path: Path) -> bool:
    """Create a lock file, or take over that of a dead process; False if a living one may hold it."""
    me = f"{HOST} {os.getpid()}"
    with _claims:
        try:
            with path.open("x") as file:
                file.write(me)
        except FileExistsError:
            if not _is_left_over(path):
                return False
            own = path.with_name(f"{path.name}.{os.getpid()}")
            own.write_text(me)
            own.replace(path)
            time.sleep(SETTLE_SECONDS)
            if _said(path) != me:
                return False
        _mine.add(path.absolute())
        return True


def _is_left_over(path: Path) -> bool:
    host, _, process = _said(path).rpartition(" ")
    if not process.isdecimal():
        try:
            return time.time() - path.stat().st_mtime > UNWRITTEN_SECONDS
        except FileNotFoundError:
            return False
    if host != HOST:
        return False
    return path.absolute() not in _mine if int(process) == os.getpid() else not is_alive(int(process))


def _said(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _give_back(path: Path) -> None:
    with _claims:
        _mine.discard(path.absolute())
        if _said(path) == f"{HOST} {os.getpid()}":
            path.unlink(missing_ok=True)
