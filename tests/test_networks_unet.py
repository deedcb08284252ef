"""U-Nets and patch discriminators: counts, layers, shapes, gradients, receptive fields, checkerboards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceforge.networks.blocks import NearestConv
from faceforge.networks.patch import ImagePatchDiscriminator, PatchDiscriminator, PublishedPatchDiscriminator
from faceforge.networks.unet import PublishedUNet, UNet


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def blind(network: nn.Module) -> list[str]:
    """Names of the parameters without a gradient."""
    return [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]


# --------------------------------------------------------------------------- the published pair


@pytest.fixture(scope="module")
def published() -> tuple[PublishedUNet, PublishedPatchDiscriminator]:
    """Slow to fill with weights, so made once; small pictures will do, as the weights know no size."""
    torch.manual_seed(0)
    return PublishedUNet([64, 64]), PublishedPatchDiscriminator([64, 64])


def test_the_published_pair_has_the_published_parameters(published):
    assert [count(network) for network in published] == [29_247_491, 6_965_441]


@pytest.mark.parametrize("training", [True, False])
def test_the_published_unet_layer_by_layer(published, training):
    """Against a chain of torch's own functions, written from the published table."""
    torch.manual_seed(0)
    network = copy.deepcopy(published[0]).train(training)
    network.up[0][2].p = 0.0
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1.0, 0.1)
        nn.init.normal_(norm.running_mean, 0.0, 0.1)
    values = iter(dict(network.named_parameters()).values())
    means = iter(
        [(m.running_mean.clone(), m.running_var.clone()) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    )

    def normed(x: Tensor) -> Tensor:
        weight, bias = next(values), next(values)
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        else:
            mean, variance = next(means)
        shape = (1, -1, 1, 1)
        x = (x - mean.view(shape)) / (variance.view(shape) + 1e-3).sqrt()
        return x * weight.view(shape) + bias.view(shape)

    x = torch.rand(2, 3, 64, 64) * 2 - 1
    e = [functional.leaky_relu(functional.conv2d(x, next(values), next(values), 2, 1), 0.2)]
    for _ in range(4):
        e.append(functional.leaky_relu(normed(functional.conv2d(e[-1], next(values), next(values), 2, 1)), 0.2))
    y = functional.conv2d(e[-1], next(values), next(values), 2, 1).relu()
    assert y.shape == (2, 512, 1, 1)
    for skip in reversed(e):
        y = normed(functional.conv_transpose2d(y, next(values), next(values), 2, 1))
        y = torch.cat([y, skip], 1).relu()
    expected = functional.conv_transpose2d(y, next(values), next(values), 2, 1).tanh()
    assert next(values, None) is None
    with torch.no_grad():
        torch.testing.assert_close(network(x), expected, atol=2e-5, rtol=1e-4)


def test_the_published_dropout_is_in_the_deepest_doubling_alone(published):
    network = published[0]
    assert [type(m).__name__ for m in network.up[0]] == ["ConvTranspose2d", "BatchNorm2d", "Dropout"]
    assert sum(isinstance(m, nn.Dropout) for m in network.modules()) == 1
    assert network.up[0][2].p == 0.5


def test_the_published_initialisation(published):
    for network in published:
        for name, value in network.named_parameters():
            if value.dim() == 4:
                assert value.std().item() == pytest.approx(0.02, rel=0.05), name
                assert abs(value.mean().item()) < 1e-3, name
            else:
                assert value.eq(0).all() or value.eq(1).all(), name
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all((m.eps, m.momentum) == (1e-3, pytest.approx(0.01)) for m in norms)


def test_the_published_discriminator_layer_by_layer(published):
    torch.manual_seed(0)
    network = copy.deepcopy(published[1]).eval()
    values = iter(dict(network.named_parameters()).values())
    source, target = torch.rand(2, 2, 3, 32, 48) * 2 - 1
    x = functional.leaky_relu(functional.conv2d(torch.cat([source, target], 1), next(values), next(values), 2, 1), 0.2)
    for stride in (2, 2, 2, 1):
        x = x if stride == 2 else functional.pad(x, (1, 2, 1, 2))
        x = functional.conv2d(x, next(values), next(values), stride, padding=1 if stride == 2 else 0)
        x = x / (1 + 1e-3) ** 0.5 * next(values).view(1, -1, 1, 1) + next(values).view(1, -1, 1, 1)
        x = functional.leaky_relu(x, 0.2)
    expected = functional.conv2d(functional.pad(x, (1, 2, 1, 2)), next(values), next(values))
    assert expected.shape == (2, 1, 2, 3)
    with torch.no_grad():
        torch.testing.assert_close(network(source, target), expected, atol=1e-5, rtol=1e-4)


def test_the_published_shapes_at_their_size():
    with torch.device("meta"):
        network, judge = PublishedUNet(), PublishedPatchDiscriminator()
        seen = []
        network.bottleneck.register_forward_hook(lambda _m, _x, y: seen.append((*y.shape,)))
        x = torch.empty(1, 3, 320, 256)
        assert network(x).shape == (1, 3, 320, 256)
        assert judge(x, x).shape == (1, 1, 20, 16)
    assert seen == [(1, 512, 5, 4)]


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (PublishedUNet, 300, r"data.size=\[300,300\]: .* try \[256,256\] or \[320,320\]"),
        (PublishedUNet, [320, 250], r"\[320,192\] or \[320,256\]"),
        (PublishedPatchDiscriminator, 70, r"\[64,64\] or \[80,80\]"),
        (UNet, 300, r"data.size=\[300,300\]: both sides must be multiples of 16; try \[288,288\] or \[304,304\]"),
        (UNet, 70, r"\[70,70\]: both sides must be multiples of 4; try \[68,68\] or \[72,72\]"),
        (UNet, [63, 64], r"\[62,64\] or \[64,64\]"),
        (PatchDiscriminator, 15, r"3 layers need sides of at least 16; try \[16,16\]"),
    ],
)
def test_illegal_sizes_name_their_neighbours(network, size, message):
    with pytest.raises(ValueError, match=message):
        network(size)


def test_other_impossible_settings():
    with pytest.raises(ValueError, match=r"4 halvings, both sides must be multiples of 16; try \[48,48\] or \[64,64\]"):
        UNet(50, depth=4)
    with pytest.raises(ValueError, match="depth=0"):
        UNet(64, depth=0)
    with pytest.raises(ValueError, match="layers=6: must be 1 to 5"):
        PatchDiscriminator(512, layers=6)
    with pytest.raises(ValueError, match="norm=layer: must be one of none, batch, instance"):
        UNet(16, norm="layer")
    with pytest.raises(ValueError, match="upsampling=bicubic: must be one of nearest, transposed, pixel_shuffle"):
        UNet(16, upsampling="bicubic")


# --------------------------------------------------------------------------- the default pair


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "pixel_shuffle"])
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_every_form_of_the_unet_learns_with_every_parameter(upsampling, norm):
    torch.manual_seed(0)
    network = UNet([32, 24], 3, 1, width=4, max_width=8, upsampling=upsampling, norm=norm, dropout=0.2)
    x = torch.rand(2, 1, 32, 24) * 2 - 1
    y = network(x)
    assert y.shape == (2, 3, 32, 24)
    assert y.abs().max() <= 1
    (y - torch.rand_like(y)).abs().mean().backward()
    assert blind(network) == []


@pytest.mark.parametrize(
    ("size", "bottom"),
    [(64, (4, 4)), (8, (4, 4)), ([160, 128], (5, 4)), ([24, 40], (6, 10)), ([72, 64], (9, 8)), ([208, 144], (13, 9))],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_depth_follows_the_size(size, bottom, batch):
    network = UNet(size, 1, 3, width=2, max_width=4).eval()
    seen = []
    network.down[-1].register_forward_hook(lambda _m, _x, y: seen.append((*y.shape[2:],)))
    height, width = (size, size) if isinstance(size, int) else size
    assert network(torch.zeros(batch, 3, height, width)).shape == (batch, 1, height, width)
    assert seen == [bottom]


@pytest.mark.parametrize("blocks", [0, 2])
def test_without_norm_the_signal_keeps_its_size_at_every_depth(blocks):
    """He et al. 2015: after each layer the mean square is that of the one before, up to the luck of few channels."""
    torch.manual_seed(0)
    network = UNet([160, 128], width=16, max_width=128, norm="none", blocks=blocks)
    sizes = []
    for layer in [*network.down, *network.up]:
        layer.register_forward_hook(lambda _m, _x, y: sizes.append(float(y.square().mean())))
    network(torch.randn(2, 3, 160, 128))
    assert len(sizes) == 10
    assert 0.1 < min(sizes) < max(sizes) < 10, sizes


def test_residual_blocks_follow_the_third_halving_and_later_and_learn():
    torch.manual_seed(0)
    network = UNet([64, 48], 3, 1, width=4, max_width=8, norm="none", blocks=2)
    assert [len(blocks) for blocks in network.refine] == [0, 0, 2]
    network(torch.rand(1, 1, 64, 48)).square().mean().backward()
    assert blind(network) == []


def test_a_named_depth():
    assert len(UNet([48, 80], depth=2, width=2).down) == 2
    assert len(UNet([48, 80], depth=2, width=2).up) == 2


def test_dropout_only_where_asked_and_only_in_training():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 32)
    dry, wet = UNet(32, width=4), UNet(32, width=4, dropout=0.5)
    torch.testing.assert_close(dry(x), dry(x), rtol=0, atol=0)
    assert not torch.equal(wet(x), wet(x))
    wet.eval()
    torch.testing.assert_close(wet(x), wet(x), rtol=0, atol=0)


def test_instance_norm_keeps_pictures_apart():
    torch.manual_seed(0)
    x = torch.rand(3, 3, 32, 32)
    network, judge = UNet(32, width=4, norm="instance"), PatchDiscriminator(32, width=4, norm="instance")
    torch.testing.assert_close(network(x[:1]), network(x)[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(judge(x[:1], x[:1]), judge(x, x)[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_the_fast_nearest_doubling_is_a_nearest_doubling(bias):
    torch.manual_seed(0)
    layer = NearestConv(3, 5, bias)
    for shape in ((4, 7), (1, 1), (2, 3)):
        x = torch.randn(2, 3, *shape, requires_grad=True)
        larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        expected = functional.conv2d(larger, layer.weight, layer.bias, padding=1)
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
        wanted = torch.autograd.grad(expected.square().sum(), [x, layer.weight])
        found = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def inside(pictures: Tensor, border: int) -> Tensor:
    return pictures[..., border:-border, border:-border]


@pytest.mark.parametrize(("upsampling", "even"), [("nearest", True), ("pixel_shuffle", True), ("transposed", False)])
def test_a_flat_picture_stays_flat_inside(upsampling, even):
    """Shallow, so that the inside is out of the borders' reach; pixel shuffle is even while it is fresh."""
    torch.manual_seed(0)
    network = UNet(128, width=4, depth=2, norm="none", upsampling=upsampling).eval()
    spread = inside(network(torch.full((1, 3, 128, 128), 0.3)), 32).std((2, 3)).max()
    assert (spread < 1e-5) == even


def measured_field(judge: nn.Module, side: int) -> tuple[int, int]:
    """Height and width of the pixels that a middle logit depends on, by its gradient."""
    torch.manual_seed(0)
    judge.eval()
    pictures = torch.rand(2, 1, 3, side, side, requires_grad=True)
    logits = judge(pictures[0], pictures[1])
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], pictures)
    touched = gradient.abs().sum((0, 1, 2)) > 0
    rows, columns = touched.any(1).nonzero().flatten(), touched.any(0).nonzero().flatten()
    return int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_the_receptive_field_measured(layers, field):
    judge = PatchDiscriminator(384, layers=layers, width=2, max_width=4, norm="batch")
    assert judge.receptive_field == field
    assert measured_field(judge, 384 if layers == 5 else 256) == (field, field)


def test_the_published_receptive_field_measured(published):
    judge = copy.deepcopy(published[1])
    assert judge.receptive_field == 142
    assert measured_field(judge, 192) == (142, 142)


@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("scales", [1, 2])
def test_the_patch_discriminator_learns_with_every_parameter(norm, spectral_norm, scales):
    torch.manual_seed(0)
    options = {"norm": norm, "spectral_norm": spectral_norm, "scales": scales}
    judge = PatchDiscriminator([32, 16], 3, 1, layers=2, width=4, max_width=8, **options)
    logits = judge(torch.rand(2, 1, 32, 16), torch.rand(2, 3, 32, 16))
    assert logits.shape == (2, scales, 8, 4)
    functional.softplus(logits).mean().backward()
    assert blind(judge) == []


def test_spectral_norm_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    judge = PatchDiscriminator(32, width=4, norm="none", spectral_norm=True)
    source, target = torch.rand(2, 1, 3, 32, 32)
    for _ in range(100):  # the value is approached by a power iteration a step
        judge(source, target)
    kernels = [m.weight.flatten(1) for m in judge.modules() if isinstance(m, nn.Conv2d)]
    assert len(kernels) == 5
    for kernel in kernels:
        assert float(torch.linalg.svdvals(kernel)[0]) == pytest.approx(1, abs=1e-3)


def test_a_second_scale_sees_halves_and_weighs_the_same():
    torch.manual_seed(0)
    judge = PatchDiscriminator([36, 20], width=4, layers=2, norm="none", scales=2)
    source, target = torch.rand(2, 1, 3, 36, 20)
    logits, maps = judge(source, target, with_maps=True)
    torch.testing.assert_close(judge(source, target), logits)
    pair = torch.cat([source, target], 1)
    halves = functional.avg_pool2d(pair, 2)
    fine, coarse = judge.layers(pair), judge.coarser[0](halves)
    assert (fine.shape, coarse.shape) == ((1, 1, 9, 5), (1, 1, 4, 2))
    torch.testing.assert_close(logits[:, :1], fine)
    assert set(logits[:, 1].flatten().tolist()) == set(coarse.flatten().tolist())
    assert [(*m.shape[1:],) for m in maps] == [
        (4, 18, 10), (8, 9, 5), (16, 10, 6), (4, 9, 5), (8, 4, 2), (16, 5, 3)
    ]  # fmt: skip
    torch.testing.assert_close(maps[0], judge.layers[1](judge.layers[0](pair)))
    torch.testing.assert_close(maps[3], judge.coarser[0][1](judge.coarser[0][0](halves)))
    with pytest.raises(ValueError, match="2 layers at 3 scales need sides of at least 32"):
        PatchDiscriminator([36, 20], layers=2, scales=3)


def test_logits_stand_for_places():
    """One logit for each eighth of a side, odd sizes too; no sigmoid inside."""
    torch.manual_seed(0)
    judge = PatchDiscriminator([50, 35], width=4).eval()
    assert judge(torch.rand(1, 3, 50, 35), torch.rand(1, 3, 50, 35)).shape == (1, 1, 6, 4)
    with torch.no_grad():
        judge.layers[-1].bias.fill_(5.0)
    assert judge(torch.rand(1, 3, 50, 35), torch.rand(1, 3, 50, 35)).mean() > 3


def test_a_smaller_source_is_enlarged():
    torch.manual_seed(0)
    judge = PatchDiscriminator(32, width=4).eval()
    source, target = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32)
    larger = functional.interpolate(source, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(judge(source, target), judge(larger, target))


def test_the_published_pair_learns_with_every_parameter(published):
    torch.manual_seed(0)
    network, judge = copy.deepcopy(published)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    functional.softplus(judge(x, network(x))).mean().backward()
    # batch norm takes away whatever the bias before it adds
    normed = {n.replace("1.weight", "0.bias") for n, p in network.named_parameters() if n.endswith("1.weight")}
    assert set(blind(network)) <= normed
    assert [n for n in blind(judge) if not n.endswith("bias")] == []


@pytest.mark.parametrize(("size", "channels", "places"), [(64, 3, (8, 8)), ([16, 24], 1, (2, 3)), (18, 3, (2, 2))])
def test_the_discriminator_of_images_judges_each_place_of_each_image_alone(size, channels, places):
    torch.manual_seed(0)
    network = ImagePatchDiscriminator(size, channels, width=4)
    height, width = (size, size) if isinstance(size, int) else size
    x = torch.randn(2, channels, height, width)
    logits = network(x)
    assert logits.shape == (2, 1, *places)
    assert torch.allclose(network(x[:1]), logits[:1], atol=1e-6)
    logits.square().mean().backward()
    assert blind(network) == []


def test_a_discriminator_of_images_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match=r"data.size=\[17,17\]: .* \[16,16\] or \[18,18\]"):
        ImagePatchDiscriminator(17)
    with pytest.raises(ValueError, match="layers=0: must be 1 to 5"):
        ImagePatchDiscriminator(16, layers=0)
