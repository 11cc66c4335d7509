"""The watch: what it says of runs that go wrong, and that it is quiet of those that do not."""

import numpy as np
import pytest

from mp3net.training.watch import Watch

WELL = {
    "gradient_penalty": 0.05, "wasserstein": 1.0, "data_wait": 0.01, "diversity": 0.9, "silent_share": 0.0,
    "hum_db_generated": -40.0, "hum_db_real": -42.0,
}  # fmt: skip


def said(rows):
    watch = Watch()
    return [watch.look(row) for row in rows]


def after(count, **wrong):
    """Rows of a run that goes well, then one in which something is wrong."""
    return [WELL] * count + [{**WELL, **wrong}]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"gradient_penalty": 30.0}, ["penalty has risen from 0.05 to 30", "learning_rate", "penalty_weight"]),
        ({"wasserstein": 9.0}, ["far ahead", "1 before, 9 now", "critic_steps = 1"]),
        ({"data_wait": 0.4}, ["40 %", "waiting for data", "mp3net.prepare"]),
        ({"diversity": 0.05}, ["all the same", "0.05", "collapsed"]),
        ({"silent_share": 0.75}, ["75 % of the songs are silent", "amplitude_scale"]),
        ({"hum_db_generated": -12.0}, ["hum: -12 dB", "-42 dB", "two shallowest blocks"]),
    ],
)
def test_each_trouble_is_told_once_with_what_to_try(wrong, words):
    found = said([*after(30, **wrong), {**WELL, **wrong}, WELL, {**WELL, **wrong}])
    assert not any(found[:30])
    (sentence,) = found[30]
    assert all(word in sentence for word in words)
    assert found[31] == [] and found[32] == [] and len(found[33]) == 1  # again, once it has passed


def test_a_critic_that_tells_nothing_apart_is_told():
    found = said([{**WELL, "wasserstein": -0.1}] * 40)
    assert sum(map(len, found)) == 1 and "does not tell generated songs from real ones" in found[20][0]


def test_a_critic_that_knows_its_recordings_is_told_once_that_is_certain():
    at = lambda *standings: [{**WELL, "held_out_standing": standing} for standing in standings]  # noqa: E731
    found = said([WELL] * 30 + [*at(0.1, 0.2), WELL, *at(0.0, 0.1), WELL, *at(0.1)])
    assert [len(each) for each in found[30:]] == [0, 0, 0, 0, 1, 0, 0]
    assert "at 0.10 +- 0.04" in found[34][0] and "by heart" in found[34][0] and "data.slicing" in found[34][0]
    assert not any(said([WELL] * 30 + at(0.1, 0.1, 0.1)))  # too few
    assert not any(said([WELL] * 30 + at(1.4, -0.9, 0.8, -1.2, 1.6, -0.6, 0.9, -0.5)))  # too uncertain


def test_a_critic_that_draws_ahead_slowly_is_told():
    rows = [{**WELL, "wasserstein": 1.0 + 0.06 * max(0, i - 30)} for i in range(120)]
    (sentence,) = [sentence for sentences in said(rows) for sentence in sentences]
    assert "over time" in sentence and "critic_steps = 1" in sentence


def test_a_run_has_time_to_begin():
    """Untrained songs are silent and alike, and the first critic knows nothing."""
    rows = [{**WELL, "silent_share": 1.0, "diversity": 0.01, "wasserstein": -0.2, "data_wait": 0.9}] * 15
    assert not any(said(rows + [WELL] * 30))


def test_what_a_row_does_not_measure_has_not_passed():
    without = {name: value for name, value in WELL.items() if name not in ("diversity", "hum_db_generated")}
    collapsed = {**WELL, "diversity": 0.05}
    found = said([WELL] * 30 + [collapsed, without, without, collapsed])
    assert len(found[30]) == 1 and found[31] == found[32] == found[33] == []


def test_a_run_that_goes_well_is_left_in_peace():
    random = np.random.default_rng(0)
    rows = [
        {
            name: value + 3 * random.normal() if "_db_" in name else value * random.uniform(0.6, 1.5)
            for name, value in WELL.items()
        }
        for _ in range(300)
    ]
    assert not any(said(rows))
    assert not any(said([{}] * 50))
