"""Previews of a run: what they are of, what they write, what they may cost."""

import glob
import io
import json
import types

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from helpers import TINY, command, tones, write_corpus

from mp3net.errors import UserError
from mp3net.evaluation import pictures
from mp3net.model.architecture import Architecture
from mp3net.model.mp3net import MP3net
from mp3net.training import previews
from mp3net.training.previews import SHARE, Previews
from mp3net.training.sampling import Sampler
from mp3net.training.summaries import Summaries

SIZES = Architecture(
    model_blocks=2, base=(32, 2), latent_size=8, shallowest_features=4, max_features=8, head_features=8, rate_hz=4000
)


class Data:
    """Encoded tones, no two alike."""

    def __init__(self, held_out=None):
        self._held_out = held_out

    def examples(self, stage, count, first=0):
        first += 0 if self._held_out else 100  # what is held out is other music
        waves = np.stack([tones(stage.crop_samples / 4000, 4000, seed=first + i) for i in range(count)])
        return MP3net(SIZES).representation.encode(tf.constant(waves))

    def held_out(self, crop_samples):
        return self._held_out


def made(workdir, songs=3, log=print, data=None, step=0, **options):
    system = MP3net(SIZES, **options).build(seed=1)
    for variable in system.generator.trainable_variables:
        variable.assign(1.3 * variable)
    training = types.SimpleNamespace(system=system, preview_songs=songs, preview_every_minutes=1.0)
    return Previews(training, system.stages(60)[0], data or Data(), workdir, Summaries(workdir, step), log, step)


def logged(workdir, of=lambda event, value: event.step):
    """Tags of TensorBoard's events, each with what there is `of` them: by default their steps."""
    found = {}
    for path in glob.glob(f"{workdir}/tensorboard/**/events*", recursive=True):
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(of(event, value))
    return found


@pytest.mark.parametrize("average_decay", [None, 0.5])
def test_previews_are_the_songs_of_the_weights_as_they_are(tmp_path, average_decay):
    kept = made(tmp_path, average_decay=average_decay)
    system = kept._system
    first = kept.make(4)
    for variable in system.generator.trainable_variables:
        variable.assign(0.5 * variable)
    if average_decay:
        for variable in system.average.trainable_variables:
            variable.assign(0.7 * variable)
    kept.make(8)
    expected = Sampler(system).song(1)
    np.testing.assert_array_equal(kept._sampler.song(1), expected)
    heard, rate_hz = soundfile.read(tmp_path / "previews" / "step-00000008" / "seed-1.ogg", always_2d=True)
    assert rate_hz == 4000 and heard.shape == expected.shape
    assert np.corrcoef(heard.ravel(), expected.ravel())[0, 1] > 0.8  # it is coded
    assert 0 < first["tonality_generated"] < 1 and 0 < first["tonality_real"] < 1 and first["diversity"] > 0
    assert first["tonality_noised_real"] != first["tonality_real"] and "hum_db_generated" in first


def test_previews_after_the_last_checkpoint_go_when_a_run_resumes(tmp_path):
    for name in ("step-00000004", "step-00000008", "step-00000012", "step-mine", "real"):
        (tmp_path / "previews" / name).mkdir(parents=True)
    made(tmp_path, step=8)
    left = sorted(path.name for path in (tmp_path / "previews").iterdir())
    assert left == ["real", "step-00000004", "step-00000008", "step-mine"]


def test_what_is_written_is_there_to_be_seen_and_heard(tmp_path):
    made(tmp_path).make(4)
    names = sorted(path.name for path in (tmp_path / "previews" / "step-00000004").iterdir())
    assert names == sorted(f"seed-{i}{ending}" for i in range(3) for ending in ("-amplitudes.png", ".ogg", ".png"))
    assert len(list((tmp_path / "previews" / "real").iterdir())) == 9
    assert (tmp_path / "previews" / "real" / "example-0.png").read_bytes().startswith(b"\x89PNG")
    tags = logged(tmp_path)
    for tag in ("generated/seed 2", "generated spectrogram/seed 0", "generated amplitudes/seed 0", "score of real"):
        assert tags[tag] == [4], tag
    assert tags["real/example 0"] == [0] and tags["score of generated"] == [4]
    (wav,) = logged(tmp_path, lambda _, value: value)["generated/seed 2"]
    assert wav.metadata.plugin_data.plugin_name == "audio"
    heard, rate_hz = soundfile.read(io.BytesIO(wav.tensor.string_val[0]), always_2d=True)
    assert rate_hz == 4000 and heard.shape == (SIZES.song_samples, 2) and np.abs(heard).max() > 0
    (picture,) = logged(tmp_path, lambda _, value: value)["generated amplitudes/seed 0"]
    width, height, png = picture.tensor.string_val
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3) and int(height) == SIZES.bands


def test_the_critic_scores_real_and_generated_with_noise(tmp_path):
    kept = made(tmp_path, data=Data(held_out=Data()))
    kept.make(4)
    noisy = kept._critic_scores(4)
    twin, system, seeds = kept._twin, kept._system, tf.constant([0, 1, 2], tf.int64)
    sides = {
        "real": kept._data.examples(kept._stage, 3, first=4),
        "held out": Data().examples(kept._stage, 3, first=4),
        "generated": system.generator(system.latents(seeds)),
    }
    twin.perception = lambda amplitudes, pairs: amplitudes
    plain = kept._critic_scores(4)
    assert noisy.keys() == plain.keys() == sides.keys()
    for name, each in sides.items():
        np.testing.assert_allclose(plain[name], system.discriminator(each), rtol=1e-4)
        assert noisy[name].shape == (3,) and np.abs(noisy[name] - plain[name]).max() > 0
        assert logged(tmp_path)[f"score of {name}"] == [4]
    assert not np.allclose(kept._critic_scores(5)["real"], plain["real"])  # other examples each time
    twin.critic_scores = lambda tensors, seeds: {
        "real": tf.constant([4.0, 6.0]), "held out": tf.constant([2.0, 3.0]), "generated": tf.zeros(2)
    }  # fmt: skip
    assert kept.make(6)["held_out_standing"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "held_out, standing", [([4.0, 6.0], 1.0), ([-1.0, 1.0], 0.0), ([2.0, 3.0], 0.5), ([9.0, 11.0], 2.0)]
)
def test_held_out_music_stands_between_songs_and_training_music(held_out, standing):
    scores = {"real": np.array([4.0, 6.0]), "generated": np.array([0.5, -0.5]), "held out": np.array(held_out)}
    assert previews._standing(scores) == {"held_out_standing": pytest.approx(standing)}
    scores["generated"] += 4.6  # all but as the real ones: then there is nothing to stand between
    assert previews._standing(scores) == {}
    del scores["held out"]
    assert previews._standing(scores) == {}


def test_previews_take_no_more_than_their_share_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(previews.time, "monotonic", lambda: now[0])
    kept = made(tmp_path)
    monkeypatch.setattr(kept, "_made", lambda step: now.__setitem__(0, now[0] + 7.0) or {"made": step})
    asked = []
    while now[0] < 4000:
        if kept.due:
            asked.append(now[0])
            kept.make(1)
        now[0] += 1.0
    assert asked[0] == 60.0 and len(asked) > 5
    # After the first, of which nobody knows what it costs, never more than the share, with the one that comes.
    assert all(7.0 * (i + 1) <= SHARE * at + 1e-9 for i, at in enumerate(asked) if i)
    assert np.diff(asked).min() >= 60
    kept._training.preview_songs = 0
    now[0] += 1e6
    assert not kept.due


def test_a_preview_that_fails_costs_the_run_nothing_and_is_tried_again(tmp_path):
    said = []
    (tmp_path / "previews").write_text("a file where the folder should be")
    kept = made(tmp_path, log=said.append)
    assert kept.make(4) == {} and "step 4: no preview" in said[0] and "training goes on" in said[0]
    (tmp_path / "previews").unlink()
    kept._data.examples = lambda *_, **__: (_ for _ in ()).throw(UserError("piece.wav is damaged"))
    assert kept.make(8) == {} and "step 8: no preview (piece.wav is damaged)" in said[1]
    del kept._data.examples
    assert kept.make(12)["diversity"] > 0 and len(said) == 2
    assert (tmp_path / "previews" / "real" / "example-2.ogg").exists()


@pytest.mark.parametrize("device", ["cpu", "cpu:2"])
def test_a_run_makes_previews_and_logs_what_they_measure(tmp_path, device):
    corpus, gin = write_corpus(tmp_path / "corpus"), tmp_path / "tiny.gin"
    gin.write_text(TINY + "Architecture.base = (32, 2)\ntrain.preview_every_minutes = 0.0\ntrain.steps = 4\n")
    done = command("train", "--gin", gin, "--data", corpus, "--workdir", tmp_path / "run", "--device", device)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 0 < rows[0]["tonality_generated"] < 1 and "tonality_generated" not in rows[1]
    assert len(list((tmp_path / "run" / "previews" / "step-00000002").iterdir())) == 12
    assert "E0000" not in done.stderr and "Traceback" not in done.stderr


def test_pictures_of_amplitudes_keep_their_sign():
    amplitudes = np.zeros((1600, 4))
    amplitudes[::2, 1], amplitudes[::2, 3] = 0.05, -0.05
    picture = tf.io.decode_png(pictures.signed(amplitudes)).numpy()
    assert picture.shape == (4, 800, 3) and np.ptp(picture, axis=2).max() == 0
    assert np.all(picture[3] == 128) and np.all(picture[2] > 200) and np.all(picture[0] < 56)  # the highest is on top
