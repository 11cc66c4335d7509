"""Plays public-domain piano pieces, or your own MIDI files, into a folder shaped like the MAESTRO data set.

python scripts/render_corpus.py --out corpus                    the project's pieces, some 17 minutes
python scripts/render_corpus.py --out corpus --minutes 60       the same in several takes
python scripts/render_corpus.py --out corpus --midi maestro     MIDI files of yours; MAESTRO's own table is kept
"""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from tqdm import tqdm  # noqa: E402

from mp3net import __version__, cli  # noqa: E402
from mp3net.errors import UsageError, UserError  # noqa: E402

try:
    from music import corpus, midi, synths, wav
except ModuleNotFoundError as missing:
    if missing.name != "mido":
        raise
    sys.exit("error: mido is not installed: pip install 'mp3net[corpus]'.")

SHOW_PROGRESS_S = 2.0


def arguments(argv):
    """The command line. Raises `UsageError` where numbers make no sense."""
    parser = argparse.ArgumentParser(
        prog="render_corpus.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"mp3net {__version__}")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write; made where it is missing")
    parser.add_argument("--midi", metavar="FOLDER", help="MIDI files to play (default: the project's pieces)")
    parser.add_argument("--soundfont", metavar="FILE", help=".sf2 or .sf3 for FluidSynth (default: the best installed)")
    parser.add_argument("--synth", choices=("auto", "fluidsynth", "additive"), default="auto", help="default: auto")
    parser.add_argument("--rate", type=int, default=44100, metavar="HZ", help="sampling rate (default: 44100)")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after the piece that reaches M minutes")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="pieces at once")
    made = parser.parse_args(argv)
    if not 8000 <= made.rate <= 192000:
        raise UsageError(f"--rate {made.rate}: give 8000 to 192000 Hz.")
    if made.minutes is not None and not 0 < made.minutes <= 100000:
        raise UsageError(f"--minutes {made.minutes:g}: give more than 0, up to 100000.")
    if made.jobs < 1:
        raise UsageError(f"--jobs {made.jobs}: give 1 or more.")
    if made.soundfont and made.synth == "additive":
        raise UsageError("--soundfont is for FluidSynth; leave it out, or leave out --synth additive.")
    if made.midi and pathlib.Path(made.midi).resolve() == pathlib.Path(made.out).resolve():
        raise UsageError("--out and --midi are the same folder; give --out another one.")
    return made


def prepare_folder(path):
    """Makes the output folder, and finds out before the work whether it can be written to."""
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        wav.write_whole(path / ".writable", b"")
        (path / ".writable").unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{path}: a file is in the way; choose another --out.") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no folder can be made there; choose another --out.") from error
    return path


def render(work, synth, rate_hz, out):
    """Makes one recording: (its row with the duration, whether it was already there). Raises `midi.DamagedMidi`."""
    data = work.midi_bytes()
    mark = hashlib.sha256(data + f"{synth.mark} {rate_hz}".encode()).hexdigest()
    target = out / work.row["audio_filename"]
    before, seconds = wav.made_from(target)
    reused = before == mark
    if not reused:
        file = midi.read(data)
        waveform = synth.render(file, rate_hz)
        if waveform.nbytes // 2 > wav.LARGEST_BYTES:
            raise midi.DamagedMidi("too long for a WAV file at this rate; choose a lower --rate")
        seconds = len(waveform) / rate_hz
        wav.write(target, waveform, rate_hz, mark)
    score = out / work.row["midi_filename"]
    if not (score.is_file() and score.read_bytes() == data):
        wav.write_whole(score, data)
    return work.row | {"duration": f"{seconds:.6f}"}, reused


def render_all(works, synth, rate_hz, out, jobs):
    """Makes all recordings: (rows in the order of `works`, how many were there, [(name, reason left out)])."""
    rows, reused, left_out = {}, 0, []
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    waiting = {pool.submit(render, work, synth, rate_hz, out): index for index, work in enumerate(works)}
    with tqdm(total=len(works), unit="piece", desc="render", delay=SHOW_PROGRESS_S, leave=False) as bar:
        try:
            for future in concurrent.futures.as_completed(waiting):
                index = waiting.pop(future)
                try:
                    rows[index], there = future.result()
                    reused += there
                except midi.DamagedMidi as reason:
                    left_out.append((works[index].row["midi_filename"], str(reason)))
                bar.update()
        finally:
            # After an error or Ctrl-C no further piece is begun.
            pool.shutdown(cancel_futures=True)
    return [rows[index] for index in sorted(rows)], reused, sorted(left_out)


def main(argv=None):
    """Renders the corpus; returns the exit status."""
    options = arguments(argv)
    begun = time.monotonic()
    left_out = []
    if options.midi:
        works, left_out = corpus.folder_works(options.midi, options.out, options.minutes)
    else:
        works = corpus.own_works(options.minutes)
    synth, told = synths.choose(options.synth, options.soundfont)
    out = prepare_folder(options.out)
    print(f"Synthesiser: {told}.", flush=True)
    rows, reused, damaged = render_all(works, synth, options.rate, out, options.jobs)
    for name, reason in left_out + damaged:
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if not rows:
        raise UserError(f"{options.midi or options.out}: nothing could be played.")
    corpus.write_table(out / "metadata.csv", rows)
    minutes = sum(float(row["duration"]) for row in rows) / 60
    again = f", {reused} of them already there" if reused else ""
    took = time.monotonic() - begun
    print(f"{len(rows)} recordings, {minutes:.1f} minutes{again}, in {took:.0f} s: {out / 'metadata.csv'}")
    return 0


if __name__ == "__main__":
    cli.run(main)
