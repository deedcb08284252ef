"""The network, the points and the cut of faces against dlib; similarity of faces, its scores and its loss."""

import json
import struct
from dataclasses import replace
from importlib import metadata

import _dlib_pybind11 as dlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_evaluate import ASKED
from test_every_pair import FACES, SMALL
from torch import nn

from faceforge import config, losses
from faceforge.data.sources.drawn import Drawn
from faceforge.engine import training
from faceforge.errors import BadInput
from faceforge.evaluation import command
from faceforge.io import dlib_models
from faceforge.metrics import dlib_face, face_chips, identity
from faceforge.metrics.dlib_face import DlibFace
from faceforge.metrics.face_chips import FaceChips, applied, fitted, resized, sampled
from faceforge.metrics.identity import Similarity, between_people, same_person, similarity
from faceforge.metrics.image_scores import ImageScores

CPU = torch.device("cpu")
ON = "@dlib-55533b28-aligned150"


@pytest.fixture(scope="module")
def files():
    return dlib_models.find("tests")


@pytest.fixture(scope="module")
def faces():
    return DlibFace()


@pytest.fixture(scope="module")
def alike():
    return Similarity()


def drawn(count, size, first=0):
    """Drawn faces (N, 3, H, W) as bytes."""
    source = Drawn(count=first + count)
    pixels = np.stack([source.read(n, size) for n in range(first, first + count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def signed(images):
    return images.float() / 127.5 - 1


def random(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------- dlib's own files


def whole(value):
    """An integer as dlib's serialize.h packs it, by its text: control byte, then bytes, least significant first."""
    data = b""
    rest = abs(value)
    while rest:
        data, rest = data + bytes([rest % 256]), rest // 256
    data = data or b"\0"
    return bytes([len(data) | (128 if value < 0 else 0)]) + data


def number(value):
    """A float as dlib's float_details has it: 24 bits of mantissa, and an exponent of two."""
    mantissa, exponent = np.frexp(np.float32(value))
    return whole(int(mantissa * 2**24)) + whole(int(exponent) - 24)


def column(values):
    return whole(-len(values)) + whole(-1) + b"".join(map(number, values))


def listed(items):
    return whole(len(items)) + b"".join(items)


def text(word):
    return whole(len(word)) + word


def tensor(values):
    values = np.asarray(values, "<f4")
    return whole(2) + b"".join(map(whole, values.shape)) + values.tobytes()


def alias(*shape):
    return whole(1) + b"".join(map(whole, shape))


def predictor(rng, stages=2, trees=3, splits=3, pixels=5):
    mean = rng.normal(size=4)
    nodes = rng.integers(0, pixels, (stages, trees, splits, 2))
    limits, leaves = rng.normal(size=(stages, trees, splits)), rng.normal(size=(stages, trees, splits + 1, 4))
    anchors, deltas = rng.integers(0, 2, (stages, pixels)), rng.normal(size=(stages, pixels, 2))

    def tree(k, t):
        limit = limits[k, t]
        split = [whole(int(a)) + whole(int(b)) + number(at) for (a, b), at in zip(nodes[k, t], limit, strict=True)]
        return listed(split) + listed([column(leaf) for leaf in leaves[k, t]])

    data = whole(1) + column(mean) + listed([listed([tree(k, t) for t in range(trees)]) for k in range(stages)])
    data += listed([listed([whole(int(n)) for n in row]) for row in anchors])
    data += listed([listed([number(x) + number(y) for x, y in row]) for row in deltas])
    return data, (mean.reshape(2, 2), anchors, deltas, *np.moveaxis(nodes, 3, 0), limits, leaves.reshape(2, 3, 4, 2, 2))


def test_trees_are_read_as_they_were_written():
    data, expected = predictor(np.random.default_rng(0))
    for found, right in zip(vars(dlib_models.forests(data)).values(), expected, strict=True):
        np.testing.assert_array_equal(found, right.astype(found.dtype))


def test_other_trees_are_refused():
    data, _ = predictor(np.random.default_rng(0))
    for wrong in (data[:-1], b"\x01\x02" + data[2:]):
        with pytest.raises(ValueError, match=r"cut short|version: found 2, must be 1"):
            dlib_models.forests(wrong)


def layers(kinds):
    parts = {
        b"con_4": tensor(np.arange(1 * 2 * 3 * 3 + 1).reshape(1, 1, 1, -1))
        + b"".join(map(whole, (1, 3, 3, 1, 1, 1, 1)))
        + alias(1, 2, 3, 3)
        + alias(1, 1, 1, 1),
        b"affine_": tensor([[[[5.0]]], [[[7.0]]]]) + alias(1, 1, 1, 1) + alias(1, 1, 1, 1),
        b"fc_2": whole(2) + whole(1) + tensor([[[[-1.0, 300.0]]]]),
    }
    return b"\x01\x01".join(text(kind) + parts[kind] for kind in kinds)


def test_layers_are_read_as_they_were_written():
    (layer,), last = dlib_models.network(layers([b"con_4", b"affine_", b"fc_2"]))
    assert layer.weight.tolist() == np.arange(18.0).reshape(1, 2, 3, 3).tolist()
    assert (layer.bias.tolist(), layer.gain.tolist(), layer.shift.tolist()) == ([18.0], [5.0], [7.0])
    assert last.tolist() == [[-1.0, 300.0]]
    with pytest.raises(ValueError, match="must be pairs of con_4 and affine_, then fc_2"):
        dlib_models.network(layers([b"con_4", b"con_4", b"fc_2"]))


def test_integers_of_every_length():
    values = [0, 1, 15, 16, 128, 255, 256, -1, -300, 2**24 - 1, -(2**40) - 3, 2**62]
    assert dlib_models._integers(b"".join(map(whole, values))).tolist() == values
    assert struct.unpack("<H", whole(-300)[1:]) == (300,)


def test_files_that_are_missing_or_changed_are_one_line(files, tmp_path, monkeypatch):
    other = tmp_path / dlib_models.NETWORK
    other.write_bytes(b"other weights")
    monkeypatch.setattr(dlib_models, "find", lambda where: {dlib_models.NETWORK: other})
    with pytest.raises(BadInput, match=r"^dlib's face networks: .*does not have the known SHA-256; pip install"):
        dlib_models.read(dlib_models.NETWORK)


# --------------------------------------------------------------------------------------------------- against dlib


def pictures():
    """Faces of 150x150 as bytes: noise, one grey, drawn ones, and one turned upside down."""
    noise = (255 * random((2, 3, 150, 150))).byte()
    painted = drawn(4, (150, 150))
    return torch.cat([noise, torch.full((1, 3, 150, 150), 128, dtype=torch.uint8), painted, painted[:1].flip(2)])


def array(picture):
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


def test_the_network_is_dlibs(files):
    reference = dlib.face_recognition_model_v1(str(files[dlib_models.NETWORK]))
    network = dlib_face.pretrained()
    expected = np.array([reference.compute_face_descriptor(array(picture)) for picture in pictures()])
    with torch.no_grad():
        found = network(pictures().float()).numpy()
        alone = network(pictures()[3:4].float()).numpy()
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(alone, expected[3:4], atol=1e-5)
    double = dlib_face.pretrained().double()(pictures()[:2].double()).detach().numpy()
    np.testing.assert_allclose(double, expected[:2], atol=1e-5)


BOXES = [(20, 35, 110), (0, 0, 90), (40, 30, 140)]  # left, top, side; the last reaches out of the picture


@pytest.mark.parametrize(("left", "top", "side"), BOXES)
def test_the_points_are_dlibs_but_for_its_rounding(files, left, top, side):
    reference = dlib.shape_predictor(str(files[dlib_models.POINTS]))
    grey = drawn(5, (151, 163)).float().mean(1).round()
    box = dlib.rectangle(left, top, left + side, top + side)
    expected = [[(p.x, p.y) for p in reference(array(g[None])[..., 0].astype(np.uint8), box).parts()] for g in grey]
    points = FaceChips().points
    found = points(grey, torch.tensor([[side, 0.0, left, top]]).expand(5, 4))
    off = (found - torch.tensor(expected)).abs()
    assert float((off <= 0.505).float().mean()) >= 0.85  # a pixel between two others may be the other one in float32
    assert float(off.max()) < 1
    torch.testing.assert_close(points(grey[:1], torch.tensor([[side, 0.0, left, top]])), found[:1], atol=1e-3, rtol=0)


def test_faces_are_cut_as_dlib_cuts_them(files):
    """Within its rounding down to whole numbers, at points that fill about the whole cut."""
    predictor = dlib.shape_predictor(str(files[dlib_models.POINTS]))
    align = FaceChips()
    for picture in drawn(4, (160, 150)):
        points = predictor(array(picture), dlib.rectangle(15, 40, 135, 160))
        expected = dlib.get_face_chip(array(picture), points, size=150, padding=0.25).astype(float)
        places = fitted(align.goal, torch.tensor([[(p.x, p.y) for p in points.parts()]]).float())
        found = align._cut(picture[None].float(), places)[0].permute(1, 2, 0).numpy()
        inside = (slice(30, 120), slice(30, 120))
        assert 0.3 < (found - expected)[inside].mean() < 0.7
        assert np.abs(found - expected - 0.5)[inside].mean() < 1.5


# ------------------------------------------------------------------------------------------------------- alignment


def test_similarities_against_least_squares():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(3, 5, 2))
    found = fitted(torch.from_numpy(source), torch.from_numpy(target))
    across, down = np.moveaxis(source, 1, 0)
    ones, none = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([across, -down, ones, none], 1), np.stack([down, across, none, ones], 1)])
    for n, goal in enumerate(target):
        expected = np.linalg.lstsq(system, goal.T.ravel(), rcond=None)[0]
        assert found[n].tolist() == pytest.approx(expected.tolist())
        moved = applied(found[n : n + 1], torch.from_numpy(source)[None])[0].numpy()
        np.testing.assert_allclose(moved.T.ravel(), system @ expected)


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 3, 17, 13), (40, 31)), ((2, 1, 64, 48), (33, 30)), ((1, 1, 1, 5), (3, 5))]
)
def test_resizing_against_torch(shape, size):
    images = random(shape).double()
    expected = F.interpolate(images, size=size, mode="bicubic", antialias=True)
    torch.testing.assert_close(resized(images, *size), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(2, 3, 9, 7), (1, 1, 1, 4), (1, 2, 5, 1)])
def test_sampling_and_its_gradient_against_grid_sample(shape):
    images = random(shape).double().requires_grad_()
    height, width = shape[2:]
    places = random((shape[0], 60, 2), seed=1).double() * torch.tensor([width + 3, height + 3]) - 2
    found = sampled(images, places)
    scale = torch.tensor([max(1, width - 1), max(1, height - 1)])
    grid = (2 * places / scale - 1)[:, None]
    expected = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]
    torch.testing.assert_close(found, expected)
    weight = random(found.shape, seed=2).double()
    gradients = [torch.autograd.grad((weight * values).sum(), images)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_where_no_face_is_the_middle_is_cut(faces):
    """Noise has no points; a mixed batch is cut face by face."""
    noise, face = 255 * random((1, 3, 64, 64)), drawn(1, (64, 64), first=3).float()
    chips, found = faces.align([torch.cat([noise, face])])
    assert found.tolist() == [False, True]
    (alone,), _ = faces.align([noise])
    torch.testing.assert_close(chips[0][:1], alone, atol=1e-2, rtol=0)
    side = round(64 * faces.align.box / (face_chips.BOX[2] * 64))
    large = resized(noise, side, side)
    expected = fitted(faces.align.goal, applied(faces.align.middle(large), faces.align.points.mean[None]))
    torch.testing.assert_close(faces.align.places(large)[0], expected)


def test_a_face_that_moved_turned_and_grew_is_described_alike(faces):
    """A drawn face of 96 pixels, moved by 5, turned by 12 degrees and enlarged by a fifth, against other faces."""
    first = drawn(6, (96, 96), first=8).float()
    turn = torch.deg2rad(torch.tensor(12.0))
    p, q = turn.cos() / 1.2, turn.sin() / 1.2
    grid = torch.stack(torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="xy"), -1).flatten(0, 1)[None]
    centre = torch.stack([p, q, 50 - 48 * p + 48 * q, 53 - 48 * q - 48 * p])[None].expand(6, 4)
    moved = sampled(first, applied(centre, grid)).unflatten(2, (96, 96))
    own, other = (faces(signed(images)) for images in (first, moved))
    near = similarity(own, other)
    far = torch.stack([similarity(own, other.roll(shift, 0)) for shift in range(1, 6)]).amax(0)
    assert faces.align([moved])[1].all()
    assert float(near.mean()) > 0.75
    assert (near > far).float().mean() >= 5 / 6


# ------------------------------------------------------------------------------------------------ as an extractor


def test_an_extractor(faces):
    images = signed(drawn(5, (50, 47)))
    found = faces.train()(images)
    assert not any(module.training for module in faces.modules())
    assert (found.shape, found.dtype) == ((5, faces.width), torch.float32)
    assert faces.name == "dlib"
    assert {"extractor", "weights_sha256", "resize", "input", "alignment"} <= set(faces.protocol)
    parts = torch.cat([faces(part) for part in images.split(2)])
    torch.testing.assert_close(parts, found, atol=1e-4, rtol=0)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(faces(grey), faces(grey.expand(-1, 3, -1, -1)), atol=1e-4, rtol=0)
    assert not any(weight.requires_grad for weight in faces.parameters())
    assert faces.state_dict().keys() == dict(faces.network.named_parameters(prefix="network")).keys()


# ------------------------------------------------------------------------------------------------------ similarity


def test_similarity_by_hand():
    a, b = torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([[4.0, 0.0], [1.0, 0.0]])
    assert similarity(a, b).tolist() == [-4.0, 1.0]
    assert same_person(torch.tensor([identity.THRESHOLD + 0.01, identity.THRESHOLD - 0.01])).tolist() == [True, False]


def test_similarity_falls_as_a_face_is_lost(alike):
    """Five grades of blur, of noise, and of mixing with another face; the same face is exactly itself."""
    faces = signed(drawn(6, (64, 64), first=16))
    others, noise = faces.roll(4, 0), 2 * random(faces.shape) - 1
    blurred = [F.avg_pool2d(faces, side, 1, side // 2, count_include_pad=False) for side in (1, 5, 9, 15, 23)]
    mixed = [faces + share * (others - faces) for share in (0, 0.25, 0.5, 0.75, 1)]
    noisy = [faces + share * (noise - faces) for share in (0, 0.1, 0.25, 0.5, 0.9)]
    for grades in (blurred, mixed, noisy):
        means = [float(alike(faces, images).mean()) for images in grades]
        assert means[0] == 1.0
        assert means == sorted(means, reverse=True)
        assert len(set(means)) == 5


def test_between_people_by_hand():
    """a: 0 and 3, b: 1, c: 10 and 10.25 on a line; the face of nobody known is left out."""
    numbers = torch.tensor([[0.0], [10.0], [99.0], [3.0], [1.0], [10.25]])
    found = between_people(numbers, ["a", "c", None, "a", "b", "c"])
    assert found["another_picture"] == {"identity": pytest.approx(1 - (3 + 0.25) / 2), "same_person": 0.5, "pairs": 2}
    strangers = [1, 10, 10.25, 2, 7, 7.25, 9, 9.25]
    assert found["stranger"] == {"identity": pytest.approx(1 - np.mean(strangers)), "same_person": 0.0, "pairs": 8}
    words = "Identity among these faces: another picture of the same person has -0.625, a stranger has -5.969; 0.0% of"
    assert identity.in_words(found) == [f"{words} strangers pass as the same person."]
    assert between_people(numbers, [None] * 6) == {}
    assert identity.in_words({}) == []
    assert set(between_people(numbers[:2], [1, 2])) == {"stranger"}
    assert between_people(numbers[:1], ["a"]) == {}


# ------------------------------------------------------------------------------------------------ scores of images


def test_scores_of_images_are_the_similarity(alike):
    right, made = signed(drawn(5, (40, 36))), signed(drawn(5, (40, 36), first=9))
    scores = ImageScores(3, 40, 36, CPU)
    rows = {"model": made, "copy": right}
    chunks = [scores({name: of[part] for name, of in rows.items()}, right[part]) for part in (slice(2), slice(2, 5))]
    for name, images in rows.items():
        found = {metric: torch.cat([chunk[name][metric + ON] for chunk in chunks]) for metric in identity.HOW}
        torch.testing.assert_close(found["identity"], alike(right, images).double(), atol=1e-4, rtol=0)
        assert found["same_person"].tolist() == (found["identity"] > identity.THRESHOLD).double().tolist()
    assert scores.between_people([1, 1, 2, 2, 3]).keys() == {"another_picture", "stranger"}
    protocol = scores.protocol("identity" + ON)
    assert protocol["not_aligned"] in range(6)
    assert protocol["weights_sha256"] == dlib_models.SHA256[dlib_models.NETWORK]


def missing(name):
    raise metadata.PackageNotFoundError(name)


def forget(monkeypatch):
    """The packages are not installed, and nothing is remembered of them."""
    monkeypatch.setattr(metadata, "files", missing)
    for cached in (dlib_face._pretrained, face_chips._forests):
        cached.cache_clear()


def test_what_cannot_be_recognised_is_left_out_with_a_reason(monkeypatch):
    small = ImageScores(3, identity.LEAST_SIDE - 1, 90, CPU)
    assert small.reasons["identity"] == f"needs {identity.LEAST_SIDE} pixels a side, the targets have 31"
    forget(monkeypatch)
    scores = ImageScores(3, 64, 64, CPU)
    assert set(scores.reasons) == {"identity", "same_person"}
    assert scores.reasons["identity"] == "dlib's face networks: not installed; " + (
        "in faceforge's checkout: pip install -e '.[people]'"
    )
    assert set(scores({"model": torch.zeros(1, 3, 64, 64)}, torch.zeros(1, 3, 64, 64))["model"]) == set(scores.names)
    assert scores.between_people(["a"]) == {}


# --------------------------------------------------------------------------------------------------------- the loss


def test_the_loss_by_hand():
    class Sum(nn.Module):
        def forward(self, before, after):
            return 1 - (after - before).flatten(1).sum(1)

    prediction, target = torch.tensor([[[[0.75]]], [[[0.5]]]]), torch.tensor([[[[0.25]]], [[[0.5]]]])
    assert float(losses.Identity(Sum())(prediction, target)) == pytest.approx((1.0 + 0.0) / 2)


def test_its_gradient_by_finite_differences():
    """In float64, along three directions."""
    loss = losses.Identity(Similarity()).double()
    target, prediction = (signed(drawn(2, (32, 30), first=n)).double() / 2 + 0.5 for n in (0, 8))
    prediction.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(prediction, target), prediction)
    for seed in range(3):
        direction = random(prediction.shape, seed).double() - 0.5
        with torch.no_grad():
            rise = loss(prediction + 1e-8 * direction, target) - loss(prediction - 1e-8 * direction, target)
        assert float(rise) / 2e-8 == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_one_step_raises_the_similarity(alike, channels):
    target, other = (signed(drawn(2, (48, 48), first=n)).mean(1, keepdim=True) for n in (0, 8))
    target, other = (images.expand(-1, channels, -1, -1) / 2 + 0.5 for images in (target, other))
    prediction = other.clone().requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=2e-3)
    loss = losses.Identity(Similarity())
    before = loss(prediction, target)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = alike(2 * target - 1, 2 * prediction - 1).mean()
    assert 1 - float(after) < float(before.detach())
    assert all(weight.grad is None for weight in loss.network.parameters())


def test_the_gradient_of_equal_pictures_is_nothing():
    image = (signed(drawn(1, (32, 32))) / 2 + 0.5).requires_grad_()
    losses.Identity(Similarity())(image, image.detach()).backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


def test_a_loss_of_weight_nothing_is_not_computed():
    class Never(nn.Module):
        def forward(self, prediction, target):
            raise AssertionError

    a, b = random((1, 3, 8, 8)), random((1, 3, 8, 8), seed=1)
    assert float(losses.Weighted([losses.L1(), Never()], [2.0, 0.0])(a, b)) == 2 * float(losses.L1()(a, b))
    assert float(losses.Weighted([Never()], [0.0])(a, b)) == 0


def test_without_the_packages_the_loss_is_one_line(monkeypatch, train_typed):
    forget(monkeypatch)
    code, _, err = train_typed("model=conv_superres", "model/loss=l1_identity", "run_dir=run", "trainer.max_images=16")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "pip install -e '.[people]'" in err


# ------------------------------------------------------------------------------------------------- on another device


@pytest.mark.simulated
def test_on_an_accelerator_it_is_the_same(sim):
    """Descriptions, scores, and the gradient of the loss; nothing there meets a tensor of the CPU."""
    device = torch.device("sim:0")
    target, prediction = (signed(drawn(3, (40, 36), first=n)) for n in (0, 8))
    torch.testing.assert_close(DlibFace().to(device)(target.to(device)).cpu(), DlibFace()(target), atol=1e-4, rtol=0)
    rows = [ImageScores(3, 40, 36, of)({"model": prediction}, target)["model"] for of in (CPU, device)]
    torch.testing.assert_close(rows[1]["identity" + ON], rows[0]["identity" + ON], atol=1e-4, rtol=0)
    gradients = []
    for of in (CPU, device):
        image = (prediction / 2 + 0.5).to(of).requires_grad_()
        losses.Identity(Similarity()).to(of)(image, (target / 2 + 0.5).to(of)).backward()
        assert image.grad is not None
        gradients.append(image.grad.cpu())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-3)


# ---------------------------------------------------------------------------------------------------- the whole way


def test_an_evaluation_says_how_alike_strangers_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    network = ["model=conv_superres", *SMALL["conv_superres"]]
    faces = [
        "data.size=32",
        "data.channels=3",
        "data.source.count=80",
        "trainer.max_images=8",
        "model/loss=l1_identity",
    ]
    overrides = [*FACES, *network, *faces, f"run_dir={folder}"]
    assert training.train(config.compose(overrides), overrides) == 0
    command.evaluate(replace(ASKED, run=folder))
    result = json.loads((folder / "evaluation.json").read_text())
    scores = result["rows"][0]["scores"]
    same = scores["same_person" + ON]
    assert 0 <= same["low"] <= same["value"] <= same["high"] <= 1
    assert scores["identity" + ON]["value"] < 1
    assert "identity" + ON in result["beats_baselines"]
    between = result["protocols"]["identity" + ON]["between_people"]
    assert result["rows"][0]["trained_on"] == ["identity" + ON, "same_person" + ON]
    assert between["another_picture"]["identity"] > between["stranger"]["identity"]
    assert "Identity among these faces: another picture of the same person has" in capsys.readouterr().out
    assert between["another_picture"]["pairs"] == result["data"]["faces"] - result["data"]["people"]
    assert result["protocols"]["same_person" + ON]["threshold"] == identity.THRESHOLD


def test_the_page_says_what_the_record_says():
    page, record = ((ROOT / "docs" / name).read_text() for name in ("identity.md", "results/records/identity.json"))
    found = json.loads(record)
    lfw, celeba = found["lfw c150"], found["celeba c140"]
    assert found["threshold"] == identity.THRESHOLD == round(found["fitted"], 2)
    at = f"at {identity.THRESHOLD:.2f}"
    for side in ("16", "24", "32", "64", "64, grey", "128"):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {side} |")]
        one, strangers, alike, apart = (cell.strip().replace(" %", "").split(", ") for cell in row.split("|")[2:6])
        for n, of in enumerate((lfw[side], celeba[side])):
            told = [float(cells[n]) for cells in (one, strangers, alike, apart)]
            passed = [100 * of[f"{who} {at}"]["share"] for who in ("same person", "strangers")]
            means = [of[f"mean, {who}"] for who in ("same person", "strangers")]
            assert told == pytest.approx([*passed, *means], rel=0.05, abs=0.006)
    for label, of in found["strangers of a group, celeba c140, 64"].items():
        if label in ("Male", "not Male", "Young", "not Young", "Eyeglasses", "not Eyeglasses"):
            assert f"{of['hits']} of {of['total']:,}" in page
