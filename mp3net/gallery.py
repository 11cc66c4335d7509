"""python -m mp3net.gallery: a page to listen on, of generated songs beside real ones; one file that needs no server."""

import math
import os
import tempfile
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mp3net import cli
from mp3net.errors import UsageError, UserError

_TELL_EVERY_S = 2.0


def main(arguments=None):
    """Reads flags, loads the checkpoint, gathers and makes songs, and writes the page."""
    options = _parser().parse_args(arguments)
    _check(options)
    cli.require_tensorflow()

    from mp3net import systems
    from mp3net.evaluation import page
    from mp3net.training import checkpoints, devices
    from mp3net.training.sampling import Sampler

    devices.exact_float32()
    begun = time.monotonic()
    checkpoint = checkpoints.find(options.workdir)
    system = systems.for_sampling(checkpoint)
    weights = "moving average" if "average" in system.generation_items() else "as trained"
    _check_folder(options.out)
    print(f"{checkpoint.path}: step {checkpoint.step}, weights: {weights}", flush=True)
    gallery, sampler = Gallery(system, options.seconds, options.format), Sampler(system)
    if options.data is None:
        gallery.note("No recordings to compare with: they were not given (--data). The songs here are generated.")
    else:
        _add_recordings(gallery, system, real_songs(checkpoint, system, options.data, options.n, gallery.note))
    made = ((f"Seed {seed}", "", sampler.song(seed)) for seed in range(options.n))
    gallery.add("Generated", f"Made from noise, by step {checkpoint.step:,}.", made)
    series = checkpoint_songs(options.workdir, checkpoint, system, sampler, options.checkpoints, gallery.note)
    gallery.add("Over training", "The song of seed 0 from checkpoints of this run, oldest first.", series, page.STRIP)
    if options.interpolate:
        first, second = options.interpolate
        text = "Songs at equal steps on the way from the latents of one seed to those of the other."
        way = songs_between(sampler, first, second, options.steps)
        gallery.add(f"From seed {first} to seed {second}", text, way, page.STRIP)
    facts = [("step", f"{checkpoint.step:,}"), ("weights", weights)]
    path = page.write(gallery.page(f"Songs of {_name(checkpoint)}", facts), options.out)
    size, seconds = os.path.getsize(path), time.monotonic() - begun
    print(f"{path}: {gallery.songs} songs, {size / 1e6:.1f} MB, in {seconds:.0f} s", flush=True)
    return 0


def _parser():
    parser = cli.parser("gallery", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, metavar="DIR", help="a working directory of training, or one of its checkpoints")
    add("--out", required=True, metavar="DIR", help="folder for the page, index.html")
    add("--data", metavar="DIR", help="the recordings that it learnt from, to hear beside it (default: none)")
    add("--n", type=int, default=16, metavar="N", help="songs of each kind: seeds 0 to N-1 (default: 16)")
    add("--seconds", type=float, metavar="S", help="how much of each song (default: all)")
    add("--format", choices=("ogg", "mp3"), default="ogg", help="of the sound: Ogg Vorbis or MP3 (default: ogg)")
    add("--checkpoints", type=int, default=5, metavar="K", help="how many checkpoints at most, 0 for none (default: 5)")
    cli.add_interpolation(parser, steps=5)
    return parser


def _check(options):
    """Raises `UsageError` for flags that do not fit."""
    if options.n < 1:
        raise UsageError(f"--n {options.n}: it must be at least 1.")
    if options.seconds is not None and not 0.1 <= options.seconds < math.inf:
        raise UsageError(f"--seconds {options.seconds}: it must be at least 0.1.")
    if options.checkpoints < 0:
        raise UsageError(f"--checkpoints {options.checkpoints}: it must be at least 0.")
    cli.check_interpolation(options)


def _check_folder(folder):
    """Makes the folder for the page, and raises `UserError` now, not after an hour, where nothing can be written."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written: {error.strerror}. Choose another folder.") from None


def _name(checkpoint):
    """What a checkpoint's run is called: its working directory's name, or the checkpoint's own where it is alone."""
    folder = os.path.abspath(checkpoint.path)
    above = os.path.dirname(folder)
    return os.path.basename(os.path.dirname(above) if os.path.basename(above) == "checkpoints" else folder)


class Gallery:
    """Groups of songs on their way to a page. A song is encoded, drawn and scored while the next one is made.

    Args:
      system: the `System` whose songs they are.
      seconds: how much of each song is kept; None for all.
      format: of the sound, one of `exhibits.FORMATS`.
    """

    def __init__(self, system, seconds, format):
        self._system, self._format = system, format
        self._samples = None if seconds is None else max(1, round(seconds * system.rate_hz))
        self._groups, self._notes, self._real, self._longest = [], [], None, 0

    @property
    def songs(self):
        """How many songs there are in all groups."""
        return sum(len(group.songs) for group in self._groups)

    def note(self, sentence):
        """Tells what the page is missing, here and above its songs."""
        self._notes.append(sentence)
        print(sentence, flush=True)

    def add(self, title, text, songs, layout="column", real=False, summary=()):
        """Adds a group, unless it is empty.

        Args:
          title, text: heading and a sentence below it.
          songs: yields (title, note, waveform `[sample, channel]`).
          layout: as of `page.Group`; columns get a summary.
          real: whether later groups are measured against this one.
          summary: further figures of the group, `(name, text)`.
        """
        from mp3net.evaluation import exhibits, page

        workers = max(1, min(4, os.cpu_count() or 1))
        shown, waiting = [], deque()
        begun = told = time.monotonic()
        with ThreadPoolExecutor(workers) as pool:
            for name, note, waveform in songs:
                waveform = waveform[: self._samples]
                self._longest = max(self._longest, len(waveform))
                arguments = name, note, waveform, self._system.rate_hz, self._system.sizes.bands, self._format
                waiting.append(pool.submit(exhibits.exhibit, *arguments))
                if len(waiting) > workers:  # no more waveforms at once than that
                    shown.append(waiting.popleft().result())
                if time.monotonic() - told > _TELL_EVERY_S:
                    told = time.monotonic()
                    print(f"{title}: {len(shown) + len(waiting)} songs so far", flush=True)
            shown += [each.result() for each in waiting]
        if not shown:
            return
        summary = [*(self._summary(shown, real) if layout == page.COLUMN else ()), *summary]
        warned = [each.song for each in shown if each.song.warnings]
        for song in warned:
            print(f"{title}, {song.title}: WARNING: {' '.join(song.warnings)}", flush=True)
        if warned:
            summary.append(("warnings", f"{len(warned)} of {len(shown)} songs"))
        self._groups.append(page.Group(title, text, tuple(each.song for each in shown), tuple(summary), layout))
        scores = "".join(f", {name} {value}" for name, value in summary)
        print(f"{title}: {len(shown)} songs in {time.monotonic() - begun:.1f} s{scores}", flush=True)

    def _summary(self, shown, real):
        """A group's tonality, and its distance from the recordings."""
        from mp3net.evaluation import exhibits

        mean = exhibits.mean(shown)
        if real:
            self._real = mean
        if mean is None:
            return []
        summary = [("tonality", f"{mean.tonality:.3f}")]
        if self._real and not real:
            summary.append(("distance", f"{exhibits.distance_db(mean, self._real):.1f} dB"))
        return summary

    def page(self, title, facts):
        """The `page.Page` of what was added; `facts` are `(name, text)`, to which those of the sound are added."""
        from mp3net.evaluation import page

        rate_hz, channels = self._system.rate_hz, self._system.channels
        sound = {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
        facts = [
            *facts,
            ("song", f"{self._longest / rate_hz:.2f} s, {sound}"),
            ("rate", f"{rate_hz:,} Hz"),
            ("plays as", {"ogg": "Ogg Vorbis", "mp3": "MP3"}[self._format]),
        ]
        beside = "beside the recordings that it learnt from" if self._real else "by themselves"
        text = f"What the model makes of noise, to hear and to see, {beside}."
        return page.Page(title, text, tuple(self._groups), tuple(facts), tuple(self._notes))


def _add_recordings(gallery, system, songs):
    """Adds the crops that `songs` yields as (title, note, crop), and the same ones by way of the MDCT."""
    from mp3net.evaluation import exhibits

    originals, returned, error = [], [], 0.0
    for title, note, crop in songs:
        back = system.representation.decode(system.representation.encode(crop[None]))[0].numpy()
        cut = (len(crop) - len(back)) // 2
        crop = crop[cut : cut + len(back)]  # the ends of a crop lie under one block of the MDCT only: a song has none
        originals.append((title, note, crop))
        returned.append((title, "by way of the MDCT", back))
        error = max(error, float(np.abs(crop - back).max()))
    gallery.add("Recorded", "Excerpts, at the level that training hears.", originals, real=True)
    summary = [("largest error", exhibits.level_text(error))]
    gallery.add("Recorded, by way of the MDCT", "The same, to amplitudes and back.", returned, summary=summary)


def real_songs(checkpoint, system, folder, count, note):
    """Yields (title, where it is from, crop `[sample, channel]`) of `count` crops, as the run's settings cut them.

    `note` takes a sentence on each recording that turns out to be damaged. Raises `UserError` where there is none.
    """
    import tensorflow as tf

    from mp3net import recorded
    from mp3net.audio import files
    from mp3net.audio.riff import AudioFileError
    from mp3net.data.excerpts import gain
    from mp3net.data.pipeline import Pipeline

    settings, seed = recorded.settings_of(checkpoint)
    rate_hz, channels = system.rate_hz, system.channels
    pipeline = Pipeline(folder, settings, rate_hz, channels, tf.identity, system.representation.overlap, seed)
    if pipeline.corpus.left_out:
        left_out = len(pipeline.corpus.left_out)
        note(
            f"{left_out} recordings of {folder} cannot be used; the first is {': '.join(pipeline.corpus.left_out[0])}."
        )
    plan = pipeline.plan(system.sizes.crop_samples)
    made, damaged = 0, set()
    for position in range(min(plan.count, 4 * count)):
        index, start = plan.crop(position)
        recording = pipeline.recordings[index]
        if index in damaged:
            continue
        try:
            scale = gain(recording, settings.peak, rate_hz, channels, settings.upmix)
            crop = files.read_crop(recording.path, start, plan.crop_samples, rate_hz, channels, settings.upmix)
        except AudioFileError as error:
            damaged.add(index)
            note(f"{error}.")
            continue
        at = start / rate_hz
        where = f"from {int(at) // 60}:{int(at) % 60:02d}"
        yield (
            recording.title,
            f"{recording.composer}, {where}" if recording.composer else where,
            np.float32(scale) * crop,
        )
        made += 1
        if made == count:
            return
    if not made:
        raise UserError(f"{folder}: no recording of it can be read. Mend it, or leave out --data.")
    note(f"There are {made} recordings to hear, not {count}: {folder} holds no more crops of a song's length.")


def checkpoint_songs(workdir, newest, system, sampler, count, note):
    """Yields (title, note, waveform) of seed 0 by `count` checkpoints at most, by step; none where there is but one.

    Those between the first and the last are taken evenly. `note` takes a sentence on each that is damaged. The weights
    of `system`, which are those of the checkpoint `newest`, change meanwhile.
    """
    from mp3net.training import checkpoints

    found = [each for each in checkpoints.every(workdir) if each.step <= newest.step]
    if count < 1 or len(found) < 2:
        return
    items = system.generation_items()
    try:
        for place in sorted({round(place) for place in np.linspace(len(found) - 1, 0, count)}):
            try:
                checkpoint = checkpoints.find(found[place].path)  # looks at the sizes of its files too
                checkpoint.restore(items)
            except UserError as error:
                note(f"Step {found[place].step:,} is left out: {error}")
                continue
            yield f"Step {checkpoint.step:,}", "seed 0", sampler.song(0)
    finally:
        newest.restore(items)


def songs_between(sampler, first, second, steps):
    """Yields (title, note, waveform) of `steps` songs from seed `first` to seed `second`."""
    ends = {0: (f"Seed {first}", "the start"), steps - 1: (f"Seed {second}", "the end")}
    for i in range(steps):
        way = i / (steps - 1)
        title, note = ends.get(i, (f"{100 * way:.0f} %", f"from {first} to {second}"))
        yield title, note, sampler.between(first, second, way)


if __name__ == "__main__":
    cli.run(main)
