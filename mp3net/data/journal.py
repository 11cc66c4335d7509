"""The record, in the prepared folder, of what `mp3net.prepare` has finished, so that a killed run goes on."""

import errno
import fcntl
import json
import os
from dataclasses import asdict

from mp3net.data.conversion import Converted
from mp3net.errors import UserError

NAME = ".prepare.jsonl"


class Journal:
    """Finished files by their name in the source. A context manager; holds the folder against a second run meanwhile.

    The first line keeps the settings, every other one a finished file with the size and time of its source.
    Raises `UserError` where another run is at work, the settings differ, or the folder holds something else.
    """

    def __init__(self, folder, settings):
        self.folder = folder
        self._settings = asdict(settings)
        self._done = {}

    def __enter__(self):
        path = os.path.join(self.folder, NAME)
        if not os.path.exists(path):
            self._check_empty()
        self._file = open(path, "a+", encoding="utf-8")
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_):
        self._file.close()

    def done(self, recording, target):
        """The `Converted` of a recording whose source is unchanged and whose file is whole, else None."""
        entry = self._done.get(recording.audio_filename)
        if entry is None or entry["source"] != _signature(recording.path):
            return None
        converted = Converted(**entry["converted"])
        size = 44 + converted.frames * self._settings["channels"] * 2
        whole = os.path.exists(target) and os.path.getsize(target) == size
        return converted if whole else None

    def add(self, recording, converted):
        """Notes a recording as finished, on the disk before it returns."""
        signature = _signature(recording.path)
        self._append({"name": recording.audio_filename, "source": signature, "converted": asdict(converted)})

    def names(self):
        """The names of all files ever finished here."""
        return set(self._done)

    def _check_empty(self):
        others = [name for name in os.listdir(self.folder) if not name.startswith(".") and name != "lost+found"]
        if others:
            raise UserError(
                f"{self.folder}: holds {sorted(others)[0]} already, not from this tool. Choose an empty folder."
            )

    def _lock(self):
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"{self.folder}: another run is preparing into it. Wait for it or stop it.") from None
            # Drives mounted over a network may know no locks: go on without.

    def _read(self):
        self._file.seek(0)
        text = self._file.read()
        if text and not text.endswith("\n"):  # the last line was cut by a kill
            self._file.write("\n")
        entries = [entry for entry in map(_parse, text.splitlines()) if entry]
        if not entries:
            self._append({"settings": self._settings})
            return
        before = entries[0].get("settings")
        if before != self._settings:
            raise UserError(
                f"{self.folder}: was begun with {_words(before)}, now {_words(self._settings)} is asked. "
                "Ask for the same, or choose another folder."
            )
        self._done = {entry["name"]: entry for entry in entries[1:] if "name" in entry}

    def _append(self, entry):
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if "name" in entry:
            self._done[entry["name"]] = entry


def _signature(path):
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns]


def _parse(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def _words(settings):
    if not settings:
        return "unknown settings"
    upmix = ", upmix" if settings["upmix"] else ""
    return f"{settings['rate_hz']} Hz, {settings['channels']} channel(s){upmix}"
