"""Which files `python train.py` executes before its first gradient: what somebody reads who follows one default run.

    python -m benchmarks.speed.first_gradient [OVERRIDE ...]

One line a file, in the order in which they are first executed: train.py, those of the package, and the yaml that is
read; empty files do not count. A file whose functions were called tells how many; of the others only the module itself
ran, as it was imported. What other processes execute is not seen: this one draws the few faces alone.
"""

from __future__ import annotations

import inspect
import os
import runpy
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GRADIENTS = {("_tensor.py", "backward"), ("autograd/__init__.py", "backward"), ("autograd/__init__.py", "grad")}
WORDS = ["trainer.gpus=0", "data.source.count=64"]


class Reached(BaseException):
    """The first gradient is asked for."""


class Trace:
    """A function for ``sys.setprofile``; ``files`` holds the functions called, by each file's path from the root."""

    def __init__(self, root: Path, inside: Sequence[str]) -> None:
        self.root, self.inside = root, tuple(str(root / name) for name in inside)
        self.files: dict[str, set[str]] = {}
        self._known: dict[int, CodeType] = {}  # equal code may stand in several files

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Note the function that is called. Raises Reached where it is torch's first one for gradients."""
        code = frame.f_code
        if event != "call" or id(code) in self._known:
            return
        self._known[id(code)] = code
        if code.co_filename.startswith(self.inside) and Path(code.co_filename).stat().st_size:
            functions = self.files.setdefault(self._path(code.co_filename), set())
            if code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.endswith("comp>"):  # no module, no class body
                functions.add(f"{code.co_name}:{code.co_firstlineno}")
        elif any(code.co_name == name and code.co_filename.endswith(f"torch/{file}") for file, name in GRADIENTS):
            raise Reached

    def opened(self, event: str, args: tuple[Any, ...]) -> None:
        """The same of yaml, as a function for ``sys.addaudithook``."""
        if event == "open" and str(args[0]).startswith(self.inside) and str(args[0]).endswith(".yaml"):
            self.files.setdefault(self._path(args[0]), set())

    def _path(self, name: str) -> str:
        return Path(name).relative_to(self.root).as_posix()

    def watch(self, script: Path, words: Sequence[str]) -> None:
        """Run a script until it asks for a gradient. Raises RuntimeError where it never does."""
        sys.argv = [str(script), *words]
        threading.setprofile(self)
        sys.setprofile(self)
        try:
            runpy.run_path(str(script), run_name="__main__")
        except Reached:
            return
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
        raise RuntimeError(f"{script.name} asked for no gradient")

    def lines(self) -> list[str]:
        """What is printed."""
        python = {name: len(called) for name, called in self.files.items() if name.endswith(".py")}
        told = {name: f"{count} functions" if count else "imported" for name, count in python.items()}
        alone = sum(count == 0 for count in python.values())
        return [
            *(f"{n:3} {name:56} {told.get(name, 'read')}" for n, name in enumerate(self.files, 1)),
            f"files_before_first_gradient {len(self.files)}",
            f"python {len(python)}, of which {len(python) - alone} had functions called, {alone} were only imported",
        ]


def main(words: Sequence[str]) -> None:
    """Print the files of the default run, in a folder that is gone afterwards."""
    trace = Trace(ROOT, ("src/faceforge/", "conf/", "train.py"))
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with tempfile.TemporaryDirectory() as place:
        os.environ["FACEFORGE_CACHE"] = f"{place}/cache"
        sys.addaudithook(trace.opened)
        trace.watch(ROOT / "train.py", [*WORDS, f"run_dir={place}/run", *words])
    print("\n".join(trace.lines()))


if __name__ == "__main__":
    main(sys.argv[1:])
