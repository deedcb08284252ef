"""Distributes work over processes or machines with joblib's backends; results come back in order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from itertools import islice
from math import ceil
from typing import Any, Literal, TypeVar

from joblib import Parallel, delayed, effective_n_jobs, parallel_config

from faceforge.errors import BadInput, to_install

EngineName = Literal["loky", "ray", "dask"]
CHUNK = 16  # photos (or faces) per task of a worker

T = TypeVar("T")
R = TypeVar("R")
Do = Callable[[Sequence[T]], list[R]]  # from tasks to their results, in order; must be picklable


def spread(
    do: Do[T, R],
    tasks: Sequence[T],
    engine: EngineName,
    processes: int,
    chunk: int | None = None,
    asked: str = "--engine ",
    fewer: str = "fewer --processes",
) -> Iterator[list[R]]:
    """Chunks of the results of ``do`` in the order of ``tasks``, only a few of them in memory at a time.

    loky: processes on this machine. ray, dask: the cluster at RAY_ADDRESS or DASK_SCHEDULER_ADDRESS, or one started
    here. ``chunk`` tasks go to a worker at a time. ``asked`` is how the engine was named, ``fewer`` what helps against
    a lack of memory. Raises BadInput if the engine is not installed or does not answer, or a process was killed.
    """
    size = max(1, min(chunk or CHUNK, ceil(len(tasks) / (4 * processes))))  # distributes a small job evenly, too
    chunks = [tasks[first : first + size] for first in range(0, len(tasks), size)]
    if engine == "loky" and (processes == 1 or len(chunks) < 2):
        yield from map(do, chunks)
        return
    with ExitStack() as stack:
        stack.enter_context(_backend(engine, processes, stack, f"{asked}{engine}"))
        yield from _generated(do, chunks, fewer) if engine == "loky" else _in_rounds(do, chunks, stack)


def _generated(do: Do[T, R], chunks: Iterable[Sequence[T]], fewer: str) -> Iterator[list[R]]:
    parallel = Parallel(return_as="generator", pre_dispatch="3*n_jobs")
    before, threading.excepthook = threading.excepthook, _but_not_loky
    results: Any = parallel(delayed(do)(chunk) for chunk in chunks)
    try:
        with closing(results):  # interrupted work ends its processes now, not at garbage collection
            yield from results
        threading.excepthook = before
    except BrokenProcessPool as error:
        raise BadInput(
            f"a worker process was killed (out of memory?); run the same command again with {fewer}"
        ) from error


def _but_not_loky(failure: threading.ExceptHookArgs) -> None:
    """Hide the error that loky's own thread raises when work is interrupted; it means nothing to the user."""
    if failure.thread is None or failure.thread.name != "ExecutorManagerThread":
        threading.__excepthook__(failure)


def _end_with(parent: int) -> None:
    """In a worker: exit soon after the parent was killed, instead of waiting minutes for more work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_rounds(do: Do[T, R], chunks: Iterable[Sequence[T]], stack: ExitStack) -> Iterator[list[R]]:
    """For backends that return only complete lists: several chunks per process at a time."""
    todo, parallel = iter(chunks), stack.enter_context(Parallel())
    at_once = 8 * max(1, effective_n_jobs(-1))
    while round_ := list(islice(todo, at_once)):
        results: Any = parallel(delayed(do)(chunk) for chunk in round_)
        yield from results


def _backend(engine: EngineName, processes: int, stack: ExitStack, named: str) -> Any:
    if engine == "loky":
        return parallel_config("loky", n_jobs=processes, initializer=_end_with, initargs=(os.getpid(),))
    try:
        _start_ray(processes, stack) if engine == "ray" else _start_dask(processes, stack)
    except ImportError as error:
        raise BadInput(f"{named}: not installed; {to_install(engine)}") from error
    except (OSError, ConnectionError, TimeoutError) as error:
        raise BadInput(f"{named}: no answer from the cluster ({error})") from error
    return parallel_config(engine, n_jobs=-1)


def _start_ray(processes: int, stack: ExitStack) -> None:
    import ray  # pyright: ignore[reportMissingImports]
    from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        here = {"num_cpus": processes, "include_dashboard": False} if "RAY_ADDRESS" not in os.environ else {}
        ray.init(log_to_driver=False, **here)
        stack.callback(ray.shutdown)
    register_ray()


def _start_dask(processes: int, stack: ExitStack) -> None:
    from distributed import Client  # pyright: ignore[reportMissingImports]

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    here = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
    stack.enter_context(Client(address) if address else Client(**here))
