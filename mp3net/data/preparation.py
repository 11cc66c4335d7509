"""Recordings to a prepared corpus: 16-bit WAVs at one rate, in parallel, resumable, with a CSV and a report."""

import contextlib
import csv
import hashlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
from concurrent import futures
from dataclasses import asdict, dataclass, field

import tqdm

from mp3net.audio import resample
from mp3net.audio.riff import AudioFileError, is_remote
from mp3net.data import conversion
from mp3net.data.corpus import AUDIO_ENDINGS, MAESTRO_COLUMNS, PREPARED_COLUMNS, open_corpus, reasons
from mp3net.data.journal import Journal
from mp3net.errors import UserError

REPORT_NAME = "report.txt"
_SHOWN = 5


@dataclass
class Report:
    """What a run took, `[(Recording, target name, Converted)]`, what it left out, `[(name, reason)]`, and remarks."""

    out: str
    settings: conversion.Settings
    taken: list = field(default_factory=list)
    resumed: int = 0
    left_out: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def text(self, shown=None):
        """The report as lines for a person; at most `shown` of the files left out are named."""
        seconds = sum(converted.frames for _, _, converted in self.taken) / self.settings.rate_hz
        size_gb = seconds * self.settings.rate_hz * self.settings.channels * 2 / 1e9
        scaled = sum(converted.gain < 1 for _, _, converted in self.taken)
        lines = [
            f"{seconds / 3600:.2f} hours in {len(self.taken)} recordings: {self.settings.rate_hz} Hz, "
            f"{self.settings.channels} channel(s), 16 bit, {size_gb:.2f} GB",
            f"{len(self.taken) - self.resumed} converted now, {self.resumed} from an earlier run; "
            f"{scaled} scaled down so as not to clip",
            f"{len(self.left_out)} left out" + (":" if self.left_out else ""),
        ]
        lines += reasons(self.left_out, shown)
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def prepare(source, out, settings, years=None, splits=None, jobs=None, held_out=0.0):
    """Converts the recordings of `source` into the folder `out`, going on where an earlier run was, and reports.

    Args:
      source: a folder as for `open_corpus`, which `years` and `splits` are for as well.
      out: a new folder, or one that an earlier run with the same `conversion.Settings` began.
      jobs: worker processes; None for one per core.
      held_out: the share of recordings that becomes the split "validation", where the source has no splits of its own.

    Returns a `Report`, which is also written to report.txt. Raises `UserError`, `OSError` (disk full).
    """
    source, out = os.fspath(source), os.fspath(out)
    _check_folders(source, out)
    corpus = open_corpus(source, years, splits, settings.channels, settings.upmix)
    _check_held_out(corpus, held_out)
    os.makedirs(out, exist_ok=True)
    report = Report(out, settings, left_out=list(corpus.left_out), notes=list(corpus.notes))
    csv_path = os.path.join(out, corpus.csv_name or "metadata.csv")
    with Journal(out, settings) as journal:
        _sweep(out)
        targets = _targets(corpus.recordings, out, report)
        pending = []
        for recording, name in targets:
            converted = journal.done(recording, os.path.join(out, name))
            if converted:
                report.taken.append((recording, name, converted))
                report.resumed += 1
            else:
                pending.append((recording, name))
        if pending:
            _check_space(out, pending, settings)
            with contextlib.suppress(FileNotFoundError):  # a CSV says that all it lists is whole
                os.unlink(csv_path)
            with _stop_signals():
                _convert_all(pending, out, settings, jobs or _cores(), journal, report)
        if not report.taken:
            raise UserError(
                "\n".join([f"{source}: no recording could be converted:", *reasons(report.left_out, _SHOWN)])
            )
        report.taken.sort(key=lambda item: item[1])
        report.left_out.sort()
        others = journal.names() - {recording.audio_filename for recording, _, _ in report.taken}
        if others:
            report.notes.append(
                f"{len(others)} files of earlier runs, not chosen now, are in the folder but not in its CSV"
            )
        _write_whole(csv_path, _csv_text(corpus, report, _held_out(report, held_out)))
        _write_whole(os.path.join(out, REPORT_NAME), report.text() + "\n")
    return report


def _check_held_out(corpus, share):
    if share and corpus.csv_name is not None:
        raise UserError(f"--held_out {share}: {corpus.csv_name} has splits of its own; leave --held_out away.")
    if share and len(corpus.recordings) < 2:
        raise UserError(f"--held_out {share}: takes 2 recordings or more, one to train on.")


def _held_out(report, share):
    """The names of that share of the recordings taken, one at least; the same ones, mostly, when others are added."""
    names = sorted(
        (recording.audio_filename for recording, _, _ in report.taken),
        key=lambda name: hashlib.sha256(name.encode()).digest(),
    )
    return frozenset(names[: min(max(1, round(share * len(names))), len(names) - 1)] if share else ())


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_folders(source, out):
    for path, advice in (
        (source, "copy it to a local disk first"),
        (out, "prepare locally, then copy the folder there"),
    ):
        if is_remote(path):
            raise UserError(f"{path}: preparing works on local folders; {advice}.")
    one, other = os.path.realpath(source), os.path.realpath(out)
    if os.path.commonpath([one, other]) in (one, other):
        raise UserError(f"--out {out} and --source {source}: one lies within the other. Choose separate folders.")
    if os.path.exists(out) and not os.path.isdir(out):
        raise UserError(f"--out {out}: is a file. Choose a new folder.")


def _sweep(out):
    """Removes half files that a killed run left; the journal's lock says that no other run is at work."""
    for parent, _, names in os.walk(out):
        for name in names:
            if name.startswith(".") and name.endswith(".partial"):
                os.unlink(os.path.join(parent, name))


def _targets(recordings, out, report):
    """`[(Recording, name of its WAV)]`; recordings that would share one are left out but for the first."""
    taken, targets = {}, []
    # Of the same recording in several formats, the lossless one is taken.
    for recording in sorted(recordings, key=_by_format):
        name = os.path.splitext(recording.audio_filename)[0] + ".wav"
        first = taken.setdefault(name.casefold(), recording.audio_filename)
        if first is recording.audio_filename:
            targets.append((recording, name))
        else:
            report.left_out.append((recording.audio_filename, f"would become the same file as {first}"))
    return targets


def _by_format(recording):
    stem, ending = os.path.splitext(recording.audio_filename)
    return stem, AUDIO_ENDINGS.index(ending.lower()) if ending.lower() in AUDIO_ENDINGS else len(AUDIO_ENDINGS)


def _check_space(out, pending, settings):
    frames = sum(resample.output_frames(r.frames, r.rate_hz, settings.rate_hz) for r, _ in pending)
    needed, free = frames * settings.channels * 2, shutil.disk_usage(out).free
    if needed > free:
        raise UserError(
            f"{out}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free. Free some or choose another."
        )


@contextlib.contextmanager
def _stop_signals():
    """Within, SIGTERM ends the run as Ctrl-C does, with status 143."""

    def leave(*_):
        print("stopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _deaf():
    """Processes started within never hear Ctrl-C or SIGTERM: it is the parent who tells them to stop."""
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _convert_all(pending, out, settings, jobs, journal, report):
    """Converts in worker processes, longest first, noting each in the journal and the report."""
    # Spawned, as forking a process that has threads (TensorFlow's, tqdm's) may lock up.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = futures.ProcessPoolExecutor(min(jobs, len(pending)), context, conversion.start_worker, (stop,))
    pending = sorted(pending, key=lambda item: -item[0].duration_s)
    bar = tqdm.tqdm(
        total=sum(recording.duration_s for recording, _ in pending) / 3600,
        bar_format="{percentage:3.0f}% |{bar}| {n:.2f} of {total:.2f} h of audio [{elapsed}, {remaining} to go]",
    )
    try:
        with _deaf():
            waiting = {
                workers.submit(conversion.convert, recording.path, os.path.join(out, name), settings): (recording, name)
                for recording, name in pending
            }
        for future in futures.as_completed(waiting):
            recording, name = waiting[future]
            try:
                converted = future.result()
            except AudioFileError as error:
                report.left_out.append((recording.audio_filename, error.reason))
            else:
                journal.add(recording, converted)
                report.taken.append((recording, name, converted))
            bar.update(recording.duration_s / 3600)
    except futures.process.BrokenProcessPool:
        raise UserError("A worker process died, perhaps for lack of memory. Run again, with fewer --jobs.") from None
    finally:
        stop.set()
        workers.shutdown(wait=True, cancel_futures=True)
        bar.close()


def _csv_text(corpus, report, held_out):
    """The metadata CSV: the source's columns, or MAESTRO's for a plain folder, and those of a prepared corpus."""
    columns = [name for name in corpus.columns or MAESTRO_COLUMNS if name not in PREPARED_COLUMNS]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [*columns, *PREPARED_COLUMNS], extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for recording, name, converted in report.taken:
        found = {
            "canonical_title": recording.title,
            "split": "validation" if recording.audio_filename in held_out else recording.split,
            "duration": f"{recording.duration_s:.6f}",
        }
        level = asdict(converted)
        # The recording itself may have been scaled by an earlier preparation; gain says by how much in all.
        level["gain"] = repr(converted.gain * (recording.gain or 1.0))
        here = {"rate_hz": report.settings.rate_hz, "channels": report.settings.channels, "audio_filename": name}
        table.writerow({**found, **recording.row, **level, **here})
    return text.getvalue()


def _write_whole(path, text):
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".{name}.partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
