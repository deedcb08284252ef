"""Models on a hub: ``hf://USER/NAME`` wherever the studio takes a run, and `faceforge export RUN --push USER/NAME`.

An address may end in ``@REVISION``, and in ``#SHA256`` of the file that it must be. A mirror is named by HF_ENDPOINT.
Only ``model.safetensors`` is loaded, which cannot execute code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from faceforge.errors import BadInput
from faceforge.io.network import reachable
from faceforge.io.storage import cache_root
from faceforge.studio.exported import NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
PUBLIC = "https://huggingface.co"
NAMED = r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+"
ADDRESS = re.compile(rf"hf:/{{1,2}}({NAMED})(?:@([^#]+))?(?:#([0-9a-fA-F]{{8,64}}))?")  # a Path keeps one slash
WRITTEN = (NAME, "README.md", "model.onnx", "model-encoder.onnx", "model-decoder.onnx", "onnx_use.py", "golden.npz")
RIGHT = "must be hf://USER/NAME, perhaps with @REVISION and #SHA256"


class Found(NamedTuple):
    """A model's file on this machine, the revision that it is of, and how its SHA-256 must begin."""

    file: Path
    revision: str
    pin: str


def is_one(path: Path) -> bool:
    """Whether a path means a model on a hub."""
    return str(path).startswith("hf:/")


def fetch(path: Path) -> Found:
    """The file of ``hf://USER/NAME``: downloaded once, and again when it has changed there. Raises BadInput."""
    from huggingface_hub import hf_hub_download

    address = ADDRESS.fullmatch(str(path))
    if not address:
        raise BadInput(f"{path}: {RIGHT}")
    name, revision, pin = address.groups()
    options = {"revision": revision, "cache_dir": cache_root(None) / "models", "endpoint": _endpoint()}
    options["local_files_only"] = not reachable(_endpoint() or PUBLIC)  # it would try for a quarter of a minute
    file = Path(_asking(name, lambda: hf_hub_download(name, NAME, **options)))
    return Found(file, file.parent.name, (pin or "").lower())


def require_pinned(path: Path, digest: str, found: Found) -> None:
    """Raises BadInput if the SHA-256 of the file is not the one that the address names."""
    if not digest.startswith(found.pin):
        raise BadInput(f"{path}: the file there has SHA-256 {digest}; must be as named, or the address without #...")


def push(folder: Path, name: str, private: bool) -> str:
    """Upload what an export wrote into a folder as a model, which is made if there is none; its address. Other files of
    the folder stay here. Raises BadInput.
    """
    from huggingface_hub import HfApi

    require_name(name)
    api: HfApi = HfApi(endpoint=_endpoint())
    _asking(name, lambda: api.create_repo(name, private=private, exist_ok=True))
    options = {"allow_patterns": list(WRITTEN), "commit_message": "faceforge export"}
    _asking(name, lambda: api.upload_folder(repo_id=name, folder_path=folder, **options))
    return f"hf://{name}"


def require_name(name: str) -> None:
    """Raises BadInput if a hub cannot have a model of this name."""
    if not re.fullmatch(NAMED, name):
        raise BadInput(f"--push {name}: must be USER/NAME")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _asking(name: str, ask: Callable[[], T]) -> T:
    """What a hub answers. Raises BadInput, one line for whatever it refuses."""
    from huggingface_hub import errors
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it tells of each new try
    host = (_endpoint() or PUBLIC).partition("//")[2]
    try:
        return ask()
    except errors.GatedRepoError:
        why = f"its terms must be accepted at {host}/{name}, and you logged in there (hf auth login)"
    except errors.RepositoryNotFoundError:
        why = f"not on {host}, or private: log in (hf auth login)"
    except errors.RevisionNotFoundError:
        why = f"no such revision on {host}"
    except errors.LocalEntryNotFoundError:
        why = f"{host} cannot be reached, and the model is not in the cache"
    except errors.EntryNotFoundError:
        why = f"holds no {NAME}; must be written by `faceforge export RUN --push USER/NAME`"
    except Exception as error:  # and what its HTTP library raises
        why = f"{host} did not do it ({' '.join(str(error).split())[:160] or type(error).__name__})"
    raise BadInput(f"hf://{name}: {why}")
