"""Which sizes networks can make, and what they say to others."""

import pytest

from faceforge.networks.sizes import _nearest_halvings, halvings_of, multiple_of

HALVINGS = {8: 1, 14: 1, 16: 2, 20: 2, 32: 3, 64: 4, 72: 3, 80: 4, 100: 2, 128: 5, 144: 4, 272: 4}
OBLONG = {(160, 128): 5, (128, 160): 5, (320, 256): 6, (64, 128): 4, (8, 1024): 1}


@pytest.mark.parametrize(("size", "halvings"), [*HALVINGS.items(), *OBLONG.items()])
def test_halvings_worked_out_by_hand(size, halvings):
    assert halvings_of(size) == halvings


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (300, r"data.size=\[300,300\]: both sides must be multiples of 16; try \[288,288\] or \[304,304\]"),
        (70, r"data.size=\[70,70\]: both sides must be multiples of 4; try \[68,68\] or \[72,72\]"),
        ([480, 360], r"multiples of 16; try \[480,352\] or \[480,368\]"),
        ([218, 178], r"multiples of 8; try \[216,176\] or \[224,184\]"),
        ([127, 129], r"multiples of 4; try \[124,128\] or \[128,136\]"),
        ([64, 65], r"multiples of 4; try \[64,64\] or \[64,68\]"),
        (9, r"multiples of 2; try \[8,8\] or \[10,10\]"),
        (7, r"must be at least 8; try \[8,8\]"),
        (0, r"must be at least 8; try \[8,8\]"),
    ],
)
def test_illegal_halvings_name_their_neighbours(size, message):
    with pytest.raises(ValueError, match=message):
        halvings_of(size)


def test_neighbours_are_legal_and_enclose_the_wish():
    for height in range(8, 600, 3):
        for width in (height, height + 1, 2 * height + 5, 700):
            below, above = _nearest_halvings((height, width))[0], _nearest_halvings((height, width))[-1]
            for pair in (below, above):
                unit = 2 ** halvings_of(pair)
                assert pair[0] % unit == 0 == pair[1] % unit
                assert 4 <= min(pair) // unit <= 31
            assert all(b <= w <= a for b, w, a in zip(below, (height, width), above, strict=True))


def test_multiples():
    assert multiple_of([6, 9], 3, "") == (6, 9)
    with pytest.raises(ValueError, match=r"data.size=\[7,9\]: it shall be; try \[6,9\] or \[9,9\]"):
        multiple_of([7, 9], 3, "it shall be")
    with pytest.raises(ValueError, match=r"data.size=\[3,3\]: too small; try \[6,6\]"):
        multiple_of(3, 3, "too small", least=2)
