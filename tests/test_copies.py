"""Distances between faces, the test of each face and that of all: independent computations and known answers."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from faceforge.metrics import copies
from faceforge.metrics.copies import LEAST, Neighbours, Pixels, Tail, closeness, closer, log_ratio, nearest, to_keep


def pictures(count, channels=3, height=48, width=48, seed=0):
    """Smooth random pictures in [-1, 1]."""
    coarse = torch.randn(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (0.4 * F.interpolate(coarse, (height, width), mode="bicubic")).clamp(-1, 1)


# Vectors


@pytest.mark.parametrize("channels", [1, 3])
def test_a_vector_is_luma_without_a_plane_fitted_by_least_squares(channels):
    image = pictures(1, channels)
    weights = np.array((0.299, 0.587, 0.114) if channels == 3 else (1.0,))
    luma = (image[0].double().numpy() * weights[:, None, None]).sum(0)
    small = np.zeros((16, 16))
    for down, across in itertools.product(range(16), range(16)):  # triangles of 6 pixels around the middle of each 3
        rows, columns = (np.maximum(0, 1 - np.abs(np.arange(48) - 3 * at - 1) / 3) for at in (down, across))
        weight = np.outer(rows, columns)
        small[down, across] = (weight * luma).sum() / weight.sum()
    y, x = np.mgrid[0:16, 0:16]
    plane = np.stack([np.ones(256), y.ravel(), x.ravel()], 1)
    rest = small.ravel() - plane @ np.linalg.lstsq(plane, small.ravel(), rcond=None)[0]
    assert np.allclose(Pixels().query(image)[0, 0], rest / np.linalg.norm(rest), atol=1e-5)


def test_means_of_a_window_are_those_of_its_pixels():
    found = copies._means(40, 0.8, 0.5)  # 32 pixels from the 5th on: two to a part, the triangle over four
    right = torch.zeros(16, 40)
    for part in range(16):
        right[part, 3 + 2 * part : 7 + 2 * part] = torch.tensor([1.0, 3, 3, 1]) / 8
    assert torch.allclose(found, right, atol=1e-6)
    assert torch.allclose(copies._means(7, 1.0, 0.0).sum(1), torch.ones(16))  # fewer pixels than parts


def test_gain_offset_and_a_gradient_of_light_change_nothing():
    images = pictures(3, height=50, width=37)
    slope = torch.linspace(-0.2, 0.2, 37) + torch.linspace(0.1, -0.1, 50)[:, None]
    first, second = Pixels().query(images)[0], Pixels().query(0.7 * images + 0.1 + slope)[0]
    assert torch.allclose(first, second, atol=2e-3)


def test_an_empty_picture_is_as_far_from_all():
    vectors = Pixels().query(torch.full((1, 1, 32, 32), 0.3) + 1e-4 * torch.randn(1, 1, 32, 32))
    assert float(vectors.norm(dim=2).max()) < 0.02


def test_mirrored_and_cropped_pictures_are_near():
    images = pictures(9)
    crops = F.interpolate(images[..., 2:-1, 0:-3].flip(-1), (48, 48), mode="bicubic")
    space, asked = Pixels(), Pixels().query(crops)
    found = nearest(asked, [space.pool(images)], 9).few(torch.ones(9, dtype=torch.bool))
    close = closer(asked, found, lambda places: space.closer(images[places]))
    assert close.place[:, 0].tolist() == list(range(9))
    assert bool((close.distance <= found.distance + 1e-3).all())
    assert float((close.distance[:, 0] / close.distance[:, 1]).max()) < 0.1


# Neighbours


@pytest.mark.parametrize("sizes", [[11], [1, 4, 6], [3, 3, 3, 2]])
def test_neighbours_are_those_of_a_full_search(sizes):
    generator = torch.Generator().manual_seed(1)
    queries, pool = torch.randn(2, 5, 7, generator=generator), torch.randn(3, 11, 7, generator=generator)
    found = nearest(queries, pool.split(sizes, 1), 4)
    every = np.stack(
        [
            [
                [np.linalg.norm(queries[w, n].double() - pool[v, m].double()) for w in range(2) for v in range(3)]
                for m in range(11)
            ]
            for n in range(5)
        ]
    ).min(2)
    assert np.array_equal(found.place.numpy(), every.argsort(1)[:, :4])
    assert np.allclose(found.distance.numpy(), np.sort(every, 1)[:, :4], atol=1e-4)


def test_the_few_nearest_that_are_allowed(monkeypatch):
    monkeypatch.setattr(copies, "NEARBY", 2)
    found = Neighbours(torch.tensor([[1.0, 2, 3], [1, 2, 3]]), torch.tensor([[2, 0, 1], [1, 2, 3]]))
    few = found.few(torch.tensor([True, True, False, False]))
    assert few.place.tolist() == [[0, 1], [1, -1]]
    assert few.distance.tolist() == [[2, 3], [1, 3]]  # none other of the kept is allowed: a bound from below
    assert found.few(torch.tensor([[False, False, True], [True, True, True]])).place.tolist() == [[1, -1], [1, 2]]
    assert found.of(slice(1, None)).place.tolist() == [[1, 2, 3]]


def test_neighbours_are_compared_again_in_the_span_of_more_variants(monkeypatch):
    monkeypatch.setattr(copies, "SPANNED", 2)
    variants = torch.tensor([[[1.0, 0, 0], [0, 0, 3]], [[0, 1, 0], [0, 2, 2]], [[9, 9, 9], [9, 9, 9]]])
    found = Neighbours(torch.tensor([[0.7, 0.9, 5.0]]), torch.tensor([[1, 0, -1]]))
    close = closer(torch.tensor([[[0.5, 0.5, 0.1]]]), found, lambda places: variants[:, places])
    assert close.place.tolist() == [[0, 1, -1]]
    assert close.distance[0].tolist() == pytest.approx([0.1, 0.5, 5.0], abs=1e-6)
    assert closer(torch.ones(1, 1, 3), found, lambda places: None) is found


def test_enough_neighbours_are_kept():
    assert to_keep(900, 100) == 200  # (9 / 10)^200 < e^-20
    assert to_keep(50, 50) == 40
    assert to_keep(3, 4) == 7
    assert to_keep(10**6, 10) == copies.MOST


def test_the_score():
    held_out = torch.tensor([[1.0, 2, 4, 8, 16, 99], [0, 0, 0, 0, 0, 9]])
    score = log_ratio(torch.tensor([[2.0, 3.0], [1e-9, 1.0]]), held_out, 0.01)
    assert score.tolist() == pytest.approx([-math.log(2), 0.0])


# The test of each face


def test_a_tail_of_exponential_scores_goes_on_as_one():
    scores = -torch.from_numpy(np.random.default_rng(0).exponential(0.1, 4000)).float()
    tail = Tail.fit(scores)
    assert tail.share == pytest.approx(0.1, abs=0.001)
    assert 0.1 < tail.mean_excess < 0.12  # an upper limit
    right = -1.2 / 0.1  # of exp(-1.2 / 0.1)
    assert float(tail.log_chance(torch.tensor([-1.2]))) == pytest.approx(right, rel=0.15)
    assert float(tail.log_chance(torch.tensor([-1.2]))) > right
    assert tail.threshold(float(tail.log_chance(torch.tensor([-0.9])))) == pytest.approx(-0.9)
    assert tail.log_chance(torch.tensor([0.3])).tolist() == [0.0]


def test_the_upper_limit_of_the_mean_excess_by_hand():
    scores = torch.cat([torch.arange(1, 11) * -0.1, torch.arange(90) * 1.0])  # edge 0, excesses 0.1 to 1
    tail = Tail.fit(scores)
    assert tail.edge == 0
    assert tail.mean_excess == pytest.approx(2 * 10 * 0.55 / 10.85081, rel=1e-5)  # chi2 of 20 degrees at 5 %


def test_few_scores_have_no_tail():
    with pytest.raises(ValueError, match=f"29 held-out faces.*{LEAST}"):
        Tail.fit(torch.randn(29))


@pytest.mark.parametrize("shape", ["normal", "laplace"])
def test_false_alarms_are_as_rare_as_stated(shape):
    """500 audits of 200 faces with 150 held-out ones: one in a hundred may raise an alarm."""
    random = np.random.default_rng(2)
    draw = getattr(random, shape)
    alarms = 0
    for _ in range(500):
        tail = Tail.fit(torch.from_numpy(draw(0, 0.06, 150)))
        chance = tail.log_chance(torch.from_numpy(draw(0, 0.06, 200))) + math.log(200)
        alarms += bool((chance <= math.log(0.01)).any())
    assert alarms <= 12  # of 500; expected at most 5, and 12 has a chance of 0.3 %


# The test of all faces


def neighbours(distance):
    order = distance.argsort(1)
    return Neighbours(distance.gather(1, order), order)


def test_closeness_is_that_of_all_divisions():
    """Of the six divisions of four people, those with a score as low are counted by hand."""
    distance = torch.tensor([[0.1, 0.5, 0.6, 0.9, 0.95], [0.3, 0.2, 0.8, 0.4, 0.7]])
    people, training = torch.tensor([0, 1, 2, 3, 3]), torch.tensor([True, True, False, False, False])

    def score(trained):
        side = np.isin(people.numpy(), trained)
        d = distance.numpy()
        return np.mean([np.log(row[side].min() / row[~side].min()) for row in d])

    real = score((0, 1))
    divisions = [score(pair) for pair in itertools.combinations(range(4), 2)]
    share = np.mean([value <= real + 1e-9 for value in divisions])
    found = closeness(neighbours(distance), training, people, seed=0)
    assert found.p == pytest.approx(share, abs=0.04)
    assert found.ratio == pytest.approx(math.exp(real - np.mean(divisions)), rel=0.05)


def test_one_face_made_many_times_is_no_evidence():
    """A thousand faces near to one training face are as one: half of all divisions put it into training."""
    distance = torch.rand(1, 40, generator=torch.Generator().manual_seed(3)).expand(1000, -1).contiguous()
    training = torch.zeros(40, dtype=torch.bool)
    training[distance[0].argsort()[:1]] = True
    training[distance[0].argsort()[20:39]] = True
    assert 0.2 < closeness(neighbours(distance), training, torch.arange(40), seed=0).p < 0.8


def test_faces_near_training_faces_are_noticed_and_others_are_not():
    generator = torch.Generator().manual_seed(4)
    real = torch.randn(120, 5, generator=generator)
    training = torch.arange(120) < 60
    near = real[:60] + 0.2 * torch.randn(60, 5, generator=generator)
    people = torch.arange(120) // 2
    assert closeness(neighbours(torch.cdist(near, real)), training, people, 0).p < 0.002
    chances = [
        closeness(neighbours(torch.cdist(torch.randn(60, 5, generator=generator), real)), training, people, seed).p
        for seed in range(8)
    ]
    assert 0.02 < np.median(chances) < 0.98
    assert min(chances) > 0.002
