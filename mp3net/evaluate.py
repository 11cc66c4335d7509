"""python -m mp3net.evaluate: how good songs are, against real ones, as one row of numbers for each checkpoint."""

import dataclasses
import itertools
import os
import sys

import numpy as np

from mp3net import cli
from mp3net.errors import UsageError, UserError

_SHORTEST_S, _LONGEST_S = 0.5, 300.0


def main(arguments=None):
    """Reads flags, describes both sets of songs one song at a time, and writes their scores."""
    options = _parser().parse_args(arguments)
    _check(options)
    cli.require_tensorflow()

    from mp3net.evaluation import scores

    try:
        os.makedirs(options.out, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {options.out} cannot be made: {error.strerror}. Choose another folder.") from None
    rows, songs = [], []
    for row, of_its_songs in _folders(options) if options.generated else _checkpoints(options):
        rows.append(row)
        songs += of_its_songs
        scores.write(options.out, rows)  # after each: what is scored is not lost
        scores.write_table(os.path.join(options.out, "songs.csv"), songs)
        _print(row)
    table = os.path.join(options.out, "scores.csv")
    print(f"{table} and scores.json: {len(rows)} row{'s' * (len(rows) > 1)}; songs.csv: {len(songs)} songs, one by one")
    return 0


def _parser():
    parser = cli.parser("evaluate", __doc__)
    add = parser.add_argument
    add("--ckpt", nargs="+", metavar="PATH", help="checkpoints, or a working directory for each that it keeps")
    add("--data", metavar="DIR", help="real songs for --ckpt: a prepared corpus, or any folder of recordings")
    add("--generated", metavar="DIR", help="a folder of generated songs, of whatever system, in place of --ckpt")
    add("--real", metavar="DIR", help="a folder of recordings to compare --generated with")
    add("--out", required=True, metavar="DIR", help="folder for scores.csv, scores.json and songs.csv")
    add(
        "--held_out",
        metavar="DIR",
        help="real songs that were not trained on (default: the splits that the run left out)",
    )
    add("--training_songs", type=int, default=0, metavar="N", help="look for copies among N crops, not --n (0)")
    add("--n", type=int, default=64, metavar="N", help="songs of each side, at most (default: 64)")
    add("--first_seed", type=int, default=0, metavar="S", help="--ckpt makes the songs of seeds S to S+N-1 (0)")
    add("--bands", type=int, default=128, metavar="N", help="MDCT bands that --generated is measured through (128)")
    return parser


def _check(options):
    if bool(options.ckpt) == bool(options.generated):
        raise UsageError("Give --ckpt and --data, or --generated and --real.")
    if options.ckpt and not options.data:
        raise UsageError("--data is missing: the real songs that --ckpt is compared with.")
    if options.generated and not options.real:
        raise UsageError("--real is missing: a folder of recordings that --generated is compared with.")
    for name, least in (("n", 1), ("first_seed", 0), ("bands", 8), ("training_songs", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} {getattr(options, name)}: it must be at least {least}.")


def _checkpoints(options):
    """A row for each checkpoint asked for, and those of its songs."""
    from mp3net import configuration, systems
    from mp3net.training import checkpoints, devices
    from mp3net.training.sampling import Sampler

    devices.exact_float32()
    found = [each for path in options.ckpt for each in checkpoints.every(path) or [checkpoints.find(path)]]
    known = {}  # real songs, by what they depend on: those of one run are described once
    for checkpoint in found:
        training, settings = configuration.load([os.path.join(checkpoint.path, "config.gin")])
        system = systems.for_sampling(checkpoint)
        key = (system.rate_hz, system.sizes.bands, system.sizes.song_samples, settings)
        if key not in known:
            length_s = system.sizes.song_samples / system.rate_hz
            kind = _Kind(system.rate_hz, system.sizes.bands, length_s, system.channels)
            known[key] = _Real(options.data, settings, kind, options)
        sampler = Sampler(system)
        seeds = range(options.first_seed, options.first_seed + options.n)
        songs = _Songs(((f"seed {seed}", sampler.song(seed)) for seed in seeds), len(seeds))
        generated = _describe(f"step {checkpoint.step}", songs, system.rate_hz, system.sizes.bands)
        yield known[key].compared({"step": checkpoint.step, "checkpoint": checkpoint.path}, generated)


def _folders(options):
    """The one row of two folders, and those of its songs."""
    from mp3net.data.pipeline import DataSettings

    corpus = _open(options.generated, DataSettings(peak=None), 1)
    recordings = corpus.recordings[: options.n]
    rate_hz = recordings[0].rate_hz
    length_s = min(_LONGEST_S, float(np.median([recording.duration_s for recording in recordings])))
    songs = _Songs(((each.audio_filename, _beginning(each, rate_hz)) for each in recordings), len(recordings))
    generated = _describe("generated songs", songs, rate_hz, options.bands)
    kind = _Kind(rate_hz, options.bands, length_s, 1)
    real = _Real(options.real, DataSettings(peak=None), kind, options)
    yield real.compared({"generated": options.generated, "real": options.real}, generated)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What songs are like that real ones are cut to: `channels` is how many a recording must have at least."""

    rate_hz: int
    bands: int
    length_s: float
    channels: int


class _Real:
    """Real songs, each described once, that generated ones are compared with.

    Args:
      folder: of the recordings.
      settings: `DataSettings`: which of them are trained on, and their level.
      kind: `_Kind` of the songs.
      options: the command's; held out are the recordings of its `held_out`, or what `settings` leave out of `folder`.
    """

    def __init__(self, folder, settings, kind, options):
        corpus = _open(folder, settings, kind.channels)
        crops = _crops(corpus.recordings, max(options.n, options.training_songs), kind.length_s)
        self.described = _describe(
            "real songs", _cut(crops[: options.n], settings, kind), kind.rate_hz, kind.bands, True
        )
        more = _cut(crops[options.n :], settings, kind)
        self.more = _featured("training songs", more, kind.rate_hz) if len(more) else []
        folder, splits = (options.held_out, None) if options.held_out else (folder, corpus.other_splits)
        settings = dataclasses.replace(settings, splits=splits, years=None if options.held_out else settings.years)
        self.held_out = _aside(folder, settings, kind, options) if options.held_out or splits else []

    def compared(self, start, generated):
        """(the row that begins with `start`, the rows of its songs)."""
        from mp3net.evaluation.scores import of_songs, scores

        row, notes = scores(generated, self.described, self.held_out, self.more)
        songs = of_songs(generated, self.described, self.more)
        step = {"step": start["step"]} if "step" in start else {}
        return {**start, **row, "notes": "; ".join(notes)}, [{**step, **song} for song in songs]


class _Songs:
    """An iterable of (name, waveform) of known length."""

    def __init__(self, songs, count):
        self._songs, self._count = songs, count

    def __iter__(self):
        return iter(self._songs)

    def __len__(self):
        return self._count


def _open(folder, settings, channels):
    from mp3net.data.corpus import open_corpus

    corpus = open_corpus(folder, settings.years, settings.splits, channels, upmix=True)
    for line in corpus.remarks():
        print(line)
    return corpus


def _aside(folder, settings, kind, options):
    """Held-out songs, described; none, with a line, where nobody asked for a folder that has none."""
    try:
        crops = _crops(_open(folder, settings, kind.channels).recordings, options.n, kind.length_s)
        return _describe("held-out songs", _cut(crops, settings, kind), kind.rate_hz, kind.bands)
    except UserError as error:
        if options.held_out:
            raise
        print(f"nothing is held out: {error}")
        return []


def _cut(crops, settings, kind):
    """`_Songs` of `_crops`, at the level that training sees."""
    from mp3net.audio import files

    def read(recording, start_s):
        samples = None if recording.duration_s <= kind.length_s else round(kind.length_s * kind.rate_hz)
        waveform = _read(recording, round(start_s * kind.rate_hz), samples, kind.rate_hz)
        if settings.peak is None:
            return waveform
        peak = recording.peak or files.peak(recording.path, kind.rate_hz, _channels(recording))
        return waveform * (settings.peak / peak if peak > 0 else 1.0)

    return _Songs(
        ((f"{each.audio_filename} at {start_s:.1f} s", read(each, start_s)) for each, start_s in crops), len(crops)
    )


def _crops(recordings, count, length_s):
    """(recording, first second) of crops that do not overlap, a recording's turn coming again when all have had one;
    recordings shorter than `length_s` are taken whole.
    """
    order = np.random.default_rng(0).permutation(len(recordings))
    starts = []
    for i in order:
        slices = max(1, int(recordings[i].duration_s / length_s))
        places = np.random.default_rng([1, int(i)]).permutation(slices)
        starts.append([(recordings[i], float(place * length_s)) for place in places])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*starts))
    return list(itertools.islice((crop for crop in turns if crop is not None), count))


def _beginning(recording, rate_hz):
    """A recording, or what of it can be held and measured at once."""
    if recording.duration_s <= _LONGEST_S:
        return _read(recording, 0, None, rate_hz)
    print(f"{recording.audio_filename}: {recording.duration_s:.0f} s; its first {_LONGEST_S:.0f} s are measured")
    return _read(recording, 0, round(_LONGEST_S * rate_hz), rate_hz)


def _channels(recording):
    return min(2, recording.channels)


def _read(recording, start, count, rate_hz):
    """A stretch of a recording, all of it where `count` is None: `[sample, channel]`, its own channels, two at most."""
    from mp3net.audio import files, resample

    whole = resample.output_frames(recording.frames, recording.rate_hz, rate_hz)
    count = whole if count is None else min(count, whole - start)
    return files.read_crop(recording.path, start, count, rate_hz, _channels(recording))


def _usable(title, songs, rate_hz):
    """Those songs that can be measured, with a bar that says how far it is and a line for what is wrong with one."""
    import tqdm

    for name, waveform in tqdm.tqdm(songs, title, unit="song", disable=not sys.stderr.isatty()):
        if len(waveform) < _SHORTEST_S * rate_hz:
            print(f"left out {name}: shorter than {_SHORTEST_S} s")
            continue
        bad = np.size(waveform) - np.count_nonzero(np.isfinite(waveform))
        if bad:
            print(f"{name}: {bad} samples are not a number, and count as silence")
            waveform = np.nan_to_num(waveform, nan=0.0, posinf=0.0, neginf=0.0)
        yield name, waveform


def _describe(title, songs, rate_hz, bands, with_noise=False):
    """`Description`s of songs, one at a time."""
    from mp3net.evaluation.description import describe

    found = [describe(name, song, rate_hz, bands, with_noise) for name, song in _usable(title, songs, rate_hz)]
    if not found:
        raise UserError(f"There are no {title} to score: all are shorter than {_SHORTEST_S} s.")
    return found


def _featured(title, songs, rate_hz):
    """(name, features) of songs, one at a time: what it takes to look for copies of them."""
    from mp3net.evaluation.description import features
    from mp3net.evaluation.song import Song

    return [(name, features(Song(name, song, rate_hz))) for name, song in _usable(title, songs, rate_hz)]


def _print(row):
    """A row as a table: what has two sides, side by side."""
    print(f"\n{row.get('checkpoint', row.get('generated'))}\n{'':<28}{'generated':>12}{'real':>12}{'shuffled':>12}")
    names = [name.removesuffix("_generated") for name in row if name.endswith("_generated")]
    single = [name for name in row if not name.endswith(("_generated", "_real", "_shuffled"))]
    for name in names:
        sides = (row.get(f"{name}_{side}", "") for side in ("generated", "real", "shuffled"))
        print(f"{name:<28}" + "".join(f"{_figure(value):>12}" for value in sides))
    for name in single:
        if isinstance(row[name], int | float | None) and name != "step":
            print(f"{name:<28}{_figure(row[name]):>12}")
    for note in filter(None, row["notes"].split("; ")):
        print(f"note: {note}")
    sys.stdout.flush()


def _figure(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    cli.run(main)
