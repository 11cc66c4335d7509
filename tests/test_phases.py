"""How phases cut a run."""

import pytest

from mp3net.errors import UserError
from mp3net.model.phases import Phase, cut


@pytest.mark.parametrize(
    "phases, steps, expected",
    [
        ([], 100, [("main", 100)]),
        ([Phase("sharpen", last=18)], 100, [("main", 82), ("sharpen", 18)]),
        ([Phase("late", last=20), Phase("early", first=10)], 100, [("main", 10), ("early", 70), ("late", 20)]),
        ([Phase("all", last=200)], 100, [("all", 100)]),
        ([Phase("from the start", first=0)], 100, [("from the start", 100)]),
        ([Phase("after the end", first=200)], 100, [("main", 100)]),
    ],
)
def test_a_run_is_cut_where_phases_begin(phases, steps, expected):
    assert [(phase.name, length) for phase, length in cut(phases, steps, 2, 3)] == expected


@pytest.mark.parametrize(
    "phases, steps, words",
    [
        ([], 101, "train.steps is 101"),
        ([Phase("odd", last=31)], 100, "'odd'"),
        ([Phase("deep", last=30, trainable_blocks=4)], 100, "there are 3 blocks"),
        ([Phase("one", last=30), Phase("two", first=70)], 100, "'one' and 'two' both begin at step 70"),
    ],
)
def test_what_does_not_fit_is_told(phases, steps, words):
    with pytest.raises(UserError, match=words):
        cut(phases, steps, 2, 3)


@pytest.mark.parametrize("wrong", [{"first": -2}, {"last": 0}, {"first": 1.5}, {"last": 2, "trainable_blocks": 0}])
def test_impossible_phases_are_refused(wrong):
    with pytest.raises(UserError, match="Phase"):
        Phase("wrong", **wrong)


@pytest.mark.parametrize("ends", [{}, {"first": 2, "last": 2}])
def test_a_phase_says_where_it_begins_once(ends):
    with pytest.raises(UserError, match="either first"):
        Phase("vague", **ends)
