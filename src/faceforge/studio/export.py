"""Exports a model: safetensors, ONNX with verified outputs, or a folder for a model hub."""

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

CLOSE = 1e-4  # largest allowed difference between ONNX and torch, in [-1, 1] or of codes
BATCHES = (1, 2, 5, 8)
GOLDEN = 4  # number of stored input and output pairs


class Forward(nn.Module):
    """The exported network with inputs and outputs in [-1, 1]; ``source`` or ``output`` None: codes, unchanged."""

    def __init__(self, parts: nn.Module, source: Span | None, output: Span | None) -> None:
        super().__init__()
        self.parts, self.source, self.output = parts, source, output

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, ...) to float32 (N, ...)."""
        x = x if self.source is None else rescale(x, SIGNED, self.source)
        y = self.parts(x)
        return y if self.output is None else rescale(y, self.output, SIGNED).clamp(-1, 1)


class _Mean(nn.Module):
    """Replaces a posterior by its mean."""

    def __init__(self, code: nn.Module) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: Tensor) -> Tensor:
        code = self.code(x)
        return code if isinstance(code, Tensor) else code[0]


@dataclass(frozen=True)
class Graph:
    """One ONNX file: its network, the shape of one input without the batch, and the kind of input."""

    network: nn.Module
    shape: tuple[int, ...]
    kind: str = "image"  # or normal, uniform, code


def graphs(model: Model) -> dict[str, Graph]:
    """The ONNX graphs of a model by the suffix of their file name ("" is the full model). Raises BadInput."""
    module, average = model.module, model.module.average
    if isinstance(module, PairedScheme) and not module.pure:
        raise BadInput(
            f"{model.path}: uses dropout or batch statistics at test time, which ONNX cannot; export .safetensors"
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


def write_safetensors(model: Model, path: Path, licence: str | None = None) -> None:
    """Write one file that can be used like a run; ``licence`` is that of the training data, for its card."""
    carried = model.directions or (model.space if model.has_codes else None)
    card = make_card(model, {path.name: "weights, configuration and this card"}, licence)
    with _on_cpu(model):
        exported.write(path, model.module, carried, model.digest, model.name, card)


@contextmanager
def _on_cpu(model: Model) -> Iterator[None]:
    """Move the model to the CPU for export and verification, then back to its device."""
    device = model.device
    model.module.cpu()
    try:
        yield
    finally:
        model.module.to(device)


# ---------------------------------------------------------------------------------------------------------------- ONNX


def onnx_files(model: Model, path: Path) -> list[Path]:
    """The files that ``write_onnx`` writes for ``path``. Raises BadInput as ``graphs`` does."""
    return [_onnx_file(path, suffix) for suffix in graphs(model)]


def _onnx_file(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.stem}{suffix}.onnx")


def write_onnx(model: Model, path: Path) -> dict[str, float]:
    """Write ONNX files beside ``path``, verify them, and return the largest difference from torch by file name.

    Raises BadInput if packages are missing or an output differs.
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
                raise BadInput(f"{file}: differs from torch by {found[file.name]:.2g}, must be at most {CLOSE}")
    return found


def _write_graph(graph: Graph, path: Path, about: Mapping[str, Any]) -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise BadInput(f"ONNX export needs more packages; {to_install('export')}") from None
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
    """The metadata that a program needs to use the file."""
    labels = "; at its end, a number for each of labels: 1 with, -1 without" if model.labels else ""
    kinds = {
        "image": "a face, float32 in [-1, 1] (byte / 127.5 - 1), RGB or Rec. 601 luma, as the task makes it",
        "normal": f"noise, float32 from N(0, 1){labels}",
        "uniform": f"noise, float32 from U[0, 1){labels}",
        "code": "a code, float32",
    }
    gives = "a code, float32" if suffix == "-encoder" else "a face, float32 in [-1, 1]; byte = round((y + 1) * 127.5)"
    told = {"labels": list(model.labels)} if model.labels else {}
    return {
        "name": model.name,
        "task": model.task.name,
        "checkpoint_sha256": model.digest,
        "input": {"kind": graph.kind, "shape": list(graph.shape), "is": kinds[graph.kind], **told},
        "output": {"is": gives},
        "size": list(model.size),
        "channels": model.channels,
    }


def _difference(graph: Graph, path: Path) -> float:
    """The largest difference from torch on random inputs of several batch sizes."""
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


def write_weights(model: Model, folder: Path, licence: str | None = None) -> None:
    """Write the safetensors and the card alone into a folder."""
    write_safetensors(model, folder / exported.NAME, licence)
    card = make_card(model, {exported.NAME: "weights and configuration"}, licence)
    (folder / "README.md").write_text(card, encoding="utf-8")


def write_folder(model: Model, folder: Path, licence: str | None = None) -> dict[str, float]:
    """Write a folder for model hubs: safetensors, ONNX, card, a script without torch, golden inputs and outputs.

    Files appear only after all of them are written and verified; other files in the folder are kept. Returns the
    largest differences between ONNX and torch.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        made = Path(place) / "made"
        made.mkdir()
        differences = write_onnx(model, made / "model.onnx")
        write_safetensors(model, made / exported.NAME, licence)
        shutil.copyfile(Path(__file__).with_name("onnx_use.py"), made / "onnx_use.py")
        with _on_cpu(model):
            arrays = _golden(model)
        np.savez(made / "golden.npz", **arrays)  # type: ignore[arg-type]
        files = {
            exported.NAME: "weights and configuration; `faceforge ... .` works here like on a run",
            **{name: f"ONNX, differs from torch by at most {worst:.1g}" for name, worst in differences.items()},
            "onnx_use.py": "uses the ONNX file with onnxruntime, numpy and Pillow only",
            "golden.npz": "inputs, and the outputs of torch for them",
        }
        (made / "README.md").write_text(make_card(model, files, licence), encoding="utf-8")
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
