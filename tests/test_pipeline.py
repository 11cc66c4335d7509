"""From a folder to batches: what is in them, and that they depend on (seed, step) alone."""

import dataclasses
import os

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import assert_close, tones, write_corpus

from mp3net.audio.mdct import MDCT
from mp3net.data.conversion import Settings
from mp3net.data.pipeline import DataSettings, Pipeline
from mp3net.data.preparation import prepare
from mp3net.errors import UserError
from mp3net.stage import Stage

RATE_HZ, BANDS, BLOCKS = 4000, 8, 64
STAGE = Stage("main", 100, batch_size=3, crop_samples=(BLOCKS + 1) * BANDS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def pipeline(folder, channels=2, seed=0, rate_hz=RATE_HZ, **settings):
    encode = MDCT(BANDS).forward
    return Pipeline(folder, DataSettings(**settings), rate_hz, channels, encode, overlap=BANDS, seed=seed)


def take(made, count, first_step=0):
    """The first `count` rounds of two steps, as one replica takes them."""
    try:
        rounds = list(made.dataset(STAGE, first_step, 2).take(count))
    except tf.errors.OpError:
        raise made.error from None
    return [(amplitudes[0], examples[0]) for amplitudes, examples in rounds]


def test_a_batch_is_the_mdct_of_its_crops_at_the_asked_peak(corpus):
    made = pipeline(corpus, peak=0.5)
    (amplitudes, examples), *_ = take(made, 1)
    assert amplitudes.shape == (2, 3, BLOCKS, BANDS, 2)
    assert_close(examples, [[0, 1, 2], [3, 4, 5]])
    plan = made.plan(STAGE.crop_samples)
    for amplitude, example in zip(amplitudes.numpy().reshape(6, BLOCKS, BANDS, 2), range(6), strict=True):
        recording, start = plan.crop(example)
        whole, _ = soundfile.read(made.recordings[recording].path)
        crop = whole[start : start + STAGE.crop_samples] * 0.5 / np.abs(whole).max()
        assert_close(amplitude, MDCT(BANDS).forward(crop[None].astype(np.float32))[0], atol=1e-5)
    assert np.abs(amplitudes).max() > 0.01


def test_examples_are_the_first_of_the_run(corpus):
    made = pipeline(corpus)
    (amplitudes, _), *_ = take(made, 1)
    assert_close(made.examples(STAGE, 5), amplitudes.numpy().reshape(6, BLOCKS, BANDS, 2)[:5])


def test_splits_that_are_not_trained_on_are_held_out(tmp_path):
    write_corpus(tmp_path, count=4)
    splits = ["train", "validation", "train", "test"]
    lines = [f"piece-{i}.wav,{split},200{i // 2}" for i, split in enumerate(splits)]
    (tmp_path / "maestro.csv").write_text("\n".join(["audio_filename,split,year", *lines]))
    made = pipeline(tmp_path, splits=["train"])
    rest = made.held_out(STAGE.crop_samples)
    assert [each.audio_filename for each in made.recordings] == ["piece-0.wav", "piece-2.wav"]
    assert [each.audio_filename for each in rest.recordings] == ["piece-1.wav", "piece-3.wav"]
    examples = rest.examples(STAGE, 2).numpy()
    index, start = rest.plan(STAGE.crop_samples).crop(1)
    whole, _ = soundfile.read(rest.recordings[index].path)
    crop = whole[start : start + STAGE.crop_samples] * 0.999 / np.abs(whole).max()
    assert_close(examples[1], MDCT(BANDS).forward(crop[None].astype(np.float32))[0], atol=1e-5)
    assert made.held_out(10**6) is None  # none of them is as long
    assert pipeline(tmp_path).held_out(STAGE.crop_samples) is None  # all are trained on
    # Of another year than is asked, nothing is held out either.
    assert pipeline(tmp_path, splits=["train"], years=[2000]).recordings[0].audio_filename == "piece-0.wav"
    of_2001 = pipeline(tmp_path, splits=["train"], years=[2001]).held_out(STAGE.crop_samples)
    assert [each.audio_filename for each in of_2001.recordings] == ["piece-3.wav"]


def test_levels_are_left_alone_where_no_peak_is_asked(corpus):
    loud, plain = (take(pipeline(corpus, peak=peak), 1)[0][0].numpy() for peak in (0.999, None))
    assert np.abs(loud).max() > 1.2 * np.abs(plain).max() > 0


@pytest.mark.parametrize("slicing", ["fixed", "random"])
def test_a_run_that_begins_later_reads_what_the_first_would_have(corpus, slicing):
    whole = take(pipeline(corpus, slicing=slicing), 5)
    later = take(pipeline(corpus, slicing=slicing), 3, first_step=4)
    for (amplitudes, examples), (again, examples_again) in zip(whole[2:], later, strict=True):
        np.testing.assert_array_equal(amplitudes, again)
        np.testing.assert_array_equal(examples, examples_again)
    other = take(pipeline(corpus, slicing=slicing, seed=1), 1)
    assert not np.array_equal(other[0][0], whole[0][0])


@pytest.mark.parametrize("rounds", [1, 2])
def test_replicas_share_each_batch_and_miss_nothing(corpus, rounds):
    """Two hosts of three replicas, a batch of 6: every step is 6 consecutive examples, each replica's its own."""
    stage = dataclasses.replace(STAGE, batch_size=6)
    made = pipeline(corpus)
    hosts = []
    for first in (0, 3):
        dataset = made.dataset(stage, 10, 2, rounds, replicas=6, first_replica=first, count=3)
        elements = [examples.numpy() for _, examples in dataset.take(6)]  # two calls of three replicas
        hosts.append(np.stack(elements).reshape(2, 3, rounds, 2, 1))
    together = np.concatenate(hosts, axis=1)  # [call, replica, round, step, example]
    in_order = together.transpose(0, 2, 3, 1, 4)
    np.testing.assert_array_equal(in_order.reshape(-1), np.arange(60, 60 + 2 * rounds * 2 * 6))


def test_in_an_epoch_of_fixed_slices_every_crop_is_seen_once_however_many_hosts(corpus):
    made = pipeline(corpus)
    plan = made.plan(STAGE.crop_samples)
    steps = -(-plan.count // 3)  # the last batch may reach into the next epoch
    for hosts in (1, 3):
        seen = []
        for host in range(hosts):
            dataset = made.dataset(STAGE, 0, 1, 1, hosts, host, 1)
            seen += [int(e) for _, examples in dataset.take(steps) for e in examples.numpy().reshape(-1)]
        crops = [plan.crop(example) for example in sorted(seen) if example < plan.count]
        assert len(crops) == plan.count > 50 and len(set(crops)) == plan.count


def test_recordings_at_another_rate_are_resampled_crop_by_crop(tmp_path):
    """A tone of 500 Hz at 11,025 Hz is one at 4,000 Hz: its energy is where bands 1 and 2, of 250 Hz each, meet."""
    time_s = np.arange(11025 * 4) / 11025
    wave = 0.5 * np.sin(2 * np.pi * 500 * time_s)
    soundfile.write(tmp_path / "tone.wav", np.stack([wave, wave], axis=1), 11025)
    made = pipeline(tmp_path, peak=None)
    assert made.resamples == 1
    power = np.square(take(made, 1)[0][0].numpy()).mean(axis=(0, 1, 2, 4))
    assert power[1] + power[2] > 0.95 * power.sum() > 0


def test_mono_is_the_mean_of_both_channels(corpus):
    stereo = pipeline(corpus, peak=None)
    mono = pipeline(corpus, channels=1, peak=None)
    assert_close(take(mono, 1)[0][0][..., 0], tf.reduce_mean(take(stereo, 1)[0][0], axis=-1), atol=1e-6)


def test_mono_recordings_are_left_out_of_stereo_or_doubled(tmp_path):
    write_corpus(tmp_path, count=1, channels=1)
    with pytest.raises(UserError, match="mono"):
        pipeline(tmp_path)
    amplitudes = take(pipeline(tmp_path, upmix=True), 1)[0][0].numpy()
    assert_close(amplitudes[..., 0], amplitudes[..., 1])
    assert np.abs(amplitudes).max() > 0


def test_a_recording_that_vanishes_ends_the_run_with_its_name(tmp_path):
    made = pipeline(write_corpus(tmp_path, count=1))
    os.remove(tmp_path / "piece-0.wav")
    with pytest.raises(UserError, match=r"piece-0\.wav"):
        take(made, 1)


def test_a_silent_recording_stays_silent(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros((16000, 2)), RATE_HZ)
    amplitudes = take(pipeline(tmp_path), 1)[0][0].numpy()
    assert amplitudes.size and not np.any(amplitudes)


@pytest.mark.parametrize("settings, word", [({"reader": "librosa"}, "data.reader"), ({"peak": 2.0}, "data.peak")])
def test_settings_that_make_no_sense_are_told(settings, word):
    with pytest.raises(UserError, match=word):
        DataSettings(**settings)


def require_tensorflow_io():
    """Skips where TensorFlow is another than the one that tensorflow-io's last release loads under; there, it must."""
    if not tf.__version__.startswith("2.16."):
        pytest.skip("tensorflow-io needs TensorFlow 2.16: make test-oldest")
    import tensorflow_io  # noqa: F401


def test_tensorflow_io_reads_the_same_crops(tmp_path):
    """Its resampler rolls off earlier and is late by a few samples, so levels are compared, not samples."""
    require_tensorflow_io()
    soundfile.write(tmp_path / "tone.wav", 0.5 * tones(6, 8000), 8000, subtype="PCM_16")
    ours, theirs = (take(pipeline(tmp_path, reader=reader), 2) for reader in ("soxr", "tensorflow-io"))
    for (mine, examples), (other, examples_again) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(examples, examples_again)
        level, other_level = (np.sqrt(np.square(x.numpy()).mean(axis=(2, 4))) for x in (mine, other))
        assert_close(other_level[..., :6], level[..., :6], rtol=0.25, atol=2e-3)


def test_tensorflow_io_refuses_what_it_cannot_read(tmp_path):
    require_tensorflow_io()
    soundfile.write(tmp_path / "tone.ogg", tones(6, 8000), 8000)
    with pytest.raises(UserError, match=r"tone\.ogg.*16-bit"):
        pipeline(tmp_path, reader="tensorflow-io")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("slicing", ["fixed", "random"])
def test_a_prepared_corpus_gives_the_same_examples_as_its_source(tmp_path, slicing, channels):
    (tmp_path / "in").mkdir()
    for i, frames in enumerate((11025, 12501, 15338, 20001)):  # at 4,000 Hz: 4000.0, 4535.5, 5564.8 and 7256.6 samples
        wave = tones(2, 11025, seed=i)[:frames]
        soundfile.write(tmp_path / "in" / f"{i}.wav", wave, 11025, subtype="PCM_16")
    prepare(tmp_path / "in", tmp_path / "out", Settings(RATE_HZ, channels, False), jobs=1)
    source, prepared = (pipeline(tmp_path / name, channels, slicing=slicing) for name in ("in", "out"))
    assert (source.resamples, prepared.resamples) == (4, 0)
    assert source.plan(STAGE.crop_samples).lengths == prepared.plan(STAGE.crop_samples).lengths
    for (mine, _), (other, _) in zip(take(source, 2), take(prepared, 2), strict=True):
        assert np.abs(mine).max() > 0.01
        assert_close(mine, other, atol=1e-3)  # to what 16 bits hold, at the level of 0.999
