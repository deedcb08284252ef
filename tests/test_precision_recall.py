"""Precision, recall, density and coverage against their definitions in loops; diversity by hand."""

import numpy as np
import pytest
import torch

from faceforge.metrics.diversity import diversity
from faceforge.metrics.feature_set import FeatureSet
from faceforge.metrics.fid import fid
from faceforge.metrics.kid import kid
from faceforge.metrics.precision_recall import precision_recall


def points(n, d=4, shift=0.0, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)) + shift)


def in_loops(real, fake):
    def distance(a, b):
        return float(np.sqrt(((a - b) ** 2).sum()))

    def radius(of, k):
        return [sorted(distance(a, b) for m, b in enumerate(of) if m != n)[k - 1] for n, a in enumerate(of)]

    real, fake = real.numpy(), fake.numpy()
    r3, f3, r5 = radius(real, 3), radius(fake, 3), radius(real, 5)
    inside = [[distance(f, r) <= r5[n] for n, r in enumerate(real)] for f in fake]
    return {
        "precision": np.mean([any(distance(f, r) <= r3[n] for n, r in enumerate(real)) for f in fake]),
        "recall": np.mean([any(distance(f, r) <= f3[n] for n, f in enumerate(fake)) for r in real]),
        "density": np.mean([sum(row) / 5 for row in inside]),
        "coverage": np.mean(np.any(inside, axis=0)),
    }


@pytest.mark.parametrize(("n", "m", "shift"), [(21, 17, 0.0), (12, 30, 0.8), (6, 6, 0.3)])
def test_the_definitions(n, m, shift):
    real, fake = points(n), points(m, shift=shift, seed=1)
    found = precision_recall(real, fake)
    expected = in_loops(real, fake)
    assert {name: score.value for name, score in found.items()} == pytest.approx(expected)
    assert all(score.low <= score.value <= score.high for score in found.values())


def test_ends_of_the_scale():
    real = points(20)
    same, far = precision_recall(real, real), precision_recall(real, points(15, shift=100, seed=1))
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert [far[name].value for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    assert far["precision"].high == pytest.approx(3 / 15)  # none of 15: up to 3/15 is not refuted
    assert same["recall"].low == pytest.approx(1 - 3 / 20)


def test_a_few_faces_repeated_are_precise_and_reach_little():
    real = points(60)
    few = real[:3].repeat(20, 1) + 0.01 * points(60, seed=2)
    found = precision_recall(real, few)
    assert found["precision"].value == 1
    assert found["recall"].value < 0.2


def test_people_widen_the_interval_of_what_is_counted_over_real_faces():
    real, fake = points(40), points(40, shift=0.5, seed=1)
    alone = precision_recall(real, fake)["recall"]
    people = precision_recall(real, fake, [n // 10 for n in range(40)])["recall"]
    assert people.value == alone.value
    assert (people.low, people.high) != (alone.low, alone.high)


def test_too_few_points_have_no_neighbours():
    with pytest.raises(ValueError, match="5 faces: each must have 5 neighbours"):
        precision_recall(points(5), points(9))


def test_neighbours_on_a_line():
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    nearest = FeatureSet(line).within.nearest
    assert nearest.tolist() == [[1, 3, 7], [1, 2, 6], [2, 3, 4], [4, 6, 7]]


def test_counts_on_a_line():
    """Balls around 0, 1, 2, 3, 4, 5 reach the third neighbour at 3, 2, 2, 2, 2, 3 and the fifth at 5, 4, 3, 3, 4, 5."""
    line, two = torch.arange(6.0)[:, None], torch.tensor([[-2.5], [7.5], [100.0], [101.0], [102.0], [103.0]])
    counts = FeatureSet(line).across(FeatureSet(two)).counts
    assert counts.in_first.tolist() == [1, 1, 0, 0, 0, 0]
    assert counts.crowd.tolist() == [2, 2, 0, 0, 0, 0]
    assert counts.held.tolist() == [1, 1, 0, 0, 1, 1]
    assert counts.in_second.tolist() == [2] * 6  # their own third neighbours are more than 90 away


def test_sets_give_the_scores_of_their_features_from_pairs_that_are_looked_at_once(monkeypatch):
    real, fake, who = points(620, 5), points(530, 5, 0.2, seed=1), [n // 2 for n in range(620)]  # more than a block
    looked = []
    whole = FeatureSet._pairs
    monkeypatch.setattr(FeatureSet, "_pairs", lambda *asked: looked.append(asked) or whole(*asked))
    a, b = FeatureSet(real, who), FeatureSet(fake)
    for score in (kid, fid, diversity, precision_recall):
        assert score(a, b) == score(real, fake, who)
    looked.clear()
    for score in (kid, fid, diversity, precision_recall):
        score(a, FeatureSet(fake))
    rows = [(one is a, other is a) for one, other, _ in looked]
    assert rows.count((True, True)) == 0  # those within the first set are known already


# Diversity


def test_diversity_by_hand():
    real, fake = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    assert diversity(real, fake).value == pytest.approx(0.5)
    repeated = diversity(real, torch.ones(5, 1))
    assert (repeated.value, repeated.low, repeated.high) == (0, 0, 0)


def test_pairs_of_one_person_do_not_count():
    """Of a, a', b, c with a = a': six ordered pairs of different people less the same person's."""
    real = torch.tensor([[0.0], [0.0], [3.0], [6.0]])
    # pairs of different people: a-b 3, a-c 6, a'-b 3, a'-c 6, b-c 3: mean 4.2
    assert diversity(real, 2.1 * torch.tensor([[0.0], [1.0], [2.0]]), ["a", "a", "b", "c"]).value == pytest.approx(
        2.1 * (4 / 3) / 4.2
    )


def test_the_diversity_of_the_same_distribution_is_about_one():
    found = diversity(points(200, 20), points(200, 20, seed=1))
    assert found.low < 1 < found.high
    assert found.high - found.low < 0.1
    narrow = diversity(points(200, 20), 0.5 * points(200, 20, seed=1))
    assert narrow.value == pytest.approx(0.5, abs=0.03)
    assert narrow.high < 0.6
