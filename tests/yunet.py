"""YuNet's weights, which are no part of the repository, for the tests that need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faceforge.cut.detect import YUNET

_FOLDERS = (os.environ.get("FACEFORGE_WEIGHTS"), Path(__file__).parents[2] / "shared" / "models")
_FILES = (Path(folder) / weights.name for folder in _FOLDERS if folder for weights in YUNET)

WEIGHTS = next((path for path in _FILES if path.is_file()), Path("no weights"))
needs_yunet = pytest.mark.skipif(not WEIGHTS.is_file(), reason="no weights of YuNet; FACEFORGE_WEIGHTS names a folder")
