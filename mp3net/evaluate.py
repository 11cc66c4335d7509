"""python -m mp3net.evaluate: how good songs are, against real ones, as one row of numbers for each checkpoint."""

import dataclasses
import os
import sys

import numpy as np

from mp3net import cli
from mp3net.errors import UsageError, UserError

_SHORTEST_S, _LONGEST_S = 0.5, 300.0
_MOST = 1000.0  # of a sample: 60 dB above full scale is no sound, nor is what is not a number


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
    add("--first_seed", type=int, metavar="S", help="--ckpt makes the songs of seeds S to S+N-1 (0)")
    add("--bands", type=int, metavar="N", help="MDCT bands that --generated is measured through (128)")
    return parser


def _check(options):
    if bool(options.ckpt) == bool(options.generated):
        raise UsageError("Give --ckpt and --data, or --generated and --real.")
    if options.ckpt and not options.data:
        raise UsageError("--data is missing: the real songs that --ckpt is compared with.")
    if options.generated and not options.real:
        raise UsageError("--real is missing: a folder of recordings that --generated is compared with.")
    wrong, right = (("real", "bands"), "ckpt") if options.ckpt else (("data", "first_seed"), "generated")
    for name in wrong:
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} does not go with --{right}; leave it out.")
    options.first_seed, options.bands = options.first_seed or 0, 128 if options.bands is None else options.bands
    for name, least in (("n", 1), ("first_seed", 0), ("bands", 8), ("training_songs", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"--{name} {getattr(options, name)}: it must be at least {least}.")


def _checkpoints(options):
    """A row for each checkpoint asked for, and those of its songs."""
    from mp3net import recorded, systems
    from mp3net.training import devices
    from mp3net.training.sampling import Sampler

    devices.exact_float32()
    known = {}  # real songs, by what they depend on: those of one run are described once
    for checkpoint in _found(options.ckpt):
        settings, _ = recorded.settings_of(checkpoint)
        system = systems.for_sampling(checkpoint)
        length_s = system.sizes.song_samples / system.rate_hz
        kind = _Kind(system.rate_hz, system.bands, length_s, system.channels, settings, whole_too=False)
        if kind not in known:
            known[kind] = _Real(options.data, kind, options)
        if checkpoint.host_state.get("data") not in (None, known[kind].identity):
            print(f"{options.data} is not what {checkpoint.path} was trained on: nothing is known of copies of that")
        make = Sampler(system).song
        seeds = range(options.first_seed, options.first_seed + options.n)
        songs = [(f"seed {seed}", None, lambda seed=seed, make=make: (make(seed), 1.0)) for seed in seeds]
        generated = _describe(f"step {checkpoint.step}", songs, kind)
        yield known[kind].compared({"step": checkpoint.step, "checkpoint": checkpoint.path}, generated)


def _found(paths):
    """The checkpoints that `--ckpt` names, those that a run keeps being each looked at first."""
    from mp3net.training import checkpoints

    for path in paths:
        kept = checkpoints.every(path)
        for i, checkpoint in enumerate(kept):
            try:
                yield checkpoints.find(checkpoint.path)  # looks at the sizes of its files too
            except UserError as error:
                if i == len(kept) - 1:
                    raise
                print(f"step {checkpoint.step} is left out: {error}")
        if not kept:
            yield checkpoints.find(path)


def _folders(options):
    """The one row of two folders, and those of its songs."""
    from mp3net.data.excerpts import Excerpt
    from mp3net.data.pipeline import DataSettings

    recordings = _open(options.generated, DataSettings(upmix=True), 1).recordings[: options.n]
    rate_hz = recordings[0].rate_hz
    length_s = min(_LONGEST_S, float(np.median([recording.duration_s for recording in recordings])))
    kind = _Kind(rate_hz, options.bands, length_s, 2, DataSettings(peak=None, upmix=True), whole_too=True)
    songs = []
    for recording in recordings:
        if recording.duration_s > _LONGEST_S:
            name, seconds = recording.audio_filename, recording.duration_s
            print(f"{name}: {seconds:.0f} s; its first {_LONGEST_S:.0f} s are measured")
        part = Excerpt(recording, 0.0, min(_LONGEST_S, recording.duration_s))
        songs.append((recording.audio_filename, None, lambda part=part: part.read(rate_hz, 2)))
    generated = _describe("generated songs", songs, kind)
    real = _Real(options.real, kind, options)
    yield real.compared({"generated": options.generated, "real": options.real}, generated)


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What songs are like, and so real ones: `channels` at most; `settings` is `DataSettings`, which recordings are
    trained on and at what level; `whole_too` takes recordings that are shorter than a song.
    """

    rate_hz: int
    bands: int
    length_s: float
    channels: int
    settings: object
    whole_too: bool


class _Real:
    """Real songs, each described once, that generated ones are compared with.

    Args:
      folder: of the recordings.
      kind: `_Kind` of the songs.
      options: the command's; held out are the recordings of its `held_out`, or what the settings leave out of `folder`.
    """

    def __init__(self, folder, kind, options):
        from mp3net.data.excerpts import excerpts

        corpus = _open(folder, kind.settings, 1 if kind.whole_too else kind.channels)
        self.identity = corpus.identity
        found, ends = excerpts(corpus.recordings, kind.length_s, kind.whole_too)
        self._searched, self._all = max(options.n, options.training_songs), len(found) + len(ends)
        self.described = _describe("real songs", _cut(found[: options.n], kind), kind, with_noise=True)
        ends = ends[: max(0, self._searched - len(found))]
        self.more, self.ends = (
            _featured("training songs", _cut(part, kind), kind.rate_hz) if part else []
            for part in (found[options.n : self._searched], ends)
        )
        folder, splits = (options.held_out, None) if options.held_out else (folder, corpus.other_splits)
        years = None if options.held_out else kind.settings.years
        kind = dataclasses.replace(kind, settings=dataclasses.replace(kind.settings, splits=splits, years=years))
        self.held_out = _aside(folder, kind, options) if options.held_out or splits else []

    def compared(self, start, generated):
        """(the row that begins with `start`, the rows of its songs)."""
        from mp3net.evaluation.scores import of_songs, scores

        row, notes = scores(generated, self.described, self.held_out, self.more, self.ends)
        if self._searched < self._all:
            notes.append(f"copies were looked for among {self._searched} of {self._all} excerpts: --training_songs")
        of_which = {name: start[name] for name in ("checkpoint", "step") if name in start}
        songs = of_songs(generated, self.described, self.more + self.ends)
        return {**start, **row, "notes": "; ".join(notes)}, [{**of_which, **song} for song in songs]


def _open(folder, settings, channels):
    from mp3net.data.corpus import open_corpus

    corpus = open_corpus(folder, settings.years, settings.splits, channels, settings.upmix)
    for line in corpus.remarks():
        print(line)
    return corpus


def _aside(folder, kind, options):
    """Held-out songs, described; none, with a line, where nobody asked for a folder that has none."""
    from mp3net.data.excerpts import excerpts

    try:
        corpus = _open(folder, kind.settings, 1 if kind.whole_too else kind.channels)
        found, _ = excerpts(corpus.recordings, kind.length_s, kind.whole_too)
        return _describe("held-out songs", _cut(found[: options.n], kind), kind)
    except UserError as error:
        if options.held_out:
            raise
        print(f"nothing is held out: {error}")
        return []


def _cut(excerpts, kind):
    """Songs of excerpts: (name, recording, function that reads it)."""
    rest = kind.rate_hz, kind.channels, kind.settings.peak
    return [(each.name, each.recording.audio_filename, lambda each=each: each.read(*rest)) for each in excerpts]


def _usable(title, songs, rate_hz):
    """(name, recording, waveform, full scale) of songs that can be measured, with a bar that says how far it is, and a
    line for what is wrong with one.
    """
    import tqdm

    from mp3net.audio.riff import AudioFileError

    for name, recording, read in tqdm.tqdm(songs, title, unit="song", disable=not sys.stderr.isatty()):
        try:
            waveform, full_scale = read()
        except AudioFileError as error:
            print(f"left out {error}")
            continue
        if len(waveform) < _SHORTEST_S * rate_hz:
            print(f"left out {name}: shorter than {_SHORTEST_S} s")
            continue
        sound = np.abs(waveform) < _MOST
        if not sound.all():
            print(f"{name}: {sound.size - np.count_nonzero(sound)} samples are not a number, and count as silence")
            waveform = np.where(sound, waveform, 0.0)
        yield name, recording, waveform, full_scale


def _describe(title, songs, kind, with_noise=False):
    """`Description`s of songs, one at a time."""
    from mp3net.evaluation.description import describe

    found = []
    for name, recording, waveform, full_scale in _usable(title, songs, kind.rate_hz):
        found.append(describe(name, waveform, kind.rate_hz, kind.bands, with_noise, full_scale))
        found[-1].recording = recording
    if not found:
        raise UserError(f"There are no {title} to score: all are shorter than {max(_SHORTEST_S, _least(kind)):.4g} s.")
    return found


def _least(kind):
    return 0.0 if kind.whole_too else kind.length_s


def _featured(title, songs, rate_hz):
    """(name, features) of songs, one at a time: what it takes to look for copies of them."""
    from mp3net.evaluation.description import features
    from mp3net.evaluation.song import Song

    return [(name, features(Song(name, song, rate_hz))) for name, _, song, _ in _usable(title, songs, rate_hz)]


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
