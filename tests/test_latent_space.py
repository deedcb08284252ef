"""Densities, directions and the file of a latent space, against distributions and factors that are known."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from scipy import stats

from faceforge import counter_rng
from faceforge.errors import BadInput
from faceforge.schemes import latent_space
from faceforge.schemes.latent_space import LatentSpace, Link, offered

RELU, SIGMOID = (0.0, math.inf), (0.0, 1.0)


def correlated(count, units, seed=0, correlation=0.6):
    """Normal numbers, each unit correlated with the next ones as correlation ** distance; means and scales differ."""
    distance = np.abs(np.subtract.outer(np.arange(units), np.arange(units)))
    chol = np.linalg.cholesky(correlation**distance)
    draws = np.random.default_rng(seed).standard_normal((count, units)) @ chol.T
    return draws * np.linspace(0.5, 3, units) + np.linspace(-1, 1, units)


def space(codes, code_range=None, labels=None, **made):
    return LatentSpace.of_codes(codes, code_range, labels, {"seed": 0, **made})


def drawn(found, density, count=4000, seed=1):
    return found.sample(density, count, seed).double().numpy()


# ------------------------------------------------------------------------------------------------------------ densities


def test_the_gaussian_has_the_mean_and_covariance_of_the_codes():
    codes = correlated(5000, 7)
    samples = drawn(space(codes), "gaussian", 20000)
    assert samples.mean(0) == pytest.approx(codes.mean(0), abs=0.08)
    assert np.cov(samples.T) == pytest.approx(np.cov(codes.T), abs=0.3)


def test_fewer_faces_than_units_still_have_a_gaussian():
    found = space(correlated(10, 40))
    samples = drawn(found, "gaussian", 200)
    assert np.isfinite(samples).all()
    assert np.linalg.matrix_rank(samples) == 40


@pytest.mark.parametrize("units", [1, 5, 40])
def test_of_one_normal_distribution_the_mixture_is_the_gaussian(units):
    codes = correlated(600, units)
    found = space(codes)
    assert found.weights.shape == (1,)
    assert found.centres == pytest.approx(0, abs=1e-5)
    mixture, gaussian = drawn(found, "mixture", 4000), drawn(found, "gaussian", 4000)
    assert mixture.mean(0) == pytest.approx(gaussian.mean(0), abs=0.2)
    assert mixture.std(0) == pytest.approx(codes.std(0), rel=0.1)


def test_a_mixture_finds_the_groups_that_a_gaussian_fills_in():
    """Two groups far apart: hardly a code lies between, unless it is drawn from the Gaussian."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((2000, 6))
    codes[:1000, 2] += 12
    found = space(codes)
    assert len(found.weights) >= 2
    between = [np.mean(np.abs(drawn(found, name)[:, 2] - 6) < 2) for name in ("gaussian", "mixture")]
    assert between[0] > 0.15
    assert between[1] < 0.02


def test_the_groups_of_a_mixture_have_their_own_correlations():
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((3000, 3))
    codes[:, 1] = np.where(np.arange(3000) < 1500, 1, -1) * codes[:, 0] + 0.2 * codes[:, 1]
    codes[:1500, 2] += 10
    samples = drawn(space(codes), "mixture", 6000)
    for group, sign in ((samples[:, 2] > 5, 1), (samples[:, 2] <= 5, -1)):
        assert group.mean() == pytest.approx(0.5, abs=0.05)
        assert np.corrcoef(samples[group, :2].T)[0, 1] == pytest.approx(sign * 0.93, abs=0.06)
    assert samples.std(0) == pytest.approx(codes.std(0), rel=0.05)


def test_an_older_file_has_a_mixture_with_independent_axes(tmp_path):
    path = tmp_path / "latent.safetensors"
    space(correlated(9, 3)).save(path)
    means, deviations = np.array([[0, 5], [0, -5]], np.float32), np.array([[1, 0.1], [2, 0.1]], np.float32)
    _change(path, weights=np.array([0.25, 0.75], np.float32), centres=means, deviations=deviations)
    found = LatentSpace.load(path)
    noise = np.random.default_rng(0).standard_normal((4, 2))
    which = np.array([0.1, 0.3, 0.9, 0.2])
    expected = means[[0, 1, 1, 0]] + deviations[[0, 1, 1, 0]] * noise
    assert found._mixed(noise, which) == pytest.approx(expected, abs=1e-6)
    assert drawn(found, "mixture", 5).shape == (5, 3)


def test_the_prior_and_the_published_noise():
    found = space(correlated(50, 4))
    prior, uniform = drawn(found, "prior"), drawn(found, "uniform")
    assert stats.kstest(prior.ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-3
    assert uniform.min() >= 0
    assert uniform.max() < 1


@pytest.mark.parametrize("density", ["prior", "uniform", "gaussian", "mixture"])
@given(start=st.integers(0, 50), count=st.integers(1, 9), seed=st.integers(0, 3))
@settings(max_examples=10, deadline=None)
def test_a_sample_is_a_function_of_seed_and_position(density, start, count, seed):
    found = SPACES[None]
    whole = found.sample(density, 60, seed)
    part = found.sample(density, count, seed, start)
    assert torch.allclose(part, whole[start : start + count], rtol=1e-5, atol=1e-6)  # products of other shapes
    assert not torch.equal(found.sample(density, 60, seed + 1), whole)


@pytest.mark.parametrize("density", ["prior", "uniform", "gaussian", "mixture"])
@pytest.mark.parametrize("code_range", [RELU, SIGMOID])
def test_codes_stay_in_their_range(density, code_range):
    samples = drawn(SPACES[code_range], density)
    assert samples.min() >= code_range[0]
    assert samples.max() <= code_range[1]


@pytest.mark.parametrize(
    ("code", "kl_weight", "densities"),
    [
        ("gaussian", 1e-3, ("mixture", "gaussian", "prior")),
        ("gaussian", 0.0, ("mixture", "gaussian")),
        ("linear", 1e-3, ("mixture", "gaussian")),
        ("sigmoid", 1e-3, ("mixture", "gaussian", "uniform")),
        ("relu", 1e-3, ("mixture", "gaussian", "uniform")),
    ],
)
def test_what_codes_do_not_follow_is_not_offered(code, kl_weight, densities, tmp_path):
    """N(0, 1) only where a divergence draws codes towards it, U[0, 1) only where the published projects did so."""
    from faceforge import config
    from faceforge.evaluation.generated import row_count

    small = ["model/encoder=conv", "model/decoder=conv", f"model/code={code}", f"model.kl_weight={kl_weight}"]
    small += ["model.code.latent_size=5", "model.encoder.width=4", "model.decoder.width=4", "data.size=16"]
    module = config.build(config.compose(["model=latent_editor", *small])["model"])
    assert offered(module.has_prior, module.code_range) == densities
    assert row_count(module) == len(densities)
    found = space(correlated(9, 3), module.code_range, has_prior=module.has_prior)
    assert found.densities == densities
    found.save(tmp_path / "latent.safetensors")
    assert LatentSpace.load(tmp_path / "latent.safetensors").densities == densities


def test_files_of_earlier_versions_offer_all():
    assert set(space(correlated(9, 3)).densities) == {"mixture", "gaussian", "prior", "uniform"}


def test_an_unknown_density_names_the_known():
    with pytest.raises(BadInput, match=r"density=normal: must be one of prior, uniform, gaussian, mixture"):
        SPACES[None].sample("normal", 1)


# ----------------------------------------------------------------------------------------------------- ranges of codes


def test_cut_off_normal_numbers_are_recovered():
    """A unit of N(m, s) through a ReLU: m and s from what is left, for any share of zeros; a dead one stays dead."""
    numbers = np.random.default_rng(0).standard_normal((20000, 4)) * [1, 2, 1, 1] + [0, 1, -1.5, 50]
    codes = np.maximum(numbers, 0)
    codes = np.concatenate([codes, np.zeros((20000, 1))], axis=1)
    location, scale = latent_space._censored(codes)
    assert location[:4] == pytest.approx([0, 1, -1.5, 50], abs=0.1)
    assert scale[:4] == pytest.approx([1, 2, 1, 1], abs=0.05)
    assert scale[4] == 0
    assert drawn(space(codes, RELU), "gaussian")[:, 4].max() == 0


def test_faces_drawn_from_a_relu_code_have_its_zeros_means_and_correlations():
    """As after batch norm: locations around 0, scale 1. Correlations come back as far as those of faces go."""
    codes = np.maximum(correlated(5000, 8, correlation=0.4) / np.linspace(0.5, 3, 8), 0)
    samples = drawn(space(codes, RELU), "gaussian", 20000)
    assert (samples == 0).mean(0) == pytest.approx((codes == 0).mean(0), abs=0.03)
    assert samples.mean(0) == pytest.approx(codes.mean(0), rel=0.1)
    assert samples.std(0) == pytest.approx(codes.std(0), rel=0.1)
    assert np.corrcoef(samples.T) == pytest.approx(np.corrcoef(codes.T), abs=0.08)


def test_cutting_off_a_gaussian_of_the_codes_would_not_do():
    """What the transformed space is for: plain clipping loses half of the zeros."""
    codes = np.maximum(correlated(5000, 8), 0)
    clipped = np.maximum(drawn(space(codes), "gaussian"), 0)
    fitted = drawn(space(codes, RELU), "gaussian")
    zeros = [(found == 0).mean() for found in (codes, clipped, fitted)]
    assert abs(zeros[1] - zeros[0]) > 5 * abs(zeros[2] - zeros[0])


def test_sigmoid_codes_are_normal_before_the_sigmoid():
    codes = 1 / (1 + np.exp(-correlated(5000, 6)))
    samples = drawn(space(codes, SIGMOID), "gaussian", 20000)
    for unit in range(6):
        assert stats.ks_2samp(samples[:, unit], codes[:, unit]).statistic < 0.03


def test_sigmoid_codes_at_their_very_ends():
    codes = np.random.default_rng(0).integers(0, 2, (100, 3)).astype(float)
    assert np.isfinite(drawn(space(codes, SIGMOID), "mixture")).all()


@pytest.mark.parametrize("code_range", [None, RELU, SIGMOID])
def test_a_link_leads_back(code_range):
    codes = CODES[code_range]
    link = Link.fit(codes, code_range)
    back = link.bound(link.free(codes) * (link.spread if code_range == RELU else 1))
    assert back == pytest.approx(codes, abs=1e-6)


# ----------------------------------------------------------------------------------------------------------- directions


def test_mean_difference_by_hand():
    having, lacking = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0]])
    assert latent_space.mean_difference(having, lacking).tolist() == [2.0, 2.0]


def test_logistic_finds_what_tells_apart_where_the_mean_is_led_astray():
    """Having it shifts unit 0; unit 1 is large, correlated with unit 0 and says nothing by itself."""
    rng = np.random.default_rng(0)
    has = np.arange(4000) % 2 == 0
    shared = 3 * rng.standard_normal(4000)
    codes = np.stack([2.0 * has + shared + 0.3 * rng.standard_normal(4000), shared, rng.standard_normal(4000)], 1)
    direction = latent_space.logistic(codes[has], codes[~has])
    expected = np.array([1.0, -1.0, 0.0]) / math.sqrt(2)
    assert direction @ expected / np.linalg.norm(direction) > 0.99


def test_strength_one_leads_from_mean_to_mean():
    codes = correlated(400, 5)
    having, lacking = codes[:150] + np.array([0, 1, 0, -2, 0]), codes[150:]
    for direction in (latent_space.mean_difference(having, lacking), latent_space.logistic(having, lacking)):
        unit = direction / np.linalg.norm(direction)
        assert np.linalg.norm(direction) == pytest.approx((having.mean(0) - lacking.mean(0)) @ unit)


@given(seed=st.integers(0, 1000), count=st.integers(1, 6), units=st.integers(24, 40))
@settings(max_examples=30, deadline=None)
def test_orthogonalised_directions_leave_the_others_alone(seed, count, units):
    differences, normals = np.random.default_rng(seed).standard_normal((2, count, units))
    found = latent_space.orthogonalised(differences, normals)
    for i in range(count):
        assert found[i] @ differences[i] == pytest.approx(found[i] @ found[i])  # strength 1 is still 1
        assert [found[i] @ normals[j] for j in range(count) if j != i] == pytest.approx([0] * (count - 1), abs=1e-9)


def test_two_names_for_one_thing_do_not_cancel():
    rows = np.array([[1.0, 0, 0, 0], [1.0, 0.01, 0, 0], [0, 0, 1.0, 0]])
    assert np.linalg.norm(latent_space.orthogonalised(rows, rows), axis=1) == pytest.approx([1, 1, 1], abs=0.01)


def test_more_attributes_than_units_leave_something():
    rows = np.random.default_rng(0).standard_normal((30, 8))
    left = np.linalg.norm(latent_space.orthogonalised(rows, rows), axis=1) / np.linalg.norm(rows, axis=1)
    assert left.min() > 0.2


def labelled(count=300):
    """Codes in which unit 0 is the smile and unit 1 are glasses; smiling faces wear more glasses."""
    rng = np.random.default_rng(0)
    smiling = rng.random(count) < 0.5
    glasses = rng.random(count) < np.where(smiling, 0.8, 0.2)
    codes = 0.2 * rng.standard_normal((count, 4))
    codes[:, 0] += smiling
    codes[:, 1] += 2 * glasses
    values = np.stack([smiling, glasses, np.full(count, np.nan), np.ones(count), codes[:, 2] * 100], 1).astype(float)
    values[::7, 0] = np.nan
    return codes, (["Smiling", "Eyeglasses", "Unknown", "Always", "Age"], values)


def test_attributes_from_labels():
    """Unknown labels are left out, an attribute nobody lacks has no direction, numbers are split at their median."""
    codes, labels = labelled()
    found = space(codes, labels=labels)
    assert found.names == ("Smiling", "Eyeglasses", "Age")
    smile = {kind: found.directions(kind)["Smiling"] for kind in ("mean_difference", "logistic", "orthogonalised")}
    assert smile["mean_difference"][1] > 0.8  # glasses come along
    assert abs(smile["logistic"][1]) < 0.3
    assert found.directions("mean_difference")["Age"][2] > 0.2
    alone = smile["orthogonalised"]
    assert torch.dot(alone, found.directions("logistic")["Eyeglasses"]) == pytest.approx(0, abs=1e-5)
    assert alone[0] > 3 * abs(alone[1])


def collapsed(count=400, units=48):
    """Codes that all faces share, but for a little that moves all units together, and 29 attributes at random."""
    rng = np.random.default_rng(0)
    together = 1e-3 * rng.standard_normal((count, 1)) * rng.standard_normal((1, units))
    codes = 3 * rng.standard_normal((1, units)) + together + 1e-5 * rng.standard_normal((count, units))
    values = (rng.random((count, 29)) < 0.3).astype(float)
    return codes.astype(np.float32), ([f"attribute {n}" for n in range(29)], values)


def test_directions_of_collapsed_codes_are_given_up_and_named(monkeypatch):
    """Few iterations in all, whatever the machine; each attribute is said, and its mean difference stands in."""
    import sklearn.linear_model

    spent = []

    class Counted(sklearn.linear_model.LogisticRegression):
        def fit(self, x, y):
            super().fit(x, y)
            spent.append(int(self.n_iter_[0]))
            return self

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Counted)
    monkeypatch.setattr(latent_space, "ITERATIONS", 8)
    codes, labels = collapsed()
    said = []
    found = LatentSpace.of_codes(codes, None, labels, {"seed": 0}, said.append)
    assert sum(spent) <= 3 * 8
    assert found.made["without_logistic"] == labels[0] == list(found.names)
    assert np.array_equal(found.normals, found.differences)
    assert "direction 29 of 29: attribute 28" in said
    assert found.left_out.startswith("No logistic direction was found for 29 of 29 attributes (attribute 0, ")
    assert "and 25 more" in found.left_out


def test_iterations_of_all_attributes_together_are_bounded(monkeypatch):
    codes, labels = labelled()
    assert space(codes, labels=labels).made["without_logistic"] == []
    assert space(codes, labels=labels).left_out is None
    monkeypatch.setattr(latent_space, "ALL_ITERATIONS", 12)
    found = space(codes, labels=labels)
    assert found.made["without_logistic"] == list(found.names)[1:], "the first takes fewer, the others what is left"
    more = found.with_attribute("Eyeglasses", codes[:30], codes[30:])
    assert "Eyeglasses" not in more.without_logistic


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_codes_that_do_not_vary_have_no_logistic_direction(noise):
    """Nor has rounding: what lies below the last digit of a float32 tells no faces apart."""
    codes = 5 + noise * np.random.default_rng(0).standard_normal((40, 6))
    assert latent_space.logistic(codes[:20], codes[20:]) is None


def test_an_edit_moves_by_its_strength():
    codes, labels = labelled()
    found = space(codes, labels=labels)
    z = torch.from_numpy(codes[:3]).float()
    moved = found.edit(z, {"Smiling": 1.5, "Eyeglasses": -1.0}, "mean_difference")
    directions = found.directions("mean_difference")
    assert torch.allclose(moved - z, 1.5 * directions["Smiling"] - directions["Eyeglasses"], atol=1e-6)
    assert torch.equal(found.edit(z, {}), z)


def test_an_edit_stays_in_the_range():
    codes, labels = labelled()
    found = space(np.clip(codes, 0, 1), SIGMOID, labels)
    z = torch.rand(5, 4)
    moved = found.edit(z, {"Smiling": 50.0})
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_an_unknown_attribute_names_the_known():
    codes, labels = labelled()
    with pytest.raises(BadInput, match=r"^Hat: no such attribute; known are Smiling, Eyeglasses, Age$"):
        space(codes, labels=labels).edit(torch.zeros(1, 4), {"Hat": 1.0})
    with pytest.raises(BadInput, match=r"^Hat: no such attribute; this run has none: .*labels$"):
        space(codes).edit(torch.zeros(1, 4), {"Hat": 1.0})
    with pytest.raises(BadInput, match="direction=svm: must be one of mean_difference, logistic, orthogonalised"):
        space(codes, labels=labels).directions("svm")


def test_two_small_sets_make_an_attribute():
    codes, labels = labelled()
    found = space(codes, labels=labels)
    more = found.with_attribute("Sad", codes[:3] + 1, codes[3:9])
    assert more.names == ("Smiling", "Eyeglasses", "Age", "Sad")
    expected = codes[:3].mean(0) + 1 - codes[3:9].mean(0)
    assert more.directions("mean_difference")["Sad"].numpy() == pytest.approx(expected, abs=1e-5)
    again = more.with_attribute("Smiling", codes[:5], codes[5:])
    assert again.names == ("Eyeglasses", "Age", "Sad", "Smiling")
    with pytest.raises(BadInput, match="Sad: 2 faces with and 9 without; must be at least 3 of each"):
        found.with_attribute("Sad", codes[:2], codes[:9])


# ------------------------------------------------------------------------------------------------------------- the file


def test_what_is_loaded_is_what_was_saved(tmp_path):
    codes, labels = labelled()
    for code_range, values in ((None, codes), (RELU, np.maximum(codes, 0)), (SIGMOID, np.clip(codes, 0, 1))):
        found = space(values, code_range, labels, checkpoint="abc", split="train", count=len(codes))
        found.save(tmp_path / "latent.safetensors")
        again = LatentSpace.load(tmp_path / "latent.safetensors", "abc")
        for density in ("prior", "uniform", "gaussian", "mixture"):
            drawn = again.sample(density, 5, 3)  # its matrices may lie in the memory the other way round
            assert torch.allclose(drawn, found.sample(density, 5, 3), rtol=1e-5, atol=1e-6)
        for kind in ("mean_difference", "logistic", "orthogonalised"):
            assert all(torch.equal(a, found.directions(kind)[n]) for n, a in again.directions(kind).items())
        assert (again.names, again.made, again.link.code_range) == (found.names, found.made, code_range)
    assert [p.name for p in tmp_path.iterdir()] == ["latent.safetensors"]


def test_another_checkpoint_s_space_is_refused(tmp_path):
    path = tmp_path / "latent.safetensors"
    space(correlated(9, 2), checkpoint="abc").save(path)
    with pytest.raises(BadInput, match="made from another checkpoint"):
        LatentSpace.load(path, "abd")
    assert LatentSpace.load(path).made["checkpoint"] == "abc"


def _change(path, about=None, **arrays):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    old = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["about"])
    kept = {name: array for name, array in {**load(content), **arrays}.items() if array is not None}
    path.write_bytes(save(kept, {"about": json.dumps({**old, **(about or {})})}))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"no safetensors"),
        lambda path: path.write_bytes(path.read_bytes()[:-8]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(save({"weight": np.zeros(3, np.float32)})),
        lambda path: path.write_bytes(save({"weight": np.zeros(3, np.float32)}, {"about": "{"})),
        lambda path: path.write_bytes(save({"weight": np.zeros(3, np.float32)}, {"about": "[1]"})),
        lambda path: _change(path, {"format": "another"}),
        lambda path: _change(path, {"version": 99}),
        lambda path: _change(path, {"names": ["a", "b"]}),
        lambda path: _change(path, {"names": None}),
        lambda path: _change(path, {"made": None}),
        lambda path: _change(path, mean=None),
        lambda path: _change(path, mean=np.full(2, np.nan, np.float32)),
        lambda path: _change(path, axes=np.zeros((2, 3), np.float32)),
        lambda path: _change(path, mean=np.zeros((), np.float32)),
        lambda path: _change(path, deviations=np.zeros((1, 2, 1), np.float32)),
        lambda path: _change(path, deviations=np.zeros(2, np.float32)),
        lambda path: _change(path, centres=np.zeros((1, 3), np.float32), deviations=np.zeros((1, 3), np.float32)),
        lambda path: path.unlink(),
    ],
)
def test_damaged_and_foreign_files_are_told_in_one_line(tmp_path, harm):
    path = tmp_path / "latent.safetensors"
    space(correlated(9, 2), labels=(["a"], np.arange(9)[:, None] % 2.0)).save(path)
    harm(path)
    with pytest.raises(BadInput) as error:
        LatentSpace.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------------------------------------- on real faces


class Principal(torch.nn.Module):
    """The 24 principal components of some images: a linear autoencoder, whose decoder is its encoder's inverse."""

    code_range = None

    def __init__(self, images):
        super().__init__()
        flat = images.flatten(1)
        _, _, axes = torch.pca_lowrank(flat, 24)
        self.shape = images.shape[1:]
        self.register_parameter("axes", torch.nn.Parameter(axes, requires_grad=False))
        self.register_buffer("mean", flat.mean(0))

    def encode(self, images):
        return (images.flatten(1) - self.mean) @ self.axes

    def decode(self, z):
        return (z @ self.axes.T + self.mean).unflatten(1, self.shape)


@pytest.fixture
def faces(request, tmp_path):
    """Drawn faces, as many as ``indirect`` says."""
    from faceforge import config

    overrides = [
        "data.size=32",
        f"data.source.count={request.param}",
        "data.batch_size=4",
        f"data.cache={tmp_path}",
    ]
    data = config.build(config.compose(["model=dcgan_conventional", *overrides])["data"])
    data.prepare(progress=False)
    return data


@pytest.mark.slow
@pytest.mark.parametrize("faces", [400], indirect=True)
def test_glasses_on_drawn_faces_are_around_the_eyes(faces):
    """The factor is known: adding glasses changes pixels at the height of the eyes more than anywhere else, and the
    orthogonalised smile leaves the code of glasses alone.
    """
    module = Principal(faces.images("train"))
    found = LatentSpace.fit(module, faces, checkpoint="abc", seed=faces.seed)
    assert found.made["count"] == min(faces.counts["train"], latent_space.FACES)
    assert found.made["manifest"] == faces.manifest
    assert {"Eyeglasses", "Smiling"} <= set(found.names)
    z = module.encode(faces.images("val"))
    for kind in ("mean_difference", "orthogonalised"):
        change = (module.decode(found.edit(z, {"Eyeglasses": 1.0}, kind)) - module.decode(z)).abs().mean((0, 1))
        rows = change[:, 8:24].mean(1)  # by height, in the middle of the face
        assert 0.35 < float(rows.argmax()) / 32 < 0.6, kind
        around, elsewhere = rows[11:19].mean(), torch.cat([rows[:8], rows[24:]]).mean()
        assert around > 1.5 * elsewhere, kind


def test_a_finished_run_holds_the_space_of_its_best_checkpoint(tmp_path, monkeypatch):
    from conftest import TINY

    from faceforge import config
    from faceforge.engine import checkpoint, training

    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    small = ["model.code.latent_size=5", "model.encoder.width=4", "model.decoder.width=4", "data.size=16"]
    overrides = ["model=latent_editor", *(o for o in TINY if not o.startswith("model.")), *small, f"run_dir={folder}"]
    composed = config.compose(overrides)
    assert training.train(composed, overrides) == 0
    best = checkpoint.find(folder, "best")
    found = LatentSpace.load(folder / "latent.safetensors", checkpoint.digest(best))
    assert (found.made["split"], found.made["seed"]) == ("train", 0)
    assert found.sample("mixture", 3).shape == (3, 5)
    assert "Smiling" in found.names
    data = config.build(composed["data"])
    data.prepare(progress=False)
    codes = checkpoint.load(folder).encode(data.images("train"))
    values = data.attributes[1][data.rows["train"], data.attributes[0].index("Smiling")]
    expected = codes[values == 1].mean(0) - codes[values == 0].mean(0)
    assert torch.allclose(found.directions("mean_difference")["Smiling"], expected, atol=1e-4)
    with pytest.raises(BadInput, match="made from another checkpoint"):
        LatentSpace.load(folder / "latent.safetensors", checkpoint.digest(folder / "config.yaml"))


def test_a_run_says_what_its_end_left_out(tmp_path, monkeypatch, capfd):
    from conftest import TINY

    from faceforge import config
    from faceforge.engine import training

    monkeypatch.setenv("FACEFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(latent_space, "ITERATIONS", 1)
    small = ["model.code.latent_size=5", "model.encoder.width=4", "model.decoder.width=4", "data.size=16"]
    overrides = ["model=latent_editor", *(o for o in TINY if not o.startswith("model.")), *small]
    overrides += [f"run_dir={tmp_path / 'run'}", "trainer.max_images=8"]
    assert training.train(config.compose(overrides), overrides) == 0
    (note,) = json.loads((tmp_path / "run/run.json").read_text())["notes"]
    assert note["text"].startswith("No logistic direction was found for ")
    assert f"At 8 images: {note['text']}" in capfd.readouterr().err


@pytest.mark.parametrize("faces", [80], indirect=True)
def test_the_same_faces_are_encoded_each_time(faces):
    module = Principal(faces.images("train", range(50)))
    order = np.sort(counter_rng.permutation(0, "latent/faces", 0, faces.counts["train"])[:7])
    whole = latent_space.encode(module, faces, order)
    parts = latent_space.encode(module, faces, order, chunk=3)
    assert whole == pytest.approx(parts, abs=1e-4)
    assert whole == pytest.approx(module.encode(faces.images("train", order)).numpy(), abs=1e-4)


CODES = {None: correlated(300, 5)}
CODES[RELU] = np.maximum(CODES[None], 0)
CODES[SIGMOID] = 1 / (1 + np.exp(-0.5 * CODES[None]))
SPACES = {code_range: space(codes, code_range) for code_range, codes in CODES.items()}
