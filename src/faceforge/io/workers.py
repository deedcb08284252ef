"""Work on many faces by as many processes as pay, its outcomes in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from faceforge.io.portable import LISTENED

T = TypeVar("T")
Work = Callable[[Sequence[int]], list[T]]

PARALLEL_SECONDS = 6.0  # shorter work is done by the time that a second process has loaded its modules
CHUNK = 64


def cores() -> int:
    """How many processor cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def in_order(work: Work[T], faces: Sequence[int]) -> Iterator[T]:
    """What ``work`` gives for each of ``faces``, in their order; a part of them tells how long the rest takes alone.

    ``work`` takes some faces at a time, here or in another process, and can be pickled. Where other processes die, this
    one does what is left.
    """
    spans = [faces[first : first + CHUNK] for first in range(0, len(faces), CHUNK)]
    begun = time.perf_counter()
    yield from chain.from_iterable(map(work, spans[:1]))
    alone = (time.perf_counter() - begun) * (len(faces) / CHUNK - 1)
    processes = min(cores(), 8) if alone > PARALLEL_SECONDS else 1
    rest = spans[1:]
    yield from chain.from_iterable(map(work, rest) if processes == 1 else _by_processes(work, rest, processes))


def warm() -> None:
    """Have the modules of other processes loaded while something is done here that needs one core."""
    if cores() > 1 and _forks().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _by_processes(work: Work[T], spans: Sequence[Sequence[int]], processes: int) -> Iterator[list[T]]:
    """Outcomes in order, by this process and a pool of others; without the pool where it breaks."""
    to_start, done = iter(spans), 0
    waiting: deque[Future[list[T]]] = deque()
    pool = ProcessPoolExecutor(processes - 1, _forks(), _begin_worker, (work,))
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
    """What this process has done, beside what others are at."""
    future: Future[list[T]] = Future()
    future.set_result(outcome)
    return future


def _forks() -> BaseContext:
    """Workers are forked from a process that has loaded modules only: not from the trainer, with threads and locks.

    Where there is no fork (Windows) each loads its modules by itself.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", "faceforge.data.cache"])
    return context


_work: Work[Any]


def _begin_worker(work: Work[Any]) -> None:
    import torch  # here, because commands that only cut faces ask for cores() and never need it

    global _work
    _work = work
    torch.set_num_threads(1)  # the other cores have workers of their own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(span: Sequence[int]) -> list[Any]:
    return _work(span)


def leave_to_parent() -> None:
    """For a worker that was forked: the process that started it decides what a Ctrl-C means."""
    signal.set_wakeup_fd(-1)
    for number in LISTENED:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
