"""Which crop an example is."""

import numpy as np
import pytest

from mp3net.data.crops import CropPlan
from mp3net.errors import UserError


def plan(lengths=(100, 39, 75), slicing="fixed", seed=0, crop=40, overlap=10):
    return CropPlan(tuple(f"file {i}" for i in range(len(lengths))), lengths, crop, overlap, slicing, seed, rate_hz=10)


def test_slices_follow_one_another_but_for_their_overlap():
    """Of 100 samples: 0-40, 30-70, 60-100. Of 39: none. Of 75: 0-40, 30-70."""
    found = sorted(plan().crop(position) for position in range(5))
    assert plan().count == 5
    assert found == [(0, 0), (0, 30), (0, 60), (2, 0), (2, 30)]


def test_every_epoch_holds_every_slice_once_in_an_order_of_its_own():
    many = plan(lengths=(1000, 2000, 555))
    epochs = [[many.crop(epoch * many.count + place) for place in range(many.count)] for epoch in range(3)]
    assert many.count == 33 + 66 + 18
    for epoch in epochs:
        assert len(set(epoch)) == many.count
    assert epochs[0] != epochs[1] != epochs[2]
    other = plan(lengths=(1000, 2000, 555), seed=1)
    assert [other.crop(place) for place in range(many.count)] != epochs[0]


def test_a_position_says_it_all():
    many = plan(lengths=(1000, 2000))
    forwards = [many.crop(position) for position in range(300)]
    assert [plan(lengths=(1000, 2000)).crop(position) for position in reversed(range(300))] == forwards[::-1]


def test_random_crops_are_uniform_over_all_starts_and_stay_inside():
    chosen = plan(lengths=(60, 30, 100), slicing="random")
    found = [chosen.crop(position) for position in range(4000)]
    assert chosen.count == 21 + 61
    starts = {0: 21, 2: 61}
    for recording, possible in starts.items():
        here = [start for index, start in found if index == recording]
        assert set(here) == set(range(possible))
        assert len(here) / len(found) == pytest.approx(possible / 82, abs=0.04)
    assert {index for index, _ in found} == {0, 2}
    assert np.std([start for index, start in found if index == 2]) == pytest.approx(61 / 12**0.5, rel=0.05)


def test_too_short_recordings_are_told_with_the_longest():
    with pytest.raises(UserError, match=r"takes 20.00 s.*longest of 3, file 0, has 10.00 s"):
        plan(crop=200)


def test_an_unknown_slicing_is_told():
    with pytest.raises(UserError, match="data.slicing is 'any'"):
        plan(slicing="any")
