"""The work of a request with opened models, in the server's process or in one of its workers."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import torch

from faceforge.engine import devices
from faceforge.errors import BadInput
from faceforge.io import portable
from faceforge.studio import photo as photos
from faceforge.studio import shipped
from faceforge.studio.average import ways_of
from faceforge.studio.model import WATCH, Model, open_model
from faceforge.studio.translate import takes_lines
from faceforge.studio.web.handlers import ANSWERS, MOST_FACES, MOST_SECONDS, Ask, answer
from faceforge.studio.web.workers import Job, Offer, Reply, Setup, Stopped, Watch
from faceforge.types import Json


class Alone:
    """The server's own process works, in one thread."""

    count = 1

    def __init__(self, models: Sequence[Model]) -> None:
        self.models, self.offer = models, offer(models)

    def do(self, job: Job, watch: Watch) -> Reply:
        """The reply to a job; ``watch`` is called before every batch, and what it raises ends the work."""
        token = WATCH.set(watch)
        try:
            return reply(self.models, job)
        finally:
            WATCH.reset(token)

    def close(self) -> None:
        """Nothing to end."""


def open_models(runs: Sequence[Path], trusted: Sequence[str]) -> list[Model]:
    """The models of some runs, ready to answer at once; without runs, those that ship. Raises BadInput."""
    models = [open_model(run, None, trusted) for run in runs or shipped.files()]
    for model in models:
        if not model.abilities:
            raise BadInput(f"{model.path}: this run supports none of the app's features")
        _warm(model)
    return models


def _warm(model: Model) -> None:
    """Run the slow first call before the first request."""
    if "generate" in model.abilities:
        model.decode(model.codes(1))
    if {"edit", "translate", "upscale"} & set(model.abilities):
        photos.finder()


def reply(models: Sequence[Model], job: Job) -> Reply:
    """The answer of a function as JSON, or the sentence that says why there is none. Raises what the watch raises."""
    try:
        words = dict(job.words)
        model = _chosen(models, words.pop("run", ""))
        made = answer(job.name, model, Ask(words, job.uploads))
    except Stopped:
        raise
    except BadInput as error:
        return 422, json.dumps({"says": str(error)}).encode()
    except Exception:  # the app must survive any error; a traceback contains no upload
        traceback.print_exc()
        says = "An internal error occurred, not caused by your photo; see the terminal for details."
        return 500, json.dumps({"says": says}).encode()
    return 200, json.dumps(made.told()).encode()


def _chosen(models: Sequence[Model], word: str) -> Model | None:
    """The model with a number; None for an empty word."""
    if not word:
        return None
    if not (word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(models)):
        raise BadInput(f"run {word[:40]!r}: must be from 0 to {len(models) - 1}")
    return models[int(word)]


# --------------------------------------------------------------------------------------------------- what is told of it


def offer(models: Sequence[Model]) -> Offer:
    """What models can do, for the page."""
    limits = {"faces": MOST_FACES, "seconds": MOST_SECONDS}
    return Offer([_offer(model) for model in models], frozenset(ANSWERS), limits, portable.private_mebibytes())


def _offer(model: Model) -> Json:
    task = model.task
    return {
        "name": model.name,
        "task": task.name,
        "label": task.label or task.name.replace("_", " "),
        "words": task.words and [word or task.name for word in task.words],
        "can": model.abilities,
        "height": model.size[0],
        "width": model.size[1],
        "drawn": shipped.is_one(model.path),
        "lines": takes_lines(model),
        "attributes": list(model.space.names) if "edit" in model.abilities else [],
        "labels": list(model.labels),
        "densities": list(model.space.densities) if model.has_codes else [],
        "ways": ways_of(model),
    }


# ----------------------------------------------------------------------------------------------------- worker processes


def serve(pipe: Connection, setup: Setup, folder: Path) -> None:
    """Work as a worker process until the server ends: sends an Offer, or why there is none, then a reply for each job.

    ``folder`` is for temporary files.
    """
    _prepare(setup, folder)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere if setup.quiet else sys.stderr):
            models = open_models(setup.runs, setup.trusted)
        pipe.send(offer(models))
    except BadInput as error:
        pipe.send(str(error))
        return
    with suppress(EOFError, OSError):  # the server has ended
        while True:
            _work(pipe, models)


def _prepare(setup: Setup, folder: Path) -> None:
    portable.write_no_core_files()
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    torch.set_num_threads(min(setup.threads, torch.get_num_threads()))
    cv2.setNumThreads(setup.threads)
    devices.take(setup.number)


def _work(pipe: Connection, models: Sequence[Model]) -> None:
    """One message of the server: a job, or the order to stop one that is already done. Keeps nothing of it."""
    job = pipe.recv()
    if job is None:
        return

    def watch() -> None:
        if pipe.poll():
            pipe.recv()
            raise Stopped

    token = WATCH.set(watch)
    try:
        pipe.send(reply(models, job))
    except Stopped:
        pipe.send((504, b""))
    finally:
        WATCH.reset(token)
