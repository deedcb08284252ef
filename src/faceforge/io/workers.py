"""Ordered work on many faces with as many processes as are worthwhile."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from faceforge.io.portable import LISTENED

T = TypeVar("T")
Work = Callable[[Sequence[int]], list[T]]

PARALLEL_SECONDS = 6.0  # shorter work finishes before a second process has loaded its modules
CHUNK = 64
LONGEST_FOLDER = 70  # bytes; multiprocessing adds 32, and the path of a socket has at most 107
LAST_SECONDS = 60  # of a worker after SIGTERM


def cores() -> int:
    """The number of CPU cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def in_order(work: Work[T], faces: Sequence[int], chunk: int | None = None) -> Iterator[T]:
    """The results of ``work`` for ``faces``, in order; the first ones are timed to decide on more processes.

    ``work`` takes several faces (``chunk``) at a time, here or in another process, and must be picklable. If other
    processes die, this one does the rest.
    """
    chunk = chunk or CHUNK
    spans = [faces[first : first + chunk] for first in range(0, len(faces), chunk)]
    begun = time.perf_counter()
    yield from chain.from_iterable(map(work, spans[:1]))
    alone = (time.perf_counter() - begun) * (len(faces) / chunk - 1)
    processes = min(cores(), 8) if alone > PARALLEL_SECONDS else 1
    rest = spans[1:]
    yield from chain.from_iterable(map(work, rest) if processes == 1 else _by_processes(work, rest, processes))


def warm() -> None:
    """Start other processes early, so that they load modules while this one does single-core work."""
    if cores() > 1 and forks().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _by_processes(work: Work[T], spans: Sequence[Sequence[int]], processes: int) -> Iterator[list[T]]:
    """Results in order, by this process and a pool of others; by this one alone if the pool breaks."""
    to_start, done = iter(spans), 0
    waiting: deque[Future[list[T]]] = deque()
    pool = ProcessPoolExecutor(processes - 1, forks(), _begin_worker, (work,))
    with ThreadPoolExecutor(1) as starter:
        try:
            started = starter.submit(pool.submit, _do, [])  # waits until modules are loaded
            while True:
                if started.done():
                    room = 4 * (processes - 1) - sum(not each.done() for each in waiting)
                    waiting.extend(pool.submit(_do, span) for span in islice(to_start, max(0, room)))
                if not (waiting and waiting[0].done()) and (span := next(to_start, None)):
                    waiting.append(_over(work(span)))
                elif waiting:
                    yield waiting.popleft().result()
                    done += 1
                else:
                    break
        except BrokenProcessPool:
            yield from map(work, spans[done:])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _over(outcome: list[T]) -> Future[list[T]]:
    """Results of this process while others are working."""
    future: Future[list[T]] = Future()
    future.set_result(outcome)
    return future


def forks(*modules: str) -> BaseContext:
    """Workers of a training: torch and the packed cache are loaded, and ``modules`` too, if it has not begun."""
    return forked_with("torch", "faceforge.data.cache", *modules)


def forked_with(*modules: str) -> BaseContext:
    """Workers are forked from a process that has only loaded modules, not from this one with its threads and locks.

    Without fork (Windows), and where that process could not be reached (the folder of temporary files has a longer name
    than the path of a socket may have), each worker loads its modules itself.
    """
    folder = os.fsencode(tempfile.gettempdir())
    if "forkserver" not in multiprocessing.get_all_start_methods() or len(folder) > LONGEST_FOLDER:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", *modules])
    return context


_work: Work[Any]


def _begin_worker(work: Work[Any]) -> None:
    import torch  # imported here: commands that only cut faces call cores() and never need it

    global _work
    _work = work
    torch.set_num_threads(1)  # the other cores have their own workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(span: Sequence[int]) -> list[Any]:
    return _work(span)


@contextmanager
def without_collection() -> Iterator[None]:
    """No search for garbage: with hundreds of thousands of faces it takes longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def leave_to_parent() -> None:
    """Initialise a forked worker: its parent handles signals, which batch systems send to all processes of a job.

    SIGTERM leaves it time to deliver what the parent needs for its last step.
    """
    signal.set_wakeup_fd(-1)
    for number in LISTENED:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(LAST_SECONDS))
