"""A code with places: what it starts as, where its numbers act, sizes, and a run that edits with it."""

import pytest
import torch
from conftest import TINY
from torch import nn
from torch.nn import functional

from faceforge import config
from faceforge.engine import training
from faceforge.networks.latent import LinearCode
from faceforge.networks.spatial import SpatialDecoder, SpatialEncoder
from faceforge.schemes.latent_space import LatentSpace
from faceforge.studio.model import open_model


def networks(latent_size=64, size=16, channels=3, square=4, **changes):
    torch.manual_seed(0)
    small = {"width": 4, "max_width": 8, "square": square, **changes}
    encoder = SpatialEncoder(latent_size, size, channels, **small)
    return encoder, LinearCode(encoder.features, latent_size), SpatialDecoder(latent_size, size, channels, **small)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "square", "places"), [(16, 4, 16), (64, 32, 4), ([24, 40], 8, 15), (16, 16, 1)])
def test_every_legal_size(size, square, places, channels):
    height, width = (size, size) if isinstance(size, int) else size
    encoder, code, decoder = networks(5 * places, size, channels, square)
    for batch in (1, 3):
        images = torch.rand(batch, channels, height, width) * 2 - 1
        z = code(encoder(images))
        assert z.shape == (batch, 5 * places)
        assert decoder(z).shape == images.shape


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latent_size": 65}, "latent_size=65: must be a multiple of 16, at least 3 for each of the 4x4 places"),
        ({"latent_size": 32}, "latent_size=32: must be a multiple of 16, at least 3"),
        ({"size": 18}, "both sides must be multiples of square=4"),
        ({"square": 5}, "square=5: must be 4, 8, 16 or 32"),
    ],
)
def test_what_cannot_be_is_refused(changes, reason):
    with pytest.raises(ValueError, match=reason):
        networks(**changes)


def test_it_starts_as_the_mean_colours_upscaled():
    encoder, code, decoder = networks()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    nn.init.zeros_(encoder.layers[-1].weight)
    means = images.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    z = code(encoder(images))
    torch.testing.assert_close(z.unflatten(1, (4, 4, 4))[:, :3], means)
    right = functional.interpolate(means, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoder(z), right)


def test_a_number_acts_around_its_place():
    """At 64x64 the place in a corner changes nothing in the opposite one."""
    _, _, decoder = networks(64 * 4, 64, square=8, blocks=1)
    for layer in decoder.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.1)
    z = torch.randn(1, 256)
    other = z.clone().unflatten(1, (4, 8, 8))
    other[0, :, 0, 0] += 1
    changed = (decoder(z) - decoder(other.flatten(1))).abs().amax((0, 1))
    assert changed[:8, :8].min() > 0
    assert changed[48:, 48:].max() == 0


def test_every_weight_learns():
    encoder, code, decoder = networks()
    network = nn.Sequential(encoder, code, decoder)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    images = torch.rand(4, 3, 16, 16)
    for _ in range(2):
        optimizer.zero_grad()
        (network(images) - images.flip(3)).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_a_run_with_places_samples_and_edits(tmp_path, monkeypatch):
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    words = ["model=latent_editor", *(word for word in TINY if not word.startswith("model.")), f"run_dir={run}"]
    words += ["model/encoder=spatial", "model/decoder=spatial", "model.code.latent_size=12", "data.size=16"]
    words += ["model.encoder.width=4", "model.decoder.width=4", "trainer.max_images=16"]
    assert training.train(config.compose(words), words) == 0
    space = LatentSpace.load(run / "latent.safetensors")
    assert space.mean.shape == (12,)
    model = open_model(run)
    z = model.codes(2)
    name = space.names[0]
    assert model.decode(space.edit(z, {name: 1.0})).shape == (2, 3, 16, 16)
