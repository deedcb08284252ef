"""Bytes of the published networks in training: whether any needs to be spread over several GPUs.

    python -m benchmarks.models.memory

For every published setting: weights, their gradients, the optimiser's state, the averaged copy, and the activations
that one pass of a batch keeps for the backward pass; for two of them with gradient checkpointing as well. Counted on
the meta device, where tensors have shapes but no numbers. Writes docs/results/records/memory.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import typer
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks import command, records
from faceforge import config
from faceforge.config.composing import conf_dir
from faceforge.schemes.base import Scheme
from faceforge.types import Json

GB = 2**30
GPU = 8 * GB  # of a small one
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def published() -> list[str]:
    """The names of the published settings."""
    return sorted(path.stem for path in (conf_dir() / "experiment" / "published").glob("*.yaml"))


def size(tensors: Iterable[Tensor]) -> int:
    """Bytes of distinct storages."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


def kept(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Bytes that a pass of a batch keeps for the backward pass, besides weights and buffers."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        made = network(*inputs)
    own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    outputs = made if isinstance(made, tuple) else (made,)
    return size(t for t in (*saved, *outputs) if t.untyped_storage()._cdata not in own)


def inputs_of(module: Scheme, chosen: Json) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The networks of a module by name, each with a batch of inputs on the meta device."""
    data, given = chosen["data"], chosen["input"]
    height, width = data["size"] if isinstance(data["size"], list) else [data["size"]] * 2
    batch, factor = data["batch_size"], given["factor"]
    faces = torch.empty(batch, data["channels"], height, width, device="meta")
    made = torch.empty(batch, given["channels"], height // factor, width // factor, device="meta")
    parts: dict[str, nn.Module] = dict(module.named_children())
    if "generator" not in parts:
        network = parts["network"]
        if not isinstance(network, nn.ModuleDict):
            return {"network": (network, (made,))}
        features = torch.empty(batch, network["encoder"].features, device="meta")  # type: ignore[arg-type]
        z = torch.empty(batch, network["code"].latent_size, device="meta")  # type: ignore[arg-type]
        inputs = {"encoder": (made,), "code": (features,), "decoder": (z,)}
        return {name: (network[name], given) for name, given in inputs.items()}
    generator, judge = parts["generator"], parts["discriminator"]
    if hasattr(generator, "latent_shape"):
        z = torch.empty(batch, *generator.latent_shape, device="meta")  # type: ignore[misc]
        return {"generator": (generator, (z,)), "discriminator": (judge, (faces,))}
    return {"generator": (generator, (made,)), "discriminator": (judge, (made, faces))}


def bytes_of(name: str, *overrides: str) -> dict[str, Any]:
    """The bytes of one published setting in training, in single precision."""
    chosen = config.compose([f"experiment=published/{name}", *overrides])
    with torch.device("meta"):
        module: Scheme = config.build(chosen["model"], (), "model")
    module.to("meta")
    made = module.configure_optimizers()
    optimizers: list[torch.optim.Optimizer] = made if isinstance(made, list) else [made]  # type: ignore[assignment]
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["fused"] = False  # whose kernels no meta device has
        optimizer.step()
    networks = inputs_of(module, chosen)
    trained = [weight for network, _ in networks.values() for weight in network.parameters()]
    states = [state.values() for optimizer in optimizers for state in optimizer.state.values()]
    found = {
        "parameters": sum(weight.numel() for weight in trained),
        "weights": size(trained),
        "gradients": size(trained),
        "optimiser": size(value for values in states for value in values if isinstance(value, Tensor)),
        "average": size(module.average.parameters()),
        "activations": sum(kept(*network) for network in networks.values()),
    }
    parts = ("weights", "gradients", "optimiser", "average", "activations")
    return {"batch": chosen["data"]["batch_size"], **found, "all": sum(found[part] for part in parts)}


@app.command()
def main() -> None:
    """Count all published settings, print them, write the record."""
    found = {name: bytes_of(name) for name in published()}
    for name in ("pix2pix", "gan_cnn"):
        words = "model.generator.gradient_checkpointing=true"
        found[name]["activations_checkpointed"] = bytes_of(name, words)["activations"]
    for name, one in found.items():
        print(f"{name:24} " + "  ".join(f"{part} {value:,}" for part, value in one.items()))
    most = max(found, key=lambda name: found[name]["all"])
    print(f"largest {most} {found[most]['all'] / GB:.2f} GiB, {found[most]['all'] / GPU:.2f} of a GPU of 8 GiB")
    records.keep("memory", {"settings": found, "largest": most, "share_of_8_gib": found[most]["all"] / GPU})


if __name__ == "__main__":
    command.run(app)
