"""What a run sounds and looks like so far: songs of fixed seeds beside real ones, every so often.

They are made on the host's CPU by a twin of the system, by the path that `generate` takes: so they sound as it would
make them, whatever trains.
"""

import io
import os
import time

import numpy as np
import soundfile
import tensorflow as tf

from mp3net.evaluation import exhibits, pictures
from mp3net.evaluation.description import describe
from mp3net.evaluation.scores import scores
from mp3net.training.sampling import Sampler

SHARE = 0.02  # of a run's time that goes into them, at most
_HEARD_S = 10.0  # of each song in TensorBoard, which keeps sound as it is
_FOLLOWED = (  # measures that are followed over a run: the rest is for `evaluate`
    "tonality_generated", "tonality_real", "tonality_noised_real", "hum_db_generated", "hum_db_real", "diversity",
    "rms_db_generated", "rms_db_real",
)  # fmt: skip


class Previews:
    """The previews of one run, made by the host that writes its files.

    Args:
      training: a `Training`; its `preview_songs` are the songs, of seeds 0, 1, and so on.
      stage: whose audio the real songs are.
      data: as of trainer.py; its first examples are the real songs, and those that it holds out tell of the critic.
      workdir: where `previews/` is.
      summaries: `Summaries`, which TensorBoard reads.
      log: takes a line where one fails, which the run survives.
      step: where the run begins; previews of later ones, which it left when it was killed, are removed.
    """

    def __init__(self, training, stage, data, workdir, summaries, log, step=0):
        self._training, self._system, self._stage, self._data = training, training.system, stage, data
        self._folder, self._summaries, self._log = os.path.join(str(workdir), "previews"), summaries, log
        self._begun, self._last, self._spent_s, self._cost_s = time.monotonic(), None, 0.0, 0.0
        self._twin = None
        self._remove_after(step)

    @property
    def due(self):
        """Whether it is time: neither more often than `preview_every_minutes`, nor than `SHARE` of the time allows."""
        if not self._training.preview_songs:
            return False
        now = time.monotonic()
        since_s = now - (self._begun if self._last is None else self._last)
        affordable = self._spent_s + self._cost_s <= SHARE * (now - self._begun)
        return since_s >= 60 * self._training.preview_every_minutes and (self._last is None or affordable)

    def make(self, step):
        """Writes that of `step`, and returns what was measured, floats by name: none where it failed."""
        begun = time.monotonic()
        try:
            with tf.device("CPU"):
                return self._made(step)
        except Exception as error:  # whatever it is, it must not cost a run of days
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self._log(f"step {step}: no preview ({reason[0][:200]}); training goes on")
            return {}
        finally:
            self._last = time.monotonic()
            self._cost_s = self._last - begun
            self._spent_s += self._cost_s

    def _remove_after(self, step):
        names = tf.io.gfile.listdir(self._folder) if tf.io.gfile.isdir(self._folder) else []
        for name in (name.rstrip("/") for name in names):
            number = name.removeprefix("step-")
            if number != name and number.isdigit() and int(number) > step:
                tf.io.gfile.rmtree(os.path.join(self._folder, name))

    def _made(self, step):
        if self._twin is None:
            self._begin()
        for mine, theirs in zip(_variables(self._twin), _variables(self._system), strict=True):
            mine.assign(theirs.numpy())
        seeds = range(self._training.preview_songs)
        songs = {f"seed {seed}": self._sampler.song(seed) for seed in seeds}
        drawn = self._drawn(songs, self._twin)
        self._write(f"step-{step:08d}", songs, drawn)
        heard = [self._described(name, song) for name, song in songs.items()]
        found = scores(heard, self._real)[0]
        row = {name: found[name] for name in _FOLLOWED if found.get(name) is not None}
        row["silent_share"] = found["silent_generated"] / len(songs)
        critic = self._critic_scores(step)
        histograms = {f"score of {name}": each for name, each in critic.items()}
        sounds = self._excerpts("generated", songs)
        self._summaries.write_preview(step, sounds, _tagged("generated", drawn), histograms)
        return row | _standing(critic)

    def _begin(self):
        """The twin, and the real songs: decoded from the run's first examples, described and written once."""
        twin = self._system.twin()
        tensors = self._data.examples(self._stage, self._training.preview_songs)
        waves = [twin.representation.decode(tensor[None])[0].numpy() for tensor in tensors]
        real = {f"example {i}": wave for i, wave in enumerate(waves)}
        self._real = [self._described(name, wave, with_noise=True) for name, wave in real.items()]
        self._held_out = self._data.held_out(self._stage.crop_samples)
        drawn = self._drawn(real, twin)
        self._write("real", real, drawn)
        self._summaries.write_preview(0, self._excerpts("real", real), _tagged("real", drawn), {})
        self._sampler, self._twin = Sampler(twin), twin  # last: what fails before is tried again

    def _critic_scores(self, step):
        """The critic's scores `[n]` by name: of real examples, other ones at each preview, of held-out ones where there
        are any, and of the songs; nothing where there is no critic.
        """
        count = self._training.preview_songs
        tensors = {"real": self._data.examples(self._stage, count, first=step)}
        if self._held_out is not None:
            tensors["held out"] = self._held_out.examples(self._stage, count, first=step)
        found = self._twin.critic_scores(tensors, tf.range(count, dtype=tf.int64)) or {}
        return {name: each.numpy() for name, each in found.items()}

    def _described(self, name, wave, with_noise=False):
        return describe(name, np.nan_to_num(wave), self._system.rate_hz, self._system.bands, with_noise)

    def _write(self, name, songs, drawn):
        """Sound and pictures of each song, as files."""
        folder = os.path.join(self._folder, name)
        tf.io.gfile.makedirs(folder)
        for title, song in songs.items():
            stem = os.path.join(folder, title.replace(" ", "-"))
            sound = exhibits.encode(np.clip(np.nan_to_num(song), -1, 1), self._system.rate_hz, "ogg")[0]
            spectrogram, amplitudes = drawn[title]
            for ending, content in ((".ogg", sound), (".png", spectrogram), ("-amplitudes.png", amplitudes)):
                with tf.io.gfile.GFile(stem + ending, "wb") as file:
                    file.write(content)

    def _excerpts(self, side, songs):
        """The beginning of each song, as the bytes of a WAV."""
        found = {}
        for name, song in songs.items():
            file = io.BytesIO()
            start = np.clip(np.nan_to_num(song[: round(_HEARD_S * self._system.rate_hz)]), -1, 1)
            soundfile.write(file, start, self._system.rate_hz, subtype="PCM_16", format="WAV")
            found[f"{side}/{name}"] = file.getvalue()
        return found

    def _drawn(self, songs, twin):
        """The spectrogram and the MDCT amplitudes of each song, as the bytes of PNGs: a pair by name."""
        found = {}
        for name, song in songs.items():
            clean = np.nan_to_num(song)
            amplitudes = twin.representation.encode(clean[None])[0].numpy()
            shown = pictures.spectrogram(np.clip(clean, -1, 1), self._system.rate_hz).png
            found[name] = shown, pictures.signed(amplitudes.mean(axis=-1))
        return found


def _tagged(side, drawn):
    """`Previews._drawn` as TensorBoard has it."""
    kinds = "spectrogram", "amplitudes"
    return {f"{side} {kind}/{name}": png for name, pair in drawn.items() for kind, png in zip(kinds, pair, strict=True)}


def _standing(scores):
    """Where music that was held out stands for the critic: at 1 with what it is trained on, at 0 with what G makes.

    Nothing where nothing is held out, or where it does not tell those two apart.
    """
    if "held out" not in scores:
        return {}
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    gap = means["real"] - means["generated"]
    if not (gap > np.std(scores["real"]) / 2 and np.isfinite(means["held out"])):
        return {}
    return {"held_out_standing": (means["held out"] - means["generated"]) / gap}


def _variables(system):
    return [variable for item in system.preview_items().values() for variable in item.variables]
