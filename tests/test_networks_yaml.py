"""The yaml files of the networks: every parameter is named, and what they build can be built."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

CONF = Path(__file__).parents[1] / "conf/model"
GROUPS = ("network", "encoder", "decoder", "code", "generator", "discriminator")
FILES = sorted(path for group in GROUPS for path in CONF.glob(f"{group}/*.yaml"))
OUTSIDE = {"data": {"size": 64, "channels": 3}, "input": {"factor": 2, "channels": 3, "base": "bicubic"}}


LATER = {"spectral_norm": {"discriminator/patch"}}  # the yaml turned on what runs that do not name it have not


def read(path: Path) -> tuple[type, dict]:
    """The class that a yaml names, and its arguments with what stands outside filled in."""
    whole = OmegaConf.create(
        {**OUTSIDE, "model": {"code": {"latent_size": 192}, "encoder": {"square": 8}}, "this": OmegaConf.load(path)}
    )
    settings = OmegaConf.to_container(whole.this, resolve=True)
    kind = named(settings.pop("_target_"))
    inner = {k: v for k, v in settings.items() if isinstance(v, dict) and "_target_" in v}
    return kind, {**settings, **{k: named(v.pop("_target_"))(**v) for k, v in inner.items()}}


def named(target: str) -> type:
    """The class of a dotted name."""
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_there_are_yamls_of_every_kind():
    assert {path.parent.name for path in FILES} == set(GROUPS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_parameter_is_named_and_the_network_is_built(path):
    kind, settings = read(path)
    wanted = inspect.signature(kind).parameters
    assert all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in wanted.values())
    given = {"features": 32} if settings.pop("_partial_", False) else {}
    assert set(settings) | set(given) == set(wanted)
    with torch.device("meta"):
        network = kind(**settings, **given)
    assert sum(p.numel() for p in network.parameters()) > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_defaults_of_yaml_and_constructor_agree(path):
    kind, settings = read(path)
    written = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    for name, parameter in inspect.signature(kind).parameters.items():
        fixed = name in written and "${" not in str(written[name])
        if fixed and parameter.default is not inspect.Parameter.empty and not path.stem.startswith("published"):
            later = f"{path.parent.name}/{path.stem}" in LATER.get(name, set())
            assert later or settings[name] == parameter.default, name
