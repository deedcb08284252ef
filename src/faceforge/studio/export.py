"""A model for other programs: safetensors, ONNX that is proven to compute the same, or a folder for a model hub."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faceforge.errors import BadInput, to_install
from faceforge.io.files import atomic_path
from faceforge.schemes.abilities import Encodes, Samples
from faceforge.schemes.scales import SIGNED, Span, input_range, output_range, rescale
from faceforge.schemes.supervised import PairedScheme
from faceforge.studio import exported
from faceforge.studio.card import make_card
from faceforge.studio.model import Model
from faceforge.types import Json

CLOSE = 1e-4  # the largest difference between ONNX and torch, of values in [-1, 1] or of codes
BATCHES = (1, 2, 5, 8)
GOLDEN = 4  # inputs with outputs that travel along


class Forward(nn.Module):
    """What is exported: a network between the ranges that a user meets. None: codes or noise, as they are."""

    def __init__(self, parts: nn.Module, source: Span | None, output: Span | None) -> None:
        super().__init__()
        self.parts, self.source, self.output = parts, source, output

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, ...) to float32 (N, ...)."""
        x = x if self.source is None else rescale(x, SIGNED, self.source)
        y = self.parts(x)
        return y if self.output is None else rescale(y, self.output, SIGNED).clamp(-1, 1)


class _Mean(nn.Module):
    """The code of a posterior is its mean."""

    def __init__(self, code: nn.Module) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        code = self.code(x)
        return code if isinstance(code, Tensor) else code[0]


@dataclass(frozen=True)
class Graph:
    """One ONNX file: its network, the shape of an input without the batch, and what the input is."""

    network: nn.Module
    shape: tuple[int, ...]
    kind: str = "image"  # or normal, uniform, code


def graphs(model: Model) -> dict[str, Graph]:
    """By the suffix of its file's stem ("" is the main forward), what a model is made of. Raises BadInput."""
    module, average = model.module, model.module.average
    if isinstance(module, PairedScheme) and not module.pure:
        raise BadInput(
            f"{model.path}: keeps dropout or batch statistics at test time, which ONNX cannot; export .safetensors"
        )
    if isinstance(module, Encodes):
        encoder, code, decoder = (average.get_submodule(name) for name in ("encoder", "code", "decoder"))
        to_code, shape = nn.Sequential(encoder, _Mean(code)), (model.channels, *model.size)
        source, output = input_range(encoder), output_range(decoder)
        return {
            "": Graph(Forward(nn.Sequential(to_code, decoder), source, output), shape),
            "-encoder": Graph(Forward(to_code, source, None), shape),
            "-decoder": Graph(Forward(decoder, None, output), (module.latent_size,), "code"),
        }
    if isinstance(module, PairedScheme):
        example = model.task.input_for(torch.zeros(1, model.channels, *model.size))
        assert example is not None
        return {"": Graph(Forward(average, input_range(average), output_range(average)), tuple(example.shape[1:]))}
    module = model.scheme(Samples)
    return {"": Graph(Forward(average, None, output_range(average)), tuple(module.latent_shape), module.latent)}


def inputs(graph: Graph, count: int, seed: int) -> Tensor:
    """Random inputs (count, ...) of the graph's kind."""
    generator = torch.Generator().manual_seed(seed)
    if graph.kind in ("normal", "code"):
        return torch.randn(count, *graph.shape, generator=generator)
    uniform = torch.rand(count, *graph.shape, generator=generator)
    return uniform if graph.kind == "uniform" else 2 * uniform - 1


# --------------------------------------------------------------------------------------------------------- safetensors


def write_safetensors(model: Model, path: Path) -> None:
    """One file that loads wherever a run does."""
    space = model.space if model.has_codes else None
    card = make_card(model, {path.name: "weights, configuration and this card"})
    with _on_cpu(model):
        exported.write(path, model.module, space, model.digest, model.name, card)


@contextmanager
def _on_cpu(model: Model) -> Iterator[None]:
    """Files and their proofs are made of weights on the CPU; the model goes on where it was."""
    device = model.device
    model.module.cpu()
    try:
        yield
    finally:
        model.module.to(device)


# ---------------------------------------------------------------------------------------------------------------- ONNX


def onnx_files(model: Model, path: Path) -> list[Path]:
    """The files that ``write_onnx`` makes at ``path``. Raises BadInput as ``graphs`` does."""
    return [_onnx_file(path, suffix) for suffix in graphs(model)]


def _onnx_file(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}.onnx")


def write_onnx(model: Model, path: Path) -> dict[str, float]:
    """ONNX files beside ``path``, each checked against torch: by file name the largest difference.

    Raises BadInput where the packages for it are not installed, or a file would compute something else.
    """
    with _on_cpu(model):
        return _write_onnx(model, path)


def _write_onnx(model: Model, path: Path) -> dict[str, float]:
    found = {}
    for suffix, graph in graphs(model).items():
        file = _onnx_file(path, suffix)
        with atomic_path(file) as beside:
            _write_graph(graph, beside, _about(model, suffix, graph))
            found[file.name] = _difference(graph, beside)
            if not found[file.name] <= CLOSE:
                raise BadInput(f"{file}: differs from torch by {found[file.name]:.2g}, more than {CLOSE}; not written")
    return found


def _write_graph(graph: Graph, path: Path, about: Mapping[str, Any]) -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise BadInput(f"ONNX needs more packages; {to_install('export')}") from None
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.network.eval(),
            (inputs(graph, 2, 0),),
            dynamo=True,
            verbose=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: batch},),
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"faceforge": json.dumps(about)})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def _about(model: Model, suffix: str, graph: Graph) -> Json:
    """What a program has to know to feed the file and to read what it gives."""
    kinds = {
        "image": "a face, float32 in [-1, 1] (byte / 127.5 - 1), RGB or Rec. 601 luma, as the task makes it",
        "normal": "noise, float32 from N(0, 1)",
        "uniform": "noise, float32 from U[0, 1)",
        "code": "a code, float32",
    }
    gives = "a code, float32" if suffix == "-encoder" else "a face, float32 in [-1, 1]; byte = round((y + 1) * 127.5)"
    return {
        "name": model.name,
        "task": model.task.name,
        "checkpoint_sha256": model.digest,
        "input": {"kind": graph.kind, "shape": list(graph.shape), "is": kinds[graph.kind]},
        "output": {"is": gives},
        "size": list(model.size),
        "channels": model.channels,
    }


def _difference(graph: Graph, path: Path) -> float:
    """The largest difference from torch over random inputs of several batch sizes."""
    from faceforge.studio import onnx_use

    session, _ = onnx_use.open_model(path)
    worst = 0.0
    for count in BATCHES:
        x = inputs(graph, count, count)
        with torch.no_grad():
            right = graph.network(x).numpy()
        worst = max(worst, float(np.abs(onnx_use.run(session, x.numpy()) - right).max()))
    return worst


# -------------------------------------------------------------------------------------------------------------- folder


def write_folder(model: Model, folder: Path) -> dict[str, float]:
    """A folder as model hubs want it: safetensors, ONNX, card, a script that needs no torch, golden inputs and outputs.

    Nothing appears before all of it is made and proven; other files in the folder stay. Gives the largest differences
    between ONNX and torch.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        differences = write_onnx(model, made / "model.onnx")
        write_safetensors(model, made / exported.NAME)
        shutil.copyfile(Path(__file__).with_name("onnx_use.py"), made / "onnx_use.py")
        with _on_cpu(model):
            arrays = _golden(model)
        np.savez(made / "golden.npz", **arrays)  # type: ignore[arg-type]
        files = {
            exported.NAME: "weights and configuration; `faceforge ... .` works here as on a run",
            **{name: f"ONNX, at most {worst:.1g} from torch" for name, worst in differences.items()},
            "onnx_use.py": "uses the ONNX file with onnxruntime, numpy and Pillow alone",
            "golden.npz": "inputs, and what torch makes of them",
        }
        (made / "README.md").write_text(make_card(model, files), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for file in made.iterdir():
            file.replace(folder / file.name)
    return differences


def _golden(model: Model) -> dict[str, np.ndarray]:
    found = {}
    for suffix, graph in graphs(model).items():
        x = inputs(graph, GOLDEN, 99)
        with torch.no_grad():
            y = graph.network.eval()(x)
        name = suffix.strip("-") or "model"
        found |= {f"{name}_input": x.numpy(), f"{name}_output": y.numpy()}
    return found
