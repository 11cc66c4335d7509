"""What was compiled before: small JSON files under the user's cache folder, for a compilation takes minutes."""

import hashlib
import json
import os
import pathlib


def folder():
    """`$XDG_CACHE_HOME/mp3net/aot`, or `~/.cache/mp3net/aot`."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "mp3net" / "aot"


def key(text, topology, versions):
    """What a result depends on, as one name: the program, the chip, and the `versions` of the compiler, by package."""
    parts = [topology, *(f"{name} {version}" for name, version in sorted(versions.items())), text]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read(name):
    """The dictionary kept under `key`, or None where there is none that can be read."""
    try:
        found = json.loads((folder() / f"{name}.json").read_text())
    except (OSError, ValueError):  # also what another process is writing, or a full disk has cut
        return None
    return found if isinstance(found, dict) and "fits" in found else None


def write(name, found):
    """Keeps a dictionary; a folder that cannot be written to costs the next run its minutes, no more."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        part = folder() / f"{name}.{os.getpid()}.part"
        part.write_text(json.dumps(found))
        part.replace(folder() / f"{name}.json")
    except OSError:
        pass
