"""The figures of docs/models.md: the stages of each model's networks, as its yaml builds them.

python -m benchmarks.networks
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import torch
from torch import nn

from benchmarks.command import ROOT
from faceforge import config
from faceforge.report.diagram import describe, group, sheets

FOLDER = ROOT / "docs" / "pictures" / "networks"
MODELS: dict[str, dict[str, str]] = {  # the networks of a model: the key of each, and what it is given
    "mlp_autoencoder": {"network": "input"},
    "conv_superres": {"network": "input"},
    "latent_editor": {"encoder": "face", "decoder": "code"},
    "dcgan_conventional": {"generator": "z", "discriminator": "face"},
    "dcgan_cnn": {"generator": "z", "discriminator": "face"},
    "pix2pix": {"generator": "input", "discriminator": "pair"},
}
WIDTH, HEIGHT, TOP = 96, 142, 24  # pixels of a stage, of a network, of its title


@dataclass(frozen=True)
class Stage:
    """Layers in a row whose outputs have one shape."""

    shape: tuple[int, ...]
    layers: int
    parameters: int


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        (FOLDER / f"{model}.svg").write_text(drawing(model), encoding="utf-8")


def drawing(model: str) -> str:
    """The SVG of a model, a row for each network."""
    rows = [(name, network, stages(network, inputs)) for name, network, inputs in networks(model)]
    wide = WIDTH * max(len(found) for _, _, found in rows)
    size = f'viewBox="0 0 {wide} {len(rows) * HEIGHT}" width="{wide}" height="{len(rows) * HEIGHT}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif">']
    for n, (name, network, found) in enumerate(rows):
        count = sum(p.numel() for p in network.parameters())
        lines.append(text(2, n * HEIGHT + 15, f"{name}: {type(network).__name__}, {count:,} parameters", 13, "start"))
        for m, stage in enumerate(found):
            lines += drawn(stage, m * WIDTH, n * HEIGHT + TOP)
    return "\n".join([*lines, "</svg>", ""])


def networks(model: str) -> Iterator[tuple[str, nn.Module, Sequence[torch.Tensor]]]:
    """Each network of a model with an example of its input, of batch 1."""
    chosen = config.compose([f"model={model}"])
    data = config.build(chosen["data"])
    height, width = data.height, data.width
    channels, node = chosen["data"]["channels"], chosen["model"]
    factor, seen = chosen["input"]["factor"], chosen["input"]["channels"]
    given = torch.zeros(1, seen, height // factor, width // factor)
    face = torch.zeros(1, channels, height, width)
    for name, what in MODELS[model].items():
        network = config.build(node[name])
        codes = [torch.zeros(1, *getattr(network, "latent_shape", (node.get("code", {}).get("latent_size", 0),)))]
        examples = {"input": [given], "face": [face], "pair": [given, face], "z": codes, "code": codes}
        yield name, network.eval(), examples[what]


def stages(network: nn.Module, inputs: Sequence[torch.Tensor]) -> list[Stage]:
    """What the network makes of its input, stage by stage; the first is the input."""
    found = [Stage(tuple(inputs[0].shape[1:]), 0, 0)]
    for block in group(describe(network, *inputs)["layers"]):
        shape, weighted = tuple(block["shape"] or ()), int(block["parameters"] > 0)
        if shape == found[-1].shape:
            last = found.pop()
            found.append(Stage(shape, last.layers + weighted, last.parameters + block["parameters"]))
        elif shape:
            found.append(Stage(shape, weighted, block["parameters"]))
    return found


def drawn(stage: Stage, left: float, top: float) -> Iterator[str]:
    """Sheets, the shape, and what the stage is made of."""
    for x, y, width, height in sheets(stage.shape):
        place = f'x="{left + 16 + x:g}" y="{top + y:g}" width="{width}" height="{height}"'
        yield f'<rect {place} fill="#9cc3ee" stroke="#2f6db5"/>'
    yield text(left + WIDTH / 2, top + 82, "x".join(map(str, stage.shape)), 11)
    told = f"{stage.layers} layer{'s' * (stage.layers != 1)}" if stage.layers else ""
    yield text(left + WIDTH / 2, top + 96, told, 10)
    yield text(left + WIDTH / 2, top + 109, f"{stage.parameters:,}" if stage.layers else "", 10)


def text(x: float, y: float, words: str, size: int, anchor: str = "middle") -> str:
    """Letters in a grey that can be read on white and on black."""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="#7a8088">{escape(words)}</text>'


if __name__ == "__main__":
    main()
