"""What is to be played: the project's own pieces, or a folder of MIDI files, as rows of a MAESTRO-like table."""

import csv
import dataclasses
import io
import pathlib
import re

from mp3net.data.corpus import MAESTRO_COLUMNS
from mp3net.errors import UserError

from . import midi, notation, performance, wav

PIECES = pathlib.Path(__file__).parent / "pieces"
SPLITS = ("train", "validation", "test")
SUFFIXES = (".mid", ".midi")


@dataclasses.dataclass
class Work:
    """One recording to make: its row of the table, and either its MIDI bytes or the file that holds them."""

    row: dict
    source: pathlib.Path | None = None
    data: bytes | None = None

    def midi_bytes(self):
        """The MIDI file's bytes. Raises `midi.DamagedMidi` where the file cannot be opened."""
        if self.data is None:
            try:
                return self.source.read_bytes()
            except OSError as error:
                raise midi.DamagedMidi(error.strerror) from error
        return self.data


def read_pieces(folder=PIECES):
    """The project's pieces. Raises `notation.NotationError`."""
    paths = sorted(pathlib.Path(folder).glob("*.txt"))
    return [notation.parse(path.read_text(encoding="utf-8"), path.name) for path in paths]


def own_works(minutes=None):
    """The project's pieces once, or as many takes of them as last `minutes`."""
    pieces, works, seconds, take = read_pieces(), [], 0.0, 0
    while take == 0 or (minutes and seconds < minutes * 60):
        for piece in pieces:
            if minutes and seconds >= minutes * 60:
                break
            file = performance.perform(piece, take)
            name = piece.header["year"] + "/" + piece.name.removesuffix(".txt") + (f"-take{take + 1}" if take else "")
            row = {
                "canonical_composer": piece.header["composer"],
                "canonical_title": piece.header["title"],
                "split": piece.header["split"],
                "year": piece.header["year"],
                "midi_filename": name + ".midi",
                "audio_filename": name + ".wav",
            }
            works.append(Work(row, data=performance.midi_bytes(file)))
            seconds += file.length
        take += 1
    return works


def table_of(folder):
    """The rows of the first CSV in `folder` that has MAESTRO's columns, or None."""
    for path in sorted(folder.glob("*.csv")):
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            continue
        rows = list(csv.DictReader(io.StringIO(text)))
        if rows and {"midi_filename", "audio_filename"} <= set(rows[0]):
            return [{key: row.get(key) or "" for key in MAESTRO_COLUMNS} for row in rows]
    return None


def folder_works(folder, out, minutes=None):
    """(works, [(name, reason left out)]) of a folder of MIDI files. Raises `UserError` where it holds none."""
    folder, out = pathlib.Path(folder), pathlib.Path(out)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder.")
    inside = out.resolve()
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths = [path for path in paths if inside not in path.resolve().parents]
    if not paths:
        raise UserError(f"{folder}: holds no MIDI files (.mid, .midi).")
    rows = table_of(folder)
    works, left_out = _named_by_table(folder, rows) if rows else (_named_by_path(folder, paths), [])
    return (_first(works, minutes) if minutes else works), left_out


def _named_by_table(folder, rows):
    works, left_out = [], []
    for row in rows:
        audio = pathlib.PurePosixPath(row["audio_filename"])
        names = (audio, pathlib.PurePosixPath(row["midi_filename"]))
        if not all(name.name and not name.is_absolute() and ".." not in name.parts for name in names):
            left_out.append((row["midi_filename"], "its row names no file, or one outside the folder"))
        elif not (folder / row["midi_filename"]).is_file():
            left_out.append((row["midi_filename"], "the table lists it, but the file is not there"))
        else:
            row["audio_filename"] = str(audio.with_suffix(".wav"))
            works.append(Work(row, source=folder / row["midi_filename"]))
    return works, left_out


def _named_by_path(folder, paths):
    works, taken = [], set()
    for index, path in enumerate(paths):
        parts = path.relative_to(folder).with_suffix("").parts
        year = next((part for part in parts if re.fullmatch(r"\d{4}", part)), "2004")
        stem = "-".join(part for part in parts if part != year)
        name = f"{year}/{stem}"
        while name.lower() in taken:
            name += "-2"
        taken.add(name.lower())
        row = {
            "canonical_composer": parts[-2] if len(parts) > 1 and parts[-2] != year else "unknown",
            "canonical_title": parts[-1],
            # Every tenth to validation, every tenth to test, as far as there are ten.
            "split": {8: "validation", 9: "test"}.get(index % 10, "train"),
            "year": year,
            "midi_filename": name + path.suffix,
            "audio_filename": name + ".wav",
        }
        works.append(Work(row, source=path))
    return works


def _first(works, minutes):
    """The works from the start of the list that last `minutes`; the table's durations save opening the files."""
    kept, seconds = [], 0.0
    for work in works:
        if seconds >= minutes * 60:
            break
        kept.append(work)
        try:
            seconds += float(work.row.get("duration") or midi.read(work.midi_bytes()).length)
        except (ValueError, midi.DamagedMidi):
            continue  # left out, with its reason, when its turn comes
    return kept


def write_table(path, rows):
    """Writes MAESTRO's columns, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, MAESTRO_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    wav.write_whole(path, text.getvalue().encode())
