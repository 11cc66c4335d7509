"""python -m mp3net.generate: songs from a checkpoint, which is all it needs."""

import itertools
import os

import numpy as np

from mp3net import cli
from mp3net.errors import UsageError, UserError

_SILENT_DB = -60.0


def main(arguments=None):
    """Reads flags, loads the checkpoint, and writes songs one at a time."""
    options = _parser().parse_args(arguments)
    jobs = _check(options)
    cli.require_tensorflow()

    from mp3net import systems
    from mp3net.audio import writing
    from mp3net.training import checkpoints, devices
    from mp3net.training.sampling import Sampler

    devices.exact_float32()
    checkpoint = checkpoints.find(options.ckpt)
    system = systems.for_sampling(checkpoint)
    weights = "moving average" if "average" in system.generation_items() else "as trained"
    print(f"{checkpoint.path}: step {checkpoint.step}, weights: {weights}", flush=True)
    sampler = Sampler(system, options.truncation)
    subtype = {"16": "PCM_16", "float": "FLOAT"}[options.bits] if options.format != "ogg" else None
    try:
        os.makedirs(options.out, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {options.out} cannot be made: {error.strerror}. Choose another folder.") from None
    for name, make in jobs:
        song = make(sampler)
        path = os.path.join(options.out, f"{name}.{options.format}")
        finite = np.isfinite(song)
        writing.write(path, np.where(finite, song, 0.0), system.rate_hz, options.format, subtype)
        print(f"{path}: {_report(song, finite, system.rate_hz, clips=options.bits != 'float')}", flush=True)
    return 0


def _parser():
    parser = cli.parser("generate", __doc__)
    add = parser.add_argument
    add("--ckpt", required=True, metavar="PATH", help="a working directory of training, or one of its checkpoints")
    add("--n", type=int, metavar="N", help="how many songs: seeds 0 to N-1 (default 1)")
    add("--seeds", metavar="A-B,C", help="which songs, such as 0-15 or 3,7,20-22")
    cli.add_interpolation(parser, steps=8)
    add("--truncation", type=float, metavar="T", help="draw latents within -T..T: safer songs, more alike")
    add("--out", default="songs", metavar="DIR", help="folder for the songs (default: songs)")
    add("--format", choices=("wav", "flac", "ogg"), default="wav", help="file format (default: wav)")
    add("--bits", choices=("16", "float"), default="16", help="16-bit, or 32-bit float (wav only) (default: 16)")
    return parser


def _check(options):
    """The songs to make, each as (file name, function of a `Sampler`).

    Raises `UsageError` for flags that do not fit together.
    """
    if options.truncation is not None and not 0 < options.truncation < float("inf"):
        raise UsageError(f"--truncation {options.truncation}: it must be above 0.")
    if options.bits == "float" and options.format != "wav":
        raise UsageError(f"--bits float goes with --format wav, not {options.format}.")
    cli.check_interpolation(options)
    if options.interpolate:
        if options.n is not None or options.seeds is not None:
            raise UsageError("--interpolate makes its own songs: leave out --n and --seeds, and give --steps.")
        (first, second), last = options.interpolate, options.steps - 1
        return [
            (f"from-{first}-to-{second}-{i:03d}", lambda sampler, i=i: sampler.between(first, second, i / last))
            for i in range(last + 1)
        ]
    if options.seeds is not None and options.n is not None:
        raise UsageError("Give --n or --seeds, not both.")
    if options.n is not None and options.n < 1:
        raise UsageError(f"--n {options.n}: it must be at least 1.")
    seeds = range(options.n or 1) if options.seeds is None else parse_seeds(options.seeds)
    return ((f"seed-{seed:06d}", lambda sampler, seed=seed: sampler.song(seed)) for seed in seeds)


def parse_seeds(text):
    """Yields the seeds that a text such as 0-15,20 names, in order; raises `UsageError` at once where it names none."""
    ranges = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = [number for number in (first, last) if number or dash or number is first]
        if not all(number.isascii() and number.isdigit() and int(number) < 2**63 for number in numbers):
            wrong = part.strip() or "nothing"
            raise UsageError(f"--seeds {text}: {wrong!r} is neither a seed nor a range such as 0-15.")
        ranges.append(range(int(first), int(last or first) + 1))
        if not ranges[-1]:
            raise UsageError(f"--seeds {text}: the range {part.strip()} runs backwards.")
    return itertools.chain.from_iterable(ranges)


def _report(song, finite, rate_hz, clips=True):
    """Duration, peak and RMS of a song `[sample, channel]`, and a warning where it is not what anyone wants to hear."""
    if not finite.any():
        return "WARNING: not a number anywhere; the training has failed"
    peak = float(np.max(np.abs(song[finite])))
    rms = float(np.sqrt(np.mean(np.square(song[finite], dtype=np.float64))))
    line = f"{len(song) / rate_hz:.2f} s, peak {_db(peak):.1f} dB, RMS {_db(rms):.1f} dB"
    if not finite.all():
        line += f"; WARNING: {np.size(finite) - np.count_nonzero(finite)} samples are not a number"
    if _db(rms) < _SILENT_DB:
        line += f"; WARNING: silent (below {_SILENT_DB:.0f} dB RMS)"
    clipped = int(np.count_nonzero(np.abs(song[finite]) > 1.0))
    if clipped and clips:
        line += f"; WARNING: {clipped} samples clipped ({100 * clipped / song.size:.2g} %)"
    return line


def _db(amplitude):
    return 20 * np.log10(max(amplitude, 1e-10))


if __name__ == "__main__":
    cli.run(main)
