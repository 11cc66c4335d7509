"""`python -m mp3net.prepare`: recordings to a folder of 16-bit WAVs at the model's rate, to train on."""

from mp3net import cli
from mp3net.data.conversion import Settings
from mp3net.data.preparation import prepare
from mp3net.errors import UsageError

# The shipped configuration that takes audio of each rate.
CONFIGURATIONS = {22016: "95s", 11008: "lab", 5504: "demo"}


def flags():
    """The parser of this command's flags."""
    parser = cli.parser(
        "prepare",
        "Resamples recordings to a folder of 16-bit WAVs with a metadata CSV, to train on.\n"
        "Takes MAESTRO v1, v2 or v3 as unzipped, or any folder tree of wav, flac, ogg and mp3 files.\n"
        "Can be stopped at any time; the same command goes on where it was.",
    )
    parser.add_argument("--source", required=True, metavar="DIR", help="the recordings")
    parser.add_argument("--out", required=True, metavar="DIR", help="where to write; a new folder")
    parser.add_argument("--rate", type=int, default=22016, metavar="HZ", help="sample rate (22016)")
    parser.add_argument("--channels", type=int, default=2, choices=(1, 2), help="1 mixes down (2)")
    parser.add_argument("--upmix", action="store_true", help="take mono recordings for stereo, doubled")
    parser.add_argument("--years", type=int, nargs="+", metavar="YEAR", help="only these years of MAESTRO")
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these: train, validation, test")
    parser.add_argument(
        "--held_out",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of a plain folder, the share not to train on, 0 to 0.5 (0)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="worker processes (one per core)")
    return parser


def main(arguments=None):
    """Runs the command with `arguments` (None: those of the process)."""
    asked = flags().parse_args(arguments)
    if not 1000 <= asked.rate <= 768_000:
        raise UsageError(f"--rate {asked.rate}: give a rate in Hz between 1000 and 768000; the paper's is 22016.")
    if asked.jobs is not None and asked.jobs < 1:
        raise UsageError(f"--jobs {asked.jobs}: give at least 1.")
    if not 0 <= asked.held_out <= 0.5:
        raise UsageError(f"--held_out {asked.held_out}: give a share from 0 to 0.5, such as 0.1.")
    settings = Settings(asked.rate, asked.channels, asked.upmix)
    report = prepare(asked.source, asked.out, settings, asked.years, asked.splits, asked.jobs, asked.held_out)
    print(report.text(shown=10))
    gin = CONFIGURATIONS.get(asked.rate, "FILE")
    aside = " --gin_param \"data.splits = ('train',)\"" if asked.held_out else ""
    print(f"Train on it: python -m mp3net.train --gin {gin} --data {asked.out} --workdir runs/first{aside}")


if __name__ == "__main__":
    cli.run(main)
