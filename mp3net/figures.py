"""python -m mp3net.figures: the paper's figures, of any recording or run.

  1  MDCT amplitudes above their spectrogram     --audio FILE
  2  a spectrum and what it masks                a tone with 3 harmonics, or --audio FILE --at S
  5  tonality over iterations                    --workdir DIR
  6  the spectrogram, and reduced                --audio FILE

and of the project's own:

  similarity  where a song comes back to itself  --audio FILE, --beside others
  curves      what training logged               --workdir DIR

Channels are averaged. (Figures 3 and 4 are drawings of the model; `python -m mp3net.describe` prints it as a table.)
"""

import math
import os

from mp3net import cli
from mp3net.audio import files
from mp3net.errors import UsageError, UserError
from mp3net.evaluation import drawing, plots

_SECONDS, _SIMILARITY_SECONDS = 30.0, 120.0
_LEAST_SIMILARITY_S = 3.0  # below, there are too few moments to compare
_MOST_SECONDS = 600.0
_MOST_BESIDE = 3
_CURVES = ("wasserstein", "gradient_penalty", "drift", "g_loss", "diversity", "hum_db_generated")  # docs/curves.md
_BANDS = {1: 128, 2: 1024}  # figures 2 and 6 are to tell notes apart: longer blocks than the model's
_MOST_BANDS = 4096
_TONE_RATE_HZ, _LEAST_TONE_RATE_HZ = 32_768, 4000  # its last harmonic lies at 1,760 Hz
_REDUCED_BANDS, _REDUCED_TOP_HZ = 128, 1400  # about what figure 6 leaves: the notes that most music is written in
# Which figures each flag is of.
_FLAGS = {
    "audio": (1, 2, 6, "similarity"), "workdir": (5, "curves"), "start": (1, 6, "similarity"),
    "seconds": (1, 6, "similarity"), "at": (2,), "octaves": (6,), "bands": (1, 2, 6), "rate": (1, 2, 6),
    "beside": ("similarity",),
}  # fmt: skip


def main(arguments=None):
    """Reads flags, draws each figure and writes it, with a line of what it shows."""
    options = _parser().parse_args(arguments)
    paths = _check(options)
    drawing.require()
    if not set(options.figure) <= {5, "curves"} or "://" in options.workdir:
        cli.require_tensorflow()
    for number, path in paths.items():
        figure, told = _DRAW[number](options)
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder or ".", exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {folder} cannot be made: {error.strerror}. Choose another folder.") from None
        drawing.save(figure, path, dpi=options.dpi)
        print(f"{path}: {told}", flush=True)
    return 0


def _parser():
    parser = cli.parser("figures", __doc__)
    add = parser.add_argument
    names = "1, 2, 5, 6, similarity and curves"
    add("--figure", type=_kind, nargs="+", required=True, metavar="N", help=f"which, of {names}")
    add("--audio", metavar="FILE", help="a recording: wav, flac, ogg, mp3; any rate, any channels")
    add("--beside", nargs="+", metavar="FILE", help=f"similarity: up to {_MOST_BESIDE} recordings more, of one scale")
    add("--workdir", metavar="DIR", help="a working directory of training, for figure 5")
    add("--start", type=float, metavar="S", help="where to begin (default: 0)")
    add(
        "--seconds",
        type=float,
        metavar="S",
        help=f"how much (default: {_SECONDS:g}; similarity: {_SIMILARITY_SECONDS:g})",
    )
    add("--at", type=float, metavar="S", help="figure 2 of the recording's block there, not of the tone")
    add("--rate", type=int, metavar="HZ", help="resample to this first (default: as it is)")
    add(
        "--bands",
        type=int,
        metavar="N",
        help="bands of the MDCT (default: 128; figure 2: 1024; figure 6: so that 128 are left)",
    )
    add("--octaves", type=int, metavar="K", help="how many octaves figure 6 folds (default: down to about 1,400 Hz)")
    add(
        "--out", default=".", metavar="PATH", help="a file that ends in .png, .svg or .pdf, or a folder (default: here)"
    )
    add("--format", choices=drawing.FORMATS, help="of the files in that folder (default: png)")
    add("--dpi", type=int, default=drawing.DPI, metavar="N", help=f"dots an inch, of png (default: {drawing.DPI})")
    return parser


def _kind(text):
    return int(text) if text.isdigit() else text


def _check(options):
    """Where each figure goes: {number: path}. Raises `UsageError` for flags that do not fit together."""
    options.figure = list(dict.fromkeys(options.figure))
    for number in options.figure:
        if number in (3, 4):
            raise UsageError(f"--figure {number} is a drawing of the model: python -m mp3net.describe prints it.")
        if number not in _DRAW:
            raise UsageError(f"--figure {number}: there are the paper's figures 1, 2, 5 and 6, similarity and curves.")
    for flag, numbers in _FLAGS.items():
        if getattr(options, flag) is not None and not set(numbers) & set(options.figure):
            which = " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))
            raise UsageError(f"--{flag} is of figure{'s' * (len(numbers) > 1)} {which}; leave it out.")
    for number in (5, "curves"):
        if number in options.figure and not options.workdir:
            raise UsageError(f"Figure {number} is of a run: add --workdir DIR.")
    for number in (1, 6, "similarity"):
        if number in options.figure and not options.audio:
            raise UsageError(f"Figure {number} is of a recording: add --audio FILE.")
    if len(options.beside or ()) > _MOST_BESIDE:
        raise UsageError(f"--beside takes {_MOST_BESIDE} recordings at most.")
    if options.at is not None and not options.audio:
        raise UsageError("--at is a place in a recording: add --audio FILE.")
    if options.audio and options.figure == [2] and options.at is None:
        raise UsageError("Figure 2 is of one block of a recording: add --at S, or leave out --audio.")
    _check_numbers(options)
    if 2 in options.figure and options.at is None and (options.rate or _TONE_RATE_HZ) < _LEAST_TONE_RATE_HZ:
        raise UsageError(f"--rate {options.rate}: the tone of figure 2 takes at least {_LEAST_TONE_RATE_HZ} Hz.")
    return _paths(options)


def _check_numbers(options):
    for flag, value, low, high in (
        ("start", options.start, 0, math.inf),
        ("at", options.at, 0, math.inf),
        ("seconds", options.seconds, 0, _MOST_SECONDS),
        ("rate", options.rate, 1000, 768_000),
        ("bands", options.bands, 8, _MOST_BANDS),
        ("octaves", options.octaves, 1, 11),
        ("dpi", options.dpi, 30, 600),
    ):
        within = value is None or (low <= value <= high and value < math.inf)
        if not within or (flag == "seconds" and value == 0):
            end = "" if high == math.inf else f" and at most {high:g}"
            raise UsageError(
                f"--{flag} {value:g}: it must be {'above' if flag == 'seconds' else 'at least'} {low:g}{end}."
            )


def _paths(options):
    suffix = os.path.splitext(options.out)[1].lstrip(".").lower()
    if suffix in drawing.FORMATS and not os.path.isdir(options.out):
        if len(options.figure) > 1:
            raise UsageError(f"--out {options.out} is one file; for several figures give a folder, and --format.")
        if options.format not in (None, suffix):
            raise UsageError(f"--out {options.out} is no {options.format}; give --format or the suffix, not both.")
        return {options.figure[0]: options.out}
    if suffix and len(options.figure) == 1 and not options.format and not os.path.isdir(options.out):
        raise UsageError(f"--out {options.out}: .{suffix} cannot be written; use .png, .svg or .pdf, or name a folder.")
    names = {number: f"figure{number}" if isinstance(number, int) else number for number in options.figure}
    return {number: os.path.join(options.out, f"{name}.{options.format or 'png'}") for number, name in names.items()}


def _figure1(options):
    bands = options.bands or _BANDS[1]
    amplitudes, part, told = _read(options, bands)
    title = f"{_name(options)}: {bands} bands at {part.rate_hz:,} Hz"
    return plots.amplitudes(amplitudes, part.rate_hz, part.start_s, title), told


def _figure2(options):
    from mp3net.evaluation import views

    bands = options.bands or _BANDS[2]
    if options.at is None:
        rate_hz = options.rate or _TONE_RATE_HZ
        found = views.masking(views.tones(rate_hz, bands), rate_hz)
        title = "A tone of 440 Hz with 3 harmonics, and what they mask"
        told = f"{title}, {bands} bands at {rate_hz} Hz"
        return plots.masking(found, [hz for hz, _ in views.TONES], title), told
    part = views.block(options.audio, options.at, bands, options.rate)
    found = views.masking(views.amplitudes(part.waveform, bands)[0], part.rate_hz)
    title = f"{_name(options)} at {options.at:g} s, and what it masks"
    return plots.masking(found, title=title), _told(options, part, bands)


def _figure5(options):
    from mp3net.evaluation import views

    found = views.tonality(options.workdir)
    told = [f"tonality of {options.workdir}, {len(found.generated[0])} rows generated, {len(found.real[0])} real"]
    return plots.tonality(found, f"Tonality: {_name(options, 'workdir')}"), "; WARNING: ".join(told + found.warnings)


def _figure6(options):
    bands, octaves = _folding(options.rate or files.probe(options.audio).rate_hz, options.bands, options.octaves)
    amplitudes, part, told = _read(options, bands)
    title = f"{_name(options)}: {bands} bands at {part.rate_hz:,} Hz"
    return plots.reduced(amplitudes, part.rate_hz, octaves, part.start_s, title), told


def _folding(rate_hz, bands, octaves):
    """How many bands to take and how many octaves of them to fold, where either may be None."""
    if octaves is None:
        octaves = max(1, round(math.log2(rate_hz / 2 / _REDUCED_TOP_HZ)))
        while bands and octaves > 1 and bands % 2 ** (octaves + 1):
            octaves -= 1
    bands = bands or min(_MOST_BANDS, _REDUCED_BANDS * 2**octaves)
    if bands % 2 ** (octaves + 1):
        raise UsageError(
            f"--bands {bands} cannot be folded --octaves {octaves} times; give a multiple of {2 ** (octaves + 1)}."
        )
    return bands, octaves


def _similarity(options):
    from mp3net.evaluation import views

    songs, told = [], []
    for path in (options.audio, *(options.beside or ())):
        seconds = options.seconds or _SIMILARITY_SECONDS
        part = views.excerpt(path, options.start or 0.0, seconds, _BANDS[1])
        if len(part.waveform) < _LEAST_SIMILARITY_S * part.rate_hz:
            raise files.AudioFileError(path, f"too short: similarity takes {_LEAST_SIMILARITY_S:g} s")
        songs.append((_short(path), *views.self_similarity(part.waveform, part.rate_hz)))
        told.append("; WARNING: ".join([f"{path}, {len(part.waveform) / part.rate_hz:.2f} s", *part.warnings]))
    return plots.self_similarity(songs, "Self-similarity"), "self-similarity of " + ", ".join(told)


def _curves(options):
    from mp3net.evaluation import log

    found, warnings = log.curves(options.workdir, _CURVES)
    if not any(len(steps) for steps, _ in found.values()):
        raise UserError(f"{log.path_of(options.workdir)} has no rows yet: they come every train.log_every steps.")
    told = "; WARNING: ".join([f"{len(found['wasserstein'][0])} rows of {options.workdir}", *warnings])
    return plots.curves(found, f"Training: {_name(options, 'workdir')}"), told


_DRAW = {1: _figure1, 2: _figure2, 5: _figure5, 6: _figure6, "similarity": _similarity, "curves": _curves}


def _read(options, bands):
    """The amplitudes `[block, band]` of the excerpt, the excerpt, and a line of what it is."""
    from mp3net.evaluation import views

    part = views.excerpt(options.audio, options.start or 0.0, options.seconds or _SECONDS, bands, options.rate)
    return views.amplitudes(part.waveform, bands), part, _told(options, part, bands)


def _told(options, part, bands):
    end_s = part.start_s + len(part.waveform) / part.rate_hz
    averaged = "" if part.channels == 1 else f", {part.channels} channels averaged"
    told = (
        f"{options.audio}, {part.start_s:.2f} to {end_s:.2f} s of {part.whole_s:.2f} s{averaged}, "
        f"{bands} bands at {part.rate_hz} Hz"
    )
    return "; WARNING: ".join([told, *part.warnings])


def _name(options, flag="audio"):
    return _short(getattr(options, flag))


def _short(path):
    name = os.path.basename(os.path.normpath(path))
    return name if len(name) <= 60 else f"{name[:40]}...{name[-17:]}"


if __name__ == "__main__":
    cli.run(main)
