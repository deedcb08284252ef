"""Principal components inside an autoencoder: what it starts as, shapes, gradients, sizes."""

import pytest
import torch
from torch import nn

from faceforge.metrics.linear import Pca
from faceforge.networks.latent import GaussianCode, LinearCode, ReluCode
from faceforge.networks.principal import FLOOR, Principal, PrincipalDecoder, PrincipalEncoder


def faces(count=40, channels=3, height=16, width=16):
    """Pictures that vary along a few directions far more than along the others."""
    generator = torch.Generator().manual_seed(0)
    ways = torch.randn(8, channels * height * width, generator=generator)
    some = torch.randn(count, 8, generator=generator) @ ways * 0.1
    noise = torch.randn(count, channels * height * width, generator=generator) * 0.02
    return (some + noise + 0.1).unflatten(1, (channels, height, width))


def autoencoder(code=LinearCode, latent_size=5, size=16, channels=3, **changes):
    torch.manual_seed(0)
    encoder = PrincipalEncoder(latent_size, size, channels, width=4, squeezed=3, **changes)
    return nn.Sequential(
        encoder,
        code(encoder.features, latent_size),
        PrincipalDecoder(latent_size, size, channels, width=4, squeezed=3, **changes),
    )


def assigned(network, pca):
    for part in (part for part in network.modules() if isinstance(part, Principal)):
        part.assign(pca.mean.float(), pca.components, pca.deviations.float())
    return network


def blind(network):
    """Names of the parameters in training without a gradient."""
    parameters = network.named_parameters()
    return [n for n, p in parameters if p.requires_grad and (p.grad is None or not p.grad.any())]


@pytest.mark.parametrize("batch", [1, 3])
def test_it_starts_as_principal_components(batch):
    x = faces()
    pca = Pca(x, 5)
    network = assigned(autoencoder(), pca)
    codes = pca.encode(x)
    with torch.no_grad():
        z = network[:2](x[:batch])
        torch.testing.assert_close(z, codes[:batch] / pca.deviations.float(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(network(x[:batch]), pca.decode(codes[:batch]), atol=1e-4, rtol=1e-4)
        assert network[:2](x).std(0).numpy() == pytest.approx([1.0] * 5, abs=1e-3)


def test_codes_along_what_never_varies_stay_small():
    part = Principal(16, 1, 3)
    directions = torch.eye(3, 256)
    part.assign(torch.zeros(256), directions, torch.tensor([2.0, 0.0, 1.0]))
    assert part.deviations.tolist() == pytest.approx([2.0, 2.0 * FLOOR, 1.0])
    part.assign(torch.zeros(256), torch.zeros(3, 256), torch.zeros(3))  # one face, or many of the same
    assert part.codes(torch.ones(2, 1, 16, 16)).tolist() == [[0.0] * 3] * 2
    assert part.assigned


def test_the_components_are_not_trained_and_are_in_the_weights():
    network = autoencoder()
    names = [n for n, p in network.named_parameters() if not p.requires_grad]
    assert {name.rpartition(".")[2] for name in names} == {"mean", "directions", "deviations"}
    assert len(names) == 6
    other = autoencoder()
    other.load_state_dict(assigned(network, Pca(faces(), 5)).state_dict())
    assert torch.equal(other[2].principal.directions, network[0].principal.directions)
    assert other[0].principal.assigned


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "pixel_shuffle"])
@pytest.mark.parametrize("blocks", [0, 1])
@pytest.mark.parametrize("code", [LinearCode, GaussianCode, ReluCode])
def test_every_parameter_learns(code, blocks, upsampling):
    """From the second step: the last layers start at zero, and pass no gradient on before they have moved."""
    torch.manual_seed(0)
    encoder = PrincipalEncoder(6, 32, width=4, squeezed=3, blocks=blocks)
    network = nn.ModuleList(
        [
            encoder,
            code(encoder.features, 6),
            PrincipalDecoder(6, 32, width=4, squeezed=3, blocks=blocks, upsampling=upsampling),
        ]
    )
    x = torch.rand(4, 3, 32, 32) * 2 - 1
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        z = network[1](encoder(x))
        z = z[0] + torch.randn(4, 6) * (z[1] / 2).exp() if isinstance(z, tuple) else z
        optimizer.zero_grad()
        (network[2](z) - x).square().mean().backward()
        optimizer.step()
    # batch norm takes away whatever the bias before it adds
    assert [n for n in blind(network) if n != "1.layers.0.bias"] == []


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "places"),
    [
        (64, (8, 8)),
        (128, (8, 8)),
        (8, (4, 4)),
        (16, (8, 8)),
        ([160, 128], (10, 8)),
        ([48, 32], (12, 8)),
        (72, (18, 18)),
    ],
)
def test_any_size_and_any_code(size, places, channels):
    height, width = (size, size) if isinstance(size, int) else size
    network = autoencoder(latent_size=7, size=size, channels=channels, max_width=8)
    assert network[0].features == 7 + 3 * places[0] * places[1]
    for batch in (1, 2):
        x = torch.rand(batch, channels, height, width)
        assert network[:2](x).shape == (batch, 7)
        assert network(x).shape == x.shape


@pytest.mark.parametrize("patch", [1, 2, 8])
def test_larger_and_smaller_patches_give_the_same_places(patch):
    network = autoencoder(size=[64, 72], max_width=8, patch=patch)
    assert network[0].features == 5 + 3 * 16 * 18
    x = torch.rand(1, 3, 64, 72)
    assert network(x).shape == x.shape


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="patch=3: must be 1, 2, 4 or 8"):
        PrincipalDecoder(5, 16, patch=3)
    with pytest.raises(ValueError, match=r"data.size=\[70,70\]: .* try \[68,68\] or \[72,72\]"):
        PrincipalEncoder(5, 70)


@pytest.mark.parametrize(("features", "latent_size"), [(4, 2), (2, 4)])
def test_a_linear_code_starts_as_the_first_features(features, latent_size):
    code, x = LinearCode(features, latent_size), torch.randn(3, features)
    z = code(x)
    assert torch.equal(z[:, :2], x[:, :2])
    assert z.shape == (3, latent_size)
    assert not z[:, features:].any()
    z.square().mean().backward()
    assert code.linear.weight.grad.any()
