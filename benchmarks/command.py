"""How a benchmark is started, and how it starts faceforge."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faceforge.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
FACEFORGE = [sys.executable, "-c", "from faceforge.cli import run; run()"]


def module() -> str:
    """What follows `python -m` in the command that started this process; the file where it was started as one."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name


def run(app: Callable[[], object]) -> None:
    """Run a command line. A BadInput becomes one line and its exit code."""
    try:
        app()
    except BadInput as error:
        print(f"{module().rpartition('.')[2]}: {error}", file=sys.stderr)
        sys.exit(BadInput.exit_code)


@contextmanager
def place_of(asked: Path | None) -> Iterator[Path]:
    """A folder to write into, as an absolute path."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
