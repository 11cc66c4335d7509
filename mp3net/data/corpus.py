"""Folders of recordings: MAESTRO with its metadata CSV, what `mp3net.prepare` wrote, any tree of audio files."""

import csv
import hashlib
import io
import math
import os
import posixpath
from dataclasses import dataclass, field

from mp3net.audio import files, riff
from mp3net.audio.riff import AudioFileError
from mp3net.errors import UserError

AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
# Audio that soundfile does not read, worth a word rather than silence.
_FOREIGN_ENDINGS = (".m4a", ".mp4", ".aac", ".wma", ".opus", ".webm", ".aif", ".aiff", ".ape", ".wv", ".m4b")
# Those of MAESTRO's metadata CSV, and what `mp3net.prepare` adds to them.
MAESTRO_COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
)
PREPARED_COLUMNS = ("frames", "rate_hz", "channels", "peak", "gain")
_EXAMPLES = 5


@dataclass(frozen=True)
class Recording:
    """One audio file. `frames` are samples per channel at the file's own `rate_hz`.

    `audio_filename` is relative to the corpus, with slashes. `year` is None where unknown. `gain`, by which preparation
    scaled the recording, and `peak`, the largest absolute sample, are None unless prepared. `row` is its CSV line.
    """

    path: str
    audio_filename: str
    frames: int
    rate_hz: int
    channels: int
    composer: str = ""
    title: str = ""
    split: str = "train"
    year: int | None = None
    gain: float | None = None
    peak: float | None = None
    row: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def duration_s(self):
        """Seconds of audio."""
        return self.frames / self.rate_hz


@dataclass(frozen=True)
class Corpus:
    """The usable recordings, sorted by `audio_filename`; `(name, reason)` of those left out; remarks for the user.

    `csv_name` and `columns` are those of the metadata CSV, None and () where there is none; `other_splits` are those in
    it that were not asked for.
    """

    folder: str
    recordings: list
    left_out: list
    notes: list
    csv_name: str | None = None
    columns: tuple = ()
    other_splits: tuple = ()

    @property
    def duration_s(self):
        """Seconds of audio in all recordings."""
        return sum(recording.duration_s for recording in self.recordings)

    @property
    def rate_hz(self):
        """The rate that all recordings share, or None."""
        rates = {recording.rate_hz for recording in self.recordings}
        return rates.pop() if len(rates) == 1 else None

    @property
    def identity(self):
        """What tells one set of recordings from another, as plain JSON: how many, and a digest of names and lengths."""
        names = [(os.path.splitext(each.audio_filename)[0], round(each.duration_s, 2)) for each in self.recordings]
        return {"recordings": len(names), "digest": hashlib.sha256(repr(names).encode()).hexdigest()[:16]}

    def remarks(self):
        """A line for each note, and for the first recordings that were left out; one that counts the others."""
        lines = [*self.notes, *(f"left out {name}: {reason}" for name, reason in self.left_out[:_EXAMPLES])]
        more = len(self.left_out) - _EXAMPLES
        return [*lines, f"left out {more} more"] if more > 0 else lines


def open_corpus(folder, years=None, splits=None, channels=2, upmix=False):
    """Finds the recordings of `folder` that can be read with `channels` channels.

    Args:
      folder: a local folder, or a remote one (gs://) that `mp3net.prepare` wrote.
      years, splits: keep only these, None keeps all; a folder without a CSV keeps all and notes it.
      channels: 1 (any file, mixed down) or 2. `upmix` admits mono files for 2.

    Raises `UserError` where the folder or its CSV do not fit, or nothing is left.
    """
    folder = os.fspath(folder)
    names = _top_names(folder)
    csv_name = _metadata_name(folder, names)
    if csv_name is None:
        _check_one_level_below(folder, names, years or splits)
        candidates, left_out = _tree(folder)
        columns, notes, others = (), [], ()
        if years or splits:
            notes.append(f"{folder} has no metadata CSV, so years and splits are unknown: all recordings are taken")
    else:
        columns, rows = _read_csv(_join(folder, csv_name))
        _check_columns(folder, csv_name, columns, years, splits)
        candidates, left_out, notes = *_rows(folder, rows, years, splits), []
        others = tuple(sorted({row["split"].strip() for row in rows if splits} - {"", *(splits or ())}))
    recordings = []
    for name, row in sorted(candidates):
        try:
            recordings.append(_recording(folder, name, row, channels, upmix))
        except AudioFileError as error:
            left_out.append((name, error.reason))
    left_out.sort()
    if not recordings:
        raise UserError(_nothing_left(folder, csv_name, left_out, years, splits))
    return Corpus(folder, recordings, left_out, notes, csv_name, columns, others)


def _join(folder, name):
    return posixpath.join(folder, name) if riff.is_remote(folder) else os.path.join(folder, *name.split("/"))


def _top_names(folder):
    """The names in a folder, sorted."""
    if riff.is_remote(folder):
        import tensorflow as tf

        try:
            return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
        except tf.errors.OpError as error:
            raise UserError(f"{folder}: cannot be listed ({error.message}). Check the name and your access.") from None
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder. Give the folder that holds the recordings.") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file. Give the folder that holds the recordings.") from None


def _metadata_name(folder, names):
    """The name of the one CSV with an `audio_filename` column, or None."""
    tables = [name for name in names if name.lower().endswith(".csv") and not name.startswith(".")]
    fitting = [name for name in tables if "audio_filename" in _read_csv(_join(folder, name))[0]]
    if len(fitting) > 1:
        raise UserError(f"{folder}: holds several metadata CSVs: {', '.join(fitting)}. Keep the one to use.")
    if fitting:
        return fitting[0]
    maestro = [name for name in tables if name.lower().startswith(("maestro", "metadata"))]
    if maestro:
        raise UserError(f"{_join(folder, maestro[0])}: has no column 'audio_filename'. Download or prepare it again.")
    if riff.is_remote(folder):
        raise UserError(f"{folder}: holds no metadata CSV. Remote folders must come from `python -m mp3net.prepare`.")
    return None


def _read_csv(path):
    """The column names and the rows, as dictionaries, of a CSV."""
    try:
        with riff.open_binary(path) as file:
            text = file.read().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        return tuple(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is not a CSV in UTF-8 ({error}). Mend it or move it away.") from None


def _check_columns(folder, csv_name, columns, years, splits):
    missing = [name for name, asked in (("year", years), ("split", splits)) if asked and name not in columns]
    if missing:
        raise UserError(f"{_join(folder, csv_name)}: has no column {missing[0]!r}, by which you choose recordings.")


def _check_one_level_below(folder, names, filtered):
    """Where a filter is asked and the CSV lies in a subfolder, as after unzipping, the user means that one."""
    for name in names if filtered else ():
        below = os.path.join(folder, name)
        if os.path.isdir(below) and not name.startswith("."):
            inside = [n for n in sorted(os.listdir(below)) if n.lower().endswith(".csv")]
            if any("audio_filename" in _read_csv(os.path.join(below, n))[0] for n in inside):
                raise UserError(f"{folder}: the metadata CSV lies in {below}; give that folder.")


def _tree(folder):
    """`[(name, {})]` of the audio files below a folder, `[(name, reason)]` of foreign ones. Hidden ones are skipped."""
    found, left_out, seen = [], [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(os.path.realpath(parent))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            relative = os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
            if name.startswith("."):
                continue
            if ending in AUDIO_ENDINGS:
                found.append((relative, {}))
            elif ending in _FOREIGN_ENDINGS:
                left_out.append((relative, f"needs conversion: ffmpeg -i '{name}' '{os.path.splitext(name)[0]}.flac'"))
    return found, left_out


def _rows(folder, rows, years, splits):
    """`[(name, row)]` of a CSV's rows that the filters keep, and `[(name, reason)]` of those that cannot be used."""
    found, left_out = {}, []
    years = {str(year) for year in years or ()}
    for number, row in enumerate(rows, start=2):
        name = (row["audio_filename"] or "").strip().replace("\\", "/")
        if years and row["year"].strip() not in years or splits and row["split"].strip() not in splits:
            continue
        if not name:
            left_out.append((f"line {number}", "names no audio file"))
        elif posixpath.isabs(name) or ".." in name.split("/"):
            left_out.append((name, "lies outside the folder"))
        elif name in found:
            left_out.append((name, "listed twice in the CSV; the first line counts"))
        else:
            found[name] = row
    return list(found.items()), left_out


def _recording(folder, name, row, channels, upmix):
    """The `Recording` of a file, probed unless its row says what it holds. Raises `AudioFileError`."""
    path = _join(folder, name)
    prepared = all(row.get(column) for column in PREPARED_COLUMNS)
    if prepared:
        try:
            info = files.AudioInfo(int(row["frames"]), int(row["rate_hz"]), int(row["channels"]))
            level = {"gain": float(row["gain"]), "peak": float(row["peak"])}
            if min(info.frames, info.rate_hz, info.channels) < 1 or not 0 <= level["peak"] < math.inf:
                raise ValueError
        except ValueError:
            raise AudioFileError(path, "its line in the CSV holds impossible numbers; prepare it again") from None
        if not riff.is_remote(path):  # remote files are not looked at: a thousand requests would take minutes
            _check_size(path, info)
    else:
        info, level = files.probe(path), {}
    files.check_channels(path, info.channels, channels, upmix)
    year = row.get("year", "").strip()
    return Recording(
        path,
        name,
        info.frames,
        info.rate_hz,
        info.channels,
        composer=row.get("canonical_composer", ""),
        title=row.get("canonical_title") or posixpath.splitext(posixpath.basename(name))[0],
        split=row.get("split", "").strip() or "train",
        year=int(year) if year.isdigit() else None,
        row=row,
        **level,
    )


def _check_size(path, info):
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise AudioFileError(path, "does not exist") from None
    if size < info.frames * info.channels * 2:
        raise AudioFileError(path, "is shorter than its line in the CSV says; prepare or copy it again")


def _nothing_left(folder, csv_name, left_out, years, splits):
    asked = [
        f"{name} {', '.join(map(str, values))}" for name, values in (("years", years), ("splits", splits)) if values
    ]
    if not left_out and csv_name:
        limits = f" with {' and '.join(asked)}" if asked else ""
        return f"{_join(folder, csv_name)}: lists no recording{limits}. Choose others, or none to take all."
    if not left_out:
        return f"{folder}: holds no {', '.join(AUDIO_ENDINGS)} file, here or below. Give the folder of the recordings."
    first = f"{folder}: none of its {len(left_out)} recordings can be used; mend these or add others:"
    return "\n".join([first, *reasons(left_out, _EXAMPLES)])


def reasons(left_out, shown=None):
    """A line for each `(name, reason)`; for at most `shown` of them, and one that counts the others."""
    lines = [f"  {name}: {reason}" for name, reason in left_out[:shown]]
    more = len(left_out) - len(lines)
    return [*lines, f"  and {more} more"] if more else lines
